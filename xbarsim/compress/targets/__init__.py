"""Pruning targets: one structure of weights a file, all of them projections onto the nearest mask of that structure."""

from __future__ import annotations

from xbarsim.compress.targets.base import Target
from xbarsim.compress.targets.blocks import BlockColumnRow, block_mask
from xbarsim.compress.targets.columns import Columns, column_mask
from xbarsim.compress.targets.filters import Filters, filter_mask
from xbarsim.compress.targets.kernel_shapes import KernelShapes, kernel_shape_mask
from xbarsim.compress.targets.rigid_shapes import SHAPES_3X3, RigidShapes
from xbarsim.compress.targets.selection import kept_count
from xbarsim.compress.targets.tiles import Tiles, tile_mask
from xbarsim.compress.targets.unstructured import Unstructured, unstructured_mask

__all__ = [
    "SHAPES_3X3",
    "BlockColumnRow",
    "Columns",
    "Filters",
    "KernelShapes",
    "RigidShapes",
    "Target",
    "Tiles",
    "Unstructured",
    "block_mask",
    "column_mask",
    "filter_mask",
    "kept_count",
    "kernel_shape_mask",
    "tile_mask",
    "unstructured_mask",
]
