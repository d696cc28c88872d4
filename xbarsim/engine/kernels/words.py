"""Sums of products of whole numbers, two or four rows at a time: factors of 16 or 8 bits, sums of 32.

A *word* of 32 bits holds the codes of neighbouring input channels: two of 16 bits with their signs, or four of 8 bits
without. One instruction multiplies 8 or 16 words with the weights in another word, number by number, and adds the
products of each: two or four times as many as a fused multiply-add of float32 has lanes. Sums are exact where the
caller has proved that they stay below 2^31.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.inputs import VECTORS, fill_frame, quantise_rows
from xbarsim.engine.kernels.outputs import write_outputs
from xbarsim.engine.kernels.processor import has_feature
from xbarsim.engine.kernels.vectors import INT32, INT64, LANES, data, everywhere, for_each_size
from xbarsim.foundation.compiling import kernel

__all__ = ["HAS_QUADS", "WORD_COLUMNS", "block_words", "word_products"]

_WIDE = has_feature("avx512bw")  # registers of 16 words, 32 of them, and not of 8 words, 16 of them
# One instruction multiplies and adds, and takes four factors of 8 bits a word, too.
HAS_QUADS = has_feature("avx512vnni") or (has_feature("avxvnni") and not _WIDE)

WORD_COLUMNS = 12 if _WIDE else 6  # summed at a time, at each of so many positions, as the registers hold sums
_AT_ONCE = 2 if _WIDE else 1
_CACHED_BYTES = 16 * 2**10  # half of a first-level cache


def _multiply_add(builder: Any, total: Any, inputs: Any, weights: Any, *, quads: bool) -> Any:
    """`total` plus, for each word, the products of its numbers; all vectors of words of one register."""
    words = total.type
    bits = 32 * words.count
    if HAS_QUADS:
        name = f"llvm.x86.avx512.{'vpdpbusd' if quads else 'vpdpwssd'}.{bits}"
        kind = ir.FunctionType(words, [words] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [total, inputs, weights])
    name = "llvm.x86.avx512.pmaddw.d.512" if bits == 512 else "llvm.x86.avx2.pmadd.wd"
    halves = ir.VectorType(ir.IntType(16), 2 * words.count)
    kind = ir.FunctionType(words, [halves] * 2)
    multiply = cgutils.get_or_insert_function(builder.module, kind, name)
    factors = [builder.bitcast(each, halves) for each in (inputs, weights)]
    return builder.add(total, builder.call(multiply, factors))


def _sum_words(*, quads: bool) -> Any:
    """Sums of up to :data:`WORD_COLUMNS` columns for 16 images at one or more positions.

    ``added[place + 16 p + stride c + i]``, for each of `many` positions p, column c and lane i, becomes the sum over k
    from 0 to count - 1 of the numbers of ``inputs[bases[position + p] + offsets[k] + i]`` times those of
    ``panel[start + columns k + c]``.
    """

    @intrinsic
    def summing(
        typing_context: Any,
        inputs: Any,
        bases: Any,
        position: Any,
        many: Any,
        offsets: Any,
        panel: Any,
        start: Any,
        count: Any,
        columns: Any,
        added: Any,
        place: Any,
        stride: Any,
    ) -> Any:
        number = types.int64
        signature = types.void(
            inputs, bases, number, number, offsets, panel, number, number, number, added, number, number
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            inputs, bases, offsets, panel, added = (
                data(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 4, 5, 9)
            )
            bases = builder.gep(bases, [arguments[2]])
            weights = builder.gep(panel, [arguments[6]])
            target = builder.gep(added, [arguments[10]])

            def emit(sources: list[Any], columns: int) -> None:
                _emit_sums(builder, sources, (offsets, weights, target), arguments[7], columns, arguments[11], quads)

            most = (_AT_ONCE, WORD_COLUMNS)
            for_each_size(builder, arguments[3], arguments[8], most, bases, inputs, emit)
            return context.get_dummy_value()

        return signature, generate

    return summing


def _emit_sums(
    builder: Any, sources: list[Any], pointers: Any, count: Any, columns: int, stride: Any, quads: bool
) -> None:
    """The loop over words of rows for so many columns; `sources` of positions, `pointers` to offsets, panel, sums."""
    offsets, weights, target = pointers
    lanes = LANES if _WIDE else LANES // 2
    parts = range(0, LANES, lanes)
    vector = ir.VectorType(INT32, lanes)
    entry = builder.block
    loop, after_loop = builder.append_basic_block("words.loop"), builder.append_basic_block("words.sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(INT64)
    k.add_incoming(ir.Constant(INT64, 0), entry)
    order = [(column, p, part) for column in range(columns) for p in range(len(sources)) for part in parts]
    before = {key: builder.phi(vector) for key in order}
    for accumulator in before.values():
        accumulator.add_incoming(ir.Constant(vector, [0] * lanes), entry)
    offset = builder.load(builder.gep(offsets, [k]))
    given = {}
    for p, source in enumerate(sources):
        row = builder.gep(source, [offset])
        for part in parts:
            place = builder.bitcast(builder.gep(row, [ir.Constant(INT64, part)]), vector.as_pointer())
            given[p, part] = builder.load(place, align=4)
    panel = builder.gep(weights, [builder.mul(k, ir.Constant(INT64, columns))])
    after = {}
    for column in range(columns):
        weight = everywhere(builder, builder.load(builder.gep(panel, [ir.Constant(INT64, column)])), vector)
        for key in order:
            if key[0] == column:
                after[key] = _multiply_add(builder, before[key], given[key[1:]], weight, quads=quads)
    next_k = builder.add(k, ir.Constant(INT64, 1))
    k.add_incoming(next_k, loop)
    for key, accumulator in before.items():
        accumulator.add_incoming(after[key], loop)
    builder.cbranch(builder.icmp_signed("<", next_k, count), loop, after_loop)
    builder.position_at_end(after_loop)
    for column, p, part in order:
        place = builder.add(builder.mul(stride, ir.Constant(INT64, column)), ir.Constant(INT64, p * LANES + part))
        place = builder.bitcast(builder.gep(target, [place]), vector.as_pointer())
        builder.store(after[column, p, part], place, align=4)


_sum_pairs = _sum_words(quads=False)
_sum_quads = _sum_words(quads=HAS_QUADS)


@intrinsic
def _pack(
    typing_context: Any, codes: Any, first: Any, mask: Any, shift: Any, words: Any, place: Any, count: Any
) -> Any:
    """``words[place + i] = (codes[first + i] & mask) << shift``, i below 16 `count`; added if `shift` is not 0."""
    number, word = types.int64, types.int32
    signature = types.void(codes, number, word, word, words, number, number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(INT32, LANES)
        source = builder.gep(data(context, builder, signature.args[0], arguments[0]), [arguments[1]])
        target = builder.gep(data(context, builder, signature.args[4], arguments[4]), [arguments[5]])
        mask, shift = (everywhere(builder, arguments[i], vector) for i in (2, 3))
        fresh = builder.icmp_signed("==", arguments[3], ir.Constant(INT32, 0))
        # What stands there already counts unless this is the lowest part.
        kept = everywhere(builder, builder.select(fresh, ir.Constant(INT32, 0), ir.Constant(INT32, -1)), vector)
        with cgutils.for_range(builder, arguments[6]) as loop:
            offset = builder.mul(loop.index, ir.Constant(INT64, LANES))
            given = builder.bitcast(builder.gep(source, [offset]), ir.VectorType(ir.FloatType(), LANES).as_pointer())
            place = builder.bitcast(builder.gep(target, [offset]), vector.as_pointer())
            value = builder.and_(builder.fptosi(builder.load(given, align=4), vector), mask)
            before = builder.and_(builder.load(place, align=4), kept)
            builder.store(builder.or_(before, builder.shl(value, shift)), place, align=4)
        return context.get_dummy_value()

    return signature, generate


@kernel(parallel=True)
def block_words(values: Any, quantiser: Any, frame: Any, shape: Any, size: int, blocked: Any) -> bool:
    """Quantise feature maps, pad them, and put 16 images side by side, `size` channels in each word.

    `values` as for :func:`xbarsim.engine.kernels.inputs.raw_row`; `shape` is (blocks, words of channels, padded height,
    padded width, 16), of which `blocked`, int32, filled, is the flat array: the code of the first channel is the lowest
    part of a word. All codes fit in ``32 / size`` bits, with their signs where there are two. Returns whether all
    values were finite.
    """
    channels, height, width = values.shape[1], values.shape[2], values.shape[3]
    blocks, stored, padded_height, padded_width, _ = shape
    bits = 32 // size
    mask = np.int32((1 << bits) - 1)
    together = min(height, max(1, VECTORS // width))  # rows
    bad = 0
    for job in prange(blocks * stored):
        block, word = job // stored, job % stored
        raw = np.zeros(LANES * width * together, np.float32)
        codes = np.empty(LANES * width * together, np.float32)
        origin = job * padded_height * padded_width * LANES
        for y in range(0, height, together):
            rows = min(together, height - y)
            for part in range(min(size, channels - size * word)):
                c = size * word + part
                bad += int(not quantise_rows(values, block, c, y, rows, quantiser, raw, codes, 0, width * LANES))
                for r in range(rows):
                    place = origin + ((frame.top + y + r) * padded_width + frame.left) * LANES
                    _pack(codes, r * width * LANES, mask, np.int32(bits * part), blocked, place, width)
        fill_frame(blocked, origin, frame, (height, width, padded_height, padded_width), np.int32(0))
    return bad == 0


@kernel(parallel=True)
def word_products(
    inputs: Any, positions: Any, offsets: Any, panels: Any, width: int, quads: bool, finish: Any, result: Any
) -> None:
    """Every output of every position of every image, in whole numbers.

    Parameters
    ----------
    inputs
        Of :func:`block_words`, flat.
    positions, finish
        As in :mod:`xbarsim.engine.kernels.arguments`.
    offsets
        Of each word of rows, into the blocked input.
    panels
        Weights as words, in panels of `width` neighbouring outputs, row by row, one after another.
    width
        Outputs of each panel but the last, at most :data:`WORD_COLUMNS`.
    quads
        Whether words hold four codes without signs, and four weights with theirs; else they hold two, with signs. Only
        where :data:`HAS_QUADS`.
    result
        Flat, filled; float32 or float64.
    """
    rows, outputs = offsets.shape[0], finish.scale.shape[0]
    bases = positions.bases
    total = bases.shape[0]
    strip = positions.strip
    chunk = max(1, _CACHED_BYTES // (rows * width * 4)) * width
    for job in prange(-(-total // strip)):
        first = job * strip
        count = min(strip, total - first)
        added = np.empty(outputs * count * LANES, np.int32)
        # As many columns at a time as stay in the first cache while the positions pass.
        for start in range(0, outputs, chunk):
            stop = min(start + chunk, outputs)
            for p in range(0, count, _AT_ONCE):
                many = min(_AT_ONCE, count - p)
                here = first + p
                for column in range(start, stop, width):
                    some = min(width, outputs - column)
                    place = (column * count + p) * LANES
                    panel, stride = column * rows, count * LANES
                    if quads:
                        _sum_quads(inputs, bases, here, many, offsets, panels, panel, rows, some, added, place, stride)
                    else:
                        _sum_pairs(inputs, bases, here, many, offsets, panels, panel, rows, some, added, place, stride)
        write_outputs(added.reshape(outputs, count, LANES), count, first, positions, finish, result)
