"""Sums become codes, with noise where reads have some, and are added to their slots: for 16 images at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.converter import emit_code, emit_doubt, emit_short_code
from xbarsim.engine.kernels.vectors import INT64, LANES, data, everywhere

__all__ = [
    "add_code",
    "add_noisy",
    "add_noisy_short",
    "add_pair",
    "add_single",
    "add_sum",
    "draw_noise",
]


def _adder(kind: str) -> Any:
    """Convert 16 sums of a column and add them, weighted, to their slot.

    ``adder(sums, first, added, place, count, inverse_step, low, high, known, row)`` does, for each lane i,
    ``added[place + i] += count * code(sums[first + i])``. The code is the sum itself (`kind` ``"sum"``), its nearest
    step (``"pair"``), or that of the sum plus ``known[row + i]``, less ``known[row + 16 + i]`` (``"single"``). As
    vector instructions, because a loop of 16 would check at each turn whether its arrays overlap.
    """

    @intrinsic
    def adder(
        typing_context: Any,
        sums: Any,
        first: Any,
        added: Any,
        place: Any,
        count: Any,
        inverse_step: Any,
        low: Any,
        high: Any,
        known: Any,
        row: Any,
    ) -> Any:
        real = types.float64
        signature = types.void(sums, types.int64, added, types.int64, real, real, real, real, known, types.int64)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            double = ir.DoubleType()
            vector = ir.VectorType(double, LANES)
            source = context.get_value_type(signature.args[0].dtype)

            def pointer(index: int, offset: Any, kind: Any) -> Any:
                array = data(context, builder, signature.args[index], arguments[index])
                return builder.bitcast(builder.gep(array, [offset]), ir.VectorType(kind, LANES).as_pointer())

            def known_at(offset: int) -> Any:
                place = builder.add(arguments[9], ir.Constant(INT64, offset))
                return builder.load(pointer(8, place, double), align=8)

            size = 4 if isinstance(source, ir.FloatType) else 8
            value = builder.load(pointer(0, arguments[1], source), align=size)
            if size == 4:
                value = builder.fpext(value, vector)
            if kind == "single":
                value = builder.fadd(value, known_at(0))
            if kind != "sum":
                value = emit_code(builder, value, *(everywhere(builder, arguments[k], vector) for k in (5, 6, 7)))
                if kind == "single":
                    value = builder.fsub(value, known_at(LANES))
            target = pointer(2, arguments[3], double)
            value = builder.fmul(everywhere(builder, arguments[4], vector), value)
            builder.store(builder.fadd(builder.load(target, align=8), value), target, align=8)
            return context.get_dummy_value()

        return signature, generate

    return adder


@intrinsic
def add_code(typing_context: Any, codes: Any, first: Any, added: Any, place: Any, count: Any) -> Any:
    """``added[place + i] += count * codes[first + i]`` for each of 16 lanes, in float32, where that is exact."""
    signature = types.void(codes, types.int64, added, types.int64, types.float32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), LANES)

        def pointer(index: int) -> Any:
            array = data(context, builder, signature.args[index], arguments[index])
            return builder.bitcast(builder.gep(array, [arguments[index + 1]]), vector.as_pointer())

        codes_here, target = builder.load(pointer(0), align=4), pointer(2)
        value = builder.fmul(everywhere(builder, arguments[4], vector), codes_here)
        builder.store(builder.fadd(builder.load(target, align=4), value), target, align=4)
        return context.get_dummy_value()

    return signature, generate


add_sum, add_pair, add_single = (_adder(kind) for kind in ("sum", "pair", "single"))


def _emit_noise(builder: Any, pointers: Any, kind: Any, constant: Any) -> Any:
    """Noise of 16 reads in float64, computed in the type of the variances; `pointers` to variances and normals."""
    single = isinstance(kind, ir.FloatType)
    noise = _emit_short_noise(builder, pointers, kind, constant)
    return builder.fpext(noise, ir.VectorType(ir.DoubleType(), LANES)) if single else noise


def _emit_short_noise(builder: Any, pointers: Any, kind: Any, constant: Any) -> Any:
    """The same in the type of the variances."""
    single = isinstance(kind, ir.FloatType)
    vector, size = ir.VectorType(kind, LANES), 4 if single else 8
    variances, normals = pointers
    variance = builder.load(builder.bitcast(variances, vector.as_pointer()), align=size)
    constant = everywhere(builder, builder.fptrunc(constant, kind) if single else constant, vector)
    name = f"llvm.sqrt.v{LANES}f{8 * size}"
    root = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector]), name)
    floats = ir.VectorType(ir.FloatType(), LANES)
    drawn = builder.load(builder.bitcast(normals, floats.as_pointer()), align=4)
    root = builder.call(root, [builder.fadd(variance, constant)])
    return builder.fmul(root, drawn if single else builder.fpext(drawn, vector))


@intrinsic
def draw_noise(
    typing_context: Any, variances: Any, first: Any, constant: Any, normals: Any, word: Any, raised: Any
) -> Any:
    """The noise of 16 reads: ``raised[i] = sqrt(variances[first + i] + constant) * normals[word + i]``."""
    signature = types.void(variances, types.int64, types.float64, normals, types.int64, raised)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointers = [
            builder.gep(data(context, builder, signature.args[k], arguments[k]), [arguments[k + 1]]) for k in (0, 3)
        ]
        kind = context.get_value_type(signature.args[0].dtype)
        noise = _emit_noise(builder, pointers, kind, arguments[2])
        target = data(context, builder, signature.args[5], arguments[5])
        builder.store(noise, builder.bitcast(target, noise.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_noisy(
    typing_context: Any,
    sums: Any,
    variances: Any,
    first: Any,
    constant: Any,
    normals: Any,
    word: Any,
    known: Any,
    row: Any,
    added: Any,
    place: Any,
    count: Any,
    inverse_step: Any,
    low: Any,
    high: Any,
    quantises: Any,
) -> Any:
    """Add noise to 16 sums, convert them and add their codes, weighted, to their slot.

    For each lane i ``added[place + i] += count * (code(sums[first + i] + (known[row + i] + noise)) - known[row + 16 +
    i])``, noise as of :func:`draw_noise`; unless it `quantises`, the sum with both is added as it is.
    """
    real, number = types.float64, types.int64
    signature = types.void(
        sums, variances, number, real, normals, number, known, number, added, number, real, real, real, real,
        types.boolean,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        double = ir.VectorType(ir.DoubleType(), LANES)

        def pointer(index: int, offset: Any) -> Any:
            return builder.gep(data(context, builder, signature.args[index], arguments[index]), [offset])

        def doubles(place: Any) -> Any:
            return builder.bitcast(place, double.as_pointer())

        kind = context.get_value_type(signature.args[1].dtype)
        pointers = pointer(1, arguments[2]), pointer(4, arguments[5])
        noise = _emit_noise(builder, pointers, kind, arguments[3])
        source = ir.VectorType(context.get_value_type(signature.args[0].dtype), LANES)
        place = builder.bitcast(pointer(0, arguments[2]), source.as_pointer())
        value = builder.load(place, align=4)
        value = value if source == double else builder.fpext(value, double)
        currents = builder.load(doubles(pointer(6, arguments[7])), align=8)
        value = builder.fadd(value, builder.fadd(currents, noise))
        code = emit_code(builder, value, *(everywhere(builder, arguments[k], double) for k in (11, 12, 13)))
        behind = builder.add(arguments[7], ir.Constant(INT64, LANES))
        code = builder.fsub(code, builder.load(doubles(pointer(6, behind)), align=8))
        value = builder.select(arguments[14], code, value)
        target = doubles(pointer(8, arguments[9]))
        value = builder.fmul(everywhere(builder, arguments[10], double), value)
        builder.store(builder.fadd(builder.load(target, align=8), value), target, align=8)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_noisy_short(
    typing_context: Any,
    sums: Any,
    variances: Any,
    first: Any,
    constant: Any,
    normals: Any,
    word: Any,
    added: Any,
    place: Any,
    count: Any,
    inverse_step: Any,
    lowest: Any,
    highest: Any,
    doubt: Any,
) -> Any:
    """Add noise to 16 sums, convert them and add their codes, all in float32; returns whether a code is in doubt.

    As :func:`add_noisy` with nothing known, and as :func:`xbarsim.engine.kernels.converter.convert_short`: the sum
    of both is rounded once more, for which the distance that leaves doubt has room. Nothing is added where there is.
    """
    real, number = types.float32, types.int64
    signature = number(
        sums, variances, number, types.float64, normals, number, added, number, real, real, real, real, real
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        single = ir.FloatType()
        vector = ir.VectorType(single, LANES)

        def pointer(index: int, offset: Any) -> Any:
            return builder.gep(data(context, builder, signature.args[index], arguments[index]), [offset])

        noise = _emit_short_noise(builder, (pointer(1, arguments[2]), pointer(4, arguments[5])), single, arguments[3])
        value = builder.load(builder.bitcast(pointer(0, arguments[2]), vector.as_pointer()), align=4)
        inverse, lowest, highest = (everywhere(builder, arguments[k], vector) for k in (9, 10, 11))
        whole, away = emit_short_code(builder, builder.fadd(value, noise), inverse, lowest, highest)
        doubtful = emit_doubt(builder, away, arguments[12])
        target = builder.bitcast(pointer(6, arguments[7]), vector.as_pointer())
        weight = everywhere(builder, builder.select(doubtful, ir.Constant(single, 0.0), arguments[8]), vector)
        # counts times codes are whole, as are their sums: float32 holds them
        builder.store(builder.fadd(builder.load(target, align=4), builder.fmul(weight, whole)), target, align=4)
        return builder.zext(doubtful, INT64)

    return signature, generate
