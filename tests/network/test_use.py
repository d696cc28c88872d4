"""What a mapped network uses, and what it costs: its cells' own power, its encoding, its packing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import xbarsim as xb
from xbarsim.cost import Hardware, compare
from xbarsim.devices import Cell, FaultMap
from xbarsim.mapping import Differential, Mapping, Offset, TwoColumn, map_matrix
from xbarsim.network import MappedNetwork, map_model
from xbarsim.network.use import index_bits

ISAAC = Hardware.load("isaac")
CELL = Cell(name="test", g_min=1e-6, g_max=16e-6, levels=16, read_voltage=0.2)


def network(encoding: Any = None, *, weights: Any = None, subtraction: Any = None) -> MappedNetwork:
    """One linear layer of 20 inputs and 6 outputs, its inputs in [0, 1]."""
    generator = torch.Generator().manual_seed(3)
    layer = nn.Linear(20, 6, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(6, 20, generator=generator) if weights is None else weights)
    design = xb.Design(
        cell=CELL,
        mapping=Mapping(
            encoding=TwoColumn() if encoding is None else encoding,
            rows=16,
            columns=16,
            weight_bits=5,
            cell_bits=4,
            pack="none",
        ),
        periphery=xb.Periphery(input_bits=4, dac_bits=1, adc_bits=8, subtraction=subtraction),
    )
    return map_model(nn.Sequential(layer), design, calibration=torch.rand(50, 20, generator=generator))


@pytest.mark.parametrize("encoding", [TwoColumn(), Differential()])
def test_static_power_of_an_encoding_in_closed_form(encoding: Any) -> None:
    """Per weight: two columns draw 2 g_min + |s| step, parked zeros 2 g_max - |s| step (s: slice, step: a level)."""
    mapped = network(encoding)
    (layer,) = mapped.layers.values()
    drive = layer.mean_square_input[:, np.newaxis]  # mean square voltage of each input over the read voltage's
    size = np.abs(layer.layer.codes)
    step = 15e-6 / 15
    each = 2e-6 + size * step if isinstance(encoding, TwoColumn) else 32e-6 - size * step
    expected = 0.2**2 * float((drive * each).sum())
    report = mapped.cost()
    assert next(c.power for c in report.components if c.name == "cells") == pytest.approx(expected, rel=1e-6)
    work = report.workload()
    assert next(c.energy for c in work.components if c.name == "cells") == pytest.approx(
        expected * 4 * ISAAC.time_per_read(16), rel=1e-6
    )


def test_drive_is_the_mean_square_of_the_planes() -> None:
    """Inputs of one code: each plane is a bit of it, so the drive is the share of its bits that are 1."""
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    design = xb.Design(
        cell=CELL,
        mapping=Mapping(rows=4, columns=4, weight_bits=5, cell_bits=4),
        periphery=xb.Periphery(input_bits=4, dac_bits=1, adc_bits=6),
    )
    images = torch.tensor([[1.0, 1 / 3]] * 3)  # codes 15 and 5: bits 1111 and 0101
    (mapped,) = map_model(nn.Sequential(layer), design, calibration=images).layers.values()
    assert mapped.mean_square_input.tolist() == [1.0, 0.5]


def test_a_die_without_faults_costs_what_its_network_costs() -> None:
    mapped = network(Differential())
    assert mapped.fabricate(seed=1).cost() == mapped.cost()
    assert mapped.fabricate(seed=1).cost().workload() == mapped.cost().workload()


def test_stuck_cells_burn_and_save_power_exactly() -> None:
    mapped = network()
    ((name, layer),) = mapped.layers.items()
    tile, row, column = 0, 3, 2
    kinds = np.zeros(layer.matrix.levels.shape, dtype=int)
    level = int(layer.matrix.levels[tile, row, column])
    before = mapped.cost().power
    drive = layer.mean_square_input[layer.matrix.tile_rows[tile, row]]
    for kind, target in ((2, 15), (1, 0)):
        kinds[tile, row, column] = kind
        chip = mapped.fabricate(seed=1, faults={name: FaultMap.from_dense(kinds)})
        held = float(chip.layers[name].cells()[tile, row, column])
        assert held == target
        change = 0.2**2 * drive * (held - level) * 1e-6
        assert chip.cost().power - before == pytest.approx(change, rel=1e-5, abs=1e-12)


def test_pruning_saves_with_two_columns_and_costs_with_parked_zeros() -> None:
    weights = torch.randn(6, 20, generator=torch.Generator().manual_seed(1))
    sparse = weights.clone()
    sparse[sparse.abs() < 1.0] = 0.0
    power = {
        (type(encoding).__name__, kind): network(encoding, weights=each).cost().power
        for encoding in (TwoColumn(), Differential())
        for kind, each in (("dense", weights), ("sparse", sparse))
    }
    assert power["TwoColumn", "sparse"] < power["TwoColumn", "dense"]
    assert power["Differential", "sparse"] > power["Differential", "dense"] > power["TwoColumn", "dense"]


def test_what_a_mapped_layer_uses_by_hand() -> None:
    mapped = network()  # two columns a weight: 8 outputs a tile; 20 inputs on tiles of 16 rows
    (used,) = (each.use for each in mapped.cost(data=False).layers)
    assert (used.arrays, used.driven_rows, used.used_columns, used.conversions) == (2, 20, 24, 12)
    assert (used.cells_used, used.inputs, used.outputs, used.index_bits) == (20 * 12, 20, 6, 0)
    assert (used.reads_per_vector, used.input_bits, used.macs_per_vector) == (4, 4, 120)
    assert used.cells_power is None
    offset = network(Offset(reference="column"))  # 15 outputs and a reference a tile, every column converted
    (used,) = (each.use for each in offset.cost(data=False).layers)
    assert used.used_columns == used.conversions
    assert used.used_columns == 2 * (6 * offset.design.mapping.slices + 1)
    power = offset.cost(data=False).power
    assert power != offset.cost().power


@pytest.mark.parametrize(
    ("pack", "rows", "outputs", "bits"),
    [("none", 10, 3, 0), ("matrix", 40, 8, 0), ("matrix", 10, 8, 10 * 6), ("matrix", 10, 3, 10 * 6 + 3 * 3)],
)
def test_index_bits_by_hand(pack: Any, rows: int, outputs: int, bits: int) -> None:
    codes = np.zeros((40, 8), dtype=int)
    codes[:rows, :outputs] = 1  # of 40 inputs (6 bits) and 8 outputs (3 bits)
    assert index_bits(map_matrix(codes, Mapping(rows=16, columns=16, weight_bits=5, cell_bits=4, pack=pack))) == bits


def test_index_bits_of_blocks() -> None:
    codes = np.zeros((40, 16), dtype=int)
    codes[:10, :8] = 1
    codes[:20, 8:] = 1  # two blocks of outputs with lists of 10 and of 16 + 4 rows
    mapping = Mapping(rows=16, columns=16, weight_bits=5, cell_bits=4, pack="block")
    assert index_bits(map_matrix(codes, mapping)) == (10 + 20) * 6
    assert index_bits(map_matrix(np.zeros((40, 16), dtype=int), mapping)) == 0


@pytest.mark.parametrize(
    ("encoding", "subtraction", "expected"),
    [
        # conversions, subtractions and sums of inputs a read: 2 tiles, 6 outputs each; slices of 4 of 5 bits: 1 or 2
        (TwoColumn(), "analog", (12, 0, 0)),
        (TwoColumn(), "digital", (24, 0, 0)),  # the second code of a pair is added up like the first
        (Offset(reference="column"), "digital", (2 * (6 * 2 + 1), 12, 0)),
        (Offset(reference="digital"), "digital", (2 * 6 * 2, 12, 2)),
    ],
)
def test_what_a_read_converts_and_takes_off(encoding: Any, subtraction: Any, expected: tuple[int, ...]) -> None:
    report = network(encoding, subtraction=subtraction).cost()
    (used,) = (each.use for each in report.layers)
    assert (used.conversions, used.subtractions, used.input_sums) == expected
    noted = [note for note in report.notes if "digital" in note]
    assert len(noted) == (expected[1] > 0)  # not charged by any card, and said
    assert all(f"{expected[1]} subtractions" in note and f"{expected[2]} sums" in note for note in noted)


def test_a_comparison_of_encodings_shows_what_parking_zeros_costs() -> None:
    two, parked = (network(encoding).cost() for encoding in (TwoColumn(), Differential()))
    deltas = compare(two, parked)
    assert deltas["area"].difference == 0
    assert deltas["cells: energy"].after > 1.5 * deltas["cells: energy"].before
    changed = deltas["energy per inference"].difference
    assert changed == pytest.approx(deltas["cells: energy"].difference, rel=1e-6)
