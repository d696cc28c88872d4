"""Compiled elimination of a crossbar's inner nodes, without a single subtraction.

A resistor network whose terminals are held at fixed voltages is reduced to one conductance between every driver
and every sense terminal by removing its inner nodes one by one, each replaced by conductances between its
neighbours (the star-mesh transform): ``g_ab += g_ak g_kb / sum_j g_kj``. Every number is positive and nothing
is subtracted, so each effective conductance keeps its relative accuracy however small the wire resistance is,
where a factorisation of the nodal matrix loses digits (the argument of Grassmann, Taksar and Heyman,
doi:10.1287/opre.33.5.1107), and a node that floats is met as a pivot of exactly zero.

The order is nested dissection (George, doi:10.1137/0710032): the array is cut in two, each half is reduced to
the nodes on its edge, and the halves are joined along the cut. A vertical cut crosses only word lines and a
horizontal one only bit lines, so a cut through ``n`` lines joins ``n`` nodes and an n x n array costs O(n^3),
not the O(n^4) of an elimination row by row.

Conventions: `cells` (rows, columns), S; `word` (rows, columns + 1), S, the word-line segments: ``word[i, 0]``
from the left terminal to column 0, ``word[i, j]`` from column j - 1 to j, ``word[i, columns]`` to the right
terminal; `bit` (rows + 1, columns), S, likewise from the top terminal down. Zero is an open segment. An edge of
a region is ABSENT (nothing there), LIVE (nodes still to be joined) or TERMINAL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = ["ABSENT", "TERMINAL", "bundle", "dissect"]

ABSENT, LIVE, TERMINAL = 0, 1, 2
_LEAF = 3  # regions of up to this many rows and columns are reduced node by node
_SMALL = 8  # cuts of up to this many nodes are joined without BLAS
_CHUNK = 48  # rows of a product at a time: half of a symmetric product is then skipped
_POSITIVE = {"reassoc", "contract", "nsz"}  # sums of positive numbers may be taken in any order


@njit(cache=True, nogil=True)
def _layout(height: Any, width: Any, left: Any, right: Any, top: Any, bottom: Any) -> Any:
    """Where each edge's nodes stand in a region's matrix: live nodes, then sense terminals, then driver terminals.

    Returns the first index of the left, right, top and bottom edge (-1 if absent), the number of live nodes,
    the same with the sense terminals, and the total.
    """
    at_left, at_right, at_top, at_bottom = -1, -1, -1, -1
    total = 0
    if right == LIVE:
        at_right = total
        total += height
    if bottom == LIVE:
        at_bottom = total
        total += width
    if top == LIVE:
        at_top = total
        total += width
    if left == LIVE:
        at_left = total
        total += height
    live = total
    if top == TERMINAL:
        at_top = total
        total += width
    if bottom == TERMINAL:
        at_bottom = total
        total += width
    senses = total
    if left == TERMINAL:
        at_left = total
        total += height
    if right == TERMINAL:
        at_right = total
        total += height
    return at_left, at_right, at_top, at_bottom, live, senses, total


@njit(cache=True, nogil=True)
def _connect(matrix: Any, a: Any, b: Any, conductance: Any) -> None:
    matrix[a, b] += conductance
    matrix[b, a] += conductance


@njit(cache=True, nogil=True)
def _leaf(cells: Any, word: Any, bit: Any, region: Any, ends: Any, floating: Any) -> Any:
    """A small region's matrix between the nodes of its edges (diagonal meaningless)."""
    r0, r1, c0, c1 = region[0], region[1], region[2], region[3]
    left, right, top, bottom = ends[0], ends[1], ends[2], ends[3]
    height, width = r1 - r0, c1 - c0
    at_left, at_right, at_top, at_bottom, _, _, edges = _layout(height, width, left, right, top, bottom)
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
    n = inner + edges
    matrix = np.zeros((n, n))
    for a in range(height):
        i = r0 + a
        for b in range(width):
            j = c0 + b
            x, y = word_nodes[a, b], bit_nodes[a, b]
            _connect(matrix, x, y, cells[i, j])
            if b + 1 < width:
                _connect(matrix, x, word_nodes[a, b + 1], word[i, j + 1])
            elif right != ABSENT:
                _connect(matrix, x, inner + at_right + a, word[i, j + 1])
            if b == 0 and left == TERMINAL:
                _connect(matrix, x, inner + at_left + a, word[i, 0])
            if a + 1 < height:
                _connect(matrix, y, bit_nodes[a + 1, b], bit[i + 1, j])
            elif bottom != ABSENT:
                _connect(matrix, y, inner + at_bottom + b, bit[i + 1, j])
            if a == 0 and top == TERMINAL:
                _connect(matrix, y, inner + at_top + b, bit[0, j])
    for k in range(inner):
        pivot = 0.0
        for j in range(k + 1, n):
            pivot += matrix[k, j]
        if pivot == 0.0:
            floating[0] += 1
            continue
        for i in range(k + 1, n):
            factor = matrix[k, i] / pivot
            if factor != 0.0:
                for j in range(k + 1, n):
                    matrix[i, j] += factor * matrix[k, j]
    return matrix[inner:, inner:].copy()


@njit(cache=True, nogil=True, fastmath=_POSITIVE)
def _factor(inner: Any, outward: Any, floating: Any) -> Any:
    """The matrix K such that removing the inner nodes adds ``(K P)^T (K P)`` between the outer ones, P inner to outer.

    `inner` (n, n) conductances between inner nodes and `outward` (n,) each one's sum to outer nodes; both
    overwritten.
    """
    n = inner.shape[0]
    inverse = np.zeros((n, n))
    scale = np.zeros(n)
    for k in range(n):
        inverse[k, k] = 1.0
    for k in range(n):
        pivot = outward[k]
        for j in range(k + 1, n):
            pivot += inner[k, j]
        if pivot == 0.0:
            floating[0] += 1
            continue
        scale[k] = 1.0 / np.sqrt(pivot)
        for l in range(k + 1, n):
            factor = inner[k, l] / pivot
            if factor != 0.0:
                for j in range(l + 1, n):
                    inner[l, j] += factor * inner[k, j]
                for j in range(k + 1):
                    inverse[l, j] += factor * inverse[k, j]
                outward[l] += factor * outward[k]
    for k in range(n):
        for j in range(k + 1):
            inverse[k, j] *= scale[k]
    return inverse


@njit(cache=True, nogil=True, fastmath=_POSITIVE)
def _join(inner: Any, outer: Any, live: Any, senses: Any, matrix: Any, buffer: Any, floating: Any) -> None:
    """Remove the nodes of a cut: `inner` (n, n) between them, `outer` (n, edges) to the region's edges.

    Adds to `matrix` (edges, edges) what later joins and the result need: live rows, and sense rows x driver columns.
    """
    n, edges = outer.shape
    outward = np.zeros(n)
    for k in range(n):
        total = 0.0
        for j in range(edges):
            total += outer[k, j]
        outward[k] = total
    if n <= _SMALL:
        for k in range(n):
            pivot = outward[k]
            for j in range(k + 1, n):
                pivot += inner[k, j]
            if pivot == 0.0:
                floating[0] += 1
                continue
            inverse = 1.0 / pivot
            for l in range(k + 1, n):
                factor = inner[k, l] * inverse
                if factor != 0.0:
                    for j in range(l + 1, n):
                        inner[l, j] += factor * inner[k, j]
                    for j in range(edges):
                        outer[l, j] += factor * outer[k, j]
                    outward[l] += factor * outward[k]
            for a in range(live):
                factor = outer[k, a] * inverse
                for b in range(edges):
                    matrix[a, b] += factor * outer[k, b]
            for a in range(live, senses):
                factor = outer[k, a] * inverse
                for b in range(senses, edges):
                    matrix[a, b] += factor * outer[k, b]
        return
    reduced = np.dot(outer.T, _factor(inner, outward, floating).T)  # (edges, n)
    start = 0
    while start < senses:
        stop = min(start + _CHUNK, live if start < live else senses)
        first = start if start < live else senses
        rows, columns = stop - start, edges - first
        if columns > 0:
            product = buffer[: rows * columns].reshape((rows, columns))
            np.dot(reduced[start:stop], reduced[first:].T, product)
            for a in range(rows):
                for b in range(columns):
                    matrix[start + a, first + b] += product[a, b]
            if start < live:
                for b in range(stop, live):
                    for a in range(start, stop):
                        matrix[b, a] = matrix[a, b]
        start = stop


@njit(cache=True, nogil=True)
def _regions(rows: Any, columns: Any) -> Any:
    """The regions of a dissection, each after its two halves: (regions, 4) of r0, r1, c0, c1.

    No recursion here or below: numba 0.68 crashes when it loads a recursive function from its cache.
    """
    regions = np.empty((2 * rows * columns, 4), np.int64)
    waiting = np.empty((2 * rows * columns, 4), np.int64)
    waiting[0, 0], waiting[0, 1], waiting[0, 2], waiting[0, 3] = 0, rows, 0, columns
    count, depth = 0, 1
    while depth > 0:
        depth -= 1
        r0, r1, c0, c1 = waiting[depth, 0], waiting[depth, 1], waiting[depth, 2], waiting[depth, 3]
        regions[count, 0], regions[count, 1], regions[count, 2], regions[count, 3] = r0, r1, c0, c1
        count += 1
        if r1 - r0 <= _LEAF and c1 - c0 <= _LEAF:
            continue
        for half in range(2):
            waiting[depth, 0], waiting[depth, 1], waiting[depth, 2], waiting[depth, 3] = r0, r1, c0, c1
            if c1 - c0 >= r1 - r0:
                waiting[depth, 3 - half] = (c0 + c1) // 2
            else:
                waiting[depth, 1 - half] = (r0 + r1) // 2
            depth += 1
    return regions[:count][::-1].copy()


@njit(cache=True, nogil=True)
def _merge(region: Any, edges: Any, first: Any, second: Any, buffer: Any, floating: Any) -> Any:
    """Join the matrices of a region's two halves; `edges` (4,) what its left, right, top and bottom are."""
    height, width = region[1] - region[0], region[3] - region[2]
    # For the region and its halves: height, width and edges; then where each edge stands in each matrix.
    shape = np.empty((3, 6), np.int64)
    for which in range(3):
        shape[which, 0], shape[which, 1] = height, width
        for edge in range(4):
            shape[which, 2 + edge] = edges[edge]
    upright = width >= height  # the cut
    if upright:
        n = height
        shape[1, 1] = (region[2] + region[3]) // 2 - region[2]
        shape[2, 1] = width - shape[1, 1]
        shape[1, 3], shape[2, 2] = LIVE, LIVE
    else:
        n = width
        shape[1, 0] = (region[0] + region[1]) // 2 - region[0]
        shape[2, 0] = height - shape[1, 0]
        shape[1, 5], shape[2, 4] = LIVE, LIVE
    at = np.empty((3, 7), np.int64)
    for which in range(3):
        six = shape[which]
        places = _layout(six[0], six[1], six[2], six[3], six[4], six[5])
        for k in range(7):
            at[which, k] = places[k]
    live, senses, total = at[0, 4], at[0, 5], at[0, 6]
    a_cut, b_cut = (at[1, 1], at[2, 0]) if upright else (at[1, 3], at[2, 2])
    inner = np.empty((n, n))
    for a in range(n):
        for b in range(n):
            inner[a, b] = first[a_cut + a, a_cut + b] + second[b_cut + a, b_cut + b]
    outer, matrix = np.zeros((n, total)), np.zeros((total, total))
    target, length = np.empty(4, np.int64), np.empty(4, np.int64)
    for half in range(1, 3):
        part, cut = (first, a_cut) if half == 1 else (second, b_cut)
        for edge in range(4):  # where this half's edges go; -1 for none and for the cut
            target[edge], length[edge] = at[0, edge], shape[half, 0 if edge < 2 else 1]
            if at[half, edge] == cut:
                target[edge] = -1
            elif target[edge] >= 0 and half == 2 and (edge >= 2) == upright:
                target[edge] += shape[1, 1] if upright else shape[1, 0]
        for s in range(4):
            if target[s] < 0:
                continue
            for a in range(n):
                for b in range(length[s]):
                    outer[a, target[s] + b] = part[cut + a, at[half, s] + b]
            for t in range(4):
                if target[t] >= 0 and (target[s] < live or (target[s] < senses and senses <= target[t])):
                    for a in range(length[s]):
                        for b in range(length[t]):
                            matrix[target[s] + a, target[t] + b] = part[at[half, s] + a, at[half, t] + b]
    _join(inner, outer, live, senses, matrix, buffer, floating)
    return matrix


@njit(cache=True, nogil=True)
def dissect(cells: Any, word: Any, bit: Any, ends: Any, result: Any, floating: Any) -> None:
    """Effective conductances of an array whose lines all have resistance; BLAS should run on one thread.

    `cells` (rows, columns); `word` and `bit` finite; `ends` (4,) ABSENT or TERMINAL at the left, right, top and
    bottom; `result` (rows, columns) is written; `floating` (1,) counts pivots of zero.
    """
    rows, columns = cells.shape
    buffer = np.empty(_CHUNK * 2 * (rows + columns))
    stack = [np.empty((0, 0))]
    regions = _regions(rows, columns)
    edges = np.empty(4, np.int64)
    for index in range(regions.shape[0]):
        region = regions[index]
        edges[0] = LIVE if region[2] > 0 else ends[0]
        edges[1] = LIVE if region[3] < columns else ends[1]
        edges[2] = LIVE if region[0] > 0 else ends[2]
        edges[3] = LIVE if region[1] < rows else ends[3]
        if region[1] - region[0] <= _LEAF and region[3] - region[2] <= _LEAF:
            stack.append(_leaf(cells, word, bit, region, edges, floating))
        else:
            second = stack.pop()
            first = stack.pop()
            stack.append(_merge(region, edges, first, second, buffer, floating))
    matrix = stack.pop()
    at_left, at_right, at_top, at_bottom, _, _, _ = _layout(rows, columns, ends[0], ends[1], ends[2], ends[3])
    for i in range(rows):
        for j in range(columns):
            total = 0.0
            for sense in (at_top, at_bottom):
                for driver in (at_left, at_right):
                    if sense >= 0 and driver >= 0:
                        total += matrix[sense + j, driver + i]
            result[i, j] = total


@njit(cache=True, nogil=True)
def _column(cells: Any, bit: Any, j: Any, floating: Any) -> Any:
    """One bit line with resistance, all its nodes removed.

    Returns per row: the inverse of the conductance seen at its node, the voltage at the next node down per
    volt, and the currents into the sense terminals per volt at the node.
    """
    rows = cells.shape[0]
    above, below = np.empty(rows), np.empty(rows)
    resistance, down, sensed = np.zeros(rows), np.zeros(rows), np.empty(rows)
    above[0], below[rows - 1] = bit[0, j], bit[rows, j]
    for i in range(1, rows):
        beyond = above[i - 1] + cells[i - 1, j]
        series = bit[i, j] + beyond
        above[i] = bit[i, j] * (beyond / series) if series > 0.0 else 0.0
    for i in range(rows - 2, -1, -1):
        beyond = below[i + 1] + cells[i + 1, j]
        series = bit[i + 1, j] + beyond
        below[i] = bit[i + 1, j] * (beyond / series) if series > 0.0 else 0.0
        down[i] = bit[i + 1, j] / series if series > 0.0 else 0.0
    sensed[0] = bit[0, j]
    for i in range(1, rows):  # what reaches the top terminal
        series = bit[i, j] + above[i - 1] + cells[i - 1, j]
        sensed[i] = sensed[i - 1] * (bit[i, j] / series) if series > 0.0 else 0.0
    bottom = bit[rows, j]
    for i in range(rows - 1, -1, -1):
        if i < rows - 1:
            bottom *= down[i]
        sensed[i] += bottom
        total = above[i] + below[i] + cells[i, j]
        if total > 0.0:
            resistance[i] = 1.0 / total
        else:
            floating[0] += 1
    return resistance, down, sensed


@njit(cache=True, nogil=True)
def bundle(cells: Any, drive: Any, bit: Any, sense: Any, result: Any, floating: Any) -> None:
    """Effective conductances of an array whose word lines have no resistance: each is one node.

    `cells` (rows, columns); `drive` (rows,) the conductance to each driver, inf if there is nothing between, 0
    if floating; `bit` (rows + 1, columns) finite, or (0, columns) if the bit lines have no resistance either,
    when `sense` (columns,) is the conductance to each sense terminal, inf and 0 as above; the rest as
    :func:`dissect`.
    """
    rows, columns = cells.shape
    driven = np.empty(rows, np.bool_)
    removed = 0
    for i in range(rows):
        driven[i] = drive[i] == np.inf
        if not driven[i]:
            removed += 1
    between = np.zeros((rows, rows))  # between word lines, through the bit lines; upper triangle
    for j in range(columns):
        if bit.shape[0] > 0:
            resistance, down, sensed = _column(cells, bit, j, floating)
            for i in range(rows):
                weight = cells[i, j] * resistance[i]
                result[i, j] = weight * sensed[i]
                if removed > 0:
                    for k in range(i + 1, rows):
                        weight *= down[k - 1]
                        between[i, k] += weight * cells[k, j]
        elif sense[j] == np.inf:
            for i in range(rows):
                result[i, j] = cells[i, j]
        else:
            total = sense[j]
            for i in range(rows):
                total += cells[i, j]
            if total == 0.0:
                floating[0] += 1
            for i in range(rows):
                share = cells[i, j] / total if total > 0.0 else 0.0
                result[i, j] = share * sense[j]
                if removed > 0:
                    for k in range(i + 1, rows):
                        between[i, k] += share * cells[k, j]
    if removed == 0:
        return
    # Remove the word lines that no ideal source holds; those held by one stay, being terminals.
    lines = np.concatenate((np.flatnonzero(~driven), np.flatnonzero(driven)))
    inner, outer = np.zeros((removed, removed)), np.zeros((removed, rows))
    senses, outward = np.empty((removed, columns)), np.zeros(removed)
    for a in range(removed):
        i = lines[a]
        for b in range(rows):
            k = lines[b]
            if b < removed:
                if a != b:
                    inner[a, b] = between[min(i, k), max(i, k)]
            else:
                outer[a, b] = between[min(i, k), max(i, k)]
                outward[a] += outer[a, b]
        outer[a, a] = drive[i]
        outward[a] += drive[i]
        for j in range(columns):
            senses[a, j] = result[i, j]
            outward[a] += senses[a, j]
    factor = _factor(inner, outward, floating)
    added = np.dot(np.dot(factor, outer).T, np.dot(factor, senses))
    for a in range(rows):
        i = lines[a]
        for j in range(columns):
            result[i, j] = added[a, j] + (result[i, j] if driven[i] else 0.0)
