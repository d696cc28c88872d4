"""Sums of products of whole numbers, two rows at a time: 16-bit factors, 32-bit sums.

AVX2 multiplies 16 pairs of 16-bit integers and adds neighbouring products in one instruction (``vpmaddwd``), twice as
many products as a fused multiply-add of float32 has lanes. So two input channels of 16 images go side by side, as the
halves of 32-bit words, and a weight is a word of two halves too. Sums are exact where the caller has proved that they
stay below 2^31.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.compiling import kernel
from xbarsim.engine.kernels.inputs import quantise_row
from xbarsim.engine.kernels.outputs import write_outputs
from xbarsim.engine.kernels.turning import transpose_8
from xbarsim.engine.kernels.vectors import INT32, INT64, LANES, data, everywhere

__all__ = ["PAIR_COLUMNS", "block_pairs", "pair_products"]

PAIR_COLUMNS = 6  # summed at a time: 12 accumulators of 8 sums, of 16 registers
_CACHED_BYTES = 16 * 2**10  # half of a first-level cache


@intrinsic
def _sum_pairs(
    typing_context: Any,
    inputs: Any,
    base: Any,
    offsets: Any,
    panel: Any,
    start: Any,
    count: Any,
    columns: Any,
    added: Any,
    place: Any,
    stride: Any,
) -> Any:
    """Sums of up to six columns for 16 images.

    ``added[place + stride c + i]``, for each column c and lane i, becomes the sum over k from 0 to count - 1 of both
    halves of ``inputs[base + offsets[k] + i]`` times those of ``panel[start + columns k + c]``.
    """
    number = types.int64
    signature = types.void(inputs, number, offsets, panel, number, number, number, added, number, number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = builder.gep(data(context, builder, signature.args[0], arguments[0]), [arguments[1]])
        places = data(context, builder, signature.args[2], arguments[2])
        weights = builder.gep(data(context, builder, signature.args[3], arguments[3]), [arguments[4]])
        target = builder.gep(data(context, builder, signature.args[7], arguments[7]), [arguments[8]])
        done = builder.append_basic_block("pairs.done")
        starts = [builder.append_basic_block(f"pairs.{many}") for many in range(1, PAIR_COLUMNS + 1)]
        switch = builder.switch(arguments[6], starts[0])
        for many, block in enumerate(starts, 1):
            switch.add_case(ir.Constant(INT64, many), block)
            builder.position_at_end(block)
            _emit_pairs(builder, (source, places, weights, target), arguments[5], many, arguments[9])
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, generate


def _emit_pairs(builder: Any, pointers: Any, count: Any, columns: int, stride: Any) -> None:
    """The loop over pairs of rows for so many columns; `pointers` to inputs, offsets, panel and sums."""
    inputs, offsets, weights, target = pointers
    word, half = ir.VectorType(INT32, 8), ir.VectorType(ir.IntType(16), 16)
    multiply = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(word, [half, half]), "llvm.x86.avx2.pmadd.wd"
    )
    entry = builder.block
    loop, after_loop = builder.append_basic_block("pairs.loop"), builder.append_basic_block("pairs.sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(INT64)
    k.add_incoming(ir.Constant(INT64, 0), entry)
    before = [builder.phi(word) for _ in range(2 * columns)]
    for accumulator in before:
        accumulator.add_incoming(ir.Constant(word, [0] * 8), entry)
    row = builder.gep(inputs, [builder.load(builder.gep(offsets, [k]))])
    given = []
    for first in (0, 8):
        place = builder.bitcast(builder.gep(row, [ir.Constant(INT64, first)]), half.as_pointer())
        given.append(builder.load(place, align=4))
    panel = builder.gep(weights, [builder.mul(k, ir.Constant(INT64, columns))])
    after = []
    for column in range(columns):
        weight = builder.load(builder.gep(panel, [ir.Constant(INT64, column)]))
        factors = builder.bitcast(everywhere(builder, weight, word), half)
        for part in range(2):
            after.append(builder.add(before[2 * column + part], builder.call(multiply, [given[part], factors])))
    next_k = builder.add(k, ir.Constant(INT64, 1))
    k.add_incoming(next_k, loop)
    for accumulator, value in zip(before, after, strict=True):
        accumulator.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, count), loop, after_loop)
    builder.position_at_end(after_loop)
    for number, value in enumerate(after):
        column, part = divmod(number, 2)
        place = builder.add(builder.mul(stride, ir.Constant(INT64, column)), ir.Constant(INT64, 8 * part))
        builder.store(value, builder.bitcast(builder.gep(target, [place]), word.as_pointer()), align=4)


@kernel(parallel=True)
def block_pairs(values: Any, quantiser: Any, frame: Any, shape: Any, blocked: Any) -> bool:
    """Quantise feature maps, pad them, and put 16 images side by side, two channels in each word.

    `values` (images, channels, height, width) float32; `shape` is (blocks, pairs of channels, padded height, padded
    width, 16), of which `blocked`, int32, filled, is the flat array: the code of the even channel is its lower half,
    that of the odd one the upper. All codes fit in 16 bits. Returns whether all values were finite.
    """
    images, channels, height, width = values.shape
    blocks, pairs, padded_height, padded_width, _ = shape
    wide = -(-width // 8) * 8
    top, left = frame.top, frame.left
    bad = 0
    for job in prange(blocks * pairs):
        block, pair = job // pairs, job % pairs
        first = block * LANES
        count = min(LANES, images - first)
        codes = np.zeros((2, LANES * wide), np.float32)
        words = np.zeros(LANES * wide, np.int32)
        turned = np.zeros(8 * LANES, np.int32)
        origin = job * padded_height * padded_width * LANES
        for y in range(padded_height):
            inside = top <= y < top + height
            for x in range(padded_width):
                if not (inside and left <= x < left + width):
                    for lane in range(LANES):
                        blocked[origin + (y * padded_width + x) * LANES + lane] = 0
        for y in range(height):
            for half in range(min(2, channels - 2 * pair)):
                for lane in range(count):
                    row = codes[half, lane * wide : lane * wide + width]
                    bad += quantise_row(values[first + lane, 2 * pair + half, y], quantiser, row)
            for i in range(count * wide):
                words[i] = (np.int32(codes[1, i]) << np.int32(16)) | (np.int32(codes[0, i]) & np.int32(0xFFFF))
            place = origin + ((top + y) * padded_width + left) * LANES
            for x in range(0, wide, 8):
                if x + 8 <= width:
                    transpose_8(words, x, wide, blocked, place + x * LANES, LANES)
                    transpose_8(words, x + 8 * wide, wide, blocked, place + x * LANES + 8, LANES)
                else:
                    transpose_8(words, x, wide, turned, 0, LANES)
                    transpose_8(words, x + 8 * wide, wide, turned, 8, LANES)
                    for i in range((width - x) * LANES):
                        blocked[place + x * LANES + i] = turned[i]
    return bad == 0


@kernel(parallel=True)
def pair_products(inputs: Any, positions: Any, offsets: Any, panels: Any, finish: Any, result: Any) -> None:
    """Every output of every position of every image, in whole numbers.

    Parameters
    ----------
    inputs
        Of :func:`block_pairs`, flat.
    positions, finish
        As in :mod:`xbarsim.engine.kernels.arguments`.
    offsets
        Of each pair of rows, into the blocked input.
    panels
        Weights as words of two halves, in panels of neighbouring outputs, row by row, one after another.
    result
        Flat, filled; float32 or float64.
    """
    pairs, outputs = offsets.shape[0], finish.scale.shape[0]
    total = positions.bases.shape[0]
    strip = positions.strip
    chunk = max(1, _CACHED_BYTES // (pairs * PAIR_COLUMNS * 4)) * PAIR_COLUMNS
    for job in prange(-(-total // strip)):
        first = job * strip
        count = min(strip, total - first)
        added = np.empty(outputs * count * LANES, np.int32)
        # As many columns at a time as stay in the first cache while the positions pass.
        for start in range(0, outputs, chunk):
            stop = min(start + chunk, outputs)
            for p in range(count):
                base = positions.bases[first + p]
                for column in range(start, stop, PAIR_COLUMNS):
                    here = min(PAIR_COLUMNS, outputs - column)
                    place = (column * count + p) * LANES
                    _sum_pairs(inputs, base, offsets, panels, column * pairs, pairs, here, added, place, count * LANES)
        write_outputs(added.reshape(outputs, count, LANES), count, first, positions, finish, result)
