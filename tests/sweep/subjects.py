"""A network that takes milliseconds, by names that worker processes can import, and things that go wrong in them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xbarsim import Chip, Design, Mapping, Periphery
from xbarsim.devices import Cell, StuckFaults
from xbarsim.sweep import Measure, MeasuredDie, Subject, Task, die_seed

if TYPE_CHECKING:
    from xbarsim.training import TrainingSet

NAME = "tests.sweep.subjects:tiny"
DESIGN = Design(
    cell=Cell(g_min=1e-6, g_max=1e-5, levels=16),
    mapping=Mapping(rows=32, columns=32),
    periphery=Periphery(adc_range="lossless"),
    faults=StuckFaults(on=0.05, off=0.05),
)


def tiny(*, scale: float = 1.0) -> Subject:
    """Two linear layers that agree with labels of their own making."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        images = torch.rand((60, 16), generator=generator)
        labels = model(images).argmax(1)
    return Subject(
        name="tiny",
        data_set="noise",
        model=model,
        images=images[:40].numpy(),
        labels=labels[:40].numpy(),
        calibration=images[40:].numpy(),
    )


def other() -> Subject:
    return tiny(scale=1.5)


def not_a_subject() -> int:
    return 3


def noise() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], TrainingSet]:
    """Images in the shape of MNIST's on the scale 0 to 1, 96 of them, their labels, and the same to train with."""
    from xbarsim.training import TrainingSet  # not for the worker processes, which import this module too

    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 256, (96, 1, 28, 28)).astype(np.uint8), rng.integers(0, 10, 96)
    data = TrainingSet.split("noise", images, labels, validation=32, mean=(0.0,), standard_deviation=(1.0,))
    return (images / np.float32(255)).astype(np.float32), labels, data


def task(**changes: Any) -> Task:
    return Task(**{"network": NAME, "design": DESIGN, "calibration": 20, **changes})


def block(
    task: str, die: int, correct: int, *, images: int = 40, metrics: dict[str, float] | None = None
) -> MeasuredDie:
    return MeasuredDie(
        task=task, die=die, correct=correct, images=images, seconds=0.5, inference_seconds=0.25, fault_hash="f" * 64,
        cells=100, stuck_on=3, stuck_off=4, stuck_at=0, metrics=metrics or {},
    )  # fmt: skip


def broken_cells(chip: Chip) -> float:
    return float(sum(len(faults) for faults in chip.faults.values()))


def raises(chip: Chip) -> float:
    raise ValueError("this metric knows no answer")


def not_finite(chip: Chip) -> float:
    return float(np.nan)


def kills_its_process(chip: Chip) -> float:
    """End the worker the first time, as a system without memory does, and be well behaved from then on."""
    flag = os.environ["XBARSIM_TEST_FLAG"]
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return 1.0
    os._exit(9)


def is_one_of_some(chip: Chip) -> bool:
    """Of the dies of root seed 1: those whose number stands in the environment."""
    return chip.seed in {die_seed(1, int(die)) for die in os.environ["XBARSIM_TEST_DIES"].split()}


def some_kill_their_process(chip: Chip) -> float:
    """End the worker by SIGKILL, as a system without memory does, on some dies, whenever they are measured."""
    if is_one_of_some(chip):
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


def some_raise(chip: Chip) -> float:
    if is_one_of_some(chip):
        raise ValueError("this die\x1b[2J knows no answer")
    return 1.0


def some_need_memory(chip: Chip) -> float:
    """Ask for more memory than there is, on some dies."""
    if is_one_of_some(chip):
        np.empty(2**46, np.float64)
    return 1.0


@dataclass(frozen=True, kw_only=True)
class BrokenCells(Measure):
    """How many cells are stuck."""

    @property
    def columns(self) -> dict[str, type]:
        return {"broken_cells": int}

    def run(self, chip: Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, int]:
        return {"broken_cells": sum(len(faults) for faults in chip.faults.values())}
