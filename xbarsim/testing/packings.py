"""What a packing promises."""

from __future__ import annotations

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance
from xbarsim.mapping import PACKINGS, Mapping, Packing
from xbarsim.testing.mappings import check_mapping
from xbarsim.testing.promises import call, for_all, load_hypothesis, promise

__all__ = ["check_packing"]


@entrance
def check_packing(packing: Packing) -> None:
    """Check that a packing keeps the promises of :class:`xbarsim.mapping.Packing`.

    It must be found by its name; put every weight on exactly one tile, with no more rows and outputs than fit; give the
    same blocks for the same matrix; and change no product of a placed matrix.

    Parameters
    ----------
    packing
        The packing.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    ImportError
        If hypothesis is not installed.
    """
    check_instance("packing", packing, Packing)
    st = load_hypothesis().strategies
    promise(
        type(PACKINGS.get(packing.name)) is type(packing), "a packing must be found by its name", repr(packing.name)
    )

    def blocks(inputs: int, outputs: int, rows: int, held: int, density: float, seed: int) -> None:
        nonzero = np.random.default_rng(seed).random((inputs, outputs)) < density
        cut = call("cutting a matrix into blocks", packing.blocks, nonzero.copy(), rows, held)
        placed = np.zeros(nonzero.shape, dtype=int)
        for block_rows, block_outputs in cut:
            promise(
                0 < len(block_rows) <= rows and 0 < len(block_outputs) <= held,
                "a block must fit its tile",
                f"{len(block_rows)} rows and {len(block_outputs)} outputs on tiles of {rows} and {held}",
            )
            placed[np.ix_(block_rows, block_outputs)] += 1
        promise(placed.max(initial=0) <= 1, "no place of the matrix may stand on two tiles", f"{placed.max()} times")
        promise(bool((placed[nonzero] == 1).all()), "every weight must stand on a tile", "one is left out")
        again = call("cutting the same matrix again", packing.blocks, nonzero.copy(), rows, held)
        promise(
            len(again) == len(cut)
            and all(
                np.array_equal(a, b) for one, two in zip(cut, again, strict=True) for a, b in zip(one, two, strict=True)
            ),
            "the same matrix must be cut into the same blocks",
            "it was not",
        )

    for_all(
        blocks,
        inputs=st.integers(1, 20),
        outputs=st.integers(1, 20),
        rows=st.integers(1, 8),
        held=st.integers(1, 6),
        density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        seed=st.integers(0, 2**32 - 1),
    )
    check_mapping(Mapping(rows=5, columns=9, weight_bits=4, cell_bits=2, pack=packing.name))
