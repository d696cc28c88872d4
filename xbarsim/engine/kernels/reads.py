"""Reads of single vectors, column by column, of bits that are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from xbarsim.engine.kernels.converter import code
from xbarsim.foundation.compiling import kernel

__all__ = ["convert_reads", "count_bits"]


@intrinsic
def _popcount(typing_context: Any, word: Any) -> Any:
    """Number of set bits of a 64-bit word, as one LLVM instruction that vectorises."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)])
        return builder.call(function, arguments)

    return types.int64(types.uint64), generate


@kernel(parallel=True)
def count_bits(planes: Any, cells: Any, sums: Any) -> None:
    """Sum packed bit planes over the rows of columns: AND, and count the bits.

    `planes` (vectors, bits, words) are the bits of one plane; `cells` (2, cell bits, words, columns) those of the
    positive and of the negative part of each column; `sums` (vectors, columns) float64, filled.
    """
    parts, cell_bits, words, columns = cells.shape
    for v in prange(planes.shape[0]):
        counted = np.zeros((parts, columns), np.int64)
        for part in range(parts):
            for b in range(planes.shape[1]):
                for word in range(words):
                    driven = planes[v, b, word]
                    if driven == 0:
                        continue
                    for c in range(cell_bits):
                        shift = np.int64(b + c)
                        for column in range(columns):
                            counted[part, column] += _popcount(driven & cells[part, c, word, column]) << shift
        for column in range(columns):
            sums[v, column] = counted[0, column] - counted[1, column]


@kernel(parallel=True)
def convert_reads(sums: Any, input_sums: Any, counts: Any, targets: Any, converters: Any, added: Any) -> None:
    """Convert what columns give to their converters, and add their codes.

    `sums` (vectors, columns); `input_sums` (vectors,) are the sums of the driven codes; `counts` and `targets`
    (columns,) say what each code counts and for which slot of `added` (vectors, slots); `converters` as in
    :mod:`xbarsim.engine.kernels.arguments`, without bits of their own.
    """
    for v in prange(sums.shape[0]):
        base, known = 0.0, 0.0
        if converters.single and converters.quantises:
            base = converters.offset_levels * input_sums[v]
            known = np.floor(base * converters.inverse_step + 0.5)
        for c in range(sums.shape[1]):
            value = np.float64(sums[v, c]) + base
            if converters.quantises:
                value = code(value, converters.inverse_step, converters.low, converters.high)
            added[v, targets[c]] += counts[c] * (value - known)
