"""Kernel shapes that are trained together with the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xbarsim.compress.methods.base import Method, MethodCallback
from xbarsim.compress.recipe import LayerRule, Recipe
from xbarsim.compress.targets.kernel_shapes import KernelShapes
from xbarsim.compress.targets.rigid_shapes import RigidShapes, choose_shapes
from xbarsim.compress.targets.selection import choose
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_integer, check_real
from xbarsim.training import ParameterGroup

__all__ = ["LearnedShapes"]


@dataclass(frozen=True, kw_only=True)
class LearnedShapes(Method):
    """Learns which positions of the kernel each group of filters and channels uses.

    Learnable heterogeneous convolution, Neural Networks 2021, doi:10.48550/arXiv.2301.05440. Every position of every
    group of a :class:`~xbarsim.compress.KernelShapes` target has a trained number, its effect; it takes part while that
    is above 0. The gradient passes the step as it is where the effect is within 1 of 0, and a tenth of it elsewhere. A
    penalty
    draws the share of the weights that take part to that of the targets. After `learn` epochs the positions of the
    largest effects stay, of each layer as many as its target says, and the weights alone are trained.

    The rigid variant is that of a :class:`~xbarsim.compress.RigidShapes` target: every shape of every group has an
    effect, and that of the largest takes part. The gradient of what a shape is worth passes to its effect where that is
    within 1 of the mean of its group's, and a tenth of it elsewhere. After `learn` epochs the shapes stay whose effects
    are the largest in sum, of no more positions than the target says: those that took part, if they are so few.

    Parameters
    ----------
    learn
        Epochs in which shapes are learnt, >= 1, and fewer than the training has.
    warm_up
        Epochs over which masks take hold: in each step, each filter computes with its mask by the probability epoch /
        `warm_up`, and with all of its weights otherwise. 0 for masks from the start.
    strength
        Weight of the penalty on the difference of the shares, >= 0, reached after `warm_up`.
    rate_factor
        Learning rate of the effects over that of the weights, > 0.
    seed
        Of the initial effects and of the warm-up, >= 0.

    Raises
    ------
    InputError
        If a value is out of its bound.

    Notes
    -----
    It differs from the publication in two things: the share that is left is exact in every layer, where theirs is a
    soft aim for the whole network; and the strength of the penalty is a setting, not drawn from the first loss.
    """

    learn: int
    warm_up: int = 0
    strength: float = 4.0
    rate_factor: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("learn", self.learn, at_least=1)
        check_integer("warm_up", self.warm_up, at_least=0)
        check_integer("seed", self.seed, at_least=0)
        object.__setattr__(self, "strength", check_real("strength", self.strength, at_least=0.0))
        object.__setattr__(self, "rate_factor", check_real("rate_factor", self.rate_factor, above=0.0))

    @entrance
    def callback(self, recipe: Recipe) -> MethodCallback:
        """Learn shapes, as `recipe` says; its levels play no part.

        Raises
        ------
        InputError
            If a rule has other targets than one :class:`~xbarsim.compress.KernelShapes` or
            :class:`~xbarsim.compress.RigidShapes`.
        """
        return LearnedShapesCallback(self, recipe)


def _generator(seed: int, *key: int) -> torch.Generator:
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


class _Step(torch.autograd.Function):
    """1 where an effect is above 0, else 0; gradients pass, a tenth of them beyond 1."""

    @staticmethod
    def forward(context: Any, effects: Tensor) -> Tensor:
        context.save_for_backward(effects)
        return (effects > 0).to(effects.dtype)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (effects,) = context.saved_tensors
        return torch.where(effects.abs() < 1, gradients[0], 0.1 * gradients[0])


def _step(effects: Tensor) -> Tensor:
    found = _Step.apply(effects)  # type: ignore[no-untyped-call]  # torch has no types for it
    assert isinstance(found, Tensor)
    return found


class _Pick(torch.autograd.Function):
    """1 for the largest effect of each row, else 0; gradients pass, a tenth of them beyond 1 from the row's mean."""

    @staticmethod
    def forward(context: Any, effects: Tensor) -> Tensor:
        context.save_for_backward(effects)
        return torch.zeros_like(effects).scatter_(1, effects.argmax(dim=1, keepdim=True), 1.0)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (effects,) = context.saved_tensors
        near = (effects - effects.mean(dim=1, keepdim=True)).abs() < 1
        return torch.where(near, gradients[0], 0.1 * gradients[0])


def _pick(effects: Tensor) -> Tensor:
    found = _Pick.apply(effects)  # type: ignore[no-untyped-call]
    assert isinstance(found, Tensor)
    return found


class _Shaped(nn.Module):
    """A weight times the mask that its effects make.

    Parameters
    ----------
    groups
        Of each weight, the number of the position of a group that it stands at, int64 (filters, positions).
    sizes
        Weights at each of these.
    effects
        Of each of these; with a table of shapes, of each shape of each group, (groups, shapes).
    seed
        Of the warm-up.
    table
        The shapes that a group may have, (shapes, positions of the kernel); ``None`` where every position is free.
    """

    def __init__(
        self, groups: Tensor, sizes: Tensor, effects: Tensor, seed: tuple[int, int], table: Tensor | None = None
    ) -> None:
        super().__init__()
        self.effects = nn.Parameter(effects)
        self._groups, self._sizes, self._seed, self._table = groups, sizes, seed, table
        self.step = 0
        self.chance = 1.0  # that a filter computes with its mask
        self.frozen = False

    def forward(self, weight: Tensor) -> Tensor:
        if self.frozen:
            return weight
        mask = self._taking_part()[self._groups]
        if self.training and self.chance < 1:
            generator = _generator(*self._seed, self.step)
            masked = (torch.rand(len(mask), generator=generator) < self.chance).to(mask.device)
            mask = torch.where(masked.unsqueeze(1), mask, 1.0)
        return weight * mask.reshape(weight.shape)

    def _taking_part(self) -> Tensor:
        """1 for each position of each group that takes part, else 0, with gradients."""
        if self._table is None:
            return _step(self.effects)
        return (_pick(self.effects) @ self._table).flatten()

    def share(self) -> Tensor:
        """Share of the weights that take part, with gradients."""
        sizes = self._sizes.to(self.effects.dtype)
        return torch.sum(self._taking_part() * sizes) / sizes.sum()


class LearnedShapesCallback(MethodCallback):
    """Learning of shapes at work in one training."""

    method: LearnedShapes

    def __init__(self, method: LearnedShapes, recipe: Recipe) -> None:
        super().__init__(method, recipe)
        for number, rule in enumerate(recipe.rules):
            if rule.targets and not (
                len(rule.targets) == 1 and isinstance(rule.targets[0], KernelShapes | RigidShapes)
            ):
                raise InputError(
                    f"rules[{number}].targets must be one KernelShapes or RigidShapes, got {rule.targets!r}"
                )

    def start(self, model: nn.Module, epochs: int) -> None:
        """Give every layer its effects.

        Raises
        ------
        InputError
            If there are not more epochs than `learn`.
        """
        if epochs <= self.method.learn:
            raise InputError(f"learn must be an integer < {epochs} (epochs), got {self.method.learn}")
        super().start(model, epochs)
        self._shaped: dict[str, _Shaped] = {}
        for number, (layer, rule) in enumerate(self.pruned_layers().items()):
            matrix = self.matrix(layer)
            target, size = _target(rule), (matrix.shape[0], matrix.shape[1])
            generator = _generator(self.method.seed, number)
            # about half begin above 0: positions are drawn to either side by the loss, not by where they began
            if isinstance(target, RigidShapes):
                groups, count = target.places(size, matrix.device)
                sizes = torch.bincount(groups.flatten(), minlength=count * target.kernel)
                effects = 0.5 * torch.randn(count, len(target.shapes), generator=generator)
                table = target.table(matrix.device).to(matrix.dtype)
            else:
                groups, sizes = target.groups(size, matrix.device)
                effects = 0.5 * torch.randn(len(sizes), generator=generator)
                table = None
            module = _Shaped(groups, sizes, effects.to(matrix.device, matrix.dtype), (self.method.seed, number), table)
            module.train(self.layer(layer).module.training)
            self._shaped[layer] = module
            self.attach(layer, module)

    def groups(self) -> Sequence[ParameterGroup]:
        """Effects are trained without weight decay."""
        effects = tuple(module.effects for module in self._shaped.values())
        return (ParameterGroup(parameters=effects, weight_decay=0.0, rate_factor=self.method.rate_factor),)

    def begin_epoch(self, epoch: int) -> None:
        """Let masks take hold, and fix them when they are learnt."""
        chance = 1.0 if epoch >= self.method.warm_up else epoch / self.method.warm_up
        self._ramp = chance
        if epoch >= self.method.learn and not self.held_masks():
            for layer, rule in self.pruned_layers().items():
                effects = self._shaped[layer].effects.detach().to(torch.float64)
                self.set_mask(layer, self._learnt(_target(rule), self.matrix(layer), effects))
        for module in self._shaped.values():
            module.chance, module.frozen = chance, bool(self.held_masks())

    @staticmethod
    def _learnt(target: KernelShapes | RigidShapes, matrix: Tensor, effects: Tensor) -> Tensor:
        """The mask of the largest effects that the target allows."""
        size = (matrix.shape[0], matrix.shape[1])
        if isinstance(target, KernelShapes):
            groups, _ = target.groups(size, matrix.device)
            return choose(effects, target.keep, None)[groups]
        sizes = target.table().sum(dim=1).numpy()
        chosen = choose_shapes(effects.cpu().numpy(), sizes, target.most(len(effects)))
        return target.spread(torch.from_numpy(chosen).to(matrix.device), size)

    def begin_step(self, step: int) -> None:
        """Count steps, by which the warm-up draws."""
        for module in self._shaped.values():
            module.step = step

    def penalty(self) -> Tensor | None:
        """How far the shares are from what the targets say, weighted by the weights of the layers."""
        if self.held_masks() or not self.method.strength:
            return None
        total, wanted = 0, None
        for layer, rule in self.pruned_layers().items():
            module = self._shaped[layer]
            count = int(module._sizes.sum())
            term = count * (module.share() - _target(rule).keep).abs()
            wanted = term if wanted is None else wanted + term
            total += count
        assert wanted is not None
        return self.method.strength * self._ramp * wanted / total

    def finish(self) -> None:
        """Take the effects out of the network."""
        for layer in self.pruned_layers():
            self._hold(layer, self.held_masks()[layer])
        super().finish()


def _target(rule: LayerRule) -> KernelShapes | RigidShapes:
    (target,) = rule.targets
    assert isinstance(target, KernelShapes | RigidShapes)
    return target
