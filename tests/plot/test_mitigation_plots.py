"""Pictures of repair: they show what the die holds, and agree with its table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import xbarsim as xb
from xbarsim import plot
from xbarsim.devices import Cell, FaultMap, LineFaults, StuckFaults
from xbarsim.mapping import Differential, Mapping, Offset
from xbarsim.mitigation import (
    ChooseCopies,
    ClosestValue,
    CorrectDigitally,
    Diagnosis,
    FlipSigns,
    JointCopies,
    MitigationTable,
    PermuteColumns,
    PermuteRows,
)

IMAGES = torch.linspace(0, 1, 60).reshape(3, 20)


def network(**options: Any) -> xb.MappedNetwork:
    encoding = options.pop("encoding", Differential())
    design = xb.Design(
        cell=Cell.load("islped2019"),
        mapping=Mapping(encoding=encoding, rows=16, columns=16, weight_bits=5, cell_bits=4),
        faults=StuckFaults(on=0.05, off=0.05),
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 3))
    return xb.map_model(model, design, calibration=IMAGES)


def shown(axes: Any) -> np.ndarray:
    return np.ma.filled(axes.images[0].get_array().astype(float), np.nan)


def power(chip: xb.Chip, layer: str, tile: int, deviations: np.ndarray) -> float:
    """What the drawn deviations (percent of full scale) come to as power of the outputs."""
    mapped = chip.network.layers[layer]
    codes = deviations * mapped.matrix.mapping.max_weight / 100
    rows, outputs = mapped.matrix.tile_rows[tile], mapped.matrix.tile_outputs[tile]
    importance = np.where(rows >= 0, mapped.mean_square_input[rows], 0.0)
    scale = np.where(outputs >= 0, mapped.layer.weight_scale[outputs], 0.0)
    return float((importance[:, np.newaxis] * codes**2 * scale**2).sum())


METHODS: tuple[tuple[xb.mitigation.Mitigation, ...], ...] = (
    (ClosestValue(),),
    (PermuteRows(spare=3), PermuteColumns(spare=4)),
    (FlipSigns(), CorrectDigitally(share=0.05)),
    (JointCopies(copies=3),),
    (ClosestValue(), ChooseCopies(copies=2)),
)


@pytest.mark.parametrize("methods", METHODS, ids=lambda methods: "+".join(type(each).__name__ for each in methods))
def test_the_deviations_drawn_are_those_of_the_table(methods: Any) -> None:
    chip = network().fabricate(5, mitigations=methods, diagnosis=Diagnosis(coverage=0.8, false_alarm=0.01))
    for layer in chip.layers:
        rows = [row for row in chip.mitigations.tiles if row.layer == layer]
        for tile in sorted({row.tile for row in rows}):
            own = [row for row in rows if row.tile == tile]
            panels = plot.mitigation(chip, layer, tile)
            assert power(chip, layer, tile, shown(panels[3])) == pytest.approx(own[-1].after)
            assert power(chip, layer, tile, shown(panels[2])) == pytest.approx(own[0].before)


@pytest.mark.parametrize("options", [{"encoding": Offset()}, {"line_faults": LineFaults(open_word_line=0.2)}])
def test_reference_columns_and_open_lines_are_in_the_deviations(options: dict[str, Any]) -> None:
    chip = network(**options).fabricate(2, mitigations=(ClosestValue(),), diagnosis=Diagnosis(coverage=0.9))
    for row in chip.mitigations.tiles:
        panels = plot.mitigation(chip, row.layer, row.tile)
        for axes, expected in ((panels[2], row.before), (panels[3], row.after)):
            assert expected > 0
            assert power(chip, row.layer, row.tile, shown(axes)) == pytest.approx(expected)


def test_before_is_the_same_die_without_repair() -> None:
    mapped = network()
    repaired = mapped.fabricate(5, mitigations=(PermuteRows(),), diagnosis=Diagnosis())
    plain, view = mapped.fabricate(5).tile("0", 1), repaired.tile("0", 1)
    panels = plot.mitigation(repaired, "0", 1)
    for axes, expected in ((panels[0], plain), (panels[1], view)):
        assert np.allclose(shown(axes)[expected.used], np.asarray(expected.faulty)[expected.used])
        marked = sorted(tuple(point) for marks in axes.collections for point in marks.get_offsets().tolist())
        row, column = np.divmod(expected.faults.index, 16)
        held = expected.used[row, column]
        assert marked == sorted(zip(column[held].tolist(), row[held].tolist(), strict=True))
    assert not np.array_equal(plain.faults.index, view.faults.index)  # the rows lie on other lines
    assert "0, tile 1 of 4: PermuteRows" in panels[0].figure.get_suptitle()


def test_a_die_without_faults_has_no_deviation() -> None:
    mapped = network()
    clean = {name: FaultMap.empty(layer.matrix.levels.shape) for name, layer in mapped.layers.items()}
    panels = plot.mitigation(mapped.fabricate(1, faults=clean, mitigations=(ClosestValue(),), diagnosis=Diagnosis()))
    assert not shown(panels[2]).any()
    assert not shown(panels[3]).any()
    assert "noise to signal 0" in panels[3].get_title()


def test_bars_are_the_table_before_and_after() -> None:
    chip = network().fabricate(5, mitigations=(ClosestValue(), PermuteRows()), diagnosis=Diagnosis())
    axes = plot.noise_to_signal(chip.mitigations)
    before, after = (np.array([bar.get_width() for bar in bars]) for bars in axes.containers)
    np.testing.assert_allclose(after, list(chip.mitigations.noise_to_signal().values()))
    plain = network().fabricate(5, mitigations=(CorrectDigitally(share=0.0),), diagnosis=Diagnosis())
    np.testing.assert_allclose(before, list(plain.mitigations.noise_to_signal().values()))
    assert (after < before).all()
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0", "2"]
    assert [bars.get_label() for bars in axes.containers] == ["before", "after"]


def test_what_cannot_be_drawn_is_refused() -> None:
    chip = network().fabricate(5)
    with pytest.raises(xb.InputError, match="chip must be made with mitigations"):
        plot.mitigation(chip)
    with pytest.raises(xb.InputError, match="table must be of a die made with mitigations"):
        plot.noise_to_signal(MitigationTable())
    chip = network().fabricate(5, mitigations=(JointCopies(),), diagnosis=Diagnosis())
    with pytest.raises(xb.InputError, match="layer must be one of '0', '2', got 'x'"):
        plot.mitigation(chip, "x")
    with pytest.raises(xb.InputError, match="tile must be an integer >= 0 and <= 3, got 4"):
        plot.mitigation(chip, "0", 4)
    with pytest.raises(xb.InputError, match="ax must be four axes, got 3"):
        plot.mitigation(chip, ax=Figure().subplots(1, 3))


def test_pictures_of_repair_use_the_axes_given() -> None:
    chip = network().fabricate(5, mitigations=(ClosestValue(),), diagnosis=Diagnosis())
    axes = Figure().subplots(2, 2).reshape(-1)
    assert list(plot.mitigation(chip, ax=axes)) == list(axes)
    one = Figure().add_subplot()
    assert plot.noise_to_signal(chip.mitigations, ax=one) is one
