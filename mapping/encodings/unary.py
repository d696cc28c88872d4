"""Several cells of equal weight instead of one cell with many levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer
from xbarsim.mapping.encodings.base import IntegerArray, PairEncoding, check_bits

__all__ = ["Unary"]


@dataclass(frozen=True, kw_only=True)
class Unary(PairEncoding):
    """Every slice in several cells of equal weight, filled one after another: a thermometer.

    With one-bit cells a slice of `cells` cells stands for one cell with `cells` + 1 levels: 2**b - 1 of them replace
    one b-bit cell. A stuck cell then costs 1 of `cells` parts of what it costs there, and programming errors of a slice
    average out; the price is as many columns more. Signs as `TwoColumn`: zero weights sit at level 0.

    A slice reaches `cells` x M, so slices are digits in base `cells` x M + 1, least significant first.

    Parameters
    ----------
    cells
        Cells of one slice, for each sign, 1 to 255.

    Examples
    --------
    Three one-bit cells hold a two-bit digit; 3 = 3 + 0 x 4 takes the first three, -6 = -(2 + 1 x 4) three others:

    >>> Unary(cells=3).encode([3, -6], weight_bits=4, cell_bits=1)[..., 0].tolist()
    [[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    >>> Unary(cells=3).encode([3, -6], weight_bits=4, cell_bits=1)[..., 1].tolist()
    [[0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0]]
    >>> Unary(cells=3).slice_weights(weight_bits=4, cell_bits=1).tolist()
    [1, 1, 1, 4, 4, 4]
    """

    name: ClassVar[str] = "Unary"

    cells: int = 3

    def __post_init__(self) -> None:
        check_integer("cells", self.cells, at_least=1, at_most=255)

    def _digits(self, weight_bits: int, cell_bits: int) -> IntegerArray:
        """The weight of each digit, as many as the largest weight needs: int64 of shape (digits,)."""
        check_bits(weight_bits, cell_bits)
        base = self.cells * (2**cell_bits - 1) + 1
        weights = [1]
        while weights[-1] * base < 2 ** (weight_bits - 1):
            weights.append(weights[-1] * base)
        return np.array(weights, dtype=np.int64)

    @entrance
    def slice_count(self, weight_bits: int, cell_bits: int) -> int:
        """Return S, the digits of a weight times `cells`."""
        return len(self._digits(weight_bits, cell_bits)) * self.cells

    @entrance
    def slice_weights(self, weight_bits: int, cell_bits: int) -> IntegerArray:
        """Return the weight of each slice: that of its digit, `cells` times."""
        return np.repeat(self._digits(weight_bits, cell_bits), self.cells)

    @entrance
    def slices(self, codes: IntegerArray, weight_bits: int, cell_bits: int) -> IntegerArray:
        """What each cell holds of weights, with their sign; shape (..., S)."""
        highest = 2**cell_bits - 1
        digits = np.abs(codes)[..., np.newaxis] // self._digits(weight_bits, cell_bits) % (self.cells * highest + 1)
        filled = digits[..., np.newaxis] - highest * np.arange(self.cells)  # what the cells before it cannot hold
        held = np.clip(filled, 0, highest).reshape(*codes.shape, -1)
        return np.asarray(np.sign(codes)[..., np.newaxis] * held)

    @entrance
    def pair(self, slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        """As `TwoColumn`: positive slices on side 0, negative ones on side 1."""
        return np.maximum(slices, 0), np.maximum(-slices, 0)
