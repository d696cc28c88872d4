"""Convolutions of plain numbers: sums are done when they leave the registers, and stand in the frame of the next layer.

Sixteen images go side by side, as in :mod:`xbarsim.engine.kernels.sums`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from xbarsim.engine.kernels.inputs import fill_frame
from xbarsim.engine.kernels.processor import has_feature
from xbarsim.engine.kernels.sums import CACHED_BYTES, emit_product
from xbarsim.engine.kernels.vectors import INT64, LANES, data, everywhere, for_each_size
from xbarsim.foundation.compiling import kernel

__all__ = ["PLAIN_COLUMNS", "plain_products"]

# Positions and columns summed at a time: as many sums as the registers hold, and each weight read once for all
# positions, because reading limits registers of 512 bits.
_POSITIONS, PLAIN_COLUMNS = (3, 8) if has_feature("avx512f") else (1, 6)
_STRIP = 48  # positions that a thread works on at a time
_JOBS = 16  # into which a layer is cut at least, if it has as many groups: of few positions, the groups are shared out


@intrinsic
def _store_product(
    typing_context: Any,
    x: Any,
    bases: Any,
    position: Any,
    many: Any,
    offsets: Any,
    first: Any,
    panel: Any,
    start: Any,
    count: Any,
    columns: Any,
    least: Any,
    bias: Any,
    targets: Any,
    column: Any,
    result: Any,
    places: Any,
    stride: Any,
) -> Any:
    """Products of some columns with 16 images at some positions, put in their places in the result.

    ``result[16 (stride targets[column + c] + places[position + p]) + i] = bias[column + c] + sum_k max(least,
    x[bases[position + p] + offsets[first + k] + i]) * panel[start + columns k + c]``, for each of `many` positions p,
    column c and lane i, k from 0 to count - 1 in this order, each step one fused multiply-add.
    """
    real, number = types.float32, types.int64
    signature = types.void(
        x, bases, number, number, offsets, number, panel, number, number, number, real, bias, targets, number, result,
        places, number,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), LANES)
        x, bases, offsets, panel, bias, targets, result, places = (
            data(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 4, 6, 11, 12, 14, 15)
        )
        bases, places = (builder.gep(each, [arguments[2]]) for each in (bases, places))
        pointers = builder.gep(offsets, [arguments[5]]), builder.gep(panel, [arguments[7]])
        bias, targets = (builder.gep(each, [arguments[13]]) for each in (bias, targets))
        least = everywhere(builder, arguments[10], vector)
        lanes = ir.Constant(INT64, LANES)

        def emit(inputs: list[Any], columns: int) -> None:
            begun = [
                everywhere(builder, builder.load(builder.gep(bias, [ir.Constant(INT64, c)])), vector)
                for c in range(columns)
            ]
            sums = emit_product(builder, inputs, pointers, arguments[8], columns, begun=begun, least=least)
            for c in range(columns):
                target = builder.load(builder.gep(targets, [ir.Constant(INT64, c)]))
                target = builder.mul(target, arguments[16])
                for p in range(len(inputs)):
                    place = builder.load(builder.gep(places, [ir.Constant(INT64, p)]))
                    place = builder.gep(result, [builder.mul(builder.add(target, place), lanes)])
                    place = builder.bitcast(place, vector.as_pointer())
                    builder.store(sums[p * columns + c], place, align=4)

        for_each_size(builder, arguments[3], arguments[9], (_POSITIONS, PLAIN_COLUMNS), bases, x, emit)
        return context.get_dummy_value()

    return signature, generate


@kernel(parallel=True)
def plain_products(
    x: Any,
    rectified: bool,
    bases: Any,
    places: Any,
    groups: Any,
    frame: Any,
    shape: Any,
    result: Any,
) -> None:
    """Outputs of all positions of all blocks of 16 images, and the frames of zeros around them.

    Parameters
    ----------
    x
        Feature maps in their frames, 16 images side by side, flat.
    rectified
        Whether negative numbers among them stand for zeros.
    bases, places
        Where each position begins in `x`, and its place in the result's first output, in groups of 16 numbers.
    groups, frame
        As in :mod:`xbarsim.engine.kernels.arguments`.
    shape
        Of `result`: (blocks, outputs, padded height, padded width, 16).
    result
        Flat, filled.
    """
    blocks, outputs, padded_height, padded_width, _ = shape
    zero = np.float32(0.0)
    least = zero if rectified else np.float32(-np.inf)
    inside = (padded_height - 2 * frame.top, padded_width - 2 * frame.left, padded_height, padded_width)
    for job in prange(blocks * outputs):
        fill_frame(result, job * padded_height * padded_width * LANES, frame, inside, zero)
    total = bases.shape[0]
    stride = padded_height * padded_width
    at_once, most, strip = _POSITIONS, PLAIN_COLUMNS, _STRIP
    strips, every = -(-total // strip), groups.ends.shape[0] - 1
    parts = max(1, min(every, -(-_JOBS // max(strips, 1))))
    for job in prange(strips * parts):
        part = job % parts
        first = job // parts * strip
        stop = min(first + strip, total)
        for g in range(part * every // parts, (part + 1) * every // parts):
            rows = groups.rows[g]
            count = groups.rows[g + 1] - rows
            if count == 0:
                for column in range(groups.ends[g], groups.ends[g + 1]):
                    for p in range(first, stop):
                        place = (groups.targets[column] * stride + places[p]) * LANES
                        for i in range(LANES):
                            result[place + i] = groups.bias[column]
                continue
            # as many columns at a time as stay in the first cache while the positions pass
            chunk = max(1, CACHED_BYTES // (4 * count * most)) * most
            for start in range(groups.ends[g], groups.ends[g + 1], chunk):
                end = min(start + chunk, groups.ends[g + 1])
                for p in range(first, stop, at_once):
                    many = min(at_once, stop - p)
                    panel = groups.starts[g] + (start - groups.ends[g]) * count
                    column = start
                    while column < end:
                        here = min(most, end - column)
                        _store_product(
                            x,
                            bases,
                            p,
                            many,
                            groups.offsets,
                            rows,
                            groups.weights,
                            panel,
                            count,
                            here,
                            least,
                            groups.bias,
                            groups.targets,
                            column,
                            result,
                            places,
                            stride,
                        )
                        panel += here * count
                        column += here
