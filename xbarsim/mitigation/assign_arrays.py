"""The tiles of a layer take the arrays on which they lose least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import check_choice
from xbarsim.mitigation.base import Overhead
from xbarsim.mitigation.closest_value import ClosestValue
from xbarsim.mitigation.known import FloatArray, KnownLayer, KnownTile, TileFit
from xbarsim.mitigation.line_costs import LineMoves

__all__ = ["AssignArrays"]


@dataclass(frozen=True, kw_only=True)
class AssignArrays(LineMoves):
    """Put each tile of a layer on one of the layer's arrays, those that matter most on those with the fewest faults.

    It helps only where arrays differ more than by chance. Healthy cells are brought as close as they can be
    (:class:`ClosestValue`), and the tiles stay where they are unless the layer loses less by the exchange.

    Attributes
    ----------
    search
        ``"count"``: the tile with the largest signal on the array with the fewest known faults, and so on: by the
        rearrangement inequality the best, if what a tile loses were its signal times the faults of its array.
        ``"exact"``: the best of all assignments, by what each tile loses on each array; as many trials as the square of
        the tiles.

    Raises
    ------
    InputError
        If `search` is neither.
    """

    search: Literal["count", "exact"] = "count"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("search", self.search, ("count", "exact"))

    def moved(self, tile: KnownTile) -> TileFit:
        """The lines as they are: one tile has no choice of arrays."""
        return tile.fit

    def fit_layer(self, layer: KnownLayer, generators: Sequence[np.random.Generator]) -> tuple[TileFit, ...]:
        """The arrays and levels of all tiles."""
        if layer.stuck_at is None or np.isnan(layer.stuck_at).all():
            return layer.fits
        closest = ClosestValue()
        before = layer.with_fits(closest.fit_layer(layer, generators))
        arrays = np.array([fit.array for fit in layer.fits])
        if self.search == "count":
            faults = (~np.isnan(layer.stuck_at)).sum(axis=(1, 2))[arrays]
            chosen = np.empty(len(arrays), np.int64)
            chosen[np.argsort(-layer.signals(), kind="stable")] = arrays[np.argsort(faults, kind="stable")]
        else:
            costs = np.stack([_moved(layer, np.roll(arrays, shift), generators) for shift in range(len(arrays))])
            place = (np.arange(len(arrays))[np.newaxis] - np.arange(len(arrays))[:, np.newaxis]) % len(arrays)
            by_place = np.empty_like(costs)  # (tiles, places): tile t was on place t - shift
            by_place[np.arange(len(arrays))[np.newaxis].repeat(len(arrays), 0), place] = costs
            chosen = arrays[linear_sum_assignment(by_place)[1]]
        moved = tuple(replace(fit, array=int(array)) for fit, array in zip(layer.fits, chosen.tolist(), strict=True))
        after = layer.with_fits(closest.fit_layer(layer.with_fits(moved), generators))
        return after.fits if after.errors().sum() < before.errors().sum() else before.fits

    @entrance
    def overhead(self, tile: KnownTile, fit: TileFit) -> Overhead:
        """Beside the cells written anew, the number of an array for each tile."""
        bits = math.ceil(math.log2(max(tile.layer.matrix.tiles, 2)))
        return replace(super().overhead(tile, fit), configuration_bits=bits)


def _moved(layer: KnownLayer, arrays: npt.NDArray[np.int64], generators: Sequence[np.random.Generator]) -> FloatArray:
    """What each tile loses on these arrays."""
    fits = tuple(replace(fit, array=int(array)) for fit, array in zip(layer.fits, arrays.tolist(), strict=True))
    there = layer.with_fits(fits)
    return there.with_fits(ClosestValue().fit_layer(there, generators)).errors()
