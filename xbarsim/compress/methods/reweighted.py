"""Reweighted penalties: the smaller a group of weights is, the more it is drawn to zero."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from xbarsim.compress.layers import gemm_view
from xbarsim.compress.methods.base import Method, MethodCallback
from xbarsim.compress.prices import LayerPrice
from xbarsim.compress.recipe import LayerRule, Recipe, layer_mask
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
    keep
        Share of the weights of all pruned layers together that stays at the end, in (0, 1): each layer's own shares
        are then found by the training instead of taken from its targets, which say which structures (each of their
        shares must be below 1 to take part). Groups are compared by their root mean square over that which their layer
        had when the training began, so that the scale of a layer does not matter, and as many of each layer stay as are
        above a threshold: the lowest that leaves no more weights than that, with one group of each layer and kind at
        least. ``None`` for the shares of the targets.

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
    keep: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", check_real("strength", self.strength, above=0.0))
        object.__setattr__(self, "epsilon", check_real("epsilon", self.epsilon, above=0.0))
        check_integer("every", self.every, at_least=1)
        check_choice("form", self.form, ("norm", "squared"))
        if self.per is not None:
            check_choice("per", self.per, ("weight",))
        if self.keep is not None:
            object.__setattr__(self, "keep", check_real("keep", self.keep, above=0.0, below=1.0))
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
        if epoch == 0 and self.method.keep is not None:
            self.memory["scales"] = self._scales()
        if epoch % self.method.every:
            return
        for layer in self.pruned_layers():
            for key, sizes in self._sizes(layer, self.matrix(layer)).items():
                self.memory[key] = 1.0 / (sizes + self.method.epsilon)

    # --- the shares that were found

    def masks(self) -> dict[str, Tensor]:
        """Which weights stay: of the targets' shares, or of those that were found; as in the base class.

        Raises
        ------
        InputError
            As in the base class; with `keep`, if a target has not one share below 1 for each kind of its groups.
        """
        if self.method.keep is None:
            return super().masks()
        return {
            layer: layer_mask(layer, rule, self.matrix(layer)).reshape(self.weight(layer).shape).clone()
            for layer, rule in self.found_rules(self.method.keep).items()
        }

    def found_rules(self, keep: float) -> dict[str, LayerRule]:
        """The rules of the pruned layers with shares that leave so much of their weights in all."""
        values = {layer: self._means(layer) for layer in self.pruned_layers()}
        order = torch.cat([value for kinds in values.values() for value in kinds]).sort().values
        total = sum(self.matrix(layer).numel() for layer in values)
        low, high = 0, len(order) - 1  # groups above the highest: none, but for one of each
        while low < high:
            middle = (low + high) // 2
            rules = {layer: self._above(layer, kinds, float(order[middle])) for layer, kinds in values.items()}
            if sum(self._kept(layer, rule) for layer, rule in rules.items()) <= keep * total:
                high = middle
            else:
                low = middle + 1
        return {layer: self._above(layer, kinds, float(order[high])) for layer, kinds in values.items()}

    def _scales(self) -> Tensor:
        """Root mean squares of the pruned layers, float64; 1 for one of zeros."""
        scales = torch.stack(
            [self.matrix(layer).double().square().mean().sqrt().cpu() for layer in self.pruned_layers()]
        )
        return torch.where(scales > 0, scales, 1.0)

    def _means(self, layer: str) -> list[Tensor]:
        """What groups of a layer are compared by, float64 on the CPU; one tensor for each kind of each target."""
        scale = self.memory.get("scales", self._scales())[list(self.pruned_layers()).index(layer)]
        matrix = self.matrix(layer).double()
        found = []
        for target in self.rules[layer].targets:
            shares = [name for name, value in vars(target).items() if name.startswith("keep") and value < 1]
            norms = target.norms(matrix)
            if len(shares) != len(norms):
                raise InputError(
                    f"targets of layer {layer!r} must have one share below 1 for each kind of their groups to let "
                    f"shares be found, got {target!r}"
                )
            for norm, roots in zip(norms, target.norms(torch.ones_like(matrix)), strict=True):
                there = roots > 0  # what a block at an edge lacks is no group
                found.append((norm[there] / roots[there]).flatten().cpu() / float(scale))
        return found

    def _above(self, layer: str, kinds: list[Tensor], threshold: float) -> LayerRule:
        """A layer's rule with the shares of groups above a threshold."""
        rule, left = self.rules[layer], iter(kinds)
        targets = []
        for target in rule.targets:
            names = [name for name, value in vars(target).items() if name.startswith("keep") and value < 1]
            shares = {}
            for name in names:
                means = next(left)
                shares[name] = max(int((means > threshold).sum()), 1) / len(means)
            targets.append(replace(target, **shares))  # type: ignore[type-var]
        return replace(rule, targets=tuple(targets))

    def _kept(self, layer: str, rule: LayerRule) -> int:
        """Weights that a rule leaves of a layer."""
        matrix = self.matrix(layer)
        fewest, most = rule.targets[0].kept_weights((matrix.shape[0], matrix.shape[1]))
        if len(rule.targets) == 1 and fewest == most:
            return most
        return int(layer_mask(layer, rule, matrix).sum())

    def penalty(self) -> Tensor | None:
        """The penalties of all layers, float32."""
        terms = [
            (self.memory[key] * sizes * self._counts[key] if self._counts else self.memory[key] * sizes).sum()
            for layer in self.pruned_layers()
            for key, sizes in self._sizes(layer, gemm_view(self.weight(layer))).items()
        ]
        return self.method.strength * torch.stack(terms).sum() if terms else None
