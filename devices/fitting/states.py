"""Readings put in order: which are of one programmed state, at which time, of which level."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.devices.fitting.readings import Readings
from xbarsim.foundation.validation import InputError

__all__ = ["Levels", "States", "find_levels"]

FloatArray = npt.NDArray[np.float64]
IntegerArray = npt.NDArray[np.int64]

_STEP = 2.0  # times within this factor of the first of them are one step
_REPEAT = 1.1  # and within this, reads of one programmed state repeat each other
_SAME = 1e-6  # relative: targets that are one
_MOST_LEVELS = 256  # of a cell; more targets than that are a continuum
_BINS = 32  # groups that a continuum of targets is cut into
_CELLS_A_BIN = 30
_STUCK = 0.1  # a cell that moves by less than this share of what it is told is stuck
_FAR = 0.5  # of the range of targets: cells told to move by less may seem stuck by the spread of programming alone


@dataclass(frozen=True, eq=False)
class Levels:
    """What the cells were programmed to.

    Attributes
    ----------
    target
        Target of each reading, S; NaN where it is not known.
    group
        Number of its group of equal (of a continuum: neighbouring) targets, from 0; -1 where it is not known.
    groups
        How many groups there are.
    stated
        How many levels the data state, or ``None`` where the targets are a continuum or there are none.
    spaced
        Whether the levels are numbered, and their targets are evenly spaced between the means of the lowest and the
        highest one.
    """

    target: FloatArray
    group: IntegerArray
    groups: int
    stated: int | None
    spaced: bool


def find_levels(readings: Readings, usable: npt.NDArray[np.bool_]) -> Levels:
    """Targets and groups of the readings.

    Parameters
    ----------
    readings
        All of them.
    usable
        Which of them tell where the levels lie.

    Raises
    ------
    InputError
        If only one level is there, or the highest level does not lie above the lowest.
    """
    if readings.level is not None:
        level = readings.level
        here = level[usable]
        if not here.size or here.min() == here.max():
            raise InputError("level must hold at least 2 levels with a reading each, got 1")
        low, high = int(here.min()), int(here.max())
        means = [float(readings.conductance[usable & (level == end)].mean()) for end in (low, high)]
        if not 0 < means[0] < means[1]:
            raise InputError(
                f"the highest level, {high}, must have a higher mean conductance than the lowest, {low}, above 0 S, "
                f"got {means[1]!r} and {means[0]!r} S"
            )
        target = means[0] + (level - low) * (means[1] - means[0]) / (high - low)
        values, group = np.unique(level, return_inverse=True)
        return Levels(target, group.astype(np.int64), len(values), high - low + 1, True)
    size = len(readings)
    if readings.target is None:
        return Levels(np.full(size, np.nan), np.full(size, -1), 0, None, False)
    target = readings.target
    known = np.isfinite(target)
    if not (known & usable).any():
        return Levels(target, np.full(size, -1), 0, None, False)
    order = np.unique(target[known])
    first = np.concatenate([[True], np.diff(order) > _SAME * order[1:]])
    starts = order[first]
    group = np.full(size, -1)
    group[known] = np.searchsorted(starts, target[known], side="right") - 1
    readings_each = np.bincount(group[known & usable], minlength=len(starts))
    if len(starts) <= _MOST_LEVELS and np.median(readings_each) >= 2:
        return Levels(target, group, len(starts), len(starts), False)
    # a continuum: bins of equally many readings
    count = int(np.clip((known & usable).sum() // _CELLS_A_BIN, 1, _BINS))
    edges = np.unique(np.quantile(target[known & usable], np.linspace(0, 1, count + 1)[1:-1]))
    group[known] = np.searchsorted(edges, target[known], side="right")
    return Levels(target, group, len(edges) + 1, None, False)


@dataclass(frozen=True, eq=False)
class States:
    """Programmed states, one a cell, programming and target, at the steps of time.

    Arrays are ``(states, steps)`` unless said otherwise.

    Attributes
    ----------
    mean
        Mean of the reads of a state at a step, S; NaN where there are none.
    count
        How many there are.
    square, freedom
        Sum of squares, S^2, and degrees of freedom of reads that repeat each other: about the mean of those of a state
        whose times differ by less than a tenth.
    seconds
        Median time of each step since programming, s, shape ``(steps,)``; one of 0 where times are not known.
    cell, group
        Of each state, shape ``(states,)``.
    target
        Of each state, S, shape ``(states,)``.
    """

    mean: FloatArray
    count: IntegerArray
    square: FloatArray
    freedom: IntegerArray
    seconds: FloatArray
    cell: IntegerArray
    group: IntegerArray
    target: FloatArray

    @classmethod
    def of(cls, readings: Readings, levels: Levels) -> States:
        """The states of the readings that have a value."""
        valid = np.isfinite(readings.conductance)
        conductance = readings.conductance[valid]
        size = conductance.size
        cell = np.arange(size) if readings.cell is None else readings.cell[valid]
        cycle = np.zeros(size, np.int64) if readings.cycle is None else readings.cycle[valid]
        target, group = levels.target[valid], levels.group[valid]
        # states of a continuum differ in target within a group
        _, aim = np.unique(target, return_inverse=True)
        keys, first, state = np.unique(np.stack([cell, cycle, aim]), axis=1, return_index=True, return_inverse=True)
        state = np.asarray(state).reshape(-1)
        time = None if readings.time is None else readings.time[valid]
        step, seconds = _steps(time, _STEP)
        shape = (keys.shape[1], len(seconds))
        place = state * len(seconds) + step
        size = shape[0] * shape[1]
        count = np.bincount(place, minlength=size)
        with np.errstate(invalid="ignore"):
            mean = np.bincount(place, conductance, minlength=size) / count
        _, alike = np.unique(
            np.stack([place, np.broadcast_to(_steps(time, _REPEAT)[0], place.shape)]), axis=1, return_inverse=True
        )
        alike = np.asarray(alike).reshape(-1)
        repeats = np.bincount(alike)
        rest = (conductance - (np.bincount(alike, conductance) / repeats)[alike]) ** 2
        square = np.bincount(place, rest, minlength=size)
        freedom = count - np.bincount(place, 1.0 / repeats[alike], minlength=size).round().astype(np.int64)
        return cls(
            mean.reshape(shape),
            count.reshape(shape).astype(np.int64),
            square.reshape(shape).astype(np.float64),
            freedom.reshape(shape).astype(np.int64),
            seconds,
            np.asarray(cell[first], dtype=np.int64),
            group[first],
            target[first],
        )

    def part(self, which: npt.NDArray[np.bool_]) -> States:
        """Some of the states."""
        return States(
            self.mean[which], self.count[which], self.square[which], self.freedom[which], self.seconds,
            self.cell[which], self.group[which], self.target[which],
        )  # fmt: skip

    def stuck(self, step: int) -> IntegerArray:
        """Cells that were told to move over half of the range or more, and moved by less than a tenth of that."""
        here = np.isfinite(self.mean[:, step]) & np.isfinite(self.target)
        cells, which = np.unique(self.cell[here], return_inverse=True)
        ends = []
        for values in (self.target[here], self.mean[here, step]):
            low, high = np.full(len(cells), np.inf), np.full(len(cells), -np.inf)
            np.minimum.at(low, which, values)
            np.maximum.at(high, which, values)
            ends.append(high - low)
        told, moved = ends
        far = _FAR * np.ptp(self.target[here]) if here.any() else 0.0
        return np.asarray(cells[(told > 0) & (told >= far) & (moved < _STUCK * told)])


def _steps(time: FloatArray | None, factor: float) -> tuple[IntegerArray, FloatArray]:
    """The step of each reading, and the median time of each step; times within `factor` of the first are one."""
    if time is None:
        return np.zeros((), dtype=np.int64), np.zeros(1)
    order = np.unique(time)
    starts = [float(order[0])]
    for value in order[1:].tolist():
        if value > factor * starts[-1]:  # whatever comes after 0 s
            starts.append(value)
    step = np.searchsorted(np.array(starts), time, side="right") - 1
    middle = np.argsort(time, kind="stable")
    ends = np.searchsorted(step[middle], np.arange(len(starts) + 1))
    return step, np.array([float(np.median(time[middle[a:b]])) for a, b in itertools.pairwise(ends)])
