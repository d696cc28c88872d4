"""Straight lines that stand for curved cells behind wires: closed forms, and Newton's method on whole arrays."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from xbarsim.circuit import (
    PolynomialLaw,
    SinhLaw,
    Wires,
    effective_conductance,
    effective_variance,
    solve,
    working_conductance,
)
from xbarsim.devices import NoiseVariance
from xbarsim.foundation.validation import InputError

Floats = npt.NDArray[np.float64]

LAW = SinhLaw(voltage_scale=0.2)
VOLTAGE = 0.3
WIRES = Wires(word_line_resistance=10.0, bit_line_resistance=10.0)


def cells(rows: int = 48, columns: int = 24, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).uniform(1e-6, 3e-5, (rows, columns))


def small_signal(given: Floats, law: Any = LAW) -> Floats:
    """Conductances at small voltages of cells that are given at the read voltage."""
    return np.asarray(given * VOLTAGE / law.relative(np.array([VOLTAGE])))


def test_ideal_wires_leave_cells_as_they_are() -> None:
    given = cells()
    working = working_conductance(given, effective_conductance(given, Wires()), LAW, VOLTAGE, Wires())
    np.testing.assert_allclose(working, given, rtol=1e-14)


def test_a_law_that_is_a_straight_line_leaves_cells_as_they_are() -> None:
    given = cells()
    law = PolynomialLaw(maximum_voltage=1.0)
    working = working_conductance(given, effective_conductance(given, WIRES), law, VOLTAGE, WIRES)
    np.testing.assert_array_equal(working, given)
    assert working is not given


@pytest.mark.parametrize("codes", [1, 15])
def test_a_law_that_is_as_steep_as_a_straight_line_at_the_read_voltage_alone_is_none(codes: int) -> None:
    """``V - 2 Vr V^2 + V^3``: its slope there is its current over its voltage, and no law near it jumps."""
    given = cells()
    effective = effective_conductance(given, WIRES)

    def working(cubic: float) -> Floats:
        law = PolynomialLaw(quadratic=(0.0, -2 * VOLTAGE), cubic=(0.0, cubic), maximum_voltage=1.0)
        return np.asarray(working_conductance(given, effective, law, VOLTAGE, WIRES, codes=codes))

    at = working(1.0)
    assert not np.allclose(at, given, rtol=1e-5)
    np.testing.assert_allclose(working(1.0 + 1e-9), at, rtol=1e-8)


def test_one_cell_behind_a_driver_meets_its_working_point() -> None:
    """``V = Vr / (1 + G R)`` stands across it by its straight line, and its conductance is that of the law there."""
    conductance, resistance = 5e-5, 4e3
    wires = Wires(driver_resistance=resistance)
    given = np.array([[conductance]])
    working = working_conductance(given, effective_conductance(given, wires), LAW, VOLTAGE, wires)
    volts = VOLTAGE / (1 + conductance * resistance)
    expected = conductance * (np.sinh(volts / 0.2) / volts) / (np.sinh(VOLTAGE / 0.2) / VOLTAGE)
    np.testing.assert_allclose(working, [[expected]], rtol=1e-12)


def test_a_transistor_takes_its_share() -> None:
    resistance = 8e3
    wires = Wires(access="1T1R", access_resistance=resistance)
    given = cells(6, 5)
    driven = np.array([True, True, False, True, False, True])
    seen = effective_conductance(given, wires, rows=driven)
    working = working_conductance(given, seen, LAW, VOLTAGE, wires, rows=driven)
    volts = VOLTAGE / (1 + given * resistance)
    expected = given * (np.sinh(volts / 0.2) / volts) / (np.sinh(VOLTAGE / 0.2) / VOLTAGE)
    np.testing.assert_allclose(working[driven], expected[driven], rtol=1e-12)
    np.testing.assert_array_equal(working[~driven], given[~driven])


def losses(wires: Wires, codes: int) -> Floats:
    """What wires take from the column currents of 20 inputs, A (3, inputs, columns), 30 % of the rows driven.

    By Newton's method, by the cells' straight lines, and by those that stand for them.
    """
    given = cells()
    effective = effective_conductance(given, wires)
    working = effective_conductance(working_conductance(given, effective, LAW, VOLTAGE, wires, codes=codes), wires)
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        volts = VOLTAGE * rng.integers(1, codes, len(given), endpoint=True) / codes * (rng.random(len(given)) < 0.3)
        exact = solve(small_signal(given), volts, wires, law=LAW).column_currents
        carried = VOLTAGE * LAW.relative(volts) / LAW.relative(np.array([VOLTAGE]))
        found.append(carried @ given - np.stack([exact, carried @ effective, carried @ working]))
    return np.stack(found, axis=1)


@pytest.mark.parametrize("codes", [1, 3, 15, 255])
def test_the_mean_of_what_word_lines_take_is_right(codes: int) -> None:
    exact, straight, working = losses(Wires(word_line_resistance=10.0), codes).sum(axis=(1, 2))
    assert abs(working / exact - 1.0) < 0.02
    assert abs(straight / exact - 1.0) > 0.15


@pytest.mark.parametrize("codes", [3, 15, 255])
def test_the_mean_of_what_bit_lines_take_is_nearly_right(codes: int) -> None:
    exact, straight, working = losses(Wires(bit_line_resistance=10.0), codes).sum(axis=(1, 2))
    assert abs(working / exact - 1.0) < 0.07
    assert straight / exact - 1.0 > 0.1


def test_single_columns_are_nearer_too() -> None:
    for codes, better in ((1, 0.45), (15, 0.75)):
        exact, straight, working = losses(WIRES, codes)
        off = [float(np.sqrt(((each - exact) ** 2).mean())) for each in (straight, working)]
        assert off[1] < better * off[0]


def test_many_arrays_are_one_after_the_other() -> None:
    given = np.stack([cells(seed=seed) for seed in range(3)])
    together = working_conductance(given, effective_conductance(given, WIRES), LAW, VOLTAGE, WIRES, codes=3)
    for one, wanted in zip(given, together, strict=True):
        alone = working_conductance(one, effective_conductance(one, WIRES), LAW, VOLTAGE, WIRES, codes=3)
        np.testing.assert_array_equal(alone, wanted)


def test_the_estimate_of_noise_is_not_touched() -> None:
    """It shares the ladders."""
    given = cells()
    variance = NoiseVariance.of(given.shape, quadratic=given**2)
    seen = effective_variance(given, effective_conductance(given, WIRES), variance, WIRES)
    assert (seen.quadratic < given**2).all()
    assert (seen.quadratic > 0.5 * given**2).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"law": PolynomialLaw(cubic=(1e-6,), maximum_voltage=1.0)}, "law must be proportional"),
        ({"law": None}, "law must be of type CurrentLaw"),
        ({"voltage": 0.0}, "voltage must be a finite number > 0"),
        ({"codes": 0}, "codes must be an integer >= 1"),
        ({"filling": 1.5}, "filling must be a finite number >= 0.0 and <= 1.0, got 1.5"),
        ({"effective": np.ones((2, 2))}, r"effective must have shape \(48, 24\)"),
        ({"rows": np.ones(3, bool)}, "rows must"),
        ({"wires": 3.0}, "wires must be of type Wires"),
    ],
)
def test_bad_input_is_refused(changes: dict[str, Any], message: str) -> None:
    given = cells()
    arguments = {"effective": given, "law": LAW, "voltage": VOLTAGE, "wires": WIRES, **changes}
    positional = [arguments.pop(name) for name in ("effective", "law", "voltage", "wires")]
    with pytest.raises(InputError, match=re.compile(message)):
        working_conductance(given, *positional, **arguments)
