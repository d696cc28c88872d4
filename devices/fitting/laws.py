"""Laws through measured groups: a quantity against conductance as a polynomial, and how good it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.devices.polynomial import Polynomial

__all__ = ["HIGHEST_ORDER", "Law", "fit_law", "moments_with_errors", "rounded"]

FloatArray = npt.NDArray[np.float64]

HIGHEST_ORDER = 8
_GROUPS_A_COEFFICIENT = 4  # at least so many groups for each order above 1: few points say little about a curve
_FINE = 513  # points at which a law is looked at between the groups


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """A quantity against conductance: what was measured, and the polynomial through it. Arrays are ``(groups,)``.

    Attributes
    ----------
    conductance
        Of each group, S.
    count
        How many values each group's was made of.
    value, error
        What was measured, and its standard error, S.
    polynomial
        The law.
    residual
        Root mean square over the groups of measured minus law, S.
    freedom
        Groups less coefficients: 0 where the law goes through every point and says nothing of how good it is.
    chi_square
        Sum of squares of (measured - law) / error, divided by `freedom`: about 1 where the law is as good as the data
        can tell, NaN where there is no freedom.
    """

    conductance: FloatArray
    count: FloatArray
    value: FloatArray
    error: FloatArray
    polynomial: Polynomial
    residual: float
    freedom: int
    chi_square: float

    @property
    def order(self) -> int:
        """Of the polynomial."""
        return len(self.polynomial.coefficients) - 1

    def goodness(self) -> str:
        """How good the law is, in words."""
        shown = f"order {self.order} through {len(self.value)} points, residual {self.residual * 1e6:.3g} uS"
        return f"{shown}, chi-square {self.chi_square:.3g} a degree of freedom" if self.freedom else shown


def rounded(value: float, digits: int = 6) -> float:
    """A number with so many significant digits: what a card holds."""
    return float(f"{value:.{digits}g}")


def moments_with_errors(groups: list[FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Mean, its standard error, standard deviation, and its standard error (from the fourth moment), by group.

    Parameters
    ----------
    groups
        Samples, S, at least 2 values each.
    """
    count = np.array([group.size for group in groups], dtype=float)
    spread = np.array([group.std(ddof=1) for group in groups])
    fourth = np.array([np.mean((group - group.mean()) ** 4) for group in groups])
    mean = np.array([group.mean() for group in groups])
    with np.errstate(divide="ignore", invalid="ignore"):
        kurtosis = np.where(spread > 0, fourth / spread**4, 1.0)
    # of few values the fourth moment is mostly too low: not below what the normal law gives
    kurtosis = np.where(count < _ENOUGH_FOR_KURTOSIS, np.maximum(kurtosis, 3.0), kurtosis)
    return mean, spread / np.sqrt(count), spread, np.sqrt(np.maximum(kurtosis - 1, 0.0) / count) * spread / 2


_ENOUGH_FOR_KURTOSIS = 100


def fit_law(
    conductance: FloatArray,
    value: FloatArray,
    error: FloatArray,
    weight: FloatArray,
    *,
    count: FloatArray,
    scale: float,
    positive: bool,
) -> Law:
    """The polynomial through `value` that has the lowest Bayesian information criterion.

    Parameters
    ----------
    conductance, value, error, count
        As in :class:`Law`.
    weight
        One over the standard error that each value would have if all groups were of one law: those of the measured
        fourth moments would let chance weigh.
    scale
        The conductance that counts as 1, S.
    positive
        Whether the quantity is a standard deviation: then the law is bounded by 0, and no order is taken that reaches
        it between the ends.
    """
    x = conductance / scale
    fine = np.linspace(x.min(), x.max(), _FINE)
    groups = x.size
    highest = min(HIGHEST_ORDER, groups - 1, max(1, groups // _GROUPS_A_COEFFICIENT))
    best: tuple[float, npt.NDArray[Any]] | None = None
    for order in range(highest + 1):
        coefficients = np.polynomial.polynomial.polyfit(x, value, order, w=weight)
        curve = np.polynomial.polynomial.polyval(fine, coefficients)
        if positive and order and not curve.min() > 0:
            continue
        rest = weight * (value - np.polynomial.polynomial.polyval(x, coefficients))
        square = float(np.mean(rest**2))
        criterion = (groups * math.log(square) if square > 0 else -math.inf) + (order + 1) * math.log(groups)
        if best is None or criterion < best[0]:
            best = (criterion, coefficients)
    assert best is not None
    polynomial = Polynomial(
        coefficients=tuple(rounded(float(coefficient)) for coefficient in best[1]),
        scale=scale,
        minimum=0.0 if positive else -math.inf,
    )
    rest = value - polynomial(conductance)
    freedom = groups - len(polynomial.coefficients)
    with np.errstate(divide="ignore", invalid="ignore"):
        chi_square = float(np.sum((rest / error) ** 2)) / freedom if freedom and (error > 0).all() else math.nan
    return Law(
        conductance=conductance,
        count=count,
        value=value,
        error=error,
        polynomial=polynomial,
        residual=rounded(float(np.sqrt(np.mean(rest**2))), 3),
        freedom=freedom,
        chi_square=chi_square,
    )
