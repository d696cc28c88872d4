"""From modules to products with trained weights: one lowering a type of module; what cannot be lowered is named."""

from __future__ import annotations

from xbarsim.network.lowering.base import Lowering, Product, float_bias, float_weights
from xbarsim.network.lowering.batch_norm import fold_batch_norm
from xbarsim.network.lowering.conv1d import LowerConv1d
from xbarsim.network.lowering.conv2d import LowerConv2d
from xbarsim.network.lowering.convolution import weight_matrix
from xbarsim.network.lowering.linear import LowerLinear
from xbarsim.network.lowering.lower import Lowered, NotMapped, lower
from xbarsim.network.lowering.registry import Registration, lowering_of, register

__all__ = [
    "LowerConv1d",
    "LowerConv2d",
    "LowerLinear",
    "Lowered",
    "Lowering",
    "NotMapped",
    "Product",
    "Registration",
    "float_bias",
    "float_weights",
    "fold_batch_norm",
    "lower",
    "lowering_of",
    "register",
    "weight_matrix",
]
