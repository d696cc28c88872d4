"""What is estimated from states: programming error, read noise and drift, each as laws of conductance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.devices.fitting.laws import Law, fit_law, moments_with_errors
from xbarsim.devices.fitting.states import States

__all__ = ["DriftEstimate", "ErrorEstimate", "drift", "programming_error", "read_noise"]

FloatArray = npt.NDArray[np.float64]

_FEWEST = 3  # states of a group that a spread is taken from
_FEWEST_REPEATS = 10  # degrees of freedom of all repeated reads together
_FEWEST_TRAJECTORIES = 10
_BINS = 32
_BETWEEN = 10  # states whose variances tell how uncertain their mean is


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorEstimate:
    """The programming error.

    Attributes
    ----------
    bias, spread
        Laws of mean and standard deviation of (conductance - target).
    cells
        How many programmed states they are of.
    beyond
        Share of them that lie more than three standard deviations from the mean of their group; 0.27 % by the normal
        law.
    noise_removed
        Largest share of a group's variance that was the noise of the reads, and was taken off.
    few
        How many states belong to groups of fewer than 3, and are not used.
    """

    bias: Law
    spread: Law
    cells: int
    beyond: float
    noise_removed: float
    few: int


@dataclass(frozen=True, kw_only=True, eq=False)
class DriftEstimate:
    """The drift, as a random walk in log time.

    Attributes
    ----------
    shift, spread
        Laws of the mean change a decade and of the standard deviation after one, S.
    reference_time
        s after programming.
    seconds
        Time of each step after programming, s, from the reference time on, shape ``(steps,)``.
    cells
        How many states were read at each step and at the reference time, shape ``(steps,)``.
    mean, mean_error, deviation, deviation_error
        Of the change since the reference time over all states, S, shape ``(steps,)``.
    mean_law, deviation_law
        What the laws say of them, with the noise of the reads, S, shape ``(steps,)``.
    noise_known
        Whether the variance that does not grow with time could be told from that which does.
    """

    shift: Law
    spread: Law
    reference_time: float
    seconds: FloatArray
    cells: tuple[int, ...]
    mean: FloatArray
    mean_error: FloatArray
    deviation: FloatArray
    deviation_error: FloatArray
    mean_law: FloatArray
    deviation_law: FloatArray
    noise_known: bool


def programming_error(states: States, step: int, scale: float, noise: Law | None) -> ErrorEstimate | str:
    """Bias and spread of (conductance - target) at a step, or why there is none.

    The states of a group are reads of different cells, or of one cell programmed again, so that both variations are in
    the spread. Where the noise of a read is known, its part of the variance, over the number of reads that were
    averaged, is taken off: a simulated read adds it anew.

    Parameters
    ----------
    states
        Programmed states.
    step
        The step at which they are looked at.
    scale
        The conductance that counts as 1 in the laws, S.
    noise
        Of a read, or ``None`` where it is not known.
    """
    here = np.isfinite(states.mean[:, step]) & (states.group >= 0)
    if not here.any():
        return "no reading has a target or a level"
    error = states.mean[here, step] - states.target[here]
    group, reads, target = states.group[here], states.count[here, step], states.target[here]
    sizes = np.bincount(group)
    used = np.flatnonzero(sizes >= _FEWEST)
    if not used.size:
        return f"no level has {_FEWEST} programmed states, from which a spread could be taken"
    samples = [error[group == g] for g in used]
    aim = np.array([target[group == g].mean() for g in used])
    count = sizes[used].astype(float)
    bias, bias_error, spread, spread_error = moments_with_errors(samples)
    if not (spread > 0).all():
        return "the readings of a level are all the same"
    beyond = np.mean(np.abs(np.concatenate([(s - s.mean()) / s.std(ddof=1) for s in samples])) > 3)
    value, uncertainty, removed = spread, spread_error, 0.0
    if noise is not None:
        of_read = np.array([np.mean(noise.polynomial(np.maximum(aim[k], 0)) ** 2 / reads[group == g])
                            for k, g in enumerate(used)])  # fmt: skip
        removed = float(np.max(of_read / spread**2))
        left = np.maximum(spread**2 - of_read, 0.0)
        if not left.any():
            return "the spread of the programmed states is that of the noise of their reads"
        value = np.sqrt(left)
        # the error of a root of a difference; of one near 0 that of the difference itself
        uncertainty = spread_error * np.where(value > spread_error, spread / np.maximum(value, spread_error), 1.0)
    weight = np.sqrt(count) / spread
    return ErrorEstimate(
        bias=fit_law(aim, bias, bias_error, weight, count=count, scale=scale, positive=False),
        spread=fit_law(aim, value, uncertainty, weight, count=count, scale=scale, positive=True),
        cells=int(count.sum()),
        beyond=float(beyond),
        noise_removed=removed,
        few=int(sizes.sum() - count.sum()),
    )


def read_noise(states: States, scale: float) -> Law | str:
    """Standard deviation of reads that were repeated, against conductance, or why there is none.

    Reads of one programmed state at one step of time scatter by their noise alone. Their variances are pooled by group
    of equal targets, or of neighbouring conductances where there are no targets, by degrees of freedom.
    """
    freedom = states.freedom
    repeated = freedom > 0
    if freedom.sum() < _FEWEST_REPEATS:
        return (
            f"repeated reads of one programmed state at one time leave {int(freedom.sum())} degrees of freedom, "
            f"fewer than {_FEWEST_REPEATS}"
        )
    conductance, square, free = states.mean[repeated], states.square[repeated], freedom[repeated].astype(float)
    group = np.broadcast_to(states.group[:, np.newaxis], repeated.shape)[repeated]
    if (group < 0).any():  # neighbouring conductances instead
        bins = int(np.clip(len(conductance) // _FEWEST, 1, _BINS))
        group = np.argsort(np.argsort(conductance, kind="stable"), kind="stable") * bins // len(conductance)
    group = np.unique(group, return_inverse=True)[1]
    total = np.bincount(group, free)
    variance = np.bincount(group, square) / total
    at = np.bincount(group, free * conductance) / total
    number = np.bincount(group)
    if not (variance > 0).all():
        return "repeated reads are all the same at some conductance"
    between = np.sqrt(np.bincount(group, (square - free * variance[group]) ** 2)) / total
    error_of_variance = np.where(number >= _BETWEEN, between, variance * np.sqrt(2 / total))
    order = np.argsort(at)
    value = np.sqrt(variance)
    return fit_law(
        at[order], value[order], (error_of_variance / (2 * value))[order], (np.sqrt(2 * total) / value)[order],
        count=(total + number)[order].astype(np.float64), scale=scale, positive=True,
    )  # fmt: skip


def drift(states: States, reference: int, scale: float, noise: Law | None) -> DriftEstimate | str:
    """Change of states since a step, by decade of time, or why there is none.

    The change of a state has the mean ``shift * x`` and the variance ``spread**2 * x + c`` at ``x`` decades after the
    reference time. The constant c is twice the variance of a read; where that is not known it is fitted too, if there
    are at least two later steps, and otherwise stays in the spread. Both are fitted to the moments of each group at all
    steps by least squares, each by its number of states (variances by that over the square of x). Errors are those of a
    jackknife over the states, for the steps of one hang together.
    """
    last = len(states.seconds)
    if states.seconds[reference] <= 0 or reference + 1 >= last:
        return "no later reads of the same cells, at known times after the first that counts"
    steps = np.arange(reference, last)
    seconds = states.seconds[steps]
    decades = np.log10(seconds / seconds[0])[1:]
    change = states.mean[:, steps[1:]] - states.mean[:, [reference]]
    whole = np.isfinite(change).any(axis=1)
    if (states.group >= 0).any():
        whole &= states.group >= 0
    if whole.sum() < _FEWEST_TRAJECTORIES:
        return f"{int(whole.sum())} states were read again later, fewer than {_FEWEST_TRAJECTORIES}"
    change, start = change[whole], states.mean[whole, reference]
    reads = states.count[whole]
    group = states.group[whole]
    if (group < 0).any():
        bins = int(np.clip(len(start) // _FEWEST_TRAJECTORIES, 1, _BINS))
        group = np.argsort(np.argsort(start, kind="stable"), kind="stable") * bins // len(start)
    sizes = np.bincount(group)
    used = np.flatnonzero(sizes >= _FEWEST)
    if not used.size:
        return f"no level has {_FEWEST} states that were read again later"
    at = np.array([start[group == g].mean() for g in used])
    enough = np.isfinite(change[np.isin(group, used)]).sum(axis=0) >= _FEWEST
    if not enough.any():
        return f"no later time at which {_FEWEST} states were read"
    change, decades, steps = change[:, enough], decades[enough], np.append(reference, steps[1:][enough])
    seconds = states.seconds[steps]
    fixed = np.zeros(change.shape)
    known = noise is not None or len(decades) > 1
    if noise is not None:
        single = noise.polynomial(np.maximum(start, 0.0)) ** 2
        with np.errstate(divide="ignore"):
            fixed = single[:, None] * (1 / reads[:, [reference]] + 1 / reads[:, steps[1:]])
    walks = [walk(change[group == g], fixed[group == g], decades, constant=noise is None and len(decades) > 1)
             for g in used]  # fmt: skip
    shift, shift_error, spread, spread_error, constant = np.array(walks).T
    if not (spread > 0).any():
        return "what changes with time is not more than the noise of the reads"
    count = sizes[used].astype(float)
    order = np.argsort(at)
    laws = [
        fit_law(at[order], value[order], error[order], _weight(error)[order], count=count[order],
                scale=scale, positive=positive)
        for value, error, positive in ((shift, shift_error, False), (spread, spread_error, True))
    ]  # fmt: skip
    present = np.isfinite(change) & np.isin(group, used)[:, None]
    columns = [change[present[:, j], j] for j in range(len(decades))]
    mean, mean_error, deviation, deviation_error = moments_with_errors(columns)
    means, deviations = np.empty(len(decades)), np.empty(len(decades))
    of_group = np.zeros(sizes.size)
    of_group[used] = constant
    for j, x in enumerate(decades.tolist()):
        who = present[:, j]
        by_law = laws[0].polynomial(start[who]) * x
        rest = fixed[who, j] + of_group[group[who]]
        means[j] = by_law.mean()
        deviations[j] = math.sqrt(float(np.mean(laws[1].polynomial(start[who]) ** 2 * x + rest) + by_law.var()))
    return DriftEstimate(
        shift=laws[0], spread=laws[1], reference_time=float(seconds[0]), seconds=seconds[1:],
        cells=tuple(int(column.size) for column in columns), mean=mean, mean_error=mean_error, deviation=deviation,
        deviation_error=deviation_error, mean_law=means, deviation_law=deviations, noise_known=known,
    )  # fmt: skip


def _weight(error: FloatArray) -> FloatArray:
    """One over the errors, none far below the others: what the jackknife finds is uncertain too."""
    return np.asarray(1.0 / np.maximum(error, max(float(np.median(error)) / 2, 1e-30)))


def walk(
    change: FloatArray, fixed: FloatArray, decades: FloatArray, *, constant: bool
) -> tuple[float, float, float, float, float]:
    """The random walk in log time that the changes of some states show.

    Parameters
    ----------
    change
        Since the reference time, S, shape ``(states, steps)``; NaN where a state was not read.
    fixed
        Variance of each that is known and does not grow, S^2, of the same shape.
    decades
        Since the reference time, shape ``(steps,)``, rising.
    constant
        Whether a variance that does not grow is to be found besides.

    Returns
    -------
    tuple of float
        Mean a decade and its standard error, standard deviation after one decade and its standard error, S; the
        constant variance, S^2. Errors are those of the jackknife, one state left out at a time.
    """
    present = np.isfinite(change).astype(np.float64)
    count = present.sum(axis=0)
    use = count >= _FEWEST
    if not use.any():
        return 0.0, 0.0, 0.0, 0.0, 0.0
    present, x = present[:, use], decades[use]
    centre = np.nanmean(change[:, use], axis=0)
    values = np.where(present > 0, change[:, use] - centre, 0.0)
    known = np.where(present > 0, fixed[:, use], 0.0)
    # all states, and below that all but one of them
    left = np.concatenate([np.zeros((1, len(x))), present])
    n = present.sum(axis=0) - left
    first, square, taken = (
        part.sum(axis=0) - np.concatenate([np.zeros((1, len(x))), part]) for part in (values, values**2, known)
    )
    mean = centre + first / n
    variance = (square - first**2 / n) / (n - 1) - taken / n
    shift = (n * mean).sum(axis=1) / (n * x).sum(axis=1)
    weight = n / x**2
    free, held = _line(x, variance, weight, constant=constant and len(x) > 1)
    states = len(change)
    errors = [math.sqrt((states - 1) * float(np.var(each[1:]))) for each in (shift, free)]
    spread = math.sqrt(max(float(free[0]), 0.0))
    # of a root; where the variance is hardly there, the root of its error
    spread_error = errors[1] / (2 * max(spread, math.sqrt(errors[1]) / 2)) if errors[1] else 0.0
    return float(shift[0]), errors[0], spread, spread_error, max(float(held[0]), 0.0)


def _line(x: FloatArray, variance: FloatArray, weight: FloatArray, *, constant: bool) -> tuple[FloatArray, FloatArray]:
    """Slope and constant of each row of variances by weighted least squares.

    Where one of the two would be negative, the best line without it is taken: the least squares under that bound. A
    slope without a constant may be negative, so that its error is known.
    """
    a11, a12, a22 = ((weight * x**power).sum(axis=1) for power in (2, 1, 0))
    b1, b2 = (weight * x * variance).sum(axis=1), (weight * variance).sum(axis=1)
    alone = b1 / a11
    if not constant:
        return alone, np.zeros(len(alone))
    determinant = a11 * a22 - a12**2
    slope, offset = (b1 * a22 - b2 * a12) / determinant, (b2 * a11 - b1 * a12) / determinant
    flat = (slope < 0) & (offset >= 0)
    through_zero = offset < 0
    return (
        np.where(through_zero, alone, np.where(flat, 0.0, slope)),
        np.where(through_zero, 0.0, np.where(flat, b2 / a22, offset)),
    )
