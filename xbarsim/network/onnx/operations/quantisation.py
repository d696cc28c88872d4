"""From numbers to the integers of a quantised file, and back."""

from __future__ import annotations

import numpy as np

from xbarsim.network.onnx.operations.call import Array, Call, Operation
from xbarsim.network.onnx.types import NUMPY_TYPES, type_name

__all__ = ["QUANTISATION", "along_axis"]


def along_axis(call: Call, scale: Array, dimensions: int) -> Array:
    """A scale or zero point shaped so that it goes with its axis."""
    if call.attribute("block_size", 0):
        raise call.refuse("block_size must be 0", call.attribute("block_size"))
    if scale.size == 1:
        return scale.reshape(())
    if scale.ndim != 1:
        raise call.refuse("scales must be one number or one for each place of an axis", scale.shape)
    shape = [1] * dimensions
    shape[call.attribute("axis", 1)] = -1
    return scale.reshape(shape)


def _quantise(call: Call) -> Array:
    x, zero = call[0], call.optional(2)
    number = call.attribute("output_dtype", 0)
    if number and number not in NUMPY_TYPES:
        raise call.refuse("output_dtype must be an ordinary integer type", type_name(number))
    kind = zero.dtype if zero is not None else NUMPY_TYPES[number or 2]
    if kind.kind not in "iu" or kind.itemsize > 2:
        raise call.refuse("codes must be integers of 8 or 16 bits", str(kind))
    bounds = np.iinfo(kind)
    codes = np.rint(x / along_axis(call, call[1], x.ndim)).astype(np.float64)
    if zero is not None:
        codes = codes + along_axis(call, zero, x.ndim).astype(np.float64)
    return np.clip(codes, bounds.min, bounds.max).astype(kind)


def _dequantise(call: Call) -> Array:
    codes, scale, zero = call[0], call[1], call.optional(2)
    numbers = codes.astype(np.int64)
    if zero is not None:
        numbers = numbers - along_axis(call, zero, codes.ndim).astype(np.int64)
    return np.asarray(numbers.astype(scale.dtype) * along_axis(call, scale, codes.ndim))


QUANTISATION: dict[str, Operation] = {
    "DequantizeLinear": Operation(_dequantise, "elementwise"),
    "QuantizeLinear": Operation(_quantise, "elementwise"),
}
