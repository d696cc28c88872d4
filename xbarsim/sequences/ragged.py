"""Sequences of different lengths in one array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, as_array, check_array, check_instance, check_integer

__all__ = ["Sequences", "check_alike", "check_magnitude"]

_LARGEST = 1e100  # sums of squares of floating numbers stay finite
_LARGEST_CODE = 2**31  # and those of codes stay exact


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequences:
    """Sequences of frames, each of its own length; every frame has the same channels.

    Attributes
    ----------
    values
        All frames, one sequence after the other: float64 (frames, channels), or int64 where they are codes.
    offsets
        Where each sequence begins, and where the last one ends: int64 (sequences + 1,), rising, from 0 to the number of
        frames.

    Raises
    ------
    InputError
        If there is no sequence, one has no frame, or a value is not finite, or beyond 1e100 (integers: 2^31).

    Examples
    --------
    >>> both = Sequences.of([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]])
    >>> len(both), both.channels, both.lengths.tolist(), both[1].tolist()
    (2, 2, [1, 2], [[3.0, 4.0], [5.0, 6.0]])
    """

    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        check_fields(self)
        integer = self.values.dtype.kind in "iu"
        values = check_array("values", self.values, dimensions=2, kind="integer" if integer else "floating")
        check_magnitude("values", values)
        offsets = check_array("offsets", self.offsets, dimensions=1, kind="integer").astype(np.int64)
        if offsets[0] != 0 or offsets[-1] != len(values) or len(offsets) < 2 or (np.diff(offsets) < 1).any():
            raise InputError(
                f"offsets must rise from 0 to the number of frames ({len(values)}), by a frame at least for each "
                f"sequence, got {offsets[:6].tolist()}{'...' if len(offsets) > 6 else ''}"
            )
        kept = np.ascontiguousarray(values, dtype=np.int64 if integer else np.float64)
        for name, array in (("values", kept), ("offsets", offsets)):
            array = array.copy() if array is getattr(self, name) else array
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    @entrance
    def of(cls, sequences: Sequence[npt.ArrayLike]) -> Sequences:
        """Put sequences one behind the other, each of shape (frames, channels), or (frames,) with one channel.

        Raises
        ------
        InputError
            If there is none, their channels differ, or one is not as above.
        """
        if not len(sequences):
            raise InputError("sequences must hold at least one, got none")
        arrays = []
        for number, each in enumerate(sequences):
            array = as_array(f"sequences[{number}]", each)
            array = array[:, np.newaxis] if array.ndim == 1 else array
            kind = "integer" if array.dtype.kind in "iu" else "floating"
            arrays.append(check_array(f"sequences[{number}]", array, dimensions=2, kind=kind))
            if array.shape[1] != arrays[0].shape[1]:
                raise InputError(
                    f"sequences[{number}] must have {arrays[0].shape[1]} channels, as the first, got {array.shape[1]}"
                )
        offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])])
        return cls(values=np.concatenate(arrays), offsets=offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> npt.NDArray[Any]:
        """One sequence, (frames, channels); `IndexError` beyond the last."""
        number = range(len(self))[number]
        frames: npt.NDArray[Any] = self.values[self.offsets[number] : self.offsets[number + 1]]
        return frames

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[number] for number in range(len(self)))

    @property
    def channels(self) -> int:
        """Numbers of a frame."""
        return int(self.values.shape[1])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Frames of each sequence, int64 (sequences,)."""
        return np.diff(self.offsets)

    @entrance
    def select(self, numbers: npt.ArrayLike) -> Sequences:
        """Some of them, in the order of `numbers`: integers from 0, (sequences,), or a mask of booleans.

        Raises
        ------
        InputError
            If there is no such sequence, or none is chosen.
        """
        wanted = as_array("numbers", numbers)
        if wanted.dtype.kind == "b":
            if wanted.shape != (len(self),):
                raise InputError(f"numbers must have shape ({len(self)},) where they are a mask, got {wanted.shape}")
            wanted = np.flatnonzero(wanted)
        wanted = check_array("numbers", wanted, dimensions=1, kind="integer")
        if wanted.min() < 0 or wanted.max() >= len(self):
            raise InputError(f"numbers must be from 0 to {len(self) - 1}, got {wanted.min()} to {wanted.max()}")
        return Sequences.of([self[int(number)] for number in wanted])

    @entrance
    def standardised(self, by: Sequences) -> Sequences:
        """Every channel with the mean taken off and divided by the standard deviation that it has in other sequences.

        Parameters
        ----------
        by
            Whose frames give mean and standard deviation (with the number of frames in its denominator): the gallery,
            for probes. A channel that does not vary there is only shifted.

        Raises
        ------
        InputError
            If the channels differ.
        """
        check_alike("by", by, self.channels)
        mean, deviation = by.values.mean(axis=0), by.values.std(axis=0)
        values = (self.values - mean) / np.where(deviation > 0, deviation, 1.0)
        return Sequences(values=values, offsets=self.offsets)

    @entrance
    def with_context(self, frames: int) -> Sequences:
        """Every frame with its neighbours beside it, as further channels; a sequence's ends are repeated beyond them.

        A squared distance of such frames is the sum of those of 2 `frames` + 1 frames along a diagonal.

        Parameters
        ----------
        frames
            How many to either side, 0 or more.
        """
        check_integer("frames", frames, at_least=0, at_most=int(self.lengths.max()))
        starts = np.repeat(self.offsets[:-1], self.lengths)
        ends = np.repeat(self.offsets[1:] - 1, self.lengths)
        places = np.arange(len(self.values))[:, np.newaxis] + np.arange(-frames, frames + 1)
        places = np.clip(places, starts[:, np.newaxis], ends[:, np.newaxis])
        return Sequences(values=self.values[places].reshape(len(self.values), -1), offsets=self.offsets)

    def __repr__(self) -> str:
        lengths = self.lengths
        return f"<{len(self)} sequences of {lengths.min()} to {lengths.max()} frames with {self.channels} channels>"


def check_magnitude(name: str, values: npt.NDArray[Any], largest: float | None = None) -> None:
    """Raise `InputError` if numbers are so large that sums of their squares could overflow."""
    largest = largest or (_LARGEST_CODE if values.dtype.kind in "iu" else _LARGEST)
    least, most = values.min(), values.max()
    if most > largest or least < -largest:
        raise InputError(f"{name} must be of magnitude <= {largest:g}, got {most if most > largest else least}")


def check_alike(name: str, sequences: Any, channels: int) -> None:
    """Raise `InputError` unless these are sequences with so many channels."""
    check_instance(name, sequences, Sequences)
    if sequences.channels != channels:
        raise InputError(f"{name} must have {channels} channels, got {sequences.channels}")
