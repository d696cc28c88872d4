"""Networks from ONNX files, without torch: read, folded, and run in NumPy between their products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbarsim.foundation.lazy import attach

if TYPE_CHECKING:
    from xbarsim.network.onnx.graph import Graph, read_graph, supported_operations
    from xbarsim.network.onnx.lower import lower_file, map_onnx
    from xbarsim.network.onnx.restore import restore_onnx
    from xbarsim.network.onnx.skeleton import GraphSkeleton

_HOMES = {
    "Graph": "graph",
    "GraphSkeleton": "skeleton",
    "lower_file": "lower",
    "map_onnx": "lower",
    "read_graph": "graph",
    "restore_onnx": "restore",
    "supported_operations": "graph",
}

__all__ = ["Graph", "GraphSkeleton", "lower_file", "map_onnx", "read_graph", "restore_onnx", "supported_operations"]

__getattr__, __dir__ = attach(__name__, _HOMES)
