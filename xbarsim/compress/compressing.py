"""From a trained network to a pruned and quantised one: prune, hold the mask, retrain on the levels."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from xbarsim.compress.disturbances import Disturbance
from xbarsim.compress.hardening import Hardening
from xbarsim.compress.layers import mappable_layers
from xbarsim.compress.methods.base import Method
from xbarsim.compress.methods.magnitude import Magnitude
from xbarsim.compress.recipe import Recipe
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.training import History, Training, TrainingSet, train

__all__ = ["Compressed", "compress", "prune", "retrain"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Compressed:
    """A compressed network, and how it came about.

    Attributes
    ----------
    model
        The network, in evaluation mode: pruned weights are 0, the others on their levels.
    masks
        Which weights stay, by layer name: bool, of the weight's shape.
    pruning, retraining
        What happened in the two trainings; ``None`` for one that was not needed.
    report
        What the method tells of the pruning: of ADMM its residuals, of grow and prune :class:`Writes`; ``None`` where
        there is nothing.
    """

    model: nn.Module
    masks: dict[str, Tensor]
    pruning: History | None
    retraining: History | None
    report: object = None

    def __post_init__(self) -> None:
        check_fields(self)


def _file(folder: str | os.PathLike[str] | None, name: str) -> Path | None:
    return None if folder is None else Path(folder) / f"{name}.safetensors"


@entrance
def prune(
    model: nn.Module,
    recipe: Recipe,
    data: TrainingSet,
    training: Training,
    *,
    method: Method,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Compressed:
    """Choose the weights that stay, while the network is trained to do without the others.

    Parameters
    ----------
    model
        A trained network; not changed.
    recipe
        Which structure of which layer is to be pruned, and how much of it.
    data, training
        What to train on, and how.
    method
        How the weights are chosen.
    checkpoint
        File from which a run that was cut short goes on.
    progress
        Show progress; ``None`` for only on a terminal.

    Returns
    -------
    Compressed
        With the masks, and every pruned weight at 0.

    Raises
    ------
    InputError
        If the recipe prunes nothing, or does not suit the model.
    """
    check_instance("recipe", recipe, Recipe)
    if not any(rule.targets for rule in recipe.layers(model).values()):
        raise InputError("recipe must have a target to prune, got none")
    changed = copy.deepcopy(model)
    callback = method.callback(recipe)
    history = train(changed, data, training, callbacks=(callback,), checkpoint=checkpoint, progress=progress)
    masks = callback.masks()
    Hardening.hold(changed, masks)
    return Compressed(model=changed.eval(), masks=masks, pruning=history, retraining=None, report=callback.report())


@entrance
def retrain(
    model: nn.Module,
    data: TrainingSet,
    training: Training,
    *,
    masks: dict[str, Tensor],
    recipe: Recipe | None = None,
    injection: Disturbance | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Compressed:
    """Train what is left: pruned weights stay 0, the others stay on the recipe's levels.

    Parameters
    ----------
    model
        A network; not changed.
    data, training
        What to train on, and how.
    masks
        Which weights stay, by layer name; may be empty.
    recipe
        Says which layers stand on which levels; ``None`` for free weights.
    injection
        Errors and stuck cells of all layers during training; ``None`` for none.
    checkpoint, progress
        As in :func:`prune`.
    """
    changed = copy.deepcopy(model)
    rules = {} if recipe is None else recipe.layers(changed)
    levels = {name: rule.levels for name, rule in rules.items() if rule.levels is not None}
    every = () if injection is None else tuple(mappable_layers(changed))
    hardening = Hardening(masks=masks, levels=levels, injection=injection, layers=every)
    history = train(changed, data, training, callbacks=(hardening,), checkpoint=checkpoint, progress=progress)
    hardening.bake()
    return Compressed(model=changed.eval(), masks=dict(masks), pruning=None, retraining=history)


@entrance
def compress(
    model: nn.Module,
    recipe: Recipe,
    data: TrainingSet,
    *,
    pruning: Training | None = None,
    retraining: Training,
    method: Method | None = None,
    injection: Disturbance | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Compressed:
    """Prune a network as a recipe says, then retrain what is left on the recipe's levels.

    Parameters
    ----------
    model
        A trained network; not changed.
    recipe
        Structures, shares and levels, layer by layer.
    data
        What to train on.
    pruning
        How to train while pruning; needed where the recipe prunes.
    retraining
        How to train afterwards.
    method
        How the weights that stay are chosen; ``None`` for the largest, at once.
    injection
        Errors and stuck cells during retraining.
    folder
        Where both trainings keep a checkpoint, from which a run that was cut short goes on.
    progress
        Show progress; ``None`` for only on a terminal.

    Raises
    ------
    InputError
        If the recipe does not suit the model, or prunes and `pruning` is absent.
    """
    check_instance("recipe", recipe, Recipe)
    first: Compressed | None = None
    if any(rule.targets for rule in recipe.layers(model).values()):
        if pruning is None:
            raise InputError("pruning must be given for a recipe that prunes, got None")
        first = prune(
            model, recipe, data, pruning,
            method=Magnitude() if method is None else method, checkpoint=_file(folder, "pruning"), progress=progress,
        )  # fmt: skip
    second = retrain(
        model if first is None else first.model, data, retraining,
        masks={} if first is None else first.masks, recipe=recipe, injection=injection,
        checkpoint=_file(folder, "retraining"), progress=progress,
    )  # fmt: skip
    return Compressed(
        model=second.model,
        masks=second.masks,
        pruning=None if first is None else first.pruning,
        retraining=second.retraining,
        report=None if first is None else first.report,
    )
