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
terminal; `bit` (rows + 1, columns), S, likewise from the top terminal down. Zero is an open segment. Edges of
regions are those of :mod:`xbarsim.circuit.regions`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xbarsim.circuit.blocks import LANES, reduce_blocks
from xbarsim.circuit.regions import edges_within, layout, placed, regions
from xbarsim.foundation.compiling import kernel

__all__ = ["bundle", "dissect"]

_BLOCKS = (
    8,
    16,
)  # regions of up to this many rows and columns are reduced eight at a time: in small arrays, in large ones
_LARGE = 96 * 96  # cells of an array that has enough large blocks which are alike
_WINDOW = 256  # so many of them are reduced ahead
_SMALL = 8  # cuts of up to this many nodes are joined without BLAS
_CHUNK = 48  # rows of a product at a time: half of a symmetric product is then skipped
_POSITIVE = {"reassoc", "contract", "nsz"}  # sums of positive numbers may be taken in any order


@kernel(fastmath=_POSITIVE)
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


@kernel(fastmath=_POSITIVE)
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


@kernel()
def _merge(region: Any, edges: Any, first: Any, second: Any, buffer: Any, floating: Any) -> Any:
    """Join the matrices of a region's two halves; `edges` (4,) what its left, right, top and bottom are."""
    at, target, length = np.empty((3, 7), np.int64), np.empty((2, 4), np.int64), np.empty((2, 4), np.int64)
    n, first_cut, second_cut = placed(region, edges, at, target, length)
    live, senses, total = at[0, 4], at[0, 5], at[0, 6]
    inner = np.empty((n, n))
    for a in range(n):
        for b in range(n):
            inner[a, b] = first[first_cut + a, first_cut + b] + second[second_cut + a, second_cut + b]
    outer, matrix = np.zeros((n, total)), np.zeros((total, total))
    for half in range(2):
        part, cut = (first, first_cut) if half == 0 else (second, second_cut)
        places, goals, sizes = at[1 + half], target[half], length[half]
        for s in range(4):
            if goals[s] < 0:
                continue
            for a in range(n):
                for b in range(sizes[s]):
                    outer[a, goals[s] + b] = part[cut + a, places[s] + b]
            for t in range(4):
                if goals[t] >= 0 and (goals[s] < live or (goals[s] < senses and senses <= goals[t])):
                    for a in range(sizes[s]):
                        for b in range(sizes[t]):
                            matrix[goals[s] + a, goals[t] + b] = part[places[s] + a, places[t] + b]
    _join(inner, outer, live, senses, matrix, buffer, floating)
    return matrix


@kernel()
def _reduce(cells: Any, word: Any, bit: Any, blocks: Any, around: Any, found: Any, floating: Any) -> None:
    """Reduce blocks (blocks, 4) of an array, eight alike at a time, into `found`, a list with a place for each."""
    rows, columns = cells.shape
    count = blocks.shape[0]
    edges, own = np.empty(4, np.int64), np.empty(4, np.int64)
    done = np.zeros(count, np.bool_)
    corners, members = np.empty((LANES, 2), np.int64), np.empty(LANES, np.int64)
    for index in range(count):
        if done[index]:
            continue
        block = blocks[index]
        height, width = block[1] - block[0], block[3] - block[2]
        edges_within(block, rows, columns, around, edges)
        alike = 0
        for other in range(index, count):
            each = blocks[other]
            if done[other] or each[1] - each[0] != height or each[3] - each[2] != width:
                continue
            edges_within(each, rows, columns, around, own)
            if (own == edges).all():
                members[alike] = other
                done[other] = True
                alike += 1
                if alike == LANES:
                    break
        for lane in range(LANES):  # those without a region do the last one once more
            each = blocks[members[min(lane, alike - 1)]]
            corners[lane, 0], corners[lane, 1] = each[0], each[2]
        matrices = reduce_blocks(cells, word, bit, corners, height, width, edges, floating)
        for lane in range(alike):
            found[members[lane]] = matrices[:, :, lane].copy()


@kernel()
def dissect(cells: Any, word: Any, bit: Any, ends: Any, result: Any, floating: Any) -> None:
    """Effective conductances of an array whose lines all have resistance; BLAS should run on one thread.

    `cells` (rows, columns); `word` and `bit` finite; `ends` (4,) ABSENT or TERMINAL at the left, right, top and
    bottom; `result` (rows, columns) is written; `floating` (1,) counts pivots of zero.
    """
    rows, columns = cells.shape
    buffer = np.empty(_CHUNK * 2 * (rows + columns))
    stack = [np.empty((0, 0))]
    largest = _BLOCKS[1] if rows * columns >= _LARGE else _BLOCKS[0]
    parts = regions(rows, columns, largest)
    blocks = np.empty((_WINDOW, 4), np.int64)
    found = [np.empty((0, 0)) for _ in range(_WINDOW)]
    taken, held, looked_at = 0, 0, 0  # of the blocks that are reduced ahead
    edges = np.empty(4, np.int64)
    for index in range(parts.shape[0]):
        part = parts[index]
        if part[1] - part[0] <= largest and part[3] - part[2] <= largest:
            if taken == held:
                taken, held = 0, 0
                while looked_at < parts.shape[0] and held < _WINDOW:
                    ahead = parts[looked_at]
                    if ahead[1] - ahead[0] <= largest and ahead[3] - ahead[2] <= largest:
                        blocks[held] = ahead
                        held += 1
                    looked_at += 1
                _reduce(cells, word, bit, blocks[:held], ends, found, floating)
            stack.append(found[taken])
            taken += 1
        else:
            edges_within(part, rows, columns, ends, edges)
            second = stack.pop()
            first = stack.pop()
            stack.append(_merge(part, edges, first, second, buffer, floating))
    matrix = stack.pop()
    at_left, at_right, at_top, at_bottom, _, _, _ = layout(rows, columns, ends[0], ends[1], ends[2], ends[3])
    for i in range(rows):
        for j in range(columns):
            total = 0.0
            for sense in (at_top, at_bottom):
                for driver in (at_left, at_right):
                    if sense >= 0 and driver >= 0:
                        total += matrix[sense + j, driver + i]
            result[i, j] = total


@kernel()
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


@kernel()
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
