"""Every pruning method in miniature: a network of digits at 4 x and 5 bits, from TOML to an accuracy it must reach.

The accuracies are those of 596 test images, whose own uncertainty is near a point; each bound stands two points or more
below what was measured, and far above what the pruned network has without training (the first test).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from xbarsim.compress import Hardening, LayerRule, Levels, Method, Recipe, Target, compress, compression
from xbarsim.data import load_digits_split
from xbarsim.foundation import tomlio
from xbarsim.models import load_digits_net
from xbarsim.training import Training, TrainingSet

pytest.importorskip("sklearn")

LAYERS = ("features.4", "features.7")
PRUNING = Training(epochs=4, batch=50, optimiser="adam", learning_rate=2e-3, schedule="cosine", device="cpu")
RETRAINING = Training(epochs=2, batch=50, optimiser="adam", learning_rate=1e-3, schedule="cosine", device="cpu")

BLOCKS = 'type = "BlockColumnRow"\nblock_filters = 8\nblock_columns = 36\nkeep_filters = 0.5\nkeep_columns = 0.5'
COLUMNS = 'type = "Columns"\nkeep = 0.25'
SINGLE = 'type = "Unstructured"\nkeep = 0.25'
SHAPES = 'type = "KernelShapes"\nkernel = 9\ngroup_filters = 8\ngroup_channels = 4\nkeep = 0.25'
RIGID = 'type = "RigidShapes"\ngroup_filters = 8\ngroup_channels = 4\nkeep = 0.25'

# method and target as TOML, and the least accuracy
RUNS = {
    "block column-row by ADMM": ('type = "Admm"\nrho = 0.01\ngrowth = 2.0', BLOCKS, 0.90),
    "magnitude": ('type = "Magnitude"\nsteps = 3\nlaw = "cubic"', SINGLE, 0.965),
    "reweighted": ('type = "Reweighted"\nstrength = 1e-4\nevery = 1\nper = "weight"', COLUMNS, 0.90),
    "reweighted, shares found": (
        'type = "Reweighted"\nstrength = 1e-4\nevery = 1\nper = "weight"\nkeep = 0.25',
        COLUMNS,
        0.90,
    ),
    "grow and prune": (
        'type = "GrowAndPrune"\nparts = 2\npartition = "tiles"\ntile_filters = 8\ntile_columns = 36\n'
        'rounds = 1\nevery = 1\nstart = "largest"',
        SINGLE,
        0.965,
    ),
    "learnt shapes": ('type = "LearnedShapes"\nlearn = 2\nrate_factor = 5.0', SHAPES, 0.92),
    "rigid shapes": ('type = "LearnedShapes"\nlearn = 2\nrate_factor = 5.0', RIGID, 0.93),
    "random masks": ('type = "RandomMasks"', SINGLE, 0.94),
}


@pytest.fixture(scope="module")
def digits() -> tuple[TrainingSet, torch.Tensor, torch.Tensor]:
    """Half of the training images, and all test images with labels."""
    split = load_digits_split()
    images = np.rint(split.train_images[:600] * 255).astype(np.uint8)
    data = TrainingSet.split(
        "digits", images, split.train_labels[:600], validation=60, mean=(0.0,), standard_deviation=(1.0,)
    )
    return data, torch.from_numpy(split.test_images), torch.from_numpy(split.test_labels)


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model.eval()(images).argmax(dim=1) == labels).float().mean())


def recipe_of(target: str) -> Recipe:
    found: Target = tomlio.loads(Target, target)  # type: ignore[type-abstract]
    return Recipe(
        rules=(
            LayerRule(layers=LAYERS, targets=(found,), levels=Levels(bits=5)),
            LayerRule(layers=("*",), levels=Levels(bits=5)),
        )
    )


@pytest.mark.parametrize("target", [BLOCKS, COLUMNS, SHAPES, RIGID])
def test_without_training_little_is_left(target: str, digits: tuple[TrainingSet, torch.Tensor, torch.Tensor]) -> None:
    _, images, labels = digits
    model = load_digits_net()
    whole = accuracy(model, images, labels)
    Hardening.hold(model, recipe_of(target).masks(model))
    assert whole > 0.98
    assert accuracy(model, images, labels) < 0.7


@pytest.mark.parametrize("name", RUNS)
def test_a_method_ends_above_its_accuracy(name: str, digits: tuple[TrainingSet, torch.Tensor, torch.Tensor]) -> None:
    method, target, least = RUNS[name]
    data, images, labels = digits
    recipe = recipe_of(target)
    found = compress(
        load_digits_net(), recipe, data, pruning=PRUNING, retraining=RETRAINING,
        method=tomlio.loads(Method, method), progress=False,  # type: ignore[type-abstract]
    )  # fmt: skip
    assert compression(found.model, found.masks, recipe).ratio == pytest.approx(4.0, rel=0.12)
    reached = accuracy(found.model, images, labels)
    assert reached >= least
