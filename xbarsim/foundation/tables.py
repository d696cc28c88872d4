"""Tables: plain text for reports, CSV for files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["csv_bytes", "format_table"]


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
    """A table with a rule under its header.

    Parameters
    ----------
    header
        Column names, with units.
    rows
        Cells; turned into text with ``str``.
    left
        How many columns, from the first, are flush left; the rest are flush right.
    """
    text = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(row[column]) for row in text) for column in range(len(header))]
    text.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in text
    )
