"""``xbarsim search``: the best of many designs."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Annotated

import typer

from xbarsim.cli.errors import INTERRUPTED
from xbarsim.cli.output import new_console, new_table, print_lines, write_picture
from xbarsim.cli.stores import StoreOfFile, Workers
from xbarsim.cli.sweep import ends_like_ctrl_c
from xbarsim.foundation.validation import check_integer

__all__ = ["search"]


def search(
    file: Annotated[
        Path,
        typer.Argument(help="Search as a TOML file; a commented example is experiments/sweeps/digits_search.toml."),
    ],
    store: StoreOfFile = None,
    workers: Workers = None,
    picture: Annotated[Path | None, typer.Option(help="Picture of the front to write: .png, .svg or .pdf.")] = None,
    table: Annotated[Path | None, typer.Option(help="Every design that was tried, as .csv.")] = None,
    designs: Annotated[Path | None, typer.Option(help="Folder for the designs on the front, a TOML file each.")] = None,
) -> None:
    """Try designs, and show those that no other beats in what is asked for.

    Kill it whenever you like: the same command goes on where it was.
    """
    if workers is not None:
        check_integer("workers", workers, at_least=1)
    from xbarsim.sweep.collecting import Interrupted
    from xbarsim.sweep.search import Search
    from xbarsim.sweep.store import Store
    from xbarsim.sweep.trials import Trial

    asked = Search.load(file)
    target = Path(file.with_suffix(".sqlite").name) if store is None else store

    def say(trial: Trial) -> None:
        chosen = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in trial.labels.items())
        means = ", ".join(f"{name} {mean.estimate:.4g}" for name, mean in trial.objectives.items())
        beyond = "" if trial.within or trial.result is None else "; beyond a limit"
        typer.echo(f"design {trial.number}: {chosen}: {means or trial.reason}{beyond}", err=True)

    with Store(target) as kept, contextlib.ExitStack() as stack:
        stack.enter_context(ends_like_ctrl_c())
        before = kept.count()
        try:
            found = asked.run(store=kept, workers=workers, report=say)
        except Interrupted:
            typer.echo(f"xbarsim: interrupted; {kept.count()} dies are in {target}, the same command goes on", err=True)
            raise typer.Exit(INTERRUPTED) from None
        count = kept.count()
    header, cells = found.front_cells()
    console = new_console()
    if cells:
        shown = new_table("Designs that no other beats, means over dies")
        for index, name in enumerate(header):
            shown.add_column(name, justify="right" if index else "left")
        for line in cells:
            shown.add_row(*line)
        console.print(shown)
    print_lines(console, found.notes)
    typer.echo(f"{count} dies in {target}, {count - before} of them new")
    if table is not None:
        found.to_csv(table)
        typer.echo(f"wrote {table}")
    if designs is not None:
        designs.mkdir(parents=True, exist_ok=True)
        for trial in found.front:
            assert trial.task is not None
            trial.task.design.save(designs / f"design_{trial.number}.toml")
        typer.echo(f"wrote {len(found.front)} designs into {designs}")
    if picture is not None:
        from matplotlib.figure import Figure

        from xbarsim.plot.search import search as draw

        figure = draw(found).figure
        assert isinstance(figure, Figure)
        write_picture(figure, picture)
    elif len(found.directions) > 1:
        again = shlex.join(["xbarsim", "search", str(file), *([] if store is None else ["--store", str(store)])])
        typer.echo(f"next: {again} --picture front.png --table designs.csv --designs front")
