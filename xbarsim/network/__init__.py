"""Torch networks on crossbars: quantised layers, mapped networks."""

from __future__ import annotations

from xbarsim.network.layers import CrossbarLayer, DigitalLayer, QuantisedLayer
from xbarsim.network.model import (
    MappedLayer,
    MappedNetwork,
    NotMapped,
    NotMappedWarning,
    PlanTable,
    map_model,
)

__all__ = [
    "CrossbarLayer",
    "DigitalLayer",
    "MappedLayer",
    "MappedNetwork",
    "NotMapped",
    "NotMappedWarning",
    "PlanTable",
    "QuantisedLayer",
    "map_model",
]
