"""The healthy cells of a weight make up for its stuck ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.mitigation.base import Mitigation, Needs
from xbarsim.mitigation.closest_cells import closest_cells
from xbarsim.mitigation.known import FloatArray, KnownLayer, KnownTile, LevelArray, StuckArray, TileFit, weight_cells

__all__ = ["ClosestValue", "closest_levels", "wanted_codes"]


@dataclass(frozen=True, kw_only=True)
class ClosestValue(Mitigation):
    """Re-programme the healthy cells of each weight so that it comes as close to its target as they can bring it.

    Exact: of all levels that the healthy cells can take, those whose weight is nearest, and of these those with the
    smallest sum, which draw the least power. Healthy cells of weights that nothing brings nearer are left alone. Cells
    believed to be stuck are programmed to the level next to where they are believed to be stuck, so that one that works
    after all does no harm. A faulty reference cell is made up for by the weights of its row.

    The idea is that of the closest value mapping of fault-aware decompositions (T. Shin et al., "Fault-Free: A
    Framework for Analysis and Mitigation of Stuck-at-Fault on Realistic ReRAM-Based DNN Accelerators", IEEE
    Transactions on Computers, 2022; the abstract alone was read).
    """

    needs: ClassVar[Needs] = "map"

    def __post_init__(self) -> None:
        check_fields(self)

    @entrance
    def fit(self, tile: KnownTile, rng: np.random.Generator) -> TileFit:
        """The levels of the tile, as :class:`ClosestValue` describes; the lines stay."""
        stuck = tile.stuck_at(tile.fit)[np.newaxis]
        used = tile.layer.used_weights[tile.tile][np.newaxis]
        codes, targets = tile.codes[np.newaxis], tile.targets[np.newaxis]
        levels = closest_levels(tile.layer, codes, stuck, targets, codes, used)
        return tile.fit.with_levels(levels[0])

    def fit_layer(self, layer: KnownLayer, generators: Sequence[np.random.Generator]) -> tuple[TileFit, ...]:
        """All tiles at once: the same levels."""
        stuck = layer.stuck()
        if stuck is None:
            return layer.fits
        levels = closest_levels(layer, layer.codes, stuck, layer.matrix.levels, layer.codes, layer.used_weights)
        return tuple(fit.with_levels(own) for fit, own in zip(layer.fits, levels, strict=True))


def wanted_codes(layer: KnownLayer, codes: FloatArray, stuck: StuckArray) -> FloatArray:
    """What the own cells of each weight must come to: its code, and what a stuck reference cell of its row takes off.

    Parameters
    ----------
    layer
        Gives the mapping.
    codes
        Shape ``(tiles, rows, outputs)``.
    stuck
        Of the lines that the tiles take, shape ``(tiles, rows, columns)``.
    """
    mapping = layer.mapping
    if not mapping.has_reference:
        return codes
    top = float(mapping.encoding.slice_weights(mapping.weight_bits, mapping.cell_bits)[-1])
    reference = stuck[..., -1:]
    return codes + np.where(np.isnan(reference), 0.0, (reference - mapping.reference_level) * top)


def closest_levels(
    layer: KnownLayer,
    codes: FloatArray,
    stuck: StuckArray,
    targets: LevelArray,
    target_codes: FloatArray,
    used: npt.NDArray[np.bool_],
) -> LevelArray:
    """The levels of some tiles with every weight as close as its healthy cells can bring it.

    Parameters
    ----------
    layer
        Gives mapping and encoding.
    codes
        What the weights should be, shape ``(tiles, rows, outputs)``.
    stuck
        Where cells are stuck, shape ``(tiles, rows, columns)``.
    targets, target_codes
        The levels of the mapping, of the same shape, and the weights that they stand for.
    used
        Which places hold a weight, of the shape of `codes`.
    """
    mapping = layer.mapping
    by_weight = weight_cells(mapping, stuck)
    wanted = wanted_codes(layer, codes, stuck)
    broken = np.isfinite(by_weight).any(axis=-1) | (wanted != target_codes)
    places = np.nonzero(broken & used)
    levels = targets.copy()
    if mapping.has_reference:  # written where they are believed to be
        reference = stuck[..., -1]
        level = np.clip(np.rint(np.nan_to_num(reference)), 0, mapping.max_level).astype(np.uint8)
        levels[..., -1] = np.where(np.isnan(reference) | ~used.any(axis=2), levels[..., -1], level)
    if not len(places[0]):
        return levels
    table = closest_cells(mapping)
    own = weight_cells(mapping, levels).copy()
    own[places], _ = table.closest(table.patterns(by_weight[places]), wanted[places], own[places])
    columns = own.shape[-2] * own.shape[-1]
    levels[..., :columns] = own.reshape(*levels.shape[:2], columns)
    return levels
