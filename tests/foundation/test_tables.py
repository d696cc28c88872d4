"""Tables as text and as CSV."""

from __future__ import annotations

import csv
import io

from xbarsim.foundation.tables import csv_bytes, format_table


def test_columns_stand_under_each_other() -> None:
    text = format_table(("name", "value"), [("a", 1.5), ("longer", 10)])
    assert text.splitlines() == ["name    value", "------  -----", "a         1.5", "longer     10"]


def test_csv_reads_back_exactly() -> None:
    rows = [{"name": "a, b", "value": 0.1 + 0.2, "none": None}, {"name": 'say "c"', "value": 1e-300, "none": 1}]
    found = list(csv.DictReader(io.StringIO(csv_bytes(iter(rows)).decode(), newline="")))
    assert [row["name"] for row in found] == ["a, b", 'say "c"']
    assert [float(row["value"]) for row in found] == [0.1 + 0.2, 1e-300]
    assert [row["none"] for row in found] == ["", "1"]
