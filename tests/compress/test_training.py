"""The trainer: its arithmetic by hand, settings, randomness, and that a killed run ends like one that was not."""

from __future__ import annotations

import inspect
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from xbarsim.compress import Callback, Training, TrainingSet, augment, train
from xbarsim.compress import training as training_module
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.models import normalise
from xbarsim.models.weights import write_safetensors

few = settings(deadline=None, max_examples=40)


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


# --- settings


def test_settings_survive_a_file(tmp_path: Path) -> None:
    training = Training(
        epochs=7,
        batch=3,
        optimiser="adamw",
        learning_rate=1e-3,
        momentum=0.8,
        weight_decay=0.1,
        schedule="step",
        milestones=(2, 5.5),
        factor=0.3,
        warm_up=1,
        label_smoothing=0.1,
        augmentation="affine",
        precision="bfloat16",
        channels_last=True,
        device="cpu",
        select="best",
        seed=2**40,
    )
    training.save(tmp_path / "a.toml")
    assert Training.load(tmp_path / "a.toml") == training
    assert training.milestones == (2.0, 5.5)
    (tmp_path / "b.toml").write_text("epochs = 3\nlearning_rates = 1\n")
    with pytest.raises(FileFormatError, match="no key 'learning_rates'"):
        Training.load(tmp_path / "b.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
        ({"batch": 1.5}, r"batch must be an integer >= 1, got 1\.5"),
        ({"optimiser": "lion"}, "optimiser must be one of 'sgd', 'adam', 'adamw', got 'lion'"),
        ({"learning_rate": 0}, "learning_rate must be a finite number > 0.0, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number"),
        ({"momentum": 1.0}, r"momentum must be .* < 1\.0, got 1\.0"),
        ({"weight_decay": -1e-4}, "weight_decay must be .* >= 0.0, got -0.0001"),
        ({"schedule": "linear"}, "schedule must be one of 'cosine', 'step', 'constant'"),
        ({"schedule": "step"}, "milestones go with schedule 'step', got .* with 'step'"),
        ({"milestones": (2,)}, r"milestones go with schedule 'step', got \(2.0,\) with 'cosine'"),
        ({"schedule": "step", "milestones": (2, 2)}, "milestones must ascend"),
        ({"schedule": "step", "milestones": (3, 2)}, "milestones must ascend"),
        ({"schedule": "step", "milestones": (5,)}, "milestones must be .* < 5.0, got 5.0"),
        ({"schedule": "step", "milestones": [2]}, "milestones must be of type tuple"),
        ({"factor": 1.0}, "factor must be .* < 1.0"),
        ({"warm_up": 5}, "warm_up must be .* < 5.0, got 5.0"),
        ({"label_smoothing": 1}, "label_smoothing must be .* < 1.0"),
        ({"augmentation": "mirror"}, "augmentation must be one of 'none', 'crop-flip', 'shift', 'affine'"),
        ({"precision": "float16"}, "precision must be one of 'float32', 'bfloat16'"),
        ({"channels_last": 1}, "channels_last must be of type bool"),
        ({"device": "tpu"}, "device must be one of 'cpu', 'cuda', 'auto'"),
        ({"select": "first"}, "select must be one of 'last', 'best'"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Training(**{"epochs": 5, **changes})


@few
@given(st.integers(2, 50), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["cosine", "constant", "step"]))
def test_learning_rate_over_time(epochs: int, share: float, time: float, schedule: Any) -> None:
    warm_up = share * epochs * 0.9
    milestones = (epochs / 2,) if schedule == "step" else ()
    training = Training(
        epochs=epochs, learning_rate=0.4, warm_up=warm_up, schedule=schedule, milestones=milestones, factor=0.25
    )
    now = time * epochs
    if now < warm_up:
        wanted = 0.4 * now / warm_up
    elif schedule == "cosine":
        wanted = 0.4 * math.cos(math.pi / 2 * (now - warm_up) / (epochs - warm_up)) ** 2
    else:
        wanted = 0.1 if milestones and now >= epochs / 2 else 0.4
    assert training.rate(now) == pytest.approx(wanted, abs=1e-12)


# --- augmentation


def every_shift(image: torch.Tensor, reach: int, mirrored: bool) -> dict[tuple[int, int, bool], torch.Tensor]:
    """All that ``"shift"`` and ``"crop-flip"`` may make of an image, written out with slices."""
    _, height, width = image.shape
    found = {}
    padded = torch.zeros(image.shape[0], height + 2 * reach, width + 2 * reach, dtype=image.dtype)
    padded[:, reach : reach + height, reach : reach + width] = image
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            part = padded[:, down : down + height, right : right + width]
            found[down, right, False] = part
            if mirrored:
                found[down, right, True] = torch.flip(part, (2,))
    return found


@pytest.mark.parametrize(("name", "reach", "mirrored"), [("shift", 2, False), ("crop-flip", 4, True)])
@pytest.mark.parametrize("shape", [(1, 9, 7), (3, 6, 8)])
def test_shifts_are_uniform_and_whole(name: Any, reach: int, mirrored: bool, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(4)
    image = torch.from_numpy(rng.integers(1, 256, shape).astype(np.uint8))
    kinds = every_shift(image, reach, mirrored)
    count = 40 * len(kinds)
    made = augment(image.repeat(count, 1, 1, 1), name, torch.Generator().manual_seed(9))
    assert made.dtype == torch.uint8
    assert made.shape == (count, *shape)
    keys = {bytes(kind.contiguous().numpy()): place for place, kind in kinds.items()}
    assert len(keys) == len(kinds)
    found = [keys[bytes(item.contiguous().numpy())] for item in made]  # nothing else may occur
    counts = np.array([found.count(place) for place in kinds])
    # chi-square of a uniform choice: beyond 6 standard deviations of its mean with probability < 1e-6, and seeded
    square = ((counts - 40) ** 2 / 40).sum()
    assert square < len(kinds) - 1 + 6 * math.sqrt(2 * len(kinds))


def test_augmentation_treats_channels_alike_and_images_apart() -> None:
    pixels, _ = images(64, shape=(1, 8, 8))
    both = torch.from_numpy(pixels).repeat(1, 2, 1, 1)
    names: tuple[Any, ...] = ("shift", "crop-flip", "affine")
    for name in names:
        made = augment(both, name, torch.Generator().manual_seed(1))
        assert torch.equal(made[:, 0], made[:, 1])
        again = augment(both, name, torch.Generator().manual_seed(1))
        assert torch.equal(made, again)
        assert not torch.equal(made, augment(both, name, torch.Generator().manual_seed(2)))
    assert augment(both, "none", torch.Generator()) is both


def test_affine_without_distortion_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.from_numpy(images(8)[0])
    for name in ("_SHIFT_REACH", "_MAXIMUM_ROTATION", "_MAXIMUM_SCALING", "_MAXIMUM_SHEAR"):
        monkeypatch.setattr(training_module, name, 0)
    made = augment(pixels, "affine", torch.Generator().manual_seed(1))
    torch.testing.assert_close(made, pixels.float(), rtol=0, atol=1e-3)


def test_affine_shifts_by_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MAXIMUM_ROTATION", "_MAXIMUM_SCALING", "_MAXIMUM_SHEAR"):
        monkeypatch.setattr(training_module, name, 0)
    point = torch.zeros(2000, 1, 12, 16, dtype=torch.uint8)
    point[:, :, 6, 8] = 255
    made = augment(point, "affine", torch.Generator().manual_seed(1))[:, 0]
    mass = made.sum(dim=(1, 2))
    torch.testing.assert_close(mass, torch.full((2000,), 255.0), rtol=0, atol=1e-2)
    down = (made.sum(dim=2) * torch.arange(12)).sum(dim=1) / mass - 6
    right = (made.sum(dim=1) * torch.arange(16)).sum(dim=1) / mass - 8
    for shift in (down, right):  # uniform in -2..2: bounds, and a spread of 4/sqrt(12) within 5 %
        assert shift.abs().max() <= 2 + 1e-3
        assert float(shift.std()) == pytest.approx(4 / math.sqrt(12), rel=0.05)


# --- training sets


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


# --- the arithmetic of a step


def by_hand(
    model: nn.Module, part: TrainingSet, training: Training, steps: int, penalty: float = 0.0
) -> dict[str, torch.Tensor]:
    """Parameters after full-batch steps of the optimiser written out, in float64."""
    twin = {name: item.detach().double().clone() for name, item in model.named_parameters()}
    velocity = {name: torch.zeros_like(item) for name, item in twin.items()}
    square = {name: torch.zeros_like(item) for name, item in twin.items()}
    x, y = part.normalise(part.images).double(), part.labels
    for step in range(1, steps + 1):
        leaves = {name: item.clone().requires_grad_() for name, item in twin.items()}
        logits = torch.func.functional_call(model, leaves, x)
        logarithms = functional.log_softmax(logits, dim=1)
        smoothing = training.label_smoothing
        target = torch.full_like(logits, smoothing / logits.shape[1])
        target[torch.arange(len(y)), y] += 1 - smoothing
        loss = -(target * logarithms).sum(dim=1).mean()
        loss = loss + penalty * sum(item.square().sum() for item in leaves.values())
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        rate = training.rate(step - 0.5)
        for name, gradient in gradients.items():
            decay = training.weight_decay if twin[name].ndim >= 2 else 0.0
            beta = training.momentum
            if training.optimiser == "adamw":
                twin[name] = twin[name] * (1 - rate * decay)
            else:
                gradient = gradient + decay * twin[name]
            if training.optimiser == "sgd":
                velocity[name] = beta * velocity[name] + gradient
                twin[name] = twin[name] - rate * (gradient + beta * velocity[name])
            else:
                velocity[name] = beta * velocity[name] + (1 - beta) * gradient
                square[name] = 0.999 * square[name] + 0.001 * gradient**2
                mean = velocity[name] / (1 - beta**step)
                spread = (square[name] / (1 - 0.999**step)).sqrt()
                twin[name] = twin[name] - rate * mean / (spread + 1e-8)
    return twin


class SquarePenalty(Callback):
    def __init__(self, strength: float) -> None:
        self.strength = strength

    def start(self, model: nn.Module, epochs: int) -> None:
        self.parameters = list(model.parameters())

    def penalty(self) -> torch.Tensor:
        return self.strength * torch.stack([item.square().sum() for item in self.parameters]).sum()


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0},
        {"momentum": 0.9},
        {"optimiser": "adam", "learning_rate": 0.01},
        {"optimiser": "adamw", "learning_rate": 0.01, "momentum": 0.8},
        {"schedule": "step", "milestones": (2,), "warm_up": 0.75},
        {"label_smoothing": 0.2},
    ],
    ids=str,
)
def test_steps_by_hand(changes: dict[str, Any]) -> None:
    part = data(40, 8)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(108, 4))
    start = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(108, 4))
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.3, 0.3, generator=generator)
    start.load_state_dict(model.state_dict())
    made = {"epochs": 5, "batch": 1000, "learning_rate": 0.1, "weight_decay": 0.05, "device": "cpu", **changes}
    training = Training(**made)
    history = train(model, part, training, callbacks=[SquarePenalty(0.02)])
    wanted = by_hand(start, part, training, steps=5, penalty=0.02)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), wanted[name], rtol=0, atol=2e-5)
        assert not torch.equal(parameter, dict(start.named_parameters())[name])
    logits = start(part.normalise(part.images)).detach()
    loss = functional.cross_entropy(logits, part.labels, label_smoothing=training.label_smoothing)
    assert history.loss[0] == pytest.approx(float(loss), rel=1e-5)
    squares = sum(float(item.detach().square().sum()) for item in start.parameters())
    assert history.penalty[0] == pytest.approx(0.02 * squares, rel=1e-5)
    assert history.training_accuracy[0] == float((logits.argmax(1) == part.labels).float().mean())


def test_it_learns() -> None:
    model = network(dropout=0.0)
    part = data(600, 100)
    history = train(model, part, Training(epochs=6, batch=32, learning_rate=0.05, device="cpu"))
    assert history.validation_accuracy[-1] > 0.9
    assert history.loss[-1] < history.loss[0]
    assert not model.training
    with torch.no_grad():
        chosen = model(part.normalise(part.validation_images)).argmax(dim=1)
    assert history.validation_accuracy[-1] == int((chosen == part.validation_labels).sum()) / 100


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"channels_last": True}], ids=str)
def test_other_arithmetic_ends_nearby(changes: dict[str, Any]) -> None:
    part = data(300, 60)
    models = [network(dropout=0.0) for _ in range(2)]
    training: dict[str, Any] = {"epochs": 3, "batch": 32, "learning_rate": 0.02, "device": "cpu"}
    one = train(models[0], part, Training(**training))
    other = train(models[1], part, Training(**training, **changes))
    assert other.loss == pytest.approx(one.loss, rel=0.02)
    assert not same(*models) or "channels_last" in changes
    for parameter in models[1].parameters():
        assert parameter.dtype == torch.float32
        assert parameter.is_contiguous()


# --- what callbacks see


class Recorder(Callback):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, model: nn.Module, epochs: int) -> None:
        self.calls.append(f"start {epochs}")
        self.model = model

    def begin_epoch(self, epoch: int) -> None:
        self.calls.append(f"begin {epoch}")

    def penalty(self) -> torch.Tensor | None:
        assert self.model.training
        self.calls.append("penalty")
        return None

    def before_step(self) -> None:
        assert all(parameter.grad is not None for parameter in self.model.parameters())
        self.before = next(self.model.parameters()).detach().clone()
        self.calls.append("before")

    def after_step(self) -> None:
        assert not torch.equal(self.before, next(self.model.parameters()))
        self.calls.append("after")

    def end_epoch(self, epoch: int) -> None:
        self.calls.append(f"end {epoch}")


def test_callbacks_are_called_in_order() -> None:
    recorder = Recorder()
    train(network(), data(50 + 8, 8), Training(epochs=2, batch=16, device="cpu"), callbacks=[recorder])
    steps = ["penalty", "before", "after"] * 3  # 50 images: the last 2 of each epoch are left out
    assert recorder.calls == ["start 2", "begin 0", *steps, "end 0", "begin 1", *steps, "end 1"]


def test_gradients_and_weights_can_be_changed_on_the_way() -> None:
    class Hold(Callback):
        """The first layer is frozen through its gradient, the last one's first row is held at zero."""

        def start(self, model: nn.Module, epochs: int) -> None:
            self.first, self.last = model[0].weight, model[6].weight  # type: ignore[index]

        def before_step(self) -> None:
            self.first.grad = None

        def after_step(self) -> None:
            with torch.no_grad():
                self.last[0] = 0

    model, untouched = network(), network()
    train(model, data(), QUICK, callbacks=[Hold()])
    found, before = model.state_dict(), untouched.state_dict()
    assert torch.equal(found["0.weight"], before["0.weight"])
    assert not found["6.weight"][0].any()
    assert (found["6.weight"][1:] != before["6.weight"][1:]).any()


# --- randomness


def test_the_seed_alone_decides() -> None:
    results = []
    for global_seed, seed in ((1, 3), (2, 3), (2, 4)):
        model = network()
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        made = Training(epochs=2, batch=16, augmentation="crop-flip", device="cpu", seed=seed)
        train(model, data(), made)
        assert torch.equal(torch.get_rng_state(), before)
        results.append(model)
    assert same(results[0], results[1])
    assert not same(results[1], results[2])


@pytest.mark.parametrize("changes", [{"augmentation": "none"}, {"augmentation": "shift"}], ids=str)
def test_every_seed_orders_images_its_own_way(changes: dict[str, Any]) -> None:
    models = [network(dropout=0.0) for _ in range(2)]
    for seed, model in enumerate(models):
        train(model, data(), Training(epochs=1, batch=16, device="cpu", seed=seed, **changes))
    assert not same(*models)


def test_every_image_is_seen_once_an_epoch() -> None:
    seen: list[int] = []

    class Look(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.extend((x[:, 0, 0, 0] * 255).round().int().tolist())
            out: torch.Tensor = self.layer(x.flatten(1))
            return out

    pixels, labels = images(64)
    pixels[:, 0, 0, 0] = np.arange(64)
    part = TrainingSet.split("x", pixels, labels, validation=0, mean=(0.0,), standard_deviation=(1.0,))
    history = train(Look(), part, Training(epochs=2, batch=16, device="cpu"))
    assert history.validation_accuracy == ()
    assert sorted(seen[:64]) == sorted(seen[64:]) == list(range(64))
    assert seen[:64] != seen[64:]


# --- which epoch remains


def test_best_epoch_remains() -> None:
    part = data(160, 40)
    made = {"epochs": 8, "batch": 16, "learning_rate": 1.0, "weight_decay": 0.0, "device": "cpu", "seed": 5}
    model, last = network(), network()
    history = train(model, part, Training(select="best", **made))  # type: ignore[arg-type]
    accuracies = history.validation_accuracy
    assert history.selected == accuracies.index(max(accuracies))
    assert history.selected != 7  # else the seed shows nothing
    with torch.no_grad():
        chosen = model(part.normalise(part.validation_images)).argmax(dim=1)
    assert int((chosen == part.validation_labels).sum()) / 40 == max(accuracies)
    same_history = train(last, part, Training(select="last", **made))  # type: ignore[arg-type]
    assert same_history.validation_accuracy == accuracies
    assert same_history.selected == 7
    assert not same(model, last)
    with pytest.raises(InputError, match="select must be 'last' without validation images"):
        train(last, data(validation=0), Training(select="best", **made))  # type: ignore[arg-type]


def test_first_of_equal_epochs_remains() -> None:
    still = Training(epochs=3, batch=16, learning_rate=1e-30, device="cpu", select="best")
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))  # without batch norm nothing moves
    history = train(frozen, data(), still)
    assert len(set(history.validation_accuracy)) == 1
    assert history.selected == 0


# --- checkpoints


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
        self.pull += self.weight.detach() + 0.1 * torch.randn(self.weight.shape)  # torch's own generator

    def state(self) -> dict[str, torch.Tensor]:
        return {"pull": self.pull}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.pull.copy_(state["pull"])


@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"augmentation": "crop-flip", "channels_last": True},
        {"optimiser": "adamw", "learning_rate": 0.01, "augmentation": "affine", "precision": "bfloat16"},
        {"momentum": 0.0, "schedule": "step", "milestones": (2,), "augmentation": "shift"},
        {"optimiser": "adam", "learning_rate": 0.01, "select": "best", "warm_up": 1.5},
    ],
    ids=str,
)
def test_a_killed_run_ends_like_one_that_was_not(tmp_path: Path, changes: dict[str, Any], middle: bool) -> None:
    training = Training(**{"epochs": 5, "batch": 16, "learning_rate": 0.05, "device": "cpu", "seed": 3, **changes})
    whole = network()
    torch.manual_seed(11)
    history = train(whole, data(), training, callbacks=[Wandering()])
    path = tmp_path / "run.safetensors"
    for stop in (0, 1, 1, 3):
        torch.manual_seed(stop)
        with pytest.raises(Killed):
            train(network(), data(), training, callbacks=[Wandering(stop, middle)], checkpoint=path)
        assert path.exists() == (stop > 0)
    resumed = network()
    assert train(resumed, data(), training, callbacks=[Wandering()], checkpoint=path) == history
    assert same(resumed, whole)
    assert not resumed.training
    # what has ended is only read again
    content, again = path.read_bytes(), network()
    assert train(again, data(), training, callbacks=[Wandering(0)], checkpoint=path) == history
    assert same(again, whole)
    assert path.read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_process_that_dies_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    code = """
        import os, signal, sys, torch
        sys.path.insert(0, sys.argv[1])
        from tests.compress.test_training import QUICK, Callback, data, network, train
        class Die(Callback):
            def settings(self):
                return "Callback"
            def begin_epoch(self, epoch):
                self.epoch = epoch
            def before_step(self):
                if self.epoch == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
        torch.set_num_threads(int(sys.argv[3]))
        train(network(), data(), QUICK, callbacks=[Die()], checkpoint=sys.argv[2])
    """
    path = tmp_path / "run.safetensors"
    root = Path(__file__).resolve().parents[2]
    threads = str(torch.get_num_threads())
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(root), str(path), threads],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": threads},
    )
    assert answer.returncode == -signal.SIGKILL, answer.stderr
    resumed, whole = network(), network()
    history = train(resumed, data(), QUICK, callbacks=[Callback()], checkpoint=path)
    assert train(whole, data(), QUICK, callbacks=[Callback()]) == history
    assert same(resumed, whole)


def other_data() -> TrainingSet:
    return data(seed=2)


@pytest.mark.parametrize(
    ("model", "part", "changes", "callbacks", "message"),
    [
        (network, data, {"learning_rate": 0.06}, [], r"another training: .*learning_rate = 0.05.* instead of .*0.06"),
        (network, data, {"epochs": 5}, [], "another training: epochs = 4 instead of epochs = 5"),
        (network, data, {"seed": 4}, [], "another training: seed = 3 instead of seed = 4"),
        (lambda: network(seed=1), data, {}, [], "another model: Sequential with initial weights of sha256"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), data, {}, [], "another model"),
        (network, other_data, {}, [], "another data: squares, 96 images and 32 for validation"),
        (network, data, {}, [Wandering()], "another callbacks: nothing instead of Wandering"),
    ],
    ids=["rate", "epochs", "seed", "weights", "network", "data", "callbacks"],
)
def test_a_checkpoint_of_something_else_is_refused(
    tmp_path: Path,
    model: Callable[[], nn.Module],
    part: Callable[[], TrainingSet],
    changes: dict[str, Any],
    callbacks: list[Callback],
    message: str,
) -> None:
    path = tmp_path / "run.safetensors"
    train(network(), data(), QUICK, checkpoint=path)
    content = path.read_bytes()
    given_model = model()
    before = {name: item.clone() for name, item in given_model.state_dict().items()}
    settings_ = {name: getattr(QUICK, name) for name in Training.__dataclass_fields__}
    with pytest.raises(InputError, match=f"checkpoint must belong to this training, but .*{message}"):
        train(given_model, part(), Training(**{**settings_, **changes}), callbacks=callbacks, checkpoint=path)
    assert path.read_bytes() == content
    assert all(torch.equal(item, before[name]) for name, item in given_model.state_dict().items())


def test_corrupt_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    train(network(), data(), QUICK, checkpoint=path)
    content = path.read_bytes()
    for keep in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        with pytest.raises(FileFormatError, match=r"run\.safetensors is not a valid safetensors file"):
            train(network(), data(), QUICK, checkpoint=path)
    header = 8 + int.from_bytes(content[:8], "little")
    for position in (header + 1, (header + len(content)) // 2, len(content) - 1):
        raw = bytearray(content)
        raw[position] ^= 0x10
        path.write_bytes(raw)
        with pytest.raises(FileFormatError, match=r"run\.safetensors is corrupt"):
            train(network(), data(), QUICK, checkpoint=path)
    write_safetensors(path, network().state_dict(), about={"network": "Sequential"})
    with pytest.raises(FileFormatError, match="is not a checkpoint of a training"):
        train(network(), data(), QUICK, checkpoint=path)
    path.unlink()
    path.mkdir()
    with pytest.raises(FileFormatError, match="cannot read"):
        train(network(), data(), QUICK, checkpoint=path)


def test_folder_of_a_checkpoint_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"checkpoint must be in a folder that exists, got .*absent"):
        train(network(), data(), QUICK, checkpoint=tmp_path / "absent" / "run.safetensors")


def test_divergence_is_an_error_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Explode(Callback):
        def __init__(self, when: int) -> None:
            self.when = when

        def begin_epoch(self, epoch: int) -> None:
            self.factor = math.inf if epoch == self.when else 0.0

        def penalty(self) -> torch.Tensor:
            return torch.tensor(self.factor)

    path = tmp_path / "run.safetensors"
    model = network()
    with pytest.raises(FloatingPointError, match=r"not finite in epoch 3 of 4: learning_rate 0\.05"):
        train(model, data(), QUICK, callbacks=[Explode(2)], checkpoint=path)
    assert not model.training
    history = train(network(), data(), QUICK, callbacks=[Explode(99)], checkpoint=path)
    assert all(map(math.isfinite, history.loss))
    with pytest.raises(FloatingPointError, match="epoch 1 of 3"):
        train(network(), data(), Training(epochs=3, batch=16, learning_rate=1e30, device="cpu"))


def test_something_must_be_trainable() -> None:
    for model in (nn.Flatten(), network().requires_grad_(False)):
        with pytest.raises(InputError, match="model must have parameters to train"):
            train(model, data(), QUICK)
    for arguments in ((None, data(), QUICK), (network(), None, QUICK), (network(), data(), None)):
        with pytest.raises(InputError, match=r"(model|data|training) must be of type"):
            train(*arguments)


# --- devices and progress


def test_cuda_where_there_is_none() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is CUDA")
    with pytest.raises(InputError, match="device must be 'cpu' or 'auto' where torch finds no CUDA, got 'cuda'"):
        train(network(), data(), Training(epochs=1, device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_trains_like_the_processor(tmp_path: Path) -> None:
    part = data(300, 60)
    made: dict[str, Any] = {"epochs": 4, "batch": 32, "learning_rate": 0.02, "augmentation": "shift"}
    models = [network(dropout=0.0) for _ in range(3)]
    one = train(models[0], part, Training(device="cpu", **made))
    other = train(models[1], part, Training(device="cuda", **made))
    assert other.loss == pytest.approx(one.loss, rel=1e-3)
    assert next(models[1].parameters()).device.type == "cpu"
    path = tmp_path / "run.safetensors"
    with pytest.raises(Killed):
        train(network(), part, Training(device="cuda", **made), callbacks=[Wandering(2)], checkpoint=path)
    resumed, whole = network(), network()
    train(resumed, part, Training(device="cuda", **made), callbacks=[Wandering()], checkpoint=path)
    train(whole, part, Training(device="cuda", **made), callbacks=[Wandering()])
    assert same(resumed, whole)


def test_progress_is_a_line_an_epoch_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (None, False):
        train(network(), data(), QUICK, progress=progress)
        assert capsys.readouterr() == ("", "")
    history = train(network(), data(), QUICK, callbacks=[SquarePenalty(0.1)], progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 4
    for epoch, line in enumerate(lines):
        assert line.startswith(f"epoch {epoch + 1} of 4: loss {history.loss[epoch]:.4f} and penalty ")
        assert f"validation accuracy {history.validation_accuracy[epoch]:.2%}" in line
    assert str(history) == lines[-1]
