"""Drift as the distribution of errors itself, at every time that cells were read: for changes of no simple form.

The quantiles of the error in groups of cells by target are kept, at every step of time. Between them the distribution
is a straight line, which is a little too wide where few cells go far. So the last quantile at either end is placed to
give these cells their mean, and then all are stretched and moved by what it takes for the group's mean and standard
deviation to be those measured.

How one time hangs together with the next is kept as the correlation of normal scores, from Spearman's rank correlation
of the errors within groups. A law of the change alone would not do: cells that strayed at first tend to come back, and
the errors of a die would grow too fast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xbarsim.devices.drift import DriftStep, MeasuredDrift, quantile_moments
from xbarsim.devices.fitting.laws import moments_with_errors, rounded
from xbarsim.devices.fitting.states import States
from xbarsim.foundation.validation import InputError

__all__ = ["PROBABILITIES", "QuantileEstimate", "Trajectories", "held_out", "quantile_drift", "quantiles", "residuals"]

Array = npt.NDArray[np.float64]

PROBABILITIES = (0.0, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 1.0)
"""Where the quantiles of the error are kept."""

_FEWEST = 40  # cells of a group: four in each tenth
_FEWEST_IN_HALVES = 15
_MERGED = 60  # cells that neighbouring levels are put together for, so that half of them are a group still
_MOST_GROUPS = 24
_READ_BY = 0.5  # steps that fewer of the cells were read at are left out


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectories:
    """Cells read at a reference time and later.

    Attributes
    ----------
    target, start
        Target, and conductance at the reference time, S, shape ``(cells,)``.
    later
        Conductance at each later time, S, shape ``(cells, times)``; NaN where a cell was not read.
    seconds
        Of each later time, since the reference time, s, shape ``(times,)``.
    group
        Number of each cell's group by target, from 0, rising with it; -1 for one that is left out. Shape ``(cells,)``.
    groups
        How many groups there are.
    order
        By this the cells are dealt into two halves, shape ``(cells,)``.
    """

    target: Array
    start: Array
    later: Array
    seconds: Array
    group: npt.NDArray[np.int64]
    groups: int
    order: Array

    def part(self, which: npt.NDArray[np.bool_]) -> Trajectories:
        """The cells chosen by `which`."""
        return replace(self, **{
            name: getattr(self, name)[which] for name in ("target", "start", "later", "group", "order")
        })  # fmt: skip

    @property
    def error(self) -> Array:
        """Conductance minus target, S, shape ``(cells, times)``."""
        return self.later - self.target[:, np.newaxis]


def _nodes(error: Array) -> tuple[float, ...]:
    """Quantiles of a sample at `PROBABILITIES`, adjusted so that straight lines between them have its two moments."""
    ordered = np.sort(error)
    nodes = np.quantile(ordered, PROBABILITIES)
    for end, inner, share in ((0, 1, PROBABILITIES[1]), (-1, -2, 1.0 - PROBABILITIES[-2])):
        count = share * len(ordered)  # cells in the tail, the last of them by its part
        tail = ordered if end == 0 else ordered[::-1]
        whole = math.floor(count)
        mean = (tail[:whole].sum() + (count - whole) * tail[whole]) / count
        moved = 2.0 * mean - nodes[inner]
        nodes[end] = min(moved, nodes[inner]) if end == 0 else max(moved, nodes[inner])
    mean, spread = quantile_moments(nodes, np.array(PROBABILITIES))
    nodes = error.mean() + (nodes - mean) * (error.std() / spread)
    return tuple(rounded(float(value), 3) for value in nodes)


def quantile_drift(
    cells: Trajectories, *, reference_time: float, valid_from: float, valid_to: float, fewest: int = _FEWEST
) -> MeasuredDrift:
    """The drift that these cells show.

    Parameters
    ----------
    cells
        The cells.
    reference_time
        Of their start, after programming, s.
    valid_from, valid_to
        The range of targets, S.
    fewest
        The least cells of a group at a time.

    Raises
    ------
    InputError
        If a group of cells is smaller.
    """
    which, errors, count = cells.group, cells.error, cells.groups
    present = np.isfinite(errors)
    least = min(int(present[which == g].sum(axis=0).min()) for g in range(count))
    if least < fewest:
        raise InputError(f"the data must hold at least {fewest} cells in each group and time, got {least}")
    from scipy import stats  # takes a second to load, which few need

    every = np.column_stack([cells.start - cells.target, errors])  # from the reference time on
    steps = []
    for index, seconds in enumerate(cells.seconds):
        both = np.isfinite(every[:, index]) & present[:, index] & (which >= 0)
        ranks = np.empty((int(both.sum()), 2))
        for g in range(count):
            here = which[both] == g
            size = int(here.sum())
            for column in (0, 1):
                ranks[here, column] = (stats.rankdata(every[both][here, index + column]) - (size + 1) / 2) / size
        spearman = float(np.asarray(np.corrcoef(ranks.T))[0, 1])
        rows = tuple(_nodes(errors[(which == g) & present[:, index], index]) for g in range(count))
        correlation = max(0.0, 2.0 * math.sin(math.pi * spearman / 6.0))
        steps.append(DriftStep(seconds=float(seconds), correlation=rounded(correlation, 3), error=rows))
    return MeasuredDrift(
        target=tuple(rounded(float(cells.target[which == g].mean()), 4) for g in range(count)),
        probability=PROBABILITIES,
        steps=tuple(steps),
        reference_time=reference_time,
        valid_from=valid_from,
        valid_to=valid_to,
    )


def residuals(drift: MeasuredDrift, other: Trajectories) -> tuple[Array, Array, Array]:
    """Mean and spread of the error of each group of `other`, what the law gives the same cells, and errors of chance.

    Each of shape (2, groups, times): mean and spread; the last as standard errors, from the fourth moment.
    """
    which, errors = other.group, other.error
    shape = (2, other.groups, len(other.seconds))
    measured, modelled, chance = np.empty(shape), np.empty(shape), np.empty(shape)
    for index, seconds in enumerate(other.seconds):
        for g in range(shape[1]):
            here = (which == g) & np.isfinite(errors[:, index])
            sample = errors[here, index]
            means, spreads = drift.moments(other.target[here], float(seconds))
            modelled[:, g, index] = means.mean(), math.sqrt(float((spreads**2).mean() + means.var()))
            spread = sample.std(ddof=1)
            fourth = float(np.mean((sample - sample.mean()) ** 4))
            measured[:, g, index] = sample.mean(), spread
            chance[0, g, index] = spread / math.sqrt(sample.size)
            chance[1, g, index] = math.sqrt((fourth / spread**4 - 1) / sample.size) * spread / 2
    return measured, modelled, chance


def held_out(
    cells: Trajectories, *, reference_time: float, valid_from: float, valid_to: float, fewest: int = _FEWEST
) -> tuple[Array, Array]:
    """What one half of the cells show minus what the law of the other half says, and the error that chance alone makes.

    Both of shape (2, groups, times), S: mean and spread. Arguments and errors as of :func:`quantile_drift`.
    """
    half = np.empty(len(cells.start), dtype=bool)
    half[np.argsort(cells.order, kind="stable")] = np.arange(len(half)) % 2 == 0
    one, other = cells.part(half), cells.part(~half)
    laws = [
        quantile_drift(part, reference_time=reference_time, valid_from=valid_from, valid_to=valid_to, fewest=fewest)
        for part in (one, other)
    ]
    shown, said, chance = residuals(laws[0], other)
    _, _, chance_of_fit = residuals(laws[1], one)
    return shown - said, np.hypot(chance, chance_of_fit)


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantileEstimate:
    """Drift as quantiles of the error, and how well they foretell cells that they were not made of.

    Attributes
    ----------
    law
        The drift.
    reference_time
        s after programming.
    seconds
        Time of each step after programming, s, from the reference time on, shape ``(steps,)``.
    cells
        How many states were read at each step.
    mean_residual, spread_residual
        At each step, root mean square over groups: what half of the cells show minus what the law of the other half
        says, S.
    sampling_error
        What chance alone gives these two at the last step, S.
    mean, mean_error, deviation, deviation_error
        Of the error over all states, S, shape ``(steps,)``.
    mean_law, deviation_law
        What the law says of them, S, shape ``(steps,)``.
    left_out
        Steps that too few cells were read at.
    """

    law: MeasuredDrift
    reference_time: float
    seconds: Array
    cells: tuple[int, ...]
    mean_residual: tuple[float, ...]
    spread_residual: tuple[float, ...]
    sampling_error: tuple[float, float]
    mean: Array
    mean_error: Array
    deviation: Array
    deviation_error: Array
    mean_law: Array
    deviation_law: Array
    left_out: int


def quantiles(states: States, reference: int, low: float, high: float) -> QuantileEstimate | str:
    """Drift of states since a step as quantiles of the error, or why there is none.

    Parameters
    ----------
    states
        Programmed states.
    reference
        The step that drift counts from.
    low, high
        The range of targets, S.
    """
    if states.seconds[reference] <= 0 or reference + 1 >= len(states.seconds):
        return "no later reads of the same cells, at known times after the first that counts"
    known = (states.group >= 0) & np.isfinite(states.mean[:, reference])
    if not known.any():
        return "no reading has a target or a level"
    after = np.arange(reference + 1, len(states.seconds))
    read = np.isfinite(states.mean[known][:, after]).sum(axis=0)
    used = after[read >= _READ_BY * known.sum()]
    if not used.size:
        return "no later time at which half of the cells were read"
    known &= np.isfinite(states.mean[:, used]).any(axis=1)
    later = states.mean[known][:, used]
    group = _merged(states.group[known], np.isfinite(later))
    if group is None:
        return f"{int(known.sum())} states were read again later, and {_MERGED} are needed at each time"
    since = np.array([rounded(float(s - states.seconds[reference]), 3) for s in states.seconds[used]])
    cells = Trajectories(
        target=states.target[known], start=states.mean[known, reference], later=later, seconds=since, group=group,
        groups=int(group.max()) + 1,
        order=states.mean[known, reference],
    )  # fmt: skip
    asked = {"reference_time": rounded(float(states.seconds[reference])), "valid_from": low, "valid_to": high}
    law = quantile_drift(cells, **asked, fewest=_MERGED)
    rest, chance = (np.sqrt(np.mean(part**2, axis=1)) for part in held_out(cells, **asked, fewest=_FEWEST_IN_HALVES))
    samples = [column[np.isfinite(column)] for column in cells.error.T]
    mean, mean_error, deviation, deviation_error = moments_with_errors(samples)
    said = []
    for index, seconds in enumerate(since):
        means, spreads = law.moments(cells.target[np.isfinite(later[:, index])], float(seconds))
        said.append((float(means.mean()), math.sqrt(float((spreads**2).mean() + means.var()))))
    return QuantileEstimate(
        law=law,
        reference_time=float(states.seconds[reference]),
        seconds=states.seconds[used],
        cells=tuple(int(sample.size) for sample in samples),
        mean_residual=tuple(rounded(float(value), 3) for value in rest[0]),
        spread_residual=tuple(rounded(float(value), 3) for value in rest[1]),
        sampling_error=(rounded(float(chance[0, -1]), 3), rounded(float(chance[1, -1]), 3)),
        mean=mean,
        mean_error=mean_error,
        deviation=deviation,
        deviation_error=deviation_error,
        mean_law=np.array([each[0] for each in said]),
        deviation_law=np.array([each[1] for each in said]),
        left_out=len(after) - len(used),
    )


def _merged(group: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64] | None:
    """Neighbouring levels put together until each group has cells enough at every time; ``None`` if all have not."""
    count = np.stack([np.bincount(group, column, minlength=int(group.max()) + 1) for column in present.T.astype(float)])
    wanted = max(_MERGED, math.ceil(count.min(axis=0).sum() / _MOST_GROUPS))
    number, place, total = np.zeros(count.shape[1], dtype=np.int64), 0, np.zeros(len(count))
    for level in range(count.shape[1]):
        number[level] = place
        total += count[:, level]
        if total.min() >= wanted:
            place, total = place + 1, np.zeros(len(count))
    if place == 0:
        return None
    number = np.minimum(number, place - 1)  # what is left over at the top goes to the last group
    return np.asarray(number[group])
