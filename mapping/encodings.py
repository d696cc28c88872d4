"""How a signed integer weight becomes the levels of a few cells, and back."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError, check_choice, check_integer

__all__ = ["ENCODINGS", "Balanced", "Differential", "Encoding", "Offset", "TwoColumn"]

IntegerArray = npt.NDArray[np.int64]
LevelArray = npt.NDArray[np.uint8]


class Encoding(metaclass=ABCMeta):
    """A way of holding a signed integer weight in cells of M + 1 = 2**cell_bits levels.

    A weight is cut into S digits of base B = 2**cell_bits, least significant first. Each digit takes
    `sides` cells: two read as a difference (side 0 minus side 1), or one read as it is.

    Attributes
    ----------
    name : str
        The class's name, the key of `ENCODINGS`.
    sides : int
        Cells a slice takes, 1 or 2.
    """

    name: ClassVar[str]
    sides: ClassVar[int]

    @property
    def has_reference(self) -> bool:
        """Whether every tile gives its last column to a shared reference."""
        return False

    @abstractmethod
    def slice_count(self, weight_bits: int, cell_bits: int) -> int:
        """Return S, the number of slices a weight is cut into.

        Raises
        ------
        InputError
            If `weight_bits` is not 2 to 16, or `cell_bits` not 1 to 8.
        """

    @abstractmethod
    def encode(self, codes: npt.ArrayLike, weight_bits: int, cell_bits: int) -> LevelArray:
        """Return the target levels of integer weights.

        Parameters
        ----------
        codes
            Integers in [-Q, Q], Q = 2**(weight_bits - 1) - 1; any shape.
        weight_bits
            Bits of a weight, sign included.
        cell_bits
            Bits of a cell.

        Returns
        -------
        numpy.ndarray
            Levels, uint8, of shape (..., S, sides).

        Raises
        ------
        InputError
            If the codes are not integers, or one is outside [-Q, Q].
        """

    @abstractmethod
    def decode(self, levels: npt.NDArray[Any], weight_bits: int, cell_bits: int) -> npt.NDArray[Any]:
        """Return the weights that levels stand for: the inverse of `encode`, and linear.

        Parameters
        ----------
        levels
            Levels or, for cells off their target, level units; shape (..., S, sides), any real type.
        weight_bits
            Bits of a weight, sign included.
        cell_bits
            Bits of a cell.

        Returns
        -------
        numpy.ndarray
            Weights of shape (...): int64 for integer levels, float64 for floating ones.
        """

    def reference_level(self, weight_bits: int, cell_bits: int) -> int:
        """Return z, the level of the cells of the reference column (0 without one)."""
        return 0

    def slice_weights(self, weight_bits: int, cell_bits: int) -> IntegerArray:
        """Return the weight B**s of each slice: int64 of shape (S,).

        Examples
        --------
        >>> TwoColumn().slice_weights(weight_bits=8, cell_bits=4).tolist()
        [1, 16]
        """
        count = self.slice_count(weight_bits, cell_bits)
        return np.left_shift(np.int64(1), cell_bits * np.arange(count, dtype=np.int64))


def _check_bits(weight_bits: int, cell_bits: int) -> None:
    check_integer("weight_bits", weight_bits, at_least=2, at_most=16)
    check_integer("cell_bits", cell_bits, at_least=1, at_most=8)


def _check_codes(codes: npt.ArrayLike, weight_bits: int) -> IntegerArray:
    """`codes` as int64, refused when not integers in [-Q, Q]."""
    array = np.asarray(codes)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"codes must be integers, got type {array.dtype}")
    largest = 2 ** (weight_bits - 1) - 1
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < -largest or high > largest:
            worst = low if low < -largest else high
            raise InputError(f"codes must be in [{-largest}, {largest}] for {weight_bits} bits, got {worst}")
    return array.astype(np.int64)


def _read_levels(levels: npt.NDArray[Any], slices: int, sides: int) -> npt.NDArray[Any]:
    """`levels` as int64 or float64, refused when the last two axes are not (S, sides)."""
    array = np.asarray(levels)
    if array.shape[-2:] != (slices, sides):
        raise InputError(f"levels must have shape (..., {slices}, {sides}), got {array.shape}")
    return array.astype(np.int64 if np.issubdtype(array.dtype, np.integer) else np.float64)


class _PairEncoding(Encoding):
    """Slices of the magnitude that share the weight's sign, each held by a pair of cells."""

    sides: ClassVar[int] = 2

    def slice_count(self, weight_bits: int, cell_bits: int) -> int:
        _check_bits(weight_bits, cell_bits)
        return -(-(weight_bits - 1) // cell_bits)

    def encode(self, codes: npt.ArrayLike, weight_bits: int, cell_bits: int) -> LevelArray:
        shifts = cell_bits * np.arange(self.slice_count(weight_bits, cell_bits), dtype=np.int64)
        array = _check_codes(codes, weight_bits)
        largest = 2**cell_bits - 1
        digits = (np.abs(array)[..., np.newaxis] >> shifts) & largest
        slices = np.sign(array)[..., np.newaxis] * digits
        return np.stack(self._pair(slices, largest), axis=-1).astype(np.uint8)

    def decode(self, levels: npt.NDArray[Any], weight_bits: int, cell_bits: int) -> npt.NDArray[Any]:
        weights = self.slice_weights(weight_bits, cell_bits)
        array = _read_levels(levels, len(weights), 2)
        result: npt.NDArray[Any] = (array[..., 0] - array[..., 1]) @ weights.astype(array.dtype)
        return result

    @staticmethod
    @abstractmethod
    def _pair(slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        """The levels (a, b), both in 0..M with a - b = s, of slices s in [-M, M]."""


@dataclass(frozen=True, kw_only=True)
class TwoColumn(_PairEncoding):
    """Positive slices in one column, negative ones in the other: (max(s, 0), max(-s, 0)).

    A zero weight sits at (0, 0). A stuck-off cell is an error only where the cell was used; a stuck-on
    cell costs up to full scale.

    Examples
    --------
    >>> TwoColumn().encode([3, 0, -3], weight_bits=5, cell_bits=4)[:, 0].tolist()
    [[3, 0], [0, 0], [0, 3]]
    """

    name: ClassVar[str] = "TwoColumn"

    @staticmethod
    def _pair(slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        return np.maximum(slices, 0), np.maximum(-slices, 0)


@dataclass(frozen=True, kw_only=True)
class Differential(_PairEncoding):
    """Both cells parked at the highest level, one lowered: (M - max(-s, 0), M - max(s, 0)).

    A zero weight sits at (M, M), so a stuck-on cell is an error only where the cell was lowered. Parking
    zeros at M raises every column's current: without analog subtraction the converter needs that range,
    and the array that power.

    This is the complement (l -> M - l) of `TwoColumn` with the two sides exchanged: under stuck-at rates
    (off, on) it reads what `TwoColumn` reads under (on, off).

    References
    ----------
    .. [1] G. Yuan et al., "Improving DNN Fault Tolerance using Weight Pruning and Differential Crossbar
       Mapping for ReRAM-based Edge AI", ISQED 2021, arXiv:2106.09166, Section III.

    Examples
    --------
    >>> Differential().encode([3, 0, -3], weight_bits=5, cell_bits=4)[:, 0].tolist()
    [[15, 12], [15, 15], [12, 15]]
    """

    name: ClassVar[str] = "Differential"

    @staticmethod
    def _pair(slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        return largest - np.maximum(-slices, 0), largest - np.maximum(slices, 0)


@dataclass(frozen=True, kw_only=True)
class Balanced(_PairEncoding):
    """Both cells moved from the middle, in opposite directions: a = floor((M + s)/2), b = a - s.

    A zero weight sits at the middle of the range. A stuck cell costs about half of full scale,
    whichever way it is stuck.

    Examples
    --------
    >>> Balanced().encode([3, 0, -3], weight_bits=5, cell_bits=4)[:, 0].tolist()
    [[9, 6], [7, 7], [6, 9]]
    """

    name: ClassVar[str] = "Balanced"

    @staticmethod
    def _pair(slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        positive = (largest + slices) // 2
        return positive, positive - slices


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

    def slice_count(self, weight_bits: int, cell_bits: int) -> int:
        """Return S = ceil(weight_bits / cell_bits)."""
        _check_bits(weight_bits, cell_bits)
        return -(-weight_bits // cell_bits)

    def reference_level(self, weight_bits: int, cell_bits: int) -> int:
        """Return z, the top digit of 2**(weight_bits - 1) (0 without a reference column)."""
        return int(2 ** ((weight_bits - 1) % cell_bits)) if self.has_reference else 0

    def encode(self, codes: npt.ArrayLike, weight_bits: int, cell_bits: int) -> LevelArray:
        """Return the digits of u, as `Encoding.encode`."""
        shifts = cell_bits * np.arange(self.slice_count(weight_bits, cell_bits), dtype=np.int64)
        shifted = _check_codes(codes, weight_bits) + 2 ** (weight_bits - 1)
        digits: IntegerArray = (shifted[..., np.newaxis] >> shifts) & (2**cell_bits - 1)
        return digits[..., np.newaxis].astype(np.uint8)

    def decode(self, levels: npt.NDArray[Any], weight_bits: int, cell_bits: int) -> npt.NDArray[Any]:
        """Return the weights, as `Encoding.decode`, with the ideal shift taken off."""
        weights = self.slice_weights(weight_bits, cell_bits)
        array = _read_levels(levels, len(weights), 1)
        result: npt.NDArray[Any] = array[..., 0] @ weights.astype(array.dtype) - 2 ** (weight_bits - 1)
        return result


#: The encodings by name.
ENCODINGS: dict[str, type[Encoding]] = {kind.name: kind for kind in (TwoColumn, Differential, Balanced, Offset)}
