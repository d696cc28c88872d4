"""What a graph computes digitally, counted node by node as it runs.

Counts are those of the textbook definition of each operation, as for torch models
(:mod:`xbarsim.network.lowering.counting`): a softmax over n values is n exponentials, n additions and n divisions.
Moving data counts nothing, nor does what is computed of integers, such as indices, or of shapes.
"""

from __future__ import annotations

import math

from xbarsim.network.onnx.graph import Graph
from xbarsim.network.onnx.operations.call import Array, Call
from xbarsim.network.onnx.operations.table import ALL_OPERATIONS
from xbarsim.network.onnx.recurrent import RECURRENT

__all__ = ["count", "of_shapes"]

# Of one step of a recurrent layer, for each number of its state: additions and multiplications, and nonlinear values.
# LSTM: four sums of two products, f c + i g and o tanh(c). GRU: two sums, x + r h, and n + z (h - n).
_GATES = {"LSTM": (8, 5), "GRU": (7, 3), "RNN": (1, 1)}
_STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}  # hidden, and that of a cell; each is read and written once a step
# Comparisons and elementwise operations on each value, where they are more than one of the operation's kind.
_SEVERAL = {
    "Clip": (2, 0),
    "HardSigmoid": (2, 2),
    "HardSwish": (2, 3),
    "LeakyRelu": (1, 1),
    "PRelu": (1, 1),
    "QuantizeLinear": (2, 3),
    "Reciprocal": (0, 1),
}
_WHOLE = ("ReduceMean", "GlobalAveragePool")  # additions and a division
_SQUARED = ("ReduceL2", "ReduceSumSquare")


def of_shapes(graph: Graph) -> set[str]:
    """Names of the nodes that compute with shapes alone, which are the same for all samples."""
    values: set[str] = set()
    names = set()
    for node in graph.nodes:
        given = [name for name in node.inputs if name and name not in graph.constants]
        if node.op in ("Shape", "Size") or (given and values.issuperset(given)):
            values.update(node.outputs)
            names.add(node.name)
    return names


def count(call: Call, outputs: tuple[Array, ...]) -> dict[str, int]:
    """Digital operations of one node by kind, as :class:`xbarsim.cost.DigitalUse` names them.

    Parameters
    ----------
    call
        The node and its inputs.
    outputs
        What it gave.
    """
    node = call.node
    floats = [array for array in call.inputs if array is not None and array.dtype.kind == "f"]
    if not floats or not outputs:
        return {}
    size, given, op = outputs[0].size, floats[0].size, node.op
    if op in RECURRENT:
        elementwise, nonlinear = _GATES[op]
        rectified = "Relu" in node.attributes.get("activations", ())
        return {
            "elementwise": elementwise * size,
            "comparisons" if rectified else "nonlinear": nonlinear * size,
            "state_accesses": 2 * _STATES[op] * size,
        }
    work = ALL_OPERATIONS[op].work
    if op == "Gather":
        return {"lookups": size} if call[0].dtype.kind == "f" and call[1].ndim else {}
    if work == "product":
        return _product(call, size)
    if op == "Softmax":
        return {"nonlinear": size, "elementwise": 2 * size}
    if op == "LogSoftmax":
        rows = size // max(1, call[0].shape[call.attribute("axis", -1 if call.opset >= 13 else 1)])
        return {"nonlinear": size + rows, "elementwise": 2 * size}
    if op in _SEVERAL:
        comparisons, elementwise = _SEVERAL[op]
        return {"comparisons": comparisons * size, "elementwise": elementwise * size}
    if op == "Pow" and call[1].size == 1 and float(call[1].reshape(())) in (1.0, 2.0):
        return {"elementwise": size}
    if work == "normalisation":
        return _normalisation(call, size)
    if work == "none":
        return {}
    return _plain(call, work, size, given, len(floats))


def _plain(call: Call, work: str, size: int, given: int, inputs: int) -> dict[str, int]:
    """Operations that are counted alike: one for each value, pooling, and reductions."""
    op = call.node.op
    if op in ("MaxPool", "AveragePool"):
        window = math.prod(call.attribute("kernel_shape"))
        return {"comparisons": size * (window - 1)} if op == "MaxPool" else {"elementwise": size * window}
    if work == "reduction":
        total = given if op in _WHOLE else given - size
        return {
            "elementwise": total + (given if op in _SQUARED else 0),
            "nonlinear": size if op == "ReduceL2" else 0,
        }
    if op == "TopK":
        length = max(2, call[0].shape[call.attribute("axis", -1)])
        return {"comparisons": given * math.ceil(math.log2(length))}
    if work == "comparison" and (op.startswith(("Reduce", "Arg", "Global"))):
        return {"comparisons": given - size}
    several = max(inputs - 1, 1) if op in ("Sum", "Mean", "Max", "Min") else 1
    return {{"comparison": "comparisons"}.get(work, work): several * size}


def _product(call: Call, size: int) -> dict[str, int]:
    if call.node.op == "MatMul":
        return {"multiply_accumulates": size * call[0].shape[-1]}
    if call.node.op == "Gemm":
        inner = call[0].shape[0 if call.attribute("transA", 0) else 1]
        return {"multiply_accumulates": size * inner, "elementwise": 0 if call.optional(2) is None else size}
    inputs, arrow, output = str(call.attribute("equation")).replace(" ", "").replace("...", "").partition("->")
    lengths: dict[str, int] = {}
    for term, array in zip(inputs.split(","), call.inputs, strict=True):
        if array is not None and term:
            lengths.update(zip(term, array.shape[array.ndim - len(term) :], strict=True))
    if not arrow:  # labels that stand once are those of the output
        output = "".join(label for label in lengths if inputs.count(label) == 1)
    return {"multiply_accumulates": size * math.prod(n for label, n in lengths.items() if label not in output)}


def _normalisation(call: Call, size: int) -> dict[str, int]:
    """Mean and difference, squares and their mean, and the factor; gain and shift; a square root for each group."""
    op = call.node.op
    if op == "BatchNormalization":
        return {"elementwise": 2 * size}
    if op == "LpNormalization":
        groups = size // call[0].shape[call.attribute("axis", -1)]
        return {"elementwise": 3 * size, "nonlinear": groups}
    affine = sum(array is not None for array in call.inputs[1:])
    each = 3 if op == "RMSNormalization" else 5
    return {"elementwise": (each + affine) * size, "nonlinear": _groups(call)}


def _groups(call: Call) -> int:
    """How many groups of numbers a node normalises."""
    shape, op = call[0].shape, call.node.op
    if op == "GroupNormalization":
        return int(shape[0] * call.attribute("num_groups"))
    if op == "InstanceNormalization":
        return int(shape[0] * shape[1])
    axis = call.attribute("axis", -1)
    return math.prod(shape[: axis if axis >= 0 else axis + len(shape)])
