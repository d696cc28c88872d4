"""What the commands on stores share: the store, and its table of tasks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xbarsim.cli.output import new_table
from xbarsim.foundation.validation import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from xbarsim.plot.page import ChoiceNeeded
    from xbarsim.sweep.results import Results

__all__ = ["StoreFile", "StoreOfFile", "Workers", "chosen_values", "example", "print_failed", "summary_table"]

_MOST_FAILED = 10  # listed one by one

StoreFile = Annotated[Path, typer.Argument(help="Store that 'xbarsim sweep' wrote.")]
StoreOfFile = Annotated[
    Path | None,
    typer.Option(help="Where the dies are kept; begun where it does not exist, else gone on with (FILE.sqlite)."),
]
Workers = Annotated[int | None, typer.Option(help="Processes of this machine (one a core); changes no result.")]


def chosen_values(where: Sequence[str] | None) -> dict[str, str]:
    """``COLUMN=VALUE`` options, as values by column.

    Raises
    ------
    InputError
        If one has another form.
    """
    chosen = {}
    for text in where or ():
        name, sign, value = text.partition("=")
        if not (name and sign):
            raise InputError(f"where must be COLUMN=VALUE, got {text!r} (--where fault_rate=0.01, for example)")
        chosen[name] = value
    return chosen


def example(error: ChoiceNeeded) -> InputError:
    """The same error, with an option that chooses."""
    option = shlex.quote(f"{error.column}={error.values[-1]}")
    return InputError(f"{error}; for example: --where {option}")


def print_failed(results: Results) -> None:
    """Say which dies failed, and why."""
    failed = results.failed
    if not failed:
        return
    names = {task.id: str(task) for task in results.tasks}
    typer.echo(f"{len(failed)} di{'e' if len(failed) == 1 else 'es'} failed, and are in no statistic:")
    for die in failed[:_MOST_FAILED]:
        typer.echo(f"  {names[die.task]} {die}")
    if len(failed) > _MOST_FAILED:
        typer.echo(f"  and {len(failed) - _MOST_FAILED} more; 'xbarsim report' lists all")


def summary_table(results: Results, target: float | None) -> Table:
    """Mean accuracy of each task, and what tells the tasks apart."""
    from rich.text import Text

    from xbarsim.sweep.summary import summary_cells

    tags = list(dict.fromkeys(name for task in results.tasks for name in task.tags))
    header, cells, left = summary_cells(results.summary(target=target), tags, target)
    table = new_table("Mean accuracy and 95 % interval over dies")
    for index, name in enumerate(header):
        if index < left:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    return table
