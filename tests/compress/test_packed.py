"""Pruned networks that compute without their zeros: the same results, and no more products than are counted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from xbarsim.compress import BlockColumnRow, Hardening, LayerRule, Recipe, mappable_layers, pack_network
from xbarsim.compress.packed import PackedMatrix, _apart, _blocked
from xbarsim.foundation.validation import InputError
from xbarsim.models import SpokenDigitsNet, load_digits_net, resnet20
from xbarsim.network.lowering import BlockedTensor


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(build: Callable[[], nn.Module], seed: int = 2) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()


def pruned(model: nn.Module, keep_filters: float = 1.0, keep_columns: float = 0.25) -> nn.Module:
    target = BlockColumnRow(block_filters=16, block_columns=2**20, keep_filters=keep_filters, keep_columns=keep_columns)
    Hardening.hold(model, Recipe(rules=(LayerRule(layers=("*",), targets=(target,)),)).masks(model))
    return model


def same(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 2**32 - 1),
    outputs=st.integers(1, 80),
    inputs=st.integers(1, 50),
    vectors=st.sampled_from([1, 3, 16, 17, 300]),
    density=st.sampled_from([0.0, 0.02, 0.2, 1.0]),
    blocks=st.booleans(),
)
def test_a_packed_matrix_gives_the_product(
    seed: int, outputs: int, inputs: int, vectors: int, density: float, blocks: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(outputs, inputs, generator=generator)
    chances = torch.rand(-(-outputs // 16) if blocks else outputs, inputs, generator=generator)
    matrix *= (chances.repeat_interleave(16 if blocks else 1, dim=0)[:outputs] < density).float()
    bias, given_ = torch.randn(outputs, generator=generator), torch.randn(vectors, inputs, generator=generator)
    packed = PackedMatrix(matrix, bias)
    same(_apart(packed(_blocked(given_)), vectors), given_ @ matrix.T + bias)
    assert int(torch.count_nonzero(matrix)) <= packed.computed <= matrix.numel()


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Conv2d(6, 40, 3, padding=1),
        lambda: nn.Conv2d(6, 40, 3, stride=2, bias=False),
        lambda: nn.Conv2d(6, 40, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
        lambda: nn.Conv2d(6, 40, 1, stride=2),
        lambda: nn.Linear(11, 40),
    ],
)
def test_layers_are_those_of_torch(layer: Callable[[], nn.Module]) -> None:
    model = pruned(made(layer))
    inputs = drawn(5, 6, 9, 11)
    found = pack_network(model)
    same(found(inputs), model(inputs))
    same(found(inputs.to(memory_format=torch.channels_last)), model(inputs))
    same(found(inputs[:1]), model(inputs[:1]))
    (row,) = found.layers
    assert row.name == "(model)"
    assert row.kept <= row.computed <= 0.34 * row.weights


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_recurrent_layers_are_those_of_torch(kind: type[nn.GRU | nn.LSTM], batch_first: bool) -> None:
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    model = pruned(made(lambda: kind(12, 16, **options)))
    sequences = drawn(4, 7, 12)
    found = pack_network(model)
    same(found(sequences), model(sequences))
    assert [row.name for row in found.layers] == list(mappable_layers(model))
    with pytest.raises(InputError, match="a packed recurrent layer must be given sequences of three dimensions"):
        found(sequences[0])
    with pytest.raises(InputError, match="sequences must have one step or more, got none"):
        found(sequences[:, :0] if batch_first else sequences[:0])


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "digits": (load_digits_net, (7, 1, 8, 8)),
    "resnet20": (resnet20, (2, 3, 16, 16)),
    "spoken digits": (lambda: SpokenDigitsNet("gru"), (3, 20, 24)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks_give_the_same_with_batch_norms_folded_or_not(name: str) -> None:
    build, shape = NETWORKS[name]
    model = pruned(made(build), keep_filters=0.5)
    before = copy.deepcopy(model.state_dict())
    inputs = drawn(*shape).abs()
    with torch.no_grad():
        wanted = model(inputs)
        for samples in (None, inputs):
            packed = pack_network(model, samples=samples)
            torch.testing.assert_close(packed(inputs), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
            assert not any(isinstance(module, nn.BatchNorm2d) for module in packed.modules()) or samples is None
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert {row.name for row in packed.layers} == set(mappable_layers(model))
    assert not packed.dense
    weights, computed = (sum(getattr(row, kind) for row in packed.layers) for kind in ("weights", "computed"))
    assert computed < 0.45 * weights
    assert f"{packed.layers[0].name}" in str(packed)


def test_maps_stay_in_blocks_between_convolutions() -> None:
    model = made(
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 20, (3, 1), dilation=2, bias=False),
        )
    )
    packed = pack_network(pruned(model))
    seen = []
    packed.network.get_submodule("3").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = drawn(19, 3, 30, 22)
    same(packed(images), model(images))
    assert isinstance(seen[0], BlockedTensor)
    assert seen[0].maps is not None
    assert type(packed(images)) is Tensor
    images[3, 1, 4, 5] = torch.nan
    assert torch.equal(packed(images).isnan(), model(images).isnan())


def test_a_batch_goes_through_the_network_in_parts_where_images_do_not_depend_on_each_other() -> None:
    model = pruned(made(resnet20))
    images = drawn(11, 3, 8, 8)
    whole, parts = (pack_network(model, samples=images[:2], images_at_once=count) for count in (None, 4))
    seen = []
    parts.network.get_submodule("convolution").register_forward_hook(lambda *given: seen.append(given[2].shape[0]))
    same(parts(images), whole(images))
    assert seen == [4, 4, 3]
    assert parts(images[:0]).shape == (0, 10)


class Together(nn.Module):
    """Answers that depend on all images of a batch, or several."""

    def __init__(self, several: bool) -> None:
        super().__init__()
        self.layer, self.several = nn.Linear(3, 2), several

    def forward(self, x: Tensor) -> Any:
        y = self.layer(x)
        return (y, y) if self.several else y - y.mean(dim=0)


@pytest.mark.parametrize("several", [False, True])
def test_a_batch_is_not_parted_where_images_depend_on_each_other(several: bool) -> None:
    samples = drawn(2, 3)
    message = "images_at_once must be None for a network whose answer to an image depends on others"
    with pytest.raises(InputError, match=message):
        pack_network(Together(several), samples=samples, images_at_once=1)
    for given_ in (None, samples[:1]):
        with pytest.raises(InputError, match="samples must be two or more with images_at_once, got"):
            pack_network(nn.Linear(3, 2), samples=given_, images_at_once=1)
    with pytest.raises(InputError, match="images_at_once must be an integer >= 1, got 0"):
        pack_network(nn.Linear(3, 2), samples=samples, images_at_once=0)
    packed = pack_network(nn.Linear(3, 2), samples=samples, images_at_once=1)
    with pytest.raises(InputError, match="images_at_once must be None for a network of several inputs, got 1"):
        packed(samples, samples)


def test_what_stays_dense_is_named() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2), nn.Conv1d(6, 4, 1), nn.RNN(3, 4), nn.Conv2d(4, 4, 3, padding="same"), nn.ReLU()
    )
    packed = pack_network(model)
    assert packed.layers == ()
    assert packed.dense == {
        "0": "a convolution of another kind: groups, padding or class",
        "1": "no packed form of Conv1d",
        "2": "a recurrent layer of another kind",
        "3": "a convolution of another kind: groups, padding or class",
    }
    assert "dense: 1 (no packed form of Conv1d)" in str(packed)


def test_a_layer_without_zeros_is_one_dense_product() -> None:
    model = made(lambda: nn.Linear(30, 40))
    (row,) = pack_network(model).layers
    assert row.computed == row.kept == row.weights == 1200


@pytest.mark.parametrize("layer", [nn.Linear(12, 40), nn.GRU(12, 16), nn.LSTM(12, 16, batch_first=True)])
def test_inputs_of_another_type_or_size_are_refused(layer: nn.Module) -> None:
    """Their bytes would be read as float32."""
    packed = pack_network(layer)
    for inputs in (drawn(4, 7, 12).double(), drawn(4, 7, 12).half(), torch.ones(4, 7, 12, dtype=torch.int64)):
        with pytest.raises(InputError, match=f"inputs must be float32 with 12 features, got {inputs.dtype} with 12"):
            packed(inputs)
    for features in (6, 24):
        with pytest.raises(
            InputError, match=f"inputs must be float32 with 12 features, got torch.float32 with {features}"
        ):
            packed(drawn(4, 32, features))


def test_what_it_cannot_compute_is_refused() -> None:
    with pytest.raises(InputError, match=r"model must have float32 weights on the CPU, got torch.float64 on cpu"):
        pack_network(nn.Linear(3, 2).double())
    packed = pack_network(nn.Conv2d(1, 1, 5))
    with pytest.raises(InputError, match=r"images must be at least as large as the kernel, got \(1, 1, 4, 9\)"):
        packed(torch.zeros(1, 1, 4, 9))
    packed = pack_network(nn.Conv2d(3, 4, 3))
    for channels in (2, 4):
        with pytest.raises(InputError, match=rf"images must have 3 channels for a kernel of \(3, 3\), got {channels}"):
            packed(torch.zeros(2, channels, 6, 6))
    for images in (torch.zeros(2, 3, 6, 6).double(), torch.ones(2, 3, 6, 6, dtype=torch.int64), torch.zeros(3, 6, 6)):
        with pytest.raises(
            InputError, match=r"images must be float32 of shape \(images, channels, height, width\), got"
        ):
            packed(images)
    assert packed(torch.zeros(0, 3, 6, 6)).shape == (0, 4, 4, 4)
