"""Positive slices in one column of a pair, negative ones in the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.mapping.encodings.base import IntegerArray, PairEncoding

__all__ = ["TwoColumn"]


@dataclass(frozen=True, kw_only=True)
class TwoColumn(PairEncoding):
    """Positive slices in one column, negative ones in the other: (max(s, 0), max(-s, 0)).

    A zero weight sits at (0, 0). A stuck-off cell is an error only where the cell was used; a stuck-on
    cell costs up to full scale.

    Examples
    --------
    >>> TwoColumn().encode([3, 0, -3], weight_bits=5, cell_bits=4)[:, 0].tolist()
    [[3, 0], [0, 0], [0, 3]]
    """

    name: ClassVar[str] = "TwoColumn"

    @entrance
    def pair(self, slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        """The levels (a, b) of slices in [-M, M]."""
        return np.maximum(slices, 0), np.maximum(-slices, 0)
