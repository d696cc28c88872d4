"""Networks from ONNX files, without torch: read, folded, and run in NumPy between their products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbarsim.foundation.lazy import attach

if TYPE_CHECKING:
    from xbarsim.network.onnx.graph import Graph, read_graph, supported_operations
    from xbarsim.network.onnx.skeleton import GraphSkeleton, lower_file, map_onnx, restore_onnx

_HOMES = {
    "Graph": "graph",
    "GraphSkeleton": "skeleton",
    "lower_file": "skeleton",
    "map_onnx": "skeleton",
    "read_graph": "graph",
    "restore_onnx": "skeleton",
    "supported_operations": "graph",
}

__all__ = ["Graph", "GraphSkeleton", "lower_file", "map_onnx", "read_graph", "restore_onnx", "supported_operations"]

__getattr__, __dir__ = attach(__name__, _HOMES)
