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
class DrawnByLot(Method):
    """Masks drawn by lot before the training: what every other method must be better than.

    Parameters
    ----------
    seed
        Of the draw, >= 0; each layer has its own stream.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, at_least=0)

    def callback(self, recipe: Recipe) -> MethodCallback:
        """Prune at random, as `recipe` says; its levels play no part."""
        return DrawnByLotCallback(self, recipe)


class DrawnByLotCallback(MethodCallback):
    """Random masks at work in one training."""

    method: DrawnByLot

    def begin_epoch(self, epoch: int) -> None:
        """Draw before the first epoch; from there on the base class holds the masks, and checkpoints keep them."""
        if epoch:
            return
        for number, (layer, rule) in enumerate(self.pruned_layers().items()):
            rng = np.random.default_rng(np.random.SeedSequence(self.method.seed, spawn_key=(number,)))
            lots = torch.from_numpy(rng.random(tuple(self.matrix(layer).shape)))
            self.set_mask(layer, rule.mask(lots).to(self.matrix(layer).device))


def test_it_conforms() -> None:
    check_method(DrawnByLot(seed=4))
    check_method(
        DrawnByLot(),
        recipe=Recipe(rules=(LayerRule(layers=("3", "5"), targets=(Columns(keep=0.5), Unstructured(keep=0.2))),)),
    )


def test_it_can_be_named_in_toml() -> None:
    assert tomlio.loads(Method, 'type = "DrawnByLot"\nseed = 7\n') == DrawnByLot(seed=7)  # type: ignore[type-abstract]


def test_every_seed_draws_another_mask_of_the_same_share() -> None:
    rng = np.random.default_rng(1)
    data = TrainingSet.split(
        "noise", rng.integers(0, 256, (40, 1, 3, 4), dtype=np.uint8), np.arange(40) % 2,
        validation=8, mean=(0.5,), standard_deviation=(0.3,),
    )  # fmt: skip
    recipe = Recipe(rules=(LayerRule(layers=("1",), targets=(Unstructured(keep=0.25),)),))
    training = Training(epochs=1, batch=8, device="cpu")
    masks: list[Tensor] = []
    for seed in (1, 2, 1):
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        masks.append(prune(model, recipe, data, training, method=DrawnByLot(seed=seed), progress=False).masks["1"])
    assert [int(mask.sum()) for mask in masks] == [6, 6, 6]
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[1])
