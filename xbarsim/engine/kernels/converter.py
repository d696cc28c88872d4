"""The converter's formula, written down once and inlined wherever a sum is converted."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.vectors import INT64, LANES, data, everywhere
from xbarsim.foundation.compiling import kernel

__all__ = ["approximate", "code", "convert_long", "convert_short", "emit_code", "emit_doubt", "emit_short_code"]


def emit_code(builder: Any, value: Any, inverse_step: Any, low: Any, high: Any) -> Any:
    """Write ``clip(floor(value * inverse_step + 1/2), low, high)``: nearest step, halves up.

    All of one type: float32 or float64, or vectors of these. Product and sum are rounded one after the other, as NumPy
    does it in the reference engine.
    """
    kind = value.type
    number = kind.element if isinstance(kind, ir.VectorType) else kind
    name = "f32" if isinstance(number, ir.FloatType) else "f64"
    half: Any = 0.5
    if isinstance(kind, ir.VectorType):
        name, half = f"v{kind.count}{name}", [0.5] * kind.count
    floor = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), f"llvm.floor.{name}")
    value = builder.fadd(builder.fmul(value, inverse_step), ir.Constant(kind, half))
    value = builder.call(floor, [value])
    for bound, beyond in ((low, "<"), (high, ">")):
        value = builder.select(builder.fcmp_ordered(beyond, value, bound), bound, value)
    return value


def emit_short_code(builder: Any, value: Any, inverse_step: Any, lowest: Any, highest: Any) -> tuple[Any, Any]:
    """Write the codes of 16 numbers in float32, all arguments vectors, and how far each is from being sure.

    The code is ``floor(t)``, where ``t = clip(value * inverse_step + 1/2, lowest, highest)`` is rounded once; the other
    vector holds how far t is from the middle between two whole numbers.
    """
    vector = value.type

    def function(name: str, count: int) -> Any:
        kind = ir.FunctionType(vector, [vector] * count)
        return cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")

    half = ir.Constant(vector, [0.5] * LANES)
    value = builder.call(function("fma", 3), [value, inverse_step, half])
    value = builder.select(builder.fcmp_ordered("<", value, lowest), lowest, value)
    value = builder.select(builder.fcmp_ordered(">", value, highest), highest, value)
    whole = builder.call(function("floor", 1), [value])
    return whole, builder.call(function("fabs", 1), [builder.fsub(builder.fsub(value, whole), half)])


def emit_doubt(builder: Any, away: Any, doubt: Any) -> Any:
    """Write whether any of 16 codes may be another in float64: where t is closer to a whole number than `doubt`."""
    limit = builder.fsub(ir.Constant(ir.FloatType(), 0.5), doubt)
    return emit_any(builder, builder.fcmp_ordered(">", away, everywhere(builder, limit, away.type)))


def emit_any(builder: Any, lanes: Any) -> Any:
    """Write whether any of 16 flags is set."""
    mask = builder.bitcast(lanes, ir.IntType(LANES))
    return builder.icmp_unsigned("!=", mask, ir.Constant(ir.IntType(LANES), 0))


@intrinsic
def code(typing_context: Any, value: Any, inverse_step: Any, low: Any, high: Any) -> Any:
    """The code of one sum; all arguments float32 or all float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emit_code(builder, *arguments)

    return value(value, value, value, value), generate


@intrinsic
def convert_short(
    typing_context: Any,
    values: Any,
    first: Any,
    vectors: Any,
    inverse_step: Any,
    lowest: Any,
    highest: Any,
    doubt: Any,
    codes: Any,
    place: Any,
) -> Any:
    """Codes of 16 numbers at a time in float32, and whether float64 might give any of them another code.

    ``codes[place + i] = floor(t)``, where ``t = clip(values[first + i] * inverse_step + 1/2, lowest, highest)`` is
    rounded once; i from 0 to ``16 vectors - 1``. Returns 1 if a code is in doubt because t lies closer to a whole
    number than `doubt`, see :class:`xbarsim.engine.kernels.arguments.ShortConverters`, plus 2 if a value is not finite.
    """
    real, number = types.float32, types.int64
    signature = number(values, number, number, real, real, real, real, codes, number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        single = ir.FloatType()
        vector = ir.VectorType(single, LANES)

        source = builder.gep(data(context, builder, signature.args[0], arguments[0]), [arguments[1]])
        target = builder.gep(data(context, builder, signature.args[7], arguments[7]), [arguments[8]])
        inverse, lowest, highest = (everywhere(builder, arguments[i], vector) for i in (3, 4, 5))
        zero = ir.Constant(vector, [0.0] * LANES)
        entry = builder.block
        loop, done = builder.append_basic_block("convert.loop"), builder.append_basic_block("convert.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        index, furthest, nothing = builder.phi(INT64), builder.phi(vector), builder.phi(vector)
        index.add_incoming(ir.Constant(INT64, 0), entry)
        furthest.add_incoming(zero, entry)
        nothing.add_incoming(zero, entry)
        offset = builder.mul(index, ir.Constant(INT64, LANES))
        given = builder.load(builder.bitcast(builder.gep(source, [offset]), vector.as_pointer()), align=4)
        whole, away = emit_short_code(builder, given, inverse, lowest, highest)
        builder.store(whole, builder.bitcast(builder.gep(target, [offset]), vector.as_pointer()), align=4)
        # How far from the middle between two whole numbers, at most; and a sum of zeros, unless a value is not finite.
        further = builder.select(builder.fcmp_ordered(">", away, furthest), away, furthest)
        fma = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(builder.module, fma, f"llvm.fma.v{LANES}f32")
        still_nothing = builder.call(fma, [given, zero, nothing])
        following = builder.add(index, ir.Constant(INT64, 1))
        for phi, after in ((index, following), (furthest, further), (nothing, still_nothing)):
            phi.add_incoming(after, loop)
        builder.cbranch(builder.icmp_signed("<", following, arguments[2]), loop, done)
        builder.position_at_end(done)
        flags = [
            emit_doubt(builder, further, arguments[6]),
            emit_any(builder, builder.fcmp_unordered("!=", still_nothing, zero)),
        ]
        first, second = (builder.zext(each, INT64) for each in flags)
        return builder.add(first, builder.shl(second, ir.Constant(INT64, 1)))

    return signature, generate


@intrinsic
def convert_long(
    typing_context: Any,
    values: Any,
    first: Any,
    vectors: Any,
    inverse_step: Any,
    low: Any,
    high: Any,
    codes: Any,
    place: Any,
) -> Any:
    """Codes of 16 numbers at a time in float64.

    ``codes[place + i] = code(values[first + i])``, i from 0 to ``16 vectors - 1``; both arrays float32 or float64.
    """
    real, number = types.float64, types.int64
    signature = types.void(values, number, number, real, real, real, codes, number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        long = ir.VectorType(ir.DoubleType(), LANES)
        converter = [everywhere(builder, arguments[i], long) for i in (3, 4, 5)]
        kinds = [ir.VectorType(context.get_value_type(signature.args[i].dtype), LANES) for i in (0, 6)]
        starts = [
            builder.gep(data(context, builder, signature.args[i], arguments[i]), [arguments[i + 1]]) for i in (0, 6)
        ]
        with cgutils.for_range(builder, arguments[2]) as loop:
            offset = builder.mul(loop.index, ir.Constant(INT64, LANES))
            source, target = (
                builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())
                for start, kind in zip(starts, kinds, strict=True)
            )
            value = builder.load(source, align=4)
            value = value if kinds[0] == long else builder.fpext(value, long)
            value = emit_code(builder, value, *converter)
            builder.store(value if kinds[1] == long else builder.fptrunc(value, kinds[1]), target, align=4)
        return context.get_dummy_value()

    return signature, generate


@kernel()
def approximate(
    positions: Any, bits: Any, first: int, each: int, low: float, high: float, levels: Any, codes: Any
) -> None:
    """Codes of successive-approximation converters: bit by bit, highest first, kept if the input is not below it.

    `positions` (n,), the sums in codes, half a step added; the bits of converter i weigh ``bits[first + i * each]``
    codes, lowest first; `codes` (n,) is filled, `levels` (n,) is scratch. As
    :func:`xbarsim.design.successive_approximation`, and then clipped.
    """
    for i in range(positions.shape[0]):
        levels[i] = low
        codes[i] = low
    for bit in range(bits.shape[1] - 1, -1, -1):
        counts = 2.0**bit
        for i in range(positions.shape[0]):
            raised = levels[i] + bits[first + i * each, bit]
            kept = positions[i] >= raised
            levels[i] = raised if kept else levels[i]
            codes[i] += counts if kept else 0.0
    for i in range(positions.shape[0]):
        codes[i] = min(max(codes[i], low), high)
