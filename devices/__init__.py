"""Memory cells, what goes wrong in them, and where."""

from __future__ import annotations

if __name__ != "xbarsim.devices":
    raise ImportError("import xbarsim.devices, not devices")

from xbarsim.devices.cards import (
    Card,
    DriftFit,
    DriftValue,
    Fit,
    ProgrammingErrorValue,
    Quantity,
    ReadNoiseValue,
    card,
    cell_names,
)
from xbarsim.devices.cell import GRID, Cell, ProgrammingError, round_to_grid
from xbarsim.devices.drift import Drift, DriftStep, LogarithmicDrift, MeasuredDrift, Programming
from xbarsim.devices.fault_compositions import (
    CombinedFaults,
    Conductances,
    ListedConductances,
    LogNormalConductances,
    MeasuredFaults,
    StuckAtFaults,
    UniformConductances,
)
from xbarsim.devices.fault_patterns import (
    BetaBinomialFaults,
    ClusteredFaults,
    FieldFaults,
    GradientFaults,
    RadialFaults,
    StuckLineFaults,
    WearOutFaults,
)
from xbarsim.devices.faultmap import FaultDifference, FaultMap, Kind
from xbarsim.devices.faults import (
    FaultModel,
    FaultPreset,
    OnOffFaults,
    StuckFaults,
    fault_preset,
    preset_names,
)
from xbarsim.devices.lines import BrokenLines, LineFaults
from xbarsim.devices.noise import (
    FlickerNoise,
    NoiseModel,
    NoiseVariance,
    ReadNoise,
    ShotNoise,
    SummedNoise,
    TelegraphNoise,
    ThermalNoise,
)
from xbarsim.devices.polynomial import Polynomial

__all__ = [
    "GRID",
    "BetaBinomialFaults",
    "BrokenLines",
    "Card",
    "Cell",
    "ClusteredFaults",
    "CombinedFaults",
    "Conductances",
    "Drift",
    "DriftFit",
    "DriftStep",
    "DriftValue",
    "FaultDifference",
    "FaultMap",
    "FaultModel",
    "FaultPreset",
    "FieldFaults",
    "Fit",
    "FlickerNoise",
    "GradientFaults",
    "Kind",
    "LineFaults",
    "ListedConductances",
    "LogNormalConductances",
    "LogarithmicDrift",
    "MeasuredDrift",
    "MeasuredFaults",
    "NoiseModel",
    "NoiseVariance",
    "OnOffFaults",
    "Polynomial",
    "Programming",
    "ProgrammingError",
    "ProgrammingErrorValue",
    "Quantity",
    "RadialFaults",
    "ReadNoise",
    "ReadNoiseValue",
    "ShotNoise",
    "StuckAtFaults",
    "StuckFaults",
    "StuckLineFaults",
    "SummedNoise",
    "TelegraphNoise",
    "ThermalNoise",
    "UniformConductances",
    "WearOutFaults",
    "card",
    "cell_names",
    "fault_preset",
    "preset_names",
    "round_to_grid",
]
