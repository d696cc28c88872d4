"""Folding of constants: everything that depends on no input is computed once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from xbarsim.foundation.validation import InputError
from xbarsim.network.onnx.graph import Codes, Graph
from xbarsim.network.onnx.operations.call import Array, Call, Node
from xbarsim.network.onnx.operations.table import ALL_OPERATIONS, OPERATIONS

__all__ = ["apply", "fold_constants", "without_unused"]

# Nodes that give their first input as it is; their other outputs and inputs say nothing of an inference.
_SAME = ("Identity", "Dropout")


def apply(call: Call) -> tuple[Array, ...]:
    """The outputs of a node.

    Raises
    ------
    InputError
        If its inputs do not fit it, naming the node.
    """
    try:
        result = ALL_OPERATIONS[call.node.op].run(call)
    except InputError:
        raise
    except (ValueError, IndexError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
        shapes = [None if array is None else array.shape for array in call.inputs]
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{call.node} must have inputs that fit it, got shapes {shapes}: {reason}") from error
    results = result if isinstance(result, tuple) else (result,)
    return tuple(np.asarray(array) for array in results)


def fold_constants(graph: Graph) -> Graph:
    """The graph without the nodes that depend on no input, and without those that change nothing."""
    constants, codes = dict(graph.constants), dict(graph.codes)
    same: dict[str, str] = {}  # a value that is another one
    computed: dict[Any, tuple[str, ...]] = {}
    nodes = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(same.get(name, name) for name in node.inputs))
        if node.inputs and all(name in constants or not name for name in node.inputs):
            key = (node.op, node.inputs, repr(sorted(node.attributes.items())))
            if key in computed:  # one constant, so that what is shared stays so
                same.update(zip(node.outputs, computed[key], strict=False))
                for name, earlier in zip(node.outputs, computed[key], strict=False):
                    constants[name] = constants[earlier]
                continue
            computed[key] = node.outputs
            results = _evaluate(node, constants)
            constants.update({name: array for name, array in zip(node.outputs, results, strict=False) if name})
            held = _codes_of(node, constants, codes)
            if held is not None:
                codes[node.outputs[0]] = held
        elif _changes_nothing(node) and node.outputs[0] not in graph.outputs:
            same[node.outputs[0]] = node.inputs[0]
        else:
            nodes.append(node)
    return without_unused(replace(graph, nodes=tuple(nodes), constants=constants, codes=codes))


def without_unused(graph: Graph) -> Graph:
    """The graph without nodes and constants that no output depends on."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return replace(
        graph,
        nodes=tuple(reversed(kept)),
        constants={name: array for name, array in graph.constants.items() if name in wanted},
        codes={name: codes for name, codes in graph.codes.items() if name in wanted},
    )


def _changes_nothing(node: Node) -> bool:
    if node.op not in _SAME or any(node.outputs[1:]):
        return False
    return len(node.inputs) < 3 or not node.inputs[2]  # whether it is for training is then not asked


def _evaluate(node: Node, constants: dict[str, Array]) -> tuple[Array, ...]:
    inputs = tuple(constants[name] if name else None for name in node.inputs)
    if node.op in OPERATIONS:
        return apply(Call(node=node, inputs=inputs))
    return _by_reference(node, inputs)


def _by_reference(node: Node, inputs: tuple[Array | None, ...]) -> tuple[Array, ...]:
    """Rare operations, by ONNX's own evaluator."""
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    given = {name: array for name, array in zip(node.inputs, inputs, strict=True) if array is not None}
    attributes = {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
    }
    message = helper.make_node(node.op, node.inputs, node.outputs, **attributes)
    graph = helper.make_graph(
        [message],
        "constant",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in given.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in node.outputs if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)])
    try:
        results = ReferenceEvaluator(model).run(None, given)
    except Exception as error:  # the evaluator fails in any way it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{node} must be one that ONNX can compute, got {reason}") from error
    found = iter(results)
    return tuple(np.asarray(next(found)) if name else np.zeros(0) for name in node.outputs)


def _codes_of(node: Node, constants: dict[str, Array], codes: dict[str, Codes]) -> Codes | None:
    """The integers of a constant that a node makes of integers and scales."""
    if node.op == "DequantizeLinear":
        given = constants[node.inputs[0]]
        if given.dtype.itemsize > 2:
            return None
        axis = node.attributes.get("axis", 1)
        axis = axis + given.ndim if axis < 0 else axis
        numbers, scale = given.astype(np.int64), constants[node.inputs[1]].reshape(-1)
        if len(node.inputs) > 2 and node.inputs[2]:
            zero = constants[node.inputs[2]].astype(np.int64).reshape(-1)
            if zero.size > 1:
                shape = [1] * given.ndim
                shape[axis] = -1
                zero = zero.reshape(shape)
            numbers = numbers - zero
        return Codes(codes=numbers, scale=scale, axis=axis)
    held = codes.get(node.inputs[0]) if node.inputs else None
    if held is None:
        return None
    if node.op in _SAME:
        return held
    if node.op == "Transpose":
        order = tuple(node.attributes.get("perm", range(held.codes.ndim)[::-1]))
        return Codes(codes=held.codes.transpose(order), scale=held.scale, axis=order.index(held.axis))
    return None
