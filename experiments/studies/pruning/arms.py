"""What is trained: networks, ways to prune them, and settings, from the recipes; and how an arm is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer
from torch import nn

from xbarsim.compress import (
    GrowAndPrune,
    LayerRule,
    Levels,
    Method,
    Recipe,
    grow_and_prune_in_parallel,
    mappable_layers,
    prune,
    retrain,
)
from xbarsim.experiments.fits.train_networks import Frames, spoken_digits_data
from xbarsim.experiments.folders import RECIPES, WEIGHTS
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError, check_choice
from xbarsim.models import SpokenDigitsNet, load_coded, load_zoo_file, read_card, save_coded, untrained_model
from xbarsim.training import Training, TrainingSet, train

__all__ = [
    "BITS",
    "NETWORKS",
    "STORED",
    "Arm",
    "Study",
    "load_stored",
    "load_study",
    "load_training_set",
    "stored_file",
    "train_arm",
    "train_dense",
]

BITS = 8
"""Of every stored weight, sign included."""

NETWORKS = ("convnet", "resnet20", "lenet5", "gru")
"""Networks that have a recipe; the last is of frames of spoken digits, the others of images."""

STORED = WEIGHTS / "pruning"
"""Where the trained networks are."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to prune a network.

    Attributes
    ----------
    name
        Of the arm and of what is stored.
    recipe
        What is pruned, and how much of it; nothing, for a network that is only trained on.
    method
        How the weights that stay are found.
    start
        ``"dense"``: from the trained dense network; ``"untrained"``: from random weights; else the name of the arm from
        whose network, trained to its end.
    pruning, retraining
        Settings of the two trainings; ``None`` for those of the study.
    parallel
        Whether parts grow side by side, each in a replica, for a method that has parts.
    family
        Arms of one family are one line in pictures: a method and a structure at several shares.

    Raises
    ------
    InputError
        If `parallel` is set for a method without parts.
    """

    name: str
    family: str
    recipe: Recipe
    method: Method
    start: str = "dense"
    pruning: Training | None = None
    retraining: Training | None = None
    parallel: bool = False

    def __post_init__(self) -> None:
        if self.parallel and not isinstance(self.method, GrowAndPrune):
            raise InputError(f"parallel must be False for a method without parts, got True with {self.method!r}")

    @property
    def prunes(self) -> bool:
        """Whether its recipe leaves out any weight."""
        return any(rule.targets for rule in self.recipe.rules)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One network, and all arms.

    Attributes
    ----------
    network, data_set
        What is trained on what.
    dense, pruning, retraining, quantising
        Settings of the four trainings.
    arms
        The ways to prune.

    Raises
    ------
    InputError
        If an arm starts from one that does not stand before it.
    """

    network: str
    data_set: str
    dense: Training
    pruning: Training
    retraining: Training
    quantising: Training
    arms: tuple[Arm, ...]

    def __post_init__(self) -> None:
        known = ["dense", "untrained"]
        for arm in self.arms:
            check_choice(f"start of arm {arm.name!r}", arm.start, known)
            known.append(arm.name)

    def arm(self, name: str) -> Arm:
        """The arm of a name.

        Raises
        ------
        InputError
            If there is none.
        """
        names = [arm.name for arm in self.arms]
        return self.arms[names.index(check_choice("arm", name, names))]

    def epochs(self, arm: Arm) -> int:
        """All epochs that an arm takes, those of the network that it starts from among them."""
        pruning = (self.pruning if arm.pruning is None else arm.pruning).epochs if arm.prunes else 0
        if arm.parallel:
            assert isinstance(arm.method, GrowAndPrune)
            pruning *= arm.method.parts * arm.method.rounds
        if arm.start == "dense":
            before = self.dense.epochs
        else:
            before = 0 if arm.start == "untrained" else self.epochs(self.arm(arm.start))
        return before + pruning + (self.retraining if arm.retraining is None else arm.retraining).epochs

    def compared(self) -> tuple[Arm, ...]:
        """The arms that take as many epochs as the study's three trainings: the others stand beside them."""
        whole = self.dense.epochs + self.pruning.epochs + self.retraining.epochs
        return tuple(arm for arm in self.arms if self.epochs(arm) == whole)


def load_study(network: str) -> Study:
    """Read the settings of a network.

    Raises
    ------
    InputError
        If there is no recipe for it.
    """
    return tomlio.load(Study, RECIPES / f"pruning_{check_choice('network', network, NETWORKS)}.toml")


def stored_file(network: str, arm: str | None, folder: Path = STORED) -> Path:
    """Where a trained network is; ``None`` for the dense one."""
    return folder / f"{network}-{'dense' if arm is None else arm}.safetensors"


def _untrained(network: str, seed: int) -> nn.Module:
    """A network as it is trained: from images, or frames as images of one channel, to logits."""
    if network != "gru":
        return untrained_model(network, seed=seed)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Frames(SpokenDigitsNet("gru"))


def load_training_set(data_set: str) -> TrainingSet:
    """Images, or frames as images, to train on."""
    return spoken_digits_data() if data_set == "fsdd" else TrainingSet.load(data_set)


def load_stored(network: str, arm: str | None, folder: Path = STORED) -> tuple[nn.Module, dict[str, Any]]:
    """A stored network with its card; ``None`` for the dense one.

    Raises
    ------
    FileFormatError
        If the file is damaged.
    """
    path = stored_file(network, arm, folder)
    if network != "gru":
        return load_zoo_file(path)
    model = SpokenDigitsNet("gru")
    load_coded(path, model)
    return model, read_card(path)


def _levels(model: nn.Module) -> Recipe:
    """Levels of an output each, for all layers: what is stored is what is mapped."""
    return Recipe(rules=(LayerRule(layers=tuple(mappable_layers(model)), levels=Levels(bits=BITS, per="output")),))


def _store(
    path: Path,
    model: nn.Module,
    data: TrainingSet,
    study: Study,
    masks: dict[str, torch.Tensor],
    about: dict[str, object],
) -> float:
    """Bring what is left onto the levels in the epochs of the last training, and write it."""
    done = retrain(
        model, data, study.quantising, masks=masks, recipe=_levels(model),
        checkpoint=path.parent / "checkpoints" / f"{path.stem}.levels.safetensors", progress=False,
    )  # fmt: skip
    assert done.retraining is not None
    history = done.retraining
    validation = history.validation_accuracy[history.selected]
    layers = mappable_layers(done.model)
    about |= {
        "network": study.network,
        "data_set": study.data_set,
        "bits": BITS,
        "recipe": f"experiments/recipes/pruning_{study.network}.toml",
        "validation_accuracy": round(validation, 4),
        "weights_kept": sum(int(torch.count_nonzero(layer.weight)) for layer in layers.values()),
        "licence": "Apache-2.0",
    }
    written = done.model.network if isinstance(done.model, Frames) else done.model
    save_coded(path, written.cpu(), bits=BITS, about=about)
    typer.echo(f"{path.stem}: validation accuracy {validation:.2%}", err=True)
    return validation


def train_dense(
    study: Study, folder: Path, *, data: TrainingSet | None = None, progress: bool | None = None
) -> nn.Module:
    """Train the dense network and store it, or go on; what is returned is not on the levels yet.

    A folder that holds the stored dense network without the checkpoint of its training gives that one.

    Parameters
    ----------
    study
        The settings.
    folder
        For checkpoints and the stored network.
    data
        Images; ``None`` for those of the study's data set.
    progress
        Show progress.
    """
    work = folder / "checkpoints"
    work.mkdir(parents=True, exist_ok=True)
    path, checkpoint = stored_file(study.network, None, folder), work / f"{study.network}.dense.safetensors"
    if path.exists() and not checkpoint.exists():
        stored, _ = load_stored(study.network, None, folder)
        return Frames(stored) if isinstance(stored, SpokenDigitsNet) else stored
    data = load_training_set(study.data_set) if data is None else data
    model = _untrained(study.network, study.dense.seed)
    train(model, data, study.dense, checkpoint=checkpoint, progress=progress)
    model.eval()
    if not path.exists():
        _store(path, model, data, study, {}, {"arm": "dense", "epochs": study.dense.epochs})
    return model


def train_arm(
    study: Study, arm: Arm, folder: Path, *, data: TrainingSet | None = None, progress: bool | None = None
) -> None:
    """Prune, retrain, bring onto levels, store; a training that was cut short goes on, a stored arm is left alone.

    Parameters
    ----------
    study, folder, data, progress
        As in :func:`train_dense`, whose network is made first where the arm starts from it.
    arm
        Which.
    """
    path = stored_file(study.network, arm.name, folder)
    if path.exists():
        return
    data = load_training_set(study.data_set) if data is None else data
    model, masks = _trained(study, arm, folder, data=data, progress=progress)
    about: dict[str, object] = {
        "arm": arm.name,
        "family": arm.family,
        "method": type(arm.method).__name__,
        "epochs": study.epochs(arm),
    }
    _store(path, model, data, study, masks, about)


def _trained(
    study: Study, arm: Arm, folder: Path, *, data: TrainingSet, progress: bool | None
) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The network of an arm before it is brought onto levels, and its masks."""
    work = folder / "checkpoints" / f"{study.network}-{arm.name}"
    work.mkdir(parents=True, exist_ok=True)
    pruning = study.pruning if arm.pruning is None else arm.pruning
    retraining = study.retraining if arm.retraining is None else arm.retraining
    if arm.start == "dense":
        model = train_dense(study, folder, data=data, progress=progress)
    elif arm.start == "untrained":
        model = _untrained(study.network, pruning.seed)
    else:
        model, _ = _trained(study, study.arm(arm.start), folder, data=data, progress=progress)
    masks: dict[str, torch.Tensor] = {}
    if arm.parallel:
        assert isinstance(arm.method, GrowAndPrune)
        model, masks = grow_and_prune_in_parallel(
            model, arm.recipe, data, pruning, method=arm.method, folder=work, progress=progress
        )
    elif arm.prunes:
        pruned = prune(
            model, arm.recipe, data, pruning,
            method=arm.method, checkpoint=work / "pruning.safetensors", progress=progress,
        )  # fmt: skip
        model, masks = pruned.model, pruned.masks
    left = retrain(
        model, data, retraining,
        masks=masks, checkpoint=work / "retraining.safetensors", progress=progress,
    )  # fmt: skip
    return left.model, masks
