"""Rules that say when a task has enough dies: questions to its dies 0, 1, 2, ... in this order."""

from __future__ import annotations

import dataclasses
import math
from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.intervals import check_confidence, clopper_pearson, student_quantile
from xbarsim.foundation.validation import check_instance, check_integer, check_real

__all__ = ["Dies", "MeanWithin", "StopRule", "YieldWithin"]

_MOST_DIES = 1_000_000


class StopRule(metaclass=ABCMeta):
    """When a task has enough dies: a question to the dies 0, 1, 2, ... in this order, without gaps.

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
        How many, 1 to 1,000,000.
    """

    count: int

    def __post_init__(self) -> None:
        check_integer("count", self.count, at_least=1, at_most=_MOST_DIES)

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
        object.__setattr__(self, "confidence", check_confidence(self.confidence))
        check_integer("at_least", self.at_least, at_least=2)
        check_integer("at_most", self.at_most, at_least=self.at_least, at_most=100_000)

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
        dies = np.arange(self.at_least, len(correct) + 1)
        total, squares = np.cumsum(correct), np.cumsum(correct * correct)  # whole numbers: exact in any order
        total, squares = total[self.at_least - 1 :], squares[self.at_least - 1 :]
        variance = (dies * squares - total * total) / (dies * (dies - 1.0))
        return np.asarray(student_quantile(dies, self.confidence) * np.sqrt(variance / dies) / images)


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
        low, high = clopper_pearson(good, dies, self.confidence)
        return (high - low) / 2


def is_good(correct: npt.NDArray[np.int64], images: int, target: float) -> npt.NDArray[np.bool_]:
    """Which dies reach the target accuracy; 0.9 is reached by 9 of 10, whatever 0.9 is in binary."""
    return np.asarray(correct >= math.ceil(target * images - 1e-9))


def describe(rule: StopRule) -> dict[str, Any]:
    """A stop rule as a table of plain values, with its name under ``type``."""
    check_instance("stop", rule, StopRule)
    return {"type": type(rule).__name__, **dataclasses.asdict(rule)}  # type: ignore[call-overload]


def answer(rule: StopRule, outcomes: Sequence[int | None], images: int) -> int | None:
    """How many of the dies 0, 1, 2, ... are the answer, or ``None`` if these are not enough.

    A die that failed takes its place and is counted out: the rule is asked of the others, and no other die is measured
    instead of it beyond the most that the rule allows.

    Parameters
    ----------
    rule
        The rule.
    outcomes
        Images classified right by the dies 0, 1, 2, ...; ``None`` for one that failed.
    images
        Images that each die was measured on.
    """
    outcomes = outcomes[: rule.most]
    measured = [number for number, correct in enumerate(outcomes) if correct is not None]
    enough = rule.enough([correct for correct in outcomes if correct is not None], images) if measured else None
    if enough is not None:
        return measured[enough - 1] + 1
    return rule.most if len(outcomes) == rule.most else None
