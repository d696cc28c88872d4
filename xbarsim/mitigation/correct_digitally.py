"""What the worst weights lack is added digitally."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import check_real
from xbarsim.mitigation.base import Mitigation, Needs, Overhead
from xbarsim.mitigation.known import Correction, FloatArray, KnownLayer, KnownTile, TileFit

__all__ = ["CorrectDigitally"]


@dataclass(frozen=True, kw_only=True)
class CorrectDigitally(Mitigation):
    """Add digitally what the weights lack that do most harm: their deviation times their input.

    Z. He et al., DAC 2019, doi:10.1145/3316781.3317870, correct all weights that are wrong.

    Attributes
    ----------
    share
        Share of a layer's weights that are corrected, those first whose squared deviation times its importance is
        largest; 1 corrects all.

    Raises
    ------
    InputError
        If `share` is outside [0, 1].
    """

    needs: ClassVar[Needs] = "map"
    stage: ClassVar[int | None] = 2

    share: float = 0.01

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "share", check_real("share", self.share, at_least=0.0, at_most=1.0))

    @entrance
    def fit(self, tile: KnownTile, rng: np.random.Generator) -> TileFit:
        """The share of one tile by itself."""
        used = tile.used_rows[:, np.newaxis] & tile.used_outputs
        return _corrected(
            (tile.fit,), tile.deviation(tile.fit)[np.newaxis], tile.importance[np.newaxis], self.share, int(used.sum())
        )[0]

    def fit_layer(self, layer: KnownLayer, generators: Sequence[np.random.Generator]) -> tuple[TileFit, ...]:
        """The share of all weights of a layer, in whichever tiles."""
        power, scale = layer.importance
        matrix = layer.matrix
        count = int(((matrix.tile_rows >= 0).sum(axis=1) * (matrix.tile_outputs >= 0).sum(axis=1)).sum())
        importance = power[:, :, np.newaxis] * scale[:, np.newaxis, :]
        return _corrected(layer.fits, layer.deviations(), importance, self.share, count)

    @entrance
    def overhead(self, tile: KnownTile, fit: TileFit) -> Overhead:
        """A place and a value stored, a product and a sum for each weight."""
        count = 0 if fit.correction is None else len(fit.correction)
        rows, outputs = tile.codes.shape
        # A weight can lack as much as all its cells can hold: twice the largest code, either way.
        bits = math.ceil(math.log2(max(rows * outputs, 2))) + tile.mapping.weight_bits + 1
        return replace(
            super().overhead(tile, fit), configuration_bits=count * bits, digital_operations_per_vector=2.0 * count
        )


def _corrected(
    fits: Sequence[TileFit],
    deviations: FloatArray,
    importance: FloatArray,
    share: float,
    count: int,
) -> tuple[TileFit, ...]:
    harm = importance * deviations**2
    number = min(round(share * count), int((harm > 0).sum()))
    if number == 0:
        return tuple(fits)
    places = np.argpartition(-harm.reshape(-1), number - 1)[:number]
    tiles, rows, outputs = np.unravel_index(np.sort(places), harm.shape)
    result = []
    for tile, fit in enumerate(fits):
        own = tiles == tile
        if not own.any():
            result.append(fit)
            continue
        row, output = rows[own].astype(np.int32), outputs[own].astype(np.int32)
        values = -deviations[tile, row, output]
        if fit.correction is not None:
            row, output = np.append(fit.correction.rows, row), np.append(fit.correction.outputs, output)
            values = np.append(fit.correction.values, values)
        result.append(replace(fit, correction=Correction(rows=row, outputs=output, values=values)))
    return tuple(result)
