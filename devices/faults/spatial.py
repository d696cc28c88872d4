"""How unevenly faults are spread: over tiles, and among neighbours."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faults.kinds import Shape
from xbarsim.foundation.validation import InputError, check_integer

__all__ = ["morans_i", "variance_to_mean"]


def variance_to_mean(index: npt.NDArray[np.int64], shape: Shape, block: tuple[int, int] | None) -> float:
    """Variance over mean of the number of broken cells in blocks; see :meth:`FaultMap.variance_to_mean`.

    Parameters
    ----------
    index
        Flat positions of the broken cells, strictly increasing, (n,).
    shape
        (tiles, rows, columns) of all cells.
    block
        (rows, columns) of a block, or ``None`` for whole tiles.
    """
    tiles, rows, columns = shape
    high, wide = (rows, columns) if block is None else block
    high = check_integer("block[0] (rows)", high, at_least=1, at_most=rows)
    wide = check_integer("block[1] (columns)", wide, at_least=1, at_most=columns)
    down, across = rows // high, columns // wide
    tile, row, column = np.unravel_index(index, shape) if index.size else (index,) * 3
    inside = (row < down * high) & (column < across * wide)
    place = (tile * down + row // high) * across + column // wide
    counts = np.bincount(place[inside], minlength=tiles * down * across)
    if counts.size < 2 or not counts.any():
        return float("nan")
    return float(counts.var(ddof=1) / counts.mean())


def morans_i(index: npt.NDArray[np.int64], shape: Shape, neighbours: Literal[4, 8]) -> float:
    """Moran's I of the broken cells; parameters as :func:`variance_to_mean`, see :meth:`FaultMap.morans_i`."""
    if isinstance(neighbours, bool) or neighbours not in (4, 8):
        raise InputError(f"neighbours must be 4 or 8, got {neighbours!r}")
    tiles, rows, columns = shape
    cells = tiles * rows * columns
    steps = [(0, 1), (1, 0)] + ([(1, 1), (1, -1)] if neighbours == 8 else [])
    pairs = tiles * sum((rows - down) * (columns - abs(across)) for down, across in steps)
    if pairs == 0 or index.size in (0, cells):
        return float("nan")
    tile, row, column = np.unravel_index(index, shape)
    both = 0  # pairs of neighbours that are both broken
    of_broken = 0  # for every broken cell, the pairs it is in
    for down, across in steps:
        for sign in (1, -1):
            to_row, to_column = row + sign * down, column + sign * across
            inside = (to_row >= 0) & (to_row < rows) & (to_column >= 0) & (to_column < columns)
            of_broken += int(np.count_nonzero(inside))
            if sign == 1:
                there = np.ravel_multi_index((tile[inside], to_row[inside], to_column[inside]), shape)
                both += int(np.count_nonzero(np.isin(there, index, assume_unique=True)))
    mean = index.size / cells
    covariance = both - mean * of_broken + mean**2 * pairs
    return float(covariance / pairs / (mean * (1 - mean)))
