"""A paper of your own, in one file: this one, whose text stands here as it would in ``experiments/papers``.

A weight that is stuck with probability p in any of its n cells is wrong with probability 1 - (1 - p)**n, which the
paper below counts on dies. ``python -m xbarsim.experiments.papers.doe2030`` would print it beside what is published and
write it into experiments/figures.

Published figures: J. Doe, How often a weight is wrong, Journal of Examples 1, 2030, doi:10.1000/182, equation 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from xbarsim.devices import StuckFaults
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import write_atomically
from xbarsim.mapping import Mapping, TwoColumn, map_matrix
from xbarsim.testing import check_paper

RATES = (0.001, 0.01, 0.1)
MAPPING = Mapping(encoding=TwoColumn(), rows=32, columns=32, weight_bits=8, cell_bits=4)
CELLS = 4  # of a weight: two slices, a column for each sign


def published(rate: float) -> float:
    """Equation 1 of the paper."""
    return 1 - (1 - rate) ** CELLS


def measured(rate: float, dies: int, seed: int) -> float:
    """Share of weights with a stuck cell, whether it shows or not."""
    matrix = map_matrix(np.ones((32, 8), np.int64), MAPPING)
    faults = StuckFaults(on=rate / 2, off=rate / 2)
    rng = np.random.default_rng(seed)
    hit = 0
    for _ in range(dies):
        broken = faults.sample(matrix.levels.shape, rng).dense() != 0
        hit += sum(
            broken[cells.tile, cells.row, cells.column].any()
            for cells in (matrix.cells_of(row, output) for row in range(32) for output in range(8))
        )
    return hit / (dies * 32 * 8)


def main(dies: int = 200, seed: int = 1, output: Path = FIGURES) -> None:
    """Count wrong weights and print their share beside the published one."""
    rows = [
        {"rate": rate, "published": published(rate), "measured": measured(rate, dies, seed), "dies": dies}
        for rate in RATES
    ]
    typer.echo(format_table(list(rows[0]), [list(row.values()) for row in rows]))
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "doe2030.csv", csv_bytes(rows))


# ------------------------------------------------------------------------------------------- its tests


def test_the_paper_keeps_the_promises_of_one() -> None:
    check_paper(sys.modules[__name__], dies=2)


@pytest.mark.parametrize("rate", RATES)
def test_the_measured_share_is_the_published_one(rate: float) -> None:
    dies = 20
    share = measured(rate, dies, seed=3)
    deviation = (published(rate) * (1 - published(rate)) / (dies * 32 * 8)) ** 0.5
    assert abs(share - published(rate)) < 5 * deviation  # weights do not share cells; p < 1e-6
