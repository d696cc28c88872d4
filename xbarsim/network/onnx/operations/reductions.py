"""Operations that make one number of many: pooling, sums, means, largest and smallest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xbarsim.network.onnx.operations.call import Array, Call, Operation
from xbarsim.network.onnx.operations.windows import Sliding

__all__ = ["REDUCTIONS"]


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _max_pool(call: Call) -> Array:
    if len([name for name in call.node.outputs if name]) > 1:
        raise call.refuse("the second output, the places of the largest, is not supported; one output wanted", 2)
    sliding = Sliding.of(call)
    places = sliding.places(sliding.padded(call[0], _lowest(call[0].dtype)))
    result = next(places).copy()
    for place in places:
        np.maximum(result, place, out=result)
    return result


def _average_pool(call: Call) -> Array:
    x, sliding = call[0], Sliding.of(call)
    result = np.zeros((*x.shape[:2], *sliding.outputs), x.dtype)
    for place in sliding.places(sliding.padded(x, 0)):
        result += place
    counted = np.ones(x.shape[2:], x.dtype)
    if call.attribute("count_include_pad", 0):  # padding counts, what lies beyond it does not
        counted = np.pad(counted, sliding.pads, constant_values=1)
        counted = np.pad(counted, [(0, more) for more in sliding.beyond])
    else:
        counted = sliding.padded(counted, 0)
    number = np.zeros(sliding.outputs, x.dtype)
    for place in sliding.places(counted):
        number += place
    return result / np.maximum(number, 1)


def _global(function: Callable[..., Any]) -> Callable[[Call], Array]:
    def run(call: Call) -> Array:
        return np.asarray(function(call[0], axis=tuple(range(2, call[0].ndim)), keepdims=True))

    return run


def _reduce(function: Callable[..., Any], since: int = 18) -> Callable[[Call], Array]:
    """A reduction whose axes are an input from a version of the operator set on."""

    def run(call: Call) -> Array:
        axes = call.axes(1, since=since)
        if not axes:
            if call.attribute("noop_with_empty_axes", 0):
                return call[0]
            axes = tuple(range(call[0].ndim))
        return np.asarray(function(call[0], axis=axes, keepdims=bool(call.attribute("keepdims", 1))))

    return run


def _sum(x: Array, **where: Any) -> Array:
    return np.asarray(np.sum(x, dtype=x.dtype, **where))


def _mean(x: Array, **where: Any) -> Array:
    if x.dtype.kind == "f":
        return np.asarray(np.mean(x, dtype=x.dtype, **where))
    return np.asarray(np.trunc(np.mean(x, **where))).astype(x.dtype)


def _product(x: Array, **where: Any) -> Array:
    return np.asarray(np.prod(x, dtype=x.dtype, **where))


def _arg(function: Callable[..., Any]) -> Callable[[Call], Array]:
    def run(call: Call) -> Array:
        x, axis = call[0], call.attribute("axis", 0)
        if call.attribute("select_last_index", 0):
            found = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis)
        else:
            found = function(x, axis=axis)
        found = np.asarray(found, dtype=np.int64)
        return np.expand_dims(found, axis) if call.attribute("keepdims", 1) else found

    return run


REDUCTIONS: dict[str, Operation] = {
    "ArgMax": Operation(_arg(np.argmax), "comparison"),
    "ArgMin": Operation(_arg(np.argmin), "comparison"),
    "AveragePool": Operation(_average_pool, "reduction"),
    "GlobalAveragePool": Operation(_global(_mean), "reduction"),
    "GlobalMaxPool": Operation(_global(np.max), "comparison"),
    "MaxPool": Operation(_max_pool, "comparison"),
    "ReduceL1": Operation(_reduce(lambda x, **where: _sum(np.abs(x), **where)), "reduction"),
    "ReduceL2": Operation(_reduce(lambda x, **where: np.sqrt(_sum(x * x, **where))), "reduction"),
    "ReduceMax": Operation(_reduce(np.max), "comparison"),
    "ReduceMean": Operation(_reduce(_mean), "reduction"),
    "ReduceMin": Operation(_reduce(np.min), "comparison"),
    "ReduceProd": Operation(_reduce(_product), "reduction"),
    "ReduceSum": Operation(_reduce(_sum, since=13), "reduction"),
    "ReduceSumSquare": Operation(_reduce(lambda x, **where: _sum(x * x, **where)), "reduction"),
}
