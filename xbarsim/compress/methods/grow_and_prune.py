"""Grow and prune: one part of the network after the other is dense for a while, all others stay sparse."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from xbarsim.compress.methods.base import Method, MethodCallback
from xbarsim.compress.methods.random_masks import random_mask
from xbarsim.compress.recipe import LayerRule, Recipe, layer_mask
from xbarsim.compress.writes import Writes
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer
from xbarsim.training import Training, TrainingSet, train

__all__ = ["GrowAndPrune", "GrowAndPruneCallback", "grow_and_prune_in_parallel", "parts_of"]

Partition = Literal["layers", "tiles"]
Order = Literal["cyclic", "random"]
Start = Literal["random", "largest"]


@dataclass(frozen=True, kw_only=True)
class GrowAndPrune(Method):
    """Scheduled growing and pruning: a sparse network all the time, of which one part at a time is dense (GaP).

    After X. Ma et al., Effective Model Sparsification by Scheduled Grow-and-Prune Methods, ICLR 2022,
    doi:10.48550/arXiv.2106.09857. The network begins with sparse masks and needs no dense training before. In each step
    what was dense is pruned to the targets by magnitude, the next part is grown: all of its weights take part, those
    that were away from 0. In a round every part has its turn. After the last round all is pruned, and the epochs that
    remain train what is left.

    A network never needs more than the targets' share of its crossbars, and one part of the rest: with parts of
    `tiles`, an accelerator that trains needs 1 / `parts` of the dense arrays beside the sparse ones.

    Parameters
    ----------
    parts
        Into how many parts the pruned layers are divided, >= 2.
    partition
        ``"layers"``: consecutive layers, with about equally many weights a part. ``"tiles"``: of every layer each
        `parts`-th tile, counted along the filters first.
    tile_filters, tile_columns
        Filters and columns of a tile, for ``"tiles"``.
    rounds
        How often every part has its turn, >= 1.
    every
        Epochs of a turn, >= 1. A training has at least `rounds` x `parts` x `every` epochs.
    order
        ``"cyclic"``: one part after the other, in every round alike; ``"random"``: in each round another order.
    start
        ``"random"``: masks drawn by lot; ``"largest"``: those of the largest weights that the network has.
    seed
        Of masks and orders, >= 0.

    Raises
    ------
    InputError
        If a value is out of its bound.

    Notes
    -----
    A learning rate that begins anew with every turn is ``Training(schedule="cosine", milestones=method.milestones)``.
    What is pruned is chosen among all weights of the layer that take part, with the share of the whole layer, so a
    layer may move weights from one of its parts into another.
    """

    parts: int = 4
    partition: Partition = "layers"
    tile_filters: int = 16
    tile_columns: int = 128
    rounds: int = 5
    every: int = 5
    order: Order = "cyclic"
    start: Start = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, bound in (("parts", 2), ("tile_filters", 1), ("tile_columns", 1), ("rounds", 1), ("every", 1)):
            check_integer(name, getattr(self, name), at_least=bound)
        check_integer("seed", self.seed, at_least=0)
        for name, choices in (("partition", Partition), ("order", Order), ("start", Start)):
            check_choice(name, getattr(self, name), get_args(choices))

    @property
    def turns(self) -> int:
        """How many turns there are in all."""
        return self.rounds * self.parts

    @property
    def milestones(self) -> tuple[float, ...]:
        """The epochs at which turns end."""
        return tuple(float(self.every * turn) for turn in range(1, self.turns + 1))

    @entrance
    def grown(self, turn: int) -> int:
        """The number of the part that is dense in a turn, both counted from 0.

        Examples
        --------
        >>> method = GrowAndPrune(parts=3, rounds=2)
        >>> [method.grown(turn) for turn in range(6)]
        [0, 1, 2, 0, 1, 2]
        """
        check_integer("turn", turn, at_least=0)
        place = turn % self.parts
        if self.order == "cyclic":
            return place
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(1, turn // self.parts)))
        return int(rng.permutation(self.parts)[place])

    @entrance
    def callback(self, recipe: Recipe) -> MethodCallback:
        """Grow and prune, as `recipe` says; its levels play no part."""
        return GrowAndPruneCallback(self, recipe)


class _Counting(MethodCallback):
    """Counts the steps that each weight takes part in."""

    method: GrowAndPrune

    def start(self, model: nn.Module, epochs: int) -> None:
        """Find the layers."""
        super().start(model, epochs)
        self._since = 0

    def after_step(self) -> None:
        """Hold the masks, and count."""
        super().after_step()
        self._since += 1

    def end_epoch(self, epoch: int) -> None:
        """Add the steps of an epoch, in which masks stay as they are."""
        super().end_epoch(epoch)
        for layer, mask in self.held_masks().items():
            count = self.memory.get(f"steps/{layer}", torch.zeros_like(mask, dtype=torch.int32))
            self.memory[f"steps/{layer}"] = count + self._since * mask.to(torch.int32)
        self.memory["steps"] = self.memory.get("steps", torch.zeros((), dtype=torch.int64)) + self._since
        self._since = 0

    def steps(self) -> dict[str, Tensor]:
        """The steps that each weight took part in, by layer: int32 (filters, positions)."""
        return {
            layer: self.memory.get(f"steps/{layer}", torch.zeros_like(mask, dtype=torch.int32)).clone()
            for layer, mask in self.held_masks().items()
        }

    def steps_of_all(self) -> int:
        """The steps that there were."""
        return int(self.memory.get("steps", torch.zeros(())))


class GrowAndPruneCallback(_Counting):
    """Growing and pruning at work in one training."""

    method: GrowAndPrune

    def start(self, model: nn.Module, epochs: int) -> None:
        """Find the layers and their parts.

        Raises
        ------
        InputError
            If there are too few epochs for all turns, or fewer layers, or tiles of every layer, than parts.
        """
        needed = self.method.turns * self.method.every
        if epochs < needed:
            raise InputError(
                f"epochs must be at least {needed} for {self.method.rounds} rounds of {self.method.parts} turns of "
                f"{self.method.every} epochs, got {epochs}"
            )
        super().start(model, epochs)
        matrices = {name: self.matrix(name) for name in self.pruned_layers()}
        self._parts = parts_of(self.method, matrices)

    def begin_epoch(self, epoch: int) -> None:
        """Give the next part its turn where one ends; prune everything after the last."""
        if epoch == 0 and not self.held_masks():
            for number, (layer, rule) in enumerate(self.pruned_layers().items()):
                self.set_mask(layer, _first_mask(self.method, layer, rule, self.matrix(layer), number))
        turn, into = divmod(epoch, self.method.every)
        if into == 0 and turn <= self.method.turns:
            self._prune(None if turn == self.method.turns else self.method.grown(turn))

    def _prune(self, grown: int | None) -> None:
        """Prune what takes part to the targets, and let a part grow."""
        for layer, rule in self.pruned_layers().items():
            matrix, before = self.matrix(layer), self.held_masks()[layer]
            mask = layer_mask(layer, rule, matrix, among=before)
            self.set_mask(layer, mask if grown is None else mask | (self._parts[layer] == grown))

    def set_mask(self, layer: str, mask: Tensor, *, start: float | Tensor = 0.0) -> None:
        """Hold a mask, and count the cells that are written because it changes."""
        before = self.held_masks().get(layer)
        super().set_mask(layer, mask, start=start)
        if before is not None:
            count = self.memory.get(f"changes/{layer}", torch.zeros_like(mask, dtype=torch.int32))
            self.memory[f"changes/{layer}"] = count + (mask ^ before)

    def changes(self) -> dict[str, Tensor]:
        """How often each weight was taken away or given back, by layer: int32 (filters, positions).

        Each time its cells are programmed. In a training on the chip, where weights that take part are written at
        every step, the others are written at these moments alone.
        """
        return {
            layer: self.memory.get(f"changes/{layer}", torch.zeros_like(mask, dtype=torch.int32)).clone()
            for layer, mask in self.held_masks().items()
        }

    def report(self) -> Writes:
        """How often cells are programmed."""
        return Writes(changes=self.changes(), steps=self.steps(), of_all=self.steps_of_all())

    def finish(self) -> None:
        """Prune what is dense still, if the training ends with the last turn."""
        self._prune(None)
        super().finish()


def _first_mask(method: GrowAndPrune, layer: str, rule: LayerRule, matrix: Tensor, number: int) -> Tensor:
    if method.start == "random":
        return random_mask(rule, matrix, seed=method.seed, layer=number)
    return layer_mask(layer, rule, matrix)


def parts_of(method: GrowAndPrune, matrices: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The number of the part that each weight belongs to, by layer: int64 (filters, positions).

    Raises
    ------
    InputError
        If a part would be empty.
    """
    parts = {}
    if method.partition == "layers":
        total, before = sum(matrix.numel() for matrix in matrices.values()), 0
        numbers = []
        for matrix in matrices.values():
            numbers.append((2 * before + matrix.numel()) * method.parts // (2 * total))  # where its middle lies
            before += matrix.numel()
        if set(numbers) != set(range(method.parts)):
            raise InputError(
                f"parts must be few enough for layers with about equally many weights a part, got {method.parts} for "
                f"layers of {', '.join(str(matrix.numel()) for matrix in matrices.values())} weights"
            )
        for (layer, matrix), number in zip(matrices.items(), numbers, strict=True):
            parts[layer] = torch.full(matrix.shape, number, device=matrix.device)
        return parts
    first = 0  # counted over all layers, so that layers of few tiles take part in all parts as well
    for layer, matrix in matrices.items():
        height, width = (
            math.ceil(length / size)
            for length, size in zip(matrix.shape, (method.tile_filters, method.tile_columns), strict=True)
        )
        tiles = (first + torch.arange(height * width, device=matrix.device)).reshape(width, height).T % method.parts
        first += height * width
        across = tiles.repeat_interleave(method.tile_filters, dim=0)[: matrix.shape[0]]
        parts[layer] = across.repeat_interleave(method.tile_columns, dim=1)[:, : matrix.shape[1]]
    if first < method.parts:
        raise InputError(f"parts must be an integer <= {first} (tiles of all pruned layers), got {method.parts}")
    return parts


class _PartCallback(_Counting):
    """Holds masks of which one part is dense: one replica of a round."""

    def __init__(self, method: GrowAndPrune, recipe: Recipe, masks: Mapping[str, Tensor], part: int) -> None:
        super().__init__(method, recipe)
        self._masks, self._part = masks, part

    def settings(self) -> str:
        return f"{super().settings()}\npart {self._part}"

    def begin_epoch(self, epoch: int) -> None:
        if epoch == 0:
            parts = parts_of(self.method, {name: self.matrix(name) for name in self.pruned_layers()})
            for layer, mask in self._masks.items():
                self.set_mask(layer, mask.to(parts[layer].device) | (parts[layer] == self._part))


@entrance
def grow_and_prune_in_parallel(
    model: nn.Module,
    recipe: Recipe,
    data: TrainingSet,
    training: Training,
    *,
    method: GrowAndPrune,
    folder: str | os.PathLike[str] | None = None,
    report: Callable[[tuple[Writes, ...]], None] | None = None,
    progress: bool | None = None,
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Grow all parts at once, each in a replica of the network, and bring them together after every round (P-GaP).

    In each round replica i begins with the network as it is, and trains with part i dense. Then the weights of part i
    are taken from replica i, pruned by magnitude; all that belongs to no part (biases, batch norms and their
    statistics, layers without targets) is the mean over the replicas. Train what is left with
    :func:`xbarsim.compress.retrain`.

    Parameters
    ----------
    model
        The network, trained or not; not changed.
    recipe
        Structures and shares.
    data
        What to train on.
    training
        How each replica is trained, in each round with another seed; its `epochs` are those of a round.
    method
        Parts, rounds, and how masks begin; `every` and `order` play no part.
    folder
        Where every training keeps a checkpoint, from which a run that was cut short goes on.
    report
        Called at the end with how often the cells of each replica are programmed, each being a chip of its own: all
        that has weights before or after replicas are brought together is programmed anew.
    progress
        Show progress; ``None`` for only on a terminal.

    Returns
    -------
    torch.nn.Module, dict
        The network in evaluation mode, and its masks by layer: bool, of the weight's shape.

    Raises
    ------
    InputError
        If the recipe prunes nothing or does not suit the model, or there are too many parts.
    """
    check_instance("method", method, GrowAndPrune)
    probe = _PartCallback(method, recipe, {}, 0)  # finds the layers
    current = copy.deepcopy(model)
    probe.start(current, training.epochs)
    rules = probe.pruned_layers()
    masks = {
        layer: _first_mask(method, layer, rule, probe.matrix(layer), number)
        for number, (layer, rule) in enumerate(rules.items())
    }
    parts = parts_of(method, {layer: probe.matrix(layer) for layer in rules})
    chips = [_Chip(masks) for _ in range(method.parts)]
    for turn in range(method.rounds):
        replicas = []
        for part in range(method.parts):
            replica = copy.deepcopy(current)
            file = None if folder is None else Path(folder) / f"round{turn}-part{part}.safetensors"
            settings = training.stage(turn * method.parts + part)
            callback = _PartCallback(method, recipe, masks, part)
            train(replica, data, settings, callbacks=(callback,), checkpoint=file, progress=progress)
            replicas.append(replica)
            chips[part].trained(callback)
        _bring_together(current, replicas, {probe.layer(layer).key: part for layer, part in parts.items()})
        for layer, rule in rules.items():
            # no part is left out: every weight of it may stay that was trained in its own replica
            masks[layer] = layer_mask(layer, rule, probe.matrix(layer))
            with torch.no_grad():
                weight = probe.weight(layer)
                weight.mul_(masks[layer].reshape(weight.shape))
    if report is not None:
        report(tuple(chip.writes(masks) for chip in chips))
    shaped = {layer: mask.reshape(probe.weight(layer).shape).clone() for layer, mask in masks.items()}
    return current.eval(), shaped


class _Chip:
    """Counts how often the cells of one replica are programmed, from round to round."""

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        self._held = {layer: torch.zeros_like(mask) for layer, mask in masks.items()}
        self._changes = {layer: torch.zeros_like(mask, dtype=torch.int32) for layer, mask in masks.items()}
        self._steps = {layer: count.clone() for layer, count in self._changes.items()}
        self._of_all = 0

    def trained(self, callback: _PartCallback) -> None:
        """A round is over: the chip was programmed with what the replica held, and trained."""
        self._program(callback.held_masks())
        for layer, count in callback.steps().items():
            self._steps[layer] += count.to(self._steps[layer].device)
        self._of_all += callback.steps_of_all()

    def _program(self, masks: Mapping[str, Tensor]) -> None:
        for layer, mask in masks.items():
            self._changes[layer] += self._held[layer] | mask.to(self._held[layer].device)
            self._held[layer] = mask.to(self._held[layer].device)

    def writes(self, masks: Mapping[str, Tensor]) -> Writes:
        """In the end it holds what was brought together."""
        self._program(masks)
        return Writes(changes=self._changes, steps=self._steps, of_all=self._of_all)


def _bring_together(current: nn.Module, replicas: Sequence[nn.Module], parts: Mapping[str, Tensor]) -> None:
    """Weights of each part from its own replica, means of all else; parts by the keys of the weights."""
    states = [replica.state_dict() for replica in replicas]
    for name, tensor in current.state_dict().items():
        all_of_it = torch.stack([state[name] for state in states])
        if name in parts:
            which = parts[name].reshape(tensor.shape)
            tensor.copy_(all_of_it.gather(0, which.unsqueeze(0)).squeeze(0))
        elif tensor.is_floating_point():
            tensor.copy_(all_of_it.mean(dim=0))
        else:
            tensor.copy_(all_of_it[0])  # counts of batches: alike in all
