"""Every plan against the reference engine, and the reference against the definitions in exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.strategies import ALL_ENCODINGS, ENGINE_CELL, EngineCase, TiledLayer, encodings, engine_cases, relaxed
from xbarsim.design import Converter, Design, Drive, Periphery
from xbarsim.devices import Cell, FaultKind, FaultMap, StuckFaults
from xbarsim.die import program
from xbarsim.engine import Noise, Plan, choose_plan, clipping_bounds, count_clipped, kernels, largest_conversion
from xbarsim.mapping import (
    Differential,
    Encoding,
    MappedMatrix,
    Mapping,
    Offset,
    Reading,
    TwoColumn,
    Unary,
    map_matrix,
)
from xbarsim.mapping.encodings.duplicated_top import DuplicatedPairs

Array = npt.NDArray[Any]

PLANS = ("exact", "folded", "tiled", "bitplane", "bitplane-analog")

# What must be drawn for a layer to get each plan: arguments of `engine_cases`.
WANTED: dict[str, dict[str, Any]] = {
    "exact": {"converters": ("none",), "on_levels": True},
    "folded": {"converters": ("none",), "on_levels": False},
    "tiled": {"converters": ("coarse",), "planes": "one"},
    "bitplane": {"converters": ("coarse",), "planes": "several", "on_levels": True},
    "bitplane-analog": {"converters": ("coarse",), "planes": "several", "on_levels": False},
}

few = settings(deadline=None, max_examples=10)


def by_reference(case: EngineCase, noise: Noise | None = None, normals: Array | None = None) -> Array:
    """The reference's answer, shaped as a plan's."""
    flat = case.product(
        case.vectors,
        case.cells,
        noise_spread=None if noise is None else noise.spread,
        normals=normals,
    )
    return flat.reshape(*case.codes.shape[:2], -1)


def off_levels(case: EngineCase) -> bool:
    """Whether a used cell holds no whole level."""
    held = case.cells[case.mapped.used]
    return bool((held != np.rint(held)).any())


# --- the definitions, in exact arithmetic, from conductances in siemens


def pair_levels(encoding: Encoding, digit: int, top: int) -> tuple[int, int]:
    """Levels (a, b) of a signed slice: the table of DESIGN section 3."""
    if encoding.name in ("TwoColumn", "Unary", "DuplicatedTop"):
        return max(digit, 0), max(-digit, 0)
    if encoding.name in ("Differential", "DuplicatedDifferential"):
        return top - max(-digit, 0), top - max(digit, 0)
    a = math.floor(Fraction(top + digit, 2))
    return a, a - digit


def slices_by_hand(mapping: Mapping) -> tuple[int, list[Fraction]]:
    """How many slices hold a weight, and what each counts."""
    encoding, bits = mapping.encoding, mapping.cell_bits
    if isinstance(encoding, Unary):
        base, largest, digits = encoding.cells * (2**bits - 1) + 1, 2 ** (mapping.weight_bits - 1) - 1, 1
        while base**digits - 1 < largest:
            digits += 1
        counts = [Fraction(base**d) for d in range(digits) for _ in range(encoding.cells)]
        return len(counts), counts
    slices = math.ceil(Fraction(mapping.weight_bits - 1 if mapping.sides == 2 else mapping.weight_bits, bits))
    counts = [Fraction(2 ** (bits * s)) for s in range(slices)]
    if isinstance(encoding, DuplicatedPairs):
        counts = [*counts[:-1], counts[-1] / 2, counts[-1] / 2]
    return len(counts), counts


def digits_by_hand(mapping: Mapping, weight: int) -> list[int]:
    """The signed slices of a weight in pairs, or those of the shifted weight in single columns."""
    encoding, base = mapping.encoding, 2**mapping.cell_bits
    count, counts = slices_by_hand(mapping)
    sign = 1 if weight > 0 else -1
    if isinstance(encoding, Unary):  # a thermometer: each cell takes what those before it cannot hold
        digits = []
        for s, weight_of in enumerate(counts):
            digit = abs(weight) // int(weight_of) % (encoding.cells * (base - 1) + 1)
            digits.append(sign * min(max(digit - s % encoding.cells * (base - 1), 0), base - 1))
        return digits
    if mapping.sides == 1:
        return [(weight + 2 ** (mapping.weight_bits - 1)) // base**s % base for s in range(count)]
    digits = [sign * (abs(weight) // base**s % base) for s in range(count)]
    if isinstance(encoding, DuplicatedPairs):
        digits[-1] = digits[-2]
    return digits


def code_of(value: Fraction, layer: TiledLayer) -> int:
    """The converter: nearest step, halves up, clipped."""
    assert layer.converter.step is not None
    return min(
        max(math.floor(value / Fraction(layer.converter.step) + Fraction(1, 2)), layer.converter.low),
        layer.converter.high,
    )


def by_hand(
    weights: list[list[int]],
    inputs: list[int],
    layer: TiledLayer,
    cell: Cell,
    stuck: dict[tuple[int, int, int], float],
) -> list[Fraction]:
    """One matrix-vector product read by read, cell by cell, in fractions; without packing.

    `stuck` holds the conductance, in siemens, of broken cells by (tile, row, column).
    """
    mapping = layer.mapped.mapping
    top = 2**mapping.cell_bits - 1
    g_min, g_max = Fraction(cell.g_min), Fraction(cell.g_max)
    delta = (g_max - g_min) / top
    encoding, pairs = mapping.encoding, mapping.sides == 2
    slices, counts = slices_by_hand(mapping)
    shift = 2 ** (mapping.weight_bits - 1)
    inputs_count, outputs_count = len(weights), len(weights[0])
    answer = [Fraction(0)] * outputs_count
    if not layer.drive.signed:
        passes = [(1, inputs)]
    elif layer.drive.signed_inputs == "two_pass":
        passes = [(1, [max(x, 0) for x in inputs]), (-1, [max(-x, 0) for x in inputs])]
    else:
        passes = [(1, [x + 2 ** (layer.drive.input_bits - 1) for x in inputs])]
    row_blocks = [range(k, min(k + mapping.rows, inputs_count)) for k in range(0, inputs_count, mapping.rows)]
    per_tile = mapping.outputs_per_tile
    output_blocks = [range(j, min(j + per_tile, outputs_count)) for j in range(0, outputs_count, per_tile)]

    for tile, (rows, outputs) in enumerate(product(row_blocks, output_blocks)):
        cells: dict[tuple[int, int], Fraction] = {}  # conductance by (row, column)
        for (row, k), (slot, n) in product(enumerate(rows), enumerate(outputs)):
            for s, digit in enumerate(digits_by_hand(mapping, weights[k][n])):
                levels: tuple[int, ...] = pair_levels(encoding, digit, top) if pairs else (digit,)
                for side, level in enumerate(levels):
                    cells[row, (slot * slices + s) * len(levels) + side] = g_min + level * delta
        if mapping.has_reference:
            for row in range(len(rows)):
                cells[row, mapping.columns - 1] = g_min + (shift // counts[-1]) * delta
        for row, column in cells:
            if (tile, row, column) in stuck:
                cells[row, column] = Fraction(stuck[tile, row, column])

        together = layer.drive.active_rows or len(rows)
        for sign, driven in passes:
            for plane, first in product(range(layer.drive.planes), range(0, len(rows), together)):
                low_bit = plane * layer.drive.dac_bits
                codes = [(driven[k] >> low_bit) & (2**layer.drive.dac_bits - 1) for k in rows]
                x = [code if first <= row < first + together else 0 for row, code in enumerate(codes)]
                weight = sign * 2**low_bit
                leak = sum(x) * g_min / delta  # what the column carries at level 0, in level steps

                def current(index: int, x: list[int] = x, cells: dict[tuple[int, int], Fraction] = cells) -> Fraction:
                    total = sum((code * cells[row, index] for row, code in enumerate(x)), Fraction(0))
                    return Fraction(total / delta)

                def single(value: Fraction, leak: Fraction = leak) -> Fraction:
                    if layer.converter.step is None:
                        return value - leak
                    known = math.floor(leak / Fraction(layer.converter.step) + Fraction(1, 2))
                    return (code_of(value, layer) - known) * Fraction(layer.converter.step)

                for slot, n in enumerate(outputs):
                    for s in range(slices):
                        place = slot * slices + s
                        if not pairs:
                            read = single(current(place))
                        elif not layer.reading.paired:
                            read = single(current(2 * place)) - single(current(2 * place + 1))
                        else:
                            read = current(2 * place) - current(2 * place + 1)
                            if layer.converter.step is not None:
                                read = code_of(read, layer) * Fraction(layer.converter.step)
                        answer[n] += weight * counts[s] * read
                    if mapping.has_reference:
                        answer[n] -= weight * counts[-1] * single(current(mapping.columns - 1))
                    elif not pairs:
                        answer[n] -= weight * shift * sum(x)
    if layer.drive.signed and layer.drive.signed_inputs == "offset":
        for n in range(outputs_count):
            answer[n] -= 2 ** (layer.drive.input_bits - 1) * sum(row[n] for row in weights)
    return answer


@st.composite
def small_cases(
    draw: st.DrawFn,
) -> tuple[TiledLayer, Cell, list[list[int]], list[int], dict[Any, float]]:
    """A few cells whose conductances are exact in binary: steps of 2^-20 S, the rest on 16ths of it."""
    encoding = draw(encodings())
    weight_bits, cell_bits = draw(st.integers(2, 5)), draw(st.integers(1, 4))
    output = encoding.slice_count(weight_bits, cell_bits) * encoding.sides
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 2)) * output + encoding.has_reference
    mapping = Mapping(
        encoding=encoding,
        rows=rows,
        columns=columns,
        weight_bits=weight_bits,
        cell_bits=cell_bits,
        pack="none",
    )
    g_min = draw(st.integers(1, 40)) * 2.0**-24
    cell = Cell(g_min=g_min, g_max=g_min + (2**cell_bits - 1) * 2.0**-20, levels=2**cell_bits)
    input_bits = draw(st.integers(2, 5))
    kind = draw(st.sampled_from(["none", "lossless", "given"]))
    converter: dict[str, Any] = {"none": {}, "lossless": {"adc_range": "lossless"}}.get(kind, {})
    both: tuple[Literal["analog", "digital"], ...] = ("analog", "digital")
    subtraction = draw(st.sampled_from(both[2 - mapping.sides :]))
    if kind == "given":  # a step that is a power of two has an exact inverse
        adc_bits = draw(st.integers(2, 6))
        high = 2 ** (adc_bits - 1) - 1 if subtraction == "analog" else 2**adc_bits - 1
        converter = {"adc_bits": adc_bits, "adc_range": float(high * draw(st.sampled_from([1, 2, 4])))}
    design = Design(
        cell=cell,
        mapping=mapping,
        periphery=Periphery(
            input_bits=input_bits,
            dac_bits=draw(st.integers(1, input_bits)),
            subtraction=subtraction,
            signed_inputs=draw(st.sampled_from(["two_pass", "offset"])),
            active_rows=draw(st.none() | st.integers(1, 3)),
            **converter,
        ),
    )
    signed = draw(st.booleans())
    drive = design.drive(signed=signed)
    inputs_count, outputs_count = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    q = mapping.max_weight
    weight = st.integers(-q, q) | st.sampled_from([-q, 0, q])
    weights = draw(
        st.lists(
            st.lists(weight, min_size=outputs_count, max_size=outputs_count),
            min_size=inputs_count,
            max_size=inputs_count,
        )
    )
    low = -drive.max_input if signed else 0
    inputs = draw(st.lists(st.integers(low, drive.max_input), min_size=inputs_count, max_size=inputs_count))
    places = st.tuples(st.integers(0, 3), st.integers(0, rows - 1), st.integers(0, columns - 1))
    sixteenths = st.integers(0, 2 ** (cell_bits + 4) + 40).map(lambda n: n * 2.0**-24)
    value = st.sampled_from([cell.g_min, cell.g_max]) | sixteenths
    reading = design.reading(map_matrix(np.array(weights), mapping))
    layer = TiledLayer(reading, drive, design.converter(rows=rows))
    return layer, cell, weights, inputs, draw(st.dictionaries(places, value, max_size=4))


@settings(deadline=None, max_examples=150)
@given(case=small_cases())
def test_the_reference_is_the_definition(
    case: tuple[TiledLayer, Cell, list[list[int]], list[int], dict[Any, float]],
) -> None:
    layer, cell, weights, inputs, stuck = case
    mapped = layer.mapped
    kinds, values = np.zeros(mapped.levels.shape, np.uint8), np.zeros(mapped.levels.shape)
    for place, value in stuck.items():
        if place[0] < mapped.tiles:
            kinds[place], values[place] = FaultKind.STUCK_AT, value
    broken = FaultMap.from_dense(kinds, values)
    cells = program(mapped.levels, cell, mapped.mapping.cell_bits, np.random.default_rng(0), faults=broken)
    expected = [float(value) for value in by_hand(weights, inputs, layer, cell, stuck)]
    codes = np.array([inputs], dtype=np.int32)
    assert layer.product(codes, cells)[0].tolist() == expected
    plan = layer.plan(cells, precision="double")
    event(plan.name)
    assert plan.multiply(codes[None])[0, 0].tolist() == expected


def test_a_product_worked_out_on_paper() -> None:
    """Weights (1, -1) in 1-bit cells, 2-bit inputs (3, 1), g_min a quarter of a level step."""
    cell = Cell(g_min=1.0, g_max=5.0, levels=2, implausible=True)
    for subtraction, expected in (("analog", 2), ("digital", 2)):
        mapping = Mapping(rows=2, columns=2, weight_bits=2, cell_bits=1)
        periphery = Periphery(input_bits=2, dac_bits=2, adc_bits=3, adc_range=3.0, subtraction=subtraction)  # type: ignore[arg-type]
        mapped = map_matrix(np.array([[1], [-1]]), mapping)
        layer = TiledLayer.of(mapped, Design(cell=cell, mapping=mapping, periphery=periphery), signed=False, rows=2)
        codes = np.array([[3, 1]])
        # digital: columns carry 3 + 1 and 1 + 1 steps, codes 4 and 2, each less round(4 / 4) = 1
        assert layer.converter.offset_levels == 0.25
        assert layer.converter.step == 1.0
        assert layer.product(codes, mapped.levels).tolist() == [[expected]]
        # a converter that ends at code 3 clips the first column's 4
        converter = replace(layer.converter, low=-3 if subtraction == "analog" else 0, high=3)
        clipped = replace(layer, converter=converter)
        lost = 0 if subtraction == "analog" else 1
        assert clipped.product(codes, mapped.levels).tolist() == [[expected - lost]]


# --- plans against the reference


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small layers: starting threads would take most of the time. Chips are tested with more."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
@pytest.mark.parametrize("wanted", PLANS)
def test_plans_equal_the_reference_bit_for_bit(wanted: str, encoding: Encoding) -> None:
    seen = []

    @few
    @given(case=engine_cases(encoding=encoding, **WANTED[wanted]))
    def check(case: EngineCase) -> None:
        plan = case.plan(case.cells, precision="double")
        expected = wanted
        if not off_levels(case):  # every used cell happened to be stuck, or there is none
            expected = {"folded": "exact", "bitplane-analog": "bitplane"}.get(wanted, wanted)
        assert plan.name == expected
        seen.append(plan.name)
        expected_product = by_reference(case)
        for threads in range(1, min(2, numba.config.NUMBA_NUM_THREADS) + 1):  # type: ignore[attr-defined]
            numba.set_num_threads(threads)
            np.testing.assert_array_equal(plan.multiply(case.codes), expected_product)
        numba.set_num_threads(1)

    check()
    assert seen.count(wanted) >= 5


@pytest.mark.skipif(not kernels.HAS_BYTE_SHUFFLE, reason="table look-up needs AVX2")
@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_bits_are_looked_up_and_counted_to_the_same_sums(encoding: Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []

    @few
    @given(case=engine_cases(encoding=encoding, **WANTED["bitplane"]))
    def check(case: EngineCase) -> None:
        expected = by_reference(case)
        for available in (True, False):
            monkeypatch.setattr(kernels, "HAS_BYTE_SHUFFLE", available)
            plan = case.plan(case.cells)
            assert plan.name == "bitplane"
            if available:
                looked_up.append(plan.kernel == "look-up")
            else:
                assert plan.kernel == "popcount"
            np.testing.assert_array_equal(plan.multiply(case.codes), expected)

    check()
    if encoding.sides == 2:  # single columns carry the g_min currents, which only counting takes
        assert any(looked_up)


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_any_converter_gives_what_the_reference_gives(encoding: Encoding) -> None:
    @settings(deadline=None, max_examples=25)
    @given(case=engine_cases(encoding=encoding, converters=("lossless", "full", "clipping")))
    def check(case: EngineCase) -> None:
        plan = case.plan(case.cells, precision="double")
        event(plan.name)
        assert plan.name in ("exact", "tiled", "bitplane", "bitplane-analog")
        np.testing.assert_array_equal(plan.multiply(case.codes), by_reference(case))

    check()


def fixed_layer(
    encoding: Encoding | None = None,
    *,
    shape: tuple[int, int] = (150, 12),
    seed: int = 5,
    signed: bool = True,
    rows: int = 64,
    columns: int = 33,
    cell_bits: int = 2,
    **periphery: Any,
) -> tuple[TiledLayer, Array]:
    """A layer on several tiles in both directions, and a few vectors of codes."""
    mapping = Mapping(
        encoding=encoding or TwoColumn(),
        rows=rows,
        columns=columns,
        weight_bits=5,
        cell_bits=cell_bits,
        pack="block",
    )
    design = Design(cell=ENGINE_CELL, mapping=mapping, periphery=Periphery(**periphery))
    rng = np.random.default_rng(seed)
    weights = rng.integers(-mapping.max_weight, mapping.max_weight, size=shape, endpoint=True)
    weights[rng.random(shape) < 0.4] = 0
    layer = TiledLayer.of(map_matrix(weights, mapping), design, signed=signed, rows=rows)
    drive = layer.drive
    codes = rng.integers(drive.min_input, drive.max_input, size=(3, 5, shape[0]), endpoint=True).astype(np.int32)
    return layer, codes


def stick(mapped: MappedMatrix, rate: float = 0.1, seed: int = 6) -> Array:
    """The cells of a die with faults."""
    faults, rng = StuckFaults(on=rate, off=rate), np.random.default_rng(seed)
    return program(mapped.levels, ENGINE_CELL, mapped.mapping.cell_bits, rng, faults=faults)


def test_many_vectors_are_worked_on_in_blocks() -> None:
    layer, _ = fixed_layer(shape=(9, 3), rows=5, adc_bits=3, adc_range=9.0, input_bits=4)
    codes = np.random.default_rng(0).integers(-7, 8, size=(3, 1500, 9)).astype(np.int32)
    for cells in (layer.mapped.levels.astype(np.float32), stick(layer.mapped) + np.float32(0.125)):
        answer = layer.plan(cells, precision="double").multiply(codes)
        expected = layer.product(codes.reshape(-1, 9), cells).reshape(answer.shape)
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("dac_bits", [1, 8])
@pytest.mark.parametrize("value", [-1.0, 4.0, 7.0, 300.0])
@pytest.mark.parametrize("subtraction", ["analog", "digital"])
def test_whole_conductances_beyond_the_levels(subtraction: str, value: float, dac_bits: int) -> None:
    """A cell stuck at a conductance of its own can be below level 0 or above M, and yet on a whole one."""
    layer, codes = fixed_layer(adc_bits=6, adc_range="full", dac_bits=dac_bits, subtraction=subtraction)
    cells = layer.mapped.levels.astype(np.float32)
    cells[:, ::7, ::3] = value
    answer = layer.plan(cells).multiply(codes)
    expected = layer.product(codes.reshape(15, -1), cells).reshape(answer.shape)
    np.testing.assert_array_equal(answer, expected)


def test_what_unused_cells_hold_matters_to_nobody() -> None:
    converters: tuple[dict[str, Any], ...] = ({}, {"adc_bits": 4, "adc_range": "full"})
    for encoding, converter in product(ALL_ENCODINGS, converters):
        layer, codes = fixed_layer(encoding, **converter)
        assert not layer.mapped.used.all()
        cells = stick(layer.mapped)
        other = np.where(layer.mapped.used, cells, np.float32(2.4))
        first, second = layer.plan(cells), layer.plan(other)
        assert first.name == second.name
        np.testing.assert_array_equal(first.multiply(codes), second.multiply(codes))


def test_a_matrix_of_zeros_needs_no_tile() -> None:
    mapping = Mapping(rows=4, columns=8, weight_bits=4, cell_bits=4)
    mapped = map_matrix(np.zeros((5, 3), dtype=int), mapping)
    assert mapped.tiles == 0
    for periphery in (
        Periphery(),
        Periphery(adc_bits=4, adc_range=3.0),
        Periphery(adc_bits=4, adc_range=300.0),
    ):
        design = Design(cell=ENGINE_CELL, mapping=mapping, periphery=periphery)
        layer = TiledLayer.of(mapped, design, signed=False, rows=4)
        answer = layer.plan(mapped.levels.astype(np.float32)).multiply(np.ones((2, 1, 5), np.int32))
        assert answer.tolist() == np.zeros((2, 1, 3)).tolist()


def largest_sum(layer: TiledLayer, cells: Array) -> float:
    """Bound of any output's sum of magnitudes."""
    return (
        float(np.abs(layer.mapped.decode(cells.astype(np.float64))).sum(axis=0).max(initial=0.0))
        * layer.drive.max_input
    )


@few
@given(case=engine_cases(converters=("none",), on_levels=False))
def test_single_precision_moves_folded_sums_by_little(case: EngineCase) -> None:
    plan = case.plan(case.cells)
    tolerance = 1e-6 * max(1.0, largest_sum(case, case.cells))
    np.testing.assert_allclose(plan.multiply(case.codes), by_reference(case), rtol=0, atol=tolerance)


@few
@given(case=engine_cases(converters=("coarse", "full"), planes="one", on_levels=False))
def test_single_precision_moves_a_code_by_a_step_at_most(case: EngineCase) -> None:
    """By hand: an output is a sum of codes times slice weights; one step of every code bounds the change."""
    plan = case.plan(case.cells)
    assert plan.name == "tiled" or not off_levels(case)
    weights = case.design.mapping.encoding.slice_weights(case.design.mapping.weight_bits, case.design.mapping.cell_bits)
    reads = case.mapped.tiles * case.drive.row_group_count(case.mapped.mapping.rows) * case.drive.passes
    codes_added = reads * (case.mapped.mapping.sides + 1)
    moved = np.abs(plan.multiply(case.codes) - by_reference(case))
    assert moved.max() <= codes_added * weights.sum() * (case.converter.step or 1.0) * 1.001
    assert (moved > 1e-6 * max(1.0, largest_sum(case, case.cells))).mean() <= 0.1


@pytest.mark.parametrize(("weight_bits", "input_bits"), [(9, 8), (10, 8), (16, 8), (16, 16)])
def test_integer_sums_beyond_what_float32_holds(weight_bits: int, input_bits: int) -> None:
    """Around and far beyond 2^24: sums that are exact only in float64, over more rows than one chunk."""
    mapping = Mapping(rows=512, columns=128, weight_bits=weight_bits, cell_bits=4)
    drive = Drive(signed=False, input_bits=input_bits, dac_bits=1)
    rng = np.random.default_rng(8)
    weights = mapping.max_weight - rng.integers(0, 3, size=(700, 5))
    codes = drive.max_input - rng.integers(0, 3, size=(2, 9, 700))
    mapped = map_matrix(weights, mapping)
    layer = TiledLayer(Reading.of(mapped, "analog"), drive, Converter())
    answer = layer.plan(mapped.levels.astype(np.float32)).multiply(codes.astype(np.int32))
    np.testing.assert_array_equal(answer, codes @ weights)


# --- ideal and lossless is the integer product


@settings(deadline=None, max_examples=150)
@given(data=st.data(), encoding=encodings())
def test_ideal_and_lossless_is_the_integer_product(data: st.DataObject, encoding: Encoding) -> None:
    case = data.draw(engine_cases(encoding=encoding, converters=("none", "lossless"), on_levels=True))
    levels = case.mapped.levels.astype(np.float32)
    ideal = replace(case, cells=levels)
    expected = case.codes.astype(np.int64) @ case.mapped.codes().astype(np.int64)
    plan = case.plan(levels)
    assert plan.name == "exact"
    np.testing.assert_array_equal(plan.multiply(case.codes), expected)
    np.testing.assert_array_equal(by_reference(ideal), expected)


@pytest.mark.parametrize("subtraction", ["analog", "digital"])
@pytest.mark.parametrize("signed_inputs", ["two_pass", "offset"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_lossless_converters_hold_the_largest_sums(subtraction: Any, signed_inputs: Any, sign: int) -> None:
    mapping = Mapping(encoding=Differential(), rows=64, columns=16, weight_bits=9, cell_bits=4)
    periphery = Periphery(
        input_bits=9, dac_bits=2, adc_range="lossless", subtraction=subtraction, signed_inputs=signed_inputs
    )
    design = Design(cell=ENGINE_CELL, mapping=mapping, periphery=periphery)
    weights = np.full((64, 3), sign * mapping.max_weight)
    mapped = map_matrix(weights, mapping)
    layer = TiledLayer.of(mapped, design, signed=True, rows=64)
    codes = np.stack([np.full((1, 64), layer.drive.max_input), np.full((1, 64), -layer.drive.max_input)])
    np.testing.assert_array_equal(
        layer.product(codes.reshape(2, 64), mapped.levels).reshape(2, 1, 3),
        codes @ weights,
    )
    plan = layer.plan(mapped.levels)
    assert plan.name == "exact"
    # a code fewer on either side, and the largest sum does not fit any more
    short = replace(layer.converter, high=layer.converter.high - 1, low=min(layer.converter.low + 1, 0))
    assert replace(layer, converter=short).plan(mapped.levels).name == "bitplane"


# --- which plan, and why


def chosen(layer: TiledLayer, *, whole: bool, noisy: bool) -> tuple[type[Plan], str]:
    """The plan of a die without faults, and why."""
    return choose_plan(layer.reading, layer.mapped.levels, layer.drive, layer.converter, whole=whole, noisy=noisy)


HELD = {False: "conductances off the levels", True: "cells on whole levels"}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize(
    ("encoding", "periphery", "plans", "because"),
    [
        # plans by (whole, noisy): (T, F), (F, F), (T, T), (F, T)
        (TwoColumn(), {}, ("exact", "folded", "folded", "folded"), "no converter"),
        (Offset(), {}, ("exact", "folded", "bitplane-analog", "bitplane-analog"), "no converter"),
        (
            TwoColumn(),
            {"adc_range": "lossless"},
            ("exact", "bitplane-analog", "bitplane-analog", "bitplane-analog"),
            "-bit converter",
        ),
        (TwoColumn(), {"adc_bits": 4, "adc_range": "full", "dac_bits": 8}, ("tiled",) * 4, "one plane"),
        (
            Offset(),
            {"adc_bits": 4, "adc_range": "full"},
            ("bitplane", "bitplane-analog", "bitplane-analog", "bitplane-analog"),
            "8 planes",
        ),
    ],
)
def test_which_plan_and_why(
    encoding: Encoding,
    periphery: dict[str, Any],
    plans: tuple[str, ...],
    because: str,
    noisy: bool,
    whole: bool,
) -> None:
    layer, _ = fixed_layer(encoding, signed=False, **periphery)
    wanted = plans[2 * noisy + (not whole)]
    kind, reason = chosen(layer, whole=whole, noisy=noisy)
    assert kind.name == wanted
    assert HELD[whole] in reason
    assert ("read noise" in reason) == noisy
    assert because in reason
    cells = layer.mapped.levels.astype(np.float32) + np.float32(0 if whole else 0.25)
    noise = Noise(spread=np.full(cells.shape, 0.1, np.float32), key=1) if noisy else None
    plan = layer.plan(cells, noise)
    assert isinstance(plan, Plan)
    assert (plan.name, plan.reason) == (wanted, reason)


def test_reasons_name_bits_and_planes() -> None:
    layer, _ = fixed_layer(adc_bits=5, adc_range="full", dac_bits=3, input_bits=8, signed=False)
    _, reason = chosen(layer, whole=True, noisy=False)
    assert "5-bit" in reason
    assert "3 planes" in reason
    layer, _ = fixed_layer(Offset(), signed=False)
    _, reason = chosen(layer, whole=True, noisy=True)
    assert "reference column" in reason


def test_a_stuck_cell_costs_the_proof_that_no_converter_errs() -> None:
    """15 levels of one row fit a converter with codes to 15; a cell stuck on in an empty row does not."""
    mapping = Mapping(encoding=TwoColumn(), rows=4, columns=2, weight_bits=5, cell_bits=4, pack="none")
    mapped = map_matrix(np.array([[15], [0], [0], [0]]), mapping)
    drive = Drive(signed=False, input_bits=8, dac_bits=1)
    layer = TiledLayer(Reading.of(mapped, "analog"), drive, Converter(step=1.0, low=-15, high=15))
    cells = mapped.levels.astype(np.float32)
    assert layer.plan(cells).name == "exact"
    cells[0, 1, 0] = 15
    plan = layer.plan(cells)
    assert plan.name == "bitplane"
    codes = np.full((1, 1, 4), 255, np.int32)
    assert plan.multiply(codes).item() == 255 * 15  # clipped from 30 in every plane


@settings(deadline=None, max_examples=40)
@given(case=engine_cases(converters=("none",), on_levels=True))
def test_the_largest_conversion_is_what_a_calibrated_range_needs(case: EngineCase) -> None:
    """A converter that ends at the largest conversion never clips, and one that ends a unit below does."""
    mapped = case.mapped
    cells = mapped.levels.astype(np.float64)
    span = largest_conversion(case.reading, case.drive, case.vectors, offset_levels=case.converter.offset_levels)
    largest = 0.0
    for x in case.vectors.astype(np.int64):
        passes = [x]
        if case.drive.signed:
            two_pass = case.drive.signed_inputs == "two_pass"
            passes = [np.maximum(x, 0), np.maximum(-x, 0)] if two_pass else [x + 2 ** (case.drive.input_bits - 1)]
        rows = mapped.mapping.rows
        together = case.drive.active_rows or rows
        reads = product(passes, range(case.drive.planes), range(mapped.tiles), range(0, rows, together))
        for driven, plane, tile, first in reads:
            code = (driven >> (plane * case.drive.dac_bits)) & case.drive.max_plane
            active = (np.arange(rows) >= first) & (np.arange(rows) < first + together)
            held = np.where(active & (mapped.tile_rows[tile] >= 0), code[mapped.tile_rows[tile]], 0)
            sums = held @ cells[tile]
            if case.reading.paired:
                pairs = sums.size // 2
                sums = np.abs(sums[: 2 * pairs : 2] - sums[1 : 2 * pairs : 2])
            else:
                sums = sums + case.converter.offset_levels * held.sum()
            largest = max(largest, float(sums.max(initial=0.0)))
    assert span == pytest.approx(largest, rel=1e-12)


# --- read noise


def spreads(shape: tuple[int, ...], seed: int) -> Array:
    """Standard deviations whose squares are exact on any grid: no rounding decides a converter's code."""
    return (np.random.default_rng(seed).integers(0, 60, size=shape) * 2.0**-8).astype(np.float32)


def draws(plan: Plan, case_codes: Array, layer: TiledLayer, noise: Noise, first: int = 0) -> Array:
    """The plan's own normals as the reference wants them."""
    reads = layer.mapped.mapping.columns // 2 if layer.reading.paired else layer.mapped.mapping.columns
    images, positions, _ = case_codes.shape
    reads *= layer.drive.row_group_count(layer.mapped.mapping.rows)
    shape = (positions, layer.drive.passes, layer.drive.planes, layer.mapped.tiles, reads)
    return np.concatenate([noise.normals(first + image, shape) for image in range(images)])


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
@pytest.mark.parametrize("wanted", ["tiled", "bitplane-analog"])
def test_noisy_reads_equal_the_reference_with_the_same_normals(wanted: str, encoding: Encoding) -> None:
    planes = "one" if wanted == "tiled" else "several"
    converters = ("coarse", "full", "clipping", "lossless")

    @few
    @given(case=engine_cases(encoding=encoding, converters=converters, planes=planes), seed=st.integers(0, 99))
    def check(case: EngineCase, seed: int) -> None:
        noise = Noise(spread=spreads(case.cells.shape, seed), key=seed)
        plan = case.plan(case.cells, noise, precision="double")
        assert plan.name == ("tiled" if case.drive.planes == 1 else "bitplane-analog")
        assert (planes == "one") == (plan.name == "tiled")
        normals = draws(plan, case.codes, case, noise)
        expected = by_reference(case, noise, normals)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(plan.multiply(case.codes), expected, rtol=0, atol=1e-6 * scale)

    check()


@settings(deadline=None, max_examples=25)
@given(case=engine_cases(encoding=Offset(), converters=("none",)), seed=st.integers(0, 99))
def test_noisy_ideal_reads_with_a_reference_column(case: EngineCase, seed: int) -> None:
    noise = Noise(spread=spreads(case.cells.shape, seed), key=seed)
    plan = case.plan(case.cells, noise, precision="double")
    event(plan.name)
    assert plan.name == ("tiled" if case.drive.planes == 1 else "bitplane-analog")
    expected = by_reference(case, noise, draws(plan, case.codes, case, noise))
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(plan.multiply(case.codes), expected, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("encoding", [TwoColumn(), Offset()], ids=repr)
def test_the_smallest_noise_is_not_rounded_away(encoding: Encoding) -> None:
    """A spread of 1e-4 level steps is little, and yet the answer's only error without a converter."""
    layer, codes = fixed_layer(encoding, shape=(40, 6), rows=16, signed=False)
    cells = layer.mapped.levels.astype(np.float32)
    noise = Noise(spread=np.full(cells.shape, 1e-4, np.float32), key=3)
    plan = layer.plan(cells, noise)
    error = plan.multiply(codes) - codes.astype(np.int64) @ layer.mapped.codes()
    variance = exact_variance(codes.reshape(15, -1), layer, noise.spread)
    if layer.mapped.mapping.has_reference:  # shared by a tile's outputs: at least as much again
        assert float((error.reshape(15, -1) ** 2 / variance).mean()) > 0.5
    else:
        check_normals(error.reshape(15, -1) / np.sqrt(variance))


def exact_variance(codes: Array, layer: TiledLayer, spread: Array) -> Array:
    """Variance of every output by the definition: the sum of (plane weight, slice weight, x, sigma)^2."""
    weights = layer.mapped.mapping.encoding.slice_weights(
        layer.mapped.mapping.weight_bits, layer.mapped.mapping.cell_bits
    )
    sigmas = np.zeros(layer.mapped.shape)  # sum of (slice weight x sigma)^2 over the cells of each weight
    for row, output in product(range(layer.mapped.shape[0]), range(layer.mapped.shape[1])):
        held = layer.mapped.cells_of(row, output)
        sigma = spread[held.tile, held.row, held.column].astype(np.float64)
        sigmas[row, output] = (weights[held.slice].astype(float) ** 2 * sigma**2).sum()
    result = np.zeros((len(codes), layer.mapped.shape[1]))
    for v, x in enumerate(codes.astype(np.int64)):
        driven = x + 2 ** (layer.drive.input_bits - 1)
        if not layer.drive.signed:
            passes = [x]
        elif layer.drive.signed_inputs == "two_pass":
            passes = [np.maximum(x, 0), np.maximum(-x, 0)]
        else:
            passes = [driven]
        squares = np.zeros(len(x))
        for one, plane in product(passes, range(layer.drive.planes)):
            shift = plane * layer.drive.dac_bits
            squares += 4.0**shift * ((one >> shift) & layer.drive.max_plane) ** 2.0
        result[v] = squares @ sigmas
    return result


ALARM = 1e-6  # two-sided false-alarm rate of each chi-square test below; seeds are fixed, so they pass for ever


def check_normals(z: Array) -> None:
    """Accept independent standard normals; false-alarm rate `ALARM` for each of spread, mean, correlation."""
    low, high = stats.chi2.ppf([ALARM / 2, 1 - ALARM / 2], z.size)
    assert low < float((z**2).sum()) < high
    bound = stats.norm.isf(ALARM / 2)
    assert abs(float(z.sum())) < bound * math.sqrt(z.size)
    products = (z[:, 1:] * z[:, :-1]).ravel()  # outputs side by side are independent
    assert abs(float(products.sum())) < bound * math.sqrt(products.size)


@pytest.mark.parametrize("signed", [None, "two_pass", "offset"])
@pytest.mark.parametrize("encoding", [TwoColumn(), Differential(), Offset(reference="digital")], ids=repr)
def test_folded_noise_has_the_exact_distribution(encoding: Encoding, signed: str | None) -> None:
    extra: dict[str, Any] = {} if signed is None else {"signed_inputs": signed}
    layer, codes = fixed_layer(
        encoding, shape=(40, 6), rows=16, signed=signed is not None, input_bits=6, dac_bits=2, **extra
    )
    spread = np.random.default_rng(1).uniform(0.01, 0.3, layer.mapped.levels.shape).astype(np.float32)
    cells, noise = stick(layer.mapped), Noise(spread=spread, key=12345)
    vector = codes[0, :1]
    variance = exact_variance(vector, layer, spread)
    quiet = layer.plan(cells, precision="double").multiply(vector[None])[0]
    plan = layer.plan(cells, noise)
    assert plan.name == "folded"
    many = plan.multiply(np.broadcast_to(vector, (4, 250, vector.shape[1])).copy()).reshape(1000, -1)
    check_normals((many - quiet) / np.sqrt(variance))
    # the reference engine, drawing every read, has the same variance
    shape = (1000, layer.drive.passes, layer.drive.planes, layer.mapped.tiles)
    reads = layer.mapped.mapping.columns // 2 if layer.reading.paired else layer.mapped.mapping.columns
    normals = np.random.default_rng(7).standard_normal((*shape, reads))
    drawn = layer.product(
        np.broadcast_to(vector, (1000, vector.shape[1])),
        cells,
        noise_spread=spread,
        normals=normals,
    )
    check_normals((drawn - quiet) / np.sqrt(variance))


def noisy_plans() -> list[tuple[Plan, Array]]:
    """One plan of each kind that reads noise, with inputs."""
    found: list[tuple[Plan, Array]] = []
    kinds: tuple[tuple[str, Encoding, dict[str, Any]], ...] = (
        ("folded", TwoColumn(), {}),
        ("tiled", TwoColumn(), {"adc_bits": 6, "adc_range": "full", "dac_bits": 8}),
        ("bitplane-analog", Offset(), {"adc_bits": 6, "adc_range": "full", "dac_bits": 2}),
    )
    for wanted, encoding, periphery in kinds:
        layer, codes = fixed_layer(encoding, **periphery)
        cells = stick(layer.mapped)
        plan = layer.plan(cells, Noise(spread=spreads(cells.shape, 3), key=99))
        assert plan.name == wanted
        found.append((plan, codes))
    return found


def test_noise_is_drawn_by_image_number() -> None:
    for plan, codes in noisy_plans():
        whole = plan.multiply(codes)
        np.testing.assert_array_equal(plan.multiply(codes), whole)
        np.testing.assert_array_equal(plan.multiply(codes[1:], first_image=1), whole[1:])
        same = plan.multiply(np.stack([codes[0], codes[0]]))
        assert (same[0] != same[1]).any()
        assert (plan.multiply(codes, first_image=3) != whole).any()


def test_noise_streams_of_two_keys_are_different() -> None:
    first, second = (Noise(spread=np.zeros(1), key=key).normals(0, (50,)) for key in (1, 2))
    assert not np.isin(first, second).any()


def test_spread_of_zero_is_no_noise() -> None:
    for encoding in ALL_ENCODINGS:
        layer, codes = fixed_layer(encoding, adc_bits=5, adc_range="full")
        cells = stick(layer.mapped)
        noise = Noise(spread=np.zeros(cells.shape, np.float32), key=0)
        np.testing.assert_array_equal(
            layer.plan(cells, noise).multiply(codes),
            layer.plan(cells, precision="double").multiply(codes),
        )


@relaxed
@given(
    scale=st.floats(1e-30, 1e30),
    bits=st.integers(1, 16),
    signed=st.booleans(),
    near=st.integers(-40, 40),
    where=st.sampled_from(["low", "high"]),
)
def test_bounds_of_clipping_are_exact(scale: float, bits: int, signed: bool, near: int, where: str) -> None:
    """Just at the bounds, float by float, an activation counts as clipped exactly if its code was cut."""
    high = max(1, 2 ** (bits - 1) - 1) if signed else 2**bits - 1
    low = -high if signed else 0
    inverse = 1.0 / scale
    below, above = clipping_bounds(inverse, low, high)
    value = np.float32(above if where == "high" else below)
    for _ in range(abs(near)):
        value = np.nextafter(value, np.float32(np.inf if near > 0 else -np.inf))
    if not np.isfinite(value):
        return
    position = np.floor(np.float64(value) * inverse + 0.5)
    values = np.array([value, 0.0], np.float32)
    assert count_clipped(values, below, above) == int(position < low or position > high)
