"""Masks drawn by lot: what every other way to choose weights must be better than."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xbarsim.compress.methods.base import Method, MethodCallback
from xbarsim.compress.recipe import LayerRule, Recipe
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer

__all__ = ["RandomMasks", "random_mask"]


def random_mask(rule: LayerRule, matrix: Tensor, *, seed: int, layer: int) -> Tensor:
    """A mask of a rule's structure and shares, drawn by lot: the one it would choose for random weights.

    Parameters
    ----------
    rule
        Structures and shares.
    matrix
        The layer's weights, (filters, positions), of which only the shape matters.
    seed, layer
        Root of the draw, and the number of the layer, which has a stream of its own.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(layer,)))
    lots = torch.from_numpy(rng.standard_normal(tuple(matrix.shape)))
    return rule.mask(lots).to(matrix.device)


@dataclass(frozen=True, kw_only=True)
class RandomMasks(Method):
    """Masks drawn by lot before the training, and held: static random sparsity.

    Parameters
    ----------
    seed
        Of the draw, >= 0; each layer has its own stream.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, at_least=0)

    @entrance
    def callback(self, recipe: Recipe) -> MethodCallback:
        """Prune at random, as `recipe` says; its levels play no part."""
        return RandomMasksCallback(self, recipe)


class RandomMasksCallback(MethodCallback):
    """Random masks at work in one training."""

    method: RandomMasks

    def begin_epoch(self, epoch: int) -> None:
        """Draw before the first epoch."""
        if epoch == 0:
            for number, (layer, rule) in enumerate(self.pruned_layers().items()):
                self.set_mask(layer, random_mask(rule, self.matrix(layer), seed=self.method.seed, layer=number))
