"""Bit planes by table look-up: wide and narrow columns, any number of positions, and both kinds of converters."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import TiledLayer
from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell
from xbarsim.engine import Case, kernels
from xbarsim.engine.backends.look_up import look_up_misfit
from xbarsim.engine.plans.bitplane import BitplanePlan
from xbarsim.mapping import Mapping, map_matrix

pytestmark = pytest.mark.skipif(not kernels.HAS_BYTE_SHUFFLE, reason="needs AVX2")


@st.composite
def _layers(draw: st.DrawFn) -> tuple[TiledLayer, npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """A layer that is read bit by bit, the cells of a die, and input codes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cell_bits = draw(st.sampled_from([1, 2, 4]))
    rows = draw(st.sampled_from([5, 64, 128]))
    mapping = Mapping(rows=rows, columns=32, weight_bits=5, cell_bits=cell_bits)
    adc_bits, adc_range = draw(st.sampled_from([(3, 3), (6, 40), (8, 96), (8, 1000), (10, 300), (12, 4095)]))
    dac_bits = draw(st.sampled_from([1, 2]))
    design = Design(
        cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=2**cell_bits),
        mapping=mapping,
        periphery=Periphery(input_bits=6, dac_bits=dac_bits, adc_bits=adc_bits, adc_range=float(adc_range)),
    )
    shape = draw(st.integers(1, 150)), draw(st.integers(1, 9))
    mapped = map_matrix(rng.integers(-mapping.max_weight, mapping.max_weight + 1, shape), mapping)
    layer = TiledLayer.of(mapped, design, signed=draw(st.booleans()), rows=rows)
    cells = mapped.levels.astype(np.float32)
    cells[mapped.used & (rng.random(cells.shape) < draw(st.sampled_from([0.0, 0.1, 0.9])))] = 2**cell_bits - 1
    vectors = draw(st.integers(1, 19)), draw(st.integers(1, 11)), shape[0]
    codes = rng.integers(layer.drive.min_input, layer.drive.max_input + 1, vectors).astype(np.int32)
    return layer, cells, codes


@pytest.mark.parametrize("converter", ["table", "whole", "float32"])
def test_tables_give_the_reference(converter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if converter == "table" and not kernels.HAS_BYTE_PERMUTE:
        pytest.skip("needs AVX-512 VBMI")
    if converter != "table":
        monkeypatch.setattr(kernels, "HAS_BYTE_PERMUTE", False)
    if converter == "float32":
        monkeypatch.setattr(kernels.WholeConverters, "of", lambda *_: None)
    looked_up = []

    @settings(deadline=None, max_examples=60)
    @given(drawn=_layers())
    def check(drawn: Any) -> None:
        layer, cells, codes = drawn
        case = Case.of(layer.reading, cells, layer.drive, layer.converter)
        assert BitplanePlan.misfit(case) is None
        if look_up_misfit(BitplanePlan.layout(case)) is not None:
            return
        plan = BitplanePlan(case)
        looked_up.append(plan.kernel == "look-up")
        answer = plan.multiply(codes)
        expected = layer.product(codes.reshape(-1, codes.shape[2]), cells).reshape(answer.shape)
        np.testing.assert_array_equal(answer, expected)

    check()
    assert len(looked_up) > 20
    assert all(looked_up)


def _codes(converters: Any, sums: npt.NDArray[Any]) -> Any:
    """What the processor makes of sums: 16-bit products, rounded."""
    shifted = (sums << int(converters.shift)).astype(np.int16).astype(np.int64)
    return np.clip((shifted * int(converters.factor) + 2**14) >> 15, converters.low, converters.high)


@settings(deadline=None, max_examples=200)
@given(
    step=st.floats(0.3, 300.0) | st.sampled_from([0.5, 0.75, 1.0, 2.0, 3.0, 16.0]),
    largest=st.integers(0, 4000),
    bits=st.integers(1, 8),
    signed=st.booleans(),
)
def test_whole_converters_give_the_codes_of_the_formula(step: float, largest: int, bits: int, signed: bool) -> None:
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    converters = kernels.WholeConverters.of(1.0 / step, low, high, largest, 8)
    sums = np.arange(-largest, largest + 1)
    if converters is not None:
        expected = np.clip(np.floor(sums * (1.0 / step) + 0.5), low, high)
        np.testing.assert_array_equal(_codes(converters, sums), expected)
        assert int(converters.least) == int(low) * 255


@pytest.mark.parametrize("step", [1.0, 2.0, 3.0, 4.0])
def test_usual_converters_are_whole(step: float) -> None:
    assert kernels.WholeConverters.of(1.0 / step, -128.0, 127.0, 384, 8) is not None


def test_codes_that_add_up_to_more_than_16_bits_are_left_to_floating_point() -> None:
    assert kernels.WholeConverters.of(1.0, -128.0, 127.0, 384, 8) is not None
    assert kernels.WholeConverters.of(1.0, -128.0, 130.0, 384, 8) is None
    assert kernels.WholeConverters.of(1.0, -32769.0, -32768.0, 384, 1) is None
    assert kernels.WholeConverters.of(2.0, -128.0, 127.0, 2**14, 8) is None  # sums that do not fit when shifted


def test_parts_of_a_column_fit_8_bits() -> None:
    rng = np.random.default_rng(3)
    columns = rng.integers(-15, 16, (130, 5)).astype(np.float32)
    columns[:, 1] = 0
    columns[:, 3] = 15
    tables = np.empty((5, 33, 16), np.int8)
    fits, biases = np.empty(5, np.int64), np.empty(5, np.uint8)
    kernels.make_tables(columns, tables, fits, biases)
    for column in range(5):
        for first in range(0, 33, fits[column]):
            part = tables[column, first : first + fits[column]].astype(int)
            assert biases[column] + part.min(axis=1).sum() >= 0
            assert biases[column] + part.max(axis=1).sum() <= 255
    assert fits[3] == 4  # 33 quads of 60 in 9 parts
    assert biases[3] == 0
