"""Event-driven reads: what inputs drive and read is counted vector by vector, and charged for nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import xbarsim as xb
from xbarsim.cost import Activity, Hardware, estimate
from xbarsim.design import AdcErrors, DacErrors, Drive
from xbarsim.devices import Cell, Polynomial, ReadNoise, ThermalNoise
from xbarsim.engine import reference_multiply
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Differential, Mapping, Offset, Reading, TwoColumn, map_matrix
from xbarsim.network.activity import ActivityCounts
from xbarsim.sweep import Task

CELL = Cell(name="test", g_min=1e-6, g_max=16e-6, levels=16, read_voltage=0.2)
ISAAC = Hardware.load("isaac")


def design(**periphery: Any) -> xb.Design:
    return xb.Design(
        cell=CELL,
        mapping=Mapping(rows=16, columns=16, weight_bits=5, cell_bits=4),
        periphery=xb.Periphery(input_bits=4, adc_bits=8, **periphery),
    )


def network(**periphery: Any) -> xb.MappedNetwork:
    """Two linear layers; a rectifier stands between them, and the second of the input's halves is silent."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(40, 20), nn.ReLU(), nn.Linear(20, 5))
    return xb.map_model(model, design(**periphery), calibration=images(16))


def images(count: int) -> torch.Tensor:
    inputs = torch.rand(count, 40, generator=torch.Generator().manual_seed(1))
    inputs[:, 20:] = 0
    return inputs


def counted_one_by_one(codes: npt.NDArray[Any], reading: Reading, drive: Drive) -> tuple[float, ...]:
    """The shares of `Activity` by their definitions, read by read."""
    matrix = reading.matrix
    groups = drive.row_group_count(int((matrix.tile_rows >= 0).sum(axis=1).max()))
    lines = driven = reads = read = conversions = converted = steps = taken = 0
    for vector in codes:
        for _, whole in drive.driven(vector):
            for plane in range(drive.planes):
                x = drive.plane(whole, plane)
                busy = np.zeros(groups, bool)
                for tile in range(matrix.tiles):
                    each = int(reading.used[tile].sum())
                    reads, conversions = reads + groups, conversions + groups * each
                    for number, rows in drive.row_groups(matrix.tile_rows[tile] >= 0):
                        on = int(np.count_nonzero(x[matrix.tile_rows[tile][rows]]))
                        lines, driven = lines + len(rows), driven + on
                        if on:
                            busy[number] = True
                            read, converted = read + 1, converted + each
                steps, taken = steps + groups, taken + int(busy.sum())
    share = np.count_nonzero(codes) / codes.size
    return share, driven / lines, read / reads, converted / conversions, taken / steps


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_share_is_that_of_its_definition(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    encoding = data.draw(st.sampled_from([TwoColumn(), Differential(), Offset()]))
    pack = data.draw(st.sampled_from(["none", "matrix", "block"]))
    mapping = Mapping(encoding=encoding, rows=8, columns=8, weight_bits=3, cell_bits=2, pack=pack)
    weights = rng.integers(-3, 4, (20, 5)) * (rng.random((20, 5)) < 0.5)
    weights[0, 0] = 1
    signed = data.draw(st.booleans())
    drive = Drive(
        signed=signed,
        input_bits=data.draw(st.integers(2, 4)),
        dac_bits=data.draw(st.integers(1, 2)),
        signed_inputs=data.draw(st.sampled_from(["two_pass", "offset"])),
        active_rows=data.draw(st.sampled_from([None, 3])),
    )
    accelerator = xb.Design(cell=CELL, mapping=mapping)
    reading = accelerator.reading(map_matrix(weights, mapping))
    codes = rng.integers(drive.min_input, drive.max_input + 1, (7, 20)) * (rng.random((7, 20)) < 0.2)
    counts = ActivityCounts(reading, drive)
    counts.add(codes[:3])
    counts.add(codes[3:])
    shares = counts.shares()
    assert shares is not None
    found = (shares.inputs, shares.drives, shares.reads, shares.conversions, shares.steps)
    assert found == counted_one_by_one(codes, reading, drive)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), encoding=st.sampled_from([TwoColumn(), Differential(), Offset()]))
def test_a_read_of_nothing_gives_nothing_wherever_it_may_be_skipped(seed: int, encoding: Any) -> None:
    """In the reference engine, off the levels, with g_min and a coarse converter: no other answer than 0."""
    rng = np.random.default_rng(seed)
    mapping = Mapping(encoding=encoding, rows=8, columns=8, weight_bits=3, cell_bits=2)
    accelerator = xb.Design(cell=CELL, mapping=mapping, periphery=xb.Periphery(adc_bits=3, adc_range="full"))
    reading = accelerator.reading(map_matrix(rng.integers(-3, 4, (10, 4)), mapping))
    drive, converter = accelerator.drive(signed=False), accelerator.converter(rows=8)
    cells = reading.matrix.levels + rng.normal(0, 0.3, reading.matrix.levels.shape)
    assert (reference_multiply(np.zeros((2, 10), int), reading, cells, drive, converter) == 0).all()


def test_skipping_changes_no_answer_and_no_task_that_does_not_skip() -> None:
    always, seldom = network(), network(skip_idle=True)
    inputs = images(8)
    assert torch.equal(always.fabricate(seed=2)(inputs), seldom.fabricate(seed=2)(inputs))
    tasks = [Task(network="digits", design=design(skip_idle=skip), seed=1) for skip in (False, True)]
    assert "skip_idle" not in tasks[0].description  # nor was it before there was a choice: ids stay
    assert tasks[0].id != tasks[1].id


def test_a_silent_half_is_neither_read_nor_driven() -> None:
    mapped = network(skip_idle=True)
    first = mapped.layers["0"].activity
    assert first is not None
    tiles = mapped.layers["0"].matrix
    silent = [tile for tile in range(tiles.tiles) if (tiles.tile_rows[tile][tiles.tile_rows[tile] >= 0] >= 20).all()]
    assert silent
    assert first.inputs <= 0.5
    assert first.reads <= 1 - len(silent) / tiles.tiles
    assert first.steps > first.reads  # other arrays of the same step are read


def test_energy_and_time_by_hand() -> None:
    activity = Activity(inputs=0.5, drives=0.25, reads=0.5, conversions=0.4, steps=0.8)
    mapped = network(skip_idle=True)
    use = next(iter(mapped.cost().layers)).use
    plain, skipping = (type(use)(**(vars(use) | {"activity": activity, "skip_idle": skip})) for skip in (False, True))
    before, after = (estimate([each], ISAAC).workload() for each in (plain, skipping))
    first, second = before.layers[0], after.layers[0]
    assert second.actions.read == pytest.approx(0.5 * first.actions.read)
    assert second.actions.conversion == pytest.approx(0.4 * first.actions.conversion)
    assert second.actions.input_bit == pytest.approx(0.25 * first.actions.input_bit)
    assert second.actions.output == first.actions.output
    assert second.time == pytest.approx(0.8 * first.time)
    energy = {cost.name: cost.energy for cost in first.components}
    saved = {cost.name: cost.energy for cost in second.components}
    assert saved["ADC"] == pytest.approx(0.4 * energy["ADC"])
    assert saved["DAC"] == pytest.approx(0.25 * energy["DAC"])
    assert saved["sample and hold"] == pytest.approx(0.4 * energy["sample and hold"])
    assert saved["cells"] == energy["cells"]  # their mean power knows which inputs are 0
    # the detector looks at every read: 0.01 mW for 1,024 rows of all arrays, all the time that they could be read
    assert "idle detector" not in energy
    rows = use.counted("driven_rows")
    assert saved["idle detector"] == pytest.approx(0.01e-3 / 1024 * rows * first.time, rel=1e-12)
    assert after.peak.area - before.peak.area == pytest.approx(1e-13 / 1024 * use.rows * use.arrays, rel=1e-6)
    assert after.to_rows()[0]["input_activity"] == 0.5
    assert after.to_rows()[0]["reads_made"] == 0.5
    assert "50.0%" in str(after)


def test_without_the_choice_activity_is_shown_and_charges_nothing() -> None:
    mapped = network()
    report = mapped.cost().workload()
    assert report.to_rows()[0]["reads_made"] == 1.0
    assert report.to_rows()[0]["input_activity"] == mapped.layers["0"].activity.inputs  # type: ignore[union-attr]
    blind = xb.Crossbar(np.eye(4), design(adc_range="full", skip_idle=True), seed=1).cost()
    assert any("no inputs were looked at" in note for note in blind.notes)
    assert blind.workload().to_rows()[0]["reads_made"] == 1.0
    assert any("finding idle reads" in note for note in network(skip_idle=True).cost("islped2019").notes)


def test_a_die_counts_what_it_ran() -> None:
    mapped = network(skip_idle=True)
    chip = mapped.fabricate(seed=1)
    inputs = images(16)
    table = chip.activity(inputs, batch_size=5)
    assert table["0"] == mapped.layers["0"].activity  # the calibration set itself, all of it sampled
    assert str(table) == str(chip.activity(inputs))
    assert "16 samples" in str(table)
    silent = chip.activity(torch.zeros(4, 40))
    assert silent["0"] == Activity(inputs=0, drives=0, reads=0, conversions=0, steps=0)
    work = chip.cost(activity=silent).workload(replication="chip")
    assert work.layers[0].time == 0.0
    assert work.layers[0].actions.conversion == 0.0
    assert table["0"] is not None
    assert chip.report(inputs).layers[0].activity == pytest.approx(table["0"].inputs)
    with pytest.raises(InputError, match="activity must be of the layers"):
        chip.cost(activity=type(table)({"other": None}, 1))


def test_activity_is_kept_in_files(tmp_path: Path) -> None:
    mapped = network(skip_idle=True)
    mapped.save(tmp_path / "network")
    loaded = xb.MappedNetwork.load(
        tmp_path / "network", model=nn.Sequential(nn.Linear(40, 20), nn.ReLU(), nn.Linear(20, 5))
    )
    assert [each.activity for each in loaded.layers.values()] == [each.activity for each in mapped.layers.values()]


@pytest.mark.parametrize("errors", [{"adc_errors": AdcErrors(offset=0.1)}, {"dac_errors": DacErrors(offset=0.1)}])
def test_reads_that_would_give_something_are_not_skipped(errors: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="skip_idle must be False where drivers have offsets"):
        design(skip_idle=True, **errors)
    noisy = Cell(
        name="warm", g_min=1e-6, g_max=16e-6, levels=16, read_voltage=0.2, read_noise=ThermalNoise(bandwidth=1e8)
    )
    with pytest.raises(InputError, match="skip_idle must be False for cell 'warm'"):
        design(skip_idle=True).replace(cell=noisy)
    measured = ReadNoise(
        spread=Polynomial(coefficients=(1e-8,), scale=1e-6), valid_from=0.0, valid_to=1e-4
    )  # a current's: 0 at 0 V
    relative = Cell(g_min=1e-6, g_max=16e-6, levels=16, read_noise=measured)
    assert design(skip_idle=True).replace(cell=relative).periphery.skip_idle
