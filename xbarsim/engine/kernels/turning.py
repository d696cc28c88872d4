"""Transposition of small blocks in registers: images side by side, and back."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xbarsim.engine.kernels.vectors import INT32, INT64, data

__all__ = ["transpose_8"]


@intrinsic
def transpose_8(
    typing_context: Any, source: Any, first: Any, stride: Any, target: Any, place: Any, target_stride: Any
) -> Any:
    """Transpose 8 x 8 float32: ``target[place + i target_stride + j] = source[first + j stride + i]``, in registers."""
    signature = types.void(source, types.int64, types.int64, target, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), 8)
        indices = ir.VectorType(INT32, 8)
        origin = builder.gep(data(context, builder, signature.args[0], arguments[0]), [arguments[1]])
        goal = builder.gep(data(context, builder, signature.args[3], arguments[3]), [arguments[4]])

        def at(pointer: Any, row: int, stride: Any) -> Any:
            here = builder.gep(pointer, [builder.mul(stride, ir.Constant(INT64, row))])
            return builder.bitcast(here, vector.as_pointer())

        rows = [builder.load(at(origin, row, arguments[2]), align=4) for row in range(8)]
        # Three rounds: swap the off-diagonal blocks of 4 x 4, then 2 x 2, then single numbers.
        for width in (4, 2, 1):
            for row in range(8):
                if row & width:
                    continue
                upper, lower = rows[row], rows[row + width]
                keep = [i if not i & width else 8 + (i ^ width) for i in range(8)]
                swap = [(i ^ width) if not i & width else 8 + i for i in range(8)]
                rows[row] = builder.shuffle_vector(upper, lower, ir.Constant(indices, keep))
                rows[row + width] = builder.shuffle_vector(upper, lower, ir.Constant(indices, swap))
        for row in range(8):
            builder.store(rows[row], at(goal, row, arguments[5]), align=4)
        return context.get_dummy_value()

    return signature, generate
