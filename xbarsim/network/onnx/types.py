"""Types of numbers that an ONNX file may hold, and which of them a network may use."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["NUMPY_TYPES", "type_name"]

# The numbers are those of TensorProto.DataType (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
NUMPY_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
}

_OTHER_NAMES = {8: "string", 10: "float16", 14: "complex64", 15: "complex128", 16: "bfloat16"}


def type_name(number: int) -> str:
    """The name of a type of numbers, for messages."""
    if number in NUMPY_TYPES:
        return str(NUMPY_TYPES[number])
    return _OTHER_NAMES.get(number, f"type {number}")
