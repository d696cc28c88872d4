"""Placement: every weight once, nothing outside its tile, and packing that changes no product."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import code_matrices, mappings, relaxed, slice_weight
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Differential, MappedMatrix, Mapping, Offset, map_matrix

Array = npt.NDArray[Any]


@st.composite
def placements(draw: st.DrawFn, /, **fixed: Any) -> tuple[Array, MappedMatrix]:
    """A matrix of codes and where it was placed."""
    mapping = draw(mappings(**fixed))
    codes = draw(code_matrices(mapping))
    return codes, map_matrix(codes, mapping)


def product_on_tiles(inputs: Array, mapped: MappedMatrix) -> Array:
    """The product as the tiles make it, column by column, from the definitions alone."""
    mapping = mapped.mapping
    offset = mapping.sides == 1
    result = np.zeros(mapped.shape[1])
    for rows, outputs, levels in zip(mapped.tile_rows, mapped.tile_outputs, mapped.levels, strict=True):
        applied = np.where(rows >= 0, inputs[rows], 0)
        sums = applied @ levels.astype(np.int64)  # one per physical column
        for slot, output in enumerate(outputs):
            if output < 0:
                continue
            for number in range(mapping.slices):
                for side in range(mapping.sides):
                    column = (slot * mapping.slices + number) * mapping.sides + side
                    result[output] += (-1) ** side * slice_weight(mapping, number) * sums[column]
            if mapping.has_reference:
                result[output] -= slice_weight(mapping, mapping.slices - 1) * sums[-1]
            elif offset:
                result[output] -= 2 ** (mapping.weight_bits - 1) * applied.sum()
    return result


def an_input(codes: Array) -> Array:
    return np.random.default_rng(codes.size).integers(-100, 100, size=len(codes))


@relaxed
@given(placed=placements())
def test_the_codes_come_back(placed: tuple[Array, MappedMatrix]) -> None:
    codes, mapped = placed
    assert mapped.shape == codes.shape
    assert mapped.codes().dtype == np.int32
    np.testing.assert_array_equal(mapped.codes(), codes)
    as_units = mapped.decode(mapped.levels.astype(np.float32))
    assert as_units.dtype == np.float64
    np.testing.assert_array_equal(as_units, codes)


@relaxed
@given(placed=placements())
def test_tiles_make_the_product(placed: tuple[Array, MappedMatrix]) -> None:
    codes, mapped = placed
    inputs = an_input(codes)
    np.testing.assert_array_equal(product_on_tiles(inputs, mapped), inputs @ codes)


@relaxed
@given(placed=placements())
def test_packing_never_changes_the_product_and_only_saves(placed: tuple[Array, MappedMatrix]) -> None:
    codes, mapped = placed
    inputs = an_input(codes)
    by_pack = {}
    for pack in ("none", "matrix", "block"):
        other = map_matrix(codes, replace(mapped.mapping, pack=pack))
        np.testing.assert_array_equal(product_on_tiles(inputs, other), inputs @ codes)
        by_pack[pack] = other
    assert by_pack["block"].tiles <= by_pack["matrix"].tiles <= by_pack["none"].tiles
    assert by_pack["block"].cells_used <= by_pack["matrix"].cells_used <= by_pack["none"].cells_used


@relaxed
@given(placed=placements(), data=st.data())
def test_permutations_commute_with_the_product(placed: tuple[Array, MappedMatrix], data: st.DataObject) -> None:
    codes, mapped = placed
    rows = data.draw(st.permutations(range(codes.shape[0])))
    outputs = data.draw(st.permutations(range(codes.shape[1])))
    inputs = an_input(codes)
    permuted = map_matrix(codes[rows][:, outputs], mapped.mapping)
    np.testing.assert_array_equal(product_on_tiles(inputs[rows], permuted), product_on_tiles(inputs, mapped)[outputs])


@relaxed
@given(placed=placements(), data=st.data())
def test_a_placement_may_be_permuted_too(placed: tuple[Array, MappedMatrix], data: st.DataObject) -> None:
    """Unused rows and slots may stand anywhere, as mitigation by placement will want."""
    codes, mapped = placed
    mapping = mapped.mapping
    rows = data.draw(st.permutations(range(mapping.rows)))
    slots = np.array(data.draw(st.permutations(range(mapping.outputs_per_tile))))
    cells = mapping.slices * mapping.sides
    columns = (slots[:, np.newaxis] * cells + np.arange(cells)).ravel()
    columns = np.concatenate([columns, np.arange(len(columns), mapping.columns)])
    moved = MappedMatrix(
        mapping=mapping,
        shape=mapped.shape,
        tile_rows=mapped.tile_rows[:, rows],
        tile_outputs=mapped.tile_outputs[:, slots],
        levels=mapped.levels[:, rows][:, :, columns],
    )
    inputs = an_input(codes)
    np.testing.assert_array_equal(moved.codes(), codes)
    np.testing.assert_array_equal(product_on_tiles(inputs, moved), inputs @ codes)
    assert moved.cells_used == mapped.cells_used
    assert not moved.levels[~moved.used].any()


@relaxed
@given(placed=placements())
def test_every_kept_weight_is_placed_exactly_once(placed: tuple[Array, MappedMatrix]) -> None:
    codes, mapped = placed
    mapping = mapped.mapping
    owners = np.zeros(mapped.levels.shape, dtype=int)
    for row in range(codes.shape[0]):
        for output in range(codes.shape[1]):
            cells = mapped.cells_of(row, output)
            assert len(cells) in (0, mapping.slices * mapping.sides)
            assert {len(part) for part in (cells.tile, cells.row, cells.column, cells.slice, cells.side)} == {
                len(cells)
            }
            if codes[row, output] or mapping.pack == "none":
                assert len(cells)
            if not len(cells):
                continue
            assert len(set(cells.tile.tolist())) == 1
            owners[cells.tile, cells.row, cells.column] += 1
            levels = mapped.levels[cells.tile, cells.row, cells.column]
            order = cells.slice * mapping.sides + cells.side
            assert sorted(order.tolist()) == list(range(len(cells)))
            in_order = levels[np.argsort(order)].reshape(mapping.slices, mapping.sides)
            bits = mapping.weight_bits, mapping.cell_bits
            np.testing.assert_array_equal(in_order, mapping.encoding.encode(codes[row, output], *bits))
    assert owners.max(initial=0) <= 1  # no cell is used twice
    if mapping.has_reference:
        assert not owners[:, :, -1].any()
        owners[:, :, -1] = mapped.used[:, :, -1]
    np.testing.assert_array_equal(owners == 1, mapped.used)
    assert mapped.cells_used == owners.sum()


@relaxed
@given(placed=placements())
def test_weight_at_is_the_reverse_of_cells_of(placed: tuple[Array, MappedMatrix]) -> None:
    _, mapped = placed
    mapping = mapped.mapping
    for tile, row, column in np.ndindex(mapped.levels.shape):
        cell = mapped.weight_at(tile, row, column)
        assert (cell is not None) == mapped.used[tile, row, column]
        if cell is None:
            continue
        assert cell.row == mapped.tile_rows[tile, row]
        if cell.is_reference:
            assert column == mapping.columns - 1
            assert (cell.output, cell.slice, cell.side) == (-1, mapping.slices - 1, 0)
            assert mapped.levels[tile, row, column] == mapping.reference_level
            continue
        cells = mapped.cells_of(cell.row, cell.output)
        here = (cells.tile == tile) & (cells.row == row) & (cells.column == column)
        assert here.sum() == 1
        assert (cells.slice[here][0], cells.side[here][0]) == (cell.slice, cell.side)


@relaxed
@given(placed=placements())
def test_nothing_leaves_its_tile(placed: tuple[Array, MappedMatrix]) -> None:
    codes, mapped = placed
    mapping = mapped.mapping
    assert mapped.levels.shape == (mapped.tiles, mapping.rows, mapping.columns)
    assert mapped.tile_rows.shape == (mapped.tiles, mapping.rows)
    assert mapped.tile_outputs.shape == (mapped.tiles, mapping.outputs_per_tile)
    assert mapped.levels.dtype == np.uint8
    assert mapped.tile_rows.dtype == mapped.tile_outputs.dtype == np.int32
    assert mapped.levels.max(initial=0) <= mapping.max_level
    assert mapped.used.shape == mapped.levels.shape
    assert not mapped.levels[~mapped.used].any()
    assert 0 <= mapped.utilisation <= 1
    if mapped.tiles:
        assert mapped.utilisation == mapped.used.mean()
    if mapping.pack == "none":
        np.testing.assert_array_equal(mapped.kept_rows, np.arange(codes.shape[0]))
        np.testing.assert_array_equal(mapped.kept_outputs, np.arange(codes.shape[1]))
        blocks = -(-codes.shape[0] // mapping.rows) * -(-codes.shape[1] // mapping.outputs_per_tile)
        assert mapped.tiles == blocks
    else:
        np.testing.assert_array_equal(mapped.kept_rows, np.flatnonzero(codes.any(axis=1)))
        np.testing.assert_array_equal(mapped.kept_outputs, np.flatnonzero(codes.any(axis=0)))
        for rows, outputs in zip(mapped.tile_rows, mapped.tile_outputs, strict=True):
            block = codes[np.ix_(rows[rows >= 0], outputs[outputs >= 0])]
            assert block.any()  # no empty tile
            if mapping.pack == "block":
                assert block.any(axis=1).all()  # no empty row in a tile


@relaxed
@given(placed=placements())
def test_row_groups(placed: tuple[Array, MappedMatrix]) -> None:
    _, mapped = placed
    tiles = [tile for group in mapped.tile_groups for tile in group.tiles.tolist()]
    assert sorted(tiles) == list(range(mapped.tiles))
    seen = set()
    for group in mapped.tile_groups:
        assert group.rows.dtype == group.tiles.dtype == group.physical_rows.dtype == np.int32
        np.testing.assert_array_equal(group.physical_rows, np.arange(len(group.rows)))
        for tile in group.tiles:
            rows = mapped.tile_rows[tile]
            np.testing.assert_array_equal(rows[rows >= 0], group.rows)
            np.testing.assert_array_equal(rows[group.physical_rows], group.rows)
        seen.add(tuple(group.rows.tolist()))
    assert len(seen) == len(mapped.tile_groups)
    if mapped.mapping.pack == "none":
        assert len(mapped.tile_groups) == -(-mapped.shape[0] // mapped.mapping.rows)


@relaxed
@given(placed=placements(), data=st.data())
def test_one_cell_moves_one_weight(placed: tuple[Array, MappedMatrix], data: st.DataObject) -> None:
    codes, mapped = placed
    if not mapped.tiles:
        return
    mapping = mapped.mapping
    place = tuple(data.draw(st.integers(0, size - 1)) for size in mapped.levels.shape)
    cells = mapped.levels.astype(np.float64)
    cells[place] += 0.25
    expected = codes.astype(np.float64)
    cell = mapped.weight_at(*place)
    if cell is not None:
        step = 0.25 * slice_weight(mapping, cell.slice)
        if cell.is_reference:
            outputs = mapped.tile_outputs[place[0]]
            expected[cell.row, outputs[outputs >= 0]] -= step
        else:
            expected[cell.row, cell.output] += -step if cell.side else step
    np.testing.assert_array_equal(mapped.decode(cells), expected)


def test_a_known_tile() -> None:
    codes = np.array([[5, -18], [0, 127]])
    mapping = Mapping(encoding=Differential(), rows=3, columns=9, weight_bits=8, cell_bits=4)
    mapped = map_matrix(codes, mapping)
    assert mapped.levels.tolist() == [
        [
            [15, 10, 15, 15, 13, 15, 14, 15, 0],
            [15, 15, 15, 15, 15, 0, 15, 8, 0],
            [0, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
    ]
    assert mapped.tile_rows.tolist() == [[0, 1, -1]]
    assert mapped.tile_outputs.tolist() == [[0, 1]]
    assert mapped.cells_used == 16
    assert mapped.utilisation == 16 / 27
    offset = map_matrix(codes, replace(mapping, encoding=Offset()))
    assert offset.levels.tolist() == [
        [[5, 8, 14, 6, 0, 0, 0, 0, 8], [0, 8, 15, 15, 0, 0, 0, 0, 8], [0, 0, 0, 0, 0, 0, 0, 0, 0]]
    ]
    assert offset.cells_used == 10


def test_block_packing_keeps_each_blocks_own_rows() -> None:
    codes = np.zeros((6, 4), dtype=int)
    codes[[0, 2, 4], 0] = 1
    codes[[1, 3, 5], 3] = 1
    mapping = Mapping(rows=4, columns=4, weight_bits=3, cell_bits=2, pack="block")  # 2 outputs a tile
    codes[5, 2] = 1
    mapped = map_matrix(codes, mapping)
    assert mapped.kept_outputs.tolist() == [0, 2, 3]
    assert mapped.tile_outputs.tolist() == [[0, 2], [3, -1]]
    assert mapped.tile_rows.tolist() == [[0, 2, 4, 5], [1, 3, 5, -1]]
    np.testing.assert_array_equal(mapped.codes(), codes)
    assert map_matrix(codes, replace(mapping, pack="matrix")).tiles == 4


def test_empty_tiles_do_not_exist() -> None:
    codes = np.kron(np.eye(3, dtype=int), np.ones((4, 2), dtype=int))  # three full tiles on the diagonal
    mapping = Mapping(rows=4, columns=4, weight_bits=3, cell_bits=2, pack="matrix")
    mapped = map_matrix(codes, mapping)
    assert mapped.tiles == 3
    assert mapped.utilisation == 1.0
    np.testing.assert_array_equal(mapped.codes(), codes)
    assert map_matrix(codes, replace(mapping, pack="block")).tiles == 3
    assert map_matrix(codes, replace(mapping, pack="none")).tiles == 9


@pytest.mark.parametrize("pack", ["matrix", "block"])
def test_a_matrix_of_zeros_takes_no_tile(pack: Any) -> None:
    mapped = map_matrix(np.zeros((300, 200), dtype=int), Mapping(encoding=Offset(), pack=pack))
    assert mapped.tiles == 0
    assert mapped.levels.shape == (0, 128, 128)
    assert mapped.cells_used == 0
    assert mapped.utilisation == 0.0
    assert mapped.tile_groups == ()
    assert not len(mapped.kept_rows)
    assert not len(mapped.kept_outputs)
    assert mapped.used.shape == (0, 128, 128)
    assert len(mapped.cells_of(299, 199)) == 0
    assert mapped.codes().shape == (300, 200)
    assert not mapped.codes().any()
    assert "0 tiles" in repr(mapped)
    with pytest.raises(InputError, match="tile must be an integer"):
        mapped.weight_at(0, 0, 0)
    unpacked = map_matrix(np.zeros((300, 200), dtype=int), Mapping(pack="none"))
    assert unpacked.tiles == 3 * 7


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int64, np.uint8, np.uint64])
def test_any_integer_type(kind: type[np.integer[Any]]) -> None:
    codes = np.array([[1, 2], [3, 127]], dtype=kind)
    np.testing.assert_array_equal(map_matrix(codes, Mapping()).codes(), codes)


def test_repr_names_what_matters() -> None:
    text = repr(map_matrix(np.ones((200, 100), dtype=int), Mapping()))
    assert text == (
        "<MappedMatrix 200 x 100 on 8 tiles of 128 x 128 cells, 8-bit weights in 4-bit cells, TwoColumn, "
        "61.0% of the cells used>"
    )


def test_arrays_are_read_only_and_the_input_is_not_touched() -> None:
    codes = np.ones((3, 3), dtype=np.int32)
    mapped = map_matrix(codes, Mapping())
    for array in (mapped.levels, mapped.tile_rows, mapped.tile_outputs):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert codes.flags.writeable
    assert (codes == 1).all()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[128]], r"codes must be in \[-127, 127\] for 8-bit weights, got 128"),
        ([[0, -128]], r"codes must be in \[-127, 127\] for 8-bit weights, got -128"),
        (np.array([[2**63]], dtype=np.uint64), r"codes must be in \[-127, 127\] .*, got 9223372036854775808"),
        ([[1.0]], "codes must be .* of integer numbers, got type float64"),
        ([[np.nan]], "codes must be .* of integer numbers, got type float64"),
        ([[True]], "codes must be .* of integer numbers, got type bool"),
        (np.zeros((0, 2), int), r"codes must be a non-empty 2-dimensional array .*, got shape \(0, 2\)"),
        (3, r"codes must be a non-empty 2-dimensional array .*, got shape \(\)"),
        ([1, 2], r"codes must be a non-empty 2-dimensional array .*, got shape \(2,\)"),
    ],
)
def test_bad_codes(codes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        map_matrix(codes, Mapping())


def test_bad_mapping() -> None:
    with pytest.raises(InputError, match="mapping must be of type Mapping"):
        map_matrix([[1]], "TwoColumn")  # type: ignore[arg-type]


def test_bad_cells() -> None:
    mapped = map_matrix([[1, 2], [3, 4]], Mapping())
    with pytest.raises(InputError, match=r"cells must have shape \(1, 128, 128\), got \(128, 128\)"):
        mapped.decode(np.zeros((128, 128)))
    with pytest.raises(InputError, match="cells must be an array of real numbers, got type complex128"):
        mapped.decode(np.zeros((1, 128, 128), dtype=complex))
    with pytest.raises(InputError, match="row must be an integer >= 0 and <= 1, got 2"):
        mapped.cells_of(2, 0)
    with pytest.raises(InputError, match="output must be an integer >= 0 and <= 1, got -1"):
        mapped.cells_of(0, -1)
    with pytest.raises(InputError, match="tile must be an integer >= 0 and <= 0, got 1"):
        mapped.weight_at(1, 0, 0)
    with pytest.raises(InputError, match="row must be an integer >= 0 and <= 127, got 128"):
        mapped.weight_at(0, 128, 0)
    with pytest.raises(InputError, match="column must be an integer >= 0 and <= 127, got 128"):
        mapped.weight_at(0, 0, 128)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile_rows": np.zeros((1, 3), np.int32)}, r"tile_rows must have shape \(1, 2\) and type int32"),
        ({"tile_rows": np.zeros((1, 2))}, "tile_rows must have .* type int32, got .* float64"),
        ({"tile_rows": np.array([[0, 2]], np.int32)}, r"tile_rows must be in \[-1, 1\], got 2"),
        ({"tile_outputs": np.array([[-2, 0]], np.int32)}, r"tile_outputs must be in \[-1, 1\], got -2"),
        ({"tile_rows": np.array([[1, 1]], np.int32)}, "place each weight once, tile 0 repeats one"),
        ({"tile_outputs": np.array([[1, 1]], np.int32)}, "place each weight once, tile 0 repeats one"),
        ({"levels": np.full((1, 2, 4), 4, np.uint8)}, r"levels must be in \[0, 3\], got 4"),
        ({"shape": (0, 2)}, "shape must be an integer >= 1 and <= 2147483647, got 0"),
        ({"mapping": None}, "mapping must be of type Mapping"),
    ],
)
def test_bad_placements(changes: dict[str, Any], message: str) -> None:
    mapped = map_matrix([[1, 2], [3, -3]], Mapping(rows=2, columns=4, weight_bits=3, cell_bits=2))
    with pytest.raises(InputError, match=message):
        replace(mapped, **changes)


def test_a_weight_on_two_tiles_is_refused() -> None:
    mapped = map_matrix([[1, 2], [3, -3]], Mapping(rows=2, columns=2, weight_bits=3, cell_bits=2))
    assert mapped.tiles == 2
    with pytest.raises(InputError, match="place each weight once, tile 1 repeats one"):
        replace(mapped, tile_outputs=np.zeros((2, 1), np.int32))
