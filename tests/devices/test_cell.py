"""Cells: definitions, programming, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.strategies import cells
from xbarsim.devices import GRID, Cell, Polynomial, ProgrammingError, ReadNoise
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError

SPREAD = Polynomial(coefficients=(1e-6,), scale=1e-6)


def noisy(spread: float = 2e-6, bias: float = 0.0, g_min: float = 1e-5, g_max: float = 1e-4) -> Cell:
    return Cell(
        g_min=g_min,
        g_max=g_max,
        levels=16,
        programming_error=ProgrammingError(
            spread=Polynomial(coefficients=(spread,), scale=1e-6),
            bias=Polynomial(coefficients=(bias,), scale=1e-6, minimum=-math.inf),
            valid_from=g_min,
            valid_to=g_max,
        ),
    )


def test_levels_and_conductances() -> None:
    cell = Cell(g_min=1e-6, g_max=16e-6, levels=16)
    assert cell.maximum_level(4) == 15
    assert cell.level_step(4) == pytest.approx(1e-6)
    assert cell.offset_levels(4) == pytest.approx(1.0)
    np.testing.assert_allclose(cell.conductance([0, 15], 4), [1e-6, 16e-6])
    assert cell.level_step(1) == pytest.approx(15e-6)


@given(cells(), st.data())
def test_level_units_invert_conductance(cell: Cell, data: st.DataObject) -> None:
    bits = data.draw(st.integers(1, min(8, cell.levels.bit_length() - 1)))
    levels = np.arange(2**bits)
    back = cell.level_units(cell.conductance(levels, bits), bits)
    # Taking g_min off again loses digits where the range is narrow against it.
    np.testing.assert_allclose(back, levels, atol=1e-15 * (1 + cell.offset_levels(bits)) * 8)


@given(cells())
def test_a_cell_survives_toml(cell: Cell) -> None:
    assert tomlio.loads(Cell, tomlio.dumps(cell)) == cell


def test_numpy_numbers_survive_toml() -> None:
    cell = Cell(g_min=np.float32(1e-6), g_max=np.float64(1e-4), levels=np.int64(4))  # type: ignore[arg-type]
    assert tomlio.loads(Cell, tomlio.dumps(cell)) == cell


@pytest.mark.parametrize("extra", ["unknown = 1", "levels = '16'", "[programming_error]\nspread = 3"])
def test_a_cell_in_toml_is_read_strictly(extra: str) -> None:
    text = "g_min = 1e-6\ng_max = 1e-4\n" + ("" if "levels" in extra else "levels = 16\n") + extra
    with pytest.raises(FileFormatError, match=r"unknown|levels|spread|valid"):
        tomlio.loads(Cell, text)


def test_a_polynomial() -> None:
    polynomial = Polynomial(coefficients=(1.0, -2.0, 3.0), scale=2.0)
    np.testing.assert_allclose(polynomial([0.0, 2.0, 4.0]), [1.0, 2.0, 9.0])
    np.testing.assert_array_equal(Polynomial(coefficients=(-1.0,), scale=1.0)([1.0]), [0.0])
    unbound = Polynomial(coefficients=(-1.0,), scale=1.0, minimum=-math.inf)
    np.testing.assert_array_equal(unbound([1.0, 2.0]), [-1.0, -1.0])
    assert tomlio.loads(Polynomial, tomlio.dumps(unbound)) == unbound


def test_without_programming_error_levels_stay_and_the_generator_is_not_touched() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    levels = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    programmed = noisy().without_errors().program(levels, 4, rng)
    assert programmed.dtype == np.float32
    np.testing.assert_array_equal(programmed, levels)
    assert rng.bit_generator.state == before


def test_programming_has_the_stated_bias_and_spread() -> None:
    cell = Cell(
        g_min=1e-5,
        g_max=1e-4,
        levels=16,
        programming_error=ProgrammingError(
            spread=Polynomial(coefficients=(1e-7, 2e-8), scale=1e-6),
            bias=Polynomial(coefficients=(0.0, -3e-8), scale=1e-6, minimum=-math.inf),
            valid_from=1e-5,
            valid_to=1e-4,
        ),
    )
    count = 40_000
    levels = np.repeat(np.arange(16, dtype=np.uint8), count)
    programmed = cell.program(levels, 4, np.random.default_rng(1)).reshape(16, count)
    target = cell.conductance(np.arange(16), 4)
    delta = cell.level_step(4)
    spread = (1e-7 + 2e-8 * target / 1e-6) / delta
    mean = np.arange(16) - 3e-8 * target / 1e-6 / delta
    # 32 intervals at 1e-8 each: a false alarm with probability 3e-7 (and the seed is fixed).
    normal = stats.norm.isf(0.5e-8)
    assert np.all(np.abs(programmed.mean(axis=1) - mean) < normal * spread / math.sqrt(count) + GRID)
    variance = programmed.var(axis=1, ddof=1, dtype=np.float64) / spread**2 * (count - 1)
    low, high = stats.chi2.ppf([0.5e-8, 1 - 0.5e-8], count - 1)
    assert np.all((low < variance) & (variance < high))


@given(cells(programming_error=True), st.integers(0, 2**32), st.data())
def test_programmed_cells_lie_on_the_grid_above_zero_conductance(cell: Cell, seed: int, data: st.DataObject) -> None:
    bits = data.draw(st.integers(1, min(8, cell.levels.bit_length() - 1)))
    levels = np.random.default_rng(seed).integers(0, 2**bits, (2, 3, 5))
    programmed = cell.program(levels, bits, np.random.default_rng(seed))
    assert programmed.shape == levels.shape
    assert programmed.dtype == np.float32
    units = programmed.astype(np.float64)
    np.testing.assert_array_equal(np.rint(units / GRID) * GRID, units)
    assert np.all(units >= -cell.offset_levels(bits))
    again = cell.program(levels, bits, np.random.default_rng(seed))
    np.testing.assert_array_equal(programmed, again)


def test_conductance_never_goes_below_zero() -> None:
    cell = noisy(spread=1e-4)
    programmed = cell.program(np.zeros((1, 100, 100), dtype=np.uint8), 4, np.random.default_rng(0))
    lowest = programmed.min()
    assert -cell.offset_levels(4) <= lowest < -cell.offset_levels(4) + GRID


def test_chunks_leave_no_seam() -> None:
    levels = np.full(700_001, 7, dtype=np.uint8)
    programmed = noisy().program(levels, 4, np.random.default_rng(3))
    drawn = np.random.default_rng(3).standard_normal(levels.size, dtype=np.float32)
    np.testing.assert_allclose(programmed, 7 + drawn * 2e-6 / noisy().level_step(4), atol=2 * GRID)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"g_min": 1e-4}, r"g_max must be .*> 0.0001, got 0.0001"),
        ({"g_min": 2e-4}, r"g_max must be .*> 0.0002, got 0.0001"),
        ({"g_min": 0.0}, r"g_min must be .*> 0.0, got 0.0"),
        ({"g_min": -1e-6}, r"g_min must be .*> 0.0, got -1e-06"),
        ({"g_min": math.nan}, r"g_min must be .*got nan"),
        ({"g_max": math.inf}, r"g_max must be .*got inf"),
        ({"g_max": "1e-4"}, r"g_max must be .*got '1e-4'"),
        ({"levels": 1}, r"levels must be .*>= 2.*, got 1"),
        ({"levels": 4.0}, r"levels must be an integer"),
        ({"read_voltage": 0.0}, r"read_voltage must be .*> 0.0, got 0.0"),
        ({"name": 3}, r"name must be of type str"),
        ({"programming_error": 0.1}, r"programming_error must be of type ProgrammingError"),
        (
            {"programming_error": ProgrammingError(spread=SPREAD, valid_from=2e-6, valid_to=1e-4)},
            r"g_min and g_max must lie within 2e-06 and 0.0001 S, where programming_error is valid, got 1e-0",
        ),
        (
            {"programming_error": ProgrammingError(spread=SPREAD, valid_from=0.0, valid_to=9e-5)},
            r"where programming_error is valid, got 1e-06 and 0.0001",
        ),
        (
            {"read_noise": ReadNoise(spread=SPREAD, valid_from=0.0, valid_to=9e-5)},
            r"where read_noise is valid",
        ),
    ],
)
def test_a_bad_cell_is_refused(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"g_min": 1e-6, "g_max": 1e-4, "levels": 16}
    Cell(**good)
    with pytest.raises(InputError, match=message):
        Cell(**{**good, **arguments})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Polynomial(coefficients=(), scale=1.0), r"coefficients must hold at least one"),
        (lambda: Polynomial(coefficients=[1.0], scale=1.0), r"coefficients must be of type tuple"),  # type: ignore[arg-type]
        (lambda: Polynomial(coefficients=(1.0, math.nan), scale=1.0), r"coefficients\[1\] must be .*got nan"),
        (lambda: Polynomial(coefficients=(1.0,), scale=0.0), r"scale must be .*> 0.0, got 0.0"),
        (lambda: Polynomial(coefficients=(1.0,), scale=1.0, minimum=math.inf), r"minimum must be .*got inf"),
        (
            lambda: ProgrammingError(
                spread=Polynomial(coefficients=(1.0,), scale=1.0, minimum=-math.inf), valid_from=0, valid_to=1
            ),
            r"spread.minimum must be >= 0",
        ),
        (
            lambda: ProgrammingError(spread=SPREAD, bias=SPREAD, valid_from=0.0, valid_to=1.0),
            r"bias.minimum must be -inf",
        ),
        (lambda: ProgrammingError(spread=SPREAD, valid_from=1.0, valid_to=1.0), r"valid_to must be .*> 1.0"),
        (lambda: ReadNoise(spread=SPREAD, valid_from=-1.0, valid_to=1.0), r"valid_from must be .*>= 0.0"),
    ],
)
def test_a_bad_law_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("levels", "bits", "message"),
    [
        ([0, 16], 4, r"levels must be >= 0 and <= 15, got 16"),
        ([-1, 3], 4, r"levels must be >= 0 and <= 15, got -1"),
        ([0.0, 1.0], 4, r"levels must be integers, got type float64"),
        ([0, 1], 5, r"cell_bits must be <= 4, for cell 'custom' has 16 levels, got 5"),
        ([0, 1], 0, r"cell_bits must be an integer >= 1"),
    ],
)
def test_bad_levels_are_refused(levels: list[int], bits: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        noisy().program(levels, bits, np.random.default_rng(0))


def test_a_seed_is_no_generator() -> None:
    with pytest.raises(InputError, match="rng must be of type Generator"):
        noisy().program([0], 4, 7)  # type: ignore[arg-type]
