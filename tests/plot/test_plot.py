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
from xbarsim.circuit import Wires, solve
from xbarsim.devices import Cell, StuckFaults
from xbarsim.foundation.intervals import FewDiesWarning
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


def test_dies_of_points_with_fewer_than_twenty_are_dots() -> None:
    """Beside the band; not with 20 dies, and not for a single one, which is the point itself."""
    values = {0.01: np.linspace(0.6, 0.9, 5), 0.1: np.linspace(0.3, 0.5, 20), 0.2: np.array([0.2])}
    dies = [{"mapping": "a", "rate": rate, "accuracy": float(v)} for rate, some in values.items() for v in some]
    with pytest.warns(FewDiesWarning, match="the mean of 5 dies"):
        axes = plot.accuracy(dies)
    _, dots = axes.collections
    offsets = np.asarray(dots.get_offsets())
    np.testing.assert_allclose(offsets, [(0.01, 100 * v) for v in values[0.01]])
    with pytest.warns(FewDiesWarning):
        layers = plot.layer_sensitivity([{"layer": "x", "accuracy": v} for v in (0.7, 0.8, 0.9)], baseline=0.95)
    np.testing.assert_allclose(np.asarray(layers.collections[-1].get_offsets()), [(25, 0), (15, 0), (5, 0)])


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


# ------------------------------------------------------------------------------------- tables of dies


def dies() -> list[dict[str, Any]]:
    """Three encodings, three rates, ten dies each."""
    rng = np.random.default_rng(7)
    rows = []
    for encoding, loss in (("TwoColumn", 30.0), ("Differential", 12.0), ("Offset", 45.0)):
        for rate in (0.0, 0.002, 0.01):
            for die in range(10):
                correct = int(np.clip(98 - loss * rate * 100 * rng.random(), 10, 100))
                rows.append(
                    {"encoding": encoding, "fault_rate": rate, "die": die, "accuracy": correct / 100,
                     "power_W": 0.1 * loss, "area_m2": 1e-6 * loss}
                )  # fmt: skip
    return rows


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]}


def test_a_table_of_dies_is_drawn_as_its_summary() -> None:
    from scipy import stats

    pandas = pytest.importorskip("pandas")
    rows = dies()
    pictures = [plot.accuracy(data, group="encoding", rate="fault_rate")
                for data in (rows, columns_of(rows), pandas.DataFrame(rows))]  # fmt: skip
    for axes in pictures:
        bands, dots = axes.collections[::2], axes.collections[1::2]  # of 10 dies a point
        assert sum(len(np.asarray(each.get_offsets())) for each in dots) == len(rows)
        for line, band, encoding in zip(axes.get_lines(), bands, ("TwoColumn", "Differential", "Offset"), strict=True):
            assert line.get_label() == encoding
            for rate, mean in np.asarray(line.get_data()).T:
                sample = [100 * r["accuracy"] for r in rows if r["encoding"] == encoding and r["fault_rate"] == rate]
                assert mean == pytest.approx(np.mean(sample))
                heights = [y for x, y in np.asarray(band.get_paths()[0].vertices) if x == rate]
                if np.ptp(sample) == 0:
                    assert np.allclose(heights, mean)
                    continue
                low, high = stats.t.interval(0.95, 9, np.mean(sample), stats.sem(sample))
                assert min(heights) == pytest.approx(low)
                assert max(heights) == pytest.approx(min(100, high))


def test_one_die_has_no_band() -> None:
    axes = plot.accuracy([dies()[0]], group="encoding", rate="fault_rate")
    heights = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1]
    assert np.ptp(heights) == 0


def test_yield_is_the_share_of_good_dies_with_exact_intervals() -> None:
    from scipy.stats import binomtest

    rows = dies()
    axes = plot.yield_curve(rows, 0.9)
    line, band = axes.get_lines()[0], axes.collections[0]
    for rate, share in np.asarray(line.get_data()).T:
        sample = [r["accuracy"] for r in rows if r["encoding"] == "TwoColumn" and r["fault_rate"] == rate]
        good = sum(accuracy >= 0.9 for accuracy in sample)
        assert share == pytest.approx(10 * good)
        exact = binomtest(good, 10).proportion_ci(0.95, method="exact")
        heights = [y for x, y in np.asarray(band.get_paths()[0].vertices) if x == rate]
        assert (min(heights), max(heights)) == pytest.approx((100 * exact.low, 100 * exact.high))
    assert axes.get_ylabel() == "dies with accuracy of 90 % or more (%)"
    on_target = [{"encoding": "x", "fault_rate": 0.1, "accuracy": 0.1 + 0.2}]  # a little more than 0.3
    for target in (0.3, 0.1 + 0.2):
        assert plot.yield_curve(on_target, target).get_lines()[0].get_ydata() == [100.0]


def test_every_die_is_a_point_of_its_violin() -> None:
    rows = [row for row in dies() if row["fault_rate"] == 0.01]
    axes = plot.die_violins(rows, chance=0.1)
    points = [c for c in axes.collections if len(np.asarray(c.get_offsets())) == 10]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["TwoColumn", "Differential", "Offset"]
    for place, found in enumerate(points):
        x, y = np.asarray(found.get_offsets()).T
        wanted = sorted(100 * r["accuracy"] for r in rows[10 * place : 10 * place + 10])
        assert y.tolist() == pytest.approx(wanted)
        assert (abs(x - place) < 0.1).all()
    equal = plot.die_violins([{"encoding": "x", "accuracy": 0.5}] * 3)  # no density, but points
    assert len(equal.collections) == 2
    by_rate = plot.die_violins(dies(), group="fault_rate")
    assert [label.get_text() for label in by_rate.get_xticklabels()] == ["0", "0.002", "0.01"]


def test_layers_lose_what_they_lose() -> None:
    rows = [{"layer": name, "accuracy": value} for name, value in (("a", 0.9), ("a", 0.8), ("b", 0.95), ("b", 0.95))]
    axes = plot.layer_sensitivity(rows, baseline=0.96)
    means = [float(line.get_xdata()[0]) for line in axes.get_lines() if line.get_marker() == "o"]  # type: ignore[index,arg-type]
    assert means == pytest.approx([11.0, 1.0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    without = plot.layer_sensitivity(rows)
    assert without.get_xlabel() == "accuracy (%)"


def test_occupied_tiles_are_counted(chip: xb.Chip) -> None:
    axes = plot.tile_occupancy(chip.network)
    used, idle = ([bar.get_width() for bar in bars] for bars in axes.containers)
    for place, mapped in enumerate(chip.network.layers.values()):
        cells = mapped.matrix.levels[0].size
        assert used[place] == pytest.approx(mapped.matrix.used.sum() / cells)
        assert used[place] + idle[place] == pytest.approx(mapped.matrix.tiles)
    assert axes.get_xlabel() == "tiles of 16 x 16 cells"


def test_markers_have_the_area_of_the_chip() -> None:
    axes = plot.pareto(dies(), group="encoding", against="accuracy")
    markers = [c for c in axes.collections if str(c.get_label()).endswith("mm²")]
    assert [m.get_label() for m in markers] == ["TwoColumn, 30 mm²", "Differential, 12 mm²", "Offset, 45 mm²"]
    sizes = [float(m.get_sizes()[0]) for m in markers]  # type: ignore[attr-defined]
    assert sizes[1] < sizes[0] < sizes[2]
    for marker, loss in zip(markers, (30.0, 12.0, 45.0), strict=True):
        assert np.asarray(marker.get_offsets())[0, 0] == pytest.approx(0.1 * loss)
    assert axes.get_xlim()[0] == 0


def test_a_fault_map_shows_every_broken_cell() -> None:
    found = StuckFaults(on=0.1, off=0.2).sample((2, 7, 9), np.random.default_rng(1))
    axes = plot.fault_map(found, 1)
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), found.dense()[1])
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["stuck off", "stuck on"]
    assert axes.get_title() == f"{100 * found.tile(1).rate:.3g} % broken"
    with pytest.raises(xb.InputError, match="tile must be"):
        plot.fault_map(found, 2)


def test_tables_that_cannot_be_drawn_are_refused() -> None:
    rows = dies()
    for draw in (plot.accuracy, plot.die_violins, plot.layer_sensitivity, plot.pareto):
        with pytest.raises(xb.InputError, match=r"must hold at least one (point|design), got none"):
            draw([])
        with pytest.raises(xb.InputError, match=r"\[0\] must have a key"):
            draw([{"nothing": 1}])
    with pytest.raises(xb.InputError, match=r"target must be .* got 1.5"):
        plot.yield_curve(rows, 1.5)
    with pytest.raises(xb.InputError, match=r"confidence must be .* got 1.0"):
        plot.yield_curve(rows, 0.5, confidence=1.0)
    with pytest.raises(xb.InputError, match=r"baseline must be .* got 99"):
        plot.layer_sensitivity([{"layer": "a", "accuracy": 0.5}], baseline=99)
    with pytest.raises(xb.InputError, match="dies must have columns of one length"):
        plot.die_violins({"encoding": ["a"], "accuracy": [0.1, 0.2]})


def test_pictures_of_sweeps_use_the_axes_given() -> None:
    settings = dict(mpl.rcParams)
    panels = list(Figure().subplots(2, 3).flat)
    rows = dies()
    assert plot.yield_curve(rows, 0.9, ax=panels[0]) is panels[0]
    assert plot.die_violins(rows, ax=panels[1]) is panels[1]
    assert plot.layer_sensitivity(rows, layer="encoding", ax=panels[2]) is panels[2]
    assert plot.pareto(rows, group="encoding", against="accuracy", ax=panels[3]) is panels[3]
    assert (
        plot.fault_map(StuckFaults(on=0.1, off=0.0).sample((1, 3, 3), np.random.default_rng(0)), ax=panels[4])
        is (panels[4])
    )
    assert dict(mpl.rcParams) == settings


def test_the_state_of_an_array_is_drawn_as_it_is() -> None:
    wires = Wires(word_line_resistance=100.0, bit_line_resistance=50.0)
    solution = solve([[1e-4, 2e-4, 3e-4], [4e-4, 5e-4, 6e-4]], [0.2, 0.1], wires)
    word, bit, cells = plot.circuit(solution)
    for axes, expected in (
        (word, 1e3 * solution.word_line_voltages),
        (bit, 1e3 * solution.bit_line_voltages),
        (cells, 1e6 * solution.cell_currents),
    ):
        np.testing.assert_array_equal(axes.get_images()[0].get_array(), expected)
        assert axes.get_xlabel() == "column (bit line)"
    assert [axes.get_ylabel() for axes in word.figure.axes[3:]] == ["voltage (mV)", "voltage (mV)", "current (µA)"]
    panels = list(Figure().subplots(1, 3))
    assert list(plot.circuit(solution, ax=panels)) == panels
    with pytest.raises(xb.InputError, match="ax must hold 3 axes, got 2"):
        plot.circuit(solution, ax=panels[:2])


def test_bands_of_other_images_are_wider_and_said_to_be(chip: xb.Chip) -> None:
    rows = [row | {"images": 100} for row in dies()]
    one, other = (
        plot.accuracy(rows, group="encoding", rate="fault_rate", other_images=images) for images in (False, True)
    )
    for narrow, wide in zip(one.collections[::2], other.collections[::2], strict=True):
        first, second = (np.asarray(band.get_paths()[0].vertices)[:, 1] for band in (narrow, wide))
        assert second.max() >= first.max()
        assert second.min() < first.min()
    captions = [plot.caption(axes.figure) for axes in (one, other)]  # type: ignore[arg-type]
    assert "over dies on the same test images, dots are single dies" in captions[0]
    assert "over dies and test images" in captions[1]
    with pytest.raises(xb.InputError, match="must have a key 'images'"):
        plot.accuracy(dies(), group="encoding", rate="fault_rate", other_images=True)
    with pytest.raises(xb.InputError, match="rows must be one a die"):
        plot.accuracy(ROWS, other_images=True)


def test_every_picture_has_a_caption_that_names_what_it_shows(chip: xb.Chip) -> None:
    rows = dies()
    drawn = {
        "yield": plot.yield_curve(rows, 0.9), "every die": plot.die_violins(rows),
        "one layer alone": plot.layer_sensitivity(rows, layer="encoding"),
        "markers grow": plot.pareto(rows, group="encoding", against="accuracy"),
        "peak power": plot.pareto(rows, group="encoding"),
        "error that each layer": plot.layer_errors(chip.report(torch.ones(1, 20))),
        "as a share of the whole": plot.cost_breakdown(chip.cost()),
        "how many tiles": plot.tile_occupancy(chip.network),
        "target, programmed, and faulty": plot.tile(chip)[0],
    }  # fmt: skip
    for words, axes in drawn.items():
        assert words in plot.caption(axes.figure).lower()
    assert plot.caption(Figure()) == ""
    panels = Figure().subplots(1, 2)
    for each in panels:
        plot.die_violins(rows, ax=each)
    assert plot.caption(panels[0].figure).count("Accuracy of every die") == 1
