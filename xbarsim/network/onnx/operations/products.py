"""Products of two activations, which stay digital."""

from __future__ import annotations

import numpy as np

from xbarsim.network.onnx.operations.call import Array, Call, Operation

__all__ = ["PRODUCTS"]


def _gemm(call: Call) -> Array:
    a, b, c = call[0], call[1], call.optional(2)
    kind = a.dtype.type
    a = a.T if call.attribute("transA", 0) else a
    b = b.T if call.attribute("transB", 0) else b
    result = kind(call.attribute("alpha", 1.0)) * (a @ b)
    return result if c is None else np.asarray(result + kind(call.attribute("beta", 1.0)) * c)


def _einsum(call: Call) -> Array:
    equation = str(call.attribute("equation")).replace(" ", "")
    return np.asarray(np.einsum(equation, *(call[index] for index in range(len(call.inputs)))))


PRODUCTS: dict[str, Operation] = {
    "Einsum": Operation(_einsum, "product"),
    "Gemm": Operation(_gemm, "product"),
    "MatMul": Operation(lambda call: np.asarray(np.matmul(call[0], call[1])), "product"),
}
