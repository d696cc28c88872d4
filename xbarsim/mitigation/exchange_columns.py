"""The bit lines of one output change places: its sign is flipped, or its slices are held in another order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_choice
from xbarsim.mapping import Mapping
from xbarsim.mitigation.base import Mitigation, Overhead, PlacedT
from xbarsim.mitigation.closest_cells import closest_cells
from xbarsim.mitigation.closest_value import wanted_codes
from xbarsim.mitigation.known import KnownTile, TileFit, weight_cells
from xbarsim.mitigation.line_costs import LineMoves, smallest_squares

__all__ = ["FlipSigns", "OrderSlices"]

_MOST_ORDERS = 1000  # of the columns of an output that are tried


def _exchange(tile: KnownTile, orders: Sequence[tuple[int, ...]]) -> TileFit:
    """Choose for each output the order of its columns that loses least; the first of `orders` is that of the tile."""
    stuck = tile.stuck_at(tile.fit)
    mapping = tile.mapping
    rows, outputs = np.flatnonzero(tile.used_rows), np.flatnonzero(tile.used_outputs)
    power, scale = (factor[tile.tile] for factor in tile.layer.importance)
    by_weight = weight_cells(mapping, stuck)[np.ix_(rows, outputs)]
    wanted = wanted_codes(tile.layer, tile.codes, stuck)[np.ix_(rows, outputs)]
    table = closest_cells(mapping)
    costs = np.stack(
        [power[rows] @ smallest_squares(tile, table.patterns(by_weight[..., list(order)]), wanted) for order in orders]
    )
    costs *= scale[outputs]
    best = costs.argmin(axis=0)
    better = costs[best, np.arange(len(outputs))] < costs[0] * (1 - 1e-12)
    columns = tile.fit.columns.copy()
    for output, choice in zip(outputs[better].tolist(), best[better].tolist(), strict=True):
        own = tile.columns_of(output)
        columns[own] = columns[own][list(orders[choice])]
    return replace(tile.fit, columns=columns)


def _check_pairs(method: Mitigation, network: PlacedT) -> PlacedT:
    mapping = next(iter(network.layers.values())).matrix.mapping if network.layers else None
    if mapping is not None and mapping.sides != 2:
        raise InputError(
            f"mitigations must fit the encoding: {type(method).__name__} exchanges the columns of pairs, got "
            f"{type(mapping.encoding).__name__}, which has none"
        )
    return network


@dataclass(frozen=True, kw_only=True)
class FlipSigns(LineMoves):
    """Hold the weights of an output with the other sign where that loses less: the columns of its pairs change places.

    A switch before the subtraction, set by one bit, hands over the columns of a pair the other way round; which is the
    same as storing the weights with the other sign and negating the result. Healthy cells are brought as close as they
    can be (:class:`ClosestValue`). Sign flips of columns of tiles are described by B. Zhang et al., ASP-DAC 2019 (as
    row flips), and by others since; flips of single slices in arXiv:2512.18459 (the abstracts alone were read).

    Attributes
    ----------
    each
        ``"output"``: one bit for all slices of an output in a tile. ``"slice"``: one for each slice.
    """

    each: Literal["output", "slice"] = "output"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("each", self.each, ("output", "slice"))

    @entrance
    def prepare(self, network: PlacedT) -> PlacedT:
        """The network as it is.

        Raises
        ------
        InputError
            If its encoding has no pairs.
        """
        return _check_pairs(self, network)

    def moved(self, tile: KnownTile) -> TileFit:
        """The bit lines of one tile; nothing where the encoding has no pairs."""
        slices = tile.mapping.slices
        if tile.mapping.sides != 2:
            return tile.fit
        flips = [(False,) * slices, (True,) * slices]
        if self.each == "slice":
            flips = list(itertools.product((False, True), repeat=slices))
            if len(flips) > _MOST_ORDERS:
                raise InputError(f"each must be 'output' for weights of more than 9 slices, got 'slice' for {slices}")
        return _exchange(tile, [tuple(_sides(flip)) for flip in flips])

    @entrance
    def overhead(self, tile: KnownTile, fit: TileFit) -> Overhead:
        """Beside the cells written anew, the bits of the switches."""
        bits = int(tile.used_outputs.sum()) * (tile.mapping.slices if self.each == "slice" else 1)
        return replace(super().overhead(tile, fit), configuration_bits=bits if tile.mapping.sides == 2 else 0)


def _sides(flips: Sequence[bool]) -> list[int]:
    return [2 * number + (side ^ flip) for number, flip in enumerate(flips) for side in (0, 1)]


@dataclass(frozen=True, kw_only=True)
class OrderSlices(LineMoves):
    """Choose which of the columns of an output hold which slice of its weights, so that it loses least.

    The shift that a column's result is given before it is added is then chosen by a table. Healthy cells are brought
    as close as they can be (:class:`ClosestValue`).
    """

    def __post_init__(self) -> None:
        check_fields(self)

    def moved(self, tile: KnownTile) -> TileFit:
        """The bit lines of one tile.

        Raises
        ------
        InputError
            If there are more orders than can be tried.
        """
        return _exchange(tile, _slice_orders(tile.mapping))

    @entrance
    def overhead(self, tile: KnownTile, fit: TileFit) -> Overhead:
        """Beside the cells written anew, the number of an order for each output."""
        orders = math.factorial(tile.mapping.slices)
        bits = int(tile.used_outputs.sum()) * math.ceil(math.log2(orders)) if orders > 1 else 0
        return replace(super().overhead(tile, fit), configuration_bits=bits)


def _slice_orders(mapping: Mapping) -> list[tuple[int, ...]]:
    if math.factorial(mapping.slices) > _MOST_ORDERS:
        raise InputError(f"slices must be at most 6 for their orders to be tried, got {mapping.slices}")
    sides = mapping.sides
    return [
        tuple(number * sides + side for number in order for side in range(sides))
        for order in itertools.permutations(range(mapping.slices))
    ]
