"""Stop rules by brute force, and by simulation.

Simulations have a fixed seed. Their bounds leave 5 standard deviations, a false alarm in 1.7 million.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbarsim import InputError
from xbarsim.foundation import tomlio
from xbarsim.foundation.intervals import mean_interval, share_interval
from xbarsim.sweep import Dies, MeanWithin, StopRule, YieldWithin
from xbarsim.sweep.stopping import describe, is_good


def slack(probability: float, runs: int) -> float:
    return 5 * math.sqrt(probability * (1 - probability) / runs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Dies(count=0), "count must be an integer >= 1 and <= 1000000, got 0"),
        (lambda: MeanWithin(half_width=0.0), "half_width must be a finite number .*got 0.0"),
        (lambda: MeanWithin(half_width=0.1, at_least=1), "at_least must be an integer >= 2, got 1"),
        (lambda: MeanWithin(half_width=0.1, at_least=9, at_most=8), "at_most must be an integer >= 9 .*got 8"),
        (lambda: YieldWithin(target=1.5, half_width=0.1), "target must be a finite number .*got 1.5"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]


# --- stop rules

RULES = [
    Dies(count=5),
    MeanWithin(half_width=0.08, at_least=3, at_most=12),
    MeanWithin(half_width=0.02, confidence=0.8, at_least=2, at_most=9),
    YieldWithin(target=0.5, half_width=0.25, at_least=2, at_most=14),
]
IMAGES = 40


def brute_force(rule: StopRule, correct: list[int]) -> int | None:
    """The definition: look at every prefix in turn."""
    for dies in range(1, len(correct) + 1):
        prefix = correct[:dies]
        if isinstance(rule, Dies):
            stop = dies == rule.count
        else:
            if dies < rule.least:
                continue
            if isinstance(rule, MeanWithin):
                width = mean_interval([c / IMAGES for c in prefix], confidence=rule.confidence).half_width
            else:
                assert isinstance(rule, YieldWithin)
                good = sum(c / IMAGES >= rule.target for c in prefix)
                width = share_interval(good, dies, confidence=rule.confidence).half_width
            assert isinstance(rule, MeanWithin | YieldWithin)
            stop = width <= rule.half_width or dies == rule.most
        if stop:
            return dies
    return None


@pytest.mark.parametrize("rule", RULES)
@given(data=st.data())
def test_a_rule_is_decided_by_the_shortest_prefix(rule: StopRule, data: st.DataObject) -> None:
    correct = data.draw(st.lists(st.integers(0, IMAGES), max_size=20))
    wanted = brute_force(rule, correct)
    assert rule.enough(correct, IMAGES) == wanted
    for length in range(len(correct)):  # and more dies change nothing
        assert rule.enough(correct[:length], IMAGES) == (wanted if wanted is not None and wanted <= length else None)
    if wanted is not None:
        assert rule.least <= wanted <= rule.most
    if correct:
        assert rule.least <= rule.expected(correct, IMAGES) <= rule.most


@pytest.mark.parametrize("rule", RULES)
def test_rules_as_tables(rule: StopRule) -> None:
    assert tomlio.from_table(StopRule, describe(rule)) == rule  # type: ignore[type-abstract]


def test_dies_that_stop_early_still_cover() -> None:
    """The price of looking after every die, with at_least = 10: some points of confidence, not more."""
    rng, runs = np.random.default_rng(6), 1500
    rule = MeanWithin(half_width=0.03, at_least=10, at_most=400)
    covered = 0
    for _ in range(runs):
        correct = np.clip(rng.normal(700, 100, 400).round(), 0, 1000).astype(int)
        dies = rule.enough(correct, 1000)  # type: ignore[arg-type]
        assert dies is not None
        found = mean_interval(correct[:dies] / 1000)
        assert found.half_width <= 0.03 + 1e-12
        covered += found.low <= 0.7 <= found.high
    assert covered / runs > 0.92 - slack(0.92, runs)


def test_a_target_that_binary_numbers_miss_is_reached() -> None:
    assert is_good(np.array([2, 3, 4]), 10, 0.3).tolist() == [False, True, True]
    assert is_good(np.array([7, 8]), 10, 0.1 + 0.7).tolist() == [False, True]
