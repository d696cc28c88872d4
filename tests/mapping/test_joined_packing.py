"""Blocks of disjoint outputs or rows in one tile: what block-column-row pruning frees, and that no product changes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbarsim.design import Converter, Drive
from xbarsim.engine import reference_multiply
from xbarsim.mapping import PACKINGS, Mapping, Reading, map_matrix
from xbarsim.mapping.packing.joined import _grouped
from xbarsim.testing import check_packing

PACKS = ("none", "matrix", "block", "joined")


def block_pruned(
    rng: np.random.Generator, shape: tuple[int, int], block: tuple[int, int], keep: tuple[float, float]
) -> npt.NDArray[np.int64]:
    """Codes (inputs, outputs) of which each block keeps rows and outputs of its own, drawn at random."""
    codes = rng.integers(1, 7, shape, endpoint=True) * rng.choice([-1, 1], shape)
    mask = np.zeros(shape, dtype=bool)
    for top in range(0, shape[0], block[0]):
        for left in range(0, shape[1], block[1]):
            lines = [
                start + rng.permutation(min(size, length - start))[: max(1, round(share * min(size, length - start)))]
                for start, size, length, share in zip((top, left), block, shape, keep, strict=True)
            ]
            mask[np.ix_(*lines)] = True
    return np.where(mask, codes, 0)


def tiles(codes: npt.NDArray[np.int64], **options: int) -> dict[str, int]:
    mapping = {"weight_bits": 4, "cell_bits": 3, **options}
    return {pack: map_matrix(codes, Mapping(pack=pack, **mapping)).tiles for pack in PACKS}  # type: ignore[arg-type]


def test_it_keeps_the_promises_of_a_packing() -> None:
    check_packing(PACKINGS["joined"])


def test_blocks_of_disjoint_outputs_share_a_tile() -> None:
    """Of 8 outputs each band of 8 rows keeps 2: four bands' outputs would take all, one band's take a quarter."""
    codes = block_pruned(np.random.default_rng(1), (32, 32), (8, 8), (1.0, 0.25))
    found = tiles(codes, rows=8, columns=16)
    assert (found["none"], found["joined"]) == (16, 4)
    assert found["block"] >= 12


def test_blocks_of_disjoint_rows_share_a_tile() -> None:
    codes = block_pruned(np.random.default_rng(1), (32, 32), (8, 8), (0.25, 1.0))
    found = tiles(codes, rows=8, columns=16)
    assert (found["none"], found["block"], found["joined"]) == (16, 4, 4)


def test_alike_lines_share_tiles_wherever_they_stand() -> None:
    codes = np.zeros((16, 16), dtype=np.int64)
    codes[:8, ::2] = codes[8:, 1::2] = 1
    assert tiles(codes, rows=8, columns=16) == {"none": 4, "matrix": 4, "block": 4, "joined": 2}


def test_groups_begin_with_the_fullest_line_and_grow_by_the_least() -> None:
    columns = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [0, 1, 1, 0], [1, 0, 0, 0]], dtype=bool)
    assert _grouped(columns.T, 3).tolist() == [1, 0, 3, 2, 4]


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 24),
    block=st.tuples(st.integers(1, 12), st.integers(1, 8)),
    keep=st.tuples(st.floats(0.1, 1.0), st.floats(0.1, 1.0)),
    rows=st.integers(2, 12),
    held=st.integers(1, 6),
)
def test_it_takes_no_more_tiles_than_blocks_do_and_changes_no_product(
    seed: int,
    inputs: int,
    outputs: int,
    block: tuple[int, int],
    keep: tuple[float, float],
    rows: int,
    held: int,
) -> None:
    """In the reference engine, cells on their levels, bit for bit."""
    rng = np.random.default_rng(seed)
    codes = block_pruned(rng, (inputs, outputs), block, keep)
    vectors = rng.integers(0, 15, (3, inputs), endpoint=True)
    drive = Drive(signed=False, input_bits=4, dac_bits=1)
    found = {}
    for pack in PACKS:
        mapping = Mapping(rows=rows, columns=4 * held, weight_bits=4, cell_bits=2, pack=pack)
        matrix = map_matrix(codes, mapping)
        product = reference_multiply(vectors, Reading.of(matrix, "analog"), matrix.levels, drive, Converter())
        assert np.array_equal(product, vectors @ codes), pack
        found[pack] = matrix.tiles
    assert found["joined"] <= found["block"] <= found["none"]


@pytest.mark.parametrize("pack", ["block", "joined"])
def test_a_matrix_without_weights_takes_no_tile(pack: str) -> None:
    assert map_matrix(np.zeros((9, 5), dtype=int), Mapping(pack=pack)).tiles == 0
