"""Training sets: splits, scales, fingerprints, and what is refused."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.squares import data, images
from xbarsim.foundation.validation import InputError
from xbarsim.models import normalise
from xbarsim.training import TrainingSet


def test_split_keeps_images_with_their_labels() -> None:
    pixels, labels = images(100)
    pixels[:, 0, 0, 0] = np.arange(100)
    made = TrainingSet.split("x", pixels, labels, validation=30, seed=5, mean=(0.0,), standard_deviation=(1.0,))
    first, second = made.images[:, 0, 0, 0].tolist(), made.validation_images[:, 0, 0, 0].tolist()
    assert sorted(first + second) == list(range(100))
    assert len(second) == 30
    assert made.labels.tolist() == labels[first].tolist()
    assert made.validation_labels.tolist() == labels[second].tolist()


def test_scale_is_that_of_the_networks_trained_by_others() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 3, 16, 16)).astype(np.uint8)
    pixels[0, :, 0] = np.arange(16)
    signature = inspect.signature(TrainingSet.cifar10).parameters
    mean, deviation = signature["mean"].default, signature["standard_deviation"].default
    made = TrainingSet.split("x", pixels, np.zeros(40, np.int64), validation=1, mean=mean, standard_deviation=deviation)
    assert torch.equal(made.normalise(torch.from_numpy(pixels)), torch.from_numpy(normalise(pixels)))


def test_fingerprint_tells_training_sets_apart() -> None:
    one = data()
    assert one.fingerprint() == data().fingerprint()
    pixel = one.images.clone()
    pixel[3, 0, 2, 2] ^= 1
    parts = {name: getattr(one, name) for name in TrainingSet.__dataclass_fields__}
    others = [
        data(validation=31),
        data(seed=2),
        TrainingSet(**{**parts, "images": pixel}),
        TrainingSet(**{**parts, "mean": (0.31,)}),
        TrainingSet(**{**parts, "labels": (one.labels + 1) % 4}),
    ]
    assert len({item.fingerprint() for item in [one, *others]}) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(9, 1, 8, 8)}, "images must be uint8 of shape .* got torch.float32"),
        ({"images": torch.zeros(9, 8, 8, dtype=torch.uint8)}, r"got torch.uint8 of shape \(9, 8, 8\)"),
        ({"labels": torch.zeros(9)}, "labels must be int64 >= 0 of shape .* got torch.float32"),
        ({"labels": torch.zeros(8, dtype=torch.int64)}, r"labels must be .* shape \(9,\), got .* \(8,\)"),
        ({"labels": torch.full((9,), -1)}, "labels must be int64 >= 0"),
        ({"validation_labels": torch.zeros(1, dtype=torch.int64)}, r"validation_labels must be .* \(2,\)"),
        (
            {"validation_images": torch.zeros(2, 1, 8, 9, dtype=torch.uint8)},
            r"validation_images must have images' shape \(1, 8, 8\), got \(1, 8, 9\)",
        ),
        ({"mean": (0.0, 0.0)}, "mean must have a number for each of 1 channels"),
        ({"standard_deviation": (0.0,)}, "standard_deviation must be .* > 0.0, got 0.0"),
        (
            {"images": torch.zeros(0, 1, 8, 8, dtype=torch.uint8), "labels": torch.zeros(0, dtype=torch.int64)},
            "images must not be empty",
        ),
    ],
)
def test_training_sets_are_checked(changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "name": "x",
        "images": torch.zeros(9, 1, 8, 8, dtype=torch.uint8),
        "labels": torch.zeros(9, dtype=torch.int64),
        "validation_images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
        "validation_labels": torch.zeros(2, dtype=torch.int64),
        "mean": (0.0,),
        "standard_deviation": (1.0,),
    }
    TrainingSet(**good)
    with pytest.raises(InputError, match=message):
        TrainingSet(**{**good, **changes})


def test_training_sets_by_name() -> None:
    with pytest.raises(InputError, match="data_set must be one of 'mnist', 'cifar10', got 'svhn'"):
        TrainingSet.load("svhn")


@pytest.mark.data
def test_mnist_training_set() -> None:
    try:
        made = TrainingSet.load("mnist", validation=6000)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert made.images.shape == (54_000, 1, 28, 28)
    assert made.images.dtype == torch.uint8
    counts = torch.bincount(made.validation_labels)
    assert counts.sum() == 6000
    assert (10 * counts - torch.bincount(made.labels) - counts).abs().max() <= 10  # a tenth of every class
    few_images = made.normalise(made.images[:5])
    assert torch.equal(few_images, made.images[:5].float() / 255)
