"""A memory cell: its conductance range, its levels, and how far programming and reading stray from them."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.validation import InputError, check_instance, check_integer, check_real

__all__ = ["GRID", "Cell", "Polynomial", "ProgrammingError", "ReadNoise", "round_to_grid"]

GRID = 2.0**-16
"""The step of level units: conductances are multiples of it, so that their sums are exact in float64."""

MOST_BITS = 8
_CHUNK = 1 << 18  # cells programmed at a time: the buffers stay in the cache


def _lowest_level(offset_levels: float) -> float:
    """The lowest multiple of `GRID` whose conductance is not below zero, in level units."""
    return math.ceil(-offset_levels / GRID) * GRID


def round_to_grid(level_units: npt.ArrayLike, offset_levels: float) -> npt.NDArray[np.float64]:
    """Round to multiples of `GRID` that float32 holds exactly, without going below zero conductance.

    Parameters
    ----------
    level_units
        Conductances in level units, any shape.
    offset_levels
        Zero conductance is at ``-offset_levels``, in level units.
    """
    # Float32 spaces its numbers wider than GRID from 256 on: all of those are multiples of GRID.
    rounded = np.rint(np.asarray(level_units, dtype=np.float64) / GRID) * GRID
    lowest = _lowest_level(offset_levels)
    return np.maximum(rounded, lowest).astype(np.float32).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Polynomial:
    """A quantity in siemens as a polynomial of the conductance, clipped below.

    ``max(minimum, sum_k coefficients[k] * (conductance / scale)**k)``

    Attributes
    ----------
    coefficients
        From the constant term up, S.
    scale
        The conductance that counts as 1, S.
    minimum
        The result is never below this, S; ``-inf`` for no bound, as a bias needs.
    """

    coefficients: tuple[float, ...]
    scale: float
    minimum: float = 0.0

    def __post_init__(self) -> None:
        check_instance("coefficients", self.coefficients, tuple)
        if not self.coefficients:
            raise InputError("coefficients must hold at least one number, got ()")
        coefficients = tuple(
            check_real(f"coefficients[{order}]", value) for order, value in enumerate(self.coefficients)
        )
        object.__setattr__(self, "coefficients", coefficients)
        object.__setattr__(self, "scale", check_real("scale", self.scale, above=0.0))
        if self.minimum != -math.inf:
            object.__setattr__(self, "minimum", check_real("minimum", self.minimum))

    def __call__(self, conductance: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The value at `conductance` (S, any shape), S."""
        x = np.asarray(conductance, dtype=np.float64) / self.scale
        value = np.polynomial.polynomial.polyval(x, np.asarray(self.coefficients, dtype=np.float64))
        return np.maximum(value, self.minimum)


def _check_law(law: ProgrammingError | ReadNoise) -> None:
    check_instance("spread", law.spread, Polynomial)
    if law.spread.minimum < 0:
        raise InputError(f"spread.minimum must be >= 0 (a standard deviation), got {law.spread.minimum!r}")
    object.__setattr__(law, "valid_from", check_real("valid_from", law.valid_from, at_least=0.0))
    object.__setattr__(law, "valid_to", check_real("valid_to", law.valid_to, above=law.valid_from))


@dataclass(frozen=True, kw_only=True)
class ProgrammingError:
    """How a cell's conductance differs from its target: a normal law for each target.

    Attributes
    ----------
    spread
        Standard deviation against target conductance, S.
    bias
        Mean of (conductance - target) against target conductance, S; ``None`` for zero. Its
        ``minimum`` must be ``-inf``: a bias may be negative.
    valid_from, valid_to
        The range of target conductances the law was measured over, S.
    """

    spread: Polynomial
    bias: Polynomial | None = None
    valid_from: float
    valid_to: float

    def __post_init__(self) -> None:
        _check_law(self)
        check_instance("bias", self.bias, (Polynomial, type(None)))
        if self.bias is not None and self.bias.minimum != -math.inf:
            raise InputError(f"bias.minimum must be -inf (a bias may be negative), got {self.bias.minimum!r}")


@dataclass(frozen=True, kw_only=True)
class ReadNoise:
    """How much one read of a cell strays from its conductance: a normal law, new at every read.

    Attributes
    ----------
    spread
        Standard deviation against conductance, S.
    valid_from, valid_to
        The range of conductances the law was measured over, S.
    """

    spread: Polynomial
    valid_from: float
    valid_to: float

    def __post_init__(self) -> None:
        _check_law(self)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One memory cell, as a device card or a user describes it.

    A cell of ``cell_bits`` bits holds an integer level ``l`` in ``0..M``, ``M = 2**cell_bits - 1``, as the
    conductance ``g = g_min + l * delta`` with the level step ``delta = (g_max - g_min) / M``. The same
    conductance in *level units* is ``(g - g_min) / delta``.

    Attributes
    ----------
    name
        The card's name, or ``"custom"``.
    g_min, g_max
        Conductance of level 0 (high resistance) and of level M (low resistance), S.
    levels
        The most levels the cell can hold; a design may use fewer.
    programming_error
        Error of a programmed cell, or ``None`` if programming is exact. Must be valid from `g_min` to
        `g_max`.
    read_noise
        Noise of one read, or ``None``. Must be valid from `g_min` to `g_max`.
    read_voltage
        Read voltage, V, or ``None`` if the source does not say.
    source
        Where the values come from.
    """

    name: str = "custom"
    g_min: float
    g_max: float
    levels: int
    programming_error: ProgrammingError | None = None
    read_noise: ReadNoise | None = None
    read_voltage: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        check_instance("name", self.name, str)
        check_instance("source", self.source, str)
        object.__setattr__(self, "g_min", check_real("g_min", self.g_min, above=0.0))
        object.__setattr__(self, "g_max", check_real("g_max", self.g_max, above=self.g_min))
        object.__setattr__(self, "levels", check_integer("levels", self.levels, at_least=2))
        check_instance("programming_error", self.programming_error, (ProgrammingError, type(None)))
        check_instance("read_noise", self.read_noise, (ReadNoise, type(None)))
        if self.read_voltage is not None:
            voltage = check_real("read_voltage", self.read_voltage, above=0.0)
            object.__setattr__(self, "read_voltage", voltage)
        for name, law in (("programming_error", self.programming_error), ("read_noise", self.read_noise)):
            if law is None:
                continue
            if not (law.valid_from <= self.g_min and self.g_max <= law.valid_to):
                raise InputError(
                    f"g_min and g_max must lie within {law.valid_from!r} and {law.valid_to!r} S, "
                    f"where {name} is valid, got {self.g_min!r} and {self.g_max!r}"
                )

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Cell:
        """The cell of a device card.

        Parameters
        ----------
        name_or_path
            A name from :func:`cell_names`, or the path of a card, ending in ``.toml``.

        Raises
        ------
        InputError
            If no card has that name, or a value in it is out of bounds.
        FileFormatError
            If the card cannot be read, is not TOML, or has unknown keys or wrong types.
        """
        from xbarsim.devices.cards import card

        return card(name_or_path).cell()

    def without_errors(self) -> Cell:
        """The same cell, programmed exactly and read without noise."""
        return dataclasses.replace(self, programming_error=None, read_noise=None)

    def maximum_level(self, cell_bits: int) -> int:
        """M, the highest level at `cell_bits` bits per cell.

        Raises
        ------
        InputError
            If the cell does not have that many levels.
        """
        bits = check_integer("cell_bits", cell_bits, at_least=1, at_most=MOST_BITS)
        if 2**bits > self.levels:
            raise InputError(
                f"cell_bits must be <= {self.levels.bit_length() - 1}, for cell {self.name!r} has "
                f"{self.levels} levels, got {bits}"
            )
        return int(2**bits - 1)

    def level_step(self, cell_bits: int) -> float:
        """Delta, the conductance between neighbouring levels, S."""
        return (self.g_max - self.g_min) / self.maximum_level(cell_bits)

    def offset_levels(self, cell_bits: int) -> float:
        """The conductance of level 0 in level steps, ``g_min / delta``."""
        return self.g_min / self.level_step(cell_bits)

    def conductance(self, levels: npt.ArrayLike, cell_bits: int) -> npt.NDArray[np.float64]:
        """Conductance of `levels` (level units, any shape, need not be integers), S."""
        return self.g_min + np.asarray(levels, dtype=np.float64) * self.level_step(cell_bits)

    def level_units(self, conductance: npt.ArrayLike, cell_bits: int) -> npt.NDArray[np.float64]:
        """`conductance` (S, any shape) in level units; not rounded."""
        return (np.asarray(conductance, dtype=np.float64) - self.g_min) / self.level_step(cell_bits)

    def program(self, levels: npt.ArrayLike, cell_bits: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Program cells: target plus the bias and a normal error, each cell drawn on its own.

        Parameters
        ----------
        levels
            Target levels, integers in ``0..M``, any shape.
        cell_bits
            Bits per cell.
        rng
            Source of the errors; not used if the cell has no programming error.

        Returns
        -------
        ndarray
            Programmed conductances in level units, float32 multiples of `GRID`, shape of `levels`. Never
            below zero conductance; without a programming error, the levels themselves.

        Raises
        ------
        InputError
            If a level is not an integer in ``0..M``, or the cell does not have `cell_bits` bits.
        """
        highest = self.maximum_level(cell_bits)
        targets = np.asarray(levels)
        if not np.issubdtype(targets.dtype, np.integer):
            raise InputError(f"levels must be integers, got type {targets.dtype}")
        if targets.size:
            for extreme in (int(targets.min()), int(targets.max())):
                if not 0 <= extreme <= highest:
                    raise InputError(f"levels must be >= 0 and <= {highest}, got {extreme}")
        law = self.programming_error
        if law is None:
            return targets.astype(np.float32)
        check_instance("rng", rng, np.random.Generator)
        delta = self.level_step(cell_bits)
        lowest = np.float32(_lowest_level(self.offset_levels(cell_bits)) / GRID)
        every = np.arange(highest + 1)
        conductance = np.minimum(self.conductance(every, cell_bits), self.g_max)
        bias = 0.0 if law.bias is None else law.bias(conductance)
        # Per level, in units of GRID, so that rounding is to whole numbers.
        mean = ((every + bias / delta) / GRID).astype(np.float32)
        spread = (law.spread(conductance) / delta / GRID).astype(np.float32)

        flat = targets.reshape(-1)
        result = np.empty(flat.size, dtype=np.float32)
        scratch = np.empty(min(_CHUNK, flat.size), dtype=np.float32)
        for start in range(0, flat.size, _CHUNK):
            level = flat[start : start + _CHUNK]
            part = result[start : start + _CHUNK]
            table = scratch[: level.size]
            rng.standard_normal(dtype=np.float32, out=part)
            np.take(spread, level, out=table, mode="clip")
            part *= table
            np.take(mean, level, out=table, mode="clip")
            part += table
            np.rint(part, out=part)
            np.maximum(part, lowest, out=part)
            part *= np.float32(GRID)
        return result.reshape(targets.shape)
