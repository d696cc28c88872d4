"""The study of noise through wires: its table, its small case, and what wires make themselves."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from torch import nn

from xbarsim.circuit import Wires
from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies.noise_through_wires import (
    CARDS,
    FILLINGS,
    RESISTANCES,
    fillings,
    measure,
    picture,
    wires_own_share,
)


def test_the_committed_table_is_whole_and_holds_what_the_documents_say() -> None:
    with (FIGURES / "noise_through_wires.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(CARDS) * len(RESISTANCES) * (2 * len(FILLINGS) + 1)
    for row in rows:
        estimate, without = float(row["estimate"]), float(row["without wires"])
        if row["rows driven"] in ("", "0.3"):
            assert abs(estimate) <= 0.0131
            assert float(row["worst column"]) < 0.0311
        assert abs(estimate) < 0.34 * without
        assert -0.025 < float(row["worst pair"]) < float(row["neighbours"]) < 0.0


def test_one_cell_with_a_wire_on_each_side() -> None:
    """By Nyquist the column has the noise of 1 / (1 / g + r), of which the cell makes ``1 / (1 + g r)``."""
    g, r = 1e-3, 50.0 + 70.0
    wires = Wires(word_line_resistance=50.0, bit_line_resistance=70.0)
    assert wires_own_share(np.array([[g]]), wires) == pytest.approx(g * r / (1.0 + g * r), rel=1e-9)


def test_a_small_tile_has_a_row_for_each_mechanism() -> None:
    first, *others = measure(CARDS[1], 20.0, FILLINGS[0], 16)
    assert [row["mechanism"] for row in (first, *others)] == ["thermal", "shot", "conductance"]
    assert first["wires' own share"] > 0.0
    for row in (first, *others):
        assert abs(row["estimate"]) < row["worst column"] < 0.05 < row["without wires"] * 2.0
    assert [row["mechanism"] for row in measure(CARDS[1], 20.0, 0.5, 16)] == ["shot", "conductance"]


def test_how_full_the_rows_are_by_hand() -> None:
    """One layer on one vector: codes 255, 128, 0 and -255; the squared mean over the mean square of all its reads."""
    layer = nn.Linear(4, 2)
    vector = torch.tensor([[2.0, 128 / 255 * 2, 0.0, -2.0]])
    squared = ((255 + 128) / 4) ** 2 + (255 / 4) ** 2
    assert fillings(layer, vector, 8) == pytest.approx([squared / ((255**2 + 128**2 + 255**2) / 4)], rel=1e-6)
    # of single bits: the lower seven are set in one of four rows, the highest in two; those of the negative in one
    assert fillings(layer, vector, 1) == pytest.approx([(7 / 16 + 4 / 16 + 8 / 16) / (7 / 4 + 2 / 4 + 8 / 4)], rel=1e-6)


def test_the_picture_has_a_panel_for_each_card_and_mechanism() -> None:
    rows = [row for resistance in RESISTANCES for card in CARDS for row in measure(card, resistance, 0.1, size=8)]
    titles = [axes.get_title() for axes in picture(rows).axes]
    assert titles == [f"{card}, {kind} noise" for card in CARDS for kind in ("thermal", "shot", "conductance")]
