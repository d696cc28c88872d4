"""Softmax and normalisation."""

from __future__ import annotations

import numpy as np

from xbarsim.network.onnx.operations.call import Array, Call, Operation

__all__ = ["NORMALISATION"]


def _shifted(call: Call) -> tuple[Array, Array, tuple[int, ...]]:
    """Numbers less their largest, as rows of a matrix before version 13 of the operator set; and the axis."""
    x = call[0]
    if call.opset >= 13:
        axis = call.attribute("axis", -1)
        rows = x
    else:
        first = call.attribute("axis", 1)
        first = first + x.ndim if first < 0 else first
        rows, axis = x.reshape(int(np.prod(x.shape[:first], dtype=np.int64)), -1), 1
    largest = rows.max(axis=axis, keepdims=True)
    return rows - np.where(np.isfinite(largest), largest, 0), np.asarray(axis), x.shape


def _softmax(call: Call) -> Array:
    rows, axis, shape = _shifted(call)
    powers = np.exp(rows)
    return np.asarray(powers / powers.sum(axis=int(axis), keepdims=True)).reshape(shape)


def _log_softmax(call: Call) -> Array:
    rows, axis, shape = _shifted(call)
    return np.asarray(rows - np.log(np.exp(rows).sum(axis=int(axis), keepdims=True))).reshape(shape)


def _channels(array: Array, dimensions: int) -> Array:
    return array.reshape(1, -1, *(1,) * (dimensions - 2))


def _batch(call: Call) -> Array:
    if call.attribute("training_mode", 0):
        raise call.refuse("a network must be exported for inference, training_mode must be 0", 1)
    x = call[0]
    scale, shift, mean, variance = (_channels(call[index], x.ndim) for index in range(1, 5))
    factor = scale / np.sqrt(variance + x.dtype.type(call.attribute("epsilon", 1e-5)))
    return np.asarray((x - mean) * factor + shift)


def _standardised(call: Call, x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array]:
    mean = x.mean(axis=axes, keepdims=True, dtype=x.dtype)
    centred = x - mean
    variance = (centred * centred).mean(axis=axes, keepdims=True, dtype=x.dtype)
    inverse = x.dtype.type(1) / np.sqrt(variance + x.dtype.type(call.attribute("epsilon", 1e-5)))
    return centred * inverse, mean, inverse


def _layer(call: Call) -> tuple[Array, ...]:
    x, axis = call[0], call.attribute("axis", -1)
    axes = tuple(range(axis + x.ndim if axis < 0 else axis, x.ndim))
    standard, mean, inverse = _standardised(call, x, axes)
    result, shift = standard * call[1], call.optional(2)
    return result if shift is None else result + shift, mean, inverse


def _instance(call: Call) -> Array:
    x = call[0]
    standard, _, _ = _standardised(call, x, tuple(range(2, x.ndim)))
    return standard * _channels(call[1], x.ndim) + _channels(call[2], x.ndim)


def _group(call: Call) -> Array:
    x, groups = call[0], call.attribute("num_groups")
    parts = x.reshape(len(x), groups, -1)
    standard, _, _ = _standardised(call, parts, (2,))
    scale, shift = call[1], call[2]
    if call.opset < 21:  # one number for each group
        each = x.shape[1] // groups
        scale, shift = np.repeat(scale, each), np.repeat(shift, each)
    return standard.reshape(x.shape) * _channels(scale, x.ndim) + _channels(shift, x.ndim)


def _root_mean_square(call: Call) -> Array:
    x, axis = call[0], call.attribute("axis", -1)
    axes = tuple(range(axis + x.ndim if axis < 0 else axis, x.ndim))
    square = (x * x).mean(axis=axes, keepdims=True, dtype=x.dtype)
    return np.asarray(x / np.sqrt(square + x.dtype.type(call.attribute("epsilon", 1e-5))) * call[1])


def _unit(call: Call) -> Array:
    x, axis = call[0], call.attribute("axis", -1)
    order = call.attribute("p", 2)
    if order not in (1, 2):
        raise call.refuse("p must be 1 or 2", order)
    size = np.abs(x).sum(axis=axis, keepdims=True) if order == 1 else np.sqrt((x * x).sum(axis=axis, keepdims=True))
    return np.asarray(np.where(size == 0, x.dtype.type(0), x / np.where(size == 0, x.dtype.type(1), size)))


NORMALISATION: dict[str, Operation] = {
    "BatchNormalization": Operation(_batch, "normalisation"),
    "GroupNormalization": Operation(_group, "normalisation"),
    "InstanceNormalization": Operation(_instance, "normalisation"),
    "LayerNormalization": Operation(_layer, "normalisation"),
    "LogSoftmax": Operation(_log_softmax, "nonlinear"),
    "LpNormalization": Operation(_unit, "normalisation"),
    "RMSNormalization": Operation(_root_mean_square, "normalisation"),
    "Softmax": Operation(_softmax, "nonlinear"),
}
