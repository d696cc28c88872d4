"""Bounds of what a real memory cell can be: beyond them a number was given in another unit.

A cell of 50 S is one of 50 uS with its prefix lost, and simulates without an error, at a million times the power. The
bounds are wide, for the point is the unit: several orders of magnitude beyond any device.
"""

from __future__ import annotations

from typing import Any

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_plausible, check_real

__all__ = [
    "LEAST_CONDUCTANCE",
    "LEAST_VOLTAGE",
    "MOST_CONDUCTANCE",
    "MOST_CURRENT",
    "MOST_VOLTAGE",
    "check_conductance",
    "check_current",
    "check_voltage",
]

MOST_CONDUCTANCE = 0.1
"""S. 1,300 times the conductance quantum 2 e^2 / h = 77.5 uS, of which an atomic filament has a few: 10 ohm, about what
the metal lines to one cell have. The lowest resistance that simulators set for a cell is 50 ohm (VTEAM), 0.02 S."""

LEAST_CONDUCTANCE = 1e-12
"""S, of the highest level: at 1 V less than one electron in a read of 100 ns (1 pA x 100 ns = 0.6 e)."""

MOST_VOLTAGE = 10.0
"""V. Filaments form at 2 to 6 V and are written at 1 to 4 V: a read stays well below."""

LEAST_VOLTAGE = 1e-4
"""V. A hundredth of the offset of a sense amplifier, millivolts; 1/250 of the thermal voltage k T / e = 25.9 mV."""

MOST_CURRENT = 0.1
"""A through one cell. Copper bears 1e7 A/cm2 before its atoms move: 0.1 A in 1 um2, wider than the line of any cell."""


def check_conductance(
    name: str, value: Any, *, least: float | None = None, implausible: bool | None, switch: str = "implausible=True"
) -> float:
    """Return a conductance, S, if it is one that a cell can have.

    Parameters
    ----------
    name
        The parameter's name, for the message.
    value
        The conductance, S: a finite number that was looked at for its sign.
    least
        Lower bound, S.
    implausible
        Whether any value is allowed.
    switch
        What allows it, for the message.

    Raises
    ------
    InputError
        Naming the value that was likely meant.
    """
    return check_plausible(
        name, value, "S", "u", most=MOST_CONDUCTANCE, least=least, allowed=implausible, switch=switch
    )


@entrance
def check_voltage(name: str, value: Any, *, implausible: bool | None) -> float:
    """Return a read voltage, V, if it is above 0 and one that a cell can be read with.

    Parameters
    ----------
    name
        The parameter's name, for the message.
    value
        The voltage, V.
    implausible
        Whether any voltage above 0 is allowed.

    Raises
    ------
    InputError
        For anything else; where it was likely in another unit, naming the value that was meant.
    """
    check_real(name, value, above=0.0)
    return check_plausible(name, value, "V", "m", most=MOST_VOLTAGE, least=LEAST_VOLTAGE, allowed=implausible)


def check_current(name: str, value: Any, *, implausible: bool | None) -> float:
    """Return a current, A, if it is one that a cell can carry; else as `check_conductance`."""
    return check_plausible(name, value, "A", "u", most=MOST_CURRENT, allowed=implausible)
