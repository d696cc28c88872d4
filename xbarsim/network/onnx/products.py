"""The products of a graph in the terms of the crossbars: weights as a matrix, geometry as an adapter and a window."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from xbarsim.foundation.validation import InputError
from xbarsim.network.geometry import Convolution, TransposedConvolution, linear_product
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
    return replace(_linear(weights, bias), output_names=names, input_limit=limit)


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
    return _geometry(node, weights).product(weights, bias)


def _linear(weights: Array, bias: Array) -> Product:
    return linear_product(np.ascontiguousarray(weights, dtype=np.float32), np.ascontiguousarray(bias, dtype=np.float32))


def _geometry(node: Node, kernels: Array) -> Convolution | TransposedConvolution:
    """The geometry of a convolution as both doors have it."""
    given = Geometry.of(node, kernels)
    if node.op == "Convolution":
        return Convolution(stride=given.strides, padding=given.pads, dilation=given.dilations, groups=given.groups)
    if len(given.kernel) == 3:
        raise InputError(f"{node} must have 1 or 2 dimensions, got 3")
    return TransposedConvolution(
        stride=given.strides,
        padding=given.pads,
        output_padding=given.more,
        dilation=given.dilations,
        groups=given.groups,
    )


def _given_codes(node: Node, codes: Codes, axis: int, outputs: int) -> GivenCodes | None:
    """The file's own integers as a matrix; ``None`` if their scales do not go along the outputs."""
    scale = codes.scale.astype(np.float64)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise InputError(f"{node} must have scales of weights that are finite and above 0, got {scale.min()}")
    if scale.size > 1 and (codes.axis != axis or scale.size != outputs):
        return None
    numbers = codes.codes if node.op == "Linear" else _geometry(node, codes.codes).matrix(codes.codes)
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
