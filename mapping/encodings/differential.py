"""Both columns of a pair at the highest level, one of them lowered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.mapping.encodings.base import IntegerArray, PairEncoding

__all__ = ["Differential"]


@dataclass(frozen=True, kw_only=True)
class Differential(PairEncoding):
    """Both cells parked at the highest level, one lowered: (M - max(-s, 0), M - max(s, 0)).

    A zero weight sits at (M, M), so a stuck-on cell is an error only where the cell was lowered. Parking
    zeros at M raises every column's current: without analog subtraction the converter needs that range,
    and the array that power.

    This is the complement (l -> M - l) of `TwoColumn` with the two sides exchanged: under stuck-at rates
    (off, on) it reads what `TwoColumn` reads under (on, off).

    References
    ----------
    .. [1] G. Yuan et al., "Improving DNN Fault Tolerance using Weight Pruning and Differential Crossbar
       Mapping for ReRAM-based Edge AI", ISQED 2021, arXiv:2106.09166, Section III.

    Examples
    --------
    >>> Differential().encode([3, 0, -3], weight_bits=5, cell_bits=4)[:, 0].tolist()
    [[15, 12], [15, 15], [12, 15]]
    """

    name: ClassVar[str] = "Differential"

    @entrance
    def pair(self, slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        """The levels (a, b) of slices in [-M, M]."""
        return largest - np.maximum(-slices, 0), largest - np.maximum(slices, 0)
