"""What it costs to hold a row, or the columns of an output, on each line of an array that could take it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from xbarsim.foundation.entrances import entrance
from xbarsim.mitigation.base import Mitigation, Needs
from xbarsim.mitigation.closest_cells import closest_cells
from xbarsim.mitigation.closest_value import ClosestValue, wanted_codes
from xbarsim.mitigation.kernels import add_errors, in_order
from xbarsim.mitigation.known import FloatArray, KnownLayer, KnownTile, TileFit, weight_cells

__all__ = ["LineMoves", "Search", "assign", "column_costs", "column_groups", "row_costs", "smallest_squares"]

Search = Literal["exact", "greedy", "in order"]
"""How lines are found: the best of all, one after another, or the best that keep their order."""

IndexArray = npt.NDArray[np.int64]


def smallest_squares(tile: KnownTile, patterns: npt.NDArray[np.int32], codes: FloatArray) -> FloatArray:
    """Smallest squared deviations of weights of these patterns and wanted values; one shape."""
    found = closest_cells(tile.mapping).distances(patterns.reshape(-1), codes.reshape(-1))
    return (found**2).reshape(patterns.shape)


def row_costs(tile: KnownTile) -> FloatArray:
    """Error power of each used row on each word line of the array, with its cells brought as close as they can be.

    Returns
    -------
    ndarray
        Shape ``(word lines, used rows)``.
    """
    array = tile.array_stuck_at
    assert array is not None
    rows, outputs = np.flatnonzero(tile.used_rows), np.flatnonzero(tile.used_outputs)
    power, scale = (factor[tile.tile] for factor in tile.layer.importance)
    lines = array[:, tile.fit.columns]
    codes = tile.codes[np.ix_(rows, outputs)]
    costs = np.zeros((len(lines), len(rows)))
    broken = ~np.isnan(lines).all(axis=1)
    table = closest_cells(tile.mapping)
    patterns = np.zeros((len(lines), len(outputs)), np.int32)
    patterns[broken] = table.patterns(weight_cells(tile.mapping, lines[broken])[:, outputs])
    # A line whose reference cell is stuck moves all its weights: what is wanted of them is then no code of the mapping.
    moved = broken & tile.mapping.has_reference & ~np.isnan(lines[:, -1])
    plain = np.flatnonzero(broken & ~moved)
    places = table.places(codes)
    errors = None if places is None else table.errors(patterns[plain])
    slow = np.flatnonzero(broken)
    if places is not None and errors is not None:
        part = np.zeros((len(plain), len(rows)))
        add_errors(part, patterns[plain], np.ascontiguousarray(places.T), errors, scale[outputs])
        costs[plain] = part
        slow = np.flatnonzero(moved)
    for line in slow.tolist():
        shifted = wanted_codes(tile.layer, codes, np.broadcast_to(lines[line], (len(rows), len(lines[line]))))
        each = np.broadcast_to(patterns[line], codes.shape)
        costs[line] = smallest_squares(tile, each, shifted) @ scale[outputs]
    result: FloatArray = costs * power[rows]
    return result


def column_groups(tile: KnownTile) -> IndexArray:
    """The bit lines that can hold the weights of an output together: (groups, cells), spare ones behind the others."""
    mapping = tile.mapping
    cells = mapping.slices * mapping.sides
    array = tile.array_stuck_at
    assert array is not None
    own = np.arange(mapping.outputs_per_tile * cells).reshape(-1, cells)
    first = mapping.columns + mapping.columns % 2  # pairs stay pairs
    spare = np.arange(first, array.shape[1])
    return np.concatenate([own, spare[: len(spare) // cells * cells].reshape(-1, cells)])


def column_costs(tile: KnownTile) -> FloatArray:
    """Error power of the weights of each used output on each group of bit lines; shape ``(groups, used outputs)``."""
    array = tile.array_stuck_at
    assert array is not None
    rows, outputs = np.flatnonzero(tile.used_rows), np.flatnonzero(tile.used_outputs)
    power, scale = (factor[tile.tile] for factor in tile.layer.importance)
    lines = array[tile.fit.rows[rows]]
    by_group = lines[:, column_groups(tile)]  # (rows, groups, cells)
    table = closest_cells(tile.mapping)
    patterns = table.patterns(by_group)
    codes = tile.codes[np.ix_(rows, outputs)]
    if tile.mapping.has_reference:
        codes = wanted_codes(tile.layer, codes, tile.stuck_at(tile.fit)[rows])
    places = table.places(codes)
    errors = None if places is None else table.errors(patterns)
    costs = np.zeros((patterns.shape[1], len(outputs)))
    if places is not None and errors is not None:
        add_errors(costs, np.ascontiguousarray(patterns.T), places, errors, power[rows])
    else:
        for group in range(len(costs)):
            each = np.broadcast_to(patterns[:, group, np.newaxis], codes.shape)
            costs[group] = power[rows] @ smallest_squares(tile, each, codes)
    result: FloatArray = costs * scale[outputs]
    return result


def assign(costs: FloatArray, now: IndexArray, search: Search) -> IndexArray:
    """A place for each item; never dearer than where they are now, and where they are now if it is as cheap.

    Parameters
    ----------
    costs
        Shape ``(places, items)``.
    now
        Where the items are, shape ``(items,)``.
    search
        How places are looked for.
    """
    items = np.arange(costs.shape[1])
    if search == "exact":
        places, which = linear_sum_assignment(costs)
        found = np.empty(len(items), np.int64)
        found[which] = places
    elif search == "greedy":
        found = _greedy(costs)
    else:
        found = in_order(costs)
    before, after = costs[now, items].sum(), costs[found, items].sum()
    return found if after < before * (1 - 1e-12) else now


def _greedy(costs: FloatArray) -> IndexArray:
    """The cheapest free place for one item after another, those first that lose most on an average place."""
    found = np.empty(costs.shape[1], np.int64)
    left = costs.copy()
    for item in np.argsort(-costs.mean(axis=0), kind="stable").tolist():
        place = int(left[:, item].argmin())
        found[item] = place
        left[place] = np.inf
    return found


class LineMoves(Mitigation):
    """What methods share that choose lines: they say where a tile shall lie, and its cells are then programmed anew."""

    needs: ClassVar[Needs] = "map"

    @abstractmethod
    def moved(self, tile: KnownTile) -> TileFit:
        """The lines of one tile in whose array something is known to be stuck; levels do not matter."""

    @entrance
    def fit(self, tile: KnownTile, rng: np.random.Generator) -> TileFit:
        """The lines of the tile, with every weight as close as its cells there can bring it."""
        fit = self._moved(tile)
        return ClosestValue().fit(replace(tile, fit=fit), rng)

    def fit_layer(self, layer: KnownLayer, generators: Sequence[np.random.Generator]) -> tuple[TileFit, ...]:
        """All tiles at once: the same."""
        moved = tuple(self._moved(layer.tile(tile)) for tile in range(layer.matrix.tiles))
        return ClosestValue().fit_layer(layer.with_fits(moved), generators)

    def _moved(self, tile: KnownTile) -> TileFit:
        stuck = tile.array_stuck_at
        return tile.fit if stuck is None or np.isnan(stuck).all() else self.moved(tile)
