"""How to add a fault model: one file like this one. No other file knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from xbarsim import Design, Mapping
from xbarsim.devices import Cell, FaultMap, FaultModel, OnOffFaults
from xbarsim.devices.faults import Shape, as_shape
from xbarsim.foundation.validation import InputError, check_instance, check_real
from xbarsim.testing import check_fault_model


@dataclass(frozen=True, kw_only=True)
class StreakFaults(OnOffFaults):
    """Streaks of broken cells down each column, as scratches leave them: a Markov chain from row to row.

    Attributes
    ----------
    on, off
        Probability that a cell is stuck on or off, each in [0, 1], together at most 1.
    length
        Mean number of broken cells in a streak, at least 1, and at least (on + off) / (1 - on - off).
    """

    on: float
    off: float
    length: float = 4.0

    def __post_init__(self) -> None:
        self.check_rates()
        if self.total == 1:
            raise InputError("on + off must be < 1, got 1.0")
        least = max(1.0, self.total / (1 - self.total))
        object.__setattr__(self, "length", check_real("length", self.length, at_least=least))

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults: the first row at the stated rate, each later one by what is above it."""
        shape = as_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        if self.total == 0:
            return FaultMap.empty(shape)
        stays = 1 - 1 / self.length
        begins = (1 - stays) * self.total / (1 - self.total)  # keeps the share of broken cells in every row
        broken = np.zeros(shape, bool)
        draws = rng.random(shape)
        broken[:, 0] = draws[:, 0] < self.total
        for row in range(1, shape[1]):
            broken[:, row] = draws[:, row] < np.where(broken[:, row - 1], stays, begins)
        index = np.flatnonzero(broken)
        return FaultMap(shape=shape, index=index, kind=self.draw_kinds(index.size, rng))


MODEL = StreakFaults(on=0.02, off=0.1)


def test_it_conforms() -> None:
    check_fault_model(MODEL)


def test_a_design_with_it_is_read_back_from_toml() -> None:
    design = Design(cell=Cell.load("milo2021"), mapping=Mapping(rows=32, columns=32, cell_bits=4), faults=MODEL)
    assert 'type = "StreakFaults"' in design.to_toml()
    assert Design.from_toml(design.to_toml()) == design


def test_its_cited_preset_is_one_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "scratches.faults.toml"
    path.write_text(
        'name = "scratches"\ndescription = "scratched wafers"\nsource = "measured here; not verified"\n'
        'origin = "assumed"\n[faults]\ntype = "StreakFaults"\non = 0.0\noff = 0.01\n'
    )
    assert FaultModel.load(path) == StreakFaults(on=0.0, off=0.01)


def test_streaks_run_along_columns() -> None:
    faults = MODEL.sample((4, 64, 64), np.random.default_rng(3))
    broken = faults.dense() > 0
    below, beside = (broken[:, :-1] & broken[:, 1:]).mean(), (broken[:, :, :-1] & broken[:, :, 1:]).mean()
    assert below == pytest.approx(0.12 * 0.75, rel=0.1)
    assert beside == pytest.approx(0.12**2, rel=0.15)
    with pytest.raises(InputError, match="length must be"):
        StreakFaults(on=0.5, off=0.4, length=2.0)
