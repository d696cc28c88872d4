"""The products of a graph in the terms of the crossbars: weights as a matrix, geometry as an adapter and a window."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from xbarsim.engine import Window
from xbarsim.foundation.validation import InputError
from xbarsim.network.layers import Conv1dAdapter, Conv2dAdapter, Conv3dAdapter, LayerAdapter, LinearAdapter
from xbarsim.network.layers.transposed import TransposedAdapter
from xbarsim.network.lowered import GivenCodes, Product
from xbarsim.network.onnx.floats import Geometry
from xbarsim.network.onnx.graph import Codes, Graph
from xbarsim.network.onnx.interpreter import Interpreter
from xbarsim.network.onnx.operations.call import Array, Node

__all__ = ["products_of"]

_GATES = {"LSTM": ("input", "forget", "cell", "output"), "GRU": ("reset", "update", "new"), "RNN": ("hidden",)}
# Operations that move numbers and change none, or add zeros: behind them a scale is what it was.
_MOVING = ("Flatten", "Reshape", "SamePadding", "Squeeze", "Transpose", "Unsqueeze")


def products_of(interpreter: Interpreter, input_bits: int) -> tuple[dict[str, Product], tuple[str, ...]]:
    """All products of a graph by name, in the order in which they run, and notes for the user.

    Parameters
    ----------
    interpreter
        The graph.
    input_bits
        Bits of input codes; scales that a file gives for them are kept where they suffice.

    Raises
    ------
    InputError
        If weights are not finite.
    """
    products, notes = {}, []
    for name, node in interpreter.product_names():
        codes = [each for each in node.inputs[1:3] if each in interpreter.graph.codes]
        if node.name in interpreter.recurrent:
            products[name] = _of_recurrent(interpreter, name, node)
            if codes and ".ih" in name:
                notes.append(f"integer weights of {node.name!r}: quantised anew, as those of all recurrent layers")
        else:
            products[name] = _of_node(interpreter.graph, node)
            scales = [
                _input_scale(interpreter.graph, other)
                for other in interpreter.graph.nodes
                if interpreter.product_of.get(other.name) == name
            ]
            if codes and products[name].given is None:
                notes.append(f"integer weights of {name!r}: quantised anew, their scales are not one an output")
            products[name], note = _with_input_scale(name, products[name], scales, input_bits)
            notes += note
            count = len(scales)
            if count > 1:
                notes.append(f"{count} nodes share the weights of {name!r}: one layer that is used {count} times")
        if not np.isfinite(products[name].weights).all() or not np.isfinite(products[name].bias).all():
            raise InputError(f"weights of node {node.name!r} must be finite, got NaN or infinity")
    return products, tuple(notes)


def _of_recurrent(interpreter: Interpreter, name: str, node: Node) -> Product:
    weights, bias = interpreter.matrices[name]
    layer = interpreter.recurrent[node.name]
    names = _GATES[node.op]
    blocks = weights.shape[1] // layer.hidden
    if blocks < len(names):  # a GRU whose reset gate stands before the product
        names = names[:2] if blocks == 2 else names[2:]
    rectified = "Relu" in node.attributes.get("activations", ())
    limit = None if ".ih" in name.removeprefix(node.name) or rectified else 1.0  # no state leaves -1 to 1
    return replace(_linear(weights, bias, output_names=names), input_limit=limit)


def _linear(weights: Array, bias: Array, output_names: tuple[str, ...] = ()) -> Product:
    inputs = weights.shape[0]
    return Product(
        weights=np.ascontiguousarray(weights, dtype=np.float32),
        bias=np.ascontiguousarray(bias, dtype=np.float32),
        adapter=LinearAdapter(features=inputs),
        window=Window(kernel=(1, inputs)),
        output_names=output_names,
    )


def _matrix(kernels: Array, groups: int) -> Array:
    """Kernels ``(outputs, channels of a group, ...)`` as a matrix ``(inputs, outputs)``, groups on the diagonal."""
    outputs = kernels.shape[0]
    blocks = kernels.reshape(groups, outputs // groups, -1)
    matrix = np.zeros((groups, blocks.shape[2], groups, blocks.shape[1]), kernels.dtype)
    for group, block in enumerate(blocks):
        matrix[group, :, group] = block.T
    return matrix.reshape(groups * blocks.shape[2], outputs)


@dataclass(frozen=True)
class _Pairs:
    """A geometry along height and width; sequences are rows."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    more: tuple[int, int]

    @classmethod
    def of(cls, geometry: Geometry) -> _Pairs:
        flat = len(geometry.kernel) == 1

        def pair(values: tuple[int, ...], row: int) -> tuple[int, int]:
            return (row, values[0]) if flat else (values[-2], values[-1])

        return cls(
            kernel=pair(geometry.kernel, 1),
            stride=pair(geometry.strides, 1),
            dilation=pair(geometry.dilations, 1),
            rows=(0, 0) if flat else geometry.pads[-2],
            columns=geometry.pads[-1],
            more=pair(geometry.more, 0),
        )


def _of_node(graph: Graph, node: Node) -> Product:
    weights, codes = graph.constants[node.inputs[1]], graph.codes.get(node.inputs[1])
    if node.op == "Linear":
        outputs, axis = weights.shape[1], 1
    elif node.op == "Convolution":
        outputs, axis = weights.shape[0], 0
    else:
        outputs, axis = weights.shape[1] * int(node.attributes.get("group", 1)), 1
    bias = graph.constants[node.inputs[2]] if node.inputs[2] else np.zeros(outputs, np.float32)
    if bias.shape != (outputs,):
        raise InputError(f"{node} must have one bias an output ({outputs}), got shape {bias.shape}")
    product = _with_weights(node, weights.astype(np.float32), bias.astype(np.float32))
    kept = None if codes is None else _given_codes(node, codes, axis, outputs)
    return product if kept is None else replace(product, given=kept)


def _with_weights(node: Node, weights: Array, bias: Array) -> Product:
    if node.op == "Linear":
        return _linear(weights, bias)
    geometry = Geometry.of(node, weights)
    if node.op == "TransposedConvolution":
        return _transposed(node, weights, bias, geometry)
    pairs, channels = _Pairs.of(geometry), weights.shape[1] * geometry.groups
    adapter: LayerAdapter
    if len(geometry.kernel) == 3:
        adapter = Conv3dAdapter(
            channels=channels,
            kernel=geometry.kernel[0],
            stride=geometry.strides[0],
            dilation=geometry.dilations[0],
            padding=geometry.pads[0],
        )
    else:
        adapter = Conv2dAdapter(channels=channels) if len(geometry.kernel) == 2 else Conv1dAdapter(channels=channels)
    return Product(
        weights=_matrix(weights, geometry.groups),
        bias=bias,
        adapter=adapter,
        window=Window(
            kernel=pairs.kernel, stride=pairs.stride, dilation=pairs.dilation, padding=(*pairs.columns, *pairs.rows)
        ),
        groups=geometry.groups,
    )


def _turned(weights: Array, groups: int) -> Array:
    """The kernels of the ordinary convolution that a transposed one is: turned round, inputs and outputs exchanged."""
    kernels = weights[:, :, None, :] if weights.ndim == 3 else weights
    channels, outputs = kernels.shape[:2]
    blocks = kernels.reshape(groups, channels // groups, outputs, *kernels.shape[2:])
    turned = blocks[..., ::-1, ::-1].swapaxes(1, 2)
    return np.ascontiguousarray(turned).reshape(groups * outputs, channels // groups, *kernels.shape[2:])


def _transposed(node: Node, weights: Array, bias: Array, geometry: Geometry) -> Product:
    if len(geometry.kernel) == 3:
        raise InputError(f"{node} must have 1 or 2 dimensions, got 3")
    pairs = _Pairs.of(geometry)
    rows, columns = (pairs.dilation[axis] * (pairs.kernel[axis] - 1) for axis in (0, 1))
    return Product(
        weights=_matrix(_turned(weights, geometry.groups), geometry.groups),
        bias=bias,
        adapter=TransposedAdapter(
            channels=weights.shape[0],
            stride=pairs.stride,
            edges=(
                columns - pairs.columns[0],
                columns - pairs.columns[1] + pairs.more[1],
                rows - pairs.rows[0],
                rows - pairs.rows[1] + pairs.more[0],
            ),
            dimensions=len(geometry.kernel),
        ),
        window=Window(kernel=pairs.kernel, dilation=pairs.dilation),
        groups=geometry.groups,
    )


def _given_codes(node: Node, codes: Codes, axis: int, outputs: int) -> GivenCodes | None:
    """The file's own integers as a matrix; ``None`` if their scales do not go along the outputs."""
    scale = codes.scale.astype(np.float64)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise InputError(f"{node} must have scales of weights that are finite and above 0, got {scale.min()}")
    if scale.size > 1 and (codes.axis != axis or scale.size != outputs):
        return None
    numbers, groups = codes.codes, int(node.attributes.get("group", 1))
    if node.op == "Convolution":
        numbers = _matrix(numbers, groups)
    elif node.op == "TransposedConvolution":
        numbers = _matrix(_turned(numbers, groups), groups)
    return GivenCodes(
        codes=np.ascontiguousarray(numbers, dtype=np.int32), scale=np.array(np.broadcast_to(scale, (outputs,)))
    )


@dataclass(frozen=True)
class _InputScale:
    """Scale of the codes that a file gives a product's inputs, and their range with the zero point taken off."""

    scale: float
    low: int
    high: int

    @property
    def bits(self) -> int:
        """Bits that these codes take: a sign where the range is not that of plain unsigned codes."""
        if self.low == 0:
            return max(math.ceil(math.log2(self.high + 1)), 1)
        return math.ceil(math.log2(max(-self.low, self.high + 1))) + 1  # the lowest code of all may be clipped


def _input_scale(graph: Graph, node: Node) -> _InputScale | None:
    maker = {name: other for other in graph.nodes for name in other.outputs}
    source = maker.get(node.inputs[0])
    while source is not None and source.op in _MOVING:
        source = maker.get(source.inputs[0])
    if source is None or source.op != "DequantizeLinear":
        return None
    scale, zero = graph.constants.get(source.inputs[1]), (*source.inputs, "", "")[2]
    if scale is None or scale.size != 1 or (zero and zero not in graph.constants):
        return None
    point = graph.constants[zero].reshape(-1) if zero else np.zeros(1, np.uint8)
    if point.size != 1 or point.dtype.itemsize > 2:
        return None
    bounds = np.iinfo(point.dtype)
    number = int(point[0])
    return _InputScale(float(scale.reshape(())), int(bounds.min) - number, int(bounds.max) - number)


def _with_input_scale(
    name: str, product: Product, scales: list[_InputScale | None], input_bits: int
) -> tuple[Product, list[str]]:
    """The product with the file's scale of its inputs, where all its uses have one and the design's bits suffice."""
    first = scales[0]
    if first is None or any(scale != first for scale in scales):
        return product, []
    if first.bits > input_bits:
        return product, [
            f"inputs of {name!r}: the file's codes, {first.low} to {first.high}, take {first.bits} input_bits; "
            f"with {input_bits} the range of the calibration is used"
        ]
    return replace(product, input_scale=first.scale), []
