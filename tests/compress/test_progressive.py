"""Hierarchical progressive pruning, step by step on made-up accuracies, and once on real dies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import xbarsim as xb
from xbarsim.compress import PruningStep, faulty_accuracy, prune_progressively
from xbarsim.devices import Cell, StuckFaults
from xbarsim.models import load_model, load_test_set


class Named(nn.Module):
    """Three layers of 12, 6 and 24 weights, and the story of their pruning."""

    def __init__(self, story: tuple[tuple[tuple[str, ...], float], ...] = ()) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(6, 4)
        self.story = story


def run(accuracies: dict[Any, float], **changes: Any) -> tuple[Any, list[PruningStep]]:
    """Accuracy by the last (number of layers, ratio) of the story."""
    seen: list[PruningStep] = []
    arguments: dict[str, Any] = {
        "layers": ("a", "b", "c"),
        "ratios": (0.2, 0.4, 0.6),
        "prune": lambda model, names, ratio: Named((*model.story, (names, ratio))),
        "accuracy": lambda model: accuracies[(len(model.story[-1][0]), model.story[-1][1]) if model.story else None],
        "threshold": 0.02,
        "report": seen.append,
    }
    return prune_progressively(Named(), **{**arguments, **changes}), seen


def test_a_story_told_by_hand() -> None:
    """0.2 helps; 0.4 fails with three layers, then two, and succeeds with the largest; 0.6 fails: none is left."""
    accuracies = {None: 0.80, (3, 0.2): 0.85, (3, 0.4): 0.70, (2, 0.4): 0.82, (1, 0.4): 0.84, (1, 0.6): 0.5}
    found, steps = run(accuracies)
    assert [(step.layers, step.ratio, step.kept, step.best) for step in steps] == [
        (("b", "a", "c"), 0.2, True, True),
        (("b", "a", "c"), 0.4, False, False),
        (("a", "c"), 0.4, False, False),
        (("c",), 0.4, True, False),
        (("c",), 0.6, False, False),
    ]
    assert found.steps == tuple(steps)
    assert (found.accuracy, found.before) == (0.85, 0.80)
    assert found.model.story == ((("b", "a", "c"), 0.2),)


def test_as_the_listing_has_it_a_failed_ratio_is_not_tried_again() -> None:
    accuracies = {None: 0.80, (3, 0.2): 0.7, (2, 0.4): 0.81, (2, 0.6): 0.83}
    found, steps = run(accuracies, repeat=False)
    assert [(len(step.layers), step.ratio, step.kept) for step in steps] == [
        (3, 0.2, False),
        (2, 0.4, True),
        (2, 0.6, True),
    ]
    assert found.accuracy == 0.83
    assert found.model.story == ((("a", "c"), 0.4), (("a", "c"), 0.6))


def test_a_network_that_only_loses_stays_as_it_is() -> None:
    found, steps = run({None: 0.9, (3, 0.2): 0.5, (2, 0.2): 0.5, (1, 0.2): 0.5})
    assert not any(step.kept for step in steps)
    assert found.model.story == ()
    assert found.accuracy == found.before == 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, "layers must name at least one layer, got none"),
        ({"layers": ("d",)}, "layers must be names of layers with a weight, got 'd'"),
        ({"ratios": ()}, r"ratios must be rising numbers in \(0, 1\), got \[\]"),
        ({"ratios": (0.4, 0.4)}, r"ratios must be rising numbers in \(0, 1\), got \[0.4, 0.4\]"),
        ({"ratios": (0.4, 1.0)}, r"ratios must be .*< 1.0, got 1.0"),
        ({"threshold": -0.1}, r"threshold must be .*>= 0.0, got -0.1"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(xb.InputError, match=message):
        run({None: 0.9}, **changes)


def test_on_real_dies_pruning_without_loss_is_kept() -> None:
    """Two-column pairs, cells stuck off: a pruned weight is out of their reach, so small weights may go."""
    model, _ = load_model("digits")
    images, labels = load_test_set("digits", count=120)
    design = xb.Design(
        cell=Cell.load("islped2019").without_errors(),
        mapping=xb.Mapping(rows=64, columns=64),
        periphery=xb.Periphery(input_bits=8),
        faults=StuckFaults(on=0.0, off=0.02),
    )
    measure = faulty_accuracy(design, images, labels, calibration=images, dies=3, seed=5)
    assert measure(model) == measure(model)

    def prune(current: nn.Module, names: tuple[str, ...], ratio: float) -> nn.Module:
        import copy

        changed = copy.deepcopy(current)
        for name in names:
            weight = changed.get_submodule(name).weight
            assert isinstance(weight, nn.Parameter)
            limit = weight.abs().flatten().kthvalue(int(ratio * weight.numel()) or 1).values
            with torch.no_grad():
                weight[weight.abs() <= limit] = 0.0
        return changed

    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    found = prune_progressively(model, layers=names, ratios=(0.1, 0.95), prune=prune, accuracy=measure, threshold=0.05)
    assert found.steps[0].kept
    assert not found.steps[1].kept
    assert found.accuracy >= found.before - 0.05
    with pytest.raises(xb.InputError, match="design must have a fault model, got faults = None"):
        faulty_accuracy(design.replace(faults=None), images, labels, calibration=images, dies=3)
