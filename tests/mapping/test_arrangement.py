"""Lines that lie elsewhere: there and back, and what is broken with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbarsim.devices import FaultKind, FaultMap
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Arrangement


@st.composite
def arrangements(draw: st.DrawFn) -> Arrangement:
    tiles, rows, columns = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6)))
    spare = draw(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (tiles + spare[0], rows + spare[1], columns + spare[2])
    return Arrangement(
        rows=np.stack([rng.permutation(shape[1])[:rows] for _ in range(tiles)]).astype(np.int32),
        columns=np.stack([rng.permutation(shape[2])[:columns] for _ in range(tiles)]).astype(np.int32),
        arrays=rng.permutation(shape[0])[:tiles].astype(np.int32),
        shape=shape,
    )


@given(placed=arrangements(), seed=st.integers(0, 100))
def test_cells_go_to_the_arrays_and_back(placed: Arrangement, seed: int) -> None:
    tiles = np.random.default_rng(seed).random(placed.tiles_shape)
    arrays = placed.cells_of_arrays(tiles)
    assert arrays.shape == placed.shape
    np.testing.assert_array_equal(placed.cells_of_tiles(arrays), tiles)
    assert np.count_nonzero(arrays) == tiles.size  # nothing is in other lines
    for tile, row, column in np.ndindex(*placed.tiles_shape):
        place = placed.arrays[tile], placed.rows[tile, row], placed.columns[tile, column]
        assert arrays[place] == tiles[tile, row, column]


@given(placed=arrangements(), seed=st.integers(0, 100))
def test_faults_move_with_their_cells(placed: Arrangement, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 4, placed.shape)
    values = rng.random(placed.shape)
    faults = FaultMap.from_dense(kinds, values)
    expected = FaultMap.from_dense(placed.cells_of_tiles(kinds), placed.cells_of_tiles(values))
    assert placed.faults_of_tiles(faults) == expected
    lines = rng.random(placed.shape[:2])
    np.testing.assert_array_equal(
        placed.rows_of_tiles(lines), placed.cells_of_tiles(np.broadcast_to(lines[..., None], placed.shape))[..., 0]
    )


def test_every_line_in_its_own_place_is_the_identity() -> None:
    placed = Arrangement.identity((2, 3, 4), spare_rows=1, spare_columns=2)
    assert placed.shape == (2, 4, 6)
    arrays = np.arange(48).reshape(2, 4, 6)
    np.testing.assert_array_equal(placed.cells_of_tiles(arrays), arrays[:, :3, :4])
    faults = FaultMap.from_dense(np.full((2, 4, 6), int(FaultKind.STUCK_ON)))
    assert len(placed.faults_of_tiles(faults)) == 24


def test_places_that_are_shared_or_not_there_are_refused() -> None:
    good = Arrangement.identity((1, 2, 2))
    for name, value, words in (
        ("rows", np.array([[0, 0]], np.int32), "rows must place each line once"),
        ("columns", np.array([[0, 2]], np.int32), r"columns must be in \[0, 1\], got 2"),
        ("arrays", np.array([-1], np.int32), r"arrays must be in \[0, 0\], got -1"),
        ("rows", np.array([[0, 1], [0, 1]], np.int32), "rows must be int32 with one entry for each of 1 tiles"),
    ):
        fields = {"rows": good.rows, "columns": good.columns, "arrays": good.arrays, "shape": good.shape, name: value}
        with pytest.raises(InputError, match=words):
            Arrangement(**fields)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cells must have the shape of the arrays"):
        good.cells_of_tiles(np.zeros((2, 2, 2)))
    with pytest.raises(InputError, match="cells must have the shape of the tiles"):
        good.cells_of_arrays(np.zeros((2, 2, 2)))
