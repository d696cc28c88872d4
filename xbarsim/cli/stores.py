"""What the commands on stores share: the store, and its table of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xbarsim.cli.output import new_table

if TYPE_CHECKING:
    from rich.table import Table

    from xbarsim.sweep.results import Results

__all__ = ["StoreFile", "print_failed", "summary_table"]

_MOST_FAILED = 10  # listed one by one

StoreFile = Annotated[Path, typer.Argument(help="Store that 'xbarsim sweep' wrote.")]


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

    rows = results.summary(target=target)
    tags = list(dict.fromkeys(name for task in results.tasks for name in task.tags))
    shown = [*tags]
    for name in ("network", "encoding", "fault_model", "fault_rate", "mitigation", "age", "seed"):
        values = [str(row[name]) for row in rows]
        if any(values == [str(row[tag]) for row in rows] for tag in tags):
            continue  # a tag says it already
        if name == "fault_rate" or len(set(values)) > 1 or (name == "network" and not tags):
            shown.append(name)
    table = new_table("Mean accuracy (%) and 95 % interval over dies")
    for name in shown:
        table.add_column(name.replace("_", " "), overflow="fold")
    table.add_column("dies", justify="right")
    failed = any(row["failed"] for row in rows)
    if failed:
        table.add_column("failed", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("interval", justify="right")
    if target is not None:
        table.add_column(f"yield (%) at {100 * target:g} %", justify="right")
    for row in rows:
        low, high = row["accuracy_low"], row["accuracy_high"]
        cells = [f"{row[name]:g}" if isinstance(row[name], float) else str(row[name]) for name in shown]
        cells += [
            f"{row['dies']}{'' if row['complete'] else ' so far'}",
            *([str(row["failed"])] if failed else []),
            "" if row["accuracy_mean"] is None else f"{100 * row['accuracy_mean']:.2f}",
            "" if low is None else f"{100 * low:.2f} to {100 * high:.2f}",
        ]
        if target is not None:
            share = [row[name] for name in ("yield", "yield_low", "yield_high")]
            cells.append("" if None in share else "{:.1f} ({:.1f} to {:.1f})".format(*(100 * end for end in share)))
        table.add_row(*(Text(cell) for cell in cells))
    return table
