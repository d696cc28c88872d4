"""Bit planes of a column: their sums converted, shifted and added, for 32 or 64 images side by side.

Sums in bytes lie in one register: the lanes of the first half of the positions in its even bytes, those of the second
half in its odd ones. As 16-bit numbers they lie in two registers, one for each half.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.converter import emit_code
from xbarsim.engine.kernels.processor import has_feature
from xbarsim.engine.kernels.vectors import INT32, INT64, LANES, data, everywhere

__all__ = [
    "BYTE",
    "BYTES",
    "FULL",
    "HALF",
    "HALVES",
    "HAS_BYTE_PERMUTE",
    "PLANES",
    "SIDE",
    "add_converted",
    "add_looked_up",
    "add_whole",
    "lanes",
    "load",
]

HAS_BYTE_PERMUTE = has_feature("avx512vbmi")  # what codes in a table need

PLANES = 8  # bits of an input that are read at a time
SIDE = 4 if has_feature("avx512bw") else 2  # positions that go side by side, a byte each of 16 images: one register
BYTES = SIDE * LANES
HALF = BYTES // 2  # lanes of a register of 16-bit numbers

BYTE, SHORT = ir.IntType(8), ir.IntType(16)
FULL, HALVES = ir.VectorType(BYTE, BYTES), ir.VectorType(SHORT, HALF)


def load(builder: Any, pointer: Any, vector: Any) -> Any:
    """A vector from anywhere."""
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=1)


def lanes(start: int, count: int) -> Any:
    """Numbers of lanes that follow one another, as a shuffle takes them."""
    return ir.Constant(ir.VectorType(INT32, count), list(range(start, start + count)))


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
        place = builder.gep(sums, [builder.mul(place, ir.Constant(INT64, HALF))])
        after.append(add(total, builder.load(builder.bitcast(place, HALVES.as_pointer()), align=2)))
    plane.add_incoming(lower, loop)
    for total, value in zip(totals, after, strict=True):
        total.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed(">", lower, ir.Constant(INT64, 0)), loop, done)
    builder.position_at_end(done)
    return after


def _emit_added(builder: Any, totals: list[Any], count: Any, added: Any, places: Any) -> None:
    """Add ``count`` times 32-bit totals of both halves to the slots of all positions."""
    words = ir.VectorType(INT32, LANES)
    for number in range(SIDE):
        total = totals[number // (SIDE // 2)]
        part = builder.shuffle_vector(
            total, ir.Constant(total.type, ir.Undefined), lanes(number % (SIDE // 2) * LANES, LANES)
        )
        part = builder.mul(part, everywhere(builder, count, words))
        place = builder.load(builder.gep(places, [ir.Constant(INT64, number)]))
        here = builder.bitcast(builder.gep(added, [place]), words.as_pointer())
        builder.store(builder.add(builder.load(here, align=4), part), here, align=4)


@intrinsic
def add_converted(
    typing_context: Any,
    sums: Any,
    first: Any,
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

    ``added[start + places[position] + lane] += count * sum_b 2^b code(sums of b, less the bias)``, sums from `first`
    on; all in float32, where the caller has proved it exact, and int32.
    """
    real = types.float32
    signature = types.void(
        sums, types.int64, types.int64, types.int16, real, real, real, types.int32, added, types.int64, places
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, words = ir.VectorType(ir.FloatType(), HALF), ir.VectorType(INT32, HALF)
        source, added, places = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 8, 10))
        source = builder.gep(source, [arguments[1]])
        bias = everywhere(builder, arguments[3], HALVES)
        converter = [everywhere(builder, arguments[k], vector) for k in (4, 5, 6)]

        def add(total: Any, value: Any) -> Any:
            value = builder.sitofp(builder.sub(value, bias), vector)
            return builder.fadd(builder.fadd(total, total), emit_code(builder, value, *converter))

        totals = _emit_planes(builder, source, arguments[2], ir.Constant(vector, [0.0] * HALF), add)
        totals = [builder.fptosi(total, words) for total in totals]
        _emit_added(builder, totals, arguments[7], builder.gep(added, [arguments[9]]), places)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_whole(
    typing_context: Any,
    sums: Any,
    first: Any,
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
    """As `add_converted` in 16-bit whole numbers, see :class:`xbarsim.engine.kernels.arguments.WholeConverters`.

    `least` is what codes add up to at least; totals are computed modulo 2^16.
    """
    short, word, number = types.int16, types.int32, types.int64
    signature = types.void(sums, number, number, short, short, short, short, short, word, word, added, number, places)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = ir.VectorType(INT32, HALF)
        name = "llvm.x86.avx512.pmul.hr.sw.512" if BYTES == 64 else "llvm.x86.avx2.pmul.hr.sw"
        multiply = cgutils.get_or_insert_function(builder.module, ir.FunctionType(HALVES, [HALVES, HALVES]), name)
        source, added, places = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 10, 12))
        source = builder.gep(source, [arguments[1]])
        bias, factor, shift, low, high = (everywhere(builder, arguments[i], HALVES) for i in (3, 4, 5, 6, 7))

        def add(total: Any, value: Any) -> Any:
            value = builder.shl(builder.sub(value, bias), shift)
            value = builder.call(multiply, [value, factor])
            value = builder.select(builder.icmp_signed("<", value, low), low, value)
            value = builder.select(builder.icmp_signed(">", value, high), high, value)
            return builder.add(builder.add(total, total), value)

        totals = _emit_planes(builder, source, arguments[2], ir.Constant(HALVES, [0] * HALF), add)
        lowest = everywhere(builder, builder.trunc(arguments[8], SHORT), HALVES)
        least = everywhere(builder, arguments[8], words)
        totals = [builder.add(builder.zext(builder.sub(total, lowest), words), least) for total in totals]
        _emit_added(builder, totals, arguments[9], builder.gep(added, [arguments[11]]), places)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_looked_up(
    typing_context: Any,
    sums: Any,
    first: Any,
    planes: Any,
    codes: Any,
    zero: Any,
    least: Any,
    count: Any,
    added: Any,
    start: Any,
    places: Any,
) -> Any:
    """As `add_converted` for sums in bytes, whose codes stand in a table of bytes: of sum s at ``codes[zero + s]``.

    `least` is added for the lowest code, which stands there as 0. Two shuffles of 128 bytes look up 64 codes.
    """
    number = types.int64
    signature = types.void(sums, number, number, codes, number, types.int32, types.int32, added, number, places)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = ir.VectorType(INT32, HALF)
        find = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(FULL, [FULL] * 3), "llvm.x86.avx512.vpermi2var.qi.512"
        )
        source, codes, added, places = (data(context, builder, signature.args[i], arguments[i]) for i in (0, 3, 7, 9))
        source, codes = builder.gep(source, [arguments[1]]), builder.gep(codes, [arguments[4]])
        parts = [load(builder, builder.gep(codes, [ir.Constant(INT64, part * BYTES)]), FULL) for part in range(4)]
        entry = builder.block
        loop, done = builder.append_basic_block("codes.loop"), builder.append_basic_block("codes.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        plane, even, odd = builder.phi(INT64), builder.phi(HALVES), builder.phi(HALVES)
        lower = builder.sub(plane, ir.Constant(INT64, 1))
        total = load(builder, builder.gep(source, [builder.mul(lower, ir.Constant(INT64, BYTES))]), FULL)
        upper = builder.icmp_signed("<", total, ir.Constant(FULL, [0] * BYTES))
        halves = [builder.call(find, [parts[part], total, parts[part + 1]]) for part in (0, 2)]
        pairs = builder.bitcast(builder.select(upper, halves[1], halves[0]), HALVES)
        codes_here = [
            builder.and_(pairs, ir.Constant(HALVES, [255] * HALF)),
            builder.lshr(pairs, ir.Constant(HALVES, [8] * HALF)),
        ]
        after = [
            builder.add(builder.add(before, before), each) for before, each in zip((even, odd), codes_here, strict=True)
        ]
        plane.add_incoming(arguments[2], entry)
        plane.add_incoming(lower, loop)
        for before, value in zip((even, odd), after, strict=True):
            before.add_incoming(ir.Constant(HALVES, [0] * HALF), entry)
            before.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed(">", lower, ir.Constant(INT64, 0)), loop, done)
        builder.position_at_end(done)
        least = everywhere(builder, arguments[5], words)
        totals = [builder.add(builder.zext(value, words), least) for value in after]
        _emit_added(builder, totals, arguments[6], builder.gep(added, [arguments[8]]), places)
        return context.get_dummy_value()

    return signature, generate
