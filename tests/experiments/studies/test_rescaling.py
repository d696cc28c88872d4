"""The study of rescaled channels: what it puts in changes nothing, and rescaling takes it out again."""

from __future__ import annotations

import csv

import pytest
import torch

from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies.rescaling import BITS, Row, picture, with_outliers
from xbarsim.models import load_story_transformer


def test_outliers_change_nothing_that_the_network_computes() -> None:
    model = load_story_transformer().eval()
    tokens = torch.randint(0, 22, (20, 72), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, answer = model(tokens), with_outliers(model)(tokens)
    torch.testing.assert_close(answer, expected, rtol=1e-3, atol=1e-3)
    norms = with_outliers(model).layers[0].norm1.weight / model.layers[0].norm1.weight  # type: ignore[union-attr,index]
    assert norms[:17].tolist() == pytest.approx([32.0] + [1.0] * 15 + [32.0])


def test_the_committed_table_is_whole_and_rescaling_takes_the_outliers_out_again() -> None:
    with (FIGURES / "rescaling.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * len(BITS)
    accuracy = {(row["outliers"], row["strength"], int(row["input_bits"])): float(row["accuracy"]) for row in rows}
    for bits in BITS:
        assert accuracy["True", "0.5", bits] == accuracy["False", "0.5", bits]  # the same codes, whatever the gain
        assert accuracy["True", "", bits] < accuracy["True", "0.5", bits]


def test_the_picture_has_a_line_for_each_case() -> None:
    rows = [
        Row(outliers=outliers, strength=strength, input_bits=bits, samples=10, accuracy=0.5, low=0.4, high=0.6)
        for outliers in (False, True)
        for strength in (None, 0.5)
        for bits in BITS
    ]
    (axes,) = picture(rows).axes
    assert len(axes.lines) == 4
    assert axes.get_xlabel() == "bits of inputs"
