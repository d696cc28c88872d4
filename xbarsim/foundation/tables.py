"""Tables: plain text for reports, CSV for files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["csv_bytes", "format_table"]

_WIDTH = 10**6  # characters: no table is cut


def csv_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as a CSV file: the keys of the first as header, ``None`` as nothing, numbers so that they read back exactly.

    Parameters
    ----------
    rows
        All with the same keys.
    """
    listed = list(rows)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=list(listed[0]) if listed else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return stream.getvalue().encode()


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
    Console(file=stream, width=_WIDTH, color_system=None, force_terminal=False, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
