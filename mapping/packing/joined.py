"""Packing that joins blocks of disjoint columns, or of disjoint rows, whichever takes fewer tiles."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.mapping.packing.base import IndexArray, Packing, chunks

__all__ = ["JoinedPacking"]

_MOST_WORK = 2**34  # lines times lines times their lengths over the size of a group: seconds


class JoinedPacking(Packing):
    """Blocks that share no outputs, or no rows, stand side by side in one tile, where that takes fewer tiles.

    What block-column-row pruning leaves of a block is few rows of few outputs. Tiles can follow either:

    - along the outputs, as with ``"block"``: as many outputs as fit a tile, below one another all the rows that any of
      them needs, so that blocks of disjoint rows share a tile;
    - along the rows: as many rows as fit a tile, side by side all the outputs that have a weight in them, so that
      blocks of disjoint outputs share a tile.

    Both are tried with the lines in their order, and grouped so that alike ones share tiles: each group begins with the
    line of most weights and takes in turn the one that adds the fewest lines to those it needs. Of the four, the one
    with the fewest tiles is taken, of those the one with the fewest cells, of those the first. Lines of matrices so
    large that grouping them would take minutes are left in their order.
    """

    name: ClassVar[str] = "joined"

    def blocks(
        self, nonzero: npt.NDArray[np.bool_], rows_per_tile: int, outputs_per_tile: int
    ) -> list[tuple[IndexArray, IndexArray]]:
        """As :meth:`Packing.blocks`."""
        found: list[list[tuple[IndexArray, IndexArray]]] = []
        for alike in (False, True):
            along_outputs = _cut(nonzero, outputs_per_tile, rows_per_tile, alike)
            found.append(along_outputs)
            along_rows = _cut(nonzero.T, rows_per_tile, outputs_per_tile, alike)
            found.append([(rows, outputs) for outputs, rows in along_rows])
        return min(found, key=lambda blocks: (len(blocks), sum(len(rows) * len(outputs) for rows, outputs in blocks)))


def _cut(nonzero: npt.NDArray[np.bool_], held: int, others: int, alike: bool) -> list[tuple[IndexArray, IndexArray]]:
    """Groups of `held` columns of a matrix, each with the rows it needs, `others` at a time, as (rows, columns)."""
    columns = np.flatnonzero(nonzero.any(axis=0)).astype(np.int32)
    work = len(columns) ** 2 * nonzero.shape[0] // held
    if alike and len(columns) > held and work <= _MOST_WORK:
        columns = columns[_grouped(np.ascontiguousarray(nonzero[:, columns]), held)]
    return [
        (rows, group)
        for group in chunks(columns, held)
        for rows in chunks(np.flatnonzero(nonzero[:, group].any(axis=1)).astype(np.int32), others)
    ]


def _grouped(nonzero: npt.NDArray[np.bool_], held: int) -> npt.NDArray[np.int64]:
    """The columns of a matrix in an order in which `held` at a time need few rows."""
    counts = nonzero.sum(axis=0)
    left = np.ones(len(counts), dtype=bool)
    order = np.empty(len(counts), dtype=np.int64)
    for place in range(len(order)):
        if place % held == 0:
            needed = np.zeros(nonzero.shape[0], dtype=bool)
            shared = np.zeros(len(counts), dtype=np.int64)  # rows of each column that the group needs already
            chosen = int(np.where(left, counts, -1).argmax())
        else:
            chosen = int(np.where(left, counts - shared, nonzero.shape[0] + 1).argmin())
        order[place], left[chosen] = chosen, False
        new = nonzero[:, chosen] & ~needed
        needed |= new
        shared += nonzero[new].sum(axis=0)
    return order
