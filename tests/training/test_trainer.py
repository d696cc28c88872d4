"""The trainer: its arithmetic by hand, callbacks, randomness, which epoch remains, devices and progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.training.squares import QUICK, Killed, SquarePenalty, Wandering, data, images, network, same
from xbarsim.foundation.validation import InputError
from xbarsim.training import Callback, ParameterGroup, Training, TrainingSet, train

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


def test_steps_are_counted_over_all_epochs_and_the_end_is_announced_once(tmp_path: Path) -> None:
    class Ends(Recorder):
        def groups(self) -> Sequence[ParameterGroup]:
            self.calls.append("groups")
            return ()

        def begin_step(self, step: int) -> None:
            self.calls.append(f"step {step}")

        def renewed(self) -> Sequence[tuple[nn.Parameter, torch.Tensor]]:
            self.calls.append("renewed")
            return ()

        def finish(self) -> None:
            self.calls.append("finish")

    first, again = Ends(), Ends()
    path = tmp_path / "run.safetensors"
    training = Training(epochs=2, batch=16, device="cpu")
    train(network(), data(40, 8), training, callbacks=[first], checkpoint=path)
    one, two = (
        [call for step in steps for call in (f"step {step}", "penalty", "before", "renewed", "after")]
        for steps in ((0, 1), (2, 3))
    )
    assert first.calls == [
        "start 2", "groups", "begin 0", *one, "end 0", "renewed", "begin 1", *two, "end 1", "renewed", "finish",
    ]  # fmt: skip
    train(network(), data(40, 8), training, callbacks=[again], checkpoint=path)
    assert again.calls == ["start 2", "groups", "finish"]


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


def test_labels_beyond_the_classes_are_refused() -> None:
    part = data()
    labels = part.labels.clone()
    labels[3] = 4
    with pytest.raises(InputError, match="labels must be < 4, the classes of the model, got 4"):
        train(network(), replace(part, labels=labels), QUICK)


def test_one_image_and_a_batch_norm_are_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4))
    with pytest.raises(InputError, match="batch must be >= 2 for a batch norm"):
        train(model, data(), replace(QUICK, batch=1))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: network().double(), "model must be float32, got 0.weight of torch.float64"),
        (lambda: network().to("meta"), "model must hold its weights, got 0.weight without any"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(4)),
            "model must hold its weights, got 1.weight without any",
        ),
        (lambda: nn.Sequential(network(), nn.Unflatten(1, (2, 2))), r"model must give logits of shape \(16, classes\)"),
    ],
)
def test_models_that_cannot_be_trained_are_refused(model: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(model(), data(), QUICK)
