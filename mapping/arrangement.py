"""Which physical line of an array each line of a tile lies on: what repair moves without touching the matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.devices import FaultMap
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_integer

__all__ = ["Arrangement"]

IndexArray = npt.NDArray[np.int32]
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Where the tiles of a placed matrix lie in the physical arrays of a die.

    A tile's rows and columns may lie on any word and bit lines of any array of the layer: the inputs are then driven,
    and the sums read, in another order. To multiply is the same with the lines in the tile's order, so that permuting
    lines is to permute what is broken.

    Attributes
    ----------
    rows
        The word line of each row of each tile, int32 of shape ``(tiles, rows)``.
    columns
        The bit line of each column, int32 of shape ``(tiles, columns)``.
    arrays
        The array of each tile, int32 of shape ``(tiles,)``.
    shape
        Arrays, word lines and bit lines that there are, spare ones included.

    Raises
    ------
    InputError
        If two tiles, or two lines of a tile, share a place, or there is none.
    """

    rows: IndexArray
    columns: IndexArray
    arrays: IndexArray
    shape: Shape

    def __post_init__(self) -> None:
        check_fields(self)
        for name, dimensions in (("arrays", 1), ("rows", 2), ("columns", 2)):
            if getattr(self, name).ndim != dimensions:
                raise InputError(f"{name} must have {dimensions} dimension(s), got {getattr(self, name).ndim}")
        tiles = len(self.arrays)
        for name, lines, size in (
            ("rows", self.rows, self.shape[1]),
            ("columns", self.columns, self.shape[2]),
            ("arrays", self.arrays[np.newaxis], self.shape[0]),
        ):
            if (name != "arrays" and len(lines) != tiles) or lines.dtype != np.int32:
                raise InputError(
                    f"{name} must be int32 with one entry for each of {tiles} tiles, got shape {lines.shape} and type "
                    f"{lines.dtype}"
                )
            if lines.size and (lines.min() < 0 or lines.max() >= size):
                worst = lines.min() if lines.min() < 0 else lines.max()
                raise InputError(f"{name} must be in [0, {size - 1}], got {worst}")
            if lines.shape[1] > 1 and (np.diff(np.sort(lines, axis=1), axis=1) == 0).any():
                raise InputError(f"{name} must place each line once, got one place twice")

    @classmethod
    @entrance
    def identity(cls, shape: tuple[int, ...], *, spare_rows: int = 0, spare_columns: int = 0) -> Arrangement:
        """Every line in its own place; spare ones behind them.

        Parameters
        ----------
        shape
            Tiles, rows and columns.
        spare_rows, spare_columns
            Lines that an array has besides.
        """
        if len(shape) != 3:
            raise InputError(f"shape must be (tiles, rows, columns), got {shape}")
        tiles, rows, columns = (check_integer("shape", size, at_least=0) for size in shape)
        for name, count in (("spare_rows", spare_rows), ("spare_columns", spare_columns)):
            check_integer(name, count, at_least=0)
        return cls(
            rows=np.tile(np.arange(rows, dtype=np.int32), (tiles, 1)),
            columns=np.tile(np.arange(columns, dtype=np.int32), (tiles, 1)),
            arrays=np.arange(tiles, dtype=np.int32),
            shape=(tiles, rows + spare_rows, columns + spare_columns),
        )

    @property
    def tiles_shape(self) -> Shape:
        """Tiles, rows and columns."""
        return len(self.arrays), self.rows.shape[1], self.columns.shape[1]

    @cached_property
    def _place(self) -> tuple[IndexArray, IndexArray, IndexArray]:
        return self.arrays[:, np.newaxis, np.newaxis], self.rows[:, :, np.newaxis], self.columns[:, np.newaxis, :]

    def cells_of_tiles(self, cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of the arrays' cells in the order of the tiles: from the shape of the arrays to that of the tiles."""
        if cells.shape != self.shape:
            raise InputError(f"cells must have the shape of the arrays, {self.shape}, got {cells.shape}")
        result: npt.NDArray[Any] = cells[self._place]
        return result

    def cells_of_arrays(self, cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The way back: cells of the arrays that belong to no tile hold 0."""
        if cells.shape != self.tiles_shape:
            raise InputError(f"cells must have the shape of the tiles, {self.tiles_shape}, got {cells.shape}")
        result = np.zeros(self.shape, cells.dtype)
        result[self._place] = cells
        return result

    def rows_of_tiles(self, word_lines: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of word lines, shape ``(arrays, word lines)``, as those of the tiles' rows."""
        result: npt.NDArray[Any] = word_lines[self.arrays[:, np.newaxis], self.rows]
        return result

    def columns_of_tiles(self, bit_lines: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of bit lines, shape ``(arrays, bit lines)``, as those of the tiles' columns."""
        result: npt.NDArray[Any] = bit_lines[self.arrays[:, np.newaxis], self.columns]
        return result

    @entrance
    def faults_of_tiles(self, faults: FaultMap) -> FaultMap:
        """A fault map of the arrays as one of the tiles; faults of lines that are not used are left out.

        Raises
        ------
        InputError
            If it has another shape than the arrays.
        """
        faults.check_shape(self.shape)
        _, word_lines, bit_lines = self.shape
        tile_of = np.full(self.shape[0], -1, np.int64)
        tile_of[self.arrays] = np.arange(len(self.arrays))
        inverse = []
        for lines, size in ((self.rows, word_lines), (self.columns, bit_lines)):
            back = np.full((len(lines), size), -1, np.int64)
            np.put_along_axis(back, lines.astype(np.int64), np.arange(lines.shape[1])[np.newaxis], axis=1)
            inverse.append(back)
        array, place = np.divmod(faults.index, word_lines * bit_lines)
        tile = tile_of[array]
        row, column = inverse[0][tile, place // bit_lines], inverse[1][tile, place % bit_lines]
        _, rows, columns = self.tiles_shape
        kept = np.flatnonzero((tile >= 0) & (row >= 0) & (column >= 0))
        index = (tile[kept] * rows + row[kept]) * columns + column[kept]
        order = np.argsort(index)
        kept = kept[order]
        return FaultMap(
            shape=self.tiles_shape,
            index=index[order],
            kind=faults.kind[kept],
            value=faults.value[kept],
            note=faults.note,
        )
