"""Handwritten digits as an event camera saw them: the first recordings of N-MNIST."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.data.folder import data_file
from xbarsim.foundation.archives import read_npz
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import (
    InputError,
    check_array,
    check_integer,
    check_real,
)

__all__ = ["EventFrames", "EventRecordings", "event_frames", "load_nmnist"]

_FILE = ("nmnist", "nmnist_train1000_test100.npz")
_SHA256 = {  # of the arrays, beginnings
    "train_offsets": "cc97aa17f63452a3",
    "train_labels": "b03ead2884240483",
    "train_dt": "6034a619bb55eb86",
    "train_x": "9527d31dd78d1a49",
    "train_yp": "1f473f9fdd2b022a",
    "test_offsets": "0380809475adfa23",
    "test_labels": "8333c1b5aeb5f50a",
    "test_dt": "15dfe6e684872cd6",
    "test_x": "4530cf56c7060ab2",
    "test_yp": "519fa899fb5060f8",
}
_SIZE = 34  # pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class EventRecordings:
    """Recordings of an event camera: where and when a pixel became brighter or darker.

    Attributes
    ----------
    time
        Since the first event of its recording is counted from, microseconds, int64 (events,).
    row, column
        Of the pixel, int64 (events,), 0 to `size` - 1.
    polarity
        1 for brighter, 0 for darker, int64 (events,).
    offsets
        Where the events of each recording begin, and where the last one's end, int64 (recordings + 1,).
    labels
        The digits, int64 (recordings,).
    size
        Height and width in pixels.
    """

    time: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]
    polarity: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    size: int

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("size", self.size, at_least=1)
        arrays = {name: getattr(self, name) for name in ("time", "row", "column", "polarity")}
        offsets = check_array("offsets", self.offsets, dimensions=1, kind="integer")
        events = int(offsets[-1])
        if offsets[0] != 0 or (np.diff(offsets) < 0).any() or len(offsets) < 2:
            raise InputError("offsets must ascend from 0, one more than there are recordings, got others")
        if self.labels.shape != (len(offsets) - 1,):
            raise InputError(f"labels must be of shape ({len(offsets) - 1},), got {self.labels.shape}")
        for name, array in arrays.items():
            if array.shape != (events,) or array.dtype.kind not in "iu":
                raise InputError(f"{name} must be integers of shape ({events},), got {array.dtype} of {array.shape}")
        for name, bound in (("row", self.size), ("column", self.size), ("polarity", 2)):
            array = arrays[name]
            if array.size and not (array.min() >= 0 and array.max() < bound):
                raise InputError(f"{name} must be in 0 to {bound - 1}, got {array.min()} to {array.max()}")
        if self.time.size and self.time.min() < 0:
            raise InputError(f"time must be >= 0, got {self.time.min()}")

    def __len__(self) -> int:
        return len(self.labels)


@entrance
def load_nmnist() -> EventRecordings:
    """Load the first 1,000 training and the first 100 test recordings of N-MNIST, in this order.

    An event camera was moved over each digit of MNIST in three saccades of about 100 ms.

    Returns
    -------
    EventRecordings
        1,100 recordings of 34 x 34 pixels. 100 of them are too few to judge a network by; see
        :func:`~xbarsim.data.folds`.

    Raises
    ------
    FileNotFoundError
        If the data folder or its ``nmnist`` file is absent.
    FileFormatError
        If the file is truncated or corrupt.

    References
    ----------
    G. Orchard et al., Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades, Frontiers in
    Neuroscience 9, 437 (2015), https://doi.org/10.3389/fnins.2015.00437. Recordings: bamsumit/slayerPytorch at
    01beeeb6, test/test_files/NMNISTsmall.
    """
    arrays = read_npz(data_file(*_FILE), "N-MNIST", digests=_SHA256)
    times, offsets, rows, columns, polarities = [], [np.zeros(1, np.int64)], [], [], []
    for split in ("train", "test"):
        bounds = arrays[f"{split}_offsets"].astype(np.int64)
        total = np.cumsum(arrays[f"{split}_dt"].astype(np.int64))
        before = np.concatenate([[0], total])[bounds[:-1]]
        times.append(total - np.repeat(before, np.diff(bounds)))
        offsets.append(bounds[1:] + offsets[-1][-1])
        packed = arrays[f"{split}_yp"].astype(np.int64)
        rows.append(packed & 127)
        polarities.append(packed >> 7)
        columns.append(arrays[f"{split}_x"].astype(np.int64))
    return EventRecordings(
        time=np.concatenate(times),
        row=np.concatenate(rows),
        column=np.concatenate(columns),
        polarity=np.concatenate(polarities),
        offsets=np.concatenate(offsets),
        labels=np.concatenate([arrays["train_labels"], arrays["test_labels"]]).astype(np.int64),
        size=_SIZE,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class EventFrames:
    """Events counted in frames.

    Attributes
    ----------
    counts
        Events, uint16 (recordings, bins, 2, height, width): darker, then brighter.
    left_out
        Events behind the last bin.
    """

    counts: npt.NDArray[np.uint16]
    left_out: int

    @property
    def binary(self) -> npt.NDArray[np.uint8]:
        """Whether there was an event: uint8, 0 or 1, of the same shape."""
        return (self.counts > 0).astype(np.uint8)


@entrance
def event_frames(recordings: EventRecordings, *, bins: int = 10, seconds: float = 0.03, pool: int = 1) -> EventFrames:
    """Count the events of recordings in bins of time.

    Parameters
    ----------
    recordings
        The recordings.
    bins
        Bins of a recording, from time 0.
    seconds
        Width of a bin, s.
    pool
        Side of the square of pixels that are counted as one; divides the size.

    Returns
    -------
    EventFrames

    Raises
    ------
    InputError
        If an argument is out of bounds, or more than 65,535 events fall into one place.
    """
    check_integer("bins", bins, at_least=1, at_most=10_000)
    seconds = check_real("seconds", seconds, above=0.0)
    pool = check_integer("pool", pool, at_least=1, at_most=recordings.size)
    if recordings.size % pool:
        raise InputError(f"pool must divide the {recordings.size} pixels of a side, got {pool}")
    size = recordings.size // pool
    number = np.repeat(np.arange(len(recordings)), np.diff(recordings.offsets))
    bin_of = np.floor(recordings.time / (1e6 * seconds)).astype(np.int64)
    inside = bin_of < bins
    places = (number * bins + bin_of) * 2 + recordings.polarity
    places = (places * size + recordings.row // pool) * size + recordings.column // pool
    shape = (len(recordings), bins, 2, size, size)
    counts = np.bincount(places[inside], minlength=int(np.prod(shape)))
    if counts.max(initial=0) > np.iinfo(np.uint16).max:
        raise InputError(f"bins must hold at most 65,535 events at a place each, got {counts.max()}")
    return EventFrames(counts=counts.astype(np.uint16).reshape(shape), left_out=int((~inside).sum()))
