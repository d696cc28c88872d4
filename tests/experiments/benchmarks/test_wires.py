"""The benchmarks of wires look at an array before they time anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from xbarsim.circuit import reference_effective_conductance
from xbarsim.experiments.benchmarks import wires as script
from xbarsim.experiments.benchmarks.speed import one_pulse_on_levels


def test_dies_with_wires_are_checked_against_the_whole_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model, images = nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 5)).eval(), torch.rand(16, 20)
    case = script.running_dies(model, images, one_pulse_on_levels())
    wired, ideal = case.ours(), case.baseline()
    assert not torch.equal(wired, ideal)
    assert torch.allclose(wired, ideal, atol=0.1 * float(ideal.abs().max()))
    assert "2 arrays" in case.check
    reference = reference_effective_conductance

    def wrong(cells: Any, wires: Any, rows: Any) -> Any:
        return 1.001 * reference(cells, wires, rows=rows)

    monkeypatch.setattr(script, "reference_effective_conductance", wrong)
    with pytest.raises(AssertionError, match="away from the whole circuit"):
        script.making_dies(model, images, one_pulse_on_levels())
