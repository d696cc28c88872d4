"""The layout of plans without converters: one product with the effective matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from xbarsim.engine.case import Case
from xbarsim.engine.layout import Columns, Layout, read_columns
from xbarsim.engine.plans.base import input_offset
from xbarsim.foundation.entrances import entrance

__all__ = ["whole_layout"]

FloatArray = npt.NDArray[np.float64]

_CHUNK_ROWS = 256  # rows summed in one go; a long float32 sum would lose digits


def _counted(group: Columns, counts: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The outputs that a group serves, and what a unit of input on each row adds to each: (driven, outputs)."""
    outputs = group.served
    columns, targets = [np.flatnonzero(group.outputs >= 0)], [group.outputs[group.outputs >= 0]]
    for shared in np.flatnonzero(group.outputs < 0):
        held = group.held[int(group.tiles[shared])]
        columns.append(np.full(len(held), shared))
        targets.append(held)
    column, target = np.concatenate(columns), np.searchsorted(outputs, np.concatenate(targets))
    counted = sparse.csr_array((counts[column], (column, target)), shape=(len(counts), len(outputs)))
    return outputs, np.asarray(group.values @ counted)


@entrance
def whole_layout(case: Case) -> Layout:
    """One product of whole codes with the effective matrix, in chunks of rows; read noise for each output."""
    reading, drive = case.reading, case.drive
    matrix = reading.matrix
    columns, sums = [], -matrix.code_sums.astype(np.float64)
    for group in read_columns(reading, drive, case.cells):
        outputs, effective = _counted(group, group.counts)
        values = effective - reading.shift
        sums[outputs] += values.sum(axis=0)
        for first in range(0, len(values), _CHUNK_ROWS):
            part = slice(first, first + _CHUNK_ROWS)
            columns.append(
                Columns(rows=group.rows[part], values=values[part], counts=np.ones(len(outputs)), outputs=outputs)
            )
    variances: list[tuple[int, FloatArray]] = []
    if case.noise is not None:
        for power, held in case.noise.coefficients():
            added = np.zeros(matrix.shape)
            for group in read_columns(reading, drive, held, added=True):
                outputs, variance = _counted(group, group.counts**2)
                added[np.ix_(group.rows, outputs)] = variance
            variances.append((power, added))
    return Layout(
        kind="whole",
        drive=drive,
        converter=case.converter,
        single=not reading.paired,
        columns=tuple(columns),
        inputs=matrix.shape[0],
        outputs=matrix.shape[1],
        constant=input_offset(case, sums),
        precision=case.precision,
        noise=case.noise,
        variances=tuple((power, (added,)) for power, added in variances),
        draws=(matrix.shape[1],),
    )
