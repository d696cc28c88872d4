"""Device cards and fault-rate presets: cited TOML files, one a source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xbarsim.devices.cell import Cell, ProgrammingError
from xbarsim.devices.drift import Drift
from xbarsim.devices.noise import NoiseModel
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError, check_integer, check_real

__all__ = [
    "Card",
    "DriftFit",
    "DriftValue",
    "Fit",
    "ProgrammingErrorValue",
    "Quantity",
    "ReadNoiseValue",
    "card",
    "cell_names",
]

FOLDER = Path(__file__).parent / "cards"
FAULTS_SUFFIX = ".faults.toml"

Origin = Literal["measured", "fitted", "assumed", "cited"]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One value of a card.

    Attributes
    ----------
    value
        The value, in `unit`.
    unit
        SI unit, ``"1"`` for a plain number.
    origin
        ``"measured"`` by the source, ``"fitted"`` to measurements, ``"cited"`` (the source states it as a
        parameter) or ``"assumed"`` (by us; the note says why).
    note
        Where in the source it stands and what was done to it.
    """

    value: int | float
    unit: str
    origin: Origin
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a fit of ours rests on.

    Attributes
    ----------
    data
        The measurements fitted.
    cells
        Number of cells that entered the fit.
    time_s
        Time from programming to the read that was fitted, s.
    spread_residual, bias_residual
        Root mean square over the level groups of measured minus fitted, S.
    """

    data: str
    cells: int
    time_s: float
    spread_residual: float
    bias_residual: float

    def __post_init__(self) -> None:
        check_integer("cells", self.cells, at_least=1)
        check_real("time_s", self.time_s, at_least=0.0)
        check_real("spread_residual", self.spread_residual, at_least=0.0)
        check_real("bias_residual", self.bias_residual, at_least=0.0)


@dataclass(frozen=True, kw_only=True)
class ProgrammingErrorValue:
    """A card's programming error; attributes as :class:`Quantity`, and the `fit` if it is one of ours."""

    value: ProgrammingError
    unit: Literal["S"]
    origin: Origin
    note: str = ""
    fit: Fit | None = None


@dataclass(frozen=True, kw_only=True)
class ReadNoiseValue:
    """A card's read noise; attributes as :class:`Quantity`."""

    value: NoiseModel
    unit: Literal["S"]
    origin: Origin
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class DriftFit:
    """What a drift law of ours rests on.

    Attributes
    ----------
    data
        The measurements used.
    cells
        Number of cells read at each step.
    time_s
        Median time of these reads after the reference time, s.
    mean_residual, spread_residual
        At each step, root mean square over groups of cells by target, of mean and standard deviation of the error:
        what half of the cells show minus what the law made of the other half says, S.
    sampling_error
        The root mean square that chance alone gives these two residuals at the last step, mean then spread, S.
    """

    data: str
    cells: tuple[int, ...]
    time_s: tuple[float, ...]
    mean_residual: tuple[float, ...]
    spread_residual: tuple[float, ...]
    sampling_error: tuple[float, float]

    def __post_init__(self) -> None:
        for count in self.cells:
            check_integer("cells", count, at_least=1)
        for name in ("time_s", "mean_residual", "spread_residual", "sampling_error"):
            for value in getattr(self, name):
                check_real(name, value, at_least=0.0)


@dataclass(frozen=True, kw_only=True)
class DriftValue:
    """A card's drift; attributes as :class:`Quantity`, and the `fit` if it is one of ours."""

    value: Drift
    unit: Literal["S"]
    origin: Origin
    note: str = ""
    fit: DriftFit | None = None


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
    """

    name: str
    description: str
    source: str
    doi: str | None = None
    g_min: Quantity
    g_max: Quantity
    levels: Quantity
    read_voltage: Quantity | None = None
    programming_error: ProgrammingErrorValue | None = None
    read_noise: ReadNoiseValue | None = None
    drift: DriftValue | None = None

    def __post_init__(self) -> None:
        for name, unit in (("g_min", "S"), ("g_max", "S"), ("levels", "1"), ("read_voltage", "V")):
            quantity = getattr(self, name)
            if quantity is not None and quantity.unit != unit:
                raise InputError(f"{name}.unit must be {unit!r}, got {quantity.unit!r}")
        self.cell()

    def values(self) -> dict[str, Quantity | ProgrammingErrorValue | ReadNoiseValue | DriftValue]:
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
            source=self.source if self.doi is None else f"{self.source} doi:{self.doi}",
        )


def cell_names() -> list[str]:
    """The names of the device cards that come with the project, sorted."""
    names = (path.name for path in FOLDER.glob("*.toml"))
    return sorted(name.removesuffix(".toml") for name in names if not name.endswith(FAULTS_SUFFIX))


def preset_names() -> list[str]:
    """The names of the fault-rate presets that come with the project, sorted."""
    return sorted(path.name.removesuffix(FAULTS_SUFFIX) for path in FOLDER.glob("*" + FAULTS_SUFFIX))


def find(what: str, name_or_path: str | os.PathLike[str], names: list[str], suffix: str) -> Path:
    """The file of a card or preset, by name or by a path ending in ``.toml``."""
    name = os.fspath(name_or_path)
    if name.endswith(".toml"):
        return Path(name)
    if name not in names:
        raise InputError(
            f"{what} must be one of {', '.join(map(repr, names))}, or a path ending in '.toml', got {name!r}"
        )
    return FOLDER / (name + suffix)


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
    path = find("cell", name_or_path, cell_names(), ".toml")
    found = tomlio.load(Card, path)
    if path.parent == FOLDER and found.name != path.stem:
        raise FileFormatError(f"name must be {path.stem!r}, as the file is called, got {found.name!r}")
    return found
