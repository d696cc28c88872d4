"""From activations to what is driven: quantise, pad, cut into planes, put 16 images side by side; or unfold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from xbarsim.engine.kernels.compiling import kernel
from xbarsim.engine.kernels.turning import transpose_8
from xbarsim.engine.kernels.vectors import LANES

__all__ = ["block_inputs", "im2col", "pack_planes", "quantise", "quantise_row"]


@kernel()
def _drive(codes: Any, driving: Any, t: int, driven: Any) -> None:
    """Entry `t` of what is driven for `codes`."""
    how, shift, mask = driving.how[t], driving.shift[t], driving.mask
    if how == 1:
        for i in range(codes.shape[0]):
            driven[i] = (max(np.int32(codes[i]), np.int32(0)) >> np.int32(shift)) & np.int32(mask)
    elif how == 2:
        for i in range(codes.shape[0]):
            driven[i] = (max(-np.int32(codes[i]), np.int32(0)) >> np.int32(shift)) & np.int32(mask)
    else:
        add = np.int32(driving.offset) if how == 3 else np.int32(0)
        for i in range(codes.shape[0]):
            driven[i] = ((np.int32(codes[i]) + add) >> np.int32(shift)) & np.int32(mask)
    if driving.carried.shape[0] > 0:
        for i in range(codes.shape[0]):
            driven[i] = driving.carried[np.int32(driven[i])]


@kernel()
def quantise_row(values: Any, quantiser: Any, codes: Any) -> int:
    """Nearest codes of a row; returns how many values were not finite."""
    inverse_scale, low, high = quantiser
    bad = 0
    for x in range(values.shape[0]):
        value = np.float64(values[x]) * inverse_scale
        bad += 0 if value - value == 0.0 else 1  # no branch: it would keep the loop from vector instructions
        value = np.floor(value + 0.5)
        value = low if value < low else value
        codes[x] = high if value > high else value
    return bad


@kernel(parallel=True)
def block_inputs(values: Any, quantiser: Any, frame: Any, driving: Any, shape: Any, scratch: Any, blocked: Any) -> bool:
    """Quantise feature maps, cut them into planes, pad them, and put 16 images side by side.

    `values` (images, channels, height, width) float32; `quantiser`, `frame` and `driving` as in
    :mod:`xbarsim.engine.kernels.arguments`; `shape` is (passes x planes, blocks, channels, padded height, padded width,
    16), of which `blocked`, filled, is the flat array: float32, float64 or uint8. Channels beyond those of `values`
    hold ones. `scratch` is any array of the type to work in, float32 where `blocked` is uint8. Returns whether all
    values were finite.
    """
    images, channels, height, width = values.shape
    planes, blocks, stored, padded_height, padded_width, _ = shape
    wide = -(-width // 8) * 8
    top, left = frame.top, frame.left
    bad = 0
    for job in prange(blocks * channels):
        block, c = job // channels, job % channels
        first = block * LANES
        count = min(LANES, images - first)
        codes = np.zeros(LANES * wide, scratch.dtype)
        driven = np.zeros(LANES * wide, scratch.dtype)
        turned = np.zeros(8 * LANES, scratch.dtype)
        for y in range(height):
            for lane in range(count):
                row = codes[lane * wide : lane * wide + width]
                bad += quantise_row(values[first + lane, c, y], quantiser, row)
            for t in range(planes):
                source = codes
                if driving.mask != 0:
                    source = driven
                    _drive(codes[: count * wide], driving, t, driven)
                place = (((t * blocks + block) * stored + c) * padded_height + top + y) * padded_width + left
                place *= LANES
                for x in range(0, wide, 8):
                    if blocked.itemsize == 4 and x + 8 <= width:
                        transpose_8(source, x, wide, blocked, place + x * LANES, LANES)
                        transpose_8(source, x + 8 * wide, wide, blocked, place + x * LANES + 8, LANES)
                    elif blocked.itemsize < 8:
                        transpose_8(source, x, wide, turned, 0, LANES)
                        transpose_8(source, x + 8 * wide, wide, turned, 8, LANES)
                        for i in range(min(8, width - x) * LANES):
                            blocked[place + x * LANES + i] = turned[i]
                    else:
                        for i in range(min(8, width - x)):
                            for lane in range(LANES):
                                blocked[place + (x + i) * LANES + lane] = source[lane * wide + x + i]
        for t in range(planes):
            idle = np.zeros(1, scratch.dtype)
            if driving.mask != 0:
                _drive(np.zeros(1, scratch.dtype), driving, t, idle)
            place = ((t * blocks + block) * stored + c) * padded_height * padded_width * LANES
            for y in range(padded_height):
                inside = top <= y < top + height
                for x in range(padded_width):
                    if not (inside and left <= x < left + width):
                        for lane in range(LANES):
                            blocked[place + (y * padded_width + x) * LANES + lane] = idle[0]
    for job in range(planes * blocks):
        for place in range((job * stored + channels), (job + 1) * stored):
            numbers = padded_height * padded_width * LANES
            blocked[place * numbers : (place + 1) * numbers] = 1
    return bad == 0


@kernel(parallel=True)
def im2col(images: Any, kernel_height: int, kernel_width: int, stride: Any, dilation: Any, columns: Any) -> None:
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


@kernel(parallel=True)
def quantise(values: Any, quantiser: Any, codes: Any) -> bool:
    """Nearest codes of `values` (n,) into `codes` (n,); whether all were finite."""
    bad = 0
    for i in prange(values.shape[0]):
        value = np.float64(values[i]) * quantiser.inverse_scale
        if not np.isfinite(value):
            bad += 1
            value = 0.0
        codes[i] = np.int32(min(max(np.floor(value + 0.5), quantiser.low), quantiser.high))
    return bad == 0


@kernel(parallel=True)
def count_outside(values: Any, first_below: Any, first_above: Any) -> int:
    """How many of `values` (n,) are below one bound, or at or above the other."""
    count = 0
    for i in prange(values.shape[0]):
        value = values[i]
        count += int(value < first_below) + int(value >= first_above)
    return count


@kernel(parallel=True)
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
