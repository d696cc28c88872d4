"""The rows of a tile take the word lines on which their weights lose least."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import check_choice, check_integer
from xbarsim.mitigation.base import Overhead, PlacedT
from xbarsim.mitigation.known import KnownTile, TileFit
from xbarsim.mitigation.line_costs import LineMoves, Search, assign, row_costs

__all__ = ["PermuteRows"]


@dataclass(frozen=True, kw_only=True)
class PermuteRows(LineMoves):
    """Lay the rows of each tile on those word lines of its array on which their weights lose least.

    The inputs of a tile are then driven in another order: its input register is read through a table. Of every row and
    every word line it is known what is lost when the healthy cells there are brought as close as they can be
    (:class:`ClosestValue`, which is done too); the cheapest assignment of one to the other is found exactly, or one
    row after another. Rows of a tile that hold no weight are spare lines already.

    Matching of rows to lines is that of L. Chen et al., DATE 2017, doi:10.23919/DATE.2017.7926952, whose costs count
    mismatches.

    Attributes
    ----------
    search
        ``"exact"``: the best of all assignments. ``"greedy"``: the best free line for one row after another, those
        first that lose most on an average line. ``"in order"``: the best that keeps the order of the rows, which only
        leaves the worst lines out.
    spare
        Word lines that every array has beside those of the mapping.

    Raises
    ------
    InputError
        If `search` is none of these, or `spare` negative.
    """

    search: Search = "exact"
    spare: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("search", self.search, ("exact", "greedy", "in order"))
        check_integer("spare", self.spare, at_least=0)

    @entrance
    def prepare(self, network: PlacedT) -> PlacedT:
        """The network on arrays with the spare lines."""
        return network.with_spare_lines(rows=self.spare, columns=0) if self.spare else network

    def moved(self, tile: KnownTile) -> TileFit:
        """The word lines of one tile."""
        rows = np.flatnonzero(tile.used_rows)
        costs = row_costs(tile)
        now = tile.fit.rows[rows].astype(np.int64)
        found = assign(costs, now, self.search)
        if found is now:
            return tile.fit
        lines = np.full(len(tile.fit.rows), -1, np.int32)
        lines[rows] = found
        free = np.setdiff1d(np.arange(len(costs), dtype=np.int32), found)
        lines[lines < 0] = free[: len(lines) - len(rows)]
        return replace(tile.fit, rows=lines)

    @entrance
    def overhead(self, tile: KnownTile, fit: TileFit) -> Overhead:
        """Beside the cells written anew, a table with the word line of each row; in order, one bit for each line."""
        stuck = tile.array_stuck_at
        lines = len(tile.fit.rows) if stuck is None else len(stuck)
        bits = lines if self.search == "in order" else len(fit.rows) * math.ceil(math.log2(max(lines, 2)))
        own = super().overhead(tile, fit)
        return replace(own, configuration_bits=bits)
