"""Lowerings and layer adapters: those of the project keep the promises that others must keep; the registry of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xbarsim.foundation.validation import InputError
from xbarsim.network import Lowering, PlanTable, Product
from xbarsim.network.layers import Conv1dAdapter, Conv2dAdapter, LayerAdapter, LinearAdapter
from xbarsim.network.lowering import LowerConv1d, LowerConv2d, LowerLinear, lower, lowering_of, register
from xbarsim.testing.network import check_layer_adapter, check_lowering

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return make().eval()


ADAPTERS: dict[str, tuple[LayerAdapter, tuple[int, ...]]] = {
    "vectors": (LinearAdapter(features=5), (3, 5)),
    "sequences of vectors": (LinearAdapter(features=5), (3, 2, 4, 5)),
    "sequences": (Conv1dAdapter(channels=2), (3, 2, 7)),
    "sequences, circular": (Conv1dAdapter(channels=2, padding_mode="circular", edges=(1, 2, 0, 0)), (3, 2, 7)),
    "maps": (Conv2dAdapter(channels=2), (3, 2, 4, 5)),
    "maps, reflected": (Conv2dAdapter(channels=2, padding_mode="reflect", edges=(1, 2, 2, 1)), (3, 2, 4, 5)),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_of_the_project_conform(name: str) -> None:
    adapter, shape = ADAPTERS[name]
    check_layer_adapter(adapter, noise(*shape))


LOWERINGS: dict[str, tuple[Lowering, Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (LowerLinear(), lambda: nn.Linear(7, 4), (5, 7)),
    "linear on sequences": (LowerLinear(), lambda: nn.Linear(7, 4, bias=False), (5, 3, 7)),
    "conv1d": (LowerConv1d(), lambda: nn.Conv1d(4, 6, 3, stride=2, padding=3, dilation=2, groups=2), (4, 4, 13)),
    "conv2d": (LowerConv2d(), lambda: nn.Conv2d(4, 6, (3, 2), padding="same", groups=2), (4, 4, 5, 6)),
    "conv2d, reflected": (LowerConv2d(), lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (4, 2, 5, 6)),
}


@pytest.mark.parametrize("name", LOWERINGS)
def test_lowerings_of_the_project_conform(name: str) -> None:
    lowering, make, shape = LOWERINGS[name]
    check_lowering(lowering, seeded(make), noise(*shape))


class Gain(nn.Linear):
    """A linear layer of another type."""


class LowerGain(LowerLinear):
    """Keeps apart from other linear layers."""

    handles: ClassVar[type[nn.Module]] = Gain

    def misfit(self, module: Any) -> str | None:
        return "has no inputs to speak of" if module.in_features < 2 else None


def test_a_module_is_lowered_as_the_nearest_of_its_bases() -> None:
    linear, gain = nn.Linear(3, 2), Gain(3, 2)
    assert type(lowering_of(linear)) is type(lowering_of(gain)) is LowerLinear
    assert lowering_of(nn.ReLU()) is None
    with register(LowerGain()):
        assert type(lowering_of(gain)) is LowerGain
        assert type(lowering_of(linear)) is LowerLinear
        inner = register(LowerGain())
        inner.remove()
        assert type(lowering_of(gain)) is LowerGain
    assert type(lowering_of(gain)) is LowerLinear


def test_what_a_lowering_refuses_is_named_with_its_reason() -> None:
    model = nn.Sequential(Gain(1, 3), Gain(3, 2))
    with register(LowerGain()):
        lowered = lower(model, noise(4, 1))
    assert list(lowered.products) == ["1"]
    (item,) = lowered.not_mapped
    assert (item.name, item.kind, item.parameters, item.reason) == ("0", "Gain", 6, "has no inputs to speak of")
    assert [item.name for item in lowered.unused({"0"})] == ["1"]
    assert not lowered.unused({"1"})


class Nameless(Lowering):
    """Handles nothing."""

    def lower(self, module: Any) -> Product:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("lowering", "message"),
    [
        (LowerLinear, "lowering must be of type Lowering"),
        (None, "lowering must be of type Lowering"),
        (Nameless(), "handles must be a type of module, got None"),
    ],
)
def test_lowerings_that_are_refused(lowering: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        register(lowering)


def test_products_hold_groups_on_the_diagonal() -> None:
    module = nn.Conv1d(4, 6, 2, groups=2, bias=False)
    weights = LowerConv1d().lower(module).weights
    assert weights.shape == (8, 6)
    wanted = np.zeros((8, 6))
    kernels = module.weight.detach().numpy()
    for output in range(6):
        first = 0 if output < 3 else 4  # the first input of its group: two channels of two places each
        wanted[first : first + 4, output] = kernels[output].reshape(-1)
    np.testing.assert_array_equal(weights, wanted)


def test_a_table_of_plans_fits_a_terminal_whatever_the_reasons() -> None:
    reason = "cells on whole levels (" + "; ".join(f"not plan {number}: it does not fit" for number in range(12)) + ")"
    table = PlanTable((("stages.2.0.convolution1", "bitplane-analog", reason), ("classifier", "exact", "short")))
    lines = str(table).splitlines()
    assert max(map(len, lines)) <= 125
    assert " ".join(" ".join(lines[2:-1]).split()) == f"stages.2.0.convolution1 bitplane-analog {reason}"
    assert lines[-1].split() == ["classifier", "exact", "short"]
    assert table["classifier"] == "exact"
