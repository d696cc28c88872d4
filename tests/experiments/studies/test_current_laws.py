"""The study of curved cells: its table, its small case, and its picture."""

from __future__ import annotations

import csv

import pytest

from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies.current_laws import BITS, CURVATURES, RESISTANCES, measure, picture
from xbarsim.experiments.studies.noise_through_wires import CARDS


def test_the_committed_table_is_whole_and_holds_what_the_documents_say() -> None:
    with (FIGURES / "current_laws.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(CARDS) * len(RESISTANCES) * len(CURVATURES) * len(BITS)
    for row in rows:
        straight, networks = float(row["straight lines, rms"]), float(row["networks, rms"])
        if float(row["ohm a segment"]) == 0:
            assert networks < 1e-6
        elif float(row["curvature"]) == 1.0:
            assert networks < 0.0135
        assert networks <= 0.36 * straight or networks < 1e-6


@pytest.mark.parametrize("bits", BITS)
def test_small_tiles_are_measured_as_large_ones(bits: int) -> None:
    row = measure("falcone2025_coarse", 5.0, 1.0, bits, size=24)
    assert 0 < row["networks, rms"] < 0.3 * row["straight lines, rms"]
    assert row["networks, worst"] >= row["networks, rms"]
    assert measure("falcone2025_coarse", 0.0, 1.0, bits, size=24)["networks, worst"] < 1e-6


def test_the_picture_has_a_panel_for_each_width() -> None:
    with (FIGURES / "current_laws.csv").open(newline="") as stream:
        rows = [{k: v if k == "card" else float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
    figure = picture(rows)
    assert [axes.get_title() for axes in figure.axes] == ["codes of 1 bit", "codes of 4 bits"]
