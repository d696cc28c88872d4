"""The values of a device card, each with its unit, where it comes from, and what a fit of ours rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xbarsim.devices.drift import Drift
from xbarsim.devices.noise import NoiseModel
from xbarsim.devices.programming import ProgrammingError
from xbarsim.foundation.cards import Origin
from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import check_integer, check_real

__all__ = ["CardValue", "DriftFit", "DriftValue", "Fit", "ProgrammingErrorValue", "ReadNoiseValue"]


@dataclass(frozen=True, kw_only=True)
class CardValue:
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

    def __post_init__(self) -> None:
        check_fields(self)


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
        check_fields(self)
        check_integer("cells", self.cells, at_least=1)
        check_real("time_s", self.time_s, at_least=0.0)
        check_real("spread_residual", self.spread_residual, at_least=0.0)
        check_real("bias_residual", self.bias_residual, at_least=0.0)


@dataclass(frozen=True, kw_only=True)
class ProgrammingErrorValue:
    """A card's programming error; attributes as :class:`CardValue`, and the `fit` if it is one of ours."""

    value: ProgrammingError
    unit: Literal["S"]
    origin: Origin
    note: str = ""
    fit: Fit | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ReadNoiseValue:
    """A card's read noise; attributes as :class:`CardValue`."""

    value: NoiseModel
    unit: Literal["S"]
    origin: Origin
    note: str = ""

    def __post_init__(self) -> None:
        check_fields(self)


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
        check_fields(self)
        for count in self.cells:
            check_integer("cells", count, at_least=1)
        for name in ("time_s", "mean_residual", "spread_residual", "sampling_error"):
            for value in getattr(self, name):
                check_real(name, value, at_least=0.0)


@dataclass(frozen=True, kw_only=True)
class DriftValue:
    """A card's drift; attributes as :class:`CardValue`, and the `fit` if it is one of ours."""

    value: Drift
    unit: Literal["S"]
    origin: Origin
    note: str = ""
    fit: DriftFit | None = None

    def __post_init__(self) -> None:
        check_fields(self)
