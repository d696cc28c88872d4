"""Packing that lets each block of outputs keep only the rows with a weight in it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.mapping.packing.base import IndexArray, Packing, chunks

__all__ = ["BlockPacking"]


class BlockPacking(Packing):
    """Outputs without any weight take no cells, and each block of outputs keeps only the rows with a weight in it."""

    name: ClassVar[str] = "block"

    def blocks(
        self, nonzero: npt.NDArray[np.bool_], rows_per_tile: int, outputs_per_tile: int
    ) -> list[tuple[IndexArray, IndexArray]]:
        """As :meth:`Packing.blocks`: in the order of outputs, then rows."""
        outputs = np.flatnonzero(nonzero.any(axis=0)).astype(np.int32)
        return [
            (r, o)
            for o in chunks(outputs, outputs_per_tile)
            for r in chunks(np.flatnonzero(nonzero[:, o].any(axis=1)).astype(np.int32), rows_per_tile)
        ]
