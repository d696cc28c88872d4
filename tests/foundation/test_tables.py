"""Tables as text and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbarsim.foundation.tables import csv_bytes, format_table


def test_columns_stand_under_each_other() -> None:
    text = format_table(("name", "value"), [("a", 1.5), ("longer", 10)])
    assert text.splitlines() == ["name    value", "------  -----", "a         1.5", "longer     10"]


def test_a_notebook_gets_text_too(monkeypatch: pytest.MonkeyPatch) -> None:
    text = format_table(("name", "value"), [("a", 1.5)])
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert format_table(("name", "value"), [("a", 1.5)]) == text


def by_hand(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """The same table in plain Python."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, ["-" * width for width in widths], *rows):
        cells = (
            text.ljust(w) if i < left else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


words = st.text("ab 19.-[]{}/:µ²Δ", max_size=12).map(str.rstrip)


@given(data=st.data(), columns=st.integers(1, 5))
def test_any_text_stands_as_it_is(data: st.DataObject, columns: int) -> None:
    header = data.draw(st.lists(words.filter(bool), min_size=columns, max_size=columns))
    rows = data.draw(st.lists(st.lists(words, min_size=columns, max_size=columns), max_size=5))
    left = data.draw(st.integers(0, columns))
    assert format_table(header, rows, left=left) == by_hand(header, rows, left)


def test_a_table_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("[bold]x[/bold]", "y" * 300), (":smile:", "https://example.org/1")]
    plain = format_table(("name", "value"), rows, left=2)
    for name, value in {"COLUMNS": "20", "FORCE_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    assert format_table(("name", "value"), rows, left=2) == plain == by_hand(("name", "value"), rows, 2)


def test_csv_reads_back_exactly() -> None:
    rows = [{"name": "a, b", "value": 0.1 + 0.2, "none": None}, {"name": 'say "c"', "value": 1e-300, "none": 1}]
    lines = list(csv.DictReader(io.StringIO(csv_bytes(iter(rows)).decode(), newline="")))
    assert [row["name"] for row in lines] == ["a, b", 'say "c"']
    assert [float(row["value"]) for row in lines] == [0.1 + 0.2, 1e-300]
    assert [row["none"] for row in lines] == ["", "1"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\t=", "--", "+-"])
def test_no_cell_of_a_csv_is_a_formula(start: str) -> None:
    text = start + "cmd|' /C calc'!A0"
    read = list(csv.reader(io.StringIO(csv_bytes([{text: text}]).decode(), newline="")))
    assert read == [["'" + text], ["'" + text]]


@pytest.mark.parametrize("text", ["-5", "+0.5", "-1e-300", "-inf", "a=b", "1-2", "", "'=1", " =1"])
def test_other_cells_of_a_csv_stay_as_they_are(text: str) -> None:
    assert list(csv.DictReader(io.StringIO(csv_bytes([{"name": text, "end": 0}]).decode(), newline=""))) == [
        {"name": text, "end": "0"}
    ]


@given(number=st.floats(allow_nan=False) | st.integers())
def test_numbers_of_a_csv_read_back(number: float) -> None:
    cell = csv_bytes([{"value": number}]).decode().splitlines()[1]
    assert type(number)(cell) == number


def test_a_csv_has_the_columns_that_were_asked_for() -> None:
    assert csv_bytes([{"b": 1}, {"a": 2.5}], ("a", "b")) == b"a,b\n,1\n2.5,\n"
    assert csv_bytes([], ("a",)) == b"a\n"
    with pytest.raises(ValueError, match=r"rows must have the columns \['a'\], got \['b'\]"):
        csv_bytes([{"b": 1}], ("a",))
