"""Tables for notebooks: escaped, whole, and short."""

from __future__ import annotations

import html.parser

import pytest

from xbarsim.foundation.html import html_table

NASTY = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


class Read(html.parser.HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.open: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.names |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f"{data}\n"


@pytest.mark.parametrize("rows", [0, 1, 12, 40])
def test_everything_that_is_filled_in_is_escaped(rows: int) -> None:
    page = Read(html_table(NASTY, (NASTY, "b"), [(NASTY, 1)] * rows, notes=[NASTY]))
    assert page.open == []
    assert set(page.tags) <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}
    assert page.names <= {"style", "scope"}
    assert page.words.count(NASTY) == 1 + (1 + (rows > 12)) + rows + 1  # a title, headers, cells, a note


def test_a_long_table_is_short_until_it_is_unfolded() -> None:
    long = html_table("t", ("n",), [(number,) for number in range(100)], most=5)
    seen, _, folded = long.partition("<details>")
    assert (seen.count("<td"), folded.count("<td")) == (5, 95)
    assert "<summary>95 more rows</summary>" in folded
    assert "<details>" not in html_table("t", ("n",), [(1,)] * 13)  # nobody unfolds a single row
    assert "<details>" in html_table("t", ("n",), [(1,)] * 14)
