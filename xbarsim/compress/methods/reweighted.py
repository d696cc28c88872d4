"""Reweighted penalties: the smaller a group of weights is, the more it is drawn to zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from xbarsim.compress.layers import gemm_view
from xbarsim.compress.methods.base import Method, MethodCallback
from xbarsim.compress.prices import LayerPrice
from xbarsim.compress.recipe import Recipe
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import (
    FileFormatError,
    InputError,
    check_choice,
    check_instance,
    check_integer,
    check_real,
)

__all__ = ["Reweighted"]


@dataclass(frozen=True, kw_only=True)
class Reweighted(Method):
    """A penalty on the groups of weights, the heavier the smaller the group is.

    Training minimises the loss plus strength x the sum of a_g ||W_g|| over the groups g of every target (columns,
    filters, single weights, ...), where a_g = 1 / (||W_g|| + epsilon) with the weights of the last refresh; small
    groups shrink further, large ones are let off. At the end the targets' shares stay. (T. Zhang et al., 2020,
    doi:10.48550/arXiv.2004.05531; the principle: E. Candès, M. Wakin, S. Boyd, 2008, doi:10.1007/s00041-008-9045-x.)

    Every group then bears the same penalty, so that a weight of a small group is drawn more than one of a large group
    of weights just as large: layers with small groups vanish first. With ``per = "weight"`` norms are divided by the
    root of the group's size, n_g, which makes them root mean squares, and a group counts for each of its weights:

        strength x the sum of n_g r_g / (r_g + epsilon), r_g = ||W_g|| / sqrt(n_g) (the divisor of the last refresh),

    so that weights of groups of any size are drawn alike. (Groups counted by the root of their size: M. Yuan, Y. Lin,
    2006, doi:10.1111/j.1467-9868.2005.00532.x.) With `prices`, groups count by what they cost on the hardware instead.

    Parameters
    ----------
    strength
        Weight of the penalty, > 0. It is at most `strength` times the number of groups right after a refresh; per
        weight, times the number of their weights. Prices change neither.
    epsilon
        Keeps the weights of vanishing groups finite, > 0; in units of a norm, or of its square.
    every
        Epochs between refreshes; the first is at the beginning.
    form
        ``"norm"``, or ``"squared"``: a_g ||W_g||^2 with a_g = 1 / (||W_g||^2 + epsilon).
    per
        ``"weight"``: see above; ``None``: every group alike, whatever its size.
    prices
        What a weight of each layer costs (:func:`xbarsim.compress.weight_prices`): a group counts by the price of what
        is needed less without it (:meth:`Target.frees`), its weights times the sum of those resources' prices, in
        units of the mean. Of every layer that is pruned, and of no layer twice; prices of other layers play no part.
        ``None`` for no prices.

    Raises
    ------
    InputError
        If a value is out of its bound; when a training starts, if a pruned layer has no price, or no group has one
        above 0.
    """

    strength: float = 1e-4
    epsilon: float = 1e-3
    every: int = 10
    form: Literal["norm", "squared"] = "norm"
    per: Literal["weight"] | None = None  # None stands in no file: checkpoints of before it go on
    prices: tuple[LayerPrice, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", check_real("strength", self.strength, above=0.0))
        object.__setattr__(self, "epsilon", check_real("epsilon", self.epsilon, above=0.0))
        check_integer("every", self.every, at_least=1)
        check_choice("form", self.form, ("norm", "squared"))
        if self.per is not None:
            check_choice("per", self.per, ("weight",))
        if self.prices is not None:
            check_instance("prices", self.prices, tuple)
            for number, price in enumerate(self.prices):
                check_instance(f"prices[{number}]", price, LayerPrice)
            names = [price.layer for price in self.prices]
            for name in names:
                if names.count(name) > 1:
                    raise InputError(f"prices must be of each layer once, got {name!r} {names.count(name)} times")

    @entrance
    def callback(self, recipe: Recipe) -> MethodCallback:
        """Prune as `recipe` says; its levels play no part."""
        return ReweightedCallback(self, recipe)


class ReweightedCallback(MethodCallback):
    """Reweighted penalties at work in one training."""

    method: Reweighted

    def start(self, model: nn.Module, epochs: int) -> None:
        """Find the layers, and what their groups count.

        Raises
        ------
        InputError
            If the recipe does not suit the model, or the prices not the layers.
        """
        super().start(model, epochs)
        self._counts: dict[str, Tensor] = {}  # what groups count, where not each counts 1
        self._divisors: dict[str, Tensor] = {}
        if self.method.per is None and self.method.prices is None:
            return
        sizes = {}
        for layer in self.pruned_layers():
            matrix = self.matrix(layer)
            ones = torch.ones(matrix.shape, dtype=torch.float64, device=matrix.device)
            for key, norms in self._norms(layer, ones).items():  # of ones: the roots of how many weights there are
                sizes[key] = norms.square().round()
                if self.method.per == "weight":  # what a block at an edge lacks has no weights, and norms of 0
                    divisor = norms if self.method.form == "norm" else sizes[key]
                    self._divisors[key] = divisor.clamp(min=1.0).to(matrix.dtype)
        counts = sizes if self.method.prices is None else self._priced(self.method.prices, sizes)
        self._counts = {key: count.to(torch.float32) for key, count in counts.items()}

    def _priced(self, prices: tuple[LayerPrice, ...], sizes: dict[str, Tensor]) -> dict[str, Tensor]:
        """What groups of these sizes count by their prices: on the mean as much as without."""
        by_layer = {price.layer: price for price in prices}
        costs = {}
        for layer in self.pruned_layers():
            if layer not in by_layer:
                raise InputError(f"prices must be of every pruned layer, got none of {layer!r}")
            for number, target in enumerate(self.rules[layer].targets):
                for kind, _ in enumerate(target.norms(self.matrix(layer))):
                    key = f"factor {number}.{kind}/{layer}"
                    costs[key] = sizes[key] * by_layer[layer].of(target.frees(kind))
        total = math.fsum(float(cost.sum()) for cost in costs.values())
        if not total > 0:
            raise InputError("prices must be above 0 for some of what the targets free, got 0 for all of it")
        without = sizes if self.method.per == "weight" else {key: (size > 0).double() for key, size in sizes.items()}
        scale = math.fsum(float(count.sum()) for count in without.values()) / total
        return {key: cost * scale for key, cost in costs.items()}

    def _norms(self, layer: str, matrix: Tensor) -> dict[str, Tensor]:
        """Norms of all groups of a layer, by the name that their factors are remembered under."""
        return {
            f"factor {number}.{kind}/{layer}": norms
            for number, target in enumerate(self.rules[layer].targets)
            for kind, norms in enumerate(target.norms(matrix))
        }

    def _sizes(self, layer: str, matrix: Tensor) -> dict[str, Tensor]:
        """How large all groups of a layer are: norms, root mean squares, or the squares of either."""
        sizes = {}
        for key, norms in self._norms(layer, matrix).items():
            size = norms.square() if self.method.form == "squared" else norms
            sizes[key] = size / self._divisors[key] if key in self._divisors else size
        return sizes

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
            (self.memory[key] * sizes * self._counts[key] if self._counts else self.memory[key] * sizes).sum()
            for layer in self.pruned_layers()
            for key, sizes in self._sizes(layer, gemm_view(self.weight(layer))).items()
        ]
        return self.method.strength * torch.stack(terms).sum() if terms else None
