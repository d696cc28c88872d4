"""How sums are read: converters, ideal and not.

Everything that is linear (gain errors, dead drivers, dead converters) is folded into the conductances that the
engine is given; what remains are constants at the converters' inputs and converters that are not straight lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_integer, check_memory, check_real

__all__ = ["AdcErrors", "Converter", "ConverterErrors", "successive_approximation"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Converter:
    """How the sums of one layer's reads become codes.

    Parameters
    ----------
    step
        Converter step in level steps times plane code; ``None`` for an ideal read-out without a converter.
    low, high
        Lowest and highest converter code.
    offset_levels
        g_min in level steps: what every cell adds to its column per unit of plane code; unitless, a multiple of
        2^-16 so that column sums stay exact. The known sum of these currents is taken off the code of a column that is
        read singly; in a pair that is subtracted they cancel.
    """

    step: float | None = None
    low: int = 0
    high: int = 0
    offset_levels: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.step is not None:
            check_real("step", self.step, above=0.0)
        check_integer("low", self.low, at_least=-(2**62), at_most=0)
        check_integer("high", self.high, at_least=0, at_most=2**62)
        check_real("offset_levels", self.offset_levels, at_least=0.0)

    @property
    def bits(self) -> int | None:
        """Bits of a converter with these codes; ``None`` without a converter."""
        return None if self.step is None else math.ceil(math.log2(self.high - self.low + 1))

    @property
    def unit(self) -> float:
        """What one code stands for, in level steps times plane code; 1 without a converter."""
        return 1.0 if self.step is None else self.step


@dataclass(frozen=True, kw_only=True)
class AdcErrors:
    """How the analog-to-digital converters of a die differ from the ideal one and from each other.

    Each converter of each array is drawn on its own, once for a die.

    Attributes
    ----------
    offset
        Standard deviation of the offset, in codes.
    gain
        Standard deviation of the relative gain error.
    capacitor_mismatch
        Standard deviation of a unit capacitor of a binary-weighted successive-approximation converter, relative. Bit i
        consists of 2^i units, so its weight strays by ``capacitor_mismatch * 2**(i / 2)`` codes; this gives the
        converter its integral non-linearity. The sum of all bits is held, for that is the gain. The usual model of a
        binary-weighted capacitor array: B. P. Ginsburg and A. P. Chandrakasan, IEEE J. Solid-State Circuits 42(4), 739
        (2007), doi:10.1109/JSSC.2007.892169 (not verified).
    dead
        Probability that a converter is dead: it always gives code 0.

    Raises
    ------
    InputError
        For a negative deviation, or a probability outside [0, 1].
    """

    offset: float = 0.0
    gain: float = 0.0
    capacitor_mismatch: float = 0.0
    dead: float = 0.0

    def __post_init__(self) -> None:
        for name in ("offset", "gain", "capacitor_mismatch"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), at_least=0.0))
        object.__setattr__(self, "dead", check_real("dead", self.dead, at_least=0.0, at_most=1.0))

    @entrance
    def weights(self, bits: int, count: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
        """Draw the weights of the bits of some converters, in codes, lowest bit first, shape ``(*count, bits)``."""
        check_integer("bits", bits, at_least=1, at_most=62)
        check_memory("count", f"{bits} weights of each of {count} converters", 16 * bits * math.prod(count))
        ideal = 2.0 ** np.arange(bits)
        drawn = ideal + self.capacitor_mismatch * np.sqrt(ideal) * rng.standard_normal((*count, bits))
        drawn = np.maximum(drawn, 0.0)  # no capacitor is negative
        total = drawn.sum(axis=-1, keepdims=True)
        return np.asarray(drawn * ((2.0**bits - 1.0) / np.where(total > 0.0, total, 1.0)))


@dataclass(frozen=True, eq=False)
class ConverterErrors:
    """What one layer of one die adds to its converters, beyond what is folded into the conductances.

    Attributes
    ----------
    offset
        Added to each converter's input in each read, in level steps times plane code, shape ``(tiles, row groups x
        reads)``, the reads of one row group side by side as in :class:`xbarsim.mapping.Reading`; or
        ``None``.
    weights
        Weights of the bits of the converter of each read, in codes, lowest first, shape ``(tiles, reads, bits)``; or
        ``None`` for a straight line.
    driver_gain, converter_gain
        Of the driver of each row and the converter of each column, 0 for a dead one, shapes ``(tiles, rows)`` and
        ``(tiles, columns)``; ``None`` where these are ideal. The conductances hold them already: read noise, which is
        made in the cells, passes them too.
    """

    offset: FloatArray | None = None
    weights: FloatArray | None = None
    driver_gain: FloatArray | None = None
    converter_gain: FloatArray | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def any(self) -> bool:
        """Whether there is anything to add."""
        return self.offset is not None or self.weights is not None


@entrance
def successive_approximation(position: FloatArray, weights: FloatArray, low: int = 0) -> FloatArray:
    """Codes of a successive-approximation converter: bit by bit, highest first, kept if the input is not below it.

    Parameters
    ----------
    position
        Input in codes, half a step added, any shape.
    weights
        Weights of the bits in codes, lowest first; shape that of `position` (or what broadcasts to it) and bits.
    low
        The lowest code, where all bits are 0.

    Returns
    -------
    ndarray
        Codes, shape of `position`; with weights 1, 2, 4, ... the floor of the input, clipped.
    """
    position = position.astype(np.float64, copy=False)
    if weights.ndim < 1:
        raise InputError(f"weights must have the bits as their last axis, got shape {weights.shape}")
    try:
        fits = np.broadcast_shapes(position.shape, weights.shape[:-1]) == position.shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError(f"weights must have shape {position.shape} and bits, got {weights.shape}")
    check_integer("low", low, at_least=-(2**62), at_most=2**62)
    level = np.full_like(position, low)  # compared as it is, so that no rounding lifts an input over an edge
    code = np.full_like(position, low)
    for bit in range(weights.shape[-1] - 1, -1, -1):
        raised = level + weights[..., bit]
        kept = position >= raised
        level = np.where(kept, raised, level)
        code += np.where(kept, 2.0**bit, 0.0)
    return code
