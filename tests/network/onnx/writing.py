"""Small ONNX files, written node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    """A node with the name of its first output."""
    return helper.make_node(op, inputs, outputs, name=f"n_{outputs[0]}", **attributes)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any],
    shape: Sequence[int | str | None],
    *,
    output: str = "y",
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model with one input ``x`` of this shape."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def write(path: Path, *arguments: Any, **keywords: Any) -> Path:
    """A file of :func:`model_of`."""
    onnx.save(model_of(*arguments, **keywords), path)
    return path
