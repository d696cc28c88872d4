"""What a graph computes digitally, counted node by node as it runs."""

from __future__ import annotations

import math

from xbarsim.network.onnx.operations.call import Array, Call
from xbarsim.network.onnx.operations.table import ALL_OPERATIONS
from xbarsim.network.onnx.recurrent import RECURRENT

__all__ = ["count"]

# Of one step of a recurrent layer, for each number of its state: additions and multiplications, and nonlinear values.
# LSTM: four sums of two products; f c + i g and o tanh(c); five functions. GRU: sums of two gates, x + r h, and
# n + z (h - n); three functions.
_GATES = {"LSTM": (8, 5), "GRU": (7, 3), "RNN": (1, 1)}
# Operations on each number that is normalised: mean, difference, square, its mean, times the inverse; gain and shift.
_NORMALISED = {"BatchNormalization": 2, "LpNormalization": 3, "RMSNormalization": 4}
_OTHER_NORMALISED = 7


def count(call: Call, outputs: tuple[Array, ...]) -> dict[str, int]:
    """Digital operations of one node by kind, as :class:`xbarsim.cost.DigitalUse` names them.

    Operations that only move numbers take none, and those on integers, such as shapes and indices, are not counted.

    Parameters
    ----------
    call
        The node and its inputs.
    outputs
        What it gave.
    """
    node, floats = call.node, [array for array in call.inputs if array is not None and array.dtype.kind == "f"]
    if not floats or not outputs or (node.op not in RECURRENT and node.op not in ALL_OPERATIONS):
        return {}
    size, given = outputs[0].size, floats[0].size
    if node.op in RECURRENT:
        elementwise, nonlinear = _GATES[node.op]
        return {"elementwise": elementwise * size, "nonlinear": nonlinear * size}
    if node.op == "Gather":
        return {"lookups": size}
    if node.op in ("MatMul", "Gemm", "Einsum"):
        return _product(call, size)
    if node.op in ("Softmax", "LogSoftmax"):  # less the largest, exponential, sum, and division or logarithm
        return {"comparisons": size, "elementwise": 3 * size, "nonlinear": size}
    work = ALL_OPERATIONS[node.op].work
    if work == "normalisation":
        each = _NORMALISED.get(node.op, _OTHER_NORMALISED)
        return {"elementwise": each * size, "nonlinear": _groups(call)}
    if node.op in ("MaxPool", "AveragePool"):
        covered = size * math.prod(call.attribute("kernel_shape"))
        return {"comparisons" if node.op == "MaxPool" else "elementwise": covered}
    if work == "reduction":
        return {"elementwise": given}
    if work == "comparison" and size < given:
        return {"comparisons": given}
    if work == "none":
        return {}
    inputs = max(len(floats) - 1, 1) if node.op in ("Sum", "Mean", "Max", "Min") else 1
    return {{"comparison": "comparisons"}.get(work, work): inputs * size}


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


def _groups(call: Call) -> int:
    """How many groups of numbers a node normalises: one square root each."""
    shape, op = call[0].shape, call.node.op
    if op in ("LayerNormalization", "RMSNormalization"):
        axis = call.attribute("axis", -1)
        return math.prod(shape[: axis if axis >= 0 else axis + len(shape)])
    if op == "GroupNormalization":
        return int(shape[0] * call.attribute("num_groups"))
    if op == "InstanceNormalization":
        return int(shape[0] * shape[1])
    return int(call[0].size // shape[call.attribute("axis", -1)]) if op == "LpNormalization" else 0
