"""``xbarsim export``: the dies of a store as CSV or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbarsim.cli.stores import StoreFile, print_failed
from xbarsim.foundation.validation import InputError

__all__ = ["export"]


def export(
    store: StoreFile,
    output: Annotated[Path, typer.Argument(help="File to write, one row a die: .csv, or .parquet (needs pyarrow).")],
    every: Annotated[
        bool, typer.Option("--all", help="Also dies beyond what the stop rule asks for, or behind a gap.")
    ] = False,
) -> None:
    """Write the dies of a store as CSV or Parquet, by the ending of the file."""
    ending = output.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise InputError(f"output must end in .csv or .parquet, got {output.name!r}")
    from xbarsim.sweep.store import Store

    with Store(store, read_only=True) as kept:
        results = kept.results()
    count = len(results.rows(every=every))
    if ending == ".csv":
        results.to_csv(output, every=every)
    else:
        results.to_parquet(output, every=every)
    left = sum(len(task.collected) for task in results.tasks) - count
    typer.echo(f"wrote {output}: {count} dies" + (f" ({left} more with --all)" if left else ""))
    print_failed(results)
