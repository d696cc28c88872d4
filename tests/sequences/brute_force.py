"""The definition of dynamic time warping: every alignment, one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from xbarsim.sequences import Warping

# What a step adds: for each way to a cell, the cells that it goes over (relative to the new one) and their weights.
WAYS = {
    "symmetric1": ([((0, 0), 1)], [((0, 0), 1)], [((0, 0), 1)]),
    "symmetric2": ([((0, 0), 2)], [((0, 0), 1)], [((0, 0), 1)]),
    "symmetricP1": ([((0, 0), 2)], [((0, -1), 2), ((0, 0), 1)], [((-1, 0), 2), ((0, 0), 1)]),
}
STARTS = {
    "symmetric1": ((-1, -1), (-1, 0), (0, -1)),
    "symmetric2": ((-1, -1), (-1, 0), (0, -1)),
    "symmetricP1": ((-1, -1), (-1, -2), (-2, -1)),
}


def inside(cell: tuple[int, int], rows: int, columns: int, rules: Warping) -> bool:
    """Whether a window lets a cell through, by its definition."""
    i, j = cell
    good = True
    if rules.radius is not None:
        good &= -max(0, rows - columns) - rules.radius <= j - i <= max(0, columns - rows) + rules.radius
    if rules.slope is not None and rows > 1:
        x, y = i / (rows - 1), (j / (columns - 1) if columns > 1 else None)
        if y is not None:
            s = rules.slope
            good &= x / s - 1e-9 <= y <= x * s + 1e-9
            good &= (1 - x) / s - 1e-9 <= 1 - y <= (1 - x) * s + 1e-9
    return good


def alignments(rows: int, columns: int, rules: Warping) -> Iterator[list[tuple[tuple[int, int], int]]]:
    """Every alignment as its cells with their weights."""

    def back_from(cell: tuple[int, int]) -> Iterator[list[tuple[tuple[int, int], int]]]:
        if cell == (0, 0):
            yield [(cell, 1 if rules.steps == "symmetric1" else 2)]
            return
        for start, way in zip(STARTS[rules.steps], WAYS[rules.steps], strict=True):
            before = (cell[0] + start[0], cell[1] + start[1])
            over = [((cell[0] + di, cell[1] + dj), weight) for (di, dj), weight in way]
            cells = [before, *(each for each, _ in over)]
            if all(min(each) >= 0 and inside(each, rows, columns, rules) for each in cells):
                yield from (rest + over for rest in back_from(before))

    if inside((rows - 1, columns - 1), rows, columns, rules) and inside((0, 0), rows, columns, rules):
        yield from back_from((rows - 1, columns - 1))


def brute_force(local: Any, rules: Warping) -> tuple[float, int]:
    """The least cost, and the cells of the shortest of the cheapest alignments (0 where there is none)."""
    local = np.asarray(local, np.float64)
    found = [
        (sum(weight * float(local[cell]) for cell, weight in each), len(each))
        for each in alignments(local.shape[0], local.shape[1], rules)
    ]
    return min(found, default=(math.inf, 0))
