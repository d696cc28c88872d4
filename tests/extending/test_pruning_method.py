"""How to add a pruning method: one file like this one. No other file knows of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from xbarsim.compress import Columns, LayerRule, Method, MethodCallback, Recipe, Unstructured, prune
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import check_integer
from xbarsim.testing import check_method
from xbarsim.training import Training, TrainingSet


@dataclass(frozen=True, kw_only=True)
class FirstGradients(Method):
    """Masks by the first steps: those whose loss would cost most (SNIP, doi:10.48550/arXiv.1810.02340).

    Parameters
    ----------
    steps
        Batches whose |weight x gradient| is summed up, >= 1; fewer than an epoch has.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, at_least=1)

    def callback(self, recipe: Recipe) -> MethodCallback:
        """Prune by the first gradients, as `recipe` says; its levels play no part."""
        return FirstGradientsCallback(self, recipe)


class FirstGradientsCallback(MethodCallback):
    """Masks by the first gradients at work in one training."""

    method: FirstGradients

    def begin_step(self, step: int) -> None:
        """Count, and begin anew with a training: it ends before a checkpoint could be written in between."""
        self._step = step
        if step == 0:
            self._sums: dict[str, Tensor] = {}

    def before_step(self) -> None:
        """Sum up, and choose; from there on the base class holds the masks, and checkpoints keep them."""
        if self._step >= self.method.steps:
            return
        for layer, rule in self.pruned_layers().items():
            gradient = self.weight(layer).grad
            assert gradient is not None
            saliency = (gradient.flatten(1) * self.matrix(layer)).abs()
            self._sums[layer] = saliency + self._sums.get(layer, torch.zeros_like(saliency))
            if self._step == self.method.steps - 1:
                self.set_mask(layer, rule.mask(self._sums[layer]))


def test_it_conforms() -> None:
    check_method(FirstGradients(steps=2))
    check_method(
        FirstGradients(),
        recipe=Recipe(rules=(LayerRule(layers=("3", "5"), targets=(Columns(keep=0.5), Unstructured(keep=0.2))),)),
    )


def test_it_can_be_named_in_toml() -> None:
    assert tomlio.loads(Method, 'type = "FirstGradients"\nsteps = 7\n') == FirstGradients(steps=7)  # type: ignore[type-abstract]


def test_it_keeps_the_weights_that_matter() -> None:
    """Only the first three pixels tell the labels apart."""
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 2
    pixels = rng.integers(0, 60, (40, 1, 3, 4), dtype=np.uint8)
    pixels[:, 0, 0, :3] += (150 * labels[:, np.newaxis]).astype(np.uint8)
    data = TrainingSet.split("noise", pixels, labels, validation=8, mean=(0.2,), standard_deviation=(0.3,))
    recipe = Recipe(rules=(LayerRule(layers=("1",), targets=(Unstructured(keep=0.25),)),))
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    nn.init.constant_(model[1].weight, 0.1)  # type: ignore[arg-type]
    training = Training(epochs=1, batch=8, device="cpu")
    mask = prune(model, recipe, data, training, method=FirstGradients(steps=3), progress=False).masks["1"]
    assert torch.equal(mask, (torch.arange(12) < 3).expand(2, 12))
