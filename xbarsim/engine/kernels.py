"""Compiled loops of the engine: arrays and scalars in, preallocated arrays out, nothing checked here.

Layout. Sixteen images (or vectors) go side by side, so that one vector instruction serves all of them: a *blocked*
input
holds the same activation of 16 images in 16 neighbouring numbers. Every output is then a sum over a list of offsets,
whatever the stride, padding or dilation, and the driven rows of a tile are just a part of that list. Each sum runs in
the order of the rows, whatever the batch or the number of threads, so no result depends on either.

A kernel's plain Python function is reachable as ``kernel.py_func`` where it calls no intrinsic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "HAS_BYTE_SHUFFLE",
    "LANES",
    "add_product",
    "bit_serial_products",
    "bitplane_reads",
    "block_inputs",
    "convert_columns",
    "convert_pairs",
    "im2col",
    "make_tables",
    "pack_planes",
    "panel_width",
    "products",
    "quantise",
]

LANES = 16  # images side by side
HAS_BYTE_SHUFFLE = bool(get_host_cpu_features().get("avx2", False))  # what table look-up needs
_CACHED_BYTES = 16 * 2**10  # half of a first-level cache
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)


def panel_width(dtype: Any) -> int:
    """Columns summed at a time: as many 16-lane accumulators as the registers of a 256-bit machine hold."""
    return 6 if np.dtype(dtype) == np.float32 else 3


def _data(context: Any, builder: Any, array_type: Any, value: Any) -> Any:
    """Pointer to the first number of a contiguous array."""
    return context.make_array(array_type)(context, builder, value).data


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
            pointers = [_data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4, 7)]
            inputs = builder.gep(pointers[0], [arguments[1]])
            offsets_here = builder.gep(pointers[1], [arguments[3]])
            weights = builder.gep(pointers[2], [arguments[5]])
            count_here = arguments[6]

            entry = builder.block
            loop = builder.append_basic_block("product.loop")
            done = builder.append_basic_block("product.done")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(_INT64)
            k.add_incoming(ir.Constant(_INT64, 0), entry)
            before = [builder.phi(vector) for _ in range(columns)]
            for accumulator in before:
                accumulator.add_incoming(ir.Constant(vector, [0.0] * LANES), entry)
            offset = builder.load(builder.gep(offsets_here, [k]))
            x_here = builder.load(builder.bitcast(builder.gep(inputs, [offset]), vector.as_pointer()), align=size)
            panel_row = builder.gep(weights, [builder.mul(k, ir.Constant(_INT64, columns))])
            undefined = ir.Constant(vector, ir.Undefined)
            everywhere = ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES)
            after = []
            for column, accumulator in enumerate(before):
                weight = builder.load(builder.gep(panel_row, [ir.Constant(_INT64, column)]))
                weight = builder.insert_element(undefined, weight, ir.Constant(_INT32, 0))
                weight = builder.shuffle_vector(weight, undefined, everywhere)
                after.append(builder.call(fma, [x_here, weight, accumulator]))
            next_k = builder.add(k, ir.Constant(_INT64, 1))
            k.add_incoming(next_k, loop)
            for accumulator, value in zip(before, after, strict=True):
                accumulator.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", next_k, count_here), loop, done)
            builder.position_at_end(done)
            for column, value in enumerate(after):
                place = builder.gep(pointers[3], [ir.Constant(_INT64, column * LANES)])
                builder.store(value, builder.bitcast(place, vector.as_pointer()), align=size)
            return context.get_dummy_value()

        return signature, generate

    return product


_product_1, _product_2, _product_3 = _product(1), _product(2), _product(3)
_product_4, _product_5, _product_6 = _product(4), _product(5), _product(6)


def _adder(kind: str) -> Any:
    """Convert 16 sums of a column and add them, weighted, to their slot.

    ``adder(sums, first, added, place, weight, inverse_step, low, high, baseline, known, row)`` does, for each lane i,
    ``added[place + i] += weight * code(sums[first + i])``. The code is the sum itself (`kind` ``"sum"``), its nearest
    step (``"code"``), or that of the sum plus ``baseline[row + i]``, less ``known[row + i]`` (``"column"``). As vector
    instructions, because a loop of 16 would check at each turn whether its arrays overlap.
    """

    @intrinsic
    def adder(
        typing_context: Any,
        sums: Any,
        first: Any,
        added: Any,
        place: Any,
        weight: Any,
        inverse_step: Any,
        low: Any,
        high: Any,
        baseline: Any,
        known: Any,
        row: Any,
    ) -> Any:
        real = types.float64
        signature = types.void(
            sums, types.int64, added, types.int64, real, real, real, real, baseline, known, types.int64
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            double = ir.DoubleType()
            vector = ir.VectorType(double, LANES)
            source = context.get_value_type(signature.args[0].dtype)

            def everywhere(value: Any) -> Any:
                undefined = ir.Constant(vector, ir.Undefined)
                single = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
                return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES))

            def pointer(index: int, offset: Any, kind: Any) -> Any:
                array = _data(context, builder, signature.args[index], arguments[index])
                return builder.bitcast(builder.gep(array, [offset]), ir.VectorType(kind, LANES).as_pointer())

            size = 4 if isinstance(source, ir.FloatType) else 8
            value = builder.load(pointer(0, arguments[1], source), align=size)
            if size == 4:
                value = builder.fpext(value, vector)
            if kind != "sum":
                if kind == "column":
                    value = builder.fadd(value, builder.load(pointer(8, arguments[10], double), align=8))
                value = builder.fmul(value, everywhere(arguments[5]))
                value = builder.fadd(value, ir.Constant(vector, [0.5] * LANES))
                floor = cgutils.get_or_insert_function(
                    builder.module, ir.FunctionType(vector, [vector]), f"llvm.floor.v{LANES}f64"
                )
                value = builder.call(floor, [value])
                for bound, sign in ((everywhere(arguments[6]), "<"), (everywhere(arguments[7]), ">")):
                    value = builder.select(builder.fcmp_ordered(sign, value, bound), bound, value)
                if kind == "column":
                    value = builder.fsub(value, builder.load(pointer(9, arguments[10], double), align=8))
            target = pointer(2, arguments[3], double)
            value = builder.fadd(builder.load(target, align=8), builder.fmul(everywhere(arguments[4]), value))
            builder.store(value, target, align=8)
            return context.get_dummy_value()

        return signature, generate

    return adder


_add_sum, _add_code, _add_column = _adder("sum"), _adder("code"), _adder("column")


@intrinsic
def _transpose_8(
    typing_context: Any, source: Any, first: Any, stride: Any, target: Any, place: Any, target_stride: Any
) -> Any:
    """Transpose 8 x 8 float32: ``target[place + i target_stride + j] = source[first + j stride + i]``, in registers."""
    signature = types.void(source, types.int64, types.int64, target, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), 8)
        indices = ir.VectorType(_INT32, 8)
        origin = builder.gep(_data(context, builder, signature.args[0], arguments[0]), [arguments[1]])
        goal = builder.gep(_data(context, builder, signature.args[3], arguments[3]), [arguments[4]])

        def at(pointer: Any, row: int, stride: Any) -> Any:
            here = builder.gep(pointer, [builder.mul(stride, ir.Constant(_INT64, row))])
            return builder.bitcast(here, vector.as_pointer())

        rows = [builder.load(at(origin, row, arguments[2]), align=4) for row in range(8)]
        # Three rounds: swap the off-diagonal blocks of 4 x 4, then 2 x 2, then single numbers.
        for width in (4, 2, 1):
            for row in range(8):
                if row & width:
                    continue
                upper, lower = rows[row], rows[row + width]
                keep = [i if not i & width else 8 + (i ^ width) for i in range(8)]
                swap = [(i ^ width) if not i & width else 8 + i for i in range(8)]
                rows[row] = builder.shuffle_vector(upper, lower, ir.Constant(indices, keep))
                rows[row + width] = builder.shuffle_vector(upper, lower, ir.Constant(indices, swap))
        for row in range(8):
            builder.store(rows[row], at(goal, row, arguments[5]), align=4)
        return context.get_dummy_value()

    return signature, generate


@njit(cache=True, nogil=True)
def _drive(codes: Any, how: int, shift: int, mask: int, offset: int, driven: Any) -> None:
    """One plane of what is driven for `codes`: positive (1) or negative parts (2), plus offset (3), or themselves."""
    if how == 1:
        for i in range(codes.shape[0]):
            driven[i] = (max(np.int32(codes[i]), np.int32(0)) >> np.int32(shift)) & np.int32(mask)
    elif how == 2:
        for i in range(codes.shape[0]):
            driven[i] = (max(-np.int32(codes[i]), np.int32(0)) >> np.int32(shift)) & np.int32(mask)
    else:
        add = np.int32(offset) if how == 3 else np.int32(0)
        for i in range(codes.shape[0]):
            driven[i] = ((np.int32(codes[i]) + add) >> np.int32(shift)) & np.int32(mask)


@njit(cache=True, nogil=True)
def _quantise_row(values: Any, inverse_scale: float, low: float, high: float, codes: Any) -> int:
    """Nearest codes of a row, halves up, clipped; returns how many values were not finite."""
    bad = 0
    for x in range(values.shape[0]):
        value = np.float64(values[x]) * inverse_scale
        bad += 0 if value - value == 0.0 else 1  # no branch: it would keep the loop from vector instructions
        value = np.floor(value + 0.5)
        value = low if value < low else value
        codes[x] = high if value > high else value
    return bad


@njit(cache=True, parallel=True, nogil=True)
def block_inputs(
    values: Any,
    inverse_scale: float,
    low: float,
    high: float,
    top: int,
    left: int,
    how: Any,
    shift: Any,
    mask: int,
    offset: int,
    shape: Any,
    scratch: Any,
    blocked: Any,
) -> bool:
    """Quantise feature maps, cut them into planes, pad them, and put 16 images side by side.

    `values` (images, channels, height, width) float32; nearest codes, halves up, clipped to [low, high]; `how`,
    `shift` one for each pass and plane, as :func:`_drive`, or whole codes where `mask` is 0; `shape` is (passes x
    planes, blocks, channels, padded height, padded width, 16), of which `blocked`, filled, is the flat array: float32,
    float64 or uint8. Channels beyond those of `values` hold ones. `scratch` is any array of the type to work in,
    float32 where `blocked` is uint8. Returns whether all values were finite.
    """
    images, channels, height, width = values.shape
    planes, blocks, stored, padded_height, padded_width, _ = shape
    wide = -(-width // 8) * 8
    bad = 0
    for job in prange(blocks * channels):
        block, c = job // channels, job % channels
        first = block * LANES
        count = min(LANES, images - first)
        codes = np.zeros(LANES * wide, scratch.dtype)
        driven = np.zeros(LANES * wide, scratch.dtype)
        turned = np.zeros(8 * LANES, scratch.dtype)
        for y in range(height):
            for lane in range(count):
                row = codes[lane * wide : lane * wide + width]
                bad += _quantise_row(values[first + lane, c, y], inverse_scale, low, high, row)
            for t in range(planes):
                source = codes
                if mask != 0:
                    source = driven
                    _drive(codes[: count * wide], how[t], shift[t], mask, offset, driven)
                place = (((t * blocks + block) * stored + c) * padded_height + top + y) * padded_width + left
                place *= LANES
                for x in range(0, wide, 8):
                    if blocked.itemsize == 4 and x + 8 <= width:
                        _transpose_8(source, x, wide, blocked, place + x * LANES, LANES)
                        _transpose_8(source, x + 8 * wide, wide, blocked, place + x * LANES + 8, LANES)
                    elif blocked.itemsize < 8:
                        _transpose_8(source, x, wide, turned, 0, LANES)
                        _transpose_8(source, x + 8 * wide, wide, turned, 8, LANES)
                        for i in range(min(8, width - x) * LANES):
                            blocked[place + x * LANES + i] = turned[i]
                    else:
                        for i in range(min(8, width - x)):
                            for lane in range(LANES):
                                blocked[place + (x + i) * LANES + lane] = source[lane * wide + x + i]
        for t in range(planes):
            idle = np.zeros(1, scratch.dtype)
            if mask != 0:
                _drive(np.zeros(1, scratch.dtype), how[t], shift[t], mask, offset, idle)
            place = ((t * blocks + block) * stored + c) * padded_height * padded_width * LANES
            for y in range(padded_height):
                inside = top <= y < top + height
                for x in range(padded_width):
                    if not (inside and left <= x < left + width):
                        for lane in range(LANES):
                            blocked[place + (y * padded_width + x) * LANES + lane] = idle[0]
    for job in range(planes * blocks):
        for place in range((job * stored + channels), (job + 1) * stored):
            numbers = padded_height * padded_width * LANES
            blocked[place * numbers : (place + 1) * numbers] = 1
    return bad == 0


@njit(cache=True, nogil=True)
def _approximate(
    sums: Any,
    lane: int,
    added: Any,
    target: int,
    p: int,
    weight: float,
    inverse_step: float,
    low: float,
    high: float,
    baseline: Any,
    known: Any,
    bits: Any,
    column: int,
    work: Any,
) -> None:
    """Convert 16 sums bit by bit with `bits`, the weights of one converter, and add their codes; see :func:`products`.

    `baseline` and `known` (positions, 16), of which `p` is read, are added before and taken off after; zero where pairs
    are subtracted. `work` holds positions, levels and codes one after another: one array, so that the compiler sees
    that they do not overlap.
    """
    levels, codes = LANES, 2 * LANES
    for i in range(LANES):
        work[i] = (np.float64(sums[lane + i]) + baseline[p, i]) * inverse_step + 0.5 - low
        work[levels + i] = 0.0
        work[codes + i] = 0.0
    for bit in range(bits.shape[1] - 1, -1, -1):
        counts, share = 2.0**bit, bits[column, bit]
        for i in range(LANES):
            raised = work[levels + i] + share
            kept = work[i] >= raised
            work[levels + i] = raised if kept else work[levels + i]
            work[codes + i] += counts if kept else 0.0
    for i in range(LANES):
        added[target, p, i] += weight * (min(max(work[codes + i] + low, low), high) - known[p, i])


@njit(cache=True, nogil=True)
def _finish(
    added: Any,
    count: int,
    first: int,
    lanes: Any,
    places: Any,
    lane_stride: int,
    output_stride: int,
    correction_starts: Any,
    correction_slots: Any,
    inside: bool,
    correction: float,
    step: float,
    constant: Any,
    scale: Any,
    bias: Any,
    result: Any,
) -> None:
    """Scale the sums `added` (slots, positions, 16) of `count` positions from `first` on; see :func:`products`."""
    rows = np.empty(16 * LANES, np.float32)
    turned = np.empty(16 * LANES, np.float32)
    neighbours = count == 16 and places[first + 15] - places[first] == 15 and result.itemsize == 4
    finished = np.empty((scale.shape[0], count, LANES))
    # A linear layer's outputs are neighbours instead of its positions: these are turned over eight at a time.
    row_wise = output_stride == 1 and result.itemsize == 4
    for o in range(scale.shape[0]):
        for p in range(count):
            for i in range(LANES):
                codes = np.float64(added[o, p, i])
                taken_off = 0.0
                for s in range(correction_starts[o], correction_starts[o + 1]):
                    taken_off += added[correction_slots[s], p, i]
                if inside:
                    value = step * (codes - correction * taken_off) + constant[o]
                else:
                    value = step * codes - correction * taken_off + constant[o]
                finished[o, p, i] = value * scale[o] + bias[o]
        if neighbours:
            for p in range(16):
                for i in range(LANES):
                    rows[p * LANES + i] = np.float32(finished[o, p, i])
            for p in range(0, 16, 8):
                _transpose_8(rows, p * LANES, LANES, turned, p, 16)
                _transpose_8(rows, p * LANES + 8, LANES, turned, 8 * 16 + p, 16)
            for i in range(lanes[first]):
                place = places[first] + i * lane_stride + o * output_stride
                for p in range(16):
                    result[place + p] = turned[i * 16 + p]
        elif not row_wise:
            for p in range(count):
                for i in range(lanes[first + p]):
                    result[places[first + p] + i * lane_stride + o * output_stride] = finished[o, p, i]
        elif o % 8 == 7 or o == scale.shape[0] - 1:
            start = o - o % 8
            for p in range(count):
                for e in range(start, o + 1):
                    for i in range(LANES):
                        rows[(e - start) * LANES + i] = np.float32(finished[e, p, i])
                _transpose_8(rows, 0, LANES, turned, 0, 8)
                _transpose_8(rows, 8, LANES, turned, 64, 8)
                for i in range(lanes[first + p]):
                    place = places[first + p] + i * lane_stride + start
                    for e in range(o + 1 - start):
                        result[place + e] = turned[i * 8 + e]


@njit(cache=True, parallel=True, nogil=True)
def products(
    inputs: Any,
    plane_weights: Any,
    bases: Any,
    lanes: Any,
    places: Any,
    lane_stride: int,
    output_stride: int,
    group_rows: Any,
    offsets: Any,
    constants: int,
    group_columns: Any,
    panels: Any,
    panel_starts: Any,
    column_weights: Any,
    column_targets: Any,
    ones: Any,
    sum_targets: Any,
    digital: bool,
    offset_levels: float,
    quantised: bool,
    inverse_step: float,
    low: float,
    high: float,
    bits: Any,
    slots: int,
    strip: int,
    correction_starts: Any,
    correction_slots: Any,
    inside: bool,
    correction: float,
    step: float,
    constant: Any,
    scale: Any,
    bias: Any,
    result: Any,
) -> None:
    """Sum, convert, shift and add: every output of every position of every image.

    Parameters
    ----------
    inputs
        Blocked inputs, shape ``(passes x planes, numbers)``.
    plane_weights
        What each pass and plane counts, with its sign.
    bases, lanes, places
        For each position of each block: its first input, how many of the 16 lanes are images, and its place in
        `result`.
    lane_stride, output_stride
        Steps in `result` from image to image and from output to output.
    group_rows, offsets
        The driven rows of group g are ``offsets[group_rows[g]:group_rows[g + 1]]``, as offsets into `inputs`.
    constants
        How many of these, at the end of each group, are no inputs and do not count in their sum.
    group_columns, panels, panel_starts
        The columns of group g; their cells stand in `panels` from ``panel_starts[g]`` in panels of :func:`panel_width`.
    column_weights, column_targets
        What each column's code counts, and the slot it is added to. The first slots are the outputs.
    ones, sum_targets
        Ones, as many as the longest group has rows; and the slot (or -1) that each group's sum of inputs is added to.
    digital, offset_levels, quantised, inverse_step, low, high
        The converter; see :mod:`xbarsim.engine.reference`.
    bits
        Weights of the bits of each column's converter, shape ``(columns, bits)``; no columns for ideal converters.
    slots, strip
        How many slots there are, and how many positions are worked on at a time.
    correction_starts, correction_slots, inside, correction
        Slots that each output takes off, `correction` times, before (`inside`) or after its codes are scaled.
    step, constant, scale, bias
        An output is ``(step * codes - corrections + constant) * scale + bias``.
    result
        Flat, filled; float32 or float64.
    """
    width = 6 if panels.itemsize == 4 else 3
    positions = bases.shape[0]
    for job in prange(-(-positions // strip)):
        first = job * strip
        count = min(strip, positions - first)
        added = np.zeros((slots, count, LANES))
        sums = np.empty(width * LANES, panels.dtype)
        baseline = np.zeros((count, LANES))
        known = np.zeros((count, LANES))
        work = np.empty(3 * LANES)
        for t in range(plane_weights.shape[0]):
            x = inputs[t]
            for g in range(panel_starts.shape[0]):
                rows = group_rows[g]
                driven = group_rows[g + 1] - rows
                if digital:
                    for p in range(count):
                        _product_1(x, bases[first + p], offsets, rows, ones, 0, driven - constants, sums)
                        for i in range(LANES):
                            baseline[p, i] = offset_levels * np.float64(sums[i])
                            known[p, i] = np.floor(baseline[p, i] * inverse_step + 0.5)
                        if sum_targets[g] >= 0:
                            for i in range(LANES):
                                added[sum_targets[g], p, i] += plane_weights[t] * np.float64(sums[i])
                # As many columns at a time as stay in the first cache while the positions pass.
                chunk = max(1, _CACHED_BYTES // (driven * width * panels.itemsize)) * width
                for start in range(group_columns[g], group_columns[g + 1], chunk):
                    stop = min(start + chunk, group_columns[g + 1])
                    for p in range(count):
                        base = bases[first + p]
                        column = start
                        panel = panel_starts[g] + (start - group_columns[g]) * driven
                        while column < stop:
                            here = min(width, stop - column)
                            if here == 6:
                                _product_6(x, base, offsets, rows, panels, panel, driven, sums)
                            elif here == 5:
                                _product_5(x, base, offsets, rows, panels, panel, driven, sums)
                            elif here == 4:
                                _product_4(x, base, offsets, rows, panels, panel, driven, sums)
                            elif here == 3:
                                _product_3(x, base, offsets, rows, panels, panel, driven, sums)
                            elif here == 2:
                                _product_2(x, base, offsets, rows, panels, panel, driven, sums)
                            else:
                                _product_1(x, base, offsets, rows, panels, panel, driven, sums)
                            for c in range(here):
                                weight = column_weights[column + c] * plane_weights[t]
                                target = column_targets[column + c]
                                place = (target * count + p) * LANES
                                lane = c * LANES
                                if bits.shape[0] > 0:
                                    _approximate(
                                        sums,
                                        lane,
                                        added,
                                        target,
                                        p,
                                        weight,
                                        inverse_step,
                                        low,
                                        high,
                                        baseline,
                                        known,
                                        bits,
                                        column + c,
                                        work,
                                    )
                                elif not quantised:
                                    _add_sum(
                                        sums, lane, added, place, weight, 1.0, low, high, baseline, known, p * LANES
                                    )
                                elif not digital:
                                    _add_code(
                                        sums,
                                        lane,
                                        added,
                                        place,
                                        weight,
                                        inverse_step,
                                        low,
                                        high,
                                        baseline,
                                        known,
                                        p * LANES,
                                    )
                                else:
                                    _add_column(
                                        sums,
                                        lane,
                                        added,
                                        place,
                                        weight,
                                        inverse_step,
                                        low,
                                        high,
                                        baseline,
                                        known,
                                        p * LANES,
                                    )
                            column += here
                            panel += here * driven
        _finish(
            added,
            count,
            first,
            lanes,
            places,
            lane_stride,
            output_stride,
            correction_starts,
            correction_slots,
            inside,
            correction,
            step,
            constant,
            scale,
            bias,
            result,
        )


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
        source = _data(context, builder, signature.args[0], arguments[0])
        places = builder.gep(_data(context, builder, signature.args[3], arguments[3]), [arguments[4]])
        target = _data(context, builder, signature.args[6], arguments[6])
        both = ir.Constant(ir.VectorType(_INT32, _PAIR), list(range(_PAIR)))
        with cgutils.for_range(builder, arguments[5]) as loop:
            rows = []
            for r in range(4):
                k = builder.add(builder.mul(loop.index, ir.Constant(_INT64, 4)), ir.Constant(_INT64, r))
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
                place = builder.add(builder.mul(loop.index, ir.Constant(_INT64, _PLANES)), ir.Constant(_INT64, bit))
                place = builder.gep(target, [builder.mul(place, ir.Constant(_INT64, _PAIR))])
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
        stride = ir.Constant(_INT64, _PLANES * _PAIR)
        source = _data(context, builder, signature.args[0], arguments[0])
        source = builder.gep(source, [builder.mul(arguments[1], stride)])
        table = builder.gep(_data(context, builder, signature.args[2], arguments[2]), [arguments[3]])
        target = _data(context, builder, signature.args[5], arguments[5])
        twice = ir.Constant(ir.VectorType(_INT32, _PAIR), list(range(LANES)) * 2)

        entry = builder.block
        loop, done = builder.append_basic_block("look_up.loop"), builder.append_basic_block("look_up.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        q = builder.phi(_INT64)
        q.add_incoming(ir.Constant(_INT64, 0), entry)
        before = [builder.phi(full) for _ in range(_PLANES)]
        for accumulator in before:
            accumulator.add_incoming(ir.Constant(full, [0] * _PAIR), entry)
        place = builder.gep(table, [builder.mul(q, ir.Constant(_INT64, 16))])
        entries = builder.load(builder.bitcast(place, half.as_pointer()), align=1)
        entries = builder.shuffle_vector(entries, ir.Constant(half, ir.Undefined), twice)
        row = builder.gep(source, [builder.mul(q, stride)])
        after = []
        for bit, accumulator in enumerate(before):
            place = builder.gep(row, [ir.Constant(_INT64, bit * _PAIR)])
            index = builder.load(builder.bitcast(place, full.as_pointer()), align=1)
            after.append(builder.add(accumulator, builder.call(shuffle, [entries, index])))
        next_q = builder.add(q, ir.Constant(_INT64, 1))
        q.add_incoming(next_q, loop)
        for accumulator, value in zip(before, after, strict=True):
            accumulator.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", next_q, arguments[4]), loop, done)
        builder.position_at_end(done)
        for bit, value in enumerate(after):
            place = builder.gep(target, [ir.Constant(_INT64, bit * _PAIR)])
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
    weight: Any,
    added: Any,
    place: Any,
    other: Any,
) -> Any:
    """Convert 32 lanes of every bit plane of a column, shift and add them, and add them to the slots of two positions.

    ``added[place + i] += weight * sum_b 2^b code(sums[32 b + i])``, and at `other` for lanes 16 on; all in float32,
    where the caller has proved it exact, and int32.
    """
    real = types.float32
    signature = types.void(sums, types.int64, real, real, real, types.int32, added, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        single = ir.FloatType()
        vector, words = ir.VectorType(single, _PAIR), ir.VectorType(_INT32, _PAIR)
        short = ir.VectorType(ir.IntType(16), _PAIR)
        half = ir.VectorType(_INT32, LANES)
        floor = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), f"llvm.floor.v{_PAIR}f32"
        )
        zeros = ir.Constant(ir.VectorType(_INT32, _PAIR), [0] * _PAIR)

        def everywhere(value: Any, kind: Any) -> Any:
            undefined = ir.Constant(kind, ir.Undefined)
            return builder.shuffle_vector(
                builder.insert_element(undefined, value, ir.Constant(_INT32, 0)), undefined, zeros
            )

        inverse, low, high = (everywhere(arguments[k], vector) for k in (2, 3, 4))
        source = _data(context, builder, signature.args[0], arguments[0])
        entry = builder.block
        loop, done = builder.append_basic_block("add_bits.loop"), builder.append_basic_block("add_bits.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        plane, unit, total = builder.phi(_INT64), builder.phi(single), builder.phi(vector)
        plane.add_incoming(ir.Constant(_INT64, 0), entry)
        unit.add_incoming(ir.Constant(single, 1.0), entry)
        total.add_incoming(ir.Constant(vector, [0.0] * _PAIR), entry)
        place = builder.gep(source, [builder.mul(plane, ir.Constant(_INT64, _PAIR))])
        value = builder.sitofp(builder.load(builder.bitcast(place, short.as_pointer()), align=2), vector)
        value = builder.fadd(builder.fmul(value, inverse), ir.Constant(vector, [0.5] * _PAIR))
        value = builder.call(floor, [value])
        value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
        value = builder.select(builder.fcmp_ordered(">", value, high), high, value)
        new_total = builder.fadd(total, builder.fmul(everywhere(unit, vector), value))
        next_plane = builder.add(plane, ir.Constant(_INT64, 1))
        plane.add_incoming(next_plane, loop)
        unit.add_incoming(builder.fadd(unit, unit), loop)
        total.add_incoming(new_total, loop)
        builder.cbranch(builder.icmp_signed("<", next_plane, arguments[1]), loop, done)
        builder.position_at_end(done)
        codes = builder.mul(builder.fptosi(new_total, words), everywhere(arguments[5], words))
        target = _data(context, builder, signature.args[6], arguments[6])
        for start, where in ((0, arguments[7]), (LANES, arguments[8])):
            lanes = ir.Constant(ir.VectorType(_INT32, LANES), list(range(start, start + LANES)))
            part = builder.shuffle_vector(codes, ir.Constant(words, ir.Undefined), lanes)
            here = builder.bitcast(builder.gep(target, [where]), half.as_pointer())
            builder.store(builder.add(builder.load(here, align=4), part), here, align=4)
        return context.get_dummy_value()

    return signature, generate


@njit(cache=True, parallel=True, nogil=True)
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


@njit(cache=True, parallel=True, nogil=True)
def bit_serial_products(
    inputs: Any,
    pass_signs: Any,
    bases: Any,
    lanes: Any,
    places: Any,
    lane_stride: int,
    output_stride: int,
    group_rows: Any,
    group_driven: Any,
    offsets: Any,
    group_columns: Any,
    tables: Any,
    table_starts: Any,
    fits: int,
    column_weights: Any,
    column_targets: Any,
    sum_targets: Any,
    dac_bits: int,
    planes: int,
    inverse_step: Any,
    low: Any,
    high: Any,
    slots: int,
    strip: int,
    correction_starts: Any,
    correction_slots: Any,
    inside: bool,
    correction: float,
    step: float,
    constant: Any,
    scale: Any,
    bias: Any,
    result: Any,
) -> None:
    """As :func:`products` for whole levels and bit-serial inputs, by table look-up.

    What differs: `inputs` (passes, numbers) are the blocked codes as uint8, cut into planes of `dac_bits` here; rows
    come in
    fours: each group has `group_driven` rows and is filled up with any others, whose table entries are zero; `tables`
    hold the partial sums of :func:`make_tables`, of
    which `fits` can be added in 8 bits; the converter works in float32, which the caller has proved exact for every
    sum that
    can occur. `strip` is even.
    """
    positions = bases.shape[0]
    longest = 0
    for g in range(table_starts.shape[0]):
        longest = max(longest, (group_rows[g + 1] - group_rows[g]) // 4)
    for job in prange(-(-positions // strip)):
        first = job * strip
        count = min(strip, positions - first)
        added = np.zeros((slots, count + 1, LANES), np.int32)  # the last takes what an odd position has no pair for
        nibbles = np.empty(longest * _PLANES * _PAIR, np.uint8)
        sums = np.empty(_PLANES * _PAIR, np.int16)
        totals = np.empty(_PAIR, np.float32)
        for t in range(inputs.shape[0]):
            x = inputs[t]
            for g in range(table_starts.shape[0]):
                rows = group_rows[g]
                quads = (group_rows[g + 1] - rows) // 4
                for p in range(0, count, 2):
                    pair = min(2, count - p)
                    other = bases[first + p + pair - 1]
                    _gather_nibbles(x, bases[first + p], other, offsets, rows, quads, nibbles)
                    if sum_targets[g] >= 0:
                        for k in range(rows, rows + group_driven[g]):
                            for half in range(pair):
                                base = bases[first + p + half] + offsets[k]
                                for i in range(LANES):
                                    added[sum_targets[g], p + half, i] += pass_signs[t] * np.int32(x[base + i])
                    table = table_starts[g]
                    for column in range(group_columns[g], group_columns[g + 1]):
                        sums[:] = 0
                        for q in range(0, quads, fits):
                            _look_up(nibbles, q, tables, table + 16 * q, min(fits, quads - q), sums)
                        table += 16 * quads
                        weight = np.int32(column_weights[column] * pass_signs[t])
                        target = column_targets[column]
                        if dac_bits == 1:
                            here = (target * (count + 1) + p) * LANES
                            there = here + LANES if pair == 2 else (target * (count + 1) + count) * LANES
                            _add_bits(sums, planes, inverse_step, low, high, weight, added, here, there)
                            continue
                        totals[:] = np.float32(0.0)
                        for plane in range(planes):
                            bit = plane * dac_bits
                            unit = np.float32(1 << bit)
                            for i in range(_PAIR):
                                whole = np.int32(0)
                                for b in range(bit, min(bit + dac_bits, _PLANES)):
                                    whole += np.int32(sums[b * _PAIR + i]) << np.int32(b - bit)
                                code = np.floor(np.float32(whole) * inverse_step + np.float32(0.5))
                                code = low if code < low else code
                                totals[i] += unit * (high if code > high else code)
                        for half in range(pair):
                            for i in range(LANES):
                                added[target, p + half, i] += weight * np.int32(totals[half * LANES + i])
        _finish(
            added,
            count,
            first,
            lanes,
            places,
            lane_stride,
            output_stride,
            correction_starts,
            correction_slots,
            inside,
            correction,
            step,
            constant,
            scale,
            bias,
            result,
        )


@intrinsic
def _popcount(typing_context: Any, word: Any) -> Any:
    """Number of set bits of a 64-bit word, as one LLVM instruction that vectorises."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)])
        return builder.call(function, arguments)

    return types.int64(types.uint64), generate


@njit(cache=True)
def _code(value: float, inverse_step: float, low: float, high: float, bits: Any) -> float:
    """The converter: nearest step, halves up, clipped; or by `bits`, the weights of its bits in codes, if any."""
    if bits.shape[0] == 0:
        return min(max(np.floor(value * inverse_step + 0.5), low), high)
    position = value * inverse_step + 0.5
    level, code = low, low
    for bit in range(bits.shape[0] - 1, -1, -1):
        raised = level + bits[bit]
        if position >= raised:
            level = raised
            code += 2.0**bit
    return min(max(code, low), high)


@njit(cache=True, parallel=True, nogil=True)
def convert_pairs(
    sums: Any,
    noise: Any,
    bits: Any,
    weights: Any,
    outputs: Any,
    quantised: bool,
    inverse_step: float,
    low: float,
    high: float,
    added: Any,
) -> None:
    """Convert subtracted pairs and add their codes.

    `sums` (vectors, slices, outputs here), `noise` the same shape, or one for all vectors, or empty, `bits` (slices,
    outputs here, bits) the weights of each converter's bits, or no bits, `weights` (slices,) plane weight times slice
    weight, `outputs` (outputs here,) columns of `added` (vectors, outputs), which is added to.
    """
    noisy = noise.size > 0
    for v in prange(sums.shape[0]):
        drawn = np.int64(v) if noise.shape[0] > 1 else 0
        for s in range(sums.shape[1]):
            weight = weights[s]
            for o in range(sums.shape[2]):
                value = np.float64(sums[v, s, o])
                if noisy:
                    value += noise[drawn, s, o]
                if quantised:
                    value = _code(value, inverse_step, low, high, bits[s, o])
                added[v, outputs[o]] += weight * value


@njit(cache=True, parallel=True, nogil=True)
def convert_columns(
    sums: Any,
    noise: Any,
    bits: Any,
    references: Any,
    reference_noise: Any,
    reference_bits: Any,
    baseline: Any,
    weights: Any,
    outputs: Any,
    owners: Any,
    quantised: bool,
    inverse_step: float,
    low: float,
    high: float,
    added: Any,
) -> None:
    """Convert single columns, take off the known sum, and add their codes.

    `sums` (vectors, sides, slices, outputs here), side 1 counts negatively; `references` (vectors, tiles here), or no
    tiles; `baseline` (vectors,) the g_min currents; `owners` (outputs here,) the tile of each output; the rest as
    :func:`convert_pairs`.
    """
    noisy = noise.size > 0
    slices = sums.shape[2]
    for v in prange(sums.shape[0]):
        drawn = np.int64(v) if noise.shape[0] > 1 else 0
        base = baseline[v]
        known = np.floor(base * inverse_step + 0.5)
        for side in range(sums.shape[1]):
            for s in range(slices):
                weight = weights[s] if side == 0 else -weights[s]
                for o in range(sums.shape[3]):
                    value = np.float64(sums[v, side, s, o])
                    if noisy:
                        value += noise[drawn, side, s, o]
                    if quantised:
                        value = _code(value + base, inverse_step, low, high, bits[side, s, o]) - known
                    added[v, outputs[o]] += weight * value
        if references.shape[1] > 0:
            codes = np.empty(references.shape[1])
            for t in range(references.shape[1]):
                value = np.float64(references[v, t])
                if noisy:
                    value += reference_noise[drawn, t]
                if quantised:
                    value = _code(value + base, inverse_step, low, high, reference_bits[t]) - known
                codes[t] = value
            for o in range(outputs.shape[0]):
                added[v, outputs[o]] -= weights[slices - 1] * codes[owners[o]]


@njit(cache=True, parallel=True, nogil=True)
def pack_planes(codes: Any, bits: int, packed: Any) -> None:
    """Pack bit b of `codes` (vectors, rows), non-negative, into `packed` (vectors, bits, words) of 64 rows each."""
    rows = codes.shape[1]
    for v in prange(codes.shape[0]):
        for b in range(bits):
            for word in range(packed.shape[2]):
                value = np.uint64(0)
                for i in range(word * 64, min(rows, word * 64 + 64)):
                    value |= np.uint64((codes[v, i] >> b) & 1) << np.uint64(i - word * 64)
                packed[v, b, word] = value


@njit(cache=True, parallel=True, nogil=True)
def bitplane_reads(
    inputs: Any,
    cells: Any,
    references: Any,
    dac_bits: int,
    planes: int,
    sign: float,
    analog: bool,
    offset_levels: float,
    slice_weights: Any,
    outputs: Any,
    owners: Any,
    inverse_step: float,
    low: float,
    high: float,
    added: Any,
) -> None:
    """Read packed bit planes: AND and count bits, convert every read, add the codes.

    `inputs` (vectors, input bits, words); `cells` (sides, slices, cell bits, words, outputs here); `references`
    (cell bits, words, tiles here) or no tiles; `added` (vectors, outputs). With `analog` the pair is subtracted
    before the conversion, else each column is converted and the known sum taken off.
    """
    sides, slices, cell_bits, words, count = cells.shape
    tiles = references.shape[2]
    for v in prange(inputs.shape[0]):
        sums = np.empty(count, np.int64)
        codes = np.empty(tiles, np.float64)
        for plane in range(planes):
            first = plane * dac_bits
            last = min(first + dac_bits, inputs.shape[1])
            plane_weight = sign * 2.0**first
            base = 0.0
            known = 0.0
            if not analog and offset_levels > 0.0:
                total = 0
                for b in range(first, last):
                    for word in range(words):
                        total += _popcount(inputs[v, b, word]) << (b - first)
                base = offset_levels * total
                known = np.floor(base * inverse_step + 0.5)
            for s in range(slices):
                for o in range(count):
                    sums[o] = 0
                for side in range(sides):
                    if side == 1 and not analog:
                        for o in range(count):
                            sums[o] = 0
                    for b in range(first, last):
                        for word in range(words):
                            driven = inputs[v, b, word]
                            if driven == 0:
                                continue
                            for c in range(cell_bits):
                                shift = np.int64(b - first + c)
                                if side == 1 and analog:
                                    for o in range(count):
                                        sums[o] -= _popcount(driven & cells[side, s, c, word, o]) << shift
                                else:
                                    for o in range(count):
                                        sums[o] += _popcount(driven & cells[side, s, c, word, o]) << shift
                    if analog and side == 0:
                        continue
                    weight = plane_weight * slice_weights[s]
                    if side == 1 and not analog:
                        weight = -weight
                    for o in range(count):
                        code = min(max(np.floor((np.float64(sums[o]) + base) * inverse_step + 0.5), low), high)
                        added[v, outputs[o]] += weight * (code - known)
            if tiles > 0:
                for t in range(tiles):
                    total = 0
                    for b in range(first, last):
                        for word in range(words):
                            for c in range(cell_bits):
                                both = inputs[v, b, word] & references[c, word, t]
                                total += _popcount(both) << np.int64(b - first + c)
                    code = min(max(np.floor((np.float64(total) + base) * inverse_step + 0.5), low), high)
                    codes[t] = code - known
                for o in range(count):
                    added[v, outputs[o]] -= plane_weight * slice_weights[slices - 1] * codes[owners[o]]


@njit(cache=True, parallel=True, nogil=True)
def add_product(left: Any, right: Any, result: Any) -> None:
    """Add `left` (vectors, rows) times `right` (rows, columns) to `result`, row by row in order."""
    for v in prange(left.shape[0]):
        for k in range(left.shape[1]):
            factor = left[v, k]
            for n in range(right.shape[1]):
                result[v, n] += factor * right[k, n]


@njit(cache=True, parallel=True, nogil=True)
def im2col(images: Any, kernel_height: int, kernel_width: int, stride: Any, dilation: Any, columns: Any) -> None:
    """Unfold padded feature maps into one row per output position.

    `images` (images, channels, height, width), `columns` (images, out_height, out_width, channels, kernel_height,
    kernel_width), filled.
    """
    out_height, out_width, channels = columns.shape[1], columns.shape[2], columns.shape[3]
    for job in prange(columns.shape[0] * out_height):
        n, i = job // out_height, job % out_height
        for j in range(out_width):
            for c in range(channels):
                for p in range(kernel_height):
                    for q in range(kernel_width):
                        columns[n, i, j, c, p, q] = images[
                            n, c, i * stride[0] + p * dilation[0], j * stride[1] + q * dilation[1]
                        ]


@njit(cache=True, parallel=True, nogil=True)
def quantise(values: Any, inverse_scale: float, low: int, high: int, codes: Any) -> bool:
    """Nearest codes of `values` (n,), halves up, clipped to [low, high], into `codes` (n,); whether all were finite."""
    bad = 0
    for i in prange(values.shape[0]):
        value = np.float64(values[i]) * inverse_scale
        if not np.isfinite(value):
            bad += 1
            value = 0.0
        codes[i] = np.int32(min(max(np.floor(value + 0.5), low), high))
    return bad == 0
