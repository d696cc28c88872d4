"""Train `DigitsNet` on scikit-learn's digits and write the weights that xbarsim.models ships.

``python -m xbarsim.experiments.fits.train_digits`` repeats what was done: one fit on five sixths of the training
images, whose accuracy on the remaining sixth judges the settings below; then one fit with the same settings
on all training images. The test images are looked at only at the end; nothing was chosen by them. The same
seed gives the same weights on the same machine and torch version; it takes a minute or two on one core.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from xbarsim.data import load_digits_split
from xbarsim.models import DigitsNet
from xbarsim.models.digits import WEIGHTS
from xbarsim.models.weights import write_safetensors

__all__ = ["accuracy", "main", "train"]

_SEED = 1
_EPOCHS = 120
_BATCH = 64
_LEARNING_RATE = 4e-3  # at its highest
_WEIGHT_DECAY = 5e-2
_SMOOTHING = 0.05  # of the labels
_VALIDATION_FRACTION = 6  # one training image in six

_MAXIMUM_ROTATION = math.radians(12)
_MAXIMUM_SHIFT = 1.0  # pixels
_MAXIMUM_SCALING = 0.12
_MAXIMUM_SHEAR = 0.15


def _augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotate, scale, shear and shift each image a little, by bilinear interpolation."""

    def uniform(limit: float) -> torch.Tensor:
        return (2 * torch.rand(len(images), generator=generator) - 1) * limit

    angle, shear = uniform(_MAXIMUM_ROTATION), uniform(_MAXIMUM_SHEAR)
    horizontal, vertical = 1 + uniform(_MAXIMUM_SCALING), 1 + uniform(_MAXIMUM_SCALING)
    pixel = 2 / images.shape[-1]
    rows = [
        torch.stack([horizontal * angle.cos(), shear - angle.sin(), uniform(_MAXIMUM_SHIFT * pixel)], dim=1),
        torch.stack([angle.sin(), vertical * angle.cos(), uniform(_MAXIMUM_SHIFT * pixel)], dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], *, seed: int, epochs: int) -> DigitsNet:
    """Fit a new `DigitsNet`: AdamW, one learning-rate cycle, small random distortions of every image.

    Parameters
    ----------
    images, labels
        float32 (images, 1, 8, 8) in [0, 1] and int64 (images,).
    seed
        Of the initial weights, the order of the images and their distortions.
    epochs
        How often every image is seen.

    Returns
    -------
    DigitsNet
        Ready to evaluate. Torch's own random state is left as it was.
    """
    initial_seed, order_seed = np.random.SeedSequence(seed).generate_state(2, np.uint64).tolist()
    generator = torch.Generator().manual_seed(order_seed >> 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(initial_seed >> 1)
        network = DigitsNet()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    batches = len(x) // _BATCH
    optimiser = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=_LEARNING_RATE, total_steps=epochs * batches)
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, batches * _BATCH, _BATCH):
            batch = order[start : start + _BATCH]
            logits = network(_augment(x[batch], generator))
            loss = functional.cross_entropy(logits, y[batch], label_smoothing=_SMOOTHING)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    network.eval()
    return network


def accuracy(network: torch.nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """The fraction of the images that the network puts in the right class."""
    with torch.inference_mode():
        chosen = network(torch.from_numpy(images)).argmax(dim=1)
    return float((chosen == torch.from_numpy(labels)).float().mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the accuracies, and write the weights."""
    parser = argparse.ArgumentParser(description="Train DigitsNet on scikit-learn's digits.")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--epochs", type=int, default=_EPOCHS)
    parser.add_argument(
        "--validation-only",
        action="store_true",
        help="stop after the validation fit; the test is not touched",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # sums in one order
    split = load_digits_split()
    images, labels = split.train_images, split.train_labels
    held = len(images) // _VALIDATION_FRACTION  # the images come in random order
    fitted = train(images[held:], labels[held:], seed=options.seed, epochs=options.epochs)
    print(f"validation accuracy {accuracy(fitted, images[:held], labels[:held]):.4f} on {held} images")
    if options.validation_only:
        return
    network = train(images, labels, seed=options.seed, epochs=options.epochs)
    tested = accuracy(network, split.test_images, split.test_labels)
    print(f"test accuracy {tested:.4f} on {len(split.test_labels)} images")
    about = {
        "data_set": "scikit-learn digits",
        "licence": "Apache-2.0",
        "network": "xbarsim.models.DigitsNet",
        "trained_by": "python -m xbarsim.experiments.fits.train_digits",
        "training": f"seed {options.seed}, {options.epochs} epochs",
    }
    write_safetensors(options.output, network.state_dict(), about=about)
    print(f"wrote {os.fspath(options.output)}")


if __name__ == "__main__":
    main()
