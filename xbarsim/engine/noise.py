"""Read noise of a layer, drawn by image number: the definition of its draws, slow and readable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.engine.kernels.normals import COSINE, LOGARITHM, MULTIPLIERS, ROUNDS, SINE, STEPS, WORDS
from xbarsim.engine.reference import held_variances, hold
from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import check_integer

__all__ = ["Noise", "box_muller", "philox", "round_keys"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
WordArray = npt.NDArray[np.uint32]
Array = npt.NDArray[Any]


def round_keys(key: WordArray) -> list[tuple[WordArray, WordArray]]:
    """The two key words of each round of :func:`philox`, for keys of shape ``(..., 2)``."""
    first, second = (key[..., word].astype(np.uint64) for word in (0, 1))
    return [
        ((first + r * STEPS[0]).astype(np.uint32), (second + r * STEPS[1]).astype(np.uint32)) for r in range(ROUNDS)
    ]


def philox(counter: WordArray, key: WordArray) -> WordArray:
    """Random words by Philox4x32-10 (Salmon et al. 2011, doi:10.1145/2063384.2063405).

    Parameters
    ----------
    counter, key
        Shape ``(..., 4)`` and ``(..., 2)``, broadcast against each other.

    Returns
    -------
    ndarray
        Shape ``(..., 4)``.
    """
    a, b, c, d = (counter[..., word] for word in range(4))
    for first_key, second_key in round_keys(key):
        first, second = a.astype(np.uint64) * MULTIPLIERS[0], c.astype(np.uint64) * MULTIPLIERS[1]
        upper = [(product >> 32).astype(np.uint32) for product in (first, second)]
        a, b, c, d = (
            upper[1] ^ b ^ first_key,
            second.astype(np.uint32),
            upper[0] ^ d ^ second_key,
            first.astype(np.uint32),
        )
    return np.stack(np.broadcast_arrays(a, b, c, d), axis=-1)


def _polynomial(coefficients: tuple[float, ...], x: SingleArray) -> SingleArray:
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + np.float32(coefficient)
    return value


def box_muller(radius: WordArray, angle: WordArray) -> tuple[SingleArray, SingleArray]:
    """Two independent standard normals of two random words (Box and Muller 1958, doi:10.1214/aoms/1177706645).

    ``sqrt(-2 log u)`` times cosine and sine of an angle. The word `radius` and the last 8 bits of `angle` are the 40
    bits of u, between 0 and 1; the first two bits of `angle` are the signs, the other 22 an angle p in the first
    quarter of the circle. With d = p - pi/4, ``sqrt(2) cos p = cos d - sin d`` and ``sqrt(2) sin p = cos d + sin d``.
    No draw is beyond 7.5, where the normal distribution has 6e-14. Every operation is rounded to float32, none is
    fused, and there is no other function than a square root: so a draw is the same number everywhere.
    """
    one = np.float32(1.0)
    upper = (radius >> 8).astype(np.float32) * np.float32(2.0**-24)
    rest = ((radius & 255) << 8) | (angle & 255)
    uniform = upper + (rest.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-40)
    # -log(u) = -log(m) - e log(2), with u = m 2^e and m between sqrt(1/2) and sqrt(2)
    mantissa, exponent = np.frexp(uniform)
    low = mantissa < np.float32(math.sqrt(0.5))
    mantissa, exponent = np.where(low, 2 * mantissa, mantissa), exponent - low
    over = mantissa - one
    root = np.sqrt(over * _polynomial(LOGARITHM, over) + exponent.astype(np.float32) * np.float32(-math.log(2.0)))
    turn = 2 * ((angle >> 8) & (2**22 - 1)).astype(np.int32) + 1 - 2**22
    turned = turn.astype(np.float32) * np.float32(math.pi / 2**24)
    square = turned * turned
    sine, cosine = turned * _polynomial(SINE, square), _polynomial(COSINE, square)
    first, second = root * (cosine - sine), root * (cosine + sine)
    return np.where(angle >> 31, -first, first), np.where(angle >> 30 & 1, -second, second)


@dataclass(frozen=True)
class Noise:
    """Read noise of one layer of one die.

    Parameters
    ----------
    spread
        Standard deviation of each cell's conductance at one read, as its converter sees it, in level units, shape
        ``(tiles, rows, columns)``.
    key
        Key of the counter-based generator that the draws of image n come from, of 64 bits; they depend on the key and n
        alone.
    linear, constant
        Variance that each cell of a driven row adds for each unit of its plane code, and whatever its code, in level
        units squared, of the same shape; ``None`` for none.

    Raises
    ------
    InputError
        For a key that has no 64 bits.
    """

    spread: Array
    key: int
    linear: Array | None = None
    constant: Array | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("key", self.key, at_least=0, at_most=2**64 - 1)

    def coefficients(self) -> list[tuple[int, FloatArray]]:
        """Each cell's variance as a polynomial of its plane code: powers and coefficients, as they are held."""
        lower = [(power, hold(term)) for power, term in ((1, self.linear), (0, self.constant)) if term is not None]
        return [(2, held_variances(self.spread)), *lower]

    def image_keys(self, first: int, count: int) -> WordArray:
        """Four words for each of `count` images from `first` on: the key of its draws, and the end of their counters.

        Shape ``(count, 4)``; what :func:`philox` gives for this layer's key and the number of the image.
        """
        numbers = np.uint64(first) + np.arange(count, dtype=np.uint64)
        counter = np.zeros((count, 4), np.uint32)
        counter[:, 0], counter[:, 1] = numbers & np.uint64(0xFFFFFFFF), numbers >> np.uint64(32)
        return philox(counter, np.array([self.key & 0xFFFFFFFF, self.key >> 32], np.uint32))

    def normals(self, image: int, shape: tuple[int, ...]) -> FloatArray:
        """Standard normal draws of one image.

        Parameters
        ----------
        image
            Its number.
        shape
            Vectors first; the draws of each vector are numbered in the order of the other dimensions, four to a
            counter: number of the counter, number of the vector, and two words of :meth:`image_keys`.
        """
        vectors, each = shape[0], math.prod(shape[1:])
        key = self.image_keys(image, 1)[0]
        counter = np.empty((vectors, -(-each // WORDS), 4), np.uint32)
        counter[:, :, 0] = np.arange(counter.shape[1])
        counter[:, :, 1] = np.arange(vectors)[:, np.newaxis]
        counter[:, :, 2:] = key[2:]
        words = philox(counter, key[:2])
        drawn = [*box_muller(words[..., 0], words[..., 1]), *box_muller(words[..., 2], words[..., 3])]
        return np.stack(drawn, axis=-1).reshape(vectors, -1)[:, :each].reshape(shape).astype(np.float64)
