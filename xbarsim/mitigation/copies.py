"""Each weight is held several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import check_integer
from xbarsim.mitigation.base import Mitigation, Needs, PlacedT
from xbarsim.mitigation.closest_value import closest_levels
from xbarsim.mitigation.known import FloatArray, KnownLayer, TileFit

__all__ = ["AverageCopies", "ChooseCopies", "JointCopies"]


@dataclass(frozen=True, kw_only=True)
class AverageCopies(Mitigation):
    """Hold every layer several times and average the results: errors of the copies average too.

    Attributes
    ----------
    copies
        How often each weight is held, 2 or more.

    Raises
    ------
    InputError
        If there are fewer.
    """

    needs: ClassVar[Needs] = "nothing"
    stage: ClassVar[int | None] = None

    copies: int = 2

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("copies", self.copies, at_least=2)

    @entrance
    def prepare(self, network: PlacedT) -> PlacedT:
        """The network with every layer held several times.

        Raises
        ------
        InputError
            If another method asked for copies already.
        """
        return network.with_copies(self.copies)


@dataclass(frozen=True, kw_only=True)
class ChooseCopies(AverageCopies):
    """Hold every layer several times and average, for each output, the copies that lose least.

    That is layer ensemble averaging: O. Yousuf et al., Nature Communications 16 (2025), doi:10.1038/s41467-025-56319-6.

    Attributes
    ----------
    copies
        How often each weight is held, 2 or more.
    best
        How many of them are averaged for each output.

    Raises
    ------
    InputError
        If there are fewer copies than 2, or `best` is not one of their numbers.
    """

    needs: ClassVar[Needs] = "map"
    stage: ClassVar[int | None] = 1

    best: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("best", self.best, at_least=1, at_most=self.copies)

    def copy_weights(self, layer: KnownLayer) -> FloatArray | None:
        """One over `best` for the copies of an output that lose least, by what is known, 0 for the others."""
        power, _ = layer.importance
        matrix = layer.matrix
        harm = np.zeros(matrix.shape[1])
        each = np.einsum("ti,tij->tj", power, layer.deviations() ** 2)
        used = matrix.tile_outputs >= 0
        np.add.at(harm, matrix.tile_outputs[used], each[used])
        by_copy = harm.reshape(layer.copies, -1)
        weights = np.zeros_like(by_copy)
        np.put_along_axis(weights, np.argsort(by_copy, axis=0, kind="stable")[: self.best], 1.0 / self.best, axis=0)
        return weights


@dataclass(frozen=True, kw_only=True)
class JointCopies(AverageCopies):
    """Hold every layer several times, each copy programmed to what those before it missed, and average the results.

    The second copy aims at twice the weight less what the first one holds, and so on: a lost weight below half of full
    scale costs nothing.

    Attributes
    ----------
    copies
        How often each weight is held, 2 or more.

    Raises
    ------
    InputError
        If there are fewer.
    """

    needs: ClassVar[Needs] = "map"
    stage: ClassVar[int | None] = 1

    def fit_layer(self, layer: KnownLayer, generators: Sequence[np.random.Generator]) -> tuple[TileFit, ...]:
        """The levels of all copies, one after another."""
        stuck = layer.stuck()
        if stuck is None or layer.copies == 1:
            return layer.fits
        matrix, used = layer.matrix, layer.used_weights
        tiles = matrix.tiles // layer.copies
        missed = np.zeros((tiles, *layer.codes.shape[1:]))  # what the copies so far hold too much, in all
        fits: list[TileFit] = []
        for copy in range(layer.copies):
            part = slice(copy * tiles, (copy + 1) * tiles)
            wanted = layer.codes[part] - missed
            levels = closest_levels(layer, wanted, stuck[part], matrix.levels[part], layer.codes[part], used[part])
            made = tuple(fit.with_levels(own) for fit, own in zip(layer.fits[part], levels, strict=True))
            fits += made
            held = layer.with_fits((*layer.fits[: part.start], *made, *layer.fits[part.stop :]))
            missed += held.deviations()[part]
        return tuple(fits)
