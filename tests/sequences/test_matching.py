"""Shifts, bounds, the nearest sequence, and ranks of identities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sequences.test_warping import rules, sequence_pairs
from xbarsim import InputError
from xbarsim.data import load_sequences
from xbarsim.sequences import (
    RankCurve,
    Sequences,
    TimeShift,
    Warping,
    dtw,
    lower_bounds,
    nearest,
    pair_distances,
    rank_curve,
)


@given(sequence_pairs(12), st.integers(0, 6), st.integers(1, 8), rules())
@settings(max_examples=60)
def test_time_shift_is_the_least_over_all_overlaps(
    pair: tuple[Any, Any], most: int, overlap: int, warping: Warping
) -> None:
    one, other = pair
    shift = TimeShift(most=most, overlap=overlap, warping=warping)
    distances = []
    for gone in range(-most, most + 1):  # frame i of one over frame i - gone of the other
        over = [(i, i - gone) for i in range(len(one)) if 0 <= i - gone < len(other)]
        if len(over) >= min(overlap, len(one), len(other)):
            distances.append(dtw(one[[i for i, _ in over]], other[[j for _, j in over]], warping))
    found = pair_distances(Sequences.of([one]), Sequences.of([other]), shift)
    assert found[0, 0] == min(distances)
    assert len(shift.parts(len(one), len(other))) == len(distances)
    swapped = pair_distances(Sequences.of([other]), Sequences.of([one]), shift)
    if warping.slope is None:
        assert swapped[0, 0] == found[0, 0]


@given(sequence_pairs(), rules())
@settings(max_examples=30)
def test_without_a_shift_it_is_warping_per_step(pair: tuple[Any, Any], warping: Warping) -> None:
    length = min(map(len, pair))
    one, other = (Sequences.of([each[:length]]) for each in pair)
    shift = TimeShift(most=0, overlap=1, warping=warping)
    assert np.array_equal(pair_distances(one, other, shift), pair_distances(one, other, warping))


def test_a_cut_sequence_is_found_again_by_a_shift() -> None:
    rng = np.random.default_rng(2)
    whole = rng.normal(size=(20, 3))
    cut = Sequences.of([np.concatenate([rng.normal(size=(4, 3)), whole[:12]])])  # four frames of something else
    gallery = Sequences.of([whole, rng.normal(size=(20, 3))])
    found = pair_distances(cut, gallery, TimeShift(most=6, overlap=5))
    assert found[0, 0] == 0.0
    assert found[0, 1] > 0.0
    assert pair_distances(cut, gallery)[0, 0] > 0.0


@given(sequence_pairs(), rules())
@settings(max_examples=100)
def test_bounds_are_never_above_the_distance(pair: tuple[Any, Any], warping: Warping) -> None:
    both = Sequences.of(list(pair))
    bounds, distances = lower_bounds(both, both, warping), pair_distances(both, both, warping)
    assert (bounds <= distances * (1 + 1e-12)).all()


@given(st.integers(0, 2**32), rules(), st.sampled_from([1.0, 3.0]))
@settings(max_examples=60)
def test_a_search_with_bounds_answers_as_one_without(seed: int, warping: Warping, scale: float) -> None:
    rng = np.random.default_rng(seed)

    def some(count: int) -> Sequences:  # of few values, so that distances are often equal
        return Sequences.of([np.round(scale * rng.normal(size=(rng.integers(6, 9), 2))) for _ in range(count)])

    probes, gallery = some(4), some(30)
    distances = pair_distances(probes, gallery, warping)
    if not np.isfinite(distances).any(axis=1).all():
        with pytest.raises(InputError, match="rules must allow an alignment of probe"):
            nearest(probes, gallery, warping)
        return
    found, plain = nearest(probes, gallery, warping), nearest(probes, gallery, warping, bounds=False)
    assert found.index.tolist() == plain.index.tolist() == distances.argmin(axis=1).tolist()
    assert np.array_equal(found.distance, distances.min(axis=1))
    assert np.array_equal(plain.distance, distances.min(axis=1))
    assert (plain.warped == len(gallery)).all()
    assert (found.warped <= plain.warped).all()


def test_bounds_spare_most_of_the_work_of_a_search() -> None:
    rng = np.random.default_rng(3)
    gallery = Sequences.of([np.cumsum(rng.normal(size=(60, 1)), axis=0) for _ in range(50)])
    probes = Sequences.of([each + 0.1 * rng.normal(size=each.shape) for each in gallery])
    found = nearest(probes, gallery, Warping(radius=3))
    assert found.index.tolist() == list(range(50))
    assert found.warped.mean() < 10


@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_ranks_count_the_identities_that_are_nearer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, own = rng.permutation(np.arange(12) % 4), rng.integers(0, 4, 7)
    distances = rng.permuted(np.arange(12.0)[np.newaxis].repeat(7, axis=0), axis=1)
    found = rank_curve(distances, own, labels)
    for row, label, rank in zip(distances, own, found.ranks, strict=True):
        nearest_of = [row[labels == each].min() for each in range(4)]
        assert rank == 1 + sum(each < nearest_of[label] for each in nearest_of)
    curve = found.curve
    assert len(curve) == 4
    assert (np.diff(curve) >= 0).all()
    assert curve[-1] == 1.0
    assert curve[0] == (labels[distances.argmin(axis=1)] == own).mean() == found.share(1).estimate
    assert found.share(2).low <= curve[1] <= found.share(2).high


def test_of_equal_distances_the_first_of_the_gallery_is_nearest() -> None:
    assert rank_curve([[1.0, 1.0]], [1], [0, 1]).ranks.tolist() == [2]
    assert rank_curve([[1.0, 1.0]], [1], [1, 0]).ranks.tolist() == [1]
    assert rank_curve([[np.inf, 1.0, np.inf]], [2], [2, 1, 0]).ranks.tolist() == [2]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "standardise", "published"),
    [("GunPoint", False, 90.67), ("ItalyPowerDemand", False, 95.04), ("JapaneseVowels", True, 95.95)],
)
def test_figures_of_the_archive_come_out(name: str, standardise: bool, published: float) -> None:
    found = load_sequences(name, standardise=standardise)
    labels = found.gallery_labels[nearest(found.probes, found.gallery).index]
    assert round(100 * float((labels == found.probe_labels).mean()), 2) == published


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: TimeShift(most=-1, overlap=1), "most must be an integer >= 0"),
        (lambda: TimeShift(most=1, overlap=0), "overlap must be an integer >= 1"),
        (lambda: rank_curve([[1.0]], [0], [0, 1]), r"distances must have shape \(1, 2\), got \(1, 1\)"),
        (lambda: rank_curve([[1.0, np.nan]], [0], [0, 1]), "distances must be numbers"),
        (lambda: rank_curve([[np.inf, np.inf]], [0], [0, 1]), "distances must hold a finite one for every probe"),
        (lambda: rank_curve([[1.0]], [3], [0]), r"probes must be of identities that the gallery holds, got \[3\]"),
        (lambda: RankCurve(ranks=np.array([3]), identities=2), "ranks must be from 1 to 2, got 3 to 3"),
        (lambda: RankCurve(ranks=np.array([1]), identities=2).matches(3), "rank must be an integer >= 1 and <= 2"),
        (
            lambda: pair_distances(Sequences.of([[1.0]]), Sequences.of([[[1.0, 2.0]]])),
            "gallery must have 1 channels, got 2",
        ),
    ],
)
def test_bad_input_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()
