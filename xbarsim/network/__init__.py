"""Torch networks on crossbars: lowered, quantised, placed, calibrated; and the dies that are made of them."""

from __future__ import annotations

from xbarsim.network.chip import Chip
from xbarsim.network.layers import CrossbarLayer, DigitalLayer, LayerAdapter, QuantisedLayer
from xbarsim.network.lowering import Lowering, NotMapped, Product, register
from xbarsim.network.mapped import MappedNetwork, NotMappedWarning
from xbarsim.network.pipeline import map_model
from xbarsim.network.placed import MappedLayer, PlacedNetwork, PlanTable

__all__ = [
    "Chip",
    "CrossbarLayer",
    "DigitalLayer",
    "LayerAdapter",
    "Lowering",
    "MappedLayer",
    "MappedNetwork",
    "NotMapped",
    "NotMappedWarning",
    "PlacedNetwork",
    "PlanTable",
    "Product",
    "QuantisedLayer",
    "map_model",
    "register",
]
