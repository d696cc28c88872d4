"""Sums of bit planes by table look-up: four rows of a column for 32 or 64 images with one byte shuffle."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.converter import code
from xbarsim.engine.kernels.outputs import write_outputs
from xbarsim.engine.kernels.planes import (
    BYTE,
    BYTES,
    FULL,
    HALF,
    HALVES,
    PLANES,
    SIDE,
    add_converted,
    add_looked_up,
    add_whole,
    lanes,
    load,
)
from xbarsim.engine.kernels.processor import has_feature
from xbarsim.engine.kernels.vectors import INT32, INT64, LANES, data, everywhere
from xbarsim.foundation.compiling import kernel

__all__ = ["HAS_BYTE_SHUFFLE", "bit_serial_products", "make_tables"]

HAS_BYTE_SHUFFLE = has_feature("avx2")  # what table look-up needs

_COLUMNS = 2 if has_feature("avx512bw") else 1  # summed at a time: as many as 32 or 16 registers hold, with the tables


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
        row = ir.VectorType(BYTE, LANES)
        source, bases, offsets, target = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 2, 5))
        places = [
            builder.gep(source, [builder.load(builder.gep(bases, [ir.Constant(INT64, number)]))])
            for number in range(SIDE)
        ]
        offsets = builder.gep(offsets, [arguments[3]])

        def number(value: int) -> Any:
            return ir.Constant(FULL, [value] * BYTES)

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
                parts = [load(builder, builder.gep(place, [offset]), row) for place in places]
                while len(parts) > 2:
                    parts = [
                        builder.shuffle_vector(a, b, lanes(0, 2 * a.type.count))
                        for a, b in zip(parts[::2], parts[1::2], strict=True)
                    ]
                order = [lane // 2 + lane % 2 * HALF for lane in range(BYTES)]
                rows.append(builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(INT32, BYTES), order)))
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
                            builder.mul(loop.index, ir.Constant(INT64, PLANES)), ir.Constant(INT64, plane)
                        )
                        place = builder.gep(target, [builder.mul(place, ir.Constant(INT64, BYTES))])
                        builder.store(nibble, builder.bitcast(place, FULL.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature, generate


def _summing(columns: int, *, fresh: bool = True, raw: bool = False) -> Any:
    """``sum(nibbles, first, tables, start, next, groups, biases, column, sums)``: table entries of 8 planes, all lanes.

    ``sums[(16 c + 2 b + h) half + lane] += biases[column + c] + sum_q tables[start + next c + 16 q + nibble]`` for
    neighbouring columns c, half h of the positions, and q from `first` for `groups`; with = for += where it is `fresh`.
    A sum is computed in 8 bits, modulo 256, so that it has to lie within 0 and 255 at the end alone; where it is `raw`
    it stays there, ``sums[(8 c + b) BYTES + byte]``. One byte shuffle looks up four rows of a column for all lanes.
    """

    @intrinsic
    def summing(
        typing_context: Any,
        nibbles: Any,
        first: Any,
        tables: Any,
        start: Any,
        following: Any,
        groups: Any,
        biases: Any,
        column: Any,
        sums: Any,
    ) -> Any:
        number = types.int64
        signature = types.void(nibbles, number, tables, number, number, number, biases, number, sums)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            quarter = ir.VectorType(BYTE, 16)
            name = "llvm.x86.avx512.pshuf.b.512" if BYTES == 64 else "llvm.x86.avx2.pshuf.b"
            shuffle = cgutils.get_or_insert_function(builder.module, ir.FunctionType(FULL, [FULL, FULL]), name)
            stride = ir.Constant(INT64, PLANES * BYTES)
            source, table, biases, target = (
                data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 6, 8)
            )
            source = builder.gep(source, [builder.mul(arguments[1], stride)])
            tables = [builder.gep(table, [arguments[3]])]
            biases = builder.gep(biases, [arguments[7]])
            while len(tables) < columns:
                tables.append(builder.gep(tables[-1], [arguments[4]]))
            everywhere_16 = ir.Constant(ir.VectorType(INT32, BYTES), list(range(16)) * (BYTES // 16))

            entry = builder.block
            begun = [
                everywhere(builder, builder.load(builder.gep(biases, [ir.Constant(INT64, c)])), FULL)
                for c in range(columns)
            ]
            loop, done = builder.append_basic_block("look_up.loop"), builder.append_basic_block("look_up.done")
            builder.branch(loop)
            builder.position_at_end(loop)
            q = builder.phi(INT64)
            q.add_incoming(ir.Constant(INT64, 0), entry)
            before = [[builder.phi(FULL) for _ in range(PLANES)] for _ in range(columns)]
            for accumulators, value in zip(before, begun, strict=True):
                for accumulator in accumulators:
                    accumulator.add_incoming(value, entry)
            entries = []
            for each in tables:
                loaded = load(builder, builder.gep(each, [builder.mul(q, ir.Constant(INT64, 16))]), quarter)
                entries.append(builder.shuffle_vector(loaded, ir.Constant(quarter, ir.Undefined), everywhere_16))
            row = builder.gep(source, [builder.mul(q, stride)])
            after: list[list[Any]] = [[] for _ in range(columns)]
            for bit in range(PLANES):
                index = load(builder, builder.gep(row, [ir.Constant(INT64, bit * BYTES)]), FULL)
                for c in range(columns):
                    found = builder.call(shuffle, [entries[c], index])
                    after[c].append(builder.add(before[c][bit], found))
            next_q = builder.add(q, ir.Constant(INT64, 1))
            q.add_incoming(next_q, loop)
            for accumulators, values in zip(before, after, strict=True):
                for accumulator, value in zip(accumulators, values, strict=True):
                    accumulator.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", next_q, arguments[5]), loop, done)
            builder.position_at_end(done)
            for number, value in enumerate(value for values in after for value in values):
                if raw:
                    place = builder.gep(target, [ir.Constant(INT64, number * BYTES)])
                    builder.store(value, builder.bitcast(place, FULL.as_pointer()), align=1)
                    continue
                pairs = builder.bitcast(value, HALVES)
                even = builder.and_(pairs, ir.Constant(HALVES, [255] * HALF))
                odd = builder.lshr(pairs, ir.Constant(HALVES, [8] * HALF))
                for half, total in enumerate((even, odd)):
                    place = builder.gep(target, [ir.Constant(INT64, (2 * number + half) * HALF)])
                    place = builder.bitcast(place, HALVES.as_pointer())
                    if not fresh:
                        total = builder.add(builder.load(place, align=2), total)
                    builder.store(total, place, align=2)
            return context.get_dummy_value()

        return signature, generate

    return summing


_begin_sums, _add_to_sums = _summing(_COLUMNS), _summing(_COLUMNS, fresh=False)
_begin_last, _add_to_last = _summing(1), _summing(1, fresh=False)
_sum_bytes, _sum_last_bytes = _summing(_COLUMNS, raw=True), _summing(1, raw=True)


@kernel(parallel=True)
def make_tables(columns: Any, tables: Any, fits: Any, biases: Any) -> None:
    """Tabulate the partial sums of every four rows, and how many of them can be added in 8 bits.

    `columns` (rows, columns) integers; `tables` int8 (columns, ceil(rows / 4), 16), filled: entry `subset` of quad q of
    column c is the sum of the column over those of rows 4 q to 4 q + 3 whose bits are set in `subset`. `fits` and
    `biases` (columns,), filled: ``biases[c]`` and any entries of ``fits[c]`` quads that follow on a multiple of it add
    up to 0 to 255; columns that are summed together have the same `fits`.
    """
    rows, quads = columns.shape[0], tables.shape[1]
    for pair in prange(-(-columns.shape[1] // _COLUMNS)):
        here = range(pair * _COLUMNS, min((pair + 1) * _COLUMNS, columns.shape[1]))
        for c in here:
            for q in range(quads):
                for subset in range(16):
                    total = 0
                    for r in range(4):
                        if (subset >> r) & 1 and 4 * q + r < rows:
                            total += columns[4 * q + r, c]
                    tables[c, q, subset] = total
        parts, widest = 0, 256
        while widest > 255:  # one quad alone always fits
            parts, widest = parts + 1, 0
            for c in here:
                fits[c] = max(1, -(-quads // parts))
                least, most = 0, 0  # largest sum of negative and of positive rows, of any part
                for first in range(0, quads, fits[c]):
                    below, above = 0, 0
                    for k in range(4 * first, min(4 * (first + fits[c]), rows)):
                        below -= min(0, int(columns[k, c]))
                        above += max(0, int(columns[k, c]))
                    least, most = max(least, below), max(most, above)
                biases[c] = least
                widest = max(widest, least + most)


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
    codes: Any,
    finish: Any,
    result: Any,
) -> None:
    """As :func:`xbarsim.engine.kernels.sums.products`, for whole levels and bit-serial inputs.

    What differs: `inputs` (passes, numbers) are the blocked codes as uint8, cut here into `planes` = (bits of a plane,
    planes); `signs` are those of the passes; rows come in fours: each group has ``columns.driven`` rows and is filled
    up with any others, whose table entries are zero; the converter works in float32, which the caller has proved exact
    for every sum that can occur, or in 16-bit whole numbers unless `whole` is ``None``, or by :class:`CodeTable` unless
    `codes` is. Columns are pairs, or cells without g_min currents.
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
        nibbles = np.empty(longest * PLANES * BYTES, np.uint8)
        short_sums = np.empty(_COLUMNS * PLANES * BYTES, np.uint8)
        sums = np.empty(_COLUMNS * PLANES * BYTES, np.int16)
        totals = np.empty(BYTES, np.float32)
        bases = np.empty(SIDE, np.int64)
        places = np.empty(SIDE, np.int64)
        for t in range(inputs.shape[0]):
            x = inputs[t]
            for g in range(tables.starts.shape[0]):
                rows = columns.rows[g]
                quads = (columns.rows[g + 1] - rows) // 4
                slot = columns.sum_targets[g]
                for p in range(0, count, SIDE):
                    many = min(SIDE, count - p)
                    for number in range(SIDE):
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
                    size = 16 * quads
                    for start in range(columns.ends[g], columns.ends[g + 1], _COLUMNS):
                        here = min(_COLUMNS, columns.ends[g + 1] - start)
                        fits, parts = tables.fits[start], np.int16(0)
                        values, biases = tables.values, tables.biases
                        if codes is not None and dac_bits == 1 and fits >= quads:
                            if here < _COLUMNS:
                                _sum_last_bytes(nibbles, 0, values, table, size, quads, biases, start, short_sums)
                            else:
                                _sum_bytes(nibbles, 0, values, table, size, quads, biases, start, short_sums)
                            table += here * size
                            for c in range(here):
                                column = start + c
                                counts = np.int32(columns.counts[column] * signs[t])
                                add_looked_up(
                                    short_sums,
                                    c * PLANES * BYTES,
                                    plane_count,
                                    codes.values,
                                    codes.zero - np.int64(tables.biases[column]),
                                    codes.least,
                                    counts,
                                    added,
                                    columns.targets[column] * (count + 1) * LANES,
                                    places,
                                )
                            continue
                        for q in range(0, quads, fits):
                            each, place = min(fits, quads - q), table + 16 * q
                            if here < _COLUMNS:
                                if q == 0:
                                    _begin_last(nibbles, q, values, place, size, each, biases, start, sums)
                                else:
                                    _add_to_last(nibbles, q, values, place, size, each, biases, start, sums)
                            elif q == 0:
                                _begin_sums(nibbles, q, values, place, size, each, biases, start, sums)
                            else:
                                _add_to_sums(nibbles, q, values, place, size, each, biases, start, sums)
                            parts += np.int16(1)
                        table += here * size
                        for c in range(here):
                            column, lane = start + c, c * PLANES * BYTES
                            bias = parts * np.int16(tables.biases[column])
                            counts = np.int32(columns.counts[column] * signs[t])
                            target = columns.targets[column]
                            slots = target * (count + 1) * LANES
                            if dac_bits > 1:
                                totals[:] = np.float32(0.0)
                                for plane in range(plane_count):
                                    bit = plane * dac_bits
                                    unit = np.float32(1 << bit)
                                    for i in range(BYTES):
                                        together = np.int32(0)
                                        for b in range(bit, min(bit + dac_bits, PLANES)):
                                            value = np.int32(sums[lane + b * BYTES + i] - bias)
                                            together += value << np.int32(b - bit)
                                        totals[i] += unit * code(np.float32(together), inverse_step, low, high)
                                for number in range(many):
                                    for i in range(LANES):
                                        value = np.int32(totals[number * LANES + i])
                                        added[target, p + number, i] += counts * value
                            elif whole is not None:
                                add_whole(
                                    sums,
                                    lane,
                                    plane_count,
                                    bias,
                                    whole.factor,
                                    whole.shift,
                                    whole.low,
                                    whole.high,
                                    whole.least,
                                    counts,
                                    added,
                                    slots,
                                    places,
                                )
                            else:
                                add_converted(
                                    sums,
                                    lane,
                                    plane_count,
                                    bias,
                                    inverse_step,
                                    low,
                                    high,
                                    counts,
                                    added,
                                    slots,
                                    places,
                                )
        write_outputs(added, count, first, positions, finish, result)
