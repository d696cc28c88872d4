"""Fault rates that depend on the place in the tile: gradients, rims and spots."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faults.base import OnOffFaults, draw_positions
from xbarsim.devices.faults.kinds import Shape, dense_shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_real

__all__ = ["FieldFaults", "GradientFaults", "RadialFaults"]

Array = npt.NDArray[np.float64]


class FieldFaults(OnOffFaults):
    """Cells that break each on its own, at a rate that depends on their place in the tile.

    For a field of your own, make a frozen dataclass of it with ``on``, ``off`` and :meth:`relative`.
    """

    @abstractmethod
    def relative(self, rows: int, columns: int) -> Array:
        """The rate of each cell of a tile over the mean rate: float64 (rows, columns), >= 0, of mean 1."""

    @entrance
    def probability(self, shape: Shape) -> Array:
        """The probability of each cell of a tile to be broken; see :meth:`FaultModel.probability`.

        Raises
        ------
        InputError
            If it would be above 1 somewhere.
        """
        _, rows, columns = dense_shape(shape)
        relative = self.relative(rows, columns)
        highest = float(relative.max())
        if self.total * highest > 1 + 1e-12:
            raise InputError(
                f"on + off must be <= {1 / highest:.6g}, so that no cell of a tile of {rows} x {columns} has a rate "
                f"above 1, got {self.total!r}"
            )
        return np.minimum(self.total * relative, 1.0)

    @entrance
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of faults.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns), or some cell's rate would be above 1.
        """
        shape = dense_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        probability = self.probability(shape).reshape(-1)
        highest = float(probability.max())
        cells = math.prod(shape)
        if highest == 0 or cells == 0:
            return FaultMap.empty(shape)
        candidates = draw_positions(cells, highest, rng)
        index = candidates[rng.random(candidates.size) * highest < probability[candidates % probability.size]]
        return FaultMap(shape=shape, index=index, kind=self.draw_kinds(index.size, rng))


@dataclass(frozen=True, kw_only=True)
class GradientFaults(FieldFaults):
    """Faults that grow evenly from the first column of a tile to the last, or from the first row to the last.

    V. Sawal and H. Y. Wong found that variation across columns hurts far more than an even rate (arXiv:2402.10981).

    Attributes
    ----------
    on, off
        Probability that a cell is stuck on or off over the whole tile, each in [0, 1], together at most 1.
    contrast
        From -1 to 1: the rate at the first column is ``1 - contrast`` and at the last ``1 + contrast`` times the mean.
    across
        ``"columns"`` (the rate changes from column to column, and is the same down each) or ``"rows"``.
    """

    on: float
    off: float
    contrast: float
    across: Literal["columns", "rows"] = "columns"

    def __post_init__(self) -> None:
        self.check_rates()
        object.__setattr__(self, "contrast", check_real("contrast", self.contrast, at_least=-1.0, at_most=1.0))
        check_choice("across", self.across, ("columns", "rows"))

    @property
    def even(self) -> bool:
        """Whether every cell of a tile is broken with the same probability."""
        return self.contrast == 0 or self.total == 0

    @entrance
    def relative(self, rows: int, columns: int) -> Array:
        """The rate of each cell over the mean rate."""
        lines = columns if self.across == "columns" else rows
        ramp = 1 + self.contrast * np.linspace(-1, 1, lines) if lines > 1 else np.ones(1)
        return np.broadcast_to(ramp if self.across == "columns" else ramp[:, np.newaxis], (rows, columns))


@dataclass(frozen=True, kw_only=True)
class RadialFaults(FieldFaults):
    """Faults that grow, or fall, from the middle of a tile to its corners.

    With u the distance from the middle over that of a corner, a cell's rate is proportional to
    ``1 + contrast * (2 u**exponent - 1)``: high exponents give a rim, low ones a spot. V. Sawal and H. Y. Wong studied
    such patterns (circular and its complement, arXiv:2402.10981).

    Attributes
    ----------
    on, off
        Probability that a cell is stuck on or off over the whole tile, each in [0, 1], together at most 1.
    contrast
        From -1 (faults in the middle, none at the corners) to 1 (at the edge, none in the middle).
    exponent
        Above 0, at most 100.
    """

    on: float
    off: float
    contrast: float
    exponent: float = 2.0

    def __post_init__(self) -> None:
        self.check_rates()
        object.__setattr__(self, "contrast", check_real("contrast", self.contrast, at_least=-1.0, at_most=1.0))
        object.__setattr__(self, "exponent", check_real("exponent", self.exponent, above=0.0, at_most=100.0))

    @property
    def even(self) -> bool:
        """Whether every cell of a tile is broken with the same probability."""
        return self.contrast == 0 or self.total == 0

    @entrance
    def relative(self, rows: int, columns: int) -> Array:
        """The rate of each cell over the mean rate."""
        down, across = np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2
        distance = np.hypot(down[:, np.newaxis], across)
        if distance.min() == distance.max():  # all cells are as far from the middle
            return np.ones((rows, columns))
        rate = 1 + self.contrast * (2 * (distance / distance.max()) ** self.exponent - 1)
        return np.asarray(rate / rate.mean())
