"""One look of all progress bars: on standard error, gone when they are done, absent where there is no terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["progress_bar"]


def progress_bar(unit: str, shown: bool | None = None) -> Progress:
    """A progress display with the time gone and the time left; add tasks to it, and use it in a ``with``.

    Parameters
    ----------
    unit
        What is counted, such as ``"dies"``.
    shown
        Whether it shows at all; ``None`` for only where standard error is a terminal.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not (console.is_terminal if shown is None else shown),
        transient=True,
    )
