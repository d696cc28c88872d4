"""The benchmark of pruned networks: results are checked before they are timed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xbarsim.experiments.benchmarks import pruned as script


def few() -> tuple[nn.Module, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return script.RecurrentNet(hidden=32).eval(), torch.randn(3, 4, 8)


def convolutions() -> tuple[nn.Module, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(32 * 16, 4)
        return nn.Sequential(*layers).eval(), torch.rand(5, 3, 8, 8)


def test_results_are_those_of_the_pruned_network_and_the_dense_one_is_the_baseline() -> None:
    cases = list(script.float_cases({"gru": (few, 16, None)}, (2, 8)))
    assert [case.name for case in cases] == ["gru-bcr-2x", "gru-bcr-8x"]
    for case in script.float_cases({"gru": (few, 16, None), "net": (convolutions, 16, 2)}, (4,)):
        model, inputs = few() if case.name.startswith("gru") else convolutions()
        with torch.no_grad():
            assert torch.equal(case.dense(), model(inputs))
        assert case.ours().shape == case.dense().shape
        assert not torch.allclose(case.ours(), case.dense(), atol=1e-3)
        assert "of the pruned torch network" in case.check


def test_other_results_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        script, "pack_network", lambda model, samples, images_at_once: lambda inputs: torch.zeros(3, 4, 48)
    )
    with pytest.raises(AssertionError, match="gru at 2 x without its zeros differs by"):
        next(script.float_cases({"gru": (few, 16, None)}, (2,)))
