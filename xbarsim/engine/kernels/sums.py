"""Sums by fused multiply-add in float32 or float64, converted as they leave the registers.

Sixteen images (or vectors) go side by side, so that one vector instruction serves all of them: a *blocked* input holds
the same activation of 16 images in 16 neighbouring numbers. Every output is then a sum over a list of offsets, whatever
the stride, padding or dilation, and the driven rows of a tile are just a part of that list. Each sum runs in the order
of the rows, whatever the batch or the number of threads, so no result depends on either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.adding import (
    add_code,
    add_noisy,
    add_noisy_short,
    add_pair,
    add_single,
    add_sum,
    draw_noise,
)
from xbarsim.engine.kernels.converter import approximate, code, convert_long, convert_short, emit_doubt, emit_short_code
from xbarsim.engine.kernels.normals import WORDS, draw_normals
from xbarsim.engine.kernels.outputs import write_outputs
from xbarsim.engine.kernels.processor import has_feature
from xbarsim.engine.kernels.vectors import INT64, LANES, data, everywhere, for_each_size
from xbarsim.foundation.compiling import kernel

__all__ = ["CACHED_BYTES", "emit_product", "panel_width", "products"]

CACHED_BYTES = 16 * 2**10  # half of a first-level cache


def panel_width(dtype: Any) -> int:
    """Columns summed at a time, as many as the registers hold and the adders want; changes no sum.

    Sixteen lanes of float32 are two registers of 256 bits, of 16, or one of 512, of 32.
    """
    return (2 if has_feature("avx512f") else 1) * (6 if np.dtype(dtype) == np.float32 else 3)


_OF_FLOATS, _OF_DOUBLES = panel_width(np.float32), panel_width(np.float64)
# Positions summed at a time: each weight is read once for all of them, and reading limits registers of 512 bits.
_AT_ONCE = 2 if has_feature("avx512f") else 1


def _product(*, squared: bool) -> Any:
    """A register-blocked dot product of up to :func:`panel_width` columns with 16 images at one or more positions.

    ``product(x, bases, position, many, offsets, first, panel, start, count, columns, sums)`` writes, for each of `many`
    positions p, column c and lane i, ``sums[16 (columns p + c) + i] = sum_k x[bases[position + p] + offsets[first + k]
    + i] * panel[start + columns k + c]``, k from 0 to count - 1 in this order, each step one fused multiply-add; with
    the squares of x where it is `squared`. Written in LLVM's intermediate language because the accumulators must stay
    in registers, which no Python-level loop can promise.
    """

    @intrinsic
    def product(
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
        sums: Any,
    ) -> Any:
        number = types.int64
        signature = types.void(x, bases, number, number, offsets, number, panel, number, number, number, sums)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            real = context.get_value_type(signature.args[0].dtype)
            x, bases, offsets, panel, sums = (
                data(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 4, 6, 10)
            )
            bases = builder.gep(bases, [arguments[2]])
            offsets_here = builder.gep(offsets, [arguments[5]])
            weights = builder.gep(panel, [arguments[7]])
            width = panel_width(np.float32 if isinstance(real, ir.FloatType) else np.float64)

            def emit(inputs: list[Any], columns: int) -> None:
                made = emit_product(builder, inputs, (offsets_here, weights), arguments[8], columns, squared=squared)
                _emit_stores(builder, made, sums)

            for_each_size(builder, arguments[3], arguments[9], (_AT_ONCE, width), bases, x, emit)
            return context.get_dummy_value()

        return signature, generate

    return product


def emit_product(
    builder: Any,
    inputs: list[Any],
    pointers: tuple[Any, Any],
    count: Any,
    columns: int,
    *,
    squared: bool = False,
    begun: list[Any] | None = None,
    least: Any = None,
) -> list[Any]:
    """The loop over the rows, of which there is one at least, for so many columns; the sums, column after column.

    `inputs` point to those of each position, `pointers` to offsets and panel. Sums begin with what is `begun`, a vector
    for each column, or 0; inputs less than `least` count as that.
    """
    offsets, weights = pointers
    real = weights.type.pointee
    size = 4 if isinstance(real, ir.FloatType) else 8
    vector = ir.VectorType(real, LANES)
    fma = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f{8 * size}"
    )
    begun = [ir.Constant(vector, [0.0] * LANES)] * columns if begun is None else begun
    entry = builder.block
    loop = builder.append_basic_block("product.loop")
    after_loop = builder.append_basic_block("product.sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(INT64)
    k.add_incoming(ir.Constant(INT64, 0), entry)
    before = [[builder.phi(vector) for _ in range(columns)] for _ in inputs]
    for accumulators in before:
        for accumulator, first in zip(accumulators, begun, strict=True):
            accumulator.add_incoming(first, entry)
    offset = builder.load(builder.gep(offsets, [k]))
    x_here = []
    for place in inputs:
        x = builder.load(builder.bitcast(builder.gep(place, [offset]), vector.as_pointer()), align=size)
        if least is not None:  # one instruction, which lets pass what is no number
            x = builder.select(builder.fcmp_ordered(">", least, x), least, x)
        x_here.append(builder.fmul(x, x) if squared else x)
    panel_row = builder.gep(weights, [builder.mul(k, ir.Constant(INT64, columns))])
    after: list[list[Any]] = [[] for _ in inputs]
    for column in range(columns):
        weight = everywhere(builder, builder.load(builder.gep(panel_row, [ir.Constant(INT64, column)])), vector)
        for x, accumulators, sums_here in zip(x_here, before, after, strict=True):
            sums_here.append(builder.call(fma, [x, weight, accumulators[column]]))
    next_k = builder.add(k, ir.Constant(INT64, 1))
    k.add_incoming(next_k, loop)
    for accumulators, values in zip(before, after, strict=True):
        for accumulator, value in zip(accumulators, values, strict=True):
            accumulator.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, count), loop, after_loop)
    builder.position_at_end(after_loop)
    return [value for values in after for value in values]


def _emit_stores(builder: Any, values: list[Any], sums: Any) -> None:
    for number, value in enumerate(values):
        place = builder.gep(sums, [ir.Constant(INT64, number * LANES)])
        size = 4 if isinstance(value.type.element, ir.FloatType) else 8
        builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=size)


@intrinsic
def _add_converted_product(
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
    sums: Any,
    inverse_step: Any,
    lowest: Any,
    highest: Any,
    doubt: Any,
    counts: Any,
    targets: Any,
    column: Any,
    pass_count: Any,
    added: Any,
    place: Any,
    step: Any,
) -> Any:
    """The product, its codes in float32 while they are in registers, and these added: the converter costs no pass.

    As :func:`_product`, into `sums`; and with the codes of :func:`convert_short`, for each position p and column c
    ``added[step targets[column + c] + place + 16 p + i] += counts[column + c] * pass_count * code``, in float32, which
    holds all of these exactly. Returns whether a code is in doubt, as there; it was added nevertheless.
    """
    real, number = types.float32, types.int64
    signature = number(
        x, bases, number, number, offsets, number, panel, number, number, number, sums,
        real, real, real, real, counts, targets, number, types.float64, added, number, number,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        single = ir.FloatType()
        vector = ir.VectorType(single, LANES)
        x, bases, offsets, panel, sums, counts, targets, added = (
            data(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 4, 6, 10, 15, 16, 19)
        )
        bases = builder.gep(bases, [arguments[2]])
        pointers = builder.gep(offsets, [arguments[5]]), builder.gep(panel, [arguments[7]])
        counts, targets = (builder.gep(each, [arguments[17]]) for each in (counts, targets))
        added = builder.gep(added, [arguments[20]])
        inverse, lowest, highest = (everywhere(builder, arguments[i], vector) for i in (11, 12, 13))
        furthest_seen = cgutils.alloca_once(builder, vector)

        def emit(inputs: list[Any], columns: int) -> None:
            values = emit_product(builder, inputs, pointers, arguments[8], columns)
            _emit_stores(builder, values, sums)
            furthest = ir.Constant(vector, [0.0] * LANES)
            for c in range(columns):
                at = ir.Constant(INT64, c)
                weight = builder.fmul(builder.load(builder.gep(counts, [at])), arguments[18])
                weight = everywhere(builder, builder.fptrunc(weight, single), vector)
                target = builder.mul(builder.load(builder.gep(targets, [at])), arguments[21])
                for p in range(len(inputs)):
                    whole, away = emit_short_code(builder, values[p * columns + c], inverse, lowest, highest)
                    furthest = builder.select(builder.fcmp_ordered(">", away, furthest), away, furthest)
                    slot = builder.gep(added, [builder.add(target, ir.Constant(INT64, p * LANES))])
                    slot = builder.bitcast(slot, vector.as_pointer())
                    builder.store(builder.fadd(builder.load(slot, align=4), builder.fmul(weight, whole)), slot, align=4)
            builder.store(furthest, furthest_seen)

        width = panel_width(np.float32)
        for_each_size(builder, arguments[3], arguments[9], (_AT_ONCE, width), bases, x, emit)
        return builder.zext(emit_doubt(builder, builder.load(furthest_seen), arguments[14]), INT64)

    return signature, generate


_product_of, _product_of_squares = _product(squared=False), _product(squared=True)


@kernel(parallel=True)
def products(
    inputs: Any,
    pass_counts: Any,
    positions: Any,
    columns: Any,
    panels: Any,
    converters: Any,
    short: Any,
    finish: Any,
    noise: Any,
    scratch: Any,
    result: Any,
) -> None:
    """Sum, convert, shift and add: every output of every position of every image.

    Parameters
    ----------
    inputs
        Blocked inputs, shape ``(passes x planes, numbers)``.
    pass_counts
        What the codes of each pass and plane count, with its sign.
    positions, columns, panels, converters, short, finish, noise
        As in :mod:`xbarsim.engine.kernels.arguments`. `short` is ``None`` where converters cannot work in float32, and
        `noise` where reads have none, which compiles to code without them.
    scratch
        Any array of the type in which codes are added: float32 with `short`, else float64.
    result
        Flat, filled; float32 or float64.
    """
    total = positions.bases.shape[0]
    strip = positions.strip
    quantises = converters.quantises
    single = converters.single and quantises  # an ideal read-out takes the g_min currents off exactly
    inverse_step, low, high = converters.inverse_step, converters.low, converters.high
    most = _OF_FLOATS if panels.values.itemsize == 4 else _OF_DOUBLES
    at_once = _AT_ONCE
    for job in prange(-(-total // strip)):
        first = job * strip
        count = min(strip, total - first)
        added = np.zeros((columns.slots, count, LANES), scratch.dtype)
        sums = np.empty(at_once * most * LANES, panels.values.dtype)
        codes = np.empty(at_once * most * LANES, np.float32)
        guessed = np.empty(at_once * most * LANES, np.float32)
        known = np.zeros((count, 2, LANES))  # the g_min currents of each position, and their code
        approximated = np.empty((3, LANES))
        if noise is not None:
            variances = np.empty(at_once * most * LANES, panels.values.dtype)
            linear = np.empty(at_once * most * LANES, panels.values.dtype)
            normals = np.empty(at_once * WORDS * LANES, np.float32)
            held = np.empty(at_once, np.int64)  # numbers of the draws in `normals`, of each position
            block, vector = np.empty(at_once, np.int64), np.empty(at_once, np.int64)
            raised = np.empty(LANES)  # by noise
        for t in range(pass_counts.shape[0]):
            x = inputs[t]
            for g in range(panels.starts.shape[0]):
                rows = columns.rows[g]
                driven = columns.rows[g + 1] - rows
                slot = columns.sum_targets[g]
                width = panels.widths[g]
                if single or slot >= 0:
                    for p in range(count):
                        _product_of(
                            x,
                            positions.bases,
                            first + p,
                            1,
                            columns.offsets,
                            rows,
                            panels.ones,
                            0,
                            columns.driven[g],
                            1,
                            sums,
                        )
                        if single:
                            for i in range(LANES):
                                baseline = converters.offset_levels * np.float64(sums[i])
                                known[p, 0, i] = baseline
                                known[p, 1, i] = np.floor(baseline * inverse_step + 0.5)
                        if slot >= 0:
                            for i in range(LANES):
                                added[slot, p, i] += pass_counts[t] * np.float64(sums[i])
                # As many columns at a time as stay in the first cache while the positions pass.
                chunk = max(1, CACHED_BYTES // (driven * width * panels.values.itemsize)) * width
                for start in range(columns.ends[g], columns.ends[g + 1], chunk):
                    stop = min(start + chunk, columns.ends[g + 1])
                    for p in range(0, count, at_once):
                        many = min(at_once, count - p)
                        if noise is not None:
                            for q in range(many):
                                held[q] = -1
                                block[q] = (first + p + q) // noise.vectors
                                vector[q] = (first + p + q) % noise.vectors
                        column = start
                        panel = panels.starts[g] + (start - columns.ends[g]) * driven
                        while column < stop:
                            here = min(width, stop - column)
                            if short is not None and noise is None:
                                inverse, lowest, highest, doubt = short
                                at = p * LANES
                                if _add_converted_product(
                                    x,
                                    positions.bases,
                                    first + p,
                                    many,
                                    columns.offsets,
                                    rows,
                                    panels.values,
                                    panel,
                                    driven,
                                    here,
                                    sums,
                                    inverse,
                                    lowest,
                                    highest,
                                    doubt,
                                    columns.counts,
                                    columns.targets,
                                    column,
                                    pass_counts[t],
                                    added,
                                    at,
                                    count * LANES,
                                ):  # the difference of the codes that were added and the right ones is whole, too
                                    vectors = many * here
                                    convert_short(sums, 0, vectors, inverse, lowest, highest, doubt, guessed, 0)
                                    convert_long(sums, 0, vectors, inverse_step, low, high, codes, 0)
                                    for i in range(vectors * LANES):
                                        codes[i] -= guessed[i]
                                    for q in range(many):
                                        for c in range(here):
                                            counts = np.float32(columns.counts[column + c] * pass_counts[t])
                                            place = (columns.targets[column + c] * count + p + q) * LANES
                                            add_code(codes, (q * here + c) * LANES, added, place, counts)
                                panel += here * driven
                                column += here
                                continue
                            _product_of(
                                x,
                                positions.bases,
                                first + p,
                                many,
                                columns.offsets,
                                rows,
                                panels.values,
                                panel,
                                driven,
                                here,
                                sums,
                            )
                            if noise is not None:
                                _product_of_squares(
                                    x,
                                    positions.bases,
                                    first + p,
                                    many,
                                    columns.offsets,
                                    rows,
                                    noise.squares,
                                    panel,
                                    driven,
                                    here,
                                    variances,
                                )
                                if noise.linear.shape[0] > 0:
                                    _product_of(
                                        x,
                                        positions.bases,
                                        first + p,
                                        many,
                                        columns.offsets,
                                        rows,
                                        noise.linear,
                                        panel,
                                        driven,
                                        here,
                                        linear,
                                    )
                                    for i in range(many * here * LANES):
                                        variances[i] += linear[i]
                            for q in range(p, p + many):
                                for c in range(here):
                                    lane = ((q - p) * here + c) * LANES
                                    counts = columns.counts[column + c] * pass_counts[t]
                                    target = columns.targets[column + c]
                                    place = (target * count + q) * LANES
                                    row = 2 * q * LANES
                                    if noise is not None:
                                        draw = noise.draws[column + c] + t * noise.stride
                                        own = (q - p) * WORDS * LANES
                                        if draw // WORDS != held[q - p]:
                                            held[q - p] = draw // WORDS
                                            draw_normals(
                                                noise.keys, block[q - p], vector[q - p], draw // WORDS, normals, own
                                            )
                                        word = own + draw % WORDS * LANES
                                        constant = noise.constants[column + c]
                                    if short is not None and noise is not None:
                                        inverse, lowest, highest, doubt = short
                                        if add_noisy_short(
                                            sums,
                                            variances,
                                            lane,
                                            constant,
                                            normals,
                                            word,
                                            added,
                                            place,
                                            np.float32(counts),
                                            inverse,
                                            lowest,
                                            highest,
                                            doubt,
                                        ):
                                            draw_noise(variances, lane, constant, normals, word, raised)
                                            for i in range(LANES):
                                                value = np.float64(sums[lane + i]) + raised[i]
                                                nearest = code(value, inverse_step, low, high)
                                                added[target, q, i] += np.float32(counts * nearest)
                                        continue
                                    if converters.bits.shape[0] > 0:
                                        if noise is not None:
                                            draw_noise(variances, lane, constant, normals, word, raised)
                                        for i in range(LANES):
                                            value = np.float64(sums[lane + i])
                                            if noise is None:
                                                value += known[q, 0, i]
                                            else:
                                                value += known[q, 0, i] + raised[i]
                                            approximated[0, i] = value * inverse_step + 0.5
                                        approximate(
                                            approximated[0],
                                            converters.bits,
                                            column + c,
                                            0,
                                            low,
                                            high,
                                            approximated[1],
                                            approximated[2],
                                        )
                                        for i in range(LANES):
                                            added[target, q, i] += counts * (approximated[2, i] - known[q, 1, i])
                                    elif noise is not None:
                                        add_noisy(
                                            sums,
                                            variances,
                                            lane,
                                            constant,
                                            normals,
                                            word,
                                            known,
                                            row,
                                            added,
                                            place,
                                            counts,
                                            inverse_step,
                                            low,
                                            high,
                                            quantises,
                                        )
                                    elif not quantises:
                                        add_sum(sums, lane, added, place, counts, 1.0, low, high, known, row)
                                    elif not single:
                                        add_pair(sums, lane, added, place, counts, inverse_step, low, high, known, row)
                                    else:
                                        add_single(
                                            sums, lane, added, place, counts, inverse_step, low, high, known, row
                                        )
                            panel += here * driven
                            column += here
        write_outputs(added, count, first, positions, finish, result)
