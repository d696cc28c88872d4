"""Feature maps with 16 images side by side, and what is done with them between two products."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from xbarsim.engine.kernels.compiling import kernel
from xbarsim.engine.kernels.inputs import raw_row
from xbarsim.engine.kernels.turning import transpose_8
from xbarsim.engine.kernels.vectors import LANES

__all__ = ["add_maps", "block_maps", "largest_of_maps", "unblock_maps"]


@kernel(parallel=True)
def block_maps(maps: Any, values: Any) -> None:
    """Put 16 images side by side: `maps` (images, channels, height, width), `values` with them in blocks, filled.

    Lanes without an image hold zeros.
    """
    blocks, channels, height, width, _ = values.shape
    for job in prange(blocks * channels):
        block, channel = job // channels, job % channels
        row = np.zeros(width * LANES, np.float32)
        for y in range(height):
            raw_row(maps, block, channel, y, row)
            values[block, channel, y] = row.reshape(width, LANES)


@kernel(parallel=True)
def unblock_maps(values: Any, rectified: bool, maps: Any) -> None:
    """Take blocks of 16 images apart: the reverse of :func:`block_maps`, with zeros for negatives if `rectified`."""
    images, channels, height, width = maps.shape
    blocks = values.shape[0]
    numbers = height * width
    flat = maps.reshape(-1)
    stride = channels * numbers
    for job in prange(blocks * channels):
        block, channel = job // channels, job % channels
        source = values[block, channel].reshape(-1)
        count = min(LANES, images - block * LANES)
        place = block * LANES * stride + channel * numbers
        chunk = np.empty(8 * LANES, np.float32)
        for start in range(0, numbers, 8):
            some = min(8, numbers - start)
            for i in range(some * LANES):
                value = source[start * LANES + i]
                chunk[i] = np.float32(0.0) if rectified and value < np.float32(0.0) else value
            for half in range(0, count, 8):
                here = place + half * stride + start
                if some == 8 and count - half >= 8:
                    transpose_8(chunk, half, LANES, flat, here, stride)
                else:
                    for lane in range(min(8, count - half)):
                        for i in range(some):
                            flat[here + lane * stride + i] = chunk[i * LANES + half + lane]


@kernel(parallel=True)
def add_maps(left: Any, right: Any, left_rectified: bool, right_rectified: bool, total: Any) -> None:
    """Sums of numbers, all flat, `total` filled; a negative number of one that is rectified is zero."""
    zero = np.float32(0.0)
    least = zero if left_rectified else np.float32(-np.inf)
    other_least = zero if right_rectified else np.float32(-np.inf)
    for i in prange(left.shape[0]):
        a, b = left[i], right[i]
        total[i] = (least if a < least else a) + (other_least if b < other_least else b)


@kernel(parallel=True)
def largest_of_maps(values: Any, window: Any, stride: Any, largest: Any) -> None:
    """The largest number of each window; both arrays (blocks, channels, height, width, 16), `largest` filled."""
    blocks, channels, height, width, _ = largest.shape
    for job in prange(blocks * channels):
        block, channel = job // channels, job % channels
        for y in range(height):
            for x in range(width):
                top, left = y * stride[0], x * stride[1]
                found = largest[block, channel, y, x]
                for lane in range(LANES):
                    found[lane] = values[block, channel, top, left, lane]
                for i in range(window[0]):
                    for j in range(window[1]):
                        given = values[block, channel, top + i, left + j]
                        for lane in range(LANES):
                            more = not (given[lane] <= found[lane])  # one that is no number goes on, as in torch
                            found[lane] = given[lane] if more and found[lane] == found[lane] else found[lane]
