"""What is done about a die's faults before it is used: what a method is given, and what it must supply."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from xbarsim.devices import FaultMap
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.mitigation.known import KnownLayer, KnownTile, TileFit

__all__ = ["Mitigation", "Needs", "OutputAdjustment", "OutputStatistics", "Overhead", "Placed"]

#: What a method must know of a die: nothing, the rates of its faults, images run through it, or where its faults are.
Needs = Literal["nothing", "rates", "images", "map"]

FloatArray = npt.NDArray[np.float64]


class Placed(Protocol):
    """What :meth:`Mitigation.prepare` may rely on: a network with mapped layers by name."""

    @property
    def layers(self) -> Mapping[str, Any]:
        """The mapped layers."""

    def with_spare_lines(self: PlacedT, *, rows: int, columns: int) -> PlacedT:
        """The same network on arrays with more lines than the mapping uses."""

    def with_copies(self: PlacedT, copies: int, names: Sequence[str] | None = None) -> PlacedT:
        """The same network with each weight held several times, and the results averaged."""


PlacedT = TypeVar("PlacedT", bound=Placed)


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """What a method costs beside the plain mapping; for one tile, or summed over several.

    What it adds to every die, such as spare lines and copies, is part of the prepared network, and of its cost.

    Attributes
    ----------
    reprogrammed_cells
        Cells that are programmed to another level than the mapping's.
    configuration_bits
        Bits that the die must store, such as the order of its rows.
    digital_operations_per_vector
        Additions and multiplications added to each matrix-vector product.
    """

    reprogrammed_cells: int = 0
    configuration_bits: int = 0
    digital_operations_per_vector: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def __add__(self, other: Overhead) -> Overhead:
        return Overhead(
            **{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(Overhead)}
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputStatistics:
    """Mean and variance of the outputs of a layer over the positions and samples of some images.

    Attributes
    ----------
    mean, variance
        Shape ``(outputs,)``, in units of the outputs.
    """

    mean: FloatArray
    variance: FloatArray

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputAdjustment:
    """What a layer's outputs are changed to: gain times the output, plus the offset.

    Attributes
    ----------
    gain, offset
        Shape ``(outputs,)``.
    """

    gain: FloatArray
    offset: FloatArray

    def __post_init__(self) -> None:
        check_fields(self)


class Mitigation(metaclass=ABCMeta):
    """What is done about a die's faults; subclasses are frozen dataclasses and override what they do.

    It may change how all dies are made (:meth:`prepare`), where a tile lies and what is programmed (:meth:`fit`, before
    the die is programmed), and what is made of the outputs of a layer (:meth:`adjust`, of the finished die). A method
    stands in a module that worker processes can import; its name and its fields, plain values, are part of a sweep's
    identity. :func:`xbarsim.testing.check_mitigation` tells whether it keeps its promises.

    Attributes
    ----------
    needs
        What it must know of the die; it is told no more.
    stage
        0 for a method that moves lines or programs cells for their own weights. One of a later stage builds on what
        those before it left, and would be undone by them: 1 for copies that look at each other, 2 for what is added
        digitally. Methods stand in the order of their stages; ``None`` for one that decides nothing about tiles, which
        may stand anywhere.
    """

    needs: ClassVar[Needs]
    stage: ClassVar[int | None] = 0

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

    @entrance
    def fit(self, tile: KnownTile, rng: np.random.Generator) -> TileFit:
        """Decide about one tile; nothing but `tile` and `rng` may change the answer.

        Parameters
        ----------
        tile
            What is known of it. Not to be changed.
        rng
            Source of random choices.

        Returns
        -------
        TileFit
            `tile.fit` itself where there is nothing to do. Unused cells keep their levels.
        """
        return tile.fit

    def fit_layer(self, layer: KnownLayer, generators: Sequence[np.random.Generator]) -> tuple[TileFit, ...]:
        """Decide about all tiles of a layer: one by one, if not overridden.

        Parameters
        ----------
        layer
            What is known of them. Not to be changed.
        generators
            A source of random choices for each.
        """
        return tuple(self.fit(layer.tile(tile), rng) for tile, rng in enumerate(generators))

    def copy_weights(self, layer: KnownLayer) -> FloatArray | None:
        """What each copy of a layer counts in each output, once its tiles are decided.

        Returns
        -------
        ndarray or None
            Shape ``(copies, outputs)``, each column with sum 1; ``None`` to leave it at what it was.
        """
        return None

    @entrance
    def overhead(self, tile: KnownTile, fit: TileFit) -> Overhead:
        """What it costs to run the tile so, beside what was decided before; the cells changed, if not overridden.

        Parameters
        ----------
        tile
            As it was given to :meth:`fit`.
        fit
            What that gave.
        """
        return Overhead(reprogrammed_cells=int((fit.levels != tile.levels).sum()))

    def adjust(self, ideal: OutputStatistics, die: OutputStatistics) -> OutputAdjustment | None:
        """What a layer's outputs are changed to; for methods that need images.

        Parameters
        ----------
        ideal, die
            Statistics of the layer's outputs on an ideal die and on this one, of the same images, the layers before
            having been adjusted already.

        Returns
        -------
        OutputAdjustment or None
            ``None`` for nothing.
        """
        return None
