"""Global drift compensation: the mean fall of the cells undone by one factor a layer, and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import xbarsim as xb
from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell, ExponentLaw, PowerLawDrift
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Balanced, Differential, Encoding, Mapping, Offset, TwoColumn

pytestmark = pytest.mark.usefixtures("one_thread")

YEAR = 3.156e7


def exponents(value: float) -> ExponentLaw:
    return ExponentLaw(offset=value, slope=0.0, scale=1e-5, least=value, most=value)


def cell(mean: float = 0.06, spread: float = 0.0) -> Cell:
    drift = PowerLawDrift(mean=exponents(mean), spread=exponents(spread), reference_time=20.0, valid_from=0.0,
                          valid_to=1e-3, valid_seconds=YEAR)  # fmt: skip
    return Cell(g_min=1e-7, g_max=1.6e-5, levels=16, drift=drift)


def design(compensated: bool, encoding: Encoding | None = None, **more: Any) -> Design:
    periphery = Periphery(input_bits=4, dac_bits=2, drift_compensation="layer" if compensated else None)
    mapping = Mapping(encoding=encoding or TwoColumn(), rows=16, columns=16, weight_bits=5, cell_bits=2)
    return Design(cell=more.pop("cell", cell()), mapping=mapping, periphery=periphery, **more)


def matrix(seed: int = 1) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(seed).integers(-15, 16, size=(30, 7))


@pytest.mark.parametrize("encoding", [TwoColumn(), Differential(), Balanced()], ids=repr)
def test_a_drift_that_all_cells_share_is_undone(encoding: Encoding) -> None:
    weights, inputs = matrix(), np.random.default_rng(2).integers(-7, 8, size=(5, 30))
    aged = xb.Crossbar(weights, design(True, encoding), seed=3, seconds=YEAR)
    expected = (1 + YEAR / 20.0) ** 0.06
    assert aged.layer.drift_factor == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(inputs @ aged, inputs @ weights, rtol=1e-3, atol=1e-3 * np.abs(inputs @ weights).max())
    plain = xb.Crossbar(weights, design(False, encoding), seed=3, seconds=YEAR)
    assert plain.layer.drift_factor == 1.0
    np.testing.assert_allclose(inputs @ plain * aged.layer.drift_factor, inputs @ aged, rtol=1e-9)


def test_a_new_die_is_as_it_was() -> None:
    weights, inputs = matrix(), np.random.default_rng(2).integers(-7, 8, size=(5, 30))
    one, other = (xb.Crossbar(weights, design(asked), seed=3) for asked in (True, False))
    assert one.layer.drift_factor == 1.0
    assert not one.layer.completes
    np.testing.assert_array_equal(inputs @ one, inputs @ other)
    assert "drift_compensation" not in design(False).to_toml()
    assert Design.from_toml(design(True).to_toml()) == design(True)
    assert "compensated digitally" in str(design(True))
    assert "compensated" not in str(design(False))


def test_the_factor_is_the_ratio_of_two_reads_of_all_rows() -> None:
    """Worked out from the cells, pair by pair, with cells that differ and some that are stuck."""
    made = design(True, cell=cell(0.06, 0.02), faults=xb.StuckFaults(on=0.02, off=0.02))
    aged = xb.Crossbar(matrix(), made, seed=3, seconds=1e6).layer
    new = xb.Crossbar(matrix(), made, seed=3).layer
    sums = []
    for layer in (new, aged):
        held, total = layer.cells().astype(float), 0.0
        for tile in range(layer.matrix.tiles):
            for pair in range(8):
                columns = slice(2 * pair, 2 * pair + 2)
                if layer.matrix.used[tile, :, columns].any():
                    rows = layer.matrix.tile_rows[tile] >= 0
                    left, right = held[tile, rows, columns].T
                    total += abs(left.sum() - right.sum())
        sums.append(total)
    assert aged.drift_factor == pytest.approx(sums[0] / sums[1], rel=1e-9)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(30, 20), nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.second(self.first(x).relu())
        return answer


def test_an_aged_network_is_nearer_to_the_digital_one_and_the_cost_says_what_it_takes(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Net()
    images = torch.rand(40, 30, generator=torch.Generator().manual_seed(2))
    off, costs = {}, {}
    for asked in (False, True):
        network = xb.map_model(model, design(asked, cell=cell(0.06, 0.01)), calibration=images)
        chip = network.fabricate(seed=5).at(1e6)
        off[asked] = float((chip(images) - network.digital(images)).norm())
        costs[asked] = chip.cost("isaac2016"), network.cost("isaac2016")
        if asked:
            chip.save(tmp_path / "chip.safetensors")
            again = xb.Chip.load(tmp_path / "chip.safetensors", model=Net())
            assert torch.equal(again(images, first_image=0), chip(images, first_image=0))
            assert 1.0 < chip.layers["first"].drift_factor < 3.0
    assert off[True] < off[False] / 2
    for plain, compensated in zip(costs[False], costs[True], strict=True):
        added = [use for use in compensated.digital if use.kind == "drift compensation"]
        assert [(use.name, use.elementwise) for use in added] == [("first", 20), ("second", 5)]
        assert len(compensated.digital) == len(plain.digital) + 2
        assert any("each time that drift is compensated" in remark for remark in compensated.remarks)
        assert not any("drift" in remark for remark in plain.remarks)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: design(True, cell=Cell.load("milo2021")),
            r"drift_compensation must be None for cell 'milo2021', whose drift is not known, got 'layer'",
        ),
        (
            lambda: design(True, Offset()),
            r"drift_compensation must be None for an encoding without column pairs, .*got 'layer' with Offset",
        ),
        (
            lambda: Periphery(drift_compensation="array"),  # type: ignore[arg-type]
            r"drift_compensation must be one of 'layer', got 'array'",
        ),
    ],
)
def test_what_cannot_be_compensated_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
