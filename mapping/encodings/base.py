"""How a signed integer weight becomes the levels of a few cells, and back."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, as_array, check_integer

__all__ = ["Encoding", "IntegerArray", "LevelArray", "PairEncoding", "check_bits", "check_codes", "read_levels"]

IntegerArray = npt.NDArray[np.int64]
LevelArray = npt.NDArray[np.uint8]


class Encoding(metaclass=ABCMeta):
    """A way of holding a signed integer weight in cells of M + 1 = 2**cell_bits levels.

    A weight is held in S slices, usually the digits of its magnitude in base B = 2**cell_bits, least significant first.
    Each slice takes `sides` cells: two read as a difference (side 0 minus side 1), or one read as it is. The weight is
    the sum of what the slices read, each times its `slice_weights`, less `shift`. A new encoding is a frozen dataclass
    with this base; nothing else of the project needs to know of it (:class:`xbarsim.mapping.Reading` is what the engine
    and the cost see), and :func:`xbarsim.testing.check_encoding` tells whether it keeps its promises.

    Attributes
    ----------
    name : str
        The class's name.
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
        """Return S, the number of slices that hold a weight.

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
            Weights of shape (...): int64 for integer levels (float64 where a slice weight is no whole number), float64
            for floating ones.
        """

    def reference_level(self, weight_bits: int, cell_bits: int) -> int:
        """Return z, the level of the cells of the reference column (0 without one).

        Its code counts the weight of the top slice.
        """
        return 0

    def shift(self, weight_bits: int, cell_bits: int) -> int:
        """Return what the slices count too much for each unit of input, which is taken off digitally.

        0 for pairs, and where a reference column takes it off.
        """
        return 0 if self.sides == 2 or self.has_reference else int(2 ** (weight_bits - 1))

    def slice_weights(self, weight_bits: int, cell_bits: int) -> npt.NDArray[Any]:
        """Return the weight of each slice, B**s unless an encoding says otherwise: shape (S,).

        int64, or float64 multiples of a power of two.

        Examples
        --------
        >>> from xbarsim.mapping import TwoColumn
        >>> TwoColumn().slice_weights(weight_bits=8, cell_bits=4).tolist()
        [1, 16]
        """
        count = self.slice_count(weight_bits, cell_bits)
        return np.left_shift(np.int64(1), cell_bits * np.arange(count, dtype=np.int64))


def check_bits(weight_bits: int, cell_bits: int) -> None:
    """Refuse bits out of bounds."""
    check_integer("weight_bits", weight_bits, at_least=2, at_most=16)
    check_integer("cell_bits", cell_bits, at_least=1, at_most=8)


def check_codes(codes: npt.ArrayLike, weight_bits: int) -> IntegerArray:
    """`codes` as int64, refused when not integers in [-Q, Q]."""
    array = as_array("codes", codes)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"codes must be integers, got type {array.dtype}")
    largest = 2 ** (weight_bits - 1) - 1
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < -largest or high > largest:
            worst = low if low < -largest else high
            raise InputError(f"codes must be in [{-largest}, {largest}] for {weight_bits} bits, got {worst}")
    return array.astype(np.int64)


def read_levels(levels: npt.NDArray[Any], slices: int, sides: int) -> npt.NDArray[Any]:
    """`levels` as int64 or float64, refused when the last two axes are not (S, sides)."""
    array = as_array("levels", levels)
    if array.shape[-2:] != (slices, sides):
        raise InputError(f"levels must have shape (..., {slices}, {sides}), got {array.shape}")
    return array.astype(np.int64 if np.issubdtype(array.dtype, np.integer) else np.float64)


class PairEncoding(Encoding):
    """Slices of the magnitude that share the weight's sign, each held by a pair of cells."""

    sides: ClassVar[int] = 2

    @entrance
    def slice_count(self, weight_bits: int, cell_bits: int) -> int:
        """Return S = ceil((weight_bits - 1) / cell_bits)."""
        check_bits(weight_bits, cell_bits)
        return -(-(weight_bits - 1) // cell_bits)

    @entrance
    def encode(self, codes: npt.ArrayLike, weight_bits: int, cell_bits: int) -> LevelArray:
        """Return the levels of the pairs, as `Encoding.encode`."""
        check_bits(weight_bits, cell_bits)
        slices = self.slices(check_codes(codes, weight_bits), weight_bits, cell_bits)
        return np.stack(self.pair(slices, 2**cell_bits - 1), axis=-1).astype(np.uint8)

    @entrance
    def slices(self, codes: IntegerArray, weight_bits: int, cell_bits: int) -> IntegerArray:
        """The slices s in [-M, M] of weights: the digits of their magnitude, with their sign; shape (..., S)."""
        check_bits(weight_bits, cell_bits)
        shifts = cell_bits * np.arange(-(-(weight_bits - 1) // cell_bits), dtype=np.int64)
        digits = (np.abs(codes)[..., np.newaxis] >> shifts) & (2**cell_bits - 1)
        return np.asarray(np.sign(codes)[..., np.newaxis] * digits)

    @entrance
    def decode(self, levels: npt.NDArray[Any], weight_bits: int, cell_bits: int) -> npt.NDArray[Any]:
        """Return the weights, as `Encoding.decode`."""
        weights = self.slice_weights(weight_bits, cell_bits)
        array = read_levels(levels, len(weights), 2)
        result: npt.NDArray[Any] = (array[..., 0] - array[..., 1]) @ weights
        return result

    @abstractmethod
    def pair(self, slices: IntegerArray, largest: int) -> tuple[IntegerArray, IntegerArray]:
        """The levels (a, b), both in 0..M with a - b = s, of slices s in [-M, M]."""
