"""The results of a sweep: every die that was measured, and the statistics of each task."""

from __future__ import annotations

import dataclasses
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.html import html_table
from xbarsim.foundation.intervals import (
    FEW_DIES,
    FewDiesWarning,
    Interval,
    Method,
    mean_interval,
    median_interval,
    paired_difference,
    share_interval,
    with_test_images,
)
from xbarsim.foundation.tables import csv_bytes
from xbarsim.foundation.validation import InputError, check_choice, check_real, write_atomically
from xbarsim.sweep.measures import Value
from xbarsim.sweep.stopping import StopRule, answer, is_good
from xbarsim.sweep.summary import summary_cells
from xbarsim.sweep.task import COLUMNS, seed_of

if TYPE_CHECKING:
    import pandas

__all__ = ["FailedDie", "FailedDiesWarning", "MeasuredDie", "Results", "TaskResult"]


@dataclass(frozen=True, kw_only=True)
class MeasuredDie:
    """One die of one task, as it was measured: the unit of work, and one row of the table.

    Attributes
    ----------
    task
        Id of the task.
    die
        Number of the die, from 0.
    correct, images
        How many images were classified right, of how many; 0 of 0 where no measure of the task counts any.
    seconds
        Wall time of the whole die; the only fields that another run may give differently are this and
        `inference_seconds`.
    inference_seconds
        Wall time of the inference in it.
    fault_hash
        SHA-256 over the fault maps and the broken lines of all layers.
    cells, stuck_on, stuck_off, stuck_at
        Cells of the die, and how many are stuck in which way.
    metrics
        What else was measured, by the name of the column.
    """

    task: str
    die: int
    correct: int
    images: int
    seconds: float
    inference_seconds: float
    fault_hash: str
    cells: int
    stuck_on: int
    stuck_off: int
    stuck_at: int
    metrics: Mapping[str, Value] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def accuracy(self) -> float | None:
        """The share classified right, 0 to 1; ``None`` where no images were counted."""
        return self.correct / self.images if self.images else None

    @property
    def answer(self) -> tuple[Any, ...]:
        """All that must be the same whenever, wherever and however often this die is measured."""
        return (
            self.task, self.die, self.correct, self.images, self.fault_hash, self.cells, self.stuck_on, self.stuck_off,
            self.stuck_at, tuple(sorted(self.metrics.items())),
        )  # fmt: skip


class FailedDiesWarning(UserWarning):
    """Some dies could not be measured: they are in no statistic."""


@dataclass(frozen=True, kw_only=True)
class FailedDie:
    """One die of one task that could not be measured, and why.

    Attributes
    ----------
    task
        Id of the task.
    die
        Number of the die, from 0.
    tries
        How often it was tried.
    reason
        In one line: how its worker process ended, or the error.
    traceback
        Of the error; empty where the process ended.
    """

    task: str
    die: int
    tries: int
    reason: str
    traceback: str = ""

    def __post_init__(self) -> None:
        check_fields(self)

    def __str__(self) -> str:
        return f"die {self.die}: {self.reason} ({self.tries} {'try' if self.tries == 1 else 'tries'})"


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What is known of one task.

    Attributes
    ----------
    columns
        The task's columns in a table, tags among them, as :meth:`Task.columns` gives them.
    tags
        Names of its tags.
    stop
        The rule that says which dies are its answer.
    collected
        Every die measured so far, in the order of their numbers.
    seeds
        Seeds of its dies, where the task lists them.
    failed
        Every die that could not be measured, in the order of their numbers.
    """

    columns: Mapping[str, Any]
    tags: tuple[str, ...]
    stop: StopRule
    collected: tuple[MeasuredDie, ...]
    seeds: tuple[int, ...] | None = None
    failed: tuple[FailedDie, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def id(self) -> str:
        """Id of the task."""
        return str(self.columns["task"])

    @cached_property
    def _outcomes(self) -> list[int | None]:
        """Images classified right by the dies 0, 1, 2, ... up to the first of which nothing is known."""
        known: dict[int, int | None] = {failed.die: None for failed in self.failed}
        known |= {measured.die: measured.correct for measured in self.collected}
        outcomes: list[int | None] = []
        while len(outcomes) in known:
            outcomes.append(known[len(outcomes)])
        return outcomes

    @cached_property
    def enough(self) -> int | None:
        """How many dies are the answer, failed ones among them, or ``None`` if they are not all there yet."""
        return answer(self.stop, self._outcomes, self.collected[0].images if self.collected else 0)

    @property
    def complete(self) -> bool:
        """Whether its stop rule is satisfied."""
        return self.enough is not None

    @property
    def _end(self) -> int:
        return len(self._outcomes) if self.enough is None else self.enough

    @cached_property
    def dies(self) -> tuple[MeasuredDie, ...]:
        """The dies that count: the shortest prefix that satisfies the stop rule, or the prefix there is so far."""
        return tuple(measured for measured in self.collected if measured.die < self._end)

    @cached_property
    def counted_out(self) -> tuple[FailedDie, ...]:
        """The dies among those that count that could not be measured: they are in no statistic."""
        return tuple(failed for failed in self.failed if failed.die < self._end)

    @property
    def accuracies(self) -> npt.NDArray[np.float64]:
        """Accuracy of each die that counts, shape ``(dies,)``."""
        return np.array([self._counted(measured) for measured in self.dies], dtype=np.float64)

    def _counted(self, measured: MeasuredDie) -> float:
        if measured.accuracy is None:
            raise InputError(f"measures must count images for a statistic of accuracy, got none that does in {self}")
        return measured.accuracy

    @property
    def counts(self) -> bool:
        """Whether its dies have an accuracy."""
        return all(measured.images for measured in self.dies)

    @entrance
    def mean(self, *, confidence: float = 0.95, method: Method = "t", other_images: bool = False) -> Interval:
        """Mean accuracy of the dies and its interval, which does not leave [0, 1].

        Parameters
        ----------
        confidence, method
            As :func:`xbarsim.foundation.intervals.mean_interval`.
        other_images
            Whether the interval also covers what other test images would give
            (:func:`xbarsim.foundation.intervals.with_test_images`), or speaks of other dies on these images only.

        Raises
        ------
        InputError
            If no die counts yet, or no accuracy was measured.

        Warns
        -----
        FewDiesWarning
            If it is from fewer than 20 dies: see :func:`xbarsim.foundation.intervals.mean_interval`.
        """
        mean = mean_interval(self.accuracies, confidence=confidence, method=method)
        mean = dataclasses.replace(mean, low=_within_unit(mean.low), high=_within_unit(mean.high))
        return with_test_images(mean, self.dies[0].images) if other_images else mean

    def median(self, *, confidence: float = 0.95) -> Interval:
        """Median accuracy of the dies and its interval, which needs no law of them and 6 dies for 0.95.

        Raises
        ------
        InputError
            If no die counts yet, or no accuracy was measured.
        """
        return median_interval(self.accuracies, confidence=confidence)

    @entrance
    def yield_(self, target: float, *, confidence: float = 0.95) -> Interval:
        """Share of the dies whose accuracy is `target` or more, and its interval.

        Raises
        ------
        InputError
            If no die counts yet, no accuracy was measured, or `target` is outside [0, 1].
        """
        check_real("target", target, at_least=0.0, at_most=1.0)
        if not self.accuracies.size:
            raise InputError(f"dies must be at least one for a yield, got none in {self}")
        good = sum(bool(is_good(np.array([die.correct]), die.images, target)[0]) for die in self.dies)
        return share_interval(good, len(self.dies), confidence=confidence)

    @entrance
    def rows(self, *, every: bool = False) -> Iterator[dict[str, Any]]:
        """One dictionary a die, with the columns :data:`~xbarsim.sweep.COLUMNS`, tags and metrics.

        Parameters
        ----------
        every
            Also the dies that do not count: those beyond the answer, or behind a gap.
        """
        for measured in self.collected if every else self.dies:
            yield {
                **self.columns,
                "die": measured.die,
                "die_seed": seed_of(measured.die, self.columns["seed"], self.seeds),
                "correct": measured.correct,
                "images": measured.images,
                "accuracy": measured.accuracy,
                "seconds": measured.seconds,
                "inference_seconds": measured.inference_seconds,
                "fault_hash": measured.fault_hash,
                "cells": measured.cells,
                "stuck_on": measured.stuck_on,
                "stuck_off": measured.stuck_off,
                "stuck_at": measured.stuck_at,
                **measured.metrics,
            }

    def __str__(self) -> str:
        parts = [f"{name}={self.columns[name]}" for name in self.tags]
        if not parts:
            parts = [str(self.columns["network"]), str(self.columns["encoding"])]
        return " ".join([*parts, f"rate={self.columns['fault_rate']:g}"])


def _within_unit(value: float) -> float:
    return min(1.0, max(0.0, value)) if value == value else value  # NaN stays


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a sweep.

    Attributes
    ----------
    tasks
        In the order in which they were asked for.
    """

    tasks: tuple[TaskResult, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def complete(self) -> bool:
        """Whether every task has enough dies."""
        return all(task.complete for task in self.tasks)

    @property
    def failed(self) -> tuple[FailedDie, ...]:
        """Every die that could not be measured, those of each task once."""
        return tuple({(failed.task, failed.die): failed for task in self.tasks for failed in task.failed}.values())

    @entrance
    def rows(self, *, every: bool = False) -> list[dict[str, Any]]:
        """One dictionary a die, all with the same keys (``None`` where a task has no such tag or metric).

        Parameters
        ----------
        every
            Also the dies that do not count for an answer, see :class:`TaskResult`.
        """
        rows = [row for task in self.tasks for row in task.rows(every=every)]
        header = self._header(rows)
        return [{name: row.get(name) for name in header} for row in rows]

    def _header(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        tags = list(dict.fromkeys(name for task in self.tasks for name in task.tags))
        metrics = list(dict.fromkeys(name for row in rows for name in row if name not in COLUMNS and name not in tags))
        return [COLUMNS[0], *tags, *COLUMNS[1:], *metrics]

    @entrance
    def summary(
        self,
        *,
        confidence: float = 0.95,
        method: Method = "t",
        target: float | None = None,
        median: bool = False,
    ) -> list[dict[str, Any]]:
        """One dictionary a task that has dies: its columns, ``dies``, ``failed``, ``complete`` and the statistics.

        ``failed`` is how many dies of the task could not be measured; they are neither in ``dies`` nor in a statistic.

        Parameters
        ----------
        confidence, method
            Of the interval of the mean: ``accuracy_mean``, ``accuracy_low``, ``accuracy_high`` (``None`` where one die
            gives no interval, and where no accuracy was measured).
        target
            Adds ``yield``, ``yield_low`` and ``yield_high``, the share of dies that reach this accuracy.
        median
            Adds ``accuracy_median``, ``accuracy_median_low`` and ``accuracy_median_high``, and ``accuracy_worst``, that
            of the worst die: for few dies, or dies of which some fail.
        """
        rows = []
        for task in self.tasks:
            if not task.dies and not task.counted_out:
                continue
            counts = bool(task.dies) and task.counts
            mean = task.mean(confidence=confidence, method=method) if counts else None
            row = {
                **task.columns,
                "images": task.dies[0].images if task.dies else None,
                "dies": len(task.dies),
                "failed": len(task.counted_out),
                "complete": task.complete,
                "accuracy_mean": mean and mean.estimate,
                "accuracy_low": mean.low if mean and mean.has_ends else None,
                "accuracy_high": mean.high if mean and mean.has_ends else None,
            }
            if median:
                middle = task.median(confidence=confidence) if counts else None
                row |= {
                    "accuracy_median": middle and middle.estimate,
                    "accuracy_median_low": middle.low if middle and middle.has_ends else None,
                    "accuracy_median_high": middle.high if middle and middle.has_ends else None,
                    "accuracy_worst": float(task.accuracies.min()) if middle else None,
                }
            if target is not None:
                good = task.yield_(target, confidence=confidence) if counts else None
                row |= {
                    "yield": good and good.estimate,
                    "yield_low": good and good.low,
                    "yield_high": good and good.high,
                }
            rows.append(row)
        tags = list(dict.fromkeys(name for task in self.tasks for name in task.tags))
        return [{"task": row["task"], **{name: row.get(name) for name in tags}, **row} for row in rows]

    @entrance
    def compare(
        self,
        by: str,
        first: Any,
        second: Any,
        *,
        confidence: float = 0.95,
        method: Method = "t",
    ) -> list[dict[str, Any]]:
        """Paired differences of mean accuracy on the same dies.

        Parameters
        ----------
        by
            The column, a tag for example, whose values are compared.
        first, second
            Two of its values; the difference is that of `first` minus that of `second`.
        confidence, method
            As in :func:`paired_difference`.

        Returns
        -------
        list of dict
            One for each pair of tasks that agree in their root seed, fault rates and all other tags: those columns,
            ``dies`` (those that were measured and count for both), ``difference``, ``difference_low`` and
            ``difference_high``.

        Raises
        ------
        InputError
            If there is no such column or value, or no pair.
        """
        self._check_column(by)
        values = list(dict.fromkeys(task.columns[by] for task in self.tasks if by in task.columns))
        for name, value in (("first", first), ("second", second)):
            if value not in values:
                raise InputError(f"{name} must be one of {', '.join(map(repr, values))}, got {value!r}")
        alike = [name for name in dict.fromkeys(n for task in self.tasks for n in task.tags) if name != by]
        alike += [
            name for name in ("network", "data_set", "fault_rate_on", "fault_rate_off", "age", "seed") if name != by
        ]

        def key(task: TaskResult) -> tuple[Any, ...]:
            return (*(task.columns.get(name) for name in alike), task.seeds)

        others = {key(task): task for task in self.tasks if task.columns.get(by) == second}
        rows = []
        for task in self.tasks:
            other = others.get(key(task))
            if task.columns.get(by) != first or other is None:
                continue
            both = {measured.die for measured in task.dies} & {measured.die for measured in other.dies}
            if not both or task.dies[0].images != other.dies[0].images:
                continue
            pair = [
                each.accuracies[[measured.die in both for measured in each.dies]] for each in (task, other)
            ]  # the same dies, in the same order
            difference = paired_difference(pair[0], pair[1], confidence=confidence, method=method)
            rows.append(
                {
                    **{name: task.columns.get(name) for name in alike},
                    "dies": len(both),
                    "difference": difference.estimate,
                    "difference_low": difference.low if difference.has_ends else None,
                    "difference_high": difference.high if difference.has_ends else None,
                }
            )
        if not rows:
            raise InputError(
                f"first and second must have tasks that agree in {', '.join(alike)}, got none for {first!r} and "
                f"{second!r}"
            )
        return rows

    def _repr_html_(self) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewDiesWarning)  # said below
            rows = self.summary()
        tags = list(dict.fromkeys(name for task in self.tasks for name in task.tags))
        header, cells, left = summary_cells(rows, tags, None)
        waiting = sum(not task.complete for task in self.tasks)
        notes = [f"{waiting} of {len(self.tasks)} tasks need more dies"] if waiting else []
        if self.failed:
            notes.append(f"{len(self.failed)} dies failed and are in no statistic: see results.failed")
        if any(1 < row["dies"] < FEW_DIES for row in rows):
            notes.append(f"intervals of fewer than {FEW_DIES} dies cover too seldom where some dies fail")
        return html_table("Mean accuracy over dies", header, cells, left=left, notes=notes)

    def _check_column(self, name: str) -> None:
        names = list(dict.fromkeys(column for task in self.tasks for column in task.columns))
        check_choice("by", name, names)

    @entrance
    def to_frame(self, *, every: bool = False) -> pandas.DataFrame:
        """The rows as a pandas frame, one a die.

        Parameters
        ----------
        every
            Also the dies that do not count for an answer, see :class:`TaskResult`.

        Raises
        ------
        ImportError
            If pandas is absent.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "frames come with pandas, which is not installed: pip install 'xbarsim[frames]'"
            ) from error
        rows = self.rows(every=every)
        return pandas.DataFrame(rows, columns=None if rows else self._header([]))

    @entrance
    def to_csv(self, path: str | os.PathLike[str], *, every: bool = False) -> None:
        """Write the rows as CSV, whole or not at all; as :func:`xbarsim.foundation.tables.csv_bytes` writes them.

        Parameters
        ----------
        path
            The file.
        every
            Also the dies that do not count for an answer, see :class:`TaskResult`.

        Raises
        ------
        FileWriteError
            If the file cannot be written.
        """
        rows = self.rows(every=every)
        write_atomically(path, csv_bytes(rows, self._header(rows)))

    @entrance
    def to_parquet(self, path: str | os.PathLike[str], *, every: bool = False) -> None:
        """Write the rows as a Parquet file, whole or not at all, with the types that the columns have.

        Parameters
        ----------
        path
            The file.
        every
            Also the dies that do not count for an answer, see :class:`TaskResult`.

        Raises
        ------
        ImportError
            If pandas or pyarrow is absent.
        FileWriteError
            If the file cannot be written.
        """
        frame = self.to_frame(every=every)
        try:
            import pyarrow  # noqa: F401  which pandas writes it with
        except ImportError as error:
            raise ImportError(
                "Parquet files come with pyarrow, which is not installed: pip install 'xbarsim[frames]', or write CSV"
            ) from error
        content = io.BytesIO()
        frame.to_parquet(content, engine="pyarrow", index=False)
        write_atomically(path, content.getvalue())
