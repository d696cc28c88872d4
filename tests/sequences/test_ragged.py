"""Sequences of different lengths in one array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xbarsim import InputError
from xbarsim.sequences import Sequences

THREE = Sequences.of([[[1.0, 0.0], [2.0, 0.0]], [[3.0, 0.0]], [[4.0, 0.0], [5.0, 0.0], [6.0, 0.0]]])


def test_sequences_come_out_as_they_went_in() -> None:
    assert len(THREE) == 3
    assert [len(each) for each in THREE] == THREE.lengths.tolist() == [2, 1, 3]
    assert THREE[-1][0].tolist() == [4.0, 0.0]
    assert THREE.select([2, 0]).values[:, 0].tolist() == [4, 5, 6, 1, 2]
    assert THREE.select([False, True, False]).values.tolist() == [[3.0, 0.0]]
    with pytest.raises(IndexError):
        THREE[3]
    with pytest.raises(ValueError, match="read-only"):
        THREE.values[0] = 1.0
    assert Sequences.of([[1, 2], [3]]).values.dtype == np.int64


def test_frames_have_their_neighbours_beside_them_and_ends_are_repeated() -> None:
    found = THREE.with_context(1)
    assert found.values[:, ::2].tolist() == [
        [1, 1, 2], [1, 2, 2], [3, 3, 3], [4, 4, 5], [4, 5, 6], [5, 6, 6]
    ]  # fmt: skip
    assert THREE.with_context(0).values.tolist() == THREE.values.tolist()


def test_channels_are_standardised_by_the_gallery() -> None:
    found = THREE.standardised(THREE)
    assert found.values[:, 0].mean() == pytest.approx(0.0, abs=1e-15)
    assert found.values[:, 0].std() == pytest.approx(1.0)
    assert (found.values[:, 1] == 0).all()  # a channel that does not vary
    other = Sequences.of([[[3.5, 1.0]]]).standardised(THREE)
    assert other.values.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Sequences.of([]), "sequences must hold at least one, got none"),
        (lambda: Sequences.of([[[1.0]], [[1.0, 2.0]]]), r"sequences\[1\] must have 1 channels, as the first, got 2"),
        (lambda: Sequences.of([[np.inf]]), r"sequences\[0\] must be finite"),
        (lambda: Sequences(values=np.ones((3, 1)), offsets=np.array([0, 2])), "offsets must rise from 0 to the number"),
        (lambda: Sequences(values=np.ones((3, 1)), offsets=np.array([0, 0, 3])), "offsets must rise"),
        (lambda: THREE.select([3]), "numbers must be from 0 to 2, got 3 to 3"),
        (lambda: THREE.select([True]), r"numbers must have shape \(3,\) where they are a mask"),
        (lambda: THREE.with_context(-1), "frames must be an integer >= 0"),
        (lambda: THREE.standardised(Sequences.of([[1.0]])), "by must have 2 channels, got 1"),
    ],
)
def test_bad_input_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()
