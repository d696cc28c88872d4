"""Intervals against scipy, against exact coverage, and by simulation.

Simulations have a fixed seed. Their bounds leave 5 standard deviations, a false alarm in 1.7 million.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from xbarsim import InputError
from xbarsim.experiments.studies.interval_coverage import coverage
from xbarsim.foundation.intervals import (
    FewDiesWarning,
    difference_interval,
    mean_interval,
    median_interval,
    paired_difference,
    share_interval,
    with_test_images,
)


def slack(probability: float, runs: int) -> float:
    return 5 * math.sqrt(probability * (1 - probability) / runs)


def test_t_interval_is_scipys() -> None:
    sample = np.random.default_rng(1).gamma(2.0, size=17)
    found = mean_interval(sample, confidence=0.9)
    low, high = stats.t.interval(0.9, 16, loc=sample.mean(), scale=stats.sem(sample))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.estimate == pytest.approx(sample.mean(), rel=1e-15)
    assert (found.count, found.method, found.confidence) == (17, "t", 0.9)
    assert found.half_width == pytest.approx((high - low) / 2)


def test_t_interval_covers_the_mean_of_normal_dies() -> None:
    rng, runs = np.random.default_rng(2), 4000
    covered = 0
    for sample in rng.normal(0.7, 0.1, (runs, 6)):
        found = mean_interval(sample)
        covered += found.low <= 0.7 <= found.high
    assert abs(covered / runs - 0.95) < slack(0.95, runs)


def test_bootstrap_interval() -> None:
    sample = np.random.default_rng(3).beta(8, 2, 40)
    found = mean_interval(sample, method="bootstrap", seed=5)
    assert found == mean_interval(sample, method="bootstrap", seed=5)
    assert found != mean_interval(sample, method="bootstrap", seed=6)
    assert found.low < found.estimate < found.high
    assert found.half_width == pytest.approx(mean_interval(sample).half_width, rel=0.15)


def test_bootstrap_interval_covers_the_mean_of_skewed_dies() -> None:
    """It covers somewhat less often than it says at 30 dies; 88 % is what no correct one falls below."""
    rng, runs = np.random.default_rng(4), 150
    covered = 0
    for seed in range(runs):
        sample = 1 - rng.exponential(0.05, 30)
        found = mean_interval(sample, method="bootstrap", seed=seed)
        covered += found.low <= 0.95 <= found.high
    assert 0.88 - slack(0.88, runs) < covered / runs <= 1.0
    assert covered < runs


@pytest.mark.parametrize("method", ["t", "bootstrap"])
def test_equal_dies_and_single_dies(method: str) -> None:
    found = mean_interval([0.3] * 7, method=method)  # type: ignore[arg-type]
    assert (found.low, found.estimate, found.high) == (0.3, 0.3, 0.3)
    found = mean_interval([0.3], method=method)  # type: ignore[arg-type]
    assert found.estimate == 0.3
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@given(st.integers(0, 60), st.integers(1, 60), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_clopper_pearson_is_scipys(good: int, dies: int, confidence: float) -> None:
    good = min(good, dies)
    found = share_interval(good, dies, confidence=confidence)
    wanted = stats.binomtest(good, dies).proportion_ci(confidence, method="exact")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert found.low <= found.estimate <= found.high


@pytest.mark.parametrize("dies", [1, 2, 7, 30])
def test_clopper_pearson_covers_at_least_as_often_as_it_says(dies: int) -> None:
    """Exactly, from the binomial law: for every true yield on a fine grid."""
    intervals = [share_interval(good, dies) for good in range(dies + 1)]
    low = np.array([found.low for found in intervals])
    high = np.array([found.high for found in intervals])
    for truth in np.linspace(0.0, 1.0, 501):
        covered = stats.binom.pmf(np.arange(dies + 1), dies, truth)[(low <= truth) & (truth <= high)].sum()
        assert covered >= 0.95 - 1e-12


@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=9), st.lists(st.floats(-1, 8), min_size=2, max_size=6),
    st.sampled_from([0.5, 0.9, 0.95]),
)  # fmt: skip
def test_difference_of_two_samples_is_scipys(one: list[float], other: list[float], confidence: float) -> None:
    found = difference_interval(one, other, confidence=confidence)
    assert found.estimate == pytest.approx(np.mean(one) - np.mean(other), abs=1e-12)
    if np.var(one) + np.var(other) < 1e-12:  # scipy loses the digits
        assert found.low <= found.estimate <= found.high
        return
    wanted = stats.ttest_ind(one, other, equal_var=False).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-9, abs=1e-9)


def test_difference_of_samples_without_scatter_or_without_a_second_value() -> None:
    alike = difference_interval([0.5, 0.5], [0.25, 0.25, 0.25])
    assert (alike.estimate, alike.low, alike.high) == (0.25, 0.25, 0.25)
    single = difference_interval([0.5], [0.25, 0.75])
    assert not single.has_ends
    assert single.estimate == 0.0


def test_paired_difference_is_scipys() -> None:
    rng = np.random.default_rng(5)
    die = rng.normal(0, 0.1, 25)
    first, second = 0.8 + die + rng.normal(0, 0.01, 25), 0.79 + die + rng.normal(0, 0.01, 25)
    found = paired_difference(first, second)
    wanted = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-9)
    # the reason to pair: what the dies share cancels
    apart = math.hypot(mean_interval(first).half_width, mean_interval(second).half_width)
    assert found.half_width < apart / 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "values must be finite numbers, one for each of 1 die or more"),
        (lambda: mean_interval([0.1, math.nan]), "values must be finite numbers"),
        (lambda: mean_interval([0.1, 0.2], confidence=1.0), "confidence must be a finite number .*got 1.0"),
        (lambda: mean_interval([0.1, 0.2], method="x"), "method must be one of 't', 'bootstrap', got 'x'"),  # type: ignore[arg-type]
        (lambda: share_interval(3, 2), "good must be an integer >= 0 and <= 2, got 3"),
        (lambda: share_interval(0, 0), "count must be an integer >= 1, got 0"),
        (lambda: paired_difference([0.1], [0.1, 0.2]), r"second must be of as many dies as first \(1\), got 2"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]


# --- few dies, and dies of which some fail


@given(st.integers(1, 60), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_median_interval_is_the_narrowest_that_covers_by_exact_counting(dies: int, confidence: float) -> None:
    """Between the r-th smallest and greatest; outside with the probability of fewer than r heads, doubled."""
    found = median_interval(np.arange(dies, 0.0, -1.0), confidence=confidence)

    def covers(rank: int) -> float:
        return 1.0 - 2.0 * float(sum(math.comb(dies, k) for k in range(rank))) / 2.0**dies

    assert found.estimate == (dies + 1) / 2
    assert (found.count, found.method, found.confidence) == (dies, "order statistics", confidence)
    if found.has_ends:
        rank = int(found.low)
        assert found.low + found.high == dies + 1
        assert covers(rank) >= confidence - 1e-12
        assert covers(rank + 1) < confidence + 1e-12 or 2 * (rank + 1) > dies + 1
    else:
        assert covers(1) < confidence


def test_median_interval_of_textbook_sizes() -> None:
    """95 %: no interval of 5 dies, the extremes of 6 to 8, the second of 9 (Conover's table of binomial limits)."""
    ends = {dies: median_interval(np.arange(1.0, dies + 1)) for dies in (5, 6, 8, 9, 11, 12, 20)}
    assert not ends[5].has_ends
    assert {dies: found.low for dies, found in ends.items() if dies > 5} == {6: 1, 8: 1, 9: 2, 11: 2, 12: 3, 20: 6}
    with pytest.raises(InputError, match="values must be finite numbers"):
        median_interval([])
    with pytest.raises(InputError, match="confidence"):
        median_interval([0.1], confidence=1.0)


@pytest.mark.parametrize("method", ["t", "bootstrap"])
def test_few_dies_are_warned_of(method: Any) -> None:
    spread = np.linspace(0.7, 0.9, 20)
    for dies in (2, 19):
        with pytest.warns(
            FewDiesWarning, match=f"the mean of {dies} dies, fewer than 20, covers it less often than 0.95"
        ):
            mean_interval(spread[:dies], method=method)
    with pytest.warns(FewDiesWarning):
        paired_difference(spread[:5], spread[5:10] ** 2, method=method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean_interval(spread, method=method)
        mean_interval(spread[:1], method=method)
        mean_interval([0.5] * 5, method=method)


def test_means_of_few_dies_miss_what_the_median_and_the_yield_keep() -> None:
    """One die in ten is dead: 41 % and 65 % of t intervals from 5 and 10 dies cover, as docs/statistics.md says.

    4,000 samples each; bounds of 5 standard deviations.
    """
    runs = 4000
    for dies, covered_by_t in ((5, 0.412), (10, 0.648)):
        rows = {row["interval"]: row for row in coverage("one die in ten dead", dies, runs, 100, seed=1)}
        assert abs(rows["mean, t"]["covered"] - covered_by_t) < 2 * slack(covered_by_t, runs)
        assert rows["yield"]["covered"] > 0.95 - slack(0.95, runs)
        if dies == 10:
            exact = 1 - 2 * (1 + 10) / 2**10
            assert abs(rows["median, order statistics"]["covered"] - exact) < slack(exact, runs)
        else:
            assert rows["median, order statistics"]["covered"] is None


@pytest.mark.parametrize(("dies", "images"), [(20, 100), (40, 1000)])
@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_intervals_of_dies_and_images_cover_what_other_images_would_give(dies: int, images: int, alike: float) -> None:
    """Dies of different quality on images of different difficulty; `alike`: how much dies agree on them.

    The truth is the mean over all dies and all images. 95 % must cover, less 5 standard deviations of 400 runs: 89.5 %.
    """
    rng, covered, narrow, runs = np.random.default_rng(1), 0, 0, 400
    for _ in range(runs):
        quality = rng.normal(1.0, 0.15, (dies, 1))
        image = rng.normal(0.0, math.sqrt(alike), (1, images))
        right = quality + image + rng.normal(0.0, math.sqrt(1 - alike), (dies, images)) > 0
        mean = mean_interval(right.mean(axis=1))
        wide = with_test_images(mean, images)
        truth = float(stats.norm.cdf(1.0 / math.sqrt(1 + 0.15**2)))
        covered += wide.low <= truth <= wide.high
        narrow += mean.low <= truth <= mean.high
        assert wide.low < mean.low
        assert wide.high > mean.high
    assert covered / runs > 0.895
    if alike == 1.0:
        assert narrow / runs < 0.8  # an interval over dies alone does not speak of other images


def test_a_mean_without_ends_has_the_interval_of_its_images_alone() -> None:
    with_images = with_test_images(mean_interval([0.9]), 1000)
    exact = share_interval(900, 1000)
    assert [with_images.low, with_images.high] == pytest.approx([exact.low, exact.high])
    with pytest.raises(InputError, match="images must be"):
        with_test_images(mean_interval([0.9]), 0)
    with pytest.raises(InputError, match=r"mean.estimate"):
        with_test_images(mean_interval([1.9]), 10)
