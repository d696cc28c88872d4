"""From targets to what cells hold, step by step, in one place."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import relaxed, stuck_maps
from xbarsim.devices import (
    GRID,
    Cell,
    FaultKind,
    FaultMap,
    LogarithmicDrift,
    Polynomial,
    ProgrammingError,
    StuckFaults,
    TelegraphNoise,
)
from xbarsim.die import program
from xbarsim.foundation.validation import InputError

PLAIN = Cell(g_min=1e-6, g_max=1.6e-5, levels=16, read_voltage=0.2)
ERROR = ProgrammingError(spread=Polynomial(coefficients=(4e-7,), scale=1.0), valid_from=0.5e-6, valid_to=5e-5)
DRIFT = LogarithmicDrift(
    shift=Polynomial(coefficients=(-2e-7,), scale=1.0, minimum=-math.inf),
    spread=Polynomial(coefficients=(1e-7,), scale=1.0),
    reference_time=1.0,
    valid_from=0.5e-6,
    valid_to=1e-4,
    valid_seconds=1e6,
)
STATES = TelegraphNoise(saturation=0.5, corner=1e-5, probability=0.2, frozen=True)
CELL = replace(PLAIN, programming_error=ERROR, drift=DRIFT, read_noise=STATES)
SHAPE = (2, 8, 12)
LEVELS = np.random.default_rng(0).integers(0, 16, SHAPE).astype(np.uint8)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_cells_are_programmed_then_drift_then_settle_and_stuck_ones_stay_stuck() -> None:
    """Each step by the cell's own law, in this order."""
    faults = StuckFaults(on=0.1, off=0.1).sample(SHAPE, rng(9))
    programmed = CELL.program(LEVELS, 4, rng(1))
    drifted = CELL.relax(programmed, LEVELS, 4, 100.0, rng(2))
    settled = CELL.settle(drifted, 4, rng(3))
    stuck = faults.apply(settled, faults.stuck_levels(CELL, 4))
    for given_, expected in (
        ({}, programmed),
        ({"seconds": 100.0, "drift": rng(2)}, drifted),
        ({"seconds": 100.0, "drift": rng(2), "states": rng(3)}, settled),
        ({"seconds": 100.0, "drift": rng(2), "states": rng(3), "faults": faults}, stuck),
    ):
        cells = program(LEVELS, CELL, 4, rng(1), **given_)  # type: ignore[arg-type]
        assert cells.dtype == np.float32
        np.testing.assert_array_equal(cells, expected)
        np.testing.assert_array_equal(cells / GRID, np.rint(cells / GRID))
    assert len({array.tobytes() for array in (programmed, drifted, settled, stuck)}) == 4


def test_sources_that_a_cell_has_no_use_for_change_nothing() -> None:
    faults = FaultMap.empty(SHAPE)
    cells = program(LEVELS, PLAIN, 4, rng(1), faults=faults, drift=rng(2), states=rng(3))
    np.testing.assert_array_equal(cells, LEVELS)


def test_a_fault_model_breaks_cells_after_programming_from_the_same_source() -> None:
    model, source = StuckFaults(on=0.1, off=0.1), rng(4)
    programmed = CELL.program(LEVELS, 4, source)
    faults = model.sample(SHAPE, source)
    expected = faults.apply(programmed, faults.stuck_levels(CELL, 4))
    np.testing.assert_array_equal(program(LEVELS, CELL, 4, rng(4), faults=model), expected)


@relaxed
@given(faults=stuck_maps(SHAPE), seed=st.integers(0, 100))
def test_healthy_cells_do_not_depend_on_the_faults(faults: FaultMap, seed: int) -> None:
    with_faults = program(LEVELS, CELL, 4, rng(seed), faults=faults)
    without = program(LEVELS, CELL, 4, rng(seed))
    broken = faults.dense() > 0
    np.testing.assert_array_equal(with_faults[~broken], without[~broken])
    np.testing.assert_array_equal(
        with_faults[broken], np.where(faults.dense() == FaultKind.STUCK_ON, 15.0, 0.0)[broken]
    )


def test_what_cannot_be_programmed_is_refused() -> None:
    with pytest.raises(InputError, match="the fault map must be for cells of shape"):
        program(LEVELS, PLAIN, 4, rng(0), faults=FaultMap.empty((1, 2, 3)))
    with pytest.raises(InputError, match="drift must be given for a cell at later times"):
        program(LEVELS, PLAIN, 4, rng(0), seconds=1.0, drift=rng(0))
    with pytest.raises(InputError, match="levels must be >= 0 and <= 7, got 15"):
        program(LEVELS, PLAIN, 3, rng(0))
