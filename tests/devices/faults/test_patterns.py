"""Patterns of faults: every one keeps the rate it is asked for, and has the spread that its law says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xbarsim.devices import (
    BetaBinomialFaults,
    ClusteredFaults,
    CombinedFaults,
    FaultKind,
    FaultMap,
    FaultModel,
    GradientFaults,
    ListedConductances,
    RadialFaults,
    StuckAtFaults,
    StuckFaults,
    StuckLineFaults,
    WearOutFaults,
)
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError

# Every statistical test below has a fixed seed, and would raise a false alarm for this share of seeds.
FALSE_ALARM = 1e-6

PATTERNS: dict[str, Callable[[float, float], FaultModel]] = {
    "even": lambda on, off: StuckFaults(on=on, off=off),
    "clusters": lambda on, off: ClusteredFaults(on=on, off=off, size=8.0, spread=1.5),
    "tight clusters": lambda on, off: ClusteredFaults(on=on, off=off, size=30.0, spread=0.7, alike=True),
    "heaps": lambda on, off: ClusteredFaults(on=on, off=off, size=3.0, spread=0.0),
    "tiles": lambda on, off: BetaBinomialFaults(on=on, off=off, correlation=0.05),
    "whole tiles": lambda on, off: BetaBinomialFaults(on=on, off=off, correlation=1.0),
    "lines": lambda on, off: StuckLineFaults(on=on, off=off),
    "pairs of columns": lambda on, off: StuckLineFaults(on=on, off=off, row_share=0.0, width=2),
    "parts of lines": lambda on, off: StuckLineFaults(on=on, off=off, row_share=0.7, width=2, partial=True),
    "lines of unequal arrays": lambda on, off: StuckLineFaults(on=on, off=off, correlation=0.04),
    "parts of lines of unequal arrays": lambda on, off: StuckLineFaults(
        on=on, off=off, row_share=0.7, partial=True, correlation=0.2
    ),
    "columns": lambda on, off: GradientFaults(on=on, off=off, contrast=0.9),
    "rows": lambda on, off: GradientFaults(on=on, off=off, contrast=-1.0, across="rows"),
    "rim": lambda on, off: RadialFaults(on=on, off=off, contrast=1.0, exponent=3.0),
    "spot": lambda on, off: RadialFaults(on=on, off=off, contrast=-0.8),
    "wear": lambda on, off: WearOutFaults(
        writes=1.0, endurance=1.0, weibull_shape=1.4, on_share=on / (on + off)
    ).with_total(on + off),
    "two causes": lambda on, off: CombinedFaults(
        models=(StuckFaults(on=on / 2, off=off / 2), StuckLineFaults(on=on / 2, off=off / 2))
    ).with_total(on + off),
}
pattern = pytest.mark.parametrize("make", PATTERNS.values(), ids=list(PATTERNS))


def counts_of_dies(model: FaultModel, shape: tuple[int, int, int], dies: int, seed: int) -> np.ndarray:
    """Broken cells of each kind in each tile, (dies * tiles, kinds)."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((dies, shape[0], len(FaultKind)), np.int64)
    for die in range(dies):
        fault_map = model.sample(shape, rng)
        np.add.at(counts[die], (fault_map.index // (shape[1] * shape[2]), fault_map.kind - 1), 1)
    return counts.reshape(-1, len(FaultKind))


@pattern
@pytest.mark.parametrize(("on", "off"), [(0.02, 0.09), (0.2, 0.05)])
def test_every_pattern_has_the_same_mean_rate(
    make: Callable[[float, float], FaultModel], on: float, off: float
) -> None:
    model = make(on, off)
    assert model.total == pytest.approx(on + off, rel=1e-12)
    shape, dies = (200, 12, 16), 20
    counts = counts_of_dies(model, shape, dies, seed=21)
    # Tiles are independent: 4000 of them, whose mean is normal to well within the margin.
    limit = stats.norm.isf(FALSE_ALARM / 4 / len(PATTERNS) / 2)
    for kind in (FaultKind.STUCK_ON, FaultKind.STUCK_OFF):
        shares = counts[:, kind - 1] / (12 * 16)
        error = abs(shares.mean() - model.rates[kind])
        assert error < limit * shares.std(ddof=1) / math.sqrt(len(shares)), (kind, shares.mean(), model.rates)
        assert shares.std() / math.sqrt(len(shares)) < 0.02  # it could see something


@pattern
def test_a_pattern_survives_toml(make: Callable[[float, float], FaultModel]) -> None:
    model = make(0.02, 0.09)
    assert tomlio.loads(FaultModel, tomlio.dumps(model)) == model  # type: ignore[type-abstract]


@pattern
def test_no_faults_and_no_tiles(make: Callable[[float, float], FaultModel]) -> None:
    rng = np.random.default_rng(1)
    assert len(make(0.1, 0.1).with_total(0.0).sample((3, 5, 6), rng)) == 0
    assert make(0.1, 0.1).sample((0, 5, 6), rng) == FaultMap.empty((0, 5, 6))


def test_a_share_is_found_in_a_large_array() -> None:
    # Single arrays as large as a network's: blocks of clusters, tiles of clusters in several portions.
    rng = np.random.default_rng(3)
    for model in (
        ClusteredFaults(on=0.01, off=0.03, size=40.0, spread=2.0),
        WearOutFaults(writes=1.0, endurance=8.0, weibull_shape=1.0, on_share=0.25),
    ):
        faults = model.sample((200, 128, 128), rng)
        # The largest variance-to-mean of these is below 40: far more than the standard deviation below.
        spread = math.sqrt(40 * model.total / faults.cells)
        assert abs(faults.rate - model.total) < stats.norm.isf(FALSE_ALARM / 4) * spread
        assert abs(faults.on_rate / faults.rate - 0.25) < 0.02


# ------------------------------------------------------------------------------------------ clusters


def cluster_pair_law(model: ClusteredFaults, rows: int, columns: int) -> tuple[float, float]:
    """Mean and variance of the faults of a tile, summed over all pairs of cells and all places of a centre."""
    reach = model.reach
    distance = np.arange(-reach, reach + 1)
    law = np.exp(-0.5 * (distance / model.spread) ** 2)
    law /= law.sum()
    centre_rows, centre_columns = np.arange(-reach, rows + reach), np.arange(-reach, columns + reach)

    def reaches(cells: np.ndarray, centres: np.ndarray) -> np.ndarray:
        gap = cells[:, None] - centres[None, :]
        return np.where(abs(gap) <= reach, law[np.clip(gap + reach, 0, 2 * reach)], 0.0)

    down, across = reaches(np.arange(rows), centre_rows), reaches(np.arange(columns), centre_columns)
    hit = np.einsum("ik,jl->ijkl", down, across).reshape(rows * columns, -1)  # (cells, centres)
    spared = np.exp(-model.centres * (-np.expm1(-model.size * hit)).sum(axis=1))
    pair = -np.expm1(-model.size * (hit[:, None, :] + hit[None, :, :]))
    both_spared = np.exp(-model.centres * pair.sum(axis=2))
    covariance = both_spared - np.outer(spared, spared)
    np.fill_diagonal(covariance, spared * (1 - spared))
    return float((1 - spared).sum()), float(covariance.sum())


@pytest.mark.parametrize(("size", "spread"), [(4.0, 1.0), (25.0, 1.5), (0.5, 0.6)])
def test_clusters_follow_their_law(size: float, spread: float) -> None:
    model = ClusteredFaults(on=0.05, off=0.1, size=size, spread=spread)
    rows, columns, tiles = 5, 6, 20_000
    mean, variance = cluster_pair_law(model, rows, columns)
    assert mean == pytest.approx(0.15 * rows * columns, rel=1e-12)
    faults = counts_of_dies(model, (tiles, rows, columns), 1, seed=8).sum(axis=1)
    assert abs(faults.mean() - mean) < 5.5 * math.sqrt(variance / tiles)
    squares = (faults - mean) ** 2
    assert abs(squares.mean() - variance) < 5.5 * squares.std() / math.sqrt(tiles)
    assert variance > (2.0 if size > 1 else 1.0) * 0.85 * mean  # more than faults that come alone


def test_a_cluster_without_spread_is_a_cell() -> None:
    counts = counts_of_dies(ClusteredFaults(on=0.1, off=0.1, size=2.0, spread=0.0), (3000, 4, 5), 1, seed=4)
    seen = np.bincount(counts.sum(axis=1), minlength=21)
    expected = stats.binom.pmf(np.arange(21), 20, 0.2) * 3000
    pool = expected > 5
    assert (
        stats.chisquare([*seen[pool], seen[~pool].sum()], [*expected[pool], expected[~pool].sum()]).pvalue > FALSE_ALARM
    )


def test_cells_of_a_cluster_can_be_alike() -> None:
    samples = {
        alike: ClusteredFaults(on=0.005, off=0.005, size=20.0, spread=1.0, alike=alike).sample(
            (40, 64, 64), np.random.default_rng(5)
        )
        for alike in (True, False)
    }
    # Broken neighbours in a row that are stuck the same way: nearly all, or half.
    for alike, low, high in ((True, 0.95, 1.0), (False, 0.45, 0.55)):
        dense = samples[alike].dense()
        both = (dense[:, :, 1:] > 0) & (dense[:, :, :-1] > 0)
        same = (dense[:, :, 1:] == dense[:, :, :-1])[both].mean()
        assert low < same <= high


def test_everything_broken() -> None:
    for make in (
        lambda: ClusteredFaults(on=0.25, off=0.75, size=5.0, spread=1.0),
        lambda: BetaBinomialFaults(on=0.25, off=0.75, correlation=0.1),
        lambda: StuckLineFaults(on=0.25, off=0.75),
        lambda: StuckLineFaults(on=0.25, off=0.75, partial=True),
        lambda: StuckLineFaults(on=0.25, off=0.75, row_share=0.0, width=3),
        lambda: GradientFaults(on=0.25, off=0.75, contrast=0.0),
    ):
        faults = make().sample((2, 30, 40), np.random.default_rng(2))
        assert faults.rate == 1.0
        assert 0.0 < faults.on_rate < 1.0


# --------------------------------------------------------------------------------------------- tiles


def pooled(seen: Any, expected: Any) -> tuple[Any, Any]:
    """Counts for a chi-squared test: what is rare is put together."""
    common = expected > 5
    if common.all():
        return seen, expected
    pooled_seen, pooled_expected = (np.append(counts[common], counts[~common].sum()) for counts in (seen, expected))
    return pooled_seen, pooled_expected


@pytest.mark.parametrize("correlation", [0.01, 0.3])
def test_tiles_follow_the_beta_binomial_law(correlation: float) -> None:
    model = BetaBinomialFaults(on=0.05, off=0.15, correlation=correlation)
    rows, columns, tiles = 4, 5, 20_000
    faults = counts_of_dies(model, (tiles, rows, columns), 1, seed=9).sum(axis=1)
    weight = (1 - correlation) / correlation
    expected = stats.betabinom.pmf(np.arange(21), 20, 0.2 * weight, 0.8 * weight) * tiles
    seen = np.bincount(faults, minlength=21)
    assert stats.chisquare(*pooled(seen, expected)).pvalue > FALSE_ALARM / 2
    # The law's own variance is n p (1 - p) (1 + (n - 1) r).
    assert stats.betabinom.var(20, 0.2 * weight, 0.8 * weight) == pytest.approx(20 * 0.16 * (1 + 19 * correlation))


# --------------------------------------------------------------------------------------------- lines


@given(st.floats(0.0, 1.0), st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 3))
@settings(max_examples=60)
def test_lines_are_whole(total: float, seed: int, row_share: float, width: int) -> None:
    model = StuckLineFaults(on=0.3 * total, off=total - 0.3 * total, row_share=row_share, width=width)
    dense = model.sample((3, 5, 7), np.random.default_rng(seed)).dense() > 0
    whole = dense.all(axis=2, keepdims=True) | dense.all(axis=1, keepdims=True)
    np.testing.assert_array_equal(dense, dense & whole)
    if row_share == 1.0:
        np.testing.assert_array_equal(dense, np.broadcast_to(dense[:, :, :1], dense.shape))
    if row_share == 0.0:
        np.testing.assert_array_equal(dense, np.broadcast_to(dense[:, :1, :], dense.shape))


@pytest.mark.parametrize("correlation", [0.04, 1.0])
def test_the_broken_lines_of_unequal_arrays_follow_the_beta_binomial_law(correlation: float) -> None:
    """Word lines and bit lines of 20,000 arrays: each by its own law, and independent of each other."""
    model = StuckLineFaults(on=0.0, off=0.2, row_share=0.7, correlation=correlation)
    rows, columns, tiles = 6, 4, 20_000
    dense: Any = model.sample((tiles, rows, columns), np.random.default_rng(4)).dense() > 0
    whole = dense.all(axis=(1, 2))  # of these, which lines are broken cannot be told
    word, bit = dense.all(axis=2), dense.all(axis=1)
    rates = 1 - 0.8**0.7, 1 - 0.8**0.3
    if correlation == 1.0:
        assert word[~whole].sum() == bit[~whole].sum() == 0
        assert abs(whole.mean() - 0.2) < stats.norm.isf(FALSE_ALARM / 2) * math.sqrt(0.16 / tiles)
        return
    weight = (1 - correlation) / correlation
    laws = [
        stats.betabinom(lines, rate * weight, (1 - rate) * weight)
        for lines, rate in zip((rows, columns), rates, strict=True)
    ]
    expected = np.outer(*(law.pmf(np.arange(lines + 1)) for law, lines in zip(laws, (rows, columns), strict=True)))
    seen = np.zeros((rows + 1, columns + 1))
    np.add.at(seen, (word[~whole].sum(axis=1), bit[~whole].sum(axis=1)), 1)
    seen[-1, 0] += whole.sum()  # all broken, whichever line it was
    expected[-1, 0] += expected[-1, 1:].sum() + expected[:-1, -1].sum()
    expected[-1, 1:] = expected[:-1, -1] = 0.0
    assert stats.chisquare(*pooled(seen.reshape(-1), tiles * expected.reshape(-1))).pvalue > FALSE_ALARM


def test_arrays_that_are_alike_are_drawn_as_before() -> None:
    """The correlation is left out of files, and no draw is added, where it is not given."""
    model = StuckLineFaults(on=0.1, off=0.05)
    assert "correlation" not in tomlio.dumps(model)
    nearly = replace(model, correlation=1e-9)
    assert model.probability((1, 3, 4)).tolist() == nearly.probability((1, 3, 4)).tolist()
    drawn = model.sample((2, 30, 40), np.random.default_rng(5))
    rng = np.random.default_rng(5)
    broken = rng.random((2, 40)) < 1 - 0.85**0.5
    assert (drawn.dense() > 0).all(axis=1).tolist() == broken.tolist()


def test_neighbours_break_together() -> None:
    model = StuckLineFaults(on=0.05, off=0.0, row_share=0.0, width=2)
    columns = model.sample((4000, 1, 10), np.random.default_rng(3)).dense()[:, 0] > 0
    alone = columns[:, 1:-1] & ~columns[:, :-2] & ~columns[:, 2:]
    assert not alone.any()
    assert columns.mean() == pytest.approx(0.05, abs=0.01)
    assert columns[:, 0].mean() == pytest.approx(0.05, abs=0.02)  # the edge is as the rest


def test_a_line_that_breaks_is_stuck_beyond_the_break() -> None:
    word = StuckLineFaults(on=0.2, off=0.0, row_share=1.0, partial=True)
    dense = word.sample((300, 6, 8), np.random.default_rng(1)).dense() > 0
    assert not (dense[:, :, :-1] & ~dense[:, :, 1:]).any()  # from the break to the end away from the driver
    assert dense.any()
    assert not np.asarray(dense.all(axis=2))[dense.any(axis=2)].all()
    bit = StuckLineFaults(on=0.2, off=0.0, row_share=0.0, partial=True)
    dense = bit.sample((300, 6, 8), np.random.default_rng(1)).dense() > 0
    assert not (dense[:, 1:, :] & ~dense[:, :-1, :]).any()  # from the first row to the break
    assert dense.any()
    assert not np.asarray(dense.all(axis=1))[dense.any(axis=1)].all()


def test_partial_lines_cannot_break_everything() -> None:
    model = StuckLineFaults(on=0.5, off=0.4, row_share=1.0, partial=True)
    with pytest.raises(InputError, match=r"on \+ off must be <= 0.5625 for partial lines of 8 cells .* got 0.9"):
        model.sample((1, 4, 8), np.random.default_rng(0))
    most = StuckLineFaults(on=0.5625, off=0.0, row_share=1.0, partial=True)
    assert most.probability((1, 4, 8)).mean() == pytest.approx(0.5625, rel=1e-12)


# -------------------------------------------------------------------------------------------- fields


@given(
    st.floats(0.0, 0.3),
    st.floats(-1.0, 1.0),
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0.1, 10.0),
)
def test_fields_have_the_mean_asked_for(
    total: float, contrast: float, rows: int, columns: int, exponent: float
) -> None:
    for model in (
        GradientFaults(on=total, off=0.0, contrast=contrast),
        GradientFaults(on=total, off=0.0, contrast=contrast, across="rows"),
        RadialFaults(on=total, off=0.0, contrast=contrast, exponent=exponent),
    ):
        relative = model.relative(rows, columns)
        assert relative.shape == (rows, columns)
        assert relative.min() >= 0
        assert relative.mean() == pytest.approx(1.0, rel=1e-12)


def test_where_fields_are_high() -> None:
    ramp = GradientFaults(on=0.1, off=0.0, contrast=0.5).probability((1, 3, 5))
    np.testing.assert_allclose(ramp, np.broadcast_to([0.05, 0.075, 0.1, 0.125, 0.15], (3, 5)))
    down = GradientFaults(on=0.1, off=0.0, contrast=-0.5, across="rows").probability((1, 3, 2))
    np.testing.assert_allclose(down, np.broadcast_to([[0.15], [0.1], [0.05]], (3, 2)))
    rim = RadialFaults(on=0.1, off=0.0, contrast=1.0).probability((1, 5, 5))
    assert rim[2, 2] == 0.0
    assert rim[0, 0] == rim.max()
    assert rim[0, 2] == pytest.approx(rim[0, 0] / 2)  # half the squared distance
    spot = RadialFaults(on=0.1, off=0.0, contrast=-1.0).probability((1, 5, 5))
    assert spot[0, 0] == pytest.approx(0.0, abs=1e-15)
    assert spot[2, 2] == spot.max()


def test_a_field_above_certainty_is_refused() -> None:
    model = GradientFaults(on=0.4, off=0.2, contrast=1.0)
    with pytest.raises(InputError, match=r"on \+ off must be <= 0.5, .* tile of 4 x 6 .*got 0.6"):
        model.sample((1, 4, 6), np.random.default_rng(0))
    assert len(model.sample((1, 4, 1), np.random.default_rng(0))) <= 4  # a single column has no gradient


# ---------------------------------------------------------------------------------------------- wear


@given(st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.floats(0.3, 5.0), st.integers(0, 2**32))
def test_a_die_only_grows_worse(first: float, second: float, shape: float, seed: int) -> None:
    young, old = (
        WearOutFaults(writes=writes, endurance=1.0, weibull_shape=shape, on_share=0.4).sample(
            (2, 8, 9), np.random.default_rng(seed)
        )
        for writes in sorted((first, second))
    )
    change = young.difference(old)
    assert change.removed.size == change.changed.size == 0


@given(st.floats(0.0, 0.999), st.floats(0.2, 20.0), st.floats(1e-3, 1e12))
def test_writes_for_a_share_of_broken_cells(rate: float, shape: float, endurance: float) -> None:
    model = WearOutFaults(writes=0.0, endurance=endurance, weibull_shape=shape, on_share=0.5)
    assert model.total == 0.0
    assert model.with_total(rate).total == pytest.approx(rate, rel=1e-9, abs=1e-30)
    worn = WearOutFaults(writes=endurance, endurance=endurance, weibull_shape=shape, on_share=0.5)
    assert worn.total == pytest.approx(1 - math.exp(-1))


def test_writes_beyond_all_bounds_break_every_cell() -> None:
    model = WearOutFaults(writes=1e300, endurance=1e-3, weibull_shape=100.0, on_share=1.0)
    assert model.total == 1.0
    assert model.sample((1, 4, 4), np.random.default_rng(0)).on_rate == 1.0


# --------------------------------------------------------------------------------------- bad parameters


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (ClusteredFaults, {"size": 0.0, "spread": 1.0}, r"size must be .*> 0.0 and <= 10000.0, got 0.0"),
        (ClusteredFaults, {"size": 2.0, "spread": -1.0}, r"spread must be .*>= 0.0 and <= 256.0, got -1.0"),
        (ClusteredFaults, {"size": 2.0, "spread": 1.0, "alike": 1}, "alike must be of type bool, got 1"),
        (BetaBinomialFaults, {"correlation": 0.0}, r"correlation must be .*>= 1e-09 and <= 1.0, got 0.0"),
        (StuckLineFaults, {"row_share": 1.5}, r"row_share must be .*<= 1.0, got 1.5"),
        (StuckLineFaults, {"correlation": 0.0}, r"correlation must be .*>= 1e-09 and <= 1.0, got 0.0"),
        (StuckLineFaults, {"correlation": 0.1, "width": 2}, "width must be 1 where correlation is given, got 2"),
        (StuckLineFaults, {"width": 0}, "width must be an integer >= 1, got 0"),
        (StuckLineFaults, {"partial": "yes"}, "partial must be of type bool"),
        (GradientFaults, {"contrast": 1.1}, r"contrast must be .*<= 1.0, got 1.1"),
        (GradientFaults, {"contrast": 0.1, "across": "tiles"}, "across must be one of 'columns', 'rows', got 'tiles'"),
        (RadialFaults, {"contrast": 0.1, "exponent": 0.0}, r"exponent must be .*> 0.0 .*got 0.0"),
        (ClusteredFaults, {"off": 0.95, "size": 2.0, "spread": 1.0}, r"on \+ off must be <= 1, got 0.1 \+ 0.95"),
    ],
)
def test_bad_parameters_are_refused(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**{"on": 0.1, "off": 0.1, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"writes": -1.0}, r"writes must be .*>= 0.0, got -1.0"),
        ({"endurance": 0.0}, r"endurance must be .*> 0.0, got 0.0"),
        ({"weibull_shape": 0.0}, r"weibull_shape must be .*> 0.0 .*got 0.0"),
        ({"on_share": 2.0}, r"on_share must be .*<= 1.0, got 2.0"),
    ],
)
def test_bad_wear_is_refused(arguments: dict[str, Any], message: str) -> None:
    good = {"writes": 1.0, "endurance": 1.0, "weibull_shape": 1.0, "on_share": 0.5}
    with pytest.raises(InputError, match=message):
        WearOutFaults(**{**good, **arguments})
    with pytest.raises(InputError, match=r"rate must be .*< 1.0, got 1.0"):
        WearOutFaults(**good).with_total(1.0)


def test_a_design_holds_any_pattern() -> None:
    import xbarsim as xb

    nested = CombinedFaults(
        models=(
            StuckAtFaults(
                where=ClusteredFaults(on=0.0, off=0.01, size=4.0, spread=1.0),
                off_conductances=ListedConductances(values=(1e-6, 2e-6)),
            ),
            StuckLineFaults(on=0.001, off=0.002),
        )
    )
    design = xb.Design(cell=xb.devices.Cell.load("islped2019"), faults=nested)
    text = design.to_toml()
    assert xb.Design.from_toml(text) == design
    assert 'type = "CombinedFaults"' in text
