"""Torch networks on crossbars: lowered, quantised, placed, calibrated; and the dies that are made of them."""

from __future__ import annotations

from xbarsim.network.chip import Chip
from xbarsim.network.crossbar import Crossbar
from xbarsim.network.layers import CrossbarLayer, DigitalLayer, LayerAdapter, QuantisedLayer
from xbarsim.network.lowering import Lowering, NotMapped, Product, register
from xbarsim.network.mapped import MappedNetwork, NotMappedWarning
from xbarsim.network.pipeline import map_model
from xbarsim.network.placed import MappedLayer, PlacedNetwork, PlanTable
from xbarsim.network.report import ClippingWarning, ErrorReport, LayerError

__all__ = [
    "Chip",
    "ClippingWarning",
    "Crossbar",
    "CrossbarLayer",
    "DigitalLayer",
    "ErrorReport",
    "LayerAdapter",
    "LayerError",
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
