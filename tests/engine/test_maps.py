"""Feature maps with 16 images side by side: the same numbers as plain ones, whatever is done with them."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.strategies import TiledLayer
from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell
from xbarsim.engine import BlockedMaps, Noise, PlainProgram, Scaling, Window, make_plan, memory
from xbarsim.engine.backends import BlockingProgram
from xbarsim.engine.backends.sums import SumProgram
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Mapping, map_matrix

SHAPES = st.tuples(st.integers(1, 35), st.integers(1, 5), st.integers(1, 9), st.integers(1, 18))


def _maps(seed: int, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 0.3, 0, rng.normal(50, 90, shape)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=SHAPES,
    odd=st.sampled_from([0.0, np.nan, np.inf, -np.inf]),
    margins=st.tuples(*[st.integers(0, 2)] * 2),
)
def test_what_is_done_in_blocks_gives_the_numbers_of_torch(
    seed: int, shape: tuple[int, ...], odd: float, margins: tuple[int, int]
) -> None:
    left, right = _maps(seed, shape), _maps(seed + 1, shape)
    left.flat[seed % left.size] = odd
    one, other = (BlockedMaps.of(each).framed(margin) for each, margin in zip((left, right), margins, strict=True))
    plain, second = torch.from_numpy(left), torch.from_numpy(right)
    assert one.shape == shape
    np.testing.assert_array_equal(one.plain(), left)
    np.testing.assert_array_equal(one.relu().plain(), plain.relu())
    np.testing.assert_array_equal(one.plus(other).plain(), plain + second)
    np.testing.assert_array_equal(one.relu().plus(other).relu().plain(), (plain.relu() + second).relu())
    np.testing.assert_array_equal(one.plus(other.relu()).plain(), plain + second.relu())
    kernel = (min(2, shape[2]), min(3, shape[3]))
    pooled = torch.max_pool2d(plain, kernel, (2, 1))
    np.testing.assert_array_equal(one.largest(kernel, (2, 1)).plain(), pooled)
    np.testing.assert_array_equal(one.relu().largest(kernel, (2, 1)).plain(), pooled.relu())
    part = (slice(seed % shape[1], None), slice(None, None, 2), slice(-2, None))
    np.testing.assert_array_equal(one.cut(*part).plain(), left[:, *part])
    around = functional.pad(plain.relu(), (1, 0, 0, 2, 2, 1))
    np.testing.assert_array_equal(one.relu().padded((2, 1), (0, 2), (1, 0)).plain(), around)
    for below, above in ((-20.0, 100.0), (0.0, 55.0)):
        bounds = np.float32(below), np.float32(above)
        for maps in (one, one.relu(), one.plus(other)):
            numbers = maps.plain()
            assert maps.count_outside(*bounds) == (numbers < below).sum() + (numbers >= above).sum()


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 4), st.integers(3, 9), st.integers(3, 18)),
    outputs=st.integers(1, 15),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    rectified=st.booleans(),
    margins=st.tuples(*[st.integers(0, 3)] * 2),
)
def test_plain_numbers_are_convolved_group_by_group(
    seed: int,
    shape: tuple[int, ...],
    outputs: int,
    stride: Any,
    padding: Any,
    rectified: bool,
    margins: tuple[int, int],
) -> None:
    rng = np.random.default_rng(seed)
    inputs = shape[1] * 9
    weights = rng.normal(size=(inputs, outputs))
    groups, dense = [], np.zeros((inputs, outputs))
    for part in np.array_split(np.arange(outputs), min(outputs, 3)):
        rows = np.flatnonzero(rng.random(inputs) < 0.4)
        if len(rows):
            groups.append((rows, part, weights[np.ix_(rows, part)]))
            dense[np.ix_(rows, part)] = weights[np.ix_(rows, part)]
    maps, bias = _maps(seed, shape), rng.normal(size=outputs)
    blocked = BlockedMaps.of(maps).relu() if rectified else BlockedMaps.of(maps)
    window = Window(kernel=(3, 3), stride=stride, padding=padding)
    program = PlainProgram(groups, inputs, outputs, bias)
    made = program.convolve(blocked, window)
    found = made.plain()
    kernel = torch.from_numpy(dense.T.reshape(outputs, shape[1], 3, 3))
    framed = functional.pad(torch.from_numpy(blocked.plain()).double(), padding)
    wanted = functional.conv2d(framed, kernel, torch.from_numpy(bias), stride=stride)
    largest = float(functional.conv2d(framed.abs(), kernel.abs(), stride=stride).max()) + 1.0
    np.testing.assert_allclose(found, wanted, atol=3e-7 * np.sqrt(inputs) * largest, rtol=0)
    framed_maps = program.convolve(blocked.framed(margins[0]), window, margin=margins[1])
    assert framed_maps.shape == made.shape
    around = [(0, 0)] * 2 + [(margins[1], margins[1])] * 2 + [(0, 0)]
    np.testing.assert_array_equal(framed_maps.values, np.pad(made.values, around))


def test_sums_begin_with_the_bias_and_run_in_the_order_of_their_inputs_whatever_the_batch() -> None:
    rng = np.random.default_rng(3)
    weights, bias = rng.normal(size=(45, 13)), rng.normal(size=13)
    program = PlainProgram([(np.arange(45), np.arange(13), weights)], 45, 13, bias)
    maps = _maps(1, (37, 5, 3, 3))
    window = Window(kernel=(3, 3))
    found = program.convolve(BlockedMaps.of(maps), window).plain()
    sums = np.tile(bias.astype(np.float32), (37, 1))
    for row in range(45):  # a product of two float32 is exact in float64, and so is the sum, but for one rounding
        product = maps.reshape(37, 45)[:, row, None].astype(np.float64) * weights[row].astype(np.float32)
        sums = (sums.astype(np.longdouble) + product).astype(np.float32)
    np.testing.assert_array_equal(found[:, :, 0, 0], sums)
    few = program.convolve(BlockedMaps.of(maps[5:9]), window).plain()
    np.testing.assert_array_equal(few, found[5:9])


def test_indices_are_kept_for_the_last_shapes_only() -> None:
    program = PlainProgram([(np.arange(9), np.arange(2), np.ones((9, 2)))], 9, 2, np.zeros(2))
    window = Window(kernel=(3, 3), padding=(1, 1, 1, 1))
    for size in (*range(3, 12), 3):
        found = program.convolve(BlockedMaps.of(np.ones((1, 1, size, size), np.float32)), window).plain()
        assert found[0, 1, 1, 1] == 9
        assert found[0, 0, 0, 0] == 4
    assert len(program._indices) <= 4


@pytest.mark.parametrize(
    ("rows", "places", "shape", "bias", "message"),
    [
        ([0, 9], [0], (2, 1), 2, r"inputs of groups must be in \[0, 8\], got 0 to 9"),
        ([0], [-1], (1, 1), 2, r"outputs of groups must be in \[0, 1\], got -1 to -1"),
        ([0], [1, 1], (1, 2), 2, r"outputs of groups must be of one group each, got 1 in two"),
        ([0], [0, 1], (2, 1), 2, r"weights of groups must have shape \(1, 2\), got \(2, 1\)"),
        ([0], [0], (1, 1), 3, r"bias must have shape \(2,\), got \(3,\)"),
    ],
)
def test_groups_that_do_not_fit_are_refused(
    rows: list[int], places: list[int], shape: tuple[int, int], bias: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        PlainProgram([(np.array(rows), np.array(places), np.ones(shape))], 9, 2, np.zeros(bias))


def test_maps_that_are_not_in_blocks_of_float32_are_refused() -> None:
    maps = BlockedMaps.of(np.ones((3, 2, 5, 5), np.float32))
    others: list[Any] = [maps.values.astype(np.float64), maps.values[0], maps.values[..., :8]]
    for values in others:
        with pytest.raises(InputError, match=r"values must be float32 of shape \(blocks, channels, height, width, 16"):
            BlockedMaps(values, 3)
    program = PlainProgram([(np.arange(2), np.arange(2), np.ones((2, 2)))], 2, 2, np.zeros(2))
    with pytest.raises(InputError, match="margin must be an integer >= 0, got -1"):
        program.convolve(maps, Window(), margin=-1)


DESIGNS = {
    "exact": Periphery(input_bits=8, dac_bits=8, adc_range="lossless"),
    "folded": Periphery(input_bits=8, dac_bits=8),
    "tiled": Periphery(input_bits=8, dac_bits=8, adc_bits=8, adc_range=700.0),
    "bitplane": Periphery(input_bits=8, dac_bits=1, adc_bits=6, adc_range=96.0),
}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    plan=st.sampled_from([*DESIGNS]),
    signed=st.booleans(),
    channels=st.integers(1, 6),
    outputs=st.integers(1, 15),
    images=st.integers(1, 35),
    size=st.tuples(st.integers(3, 9), st.integers(3, 18)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    rectified=st.booleans(),
    some=st.booleans(),
)
def test_layers_take_and_give_blocks_bit_for_bit(
    seed: int,
    plan: str,
    signed: bool,
    channels: int,
    outputs: int,
    images: int,
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: Any,
    rectified: bool,
    some: bool,
) -> None:
    rng = np.random.default_rng(seed)
    mapping = Mapping(rows=32, columns=16, weight_bits=8, cell_bits=2 if plan == "bitplane" else 7)
    cell = Cell(g_min=1e-6, g_max=1.2e-5, levels=2**mapping.cell_bits)
    design = Design(cell=cell, mapping=mapping, periphery=DESIGNS[plan])
    mapped = map_matrix(rng.integers(-127, 128, (channels * 9, outputs)), mapping)
    layer = TiledLayer.of(mapped, design, signed=signed, rows=32)
    cells = mapped.levels.astype(np.float32)
    if plan == "folded":
        cells = np.where(mapped.used, cells + rng.normal(0, 0.3, cells.shape), 0).astype(np.float32)
    made = make_plan(layer.reading, cells, layer.drive, layer.converter)
    assert made.blocks
    assert isinstance(made.program, BlockingProgram)
    maps = _maps(seed, (images, channels, *size))
    window = Window(kernel=(3, 3), stride=stride, padding=padding)
    scaling = Scaling(
        inverse_scale=1.3,
        low=layer.drive.min_input,
        high=layer.drive.max_input,
        scale=rng.uniform(0.001, 0.1, outputs),
        bias=rng.normal(size=outputs),
    )
    wanted, finite = made.run(np.maximum(maps, 0) if rectified else maps, window, scaling)
    given_maps: Any = np.maximum(maps, 0) if rectified else maps
    if some:
        given_maps = replace(BlockedMaps.of(maps), rectified=rectified)
    found, also_finite = made.run_blocked(given_maps, window, scaling)
    assert finite
    assert also_finite
    np.testing.assert_array_equal(found.plain(), wanted)
    maps[-1, -1, -1, -1] = np.inf
    assert not made.run_blocked(BlockedMaps.of(maps), window, scaling)[1]


@pytest.mark.parametrize("unit", [0.5, 1.0, 2.0, 3.0, 6.0, 7.3, 64.0, 2.0**14, 1e-3, 1e5])
@pytest.mark.parametrize("bits", [1, 4, 8, 11, 12])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("noisy", [True, False])
def test_converters_in_float32_give_the_codes_of_float64(unit: float, bits: int, whole: bool, noisy: bool) -> None:
    """Steps whose halves are hit by every second sum among them."""
    rng = np.random.default_rng(bits)
    mapping = Mapping(rows=32, columns=16, weight_bits=8, cell_bits=7)
    periphery = Periphery(input_bits=4, dac_bits=4, adc_bits=bits, adc_range=unit * (2 ** (bits - 1) or 1))
    design = Design(cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=128), mapping=mapping, periphery=periphery)
    mapped = map_matrix(rng.integers(-127, 128, (70, 13)), mapping)
    layer = TiledLayer.of(mapped, design, signed=False, rows=32)
    cells = mapped.levels.astype(np.float32)
    if not whole:
        cells = np.where(mapped.used, cells + rng.normal(0, 0.3, cells.shape), 0).astype(np.float32)
    spread, zeros = np.full(cells.shape, 0.05), np.zeros(cells.shape)
    noise = Noise(spread=spread, linear=zeros, constant=zeros + 1e-3, key=5) if noisy else None
    plan = make_plan(layer.reading, cells, layer.drive, layer.converter, noise)
    program = plan.program
    assert plan.name == "tiled"
    assert isinstance(program, SumProgram)
    if noisy and program.dtype == np.float64:  # sums of cells that are whole, with variances that need not be
        return
    assert (program._short_converters is None) == (bits == 12)
    codes = rng.integers(0, 16, (40, 3, 70))
    found = plan.multiply(codes)
    program._short_converters = None  # float64 throughout
    np.testing.assert_array_equal(plan.multiply(codes), found)


def test_memory_is_reused_when_no_view_of_it_is_left() -> None:
    gc.collect()
    first = memory.array((3, 2**19))
    view, address = first[1:, ::2], first.ctypes.data
    first[:] = 7
    del first
    other = memory.array((3, 2**19))
    other[:] = 9
    assert other.ctypes.data != address
    assert (view == 7).all()
    del view
    assert memory.array((2**19, 3)).ctypes.data == address
    assert address % 64 == 0


def test_no_more_memory_is_kept_than_is_said() -> None:
    arrays = [memory.array((2**22,)) for _ in range(8)]
    assert sum(each.nbytes for each in arrays) > memory.KEPT_BYTES
    arrays.clear()
    gc.collect()
    memory.array((2**18,))
    assert sum(each.nbytes for each in memory._free) <= memory.KEPT_BYTES
