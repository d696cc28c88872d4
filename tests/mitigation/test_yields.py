"""Spare lines: the law of how many are bad, exactly."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xbarsim.devices import FaultModel, StuckLineFaults
from xbarsim.foundation.validation import InputError
from xbarsim.mitigation import spare_line_yield, spare_lines_needed

SHARE = st.fractions(0, 1, max_denominator=1000)


def by_polya(lines: int, spares: int, rate: Fraction, correlation: Fraction) -> Fraction:
    """The same in whole numbers: line after line, each bad with a chance that those before it decide."""
    chances = {0: Fraction(1)}
    for seen in range(lines + spares):
        following: dict[int, Fraction] = {}
        for bad, chance in chances.items():
            weight = (1 - correlation) + correlation * seen
            here = (rate * (1 - correlation) + correlation * bad) / weight if weight else rate
            for more, share in ((1, here), (0, 1 - here)):
                following[bad + more] = following.get(bad + more, Fraction(0)) + chance * share
        chances = following
    return sum((chance for bad, chance in chances.items() if bad <= spares), Fraction(0))


@settings(deadline=None)
@given(lines=st.integers(1, 8), spares=st.integers(0, 6), rate=SHARE, correlation=SHARE)
def test_the_yield_is_that_of_lines_drawn_one_by_one(
    lines: int, spares: int, rate: Fraction, correlation: Fraction
) -> None:
    exact = float(by_polya(lines, spares, rate, correlation))
    assert spare_line_yield(lines, spares, rate=float(rate), correlation=float(correlation)) == pytest.approx(
        exact, rel=1e-12, abs=1e-300
    )


@given(
    lines=st.integers(1, 300),
    spares=st.integers(0, 100),
    rate=st.floats(1e-6, 0.999),
    correlation=st.just(0.0) | st.floats(1e-4, 0.9),
)
def test_the_yield_is_that_of_scipy(lines: int, spares: int, rate: float, correlation: float) -> None:
    law: Any = stats.binom(lines + spares, rate)
    if correlation:
        weight = (1 - correlation) / correlation
        law = stats.betabinom(lines + spares, rate * weight, (1 - rate) * weight)
    expected = float(law.cdf(spares))
    assert spare_line_yield(lines, spares, rate=rate, correlation=correlation) == pytest.approx(
        expected, rel=1e-7, abs=1e-12
    )


@pytest.mark.parametrize("correlation", [0.0, 1e-15, 1e-9])
def test_arrays_that_are_nearly_alike_are_as_those_that_are(correlation: float) -> None:
    assert spare_line_yield(256, 30, rate=0.1, correlation=correlation) == pytest.approx(
        float(stats.binom.cdf(30, 286, 0.1)), rel=1e-6
    )


def test_the_yield_is_the_share_of_drawn_arrays_that_have_enough_lines() -> None:
    """4,000 arrays of the fault model, whose word lines are bad by the same law: 5 standard deviations."""
    model = StuckLineFaults(on=0.0, off=0.1, row_share=1.0, correlation=0.05)
    broken = (model.sample((4000, 64, 2), np.random.default_rng(6)).dense() > 0).all(axis=2).sum(axis=1)
    for spares in (0, 4, 8, 16):
        stated = spare_line_yield(64 - spares, spares, rate=0.1, correlation=0.05)
        assert abs((broken <= spares).mean() - stated) < 5 * math.sqrt(stated * (1 - stated) / 4000)


@given(
    lines=st.integers(1, 40),
    spares=st.integers(0, 20),
    rate=st.floats(0.0, 1.0),
    correlation=st.floats(0.0, 1.0),
    target=st.floats(0.0, 0.99),
)
def test_a_spare_more_never_does_worse_and_the_fewest_are_found(
    lines: int, spares: int, rate: float, correlation: float, target: float
) -> None:
    law = {"rate": rate, "correlation": correlation}
    reached = [spare_line_yield(lines, k, **law) for k in range(61)]
    assert all(more >= fewer - 1e-12 for fewer, more in pairwise(reached))
    assert 0.0 <= reached[spares] <= 1.0
    if reached[-1] < target:
        with pytest.raises(InputError, match="which 60 spares beside"):
            spare_lines_needed(lines, target=target, at_most=60, **law)
        return
    needed = spare_lines_needed(lines, target=target, at_most=60, **law)
    assert reached[needed] >= target
    assert needed == 0 or reached[needed - 1] < target + 1e-12


def test_the_measured_lines_need_many_spares() -> None:
    """The preset's word lines: unequal arrays need 105 spares for 99 %, where equal ones would need 43."""
    model: Any = FaultModel.load("wan2022_lines")
    word = model.models[0]
    assert (word.row_share, word.on) == (1.0, 0.0)
    assert spare_lines_needed(256, rate=word.off, correlation=word.correlation, target=0.99) == 105
    assert spare_lines_needed(256, rate=word.off, target=0.99) == 43


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lines": 0}, "lines must be an integer >= 1"),
        ({"spares": -1}, "spares must be an integer >= 0"),
        ({"lines": 2**20, "spares": 1}, "spares must be an integer >= 0 and <= 0, got 1"),
        ({"rate": 1.1}, "rate must be .*got 1.1"),
        ({"correlation": -0.1}, "correlation must be .*got -0.1"),
    ],
)
def test_what_is_out_of_bounds_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        spare_line_yield(**{"lines": 4, "spares": 1, "rate": 0.1, "correlation": 0.0, **wrong})
