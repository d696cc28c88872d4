"""From activations to what is driven: quantise, pad, cut into planes, put 16 images side by side; or unfold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from xbarsim.engine.kernels.converter import convert_long, convert_short
from xbarsim.engine.kernels.turning import transpose_8
from xbarsim.engine.kernels.vectors import LANES
from xbarsim.foundation.compiling import kernel

__all__ = [
    "VECTORS",
    "block_codes",
    "block_inputs",
    "fill_frame",
    "im2col",
    "pack_planes",
    "quantise",
    "quantise_rows",
    "raw_row",
]

VECTORS = 64  # of 16 numbers that are quantised at a time, at least a row: they stay in the first-level cache
_CHANNELS = 8  # that a thread has one room for
_TOGETHER = 8  # vectors of 16 numbers that are quantised once more in float64 if one of them is in doubt


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
def raw_row(values: Any, block: int, channel: int, y: int, row: Any) -> None:
    """A row of a feature map, 16 images side by side: ``row[16 x + lane]``; lanes without an image stay as they are.

    `values` are feature maps (images, channels, height, width), or have 16 images side by side already: (blocks,
    channels, height, width, 16).
    """
    if values.ndim == 5:
        source = values[block, channel, y].reshape(-1)
        for i in range(source.shape[0]):
            row[i] = source[i]
    else:
        _, channels, height, width = values.shape
        first = block * LANES
        count = min(LANES, values.shape[0] - first)
        stride = channels * height * width
        place = first * stride + (channel * height + y) * width
        flat = values.reshape(-1)
        turned = 0
        if count == LANES and values.itemsize == 4:
            turned = width // 8 * 8
            for x in range(0, turned, 8):
                transpose_8(flat, place + x, stride, row, x * LANES, LANES)
                transpose_8(flat, place + x + 8 * stride, stride, row, x * LANES + 8, LANES)
        for x in range(turned, width):
            for lane in range(count):
                row[x * LANES + lane] = flat[place + x + lane * stride]


@kernel()
def _quantise_vectors(values: Any, first: int, vectors: int, quantiser: Any, codes: Any, place: int) -> bool:
    """Nearest codes of 16 `vectors` numbers, float32 or float64; returns whether all were finite.

    They stand from `first` on, their codes from `place` on.
    """
    inverse_scale, low, high, short_scale, lowest, highest, doubt = quantiser
    bad = 0
    if codes.itemsize == 4 and values.itemsize == 4:
        for start in range(0, vectors, _TOGETHER):
            here, there, some = first + start * LANES, place + start * LANES, min(_TOGETHER, vectors - start)
            flags = convert_short(values, here, some, short_scale, lowest, highest, doubt, codes, there)
            if flags & 1:
                convert_long(values, here, some, inverse_scale, low, high, codes, there)
            bad |= flags
    else:
        convert_long(values, first, vectors, inverse_scale, low, high, codes, place)
        for i in range(first, first + vectors * LANES):
            bad |= 0 if values[i] - values[i] == 0.0 else 2
    return bad < 2


@kernel()
def quantise_rows(
    values: Any,
    block: int,
    channel: int,
    y: int,
    rows: int,
    quantiser: Any,
    raw: Any,
    codes: Any,
    place: int,
    stride: int,
) -> bool:
    """Nearest codes of so many rows of a feature map from row y on, 16 images side by side; whether all were finite.

    `values` as for :func:`raw_row`; `raw` is room for as many of them as are quantised, of their type, zeros in lanes
    without an image. The codes of a row stand from `place` on, those of the next `stride` numbers behind.
    """
    width = values.shape[3]
    first, given = 0, raw
    if values.ndim == 5:
        first = ((block * values.shape[1] + channel) * values.shape[2] + y) * width * LANES
        given = values.reshape(-1)
    else:
        for r in range(rows):
            raw_row(values, block, channel, y + r, raw[r * width * LANES :])
    if stride == width * LANES:
        return _quantise_vectors(given, first, rows * width, quantiser, codes, place)
    finite = True
    for r in range(rows):
        here = first + r * width * LANES
        finite &= _quantise_vectors(given, here, width, quantiser, codes, place + r * stride)
    return finite


@kernel()
def _place_rows(values: Any, rows: int, width: int, blocked: Any, place: int, stride: int) -> None:
    """Write so many rows of `width` numbers, `stride` apart."""
    for r in range(rows):
        for i in range(width):
            blocked[place + r * stride + i] = values[r * width + i]


@kernel()
def fill_frame(blocked: Any, place: int, frame: Any, shape: Any, idle: Any) -> None:
    """Put a number into all of a padded map, 16 images side by side from `place` on, but the map of that shape."""
    height, width, padded_height, padded_width = shape
    row = padded_width * LANES
    for y in range(padded_height):
        inside = frame.top <= y < frame.top + height
        stop = frame.left * LANES if inside else row
        for i in range(place + y * row, place + y * row + stop):
            blocked[i] = idle
        if inside:
            for i in range(place + y * row + stop + width * LANES, place + (y + 1) * row):
                blocked[i] = idle


@kernel(parallel=True)
def block_codes(values: Any, quantiser: Any, frame: Any, shape: Any, blocked: Any) -> bool:
    """Quantise feature maps, pad them, and put 16 images side by side: codes that are driven as they are, sign and all.

    As :func:`block_inputs`, with `shape` (blocks, channels, padded height, padded width, 16) and `blocked` of float32
    or float64.
    """
    channels, height, width = values.shape[1], values.shape[2], values.shape[3]
    blocks, stored, padded_height, padded_width, _ = shape
    together = min(height, max(1, VECTORS // width))  # rows
    parts = -(-channels // _CHANNELS)
    stride = padded_width * LANES
    bad = 0
    for job in prange(blocks * parts):
        block, first_channel = job // parts, job % parts * _CHANNELS
        raw = np.zeros(LANES * width * together, values.dtype)
        for c in range(first_channel, min(first_channel + _CHANNELS, channels)):
            origin = (block * stored + c) * padded_height * stride
            for y in range(0, height, together):
                rows, place = min(together, height - y), origin + (frame.top + y) * stride + frame.left * LANES
                bad += 0 if quantise_rows(values, block, c, y, rows, quantiser, raw, blocked, place, stride) else 1
            fill_frame(blocked, origin, frame, (height, width, padded_height, padded_width), 0)
    _fill_ones(blocked, blocks, channels, stored, padded_height * stride)
    return bad == 0


@kernel()
def _fill_ones(blocked: Any, blocks: int, channels: int, stored: int, numbers: int) -> None:
    """Ones in the channels beyond those of the maps."""
    for block in range(blocks):
        for channel in range(channels, stored):
            place = (block * stored + channel) * numbers
            blocked[place : place + numbers] = 1


@kernel(parallel=True)
def block_inputs(values: Any, quantiser: Any, frame: Any, driving: Any, shape: Any, scratch: Any, blocked: Any) -> bool:
    """Quantise feature maps, cut them into planes, pad them, and put 16 images side by side.

    `values` as for :func:`raw_row`, float32 or float64; `quantiser`, `frame` and `driving` as in
    :mod:`xbarsim.engine.kernels.arguments`; `shape` is (passes x planes, blocks, channels, padded height, padded width,
    16), of which `blocked`, filled, is the flat array: float32, float64 or uint8. Channels beyond those of `values`
    hold ones. `scratch` is any array of the type to work in, float32 where `blocked` is uint8. Returns whether all
    values were finite.
    """
    channels, height, width = values.shape[1], values.shape[2], values.shape[3]
    planes, blocks, stored, padded_height, padded_width, _ = shape
    together = min(height, max(1, VECTORS // width))  # rows
    parts = -(-channels // _CHANNELS)
    bad = 0
    for job in prange(blocks * parts):
        block, first_channel = job // parts, job % parts * _CHANNELS
        raw = np.zeros(LANES * width * together, values.dtype)
        codes = np.empty(LANES * width * together, scratch.dtype)
        driven = np.empty(LANES * width * together, scratch.dtype)
        idle = np.zeros(1, scratch.dtype)
        for c in range(first_channel, min(first_channel + _CHANNELS, channels)):
            for y in range(0, height, together):
                rows = min(together, height - y)
                bad += 0 if quantise_rows(values, block, c, y, rows, quantiser, raw, codes, 0, width * LANES) else 1
                for t in range(planes):
                    place = (((t * blocks + block) * stored + c) * padded_height + frame.top + y) * padded_width
                    place = (place + frame.left) * LANES
                    _drive(codes[: rows * width * LANES], driving, t, driven)
                    _place_rows(driven, rows, width * LANES, blocked, place, padded_width * LANES)
            for t in range(planes):
                _drive(np.zeros(1, scratch.dtype), driving, t, idle)
                place = ((t * blocks + block) * stored + c) * padded_height * padded_width * LANES
                fill_frame(blocked, place, frame, (height, width, padded_height, padded_width), idle[0])
    _fill_ones(blocked, planes * blocks, channels, stored, padded_height * padded_width * LANES)
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
