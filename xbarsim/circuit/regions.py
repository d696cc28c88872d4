"""How an array is cut into regions, and where the nodes on a region's edges stand in its matrix.

An edge of a region is ABSENT (nothing there), LIVE (nodes still to be joined) or TERMINAL; the four of a region are
given as left, right, top and bottom.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xbarsim.foundation.compiling import kernel

__all__ = ["ABSENT", "LEAF", "LIVE", "TERMINAL", "edges_within", "layout", "placed", "regions"]

ABSENT, LIVE, TERMINAL = 0, 1, 2
LEAF = 3  # regions of up to this many rows and columns are reduced node by node


@kernel()
def layout(height: Any, width: Any, left: Any, right: Any, top: Any, bottom: Any) -> Any:
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


@kernel()
def regions(rows: Any, columns: Any, smallest: Any) -> Any:
    """The regions of a dissection, each after its two halves: (regions, 4) of r0, r1, c0, c1.

    Regions of up to `smallest` rows and columns are not cut. No recursion here or below: numba 0.68 crashes when it
    loads a recursive function from its cache.
    """
    found = np.empty((2 * rows * columns, 4), np.int64)
    waiting = np.empty((2 * rows * columns, 4), np.int64)
    waiting[0, 0], waiting[0, 1], waiting[0, 2], waiting[0, 3] = 0, rows, 0, columns
    count, depth = 0, 1
    while depth > 0:
        depth -= 1
        r0, r1, c0, c1 = waiting[depth, 0], waiting[depth, 1], waiting[depth, 2], waiting[depth, 3]
        found[count, 0], found[count, 1], found[count, 2], found[count, 3] = r0, r1, c0, c1
        count += 1
        if r1 - r0 <= smallest and c1 - c0 <= smallest:
            continue
        for half in range(2):
            waiting[depth, 0], waiting[depth, 1], waiting[depth, 2], waiting[depth, 3] = r0, r1, c0, c1
            if c1 - c0 >= r1 - r0:
                waiting[depth, 3 - half] = (c0 + c1) // 2
            else:
                waiting[depth, 1 - half] = (r0 + r1) // 2
            depth += 1
    return found[:count][::-1].copy()


@kernel()
def edges_within(region: Any, rows: Any, columns: Any, around: Any, edges: Any) -> None:
    """Write the `edges` of a part of a region of so many rows and columns, whose own edges are `around`."""
    edges[0] = LIVE if region[2] > 0 else around[0]
    edges[1] = LIVE if region[3] < columns else around[1]
    edges[2] = LIVE if region[0] > 0 else around[2]
    edges[3] = LIVE if region[1] < rows else around[3]


@kernel()
def placed(region: Any, edges: Any, at: Any, target: Any, length: Any) -> Any:
    """Where the edges of a region and of its two halves stand, and where those of the halves go.

    Written: `at` (3, 7), what :func:`layout` says of the region and of its halves; `target` (2, 4), where each edge of
    each half goes in the region's matrix, -1 for none and for the cut; `length` (2, 4) of these. Returns the number of
    nodes on the cut, and where they stand in each half.
    """
    height, width = region[1] - region[0], region[3] - region[2]
    # For the region and its halves: height, width and edges.
    shape = np.empty((3, 6), np.int64)
    for which in range(3):
        shape[which, 0], shape[which, 1] = height, width
        for edge in range(4):
            shape[which, 2 + edge] = edges[edge]
    upright = width >= height  # the cut
    if upright:
        shape[1, 1] = (region[2] + region[3]) // 2 - region[2]
        shape[2, 1] = width - shape[1, 1]
        shape[1, 3], shape[2, 2] = LIVE, LIVE
    else:
        shape[1, 0] = (region[0] + region[1]) // 2 - region[0]
        shape[2, 0] = height - shape[1, 0]
        shape[1, 5], shape[2, 4] = LIVE, LIVE
    for which in range(3):
        six = shape[which]
        places = layout(six[0], six[1], six[2], six[3], six[4], six[5])
        for k in range(7):
            at[which, k] = places[k]
    first_cut, second_cut = (at[1, 1], at[2, 0]) if upright else (at[1, 3], at[2, 2])
    for half in range(2):
        cut = first_cut if half == 0 else second_cut
        for edge in range(4):
            target[half, edge], length[half, edge] = at[0, edge], shape[1 + half, 0 if edge < 2 else 1]
            if at[1 + half, edge] == cut:
                target[half, edge] = -1
            elif target[half, edge] >= 0 and half == 1 and (edge >= 2) == upright:
                target[half, edge] += shape[1, 1] if upright else shape[1, 0]
    return height if upright else width, first_cut, second_cut
