"""Graphs in files: folded, as they run, so that a loaded one needs neither the ONNX file nor the package onnx.

The nodes are a record in TOML; constants, integers of weights and tensors among attributes are arrays beside it, each
once, however many names it has. Arrays come back in the order of axes in which they lay in memory: sums of another
order would round to other bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError, check_integer
from xbarsim.network.onnx.file import HIGHEST_OPSET, LOWEST_OPSET
from xbarsim.network.onnx.graph import Codes, Graph, Input, check_order
from xbarsim.network.onnx.operations.call import Array, Node
from xbarsim.network.onnx.operations.table import ALL_OPERATIONS
from xbarsim.network.onnx.patterns import PRODUCT_OPS
from xbarsim.network.onnx.recurrent import RECURRENT
from xbarsim.network.onnx.types import NUMPY_TYPES

__all__ = ["graph_arrays", "graph_of_arrays"]

_RECORD = "graph"  # the array that holds the text of the record
_KNOWN = {*ALL_OPERATIONS, *PRODUCT_OPS, *RECURRENT}
_TYPES = {str(kind): kind for kind in NUMPY_TYPES.values()}
_FREE = -1  # a dimension of any size


@dataclass(frozen=True, kw_only=True)
class _Attribute:
    """An attribute of a node: a number, text or several, or the number of an array."""

    name: str
    value: int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | None = None
    tensor: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Node:
    """A node as :class:`xbarsim.network.onnx.operations.call.Node`."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    attributes: tuple[_Attribute, ...]


@dataclass(frozen=True, kw_only=True)
class _Constant:
    """A constant, and its integers and scales where it has them; by the numbers of their arrays."""

    name: str
    array: int
    codes: int | None = None
    scale: int | None = None
    axis: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Input:
    """An input as :class:`xbarsim.network.onnx.graph.Input`; -1 for a dimension of any size."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The axes of an array from the slowest to the fastest, where they do not lie so in their own order."""

    array: int
    axes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What a file says of a graph besides arrays; `batch` is how many samples run at a time, where that is fixed."""

    inputs: tuple[_Input, ...]
    outputs: tuple[str, ...]
    constants: tuple[_Constant, ...]
    nodes: tuple[_Node, ...]
    layouts: tuple[_Layout, ...]
    batch: int | None = None


class _Shelf:
    """Arrays by number, each once."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self.layouts: list[_Layout] = []
        self._known: dict[int, tuple[int, Array]] = {}  # by identity, which lasts as long as the array

    def put(self, array: Array) -> int:
        """The number of an array."""
        if str(array.dtype) not in _TYPES:
            raise InputError(f"network must have constants of ordinary numbers to be saved, got {array.dtype}")
        if id(array) in self._known:
            return self._known[id(array)][0]
        number, axes = len(self.arrays), _axes(array)
        self._known[id(array)] = number, array
        if axes != tuple(range(array.ndim)):
            self.layouts.append(_Layout(array=number, axes=axes))
        self.arrays.append(array.transpose(axes))
        return number


def _axes(array: Array) -> tuple[int, ...]:
    """Axes from the slowest to the fastest in memory."""
    if array.flags.c_contiguous:
        return tuple(range(array.ndim))
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


def graph_arrays(graph: Graph, batch: int | None) -> dict[str, Array]:
    """A folded graph as arrays by name.

    Parameters
    ----------
    graph
        From :func:`xbarsim.network.onnx.patterns.fold_patterns`.
    batch
        How many samples are run at a time, where the ONNX file fixes that.

    Raises
    ------
    InputError
        If a constant is of a type that no file holds.
    """
    shelf = _Shelf()
    weights = {node.inputs[1] for node in graph.nodes if node.op in PRODUCT_OPS}  # whose integers are mapped
    record = _Record(
        inputs=tuple(
            _Input(
                name=value.name,
                dtype=str(value.dtype),
                shape=None if value.shape is None else tuple(_FREE if size is None else size for size in value.shape),
            )
            for value in graph.inputs
        ),
        outputs=graph.outputs,
        constants=tuple(
            _constant(name, array, graph.codes.get(name) if name in weights else None, shelf)
            for name, array in graph.constants.items()
        ),
        nodes=tuple(
            _Node(
                name=node.name,
                op=node.op,
                inputs=node.inputs,
                outputs=node.outputs,
                opset=node.opset,
                attributes=tuple(
                    _Attribute(name=name, tensor=shelf.put(value))
                    if isinstance(value, np.ndarray)
                    else _Attribute(name=name, value=value)
                    for name, value in node.attributes.items()
                ),
            )
            for node in graph.nodes
        ),
        layouts=tuple(shelf.layouts),
        batch=batch,
    )
    text = np.frombuffer(tomlio.dumps(record).encode(), np.uint8)
    return {_RECORD: text, **{f"array.{number}": array for number, array in enumerate(shelf.arrays)}}


def _constant(name: str, array: Array, codes: Codes | None, shelf: _Shelf) -> _Constant:
    if codes is None:
        return _Constant(name=name, array=shelf.put(array))
    return _Constant(
        name=name,
        array=shelf.put(array),
        codes=shelf.put(codes.codes.astype(np.int32)),
        scale=shelf.put(codes.scale),
        axis=codes.axis,
    )


def graph_of_arrays(stored: Mapping[str, Array]) -> tuple[Graph, int | None]:
    """The graph that :func:`graph_arrays` made arrays of, and how many samples are run at a time.

    Raises
    ------
    FileFormatError, InputError
        If something is missing, is not known, or contradicts itself.
    """
    text = stored.get(_RECORD, np.zeros(0))
    if text.dtype != np.uint8 or text.ndim != 1:
        raise FileFormatError(f"array 'skeleton.{_RECORD}' must be text, got {text.dtype} of shape {text.shape}")
    try:
        record = tomlio.loads(_Record, text.tobytes().decode(), source="its graph")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"array 'skeleton.{_RECORD}' must be text, got {error}") from error
    arrays = _read_arrays(stored, record.layouts)
    used = set()

    def array(number: int) -> Array:
        if number not in arrays:
            raise FileFormatError(f"array 'skeleton.array.{number}' is missing")
        used.add(number)
        return arrays[number]

    constants, codes = {}, {}
    for each in record.constants:
        constants[each.name] = array(each.array)
        if each.codes is not None:
            if each.scale is None or each.axis is None:
                raise FileFormatError(f"integers of constant {each.name!r} must have scales along an axis, got none")
            codes[each.name] = Codes(codes=array(each.codes), scale=array(each.scale), axis=each.axis)
            _check_codes(each.name, constants[each.name], codes[each.name])
    nodes = tuple(
        Node(
            name=each.name,
            op=each.op,
            inputs=each.inputs,
            outputs=each.outputs,
            attributes={
                entry.name: entry.value if entry.tensor is None else array(entry.tensor) for entry in each.attributes
            },
            opset=each.opset,
        )
        for each in record.nodes
    )
    unknown = sorted(set(stored) - {_RECORD, *(f"array.{number}" for number in used)})
    if unknown:
        raise FileFormatError(f"it has unknown arrays: {', '.join(repr(f'skeleton.{name}') for name in unknown)}")
    if record.batch is not None:
        check_integer("batch", record.batch, at_least=1)
    inputs = tuple(map(_input, record.inputs))
    if not inputs or not record.outputs:
        raise FileFormatError(f"graph must have inputs and outputs, got {len(inputs)} and {len(record.outputs)}")
    _check_nodes(nodes, constants)
    check_order(nodes, {*constants, *(value.name for value in inputs)}, record.outputs)
    return Graph(nodes=nodes, constants=constants, inputs=inputs, outputs=record.outputs, codes=codes), record.batch


def _read_arrays(stored: Mapping[str, Array], layouts: tuple[_Layout, ...]) -> dict[int, Array]:
    """The arrays by number, with their axes in their own order and as they lay in memory."""
    axes = {layout.array: layout.axes for layout in layouts}
    found = {}
    for name, given in stored.items():
        number = name.removeprefix("array.")
        if name == number or not number.isdecimal():
            continue
        if str(given.dtype) not in _TYPES:
            raise FileFormatError(f"array 'skeleton.{name}' must hold ordinary numbers, got {given.dtype}")
        order = axes.pop(int(number), tuple(range(given.ndim)))
        if sorted(order) != list(range(given.ndim)):
            raise FileFormatError(f"array 'skeleton.{name}' must have as many axes as its layout, got {order}")
        found[int(number)] = np.array(given, order="C").transpose(np.argsort(order))
    if axes:
        raise FileFormatError(f"layouts must be of arrays of the file, got {sorted(axes)}")
    return found


def _input(value: _Input) -> Input:
    if value.dtype not in _TYPES:
        raise FileFormatError(f"input {value.name!r} must be a tensor of ordinary numbers, got {value.dtype!r}")
    if value.shape is not None and any(size != _FREE and size < 1 for size in value.shape):
        raise FileFormatError(f"input {value.name!r} must have sizes >= 1, or {_FREE} for any, got {value.shape}")
    shape = None if value.shape is None else tuple(None if size == _FREE else size for size in value.shape)
    return Input(name=value.name, dtype=_TYPES[value.dtype], shape=shape)


def _check_codes(name: str, constant: Array, codes: Codes) -> None:
    if codes.codes.dtype.kind != "i" or codes.codes.shape != constant.shape or codes.scale.dtype.kind != "f":
        raise FileFormatError(
            f"integers of constant {name!r} must have its shape {constant.shape}, and floating scales, "
            f"got {codes.codes.dtype} of shape {codes.codes.shape} and {codes.scale.dtype}"
        )
    check_integer(f"axis of constant {name!r}", codes.axis, at_least=0)


def _check_nodes(nodes: tuple[Node, ...], constants: Mapping[str, Array]) -> None:
    for name, count in Counter(node.name for node in nodes).items():
        if count > 1:
            raise FileFormatError(f"nodes must have names of their own, got {name!r} {count} times")
    for node in nodes:
        if node.op not in _KNOWN:
            raise FileFormatError(f"node {node.name!r} must be one of the operations that are known, got {node.op!r}")
        check_integer(f"version of {node}", node.opset, at_least=LOWEST_OPSET, at_most=HIGHEST_OPSET)
        if not node.outputs:
            raise FileFormatError(f"{node} must have outputs, got none")
        if node.op in PRODUCT_OPS:
            weights = constants.get(node.inputs[1]) if len(node.inputs) == 3 else None
            if weights is None or (node.op == "Linear" and weights.ndim != 2):
                raise FileFormatError(f"{node} must have inputs, constant weights and a bias, got {node.inputs}")
            if node.inputs[2] and node.inputs[2] not in constants:
                raise FileFormatError(f"{node} must have a constant bias, got {node.inputs[2]!r}")
