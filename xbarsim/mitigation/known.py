"""What is known of a layer of a die before it is programmed, and what is decided about it: what mitigations work on."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.devices import Cell, FaultKind, FaultMap
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_integer
from xbarsim.mapping import Arrangement, MappedMatrix, Mapping

__all__ = ["Correction", "KnownLayer", "KnownTile", "TileFit", "combine_copies", "stuck_levels", "weight_cells"]

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
LevelArray = npt.NDArray[np.uint8]
StuckArray = npt.NDArray[np.float32]


def stuck_levels(faults: FaultMap, cell: Cell, cell_bits: int) -> StuckArray:
    """Where each cell is stuck, in level units, NaN where it works: float32 of the shape of the map."""
    levels = np.full(faults.shape, np.nan, np.float32)
    levels.reshape(-1)[faults.index] = faults.stuck_levels(cell, cell_bits)
    return levels


def weight_cells(mapping: Mapping, columns: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values of the columns of a tile by weight: from shape ``(..., columns)`` to ``(..., outputs, cells)``."""
    cells = mapping.slices * mapping.sides
    own = columns[..., : mapping.outputs_per_tile * cells]
    return own.reshape(*columns.shape[:-1], mapping.outputs_per_tile, cells)


def combine_copies(
    deviations: FloatArray, matrix: MappedMatrix, copies: int, copy_weights: FloatArray | None
) -> FloatArray:
    """What copies of a layer deviate together, from what each does.

    Parameters
    ----------
    deviations
        Shape ``(tiles of all copies, rows, outputs)``.
    matrix
        Which outputs the tiles hold.
    copies
        How many there are; their tiles and outputs stand one copy behind the other.
    copy_weights
        What each counts in each output, shape ``(copies, outputs of a copy)``; ``None`` if all count alike.
    """
    if copies == 1:
        return deviations
    outputs = matrix.tile_outputs[: len(deviations) // copies]
    if copy_weights is None:
        copy_weights = np.full((copies, matrix.shape[1] // copies), 1.0 / copies)
    counts = np.where(outputs >= 0, copy_weights[:, outputs], 0.0)
    each = deviations.reshape(copies, -1, *deviations.shape[1:])
    result: FloatArray = np.einsum("atij,atj->tij", each, counts)
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """What is added digitally to some weights of a tile.

    Attributes
    ----------
    rows, outputs
        Which weights, by their place in the tile, int32 of shape ``(weights,)``.
    values
        What is added, in units of the codes, shape ``(weights,)``.
    """

    rows: IndexArray
    outputs: IndexArray
    values: FloatArray

    def __post_init__(self) -> None:
        check_fields(self)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class TileFit:
    """What is decided about one tile: which lines it takes, what is programmed, and what is put right digitally.

    Attributes
    ----------
    levels
        What is programmed, uint8 of shape ``(rows, columns)``, in the order of the tile.
    rows, columns
        The word line of each row and the bit line of each column, int32. The two columns of a pair that is subtracted
        before the converter must stay a pair, in either order.
    array
        Which array of the layer holds the tile.
    correction
        What is added digitally, or ``None``.
    """

    levels: LevelArray
    rows: IndexArray
    columns: IndexArray
    array: int
    correction: Correction | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def with_levels(self, levels: LevelArray) -> TileFit:
        """The same with other levels."""
        return replace(self, levels=levels)


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownLayer:
    """All tiles of a layer of a die, as far as they are known before it is programmed.

    Attributes
    ----------
    name
        Of the layer.
    matrix
        Its weights in cells.
    cell
        The memory cell.
    codes
        The weights that the tiles should hold, in units of the codes, 0 in unused places; shape ``(tiles, rows,
        outputs of a tile)``.
    fits
        What was decided so far, tile by tile.
    stuck_at
        Where the cells of each array are known to be stuck, in level units, NaN where they are believed to work; shape
        ``(arrays, word lines, bit lines)``, spare lines included. ``None`` for a method that does not ask for a map.
    rates
        The expected share of cells of each kind of fault; ``None`` for a method that asks for nothing or images, and
        where no fault model is known.
    input_power
        Mean square of each input, shape ``(inputs,)``.
    weight_scale
        What one unit of a weight's code is worth, shape ``(outputs,)``.
    copies
        How often each weight is held; its tiles and its outputs stand one copy behind the other.
    copy_weights
        What each copy counts in each output, shape ``(copies, outputs of a copy)``; ``None`` if all count alike.
    """

    name: str
    matrix: MappedMatrix
    cell: Cell
    codes: FloatArray
    fits: tuple[TileFit, ...]
    stuck_at: StuckArray | None = None
    rates: MappingType[FaultKind, float] | None = None
    input_power: FloatArray
    weight_scale: FloatArray
    copies: int = 1
    copy_weights: FloatArray | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @entrance
    def of(
        cls,
        matrix: MappedMatrix,
        *,
        cell: Cell,
        name: str = "",
        faults: FaultMap | None = None,
        rates: MappingType[FaultKind, float] | None = None,
        input_power: FloatArray | None = None,
        weight_scale: FloatArray | None = None,
        spare_rows: int = 0,
        spare_columns: int = 0,
        copies: int = 1,
    ) -> KnownLayer:
        """A placed matrix before anything is decided: every line in its own place, every cell at its target.

        Parameters
        ----------
        matrix, cell, name, rates, copies
            As the attributes.
        faults
            Known faults of all arrays, spare lines included, or ``None``.
        input_power
            Mean square of each input of the matrix; ``None`` for 1.
        weight_scale
            What one unit of a weight's code is worth, for each output of the matrix; ``None`` for 1.
        spare_rows, spare_columns
            Lines that every array has beside those of the mapping.

        Raises
        ------
        InputError
            If `faults` are not of the arrays.
        """
        check_integer("spare_rows", spare_rows, at_least=0, at_most=2**31)
        check_integer("spare_columns", spare_columns, at_least=0, at_most=2**31)
        check_integer("copies", copies, at_least=1)
        tiles, rows, columns = matrix.levels.shape
        lines = [np.arange(size, dtype=np.int32) for size in (rows, columns)]
        stuck = None
        if faults is not None:
            faults.check_shape((tiles, rows + spare_rows, columns + spare_columns))
            stuck = stuck_levels(faults, cell, matrix.mapping.cell_bits)
        inputs, outputs = matrix.shape
        return cls(
            name=name,
            matrix=matrix,
            cell=cell,
            codes=_decode(matrix.mapping, matrix.levels, _used_weights(matrix)).astype(np.float64),
            fits=tuple(
                TileFit(levels=levels, rows=lines[0], columns=lines[1], array=tile)
                for tile, levels in enumerate(matrix.levels)
            ),
            stuck_at=stuck,
            rates=rates,
            input_power=np.ones(inputs) if input_power is None else input_power,
            weight_scale=np.ones(outputs) if weight_scale is None else weight_scale,
            copies=copies,
        )

    @property
    def mapping(self) -> Mapping:
        """The mapping."""
        return self.matrix.mapping

    @cached_property
    def used_weights(self) -> npt.NDArray[np.bool_]:
        """Which places of the tiles hold a weight, of the shape of `codes`."""
        return _used_weights(self.matrix)

    @cached_property
    def importance(self) -> tuple[FloatArray, FloatArray]:
        """Weight of a squared deviation, as two factors: of rows ``(tiles, rows)`` and of outputs ``(tiles, outputs)``.

        The mean square of a weight's input, and the square of what one unit of its code is worth; 0 in unused places.
        """
        rows, outputs = self.matrix.tile_rows, self.matrix.tile_outputs
        power = np.where(rows >= 0, self.input_power[rows], 0.0)
        scale = np.where(outputs >= 0, self.weight_scale[outputs], 0.0)
        return power, scale**2

    def tile(self, tile: int) -> KnownTile:
        """One of its tiles."""
        check_integer("tile", tile, at_least=0, at_most=self.matrix.tiles - 1)
        return KnownTile(layer=self, tile=tile, fit=self.fits[tile])

    @entrance
    def with_fits(self, fits: tuple[TileFit, ...]) -> KnownLayer:
        """The same, with more decided."""
        if len(fits) != self.matrix.tiles:
            raise InputError(f"fits must be one for each of {self.matrix.tiles} tiles, got {len(fits)}")
        return replace(self, fits=fits)

    @property
    def levels(self) -> LevelArray:
        """What is programmed, in the order of the tiles; uint8 of shape ``(tiles, rows, columns)``."""
        if not self.fits:
            return self.matrix.levels
        return np.stack([fit.levels for fit in self.fits])

    def stuck(self) -> StuckArray | None:
        """Where cells are stuck, in the order of the tiles as they lie now; shape ``(tiles, rows, columns)``."""
        if self.stuck_at is None:
            return None
        if not self.fits:
            return np.zeros((0, *self.matrix.levels.shape[1:]), np.float32)
        return np.stack([self.stuck_at[fit.array][np.ix_(fit.rows, fit.columns)] for fit in self.fits])

    def deviations(self) -> FloatArray:
        """What the weights will be less what they should be, in units of the codes; shape of `codes`."""
        return _deviations(self.mapping, self.used_weights, self.codes, self.stuck(), self.fits)

    def errors(self) -> FloatArray:
        """Power of the error of the outputs of each tile, of all its copies together: shape ``(tiles of a copy,)``.

        Squared deviations of the weights by their importance.
        """
        deviations = combine_copies(self.deviations(), self.matrix, self.copies, self.copy_weights)
        tiles = len(deviations)
        power, scale = (factor[:tiles] for factor in self.importance)
        result: FloatArray = np.einsum("ti,tij,tj->t", power, deviations**2, scale)
        return result

    def signals(self) -> FloatArray:
        """The same of the weights themselves: the power of the outputs of each tile."""
        tiles = len(self.codes) // self.copies
        power, scale = (factor[:tiles] for factor in self.importance)
        result: FloatArray = np.einsum("ti,tij,tj->t", power, self.codes[:tiles] ** 2, scale)
        return result

    def arrangement(self, shape: tuple[int, int, int]) -> Arrangement:
        """Where its lines lie in arrays of `shape`."""
        if not self.fits:
            _, rows, columns = self.matrix.levels.shape
            spare_rows, spare_columns = shape[1] - rows, shape[2] - columns
            return Arrangement.identity((0, rows, columns), spare_rows=spare_rows, spare_columns=spare_columns)
        return Arrangement(
            rows=np.stack([fit.rows for fit in self.fits]),
            columns=np.stack([fit.columns for fit in self.fits]),
            arrays=np.array([fit.array for fit in self.fits], np.int32),
            shape=shape,
        )


def _used_weights(matrix: MappedMatrix) -> npt.NDArray[np.bool_]:
    return (matrix.tile_rows >= 0)[:, :, np.newaxis] & (matrix.tile_outputs >= 0)[:, np.newaxis, :]


def _decode(mapping: Mapping, cells: npt.NDArray[Any], used: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """The weights that cells (tiles, rows, columns) stand for, shape (tiles, rows, outputs); 0 where unused."""
    bits = mapping.weight_bits, mapping.cell_bits
    own = weight_cells(mapping, cells)
    values = mapping.encoding.decode(own.reshape(*own.shape[:-1], mapping.slices, mapping.sides), *bits)
    if mapping.has_reference:
        top = mapping.encoding.slice_weights(*bits)[-1]
        values = values + (mapping.reference_level - cells[..., -1:].astype(values.dtype)) * top
    return np.where(used, values, 0)


def _deviations(
    mapping: Mapping,
    used: npt.NDArray[np.bool_],
    codes: FloatArray,
    stuck: StuckArray | None,
    fits: tuple[TileFit, ...],
) -> FloatArray:
    levels = np.stack([fit.levels for fit in fits]) if fits else np.zeros((0, mapping.rows, mapping.columns), np.uint8)
    cells = levels.astype(np.float64)
    if stuck is not None:
        np.copyto(cells, stuck, where=~np.isnan(stuck))
    deviations = np.asarray(_decode(mapping, cells, used) - codes, dtype=np.float64)
    for tile, fit in enumerate(fits):
        if fit.correction is not None:
            np.add.at(deviations[tile], (fit.correction.rows, fit.correction.outputs), fit.correction.values)
    return deviations


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownTile:
    """One tile of a layer of a die, as far as it is known before it is programmed.

    Attributes
    ----------
    layer
        The layer that it belongs to.
    tile
        Its number.
    fit
        What was decided so far.
    """

    layer: KnownLayer
    tile: int
    fit: TileFit

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def mapping(self) -> Mapping:
        """The mapping."""
        return self.layer.mapping

    @property
    def rates(self) -> MappingType[FaultKind, float] | None:
        """As :class:`KnownLayer`."""
        return self.layer.rates

    @property
    def levels(self) -> LevelArray:
        """What will be programmed so far, uint8 of shape ``(rows, columns)``."""
        return self.fit.levels

    @property
    def targets(self) -> LevelArray:
        """The levels of the mapping, shape ``(rows, columns)``."""
        return np.asarray(self.layer.matrix.levels[self.tile])

    @property
    def codes(self) -> FloatArray:
        """The weights that the tile should hold, in units of the codes (0 for none), shape ``(rows, outputs)``."""
        return np.asarray(self.layer.codes[self.tile])

    @property
    def importance(self) -> FloatArray:
        """Weight of the squared deviation of each weight in :meth:`error`, shape ``(rows, outputs)``."""
        power, scale = self.layer.importance
        return np.asarray(np.multiply.outer(power[self.tile], scale[self.tile]))

    @property
    def used_rows(self) -> npt.NDArray[np.bool_]:
        """Which rows hold weights, shape ``(rows,)``: the others may lie on any line that is left."""
        return np.asarray(self.layer.matrix.tile_rows[self.tile] >= 0)

    @property
    def used_outputs(self) -> npt.NDArray[np.bool_]:
        """Which outputs the tile holds, shape ``(outputs,)``."""
        return np.asarray(self.layer.matrix.tile_outputs[self.tile] >= 0)

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Which cells hold something, shape ``(rows, columns)``."""
        columns = np.zeros(self.mapping.columns, dtype=bool)
        own = np.repeat(self.used_outputs, self.mapping.slices * self.mapping.sides)
        columns[: len(own)] = own
        if self.mapping.has_reference:
            columns[-1] = own.any()
        return self.used_rows[:, np.newaxis] & columns

    def columns_of(self, output: int) -> slice:
        """The columns that hold the weights of one output, slice by slice, side by side."""
        cells = self.mapping.slices * self.mapping.sides
        return slice(output * cells, (output + 1) * cells)

    @property
    def array_stuck_at(self) -> StuckArray | None:
        """Where the cells of its array are known to be stuck, spare lines included, as :attr:`KnownLayer.stuck_at`."""
        return None if self.layer.stuck_at is None else self.layer.stuck_at[self.fit.array]

    def stuck_at(self, fit: TileFit) -> StuckArray:
        """The same of the lines that a fit takes, shape ``(rows, columns)``; NaN where nothing is known."""
        if self.layer.stuck_at is None:
            return np.full(self.levels.shape, np.nan, np.float32)
        array = self.layer.stuck_at[fit.array]
        lines = np.ix_(fit.rows, fit.columns)
        return np.asarray(array[lines])

    def held(self, fit: TileFit) -> FloatArray:
        """What the cells will hold if the tile is programmed so: those known to be stuck stay where they are.

        Returns
        -------
        ndarray
            Level units, shape ``(rows, columns)``.
        """
        stuck = self.stuck_at(fit)
        return np.where(np.isnan(stuck), fit.levels, stuck).astype(np.float64)

    def deviation(self, fit: TileFit) -> FloatArray:
        """What the weights will be less what they should be, in units of the codes, shape ``(rows, outputs)``."""
        one = slice(self.tile, self.tile + 1)
        used = self.layer.used_weights[one]
        each = _deviations(self.mapping, used, self.layer.codes[one], self.stuck_at(fit)[np.newaxis], (fit,))
        return np.asarray(each[0])

    def error(self, fit: TileFit) -> float:
        """Squared deviation of the weights, each times its importance: the power of the error of the tile's outputs."""
        return float((self.importance * self.deviation(fit) ** 2).sum())

    @property
    def signal(self) -> float:
        """The same of the weights themselves: the power of the tile's outputs."""
        return float((self.importance * self.codes**2).sum())
