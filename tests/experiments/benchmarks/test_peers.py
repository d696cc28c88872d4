"""The benchmark against other simulators: outputs are checked first, and what is absent is said to be."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import nn

import xbarsim as xb
from xbarsim.experiments.benchmarks import peers as script

DESIGN = xb.Design(
    cell=xb.Cell(g_min=1e-6, g_max=1e-4, levels=128),
    mapping=xb.Mapping(rows=32, columns=32, weight_bits=8, cell_bits=7),
    periphery=xb.Periphery(input_bits=8, dac_bits=8, adc_bits=8),
)


def _network() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)).eval()
    return model, torch.rand(20, 2, 6, 6)


class _Next(nn.Module):
    """Gives every class the score of the one before it."""

    def forward(self, x: Any) -> Any:
        return x.roll(1, dims=1)


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "aihwkit" else found(name))
    (case,) = script.peers(*_network(), DESIGN)
    assert "aihwkit is NOT installed: nothing was compared" in case.check
    assert (case.against, case.must, case.aim) == ("torch: no peer", None, None)
    assert case.ours().shape == case.baseline().shape == (20, 3)


def test_the_peer_is_checked_before_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aihwkit", reason="aihwkit is not installed")
    monkeypatch.setattr(script, "LEAST_AGREEMENT", 0.7)  # of random classes
    (case,) = script.peers(*_network(), DESIGN)
    assert case.against.startswith("aihwkit ")
    assert case.check.count("of 20 classes of the float32 network") == 2
    assert case.baseline().shape == (20, 3)
    monkeypatch.setattr(script, "_by_aihwkit", lambda model, design: nn.Sequential(model, _Next()))
    with pytest.raises(AssertionError, match=r"aihwkit .*: 0 of 20 classes are those"):
        script.peers(*_network(), DESIGN)


def test_a_die_with_other_classes_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "LEAST_AGREEMENT", 1.01)
    with pytest.raises(AssertionError, match=r"here: \d+ of 20 classes are those of the float32 network"):
        script.peers(*_network(), DESIGN)
