"""A network or a die that is copied, or sent to another process, is the same: on its tiles, never in floating point."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest
import torch
from torch import Tensor, nn

from tests.network.test_chip import images, mapped, model
from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.prepare import sharing_copy
from xbarsim.sweep.worker import Bench, SharedBench, _open_shared


def _sent(value: Any) -> Any:
    return cloudpickle.loads(cloudpickle.dumps(value))


COPIES = pytest.mark.parametrize("copied", [copy.deepcopy, _sent], ids=["deepcopy", "cloudpickle"])
pytestmark = pytest.mark.filterwarnings(
    "ignore::xbarsim.network.ClippingWarning", "ignore::xbarsim.network.NotMappedWarning"
)


@COPIES
def test_a_copy_of_a_network_multiplies_with_its_codes_and_not_in_floating_point(copied: Callable[[Any], Any]) -> None:
    network, x = mapped(), images()
    twin = copied(network)
    assert torch.equal(twin.digital(x), network.digital(x))
    assert not torch.equal(twin.digital(x), network.floating(x))
    assert torch.equal(twin.fabricate(5)(x), network.fabricate(5)(x))


@COPIES
def test_a_copy_of_a_die_answers_as_the_die(copied: Callable[[Any], Any]) -> None:
    chip, x = mapped(adc_bits=6).fabricate(5), images()
    twin = copied(chip)
    assert torch.equal(twin(x), chip(x))
    assert twin.faults == chip.faults


def test_a_copy_of_a_die_counts_its_samples_alone() -> None:
    chip, x = mapped().fabricate(5), images()
    twin = copy.deepcopy(chip)
    chip(x)
    assert all(each.inputs == 0 for each in twin.clipped_inputs.values())


class Turned(nn.Module):
    """Weights that do not lie in memory in the order of their indices."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = model()
        self.inner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.turned = nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(4)).t())

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x) @ self.turned
        return answer


def test_weights_in_any_order_of_memory_stay_on_their_tiles_in_a_worker() -> None:
    network, x = mapped(network=Turned()), images()
    shared = SharedBench(
        Bench(network=network, images=x.numpy(), labels=torch.zeros(len(x), dtype=torch.int64).numpy())
    )
    try:
        bench = _open_shared(shared.place)
        assert bench is not None
        assert torch.equal(bench.network.digital(x), network.digital(x))
        assert torch.equal(bench.network.fabricate(5)(x), network.fabricate(5)(x))
    finally:
        shared.close()


class Overlapping(nn.Module):
    """One buffer that is a part of another, and one that is the other turned."""

    whole: Tensor
    part: Tensor
    turned: Tensor

    def __init__(self) -> None:
        super().__init__()
        whole = torch.randn(6, 4, generator=torch.Generator().manual_seed(4))
        for name, tensor in (("whole", whole), ("part", whole[:2]), ("turned", whole.t())):
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = (x @ self.turned) @ self.whole @ self.part.t()
        return answer


def _opened_or_refused(shared: SharedBench) -> Any:
    """What a worker makes of a network; ``None`` where it refuses to."""
    try:
        bench = _open_shared(shared.place)
    except InputError:
        return None
    return None if bench is None else bench.network


def test_a_model_whose_weights_overlap_is_the_same_in_a_worker_or_refused() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(5))
    network = mapped(network=Overlapping(), calibration=x)
    assert torch.equal(copy.deepcopy(network).digital(x), network.digital(x))
    shared = SharedBench(Bench(network=network, images=x.numpy(), labels=torch.zeros(8, dtype=torch.int64).numpy()))
    try:
        opened = _opened_or_refused(shared)
    finally:
        shared.close()
    for other in (opened, _sent(network)):
        if other is not None:
            assert torch.equal(other.digital(x), network.digital(x))
            assert not torch.equal(other.digital(x), network.floating(x))  # on its tiles, and not in floating point


def test_single_numbers_of_a_model_stay_so_in_a_worker() -> None:
    """A batch norm that is not folded counts its batches in a tensor without dimensions."""
    x = images()
    network = mapped(network=nn.Sequential(nn.ReLU(), nn.BatchNorm2d(x.shape[1]), model()).eval(), calibration=x)
    assert any(tensor.ndim == 0 for tensor in network.skeleton.model.buffers())  # type: ignore[attr-defined]
    shared = SharedBench(
        Bench(network=network, images=x.numpy(), labels=torch.zeros(len(x), dtype=torch.int64).numpy())
    )
    try:
        bench = _open_shared(shared.place)
    finally:
        shared.close()
    assert bench is not None
    assert torch.equal(bench.network.digital(x), network.digital(x))


class Counting(nn.Conv2d):
    """A layer that remembers, and one of torch's beside it that was given more to hold."""

    def __init__(self) -> None:
        super().__init__(2, 2, 1)
        self.calls = [0]


def test_a_copy_that_shares_weights_shares_nothing_else() -> None:
    hooked = nn.Conv2d(2, 2, 1)
    hooked.register_forward_hook(lambda module, inputs, output: output)
    odd = nn.ReLU()
    odd.seen = [1]  # type: ignore[assignment]
    plain = nn.Conv2d(2, 2, 1)
    original = nn.Sequential(plain, plain, hooked, nn.BatchNorm2d(2), odd, Counting(), nn.Dropout())
    twin = sharing_copy(original)
    assert isinstance(twin, nn.Sequential)
    assert [type(each) for each in twin] == [type(each) for each in original]
    assert twin[0] is twin[1]
    for ours, theirs in zip(original.modules(), twin.modules(), strict=True):
        assert ours is not theirs
        assert vars(ours).keys() == vars(theirs).keys()
        for name, value in vars(ours).items():
            other = vars(theirs)[name]
            assert type(value) is type(other)
            assert other is not value or not isinstance(value, dict | list | set | nn.Module), name
    assert all(a is b for a, b in zip(original.parameters(), twin.parameters(), strict=True))
    assert all(a is not b and torch.equal(a, b) for a, b in zip(original.buffers(), twin.buffers(), strict=True))
    assert len(twin[2]._forward_hooks) == 1
