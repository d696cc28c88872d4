"""Memory cells, what goes wrong in them, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    StuckOutside,
    StuckValueWarning,
    UniformConductances,
    WearOutFaults,
    fault_preset,
    preset_names,
    warn_outside,
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
from xbarsim.devices.power_drift import ExponentLaw, PowerLawDrift
from xbarsim.devices.programming import GRID, ProgrammingError, round_to_grid
from xbarsim.foundation.lazy import attach

if TYPE_CHECKING:
    from xbarsim.devices.faults.tables import read_fault_map
    from xbarsim.devices.fitting import (
        CellFit,
        DriftEstimate,
        ErrorEstimate,
        Finding,
        Law,
        NoiseParts,
        NoiseSeries,
        QuantileEstimate,
        Readings,
        fit_cell,
    )
    from xbarsim.devices.support import CardSupport, card_support
    from xbarsim.devices.write_verify import WriteCard, WriteLaw, WriteVerify, Written, write_names

# What makes cells of measurements, and writes them, is loaded on first use: most simulations need none of it.
_HOMES = {
    "CardSupport": "support",
    "CellFit": "fitting",
    "DriftEstimate": "fitting",
    "ErrorEstimate": "fitting",
    "Finding": "fitting",
    "Law": "fitting",
    "NoiseParts": "fitting",
    "NoiseSeries": "fitting",
    "QuantileEstimate": "fitting",
    "Readings": "fitting",
    "WriteCard": "write_verify",
    "WriteLaw": "write_verify",
    "WriteVerify": "write_verify",
    "Written": "write_verify",
    "card_support": "support",
    "fit_cell": "fitting",
    "read_fault_map": "faults.tables",
    "write_names": "write_verify",
}

__all__ = [
    "GRID",
    "POLARITIES",
    "BetaBinomialFaults",
    "BrokenLines",
    "Card",
    "CardSupport",
    "CardValue",
    "Cell",
    "CellFit",
    "ClusteredFaults",
    "CombinedFaults",
    "Conductances",
    "Drift",
    "DriftEstimate",
    "DriftFit",
    "DriftStep",
    "DriftValue",
    "ErrorEstimate",
    "ExponentLaw",
    "FaultDifference",
    "FaultKind",
    "FaultMap",
    "FaultModel",
    "FaultPreset",
    "FieldFaults",
    "Finding",
    "Fit",
    "FlickerNoise",
    "GradientFaults",
    "Law",
    "LineFaults",
    "ListedConductances",
    "LogNormalConductances",
    "LogarithmicDrift",
    "MeasuredDrift",
    "MeasuredFaults",
    "NoiseModel",
    "NoiseParts",
    "NoiseSeries",
    "NoiseVariance",
    "OnOffFaults",
    "Polynomial",
    "PowerLawDrift",
    "Programming",
    "ProgrammingError",
    "ProgrammingErrorValue",
    "QuantileEstimate",
    "RadialFaults",
    "ReadNoise",
    "ReadNoiseValue",
    "Readings",
    "ShotNoise",
    "StuckAtFaults",
    "StuckFaults",
    "StuckLineFaults",
    "StuckOutside",
    "StuckValueWarning",
    "SummedNoise",
    "TelegraphNoise",
    "ThermalNoise",
    "UniformConductances",
    "WearOutFaults",
    "WriteCard",
    "WriteLaw",
    "WriteVerify",
    "Written",
    "card",
    "card_support",
    "cell_names",
    "check_voltage",
    "fault_preset",
    "fit_cell",
    "preset_names",
    "read_fault_map",
    "round_to_grid",
    "warn_outside",
    "write_names",
]

__getattr__, _ = attach(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
