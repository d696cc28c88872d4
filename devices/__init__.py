"""Memory cells, what goes wrong in them, and where."""

from __future__ import annotations

if __name__ != "xbarsim.devices":
    raise ImportError("import xbarsim.devices, not devices")

from xbarsim.devices.cards import (
    Card,
    Fit,
    ProgrammingErrorValue,
    Quantity,
    ReadNoiseValue,
    card,
    cell_names,
)
from xbarsim.devices.cell import GRID, Cell, Polynomial, ProgrammingError, ReadNoise
from xbarsim.devices.faultmap import FaultDifference, FaultMap, Kind
from xbarsim.devices.faults import (
    FaultModel,
    FaultPreset,
    StuckFaults,
    fault_preset,
    preset_names,
)

__all__ = [
    "GRID",
    "Card",
    "Cell",
    "FaultDifference",
    "FaultMap",
    "FaultModel",
    "FaultPreset",
    "Fit",
    "Kind",
    "Polynomial",
    "ProgrammingError",
    "ProgrammingErrorValue",
    "Quantity",
    "ReadNoise",
    "ReadNoiseValue",
    "StuckFaults",
    "card",
    "cell_names",
    "fault_preset",
    "preset_names",
]
