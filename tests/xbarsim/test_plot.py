"""Pictures: what they show, where they draw, and that they change nothing outside."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import xbarsim as xb
from xbarsim import plot
from xbarsim.devices import Cell, StuckFaults
from xbarsim.mapping import Mapping

ROWS: list[dict[str, Any]] = [
    {"mapping": name, "rate": rate, "accuracy_mean": mean, "accuracy_low": low, "accuracy_high": high}
    for name, rate, mean, low, high in (
        ("TwoColumn", 0.0, 0.99, None, None),
        ("TwoColumn", 0.1, 0.40, 0.30, 0.50),
        ("TwoColumn", 0.01, 0.90, 0.85, 0.95),
        ("Balanced", 0.0, 0.99, None, None),
        ("Balanced", 0.01, 0.95, 0.93, 0.97),
        ("Balanced", 0.1, 0.60, 0.52, 0.68),
    )
]


@pytest.fixture(scope="module")
def chip() -> xb.Chip:
    design = xb.Design(
        cell=Cell.load("milo2021"),
        mapping=Mapping(rows=16, columns=16, weight_bits=5, cell_bits=4),
        faults=StuckFaults(on=0.05, off=0.05),
    )
    images = torch.linspace(0, 1, 60).reshape(3, 20)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 3))
    return xb.map_model(model, design, calibration=images).fabricate(seed=5)


def test_accuracy_draws_every_point_once() -> None:
    axes = plot.accuracy(ROWS)
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert list(lines) == ["TwoColumn", "Balanced"]
    x, y = np.asarray(lines["TwoColumn"].get_data())
    assert x.tolist() == [0.0, 0.01, 0.1]
    assert np.allclose(y, [99, 90, 40])
    assert len({(line.get_color(), line.get_marker()) for line in lines.values()}) == 2
    left, right = axes.get_xlim()
    assert left < 0 < 0.1 < right
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1", "10"]


def test_bands_are_the_intervals() -> None:
    axes = plot.accuracy(ROWS)
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)
    heights = {rate: sorted({round(y, 6) for x, y in band if x == rate}) for rate in (0.0, 0.01, 0.1)}
    assert heights == {0.0: [99.0], 0.01: [85.0, 95.0], 0.1: [30.0, 50.0]}


def test_accuracy_refuses_rows_without_points_or_keys() -> None:
    with pytest.raises(xb.InputError, match="rows must hold at least one point"):
        plot.accuracy([])
    with pytest.raises(xb.InputError, match=r"rows\[1\] must have a key 'accuracy_low'"):
        plot.accuracy([ROWS[0], {"mapping": "x", "rate": 0.1, "accuracy_mean": 0.5}])


@pytest.mark.parametrize("unit", ["level", "uS"])
def test_tile_shows_what_the_cells_hold(chip: xb.Chip, unit: Any) -> None:
    view = chip.tile("0", 1)
    panels = plot.tile(chip, "0", 1, unit=unit)
    assert panels.shape == (3,)
    for axes, values in zip(panels, (view.target, view.programmed, view.faulty), strict=True):
        shown = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
        expected = values if unit == "level" else 1e6 * chip.network.design.cell.conductance(values, 4)
        assert np.allclose(shown[view.used], np.asarray(expected)[view.used], rtol=1e-5)
        assert np.isnan(shown[~view.used]).all()
    assert "0, tile 1 of 2" in panels[0].figure.get_suptitle()


def test_every_broken_cell_is_marked_once(chip: xb.Chip) -> None:
    view = chip.tile("0")
    panels = plot.tile(view)
    marked = [tuple(point) for marks in panels[2].collections for point in marks.get_offsets().tolist()]
    columns = view.target.shape[1]
    assert sorted(marked) == sorted((float(i % columns), float(i // columns)) for i in view.faults.index)
    assert len(view.faults) > 0
    assert not panels[0].collections
    assert not panels[1].collections


def test_tile_refuses_what_it_cannot_draw(chip: xb.Chip) -> None:
    with pytest.raises(xb.InputError, match="unit must be 'level' for a tile without its chip"):
        plot.tile(chip.tile("0"), unit="uS")
    with pytest.raises(xb.InputError, match="unit must be one of"):
        plot.tile(chip, unit="S")  # type: ignore[arg-type]
    with pytest.raises(xb.InputError, match="layer must be one of"):
        plot.tile(chip, "nope")
    with pytest.raises(xb.InputError, match="ax must be three axes, got 2"):
        plot.tile(chip, ax=list(Figure().subplots(1, 2)))


def test_layer_errors_draws_both_errors_of_each_layer(chip: xb.Chip) -> None:
    report = chip.report(torch.linspace(0, 1, 60).reshape(3, 20))
    axes = plot.layer_errors(report)
    own, total = ([bar.get_width() for bar in bars] for bars in axes.containers)
    assert own == [error.own for error in report.layers]
    assert total == [error.total for error in report.layers]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "2"]


def test_pictures_use_the_axes_given_and_no_global_state(chip: xb.Chip) -> None:
    settings = dict(mpl.rcParams)
    figure = Figure()
    first, second = figure.subplots(1, 2)
    assert plot.accuracy(ROWS, ax=first) is first
    assert plot.layer_errors(chip.report(torch.ones(1, 20)), ax=second) is second
    panels = list(Figure().subplots(1, 3))
    assert list(plot.tile(chip, ax=panels)) == panels
    assert dict(mpl.rcParams) == settings


def test_a_picture_is_the_same_bytes_each_time() -> None:
    pictures = []
    for _ in range(2):
        stream = io.BytesIO()
        figure = Figure()
        plot.accuracy(ROWS, ax=figure.add_subplot())
        figure.savefig(stream, format="png")
        pictures.append(stream.getvalue())
    assert pictures[0] == pictures[1]


def test_importing_and_drawing_leave_pyplot_alone() -> None:
    code = (
        "import sys, xbarsim.plot as p\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
        "p.accuracy([dict(mapping='x', rate=0.1, accuracy_mean=0.5, accuracy_low=0.4, accuracy_high=0.6)])\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
