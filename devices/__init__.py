"""Memory cells, what goes wrong in them, and where."""

from __future__ import annotations

if __name__ != "xbarsim.devices":
    raise ImportError("import xbarsim.devices, not devices")

from xbarsim.devices.card_values import (
    CardValue,
    DriftFit,
    DriftValue,
    Fit,
    ProgrammingErrorValue,
    ReadNoiseValue,
)
from xbarsim.devices.cell import Card, Cell, card, cell_names
from xbarsim.devices.drift import Drift, DriftStep, LogarithmicDrift, MeasuredDrift, Programming
from xbarsim.devices.faults import (
    POLARITIES,
    BetaBinomialFaults,
    ClusteredFaults,
    CombinedFaults,
    Conductances,
    FaultDifference,
    FaultKind,
    FaultMap,
    FaultModel,
    FaultPreset,
    FieldFaults,
    GradientFaults,
    ListedConductances,
    LogNormalConductances,
    MeasuredFaults,
    OnOffFaults,
    RadialFaults,
    StuckAtFaults,
    StuckFaults,
    StuckLineFaults,
    UniformConductances,
    WearOutFaults,
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
from xbarsim.devices.plausible import check_voltage
from xbarsim.devices.polynomial import Polynomial
from xbarsim.devices.programming import GRID, ProgrammingError, round_to_grid

__all__ = [
    "GRID",
    "POLARITIES",
    "BetaBinomialFaults",
    "BrokenLines",
    "Card",
    "CardValue",
    "Cell",
    "ClusteredFaults",
    "CombinedFaults",
    "Conductances",
    "Drift",
    "DriftFit",
    "DriftStep",
    "DriftValue",
    "FaultDifference",
    "FaultKind",
    "FaultMap",
    "FaultModel",
    "FaultPreset",
    "FieldFaults",
    "Fit",
    "FlickerNoise",
    "GradientFaults",
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
    "check_voltage",
    "fault_preset",
    "preset_names",
    "round_to_grid",
]
