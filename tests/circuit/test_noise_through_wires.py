"""Read noise led through the wires: against closed forms, ngspice, the solver's sensitivities and drawn currents.

The estimate for whole networks is held to stated bounds against the exact covariance.
"""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.reference import ngspice_reference
from xbarsim.circuit import (
    FloatingNodeError,
    Wires,
    effective_conductance,
    effective_variance,
    reference_covariance,
    solve,
)
from xbarsim.devices import Cell, NoiseVariance, ThermalNoise
from xbarsim.foundation.validation import InputError

Floats = npt.NDArray[np.float64]

ALARM = 1e-4  # false-alarm rate of a test of chance
POWERS = ("constant", "linear", "quadratic")
TOPOLOGIES: list[dict[str, Any]] = [
    {"drive": drive, "sense": sense, "access": access, "unselected": unselected}
    for drive, sense, access, unselected in itertools.product(
        ("one", "both"), ("near", "far", "both"), ("1T1R", "0T1R"), ("grounded", "floating")
    )
]
RESISTIVE = Wires(
    word_line_resistance=5.0,
    bit_line_resistance=8.0,
    driver_resistance=100.0,
    sense_resistance=150.0,
    access_resistance=400.0,
)


def variance_of(power: str, conductance: Floats) -> NoiseVariance:
    """Noise of one mechanism: its variance goes with the conductance, or with its square and a little more."""
    term = conductance**2 + 1e-14 if power == "quadratic" else conductance
    return NoiseVariance.of(conductance.shape, **{power: term})


def summed(variance: NoiseVariance, codes: Floats) -> Floats:
    """Of each column, by the form that a layer without wires has."""
    selected = variance.constant.sum(axis=0)
    return np.asarray(selected + codes @ variance.linear + codes**2 @ variance.quadratic)


# --- exact: one array, one input


def test_one_cell_is_a_divider() -> None:
    """With r ohm around a cell of g, ``1 / (1 + g r)`` of its voltage is left to it, and of its noise gets through."""
    g = 2e-4
    cell = np.array([[g]])
    around = (5.0 + 100.0) + (8.0 + 150.0) + 400.0
    left = 1.0 / (1.0 + g * around)
    for index, power in enumerate(POWERS):
        variance = variance_of(power, cell)
        expected = getattr(variance, power)[0, 0] * left**2 * (3.0 * left) ** index
        exact = reference_covariance(cell, variance, [3.0], RESISTIVE)
        assert exact == pytest.approx(np.array([[expected]]), rel=1e-12)
        through = effective_variance(cell, effective_conductance(cell, RESISTIVE), variance, RESISTIVE)
        assert summed(through, np.array([3.0])) == pytest.approx([expected], rel=1e-12)


def test_two_columns_of_one_row_share_noise() -> None:
    """A driver of r ohm: what one cell sends up its bit line comes back through the other, with the other sign."""
    cells, r = np.array([[1e-4, 3e-4]]), 500.0
    wires = Wires(driver_resistance=r)
    total = 1.0 + r * cells.sum()
    toward = np.array([[1.0 + r * cells[0, 1], -r * cells[0, 1]], [-r * cells[0, 0], 1.0 + r * cells[0, 0]]]) / total
    exact = reference_covariance(cells, variance_of("constant", cells), [0.0], wires)
    expected = sum(cells[0, j] * np.outer(toward[j], toward[j]) for j in range(2))
    np.testing.assert_allclose(exact, expected, rtol=1e-12)
    assert exact[0, 1] < 0.0


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: "-".join(t.values()))
def test_stored_ngspice_noise(topology: dict[str, Any]) -> None:
    """To 1e-6: ngspice has another Boltzmann constant, in the seventh digit."""
    prefix = "-".join(topology.values()) + "-"
    tested = 0
    thermal = ThermalNoise(temperature=ngspice_reference.TEMPERATURE, bandwidth=1.0)
    with np.load(ngspice_reference.NOISE_PATH) as data:
        for name, case in ngspice_reference.noise_cases().items():
            if name.startswith(prefix):
                cells, rows = data[f"{name}/levels"] * ngspice_reference.LEVEL, data[f"{name}/rows"]
                variance = thermal.variance(cells, 1.0)
                found = reference_covariance(cells, variance, np.zeros(len(cells)), Wires(**case["wires"]), rows=rows)
                np.testing.assert_allclose(np.diag(found), data[f"{name}/noise"], rtol=1e-6)
                tested += 1
    assert tested == 2


@pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not on PATH")
def test_live_ngspice_noise() -> None:
    name = "both-near-0T1R-floating-linear-small"
    case = ngspice_reference.noise_cases()[name]
    drawn = ngspice_reference.draw(case["seed"] + 1000, case["shape"])
    cells = drawn["levels"] * ngspice_reference.LEVEL
    expected = ngspice_reference.run_noise(cells, case["wires"], drawn["rows"])
    variance = ThermalNoise(temperature=ngspice_reference.TEMPERATURE, bandwidth=1.0).variance(cells, 1.0)
    codes = np.zeros(len(cells))
    found = reference_covariance(cells, variance, codes, Wires(**case["wires"]), rows=drawn["rows"])
    np.testing.assert_allclose(np.diag(found), expected, rtol=1e-6)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("access", ["1T1R", "0T1R"])
def test_the_covariance_is_that_of_the_solvers_sensitivities(access: str, power: str) -> None:
    """A cell's conductance moved a little moves the currents by its voltage times what a current source would."""
    rng = np.random.default_rng(3)
    cells, codes = 10.0 ** rng.uniform(-5.5, -3.5, (5, 4)), np.array([1.0, 3.0, 2.0, 1.0, 2.0])
    resistance = {"access": access, "access_resistance": 400.0 if access == "1T1R" else 0.0}
    wires = replace(RESISTIVE, **resistance)  # type: ignore[arg-type]
    state = solve(cells, codes, wires)
    own = state.cell_currents / cells
    variance = variance_of(power, cells)
    expected = np.zeros((4, 4))
    for place in np.ndindex(cells.shape):
        step = np.zeros(cells.shape)
        step[place] = 1e-4 * cells[place]
        up, down = (codes @ effective_conductance(cells + sign * step, wires) for sign in (1.0, -1.0))
        moved = (up - down) / (2.0 * step[place] * own[place])
        expected += np.outer(moved, moved) * variance(np.abs(own))[place]
    np.testing.assert_allclose(reference_covariance(cells, variance, codes, wires), expected, rtol=1e-6)


def test_drawn_conductances_give_currents_of_that_covariance() -> None:
    """Monte Carlo of the exact circuit: 4,000 reads of an array whose cells fluctuate by 1 %."""
    rng = np.random.default_rng(11)
    cells, codes, reads = rng.uniform(2e-5, 2e-4, (6, 5)), rng.integers(0, 8, 6).astype(np.float64), 4000
    drawn = cells * (1.0 + 0.01 * rng.standard_normal((reads, *cells.shape)))
    currents = np.einsum("i,nij->nj", codes, effective_conductance(drawn, RESISTIVE))
    variance = NoiseVariance.of(cells.shape, quadratic=(0.01 * cells) ** 2)
    expected = reference_covariance(cells, variance, codes, RESISTIVE)
    centred = currents - codes @ effective_conductance(cells, RESISTIVE)
    white = np.linalg.solve(np.linalg.cholesky(expected), centred.T)
    low, high = stats.chi2.ppf([ALARM / 2, 1 - ALARM / 2], white.size)
    assert low < float((white**2).sum()) < high
    ideal = codes**2 @ (0.01 * cells) ** 2
    assert (centred.var(axis=0) < 0.8 * ideal).all()  # without wires the spread would be another


# --- the estimate


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: "-".join(t.values()))
def test_without_resistance_noise_is_that_of_the_cells(topology: dict[str, Any]) -> None:
    """Of the rows that are selected; and to 1e-5 where the wires are a millionth of what they are."""
    rng = np.random.default_rng(5)
    cells, rows = 10.0 ** rng.uniform(-6, -4, (3, 7, 6)), rng.random(7) < 0.6
    cells[0, 2, 1] = 0.0
    rows[2] = True
    everything = NoiseVariance.of(cells.shape, constant=cells, linear=2 * cells, quadratic=cells**2 + 1e-13)
    tiny: dict[str, Any] = {
        name: 1e-6 * value for name, value in vars(RESISTIVE).items() if name.endswith("line_resistance")
    }
    for wires, bound in ((Wires(**topology), 1e-13), (Wires(**tiny, **topology), 1e-5)):
        effective = effective_conductance(cells, wires, rows=rows)
        found = effective_variance(cells, effective, everything, wires, rows=rows)
        for power in POWERS:
            term, expected = getattr(found, power), getattr(everything, power).copy()
            assert (term[:, ~rows] == 0.0).all()
            if power == "constant" and topology["access"] == "0T1R" and topology["unselected"] == "grounded":
                # cells of the other rows have no transistors, and are as hot
                expected += expected[:, ~rows].sum(axis=1, keepdims=True) / rows.sum()
            if power == "constant" and topology["access"] == "0T1R" and topology["unselected"] == "floating":
                continue  # a floating line leads currents from column to column: below, against the reference
            np.testing.assert_allclose(term[:, rows], expected[:, rows], rtol=bound, atol=1e-4 * bound * expected.max())


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: "-".join(t.values()))
def test_the_estimate_of_small_arrays_is_close_in_every_topology(topology: dict[str, Any]) -> None:
    """All rows driven alike, and taken for that: to 1e-3 of the deviation, where wires change it by up to a third.

    Where rows without transistors are not selected, to 2 %, or 10 % if they float: what sneaks through them is
    estimated roughly.
    """
    rng = np.random.default_rng(TOPOLOGIES.index(topology))
    for word, bit, driver, sense in itertools.product((0.0, 10.0), (0.0, 10.0), (0.0, 100.0), (0.0, 100.0)):
        cells = 10.0 ** rng.uniform(-6, -4, rng.integers(2, 17, 2))
        cells[rng.random(cells.shape) < 0.05] = 0.0
        wires = Wires(
            word_line_resistance=word,
            bit_line_resistance=bit,
            driver_resistance=driver,
            sense_resistance=sense,
            access_resistance=float(rng.choice([0.0, 500.0])) if topology["access"] == "1T1R" else 0.0,
            **topology,
        )
        some = rng.random(len(cells)) < 0.6
        some[0] = True
        for rows in (np.ones(len(cells), bool), some):
            bound = 1e-3
            if topology["access"] == "0T1R" and not rows.all():
                bound = {"grounded": 0.02, "floating": 0.1}[topology["unselected"]]
            try:
                effective = effective_conductance(cells, wires, rows=rows)
            except FloatingNodeError:
                continue
            for power in POWERS:
                variance, codes = variance_of(power, cells), rows.astype(np.float64)
                exact = np.diag(reference_covariance(cells, variance, codes, wires, rows=rows))
                found = summed(effective_variance(cells, effective, variance, wires, rows=rows, filling=1.0), codes)
                heard = exact > 0.03 * exact.max()
                np.testing.assert_allclose(np.sqrt(found[heard] / exact[heard]), 1.0, rtol=0, atol=bound)


@pytest.mark.parametrize(
    ("card", "resistance", "bounds"),
    [
        # greatest error of a column's deviation: thermal, shot, conductance; of bits of which 30 % are 1
        ("agrawal2022", 5.0, (0.001, 0.015, 0.015)),
        ("falcone2025_coarse", 1.0, (0.001, 0.02, 0.02)),
    ],
)
def test_the_estimate_of_a_whole_tile_is_within_its_bound(
    card: str, resistance: float, bounds: tuple[float, float, float]
) -> None:
    cell, rng = Cell.load(card), np.random.default_rng(2)
    levels = (np.abs(rng.normal(0, 0.25, (128, 128))).clip(0, 1) * (rng.random((128, 128)) < 0.5) * 15).round()
    cells = cell.conductance(levels, 4)
    wires = Wires(word_line_resistance=resistance, bit_line_resistance=resistance)
    effective, codes = effective_conductance(cells, wires), (rng.random(128) < 0.3).astype(np.float64)
    for power, bound in zip(POWERS, bounds, strict=True):
        variance = variance_of(power, cells)
        covariance = reference_covariance(cells, variance, codes, wires)
        exact = np.diag(covariance)
        found = summed(effective_variance(cells, effective, variance, wires), codes)
        np.testing.assert_allclose(np.sqrt(found / exact), 1.0, rtol=0, atol=bound)
        ideal = np.sqrt(summed(variance, codes) / exact)
        assert ideal.mean() - 1.0 > 10 * bound or power != "constant"
        assert ideal.mean() - 1.0 > 2 * bound
        correlation = covariance / np.sqrt(np.outer(exact, exact)) - np.eye(128)
        assert np.abs(correlation).max() < 0.01  # what is left out


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(TOPOLOGIES), st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_estimates_are_finite_and_no_noise_is_below_zero(topology: dict[str, Any], seed: int, filling: float) -> None:
    """At any ratio of resistances, with cells that do not conduct."""
    rng = np.random.default_rng(seed)
    cells = 10.0 ** rng.uniform(-9, -2, rng.integers(1, 10, 2))
    cells[rng.random(cells.shape) < 0.2] = 0.0
    ends: dict[str, Any] = {
        name: float(rng.choice([0.0, 1e-6, 3.0, 1e4])) for name in vars(Wires()) if name.endswith("_resistance")
    }
    wires = Wires(**{**ends, "access_resistance": 0.0}, **topology)
    rows = rng.random(len(cells)) < 0.7
    rows[0] = True
    variance = NoiseVariance.of(cells.shape, constant=cells, linear=cells, quadratic=cells**2 + 1e-20)
    try:
        effective = effective_conductance(cells, wires, rows=rows)
    except FloatingNodeError:
        return
    found = effective_variance(cells, effective, variance, wires, rows=rows, filling=filling)
    for power in POWERS:
        term = getattr(found, power)
        assert np.isfinite(term).all()
        assert (term >= 0.0).all()
        assert (term[~rows] == 0.0).all()


def test_tiles_are_weighed_one_by_one() -> None:
    cells = np.random.default_rng(1).uniform(1e-6, 1e-4, (4, 9, 7))
    effective, variance = effective_conductance(cells, RESISTIVE), variance_of("quadratic", cells)
    together = effective_variance(cells, effective, variance, RESISTIVE)
    for tile in range(4):
        alone = effective_variance(cells[tile], effective[tile], variance_of("quadratic", cells[tile]), RESISTIVE)
        np.testing.assert_array_equal(together.quadratic[tile], alone.quadratic)


def test_bad_input_is_refused() -> None:
    cells = np.full((3, 2), 1e-5)
    effective, variance = effective_conductance(cells, RESISTIVE), variance_of("linear", cells)
    with pytest.raises(InputError, match=r"variance.constant must have shape \(3, 2\)"):
        effective_variance(cells, effective, variance_of("linear", cells[:2]), RESISTIVE)
    with pytest.raises(InputError, match=r"effective must have shape \(3, 2\)"):
        effective_variance(cells, effective[:2], variance, RESISTIVE)
    with pytest.raises(InputError, match=r"filling must be .*1\.5"):
        effective_variance(cells, effective, variance, RESISTIVE, filling=1.5)
    wrong = variance_of("linear", cells)
    wrong.linear[2, 1] = -1.0
    with pytest.raises(InputError, match=r"variance.linear must be >= 0, got -1\.0 at index \(2, 1\)"):
        reference_covariance(cells, wrong, np.ones(3), RESISTIVE)
    with pytest.raises(InputError, match=r"codes must have shape \(3,\) and be 0 in rows not selected"):
        reference_covariance(cells, variance, np.ones(3), RESISTIVE, rows=np.array([True, False, True]))
