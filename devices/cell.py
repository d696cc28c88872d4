"""A memory cell, how far programming and reading it stray from its levels, and the card that describes it."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xbarsim.devices.card_values import CardValue, DriftValue, ProgrammingErrorValue, ReadNoiseValue
from xbarsim.devices.drift import Drift, Programming
from xbarsim.devices.noise import NoiseModel, NoiseVariance, needs_voltage
from xbarsim.devices.plausible import LEAST_CONDUCTANCE, check_conductance, check_current, check_voltage
from xbarsim.devices.programming import GRID, ProgrammingError, lowest_level, round_to_grid
from xbarsim.foundation import tomlio
from xbarsim.foundation.cards import CardFolder, Origin, cite
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.html import html_table
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_path, check_real

__all__ = ["CARDS", "Card", "Cell", "card", "cell_names"]

MOST_BITS = 8
# Nothing real is beyond these, S; far from where a level step is no normal number or a square of one overflows.
_LEAST_CONDUCTANCE, _MOST_CONDUCTANCE = 1e-30, 1e15
_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xls")  # what measurements come in
_CHUNK = 1 << 18  # cells programmed at a time: the buffers stay in the cache


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
        Noise of one read, or ``None``. Must be valid from `g_min` to `g_max`; thermal and shot noise need the read
        voltage.
    drift
        How a programmed cell moves with time, or ``None`` if that is not known. Must be valid from `g_min` to `g_max`;
        a measured one needs the programming error.
    read_voltage
        Read voltage, of the highest code that is driven, V, or ``None`` if the source does not say.
    source
        Where the values come from.
    implausible
        ``True`` allows values that no real cell has: a conductance above 0.1 S or below 1 pS, a read voltage above 10 V
        or below 0.1 mV, stuck cells beyond 0.1 S. They are refused otherwise, for they are mostly in another unit.

    Raises
    ------
    InputError
        For a value out of its bound or implausible, or parts that contradict each other.
    """

    name: str = "custom"
    g_min: float
    g_max: float
    levels: int
    programming_error: ProgrammingError | None = None
    read_noise: NoiseModel | None = None
    drift: Drift | None = None
    read_voltage: float | None = None
    source: str = ""
    implausible: bool | None = None

    def __post_init__(self) -> None:
        check_instance("name", self.name, str)
        check_instance("source", self.source, str)
        object.__setattr__(self, "g_min", check_real("g_min", self.g_min, above=0.0))
        if self.g_min < _LEAST_CONDUCTANCE:
            raise InputError(f"g_min must be >= {_LEAST_CONDUCTANCE!r} S, got {self.g_min!r}")
        object.__setattr__(self, "g_max", check_real("g_max", self.g_max, above=self.g_min))
        if self.g_max > _MOST_CONDUCTANCE:
            raise InputError(f"g_max must be <= {_MOST_CONDUCTANCE!r} S, got {self.g_max!r}")
        object.__setattr__(self, "levels", check_integer("levels", self.levels, at_least=2, at_most=2**53))
        check_instance("implausible", self.implausible, (bool, type(None)))
        object.__setattr__(self, "implausible", self.implausible or None)  # False is the default too
        check_conductance("g_max", self.g_max, least=LEAST_CONDUCTANCE, implausible=self.implausible)
        check_instance("programming_error", self.programming_error, (ProgrammingError, type(None)))
        check_instance("read_noise", self.read_noise, (NoiseModel, type(None)))
        check_instance("drift", self.drift, (Drift, type(None)))
        if self.read_voltage is not None:
            voltage = check_real("read_voltage", self.read_voltage, above=0.0)
            check_voltage("read_voltage", voltage, implausible=self.implausible)
            check_current("g_max times read_voltage", self.g_max * voltage, implausible=self.implausible)
            object.__setattr__(self, "read_voltage", voltage)
        elif self.read_noise is not None and needs_voltage(self.read_noise):
            raise InputError(f"read_voltage must be given for {' and '.join(needs_voltage(self.read_noise))}, got None")
        if self.drift is not None and self.drift.needs_programming and self.programming_error is None:
            raise InputError(f"programming_error must be given for {type(self.drift).__name__}, got None")
        if self.programming_error is not None:
            spread = float(np.max(self.programming_error.spread(np.array([self.g_min, self.g_max]))))
            check_conductance("spread of programming_error", spread, implausible=self.implausible)
        valid: dict[str, tuple[float, float]] = {}
        if self.programming_error is not None:
            valid["programming_error"] = (self.programming_error.valid_from, self.programming_error.valid_to)
        if self.read_noise is not None:
            valid["read_noise"] = self.read_noise.valid_range()
        if self.drift is not None:
            valid["drift"] = (self.drift.valid_from, self.drift.valid_to)
        for name, (low, high) in valid.items():
            if not (low <= self.g_min and self.g_max <= high):
                raise InputError(
                    f"g_min and g_max must lie within {low!r} and {high!r} S, "
                    f"where {name} is valid, got {self.g_min!r} and {self.g_max!r}"
                )

    @classmethod
    @entrance
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
        return card(name_or_path).cell()

    @entrance
    def save(
        self,
        path: str | os.PathLike[str],
        *,
        source: str | None = None,
        doi: str | None = None,
        description: str = "",
        origin: Origin = "cited",
    ) -> None:
        """Write the cell as a device card, whole or not at all.

        :meth:`load` reads it back equal to the last bit, with the source that is given here.

        Parameters
        ----------
        path
            The file, ending in ``.toml``.
        source
            Citation of what the values come from; without one, the cell's own.
        doi
            Its digital object identifier, if it has one.
        description
            The device in one line.
        origin
            Of all values: ``"cited"`` if the source states them. A card with the origin and evidence of each value is
            written by :meth:`CellFit.save`.

        Raises
        ------
        InputError
            If `path` has another ending, or nothing says where the values come from.
        FileWriteError
            If the file cannot be written.
        """
        if not os.fspath(path).endswith(".toml"):
            raise InputError(f"path must end in '.toml', as a card does, got {os.fspath(path)!r}")
        source = self.source if source is None else source
        if not source.strip():
            raise InputError(f"source must say where the values come from, got {source!r}")

        def value(number: float, unit: str) -> CardValue:
            return CardValue(value=number, unit=unit, origin=origin)

        error, noise, drift = self.programming_error, self.read_noise, self.drift
        written = Card(
            name=self.name,
            description=description,
            source=source,
            doi=doi,
            g_min=value(self.g_min, "S"),
            g_max=value(self.g_max, "S"),
            levels=value(self.levels, "1"),
            read_voltage=None if self.read_voltage is None else value(self.read_voltage, "V"),
            programming_error=None if error is None else ProgrammingErrorValue(value=error, unit="S", origin=origin),
            read_noise=None if noise is None else ReadNoiseValue(value=noise, unit="S", origin=origin),
            drift=None if drift is None else DriftValue(value=drift, unit="S", origin=origin),
            implausible=self.implausible,
        )
        tomlio.save(written, path)

    def _repr_html_(self) -> str:
        ends = self.g_min, self.g_max
        error = "none: programmed exactly"
        if self.programming_error is not None:
            spread = self.programming_error.spread(np.array(ends))
            error = " and ".join(f"{1e6 * s:.3g} uS at {1e6 * g:.4g} uS" for s, g in zip(spread, ends, strict=True))
        rows = [
            ("conductance", f"{1e6 * ends[0]:.4g} to {1e6 * ends[1]:.4g} uS (on/off {ends[1] / ends[0]:.4g})"),
            ("levels", f"up to {self.levels}"),
            ("programming error, spread", error),
            ("read noise", "none" if self.read_noise is None else str(self.read_noise)),
            ("drift", "not known" if self.drift is None else str(self.drift)),
            ("read voltage", "not known" if self.read_voltage is None else f"{self.read_voltage:g} V"),
        ]
        return html_table(
            f"Cell {self.name}", (), rows, left=2, notes=[f"source: {self.source}"] if self.source else []
        )

    def without_errors(self) -> Cell:
        """The same cell, programmed exactly, read without noise, and the same for ever."""
        return dataclasses.replace(self, programming_error=None, read_noise=None, drift=None)

    @property
    def exact(self) -> bool:
        """Whether a new cell holds its level exactly: no programming error, and no state that a die keeps."""
        return self.programming_error is None and not (self.read_noise is not None and self.read_noise.per_die)

    @property
    def noisy(self) -> bool:
        """Whether two reads of a cell differ."""
        return self.read_noise is not None and self.read_noise.per_read

    @entrance
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

    @entrance
    def level_step(self, cell_bits: int) -> float:
        """Delta, the conductance between neighbouring levels, S."""
        return (self.g_max - self.g_min) / self.maximum_level(cell_bits)

    @entrance
    def offset_levels(self, cell_bits: int) -> float:
        """The conductance of level 0 in level steps, ``g_min / delta``."""
        return self.g_min / self.level_step(cell_bits)

    @entrance
    def conductance(self, levels: npt.ArrayLike, cell_bits: int) -> npt.NDArray[np.float64]:
        """Conductance of `levels` (level units, any shape, need not be integers), S."""
        return self.g_min + np.asarray(levels, dtype=np.float64) * self.level_step(cell_bits)

    @entrance
    def level_units(self, conductance: npt.ArrayLike, cell_bits: int) -> npt.NDArray[np.float64]:
        """`conductance` (S, any shape) in level units; not rounded."""
        return (np.asarray(conductance, dtype=np.float64) - self.g_min) / self.level_step(cell_bits)

    @entrance
    def program(
        self, levels: npt.ArrayLike, cell_bits: int, rng: np.random.Generator, *, stopped: bool = True
    ) -> npt.NDArray[np.float32]:
        """Program cells: target plus the bias and a normal error, each cell drawn on its own.

        Parameters
        ----------
        levels
            Target levels, integers in ``0..M``, any shape.
        cell_bits
            Bits per cell.
        rng
            Source of the errors; not used if the cell has no programming error.
        stopped
            Whether cells stop at zero conductance, as they do. ``False`` for what the normal law drew, for
            :meth:`relax`: it tells cells apart that stopped there.

        Returns
        -------
        ndarray
            Programmed conductances in level units, float32 multiples of `GRID`, shape of `levels`. Never
            below zero conductance if `stopped`; without a programming error, the levels themselves.

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
        lowest = np.float32(lowest_level(self.offset_levels(cell_bits)) / GRID)
        every = np.arange(highest + 1)
        conductance = np.minimum(self.conductance(every, cell_bits), self.g_max)
        bias = 0.0 if law.bias is None else law.bias(conductance)
        # Per level, in units of GRID, so that rounding is to whole numbers.
        mean = ((every + bias / delta) / GRID).astype(np.float32)
        spread = (law.spread(conductance) / delta / GRID).astype(np.float32)
        alike = bool((spread == spread[0]).all())

        flat = targets.reshape(-1)
        result = np.empty(flat.size, dtype=np.float32)
        scratch = np.empty(min(_CHUNK, flat.size), dtype=np.float32)
        for start in range(0, flat.size, _CHUNK):
            level = flat[start : start + _CHUNK]
            part = result[start : start + _CHUNK]
            table = scratch[: level.size]
            rng.standard_normal(dtype=np.float32, out=part)
            if alike:
                part *= spread[0]
            else:
                np.take(spread, level, out=table, mode="clip")
                part *= table
            np.take(mean, level, out=table, mode="clip")
            part += table
            np.rint(part, out=part)
            if stopped:
                np.maximum(part, lowest, out=part)
            part *= np.float32(GRID)
        return result.reshape(targets.shape)

    @entrance
    def relax(
        self,
        programmed: npt.ArrayLike,
        levels: npt.ArrayLike,
        cell_bits: int,
        seconds: float,
        rng: np.random.Generator,
    ) -> npt.NDArray[np.float32]:
        """Programmed cells some seconds later, by the cell's drift.

        Parameters
        ----------
        programmed
            What :meth:`program` left, level units, any shape; better, what it drew (``stopped=False``), so that a
            measured drift knows how far the cells missed that were stopped at zero conductance.
        levels
            The levels that were its targets, integers in ``0..M``, of the same shape.
        cell_bits
            Bits per cell.
        seconds
            Since the reference time of the drift, s; at 0 the cells come back as they are, stopped at zero.
        rng
            Source of the cells' trajectories; in the same state it gives the same ones, whatever the seconds.

        Returns
        -------
        ndarray
            Level units, float32 multiples of `GRID`, shape of `programmed`; never below zero conductance.

        Raises
        ------
        InputError
            If the cell has no drift, or it does not hold for `seconds`.
        """
        if self.drift is None:
            raise InputError(f"drift must be given for a cell at later times, got None for cell {self.name!r}")
        held = np.asarray(programmed, dtype=np.float32)
        if self.drift.check_seconds(seconds) == 0:
            return np.maximum(held, np.float32(lowest_level(self.offset_levels(cell_bits))))
        drawn = self.conductance(held, cell_bits)
        programming = None
        if self.drift.needs_programming:
            assert self.programming_error is not None
            target = np.minimum(self.conductance(np.arange(self.maximum_level(cell_bits) + 1), cell_bits), self.g_max)
            law = self.programming_error
            bias = np.zeros(target.shape) if law.bias is None else law.bias(target)
            which = np.asarray(levels)
            aim, miss, spread = (table.take(which) for table in (target, bias, law.spread(target)))
            programming = Programming(target=aim, bias=miss, spread=spread, score=(drawn - aim - miss) / spread)
        return self._on_grid(self.drift.relax(np.maximum(drawn, 0.0), seconds, rng, programming), cell_bits)

    @entrance
    def settle(self, levels: npt.ArrayLike, cell_bits: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Cells of one die with what its read noise fixes in them for good, such as frozen telegraph states.

        Parameters
        ----------
        levels
            Level units, any shape.
        cell_bits
            Bits per cell.
        rng
            Source of the states; not used if nothing is fixed.

        Returns
        -------
        ndarray
            Level units, float32 multiples of `GRID`, shape of `levels`; never below zero conductance.
        """
        held = np.asarray(levels, dtype=np.float32)
        if self.read_noise is None or not self.read_noise.per_die:
            return held.copy()
        check_instance("rng", rng, np.random.Generator)
        mean = np.maximum(self.conductance(held, cell_bits), 0.0)
        return self._on_grid(self.read_noise.settle(mean, rng), cell_bits)

    def _on_grid(self, conductance: npt.NDArray[np.float64], cell_bits: int) -> npt.NDArray[np.float32]:
        units = self.level_units(conductance, cell_bits)
        return round_to_grid(units, self.offset_levels(cell_bits)).astype(np.float32)

    @entrance
    def read_variance(self, levels: npt.ArrayLike, cell_bits: int, max_code: int) -> NoiseVariance:
        """Variance of one read of each cell, in squared level steps.

        Parameters
        ----------
        levels
            What the cells hold, level units, any shape.
        cell_bits
            Bits per cell.
        max_code
            The code that is driven by the read voltage.

        Raises
        ------
        InputError
            If the cell has no read noise.
        """
        if self.read_noise is None:
            raise InputError(f"read_noise must be given, got None for cell {self.name!r}")
        check_integer("max_code", max_code, at_least=1)
        conductance = np.maximum(self.conductance(levels, cell_bits), 0.0)
        voltage = None if self.read_voltage is None else self.read_voltage / max_code
        variance = self.read_noise.variance(conductance, voltage)
        square = self.level_step(cell_bits) ** 2
        return NoiseVariance(
            constant=variance.constant / square, linear=variance.linear / square, quadratic=variance.quadratic / square
        )


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything a device card says.

    Attributes
    ----------
    name
        The card's name, AuthorYear in lower case; its file is ``<name>.toml``.
    description
        The device in one line.
    source
        Citation.
    doi
        Digital object identifier, or ``None`` where it could not be verified (the source says so).
    g_min, g_max, levels, read_voltage, programming_error, read_noise, drift
        As in :class:`Cell`, each with its unit and origin.
    implausible
        As in :class:`Cell`.
    """

    name: str
    description: str
    source: str
    doi: str | None = None
    g_min: CardValue
    g_max: CardValue
    levels: CardValue
    read_voltage: CardValue | None = None
    programming_error: ProgrammingErrorValue | None = None
    read_noise: ReadNoiseValue | None = None
    drift: DriftValue | None = None
    implausible: bool | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("name", "description", "source", "doi"):
            text = getattr(self, name) or ""
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise InputError(f"{name} must be text that UTF-8 can hold, got {text!r}")
        for name, unit in (("g_min", "S"), ("g_max", "S"), ("levels", "1"), ("read_voltage", "V")):
            quantity = getattr(self, name)
            if quantity is not None and quantity.unit != unit:
                raise InputError(f"{name}.unit must be {unit!r}, got {quantity.unit!r}")
        self.cell()

    def values(self) -> dict[str, CardValue | ProgrammingErrorValue | ReadNoiseValue | DriftValue]:
        """The card's values by name, in the order of its file, absent ones left out."""
        every = {
            "g_min": self.g_min,
            "g_max": self.g_max,
            "levels": self.levels,
            "read_voltage": self.read_voltage,
            "programming_error": self.programming_error,
            "read_noise": self.read_noise,
            "drift": self.drift,
        }
        return {name: value for name, value in every.items() if value is not None}

    def cell(self) -> Cell:
        """The cell that the card describes."""
        return Cell(
            name=self.name,
            g_min=float(self.g_min.value),
            g_max=float(self.g_max.value),
            levels=check_integer("levels", self.levels.value),
            programming_error=None if self.programming_error is None else self.programming_error.value,
            read_noise=None if self.read_noise is None else self.read_noise.value,
            drift=None if self.drift is None else self.drift.value,
            read_voltage=None if self.read_voltage is None else float(self.read_voltage.value),
            source=cite(self.source, self.doi),
            implausible=self.implausible,
        )


CARDS = CardFolder("cell", Card, Path(__file__).parent / "cards")
"""The device cards that come with the project."""


@entrance
def cell_names() -> list[str]:
    """The names of the device cards that come with the project, sorted."""
    return CARDS.names()


@entrance
def card(name_or_path: str | os.PathLike[str]) -> Card:
    """Read a device card.

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
    text = os.fspath(check_path("cell", name_or_path))
    if text.lower().endswith(_TABLES):
        raise InputError(
            f"cell must be the name of a card or a path ending in '.toml', got {text!r}: fit a card to measurements "
            f"with xbarsim.devices.fit_cell({text!r}) or 'xbarsim fit {text} --output card.toml'"
        )
    return CARDS.load(name_or_path)
