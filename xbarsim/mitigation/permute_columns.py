"""The outputs of a tile take the bit lines on which their weights lose least."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import check_choice, check_integer
from xbarsim.mitigation.base import Overhead, PlacedT
from xbarsim.mitigation.known import KnownTile, TileFit
from xbarsim.mitigation.line_costs import LineMoves, Search, assign, column_costs, column_groups

__all__ = ["PermuteColumns"]


@dataclass(frozen=True, kw_only=True)
class PermuteColumns(LineMoves):
    """Lay the outputs of each tile on those groups of bit lines on which their weights lose least.

    A group is the neighbouring bit lines that hold the cells of one output's weights; the results of a tile are then
    added to other outputs, by a table. Costs and search are those of :class:`PermuteRows`. Replacing the worst columns
    by spare ones is that of C. Liu et al., DAC 2017, doi:10.1145/3061639.3062310.

    Attributes
    ----------
    search
        As :class:`PermuteRows`.
    spare
        Bit lines that every array has beside those of the mapping; so many of them are used as hold whole weights.
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
        return network.with_spare_lines(rows=0, columns=self.spare) if self.spare else network

    def moved(self, tile: KnownTile) -> TileFit:
        """The bit lines of one tile; the columns of an output keep their order among themselves."""
        groups = column_groups(tile)
        cells = groups.shape[1]
        outputs = np.flatnonzero(tile.used_outputs)
        lines = tile.fit.columns[: tile.mapping.outputs_per_tile * cells].reshape(-1, cells)
        first = lines.min(axis=1)
        now = np.searchsorted(groups[:, 0], first)
        found = assign(column_costs(tile), now[outputs], self.search)
        if np.array_equal(found, now[outputs]):
            return tile.fit
        places = np.full(len(lines), -1, np.int64)
        places[outputs] = found
        places[places < 0] = np.setdiff1d(np.arange(len(groups)), found)[: len(places) - len(outputs)]
        columns = tile.fit.columns.copy()
        columns[: lines.size] = (groups[places, :1] + (lines - first[:, np.newaxis])).reshape(-1)
        return replace(tile.fit, columns=columns)

    @entrance
    def overhead(self, tile: KnownTile, fit: TileFit) -> Overhead:
        """Beside the cells written anew, a table with the group of each output; in order, one bit for each group."""
        stuck = tile.array_stuck_at
        groups = tile.mapping.outputs_per_tile if stuck is None else len(column_groups(tile))
        bits = groups if self.search == "in order" else groups * math.ceil(math.log2(max(groups, 2)))
        own = super().overhead(tile, fit)
        return replace(own, configuration_bits=bits)
