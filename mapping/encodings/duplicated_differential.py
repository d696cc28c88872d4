"""The differential pairs of the slice that counts most, held twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.mapping.encodings.base import IntegerArray
from xbarsim.mapping.encodings.duplicated_top import DuplicatedPairs

__all__ = ["DuplicatedDifferential"]


@dataclass(frozen=True, kw_only=True)
class DuplicatedDifferential(DuplicatedPairs):
    """`Differential` whose top slice is held by two pairs, each of which counts half.

    Zero weights sit at the highest level, so that a cell that is stuck on costs nothing there, and a stuck cell of the
    top slice costs half as much. Weights of one slice, held so, take as many columns as weights of two slices: 5 bits
    twice instead of 9 bits once in 4-bit cells, with half of the error of a stuck cell.

    Examples
    --------
    >>> DuplicatedDifferential().encode([3, 0], weight_bits=5, cell_bits=4).tolist()
    [[[15, 12], [15, 12]], [[15, 15], [15, 15]]]
    >>> DuplicatedDifferential().slice_weights(weight_bits=5, cell_bits=4).tolist()
    [0.5, 0.5]
    """

    name: ClassVar[str] = "DuplicatedDifferential"

    @entrance
    def pair(self, slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        """As `Differential`: both at the highest level, one of them lowered."""
        return largest - np.maximum(-slices, 0), largest - np.maximum(slices, 0)
