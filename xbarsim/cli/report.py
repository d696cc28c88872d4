"""``xbarsim report``: all that a store holds, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbarsim.cli.stores import StoreFile

__all__ = ["report"]


def report(
    store: StoreFile,
    output: Annotated[Path | None, typer.Argument(help="Page to write (STORE.html).")] = None,
    target: Annotated[float | None, typer.Option(help="Accuracy from which a die is good: adds the yield.")] = None,
    chance: Annotated[float | None, typer.Option(help="Accuracy of guessing, drawn as a line.")] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page (the store's name).")] = None,
) -> None:
    """Write all that a store holds as one HTML page, pictures in it, which loads nothing."""
    from xbarsim.plot.page import write_report

    target_path = Path(store.with_suffix(".html").name) if output is None else output
    write_report(store, target_path, title=title, target=target, chance=chance)
    typer.echo(f"wrote {target_path}")
