"""``xbarsim show``: what a store holds."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.live import Live

from xbarsim.cli.output import new_console
from xbarsim.cli.stores import StoreFile, print_failed, summary_table
from xbarsim.foundation.validation import check_real

__all__ = ["show"]


def show(
    store: StoreFile,
    target: Annotated[float | None, typer.Option(help="Accuracy from which a die is good: adds the yield.")] = None,
    watch: Annotated[
        float | None, typer.Option(help="Look again every so many seconds, until all tasks are complete.")
    ] = None,
    runs: Annotated[
        bool, typer.Option("--runs", help="Also where the dies came from: host, time, commit, versions.")
    ] = False,
) -> None:
    """Show what a store holds, also while a sweep is writing it."""
    if target is not None:
        check_real("target", target, at_least=0.0, at_most=1.0)
    if watch is not None:
        check_real("watch", watch, above=0.0)
    from xbarsim.sweep.store import Store

    with Store(store, read_only=True) as kept:
        results = kept.results()
        if watch is None or results.complete:
            new_console().print(summary_table(results, target))
        else:
            with Live(summary_table(results, target), console=new_console(), auto_refresh=False) as live:
                while not results.complete:
                    time.sleep(watch)
                    results = kept.results()
                    live.update(summary_table(results, target), refresh=True)
        waiting = [task for task in results.tasks if not task.complete]
        if waiting:
            typer.echo(f"{len(waiting)} of {len(results.tasks)} tasks need more dies, the first: {waiting[0]}")
        print_failed(results)
        if runs:
            for run in kept.runs():
                commit = run["git_commit"] or "unknown"
                typer.echo(f"{run['started']} on {run['host']}, commit {commit}: {run['dies']} dies; {run['versions']}")
