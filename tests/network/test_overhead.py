"""What mitigations add to the cost of a die."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import xbarsim as xb
from xbarsim.devices import Cell, StuckFaults
from xbarsim.mapping import Differential, Mapping
from xbarsim.mitigation import (
    PUMA_OPERATIONS,
    ClosestValue,
    CorrectDigitally,
    Diagnosis,
    JointCopies,
    Mitigation,
    PermuteRows,
    array_test,
)

WEIGHTS = np.random.default_rng(0).normal(size=(20, 6))
VECTORS = np.random.default_rng(1).normal(size=(5, 20))
DESIGN = xb.Design(
    cell=Cell.load("milo2021"),
    mapping=Mapping(encoding=Differential(), rows=16, columns=16, weight_bits=5, cell_bits=4),
    faults=StuckFaults(on=0.05, off=0.05),
)
TIMED = Diagnosis(coverage=0.99, time_per_cell=2e-9, energy_per_cell=3e-12)


def crossbar(*methods: Mitigation, diagnosis: Diagnosis | None = None) -> xb.Crossbar:
    return xb.Crossbar(
        WEIGHTS, DESIGN, seed=3, calibration=VECTORS, mitigations=methods, diagnosis=diagnosis or Diagnosis()
    )


def remarks(report: xb.cost.CostReport) -> Sequence[str]:
    return [remark for remark in report.remarks if remark.startswith("once for a die")]


def test_the_test_of_a_die_stands_in_a_remark_and_in_no_number() -> None:
    silent, timed = crossbar(PermuteRows()).cost(), crossbar(PermuteRows(), diagnosis=TIMED).cost()
    cells = 2 * 16 * 16
    (remark,) = remarks(timed)
    assert f"test its {cells} cells takes {2e-9 * cells:.3g} s" in remark
    assert f"and {3e-12 * cells:.3g} J" in remark
    assert remark in str(timed)
    (remark,) = remarks(silent)
    assert "a time that is not known and an energy that is not known" in remark


def test_spare_lines_are_tested_too_and_rewritten_cells_are_counted() -> None:
    made = crossbar(PermuteRows(spare=4), diagnosis=TIMED)
    (remark,) = remarks(made.cost())
    assert f"test its {2 * 20 * 16} cells" in remark
    assert made.mitigations.overhead.reprogrammed_cells > 0
    assert f"{made.mitigations.overhead.reprogrammed_cells} cells are written to other levels" in remark


def test_a_march_test_gives_its_time_and_energy() -> None:
    march = array_test("march_c-")
    assert isinstance(march, xb.mitigation.MarchTest)
    diagnosis = march.diagnosis(DESIGN.cell, tolerance=5e-6, operations=PUMA_OPERATIONS, cells=64)
    (remark,) = remarks(crossbar(ClosestValue(), diagnosis=diagnosis).cost())
    assert f"{march.time(PUMA_OPERATIONS, 1) * 512:.3g} s" in remark
    energy = march.energy(PUMA_OPERATIONS, 1)
    assert energy is not None
    assert f"{energy * 512:.3g} J" in remark


def test_nothing_is_said_where_no_map_is_needed() -> None:
    assert not remarks(crossbar().cost())
    assert not remarks(crossbar(CorrectNothing(), diagnosis=TIMED).cost())


class CorrectNothing(Mitigation):
    """A method that knows nothing and does nothing."""

    needs = "nothing"


def test_a_matrix_pays_for_what_is_stored_and_computed() -> None:
    """As a network does: the bits of the tables, the corrections, and the copies."""
    plain = crossbar().cost().layers[0].use
    tables = crossbar(PermuteRows())
    assert tables.cost().layers[0].use.index_bits - plain.index_bits == tables.mitigations.overhead.configuration_bits
    assert tables.mitigations.overhead.configuration_bits == 2 * 16 * 4
    corrected = crossbar(CorrectDigitally(share=0.1))
    (use,) = corrected.cost().digital
    assert use.kind == "mitigation"
    assert use.multiply_accumulates == corrected.layer.correction.values.size > 0  # type: ignore[union-attr]
    (use,) = crossbar(JointCopies(copies=3)).cost().digital
    assert use.elementwise == pytest.approx(2 * 6)


def test_images_are_said_to_be_run() -> None:
    from torch import nn

    images = np.random.default_rng(0).random((12, 20), dtype=np.float32)
    network = xb.map_model(nn.Sequential(nn.Linear(20, 3)).eval(), DESIGN, calibration=images)
    chip = network.fabricate(1, mitigations=(xb.mitigation.RecalibrateOutputs(),), images=images)
    (remark,) = remarks(chip.cost())
    assert "images are run through it" in remark
    assert chip.stored_bits() == {"0": 3 * 2 * 16}
