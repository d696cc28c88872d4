"""The cards written from formulas are what the script writes, and hold what the sources' formulas say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xbarsim.devices import Cell, MeasuredDrift, card
from xbarsim.experiments.fits.cited_cards import cards

DAY = 86400.0


@pytest.fixture(scope="module")
def made() -> dict[str, object]:
    return {each.name: each for each in cards()}


def test_the_shipped_cards_are_those_that_the_script_writes(made: dict[str, object]) -> None:
    assert sorted(made) == ["agrawal2022", "falcone2025_coarse", "falcone2025_relaxing", "wan2022_relaxing"]
    for name, written in made.items():
        assert card(name) == written


def moments(name: str, targets: list[float], time: float) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of (conductance - target) at a time after programming, uS."""
    drift = Cell.load(name).drift
    assert isinstance(drift, MeasuredDrift)
    mean, spread = drift.moments([1e-6 * target for target in targets], time - drift.reference_time)
    return (1e6 * mean).tolist(), (1e6 * spread).tolist()


def test_neurram_relaxes_as_published() -> None:
    """The polynomials of 1 and 2 days at 10, 20 and 35 uS, worked out here."""
    x = np.array([0.25, 0.5, 0.875])
    for time, c in (
        (DAY, (0.701, 22.086, -50.773, 47.095, -16.458)),
        (2 * DAY, (0.782, 20.274, -43.507, 37.062, -11.934)),
    ):
        expected = c[0] + c[1] * x + c[2] * x**2 + c[3] * x**3 + c[4] * x**4
        mean, spread = moments("wan2022_relaxing", [10.0, 20.0, 35.0], time)
        np.testing.assert_allclose(spread, expected, rtol=0.01)
        np.testing.assert_allclose(mean, 0.0, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "constant", "slope"),
    [("falcone2025_relaxing", 0.00081107, 0.00106879), ("falcone2025_coarse", 0.0112185391, 0.01129027418)],
)
def test_the_filamentary_cells_relax_as_published(name: str, constant: float, slope: float) -> None:
    for time in (1.0, 1e4, 1e5, 3.156e8):
        mean, spread = moments(name, [10.0, 80.0], time)
        relaxed = 0.04201137 * math.log(time) + 0.41183342
        np.testing.assert_allclose(mean, -0.08900206 * math.log(time), atol=2e-3)
        np.testing.assert_allclose(spread, [math.hypot(relaxed, constant + slope * g) for g in (10.0, 80.0)], rtol=0.01)
    cell = Cell.load(name)
    assert cell.read_noise is not None
    expected = 1e-6 * 0.0277316483 * math.log10(40.0) * math.sqrt(math.log((1 + 1e-6) / 2e-6))
    assert math.sqrt(float(cell.read_noise.variance(40e-6, None).quadratic)) == pytest.approx(expected, rel=0.01)


def test_charge_traps_lose_charge_as_published() -> None:
    """At 100 nA (1 uS) one day after programming, by the coefficients of that day; and the noise of a read."""
    current = 100.0
    shift = (6.83650e-01 + 6.51250e-03 * current - 4.03163e-04 * current**2 + 3.37944e-06 * current**3
             - 1.87435e-08 * current**4 + 5.88902e-11 * current**5 - 1.07685e-13 * current**6 + 1.17751e-16 * current**7
             - 7.60016e-20 * current**8 + 2.67255e-23 * current**9 - 3.94954e-27 * current**10)  # fmt: skip
    mean, spread = moments("agrawal2022", [1.0], DAY)
    assert mean[0] == pytest.approx(shift / 100, rel=0.02)
    assert spread[0] == pytest.approx(25.59102 * (1 - math.exp(-(current + shift) / 186.85544)) / 100, rel=0.02)
    cell = Cell.load("agrawal2022")
    assert cell.programming_error is not None
    assert cell.read_noise is not None
    g = np.array([0.2e-6, 1e-6, 13e-6])
    by_formula = 19.88665 * (1 - np.exp(-g * 1e8 / 176.3115)) * 1e-8
    np.testing.assert_allclose(cell.programming_error.spread(g), by_formula, rtol=0.01)
    by_formula = 12.58037 * (1 - np.exp(-g * 1e8 / 215.36557)) * 1e-8
    np.testing.assert_allclose(np.sqrt(cell.read_noise.variance(g, None).quadratic), by_formula, rtol=0.01)


def test_the_silver_cell_by_hand() -> None:
    cell = Cell.load("jo2010")
    assert 1 / cell.g_max == pytest.approx(26e6, rel=1e-3)
    assert 1 / cell.g_min == pytest.approx(325e6, rel=1e-3)
    assert cell.programming_error is not None
    assert cell.programming_error.spread([1e-8])[0] == pytest.approx(0.035 * (cell.g_max - cell.g_min))
