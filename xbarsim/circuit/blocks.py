"""Small regions of an array reduced to the nodes on their edges, eight alike at a time.

The smallest regions are the most, and each takes less time than it costs to look after it. So eight that have the same
shape and edges go side by side, a number of each in one vector register.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.circuit.regions import ABSENT, LEAF, LIVE, TERMINAL, edges_within, layout, placed, regions
from xbarsim.foundation.compiling import kernel

__all__ = ["LANES", "reduce_blocks"]

LANES = 8  # regions side by side


_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_INTEGER = ir.IntType(64)


def _start(context: Any, builder: Any, signature: Any, arguments: Any, array: int) -> Any:
    """Pointer to the number of an array at the offset that is the next argument."""
    data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
    return builder.gep(data, [arguments[array + 1]])


def _at(builder: Any, start: Any, offset: Any) -> Any:
    """Eight numbers behind a pointer."""
    return builder.bitcast(builder.gep(start, [offset]), _VECTOR.as_pointer())


def _fma(builder: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f64")


def _loop(kind: str) -> Any:
    """What is done with `count` neighbouring vectors of eight numbers, written down as vector instructions.

    ``loop(target, first, source, start, factor, place, count)``, m below `count`, f the vector at ``factor[place]``:
    "copy": ``target[m] = source[m]``; "add": ``target[m] += source[m]``; "multiply": ``target[m] = f source[m]``;
    "add products": ``target[m] += f source[m]``; "sum": ``target[0] += sum_m source[m]``. All float64 and contiguous;
    target and source may be one array, whose two parts do not overlap.
    """

    @intrinsic
    def loop(
        typing_context: Any, target: Any, first: Any, source: Any, start: Any, factor: Any, place: Any, count: Any
    ) -> Any:
        number = types.int64
        signature = types.void(target, number, source, number, factor, number, number)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            goal, read, given = (_start(context, builder, signature, arguments, array) for array in (0, 2, 4))
            zero = ir.Constant(_INTEGER, 0)
            fixed = builder.load(_at(builder, given, zero), align=8) if kind in ("multiply", "add products") else None
            total = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * LANES))
            with cgutils.for_range(builder, arguments[6]) as counter:
                offset = builder.mul(counter.index, ir.Constant(_INTEGER, LANES))
                value, place = builder.load(_at(builder, read, offset), align=8), _at(builder, goal, offset)
                if kind == "add":
                    value = builder.fadd(builder.load(place, align=8), value)
                elif kind == "multiply":
                    value = builder.fmul(fixed, value)
                elif kind == "add products":
                    value = builder.call(_fma(builder), [fixed, value, builder.load(place, align=8)])
                if kind == "sum":
                    builder.store(builder.fadd(builder.load(total), value), total)
                else:
                    builder.store(value, place, align=8)
            if kind == "sum":
                place = _at(builder, goal, zero)
                builder.store(builder.fadd(builder.load(place, align=8), builder.load(total)), place, align=8)
            return context.get_dummy_value()

        return signature, generate

    return loop


_copy, _add, _multiply, _add_products, _add_sum = (
    _loop(kind) for kind in ("copy", "add", "multiply", "add products", "sum")
)


@intrinsic
def _add_sums(
    typing_context: Any,
    target: Any,
    first: Any,
    factors: Any,
    place: Any,
    step: Any,
    source: Any,
    start: Any,
    stride: Any,
    count: Any,
    terms: Any,
) -> Any:
    """``target[first + 8 m + l] += sum_k factors[place + k step + l] * source[start + k stride + 8 m + l]``.

    For l below 8, m below `count` and k below `terms`, in the order of k; all float64 and contiguous. Four sums at a
    time stay in registers.
    """
    number = types.int64
    signature = types.void(target, number, factors, number, number, source, number, number, number, number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        added, factor_start, read = (_start(context, builder, signature, arguments, array) for array in (0, 2, 5))
        step, stride, count, terms = arguments[4], arguments[7], arguments[8], arguments[9]
        fma = _fma(builder)

        def at(start: Any, offset: Any) -> Any:
            return _at(builder, start, offset)

        def together(begin: Any, width: int) -> None:
            """The sums of `width` neighbours from number `begin` on."""
            offsets = [
                builder.mul(builder.add(begin, ir.Constant(_INTEGER, i)), ir.Constant(_INTEGER, LANES))
                for i in range(width)
            ]
            entry = builder.block
            loop, done = builder.append_basic_block("sums.loop"), builder.append_basic_block("sums.done")
            initial = [builder.load(at(added, offset), align=8) for offset in offsets]
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(_INTEGER)
            k.add_incoming(ir.Constant(_INTEGER, 0), entry)
            before = [builder.phi(_VECTOR) for _ in range(width)]
            here = builder.mul(k, stride)
            factor = builder.load(at(factor_start, builder.mul(k, step)), align=8)
            for i, accumulator in enumerate(before):
                accumulator.add_incoming(initial[i], entry)
                given = builder.load(at(read, builder.add(here, offsets[i])), align=8)
                accumulator.add_incoming(builder.call(fma, [factor, given, accumulator]), loop)
            following = builder.add(k, ir.Constant(_INTEGER, 1))
            k.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, terms), loop, done)
            builder.position_at_end(done)
            for offset, accumulator in zip(offsets, before, strict=True):
                builder.store(accumulator.incomings[1][0], at(added, offset), align=8)

        fours = builder.sdiv(count, ir.Constant(_INTEGER, 4))
        with cgutils.for_range(builder, fours) as loop:
            together(builder.mul(loop.index, ir.Constant(_INTEGER, 4)), 4)
        rest = builder.mul(fours, ir.Constant(_INTEGER, 4))
        with cgutils.for_range(builder, builder.sub(count, rest)) as loop:
            together(builder.add(rest, loop.index), 1)
        return context.get_dummy_value()

    return signature, generate


@kernel()
def _zeros(size: Any) -> Any:
    """So many zeros, of which eight never straddle two lines of a cache."""
    room = np.zeros(size + LANES)
    start = -room.ctypes.data % 64 // 8
    return room[start : start + size]


@kernel()
def _segments(lines: Any, corners: Any, row: Any, column: Any, found: Any) -> None:
    """What stands at a place of each region: `corners` (8, 2) are where they begin."""
    for lane in range(LANES):
        found[lane] = lines[corners[lane, 0] + row, corners[lane, 1] + column]


@kernel()
def _invert(pivot: Any, floating: Any) -> None:
    """Inverses of the pivots, 0 for 0; these are counted."""
    for lane in range(LANES):
        if pivot[lane] == 0.0:
            floating[0] += 1
        else:
            pivot[lane] = 1.0 / pivot[lane]


@kernel()
def _leaf(cells: Any, word: Any, bit: Any, corners: Any, region: Any, edges: Any, floating: Any) -> Any:
    """Matrices between the nodes of the edges of the smallest regions (diagonals meaningless), (edges, edges, 8)."""
    r0, r1, c0, c1 = region[0], region[1], region[2], region[3]
    left, right, top, bottom = edges[0], edges[1], edges[2], edges[3]
    height, width = r1 - r0, c1 - c0
    at_left, at_right, at_top, at_bottom, _, _, around = layout(height, width, left, right, top, bottom)
    # A live left edge is column c0's own word-line nodes, a live top edge row r0's own bit-line nodes.
    word_nodes, bit_nodes = np.empty((height, width), np.int64), np.empty((height, width), np.int64)
    inner = 0
    for a in range(height):
        for b in range(width):
            if not (left == LIVE and b == 0):
                word_nodes[a, b] = inner
                inner += 1
            if not (top == LIVE and a == 0):
                bit_nodes[a, b] = inner
                inner += 1
    if left == LIVE:
        for a in range(height):
            word_nodes[a, 0] = inner + at_left + a
    if top == LIVE:
        for b in range(width):
            bit_nodes[0, b] = inner + at_top + b
    n = inner + around
    flat, held = _zeros(n * n * LANES), _zeros(LANES)
    for a in range(height):
        i = r0 + a
        for b in range(width):
            j = c0 + b
            x, y = word_nodes[a, b], bit_nodes[a, b]
            _segments(cells, corners, i, j, held)
            _add(flat, _upper(n, x, y), held, 0, held, 0, 1)
            _segments(word, corners, i, j + 1, held)
            if b + 1 < width:
                _add(flat, _upper(n, x, word_nodes[a, b + 1]), held, 0, held, 0, 1)
            elif right != ABSENT:
                _add(flat, _upper(n, x, inner + at_right + a), held, 0, held, 0, 1)
            if b == 0 and left == TERMINAL:
                _segments(word, corners, i, 0, held)
                _add(flat, _upper(n, x, inner + at_left + a), held, 0, held, 0, 1)
            _segments(bit, corners, i + 1, j, held)
            if a + 1 < height:
                _add(flat, _upper(n, y, bit_nodes[a + 1, b]), held, 0, held, 0, 1)
            elif bottom != ABSENT:
                _add(flat, _upper(n, y, inner + at_bottom + b), held, 0, held, 0, 1)
            if a == 0 and top == TERMINAL:
                _segments(bit, corners, 0, j, held)
                _add(flat, _upper(n, y, inner + at_top + b), held, 0, held, 0, 1)
    pivot, factor = _zeros(LANES), _zeros(LANES)
    for k in range(inner):
        pivot[:] = 0.0
        _add_sum(pivot, 0, flat, (k * n + k + 1) * LANES, pivot, 0, n - k - 1)
        _invert(pivot, floating)
        for i in range(k + 1, n):  # the upper triangle
            place = (k * n + i) * LANES
            if _any(flat, place):
                _multiply(factor, 0, flat, place, pivot, 0, 1)
                _add_products(flat, (i * n + i) * LANES, flat, place, factor, 0, n - i)
    reduced = _zeros(around * around * LANES).reshape((around, around, LANES))
    for a in range(around):
        _copy(reduced.reshape(-1), (a * around + a) * LANES, flat, _upper(n, inner + a, inner + a), flat, 0, around - a)
    _mirror(reduced, around)
    return reduced


@kernel()
def _upper(n: Any, a: Any, b: Any) -> Any:
    """Where the conductances between two of n nodes stand in the upper triangle."""
    return (min(a, b) * n + max(a, b)) * LANES


@kernel()
def _any(numbers: Any, place: Any) -> Any:
    """Whether one of eight numbers is not 0."""
    some = False
    for lane in range(LANES):
        some |= numbers[place + lane] != 0.0
    return some


@kernel()
def _mirror(matrix: Any, count: Any) -> None:
    """Copy the upper triangle of the first rows to the lower one."""
    flat, n = matrix.reshape(-1), matrix.shape[1]
    for a in range(count):
        for b in range(a + 1, count):
            _copy(flat, (b * n + a) * LANES, flat, (a * n + b) * LANES, flat, 0, 1)


@kernel()
def _merge(region: Any, edges: Any, first: Any, second: Any, floating: Any) -> Any:
    """Join the matrices of the two halves of eight regions along their cuts."""
    at, target, length = np.empty((3, 7), np.int64), np.empty((2, 4), np.int64), np.empty((2, 4), np.int64)
    n, first_cut, second_cut = placed(region, edges, at, target, length)
    live, senses, total = at[0, 4], at[0, 5], at[0, 6]
    inside, outside = _zeros(n * n * LANES), _zeros(n * total * LANES)
    matrix = _zeros(total * total * LANES).reshape((total, total, LANES))
    flat = matrix.reshape(-1)
    for half in range(2):
        part, cut = (first, first_cut) if half == 0 else (second, second_cut)
        given, size = part.reshape(-1), part.shape[1]
        places, goals, sizes = at[1 + half], target[half], length[half]
        for a in range(n):
            _add(inside, a * n * LANES, given, ((cut + a) * size + cut) * LANES, given, 0, n)
        for s in range(4):
            if goals[s] < 0:
                continue
            for a in range(n):
                row = ((cut + a) * size + places[s]) * LANES
                _copy(outside, (a * total + goals[s]) * LANES, given, row, given, 0, sizes[s])
            for t in range(4):
                if goals[t] >= 0 and (goals[s] < live or (goals[s] < senses and senses <= goals[t])):
                    for a in range(sizes[s]):
                        row = ((places[s] + a) * size + places[t]) * LANES
                        _copy(flat, ((goals[s] + a) * total + goals[t]) * LANES, given, row, given, 0, sizes[t])
    # Remove the nodes of the cut one by one; what they add between the edges is summed up afterwards.
    factors = _zeros(n * senses * LANES)
    pivot, factor = _zeros(LANES), _zeros(LANES)
    for k in range(n):
        pivot[:] = 0.0
        _add_sum(pivot, 0, outside, k * total * LANES, pivot, 0, total)
        _add_sum(pivot, 0, inside, (k * n + k + 1) * LANES, pivot, 0, n - k - 1)
        _invert(pivot, floating)
        for r in range(k + 1, n):
            place = (k * n + r) * LANES
            _multiply(factor, 0, inside, place, pivot, 0, 1)
            _add_products(inside, (r * n + r) * LANES, inside, place, factor, 0, n - r)
            _add_products(outside, r * total * LANES, outside, k * total * LANES, factor, 0, total)
        _multiply(factors, k * senses * LANES, outside, k * total * LANES, pivot, 0, senses)
    for a in range(senses):
        start = a if a < live else senses
        _add_sums(
            flat,
            (a * total + start) * LANES,
            factors,
            a * LANES,
            senses * LANES,
            outside,
            start * LANES,
            total * LANES,
            total - start,
            n,
        )
    _mirror(matrix, live)
    return matrix


@kernel()
def reduce_blocks(
    cells: Any, word: Any, bit: Any, corners: Any, height: Any, width: Any, edges: Any, floating: Any
) -> Any:
    """Matrices between the nodes on the edges of eight regions of one shape, (edges, edges, 8).

    Parameters
    ----------
    cells, word, bit
        Of the whole array, as in :mod:`xbarsim.circuit.kernels`.
    corners
        The first row and column of each region, (8, 2).
    height, width, edges
        Of all of them.
    floating
        (1,) counts pivots of zero.
    """
    parts = regions(height, width, LEAF)
    own = np.empty(4, np.int64)
    stack = [np.empty((0, 0, 0))]
    for index in range(parts.shape[0]):
        part = parts[index]
        edges_within(part, height, width, edges, own)
        if part[1] - part[0] <= LEAF and part[3] - part[2] <= LEAF:
            stack.append(_leaf(cells, word, bit, corners, part, own, floating))
        else:
            second = stack.pop()
            first = stack.pop()
            stack.append(_merge(part, own, first, second, floating))
    return stack.pop()
