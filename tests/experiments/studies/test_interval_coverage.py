"""The study of coverage: its committed table is what the script finds, and the document shows it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies.interval_coverage import COUNTS, INTERVALS, LAWS, coverage, picture

ROOT = Path(__file__).resolve().parents[3]


def test_the_committed_table_and_the_document_are_of_this_script() -> None:
    """Three rows drawn again from their seeds (the bootstrap aside), and every row as the document prints it."""
    with (FIGURES / "interval_coverage.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(LAWS) * len(COUNTS) * len(INTERVALS)
    for law in LAWS:
        stored = {row["interval"]: row for row in rows if (row["law"], row["dies"]) == (law, "10")}
        for row in coverage(law, 10, 20_000, 100):
            if row["interval"] != "mean, bootstrap":
                assert row["covered"] == pytest.approx(float(stored[row["interval"]]["covered"]), abs=1e-3)
    text = (ROOT / "docs" / "statistics.md").read_text()
    for start in range(0, len(rows), len(INTERVALS)):
        cells = [f"{100 * float(row['covered']):.1f}" if row["covered"] else "-" for row in rows[start:][:4]]
        assert f"| {rows[start]['law']} | {rows[start]['dies']} | {' | '.join(cells)} |" in text


def test_the_picture_has_a_panel_a_law_and_a_curve_an_interval() -> None:
    figure = picture([row for law in LAWS for row in coverage(law, 10, 100, 100)])
    assert [axes.get_title() for axes in figure.axes] == list(LAWS)
    assert all(len(axes.get_lines()) == 1 + len(INTERVALS) for axes in figure.axes)
    assert "%" in figure.axes[0].get_ylabel()
