"""A matrix of integer weights placed in the cells of crossbar tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_array, check_instance, check_integer, check_memory
from xbarsim.mapping.configuration import Mapping
from xbarsim.mapping.encodings import Encoding
from xbarsim.mapping.packing import packing

__all__ = ["CellSet", "MappedMatrix", "TileGroup", "WeightCell", "map_matrix"]

IndexArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class CellSet:
    """The cells that hold one weight, one entry a cell; empty for a weight that takes no cell.

    Attributes
    ----------
    tile, row, column : numpy.ndarray
        Where the cells are: tile, physical row and physical column; int32 of shape (cells,).
    slice, side : numpy.ndarray
        What they hold: the slice (least significant first) and the side of the pair; int32 of shape (cells,).
    """

    tile: IndexArray
    row: IndexArray
    column: IndexArray
    slice: IndexArray
    side: IndexArray

    def __post_init__(self) -> None:
        check_fields(self)

    def __len__(self) -> int:
        return len(self.tile)


@dataclass(frozen=True)
class WeightCell:
    """What one cell holds.

    Attributes
    ----------
    row, output : int
        The weight's place in the matrix; `output` is -1 for a reference cell, which serves every output of
        its tile.
    slice, side : int
        Which slice of the weight (least significant first), and which side of the pair. A reference cell
        has the top slice and side 0.
    is_reference : bool
        Whether this is a cell of the reference column.
    """

    row: int
    output: int
    slice: int
    side: int
    is_reference: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, eq=False)
class TileGroup:
    """Tiles that see the same inputs on the same physical rows.

    Attributes
    ----------
    rows : numpy.ndarray
        The logical rows (inputs) the tiles use, in the order of their physical rows; int32 of shape (used,).
    physical_rows : numpy.ndarray
        The physical row of each; int32 of shape (used,). From `map_matrix`, always 0 to used - 1.
    tiles : numpy.ndarray
        The tiles, ascending; int32 of shape (tiles of the group,).
    """

    rows: IndexArray
    physical_rows: IndexArray
    tiles: IndexArray

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, eq=False, repr=False)
class MappedMatrix:
    """A matrix of integer weights placed in the cells of crossbar tiles.

    Usually made by `map_matrix`. Inside a tile, the cells of the output in place j stand side by side:
    slice s, side i is physical column (j * S + s) * sides + i.

    Parameters
    ----------
    mapping
        The mapping the matrix was placed with.
    shape
        Inputs and outputs of the matrix, (K, N).
    tile_rows
        The logical row on each physical row, -1 where unused; int32 of shape (tiles, rows).
    tile_outputs
        The output in each place, -1 where unused; int32 of shape (tiles, outputs per tile).
    levels
        The target level of each cell, uint8 of shape (tiles, rows, columns); unused cells hold level 0.

    Raises
    ------
    InputError
        If the arrays do not fit each other, the mapping or `shape`, or place a weight twice.

    Notes
    -----
    The arrays are read-only: a die is made from a copy of the levels.
    """

    mapping: Mapping
    shape: tuple[int, int]
    tile_rows: IndexArray
    tile_outputs: IndexArray
    levels: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        check_fields(self)
        check_instance("mapping", self.mapping, Mapping)
        mapping = self.mapping
        if self.levels.ndim != 3:
            raise InputError(f"levels must have shape (tiles, rows, columns), got {self.levels.shape}")
        inputs, outputs = (check_integer("shape", size, at_least=1, at_most=2**31 - 1) for size in self.shape)
        object.__setattr__(self, "shape", (inputs, outputs))
        tiles = len(self.levels)
        wanted_arrays: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "tile_rows": ((tiles, mapping.rows), np.int32),
            "tile_outputs": ((tiles, mapping.outputs_per_tile), np.int32),
            "levels": ((tiles, mapping.rows, mapping.columns), np.uint8),
        }
        for name, (wanted, kind) in wanted_arrays.items():
            array = np.asarray(getattr(self, name))
            if array.shape != wanted or array.dtype != kind:
                raise InputError(
                    f"{name} must have shape {wanted} and type {kind.__name__}, "
                    f"got shape {array.shape} and type {array.dtype}"
                )
            array = array.view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for name, size in (("tile_rows", inputs), ("tile_outputs", outputs)):
            array = getattr(self, name)
            if array.size and (array.min() < -1 or array.max() >= size):
                worst = array.min() if array.min() < -1 else array.max()
                raise InputError(f"{name} must be in [-1, {size - 1}], got {worst}")
        if tiles and self.levels.max() > mapping.max_level:
            raise InputError(f"levels must be in [0, {mapping.max_level}], got {self.levels.max()}")
        self._check_placed_once()

    def _check_placed_once(self) -> None:
        check_memory("shape", f"a matrix of {self.shape[0]} x {self.shape[1]} weights", self.shape[0] * self.shape[1])
        placed = np.zeros(self.shape, dtype=bool)
        for tile in range(self.tiles):
            rows = self.tile_rows[tile][self.tile_rows[tile] >= 0]
            outputs = self.tile_outputs[tile][self.tile_outputs[tile] >= 0]
            block = np.ix_(rows, outputs)
            twice = len(np.unique(rows)) < len(rows) or len(np.unique(outputs)) < len(outputs)
            if twice or placed[block].any():
                raise InputError(f"tile_rows and tile_outputs must place each weight once, tile {tile} repeats one")
            placed[block] = True

    @property
    def tiles(self) -> int:
        """Tiles the matrix takes; 0 for a matrix of zeros that packing emptied."""
        return len(self.levels)

    @property
    def cells_used(self) -> int:
        """Cells in used rows and used columns, the reference column's included."""
        return int((self._used_rows.sum(axis=1) * self._used_columns.sum(axis=1)).sum())

    @property
    def utilisation(self) -> float:
        """The part of the tiles' cells that is used, 0 to 1 (0 for a matrix without tiles)."""
        return self.cells_used / self.levels.size if self.tiles else 0.0

    @property
    def kept_rows(self) -> IndexArray:
        """The logical rows that take cells, ascending; int32."""
        rows = np.unique(self.tile_rows)
        return rows[rows >= 0]

    @property
    def kept_outputs(self) -> IndexArray:
        """The outputs that take cells, ascending; int32."""
        outputs = np.unique(self.tile_outputs)
        return outputs[outputs >= 0]

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Which cells are used: bool of shape (tiles, rows, columns)."""
        return self._used_rows[:, :, np.newaxis] & self._used_columns[:, np.newaxis, :]

    @property
    def _used_rows(self) -> npt.NDArray[np.bool_]:
        return self.tile_rows >= 0

    @property
    def _used_columns(self) -> npt.NDArray[np.bool_]:
        used_outputs = self.tile_outputs >= 0
        columns = np.zeros((self.tiles, self.mapping.columns), dtype=bool)
        cells = np.repeat(used_outputs, self._cells_per_weight, axis=1)
        columns[:, : cells.shape[1]] = cells
        if self.mapping.has_reference:
            columns[:, -1] = used_outputs.any(axis=1)
        return columns

    @property
    def _cells_per_weight(self) -> int:
        return self.mapping.slices * self.mapping.sides

    @cached_property
    def tile_groups(self) -> tuple[TileGroup, ...]:
        """The tiles grouped by their `tile_rows`, so that one product serves a group."""
        members: dict[bytes, list[int]] = {}
        for tile, rows in enumerate(self.tile_rows):
            members.setdefault(rows.tobytes(), []).append(tile)
        groups = []
        for tiles in members.values():
            rows = self.tile_rows[tiles[0]]
            physical = np.flatnonzero(rows >= 0).astype(np.int32)
            groups.append(TileGroup(rows[physical], physical, np.array(tiles, dtype=np.int32)))
        return tuple(groups)

    @entrance
    def decode(self, cells: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the weights that the given cells stand for.

        This is linear in the cells. With a reference column, what is taken off a row's weights is what that
        row's reference cell really holds.

        Parameters
        ----------
        cells
            Levels, or level units for cells off their target: real, of shape (tiles, rows, columns).

        Returns
        -------
        numpy.ndarray
            Weights in units of the codes, shape (K, N), 0 where a weight takes no cell: int64 for integer
            cells (float64 where a slice weight is no whole number), float64 for floating ones.

        Raises
        ------
        InputError
            If `cells` has another shape or is not real.

        Examples
        --------
        A cell stuck at level 0 takes away what it held:

        >>> import numpy as np
        >>> mapped = map_matrix(np.array([[5, -3]]), Mapping(rows=1, columns=4, weight_bits=4, cell_bits=4))
        >>> cells = mapped.levels.copy()
        >>> cells[0, 0].tolist()
        [5, 0, 0, 3]
        >>> cells[0, 0, 3] = 0
        >>> mapped.decode(cells).tolist()
        [[5, 0]]
        """
        array = np.asarray(cells)
        integer = np.issubdtype(array.dtype, np.integer)
        if not integer and not np.issubdtype(array.dtype, np.floating):
            raise InputError(f"cells must be real numbers, got type {array.dtype}")
        if array.shape != self.levels.shape:
            raise InputError(f"cells must have shape {self.levels.shape}, got {array.shape}")
        mapping = self.mapping
        bits = mapping.weight_bits, mapping.cell_bits
        slice_weights = mapping.encoding.slice_weights(*bits)
        top = slice_weights[-1]
        weights = np.zeros(self.shape, dtype=np.result_type(slice_weights, np.int64 if integer else np.float64))
        for tile in range(self.tiles):
            physical = np.flatnonzero(self.tile_rows[tile] >= 0)
            places = np.flatnonzero(self.tile_outputs[tile] >= 0)
            block = array[tile, :, : mapping.outputs_per_tile * self._cells_per_weight]
            block = block.reshape(mapping.rows, -1, mapping.slices, mapping.sides)[np.ix_(physical, places)]
            values = mapping.encoding.decode(block, *bits)
            if mapping.has_reference:
                held = array[tile, physical, -1].astype(weights.dtype)
                values = values + ((mapping.reference_level - held) * top)[:, np.newaxis]
            weights[np.ix_(self.tile_rows[tile][physical], self.tile_outputs[tile][places])] = values
        return weights

    def codes(self) -> npt.NDArray[np.int32]:
        """Return the weights rebuilt from the target levels: int32 of shape (K, N)."""
        return self.decode(self.levels).astype(np.int32)

    @cached_property
    def code_sums(self) -> npt.NDArray[np.int64]:
        """What the weights of each output add up to: int64 of shape (N,); every die needs it, and it is no die's."""
        return np.asarray(self.codes().sum(axis=0, dtype=np.int64))

    @entrance
    def cells_of(self, row: int, output: int) -> CellSet:
        """Return the cells that hold one weight (a reference cell, which many share, is not among them).

        Parameters
        ----------
        row, output
            The weight's place in the matrix.

        Returns
        -------
        CellSet
            Its S * sides cells, by slice and side, or none if packing left the weight out.

        Raises
        ------
        InputError
            If there is no such weight.

        Examples
        --------
        >>> import numpy as np
        >>> mapped = map_matrix(np.array([[5, -3]]), Mapping(rows=1, columns=4, weight_bits=4, cell_bits=4))
        >>> mapped.cells_of(0, 1).column.tolist()
        [2, 3]
        """
        row = check_integer("row", row, at_least=0, at_most=self.shape[0] - 1)
        output = check_integer("output", output, at_least=0, at_most=self.shape[1] - 1)
        tiles, physical = np.nonzero(self.tile_rows == row)
        which, places = np.nonzero(self.tile_outputs[tiles] == output)
        cells = np.arange(self._cells_per_weight)
        count = len(which) * len(cells)  # 0, or the cells of the one tile with the weight
        return CellSet(
            tile=np.repeat(tiles[which], len(cells)).astype(np.int32),
            row=np.repeat(physical[which], len(cells)).astype(np.int32),
            column=(places[:, np.newaxis] * len(cells) + cells).ravel().astype(np.int32),
            slice=(cells // self.mapping.sides).astype(np.int32)[:count],
            side=(cells % self.mapping.sides).astype(np.int32)[:count],
        )

    @entrance
    def weight_at(self, tile: int, row: int, column: int) -> WeightCell | None:
        """Return what a cell holds, or None if it is unused.

        Parameters
        ----------
        tile, row, column
            Tile, physical row and physical column of the cell.

        Raises
        ------
        InputError
            If there is no such cell.

        Examples
        --------
        >>> import numpy as np
        >>> mapped = map_matrix(np.array([[5, -3]]), Mapping(rows=1, columns=4, weight_bits=4, cell_bits=4))
        >>> mapped.weight_at(0, 0, 3)
        WeightCell(row=0, output=1, slice=0, side=1, is_reference=False)
        """
        tile = check_integer("tile", tile, at_least=0, at_most=self.tiles - 1)
        row = check_integer("row", row, at_least=0, at_most=self.mapping.rows - 1)
        column = check_integer("column", column, at_least=0, at_most=self.mapping.columns - 1)
        logical = int(self.tile_rows[tile, row])
        outputs = self.tile_outputs[tile]
        if logical < 0:
            return None
        if self.mapping.has_reference and column == self.mapping.columns - 1:
            if not (outputs >= 0).any():
                return None
            return WeightCell(logical, -1, self.mapping.slices - 1, 0, is_reference=True)
        place, cell = divmod(column, self._cells_per_weight)
        if place >= len(outputs) or outputs[place] < 0:
            return None
        return WeightCell(logical, int(outputs[place]), *divmod(cell, self.mapping.sides))

    def __repr__(self) -> str:
        mapping = self.mapping
        return (
            f"<MappedMatrix {self.shape[0]} x {self.shape[1]} on {self.tiles} tiles of {mapping.rows} x "
            f"{mapping.columns} cells, {mapping.weight_bits}-bit weights in {mapping.cell_bits}-bit cells, "
            f"{type(mapping.encoding).__name__}, {self.utilisation:.1%} of the cells used>"
        )


@lru_cache(maxsize=32)
def _level_table(encoding: Encoding, weight_bits: int, cell_bits: int) -> npt.NDArray[np.uint8]:
    """The levels of every code from -Q to Q: uint8 of shape (2 Q + 1, S * sides)."""
    largest = 2 ** (weight_bits - 1) - 1
    codes = np.arange(-largest, largest + 1)
    table = encoding.encode(codes, weight_bits, cell_bits).reshape(len(codes), -1)
    table.flags.writeable = False
    return table


@entrance
def map_matrix(codes: npt.ArrayLike, mapping: Mapping) -> MappedMatrix:
    """Place a matrix of integer weights on tiles.

    Parameters
    ----------
    codes
        Integers in [-Q, Q], Q = 2**(weight_bits - 1) - 1, of shape (inputs, outputs): for a torch
        ``Linear``, the transpose of its ``weight``.
    mapping
        Encoding, tile size, bits and packing.

    Returns
    -------
    MappedMatrix
        Tiles in the order of their rows, then outputs (packed by ``"block"``: outputs, then rows).
        A matrix of zeros takes no tile unless `mapping.pack` is ``"none"``.

    Raises
    ------
    InputError
        If the codes are not a non-empty matrix of integers in [-Q, Q].

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.zeros((200, 100), dtype=int)
    >>> codes[:, :40] = 7
    >>> map_matrix(codes, Mapping(pack="none")).tiles
    8
    >>> map_matrix(codes, Mapping(pack="matrix")).tiles
    4
    """
    check_instance("mapping", mapping, Mapping)
    array = check_array("codes", codes, dimensions=2, kind="integer")
    largest = mapping.max_weight
    low, high = int(array.min()), int(array.max())
    if low < -largest or high > largest:
        worst = low if low < -largest else high
        raise InputError(f"codes must be in [{-largest}, {largest}] for {mapping.weight_bits}-bit weights, got {worst}")
    array = array.astype(np.int32)
    # the least that any packing takes is one tile; how many it takes is known after it cut the matrix
    rows, columns = mapping.rows, mapping.columns
    check_memory("mapping", f"a tile of {rows} x {columns} cells", rows * columns)
    blocks = packing(mapping.pack).blocks(array != 0, mapping.rows, mapping.outputs_per_tile)
    check_memory("codes", f"{len(blocks)} tiles of {rows} x {columns} cells", len(blocks) * (rows * columns + 4 * rows))
    table = _level_table(mapping.encoding, mapping.weight_bits, mapping.cell_bits)
    tile_rows = np.full((len(blocks), rows), -1, dtype=np.int32)
    tile_outputs = np.full((len(blocks), mapping.outputs_per_tile), -1, dtype=np.int32)
    levels = np.zeros((len(blocks), rows, columns), dtype=np.uint8)
    for tile, (inputs, outputs) in enumerate(blocks):
        tile_rows[tile, : len(inputs)] = inputs
        tile_outputs[tile, : len(outputs)] = outputs
        cells = table[array[np.ix_(inputs, outputs)] + largest].reshape(len(inputs), -1)
        levels[tile, : len(inputs), : cells.shape[1]] = cells
        if mapping.has_reference:
            levels[tile, : len(inputs), -1] = mapping.reference_level
    return MappedMatrix(
        mapping=mapping,
        shape=(array.shape[0], array.shape[1]),
        tile_rows=tile_rows,
        tile_outputs=tile_outputs,
        levels=levels,
    )
