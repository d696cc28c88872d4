"""``xbarsim export``: the dies of a store as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbarsim.cli.stores import StoreFile, print_failed

__all__ = ["export"]


def export(
    store: StoreFile,
    output: Annotated[Path, typer.Argument(help="CSV file to write, one row a die.")],
    every: Annotated[
        bool, typer.Option("--all", help="Also dies beyond what the stop rule asks for, or behind a gap.")
    ] = False,
) -> None:
    """Write the dies of a store as CSV."""
    from xbarsim.sweep.store import Store

    with Store(store, read_only=True) as kept:
        results = kept.results()
        rows = results.rows(every=every)
        results.to_csv(output, every=every)
    left = sum(len(task.collected) for task in results.tasks) - len(rows)
    typer.echo(f"wrote {output}: {len(rows)} dies" + (f" ({left} more with --all)" if left else ""))
    print_failed(results)
