"""Makes ``checkpoint.safetensors`` and ``checkpoint_end.safetensors``: a training that was cut short, and its end.

It was run by the version whose checkpoints must still be read, where the trainer was a part of ``xbarsim.compress``:
``python tests/reference/checkpoint_reference.py``. What the training is made of stands here for the test as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

STEM = Path(__file__).parent / "checkpoint"


class Stopped(Exception):
    """Ends the first training before its third epoch."""


def pieces(compress: Any, trainings: Any) -> tuple[Callable[[], nn.Module], Any, Any, Callable[[], Any]]:
    """A network, a training set, settings and a method's callback; from the two packages that hold the names."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 48)
    pixels = rng.integers(0, 120, (48, 1, 5, 5)) + 100 * (np.arange(25) % 3 == labels[:, None]).reshape(48, 1, 5, 5)
    data = trainings.TrainingSet.split(
        "stripes", pixels.astype(np.uint8), labels, validation=12, mean=(0.4,), standard_deviation=(0.3,)
    )

    def network() -> nn.Module:
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                values = torch.arange(parameter.numel(), dtype=torch.float64)
                parameter.copy_((0.4 * torch.sin(values * values)).reshape(parameter.shape))
        return model

    recipe = compress.Recipe(
        rules=(
            compress.LayerRule(
                layers=("0",), targets=(compress.Filters(keep=0.5),), levels=compress.Levels(bits=4, zero=False)
            ),
            compress.LayerRule(layers=("3",), targets=(compress.Columns(keep=0.25),)),
        )
    )
    training = trainings.Training(
        epochs=4, batch=12, optimiser="adamw", learning_rate=0.02, augmentation="shift", device="cpu", seed=9
    )
    return network, data, training, lambda: compress.Admm(rho=0.1, constraints="in turn").callback(recipe)


def main() -> None:
    """Train, and write both files."""
    import safetensors.torch

    from xbarsim import compress

    network, data, training, method = pieces(compress, compress)

    class Stop(compress.Callback):  # type: ignore[misc,name-defined]
        def __init__(self, at: int) -> None:
            self.at = at

        def settings(self) -> str:
            return "Stop"

        def begin_epoch(self, epoch: int) -> None:
            if epoch == self.at:
                raise Stopped

    path = STEM.with_suffix(".safetensors")
    path.unlink(missing_ok=True)
    with contextlib.suppress(Stopped):
        compress.train(network(), data, training, callbacks=(method(), Stop(2)), checkpoint=path)  # type: ignore[attr-defined]
    model = network()
    compress.train(model, data, training, callbacks=(method(), Stop(-1)))  # type: ignore[attr-defined]
    safetensors.torch.save_file(model.state_dict(), f"{STEM}_end.safetensors")


if __name__ == "__main__":
    main()
