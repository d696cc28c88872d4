"""Both columns of a pair moved from the middle of the range, in opposite directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xbarsim.foundation.entrances import entrance
from xbarsim.mapping.encodings.base import IntegerArray, PairEncoding

__all__ = ["Balanced"]


@dataclass(frozen=True, kw_only=True)
class Balanced(PairEncoding):
    """Both cells moved from the middle, in opposite directions: a = floor((M + s)/2), b = a - s.

    A zero weight sits at the middle of the range. A stuck cell costs about half of full scale,
    whichever way it is stuck.

    Examples
    --------
    >>> Balanced().encode([3, 0, -3], weight_bits=5, cell_bits=4)[:, 0].tolist()
    [[9, 6], [7, 7], [6, 9]]
    """

    name: ClassVar[str] = "Balanced"

    @entrance
    def pair(self, slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        """The levels (a, b) of slices in [-M, M]."""
        positive = (largest + slices) // 2
        return positive, positive - slices
