"""Converters and drivers that err: by hand, in exact arithmetic, by their distributions, and in every plan."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.strategies import ALL_ENCODINGS, EngineCase, engine_cases
from xbarsim.design import (
    AdcErrors,
    Converter,
    ConverterErrors,
    DacErrors,
    Design,
    Drive,
    Periphery,
    successive_approximation,
)
from xbarsim.devices import GRID, Cell, FaultMap
from xbarsim.die import Converters, Drivers, Silicon, fold_errors
from xbarsim.engine import Noise, make_plan, reference_multiply
from xbarsim.engine.reference import convert
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Encoding, MappedMatrix, Mapping, Offset, Reading, TwoColumn, map_matrix

Array = npt.NDArray[Any]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small layers: starting threads would take most of the time."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


# --- a converter, bit by bit


@pytest.mark.parametrize("bits", range(1, 11))
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("step", [1.0, 1.7, 4.0])
def test_binary_weights_are_the_ideal_converter(step: float, signed: bool, bits: int) -> None:
    """Every code, its edges (halves go up), between them, and beyond both ends."""
    low = -(2 ** (bits - 1)) if signed else 0
    high = low + 2**bits - 1
    converter = Converter(step=step, low=low, high=high)
    values = np.arange(8 * (low - 3), 8 * (high + 4)) / 8 * step
    weights = np.broadcast_to(2.0 ** np.arange(bits), (len(values), bits))
    found = convert(values, converter, weights)
    np.testing.assert_array_equal(found, convert(values, converter))
    assert set(found) == set(range(low, high + 1))
    if step != 1.7:  # binary: by exact arithmetic
        expected = [min(max(math.floor(Fraction(v) / Fraction(step) + Fraction(1, 2)), low), high) for v in values]
        assert found.tolist() == expected


# Weights 1.25, 2.25 and 3.5 of an input in codes, half a code added: (1.25 + 2.25) reaches the highest bit's 3.5, so
# that code 3 = 0b011 never appears: from there on the highest bit is kept.
WEIGHTS = np.array([1.25, 2.25, 3.5])
EDGES = {0: 0.0, 1: 1.25, 2: 2.25, 4: 3.5, 5: 4.75, 6: 5.75, 7: 7.0}  # lowest input of each code


def test_a_three_bit_converter_of_wrong_weights_misses_a_code() -> None:
    positions = np.arange(-16, 80) / 8
    found = successive_approximation(positions, np.broadcast_to(WEIGHTS, (96, 3)))
    expected = [max((code for code, edge in EDGES.items() if position >= edge), default=0) for position in positions]
    assert found.tolist() == expected
    assert 3 not in found
    # each converter by its own weights
    ideal = np.array([1.0, 2.0, 4.0])
    both = successive_approximation(np.array([3.9, 3.9]), np.stack([WEIGHTS, ideal]))
    assert both.tolist() == [4.0, 3.0]
    # a heavy highest bit: no code 4 to 5 before the input reaches 4.6, and 3 lasts from 2.4 on
    heavy = np.broadcast_to([0.9, 1.5, 4.6], (4, 3))
    assert successive_approximation(np.array([2.39, 2.41, 4.5, 4.61]), heavy).tolist() == [2.0, 3.0, 3.0, 4.0]


@pytest.mark.parametrize("low", [0, -4])
def test_conversion_with_wrong_weights(low: int) -> None:
    """Value 3 lies 3.5 above the lowest code with the half: code 4, though the ideal one is 3."""
    converter = Converter(step=2.0, low=low, high=low + 7)
    values = (np.array([0.0, 0.74, 0.75, 1.75, 2.9, 3.0, 5.0, 6.5, 99.0, -99.0]) + low) * 2.0
    found = convert(values, converter, np.broadcast_to(WEIGHTS, (10, 3)))
    assert (found - low).tolist() == [0, 0, 1, 2, 2, 4, 5, 7, 7, 0]


# --- weights as they are drawn

ALARM = 1e-6  # two-sided false-alarm rate of each statistical test below; seeds are fixed, so they pass for ever


def check_normals(z: Array) -> None:
    """Accept independent standard normals: spread by chi-squared, and mean."""
    low, high = stats.chi2.ppf([ALARM / 2, 1 - ALARM / 2], z.size)
    assert low < float((z**2).sum()) < high
    assert abs(float(z.sum())) < stats.norm.isf(ALARM / 2) * math.sqrt(z.size)


def check_count(count: int, trials: int, rate: float) -> None:
    """Accept a count inside the exact bounds of the binomial law."""
    low, high = stats.binom.ppf([ALARM / 2, 1 - ALARM / 2], trials, rate)
    assert low <= count <= high


def test_weights_have_the_spread_of_their_unit_capacitors() -> None:
    """Bit i has 2^i units: to first order a variance of 2^i (1 - 2^i / (2^bits - 1)) once the sum is held."""
    bits, count, mismatch = 6, 4000, 1e-4
    drawn = AdcErrors(capacitor_mismatch=mismatch).weights(bits, (count,), np.random.default_rng(3))
    assert drawn.shape == (count, bits)
    np.testing.assert_allclose(drawn.sum(axis=1), 2.0**bits - 1, rtol=1e-14)
    for bit in range(bits):
        spread = mismatch * math.sqrt(2**bit * (1 - 2**bit / (2**bits - 1)))
        check_normals((drawn[:, bit] - 2.0**bit) / spread)


def test_weights_of_a_hopeless_process_are_numbers() -> None:
    drawn = AdcErrors(capacitor_mismatch=50.0).weights(4, (3, 200), np.random.default_rng(0))
    assert drawn.shape == (3, 200, 4)
    assert (drawn >= 0.0).all()
    totals = drawn.sum(axis=-1)
    assert (np.isclose(totals, 15.0) | (totals == 0.0)).all()
    assert (totals == 0.0).any()  # 1 in 16: no capacitor left


def test_without_mismatch_weights_are_binary() -> None:
    drawn = AdcErrors().weights(8, (5,), np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, np.broadcast_to(2.0 ** np.arange(8), (5, 8)))


# --- one die's drivers and converters, in exact arithmetic: all numbers are small binary fractions


class Patterned(np.random.Generator):
    """Draws to work with on paper: by their place in the array alone, in whatever order they are asked for."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    @staticmethod
    def deviation(place: int) -> float:
        return (place * 7 % 5 - 2) / 4

    @staticmethod
    def share(place: int) -> float:
        return (place * 3 % 8) / 8 + 1 / 16

    def standard_normal(self, size: Any = None, *args: Any, **others: Any) -> Any:
        return np.array([self.deviation(k) for k in range(math.prod(size))]).reshape(size)

    def random(self, size: Any = None, *args: Any, **others: Any) -> Any:
        return np.array([self.share(k) for k in range(math.prod(size))]).reshape(size)


def by_hand(
    x: list[int], mapped: MappedMatrix, design: Design, drive: Drive, converter: Converter, slices: list[int]
) -> tuple[list[float], int]:
    """One vector through drivers and converters that err, read by read, column by column.

    Also how many reads a dead converter took.
    """
    mapping, adc, dac = mapped.mapping, design.periphery.adc_errors, design.periphery.dac_errors
    offset = converter.offset_levels
    analog, shared = design.subtraction == "analog", design.periphery.columns_sharing_errors
    reads = mapping.columns // 2 if analog else mapping.columns
    converters = math.ceil(reads / shared)
    answer, dead = [0.0] * mapped.shape[1], 0
    deviation, share = Patterned.deviation, Patterned.share
    together = drive.active_rows or mapping.rows
    passes = [(1, [max(v, 0) for v in x]), (-1, [max(-v, 0) for v in x])] if drive.signed else [(1, x)]
    loops = product(passes, range(drive.planes), range(mapped.tiles), range(0, mapping.rows, together))
    for (sign, driven), plane, tile, first in loops:
        rows = [k for k in range(first, min(first + together, mapping.rows)) if mapped.tile_rows[tile, k] >= 0]
        if not rows:
            continue
        weight = sign * 2 ** (plane * drive.dac_bits)
        code = {k: (driven[mapped.tile_rows[tile, k]] >> (plane * drive.dac_bits)) & drive.max_plane for k in rows}
        voltage = {}
        for k in rows:
            place = tile * mapping.rows + k
            voltage[k] = code[k]
            if dac is not None:
                gain = 1 + dac.gain * deviation(place)
                voltage[k] = gain * (code[k] + dac.offset * deviation(place)) if share(place) >= dac.dead else 0.0
        baseline = offset * sum(code.values())

        def current(column: int, tile: int = tile, voltage: dict[int, float] = voltage) -> float:
            return sum(volts * (int(mapped.levels[tile, k, column]) + offset) for k, volts in voltage.items())

        def converted(read: int, value: float, tile: int = tile) -> tuple[float, bool]:
            if converter.step is None:
                return value, False
            place = tile * converters + read // shared
            position, alive = value / converter.step, True
            if adc is not None:
                alive = share(place) >= adc.dead
                gain = 1 + adc.gain * deviation(place)
                position = gain * position + adc.offset * deviation(place) if alive else 0.0
            return min(max(math.floor(position + 0.5), converter.low), converter.high), not alive

        codes = []
        for read in range(reads):
            if analog:
                value, lost = converted(read, current(2 * read) - current(2 * read + 1))
            else:
                value, lost = converted(read, current(read))
                value -= baseline if converter.step is None else math.floor(baseline / converter.step + 0.5)
            dead += lost
            codes.append(value * (1.0 if converter.step is None else converter.step))
        for position, output in enumerate(mapped.tile_outputs[tile]):
            if output < 0:
                continue
            for s, slice_weight in enumerate(slices):
                place = position * len(slices) + s
                single = analog or mapping.sides == 1
                read_code = codes[place] if single else codes[2 * place] - codes[2 * place + 1]
                answer[output] += weight * slice_weight * read_code
            if mapping.has_reference:
                answer[output] -= weight * slices[-1] * codes[-1]
            elif mapping.sides == 1:
                answer[output] -= weight * 2 ** (mapping.weight_bits - 1) * sum(code.values())
    return answer, dead


# g_min is a quarter of a level step: everything below is a binary fraction.
QUARTER = Cell(g_min=1.0, g_max=13.0, levels=4, implausible=True)


def small_layer(
    encoding: Encoding, signed: bool = True, *, shape: tuple[int, int] = (11, 5), **periphery: Any
) -> tuple[Design, Reading, Drive, Converter, Array]:
    """A layer on several small tiles, the last of them with rows left over; and inputs."""
    mapping = Mapping(encoding=encoding, rows=4, columns=13, weight_bits=4, cell_bits=2, pack="matrix")
    design = Design(cell=QUARTER, mapping=mapping, periphery=Periphery(input_bits=4, **periphery))
    drive, converter = design.drive(signed=signed), design.converter(rows=4)
    rng = np.random.default_rng(11)
    weights = rng.integers(-mapping.max_weight, mapping.max_weight, size=shape, endpoint=True)
    x = rng.integers(drive.min_input, drive.max_input, (6, 11), endpoint=True)
    return design, design.reading(map_matrix(weights, mapping)), drive, converter, x


def with_errors(
    cells: Array,
    reading: Reading,
    design: Design,
    drive: Drive,
    converter: Converter,
    drivers: np.random.Generator,
    converters: np.random.Generator,
) -> tuple[Array, ConverterErrors]:
    """The cells of a layer with drivers and converters drawn from two sources folded in, and the rest."""
    periphery, tiles = design.periphery, len(cells)
    count = math.ceil(reading.reads / periphery.columns_sharing_errors)
    dac, adc = periphery.dac_errors, periphery.adc_errors
    silicon = Silicon(
        faults=FaultMap.empty(cells.shape),
        drivers=None if dac is None else Drivers.draw(dac, tiles, cells.shape[1], drivers),
        converters=None if adc is None else Converters.draw(adc, converter, tiles, count, converters),
    )
    return fold_errors(cells, reading, design, drive, silicon)


CONVERTER: dict[str, Any] = {"adc_bits": 5, "adc_range": 15.0 * 4}  # step 4 after analog subtraction
DIGITAL: dict[str, Any] = {"adc_bits": 5, "adc_range": 31.0 * 2, "subtraction": "digital"}  # step 2
ERRORS: dict[str, dict[str, Any]] = {
    "driver gain": {"dac_errors": DacErrors(gain=0.5)},
    "driver offset": {"dac_errors": DacErrors(offset=0.25)},
    "dead drivers": {"dac_errors": DacErrors(dead=0.25)},
    "converter gain": {"adc_errors": AdcErrors(gain=0.25)},
    "converter offset": {"adc_errors": AdcErrors(offset=2.0)},
    "dead converters": {"adc_errors": AdcErrors(dead=0.25)},
    "all": {
        "dac_errors": DacErrors(gain=0.5, offset=0.25, dead=0.125),
        "adc_errors": AdcErrors(gain=0.25, offset=1.5, dead=0.125),
        "columns_per_adc": 3,
    },
}


@pytest.mark.parametrize("active_rows", [None, 3])
@pytest.mark.parametrize("errors", ERRORS)
@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_drivers_and_converters_by_hand(encoding: Encoding, errors: str, active_rows: int | None) -> None:
    """The folded cells and offsets, in reference and plan, give what every driver and converter does on its own."""
    kinds = [DIGITAL] if encoding.sides == 1 else [DIGITAL, CONVERTER]
    if "adc_errors" not in ERRORS[errors]:
        kinds.append({})  # drivers can err in front of an ideal read-out too
    for kind, dac_bits in product(kinds, (1, 3)):
        design, reading, drive, converter, x = small_layer(
            encoding, active_rows=active_rows, dac_bits=dac_bits, **kind, **ERRORS[errors]
        )
        mapped = reading.matrix
        levels = mapped.levels.astype(np.float32)
        cells, found = with_errors(levels, reading, design, drive, converter, Patterned(), Patterned())
        slices = mapped.mapping.encoding.slice_weights(4, 2).tolist()
        worked = [by_hand(vector, mapped, design, drive, converter, slices) for vector in x.tolist()]
        expected = [answer for answer, _ in worked]
        if errors in ("dead converters", "all") and kind:
            assert worked[0][1] > 0
        assert reference_multiply(x, reading, cells, drive, converter, errors=found).tolist() == expected
        plan = make_plan(reading, cells, drive, converter, None, found, precision="double")
        assert plan.multiply(x[None].astype(np.int32))[0].tolist() == expected
        # an offset at an ideal read-out is the same in both passes of signed inputs, and so gone in their difference
        differs = expected != reference_multiply(x, reading, levels, drive, converter).tolist()
        assert differs == (errors != "driver offset" or bool(kind))


def test_an_offset_and_a_gain_worked_out_on_paper() -> None:
    """One row, cells (3, 0): 3 x 5 = 15 steps, in codes of 2; gain 1.25 makes 18.75, an offset of 1.5 codes 10.875."""
    mapping = Mapping(encoding=TwoColumn(), rows=1, columns=2, weight_bits=3, cell_bits=2)
    mapped = map_matrix(np.array([[3]]), mapping)
    reading, drive = Reading.of(mapped, "analog"), Drive(signed=False, input_bits=3, dac_bits=3)
    converter = Converter(offset_levels=0.25, step=2.0, low=-16, high=15)
    gained = mapped.levels + np.array([[[0.25 * 3.25, 0.25 * 0.25]]], dtype=np.float32)
    errors = ConverterErrors(offset=np.array([[3.0]]))
    ideal = reference_multiply(np.array([[5]]), reading, mapped.levels, drive, converter)
    assert ideal.tolist() == [[16.0]]  # 7.5 codes, halves up: 8
    found = reference_multiply(np.array([[5], [0]]), reading, gained, drive, converter, errors=errors)
    assert found.tolist() == [[22.0], [4.0]]  # 10.875 codes: 11; and 1.5 codes at no input: 2


@pytest.mark.parametrize(("subtraction", "reads"), [("analog", 6), ("digital", 13)])
def test_neighbours_share_a_converter_and_its_errors(subtraction: str, reads: int) -> None:
    adc = AdcErrors(gain=0.1, offset=1.0, capacitor_mismatch=0.2, dead=0.2)
    design, reading, drive, converter, _ = small_layer(
        TwoColumn(), adc_bits=5, adc_range=60.0, subtraction=subtraction, columns_per_adc=4, adc_errors=adc
    )
    mapped, sources = reading.matrix, (np.random.default_rng(0), np.random.default_rng(1))
    cells, errors = with_errors(mapped.levels.astype(np.float32), reading, design, drive, converter, *sources)
    assert errors.offset is not None
    assert errors.weights is not None
    assert errors.converter_gain is not None
    sides = 2 if subtraction == "analog" else 1
    assert errors.offset.shape == (mapped.tiles, reads)
    assert errors.weights.shape == (mapped.tiles, reads, 5)
    gains = errors.converter_gain[:, : reads * sides].reshape(mapped.tiles, reads, sides)
    seen = (cells + 0.25) / (mapped.levels + 0.25)  # gain in each cell
    for first in range(0, reads, 4):
        group = slice(first, first + 4)
        assert (errors.offset[:, group] == errors.offset[:, [first]]).all()
        assert (errors.weights[:, group] == errors.weights[:, [first]]).all()
        assert (gains[:, group] == gains[:, [first]][..., :1]).all()
        across = seen[:, :, first * sides : min(first + 4, reads) * sides]
        np.testing.assert_allclose(across, np.broadcast_to(gains[:, None, [first], 0], across.shape), atol=4 * GRID)
    firsts = errors.offset[:, ::4]
    alive = gains[:, ::4, 0] > 0
    assert len(np.unique(firsts[alive])) == np.count_nonzero(alive)  # and converters have errors of their own


def test_dead_converters_give_code_zero_and_dead_drivers_no_current() -> None:
    for encoding in ALL_ENCODINGS:
        design, reading, drive, converter, x = small_layer(
            encoding, **DIGITAL, adc_errors=AdcErrors(dead=1.0, offset=3.0)
        )
        rngs = np.random.default_rng(0), np.random.default_rng(1)
        levels = reading.matrix.levels.astype(np.float32)
        cells, errors = with_errors(levels, reading, design, drive, converter, *rngs)
        np.testing.assert_array_equal(cells, np.full(cells.shape, -0.25))
        assert errors.offset is None  # dead: nothing to offset
        design, reading, drive, converter, x = small_layer(encoding, dac_errors=DacErrors(dead=0.5, offset=0.5))
        mapped = reading.matrix
        cells, errors = with_errors(mapped.levels.astype(np.float32), reading, design, drive, converter, *rngs)
        assert errors.driver_gain is not None
        dead = errors.driver_gain == 0.0
        assert 0 < dead.sum() < dead.size
        assert set(np.unique(errors.driver_gain)) == {0.0, 1.0}
        assert (cells[dead] == -0.25).all()
        np.testing.assert_array_equal(cells[~dead], mapped.levels[~dead])
        # without a driver an input adds nothing to a pair, whatever its code
        if encoding.sides == 2 and dead[0].any():
            row = int(mapped.tile_rows[0][np.flatnonzero(dead[0])[0]])
            other = x.copy()
            other[:, row] = 7 - np.abs(other[:, row])
            held = np.isin(np.arange(mapped.shape[1]), mapped.tile_outputs[0])
            first, second = (
                reference_multiply(codes, reading, cells, drive, converter, errors=errors)[:, held]
                for codes in (x, other)
            )
            np.testing.assert_array_equal(first, second)


def test_ideal_errors_change_nothing() -> None:
    """Errors of zero: the same cells, and nothing left to add."""
    for encoding, kind in product(ALL_ENCODINGS, (DIGITAL, {**DIGITAL, "active_rows": 2})):
        design, reading, drive, converter, _ = small_layer(
            encoding, **kind, adc_errors=AdcErrors(), dac_errors=DacErrors()
        )
        levels = reading.matrix.levels.astype(np.float32)
        sources = np.random.default_rng(0), np.random.default_rng(1)
        cells, errors = with_errors(levels, reading, design, drive, converter, *sources)
        np.testing.assert_array_equal(cells, levels)
        assert not errors.any


# --- how errors are drawn


def many(**periphery: Any) -> tuple[Array, ConverterErrors, MappedMatrix, Converter]:
    """Errors of the drivers and converters of 60 tiles of 16 rows and 24 columns."""
    mapping = Mapping(encoding=TwoColumn(), rows=16, columns=24, weight_bits=3, cell_bits=2, pack="none")
    mapped = map_matrix(np.random.default_rng(0).integers(-3, 4, (16 * 12, 12 * 5)), mapping)
    assert mapped.tiles == 60
    design = Design(cell=QUARTER, mapping=mapping, periphery=Periphery(adc_bits=6, adc_range=31.0 * 4, **periphery))
    reading, drive, converter = design.reading(mapped), design.drive(signed=False), design.converter(rows=16)
    levels, sources = mapped.levels.astype(np.float32), (np.random.default_rng(21), np.random.default_rng(22))
    cells, errors = with_errors(levels, reading, design, drive, converter, *sources)
    return cells, errors, mapped, converter


def test_converters_are_drawn_by_their_laws() -> None:
    _, errors, _, converter = many(adc_errors=AdcErrors(gain=0.05, offset=0.7), columns_per_adc=2)
    assert errors.converter_gain is not None
    assert errors.offset is not None
    gains = errors.converter_gain[:, ::4]  # one of each pair of pairs
    assert gains.size == 360
    check_normals((gains - 1.0) / 0.05)
    assert converter.step == 4.0
    check_normals(errors.offset[:, ::2] / (0.7 * 4.0))
    both = ((gains - 1.0) / 0.05) * (errors.offset[:, ::2] / 2.8)
    assert abs(float(both.sum())) < stats.norm.isf(ALARM / 2) * math.sqrt(both.size)  # independent of each other
    _, errors, _, _ = many(adc_errors=AdcErrors(dead=0.1))
    assert errors.converter_gain is not None
    alive = errors.converter_gain[:, ::2]
    assert set(np.unique(alive)) == {0.0, 1.0}
    check_count(int((alive == 0).sum()), alive.size, 0.1)


def test_drivers_are_drawn_by_their_laws() -> None:
    _, errors, mapped, _ = many(dac_errors=DacErrors(gain=0.05, dead=0.1))
    assert errors.driver_gain is not None
    alive = errors.driver_gain > 0
    check_count(int((~alive).sum()), alive.size, 0.1)
    check_normals((errors.driver_gain[alive] - 1.0) / 0.05)
    _, errors, mapped, _ = many(dac_errors=DacErrors(offset=0.4))
    assert errors.offset is not None
    # a pair's offset is the sum over its rows of stray times (a - b): normal with that sum of squares
    pairs = mapped.levels[:, :, ::2].astype(float) - mapped.levels[:, :, 1::2]
    spread = 0.4 * np.sqrt((pairs**2).sum(axis=1))
    first = np.arange(60), np.argmax(spread, axis=1)  # one pair of each tile: others share its drivers
    check_normals(errors.offset[first] / spread[first])
    # and every read's offset comes from 16 drivers: those of the rows, found from 12 pairs and confirmed by none left
    stray = np.linalg.lstsq(pairs[0].T, errors.offset[0], rcond=None)[0]
    np.testing.assert_allclose(pairs[0].T @ stray, errors.offset[0], atol=20 * GRID)


def test_the_same_sources_draw_the_same_errors_and_one_law_does_not_move_another() -> None:
    adc, dac = AdcErrors(gain=0.1, offset=0.5, capacitor_mismatch=0.05), DacErrors(gain=0.1)
    first, again, mixed = (
        many(adc_errors=adc, dac_errors=dac)[1],
        many(adc_errors=adc, dac_errors=dac)[1],
        many(adc_errors=AdcErrors(gain=0.1, offset=0.5), dac_errors=None)[1],
    )
    for name in ("offset", "weights", "driver_gain", "converter_gain"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    np.testing.assert_array_equal(first.converter_gain, mixed.converter_gain)
    np.testing.assert_array_equal(first.offset, mixed.offset)


# --- every plan against the reference


@st.composite
def cases_with_errors(draw: st.DrawFn, encoding: Encoding) -> tuple[EngineCase, ConverterErrors, int]:
    """A layer with errors of any size at its converters, on the grid; and a seed for read noise."""
    converters = draw(st.sampled_from(["coarse", "full", "clipping", "lossless", "none"]))
    case = draw(engine_cases(encoding=encoding, converters=(converters,)))
    converter, reads = case.converter, case.reading.reads
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    offset = weights = None
    kinds = ["offset"] if converter.bits is None else ["offset", "weights", "both"]
    kind = draw(st.sampled_from(kinds))
    if kind != "weights":
        size = (case.mapped.tiles, case.drive.row_group_count(case.mapped.mapping.rows) * reads)
        offset = np.rint(rng.normal(0.0, 2.0 * converter.unit, size) / GRID) * GRID
    if kind != "offset":
        assert converter.bits is not None
        spread = draw(st.sampled_from([0.0, 0.05, 1.0]))
        weights = AdcErrors(capacitor_mismatch=spread).weights(converter.bits, (case.mapped.tiles, reads), rng)
    return case, ConverterErrors(offset=offset, weights=weights), seed


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_plans_with_errors_equal_the_reference_bit_for_bit(encoding: Encoding, noisy: bool) -> None:
    @settings(deadline=None, max_examples=25)
    @given(drawn=cases_with_errors(encoding))
    def check(drawn: tuple[EngineCase, ConverterErrors, int]) -> None:
        case, errors, seed = drawn
        mapped, drive = case.mapped, case.drive
        noise = normals = None
        images, positions, _ = case.codes.shape
        if noisy:
            spread = np.random.default_rng(seed).integers(0, 60, case.cells.shape) * 2.0**-8  # squares are exact
            noise = Noise(spread=spread.astype(np.float32), key=seed)
            reads = case.reading.reads * drive.row_group_count(mapped.mapping.rows)
            shape = (positions, drive.passes, drive.planes, mapped.tiles, reads)
            normals = np.concatenate([noise.normals(image, shape) for image in range(images)])
        plan = make_plan(case.reading, case.cells, drive, case.converter, noise, errors, precision="double")
        event(f"{plan.name} {plan.kernel}")
        if mapped.tiles:
            assert plan.name == ("tiled" if drive.planes == 1 else "bitplane-analog")
        expected = reference_multiply(
            case.vectors,
            case.reading,
            case.cells,
            drive,
            case.converter,
            noise_spread=None if noise is None else noise.spread,
            normals=normals,
            errors=errors,
        )
        found = plan.multiply(case.codes).reshape(expected.shape)
        if case.converter.step is None and noisy:  # sums of draws, in another order
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9 * max(1.0, float(np.abs(expected).max())))
        else:
            np.testing.assert_array_equal(found, expected)

    check()


@settings(deadline=None, max_examples=40)
@given(case=engine_cases(converters=("coarse", "full", "clipping", "lossless")))
def test_plans_with_binary_weights_equal_those_of_ideal_converters(case: EngineCase) -> None:
    bits = case.converter.bits
    assert bits is not None
    binary = np.broadcast_to(2.0 ** np.arange(bits), (case.mapped.tiles, case.reading.reads, bits))
    made = case.reading, case.cells, case.drive, case.converter
    ideal, by_bits = (
        make_plan(*made, None, errors, precision="double").multiply(case.codes)
        for errors in (None, ConverterErrors(weights=binary))
    )
    np.testing.assert_array_equal(by_bits, ideal)


def test_errors_need_the_plan_that_converts_read_by_read() -> None:
    design, reading, drive, converter, x = small_layer(Offset(), **DIGITAL, adc_errors=AdcErrors(offset=0.5))
    levels, sources = reading.matrix.levels.astype(np.float32), (np.random.default_rng(0), np.random.default_rng(1))
    cells, errors = with_errors(levels, reading, design, drive, converter, *sources)
    plan = make_plan(reading, cells, drive, converter, None, errors)
    assert plan.name == "bitplane-analog"
    assert "drivers or converters with errors of their own" in plan.reason
    codes = x[None].astype(np.int32)
    one_by_one = np.concatenate([plan.multiply(codes[:, k : k + 1]) for k in range(6)], axis=1)
    np.testing.assert_array_equal(plan.multiply(codes), one_by_one)


# --- bad input


@pytest.mark.parametrize("kind", [AdcErrors, DacErrors])
@pytest.mark.parametrize("name", ["offset", "gain", "capacitor_mismatch"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "1", True])
def test_spreads_that_are_refused(kind: type, name: str, value: Any) -> None:
    if kind is DacErrors and name == "capacitor_mismatch":
        with pytest.raises(TypeError, match="capacitor_mismatch"):
            kind(**{name: value})
        return
    with pytest.raises(InputError, match=rf"{name} must be a finite number >= 0\.0, got {value!r}"):
        kind(**{name: value})


@pytest.mark.parametrize("kind", [AdcErrors, DacErrors])
@pytest.mark.parametrize("value", [-0.1, 1.01, math.nan, True])
def test_shares_of_dead_ones_that_are_refused(kind: type, value: Any) -> None:
    with pytest.raises(InputError, match=rf"dead must be a finite number >= 0\.0 and <= 1\.0, got {value!r}"):
        kind(dead=value)
