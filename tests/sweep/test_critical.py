"""The critical rate: known crossings, coverage by simulation, and a search from end to end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sweep.subjects import DESIGN, task
from xbarsim import InputError
from xbarsim.devices import StuckFaults
from xbarsim.foundation.intervals import Interval, mean_interval
from xbarsim.sweep import InProcess, Store, Task, critical_rate
from xbarsim.sweep.critical import cross, crossing


def curve(rate: float) -> float:
    """Accuracy that falls from 1 to 0; 0.5 at a rate of 0.01."""
    return float(1 / (1 + (rate / 0.01) ** 1.5))


def exactly(half: float) -> Any:
    def measure(rate: float) -> Interval:
        value = curve(rate)
        return Interval(estimate=value, low=value - half, high=value + half, confidence=0.95, method="t", count=9)

    return measure


@pytest.mark.parametrize("target", [0.3, 0.5, 0.9])
def test_a_known_crossing(target: float) -> None:
    truth = 0.01 * (1 / target - 1) ** (1 / 1.5)
    rate, low, high, measured = cross(exactly(0.0), target=target, low=1e-4, high=0.5, steps=8)
    step = (0.5 / 1e-4) ** (1 / 2**8)
    assert rate == pytest.approx(truth, rel=0.002)
    assert truth / step <= low <= rate <= high <= truth * step
    assert len(measured) <= 2 + 8  # all three searches share their rates


def test_the_interval_inverts_that_of_the_accuracy() -> None:
    step = (0.5 / 1e-4) ** (1 / 2**10)
    _, low, high, _ = cross(exactly(0.05), target=0.5, low=1e-4, high=0.5, steps=10)
    # the rates at which accuracy is 0.55 and 0.45
    for found, edge in ((low, 0.55), (high, 0.45)):
        truth = 0.01 * (1 / edge - 1) ** (1 / 1.5)
        assert truth / step <= found <= truth * step


def test_the_interval_covers_the_truth() -> None:
    """1,000 searches on 12 normal dies a rate; 95 % must cover, less 5 standard deviations: 91.6 %."""
    rng, covered, runs = np.random.default_rng(1), 0, 1000
    for _ in range(runs):
        dies = rng.normal(0, 0.08, 12)  # good and bad dies, the same at every rate
        draws: dict[float, Interval] = {}

        def measure(rate: float, dies: Any = dies, draws: dict[float, Interval] = draws) -> Interval:
            if rate not in draws:
                draws[rate] = mean_interval(curve(rate) + dies + rng.normal(0, 0.04, 12))
            return draws[rate]

        _, low, high, _ = cross(measure, target=0.5, low=5e-4, high=0.2, steps=7)
        covered += low <= 0.01 <= high
    assert covered / runs > 0.95 - 5 * math.sqrt(0.95 * 0.05 / runs)
    assert covered < runs  # and it is not so wide that it says nothing


def test_out_of_range() -> None:
    with pytest.raises(InputError, match=r"low must be a rate at which the target of 0\.9 is reached, got 0\.02"):
        cross(exactly(0.0), target=0.9, low=0.02, high=0.5, steps=3)
    with pytest.raises(InputError, match=r"high must be a rate at which the target of 0\.5 is not reached, got 0\.002"):
        cross(exactly(0.0), target=0.5, low=0.001, high=0.002, steps=3)


def test_crossing_of_a_measured_curve() -> None:
    rates, values = [0.0, 0.001, 0.01, 0.1], [0.9, 0.8, 0.85, 0.1]
    assert crossing(rates, values, 0.85) == pytest.approx(0.0005)  # linear from 0; the first time it falls below
    assert crossing(rates, values, 0.75) == pytest.approx(0.01 * 10 ** (0.1 / 0.75))
    assert crossing(rates, values, 0.8) == pytest.approx(0.01 * 10 ** (0.05 / 0.75))  # at the target is not below
    assert crossing(rates, values, 0.95) == 0.0
    assert crossing(rates, values, 0.05) == math.inf
    power = [curve(rate) for rate in np.geomspace(1e-3, 1e-1, 401)]
    assert crossing(np.geomspace(1e-3, 1e-1, 401).tolist(), power, 0.5) == pytest.approx(0.01, rel=1e-4)
    with pytest.raises(InputError, match=r"rates must ascend from 0 or more, got \[0\.1, 0\.1\]"):
        crossing([0.1, 0.1], [1, 1], 0.5)
    with pytest.raises(InputError, match="values must be one for each of 2 rates, got 1"):
        crossing([0.1, 0.2], [1], 0.5)


def make(rate: float) -> Task:
    return task(design=DESIGN.replace(faults=StuckFaults(on=rate / 2, off=rate / 2)))


@pytest.mark.parametrize("good", [None, 0.6])
def test_from_end_to_end(good: float | None, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "target": 0.7, "stop": 8, "low": 1e-3, "high": 0.6, "steps": 4, "good": good, "executor": InProcess(),
    }  # fmt: skip
    found = critical_rate(make, store=tmp_path / "s.sqlite", **options)
    assert 1e-3 <= found.low <= found.rate <= found.high <= 0.6
    rates = [rate for rate, _ in found.measured]
    assert rates == sorted(rates)
    above = [interval.estimate for rate, interval in found.measured if rate < found.rate]
    below = [interval.estimate for rate, interval in found.measured if rate > found.rate]
    assert above[-1] >= 0.7 > below[0]
    assert len(found.results.tasks) == len(rates)
    with Store(tmp_path / "s.sqlite", read_only=True) as store:
        count = store.count()
    assert count == 8 * len(rates)
    again = critical_rate(make, store=tmp_path / "s.sqlite", **options)
    assert (again.rate, again.low, again.high) == (found.rate, found.low, found.high)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": 1.0}, "target must be a finite number .*got 1.0"),
        ({"low": 0.0}, "low must be a finite number .*got 0.0"),
        ({"high": 1e-5}, "high must be a finite number > 0.0001"),
        ({"steps": 0}, "steps must be an integer >= 1"),
        ({"good": 2.0}, "good must be a finite number"),
        ({"confidence": 0.0}, "confidence must be a finite number"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        critical_rate(make, **{"target": 0.7, "stop": 8, "executor": InProcess(), **changes})
