"""Compiled loops of the engine: arrays and scalars in, preallocated arrays out, nothing checked here.

A kernel's plain Python function is reachable as ``kernel.py_func`` where it calls no intrinsic.
"""

from __future__ import annotations

from xbarsim.engine.kernels.arguments import (
    CodeTable,
    Columns,
    Converters,
    Driving,
    Finish,
    Frame,
    Panels,
    PlainGroups,
    Positions,
    Quantiser,
    ReadNoise,
    ShortConverters,
    Tables,
    WholeConverters,
)
from xbarsim.engine.kernels.inputs import block_codes, block_inputs, count_outside, im2col, pack_planes, quantise
from xbarsim.engine.kernels.look_up import HAS_BYTE_SHUFFLE, bit_serial_products, make_tables
from xbarsim.engine.kernels.maps import add_maps, block_maps, copy_maps, largest_of_maps, unblock_maps
from xbarsim.engine.kernels.normals import KEY_ROWS, LANE_ORDER, add_noise
from xbarsim.engine.kernels.plain import PLAIN_COLUMNS, plain_products
from xbarsim.engine.kernels.planes import HAS_BYTE_PERMUTE
from xbarsim.engine.kernels.processor import has_feature
from xbarsim.engine.kernels.reads import convert_reads, count_bits
from xbarsim.engine.kernels.sums import panel_width, products
from xbarsim.engine.kernels.vectors import LANES
from xbarsim.engine.kernels.words import HAS_QUADS, WORD_COLUMNS, block_words, word_products

__all__ = [
    "HAS_BYTE_PERMUTE",
    "HAS_BYTE_SHUFFLE",
    "HAS_QUADS",
    "KEY_ROWS",
    "LANES",
    "LANE_ORDER",
    "PLAIN_COLUMNS",
    "WORD_COLUMNS",
    "CodeTable",
    "Columns",
    "Converters",
    "Driving",
    "Finish",
    "Frame",
    "Panels",
    "PlainGroups",
    "Positions",
    "Quantiser",
    "ReadNoise",
    "ShortConverters",
    "Tables",
    "WholeConverters",
    "add_maps",
    "add_noise",
    "bit_serial_products",
    "block_codes",
    "block_inputs",
    "block_maps",
    "block_words",
    "convert_reads",
    "copy_maps",
    "count_bits",
    "count_outside",
    "has_feature",
    "im2col",
    "largest_of_maps",
    "make_tables",
    "pack_planes",
    "panel_width",
    "plain_products",
    "products",
    "quantise",
    "unblock_maps",
    "word_products",
]
