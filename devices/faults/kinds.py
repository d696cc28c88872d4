"""What can be wrong with a cell, and the shape of the arrays that faults are drawn for."""

from __future__ import annotations

import enum

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_integer, check_memory, shown

__all__ = ["FaultKind", "Shape", "as_shape", "dense_shape"]

Shape = tuple[int, int, int]
"""(tiles, rows, columns) of cells."""

_MOST_CELLS = 2**62


class FaultKind(enum.IntEnum):
    """What is wrong with a cell."""

    STUCK_OFF = 1
    """At g_min, high resistance."""
    STUCK_ON = 2
    """At g_max, low resistance."""
    STUCK_AT = 3
    """At a conductance of its own."""


@entrance
def as_shape(shape: object) -> Shape:
    """`shape` as (tiles, rows, columns): no tiles are allowed, no rows or columns are not.

    Raises
    ------
    InputError
        If it is not three whole numbers in these bounds, or holds more than 2**62 cells.
    """
    if not isinstance(shape, tuple | list | np.ndarray) or len(shape) != 3:
        raise InputError(f"shape must be (tiles, rows, columns), got {shown(shape)}")
    tiles = check_integer("shape[0] (tiles)", shape[0], at_least=0)
    rows = check_integer("shape[1] (rows)", shape[1], at_least=1)
    columns = check_integer("shape[2] (columns)", shape[2], at_least=1)
    if tiles * rows * columns > _MOST_CELLS:
        raise InputError(f"shape must hold <= {_MOST_CELLS} cells, got {(tiles, rows, columns)}")
    return tiles, rows, columns


def dense_shape(shape: object) -> Shape:
    """`shape` as :func:`as_shape` has it, of cells that are looked at one by one.

    Raises
    ------
    InputError
        If :func:`as_shape` does, or a byte a cell would take more than its share of memory.
    """
    tiles, rows, columns = as_shape(shape)
    check_memory("shape", f"{tiles} tiles of {rows} x {columns} cells", tiles * rows * columns)
    return tiles, rows, columns
