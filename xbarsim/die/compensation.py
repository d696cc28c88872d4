"""Global drift compensation: one digital factor a layer that brings the sums of an aged die back to their size.

A controller drives all word lines of every array once after programming and keeps the sum of what the converters give,
by magnitude; later it reads again, and the ratio is the factor. The mean fall of the cells is undone; how they differ
from each other stays. The method: V. Joshi et al., Nature Communications 11, 2473 (2020),
doi:10.1038/s41467-020-16108-9 ("global drift compensation").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xbarsim.mapping import MappedMatrix

__all__ = ["drift_factor"]


def drift_factor(before: npt.NDArray[np.float32], now: npt.NDArray[np.float32], matrix: MappedMatrix) -> float:
    """What the sums of a layer are multiplied by.

    Parameters
    ----------
    before, now
        What reads see of the cells after programming and at the age of the die, level units, shape ``(tiles, rows,
        columns)``; neighbouring columns are pairs.
    matrix
        Says which rows are driven and which columns are read.

    Returns
    -------
    float
        The sum over all pairs of the magnitude of their difference with all rows driven, before over now; 1 where
        nothing is left to be brought back.
    """
    driven = (matrix.tile_rows >= 0)[:, :, np.newaxis]
    pairs = np.asarray(matrix.used.any(axis=1))
    read = pairs[:, 0::2] | pairs[:, 1::2]

    def total(cells: npt.NDArray[np.float32]) -> float:
        differences = (cells[:, :, 0::2].astype(np.float64) - cells[:, :, 1::2]) * driven
        return float(np.abs(differences.sum(axis=1))[read].sum())

    left = total(now)
    return total(before) / left if left > 0.0 else 1.0
