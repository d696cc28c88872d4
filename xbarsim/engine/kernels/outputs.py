"""From sums of codes to activations: take off, scale, and write 16 images back to their places."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.turning import transpose_8
from xbarsim.engine.kernels.vectors import INT64, LANES, data, everywhere
from xbarsim.foundation.compiling import kernel

__all__ = ["write_outputs"]


@intrinsic
def _scale(
    typing_context: Any,
    added: Any,
    first: Any,
    count: Any,
    step: Any,
    constant: Any,
    scale: Any,
    bias: Any,
    finished: Any,
    place: Any,
) -> Any:
    """``finished[place + i] = (step * added[first + i] + constant) * scale + bias``, i below ``16 count``, in float64.

    `added` are numbers of any type, `finished` of float32 or float64.
    """
    real = types.float64
    signature = types.void(added, types.int64, types.int64, real, real, real, real, finished, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.DoubleType(), LANES)
        kinds = [context.get_value_type(signature.args[i].dtype) for i in (0, 7)]
        starts = [
            builder.gep(data(context, builder, signature.args[i], arguments[i]), [arguments[i + 1]]) for i in (0, 7)
        ]
        step, constant, scale, bias = (everywhere(builder, arguments[i], vector) for i in (3, 4, 5, 6))
        with cgutils.for_range(builder, arguments[2]) as loop:
            offset = builder.mul(loop.index, ir.Constant(INT64, LANES))
            source, target = (
                builder.bitcast(builder.gep(start, [offset]), ir.VectorType(kind, LANES).as_pointer())
                for start, kind in zip(starts, kinds, strict=True)
            )
            value = builder.load(source, align=4)
            if isinstance(kinds[0], ir.IntType):
                value = builder.sitofp(value, vector)
            elif isinstance(kinds[0], ir.FloatType):
                value = builder.fpext(value, vector)
            value = builder.fadd(builder.fmul(step, value), constant)
            value = builder.fadd(builder.fmul(value, scale), bias)
            if isinstance(kinds[1], ir.FloatType):
                value = builder.fptrunc(value, ir.VectorType(kinds[1], LANES))
            builder.store(value, target, align=4)
        return context.get_dummy_value()

    return signature, generate


@kernel()
def write_outputs(added: Any, count: int, first: int, positions: Any, finish: Any, result: Any) -> None:
    """Finish the sums `added` (slots, positions, 16) of `count` positions from `first` on, and write them.

    `positions` and `finish` as in :mod:`xbarsim.engine.kernels.arguments`; `result` flat, float32 or float64.
    """
    lanes, places = positions.lanes, positions.places
    lane_stride, output_stride = positions.lane_stride, positions.output_stride
    scale = finish.scale
    blocked = lane_stride == 0  # the result has 16 images side by side, as the sums have
    together = places[first + count - 1] - places[first] == count - 1
    rows = np.empty(8 * LANES, np.float32)
    turned = np.empty(8 * LANES, np.float32)
    # Positions that are neighbours of one block of images are turned over eight at a time.
    neighbours = count % 8 == 0 and together and result.itemsize == 4
    finished = np.empty(scale.shape[0] * count * LANES, result.dtype)
    # A linear layer's outputs are neighbours instead of its positions: these are turned over eight at a time.
    row_wise = output_stride == 1 and result.itemsize == 4
    for o in range(scale.shape[0]):
        constant, factor, bias = finish.constant[o], scale[o], finish.bias[o]
        shared, sums = finish.shared_ends[o], finish.sum_ends[o]
        own = o * count * LANES
        alone = shared == finish.shared_ends[o + 1] and sums == finish.sum_ends[o + 1]
        if alone and blocked and together:
            place = (places[first] + o * output_stride) * LANES
            source = o * added.shape[1] * LANES
            _scale(added, source, count, finish.step, constant, factor, bias, result, place)
            continue
        if alone:
            _scale(added, o * added.shape[1] * LANES, count, finish.step, constant, factor, bias, finished, own)
        else:
            for p in range(count):
                for i in range(LANES):
                    codes = np.float64(added[o, p, i])
                    for s in range(shared, finish.shared_ends[o + 1]):
                        codes += added[finish.shared_slots[s], p, i]
                    inputs = 0.0
                    for s in range(sums, finish.sum_ends[o + 1]):
                        inputs += added[finish.sum_slots[s], p, i]
                    value = finish.step * codes - finish.shift * inputs + constant
                    finished[own + p * LANES + i] = value * factor + bias
        if blocked:
            for p in range(count):
                place = (places[first + p] + o * output_stride) * LANES
                for i in range(LANES):
                    result[place + i] = finished[own + p * LANES + i]
        elif neighbours:
            place = places[first] + o * output_stride
            for i in range(0, lanes[first], 8):
                here = place + i * lane_stride
                images = min(8, lanes[first] - i)
                for p in range(0, count, 8):
                    if images == 8:
                        transpose_8(finished, own + p * LANES + i, LANES, result, here + p, lane_stride)
                    else:
                        transpose_8(finished, own + p * LANES + i, LANES, turned, 0, 8)
                        for image in range(images):
                            for k in range(8):
                                result[here + image * lane_stride + p + k] = turned[8 * image + k]
        elif not row_wise:
            for p in range(count):
                for i in range(lanes[first + p]):
                    place = places[first + p] + i * lane_stride + o * output_stride
                    result[place] = finished[own + p * LANES + i]
        elif o % 8 == 7 or o == scale.shape[0] - 1:
            start = o - o % 8
            for p in range(count):
                for e in range(start, o + 1):
                    for i in range(LANES):
                        rows[(e - start) * LANES + i] = np.float32(finished[(e * count + p) * LANES + i])
                transpose_8(rows, 0, LANES, turned, 0, 8)
                transpose_8(rows, 8, LANES, turned, 64, 8)
                for i in range(lanes[first + p]):
                    place = places[first + p] + i * lane_stride + start
                    for e in range(o + 1 - start):
                        result[place + e] = turned[i * 8 + e]
