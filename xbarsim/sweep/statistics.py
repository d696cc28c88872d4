"""Intervals over dies, by exact methods, and the rules that say when there are dies enough.

An accuracy is that of one die on a fixed set of images, so an interval of the mean speaks of the mean over all dies
that could be made, on these images; it does not cover what other images would give.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

__all__ = [
    "Dies",
    "Interval",
    "MeanWithin",
    "StopRule",
    "YieldWithin",
    "mean_interval",
    "paired_difference",
    "yield_interval",
]

_RESAMPLES = 9_999
_MOST_DIES = 100_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate
        The mean, share or difference.
    low, high
        Ends of the interval; NaN where the dies are too few for one.
    confidence
        Its confidence, such as 0.95.
    method
        ``"t"``, ``"bootstrap"`` or ``"Clopper-Pearson"``.
    dies
        How many dies it is from.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    method: str
    dies: int

    @property
    def half_width(self) -> float:
        """Half the distance of its ends."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.estimate:.4f} [{self.low:.4f}, {self.high:.4f}]"


def _sample(name: str, values: Any) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise InputError(f"{name} must be finite numbers, one for each of 1 die or more, got {values!r}")
    return array


def _confidence(confidence: float) -> float:
    return check_real("confidence", confidence, above=0.0, below=1.0)


def mean_interval(
    values: Sequence[float] | npt.NDArray[Any],
    *,
    confidence: float = 0.95,
    method: Literal["t", "bootstrap"] = "t",
    seed: int = 0,
) -> Interval:
    """The mean over dies and its interval.

    Parameters
    ----------
    values
        One number a die.
    confidence
        Of the interval, in (0, 1).
    method
        ``"t"``: Student's t, exact where dies are normally distributed and good where their mean nearly is.
        ``"bootstrap"``: bias-corrected and accelerated bootstrap, which asks for no law but for some 20 dies or more.
    seed
        Of the bootstrap's 9,999 resamples.

    Returns
    -------
    Interval
        Without ends (NaN) for a single die; of no width where all dies are equal.

    References
    ----------
    B. Efron, Better bootstrap confidence intervals, Journal of the American Statistical Association 82, 1987,
    https://doi.org/10.1080/01621459.1987.10478410.
    """
    sample = _sample("values", values)
    check_choice("method", method, ("t", "bootstrap"))
    level, dies = _confidence(confidence), int(sample.size)
    mean = math.fsum(sample) / dies
    low = high = math.nan
    if dies > 1 and float(sample.min()) == float(sample.max()):
        mean = low = high = float(sample[0])
    elif dies > 1 and method == "t":
        from scipy.special import stdtrit

        half = float(stdtrit(dies - 1, 0.5 + level / 2)) * float(sample.std(ddof=1)) / math.sqrt(dies)
        low, high = mean - half, mean + half
    elif dies > 1:
        from scipy.stats import bootstrap

        found = bootstrap(
            (sample,),
            np.mean,
            confidence_level=level,
            n_resamples=_RESAMPLES,
            batch=max(1, 2_000_000 // dies),
            method="BCa",
            rng=np.random.default_rng(check_integer("seed", seed, at_least=0)),
        ).confidence_interval
        low, high = float(found.low), float(found.high)
    return Interval(estimate=mean, low=low, high=high, confidence=level, method=method, dies=dies)


def yield_interval(good: int, dies: int, *, confidence: float = 0.95) -> Interval:
    """The share of good dies and its Clopper-Pearson interval, which covers at least as often as it says.

    Parameters
    ----------
    good, dies
        How many dies were good, of how many.
    confidence
        Of the interval, in (0, 1).

    References
    ----------
    C. J. Clopper and E. S. Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial,
    Biometrika 26, 1934, https://doi.org/10.1093/biomet/26.4.404.
    """
    check_integer("dies", dies, at_least=1)
    check_integer("good", good, at_least=0, at_most=dies)
    level = _confidence(confidence)
    low, high = _clopper_pearson(np.array([good]), np.array([dies]), level)
    return Interval(
        estimate=good / dies,
        low=float(low[0]),
        high=float(high[0]),
        confidence=level,
        method="Clopper-Pearson",
        dies=dies,
    )


def _clopper_pearson(
    good: npt.NDArray[Any], dies: npt.NDArray[Any], level: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    bad = dies - good
    low = np.where(good > 0, betaincinv(np.maximum(good, 1), bad + 1, tail), 0.0)
    high = np.where(bad > 0, betaincinv(good + 1, np.maximum(bad, 1), 1 - tail), 1.0)
    return low, high


def paired_difference(
    first: Sequence[float] | npt.NDArray[Any],
    second: Sequence[float] | npt.NDArray[Any],
    *,
    confidence: float = 0.95,
    method: Literal["t", "bootstrap"] = "t",
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


# ------------------------------------------------------------------------------------------ stop rules


class StopRule(metaclass=ABCMeta):
    """When a task has dies enough: a question to the dies 0, 1, 2, ... in this order, without gaps.

    The answer of a task is its shortest prefix of dies that satisfies the rule. Which dies were measured beyond it, by
    how many workers and in which order, therefore changes nothing.
    """

    @abstractmethod
    def enough(self, correct: Sequence[int], images: int) -> int | None:
        """How many dies are enough, or ``None`` if these are not.

        Parameters
        ----------
        correct
            Images classified right by the dies 0, 1, 2, ...
        images
            Images that each die was measured on.
        """

    @abstractmethod
    def expected(self, correct: Sequence[int], images: int) -> int:
        """How many dies it will probably take, for the time left; arguments as :meth:`enough`."""

    @property
    @abstractmethod
    def least(self) -> int:
        """Dies that are needed whatever they give."""

    @property
    @abstractmethod
    def most(self) -> int:
        """Dies that are enough whatever they give."""


@dataclass(frozen=True, kw_only=True)
class Dies(StopRule):
    """A number of dies.

    Attributes
    ----------
    count
        How many, 1 or more.
    """

    count: int

    def __post_init__(self) -> None:
        check_integer("count", self.count, at_least=1)

    def enough(self, correct: Sequence[int], images: int) -> int | None:
        """`count`, once there are as many."""
        return self.count if len(correct) >= self.count else None

    def expected(self, correct: Sequence[int], images: int) -> int:
        """`count`."""
        return self.count

    @property
    def least(self) -> int:
        """`count`."""
        return self.count

    @property
    def most(self) -> int:
        """`count`."""
        return self.count


class _Within(StopRule):
    """What the rules that ask for a narrow interval share."""

    half_width: float
    confidence: float
    at_least: int
    at_most: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "half_width", check_real("half_width", self.half_width, above=0.0, below=1.0))
        object.__setattr__(self, "confidence", _confidence(self.confidence))
        check_integer("at_least", self.at_least, at_least=2)
        check_integer("at_most", self.at_most, at_least=self.at_least, at_most=_MOST_DIES)

    @abstractmethod
    def _half_widths(self, correct: npt.NDArray[np.int64], images: int) -> npt.NDArray[np.float64]:
        """Half-width of the interval of each prefix, from that of `at_least` dies."""

    def enough(self, correct: Sequence[int], images: int) -> int | None:
        """Length of the shortest prefix whose interval is narrow enough; at most `at_most`."""
        if len(correct) < self.at_least:
            return None
        prefix = np.asarray(correct[: self.at_most], dtype=np.int64)
        narrow = np.flatnonzero(self._half_widths(prefix, images) <= self.half_width)
        if narrow.size:
            return self.at_least + int(narrow[0])
        return self.at_most if len(prefix) == self.at_most else None

    def expected(self, correct: Sequence[int], images: int) -> int:
        """As many as make the interval narrow enough if it narrows with the square root of their number."""
        if len(correct) < self.at_least:
            return self.at_least
        prefix = np.asarray(correct[: self.at_most], dtype=np.int64)
        ratio = float(self._half_widths(prefix, images)[-1]) / self.half_width
        return int(min(max(len(prefix) * ratio**2, self.at_least), self.at_most))

    @property
    def least(self) -> int:
        """`at_least`."""
        return self.at_least

    @property
    def most(self) -> int:
        """`at_most`."""
        return self.at_most


@dataclass(frozen=True, kw_only=True)
class MeanWithin(_Within):
    """Dies until Student's t interval of the mean accuracy is narrow enough.

    An interval that is looked at until it is narrow covers slightly less often than it says; `at_least` bounds by how
    much.

    Attributes
    ----------
    half_width
        Half-width of the interval to reach, as a share of the images, in (0, 1).
    confidence
        Of the interval.
    at_least, at_most
        Bounds of the number of dies, 2 or more; at `at_most` it stops whatever the width.
    """

    half_width: float
    confidence: float = 0.95
    at_least: int = 10
    at_most: int = 1000

    def _half_widths(self, correct: npt.NDArray[np.int64], images: int) -> npt.NDArray[np.float64]:
        from scipy.special import stdtrit

        dies = np.arange(self.at_least, len(correct) + 1)
        total, squares = np.cumsum(correct), np.cumsum(correct * correct)  # whole numbers: exact in any order
        total, squares = total[self.at_least - 1 :], squares[self.at_least - 1 :]
        variance = (dies * squares - total * total) / (dies * (dies - 1.0))
        return np.asarray(stdtrit(dies - 1, 0.5 + self.confidence / 2) * np.sqrt(variance / dies) / images)


@dataclass(frozen=True, kw_only=True)
class YieldWithin(_Within):
    """Dies until the Clopper-Pearson interval of the yield, P(accuracy >= target), is narrow enough.

    Attributes
    ----------
    target
        Accuracy from which a die is good, in [0, 1].
    half_width, confidence, at_least, at_most
        As in :class:`MeanWithin`, of the share of good dies.
    """

    target: float
    half_width: float
    confidence: float = 0.95
    at_least: int = 10
    at_most: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "target", check_real("target", self.target, at_least=0.0, at_most=1.0))

    def _half_widths(self, correct: npt.NDArray[np.int64], images: int) -> npt.NDArray[np.float64]:
        dies = np.arange(self.at_least, len(correct) + 1)
        good = np.cumsum(is_good(correct, images, self.target))[self.at_least - 1 :]
        low, high = _clopper_pearson(good, dies, self.confidence)
        return (high - low) / 2


def is_good(correct: npt.NDArray[np.int64], images: int, target: float) -> npt.NDArray[np.bool_]:
    """Which dies reach the target accuracy; 0.9 is reached by 9 of 10, whatever 0.9 is in binary."""
    return np.asarray(correct >= math.ceil(target * images - 1e-9))


def describe(rule: StopRule) -> dict[str, Any]:
    """A stop rule as a table of plain values, with its name under ``type``."""
    check_instance("stop", rule, StopRule)
    return {"type": type(rule).__name__, **dataclasses.asdict(rule)}  # type: ignore[call-overload]
