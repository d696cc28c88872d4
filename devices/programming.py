"""How cells are programmed: the normal law of the error, and the grid on which programmed levels lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.devices.polynomial import Polynomial, check_spread
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_real

__all__ = ["GRID", "ProgrammingError", "lowest_level", "round_to_grid"]

GRID = 2.0**-16
"""The step of level units: conductances are multiples of it, so that their sums are exact in float64."""


def lowest_level(offset_levels: float) -> float:
    """The lowest multiple of `GRID` whose conductance is not below zero, in level units."""
    return math.ceil(-offset_levels / GRID) * GRID


@entrance
def round_to_grid(level_units: npt.ArrayLike, offset_levels: float) -> npt.NDArray[np.float64]:
    """Round to multiples of `GRID` that float32 holds exactly, without going below zero conductance.

    Parameters
    ----------
    level_units
        Conductances in level units, any shape.
    offset_levels
        Zero conductance is at ``-offset_levels``, in level units.
    """
    # Float32 spaces its numbers wider than GRID from 256 on: all of those are multiples of GRID.
    rounded = np.rint(np.asarray(level_units, dtype=np.float64) / GRID) * GRID
    check_real("offset_levels", offset_levels, at_least=-1e300, at_most=1e300)
    lowest = lowest_level(offset_levels)
    return np.maximum(rounded, lowest).astype(np.float32).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class ProgrammingError:
    """How a cell's conductance differs from its target: a normal law for each target.

    Attributes
    ----------
    spread
        Standard deviation against target conductance, S.
    bias
        Mean of (conductance - target) against target conductance, S; ``None`` for zero. Its
        ``minimum`` must be ``-inf``: a bias may be negative.
    valid_from, valid_to
        The range of target conductances the law was measured over, S.
    """

    spread: Polynomial
    bias: Polynomial | None = None
    valid_from: float
    valid_to: float

    def __post_init__(self) -> None:
        check_spread(self.spread)
        object.__setattr__(self, "valid_from", check_real("valid_from", self.valid_from, at_least=0.0))
        object.__setattr__(self, "valid_to", check_real("valid_to", self.valid_to, above=self.valid_from))
        check_instance("bias", self.bias, (Polynomial, type(None)))
        if self.bias is not None and self.bias.minimum != -math.inf:
            raise InputError(f"bias.minimum must be -inf (a bias may be negative), got {self.bias.minimum!r}")
