"""What reads give to their converters: the range they need, and how much of it is clipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.design import Converter, Drive
from xbarsim.engine.checks import check_cells, check_codes
from xbarsim.engine.layout import read_columns
from xbarsim.engine.reference import nearest_step
from xbarsim.foundation.entrances import entrance
from xbarsim.mapping import Reading

__all__ = ["clipped_share", "largest_conversion", "largest_read"]

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

_FLOAT32_INTEGERS = 2.0**24  # every integer up to here is a float32


@entrance
def largest_read(reading: Reading, drive: Drive, cells: Array, *, offset_levels: float) -> float:
    """Largest magnitude that any read of these cells could give a converter, whatever the inputs.

    In level steps times plane code; the range argument that decides whether a converter can err.

    Parameters
    ----------
    reading, drive
        How the tiles are read and driven.
    cells
        In level units, shape ``(tiles, rows, columns)``.
    offset_levels
        g_min in level steps.
    """
    check_cells(cells, reading.matrix)
    largest = 0.0
    for group in read_columns(reading, drive, np.asarray(cells, dtype=np.float64)):
        if reading.paired:
            positive, negative = np.maximum(group.values, 0).sum(axis=0), np.maximum(-group.values, 0).sum(axis=0)
            column = max(positive.max(initial=0.0), negative.max(initial=0.0))
        else:
            column = group.values.sum(axis=0).max(initial=0.0) + offset_levels * len(group.rows)
        largest = max(largest, float(column) * drive.max_plane)
    return largest


def _conversions(
    reading: Reading, drive: Drive, codes: Array, cells: Array, offset_levels: float
) -> Iterator[FloatArray]:
    """What these inputs give to the converters, in level steps times plane code: arrays (vectors, columns)."""
    for group in read_columns(reading, drive, cells):
        for _, driven in drive.driven(codes):
            for number in range(drive.planes):
                x = drive.carried(drive.plane(group.inputs(driven), number)).astype(group.values.dtype)
                sums = (x @ group.values).astype(np.float64)
                if not reading.paired:
                    sums += offset_levels * x.sum(axis=1, keepdims=True, dtype=np.float64)
                yield sums


@entrance
def largest_conversion(
    reading: Reading, drive: Drive, codes: Array, *, offset_levels: float, cells: Array | None = None
) -> float:
    """Largest magnitude that these inputs give to any converter of a die without faults or errors.

    Parameters
    ----------
    reading, drive
        How the tiles are read and driven.
    codes
        Input codes, shape ``(vectors, inputs)``.
    offset_levels
        g_min in level steps.
    cells
        What reads see of the cells of such a die, in level units; ``None`` for the levels themselves.

    Returns
    -------
    float
        In level steps times plane code.
    """
    check_codes(codes, reading, drive)
    if cells is not None:
        check_cells(cells, reading.matrix)
    matrix = reading.matrix
    if cells is None:
        below = matrix.mapping.rows * matrix.mapping.max_level * drive.max_plane < _FLOAT32_INTEGERS
        cells = matrix.levels.astype(np.float32 if below and drive.values is None else np.float64)
    else:
        cells = cells.astype(np.float64)
    conversions = _conversions(reading, drive, codes, cells, offset_levels)
    return max((float(np.abs(sums).max(initial=0.0)) for sums in conversions), default=0.0)


@entrance
def clipped_share(reading: Reading, drive: Drive, converter: Converter, codes: Array, cells: Array) -> float | None:
    """Share of conversions beyond the converters' codes, for these inputs; noise and offsets left out.

    Parameters
    ----------
    reading, drive, converter
        How the tiles are driven and read.
    codes
        Input codes, shape ``(vectors, inputs)``.
    cells
        What reads see of the cells, in level units, shape ``(tiles, rows, columns)``.

    Returns
    -------
    float or None
        ``None`` without converters, or without a conversion.
    """
    check_codes(codes, reading, drive)
    check_cells(cells, reading.matrix)
    if converter.step is None:
        return None
    clipped = total = 0
    for sums in _conversions(reading, drive, codes, cells.astype(np.float64), converter.offset_levels):
        wanted = nearest_step(sums, converter.step)
        clipped += int(((wanted < converter.low) | (wanted > converter.high)).sum())
        total += wanted.size
    return clipped / total if total else None
