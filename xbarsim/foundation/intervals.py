"""Confidence intervals of a mean, a median and a share: their one home, by the exact laws of SciPy.

An accuracy is that of one die on a fixed set of images. An interval of the mean over dies therefore speaks of all dies
that could be made, on these images; :func:`with_test_images` widens it to what other images would give.

Of the mean no interval is sure without a law of the dies: with few of them, the one die in ten that is dead may not be
among them. docs/statistics.md says how often each interval covers what it should. Those of the median and of the yield
(the share of dies from a threshold up) ask for no law and keep what they say with any number of dies.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.guide import see
from xbarsim.foundation.validation import InputError, check_choice, check_integer, check_real

__all__ = [
    "FEW_DIES",
    "FewDiesWarning",
    "Interval",
    "clopper_pearson",
    "difference_interval",
    "mean_interval",
    "median_interval",
    "paired_difference",
    "share_interval",
    "student_half_width",
    "student_quantile",
    "with_test_images",
]

_RESAMPLES = 9_999

FEW_DIES = 20
"""With fewer dies than this an interval of their mean is worth little: they are shown one by one, and a warning is."""

Method = Literal["t", "bootstrap"]


class FewDiesWarning(UserWarning):
    """An interval of a mean is from so few dies that it covers the mean less often than it says."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate
        The mean, median, share or difference.
    low, high
        Ends of the interval; NaN where the sample is too small for one.
    confidence
        Its confidence, such as 0.95.
    method
        ``"t"``, ``"bootstrap"``, ``"order statistics"``, ``"Welch"`` or ``"Clopper-Pearson"``.
    count
        Size of the sample: how many dies, or images, it is from.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    method: str
    count: int

    @property
    def half_width(self) -> float:
        """Half the distance of its ends."""
        return (self.high - self.low) / 2

    @property
    def has_ends(self) -> bool:
        """Whether the sample was large enough for an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def __str__(self) -> str:
        return f"{self.estimate:.4f} [{self.low:.4f}, {self.high:.4f}]"


def _sample(name: str, values: Any) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise InputError(f"{name} must be finite numbers, one for each of 1 die or more, got {values!r}")
    return array


def check_confidence(confidence: float) -> float:
    """`confidence` as a float in (0, 1), or an InputError."""
    return check_real("confidence", confidence, above=0.0, below=1.0)


def student_quantile(count: Any, confidence: float) -> Any:
    """How many standard errors Student's t interval of a mean reaches to either side.

    Parameters
    ----------
    count
        Size of the sample, 2 or more: a number, or an array of them.
    confidence
        Of the interval, in (0, 1).

    Returns
    -------
    float or array
        As `count`.
    """
    from scipy import special  # the laws of scipy.stats without its half second to load

    quantile = special.stdtrit(np.asarray(count) - 1, 0.5 + confidence / 2)
    return quantile if np.ndim(count) else float(quantile)


def student_half_width(deviation: float, count: int, confidence: float) -> float:
    """Half-width of Student's t interval of a mean.

    Parameters
    ----------
    deviation
        Standard deviation of the sample, with ``count - 1`` in its denominator.
    count
        Size of the sample, 2 or more.
    confidence
        Of the interval, in (0, 1).
    """
    return float(student_quantile(count, confidence)) * float(deviation) / math.sqrt(count)


def clopper_pearson(
    good: Any, count: Any, confidence: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Ends of the Clopper-Pearson interval of a share, which covers at least as often as it says.

    Parameters
    ----------
    good, count
        How many of how many: integers, or arrays of them, 0 <= good <= count.
    confidence
        Of the interval, in (0, 1).

    Returns
    -------
    tuple of arrays
        Lower and upper ends, in the shape of `good`.

    References
    ----------
    C. J. Clopper and E. S. Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial,
    Biometrika 26, 1934, https://doi.org/10.1093/biomet/26.4.404.
    """
    from scipy import special

    good, count = np.asarray(good), np.asarray(count)
    tail = (1 - confidence) / 2
    bad = count - good
    low = np.where(good > 0, special.betaincinv(np.maximum(good, 1), bad + 1, tail), 0.0)
    high = np.where(bad > 0, special.betaincinv(good + 1, np.maximum(bad, 1), 1 - tail), 1.0)
    return low, high


def mean_interval(
    values: Sequence[float] | npt.NDArray[Any],
    *,
    confidence: float = 0.95,
    method: Method = "t",
    seed: int = 0,
) -> Interval:
    """The mean of a sample and its interval.

    Parameters
    ----------
    values
        One number a die.
    confidence
        Of the interval, in (0, 1).
    method
        ``"t"``: Student's t, exact where dies are normally distributed and good where their mean nearly is.
        ``"bootstrap"``: bias-corrected and accelerated bootstrap, which asks for no law but for many dies. Where one
        die in ten is dead, a 95 % interval of either covers the mean in 40 % of samples of 5
        dies, in 60 to 65 % of 10 and in 86 to 87 % of 20; see docs/statistics.md.
    seed
        Of the bootstrap's 9,999 resamples.

    Returns
    -------
    Interval
        Without ends (NaN) for a single die; of no width where all dies are equal.

    Raises
    ------
    InputError
        If there are no values, one is not finite, or a parameter is out of its bound.

    Warns
    -----
    FewDiesWarning
        If an interval is from fewer than 20 dies (:data:`FEW_DIES`) that are not all equal.

    See Also
    --------
    median_interval, share_interval : Intervals that need no law of the dies.

    References
    ----------
    B. Efron, Better bootstrap confidence intervals, Journal of the American Statistical Association 82, 1987,
    https://doi.org/10.1080/01621459.1987.10478410.
    """
    sample = _sample("values", values)
    check_choice("method", method, ("t", "bootstrap"))
    level, count = check_confidence(confidence), int(sample.size)
    mean = math.fsum(sample) / count
    low = high = math.nan
    if 1 < count < FEW_DIES and float(sample.min()) != float(sample.max()):
        warnings.warn(
            f"an interval of the mean of {count} dies, fewer than {FEW_DIES}, covers it less often than {level:g} "
            f"if some dies fail; look at each die, its median and the yield{see('statistics')}",
            FewDiesWarning,
            stacklevel=2,
        )
    if count > 1 and float(sample.min()) == float(sample.max()):
        mean = low = high = float(sample[0])
    elif count > 1 and method == "t":
        half = student_half_width(float(sample.std(ddof=1)), count, level)
        low, high = mean - half, mean + half
    elif count > 1:
        from scipy import stats

        ends = stats.bootstrap(
            (sample,),
            np.mean,
            confidence_level=level,
            n_resamples=_RESAMPLES,
            batch=max(1, 2_000_000 // count),
            method="BCa",
            rng=np.random.default_rng(check_integer("seed", seed, at_least=0)),
        ).confidence_interval
        low, high = float(ends.low), float(ends.high)
    return Interval(estimate=mean, low=low, high=high, confidence=level, method=method, count=count)


def with_test_images(mean: Interval, images: int) -> Interval:
    """Widen the interval of a mean accuracy over dies to what other test images of the same kind would give.

    All dies meet the same images. With independent dies and images of two ways,

        variance of the mean = variance of dies / dies + variance of images / images + the rest / (dies * images)

    and the spread of the dies' accuracies holds the first and the last. That of the images is at most p (1 - p), when
    every die is right on the same images: so the distances to the ends of the Clopper-Pearson interval of p on so many
    images are added in quadrature, and the result covers at least as often as it says where dies are many.

    Parameters
    ----------
    mean
        Mean accuracy over dies, from 0 to 1, with its interval.
    images
        How many test images each die was measured on.

    Returns
    -------
    Interval
        Within [0, 1]; of the images alone where `mean` has no ends.

    Raises
    ------
    InputError
        If `mean` is no accuracy, or `images` is below 1.

    Examples
    --------
    >>> dies = mean_interval([0.89, 0.91] * 10)
    >>> print(dies, with_test_images(dies, 1000), sep="  ")
    0.9000 [0.8952, 0.9048]  0.9000 [0.8792, 0.9185]
    """
    check_integer("images", images, at_least=1)
    check_real("mean.estimate", mean.estimate, at_least=0.0, at_most=1.0)
    good = mean.estimate * images
    low, high = (float(end) for end in clopper_pearson(good, images, mean.confidence))
    if mean.has_ends:
        low = mean.estimate - math.hypot(mean.estimate - mean.low, mean.estimate - low)
        high = mean.estimate + math.hypot(mean.high - mean.estimate, high - mean.estimate)
    return replace(mean, low=max(0.0, low), high=min(1.0, high), method=f"{mean.method}, test images")


def difference_interval(
    one: Sequence[float] | npt.NDArray[Any], other: Sequence[float] | npt.NDArray[Any], *, confidence: float = 0.95
) -> Interval:
    """The difference of the means of two independent samples, whose scatter may differ, and its interval.

    Parameters
    ----------
    one, other
        One number a die, or a training. The mean of `other` is taken off that of `one`.
    confidence
        Of the interval, in (0, 1).

    Returns
    -------
    Interval
        By Welch's t, exact where both are normally distributed up to the fractional number of degrees of freedom;
        without ends (NaN) where a sample is a single value. Its `count` is that of both together.

    Raises
    ------
    InputError
        If there are no values, one is not finite, or a parameter is out of its bound.

    References
    ----------
    B. L. Welch, The generalization of Student's problem when several different population variances are involved,
    Biometrika 34, 1947, https://doi.org/10.1093/biomet/34.1-2.28.
    """
    samples = _sample("one", one), _sample("other", other)
    level = check_confidence(confidence)
    means = [math.fsum(sample) / sample.size for sample in samples]
    estimate = means[0] - means[1]
    low = high = math.nan
    if min(sample.size for sample in samples) > 1:
        parts = [float(sample.var(ddof=1)) / sample.size for sample in samples]
        low = high = estimate
        if (total := sum(parts)) > 0:
            freedom = 1 / sum(
                (part / total) ** 2 / (sample.size - 1) for part, sample in zip(parts, samples, strict=True)
            )
            half = student_quantile(freedom + 1, level) * math.sqrt(total)
            low, high = estimate - half, estimate + half
    return Interval(
        estimate=estimate, low=low, high=high, confidence=level, method="Welch", count=sum(map(len, samples))
    )


def median_interval(values: Sequence[float] | npt.NDArray[Any], *, confidence: float = 0.95) -> Interval:
    """The median of a sample and its interval between two of its values, which asks for no law of the dies.

    The r-th smallest and the r-th greatest value have the median of all dies between them unless more than
    ``count - r`` dies lie on one side of it, which is a matter of tossing coins: r is the greatest for which the
    interval covers the median at least as often as `confidence` says. With ties it covers more often.

    Parameters
    ----------
    values
        One number a die.
    confidence
        Of the interval, in (0, 1).

    Returns
    -------
    Interval
        Without ends (NaN) where even the least and the greatest value cover too seldom: for 0.95, below 6 dies.

    Raises
    ------
    InputError
        If there are no values, one is not finite, or a parameter is out of its bound.

    References
    ----------
    H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, Wiley, 2003, section 7.1.
    """
    from scipy import stats

    sample = np.sort(_sample("values", values))
    level, count = check_confidence(confidence), int(sample.size)
    # Outside with probability 2 P(B < r), B of count coins: the greatest r for which that is at most 1 - level.
    outside = 2 * stats.binom.cdf(np.arange(count // 2 + 1), count, 0.5)
    rank = int(np.count_nonzero(outside <= 1 - level))
    low, high = (float(sample[rank - 1]), float(sample[count - rank])) if rank else (math.nan, math.nan)
    return Interval(
        estimate=float(np.median(sample)),
        low=low,
        high=high,
        confidence=level,
        method="order statistics",
        count=count,
    )


def share_interval(good: int, count: int, *, confidence: float = 0.95) -> Interval:
    """A share, such as the yield of dies or the accuracy on images, and its Clopper-Pearson interval.

    Parameters
    ----------
    good, count
        How many of how many.
    confidence
        Of the interval, in (0, 1); see :func:`clopper_pearson`.

    Raises
    ------
    InputError
        If a parameter is out of its bound.
    """
    check_integer("count", count, at_least=1)
    check_integer("good", good, at_least=0, at_most=count)
    level = check_confidence(confidence)
    low, high = clopper_pearson(good, count, level)
    return Interval(
        estimate=good / count,
        low=float(low),
        high=float(high),
        confidence=level,
        method="Clopper-Pearson",
        count=count,
    )


def paired_difference(
    first: Sequence[float] | npt.NDArray[Any],
    second: Sequence[float] | npt.NDArray[Any],
    *,
    confidence: float = 0.95,
    method: Method = "t",
    seed: int = 0,
) -> Interval:
    """Mean of `first` minus `second` on the same dies, in the same order; arguments as :func:`mean_interval`.

    What both have in common, such as a die with many faults, cancels: the interval is narrower than that of two
    separate samples wherever good dies of one are good dies of the other.

    Raises
    ------
    InputError
        If they are not from equally many dies.
    """
    one, other = _sample("first", first), _sample("second", second)
    if one.size != other.size:
        raise InputError(f"second must be of as many dies as first ({one.size}), got {other.size}")
    return mean_interval(one - other, confidence=confidence, method=method, seed=seed)
