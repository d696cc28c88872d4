"""Stuck cells: maps of them, their files and statistics, and the models that draw them, one file a family.

A model of your own is one file: a frozen dataclass derived from :class:`FaultModel`, or from :class:`OnOffFaults` or
:class:`FieldFaults`, which leave less to write. Once its module is imported it can be read from TOML by its class name
like those here, and ``xbarsim.testing.check_fault_model`` tests it.
"""

from __future__ import annotations

from xbarsim.devices.faults.base import (
    POLARITIES,
    FaultModel,
    FaultPreset,
    OnOffFaults,
    draw_positions,
    fault_preset,
    preset_names,
)
from xbarsim.devices.faults.beta_binomial import BetaBinomialFaults
from xbarsim.devices.faults.clustered import ClusteredFaults
from xbarsim.devices.faults.combined import CombinedFaults
from xbarsim.devices.faults.conductances import (
    Conductances,
    ListedConductances,
    LogNormalConductances,
    StuckAtFaults,
    UniformConductances,
)
from xbarsim.devices.faults.fields import FieldFaults, GradientFaults, RadialFaults
from xbarsim.devices.faults.kinds import FaultKind, Shape, as_shape
from xbarsim.devices.faults.map import FaultDifference, FaultMap
from xbarsim.devices.faults.measured import MeasuredFaults
from xbarsim.devices.faults.outside import StuckOutside, StuckValueWarning, warn_outside
from xbarsim.devices.faults.stuck import StuckFaults
from xbarsim.devices.faults.stuck_lines import StuckLineFaults
from xbarsim.devices.faults.wear import WearOutFaults

__all__ = [
    "POLARITIES",
    "BetaBinomialFaults",
    "ClusteredFaults",
    "CombinedFaults",
    "Conductances",
    "FaultDifference",
    "FaultKind",
    "FaultMap",
    "FaultModel",
    "FaultPreset",
    "FieldFaults",
    "GradientFaults",
    "ListedConductances",
    "LogNormalConductances",
    "MeasuredFaults",
    "OnOffFaults",
    "RadialFaults",
    "Shape",
    "StuckAtFaults",
    "StuckFaults",
    "StuckLineFaults",
    "StuckOutside",
    "StuckValueWarning",
    "UniformConductances",
    "WearOutFaults",
    "as_shape",
    "draw_positions",
    "fault_preset",
    "preset_names",
    "warn_outside",
]
