"""Cells stuck far outside the range of conductances of the cell that a design is made of: mostly another technology."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.guide import see

__all__ = ["StuckOutside", "StuckValueWarning", "warn_outside"]


class StuckValueWarning(UserWarning):
    """Cells are stuck at conductances that no level of the design's cell comes near."""


@dataclass(frozen=True, kw_only=True)
class StuckOutside:
    """How many cells that are stuck at conductances of their own lie outside the range of a cell.

    Outside is more than half a level step below level 0 or above the highest: what no cell of that kind is programmed
    to. True where there are any; the counts of several arrays add.

    Attributes
    ----------
    cell
        Name of the cell.
    maximum_level
        Its highest level M.
    stuck_at
        Number of cells stuck at conductances of their own.
    below, above
        How many of them lie outside, on either side.
    lowest, highest
        The least and the greatest of these, in level units; 0 where there are none.
    """

    cell: str
    maximum_level: int
    stuck_at: int = 0
    below: int = 0
    above: int = 0
    lowest: float = 0.0
    highest: float = 0.0

    @classmethod
    def of(cls, levels: npt.NDArray[np.floating[Any]], cell: str, maximum_level: int) -> StuckOutside:
        """Count stuck values, in level units."""
        below, above = levels < -0.5, levels > maximum_level + 0.5
        beyond = levels[below | above]
        return cls(
            cell=cell,
            maximum_level=maximum_level,
            stuck_at=int(levels.size),
            below=int(np.count_nonzero(below)),
            above=int(np.count_nonzero(above)),
            lowest=float(beyond.min()) if beyond.size else 0.0,
            highest=float(beyond.max()) if beyond.size else 0.0,
        )

    def __bool__(self) -> bool:
        return bool(self.below or self.above)

    def __add__(self, other: StuckOutside) -> StuckOutside:
        ends = [part for part in (self, other) if part]
        return StuckOutside(
            cell=self.cell,
            maximum_level=self.maximum_level,
            stuck_at=self.stuck_at + other.stuck_at,
            below=self.below + other.below,
            above=self.above + other.above,
            lowest=min((part.lowest for part in ends), default=0.0),
            highest=max((part.highest for part in ends), default=0.0),
        )

    def __str__(self) -> str:
        if not self:
            return (
                f"none of {self.stuck_at} stuck values outside levels 0 to {self.maximum_level} of cell {self.cell!r}"
            )
        return (
            f"{self.below + self.above} of {self.stuck_at} stuck values lie outside levels 0 to {self.maximum_level} "
            f"of cell {self.cell!r} ({self.below} below, {self.above} above): "
            f"{self.lowest:.3g} to {self.highest:.3g} levels"
        )


@entrance
def warn_outside(outside: StuckOutside, source: str) -> None:
    """Warn, with a :class:`StuckValueWarning`, if any stuck value of `source` lies outside."""
    if outside:
        warnings.warn(
            f"{source}: {outside}: they may be of another technology than the cell{see('limits')}",
            StuckValueWarning,
            stacklevel=4,
        )
