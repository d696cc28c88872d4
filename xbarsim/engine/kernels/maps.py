"""Feature maps with 16 images side by side, and what is done with them between two products."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.inputs import fill_frame, raw_row
from xbarsim.engine.kernels.turning import transpose_8
from xbarsim.engine.kernels.vectors import INT64, LANES, data
from xbarsim.foundation.compiling import kernel

__all__ = ["add_maps", "block_maps", "copy_maps", "largest_of_maps", "unblock_maps"]


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
def copy_maps(values: Any, begin: Any, step: Any, size: Any, first: int, frame: Any, result: Any) -> None:
    """Copy some channels, rows and columns into frames of zeros.

    ``result[b, first + c, frame.top + y, frame.left + x] = values[b, begin + step (c, y, x)]`` for all (c, y, x) below
    `size`, and 0 everywhere else; both arrays (blocks, channels, height, width, 16).
    """
    blocks, stored, padded_height, padded_width, _ = result.shape
    channels, height, width = size
    shape = (height, width, padded_height, padded_width)
    flat = result.reshape(-1)
    for job in prange(blocks * stored):
        block, channel = job // stored, job % stored - first
        target = result[block, first + channel]
        if channel < 0 or channel >= channels:
            target[:] = np.float32(0.0)
        else:
            fill_frame(flat, job * padded_height * padded_width * LANES, frame, shape, np.float32(0.0))
            source = values[block, begin[0] + step[0] * channel]
            for y in range(height):
                row, goal = source[begin[1] + step[1] * y], target[frame.top + y]
                for x in range(width):
                    for i in range(LANES):
                        goal[frame.left + x, i] = row[begin[2] + step[2] * x, i]


@kernel(parallel=True)
def add_maps(left: Any, right: Any, left_rectified: bool, right_rectified: bool, total: Any) -> None:
    """Sums of numbers, all flat, `total` filled; a negative number of one that is rectified is zero."""
    zero = np.float32(0.0)
    least = zero if left_rectified else np.float32(-np.inf)
    other_least = zero if right_rectified else np.float32(-np.inf)
    for i in prange(left.shape[0]):
        a, b = left[i], right[i]
        total[i] = (least if a < least else a) + (other_least if b < other_least else b)


@intrinsic
def _largest(
    typing_context: Any, values: Any, first: Any, rows: Any, columns: Any, stride: Any, largest: Any, place: Any
) -> Any:
    """The largest of `rows` x `columns` vectors of 16 numbers, rows `stride` numbers apart, from `first` on.

    One that is no number goes on, as in torch; of equal ones the first is taken.
    """
    number = types.int64
    signature = types.void(values, number, number, number, number, largest, number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), LANES)
        source = builder.gep(data(context, builder, signature.args[0], arguments[0]), [arguments[1]])
        target = builder.gep(data(context, builder, signature.args[5], arguments[5]), [arguments[6]])

        def at(pointer: Any) -> Any:
            return builder.bitcast(pointer, vector.as_pointer())

        found = cgutils.alloca_once_value(builder, builder.load(at(source), align=4))
        with cgutils.for_range(builder, arguments[2]) as row, cgutils.for_range(builder, arguments[3]) as column:
            offset = builder.mul(column.index, ir.Constant(INT64, LANES))
            offset = builder.add(builder.mul(row.index, arguments[4]), offset)
            given, before = builder.load(at(builder.gep(source, [offset])), align=4), builder.load(found)
            more = builder.fcmp_unordered(">", given, before)
            more = builder.and_(more, builder.fcmp_ordered("ord", before, before))
            builder.store(builder.select(more, given, before), found)
        builder.store(builder.load(found), at(target), align=4)
        return context.get_dummy_value()

    return signature, generate


@kernel(parallel=True)
def largest_of_maps(values: Any, margin: int, window: Any, stride: Any, largest: Any) -> None:
    """The largest number of each window; both arrays (blocks, channels, height, width, 16), `largest` filled.

    The outermost rows and columns of `values`, `margin` on each side, are left out.
    """
    blocks, channels, height, width, _ = largest.shape
    row, numbers = values.shape[3] * LANES, values.shape[2] * values.shape[3] * LANES
    source, target = values.reshape(-1), largest.reshape(-1)
    for job in prange(blocks * channels):
        for y in range(height):
            for x in range(width):
                first = job * numbers + (margin + y * stride[0]) * row + (margin + x * stride[1]) * LANES
                place = ((job * height + y) * width + x) * LANES
                _largest(source, first, window[0], window[1], row, target, place)
