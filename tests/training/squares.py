"""What tests of trainings share: a small training set, a small network, callbacks that interfere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from xbarsim.training import Callback, Training, TrainingSet


def images(count: int, seed: int = 1, shape: tuple[int, int, int] = (1, 8, 8)) -> tuple[Any, Any]:
    """Noise with a bright square whose place tells the class, one of four."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (count, *shape)).astype(np.uint8)
    labels = rng.integers(0, 4, count)
    for pixel, label in zip(pixels, labels, strict=True):
        row, column = (1 + 3 * (label // 2), 1 + 3 * (label % 2))
        pixel[:, row : row + 3, column : column + 3] += 100
    return pixels, labels.astype(np.int64)


def data(count: int = 128, validation: int = 32, seed: int = 1) -> TrainingSet:
    return TrainingSet.split(
        "squares", *images(count, seed), validation=validation, seed=seed, mean=(0.3,), standard_deviation=(0.2,)
    )


def network(seed: int = 0, dropout: float = 0.3) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(96, 4),
        )


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


QUICK = Training(epochs=4, batch=16, learning_rate=0.05, device="cpu", seed=3)


class SquarePenalty(Callback):
    def __init__(self, strength: float) -> None:
        self.strength = strength

    def start(self, model: nn.Module, epochs: int) -> None:
        self.parameters = list(model.parameters())

    def penalty(self) -> torch.Tensor:
        return self.strength * torch.stack([item.square().sum() for item in self.parameters]).sum()


class Killed(Exception):
    pass


class Wandering(Callback):
    """Has a state of its own that shows in the weights, and may stop the run."""

    def __init__(self, stop: int | None = None, middle: bool = False) -> None:
        self.stop, self.middle, self.steps = stop, middle, 0
        self.epoch = 0

    def start(self, model: nn.Module, epochs: int) -> None:
        self.weight = model[6].weight  # type: ignore[index]
        self.pull = torch.zeros_like(self.weight)

    def begin_epoch(self, epoch: int) -> None:
        self.epoch, self.steps = epoch, 0
        if epoch == self.stop and not self.middle:
            raise Killed

    def penalty(self) -> torch.Tensor:
        distance: torch.Tensor = (self.weight - self.pull).square().sum()
        return 1e-2 * distance

    def after_step(self) -> None:
        self.steps += 1
        if self.epoch == self.stop and self.middle and self.steps == 3:
            raise Killed

    def end_epoch(self, epoch: int) -> None:
        self.pull += self.weight.detach() + 0.1 * torch.randn_like(self.weight)  # torch's own generator

    def state(self) -> dict[str, torch.Tensor]:
        return {"pull": self.pull}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.pull.copy_(state["pull"])
