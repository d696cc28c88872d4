"""The templates of pages: what is filled in is escaped, and a name that is missing is an error."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

__all__ = ["template"]


@cache
def template(name: str) -> jinja2.Template:
    """A template by the name of its file in ``templates``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)
