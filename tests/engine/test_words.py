"""Exact layers of feature maps in pairs of 16-bit factors: equal to sums in floating point, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import TiledLayer
from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell
from xbarsim.engine import Case, Layout, Scaling, Window, kernels
from xbarsim.engine.backends.sums import SumProgram
from xbarsim.engine.backends.words import WordProgram, word_misfit
from xbarsim.engine.plans.exact import ExactPlan
from xbarsim.mapping import Mapping, map_matrix

pytestmark = pytest.mark.skipif(not kernels.has_feature("avx2"), reason="needs AVX2")


def _layer(codes: Any, *, input_bits: int = 8, signed: bool = False, weight_bits: int = 8, pack: Any = "none") -> Any:
    mapping = Mapping(rows=32, columns=16, weight_bits=weight_bits, cell_bits=weight_bits - 1, pack=pack)
    design = Design(
        cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=2 ** (weight_bits - 1)),
        mapping=mapping,
        periphery=Periphery(input_bits=input_bits, dac_bits=input_bits, adc_range="lossless"),
    )
    return TiledLayer.of(map_matrix(codes, mapping), design, signed=signed, rows=32)


def _layout(layer: TiledLayer, cells: Any = None) -> Layout:
    cells = layer.mapped.levels.astype(np.float32) if cells is None else cells
    return ExactPlan.layout(Case.of(layer.reading, cells, layer.drive, layer.converter))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(2, 7),
    outputs=st.integers(1, 15),
    images=st.integers(1, 19),
    size=st.tuples(st.integers(3, 9), st.integers(3, 18)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    signed=st.booleans(),
    empty=st.sampled_from([0.0, 0.7]),
    precise=st.booleans(),
)
def test_pairs_give_what_sums_in_floating_point_give(
    seed: int,
    channels: int,
    outputs: int,
    images: int,
    size: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    signed: bool,
    empty: float,
    precise: bool,
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (channels * kernel[0] * kernel[1], outputs))
    codes[rng.random(len(codes)) < empty] = 0
    layer = _layer(codes, signed=signed)
    cells = layer.mapped.levels.astype(np.float32)
    cells[rng.random(cells.shape) < 0.05] = 127
    layout = _layout(layer, np.where(layer.mapped.used, cells, 0))
    assert word_misfit(layout) is None
    maps = rng.normal(100, 90, (images, channels, *size)).astype(np.float32)
    window = Window(kernel=kernel, stride=stride, padding=padding)
    scaling = Scaling(
        inverse_scale=1.3,
        low=layer.drive.min_input,
        high=layer.drive.max_input,
        scale=rng.uniform(0.001, 0.1, outputs),
        bias=rng.normal(size=outputs),
    )
    height, width = window.output_size(*size)
    found, wanted = (
        np.full((images, outputs, height * width), np.nan, np.float64 if precise else np.float32) for _ in range(2)
    )
    pairs = WordProgram(layout)
    assert pairs.run(maps, window, scaling, found, 0)
    assert SumProgram(layout).run(maps, window, scaling, wanted, 0)
    np.testing.assert_array_equal(found, wanted)
    maps[-1, -1, -1, -1] = np.inf
    assert not pairs.run(maps, window, scaling, found, 0)


def test_what_does_not_fit_16_and_32_bits_is_left_to_floating_point() -> None:
    rng = np.random.default_rng(1)
    small = rng.integers(-127, 128, (90, 5))
    assert word_misfit(_layout(_layer(small))) is None
    cells = _layer(small).mapped.levels * 1.25
    assert word_misfit(_layout(_layer(small), cells)) == "values are not whole, or do not stand for themselves"
    assert word_misfit(_layout(_layer(small, input_bits=16))) == "factors have more than 16 bits"
    assert word_misfit(_layout(_layer(small, input_bits=15))) is None
    many = np.full((9000, 1), 127)
    assert word_misfit(_layout(_layer(many, input_bits=10))) is None
    assert word_misfit(_layout(_layer(many, input_bits=14))) == "sums have more than 32 bits"
    blocks = np.zeros((96, 40), int)
    for block in range(3):
        blocks[32 * block : 32 * block + 32, 8 * block : 8 * block + 8] = 5
    assert word_misfit(_layout(_layer(blocks, pack="block"))) == "outputs have rows of their own"


def test_the_extremes_of_both_factors_are_exact() -> None:
    layer = _layer(np.full((18, 3), 127) * np.array([1, -1, 0]), input_bits=15)
    layout = _layout(layer)
    maps = np.full((2, 2, 3, 3), 32767.0, np.float32)
    scaling = Scaling(inverse_scale=1.0, low=0, high=32767, scale=np.ones(3), bias=np.zeros(3))
    found = np.empty((2, 3, 1))
    assert WordProgram(layout).run(maps, Window(kernel=(3, 3)), scaling, found, 0)
    assert found[:, :, 0].tolist() == [[18 * 127 * 32767, -18 * 127 * 32767, 0]] * 2
