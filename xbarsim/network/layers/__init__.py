"""Layers of a quantised network: one adapter a type of layer, and who multiplies: NumPy, a die, or the reference."""

from __future__ import annotations

from xbarsim.network.layers.base import LayerAdapter
from xbarsim.network.layers.conv1d import Conv1dAdapter
from xbarsim.network.layers.conv2d import Conv2dAdapter
from xbarsim.network.layers.conv3d import Conv3dAdapter
from xbarsim.network.layers.linear import LinearAdapter
from xbarsim.network.layers.quantised import QuantisedLayer
from xbarsim.network.layers.running import (
    MOST_SAMPLES,
    ClippedInputs,
    CrossbarLayer,
    DigitalLayer,
    NetworkLayer,
    ReferenceLayer,
    SampleCounter,
    SampleOrder,
)
from xbarsim.network.layers.transposed import TransposedAdapter

__all__ = [
    "MOST_SAMPLES",
    "ClippedInputs",
    "Conv1dAdapter",
    "Conv2dAdapter",
    "Conv3dAdapter",
    "CrossbarLayer",
    "DigitalLayer",
    "LayerAdapter",
    "LinearAdapter",
    "NetworkLayer",
    "QuantisedLayer",
    "ReferenceLayer",
    "SampleCounter",
    "SampleOrder",
    "TransposedAdapter",
]
