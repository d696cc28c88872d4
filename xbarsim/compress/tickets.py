"""Lottery tickets: subnetworks that would have trained as well alone, found by pruning, and told from other ones.

The checks are those of X. Ma et al., Sanity Checks for Lottery Tickets: Does Your Winning Ticket Really Win the
Jackpot?, NeurIPS 2021, doi:10.48550/arXiv.2107.00166, with intervals, which the paper has none of.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from xbarsim.compress.compressing import retrain
from xbarsim.compress.layers import gemm_view, mappable_layers
from xbarsim.compress.targets.selection import check_matrix, kept_count, largest
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.intervals import difference_interval
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real
from xbarsim.training import Callback, Training, TrainingSet, train

__all__ = ["Condition", "TicketArms", "TicketVerdict", "Tickets", "find_tickets", "magnitude_masks", "ticket"]


# ------------------------------------------------------------------------------------------------ to find them


@entrance
def magnitude_masks(
    model: nn.Module,
    keep: float,
    *,
    layers: Sequence[str] | None = None,
    among: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Masks of the largest weights of a whole network, whatever their layer: one-shot magnitude pruning.

    Parameters
    ----------
    model
        The network.
    keep
        Share of the weights of those layers that stays, or of those in `among`; in (0, 1].
    layers
        Names of the layers that are pruned; ``None`` for all of :func:`mappable_layers`.
    among
        Which weights may stay, by layer: bool, of the weight's shape; ``None`` for all.

    Returns
    -------
    dict
        By layer: bool, of the weight's shape. Of equal weights the first stay.

    Raises
    ------
    InputError
        If a layer is not there, a weight not finite, or `among` does not fit.
    """
    check_real("keep", keep, above=0.0, at_most=1.0)
    modules = mappable_layers(model)
    names = list(modules) if layers is None else list(layers)
    for name in names:
        if name not in modules:
            raise InputError(f"layers must be among {', '.join(modules)}, got {name!r}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"layers must be of the model, each once, got {names!r}")
    weights = {name: modules[name].free.detach() for name in names}
    values, allowed = [], []
    for name, weight in weights.items():
        may = None if among is None else among.get(name)
        if among is not None and may is None:
            raise InputError(f"among must have a mask of every layer that is pruned, got none of {name!r}")
        check_matrix(gemm_view(weight), None if may is None else gemm_view(may))
        values.append(weight.abs().flatten().to("cpu", torch.float64))
        allowed.append(torch.ones(weight.numel(), dtype=torch.bool) if may is None else may.flatten().cpu())
    inside = torch.cat(allowed)
    score = torch.where(inside, torch.cat(values), -1.0)
    chosen = largest(score, kept_count(keep, max(1, int(inside.sum())))) & inside
    parts = torch.split(chosen, [weight.numel() for weight in weights.values()])
    return {
        name: part.reshape(weight.shape).to(weight.device)
        for (name, weight), part in zip(weights.items(), parts, strict=True)
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Tickets:
    """What iterative magnitude pruning found.

    Attributes
    ----------
    dense
        The dense network, trained, in evaluation mode.
    initial
        The network that every ticket begins with: as it was before the training, or after `rewind` epochs of it.
    masks
        Which weights stay after each round, by layer: bool, of the weight's shape.
    accuracies
        Validation accuracy of the network that each round trained, 0 to 1: the first is that of the dense one.
    """

    dense: nn.Module
    initial: nn.Module
    masks: tuple[dict[str, Tensor], ...]
    accuracies: tuple[float, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def sparsities(self) -> tuple[float, ...]:
        """Share of the weights of the pruned layers that are gone after each round."""
        return tuple(
            1.0 - sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
            for masks in self.masks
        )


class _Snapshot(Callback):
    """Keeps the network as it is before an epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._kept: dict[str, Tensor] = {}

    def settings(self) -> str:
        return f"Snapshot(epoch={self._epoch})"

    def start(self, model: nn.Module, epochs: int) -> None:
        self._model = model

    def begin_epoch(self, epoch: int) -> None:
        if epoch == self._epoch:
            self._kept = {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}

    def state(self) -> dict[str, Tensor]:
        return dict(self._kept)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._kept = {name: tensor.clone() for name, tensor in state.items()}

    def restore(self, model: nn.Module) -> nn.Module:
        """A copy of a network with what was kept."""
        copied = copy.deepcopy(model)
        copied.load_state_dict(self._kept)
        return copied


@entrance
def find_tickets(
    model: nn.Module,
    data: TrainingSet,
    training: Training,
    *,
    rounds: int,
    share: float = 0.2,
    layers: Sequence[str] | None = None,
    rewind: int = 0,
    folder: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Tickets:
    """Iterative magnitude pruning: train, prune a share of what is left, begin again with the weights of old.

    After J. Frankle, M. Carbin, The Lottery Ticket Hypothesis, ICLR 2019, doi:10.48550/arXiv.1803.03635; with `rewind`
    after J. Frankle et al., ICML 2020, doi:10.48550/arXiv.1912.05671.

    Parameters
    ----------
    model
        The network as it begins; not changed.
    data, training
        What to train on, and how: every round runs all of it. What is pruned is chosen by the network of the last epoch
        (or the best one, as `training` selects).
    rounds
        How often, >= 1: (1 - share)**rounds of the weights are left.
    share
        Share of the weights that are left, of all layers together, that each round takes away, in (0, 1).
    layers
        Names of the layers that are pruned; ``None`` for every one with a matrix.
    rewind
        Epochs of the dense training after which the weights are those that tickets begin with, >= 0.
    folder
        Where every round keeps a checkpoint, from which a run that was cut short goes on.
    progress
        Show progress; ``None`` for only on a terminal.

    Raises
    ------
    InputError
        If a value is out of its bound, or a layer is not there.
    """
    check_integer("rounds", rounds, at_least=1)
    check_real("share", share, above=0.0, below=1.0)
    check_integer("rewind", rewind, at_least=0, at_most=training.epochs - 1)
    magnitude_masks(model, 1.0, layers=layers)  # refuses layers that are not there, before anything is trained

    def file(number: int) -> Path | None:
        return None if folder is None else Path(folder) / f"round{number}.safetensors"

    dense, snapshot = copy.deepcopy(model), _Snapshot(rewind)
    history = train(dense, data, training, callbacks=(snapshot,), checkpoint=file(0), progress=progress)
    initial = snapshot.restore(model)
    accuracies = [history.validation_accuracy[history.selected]]
    masks = [magnitude_masks(dense, 1.0 - share, layers=layers)]
    for number in range(1, rounds):
        trained = retrain(initial, data, training, masks=masks[-1], checkpoint=file(number), progress=progress)
        assert trained.retraining is not None
        accuracies.append(trained.retraining.validation_accuracy[trained.retraining.selected])
        masks.append(magnitude_masks(trained.model, 1.0 - share, layers=layers, among=masks[-1]))
    return Tickets(dense=dense.eval(), initial=initial, masks=tuple(masks), accuracies=tuple(accuracies))


# ------------------------------------------------------------------------------------------------ to judge them


@dataclass(frozen=True, kw_only=True)
class TicketArms:
    """Accuracies, 0 to 1, of networks that were trained as long as one another, by learning rate, one a seed.

    Attributes
    ----------
    sparsity
        Share of the weights that the subnetwork lacks.
    dense
        The dense network, which the mask was found with.
    ticket
        The subnetwork, begun with the weights that the dense network began with.
    random
        The subnetwork, begun with other weights.
    small
        A small dense network with as many weights as the subnetwork has.
    enough_epochs
        Whether all were trained for as long as the dense network needs.
    """

    sparsity: float
    dense: Mapping[float, Sequence[float]]
    ticket: Mapping[float, Sequence[float]]
    random: Mapping[float, Sequence[float]]
    small: Mapping[float, Sequence[float]]
    enough_epochs: bool = True

    def __post_init__(self) -> None:
        check_real("sparsity", self.sparsity, at_least=0.0, at_most=1.0)
        check_instance("enough_epochs", self.enough_epochs, bool)
        for name in ("dense", "ticket", "random", "small"):
            arm = getattr(self, name)
            check_instance(name, arm, Mapping)
            if not arm:
                raise InputError(f"{name} must have the accuracies of at least one learning rate, got none")
            for rate, values in arm.items():
                check_real(f"learning rates of {name}", rate, above=0.0)
                check_instance(f"{name}[{rate!r}]", values, (list, tuple))
                if not values:
                    raise InputError(f"{name}[{rate!r}] must have at least one accuracy, got none")
                for value in values:
                    check_real(f"{name}[{rate!r}]", value, at_least=0.0, at_most=1.0)
        common = self.ticket.keys() & self.dense.keys()
        if not common:
            raise InputError("dense and ticket must have a learning rate in common, got none")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One of the five conditions of a winning ticket.

    Attributes
    ----------
    text
        What it says.
    holds
        Whether it does, by the means.
    difference, low, high
        The difference of accuracies that it is about, with its 95 % interval (``None`` where an arm has one seed);
        ``None`` for the first condition.
    certain
        Whether the whole interval says the same as the mean.
    """

    text: str
    holds: bool
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    certain: bool = True

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class TicketVerdict:
    """What a subnetwork is.

    Attributes
    ----------
    kind
        ``"jackpot"`` if all five conditions hold, ``"secondary"`` (a secondary prize) if the first four do, else
        ``"none"``.
    conditions
        The five, in the paper's order.
    """

    kind: Literal["jackpot", "secondary", "none"]
    conditions: tuple[Condition, ...] = field(repr=False)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def certain(self) -> bool:
        """Whether the verdict stands whichever accuracies of the intervals are true."""
        worst = _kind([each.holds and each.certain for each in self.conditions])
        best = _kind([each.holds or not each.certain for each in self.conditions])
        return worst == best

    def __str__(self) -> str:
        rows = [
            (
                number,
                each.text,
                "yes" if each.holds else "no",
                "-" if each.difference is None else f"{100 * each.difference:+.2f}",
                "-" if each.low is None or each.high is None else f"{100 * each.low:+.2f} to {100 * each.high:+.2f}",
                "yes" if each.certain else "no",
            )
            for number, each in enumerate(self.conditions, start=1)
        ]
        heads = ("", "condition", "holds", "points", "95 % interval", "certain")
        return f"{format_table(heads, rows, left=2)}\nticket: {self.kind}{'' if self.certain else ' (not certain)'}"


def _kind(holds: Sequence[bool]) -> Literal["jackpot", "secondary", "none"]:
    return "jackpot" if all(holds) else "secondary" if all(holds[:4]) else "none"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _best(arm: Mapping[float, Sequence[float]]) -> Sequence[float]:
    return max(arm.values(), key=_mean)


@entrance
def ticket(
    arms: TicketArms, *, similar: float = 0.005, gap: float = 0.005, least_sparsity: float = 0.6
) -> TicketVerdict:
    """Judge a subnetwork by the five conditions of a winning ticket.

    1. The sparsity is not trivial, and the training long enough.
    2. The small dense network is clearly worse.
    3. At some learning rate the ticket is clearly better than the subnetwork with other weights at any.
    4. At some learning rate the ticket is similar to the dense network at the same one, or better.
    5. At some learning rate the ticket is similar to the dense network at its best one, or better.

    Parameters
    ----------
    arms
        What was measured.
    similar
        Accuracies that differ by no more are similar: 0.005 for CIFAR-10, 0.01 for CIFAR-100, 0.015 for ImageNet in the
        paper.
    gap
        A difference is clear above it.
    least_sparsity
        From which a sparsity is not trivial.

    Returns
    -------
    TicketVerdict
        With 95 % intervals of the differences (Welch's t). Where the best of several learning rates is taken, the
        interval does not count that it was chosen.

    Raises
    ------
    InputError
        If a value is out of its bound.
    """
    check_instance("arms", arms, TicketArms)
    check_real("similar", similar, at_least=0.0, at_most=1.0)
    check_real("gap", gap, at_least=0.0, at_most=1.0)
    check_real("least_sparsity", least_sparsity, at_least=0.0, at_most=1.0)
    best = _best(arms.ticket)
    random, dense = _best(arms.random), _best(arms.dense)
    same = max(
        arms.ticket.keys() & arms.dense.keys(), key=lambda rate: _mean(arms.ticket[rate]) - _mean(arms.dense[rate])
    )
    conditions = (
        Condition(
            text="not trivial, and trained long enough", holds=arms.sparsity >= least_sparsity and arms.enough_epochs
        ),
        _compare("better than a small dense network", best, _best(arms.small), gap, clearly=True),
        _compare("better than with other weights", best, random, gap, clearly=True),
        _compare("similar to the dense network, same rate", arms.ticket[same], arms.dense[same], -similar),
        _compare("similar to the dense network at its best", best, dense, -similar),
    )
    return TicketVerdict(kind=_kind([each.holds for each in conditions]), conditions=conditions)


def _compare(
    text: str, one: Sequence[float], other: Sequence[float], bound: float, *, clearly: bool = False
) -> Condition:
    """Whether the mean of one is above that of the other by more than a bound, or, if not clearly, by no less."""
    interval = difference_interval(one, other)
    # accuracies are ratios of counts: a difference that is the bound but for rounding is the bound
    exact = math.isclose(interval.estimate, bound, rel_tol=0.0, abs_tol=1e-12)
    holds = (not clearly) if exact else interval.estimate > bound
    low, high = (interval.low, interval.high) if interval.has_ends else (None, None)
    certain = interval.has_ends and (interval.low > bound or interval.high < bound)
    return Condition(text=text, holds=holds, difference=interval.estimate, low=low, high=high, certain=certain)
