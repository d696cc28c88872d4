"""How a network is trained: one table of settings, in TOML or in Python."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Literal, get_args

from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

__all__ = ["Augmentation", "Device", "Optimiser", "Precision", "Schedule", "Selection", "Training"]

Optimiser = Literal["sgd", "adam", "adamw"]
Schedule = Literal["cosine", "step", "exponential", "constant"]
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
        ``"cosine"`` (to zero at the end, or at each milestone), ``"step"`` (times `factor` at every milestone),
        ``"exponential"`` (to `factor` times the highest at the end, by as much in each epoch) or ``"constant"``.
    milestones
        Epochs, ascending: where ``"step"`` acts, and where ``"cosine"``, that reached zero, begins anew at its highest
        (warm restarts: I. Loshchilov, F. Hutter, ICLR 2017, doi:10.48550/arXiv.1608.03983).
    factor
        What ``"step"`` multiplies the learning rate with at every milestone, and ``"exponential"`` in all.
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
        check_integer("epochs", self.epochs, at_least=1, at_most=10**9)
        check_integer("batch", self.batch, at_least=1, at_most=2**40)
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
        if self.schedule != "cosine" and (self.schedule == "step") != bool(milestones):
            raise InputError(
                f"milestones go with schedule 'step', and may with 'cosine', got {milestones} with {self.schedule!r}"
            )
        if self.schedule == "cosine" and milestones and milestones[0] <= self.warm_up:
            raise InputError(f"milestones of 'cosine' must be above {self.warm_up:g} (warm_up), got {milestones[0]:g}")

    @entrance
    def rate(self, epoch: float) -> float:
        """The learning rate at a point in time, in epochs from the start; a batch uses that of its middle."""
        check_real("epoch", epoch, at_least=0.0)
        if epoch < self.warm_up:
            return self.learning_rate * epoch / self.warm_up
        if self.schedule == "cosine":
            ends = (self.warm_up, *self.milestones, float(self.epochs))
            number = min(sum(epoch >= end for end in ends[1:]), len(ends) - 2)  # at the end it is zero
            passed = (epoch - ends[number]) / (ends[number + 1] - ends[number])
            return self.learning_rate * (1 + math.cos(math.pi * passed)) / 2
        if self.schedule == "exponential":
            passed = min((epoch - self.warm_up) / (self.epochs - self.warm_up), 1.0)
            return self.learning_rate * float(self.factor**passed)
        return self.learning_rate * self.factor ** sum(epoch >= milestone for milestone in self.milestones)

    @entrance
    def stage(self, number: int) -> Training:
        """These settings for one of several trainings that go on from one another, counted from 0, with its own seed.

        With one seed for all, every training would meet the same order and augmentation of images again, and the
        network would learn them by heart. Seeds are counted up by 10, which leaves room for a few first seeds.
        """
        return replace(self, seed=self.seed + 10 * number)

    @classmethod
    @entrance
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

    @entrance
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write these settings as a TOML file, whole or not at all."""
        tomlio.save(self, path)
