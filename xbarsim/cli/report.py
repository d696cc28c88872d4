"""``xbarsim report``: all that a store holds, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbarsim.cli.stores import StoreFile, chosen_values, example
from xbarsim.foundation.validation import InputError

__all__ = ["report"]


def report(
    store: StoreFile,
    output: Annotated[Path | None, typer.Argument(help="Page to write (STORE.html).")] = None,
    target: Annotated[float | None, typer.Option(help="Accuracy from which a die is good: adds the yield.")] = None,
    chance: Annotated[float | None, typer.Option(help="Accuracy of guessing, drawn as a line.")] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page (the store's name).")] = None,
    tiles: Annotated[
        Path | None, typer.Option(help="The sweep file: make a die again, and show its tiles in the page.")
    ] = None,
    die: Annotated[int, typer.Option(help="Which die's tiles, from 0.")] = 0,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE: of which task the die is.")] = None,
) -> None:
    """Write all that a store holds as one HTML page, pictures in it, which loads nothing."""
    from xbarsim.plot.page import ChoiceNeeded, chosen_task, write_report
    from xbarsim.sweep import Sweep

    if tiles is None and (where or die):
        raise InputError("tiles must be given for a die to be shown (--tiles my_sweep.toml, for example), got none")
    try:
        task = None if tiles is None else chosen_task(Sweep.load(tiles).tasks, chosen_values(where))
    except ChoiceNeeded as error:
        raise example(error) from error
    target_path = Path(store.with_suffix(".html").name) if output is None else output
    write_report(store, target_path, title=title, target=target, chance=chance, task=task, die=die)
    typer.echo(f"wrote {target_path}")
