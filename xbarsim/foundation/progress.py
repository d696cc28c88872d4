"""One look of all progress: a bar on standard error that is gone when it is done, or a line now and then.

A terminal gets the bar. Elsewhere, in the log of a batch job for example, a line is written at most every half minute,
so that what takes seconds writes none. Notebooks get neither.
"""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["ProgressDisplay", "progress_bar"]

_EVERY = 30.0  # seconds between two lines where there is no terminal


class ProgressDisplay(Progress):
    """A progress bar, or lines where there is no terminal.

    Attributes
    ----------
    unit
        What is counted.
    lines
        Whether it writes lines instead of a bar.
    """

    def __init__(self, unit: str, *, console: Console, bar: bool, lines: bool) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not bar,
            transient=True,
        )
        self.unit = unit
        self.lines = lines
        self._begun = self._said = time.monotonic()

    @property
    def hidden(self) -> bool:
        """Whether nobody sees what it is told."""
        return self.disable and not self.lines

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Count on; see :class:`rich.progress.Progress`."""
        super().advance(task_id, advance)
        self._line()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task; see :class:`rich.progress.Progress`."""
        super().update(task_id, **changes)
        self._line()

    def _line(self) -> None:
        now = time.monotonic()
        if not self.lines or now - self._said < _EVERY or not self.tasks:
            return
        self._said = now
        task = self.tasks[0]  # that of all
        gone = now - self._begun
        text = f"{task.description}: {task.completed:,.0f}"
        if task.total:
            text += f" of {task.total:,.0f} {self.unit}, {gone:,.0f} s"
            if 0 < task.completed < task.total:
                text += f", about {gone * (task.total - task.completed) / task.completed:,.0f} s left"
        else:
            text += f" {self.unit}, {gone:,.0f} s"
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def progress_bar(unit: str, shown: bool | None = None) -> ProgressDisplay:
    """A progress display with the time gone and the time left; add tasks to it, and use it in a ``with``.

    Parameters
    ----------
    unit
        What is counted, such as ``"dies"``.
    shown
        Whether it shows at all; ``None`` for a bar where standard error is a terminal, and a line now and then of the
        first task where it is none.
    """
    console = Console(stderr=True)
    bar = console.is_terminal if shown is None else shown
    return ProgressDisplay(unit, console=console, bar=bar, lines=shown is None and not bar and not console.is_jupyter)
