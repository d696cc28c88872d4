"""Tables: plain text for reports, CSV for files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["csv_bytes", "format_table"]

_WIDTH = 10**6  # characters: no table is cut


_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes the rest of a cell for a formula after


def csv_bytes(rows: Iterable[Mapping[str, Any]], header: Sequence[str] | None = None) -> bytes:
    """Rows as a CSV file: names in the first line, ``None`` as nothing, numbers so that they read back exactly.

    A text that a spreadsheet would take for a formula, because it begins with ``=``, ``+``, ``-``, ``@``, a tab or a
    carriage return and is no number, gets an apostrophe in front: spreadsheets then show it as text, and other programs
    see the apostrophe. Source: OWASP, CSV injection.

    Parameters
    ----------
    rows
        With the keys of the header, or some of them.
    header
        Names of the columns; ``None`` for the keys of the first row.
    """
    listed = list(rows)
    names = list(header if header is not None else listed[0] if listed else [])
    lines = [_line(names)]
    for row in listed:
        unknown = set(row) - set(names)
        if unknown:
            raise ValueError(f"rows must have the columns {names}, got {sorted(unknown)}")
        lines.append(_line(row.get(name) for name in names))
    return "".join(lines).encode()


def _line(cells: Iterable[Any]) -> str:
    stream = io.StringIO(newline="")
    # a carriage return in a cell is put into quotes only where it is part of the line's end
    csv.writer(stream, lineterminator="\r\n").writerow(map(_harmless, cells))
    return stream.getvalue().removesuffix("\r\n") + "\n"


def _harmless(cell: Any) -> Any:
    """A cell that no spreadsheet runs."""
    if not isinstance(cell, str) or not cell.startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> str:
    """A table with a rule under its header, as plain text: as wide as it needs, without colour or markup.

    What a report is printed as must not depend on the terminal, so the terminal is not asked.

    Parameters
    ----------
    header
        Column names, with units.
    rows
        Cells; turned into text with ``str``.
    left
        How many columns, from the first, are flush left; the rest are flush right.
    """
    from rich.console import Console
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for column in range(len(header)):
        table.add_column(justify="left" if column < left else "right", no_wrap=True)
    table.add_row(*map(Text, header))
    table.add_row(*(Rule(characters="-", style="none") for _ in header))
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    stream = io.StringIO()
    console = Console(
        file=stream, width=_WIDTH, color_system=None, force_terminal=False, force_jupyter=False, legacy_windows=False
    )  # in a notebook rich would show the table, and give no text
    console.print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
