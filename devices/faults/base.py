"""What a fault model is: a law of how many cells break, which, and in which way; and the cited presets of some."""

from __future__ import annotations

import math
import os
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from xbarsim.devices.cell import Cell
from xbarsim.devices.faults.kinds import FaultKind, Shape, dense_shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.devices.faults.outside import StuckOutside
from xbarsim.foundation.cards import CardFolder, Origin
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_integer, check_memory, check_real

__all__ = [
    "POLARITIES",
    "FaultModel",
    "FaultPreset",
    "OnOffFaults",
    "draw_positions",
    "fault_preset",
    "preset_names",
]

#: Both readings of the rates of Chen 2015, in words, by the fault preset that holds each.
POLARITIES = {"chen2015_sa0_hrs": "mostly stuck on", "chen2015_sa0_lrs": "mostly stuck off"}

_BLOCK = 1 << 20  # cells whose positions are drawn together: bounds the memory


class FaultModel(metaclass=ABCMeta):
    """A law of which cells are broken; subclasses are frozen dataclasses that draw a :class:`FaultMap`.

    Every model states the share of cells that it breaks, in expectation and over all cells of an array, and
    keeps it in arrays of any shape. Two models of one rate then differ in nothing but where the faults lie.
    ``xbarsim.testing.check_fault_model`` tests a model of your own against this.
    """

    @property
    @abstractmethod
    def rates(self) -> dict[FaultKind, float]:
        """The expected share of cells broken in each way, for every :class:`FaultKind`."""

    @property
    def total(self) -> float:
        """The expected share of broken cells."""
        return math.fsum(self.rates.values())

    @property
    def even(self) -> bool:
        """Whether every cell of a tile is broken with the same probability."""
        return True

    @entrance
    def probability(self, shape: Shape) -> npt.NDArray[np.float64]:
        """The probability of each cell of a tile to be broken, whatever happens to the others.

        Parameters
        ----------
        shape
            (tiles, rows, columns) of the cells.

        Returns
        -------
        ndarray
            float64 (rows, columns); its mean is `total`.
        """
        _, rows, columns = dense_shape(shape)
        return np.full((rows, columns), self.total)

    @entrance
    def with_total(self, rate: float) -> FaultModel:
        """The same model with another expected share of broken cells, everything else kept.

        Parameters
        ----------
        rate
            The new share, from 0 to 1.

        Raises
        ------
        InputError
            If `rate` is out of bounds, or beyond what the model can give.
        """
        raise InputError(f"rate must be {self.total!r}, which {type(self).__name__} cannot change, got {rate!r}")

    @abstractmethod
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults.

        Parameters
        ----------
        shape
            (tiles, rows, columns) of the cells.
        rng
            The only source of randomness.
        """

    def outside(self, cell: Cell, cell_bits: int, *, seed: int = 0) -> StuckOutside:
        """How many stuck cells lie outside the range of `cell`, in a tile of 256 x 256 cells drawn from `seed`."""
        rates = self.rates
        shape = (1, 256, 256) if rates[FaultKind.STUCK_AT] > 0 else (0, 256, 256)
        return self.sample(shape, np.random.default_rng(seed)).outside(cell, cell_bits)

    @classmethod
    @entrance
    def load(cls, name_or_path: str | os.PathLike[str]) -> Self:
        """The fault model of a cited preset.

        Parameters
        ----------
        name_or_path
            A name from :func:`preset_names`, or the path of a preset, ending in ``.toml``.

        Raises
        ------
        InputError
            If no preset has that name, it describes another kind of model, or a value is out of bounds.
        FileFormatError
            If the preset cannot be read, is not TOML, or has unknown keys or wrong types.
        """
        model = fault_preset(name_or_path).faults
        if not isinstance(model, cls):
            raise InputError(
                f"faults must be of type {cls.__name__}, got {os.fspath(name_or_path)!r} of type {type(model).__name__}"
            )
        return model


@entrance
def draw_positions(cells: int, count: int | float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Flat positions, sorted and distinct, uniform among all sets of that size.

    `count` is the number of positions (int), or the probability of each cell (float): then the number is
    binomial. Block by block, so that the memory is bounded by a block.
    """
    check_integer("cells", cells, at_least=0, at_most=2**62)
    if isinstance(count, int):
        check_integer("cells", cells, at_most=10**9 - 1)  # numpy's hypergeometric law goes no further
        check_integer("count", count, at_least=0, at_most=cells)
    else:
        check_real("count", count, at_least=0.0, at_most=1.0)
    check_memory("cells", f"{cells} cells", cells)
    positions = [np.empty(0, dtype=np.int64)]
    left = count
    for start in range(0, cells, _BLOCK):
        block = min(_BLOCK, cells - start)
        if isinstance(left, int):
            rest = cells - start - block
            here = int(rng.hypergeometric(block, rest, left)) if rest else left
            left -= here
        else:
            here = int(rng.binomial(block, left))
        if here:
            chosen = rng.choice(block, here, replace=False, shuffle=False)
            positions.append(np.sort(chosen.astype(np.int64)) + start)
    return np.concatenate(positions)


class OnOffFaults(FaultModel):
    """What models of cells stuck on or off share: two rates.

    A subclass is a frozen dataclass with these fields; it calls :meth:`check_rates` in its ``__post_init__`` and has a
    :meth:`sample`.

    Attributes
    ----------
    on, off
        Probability that a cell is stuck on (at g_max, low resistance) or off (at g_min, high resistance),
        each in [0, 1], together at most 1.
    """

    on: float
    off: float

    def check_rates(self) -> None:
        """Turn the rates into floats.

        Raises
        ------
        InputError
            If one is outside [0, 1], or their sum above 1.
        """
        for name in ("on", "off"):
            rate = check_real(name, getattr(self, name), at_least=0.0, at_most=1.0)
            object.__setattr__(self, name, rate)
        if self.total > 1:
            raise InputError(f"on + off must be <= 1, got {self.on!r} + {self.off!r} = {self.total!r}")

    @property
    def rates(self) -> dict[FaultKind, float]:
        """The expected share of cells broken in each way."""
        return {FaultKind.STUCK_OFF: self.off, FaultKind.STUCK_ON: self.on, FaultKind.STUCK_AT: 0.0}

    @property
    def total(self) -> float:
        """The expected share of broken cells."""
        return self.on + self.off

    @entrance
    def with_total(self, rate: float) -> Self:
        """The same ratio of stuck-on to stuck-off, with another total rate.

        Raises
        ------
        InputError
            If `rate` is outside [0, 1], or is positive where this model has no faults to take a ratio from.
        """
        rate = check_real("rate", rate, at_least=0.0, at_most=1.0)
        if self.total == 0:
            if rate > 0:
                raise InputError(f"rate must be 0 where on and off are both 0 (no ratio to keep), got {rate!r}")
            return self
        this: Any = self  # its subclasses are dataclasses
        if self.on == 0 or self.off == 0:  # without rounding on the side that must stay 0
            changed: Self = replace(this, on=rate if self.on else 0.0, off=rate if self.off else 0.0)
            return changed
        on = rate * (self.on / self.total)
        changed = replace(this, on=on, off=rate - on)
        return changed

    @entrance
    def draw_kinds(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        """Toss a coin for each of `count` faults (or groups of faults): on or off in the ratio of the rates."""
        on = rng.random(count) < (self.on / self.total if self.total > 0 else 0.0)  # no fault, no ratio
        return np.where(on, np.uint8(FaultKind.STUCK_ON), np.uint8(FaultKind.STUCK_OFF))


@dataclass(frozen=True, kw_only=True)
class FaultPreset:
    """A published fault model.

    Attributes
    ----------
    name
        The preset's name; its file is ``<name>.faults.toml``.
    description
        What was counted on which chips, and how the words of the source were read.
    source
        Citation.
    doi
        Digital object identifier, or ``None`` where it could not be verified (the source says so).
    origin
        One of :data:`xbarsim.foundation.cards.ORIGINS`.
    faults
        The model.
    """

    name: str
    description: str
    source: str
    doi: str | None = None
    origin: Origin
    faults: FaultModel

    def __post_init__(self) -> None:
        check_fields(self)


PRESETS = CardFolder("faults", FaultPreset, Path(__file__).parent.parent / "cards", ending=".faults.toml")
"""The fault-rate presets that come with the project."""


@entrance
def preset_names() -> list[str]:
    """The names of the fault-rate presets that come with the project, sorted."""
    return PRESETS.names()


@entrance
def fault_preset(name_or_path: str | os.PathLike[str]) -> FaultPreset:
    """Read a fault-rate preset with its citation; errors as :meth:`FaultModel.load`."""
    return PRESETS.load(name_or_path)
