"""Values in another unit: refused with what was likely meant, unless a design says that it means them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xbarsim as xb
from xbarsim.circuit import Wires
from xbarsim.devices import (
    Cell,
    FaultKind,
    FaultMap,
    ListedConductances,
    Polynomial,
    ProgrammingError,
    StuckAtFaults,
    StuckFaults,
    cell_names,
)
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError

PLAIN: dict[str, Any] = {"g_min": 1e-6, "g_max": 1e-4, "levels": 16, "read_voltage": 0.2}


def in_microsiemens() -> ProgrammingError:
    """An error of 4.78 uS, written as 4.78."""
    return ProgrammingError(spread=Polynomial(coefficients=(4.78,), scale=1e-6), valid_from=1e-6, valid_to=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"g_min": 50.0, "g_max": 225.0},
            "g_max must be >= 1e-12 and <= 0.1 S to be plausible, got 225.0 S; did you mean 225 uS (0.000225)? "
            "(implausible=True allows what no real device has)",
        ),
        ({"g_max": 1.0}, "did you mean 1 uS (1e-06)?"),
        ({"g_min": 1e-15, "g_max": 1e-13}, "g_max must be >= 1e-12"),
        (
            {"read_voltage": 200.0},
            "read_voltage must be >= 0.0001 and <= 10 V to be plausible, got 200.0 V; did you mean 200 mV (0.2)?",
        ),
        ({"read_voltage": 1e-6}, "read_voltage must be >= 0.0001 and <= 10 V"),
        ({"g_max": 0.05, "read_voltage": 5.0}, "g_max times read_voltage must be <= 0.1 A to be plausible, got 0.25 A"),
        ({"programming_error": in_microsiemens()}, "spread of programming_error must be <= 0.1 S"),
        ({"implausible": 1}, "implausible must be of type bool"),
    ],
)
def test_a_cell_in_another_unit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Cell(**(PLAIN | given))


def test_the_bounds_themselves_and_what_simulators_set_are_allowed() -> None:
    assert Cell(**(PLAIN | {"g_max": 0.1})).g_max == 0.1
    assert Cell(g_min=1e-13, g_max=1e-12, levels=2).g_max == 1e-12
    for resistance in (50.0, 100.0, 1333.0, 20e3, 1e6):  # VTEAM, linear ion drift, PRIME, PUMA, NeuRRAM
        Cell(g_min=1e-9, g_max=1 / resistance, levels=2, read_voltage=0.5)
    for name in cell_names():
        assert Cell.load(name).implausible is None


@given(st.floats(0.11, 1e6), st.floats(11.0, 1e6))
def test_the_switch_allows_anything_and_survives_a_file(g_max: float, voltage: float) -> None:
    with pytest.raises(InputError, match="implausible=True"):
        Cell(g_min=1e-3, g_max=g_max, levels=4)
    cell = Cell(g_min=1e-3, g_max=g_max, levels=4, read_voltage=voltage, implausible=True)
    assert tomlio.loads(Cell, tomlio.dumps(cell)) == cell
    design = xb.Design(
        cell=cell, mapping=xb.Mapping(cell_bits=2), wires=Wires(word_line_resistance=1e6, implausible=True)
    )
    assert xb.Design.from_toml(design.to_toml()) == design


def test_no_switch_is_the_same_as_switched_off_and_leaves_no_trace_in_a_file() -> None:
    assert Cell(**PLAIN, implausible=False) == Cell(**PLAIN)
    assert Wires(implausible=False) == Wires()
    assert "implausible" not in xb.Design(cell=Cell(**PLAIN), wires=Wires()).to_toml()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"word_line_resistance": 1e6},
            "word_line_resistance must be <= 100000 ohm to be plausible, got 1000000.0 ohm; did you mean 1e+06 mohm "
            "(1000)?",
        ),
        ({"bit_line_resistance": 2e5}, "bit_line_resistance must be <= 100000 ohm"),
        ({"driver_resistance": 2e7}, "driver_resistance must be <= 1e+07 ohm"),
        ({"sense_resistance": 2e7}, "sense_resistance must be <= 1e+07 ohm"),
        ({"access_resistance": 2e7}, "access_resistance must be <= 1e+07 ohm"),
    ],
)
def test_wires_in_another_unit_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Wires(**given)
    Wires(**given, implausible=True)


def stuck(value: float) -> FaultMap:
    """One cell of twelve stuck at a conductance, S."""
    return FaultMap(shape=(1, 3, 4), index=np.array([5]), kind=np.array([FaultKind.STUCK_AT]), value=np.array([value]))


@pytest.mark.parametrize("value", [50.0, 0.11, 1e6])
def test_a_stuck_cell_in_another_unit_is_refused_where_its_map_meets_a_cell(value: float) -> None:
    cell, faults = Cell(**PLAIN), stuck(value)
    meant = re.escape(f"value at position 0 must be <= 0.1 S to be plausible, got {value!r} S")
    meant += r".*\(Cell\(implausible=True\) allows"
    with pytest.raises(InputError, match=meant):
        faults.stuck_levels(cell, 4)
    with pytest.raises(InputError, match=meant):
        faults.conductance(cell)
    wild = Cell(**PLAIN, implausible=True)
    assert faults.conductance(wild).tolist() == [value]
    # (g - g_min) / step with a step of 99 uS / 15
    assert faults.stuck_levels(wild, 4)[0] == pytest.approx((value - 1e-6) / 6.6e-6, rel=1e-6)


def test_a_stuck_cell_of_a_real_conductance_is_not() -> None:
    assert stuck(5e-3).conductance(Cell(**PLAIN)).tolist() == [5e-3]  # a metallic short: 200 ohm
    assert FaultMap.empty((1, 3, 4)).conductance(Cell(**PLAIN)).size == 0


def test_a_die_is_refused_whose_cells_are_stuck_in_another_unit() -> None:
    design = xb.Design(cell=Cell(**PLAIN), mapping=xb.Mapping(rows=8, columns=8, weight_bits=5))
    weights = np.arange(-8, 8).reshape(8, 2)
    shape = xb.Crossbar(weights, design, seed=1).matrix.levels.shape
    faults = FaultMap(shape=shape, index=np.array([0]), kind=np.array([3]), value=np.array([50.0]))
    with pytest.raises(InputError, match=r"got 50\.0 S; did you mean 50 uS"):
        xb.Crossbar(weights, design, seed=1, faults=faults)
    drawn = StuckAtFaults(where=StuckFaults(on=0.5, off=0.0), on_conductances=ListedConductances(values=(50.0,)))
    with pytest.raises(InputError, match=r"got 50\.0 S; did you mean 50 uS"):
        xb.Crossbar(weights, design.replace(faults=drawn), seed=1)
