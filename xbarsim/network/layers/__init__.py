"""Layers of a quantised network: one adapter a type of layer, and who multiplies: torch, a die, or the reference."""

from __future__ import annotations

from xbarsim.network.layers.base import LayerAdapter
from xbarsim.network.layers.conv1d import Conv1dAdapter
from xbarsim.network.layers.conv2d import Conv2dAdapter
from xbarsim.network.layers.linear import LinearAdapter
from xbarsim.network.layers.modules import CrossbarLayer, DigitalLayer, ImageCounter, NetworkLayer, ReferenceLayer
from xbarsim.network.layers.quantised import QuantisedLayer

__all__ = [
    "Conv1dAdapter",
    "Conv2dAdapter",
    "CrossbarLayer",
    "DigitalLayer",
    "ImageCounter",
    "LayerAdapter",
    "LinearAdapter",
    "NetworkLayer",
    "QuantisedLayer",
    "ReferenceLayer",
]
