"""Intervals of the means and shares that are drawn."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import check_real

__all__ = ["check_confidence", "mean_interval", "share_interval"]


def check_confidence(confidence: float) -> float:
    """Return a confidence between 0 and 1, or refuse it."""
    return check_real("confidence", confidence, above=0.0, below=1.0)


def mean_interval(values: npt.NDArray[np.float64], confidence: float) -> tuple[float, float, float]:
    """Mean and Student's t interval, NaN for a single value."""
    mean = math.fsum(values) / values.size
    if values.size < 2:
        return mean, math.nan, math.nan
    from scipy.special import stdtrit

    half = float(stdtrit(values.size - 1, 0.5 + confidence / 2)) * float(values.std(ddof=1)) / math.sqrt(values.size)
    return mean, mean - half, mean + half


def share_interval(good: int, dies: int, confidence: float) -> tuple[float, float, float]:
    """Share of good dies and its Clopper-Pearson interval."""
    from scipy.special import betaincinv

    bad, tail = dies - good, (1 - confidence) / 2
    low = float(betaincinv(good, bad + 1, tail)) if good else 0.0
    high = float(betaincinv(good + 1, bad, 1 - tail)) if bad else 1.0
    return good / dies, low, high
