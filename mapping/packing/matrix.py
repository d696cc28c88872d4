"""Packing that leaves out rows and outputs without weights, and tiles without weights."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.mapping.packing.base import IndexArray, Packing, chunks

__all__ = ["MatrixPacking"]


class MatrixPacking(Packing):
    """Rows and outputs without any weight take no cells, and tiles without any weight do not exist."""

    name: ClassVar[str] = "matrix"

    def blocks(
        self, nonzero: npt.NDArray[np.bool_], rows_per_tile: int, outputs_per_tile: int
    ) -> list[tuple[IndexArray, IndexArray]]:
        """As :meth:`Packing.blocks`: in the order of rows, then outputs."""
        rows = np.flatnonzero(nonzero.any(axis=1)).astype(np.int32)
        outputs = np.flatnonzero(nonzero.any(axis=0)).astype(np.int32)
        return [
            (r, o)
            for r in chunks(rows, rows_per_tile)
            for o in chunks(outputs, outputs_per_tile)
            if nonzero[np.ix_(r, o)].any()
        ]
