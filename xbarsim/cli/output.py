"""Lines and tables on the terminal; all tables of the command line have this one look."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from xbarsim.foundation.validation import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["new_console", "new_table", "print_lines", "print_table", "write_picture"]

# As the tables of reports (xbarsim.foundation.tables): names of columns, a rule under each, and no lines else.
_BOX = Box("    \n    \n -  \n    \n    \n    \n    \n    \n", ascii=True)
_ANY_WIDTH = 10_000  # characters: what goes into a file or to another program is not folded


def new_console() -> Console:
    """Standard output: as wide as the terminal, or as wide as tables need where it is none."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_ANY_WIDTH)


def new_table(title: str | None = None) -> Table:
    """An empty table in the look of all."""
    heading = None if title is None else Text(title, style="bold")
    return Table(
        title=heading, title_justify="left", title_style="", box=_BOX, show_edge=False, pad_edge=False, padding=(0, 1)
    )


def print_lines(console: Console, lines: Iterable[object], start: str = "") -> None:
    """Print plain text, one line each, left to the terminal to wrap so that it can be copied."""
    for line in lines:
        console.print(f"{start}{line}", markup=False, highlight=False, soft_wrap=True)


def print_table(
    console: Console, title: str, header: Iterable[str], rows: Iterable[Iterable[object]], *, right: int | None = None
) -> None:
    """Print a table under its title; the column `right` is flush right."""
    console.print(Text(title, style="bold"), soft_wrap=True)
    table = new_table()
    for index, name in enumerate(header):
        justify: Literal["left", "right"] = "right" if index == right else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console.print(table)


def write_picture(figure: Figure, path: Path) -> None:
    """Write a picture and, in a text file beside it, its caption; and say so."""
    from xbarsim.plot import caption, save_figure

    save_figure(figure, path)
    beside = path.with_suffix(".txt")
    write_atomically(beside, (caption(figure) + "\n").encode())
    print_lines(new_console(), [f"wrote {path}, and its caption into {beside}"])
