"""Layer adapters keep the promises that others must keep, and make the products that torch computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import xbarsim as xb
from tests.strategies import relaxed
from xbarsim.devices import Cell
from xbarsim.engine import Window, unfold
from xbarsim.foundation.validation import InputError
from xbarsim.network import PlanTable, Product
from xbarsim.network.geometry import linear_product
from xbarsim.network.layers import (
    Conv1dAdapter,
    Conv2dAdapter,
    Conv3dAdapter,
    LayerAdapter,
    LinearAdapter,
    TransposedAdapter,
)
from xbarsim.network.lowering.products import READERS
from xbarsim.testing.network import check_layer_adapter

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


ADAPTERS: dict[str, tuple[LayerAdapter, tuple[int, ...]]] = {
    "vectors": (LinearAdapter(features=5), (3, 5)),
    "sequences of vectors": (LinearAdapter(features=5), (3, 2, 4, 5)),
    "sequences": (Conv1dAdapter(channels=2), (3, 2, 7)),
    "maps": (Conv2dAdapter(channels=2), (3, 2, 4, 5)),
    "volumes": (Conv3dAdapter(channels=2, kernel=1), (3, 2, 3, 4, 5)),
    "spread sequences": (TransposedAdapter(channels=2, stride=(1, 3), edges=(1, 2, 0, 0), dimensions=1), (3, 2, 7)),
    "spread maps": (TransposedAdapter(channels=2, stride=(2, 3), edges=(1, 0, 2, 1)), (3, 2, 4, 5)),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_of_the_project_conform(name: str) -> None:
    adapter, shape = ADAPTERS[name]
    check_layer_adapter(adapter, noise(*shape))


def product_of(function: Any, *arguments: Any, **keywords: Any) -> tuple[Any, torch.Tensor]:
    """What a call is read as, computed in float64 from its maps, windows and matrix; and what torch gives."""
    (call,) = READERS[function].read(function, arguments, keywords)
    weight = call.weight.numpy()
    outputs = call.product(weight, np.zeros(1, np.float32)).weights.shape[1]
    bias = np.zeros(outputs, np.float32) if call.bias is None else call.bias.numpy()
    product = call.product(weight, bias)
    inputs = call.inputs.numpy()
    maps = np.ascontiguousarray(product.adapter.to_maps(inputs))
    codes = unfold(np.rint(maps * 64).astype(np.int32), product.window)  # the inputs are multiples of 1 / 64
    height, width = product.window.output_size(*maps.shape[2:])
    answer = codes.astype(np.float64) / 64 @ product.weights.astype(np.float64) + product.bias
    results = answer.reshape(len(maps), height, width, -1).transpose(0, 3, 1, 2)
    finished = call.finish(torch.from_numpy(np.ascontiguousarray(product.adapter.from_maps(results, inputs.shape))))
    return finished, function(*arguments, **keywords)


def whole(*shape: int) -> torch.Tensor:
    return (noise(*shape) * 64).round() / 64


@relaxed
@given(data=st.data())
def test_convolutions_of_any_geometry_are_the_products_that_torch_computes(data: st.DataObject) -> None:
    dimensions = data.draw(st.integers(1, 3))
    number = st.integers(1, 3)
    kernel, stride, dilation = (data.draw(st.tuples(*[number] * dimensions)) for _ in range(3))
    padding: Any = data.draw(
        st.one_of(st.tuples(*[st.integers(0, 2)] * dimensions), st.sampled_from(["valid", "same"]))
    )
    if padding == "same":
        stride = (1,) * dimensions
    groups, each = data.draw(st.integers(1, 2)), data.draw(number)
    size = tuple(d * (k - 1) + 1 + data.draw(st.integers(0, 3)) for k, d in zip(kernel, dilation, strict=True))
    function = (torch.conv1d, torch.conv2d, torch.conv3d)[dimensions - 1]
    answer, expected = product_of(
        function,
        whole(2, 2 * groups, *size),
        noise(groups * each, 2, *kernel),
        data.draw(st.sampled_from([None, noise(groups * each)])),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    torch.testing.assert_close(answer.float(), expected, rtol=1e-4, atol=1e-4)


@relaxed
@given(data=st.data())
def test_transposed_convolutions_are_the_products_that_torch_computes(data: st.DataObject) -> None:
    dimensions = data.draw(st.integers(1, 2))
    number = st.integers(1, 3)
    kernel, stride, dilation = (data.draw(st.tuples(*[number] * dimensions)) for _ in range(3))
    padding = data.draw(st.tuples(*[st.integers(0, 3)] * dimensions))
    beyond = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    groups, each = data.draw(st.integers(1, 2)), data.draw(number)
    size = tuple(
        data.draw(st.integers(max(1, -(-(2 * p - d * (k - 1)) // s) + 1), 7))
        for k, d, p, s in zip(kernel, dilation, padding, stride, strict=True)
    )
    function = (torch.conv_transpose1d, torch.conv_transpose2d)[dimensions - 1]
    answer, expected = product_of(
        function,
        whole(2, 2 * groups, *size),
        noise(2 * groups, each, *kernel),
        data.draw(st.sampled_from([None, noise(groups * each)])),
        stride=stride,
        padding=padding,
        output_padding=beyond,
        dilation=dilation,
        groups=groups,
    )
    torch.testing.assert_close(answer.float(), expected, rtol=1e-4, atol=1e-4)


def test_products_hold_groups_on_the_diagonal() -> None:
    kernels = noise(6, 2, 2)
    (call,) = READERS[torch.conv1d].read(torch.conv1d, (noise(1, 4, 5), kernels), {"groups": 2})
    weights = call.product(kernels.numpy(), np.zeros(6, np.float32)).weights
    assert weights.shape == (8, 6)
    wanted = np.zeros((8, 6))
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


class Spread(torch.nn.Module):
    """A bias of one number, which torch spreads over all outputs."""

    def __init__(self, bias: torch.Tensor, *, matrix: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(noise(5, 7))
        self.bias, self.matrix = torch.nn.Parameter(bias), matrix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.matrix:
            return torch.addmm(self.bias, x, self.weight.t())
        return torch.nn.functional.linear(x, self.weight, self.bias)


@pytest.mark.parametrize(
    ("bias", "matrix"), [(torch.ones(1), False), (torch.tensor(1.0), False), (torch.ones(1), True)]
)
def test_a_bias_of_one_number_is_added_to_every_output_on_a_die_too(bias: torch.Tensor, matrix: bool) -> None:
    """Kernels read one number an output: left short, they read on in memory that is not theirs."""
    model, x = Spread(bias, matrix=matrix).eval(), noise(9, 7)
    network = xb.map_model(model, xb.Design(cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16)), calibration=x)
    (product,) = network.lowered.products.values()
    np.testing.assert_array_equal(product.bias, np.ones(5, np.float32))
    with torch.no_grad():
        expected, digital = model(x), network.digital(x)
    assert torch.equal(network.fabricate(seed=1)(x), digital)
    torch.testing.assert_close(digital, expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))


def test_a_product_with_a_bias_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"bias must be one number or one for each of 3 outputs, got \(2,\)"):
        linear_product(np.ones((4, 3), np.float32), np.ones(2, np.float32))
    with pytest.raises(InputError, match=r"weights must have shape \(inputs, outputs\), got \(4,\)"):
        Product(
            weights=np.ones(4, np.float32),
            bias=np.ones(1, np.float32),
            adapter=LinearAdapter(features=4),
            window=Window(kernel=(1, 4)),
        )
