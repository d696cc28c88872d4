"""Reads of single vectors, column by column: noisy or counted ones, which are too varied for the blocked kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from xbarsim.engine.kernels.compiling import kernel
from xbarsim.engine.kernels.converter import approximate, code

__all__ = ["add_product", "convert_reads", "count_bits"]


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
def convert_reads(
    sums: Any, noise: Any, input_sums: Any, counts: Any, targets: Any, converters: Any, added: Any
) -> None:
    """Convert what columns give to their converters, and add their codes.

    `sums` (vectors, columns); `noise` of the same shape, or one row for all vectors, or empty, is added to them;
    `input_sums` (vectors,) are the sums of the driven codes; `counts` and `targets` (columns,) say what each code
    counts and for which slot of `added` (vectors, slots); `converters` as in :mod:`xbarsim.engine.kernels.arguments`.
    """
    noisy = noise.size > 0
    columns = sums.shape[1]
    by_bits = converters.bits.shape[0] > 0
    for v in prange(sums.shape[0]):
        drawn = np.int64(v) if noise.shape[0] > 1 else 0
        base, known = 0.0, 0.0
        if converters.single and converters.quantises:
            base = converters.offset_levels * input_sums[v]
            known = np.floor(base * converters.inverse_step + 0.5)
        values = np.empty(columns)
        for c in range(columns):
            value = np.float64(sums[v, c])
            if noisy:
                value += noise[drawn, c]
            values[c] = value + base
        if by_bits:
            positions, levels = values * converters.inverse_step + 0.5, np.empty(columns)
            approximate(positions, converters.bits, 0, 1, converters.low, converters.high, levels, values)
        elif converters.quantises:
            for c in range(columns):
                values[c] = code(values[c], converters.inverse_step, converters.low, converters.high)
        for c in range(columns):
            added[v, targets[c]] += counts[c] * (values[c] - known)


@kernel(parallel=True)
def add_product(left: Any, right: Any, result: Any) -> None:
    """Add `left` (vectors, rows) times `right` (rows, columns) to `result`, row by row in order."""
    for v in prange(left.shape[0]):
        for k in range(left.shape[1]):
            factor = left[v, k]
            for n in range(right.shape[1]):
                result[v, n] += factor * right[k, n]
