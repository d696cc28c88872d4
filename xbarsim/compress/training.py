"""Training: one loop in plain torch, whose settings are one table and whose result is a function of them.

What a method of compression adds to a training it adds as a :class:`Callback`. Everything random comes from the seed
of :class:`Training`; the caller's random state stays as it is. A training that was killed goes on from its last
checkpoint and ends with the same bits as one that was not, on the same machine with the same number of threads.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn
from torch.nn import functional

from xbarsim.data import load_cifar10, load_mnist, validation_split
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import (
    FileFormatError,
    InputError,
    check_choice,
    check_instance,
    check_integer,
    check_real,
)
from xbarsim.models.weights import read_metadata, read_safetensors, write_safetensors

__all__ = ["Callback", "History", "Training", "TrainingSet", "augment", "train"]

_FORMAT = "xbarsim training checkpoint 1"
_VALIDATION_BATCH = 500  # images at a time; changes no answer beyond rounding


class Callback:
    """What takes part in a training; every method does nothing by itself.

    The methods are called in the order in which they stand here. Whatever changes in the course of a training, other
    than the model's own parameters and buffers, belongs into :meth:`state`.
    """

    def settings(self) -> str:
        """What it was made with, as text: a checkpoint that was written with other settings is refused."""
        return type(self).__qualname__

    def start(self, model: nn.Module, epochs: int) -> None:
        """Once, with the model on its device and the optimiser not yet made; also when a training is resumed."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """When resuming, take back what :meth:`state` gave; the model has its weights again."""

    def begin_epoch(self, epoch: int) -> None:
        """Before the first batch of an epoch, counted from 0."""

    def penalty(self) -> torch.Tensor | None:
        """What is added to the loss of every batch, a float32 scalar; None for nothing."""
        return None

    def before_step(self) -> None:
        """After the gradients, before the optimiser uses them."""

    def after_step(self) -> None:
        """After the optimiser changed the weights."""

    def end_epoch(self, epoch: int) -> None:
        """After the last batch of an epoch, before validation."""

    def state(self) -> dict[str, torch.Tensor]:
        """After every epoch, what a checkpoint must hold to go on from here, by flat names."""
        return {}


Optimiser = Literal["sgd", "adam", "adamw"]
Schedule = Literal["cosine", "step", "constant"]
Augmentation = Literal["none", "crop-flip", "shift", "affine"]
Precision = Literal["float32", "bfloat16"]
Device = Literal["cpu", "cuda", "auto"]
Selection = Literal["last", "best"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained; validated when built, and one table of a TOML file.

    Parameters
    ----------
    epochs
        How often every image is seen.
    batch
        Images a step. The images that do not fill the last batch of an epoch are left out of it, other ones each time.
    optimiser
        ``"sgd"`` with Nesterov's momentum, ``"adam"`` (weight decay as part of the gradient) or ``"adamw"`` (apart from
        it).
    learning_rate
        At its highest.
    momentum
        Of SGD; for Adam the decay of the gradient's mean. Adam's second decay is 0.999.
    weight_decay
        On weights of layers only: parameters with fewer than two dimensions (biases, batch norm) are not decayed.
    schedule
        ``"cosine"`` (to zero at the end), ``"step"`` (times `factor` at every milestone) or ``"constant"``.
    milestones
        Epochs at which ``"step"`` acts, ascending.
    factor
        What ``"step"`` multiplies the learning rate with.
    warm_up
        Epochs over which the learning rate rises linearly from zero; the schedule follows.
    label_smoothing
        The share of every target that is spread evenly over all classes.
    augmentation
        What happens to every image each time it is seen, see :func:`augment`.
    precision
        ``"float32"``, or ``"bfloat16"`` for torch's autocast. Validation is always in float32.
    channels_last
        Keep images and weights in that memory order; often faster, rounding differs.
    device
        ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA where there is one.
    select
        Which weights remain at the end: those of the ``"last"`` epoch, or of the one with the ``"best"`` validation
        accuracy (the first of equals). A method that tightens its constraint from epoch to epoch needs the last.
    seed
        Of the order of the images, their augmentation, and whatever draws from torch's generator, such as dropout.

    Raises
    ------
    InputError
        Naming the setting, its bound and its value.

    Examples
    --------
    >>> training = Training(epochs=10, warm_up=1, learning_rate=0.2)
    >>> [round(training.rate(epoch), 3) for epoch in (0, 0.5, 1, 5.5, 10)]
    [0.0, 0.1, 0.2, 0.1, 0.0]
    """

    epochs: int
    batch: int = 128
    optimiser: Optimiser = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    warm_up: float = 0.0
    label_smoothing: float = 0.0
    augmentation: Augmentation = "none"
    precision: Precision = "float32"
    channels_last: bool = False
    device: Device = "auto"
    select: Selection = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, at_least=1)
        check_integer("batch", self.batch, at_least=1)
        check_integer("seed", self.seed, at_least=0)
        check_instance("channels_last", self.channels_last, bool)
        for name, choices in (
            ("optimiser", Optimiser),
            ("schedule", Schedule),
            ("augmentation", Augmentation),
            ("precision", Precision),
            ("device", Device),
            ("select", Selection),
        ):
            check_choice(name, getattr(self, name), get_args(choices))
        bounds: dict[str, dict[str, float]] = {
            "learning_rate": {"above": 0.0},
            "momentum": {"at_least": 0.0, "below": 1.0},
            "weight_decay": {"at_least": 0.0},
            "factor": {"above": 0.0, "below": 1.0},
            "warm_up": {"at_least": 0.0, "below": float(self.epochs)},
            "label_smoothing": {"at_least": 0.0, "below": 1.0},
        }
        for name, bound in bounds.items():
            object.__setattr__(self, name, check_real(name, getattr(self, name), **bound))
        check_instance("milestones", self.milestones, tuple)
        milestones = tuple(
            check_real("milestones", item, above=0.0, below=float(self.epochs)) for item in self.milestones
        )
        object.__setattr__(self, "milestones", milestones)
        if list(milestones) != sorted(set(milestones)):
            raise InputError(f"milestones must ascend, got {milestones}")
        if (self.schedule == "step") != bool(milestones):
            raise InputError(f"milestones go with schedule 'step', got {milestones} with {self.schedule!r}")

    def rate(self, epoch: float) -> float:
        """The learning rate at a point in time, in epochs from the start; a batch uses that of its middle."""
        if epoch < self.warm_up:
            return self.learning_rate * epoch / self.warm_up
        if self.schedule == "cosine":
            passed = (epoch - self.warm_up) / (self.epochs - self.warm_up)
            return self.learning_rate * (1 + math.cos(math.pi * passed)) / 2
        return self.learning_rate * self.factor ** sum(epoch >= milestone for milestone in self.milestones)

    def stage(self, number: int) -> Training:
        """These settings for one of several trainings that go on from one another, counted from 0, with its own seed.

        With one seed for all, every training would meet the same order and augmentation of images again, and the
        network would learn them by heart. Seeds are counted up by 10, which leaves room for a few first seeds.
        """
        return replace(self, seed=self.seed + 10 * number)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Training:
        """Read settings from a TOML file.

        Raises
        ------
        FileFormatError
            If it is not TOML, or has other keys or types.
        InputError
            If a value is out of bounds.
        """
        return tomlio.load(cls, path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write these settings as a TOML file, whole or not at all."""
        tomlio.save(self, path)


_SHIFT_REACH, _CROP_REACH = 2, 4  # pixels, up, down, left and right
_MAXIMUM_ROTATION = math.radians(12)
_MAXIMUM_SCALING = 0.1
_MAXIMUM_SHEAR = 0.15


def augment(images: torch.Tensor, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Change every image of a batch a little, each in its own way; what moves in from outside is 0.

    Parameters
    ----------
    images
        uint8, shape (images, channels, height, width), on any device.
    augmentation
        ``"none"``; ``"crop-flip"``, a shift by up to 4 pixels and a mirror image of every other one; ``"shift"``, by
        up to 2 pixels; ``"affine"``, a shift by up to 2 pixels (bilinear, as all that follows), a rotation by up to 12
        degrees, other widths and heights by up to 10 % and a shear by up to 0.15. All are uniform within their bounds.
    generator
        On the CPU, so that every device sees the same images.

    Returns
    -------
    torch.Tensor
        Same shape; uint8, but float32 from ``"affine"``, on the scale 0 to 255 too.
    """
    if augmentation == "none":
        return images
    count, _, height, width = images.shape
    if augmentation == "affine":

        def uniform(limit: float) -> torch.Tensor:
            return (2 * torch.rand(count, generator=generator) - 1) * limit

        angle, shear = uniform(_MAXIMUM_ROTATION), uniform(_MAXIMUM_SHEAR)
        wider, higher = 1 + uniform(_MAXIMUM_SCALING), 1 + uniform(_MAXIMUM_SCALING)
        across, down = uniform(2 * _SHIFT_REACH / width), uniform(2 * _SHIFT_REACH / height)
        rows = [
            torch.stack([wider * angle.cos(), shear - angle.sin(), across], dim=1),
            torch.stack([angle.sin(), higher * angle.cos(), down], dim=1),
        ]
        grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
        return functional.grid_sample(images.float(), grid.to(images.device), align_corners=False)
    reach = _CROP_REACH if augmentation == "crop-flip" else _SHIFT_REACH
    corners = torch.randint(2 * reach + 1, (2, count), generator=generator).to(images.device)
    windows = functional.pad(images, (reach,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    shifted = windows[torch.arange(count, device=images.device), :, corners[0], corners[1]]
    if augmentation == "shift":
        return shifted
    mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
    return torch.where(mirrored[:, None, None, None], shifted.flip(3), shifted)


def _per_channel(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingSet:
    """Images to train on, and others to choose settings by. Test images are not part of it.

    Parameters
    ----------
    name
        What the images are.
    images, labels
        To train on: uint8 (images, channels, height, width) and int64 (images,), as NumPy arrays or tensors.
    validation_images, validation_labels
        To choose settings and epochs by, likewise; may be empty.
    mean, standard_deviation
        Of each channel, for images scaled to [0, 1]: a network sees (x / 255 - mean) / standard_deviation.

    Raises
    ------
    InputError
        If types or shapes do not fit each other.
    """

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    validation_images: torch.Tensor
    validation_labels: torch.Tensor
    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        for kind in ("", "validation_"):
            images, labels = (torch.as_tensor(getattr(self, kind + part)) for part in ("images", "labels"))
            if images.dtype != torch.uint8 or images.ndim != 4:
                raise InputError(
                    f"{kind}images must be uint8 of shape (images, channels, height, width), "
                    f"got {images.dtype} of shape {tuple(images.shape)}"
                )
            if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or (labels < 0).any():
                raise InputError(
                    f"{kind}labels must be int64 >= 0 of shape ({len(images)},), "
                    f"got {labels.dtype} of shape {tuple(labels.shape)}"
                )
            object.__setattr__(self, kind + "images", images.contiguous())
            object.__setattr__(self, kind + "labels", labels.contiguous())
        if not self.images.numel():
            raise InputError(f"images must not be empty, got shape {tuple(self.images.shape)}")
        if self.validation_images.shape[1:] != self.images.shape[1:]:
            raise InputError(
                f"validation_images must have images' shape {tuple(self.images.shape[1:])}, "
                f"got {tuple(self.validation_images.shape[1:])}"
            )
        for name in ("mean", "standard_deviation"):
            values = tuple(getattr(self, name))
            if len(values) != self.images.shape[1]:
                raise InputError(f"{name} must have a number for each of {self.images.shape[1]} channels, got {values}")
            bounds = {} if name == "mean" else {"above": 0.0}
            object.__setattr__(self, name, tuple(check_real(name, value, **bounds) for value in values))

    @classmethod
    def split(
        cls,
        name: str,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        *,
        validation: int,
        seed: int = 0,
        mean: tuple[float, ...],
        standard_deviation: tuple[float, ...],
    ) -> TrainingSet:
        """Hold images back for validation, every class in its share (see `xbarsim.data.validation_split`).

        Raises
        ------
        InputError
            If an argument is out of bounds.
        """
        chosen, held = validation_split(labels, validation, seed=seed)
        return cls(
            name=name,
            images=torch.from_numpy(images[chosen]),
            labels=torch.from_numpy(labels[chosen]),
            validation_images=torch.from_numpy(images[held]),
            validation_labels=torch.from_numpy(labels[held]),
            mean=mean,
            standard_deviation=standard_deviation,
        )

    @classmethod
    def mnist(cls, *, validation: int = 5000, seed: int = 0) -> TrainingSet:
        """MNIST's 60,000 training images, scaled to [0, 1]: a crossbar needs no second pass for signs.

        Raises
        ------
        FileNotFoundError
            If the data folder does not have the files.
        FileFormatError
            If they are truncated or corrupt.
        """
        images, labels = load_mnist("train")
        return cls.split(
            "mnist", images, labels, validation=validation, seed=seed, mean=(0.0,), standard_deviation=(1.0,)
        )

    @classmethod
    def cifar10(
        cls,
        *,
        validation: int = 5000,
        seed: int = 0,
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        standard_deviation: tuple[float, ...] = (0.229, 0.224, 0.225),
    ) -> TrainingSet:
        """CIFAR-10's 50,000 training images, brought to the scale of `xbarsim.models.normalise`.

        Raises
        ------
        FileNotFoundError
            If the data folder does not have the files.
        FileFormatError
            If they are truncated or corrupt.
        """
        images, labels = load_cifar10("train")
        return cls.split(
            "cifar10",
            images,
            labels,
            validation=validation,
            seed=seed,
            mean=mean,
            standard_deviation=standard_deviation,
        )

    @classmethod
    def load(cls, name: str, *, validation: int = 5000, seed: int = 0) -> TrainingSet:
        """A training set by its name, ``"mnist"`` or ``"cifar10"``."""
        builders = {"mnist": cls.mnist, "cifar10": cls.cifar10}
        return builders[check_choice("data_set", name, builders)](validation=validation, seed=seed)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Images on the scale 0 to 255 as the network sees them, float32 of the same shape."""
        mean, deviation = (_per_channel(values, images.device) for values in (self.mean, self.standard_deviation))
        return _normalise(images, mean, deviation)

    def fingerprint(self) -> str:
        """A line that is another for any other images, labels, split or scale."""
        total = hashlib.sha256()
        parts = (self.images, self.labels, self.validation_images, self.validation_labels)
        for part in parts:
            total.update(f"{part.dtype} {tuple(part.shape)} ".encode())
            total.update(part.cpu().numpy().data)
        total.update(f"{self.mean} {self.standard_deviation}".encode())
        return (
            f"{self.name}, {len(self.images)} images and {len(self.validation_images)} for validation, "
            f"sha256 {total.hexdigest()[:16]}"
        )


def _normalise(images: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    return images.float().div(255).sub_(mean).div_(deviation)


@dataclass(frozen=True, kw_only=True)
class History:
    """What happened in a training, epoch by epoch.

    Attributes
    ----------
    loss
        Mean cross entropy of the training images, as they were seen.
    penalty
        Mean of what callbacks added to it.
    training_accuracy
        Share of the training images classified right when they were seen: augmented, and before the step.
    validation_accuracy
        Share of the validation images classified right at the end of the epoch; empty where there are none.
    selected
        The epoch whose weights the model has.
    seconds
        Wall time of the epoch, validation included; no part of a comparison of two histories.
    """

    loss: tuple[float, ...]
    penalty: tuple[float, ...]
    training_accuracy: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    selected: int
    seconds: tuple[float, ...] = field(compare=False)

    def __str__(self) -> str:
        epoch = self.selected
        text = f"epoch {epoch + 1} of {len(self.loss)}: loss {self.loss[epoch]:.4f}"
        if self.penalty[epoch]:
            text += f" and penalty {self.penalty[epoch]:.4f}"
        text += f", training accuracy {self.training_accuracy[epoch]:.2%}"
        if self.validation_accuracy:
            text += f", validation accuracy {self.validation_accuracy[epoch]:.2%}"
        return f"{text}, {self.seconds[epoch]:.1f} s"


class _Display:
    """Progress on standard error: a bar on a terminal, else a line an epoch where asked."""

    def __init__(self, progress: bool | None, epochs: int, batches: int) -> None:
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("batches"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal or progress is False, transient=True,
        )  # fmt: skip
        self.lines = bool(progress) and not console.is_terminal
        self.batches = batches
        self.task = self.bar.add_task("training", total=epochs * batches)

    def advance(self) -> None:
        self.bar.advance(self.task)

    def show(self, history: History, epochs: int) -> None:
        """After an epoch; `history` has its last epoch selected."""
        done = len(history.loss)
        if self.lines:
            line = str(history).replace(f"of {done}:", f"of {epochs}:", 1)
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        accuracy = history.validation_accuracy or history.training_accuracy
        description = f"epoch {done} of {epochs}, {accuracy[-1]:.2%}"
        self.bar.update(self.task, description=description, completed=done * self.batches)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in main memory that shares nothing."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _device(name: Device) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device must be 'cpu' or 'auto' where torch finds no CUDA, got 'cuda'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _place(model: Any, device: torch.device, memory_format: torch.memory_format) -> None:
    model.to(device=device, memory_format=memory_format)  # which torch's own annotations do not know


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's generators seeded for what draws from them, and as they were afterwards; CUDA's choices repeatable."""
    cuda = device.type == "cuda"
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        if cuda:
            torch.cuda.manual_seed(seed)
            cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = True, False, False
        try:
            yield
        finally:
            if cuda:
                cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = before


class _Run:
    """A training under way: everything that a checkpoint holds, and the epoch."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingSet,
        training: Training,
        callbacks: Sequence[Callback],
        device: torch.device,
        order_seed: int,
    ) -> None:
        self.model, self.data, self.training, self.callbacks, self.device = model, data, training, callbacks, device
        self.memory_format = torch.channels_last if training.channels_last else torch.contiguous_format
        self.generator = torch.Generator().manual_seed(order_seed)
        self.rows: list[list[float]] = []  # loss, penalty, training accuracy, validation accuracy or NaN, seconds
        self.selected = 0
        self.best: dict[str, torch.Tensor] = {}
        _place(model, device, self.memory_format)
        for callback in callbacks:
            callback.start(model, training.epochs)
        self.parameters = {name: item for name, item in model.named_parameters() if item.requires_grad}
        self.optimiser = self._optimiser()
        self.images, self.labels = data.images.to(device), data.labels.to(device)
        self.mean, self.deviation = (_per_channel(item, device) for item in (data.mean, data.standard_deviation))

    def _optimiser(self) -> torch.optim.Optimizer:
        training = self.training
        groups: list[dict[str, Any]] = [
            {
                "params": [item for item in self.parameters.values() if (item.ndim >= 2) == decayed],
                "weight_decay": training.weight_decay if decayed else 0.0,
            }
            for decayed in (True, False)
        ]
        groups = [group for group in groups if group["params"]]
        if not groups:
            raise InputError("model must have parameters to train, got none that require a gradient")
        if training.optimiser == "sgd":
            return torch.optim.SGD(
                groups, lr=training.learning_rate, momentum=training.momentum, nesterov=training.momentum > 0
            )
        kind = torch.optim.Adam if training.optimiser == "adam" else torch.optim.AdamW
        return kind(groups, lr=training.learning_rate, betas=(training.momentum, 0.999))

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Images on the scale 0 to 255 as the network sees them."""
        return _normalise(images, self.mean, self.deviation).contiguous(memory_format=self.memory_format)

    def history(self, selected: int) -> History:
        """What happened so far."""
        columns = list(zip(*self.rows, strict=True))
        return History(
            loss=columns[0],
            penalty=columns[1],
            training_accuracy=columns[2],
            validation_accuracy=columns[3] if len(self.data.validation_labels) else (),
            seconds=columns[4],
            selected=selected,
        )

    def batches(self) -> tuple[int, int]:
        """How many an epoch has, and their size."""
        size = min(self.training.batch, len(self.images))
        return len(self.images) // size, size

    def epoch(self, display: _Display) -> None:
        """Train for one epoch and validate."""
        start, epoch, training = time.perf_counter(), len(self.rows), self.training
        count, size = self.batches()
        for callback in self.callbacks:
            callback.begin_epoch(epoch)
        self.model.train()
        order = torch.randperm(len(self.images), generator=self.generator).to(self.device)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, penalty, right ones
        for number in range(count):
            chosen = order[number * size : (number + 1) * size]
            labels = self.labels[chosen]
            images = self.prepare(augment(self.images[chosen], training.augmentation, self.generator))
            for group in self.optimiser.param_groups:
                group["lr"] = training.rate(epoch + (number + 0.5) / count)
            self.optimiser.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
                logits = self.model(images)
            loss = functional.cross_entropy(logits.float(), labels, label_smoothing=training.label_smoothing)
            penalties = [item for item in (callback.penalty() for callback in self.callbacks) if item is not None]
            torch.autograd.backward(loss + sum(penalties) if penalties else loss)
            for callback in self.callbacks:
                callback.before_step()
            self.optimiser.step()
            for callback in self.callbacks:
                callback.after_step()
            with torch.no_grad():
                sums[0] += loss
                sums[1] += sum(penalties)
                sums[2] += (logits.argmax(dim=1) == labels).sum()
            display.advance()
        for callback in self.callbacks:
            callback.end_epoch(epoch)
        loss_sum, penalty_sum, right = sums.tolist()
        if not math.isfinite(loss_sum + penalty_sum):
            raise FloatingPointError(
                f"the loss was not finite in epoch {epoch + 1} of {training.epochs}: "
                f"learning_rate {training.learning_rate!r} may be too high, or a callback's penalty too large"
            )
        accuracy = self.validate()
        self.rows.append(
            [loss_sum / count, penalty_sum / count, right / (count * size), accuracy, time.perf_counter() - start]
        )
        self._select()

    def validate(self) -> float:
        """Share of the validation images classified right, in evaluation mode and float32; NaN without any."""
        images, labels = self.data.validation_images, self.data.validation_labels
        if not len(labels):
            return math.nan
        self.model.eval()
        right = 0
        with torch.no_grad():
            for start in range(0, len(labels), _VALIDATION_BATCH):
                part = slice(start, start + _VALIDATION_BATCH)
                logits = self.model(self.prepare(images[part].to(self.device)))
                right += int((logits.argmax(dim=1).cpu() == labels[part].cpu()).sum())
        return right / len(labels)

    def _select(self) -> None:
        """Note the epoch whose weights shall remain, and keep them."""
        last = len(self.rows) - 1
        if self.training.select == "last":
            self.selected = last
        elif last == 0 or self.rows[last][3] > self.rows[self.selected][3]:
            self.selected = last
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def finish(self) -> History:
        """Leave the model with the weights that were selected."""
        if self.best:
            self.model.load_state_dict(self.best)
        return self.history(self.selected)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything to go on from here."""
        found = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        found |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    found[f"optimiser/{name}/{key}"] = value
        for number, callback in enumerate(self.callbacks):
            found |= {f"callback/{number}/{name}": tensor for name, tensor in callback.state().items()}
        found["random/order"] = self.generator.get_state()
        found["random/cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            found["random/cuda"] = torch.cuda.get_rng_state()
        found["history"] = torch.tensor(self.rows, dtype=torch.float64)
        found["selected"] = torch.tensor(self.selected)
        return {name: _plain(tensor) for name, tensor in found.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take back what :meth:`tensors` gave."""

        def under(prefix: str) -> dict[str, torch.Tensor]:
            return {name.removeprefix(prefix): item for name, item in tensors.items() if name.startswith(prefix)}

        self.model.load_state_dict(under("model/"))
        self.best = under("best/")
        for name, value in under("optimiser/").items():
            owner, _, key = name.rpartition("/")
            parameter = self.parameters[owner]
            if value.shape == parameter.shape:  # in the parameter's memory order and on its device
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            self.optimiser.state[parameter][key] = value
        for number, callback in enumerate(self.callbacks):
            callback.load_state(under(f"callback/{number}/"))
        self.generator.set_state(tensors["random/order"])
        torch.set_rng_state(tensors["random/cpu"])
        if self.device.type == "cuda" and "random/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random/cuda"])
        self.rows = tensors["history"].tolist()
        self.selected = int(tensors["selected"])


def _identity(model: nn.Module, data: TrainingSet, training: Training, callbacks: Sequence[Callback]) -> dict[str, str]:
    """What must be the same for a training to be resumed, as a checkpoint's metadata says it."""
    weights = safetensors.torch.save({name: _plain(tensor) for name, tensor in model.state_dict().items()})
    digest = hashlib.sha256(weights).hexdigest()[:16]
    return {
        "format": _FORMAT,
        "training": tomlio.dumps(training),
        "model": f"{type(model).__qualname__} with initial weights of sha256 {digest}",
        "data": data.fingerprint(),
        "callbacks": "\n".join(callback.settings() for callback in callbacks),
    }


def _read_checkpoint(path: Path, identity: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors, if it belongs to this training."""
    tensors = read_safetensors(path)
    metadata = read_metadata(path)
    if metadata.get("format") != _FORMAT or not {"history", "random/order", "random/cpu", "selected"} <= set(tensors):
        raise FileFormatError(f"{path} is not a checkpoint of a training ({_FORMAT})")
    for key, wanted in identity.items():
        found = metadata.get(key, "")
        if found == wanted:
            continue
        have, want = set(found.splitlines()), set(wanted.splitlines())
        raise InputError(
            f"checkpoint must belong to this training, but {path} was written with another {key}: "
            f"{'; '.join(sorted(have - want)) or 'nothing'} instead of {'; '.join(sorted(want - have)) or 'nothing'}"
        )
    return tensors


def train(
    model: nn.Module,
    data: TrainingSet,
    training: Training,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> History:
    """Train a model in place.

    Parameters
    ----------
    model
        Float32, with logits (images, classes) as its output. Afterwards it is in evaluation mode and on the device that
        it came from.
    data
        Images to train on and to validate with.
    training
        Settings.
    callbacks
        What takes part, called in this order.
    checkpoint
        A safetensors file, written whole after every epoch. If it exists, the training goes on from it, or returns what
        it ended with; one that belongs to other settings, data, callbacks or initial weights is refused.
    progress
        Show progress on standard error: a bar on a terminal, else a line an epoch; ``None`` for a bar on a terminal
        only.

    Returns
    -------
    History
        Losses and accuracies of every epoch, those before a resumption included.

    Raises
    ------
    InputError
        If the model has nothing to train, the checkpoint belongs to another training or its folder does not exist,
        there is no CUDA where it is asked for, or the best epoch is asked for without validation images.
    FileFormatError
        If the checkpoint is truncated or corrupt.
    FileWriteError
        If a checkpoint cannot be written; the one before is still there.
    FloatingPointError
        If the loss became infinite or NaN; the last checkpoint is still there.
    """
    check_instance("model", model, nn.Module)
    check_instance("data", data, TrainingSet)
    check_instance("training", training, Training)
    if training.select == "best" and not len(data.validation_labels):
        raise InputError("select must be 'last' without validation images, got 'best'")
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"checkpoint must be in a folder that exists, got {os.fspath(path)!r}")
    device = _device(training.device)
    identity = {} if path is None else _identity(model, data, training, callbacks)
    saved = _read_checkpoint(path, identity) if path is not None and path.exists() else None
    home = next((item.device for item in model.parameters()), torch.device("cpu"))
    # two seeds from one, neither beyond what torch takes
    order_seed, global_seed = np.random.SeedSequence(training.seed).generate_state(2, np.uint32).tolist()
    with _own_randomness(global_seed, device):
        try:
            run = _Run(model, data, training, callbacks, device, order_seed)
            if saved is not None:
                run.restore(saved)
            display = _Display(progress, training.epochs, run.batches()[0])
            with display.bar:
                if run.rows:
                    display.show(run.history(len(run.rows) - 1), training.epochs)
                while len(run.rows) < training.epochs:
                    run.epoch(display)
                    if path is not None:
                        write_safetensors(path, run.tensors(), about=identity)
                    display.show(run.history(len(run.rows) - 1), training.epochs)
            return run.finish()
        finally:
            _place(model, home, torch.contiguous_format)
            model.eval()
