"""What exporters write in several nodes becomes one product with trained weights.

Behind this step there are three operations of our own: ``Linear`` (x, weights (inputs, outputs), bias), ``Convolution``
and ``TransposedConvolution`` (x, kernels as ONNX lays them out, bias), whose weights are constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from xbarsim.foundation.validation import InputError
from xbarsim.network.onnx.constants import without_unused
from xbarsim.network.onnx.graph import Codes, Graph
from xbarsim.network.onnx.operations.call import Array, Node
from xbarsim.network.onnx.operations.windows import same_pads

__all__ = ["PRODUCT_OPS", "fold_patterns"]

PRODUCT_OPS = ("Linear", "Convolution", "TransposedConvolution")
_CONVOLUTIONS = {"Conv": "Convolution", "ConvTranspose": "TransposedConvolution"}


def fold_patterns(graph: Graph) -> Graph:
    """The graph with every product of trained weights as one node, and what stands right behind it folded into it.

    Raises
    ------
    InputError
        If a convolution or recurrent layer has weights that are not constant.
    """
    work = _Folding(graph)
    for node in graph.nodes:
        work.add(node)
    return without_unused(
        replace(
            graph,
            nodes=tuple(work.nodes),
            constants=work.constants,
            codes=work.codes,
            notes=(*graph.notes, *work.summary()),
        )
    )


@dataclass
class _Folding:
    """A graph while its nodes are gone through in order."""

    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    folded: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.constants, self.codes = dict(self.graph.constants), dict(self.graph.codes)
        self.uses = self.graph.uses()
        self.maker: dict[str, int] = {}  # index in `nodes` of what makes a value
        self.follower = {name: node for node in self.graph.nodes for name in node.inputs}

    def summary(self) -> list[str]:
        """How much was folded, for the user."""
        names = {"BatchNormalization": "batch norms"}
        return [
            f"{count} {names.get(op, op + ' nodes')} folded into the layers before them"
            for op, count in sorted(self.folded.items())
            if count
        ]

    def add(self, node: Node) -> None:
        """Take one node over, as it is, rewritten, or folded into the one before it."""
        rewritten = _rewrite(self, node)
        if rewritten is None and self._into_the_layer_before(node):
            return
        for new in rewritten or [node]:
            for name in new.outputs:
                self.maker[name] = len(self.nodes)
            self.nodes.append(new)

    def constant(self, name: str, make: Callable[[], Array]) -> str:
        """A new constant, made once."""
        if name not in self.constants:
            self.constants[name] = make()
        return name

    def once(self, weights: str) -> bool:
        """Whether weights belong to one node alone."""
        return self.uses[weights.removesuffix(_TRANSPOSED)] == 1

    def _into_the_layer_before(self, node: Node) -> bool:
        if node.op not in ("BatchNormalization", "Mul", "Add", "Sub", "Div") or any(node.outputs[1:]):
            return False
        before, others = self._layer_before(node)
        if before is None:
            return False
        fold = _fold_norm if node.op == "BatchNormalization" else _fold_constant
        new = fold(self, self.nodes[before], node, others)
        if new is None:
            return False
        self.folded[node.op] += not (node.op == "Add" and not self.nodes[before].inputs[2])
        self.nodes[before] = new
        self.maker[new.outputs[0]] = before
        return True

    def _layer_before(self, node: Node) -> tuple[int | None, tuple[str, ...]]:
        """The product whose only use is this node, and the node's other inputs, which are constants."""
        candidates = node.inputs[:2] if node.op in ("Mul", "Add") else node.inputs[:1]
        for place, name in enumerate(candidates):
            index = self.maker.get(name)
            others = node.inputs[:place] + node.inputs[place + 1 :]
            if (
                index is not None
                and self.nodes[index].op in PRODUCT_OPS
                and self.uses[name] == 1
                and all(other in self.constants for other in others)
            ):
                return index, others
        return None, ()


_TRANSPOSED = " transposed"


def _rewrite(work: _Folding, node: Node) -> list[Node] | None:
    """The nodes of ours for one of ONNX's, or ``None`` where it stays."""
    if node.op in _CONVOLUTIONS:
        _check_constant(work, node, node.inputs[1:3])
        product = _product(node, _CONVOLUTIONS[node.op], node.inputs[0], node.inputs[1], _third(node))
        return _with_fixed_pads(work, product)
    if node.op == "Gemm":
        return _rewrite_gemm(work, node)
    if node.op == "MatMul":
        return _rewrite_matmul(work, node)
    if node.op in ("LSTM", "GRU", "RNN"):
        _check_constant(work, node, node.inputs[1:4])
    if node.op in ("ConvInteger", "MatMulInteger"):
        return _rewrite_integer(work, node)
    if node.op in ("QLinearConv", "QLinearMatMul"):
        return _rewrite_quantised(work, node)
    return None


def _with_fixed_pads(work: _Folding, product: Node) -> list[Node]:
    """A convolution whose padding does not depend on the size of its maps, if need be behind a node that pads them."""
    automatic = product.attributes.get("auto_pad", "NOTSET")
    attributes = {name: value for name, value in product.attributes.items() if name != "auto_pad"}
    axes = work.constants[product.inputs[1]].ndim - 2
    if product.op == "TransposedConvolution":
        if automatic not in ("NOTSET", "VALID") or "output_shape" in attributes:
            raise InputError(f"{product} must give its padding as pads, got auto_pad {automatic} or an output_shape")
        return [replace(product, attributes=attributes)]
    if automatic == "NOTSET":
        return [replace(product, attributes=attributes)]
    if automatic == "VALID":
        return [replace(product, attributes={**attributes, "pads": (0,) * 2 * axes})]
    if automatic not in ("SAME_UPPER", "SAME_LOWER"):
        raise InputError(f"{product} must have auto_pad NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {automatic}")
    window = {
        "auto_pad": automatic,
        "kernel_shape": work.constants[product.inputs[1]].shape[2:],
        "strides": attributes.get("strides", (1,) * axes),
        "dilations": attributes.get("dilations", (1,) * axes),
    }
    padded = f"{product.outputs[0]} padded"
    pad = replace(
        product,
        name=f"{product.name} padding",
        op="SamePadding",
        inputs=product.inputs[:1],
        outputs=(padded,),
        attributes=window,
    )
    inner = replace(product, inputs=(padded, *product.inputs[1:]), attributes={**attributes, "pads": (0,) * 2 * axes})
    if any(stride != 1 for stride in window["strides"]):
        return [pad, inner]
    pads = same_pads(pad, window["kernel_shape"], window["kernel_shape"], window["strides"], window["dilations"])
    both = (*(before for before, _ in pads), *(after for _, after in pads))
    return [replace(product, attributes={**attributes, "pads": both})]


def _third(node: Node) -> str:
    return node.inputs[2] if len(node.inputs) > 2 else ""


def _product(node: Node, op: str, x: str, weights: str, bias: str = "", **more: Any) -> Node:
    return replace(node, op=op, inputs=(x, weights, bias), attributes={**node.attributes, **more})


def _check_constant(work: _Folding, node: Node, names: tuple[str, ...]) -> None:
    for name in names:
        if name and name not in work.constants:
            raise InputError(f"{node} must have weights that depend on no input, got {name!r}")


def _transposed(work: _Folding, name: str) -> str:
    new = work.constant(name + _TRANSPOSED, lambda: np.ascontiguousarray(work.constants[name].T))
    if name in work.codes:
        codes = work.codes[name]
        work.codes[new] = Codes(codes=codes.codes.T, scale=codes.scale, axis=1 - codes.axis)
    return new


def _rewrite_gemm(work: _Folding, node: Node) -> list[Node] | None:
    x, weights, shift = node.inputs[0], node.inputs[1], _third(node)
    if weights not in work.constants or x in work.constants or node.attributes.get("transA", 0):
        return None
    kind = work.constants[weights].dtype.type
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    if node.attributes.get("transB", 0):
        weights = _transposed(work, weights)
    outputs = work.constants[weights].shape[1]
    if alpha != 1.0:
        source = weights
        weights = work.constant(f"{source} times {alpha}", lambda: work.constants[source] * kind(alpha))
        if source in work.codes:
            return None  # integers with other scales than the file's
    if not shift:
        return [replace(_product(node, "Linear", x, weights), attributes={})]
    if shift not in work.constants or (work.constants[shift].size not in (1, outputs)):
        return None
    if work.constants[shift].ndim == 2 and work.constants[shift].shape[0] != 1:
        return None
    bias = f"{shift} times {beta} for {outputs}"
    work.constant(bias, lambda: np.array(np.broadcast_to(work.constants[shift].reshape(-1) * kind(beta), (outputs,))))
    return [replace(_product(node, "Linear", x, weights, bias), attributes={})]


def _rewrite_matmul(work: _Folding, node: Node) -> list[Node] | None:
    left, right = node.inputs
    if right in work.constants and left not in work.constants:
        if work.constants[right].ndim == 2:
            return [_product(node, "Linear", left, right)]
        return None
    if left in work.constants and work.constants[left].ndim == 2 and work.graph.ranks.get(right, 0) >= 2:
        # W x is the transpose of x' W': two nodes that turn the activations, and the product between them
        rank = work.graph.ranks[right]
        order = (*range(rank - 2), rank - 1, rank - 2)
        turned, product = f"{node.outputs[0]} input transposed", f"{node.outputs[0]} transposed"
        turn = replace(
            node, name=f"{node.name}.in", op="Transpose", inputs=(right,), outputs=(turned,), attributes={"perm": order}
        )
        back = replace(turn, name=f"{node.name}.out", inputs=(product,), outputs=node.outputs)
        work.uses[product] = 1
        linear = replace(_product(node, "Linear", turned, _transposed(work, left)), outputs=(product,))
        return [turn, linear, back]
    return None


def _outputs(work: _Folding, node: Node) -> int:
    """How many outputs the weights of a product have."""
    shape = work.constants[node.inputs[1]].shape
    if node.op == "TransposedConvolution":
        return int(shape[1] * node.attributes.get("group", 1))
    return int(shape[1] if node.op == "Linear" else shape[0])


def _each_output(work: _Folding, layer: Node, constant: Array) -> Array | None:
    """A constant that stands behind a product as one number for each output, or ``None`` if it is something else."""
    outputs = _outputs(work, layer)
    rank = work.graph.ranks.get(layer.outputs[0], 1)
    axis = -1
    if layer.op != "Linear":
        rank, axis = work.constants[layer.inputs[1]].ndim, 1
    if constant.ndim > rank or constant.dtype.kind != "f":
        return None
    shape = (1,) * (rank - constant.ndim) + constant.shape
    others = [size for place, size in enumerate(shape) if place != axis % rank]
    if any(size != 1 for size in others) or shape[axis] not in (1, outputs):
        return None
    return np.array(np.broadcast_to(constant.reshape(-1), (outputs,)))


def _scaled(work: _Folding, layer: Node, factor: Array) -> Array:
    """Weights of a product times one number for each output."""
    weights = work.constants[layer.inputs[1]]
    if layer.op == "Linear":
        return np.asarray(weights * factor)
    if layer.op == "Convolution":
        return np.asarray(weights * factor.reshape(-1, *(1,) * (weights.ndim - 1)))
    groups = layer.attributes.get("group", 1)
    parts = weights.reshape(groups, -1, *weights.shape[1:])
    return np.asarray(parts * factor.reshape(groups, 1, -1, *(1,) * (weights.ndim - 2))).reshape(weights.shape)


def _replaced(work: _Folding, layer: Node, node: Node, weights: Array | None, bias: Array) -> Node:
    name = node.outputs[0]
    new_bias = work.constant(f"{name} bias", lambda: bias)
    new_weights = layer.inputs[1]
    if weights is not None:
        new_weights = work.constant(f"{name} weights", lambda: weights)
        work.uses[new_weights] = 1
    return replace(layer, inputs=(layer.inputs[0], new_weights, new_bias), outputs=(name,))


def _fold_norm(work: _Folding, layer: Node, node: Node, others: tuple[str, ...]) -> Node | None:
    """A batch norm folded by the formulas of ``torch.nn.utils.fusion``, in their order and in float32."""
    weights, bias = layer.inputs[1], layer.inputs[2]
    if not work.once(weights) or weights in work.codes or node.attributes.get("training_mode", 0):
        return None
    if layer.op == "Linear" and work.graph.ranks.get(layer.outputs[0]) != 2:
        return None  # the norm's channels are not the outputs
    gain, shift, mean, variance = (work.constants[name] for name in others)
    kind = gain.dtype.type
    before = work.constants[bias] if bias else np.zeros_like(mean)
    inverse = kind(1) / np.sqrt(variance + kind(node.attributes.get("epsilon", 1e-5)))
    factor = gain * inverse
    centred = (before - mean) * factor if layer.op == "Linear" else (before - mean) * inverse * gain
    after = centred + shift
    return _replaced(work, layer, node, _scaled(work, layer, factor), after)


def _fold_constant(work: _Folding, layer: Node, node: Node, others: tuple[str, ...]) -> Node | None:
    """An addition or multiplication by a constant folded into bias or weights."""
    weights, bias = layer.inputs[1], layer.inputs[2]
    number = _each_output(work, layer, work.constants[others[0]])
    if number is None:
        return None
    if node.op == "Add" and not bias and number.shape == work.constants[others[0]].shape:
        if not work.once(weights) and not _same_bias(work, weights, others[0]):
            return None
        return replace(layer, inputs=(layer.inputs[0], weights, others[0]), outputs=node.outputs)
    if not work.once(weights):
        return None
    before = work.constants[bias] if bias else np.zeros_like(number)
    if node.op in ("Add", "Sub"):
        return _replaced(work, layer, node, None, before + number if node.op == "Add" else before - number)
    if weights in work.codes or (node.op == "Div" and not number.all()):
        return None
    if node.op == "Div":
        return _replaced(work, layer, node, _scaled(work, layer, 1 / number), before / number)
    return _replaced(work, layer, node, _scaled(work, layer, number), before * number)


def _same_bias(work: _Folding, weights: str, bias: str) -> bool:
    """Whether every use of these weights is followed by the addition of this bias, as where a layer is used twice."""
    for node in work.graph.nodes:
        if weights in node.inputs:
            follower = work.follower.get(node.outputs[0])
            if follower is None or follower.op != "Add" or bias not in follower.inputs:
                return False
    return True


# --- integers


def _integer_weights(work: _Folding, node: Node, name: str, zero: str, scale: Array, axis: int) -> str:
    """A constant of integers as weights, with their codes kept."""
    _check_constant(work, node, (name, zero))
    given = work.constants[name].astype(np.int64)
    if zero:
        point = work.constants[zero].astype(np.int64).reshape(-1)
        shape = [1] * given.ndim
        shape[axis] = -1
        given = given - (point if point.size == 1 else point.reshape(shape))
    new = f"{name} of {node.name}"
    shape = [1] * given.ndim
    shape[axis] = -1
    factor = scale if scale.size == 1 else scale.reshape(shape)
    work.constant(new, lambda: (given * factor.astype(np.float32)).astype(np.float32))
    work.codes[new] = Codes(codes=given, scale=scale.reshape(-1), axis=axis)
    work.uses[new] = 1
    return new


def _axis_of(node: Node) -> int:
    return 0 if "Conv" in node.op else 1


def _real(node: Node, x: str, scale: str, zero: str) -> Node:
    """The numbers that integer activations stand for."""
    name = f"{node.name} input"
    return replace(
        node,
        name=name,
        op="DequantizeLinear",
        inputs=(x, scale, zero) if zero else (x, scale),
        outputs=(name,),
        attributes={},
    )


def _rewrite_integer(work: _Folding, node: Node) -> list[Node] | None:
    x, weights, zero, weight_zero = (*node.inputs, "", "")[:4]
    if "MatMul" in node.op and work.constants.get(weights, np.zeros(0)).ndim != 2:
        raise InputError(f"{node} must have a constant matrix on its right, got {weights!r}")
    one = work.constant(f"{node.name} scale", lambda: np.ones((), np.float32))
    held = _integer_weights(work, node, weights, weight_zero, np.ones(1, np.float32), _axis_of(node))
    axes = (0,) if "MatMul" in node.op else tuple(range(1, work.codes[held].codes.ndim))
    largest = int(np.abs(work.codes[held].codes).sum(axis=axes).max()) * 255
    if largest >= 2**24:
        raise InputError(f"{node} must give integers below 2^24, which float32 holds exactly, got up to {largest}")
    real = _real(node, x, one, zero)
    result = f"{node.name} sums"
    product = _product(node, "Linear" if "MatMul" in node.op else "Convolution", real.outputs[0], held)
    layers = [replace(product, outputs=(result,))]
    if "Conv" in node.op:
        layers = _with_fixed_pads(work, layers[0])
    cast = replace(
        node, name=f"{node.name} cast", op="Cast", inputs=(result,), outputs=node.outputs, attributes={"to": 6}
    )
    return [real, *layers, cast]


def _rewrite_quantised(work: _Folding, node: Node) -> list[Node] | None:
    x, x_scale, x_zero, weights, weight_scale, weight_zero, y_scale, y_zero = node.inputs[:8]
    names = (x_scale, x_zero, weight_scale, weight_zero, y_scale, y_zero)
    _check_constant(work, node, names)
    if "MatMul" in node.op and work.constants.get(weights, np.zeros(0)).ndim != 2:
        raise InputError(f"{node} must have a constant matrix on its right, got {weights!r}")
    scale = work.constants[weight_scale]
    held = _integer_weights(work, node, weights, weight_zero, scale, _axis_of(node))
    bias = ""
    if len(node.inputs) > 8 and node.inputs[8]:
        _check_constant(work, node, node.inputs[8:9])
        unit = work.constants[x_scale].astype(np.float64) * scale.astype(np.float64)
        sums = work.constants[node.inputs[8]]
        bias = work.constant(f"{node.name} bias", lambda: (sums * unit.reshape(-1)).astype(np.float32))
    real = _real(node, x, x_scale, x_zero)
    result = f"{node.name} real"
    product = _product(node, "Linear" if "MatMul" in node.op else "Convolution", real.outputs[0], held, bias)
    layers = [replace(product, outputs=(result,))]
    if "Conv" in node.op:
        layers = _with_fixed_pads(work, layers[0])
    back = replace(
        node,
        name=f"{node.name} output",
        op="QuantizeLinear",
        inputs=(result, y_scale, y_zero),
        outputs=node.outputs,
        attributes={},
    )
    return [real, *layers, back]
