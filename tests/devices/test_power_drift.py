"""Drift by a power of time: closed forms, the published exponents, and its way through cells and dies."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from xbarsim.devices import Cell, ExponentLaw, PowerLawDrift
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError

ALARM = 1e-6

MEAN = ExponentLaw(offset=0.02, slope=-0.02, scale=2e-5, least=0.04, most=0.1)
SPREAD = ExponentLaw(offset=0.01, slope=-0.01, scale=2e-5, least=0.01, most=0.03)
LAW = PowerLawDrift(mean=MEAN, spread=SPREAD, reference_time=20.0, valid_from=0.0, valid_to=2e-5, valid_seconds=1e7)


def test_an_exponent_is_held_between_its_ends() -> None:
    np.testing.assert_allclose(MEAN([2e-5 * math.exp(-3.0)]), [0.08])
    np.testing.assert_allclose(MEAN([2e-5, 1e-3, 0.0, 1e-12]), [0.04, 0.04, 0.1, 0.1])


def test_one_cell_by_hand() -> None:
    """10 uS with exponent 0.05 at 1,000 times the reference time: a factor 1000^-0.05."""
    still = dataclasses.replace(LAW, mean=ExponentLaw(offset=0.05, slope=0.0, scale=1.0, least=0.0, most=1.0))
    still = dataclasses.replace(still, spread=ExponentLaw(offset=0.0, slope=0.0, scale=1.0, least=0.0, most=0.0))
    moved = still.relax([1e-5, 0.0], 20.0 * 999, np.random.default_rng(1))
    np.testing.assert_allclose(moved, [1e-5 * 1000**-0.05, 0.0])
    np.testing.assert_array_equal(still.relax([1e-5], 0.0, np.random.default_rng(1)), [1e-5])


@settings(deadline=None, max_examples=20)
@given(st.floats(1e-7, 2e-5), st.floats(1.0, 1e7))
def test_moments_are_those_of_a_normal_exponent(g: float, seconds: float) -> None:
    x = math.log(1 + seconds / 20.0)
    mean, spread = float(MEAN(g)), float(SPREAD(g))

    def expected(power: int) -> float:
        return float(
            integrate.quad(
                lambda z: (g * math.exp(-(mean + spread * z) * x)) ** power * stats.norm.pdf(z), -9, 9, epsabs=0
            )[0]
        )

    first, second = expected(1), expected(2)
    change, deviation = LAW.moments([g], seconds)
    assert change[0] == pytest.approx(first - g, rel=1e-6)
    assert deviation[0] == pytest.approx(math.sqrt(second - first**2), rel=1e-4)


def test_many_cells_have_these_moments() -> None:
    cells = np.full(40_000, 5e-6)
    moved = LAW.relax(cells, 1e6, np.random.default_rng(3)) - cells
    mean, deviation = (float(part[0]) for part in LAW.moments([5e-6], 1e6))
    bound = stats.norm.isf(ALARM / 2)
    assert abs(moved.mean() - mean) < bound * deviation / 200
    assert moved.std() == pytest.approx(deviation, rel=0.05)


def test_ages_of_a_cell_lie_on_one_power_of_time() -> None:
    cells = np.linspace(1e-6, 2e-5, 500)
    logs = [np.log(LAW.relax(cells, t, np.random.default_rng(5)) / cells) for t in (180.0, 1980.0, 19980.0)]
    np.testing.assert_allclose(logs[1], 2 * logs[0], rtol=1e-9)  # 10, 100 and 1,000 times the reference time
    np.testing.assert_allclose(logs[2], 3 * logs[0], rtol=1e-9)


def test_the_published_exponents_of_phase_change_memory() -> None:
    """nandakumar2019: at g_max 0.049 +- 0.008; at a tenth 0.0601 +- 0.0229; at a hundredth 0.0958 +- 0.045."""
    cell = Cell.load("nandakumar2019")
    assert isinstance(cell.drift, PowerLawDrift)
    g = 25e-6 * np.array([1.0, 0.1, 0.01])
    np.testing.assert_allclose(cell.drift.mean(g), [0.049, 0.0601, 0.0958], atol=1e-4)
    np.testing.assert_allclose(cell.drift.spread(g), [0.008, 0.0229, 0.045], atol=1e-4)
    assert cell.read_noise is not None
    ratio = (20.0 + 250e-9) / (2 * 250e-9)
    q = np.minimum(0.0088 / (g / 25e-6) ** 0.65, 0.2)
    expected = g * q * math.sqrt(math.log(ratio))
    np.testing.assert_allclose(np.sqrt(cell.read_noise.variance(g, None).quadratic), expected, rtol=1e-6)


def test_a_die_of_it_drifts_and_survives_toml() -> None:
    cell = Cell.load("nandakumar2019")
    assert tomlio.loads(Cell, tomlio.dumps(cell)) == cell
    levels = np.repeat(np.arange(16), 500)
    new = cell.program(levels, 4, np.random.default_rng(1), stopped=False)
    old = cell.relax(new, levels, 4, 86400.0, np.random.default_rng(2))
    high = levels == 15
    fall = cell.conductance(old[high], 4).mean() / cell.conductance(np.maximum(new[high], 0), 4).mean()
    assert fall == pytest.approx(((86400.0 + 20.0) / 20.0) ** -0.049, rel=0.01)
    with pytest.raises(InputError, match=r"seconds must be .*<= 31560000.0"):
        cell.relax(new, levels, 4, 1e9, np.random.default_rng(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": 0.05}, r"mean must be of type ExponentLaw|mean must be"),
        ({"reference_time": 0.0}, r"reference_time must be .*> 0.0, got 0.0"),
        ({"valid_to": 0.0}, r"valid_to must be .*> 0.0, got 0.0"),
        ({"valid_seconds": -1.0}, r"valid_seconds must be .*> 0.0, got -1.0"),
        ({"spread": dataclasses.replace(SPREAD, least=-0.1)}, r"spread.least must be >= 0 .*got -0.1"),
    ],
)
def test_a_bad_law_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(LAW, **changes)


def test_bad_exponents_are_refused() -> None:
    with pytest.raises(InputError, match=r"most must be .*>= 0.04, got 0.01"):
        dataclasses.replace(MEAN, most=0.01)
    with pytest.raises(InputError, match=r"scale must be .*> 0.0, got 0.0"):
        dataclasses.replace(MEAN, scale=0.0)
    with pytest.raises(FileFormatError, match="no key 'slop'"):
        tomlio.loads(PowerLawDrift, tomlio.dumps(LAW).replace("slope", "slop"))
