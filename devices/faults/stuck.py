"""Stuck cells spread evenly, in binomial or in exact numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xbarsim.devices.faults.base import OnOffFaults, draw_positions
from xbarsim.devices.faults.kinds import FaultKind, Shape, dense_shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_choice, check_instance, check_integer

__all__ = ["StuckFaults"]

_MOST_CELLS_EXACT = 10**9 - 1  # numpy's hypergeometric law goes no further


@dataclass(frozen=True, kw_only=True)
class StuckFaults(OnOffFaults):
    """Cells stuck on or off, spread evenly over all cells; no cell is both.

    Attributes
    ----------
    on, off
        Probability that a cell is stuck on (at g_max, low resistance) or off (at g_min, high resistance),
        each in [0, 1], together at most 1.
    count
        ``"independent"``: every cell breaks on its own, so the number of faults is binomial. ``"exact"``:
        the number is the expected one, rounded up or down at random so that its mean is exact in arrays
        of any size.
    """

    on: float
    off: float
    count: Literal["independent", "exact"] = "independent"

    def __post_init__(self) -> None:
        check_choice("count", self.count, ("independent", "exact"))
        self.check_rates()

    @entrance
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of faults, not of cells.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns), or an exact count is asked of 1e9 cells or more.
        """
        shape = dense_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        cells = math.prod(shape)
        if self.total == 0 or cells == 0:
            return FaultMap.empty(shape)
        if self.count == "independent":
            index = draw_positions(cells, float(self.total), rng)
            kind = self.draw_kinds(index.size, rng)
        else:
            check_integer("number of cells", cells, at_most=_MOST_CELLS_EXACT)
            # One uniform number for both counts: each has its exact mean, and off never exceeds the total.
            uniform = float(rng.random())
            broken = min(math.floor(cells * self.total + uniform), cells)
            off_count = min(math.floor(cells * self.off + uniform), broken)
            index = draw_positions(cells, broken, rng)
            on = np.arange(broken) >= off_count
            rng.shuffle(on)
            kind = np.where(on, np.uint8(FaultKind.STUCK_ON), np.uint8(FaultKind.STUCK_OFF))
        return FaultMap(shape=shape, index=index, kind=kind)
