"""What a search found: designs that were tried, and those that no other beats."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.html import html_table
from xbarsim.foundation.intervals import Interval
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import InputError, check_choice, write_atomically
from xbarsim.sweep.file import label
from xbarsim.sweep.results import Results, TaskResult
from xbarsim.sweep.task import Task

__all__ = ["SearchResult", "Trial"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One design that was tried.

    Attributes
    ----------
    number
        From 0, in the order of the proposals.
    values
        What was chosen, by name.
    task
        The design and what is measured on its dies; ``None`` where the values make no design.
    result
        What was measured; ``None`` where nothing could be.
    objectives
        Mean over dies of each objective and each limited column, with the interval of 95 %.
    within
        Whether it keeps to all limits.
    reason
        Why there is no result.
    """

    number: int
    values: Mapping[str, Any]
    task: Task | None = None
    result: TaskResult | None = None
    objectives: Mapping[str, Interval] = field(default_factory=dict)
    within: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def labels(self) -> dict[str, str | int | float | bool]:
        """What was chosen, as tables show it."""
        return {name: label(value) for name, value in self.values.items()}


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    trials
        Every design that was tried.
    directions
        ``"maximise"`` or ``"minimise"`` for each objective.
    """

    trials: tuple[Trial, ...]
    directions: Mapping[str, Literal["maximise", "minimise"]]

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.directions:
            raise InputError("directions must have at least one objective, got none")
        for trial in self.measured:
            for name in self.directions:
                check_choice("a key of directions", name, trial.objectives)

    @property
    def measured(self) -> tuple[Trial, ...]:
        """The trials that have a result."""
        return tuple(trial for trial in self.trials if trial.result is not None)

    @property
    def results(self) -> Results:
        """All that was measured, for pictures, tables and files."""
        return Results(tasks=tuple(trial.result for trial in self.measured if trial.result is not None))

    @property
    def front(self) -> tuple[Trial, ...]:
        """The Pareto front: designs within all limits that no other such design beats, the best by the first first.

        One beats another if it is as good in every objective and better in one, by the means over dies.
        """
        rivals = [trial for trial in self.measured if trial.within]
        signs = [1.0 if way == "minimise" else -1.0 for way in self.directions.values()]
        values = np.array(
            [
                [sign * trial.objectives[name].estimate for sign, name in zip(signs, self.directions, strict=True)]
                for trial in rivals
            ]
        ).reshape(len(rivals), len(signs))
        kept = [
            trial
            for trial, point in zip(rivals, values, strict=True)
            if not ((values <= point).all(axis=1) & (values < point).any(axis=1)).any()
        ]
        first = next(iter(self.directions))
        return tuple(sorted(kept, key=lambda trial: signs[0] * trial.objectives[first].estimate))

    @entrance
    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a trial: its number, what was chosen, objectives, whether it is on the front."""
        front = {trial.number for trial in self.front}
        names = list(dict.fromkeys(name for trial in self.trials for name in trial.objectives))
        rows = []
        for trial in self.trials:
            row: dict[str, Any] = {"trial": trial.number, **trial.labels}
            for name in names:
                mean = trial.objectives.get(name)
                row |= {
                    name: mean and mean.estimate,
                    f"{name}_low": mean.low if mean and mean.has_ends else None,
                    f"{name}_high": mean.high if mean and mean.has_ends else None,
                }
            row |= {
                "dies": len(trial.result.dies) if trial.result else 0,
                "within_limits": trial.within,
                "on_front": trial.number in front,
                "reason": trial.reason,
                "task": trial.result.id if trial.result else "",
            }
            rows.append(row)
        return rows

    @entrance
    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV, whole or not at all.

        Raises
        ------
        FileWriteError
            If the file cannot be written.
        """
        write_atomically(path, csv_bytes(self.rows()))

    def front_cells(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Header and cells of a table of the front, for people."""
        front = self.front
        chosen = list(dict.fromkeys(name for trial in front for name in trial.values))
        names = list(dict.fromkeys(name for trial in front for name in trial.objectives))
        header = ["trial", *(name.rpartition(".")[2] for name in chosen), *names]
        return header, [
            (
                str(trial.number),
                *(str(trial.labels[name]) for name in chosen),
                *(f"{trial.objectives[name].estimate:.4g}" for name in names),
            )
            for trial in front
        ]

    @property
    def notes(self) -> list[str]:
        """What a reader of the front must know besides: how many designs were tried, and what became of the others."""
        beyond = sum(not trial.within for trial in self.measured)
        refused = [trial for trial in self.trials if trial.result is None]
        notes = [
            f"{len(self.front)} of {len(self.trials)} designs are on the front"
            + (f"; {beyond} are beyond a limit" if beyond else "")
        ]
        if refused:
            notes.append(f"{len(refused)} could not be measured, the first: {refused[0].reason}")
        return notes

    def __str__(self) -> str:
        header, cells = self.front_cells()
        table = format_table(header, cells) if cells else "no design keeps to all limits"
        return "\n".join([table, *self.notes])

    def _repr_html_(self) -> str:
        header, cells = self.front_cells()
        return html_table("Designs that no other beats", header, cells, left=1, notes=self.notes)
