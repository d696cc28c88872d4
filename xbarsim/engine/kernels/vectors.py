"""Sixteen images side by side: how vector instructions are written down."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

__all__ = ["INT32", "INT64", "LANES", "data", "everywhere"]

LANES = 16  # images side by side
INT32 = ir.IntType(32)
INT64 = ir.IntType(64)


def data(context: Any, builder: Any, array_type: Any, value: Any) -> Any:
    """Pointer to the first number of a contiguous array."""
    return context.make_array(array_type)(context, builder, value).data


def everywhere(builder: Any, value: Any, vector: Any) -> Any:
    """One number in every lane of a vector."""
    undefined = ir.Constant(vector, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(
        single, undefined, ir.Constant(ir.VectorType(INT32, vector.count), [0] * vector.count)
    )
