"""Reweighted penalties: the smaller a group of weights is, the more it is drawn to zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xbarsim.compress.layers import gemm_view
from xbarsim.compress.methods.base import Method, MethodCallback
from xbarsim.compress.recipe import Recipe
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import FileFormatError, check_choice, check_integer, check_real

__all__ = ["Reweighted"]


@dataclass(frozen=True, kw_only=True)
class Reweighted(Method):
    """A penalty on the groups of weights, the heavier the smaller the group is.

    Training minimises the loss plus strength x the sum of a_g ||W_g|| over the groups g of every target (columns,
    filters, single weights, ...), where a_g = 1 / (||W_g|| + epsilon) with the weights of the last refresh; small
    groups shrink further, large ones are let off. At the end the targets' shares stay. (T. Zhang et al., 2020,
    doi:10.48550/arXiv.2004.05531; the principle: E. Candès, M. Wakin, S. Boyd, 2008, doi:10.1007/s00041-008-9045-x.)

    Parameters
    ----------
    strength
        Weight of the penalty, > 0. It is at most `strength` times the number of groups right after a refresh.
    epsilon
        Keeps the weights of vanishing groups finite, > 0; in units of a norm, or of its square.
    every
        Epochs between refreshes; the first is at the beginning.
    form
        ``"norm"``, or ``"squared"``: a_g ||W_g||^2 with a_g = 1 / (||W_g||^2 + epsilon).

    Raises
    ------
    InputError
        If a value is out of its bound.
    """

    strength: float = 1e-4
    epsilon: float = 1e-3
    every: int = 10
    form: Literal["norm", "squared"] = "norm"

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", check_real("strength", self.strength, above=0.0))
        object.__setattr__(self, "epsilon", check_real("epsilon", self.epsilon, above=0.0))
        check_integer("every", self.every, at_least=1)
        check_choice("form", self.form, ("norm", "squared"))

    @entrance
    def callback(self, recipe: Recipe) -> MethodCallback:
        """Prune as `recipe` says; its levels play no part."""
        return ReweightedCallback(self, recipe)


class ReweightedCallback(MethodCallback):
    """Reweighted penalties at work in one training."""

    method: Reweighted

    def _sizes(self, layer: str, matrix: Tensor) -> dict[str, Tensor]:
        """Norms of all groups of a layer, or their squares, by the name they are remembered under."""
        return {
            f"factor {number}.{kind}/{layer}": norms.square() if self.method.form == "squared" else norms
            for number, target in enumerate(self.rules[layer].targets)
            for kind, norms in enumerate(target.norms(matrix))
        }

    def remembered_shape(self, what: str, layer: str) -> torch.Size:
        """A factor for each group."""
        sizes = self._sizes(layer, self.matrix(layer))
        if f"{what}/{layer}" not in sizes:
            raise FileFormatError(f"the state of Reweighted is of another recipe: {f'{what}/{layer}'!r}")
        return sizes[f"{what}/{layer}"].shape

    def begin_epoch(self, epoch: int) -> None:
        """Refresh the factors where it is time."""
        if epoch % self.method.every:
            return
        for layer in self.pruned_layers():
            for key, sizes in self._sizes(layer, self.matrix(layer)).items():
                self.memory[key] = 1.0 / (sizes + self.method.epsilon)

    def penalty(self) -> Tensor | None:
        """The penalties of all layers, float32."""
        terms = [
            (self.memory[key] * sizes).sum()
            for layer in self.pruned_layers()
            for key, sizes in self._sizes(layer, gemm_view(self.weight(layer))).items()
        ]
        return self.method.strength * torch.stack(terms).sum() if terms else None
