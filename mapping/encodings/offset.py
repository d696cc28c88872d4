"""The whole weight shifted to be positive, one column a slice, and the shift taken off again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_choice
from xbarsim.mapping.encodings.base import (
    Encoding,
    IntegerArray,
    LevelArray,
    check_bits,
    check_codes,
    read_levels,
)

__all__ = ["Offset"]


@dataclass(frozen=True, kw_only=True)
class Offset(Encoding):
    """The whole weight shifted to u = w + 2**(weight_bits - 1) > 0, one column a slice.

    Half the cells of a pair encoding; every fault hits at its slice's full weight.

    Parameters
    ----------
    reference
        What takes the shift off again: ``"column"``, a reference column (the last physical column of every
        tile) whose cells hold the shift's top digit and are read with the weight of the top slice, or
        ``"digital"``, the sum of the inputs, taken off after the converter.

    Examples
    --------
    >>> Offset().encode([3, 0, -3], weight_bits=8, cell_bits=4)[:, :, 0].tolist()
    [[3, 8], [0, 8], [13, 7]]
    >>> Offset().reference_level(weight_bits=8, cell_bits=4)
    8
    """

    name: ClassVar[str] = "Offset"
    sides: ClassVar[int] = 1

    reference: Literal["column", "digital"] = "column"

    def __post_init__(self) -> None:
        check_choice("reference", self.reference, ("column", "digital"))

    @property
    def has_reference(self) -> bool:
        """Whether every tile gives its last column to a shared reference."""
        return self.reference == "column"

    @entrance
    def slice_count(self, weight_bits: int, cell_bits: int) -> int:
        """Return S = ceil(weight_bits / cell_bits)."""
        check_bits(weight_bits, cell_bits)
        return -(-weight_bits // cell_bits)

    @entrance
    def reference_level(self, weight_bits: int, cell_bits: int) -> int:
        """Return z, the top digit of 2**(weight_bits - 1) (0 without a reference column)."""
        check_bits(weight_bits, cell_bits)
        return int(2 ** ((weight_bits - 1) % cell_bits)) if self.has_reference else 0

    @entrance
    def encode(self, codes: npt.ArrayLike, weight_bits: int, cell_bits: int) -> LevelArray:
        """Return the digits of u, as `Encoding.encode`."""
        shifts = cell_bits * np.arange(self.slice_count(weight_bits, cell_bits), dtype=np.int64)
        shifted = check_codes(codes, weight_bits) + 2 ** (weight_bits - 1)
        digits: IntegerArray = (shifted[..., np.newaxis] >> shifts) & (2**cell_bits - 1)
        return digits[..., np.newaxis].astype(np.uint8)

    @entrance
    def decode(self, levels: npt.NDArray[Any], weight_bits: int, cell_bits: int) -> npt.NDArray[Any]:
        """Return the weights, as `Encoding.decode`, with the ideal shift taken off."""
        weights = self.slice_weights(weight_bits, cell_bits)
        array = read_levels(levels, len(weights), 1)
        result: npt.NDArray[Any] = array[..., 0] @ weights.astype(array.dtype) - 2 ** (weight_bits - 1)
        return result
