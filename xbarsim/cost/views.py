"""Ways to show a cost: text tables, a data frame, an HTML tree."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["frame", "html_tree", "number", "percent", "table"]


def number(value: float) -> str:
    """Four significant digits, without an exponent where that can be read."""
    if value == 0:
        return "0"
    digits = 3 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(digits, 0)}f}" if digits < 9 else f"{value:.3e}"


def percent(part: float, whole: float) -> str:
    """A part of a whole in percent, ``"-"`` where the whole is 0."""
    return f"{part / whole:.1%}" if whole else "-"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> list[str]:
    """Lines of a table: the first `words` columns to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, ["-" * width for width in widths], *rows):
        cells = (
            text.ljust(width) if column < words else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return lines


def frame(rows: list[dict[str, Any]]) -> Any:
    """Rows as a pandas data frame.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install pandas") from error
    return pandas.DataFrame(rows)


def html_tree(tree: dict[str, Any], quantities: Mapping[str, tuple[str, float]]) -> str:
    """A tree of costs as HTML that folds, for notebooks.

    Parameters
    ----------
    tree
        Nested dictionaries with the keys name, children and those of `quantities`.
    quantities
        Key, and its title with unit and what one such unit is in SI.
    """
    wholes = {key: tree[key] for key in quantities}

    def cells(node: dict[str, Any]) -> str:
        return " &middot; ".join(
            f"{escape(title)} {number(node[key] / unit)} ({percent(node[key], wholes[key])})"
            for key, (title, unit) in quantities.items()
        )

    def draw(node: dict[str, Any], depth: int) -> str:
        line = f"<b>{escape(str(node['name']))}</b> {cells(node)}"
        if not node["children"]:
            return f"<div style='margin-left:1.5em'>{line}</div>"
        inside = "".join(draw(child, depth + 1) for child in node["children"])
        state = " open" if depth < 1 else ""
        return f"<details style='margin-left:1em'{state}><summary>{line}</summary>{inside}</details>"

    return draw(tree, 0)
