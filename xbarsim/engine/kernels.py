"""Compiled loops of the engine: arrays and scalars in, preallocated arrays out, nothing checked here.

Each kernel's plain Python function is reachable as ``kernel.py_func``. Loops over vectors run in parallel; every sum is
one of integers (or of numbers on a grid of 2^-16 level steps) held in float64, so no order of summation changes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

__all__ = ["bitplane_reads", "convert_columns", "convert_pairs", "im2col", "pack_planes", "quantise"]


@intrinsic
def _popcount(typing_context: Any, word: Any) -> Any:
    """Number of set bits of a 64-bit word, as one LLVM instruction that vectorises."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)])
        return builder.call(function, arguments)

    return types.int64(types.uint64), generate


@njit(cache=True, parallel=True, nogil=True)
def convert_pairs(
    sums: Any,
    noise: Any,
    weights: Any,
    outputs: Any,
    quantised: bool,
    inverse_step: float,
    low: float,
    high: float,
    added: Any,
) -> None:
    """Convert subtracted pairs and add their codes.

    `sums` (vectors, slices, outputs here), `noise` the same shape or empty, `weights` (slices,) plane weight times slice
    weight, `outputs` (outputs here,) columns of `added` (vectors, outputs), which is added to.
    """
    noisy = noise.size > 0
    for v in prange(sums.shape[0]):
        for s in range(sums.shape[1]):
            weight = weights[s]
            for o in range(sums.shape[2]):
                value = np.float64(sums[v, s, o])
                if noisy:
                    value += noise[v, s, o]
                if quantised:
                    value = min(max(np.floor(value * inverse_step + 0.5), low), high)
                added[v, outputs[o]] += weight * value


@njit(cache=True, parallel=True, nogil=True)
def convert_columns(
    sums: Any,
    noise: Any,
    references: Any,
    reference_noise: Any,
    baseline: Any,
    weights: Any,
    outputs: Any,
    owners: Any,
    quantised: bool,
    inverse_step: float,
    low: float,
    high: float,
    added: Any,
) -> None:
    """Convert single columns, take off the known sum, and add their codes.

    `sums` (vectors, sides, slices, outputs here), side 1 counts negatively; `references` (vectors, tiles here), or no tiles;
    `baseline` (vectors,) the g_min currents; `owners` (outputs here,) the tile of each output; the rest as
    :func:`convert_pairs`.
    """
    noisy = noise.size > 0
    slices = sums.shape[2]
    for v in prange(sums.shape[0]):
        base = baseline[v]
        known = np.floor(base * inverse_step + 0.5)
        for side in range(sums.shape[1]):
            for s in range(slices):
                weight = weights[s] if side == 0 else -weights[s]
                for o in range(sums.shape[3]):
                    value = np.float64(sums[v, side, s, o])
                    if noisy:
                        value += noise[v, side, s, o]
                    if quantised:
                        value = min(max(np.floor((value + base) * inverse_step + 0.5), low), high) - known
                    added[v, outputs[o]] += weight * value
        if references.shape[1] > 0:
            codes = np.empty(references.shape[1])
            for t in range(references.shape[1]):
                value = np.float64(references[v, t])
                if noisy:
                    value += reference_noise[v, t]
                if quantised:
                    value = min(max(np.floor((value + base) * inverse_step + 0.5), low), high) - known
                codes[t] = value
            for o in range(outputs.shape[0]):
                added[v, outputs[o]] -= weights[slices - 1] * codes[owners[o]]


@njit(cache=True, parallel=True, nogil=True)
def pack_planes(codes: Any, bits: int, packed: Any) -> None:
    """Pack bit b of `codes` (vectors, rows), non-negative, into `packed` (vectors, bits, words) of 64 rows each."""
    rows = codes.shape[1]
    for v in prange(codes.shape[0]):
        for b in range(bits):
            for word in range(packed.shape[2]):
                value = np.uint64(0)
                for i in range(word * 64, min(rows, word * 64 + 64)):
                    value |= np.uint64((codes[v, i] >> b) & 1) << np.uint64(i - word * 64)
                packed[v, b, word] = value


@njit(cache=True, parallel=True, nogil=True)
def bitplane_reads(
    inputs: Any,
    cells: Any,
    references: Any,
    dac_bits: int,
    planes: int,
    sign: float,
    analog: bool,
    offset_levels: float,
    slice_weights: Any,
    outputs: Any,
    owners: Any,
    inverse_step: float,
    low: float,
    high: float,
    added: Any,
) -> None:
    """Read packed bit planes: AND and count bits, convert every read, add the codes.

    `inputs` (vectors, input bits, words); `cells` (sides, slices, cell bits, words, outputs here); `references`
    (cell bits, words, tiles here) or no tiles; `added` (vectors, outputs). With `analog` the pair is subtracted before the
    conversion, else each column is converted and the known sum taken off.
    """
    sides, slices, cell_bits, words, count = cells.shape
    tiles = references.shape[2]
    for v in prange(inputs.shape[0]):
        sums = np.empty(count, np.int64)
        codes = np.empty(tiles, np.float64)
        for plane in range(planes):
            first = plane * dac_bits
            last = min(first + dac_bits, inputs.shape[1])
            plane_weight = sign * 2.0**first
            base = 0.0
            known = 0.0
            if not analog and offset_levels > 0.0:
                total = 0
                for b in range(first, last):
                    for word in range(words):
                        total += _popcount(inputs[v, b, word]) << (b - first)
                base = offset_levels * total
                known = np.floor(base * inverse_step + 0.5)
            for s in range(slices):
                for o in range(count):
                    sums[o] = 0
                for side in range(sides):
                    if side == 1 and not analog:
                        for o in range(count):
                            sums[o] = 0
                    for b in range(first, last):
                        for word in range(words):
                            driven = inputs[v, b, word]
                            if driven == 0:
                                continue
                            for c in range(cell_bits):
                                shift = np.int64(b - first + c)
                                if side == 1 and analog:
                                    for o in range(count):
                                        sums[o] -= _popcount(driven & cells[side, s, c, word, o]) << shift
                                else:
                                    for o in range(count):
                                        sums[o] += _popcount(driven & cells[side, s, c, word, o]) << shift
                    if analog and side == 0:
                        continue
                    weight = plane_weight * slice_weights[s]
                    if side == 1 and not analog:
                        weight = -weight
                    for o in range(count):
                        code = min(max(np.floor((np.float64(sums[o]) + base) * inverse_step + 0.5), low), high)
                        added[v, outputs[o]] += weight * (code - known)
            if tiles > 0:
                for t in range(tiles):
                    total = 0
                    for b in range(first, last):
                        for word in range(words):
                            for c in range(cell_bits):
                                both = inputs[v, b, word] & references[c, word, t]
                                total += _popcount(both) << np.int64(b - first + c)
                    code = min(max(np.floor((np.float64(total) + base) * inverse_step + 0.5), low), high)
                    codes[t] = code - known
                for o in range(count):
                    added[v, outputs[o]] -= plane_weight * slice_weights[slices - 1] * codes[owners[o]]


@njit(cache=True, parallel=True, nogil=True)
def im2col(
    images: Any, kernel_height: int, kernel_width: int, stride: Any, dilation: Any, columns: Any
) -> None:
    """Unfold padded feature maps into one row per output position.

    `images` (images, channels, height, width), `columns` (images, out_height, out_width, channels, kernel_height,
    kernel_width), filled.
    """
    out_height, out_width, channels = columns.shape[1], columns.shape[2], columns.shape[3]
    for job in prange(columns.shape[0] * out_height):
        n, i = job // out_height, job % out_height
        for j in range(out_width):
            for c in range(channels):
                for p in range(kernel_height):
                    for q in range(kernel_width):
                        columns[n, i, j, c, p, q] = images[
                            n, c, i * stride[0] + p * dilation[0], j * stride[1] + q * dilation[1]
                        ]


@njit(cache=True, parallel=True, nogil=True)
def quantise(values: Any, inverse_scale: float, low: int, high: int, codes: Any) -> bool:
    """Nearest codes of `values` (n,), halves up, clipped to [low, high], into `codes` (n,); whether all were finite."""
    bad = 0
    for i in prange(values.shape[0]):
        value = np.float64(values[i]) * inverse_scale
        if not np.isfinite(value):
            bad += 1
            value = 0.0
        codes[i] = np.int32(min(max(np.floor(value + 0.5), low), high))
    return bad == 0
