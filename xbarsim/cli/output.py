"""Lines and tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_lines", "print_table"]


def print_lines(console: Console, lines: Iterable[object], start: str = "") -> None:
    """Print plain text, one line each, left to the terminal to wrap so that it can be copied."""
    for line in lines:
        console.print(f"{start}{line}", markup=False, highlight=False, soft_wrap=True)


def print_table(
    console: Console, title: str, header: Iterable[str], rows: Iterable[Iterable[object]], *, right: int | None = None
) -> None:
    """Print a table under its title; the column `right` is flush right."""
    console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table()
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index == right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console.print(table)
