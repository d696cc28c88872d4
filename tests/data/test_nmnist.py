"""Recordings of events, their frames, and the parts that judge networks in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbarsim.data import EventRecordings, data_file, event_frames, folds, load_mnist, load_nmnist
from xbarsim.foundation.validation import FileFormatError, InputError


def recordings(**changes: Any) -> EventRecordings:
    """Two recordings of three and two events on 4 x 4 pixels."""
    whole: dict[str, Any] = {
        "time": np.array([0, 29_999, 30_000, 5, 95_000]),
        "row": np.array([0, 1, 3, 2, 0]),
        "column": np.array([3, 2, 0, 1, 0]),
        "polarity": np.array([1, 0, 1, 0, 1]),
        "offsets": np.array([0, 3, 5]),
        "labels": np.array([7, 8]),
        "size": 4,
    }
    return EventRecordings(**(whole | changes))


def test_events_fall_into_their_bins_and_places() -> None:
    frames = event_frames(recordings(), bins=3)
    assert frames.counts.shape == (2, 3, 2, 4, 4)
    assert frames.left_out == 1  # the one at 95 ms
    expected = np.zeros((2, 3, 2, 4, 4), np.uint16)
    expected[0, 0, 1, 0, 3] = expected[0, 0, 0, 1, 2] = expected[0, 1, 1, 3, 0] = expected[1, 0, 0, 2, 1] = 1
    assert np.array_equal(frames.counts, expected)
    assert np.array_equal(frames.binary, expected.astype(np.uint8))


@given(
    events=st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 5), st.integers(0, 5), st.integers(0, 1))),
    bins=st.integers(1, 6),
    pool=st.sampled_from([1, 2, 3, 6]),
)
def test_no_event_is_lost_or_counted_twice(events: list[tuple[int, int, int, int]], bins: int, pool: int) -> None:
    columns = np.array(events, np.int64).reshape(-1, 4).T
    made = recordings(
        time=columns[0], row=columns[1], column=columns[2], polarity=columns[3],
        offsets=np.array([0, len(events)]), labels=np.array([1]), size=6,
    )  # fmt: skip
    frames = event_frames(made, bins=bins, seconds=0.02, pool=pool)
    assert int(frames.counts.sum()) + frames.left_out == len(events)
    assert frames.left_out == sum(time >= 20_000 * bins for time, *_ in events)
    whole = event_frames(made, bins=bins, seconds=0.02).counts
    pooled = whole.reshape(1, bins, 2, 6 // pool, pool, 6 // pool, pool).sum(axis=(4, 6))
    assert np.array_equal(frames.counts, pooled)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": np.array([0, 4, 3])}, "offsets must ascend from 0"),
        ({"labels": np.array([1])}, r"labels must be of shape \(2,\)"),
        ({"row": np.array([0, 1, 4, 2, 0])}, "row must be in 0 to 3, got 0 to 4"),
        ({"polarity": np.array([0, 1, 2, 2, 0])}, "polarity must be in 0 to 1"),
        ({"time": np.array([0, 1, 2])}, "time must be integers of shape"),
        ({"time": np.array([-1, 1, 2, 0, 0])}, "time must be >= 0, got -1"),
    ],
)
def test_recordings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recordings(**changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "bins must be"),
        ({"seconds": 0.0}, "seconds must be"),
        ({"pool": 3}, "pool must divide the 4 pixels of a side, got 3"),
    ],
)
def test_frames_out_of_bounds_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        event_frames(recordings(), **options)


@given(count=st.integers(2, 7), labels=st.lists(st.integers(0, 3), min_size=7, max_size=60), seed=st.integers(0, 9))
def test_parts_are_of_equal_size_and_share_every_class(count: int, labels: list[int], seed: int) -> None:
    classes = np.array(labels)
    parts = folds(classes, count, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(classes)))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for label in range(4):
        shares = [int((classes[part] == label).sum()) for part in parts]
        assert max(shares) - min(shares) <= 1


def test_parts_follow_the_seed() -> None:
    classes = np.arange(50) % 10
    first, again, other = (folds(classes, 5, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(InputError, match="count must be"):
        folds(classes, 1, seed=0)


@pytest.mark.data
def test_the_recordings_are_mnists_first_digits() -> None:
    try:
        found = load_nmnist()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert len(found) == 1100
    assert len(found.time) == 4_133_231 + 385_596
    assert found.time.max() == 336_040
    labels = np.concatenate([load_mnist("train")[1][:1000], load_mnist("test")[1][:100]])
    assert np.array_equal(found.labels, labels)
    assert (np.diff(found.time)[np.setdiff1d(np.arange(len(found.time) - 1), found.offsets[1:-1] - 1)] >= 0).all()
    frames = event_frames(found)
    assert frames.counts.shape == (1100, 10, 2, 34, 34)
    assert int(frames.counts.sum()) + frames.left_out == len(found.time)
    assert frames.left_out < 0.003 * len(found.time)


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nmnist"):
        load_nmnist()
    (tmp_path / "nmnist").mkdir()
    path = tmp_path / "nmnist" / "nmnist_train1000_test100.npz"
    for content in (b"", b"no archive", b"PK\x05\x06"):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="N-MNIST"):
            load_nmnist()
    np.savez(path, train_offsets=np.arange(3))
    with pytest.raises(FileFormatError, match="N-MNIST"):
        load_nmnist()
    assert data_file("nmnist", path.name) == path
