"""What is done about a die's faults before it is programmed: what a method is given, and what it must supply."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from xbarsim.devices import Cell, FaultKind, FaultMap
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import check_integer
from xbarsim.mapping import MappedMatrix

__all__ = ["KnownTile", "Mitigation", "Needs", "Overhead", "Placed"]

#: What a method must know of a die: nothing, the rates of its faults, images run through it, or where its faults are.
Needs = Literal["nothing", "rates", "images", "map"]

FloatArray = npt.NDArray[np.float64]
LevelArray = npt.NDArray[np.uint8]


class Placed(Protocol):
    """What :meth:`Mitigation.prepare` may rely on: a network with mapped layers by name."""

    @property
    def layers(self) -> Mapping[str, Any]:
        """The mapped layers."""


PlacedT = TypeVar("PlacedT", bound=Placed)


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """What a method costs beside the plain mapping; for one tile, or summed over several.

    Attributes
    ----------
    reprogrammed_cells
        Cells that are programmed to another level than the mapping's.
    configuration_bits
        Bits that the die must store, such as the order of its rows.
    reads_per_vector
        Analog reads added to each matrix-vector product.
    digital_operations_per_vector
        Additions and multiplications added to each matrix-vector product.
    """

    reprogrammed_cells: int = 0
    configuration_bits: int = 0
    reads_per_vector: float = 0.0
    digital_operations_per_vector: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def __add__(self, other: Overhead) -> Overhead:
        return Overhead(
            reprogrammed_cells=self.reprogrammed_cells + other.reprogrammed_cells,
            configuration_bits=self.configuration_bits + other.configuration_bits,
            reads_per_vector=self.reads_per_vector + other.reads_per_vector,
            digital_operations_per_vector=self.digital_operations_per_vector + other.digital_operations_per_vector,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownTile:
    """One tile of a die, as far as it is known before it is programmed.

    Attributes
    ----------
    matrix
        The tile alone: a matrix whose input i and output j are those of physical row i and of the j-th output of the
        tile, and whose levels are the mapping's.
    levels
        What will be programmed so far: those of `matrix`, or what the methods before made of them; uint8 of shape
        ``(rows, columns)``.
    cell
        The memory cell.
    faults
        The faults that are known, of shape ``(1, rows, columns)``: not always those that are there. ``None`` for a
        method that does not ask for a map.
    rates
        The expected share of cells of each kind of fault; ``None`` for a method that asks for nothing or images, and
        where no fault model is known.
    importance
        Weight of the squared deviation of each weight in :meth:`error`: the mean square of its input times the square
        of what one unit of its code is worth; shape ``(rows, outputs)``.
    """

    matrix: MappedMatrix
    levels: LevelArray
    cell: Cell
    faults: FaultMap | None = None
    rates: Mapping[FaultKind, float] | None = None
    importance: FloatArray

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @entrance
    def of(
        cls,
        matrix: MappedMatrix,
        tile: int,
        *,
        cell: Cell,
        levels: npt.NDArray[np.uint8] | None = None,
        faults: FaultMap | None = None,
        rates: Mapping[FaultKind, float] | None = None,
        input_power: FloatArray | None = None,
        weight_scale: FloatArray | None = None,
    ) -> KnownTile:
        """One tile of a placed matrix.

        Parameters
        ----------
        matrix
            The placed matrix.
        tile
            Which tile.
        cell, rates
            As the attributes.
        levels
            As the attribute; ``None`` for those of the matrix.
        faults
            Known faults of all tiles, or ``None``.
        input_power
            Mean square of each input of the matrix; ``None`` for 1.
        weight_scale
            What one unit of a weight's code is worth, for each output of the matrix; ``None`` for 1.
        """
        check_integer("tile", tile, at_least=0, at_most=matrix.tiles - 1)
        inputs, outputs = matrix.tile_rows[tile], matrix.tile_outputs[tile]
        places = [np.where(held >= 0, np.arange(len(held)), -1).astype(np.int32) for held in (inputs, outputs)]
        power = np.ones(len(inputs)) if input_power is None else np.where(inputs >= 0, input_power[inputs], 0.0)
        scale = np.ones(len(outputs)) if weight_scale is None else np.where(outputs >= 0, weight_scale[outputs], 0.0)
        alone = MappedMatrix(
            mapping=matrix.mapping,
            shape=(len(inputs), len(outputs)),
            tile_rows=places[0][np.newaxis],
            tile_outputs=places[1][np.newaxis],
            levels=matrix.levels[tile : tile + 1],
        )
        return cls(
            matrix=alone,
            levels=matrix.levels[tile] if levels is None else levels,
            cell=cell,
            faults=None if faults is None else faults.tile(tile),
            rates=rates,
            importance=np.multiply.outer(power, scale**2),
        )

    @cached_property
    def codes(self) -> npt.NDArray[Any]:
        """The weights that the tile should hold, in units of the codes (0 for none), shape ``(rows, outputs)``."""
        return self.matrix.decode(self.matrix.levels)

    @cached_property
    def stuck(self) -> npt.NDArray[np.bool_]:
        """Which cells are known to be stuck, shape ``(rows, columns)``."""
        if self.faults is None:
            return np.zeros(self.levels.shape, dtype=bool)
        return np.asarray(self.faults.dense()[0] > 0)

    @entrance
    def held(self, levels: LevelArray) -> FloatArray:
        """What the cells will hold if these levels are programmed: those known to be stuck stay where they are.

        Parameters
        ----------
        levels
            Integers, shape ``(rows, columns)``.

        Returns
        -------
        ndarray
            Level units, shape of `levels`.
        """
        cells = levels.astype(np.float64)[np.newaxis]
        if self.faults is not None:
            cells = self.faults.apply(cells, self.faults.stuck_levels(self.cell, self.matrix.mapping.cell_bits))
        result: FloatArray = cells[0]
        return result

    @entrance
    def deviation(self, levels: LevelArray) -> FloatArray:
        """What the weights will be less what they should be, in units of the codes, shape ``(rows, outputs)``."""
        return np.asarray(self.matrix.decode(self.held(levels)[np.newaxis]) - self.codes, dtype=np.float64)

    @entrance
    def error(self, levels: LevelArray) -> float:
        """Squared deviation of the weights, each times its importance: the power of the error of the tile's outputs."""
        return float((self.importance * self.deviation(levels) ** 2).sum())

    @property
    def signal(self) -> float:
        """The same of the weights themselves: the power of the tile's outputs."""
        return float((self.importance * self.codes.astype(np.float64) ** 2).sum())


class Mitigation(metaclass=ABCMeta):
    """What is done about a die's faults between the silicon and its programming; subclasses are frozen dataclasses.

    A method stands in a module that worker processes can import; its name and its fields, plain values, are part of a
    sweep's identity. :func:`xbarsim.testing.check_mitigation` tells whether it keeps its promises.

    Attributes
    ----------
    needs
        What it must know of the die; it is told no more.
    """

    needs: ClassVar[Needs]

    @entrance
    def prepare(self, network: PlacedT) -> PlacedT:
        """The network as the method wants it mapped, once for all dies; refuses one that it does not fit."""
        return network

    @entrance
    def surviving_faults(self, layer: str, faults: FaultMap) -> FaultMap:
        """The faults that are left in a layer that is built as the method wants it; all of them, if not overridden.

        Parameters
        ----------
        layer
            Name of the layer.
        faults
            What would be broken; the map that is returned has its shape.
        """
        return faults

    @abstractmethod
    def fit(self, tile: KnownTile, rng: np.random.Generator) -> LevelArray:
        """The levels to programme one tile with; nothing but `tile` and `rng` may change the answer.

        Parameters
        ----------
        tile
            What is known of it. Not to be changed.
        rng
            Source of random choices.

        Returns
        -------
        ndarray
            uint8 of shape ``(rows, columns)``: `tile.levels` itself where there is nothing to do, and in unused cells.
        """

    @entrance
    def error(self, tile: KnownTile, levels: LevelArray) -> float:
        """What the method makes as small as it can, by what is known of the tile; never larger after :meth:`fit`."""
        return tile.error(levels)

    @abstractmethod
    def overhead(self, tile: KnownTile, levels: LevelArray) -> Overhead:
        """What it costs to run the tile with these levels, beside the plain mapping."""
