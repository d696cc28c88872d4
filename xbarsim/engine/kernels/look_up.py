"""Sums of bit planes by table look-up: four rows of a column for 32 or 64 images with one byte shuffle."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.compiling import kernel
from xbarsim.engine.kernels.converter import code, emit_code
from xbarsim.engine.kernels.outputs import write_outputs
from xbarsim.engine.kernels.processor import has_feature
from xbarsim.engine.kernels.vectors import INT32, INT64, LANES, data, everywhere

__all__ = ["HAS_BYTE_SHUFFLE", "bit_serial_products", "make_tables"]

HAS_BYTE_SHUFFLE = has_feature("avx2")  # what table look-up needs

_PLANES = 8  # input bits that a table look-up serves at a time
_SIDE = 4 if has_feature("avx512bw") else 2  # positions that go side by side, a byte each of 16 images: one register
_BYTES = _SIDE * LANES
_HALF = _BYTES // 2  # lanes of a register of 16-bit numbers

_BYTE, _SHORT = ir.IntType(8), ir.IntType(16)
_FULL, _HALVES = ir.VectorType(_BYTE, _BYTES), ir.VectorType(_SHORT, _HALF)


def _load(builder: Any, pointer: Any, vector: Any) -> Any:
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=1)


def _lanes(start: int, count: int) -> Any:
    return ir.Constant(ir.VectorType(INT32, count), list(range(start, start + count)))


@intrinsic
def _gather_nibbles(
    typing_context: Any, inputs: Any, bases: Any, offsets: Any, first: Any, groups: Any, nibbles: Any
) -> Any:
    """Cut four rows at a time into bit planes, for 16 images at each of the positions that go side by side.

    Byte `lane` of ``nibbles[8 q + b]`` has bit r set where bit b of the code on row 4 q + r of that lane is; row k is
    at ``inputs[bases[position] + offsets[first + k]]``. Lanes of the first half of the positions are the even bytes,
    those of the second half the odd ones, so that sums in bytes become 16-bit numbers without a shuffle.
    """
    signature = types.void(inputs, bases, offsets, types.int64, types.int64, nibbles)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row = ir.VectorType(_BYTE, LANES)
        source, bases, offsets, target = (
            data(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 2, 5)
        )
        places = [
            builder.gep(source, [builder.load(builder.gep(bases, [ir.Constant(INT64, number)]))])
            for number in range(_SIDE)
        ]
        offsets = builder.gep(offsets, [arguments[3]])

        def number(value: int) -> Any:
            return ir.Constant(_FULL, [value] * _BYTES)

        def mixed(low: Any, high: Any, bits: int) -> Any:
            """Fields of so many bits of two rows: every second field of each, the lower ones, then the upper ones."""
            mask = {1: 0x55, 2: 0x33}[bits]
            lower = builder.or_(
                builder.and_(low, number(mask)), builder.shl(builder.and_(high, number(mask)), number(bits))
            )
            upper = builder.or_(
                builder.and_(builder.lshr(low, number(bits)), number(mask)), builder.and_(high, number(0xFF ^ mask))
            )
            return lower, upper

        with cgutils.for_range(builder, arguments[4]) as loop:
            rows = []
            for r in range(4):
                k = builder.add(builder.mul(loop.index, ir.Constant(INT64, 4)), ir.Constant(INT64, r))
                offset = builder.load(builder.gep(offsets, [k]))
                parts = [_load(builder, builder.gep(place, [offset]), row) for place in places]
                while len(parts) > 2:
                    parts = [
                        builder.shuffle_vector(a, b, _lanes(0, 2 * a.type.count))
                        for a, b in zip(parts[::2], parts[1::2], strict=True)
                    ]
                order = [lane // 2 + lane % 2 * _HALF for lane in range(_BYTES)]
                rows.append(builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(INT32, _BYTES), order)))
            # A transposition of 4 x 8 bits: first pairs of rows, then the four of them.
            first_pair, second_pair = mixed(rows[0], rows[1], 1), mixed(rows[2], rows[3], 1)
            for odd in range(2):
                for upper, fours in enumerate(mixed(first_pair[odd], second_pair[odd], 2)):
                    bit = 2 * upper + odd
                    for plane, nibble in (
                        (bit, builder.and_(fours, number(15))),
                        (bit + 4, builder.lshr(fours, number(4))),
                    ):
                        place = builder.add(
                            builder.mul(loop.index, ir.Constant(INT64, _PLANES)), ir.Constant(INT64, plane)
                        )
                        place = builder.gep(target, [builder.mul(place, ir.Constant(INT64, _BYTES))])
                        builder.store(nibble, builder.bitcast(place, _FULL.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature, generate


def _summing(*, fresh: bool) -> Any:
    """``sum(nibbles, first, tables, start, groups, bias, sums)`` adds table entries, of 8 bit planes and all lanes.

    ``sums[(2 b + h) half + lane] += bias + sum_q tables[start + 16 q + nibble]`` for half h of the positions, q from
    `first` for `groups`; with = for += where it is `fresh`. The sum is computed in 8 bits, modulo 256, so that it has
    to lie within 0 and 255 at the end alone. One byte shuffle looks up four rows of a column for all lanes.
    """

    @intrinsic
    def summing(
        typing_context: Any, nibbles: Any, first: Any, tables: Any, start: Any, groups: Any, bias: Any, sums: Any
    ) -> Any:
        signature = types.void(nibbles, types.int64, tables, types.int64, types.int64, types.uint8, sums)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            quarter = ir.VectorType(_BYTE, 16)
            name = "llvm.x86.avx512.pshuf.b.512" if _BYTES == 64 else "llvm.x86.avx2.pshuf.b"
            shuffle = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_FULL, [_FULL, _FULL]), name)
            stride = ir.Constant(INT64, _PLANES * _BYTES)
            source, table, target = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 6))
            source = builder.gep(source, [builder.mul(arguments[1], stride)])
            table = builder.gep(table, [arguments[3]])
            everywhere_16 = ir.Constant(ir.VectorType(INT32, _BYTES), list(range(16)) * (_BYTES // 16))
            begun = everywhere(builder, arguments[5], _FULL)

            entry = builder.block
            loop, done = builder.append_basic_block("look_up.loop"), builder.append_basic_block("look_up.done")
            builder.branch(loop)
            builder.position_at_end(loop)
            q = builder.phi(INT64)
            q.add_incoming(ir.Constant(INT64, 0), entry)
            before = [builder.phi(_FULL) for _ in range(_PLANES)]
            for accumulator in before:
                accumulator.add_incoming(begun, entry)
            place = builder.gep(table, [builder.mul(q, ir.Constant(INT64, 16))])
            entries = _load(builder, place, quarter)
            entries = builder.shuffle_vector(entries, ir.Constant(quarter, ir.Undefined), everywhere_16)
            row = builder.gep(source, [builder.mul(q, stride)])
            after = []
            for bit, accumulator in enumerate(before):
                index = _load(builder, builder.gep(row, [ir.Constant(INT64, bit * _BYTES)]), _FULL)
                after.append(builder.add(accumulator, builder.call(shuffle, [entries, index])))
            next_q = builder.add(q, ir.Constant(INT64, 1))
            q.add_incoming(next_q, loop)
            for accumulator, value in zip(before, after, strict=True):
                accumulator.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", next_q, arguments[4]), loop, done)
            builder.position_at_end(done)
            for bit, value in enumerate(after):
                pairs = builder.bitcast(value, _HALVES)
                even = builder.and_(pairs, ir.Constant(_HALVES, [255] * _HALF))
                odd = builder.lshr(pairs, ir.Constant(_HALVES, [8] * _HALF))
                for half, total in enumerate((even, odd)):
                    place = builder.gep(target, [ir.Constant(INT64, (2 * bit + half) * _HALF)])
                    place = builder.bitcast(place, _HALVES.as_pointer())
                    if not fresh:
                        total = builder.add(builder.load(place, align=2), total)
                    builder.store(total, place, align=2)
            return context.get_dummy_value()

        return signature, generate

    return summing


_begin_sums, _add_to_sums = _summing(fresh=True), _summing(fresh=False)


def _emit_planes(builder: Any, sums: Any, planes: Any, begun: Any, add: Any) -> list[Any]:
    """A loop over the bit planes of a column, highest first: ``total = add(total, sums of half h)`` for both halves."""
    entry = builder.block
    loop, done = builder.append_basic_block("planes.loop"), builder.append_basic_block("planes.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    plane = builder.phi(INT64)
    plane.add_incoming(planes, entry)
    totals = [builder.phi(begun.type) for _ in range(2)]
    lower = builder.sub(plane, ir.Constant(INT64, 1))
    after = []
    for half, total in enumerate(totals):
        total.add_incoming(begun, entry)
        place = builder.add(builder.mul(lower, ir.Constant(INT64, 2)), ir.Constant(INT64, half))
        place = builder.gep(sums, [builder.mul(place, ir.Constant(INT64, _HALF))])
        after.append(add(total, builder.load(builder.bitcast(place, _HALVES.as_pointer()), align=2)))
    plane.add_incoming(lower, loop)
    for total, value in zip(totals, after, strict=True):
        total.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed(">", lower, ir.Constant(INT64, 0)), loop, done)
    builder.position_at_end(done)
    return after


def _emit_added(builder: Any, totals: list[Any], count: Any, added: Any, places: Any) -> None:
    """Add ``count`` times 32-bit totals of both halves to the slots of all positions."""
    words = ir.VectorType(INT32, LANES)
    for number in range(_SIDE):
        total = totals[number // (_SIDE // 2)]
        part = builder.shuffle_vector(
            total, ir.Constant(total.type, ir.Undefined), _lanes(number % (_SIDE // 2) * LANES, LANES)
        )
        part = builder.mul(part, everywhere(builder, count, words))
        place = builder.load(builder.gep(places, [ir.Constant(INT64, number)]))
        here = builder.bitcast(builder.gep(added, [place]), words.as_pointer())
        builder.store(builder.add(builder.load(here, align=4), part), here, align=4)


@intrinsic
def _add_bits(
    typing_context: Any,
    sums: Any,
    planes: Any,
    bias: Any,
    inverse_step: Any,
    low: Any,
    high: Any,
    count: Any,
    added: Any,
    start: Any,
    places: Any,
) -> Any:
    """Convert all lanes of every bit plane of a column, shift and add them, and add them to the slots of the positions.

    ``added[start + places[position] + lane] += count * sum_b 2^b code(sums of b, less the bias)``; all in float32, where
    the caller has proved it exact, and int32.
    """
    real = types.float32
    signature = types.void(
        sums, types.int64, types.int16, real, real, real, types.int32, added, types.int64, places
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, words = ir.VectorType(ir.FloatType(), _HALF), ir.VectorType(INT32, _HALF)
        source, added, places = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 7, 9))
        bias = everywhere(builder, arguments[2], _HALVES)
        converter = [everywhere(builder, arguments[k], vector) for k in (3, 4, 5)]

        def add(total: Any, value: Any) -> Any:
            value = builder.sitofp(builder.sub(value, bias), vector)
            return builder.fadd(builder.fadd(total, total), emit_code(builder, value, *converter))

        totals = _emit_planes(builder, source, arguments[1], ir.Constant(vector, [0.0] * _HALF), add)
        totals = [builder.fptosi(total, words) for total in totals]
        _emit_added(builder, totals, arguments[6], builder.gep(added, [arguments[8]]), places)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _add_bits_whole(
    typing_context: Any,
    sums: Any,
    planes: Any,
    bias: Any,
    factor: Any,
    shift: Any,
    low: Any,
    high: Any,
    least: Any,
    count: Any,
    added: Any,
    start: Any,
    places: Any,
) -> Any:
    """As `_add_bits` in 16-bit whole numbers, see :class:`xbarsim.engine.kernels.arguments.WholeConverters`.

    `least` is what codes add up to at least; totals are computed modulo 2^16.
    """
    short = types.int16
    signature = types.void(
        sums, types.int64, short, short, short, short, short, types.int32, types.int32, added, types.int64, places
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = ir.VectorType(INT32, _HALF)
        name = "llvm.x86.avx512.pmul.hr.sw.512" if _BYTES == 64 else "llvm.x86.avx2.pmul.hr.sw"
        multiply = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_HALVES, [_HALVES, _HALVES]), name
        )
        source, added, places = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 9, 11))
        bias, factor, shift, low, high = (everywhere(builder, arguments[i], _HALVES) for i in (2, 3, 4, 5, 6))

        def add(total: Any, value: Any) -> Any:
            value = builder.shl(builder.sub(value, bias), shift)
            value = builder.call(multiply, [value, factor])
            value = builder.select(builder.icmp_signed("<", value, low), low, value)
            value = builder.select(builder.icmp_signed(">", value, high), high, value)
            return builder.add(builder.add(total, total), value)

        totals = _emit_planes(builder, source, arguments[1], ir.Constant(_HALVES, [0] * _HALF), add)
        lowest = everywhere(builder, builder.trunc(arguments[7], _SHORT), _HALVES)
        least = everywhere(builder, arguments[7], words)
        totals = [builder.add(builder.zext(builder.sub(total, lowest), words), least) for total in totals]
        _emit_added(builder, totals, arguments[8], builder.gep(added, [arguments[10]]), places)
        return context.get_dummy_value()

    return signature, generate


@kernel(parallel=True)
def make_tables(columns: Any, tables: Any, fits: Any, biases: Any) -> None:
    """Tabulate the partial sums of every four rows, and how many of them can be added in 8 bits.

    `columns` (rows, columns) integers; `tables` int8 (columns, ceil(rows / 4), 16), filled: entry `subset` of quad q of
    column c is the sum of the column over those of rows 4 q to 4 q + 3 whose bits are set in `subset`. `fits` and
    `biases` (columns,), filled: ``biases[c]`` and any entries of ``fits[c]`` quads that follow on a multiple of it add
    up to 0 to 255.
    """
    rows, quads = columns.shape[0], tables.shape[1]
    for c in prange(columns.shape[1]):
        for q in range(quads):
            for subset in range(16):
                total = 0
                for r in range(4):
                    if (subset >> r) & 1 and 4 * q + r < rows:
                        total += columns[4 * q + r, c]
                tables[c, q, subset] = total
        parts, least, most = 0, 256, 0
        while least + most > 255:  # one quad alone always fits
            parts += 1
            fits[c] = max(1, -(-quads // parts))
            least, most = 0, 0  # largest sum of negative and of positive rows, of any part
            for first in range(0, quads, fits[c]):
                below, above = 0, 0
                for k in range(4 * first, min(4 * (first + fits[c]), rows)):
                    below -= min(0, int(columns[k, c]))
                    above += max(0, int(columns[k, c]))
                least, most = max(least, below), max(most, above)
        biases[c] = least


@kernel(parallel=True)
def bit_serial_products(
    inputs: Any,
    signs: Any,
    planes: Any,
    positions: Any,
    columns: Any,
    tables: Any,
    converters: Any,
    whole: Any,
    finish: Any,
    result: Any,
) -> None:
    """As :func:`xbarsim.engine.kernels.sums.products`, for whole levels and bit-serial inputs.

    What differs: `inputs` (passes, numbers) are the blocked codes as uint8, cut here into `planes` = (bits of a plane,
    planes); `signs` are those of the passes; rows come in fours: each group has ``columns.driven`` rows and is filled
    up with any others, whose table entries are zero; the converter works in float32, which the caller has proved exact
    for every sum that can occur, or in 16-bit whole numbers unless `whole` is ``None``. Columns are pairs, or cells
    without g_min currents.
    """
    dac_bits, plane_count = planes
    total = positions.bases.shape[0]
    strip = positions.strip
    inverse_step, low, high = converters.inverse_step, converters.low, converters.high
    longest = 0
    for g in range(tables.starts.shape[0]):
        longest = max(longest, (columns.rows[g + 1] - columns.rows[g]) // 4)
    for job in prange(-(-total // strip)):
        first = job * strip
        count = min(strip, total - first)
        # the last position takes what the last ones have no neighbours for
        added = np.zeros((columns.slots, count + 1, LANES), np.int32)
        nibbles = np.empty(longest * _PLANES * _BYTES, np.uint8)
        sums = np.empty(_PLANES * _BYTES, np.int16)
        totals = np.empty(_BYTES, np.float32)
        bases = np.empty(_SIDE, np.int64)
        places = np.empty(_SIDE, np.int64)
        for t in range(inputs.shape[0]):
            x = inputs[t]
            for g in range(tables.starts.shape[0]):
                rows = columns.rows[g]
                quads = (columns.rows[g + 1] - rows) // 4
                slot = columns.sum_targets[g]
                for p in range(0, count, _SIDE):
                    many = min(_SIDE, count - p)
                    for number in range(_SIDE):
                        bases[number] = positions.bases[first + p + min(number, many - 1)]
                        places[number] = (p + number if number < many else count) * LANES
                    _gather_nibbles(x, bases, columns.offsets, rows, quads, nibbles)
                    if slot >= 0:
                        for k in range(rows, rows + columns.driven[g]):
                            for number in range(many):
                                base = bases[number] + columns.offsets[k]
                                for i in range(LANES):
                                    added[slot, p + number, i] += signs[t] * np.int32(x[base + i])
                    table = tables.starts[g]
                    for column in range(columns.ends[g], columns.ends[g + 1]):
                        fits, bias = tables.fits[column], tables.biases[column]
                        _begin_sums(nibbles, 0, tables.values, table, min(fits, quads), bias, sums)
                        biases = np.int16(bias)
                        for q in range(fits, quads, fits):
                            groups = min(fits, quads - q)
                            _add_to_sums(nibbles, q, tables.values, table + 16 * q, groups, bias, sums)
                            biases += np.int16(bias)
                        table += 16 * quads
                        counts = np.int32(columns.counts[column] * signs[t])
                        start = columns.targets[column] * (count + 1) * LANES
                        if dac_bits == 1:
                            if whole is not None:
                                _add_bits_whole(
                                    sums,
                                    plane_count,
                                    biases,
                                    whole.factor,
                                    whole.shift,
                                    whole.low,
                                    whole.high,
                                    whole.least,
                                    counts,
                                    added,
                                    start,
                                    places,
                                )
                            else:
                                _add_bits(
                                    sums, plane_count, biases, inverse_step, low, high, counts, added, start, places
                                )
                            continue
                        totals[:] = np.float32(0.0)
                        for plane in range(plane_count):
                            bit = plane * dac_bits
                            unit = np.float32(1 << bit)
                            for i in range(_BYTES):
                                together = np.int32(0)
                                for b in range(bit, min(bit + dac_bits, _PLANES)):
                                    together += np.int32(sums[b * _BYTES + i] - biases) << np.int32(b - bit)
                                totals[i] += unit * code(np.float32(together), inverse_step, low, high)
                        for number in range(many):
                            for i in range(LANES):
                                value = np.int32(totals[number * LANES + i])
                                added[columns.targets[column], p + number, i] += counts * value
        write_outputs(added, count, first, positions, finish, result)
