"""The slice that counts most, held twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.mapping.encodings.base import IntegerArray, PairEncoding

__all__ = ["DuplicatedPairs", "DuplicatedTop"]


class DuplicatedPairs(PairEncoding):
    """Pairs of a slice each, and of the top slice two, each of which counts half."""

    @entrance
    def slice_count(self, weight_bits: int, cell_bits: int) -> int:
        """Return S = ceil((weight_bits - 1) / cell_bits) + 1."""
        return super().slice_count(weight_bits, cell_bits) + 1

    @entrance
    def slice_weights(self, weight_bits: int, cell_bits: int) -> npt.NDArray[Any]:
        """Return the weight of each slice: B**s, and half of the highest twice."""
        weights = 2.0 ** (cell_bits * np.arange(self.slice_count(weight_bits, cell_bits)))
        weights[-2:] = weights[-2] / 2
        return weights if weights[-1] < 1 else weights.astype(np.int64)

    @entrance
    def slices(self, codes: IntegerArray, weight_bits: int, cell_bits: int) -> IntegerArray:
        """The slices of weights, the top one twice; shape (..., S)."""
        slices = super().slices(codes, weight_bits, cell_bits)
        return np.concatenate([slices, slices[..., -1:]], axis=-1)


@dataclass(frozen=True, kw_only=True)
class DuplicatedTop(DuplicatedPairs):
    """`TwoColumn` whose top slice is held by two pairs, each of which counts half.

    A stuck cell of the top slice then costs half as much, and the errors of its two pairs average out, for one pair of
    columns more an output. Where a weight is one slice, the two halves count 1/2 each.

    Examples
    --------
    >>> DuplicatedTop().encode([35, -3], weight_bits=8, cell_bits=4)[..., 0].tolist()
    [[3, 2, 2], [0, 0, 0]]
    >>> DuplicatedTop().slice_weights(weight_bits=8, cell_bits=4).tolist()
    [1, 8, 8]
    """

    name: ClassVar[str] = "DuplicatedTop"

    @entrance
    def pair(self, slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        """As `TwoColumn`: positive slices on side 0, negative ones on side 1."""
        return np.maximum(slices, 0), np.maximum(-slices, 0)
