"""Magnitude pruning: keep the largest weights, at once or step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from torch import nn

from xbarsim.compress.methods.base import Method, MethodCallback
from xbarsim.compress.recipe import Recipe, layer_mask
from xbarsim.compress.targets.base import Law
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_integer

__all__ = ["Magnitude"]


@dataclass(frozen=True, kw_only=True)
class Magnitude(Method):
    """Keep the largest: at once, or little by little with training in between.

    After S. Han, J. Pool, J. Tran, W. Dally, Learning both Weights and Connections for Efficient Neural Networks, 2015,
    doi:10.48550/arXiv.1506.02626.

    Parameters
    ----------
    steps
        How often the network is pruned: before the epochs 0, n / steps, 2 n / steps, ... of n (rounded down); what is
        pruned stays so. With 1 the network is pruned at once, and the training recovers.
    law
        ``"geometric"``: after step s each share k of the targets is k**(s / steps), so that every step leaves the same
        share of what the one before it left. ``"cubic"``: k is 1 - (1 - k)(1 - (1 - s / steps)^3), gradual pruning
        after M. Zhu, S. Gupta, 2017, doi:10.48550/arXiv.1710.01878.

    Raises
    ------
    InputError
        If `steps` is below 1, or the law is unknown.
    """

    steps: int = 1
    law: Law = "geometric"

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, at_least=1)
        check_choice("law", self.law, get_args(Law))

    @entrance
    def callback(self, recipe: Recipe) -> MethodCallback:
        """Prune by magnitude, as `recipe` says; its levels play no part."""
        return MagnitudeCallback(self, recipe)


class MagnitudeCallback(MethodCallback):
    """Magnitude pruning at work in one training."""

    method: Magnitude

    def start(self, model: nn.Module, epochs: int) -> None:
        """Find the layers; more steps than epochs are refused."""
        if 0 < epochs < self.method.steps:
            raise InputError(f"steps of Magnitude must be an integer <= {epochs} (epochs), got {self.method.steps}")
        super().start(model, epochs)
        self._epochs = epochs

    def begin_epoch(self, epoch: int) -> None:
        """Prune further where a step is due."""
        steps = self.method.steps
        due = [step for step in range(1, steps + 1) if (step - 1) * self._epochs // steps == epoch]
        for step in due:
            for name, rule in self.pruned_layers().items():
                before = self.held_masks().get(name)
                way: dict[str, Any] = {"progress": step / steps, "law": self.method.law}
                self.set_mask(name, layer_mask(name, rule, self.matrix(name), among=before, **way))
