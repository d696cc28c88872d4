"""Operations of ONNX in NumPy, in the types of their inputs."""

from __future__ import annotations

from xbarsim.network.onnx.operations.call import Call, Node, Operation
from xbarsim.network.onnx.operations.table import OPERATIONS

__all__ = ["OPERATIONS", "Call", "Node", "Operation"]
