"""Plain-text tables for reports."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["format_table"]


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
