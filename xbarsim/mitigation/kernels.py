"""Compiled loops of the mitigation room; nothing is checked here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = ["add_errors", "in_order"]


@njit(cache=True, nogil=True)
def add_errors(costs: Any, patterns: Any, codes: Any, table: Any, weights: Any) -> None:
    """Add to ``costs[r, i]`` what holding item i on place r costs, over the other dimension of a tile.

    Parameters
    ----------
    costs
        float64 (places, items).
    patterns
        Numbers of the patterns of the cells of each place, int32 (places, others); 0 where all work.
    codes
        Places in the table of the codes of each item, int64 (others, items).
    table
        Absolute deviations left, float64 (patterns, codes).
    weights
        Weight of the squared deviation, float64 (others,).
    """
    places, others = patterns.shape
    items = codes.shape[1]
    for place in range(places):
        for other in range(others):
            pattern = patterns[place, other]
            if pattern > 0 and weights[other] > 0.0:
                weight = weights[other]
                for item in range(items):
                    left = table[pattern, codes[other, item]]
                    costs[place, item] += weight * left * left


@njit(cache=True, nogil=True)
def in_order(costs: Any) -> Any:
    """The cheapest places of items that keep their order: place of each item, int64 (items,).

    ``costs`` is float64 (places, items), with at least as many places as items. Of equally cheap ones, the places
    nearest to the first.
    """
    places, items = costs.shape
    best = np.full((items + 1, places + 1), np.inf)  # of the first items on the first places
    best[0, :] = 0.0
    for item in range(1, items + 1):
        for place in range(item, places - (items - item) + 1):
            held = best[item - 1, place - 1] + costs[place - 1, item - 1]
            best[item, place] = min(best[item, place - 1], held)
    result = np.empty(items, np.int64)
    place = places
    for item in range(items, 0, -1):
        while place > item and best[item, place - 1] <= best[item, place]:
            place -= 1
        place -= 1
        result[item - 1] = place
    return result
