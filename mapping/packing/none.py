"""No packing: every block of the matrix takes a tile."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.mapping.packing.base import IndexArray, Packing, chunks

__all__ = ["NoPacking"]


class NoPacking(Packing):
    """Every block of the matrix takes a tile, whatever it holds."""

    name: ClassVar[str] = "none"

    def blocks(
        self, nonzero: npt.NDArray[np.bool_], rows_per_tile: int, outputs_per_tile: int
    ) -> list[tuple[IndexArray, IndexArray]]:
        """As :meth:`Packing.blocks`: in the order of rows, then outputs."""
        rows, outputs = (np.arange(size, dtype=np.int32) for size in nonzero.shape)
        return [(r, o) for r in chunks(rows, rows_per_tile) for o in chunks(outputs, outputs_per_tile)]
