"""What lies between the cells of an array and the circuits around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_plausible, check_real

__all__ = ["Wires", "check_conductance", "check_effective", "check_lines"]

_LEAST_RESISTANCE = 1e-18  # nothing real is less and not zero; far from where an inverse overflows
_MOST_CONDUCTANCE = 1e15
# Beyond these a resistance was given in another unit. A segment is about 0.1 um of line, some ohm in copper and some
# tens in a silicide; with 100 kohm, 128 of them are a cell of 0.1 uS. A driver, sense circuit or transistor of 10 Mohm
# takes 1 us to charge a line of 0.1 pF, ten times the length of a read.
_MOST_SEGMENT = 1e5
_MOST_TERMINAL = 1e7


@dataclass(frozen=True, kw_only=True)
class Wires:
    """The resistive surroundings of the cells of one array.

    Rows are word lines, driven from their left end (beside column 0) or both ends; columns are bit lines, each
    held at 0 V by a current sense at one or both ends. A line's end is reached through one more wire segment:
    the driver of a word line sees ``driver_resistance + word_line_resistance`` before the first cell, and one
    of ``n`` cells has ``n`` segments (``n + 1`` if connected at both ends).

    Attributes
    ----------
    word_line_resistance, bit_line_resistance
        Of one segment, cell to cell, ohm; 0 for an ideal line.
    driver_resistance, sense_resistance
        Of one driver and of one sense circuit, ohm; 0 for an ideal one.
    drive
        ``"one"``: at the left end; ``"both"``: the same voltage at both ends, each through its own driver resistance.
    sense
        ``"near"``: at the bit-line end beside row 0; ``"far"``: beside the last row; ``"both"``: at both, the two
        currents added.
    access
        ``"1T1R"``: a transistor in series with every cell, off in unselected rows, so that these carry no current;
        ``"0T1R"``: no selector, so that unselected lines are sneak paths.
    access_resistance
        Of a transistor that is on, ohm; 0 with ``"0T1R"``.
    unselected
        What unselected lines are connected to: ``"grounded"`` (as the driver or sense circuit of any line, at 0 V) or
        ``"floating"`` (nothing).
    implausible
        ``True`` allows resistances that no real array has: above 100 kohm a segment, or 10 Mohm for a driver, sense
        circuit or transistor. They are refused otherwise, for they are mostly in another unit.

    Raises
    ------
    InputError
        For a resistance that is negative, NaN, infinite or implausible, an unknown choice, or an access resistance
        without an access transistor.
    """

    word_line_resistance: float = 0.0
    bit_line_resistance: float = 0.0
    driver_resistance: float = 0.0
    sense_resistance: float = 0.0
    drive: Literal["one", "both"] = "one"
    sense: Literal["near", "far", "both"] = "far"
    access: Literal["1T1R", "0T1R"] = "1T1R"
    access_resistance: float = 0.0
    unselected: Literal["grounded", "floating"] = "grounded"
    implausible: bool | None = None

    def __post_init__(self) -> None:
        check_instance("implausible", self.implausible, (bool, type(None)))
        object.__setattr__(self, "implausible", self.implausible or None)  # False is the default too
        for name in (
            "word_line_resistance",
            "bit_line_resistance",
            "driver_resistance",
            "sense_resistance",
            "access_resistance",
        ):
            resistance = check_real(name, getattr(self, name), at_least=0.0)
            if 0.0 < resistance < _LEAST_RESISTANCE:
                raise InputError(f"{name} must be 0 or >= {_LEAST_RESISTANCE!r} ohm, got {resistance!r}")
            most = _MOST_SEGMENT if "line" in name else _MOST_TERMINAL
            check_plausible(name, resistance, "ohm", "m", most=most, allowed=self.implausible)
            object.__setattr__(self, name, resistance)
        check_choice("drive", self.drive, ("one", "both"))
        check_choice("sense", self.sense, ("near", "far", "both"))
        check_choice("access", self.access, ("1T1R", "0T1R"))
        check_choice("unselected", self.unselected, ("grounded", "floating"))
        if self.access == "0T1R" and self.access_resistance != 0.0:
            raise InputError(
                f"access_resistance must be 0 with access '0T1R' (no transistor), got {self.access_resistance!r}"
            )


def check_conductance(name: str, value: Any, dimensions: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return `value` as contiguous float64 if it holds conductances in bounds, in one of `dimensions`.

    Raises
    ------
    InputError
        Naming the shape, or the value and its index.
    """
    array = np.asarray(value)
    if array.ndim not in dimensions or array.size == 0 or not np.issubdtype(array.dtype, np.number):
        wanted = " or ".join(str(d) for d in dimensions)
        raise InputError(
            f"{name} must be a non-empty {wanted}-dimensional array of conductances in S, "
            f"got shape {array.shape} of type {array.dtype}"
        )
    if np.issubdtype(array.dtype, np.complexfloating):
        raise InputError(f"{name} must be real, got type {array.dtype}")
    result = np.ascontiguousarray(array, dtype=np.float64)
    good = (result >= 0.0) & (result <= _MOST_CONDUCTANCE)
    if not good.all():
        where = tuple(int(i) for i in np.argwhere(~good)[0])
        raise InputError(
            f"{name} must be >= 0 and <= {_MOST_CONDUCTANCE!r} S, got {float(result[where])!r} at index {where}"
        )
    return result


def check_effective(conductance: Any, effective: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return conductances of cells, of one array or several, and their effective ones, of the same shape.

    Raises
    ------
    InputError
        As :func:`check_conductance`, or if the shapes differ.
    """
    given = check_conductance("conductance", conductance, (2, 3))
    seen = check_conductance("effective", effective, (given.ndim,))
    if seen.shape != given.shape:
        raise InputError(f"effective must have shape {given.shape}, as the conductances, got {seen.shape}")
    return given, seen


def check_lines(name: str, value: Any, count: int) -> npt.NDArray[np.bool_]:
    """Return `value` as a mask of selected lines; ``None`` selects all.

    Raises
    ------
    InputError
        If it is not a boolean array of shape ``(count,)`` with at least one line selected.
    """
    if value is None:
        return np.ones(count, dtype=np.bool_)
    mask = np.asarray(value)
    if mask.dtype != np.bool_ or mask.shape != (count,) or not mask.any():
        raise InputError(
            f"{name} must be a boolean array of shape ({count},) with at least one True, "
            f"got shape {mask.shape} of type {mask.dtype} with {np.count_nonzero(mask)} set"
        )
    return mask
