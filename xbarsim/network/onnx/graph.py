"""A network as a list of nodes: the form that everything here works on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xbarsim.foundation.guide import see
from xbarsim.foundation.validation import InputError
from xbarsim.network.onnx.file import read_model, read_tensor
from xbarsim.network.onnx.operations.call import Array, Node
from xbarsim.network.onnx.operations.table import OPERATIONS
from xbarsim.network.onnx.types import NUMPY_TYPES, type_name

__all__ = ["ANALOG", "Codes", "Graph", "Input", "check_order", "read_graph", "supported_operations"]

# Operations that become products with trained weights, or products and digital operations.
ANALOG = (
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "GRU",
    "Gemm",
    "LSTM",
    "MatMul",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "RNN",
)
# The numbers are those of AttributeProto.AttributeType.
_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 4, 6, 7, 8
_SUBGRAPHS = (5, 10)
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike")


def supported_operations() -> tuple[str, ...]:
    """Names of all operations that a file may use."""
    return tuple(sorted({*OPERATIONS, *ANALOG, "Constant"}))


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input of a network.

    Attributes
    ----------
    name
        Its name in the file.
    dtype
        Type of its numbers.
    shape
        With ``None`` for what is not fixed; samples come first. ``None`` if nothing is known of it.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Codes:
    """A constant that the file gives as integers and scales: close to ``codes * scale``.

    Attributes
    ----------
    codes
        Integers, the zero point taken off.
    scale
        Of one number, or of as many as axis `axis` is long.
    axis
        The axis that scales go along.
    """

    codes: Array
    scale: Array
    axis: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A network.

    Attributes
    ----------
    nodes
        In an order in which they can run.
    constants
        Values that depend on no input, by name.
    inputs
        What it is called with.
    outputs
        Names of the values that it gives.
    ranks
        Dimensions of values, where they are known.
    codes
        Constants that the file gives as integers, by name.
    notes
        What a user should know.
    """

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    ranks: dict[str, int] = field(default_factory=dict)
    codes: dict[str, Codes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def uses(self) -> Counter[str]:
        """How often each value is used, by nodes or as an output."""
        return Counter([name for node in self.nodes for name in node.inputs] + list(self.outputs))


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Read a network from an ONNX file.

    Parameters
    ----------
    path
        Of the file. Weights outside it must lie in its folder.

    Raises
    ------
    InputError
        If it is no ONNX file, is damaged, uses an operation, type or version that is not supported, or holds numbers
        that are not finite.
    """
    model = read_model(path)
    graph, folder = model.graph, Path(path).parent
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    _refuse_unsupported(graph)
    if graph.sparse_initializer:
        raise InputError(f"constants must be dense, got sparse {graph.sparse_initializer[0].values.name!r}")
    constants = {tensor.name: _finite(tensor.name, read_tensor(tensor, folder)) for tensor in graph.initializer}
    nodes, names = [], Counter[str]()
    for message in graph.node:
        node = _node(message, opset, folder)
        names[node.name] += 1
        if names[node.name] > 1:  # names of nodes may come twice in a file, those of values may not
            node = replace(node, name=f"{node.name} ({next(filter(None, node.outputs), names[node.name])})")
        if node.op == "Constant":
            constants[node.outputs[0]] = _constant(node)
        else:
            nodes.append(node)
    inputs = tuple(_input(value) for value in graph.input if value.name not in constants)
    outputs = tuple(value.name for value in graph.output)
    if not inputs or not outputs:
        raise InputError(f"path must hold a graph with inputs and outputs, got {len(inputs)} and {len(outputs)}")
    check_order(nodes, {*constants, *(value.name for value in inputs)}, outputs)
    return Graph(nodes=tuple(nodes), constants=constants, inputs=inputs, outputs=outputs, ranks=_ranks(model))


def _refuse_unsupported(graph: Any) -> None:
    """Refuse operations that are not supported, unless they depend on no input: ONNX itself computes these once."""
    supported = supported_operations()
    fixed = {"", *(tensor.name for tensor in graph.initializer)}
    for message in graph.node:
        name = message.name or (message.output[0] if message.output else "")
        standard = message.domain in ("", "ai.onnx")
        folded = bool(message.input) and fixed.issuperset(message.input) and message.op_type not in _RANDOM
        if not (standard and (message.op_type in supported or folded)):
            full = f"{message.domain}.{message.op_type}" if message.domain else message.op_type
            raise InputError(
                f"node {name!r} must be one of the supported operations ({', '.join(supported)}), got {full}"
                f"{see('onnx')}"
            )
        for attribute in message.attribute:
            if attribute.type in _SUBGRAPHS:
                raise InputError(f"node {name!r} must have no graph inside it, got attribute {attribute.name!r}")
        if folded or message.op_type == "Constant":
            fixed.update(message.output)


def _node(message: Any, opset: int, folder: Path) -> Node:
    name = message.name or next((output for output in message.output if output), message.op_type)
    return Node(
        name=name,
        op=message.op_type,
        inputs=tuple(message.input),
        outputs=tuple(message.output),
        attributes={entry.name: _attribute(entry, name, folder) for entry in message.attribute},
        opset=opset,
    )


def _decimal(number: float) -> float:
    """The shortest decimal that a float32 stands for: 1e-5 and not 9.99999974737875e-06."""
    return float(str(np.float32(number)))


def _attribute(entry: Any, node: str, folder: Path) -> Any:
    if entry.type == _FLOAT:
        return _decimal(entry.f)
    if entry.type == _INT:
        return int(entry.i)
    if entry.type == _STRING:
        return entry.s.decode()
    if entry.type == _TENSOR:
        return read_tensor(entry.t, folder)
    if entry.type == _FLOATS:
        return tuple(_decimal(number) for number in entry.floats)
    if entry.type == _INTS:
        return tuple(int(number) for number in entry.ints)
    if entry.type == _STRINGS:
        return tuple(text.decode() for text in entry.strings)
    raise InputError(f"attribute {entry.name!r} of node {node!r} must be numbers, texts or a tensor, got another")


def _constant(node: Node) -> Array:
    for name, kind in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype=kind)
    if "value" not in node.attributes:
        raise InputError(f"{node} must have a tensor or numbers as its value, got {sorted(node.attributes)}")
    value: Array = node.attributes["value"]
    return value


def _finite(name: str, array: Array) -> Array:
    """Infinity may stand in a mask; NaN nowhere."""
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise InputError(f"constant {name!r} must be finite, got NaN")
    return array


def _input(value: Any) -> Input:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in NUMPY_TYPES:
        got = type_name(kind.elem_type) if value.type.HasField("tensor_type") else "another kind of value"
        raise InputError(f"input {value.name!r} must be a tensor of ordinary numbers, got {got}")
    shape = None
    if kind.HasField("shape"):
        shape = tuple(int(size.dim_value) if size.dim_value > 0 else None for size in kind.shape.dim)
    return Input(name=value.name, dtype=NUMPY_TYPES[kind.elem_type], shape=shape)


def check_order(nodes: Sequence[Node], known: set[str], outputs: tuple[str, ...]) -> None:
    """Refuse nodes in an order in which they cannot run.

    Parameters
    ----------
    nodes
        In the order of the graph.
    known
        Constants and inputs.
    outputs
        Of the graph.

    Raises
    ------
    InputError
        If a node or output is of a value that nothing before it makes.
    """
    known = {*known, ""}
    for node in nodes:
        for name in node.inputs:
            if name not in known:
                raise InputError(f"{node} must use values of earlier nodes, got {name!r}")
        known.update(node.outputs)
    for name in outputs:
        if name not in known:
            raise InputError(f"output {name!r} must be a value of the graph, got none of that name")


def _ranks(model: Any) -> dict[str, int]:
    """Dimensions of values, as far as ONNX infers them."""
    from onnx import shape_inference

    try:
        model = shape_inference.infer_shapes(model)
    except Exception:  # any failure of inference leaves the ranks unknown, and less is folded then
        return {}
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in values
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape")
    }
