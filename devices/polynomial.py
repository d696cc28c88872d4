"""A quantity as a polynomial of the conductance: the form of most laws in device cards."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError, check_instance, check_real

__all__ = ["Polynomial"]


@dataclass(frozen=True, kw_only=True)
class Polynomial:
    """A quantity in siemens as a polynomial of the conductance, clipped below.

    ``max(minimum, sum_k coefficients[k] * (conductance / scale)**k)``

    Attributes
    ----------
    coefficients
        From the constant term up, S.
    scale
        The conductance that counts as 1, S.
    minimum
        The result is never below this, S; ``-inf`` for no bound, as a bias needs.
    """

    coefficients: tuple[float, ...]
    scale: float
    minimum: float = 0.0

    def __post_init__(self) -> None:
        check_instance("coefficients", self.coefficients, tuple)
        if not self.coefficients:
            raise InputError("coefficients must hold at least one number, got ()")
        coefficients = tuple(
            check_real(f"coefficients[{order}]", value) for order, value in enumerate(self.coefficients)
        )
        object.__setattr__(self, "coefficients", coefficients)
        object.__setattr__(self, "scale", check_real("scale", self.scale, above=0.0))
        if self.minimum != -math.inf:
            object.__setattr__(self, "minimum", check_real("minimum", self.minimum))

    def __call__(self, conductance: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The value at `conductance` (S, any shape), S."""
        x = np.asarray(conductance, dtype=np.float64) / self.scale
        value = np.polynomial.polynomial.polyval(x, np.asarray(self.coefficients, dtype=np.float64))
        return np.maximum(value, self.minimum)


def check_spread(spread: Polynomial) -> None:
    """Raise `InputError` unless `spread` is a polynomial that is a standard deviation everywhere."""
    check_instance("spread", spread, Polynomial)
    if spread.minimum < 0:
        raise InputError(f"spread.minimum must be >= 0 (a standard deviation), got {spread.minimum!r}")
