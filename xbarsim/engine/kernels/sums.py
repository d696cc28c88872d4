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

from xbarsim.engine.kernels.compiling import kernel
from xbarsim.engine.kernels.converter import approximate, emit_code
from xbarsim.engine.kernels.outputs import write_outputs
from xbarsim.engine.kernels.vectors import INT64, LANES, data, everywhere

__all__ = ["panel_width", "products"]

_CACHED_BYTES = 16 * 2**10  # half of a first-level cache


def panel_width(dtype: Any) -> int:
    """Columns summed at a time: as many 16-lane accumulators as the registers of a 256-bit machine hold."""
    return 6 if np.dtype(dtype) == np.float32 else 3


def _product(columns: int) -> Any:
    """A register-blocked dot product of `columns` columns with 16 images.

    ``product(x, base, offsets, first, panel, start, count, sums)`` writes, for each column c and lane i,
    ``sums[16 c + i] = sum_k x[base + offsets[first + k] + i] * panel[start + columns k + c]``, k from 0 to count - 1
    in this
    order, each step one fused multiply-add. Written in LLVM's intermediate language because the accumulators must
    stay in registers, which no Python-level loop can promise.
    """

    @intrinsic
    def product(
        typing_context: Any,
        x: Any,
        base: Any,
        offsets: Any,
        first: Any,
        panel: Any,
        start: Any,
        count: Any,
        sums: Any,
    ) -> Any:
        signature = types.void(x, types.int64, offsets, types.int64, panel, types.int64, types.int64, sums)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            real = context.get_value_type(signature.args[0].dtype)
            size = 4 if isinstance(real, ir.FloatType) else 8
            vector = ir.VectorType(real, LANES)
            fma = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(vector, [vector] * 3),
                f"llvm.fma.v{LANES}f{8 * size}",
            )
            pointers = [data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4, 7)]
            inputs = builder.gep(pointers[0], [arguments[1]])
            offsets_here = builder.gep(pointers[1], [arguments[3]])
            weights = builder.gep(pointers[2], [arguments[5]])
            count_here = arguments[6]

            entry = builder.block
            loop = builder.append_basic_block("product.loop")
            done = builder.append_basic_block("product.done")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(INT64)
            k.add_incoming(ir.Constant(INT64, 0), entry)
            before = [builder.phi(vector) for _ in range(columns)]
            for accumulator in before:
                accumulator.add_incoming(ir.Constant(vector, [0.0] * LANES), entry)
            offset = builder.load(builder.gep(offsets_here, [k]))
            x_here = builder.load(builder.bitcast(builder.gep(inputs, [offset]), vector.as_pointer()), align=size)
            panel_row = builder.gep(weights, [builder.mul(k, ir.Constant(INT64, columns))])
            after = []
            for column, accumulator in enumerate(before):
                weight = builder.load(builder.gep(panel_row, [ir.Constant(INT64, column)]))
                after.append(builder.call(fma, [x_here, everywhere(builder, weight, vector), accumulator]))
            next_k = builder.add(k, ir.Constant(INT64, 1))
            k.add_incoming(next_k, loop)
            for accumulator, value in zip(before, after, strict=True):
                accumulator.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", next_k, count_here), loop, done)
            builder.position_at_end(done)
            for column, value in enumerate(after):
                place = builder.gep(pointers[3], [ir.Constant(INT64, column * LANES)])
                builder.store(value, builder.bitcast(place, vector.as_pointer()), align=size)
            return context.get_dummy_value()

        return signature, generate

    return product


_product_1, _product_2, _product_3 = _product(1), _product(2), _product(3)
_product_4, _product_5, _product_6 = _product(4), _product(5), _product(6)


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
            if kind != "sum":
                if kind == "single":
                    value = builder.fadd(value, known_at(0))
                value = emit_code(builder, value, *(everywhere(builder, arguments[k], vector) for k in (5, 6, 7)))
                if kind == "single":
                    value = builder.fsub(value, known_at(LANES))
            target = pointer(2, arguments[3], double)
            value = builder.fmul(everywhere(builder, arguments[4], vector), value)
            builder.store(builder.fadd(builder.load(target, align=8), value), target, align=8)
            return context.get_dummy_value()

        return signature, generate

    return adder


_add_sum, _add_pair, _add_single = _adder("sum"), _adder("pair"), _adder("single")


@kernel(parallel=True)
def products(
    inputs: Any,
    pass_counts: Any,
    positions: Any,
    columns: Any,
    panels: Any,
    converters: Any,
    finish: Any,
    result: Any,
) -> None:
    """Sum, convert, shift and add: every output of every position of every image.

    Parameters
    ----------
    inputs
        Blocked inputs, shape ``(passes x planes, numbers)``.
    pass_counts
        What the codes of each pass and plane count, with its sign.
    positions, columns, panels, converters, finish
        As in :mod:`xbarsim.engine.kernels.arguments`. `panels` are of :func:`panel_width`.
    result
        Flat, filled; float32 or float64.
    """
    width = 6 if panels.values.itemsize == 4 else 3
    total = positions.bases.shape[0]
    strip = positions.strip
    single, quantises = converters.single, converters.quantises
    inverse_step, low, high = converters.inverse_step, converters.low, converters.high
    for job in prange(-(-total // strip)):
        first = job * strip
        count = min(strip, total - first)
        added = np.zeros((columns.slots, count, LANES))
        sums = np.empty(width * LANES, panels.values.dtype)
        known = np.zeros((count, 2, LANES))  # the g_min currents of each position, and their code
        approximated = np.empty((3, LANES))
        for t in range(pass_counts.shape[0]):
            x = inputs[t]
            for g in range(panels.starts.shape[0]):
                rows = columns.rows[g]
                driven = columns.rows[g + 1] - rows
                slot = columns.sum_targets[g]
                if single or slot >= 0:
                    for p in range(count):
                        base = positions.bases[first + p]
                        _product_1(x, base, columns.offsets, rows, panels.ones, 0, columns.driven[g], sums)
                        if single:
                            for i in range(LANES):
                                baseline = converters.offset_levels * np.float64(sums[i])
                                known[p, 0, i] = baseline
                                known[p, 1, i] = np.floor(baseline * inverse_step + 0.5)
                        if slot >= 0:
                            for i in range(LANES):
                                added[slot, p, i] += pass_counts[t] * np.float64(sums[i])
                # As many columns at a time as stay in the first cache while the positions pass.
                chunk = max(1, _CACHED_BYTES // (driven * width * panels.values.itemsize)) * width
                for start in range(columns.ends[g], columns.ends[g + 1], chunk):
                    stop = min(start + chunk, columns.ends[g + 1])
                    for p in range(count):
                        base = positions.bases[first + p]
                        column = start
                        panel = panels.starts[g] + (start - columns.ends[g]) * driven
                        while column < stop:
                            here = min(width, stop - column)
                            # Written out: a call would pass every array of every argument by its parts.
                            if here == 6:
                                _product_6(x, base, columns.offsets, rows, panels.values, panel, driven, sums)
                            elif here == 5:
                                _product_5(x, base, columns.offsets, rows, panels.values, panel, driven, sums)
                            elif here == 4:
                                _product_4(x, base, columns.offsets, rows, panels.values, panel, driven, sums)
                            elif here == 3:
                                _product_3(x, base, columns.offsets, rows, panels.values, panel, driven, sums)
                            elif here == 2:
                                _product_2(x, base, columns.offsets, rows, panels.values, panel, driven, sums)
                            else:
                                _product_1(x, base, columns.offsets, rows, panels.values, panel, driven, sums)
                            for c in range(here):
                                counts = columns.counts[column + c] * pass_counts[t]
                                target = columns.targets[column + c]
                                place = (target * count + p) * LANES
                                lane = c * LANES
                                row = 2 * p * LANES
                                if converters.bits.shape[0] > 0:
                                    for i in range(LANES):
                                        value = np.float64(sums[lane + i]) + known[p, 0, i]
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
                                        added[target, p, i] += counts * (approximated[2, i] - known[p, 1, i])
                                elif not quantises:
                                    _add_sum(sums, lane, added, place, counts, 1.0, low, high, known, row)
                                elif not single:
                                    _add_pair(sums, lane, added, place, counts, inverse_step, low, high, known, row)
                                else:
                                    _add_single(sums, lane, added, place, counts, inverse_step, low, high, known, row)
                            column += here
                            panel += here * driven
        write_outputs(added, count, first, positions, finish, result)
