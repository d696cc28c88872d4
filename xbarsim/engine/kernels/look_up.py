"""Sums of bit planes by table look-up: four rows of a column for 32 images with one byte shuffle."""

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
_PAIR = 2 * LANES  # two positions go side by side: 32 bytes


@intrinsic
def _gather_nibbles(
    typing_context: Any, inputs: Any, base: Any, other: Any, offsets: Any, first: Any, groups: Any, nibbles: Any
) -> Any:
    """Cut four rows at a time into bit planes, for 16 images at each of two positions.

    ``nibbles[(8 q + b) 32 + lane]`` has bit r set where bit b of the code on row 4 q + r of that lane is; row k of
    the lanes
    is at ``inputs[base + offsets[first + k]]``, and at `other` for the upper 16 lanes.
    """
    signature = types.void(inputs, types.int64, types.int64, offsets, types.int64, types.int64, nibbles)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8)
        half, full = ir.VectorType(byte, LANES), ir.VectorType(byte, _PAIR)
        source = data(context, builder, signature.args[0], arguments[0])
        places = builder.gep(data(context, builder, signature.args[3], arguments[3]), [arguments[4]])
        target = data(context, builder, signature.args[6], arguments[6])
        both = ir.Constant(ir.VectorType(INT32, _PAIR), list(range(_PAIR)))
        with cgutils.for_range(builder, arguments[5]) as loop:
            rows = []
            for r in range(4):
                k = builder.add(builder.mul(loop.index, ir.Constant(INT64, 4)), ir.Constant(INT64, r))
                offset = builder.load(builder.gep(places, [k]))
                halves = []
                for start in (arguments[1], arguments[2]):
                    place = builder.gep(source, [builder.add(start, offset)])
                    halves.append(builder.load(builder.bitcast(place, half.as_pointer()), align=1))
                rows.append(builder.shuffle_vector(halves[0], halves[1], both))
            for bit in range(_PLANES):
                nibble = None
                for r in reversed(range(4)):
                    digit = builder.lshr(rows[r], ir.Constant(full, [bit] * _PAIR))
                    digit = builder.and_(digit, ir.Constant(full, [1] * _PAIR))
                    nibble = digit if nibble is None else builder.add(builder.add(nibble, nibble), digit)
                place = builder.add(builder.mul(loop.index, ir.Constant(INT64, _PLANES)), ir.Constant(INT64, bit))
                place = builder.gep(target, [builder.mul(place, ir.Constant(INT64, _PAIR))])
                builder.store(nibble, builder.bitcast(place, full.as_pointer()), align=1)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _look_up(typing_context: Any, nibbles: Any, first: Any, tables: Any, start: Any, groups: Any, sums: Any) -> Any:
    """Add table entries of 8 bit planes and 32 lanes: ``sums[32 b + lane] += sum_q tables[start + 16 q + nibble]``.

    The sum over q runs from `first` for `groups` nibbles in 8 bits and must fit them; `sums` has 16. One AVX2 byte
    shuffle
    looks up four rows of a column for 32 lanes.
    """
    signature = types.void(nibbles, types.int64, tables, types.int64, types.int64, sums)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8)
        half, full = ir.VectorType(byte, LANES), ir.VectorType(byte, _PAIR)
        wide = ir.VectorType(ir.IntType(16), _PAIR)
        shuffle = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(full, [full, full]), "llvm.x86.avx2.pshuf.b"
        )
        stride = ir.Constant(INT64, _PLANES * _PAIR)
        source = data(context, builder, signature.args[0], arguments[0])
        source = builder.gep(source, [builder.mul(arguments[1], stride)])
        table = builder.gep(data(context, builder, signature.args[2], arguments[2]), [arguments[3]])
        target = data(context, builder, signature.args[5], arguments[5])
        twice = ir.Constant(ir.VectorType(INT32, _PAIR), list(range(LANES)) * 2)

        entry = builder.block
        loop, done = builder.append_basic_block("look_up.loop"), builder.append_basic_block("look_up.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        q = builder.phi(INT64)
        q.add_incoming(ir.Constant(INT64, 0), entry)
        before = [builder.phi(full) for _ in range(_PLANES)]
        for accumulator in before:
            accumulator.add_incoming(ir.Constant(full, [0] * _PAIR), entry)
        place = builder.gep(table, [builder.mul(q, ir.Constant(INT64, 16))])
        entries = builder.load(builder.bitcast(place, half.as_pointer()), align=1)
        entries = builder.shuffle_vector(entries, ir.Constant(half, ir.Undefined), twice)
        row = builder.gep(source, [builder.mul(q, stride)])
        after = []
        for bit, accumulator in enumerate(before):
            place = builder.gep(row, [ir.Constant(INT64, bit * _PAIR)])
            index = builder.load(builder.bitcast(place, full.as_pointer()), align=1)
            after.append(builder.add(accumulator, builder.call(shuffle, [entries, index])))
        next_q = builder.add(q, ir.Constant(INT64, 1))
        q.add_incoming(next_q, loop)
        for accumulator, value in zip(before, after, strict=True):
            accumulator.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", next_q, arguments[4]), loop, done)
        builder.position_at_end(done)
        for bit, value in enumerate(after):
            place = builder.gep(target, [ir.Constant(INT64, bit * _PAIR)])
            place = builder.bitcast(place, wide.as_pointer())
            builder.store(builder.add(builder.load(place, align=2), builder.sext(value, wide)), place, align=2)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _add_bits(
    typing_context: Any,
    sums: Any,
    planes: Any,
    inverse_step: Any,
    low: Any,
    high: Any,
    count: Any,
    added: Any,
    place: Any,
    other: Any,
) -> Any:
    """Convert 32 lanes of every bit plane of a column, shift and add them, and add them to the slots of two positions.

    ``added[place + i] += count * sum_b 2^b code(sums[32 b + i])``, and at `other` for lanes 16 on; all in float32,
    where the caller has proved it exact, and int32.
    """
    real = types.float32
    signature = types.void(sums, types.int64, real, real, real, types.int32, added, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        single = ir.FloatType()
        vector, words = ir.VectorType(single, _PAIR), ir.VectorType(INT32, _PAIR)
        short = ir.VectorType(ir.IntType(16), _PAIR)
        half = ir.VectorType(INT32, LANES)
        converter = [everywhere(builder, arguments[k], vector) for k in (2, 3, 4)]
        source = data(context, builder, signature.args[0], arguments[0])
        entry = builder.block
        loop, done = builder.append_basic_block("add_bits.loop"), builder.append_basic_block("add_bits.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        plane, unit, total = builder.phi(INT64), builder.phi(single), builder.phi(vector)
        plane.add_incoming(ir.Constant(INT64, 0), entry)
        unit.add_incoming(ir.Constant(single, 1.0), entry)
        total.add_incoming(ir.Constant(vector, [0.0] * _PAIR), entry)
        place = builder.gep(source, [builder.mul(plane, ir.Constant(INT64, _PAIR))])
        value = builder.sitofp(builder.load(builder.bitcast(place, short.as_pointer()), align=2), vector)
        value = emit_code(builder, value, *converter)
        new_total = builder.fadd(total, builder.fmul(everywhere(builder, unit, vector), value))
        next_plane = builder.add(plane, ir.Constant(INT64, 1))
        plane.add_incoming(next_plane, loop)
        unit.add_incoming(builder.fadd(unit, unit), loop)
        total.add_incoming(new_total, loop)
        builder.cbranch(builder.icmp_signed("<", next_plane, arguments[1]), loop, done)
        builder.position_at_end(done)
        codes = builder.mul(builder.fptosi(new_total, words), everywhere(builder, arguments[5], words))
        target = data(context, builder, signature.args[6], arguments[6])
        for start, where in ((0, arguments[7]), (LANES, arguments[8])):
            lanes = ir.Constant(ir.VectorType(INT32, LANES), list(range(start, start + LANES)))
            part = builder.shuffle_vector(codes, ir.Constant(words, ir.Undefined), lanes)
            here = builder.bitcast(builder.gep(target, [where]), half.as_pointer())
            builder.store(builder.add(builder.load(here, align=4), part), here, align=4)
        return context.get_dummy_value()

    return signature, generate


@kernel(parallel=True)
def make_tables(columns: Any, tables: Any) -> None:
    """Tabulate the partial sums of every four rows.

    `columns` (rows, columns) integers; `tables` int8 (columns, ceil(rows / 4), 16), filled: entry `subset` of quad q of
    column c is the sum of the column over those of rows 4 q to 4 q + 3 whose bits are set in `subset`.
    """
    rows = columns.shape[0]
    for c in prange(columns.shape[1]):
        for q in range(tables.shape[1]):
            for subset in range(16):
                total = 0
                for r in range(4):
                    if (subset >> r) & 1 and 4 * q + r < rows:
                        total += columns[4 * q + r, c]
                tables[c, q, subset] = total


@kernel(parallel=True)
def bit_serial_products(
    inputs: Any,
    signs: Any,
    planes: Any,
    positions: Any,
    columns: Any,
    tables: Any,
    converters: Any,
    finish: Any,
    result: Any,
) -> None:
    """As :func:`xbarsim.engine.kernels.sums.products`, for whole levels and bit-serial inputs.

    What differs: `inputs` (passes, numbers) are the blocked codes as uint8, cut here into `planes` = (bits of a plane,
    planes); `signs` are those of the passes; rows come in fours: each group has ``columns.driven`` rows and is filled
    up with any others, whose table entries are zero; the converter works in float32, which the caller has proved exact
    for every sum that can occur. Columns are pairs, or cells without g_min currents.
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
        # the last position takes what an odd one has no pair for
        added = np.zeros((columns.slots, count + 1, LANES), np.int32)
        nibbles = np.empty(longest * _PLANES * _PAIR, np.uint8)
        sums = np.empty(_PLANES * _PAIR, np.int16)
        totals = np.empty(_PAIR, np.float32)
        for t in range(inputs.shape[0]):
            x = inputs[t]
            for g in range(tables.starts.shape[0]):
                rows = columns.rows[g]
                quads = (columns.rows[g + 1] - rows) // 4
                slot = columns.sum_targets[g]
                for p in range(0, count, 2):
                    pair = min(2, count - p)
                    other = positions.bases[first + p + pair - 1]
                    _gather_nibbles(x, positions.bases[first + p], other, columns.offsets, rows, quads, nibbles)
                    if slot >= 0:
                        for k in range(rows, rows + columns.driven[g]):
                            for half in range(pair):
                                base = positions.bases[first + p + half] + columns.offsets[k]
                                for i in range(LANES):
                                    added[slot, p + half, i] += signs[t] * np.int32(x[base + i])
                    table = tables.starts[g]
                    for column in range(columns.ends[g], columns.ends[g + 1]):
                        sums[:] = 0
                        for q in range(0, quads, tables.fits):
                            _look_up(nibbles, q, tables.values, table + 16 * q, min(tables.fits, quads - q), sums)
                        table += 16 * quads
                        counts = np.int32(columns.counts[column] * signs[t])
                        target = columns.targets[column]
                        if dac_bits == 1:
                            here = (target * (count + 1) + p) * LANES
                            there = here + LANES if pair == 2 else (target * (count + 1) + count) * LANES
                            _add_bits(sums, plane_count, inverse_step, low, high, counts, added, here, there)
                            continue
                        totals[:] = np.float32(0.0)
                        for plane in range(plane_count):
                            bit = plane * dac_bits
                            unit = np.float32(1 << bit)
                            for i in range(_PAIR):
                                whole = np.int32(0)
                                for b in range(bit, min(bit + dac_bits, _PLANES)):
                                    whole += np.int32(sums[b * _PAIR + i]) << np.int32(b - bit)
                                totals[i] += unit * code(np.float32(whole), inverse_step, low, high)
                        for half in range(pair):
                            for i in range(LANES):
                                added[target, p + half, i] += counts * np.int32(totals[half * LANES + i])
        write_outputs(added, count, first, positions, finish, result)
