"""``xbarsim demo``: a small network under three mappings, and repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbarsim.cli.output import new_console, print_lines
from xbarsim.foundation.validation import check_integer

__all__ = ["demo"]

_MOST_WORKERS = 4  # each loads torch: some 400 MB


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the results; made if it does not exist.")] = Path("demo"),
    dies: Annotated[int | None, typer.Option(help="Dies at each point (20, or 3 with --quick).")] = None,
    seed: Annotated[int, typer.Option(help="Root of the dies' seeds.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Three fault rates and few dies, in some seconds.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes to share the work (one a core, 4 at most); changes no result."),
    ] = None,
) -> None:
    """Measure a small network on crossbars with stuck cells, under three mappings and, under one of them, repaired.

    Prints accuracy, power and area, and writes results.csv (one row a die), summary.csv (one row a point) and
    accuracy.png.
    """
    from xbarsim.cli import demonstration
    from xbarsim.foundation.processes import cores
    from xbarsim.foundation.validation import prepare_folder

    dies = (3 if quick else 20) if dies is None else dies
    workers = min(cores(), _MOST_WORKERS) if workers is None else workers
    for name, value, least in (("dies", dies, 1), ("seed", seed, 0), ("workers", workers, 1)):
        check_integer(name, value, at_least=least)  # before a folder is made for the results
    folder = prepare_folder(output)
    rates = (0.0, 0.01, 0.1) if quick else demonstration.RATES
    result = demonstration.run_demo(dies=dies, seed=seed, rates=rates, workers=workers)
    console = new_console()
    for table in result.tables():
        console.print(table)
    print_lines(console, result.notes(), "note: ")
    for path in result.save(folder):
        typer.echo(f"wrote {path}")
