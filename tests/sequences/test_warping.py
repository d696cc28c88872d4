"""Dynamic time warping: against every alignment, an established package, and itself in plain Python."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.sequences.brute_force import brute_force, inside
from xbarsim import InputError
from xbarsim.data import load_sequences
from xbarsim.sequences import Sequences, TimeShift, Warping, dtw, local_distances, pair_distances, warp
from xbarsim.sequences.kernels import _end, _end_with_length, accumulate

STEPS = ("symmetric1", "symmetric2", "symmetricP1")


@st.composite
def sequence_pairs(draw: st.DrawFn, longest: int = 40) -> tuple[Any, Any]:
    channels = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return tuple(rng.normal(size=(draw(st.integers(1, longest)), channels)) for _ in range(2))  # type: ignore[return-value]


@st.composite
def rules(draw: st.DrawFn) -> Warping:
    return Warping(
        steps=draw(st.sampled_from(STEPS)),
        radius=draw(st.none() | st.integers(0, 4)),
        slope=draw(st.none() | st.sampled_from([1.0, 1.5, 2.0, 4.0])),
        per_step=draw(st.booleans()),
    )


@given(st.integers(1, 5), st.integers(1, 5), rules(), st.integers(0, 2**32))
@example(2, 5, Warping(slope=2.0), 0)  # no alignment
@example(5, 5, Warping(steps="symmetricP1", radius=0), 0)
@settings(max_examples=150)
def test_warping_is_the_least_of_all_alignments(rows: int, columns: int, rules: Warping, seed: int) -> None:
    local = np.random.default_rng(seed).integers(0, 4, (rows, columns)).astype(np.float64)  # small integers: many ties
    cost, length = brute_force(local, rules)
    if rules.per_step and length:
        cost /= length if rules.steps == "symmetric1" else rows + columns
    found = warp(local, rules)
    assert found.distance == cost
    costs, lengths = accumulate(local, *rules.arguments[:3])
    assert lengths[-1, -1] == length
    plain = accumulate.py_func(local, *rules.arguments[:3])
    assert np.array_equal(costs, plain[0])
    assert np.array_equal(lengths, plain[1])


@given(sequence_pairs(), rules())
@settings(max_examples=60)
def test_the_cost_of_a_path_is_its_distance(pair: tuple[Any, Any], rules: Warping) -> None:
    local = local_distances(*pair)
    distance, path = warp(local, rules)
    if math.isinf(distance):
        assert path.shape == (0, 2)
        return
    assert path[0].tolist() == [0, 0]
    assert path[-1].tolist() == [local.shape[0] - 1, local.shape[1] - 1]
    assert all(inside((int(i), int(j)), local.shape[0], local.shape[1], rules) for i, j in path)
    steps = np.diff(path, axis=0)
    assert {tuple(step) for step in steps.tolist()} <= {(1, 0), (0, 1), (1, 1)}
    if rules.steps == "symmetric1":
        weights = np.ones(len(path))
    else:  # what a step advances in both together; but a pair of steps of slope 2 weighs its first cell twice
        weights = np.concatenate([[2], steps.sum(axis=1)])
        if rules.steps == "symmetricP1":
            straight = np.flatnonzero(steps.sum(axis=1) == 1)
            assert all(number > 0 and weights[number] == 2 for number in straight)
    total = float((weights * local[tuple(path.T)]).sum())
    length = len(path) if rules.steps == "symmetric1" else sum(local.shape)
    assert weights.sum() == length
    assert distance == pytest.approx(total / length if rules.per_step else total, rel=1e-12)


@given(sequence_pairs(), rules())
@settings(max_examples=60)
def test_warping_is_symmetric(pair: tuple[Any, Any], rules: Warping) -> None:
    if rules.slope is not None:  # the rounding of a parallelogram to cells is that of rows
        rules = Warping(steps=rules.steps, radius=rules.radius, per_step=rules.per_step)
    one, other = pair
    assert dtw(one, other, rules) == dtw(other, one, rules)
    assert dtw(one, one, rules) == 0.0


@given(sequence_pairs(), st.none() | st.integers(0, 6))
@settings(max_examples=100)
def test_distances_are_those_of_an_established_package(pair: tuple[Any, Any], radius: int | None) -> None:
    dtw_ndim = pytest.importorskip("dtaidistance.dtw_ndim", reason="dtaidistance is not installed")
    one, other = pair
    window = None if radius is None else radius + 1
    theirs = dtw_ndim.distance_fast(one, other, window=window) ** 2
    assert dtw(one, other, Warping(radius=radius)) == pytest.approx(theirs, rel=1e-12, abs=1e-12)


@given(sequence_pairs(), rules())
@settings(max_examples=60)
def test_all_pairs_are_as_each_pair(pair: tuple[Any, Any], rules: Warping) -> None:
    both = Sequences.of([*pair, pair[0][::-1]])
    expected = [[dtw(one, other, rules) for other in both] for one in both]
    found = pair_distances(both, both, rules)
    assert np.array_equal(found, expected)


def test_pairs_of_real_sequences_are_those_of_an_established_package() -> None:
    dtw_ndim = pytest.importorskip("dtaidistance.dtw_ndim", reason="dtaidistance is not installed")
    try:
        found = load_sequences("JapaneseVowels", standardise=True)
    except FileNotFoundError as error:
        pytest.skip(str(error).partition(":")[0])
    probes, gallery = found.probes.select(np.arange(0, 370, 10)), found.gallery.select(np.arange(0, 270, 10))
    both = [np.ascontiguousarray(each) for each in (*probes, *gallery)]
    theirs = dtw_ndim.distance_matrix_fast(both, block=((0, len(probes)), (len(probes), len(both))), parallel=False)
    theirs = theirs[: len(probes), len(probes) :] ** 2
    np.testing.assert_allclose(pair_distances(probes, gallery), theirs, rtol=1e-12)


def test_features_are_weighted_before_the_warping() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(6, 3)), rng.normal(size=(7, 3))
    weights = [2.0, 0.0, 0.5]
    added = 2.0 * local_distances(one[:, 0], other[:, 0]) + 0.5 * local_distances(one[:, 2], other[:, 2])
    np.testing.assert_allclose(local_distances(one, other, weights=weights), added, rtol=1e-12)
    assert dtw(one, other, weights=weights) == pytest.approx(warp(added).distance, rel=1e-12)
    pairs = pair_distances(Sequences.of([one]), Sequences.of([other]), weights=weights)
    assert pairs[0, 0] == pytest.approx(warp(added).distance, rel=1e-12)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("window", [{}, {"radius": 1}, {"slope": 2.0}])
def test_cells_and_operations_are_counted(steps: Any, window: dict[str, Any]) -> None:
    rules = Warping(steps=steps, **window)
    cells = sum(inside((i, j), 5, 8, rules) for i in range(5) for j in range(8))
    assert rules.cells(5, 8) == cells
    assert rules.operations(5, 8) == (cells * {"symmetric1": 1, "symmetric2": 2, "symmetricP1": 4}[steps], 2 * cells)


class Row:
    """A row that counts its accesses."""

    def __init__(self, columns: int) -> None:
        self.values, self.accesses = [0.0] * columns, 0

    def __getitem__(self, column: int) -> float:
        self.accesses += 1
        return self.values[column]

    def __setitem__(self, column: int, value: float) -> None:
        self.accesses += 1
        self.values[column] = value


@pytest.mark.parametrize("per_step", [False, True])
def test_accesses_to_the_row_that_is_kept_are_those_of_the_loop(per_step: bool) -> None:
    """Those of clearing it before, and of taking the result out of it, are not among them."""
    rows, columns = 5, 8
    local = np.random.default_rng(3).random((rows, columns))
    row, lengths = Row(columns), Row(columns)
    if per_step:
        found, _ = _end_with_length.py_func(local, 0, 0, rows, columns, -1, row, lengths)
    else:
        found = _end.py_func(local, 0, 0, rows, columns, -1, row, np.inf)
    assert found == pytest.approx(warp(local).distance, rel=1e-12)
    around = (columns + 1) * (1 + per_step)
    rules = Warping(per_step=per_step)
    assert rules.state_accesses(rows, columns) == row.accesses + lengths.accesses - around
    assert rules.state_accesses(rows, columns) == rows * columns * (4 if per_step else 2)
    assert TimeShift(most=0, overlap=1, warping=rules).state_accesses(5, 8) == 25 * (4 if per_step else 2)
    assert TimeShift(most=1, overlap=1, warping=rules).state_accesses(5, 8) == (16 + 25 + 25) * (4 if per_step else 2)


@pytest.mark.parametrize(("steps", "a_cell"), [("symmetric1", 2), ("symmetric2", 2), ("symmetricP1", 5)])
def test_accesses_follow_the_cells_of_a_window(steps: Any, a_cell: int) -> None:
    """Two rows of costs, read and read again, and one of distances, with slopes from 1/2 to 2."""
    rules = Warping(steps=steps, radius=1)
    assert rules.cells(5, 8) < 40
    assert rules.state_accesses(5, 8) == a_cell * rules.cells(5, 8)
    more = Warping(steps=steps, radius=1, per_step=True).state_accesses(5, 8) - rules.state_accesses(5, 8)
    assert more == (2 * rules.cells(5, 8) if steps == "symmetric1" else 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Warping(steps="asymmetric"), "steps must be one of 'symmetric1', 'symmetric2', 'symmetricP1'"),  # type: ignore[arg-type]
        (lambda: Warping(radius=-1), "radius must be an integer >= 0"),
        (lambda: Warping(slope=0.5), r"slope must be a finite number >= 1.0, got 0.5"),
        (lambda: warp([[1.0, np.nan]]), "distances must be finite"),
        (lambda: warp([1.0]), "distances must be a non-empty 2-dimensional array"),
        (lambda: local_distances([[1.0, 2.0]], [[1.0]]), "other must have 2 channels, as one has, got 1"),
        (lambda: dtw([1.0], [2.0], weights=[-1.0]), "weights must be >= 0, one for each of 1 channels"),
    ],
)
def test_bad_input_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()
