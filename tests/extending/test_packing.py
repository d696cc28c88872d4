"""A newcomer's packing: one class in one file, which a mapping finds by its name."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xbarsim.mapping import Mapping, Packing, map_matrix
from xbarsim.testing import check_packing


class AlikePacking(Packing):
    """As ``"block"``, with outputs sorted by the rows that they use, so that alike ones share tiles."""

    name: ClassVar[str] = "alike"

    def blocks(
        self, nonzero: np.ndarray, rows_per_tile: int, outputs_per_tile: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Outputs in the order of their patterns, then the rows that each block of them needs."""
        outputs = np.flatnonzero(nonzero.any(axis=0))
        outputs = outputs[np.lexsort(nonzero[::-1, outputs])]
        cut = []
        for first in range(0, len(outputs), outputs_per_tile):
            here = outputs[first : first + outputs_per_tile]
            rows = np.flatnonzero(nonzero[:, here].any(axis=1))
            for start in range(0, len(rows), rows_per_tile):
                cut.append((rows[start : start + rows_per_tile].astype(np.int32), here.astype(np.int32)))
        return cut


def test_it_keeps_the_promises_of_a_packing() -> None:
    check_packing(AlikePacking())


def test_alike_outputs_share_tiles() -> None:
    codes = np.zeros((8, 4), dtype=int)
    codes[:4, ::2] = codes[4:, 1::2] = 1  # outputs in turn use the upper and the lower rows
    tiles = {
        pack: map_matrix(codes, Mapping(rows=4, columns=4, weight_bits=3, cell_bits=2, pack=pack)).tiles
        for pack in ("block", "alike")
    }
    assert tiles == {"block": 4, "alike": 2}
