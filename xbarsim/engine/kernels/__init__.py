"""Compiled loops of the engine: arrays and scalars in, preallocated arrays out, nothing checked here.

A kernel's plain Python function is reachable as ``kernel.py_func`` where it calls no intrinsic.
"""

from __future__ import annotations

from xbarsim.engine.kernels.arguments import (
    Columns,
    Converters,
    Driving,
    Finish,
    Frame,
    Panels,
    Positions,
    Quantiser,
    Tables,
)
from xbarsim.engine.kernels.inputs import block_inputs, count_outside, im2col, pack_planes, quantise
from xbarsim.engine.kernels.look_up import HAS_BYTE_SHUFFLE, bit_serial_products, make_tables
from xbarsim.engine.kernels.reads import add_product, convert_reads, count_bits
from xbarsim.engine.kernels.sums import panel_width, products
from xbarsim.engine.kernels.vectors import LANES

__all__ = [
    "HAS_BYTE_SHUFFLE",
    "LANES",
    "Columns",
    "Converters",
    "Driving",
    "Finish",
    "Frame",
    "Panels",
    "Positions",
    "Quantiser",
    "Tables",
    "add_product",
    "bit_serial_products",
    "block_inputs",
    "convert_reads",
    "count_bits",
    "count_outside",
    "im2col",
    "make_tables",
    "pack_planes",
    "panel_width",
    "products",
    "quantise",
]
