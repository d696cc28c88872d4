"""Ways to show a cost: numbers as text, a data frame, an HTML tree."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["count", "frame", "html_tree", "number", "percent"]


def number(value: float) -> str:
    """Four significant digits, without an exponent where that can be read."""
    if value == 0:
        return "0"
    digits = 3 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(digits, 0)}f}" if digits < 9 else f"{value:.3e}"


def count(value: float) -> str:
    """A count, with two digits behind the point where it is a mean that is not whole."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def percent(part: float, whole: float) -> str:
    """A part of a whole in percent, ``"-"`` where the whole is 0."""
    return f"{part / whole:.1%}" if whole else "-"


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


@cache
def _templates() -> Any:
    """The environment of the room's templates; what is filled in is escaped."""
    import jinja2

    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number}
    environment.globals |= {"percent": percent}
    return environment


def html_tree(tree: dict[str, Any], columns: Mapping[str, tuple[str, float]]) -> str:
    """A tree of costs as HTML that folds, for notebooks.

    Parameters
    ----------
    tree
        Nested dictionaries with the keys name, children and those of `columns`.
    columns
        Key, and its title with unit and what one such unit is in SI.
    """
    page: str = _templates().get_template("tree.html").render(tree=tree, columns=columns)
    return page
