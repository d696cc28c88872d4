"""Drift and retention: how the conductances of a die move in the time after programming.

A law starts from the conductance that a cell has at a reference time after programming, the time at which the cell's
programming error holds, and gives it some seconds later. Zero seconds change nothing. All laws run in the logarithm of
time, ``ln(1 + seconds / reference_time)``: relaxation after programming spreads over many decades.

What is random about a cell is drawn once, as normal scores whose number does not depend on the seconds asked for. So
one stream of random numbers gives one trajectory: the same cells at 10 s and at 100 s are one die at two times.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from xbarsim.devices.polynomial import Polynomial, check_spread
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_instance, check_real

__all__ = ["Drift", "DriftStep", "LogarithmicDrift", "MeasuredDrift", "Programming", "check_ends"]

FloatArray = npt.NDArray[np.float64]

_CHUNK = 1 << 16  # cells relaxed at a time: the buffers stay in the cache


@dataclass(frozen=True, kw_only=True, eq=False)
class Programming:
    """What cells were programmed to, and by what normal law they miss it at the reference time.

    Attributes
    ----------
    target
        S, of the shape of the conductances.
    bias, spread
        Mean and standard deviation of (conductance - target), S, of the same shape; `spread` above 0.
    score
        Normal score of each cell's error, of the same shape: ``(conductance - target - bias) / spread`` as drawn,
        before the cell was stopped at zero conductance. ``None`` to take it from the conductance, which is right but
        for cells that were stopped there.
    """

    target: FloatArray
    bias: FloatArray
    spread: FloatArray
    score: FloatArray | None = None

    def __post_init__(self) -> None:
        check_fields(self)


class Drift:
    """How conductances move after programming; the subclasses are the laws.

    Attributes
    ----------
    reference_time
        Time after programming that zero seconds stand for, s.
    valid_from, valid_to
        The range of conductances that the law was measured over, S. A cell out of it moves like one at its end.
    needs_programming
        Whether the law needs to know what the cells were programmed to.
    """

    reference_time: float
    valid_from: float
    valid_to: float
    needs_programming: ClassVar[bool] = False

    @property
    def longest(self) -> float:
        """The most seconds after the reference time that the law holds for, s."""
        raise NotImplementedError

    @property
    def scores(self) -> int:
        """How many normal scores each cell is given."""
        raise NotImplementedError

    @entrance
    def later(
        self, conductance: FloatArray, seconds: float, scores: FloatArray, programming: Programming | None
    ) -> FloatArray:
        """Where cells are some seconds later, S; arguments are not checked, and the result may be below zero.

        Parameters
        ----------
        conductance
            At the reference time, S, shape ``(cells,)``.
        seconds
            Since the reference time, s, above 0.
        scores
            Independent standard normal numbers, shape ``(scores, cells)``.
        programming
            Of these cells; not used unless it is needed.
        """
        raise NotImplementedError

    @entrance
    def check_seconds(self, seconds: Any) -> float:
        """Return `seconds` if the law holds for that long.

        Raises
        ------
        InputError
            If it is negative, not finite, or longer than was measured.
        """
        return check_real("seconds", seconds, at_least=0.0, at_most=self.longest)

    @entrance
    def relax(
        self,
        conductance: npt.ArrayLike,
        seconds: float,
        rng: np.random.Generator,
        programming: Programming | None = None,
    ) -> npt.NDArray[Any]:
        """The conductance of the same cells some seconds later.

        Parameters
        ----------
        conductance
            At the reference time, S, any shape, float32 or float64.
        seconds
            Since the reference time, s. At 0 the conductances come back as they are.
        rng
            Source of the cells' scores. A generator in the same state gives the same trajectories, whatever the
            seconds.
        programming
            What the cells were programmed to; only where the law needs it.

        Returns
        -------
        ndarray
            S, shape and type of `conductance`, never below zero.

        Raises
        ------
        InputError
            If a conductance is negative, not finite or no floating-point number, if the law does not hold for
            `seconds`, or if it needs `programming` and that is absent, of another shape, or without a spread.
        """
        start = np.asarray(conductance)
        if start.dtype not in (np.float32, np.float64):
            raise InputError(f"conductance must be float32 or float64, got type {start.dtype}")
        if start.size and not (np.isfinite(start).all() and start.min() >= 0):
            worst = start[~(np.isfinite(start) & (start >= 0))][0]
            raise InputError(f"conductance must be finite and >= 0 S, got {float(worst)!r}")
        seconds = self.check_seconds(seconds)
        check_instance("rng", rng, np.random.Generator)
        result = start.copy()
        if seconds == 0:
            return result
        if self.needs_programming:
            if programming is None:
                raise InputError(f"programming must be given for {type(self).__name__}, got None")
            for name in ("target", "bias", "spread", "score"):
                array = getattr(programming, name)
                if array is not None and array.shape != start.shape:
                    raise InputError(f"programming.{name} must have shape {start.shape}, got {array.shape}")
            if start.size and not programming.spread.min() > 0:
                raise InputError(f"programming.spread must be > 0 S, got {float(programming.spread.min())!r}")
        flat = result.reshape(-1)
        for first in range(0, flat.size, _CHUNK):
            here = slice(first, first + _CHUNK)
            part = flat[here]
            scores = rng.standard_normal((self.scores, part.size), dtype=np.float32).astype(np.float64)
            chunk = None
            if programming is not None:
                chunk = Programming(
                    target=programming.target.reshape(-1)[here],
                    bias=programming.bias.reshape(-1)[here],
                    spread=programming.spread.reshape(-1)[here],
                    score=None if programming.score is None else programming.score.reshape(-1)[here],
                )
            part[:] = np.maximum(self.later(part.astype(np.float64), seconds, scores, chunk), 0.0)
        return result

    @entrance
    def moments(self, conductance: npt.ArrayLike, seconds: float) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of what the law describes, before it is stopped at zero conductance.

        Parameters
        ----------
        conductance
            Where the law is asked, S, shape ``(cells,)``.
        seconds
            Since the reference time, s.

        Returns
        -------
        tuple of ndarray
            S, shape ``(cells,)`` each.
        """
        raise NotImplementedError


def check_ends(law: Drift) -> None:
    """Hold the reference time and the range of a law of drift to their bounds."""
    object.__setattr__(law, "reference_time", check_real("reference_time", law.reference_time, above=0.0))
    object.__setattr__(law, "valid_from", check_real("valid_from", law.valid_from, at_least=0.0))
    object.__setattr__(law, "valid_to", check_real("valid_to", law.valid_to, above=law.valid_from))


@dataclass(frozen=True, kw_only=True)
class LogarithmicDrift(Drift):
    """A random walk in the logarithm of time: mean and variance of the change grow by the same amount every decade.

    Attributes
    ----------
    spread
        Standard deviation of the change after one decade (``10 * reference_time`` after programming), S.
    shift
        Its mean for each decade, S, or ``None`` for zero. Its ``minimum`` must be ``-inf``: a shift may be negative.
    reference_time, valid_from, valid_to
        As in :class:`Drift`.
    valid_seconds
        The most seconds it holds for, s.
    """

    spread: Polynomial
    shift: Polynomial | None = None
    reference_time: float = 1.0
    valid_from: float
    valid_to: float
    valid_seconds: float

    def __post_init__(self) -> None:
        check_spread(self.spread)
        check_instance("shift", self.shift, (Polynomial, type(None)))
        if self.shift is not None and self.shift.minimum != -math.inf:
            raise InputError(f"shift.minimum must be -inf (a shift may be negative), got {self.shift.minimum!r}")
        check_ends(self)
        object.__setattr__(self, "valid_seconds", check_real("valid_seconds", self.valid_seconds, above=0.0))

    @property
    def longest(self) -> float:
        """`valid_seconds`."""
        return self.valid_seconds

    @property
    def scores(self) -> int:
        """One for each decade."""
        return math.floor(self._decades(self.valid_seconds)) + 1

    def _decades(self, seconds: float) -> float:
        return math.log1p(seconds / self.reference_time) / math.log(10.0)

    @entrance
    def later(
        self, conductance: FloatArray, seconds: float, scores: FloatArray, programming: Programming | None = None
    ) -> FloatArray:
        """A score for each whole decade, and the square root of the rest of one."""
        decades = self._decades(seconds)
        whole = math.floor(decades)
        walk: FloatArray = scores[:whole].sum(axis=0) + math.sqrt(decades - whole) * scores[whole]
        held = np.clip(conductance, self.valid_from, self.valid_to)
        moved = conductance + self.spread(held) * walk
        return moved if self.shift is None else moved + self.shift(held) * decades

    @entrance
    def moments(self, conductance: npt.ArrayLike, seconds: float) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the change."""
        decades = self._decades(self.check_seconds(seconds))
        held = np.clip(np.asarray(conductance, dtype=np.float64), self.valid_from, self.valid_to)
        mean = np.zeros(held.shape) if self.shift is None else self.shift(held) * decades
        return mean, self.spread(held) * math.sqrt(decades)

    def __str__(self) -> str:
        return f"random walk in log time from {self.reference_time:g} s on, for {self.valid_seconds:g} s"


@dataclass(frozen=True, kw_only=True)
class DriftStep:
    """The distribution of the error of programmed cells at one time.

    Attributes
    ----------
    seconds
        Since the reference time, s.
    correlation
        Correlation, 0 to 1, of the cells' normal scores here with those at the step before (at the reference time for
        the first).
    error
        Quantiles of (conductance - target), S: for each target, at each probability of the law.
    """

    seconds: float
    correlation: float
    error: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", check_real("seconds", self.seconds, above=0.0))
        correlation = check_real("correlation", self.correlation, at_least=0.0, at_most=1.0)
        object.__setattr__(self, "correlation", correlation)
        check_instance("error", self.error, tuple)
        rows = []
        for g, row in enumerate(self.error):
            check_instance(f"error[{g}]", row, tuple)
            numbers = tuple(check_real(f"error[{g}][{p}]", value) for p, value in enumerate(row))
            _check_rising(f"error[{g}]", numbers, strictly=False)
            rows.append(numbers)
        object.__setattr__(self, "error", tuple(rows))


@dataclass(frozen=True, kw_only=True)
class MeasuredDrift(Drift):
    """Measured errors of programmed cells at several times: shift, spread, skew and tails, by target.

    A cell has a normal score at every step. At the reference time it is its programming error, by the normal law that
    it was drawn from (also where that law reaches below zero conductance, at which the cell itself was stopped); at
    each step it is correlated with the one before. The score's probability picks the quantile of
    the error. So at every step the errors of a die are those measured, whatever they were before, and a cell far from
    its target at one time tends to be so at the next.

    Between targets quantiles are interpolated linearly. Between steps so are the errors of one score, in log time, and
    the correlation with the step before falls linearly; the score stays normal, and a trajectory is continuous.

    Attributes
    ----------
    target
        Nodes, rising, S.
    probability
        Nodes from 0 to 1, rising.
    steps
        By rising time.
    reference_time, valid_from, valid_to
        As in :class:`Drift`; the range is that of targets.
    """

    target: tuple[float, ...]
    probability: tuple[float, ...]
    steps: tuple[DriftStep, ...]
    reference_time: float = 1.0
    valid_from: float
    valid_to: float

    needs_programming: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_ends(self)
        for name, least in (("target", 1), ("probability", 2)):
            values = getattr(self, name)
            check_instance(name, values, tuple)
            if len(values) < least:
                raise InputError(f"{name} must hold at least {least} numbers, got {len(values)}")
            values = tuple(check_real(f"{name}[{i}]", value, at_least=0.0) for i, value in enumerate(values))
            _check_rising(name, values, strictly=True)
            object.__setattr__(self, name, values)
        if (self.probability[0], self.probability[-1]) != (0.0, 1.0):
            raise InputError(
                f"probability must run from 0 to 1, got {self.probability[0]!r} to {self.probability[-1]!r}"
            )
        check_instance("steps", self.steps, tuple)
        if not self.steps:
            raise InputError("steps must hold at least one step, got ()")
        shape = (len(self.target), len(self.probability))
        for index, step in enumerate(self.steps):
            check_instance(f"steps[{index}]", step, DriftStep)
            if len(step.error) != shape[0]:
                raise InputError(
                    f"steps[{index}].error must hold {shape[0]} rows, one for each target, got {len(step.error)}"
                )
            for g, row in enumerate(step.error):
                if len(row) != shape[1]:
                    raise InputError(
                        f"steps[{index}].error[{g}] must hold {shape[1]} quantiles, one for each probability, "
                        f"got {len(row)}"
                    )
        _check_rising("seconds of the steps", tuple(step.seconds for step in self.steps), strictly=True)

    @property
    def longest(self) -> float:
        """Seconds of the last step."""
        return self.steps[-1].seconds

    @property
    def scores(self) -> int:
        """One for each step."""
        return len(self.steps)

    def _place(self, seconds: float) -> tuple[int, float]:
        """The step at or behind `seconds`, and how far the way to it has been gone in log time, above 0 to 1."""
        index = next(i for i, step in enumerate(self.steps) if seconds <= step.seconds)
        before = 0.0 if index == 0 else self.steps[index - 1].seconds
        now, first, last = (math.log1p(s / self.reference_time) for s in (seconds, before, self.steps[index].seconds))
        return index, (now - first) / (last - first)

    def _errors(self, index: int, target: FloatArray, probability: FloatArray, mix: float) -> FloatArray:
        """Errors at a step, mixed with those of the step before by 1 - `mix`; arrays of shape ``(cells,)``."""
        nodes, chances = np.asarray(self.target), np.asarray(self.probability)
        table = mix * np.asarray(self.steps[index].error)
        if mix != 1.0:
            table = table + (1.0 - mix) * np.asarray(self.steps[index - 1].error)
        rise = np.append(np.diff(table), np.zeros((len(table), 1)), axis=1).reshape(-1)
        flat = table.reshape(-1)
        column, column_part = _between(chances, probability)
        corners = [(column, np.ones(1))]  # places in the table, and their shares
        if len(nodes) > 1:
            row, row_part = _between(nodes, target)
            place = row * len(chances) + column
            corners = [(place, 1.0 - row_part), (place + len(chances), row_part)]
        errors = np.zeros(probability.shape)
        for place, share in corners:
            errors += (flat.take(place) + rise.take(place) * column_part) * share
        return errors

    @entrance
    def later(
        self, conductance: FloatArray, seconds: float, scores: FloatArray, programming: Programming | None
    ) -> FloatArray:
        """The error that each cell's score picks, added to its target."""
        assert programming is not None
        index, gone = self._place(seconds)
        score = programming.score
        if score is None:
            score = (conductance - programming.target - programming.bias) / programming.spread
        for step in range(index + 1):
            share = gone if step == index else 1.0
            kept = 1.0 - (1.0 - self.steps[step].correlation) * share
            score = kept * score + math.sqrt(1.0 - kept**2) * scores[step]
        first = index == 0  # then the law before is that of programming
        error = self._errors(index, programming.target, ndtr(score), 1.0 if first else gone)
        if first:
            error = gone * error + (1.0 - gone) * (programming.bias + programming.spread * score)
        return programming.target + error

    @entrance
    def moments(self, conductance: npt.ArrayLike, seconds: float) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of (conductance - target) at targets, from the first step on.

        Raises
        ------
        InputError
            If `seconds` is before the first step: what the errors are then depends on the programming error.
        """
        seconds = check_real("seconds", seconds, at_least=self.steps[0].seconds, at_most=self.longest)
        target = np.asarray(conductance, dtype=np.float64)
        index, gone = self._place(seconds)
        chances = np.asarray(self.probability)
        cells = np.broadcast_to(target[:, np.newaxis], (target.size, chances.size))
        quantiles = self._errors(index, cells.reshape(-1), np.broadcast_to(chances, cells.shape).reshape(-1), gone)
        return quantile_moments(quantiles.reshape(cells.shape), chances)

    def __str__(self) -> str:
        times = ", ".join(f"{step.seconds:g}" for step in self.steps)
        return f"errors measured {times} s after those of programming"


def quantile_moments(quantiles: FloatArray, probability: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of laws whose quantiles are straight lines between those given, last axis."""
    left, right, share = quantiles[..., :-1], quantiles[..., 1:], np.diff(probability)
    mean = ((left + right) / 2) @ share
    square = ((left**2 + left * right + right**2) / 3) @ share
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0))


def _check_rising(name: str, values: tuple[float, ...], *, strictly: bool) -> None:
    for index, (left, right) in enumerate(itertools.pairwise(values)):
        if right < left or (strictly and right == left):
            raise InputError(
                f"{name} must {'rise' if strictly else 'not fall'}, got {left!r} and then {right!r} at {index + 1}"
            )


def _between(nodes: FloatArray, values: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The node below each value and how far it is on the way to the next; the ends hold beyond them."""
    below = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, len(nodes) - 2)
    part = (values - nodes.take(below)) * (1.0 / np.diff(nodes)).take(below)
    return below, np.clip(part, 0.0, 1.0)
