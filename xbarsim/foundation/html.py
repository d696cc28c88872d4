"""Tables for notebooks: short, escaped, without script, and readable on a light page and on a dark one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

__all__ = ["html_table"]

_MOST_ROWS = 12  # that are seen before the rest is unfolded

# Styles stand inside the elements: a notebook shows this among other outputs, and other rules of it may be anything.
# Colours are those of the page, so that no theme makes text unreadable.
_TEMPLATE = """\
{% macro cell(tag, value, index) -%}
{% set side = "left" if index < left else "right" -%}
{% set line = "border-bottom:1px solid; " if tag == "th" else "" -%}
{% set wrap = "" if index == last else "white-space:nowrap; " -%}
<{{ tag }}{{ ' scope="col"' | safe if tag == "th" }} style="padding:0.15em 0.8em; vertical-align:top; background:none; \
{{ line }}{{ wrap }}text-align:{{ side }}">{{ value }}</{{ tag }}>
{%- endmacro %}
{% macro table(rows) -%}
<table style="border-collapse:collapse; border:none; font-variant-numeric:tabular-nums">
{% if header %}
<thead><tr>{% for name in header %}{{ cell("th", name, loop.index0) }}{% endfor %}</tr></thead>
{% endif %}
<tbody>
{% for row in rows %}
<tr style="background:none">{% for value in row %}{{ cell("td", value, loop.index0) }}{% endfor %}</tr>
{% endfor %}
</tbody></table>
{%- endmacro %}
<div style="max-width:100%; overflow-x:auto; line-height:1.4">
<div style="margin:0.3em 0"><b>{{ title }}</b></div>
{{ table(first) }}
{% if rest %}
<details><summary>{{ rest | length }} more rows</summary>
{{ table(rest) }}
</details>
{% endif %}
{% for note in notes %}
<div style="opacity:0.8; margin:0.2em 0">{{ note }}</div>
{% endfor %}
</div>
"""


@cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE)


def html_table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    left: int = 1,
    notes: Iterable[str] = (),
    most: int = _MOST_ROWS,
) -> str:
    """A table as HTML for a notebook; all that is filled in is escaped.

    Parameters
    ----------
    title
        What stands above it, in one line.
    header
        Names of the columns, with units; none for a table of a name and a value a row.
    rows
        Cells; turned into text with ``str``. Only those of the last column wrap.
    left
        How many columns, from the first, are flush left; the rest are flush right.
    notes
        Lines below it.
    most
        Rows that are seen; the others unfold.
    """
    listed = [[str(value) for value in row] for row in rows]
    most = most if len(listed) > most + 1 else len(listed)  # nobody unfolds a single row
    page: str = _template().render(
        title=title,
        header=list(header),
        first=listed[:most],
        rest=listed[most:],
        left=left,
        last=max(map(len, listed), default=0) - 1,
        notes=list(notes),
    )
    return page
