"""Methods: penalties by closed form and autograd, known supports, masks held, and runs that were cut short."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xbarsim.compress import (
    Admm,
    AdmmCallback,
    BlockColumnRow,
    Columns,
    Filters,
    LayerRule,
    Levels,
    Magnitude,
    Method,
    MethodCallback,
    Recipe,
    Reweighted,
    Target,
    Tiles,
    Unstructured,
    gemm_view,
)
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.mapping import quantise
from xbarsim.training import Callback, Training, TrainingSet, train

COLUMNS = Recipe(rules=(LayerRule(layers=("0",), targets=(Columns(keep=0.25),)),))
BOTH = Recipe(
    rules=(
        LayerRule(layers=("0",), targets=(Columns(keep=0.25),), levels=Levels(bits=4, zero=False)),
        LayerRule(layers=("2",), levels=Levels(bits=5)),
    )
)
METHODS: tuple[Method, ...] = (
    Magnitude(),
    Magnitude(steps=3),
    Admm(rho=0.3, growth=1.2, rho_max=0.7),
    Admm(rho=0.3, every=2, constraints="in turn"),
    Reweighted(strength=0.01, every=3),
    Reweighted(strength=0.01, every=2, form="squared"),
)


def two_layers(seed: int = 0, inputs: int = 12) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, 6), nn.ReLU(), nn.Linear(6, 3))


def weight_of(model: nn.Module, number: int = 0) -> Tensor:
    weight = model.get_submodule(str(number)).weight
    assert isinstance(weight, Tensor)
    return weight


def channels_last(model: nn.Module) -> nn.Module:
    """The same, its weights in the order channels last."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[no-any-return,call-overload]


def untyped(kind: Any) -> Any:
    """To call with what the types forbid."""
    return kind


def run(
    model: nn.Module,
    callback: Callback,
    loss: Callable[[], Tensor],
    *,
    epochs: int,
    steps: int = 10,
    rate: float = 0.05,
    begin: tuple[int, Mapping[str, Tensor], dict[str, Any]] | None = None,
    end: int | None = None,
) -> dict[str, Any]:
    """Train as the trainer does, with momentum; from `begin` and up to `end`. Returns the optimiser's state."""
    callback.start(model, epochs)
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    first = 0
    if begin is not None:
        first, state, optimised = begin
        callback.load_state(state)
        optimiser.load_state_dict(copy.deepcopy(optimised))  # it takes the tensors themselves
    for epoch in range(first, epochs if end is None else end):
        callback.begin_epoch(epoch)
        for _ in range(steps):
            optimiser.zero_grad()
            penalty = callback.penalty()
            (loss() if penalty is None else loss() + penalty).backward()  # type: ignore[no-untyped-call]
            callback.before_step()
            optimiser.step()
            callback.after_step()
        callback.end_epoch(epoch)
    return copy.deepcopy(optimiser.state_dict())


def regression(model: nn.Module, seed: int = 1, images: int = 60) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs = torch.randn(images, 12, generator=generator), torch.randn(images, 3, generator=generator)
    return lambda: nn.functional.mse_loss(model(inputs), outputs)


# ----------------------------------------------------------------------------------- known right answers


@pytest.mark.parametrize(
    "method",
    [
        Magnitude(),
        Magnitude(steps=4),
        Admm(rho=0.02, growth=1.3),
        Admm(rho=0.02, growth=1.3, every=2, constraints="in turn"),
        Reweighted(strength=0.003, every=5),
        Reweighted(strength=0.003, every=5, form="squared"),
    ],
    ids=str,
)
def test_inputs_that_matter_are_found(method: Method) -> None:
    """3 of 12 inputs carry the answer: those columns of the first layer stay."""
    generator = torch.Generator().manual_seed(2)
    right = [1, 6, 10]
    inputs = torch.randn(300, 12, generator=generator)
    outputs = inputs[:, right] @ torch.randn(3, 3, generator=generator)
    model = two_layers()

    def loss() -> Tensor:
        return nn.functional.mse_loss(model(inputs), outputs)

    run(model, Callback(), loss, epochs=4, steps=20)  # what is pruned was trained before
    callback = method.callback(COLUMNS)
    run(model, callback, loss, epochs=12)
    (mask,) = callback.masks().values()
    assert mask.any(dim=0).nonzero().flatten().tolist() == right
    assert mask[:, right].all()


def test_admm_finds_better_columns_than_magnitude() -> None:
    """Quadratic losses whose best support is known by trying every one; each penalised loss is minimised exactly."""
    kept, size, best, better, wrong = 3, 6, 0, 0, 0
    for seed in range(8, 18):
        generator = torch.Generator().manual_seed(seed)
        mixing = torch.randn(size, size, generator=generator, dtype=torch.float64) / 14
        inputs = torch.randn(200, size, generator=generator, dtype=torch.float64) @ mixing
        outputs = inputs @ torch.randn(size, 3, generator=generator, dtype=torch.float64)
        errors = {}
        for support in itertools.combinations(range(size), kept):
            solved = torch.linalg.lstsq(inputs[:, support], outputs).solution
            errors[support] = float((inputs[:, support] @ solved - outputs).square().sum())
        dense = torch.linalg.lstsq(inputs, outputs).solution
        largest = tuple(sorted(dense.square().sum(dim=1).topk(kept).indices.tolist()))

        model = nn.Sequential(nn.Linear(size, 3, bias=False)).double()
        weight = weight_of(model)
        weight.data = dense.T.clone()
        callback = Admm(rho=0.1, growth=1.1).callback(
            Recipe(rules=(LayerRule(layers=("0",), targets=(Columns(keep=0.5),)),))
        )
        callback.start(model, 80)
        for epoch in range(80):
            callback.begin_epoch(epoch)
            penalty = callback.penalty()
            assert penalty is not None
            (gradient,) = torch.autograd.grad((model(inputs) - outputs).square().sum() / 2 + penalty, weight)
            curvature = inputs.T @ inputs + callback.rho * torch.eye(size, dtype=torch.float64)
            weight.data -= torch.linalg.solve(curvature, gradient.T).T
            callback.end_epoch(epoch)
        values = [residual.value for residual in callback.residuals]
        assert len(values) == 80
        assert values[-1] < 1e-4 < values[0]  # weights and copy have come together
        found = tuple(callback.masks()["0"].any(dim=0).nonzero().flatten().tolist())
        assert errors[found] <= errors[largest] * (1 + 1e-9)
        wrong += errors[largest] > min(errors.values())
        best += errors[found] == min(errors.values())
        better += errors[found] < errors[largest]
    assert best >= 9  # of 10, where magnitude finds 3
    assert better >= 6
    assert wrong == 7


def test_admm_without_anything_to_prune_finds_the_free_minimum() -> None:
    """Where every weight may stay the problem is convex and its minimum known."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    outputs = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(6, 2, bias=False)).double()
    weight_of(model).data.fill_(1.0)
    callback = Admm(rho=0.5).callback(Recipe(rules=(LayerRule(layers=("0",), targets=(Columns(keep=1.0),)),)))
    run(model, callback, lambda: (model(inputs) - outputs).square().mean(), epochs=60, rate=0.1)
    torch.testing.assert_close(weight_of(model).T, torch.linalg.lstsq(inputs, outputs).solution, rtol=0, atol=1e-6)
    assert callback.masks()["0"].all()


def test_admm_draws_weights_to_levels() -> None:
    generator = torch.Generator().manual_seed(4)
    wanted = torch.randn(5, 7, generator=generator)
    model = nn.Sequential(nn.Linear(7, 5, bias=False))
    weight_of(model).data = wanted.clone()
    recipe = Recipe(rules=(LayerRule(layers=("0",), levels=Levels(bits=4, zero=False)),))
    callback = Admm(rho=0.1, growth=1.3, rho_max=50.0).callback(recipe)
    run(
        model, callback, lambda: (weight_of(model) - wanted).square().sum() / 2, epochs=40, steps=30, rate=0.01
    )  # fmt: skip
    assert callback.masks() == {}
    assert callback.residuals[-1].value < 1e-3 < callback.residuals[0].value
    assert {residual.constraint for residual in callback.residuals} == {"levels"}
    weight = weight_of(model).detach()
    codes = quantise(weight.T.numpy(), 4).codes.T
    scale = weight.abs().amax(dim=1, keepdim=True).numpy() / 7
    np.testing.assert_allclose(weight.numpy(), codes * scale, atol=0.01)
    assert (codes != 0).all()


# ---------------------------------------------------------------------------------------------- penalties


def test_admm_penalty_by_hand() -> None:
    """Epoch by epoch against the formulas, with both constraints and a growing rho."""
    model = two_layers(5)
    method = Admm(rho=0.5, growth=1.5, rho_max=1.0)
    callback = method.callback(BOTH)
    weights = [weight_of(model), weight_of(model, 2)]
    prune, coarse, fine = BOTH.rules[0], BOTH.rules[0].levels, BOTH.rules[1].levels
    assert coarse is not None
    assert fine is not None
    callback.start(model, 4)
    callback.begin_epoch(0)
    mask = prune.mask(weights[0].detach())
    copies = [torch.where(mask, weights[0], 0.0), coarse.project(weights[0], mask), fine.project(weights[1])]
    copies = [item.detach().clone() for item in copies]
    duals = [torch.zeros_like(item) for item in copies]
    owners = [0, 0, 1]
    generator = torch.Generator().manual_seed(6)
    for epoch, rho in enumerate([0.5, 0.75, 1.0, 1.0]):
        assert callback.rho == pytest.approx(rho)
        penalty = callback.penalty()
        assert penalty is not None
        assert penalty.dtype == torch.float32
        assert penalty.shape == ()
        terms = [weights[owner].detach() - z + u for owner, z, u in zip(owners, copies, duals, strict=True)]
        torch.testing.assert_close(
            penalty.detach(), sum((rho / 2 * term.square().sum() for term in terms), torch.tensor(0.0))
        )
        gradients = torch.autograd.grad(penalty, weights)
        torch.testing.assert_close(gradients[0], rho * (terms[0] + terms[1]))
        torch.testing.assert_close(gradients[1], rho * terms[2])
        with torch.no_grad():
            for weight in weights:
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
        callback.end_epoch(epoch)
        now = [weights[owner].detach() for owner in owners]
        mask = prune.mask(now[0] + duals[0])
        copies = [
            torch.where(mask, now[0] + duals[0], 0.0),
            coarse.project(now[1] + duals[1], mask),
            fine.project(now[2] + duals[2]),
        ]
        residuals = callback.residuals[-3:]
        assert [(item.epoch, item.layer, item.constraint) for item in residuals] == [
            (epoch, "0", "targets"), (epoch, "0", "levels"), (epoch, "2", "levels"),
        ]  # fmt: skip
        for item, weight, z in zip(residuals, now, copies, strict=True):
            assert item.value == pytest.approx(float((weight - z).norm() / weight.norm()), rel=1e-5)
        shrink = rho / min(rho * 1.5, 1.0)  # the dual of the unscaled method does not change with rho
        duals = [(u + weight - z) * shrink for u, weight, z in zip(duals, now, copies, strict=True)]
    assert len(callback.residuals) == 12
    assert not callback.masks()["0"].all()


def test_admm_updates_every_few_epochs() -> None:
    model = two_layers()
    callback = Admm(rho=0.1, growth=2.0, every=3).callback(COLUMNS)
    run(model, callback, regression(model), epochs=8)
    assert [item.epoch for item in callback.residuals] == [2, 5]
    assert callback.rho == pytest.approx(0.4)


def test_admm_in_turn_prunes_for_good() -> None:
    model = two_layers(7)
    loss = regression(model)
    callback = Admm(rho=0.2, growth=1.5, constraints="in turn").callback(BOTH)
    run(model, callback, loss, epochs=7, end=4)
    assert weight_of(model).detach().bool().all()  # nothing is pruned yet, nothing drawn to levels
    assert {(item.layer, item.constraint) for item in callback.residuals} == {("0", "targets")}
    expected = BOTH.masks(model)["0"]
    callback.begin_epoch(4)
    assert callback.rho == pytest.approx(0.2)
    assert torch.equal(callback.masks()["0"], expected)
    assert torch.equal(weight_of(model) != 0, expected)
    state = callback.state()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05).state_dict()
    run(model, callback, loss, epochs=7, begin=(5, state, optimiser))
    assert torch.equal(callback.masks()["0"], expected)
    assert torch.equal(weight_of(model) != 0, expected)
    later = [item for item in callback.residuals if item.epoch >= 4]
    assert {(item.layer, item.constraint) for item in later} == {("0", "levels"), ("2", "levels")}


def groups_by_hand(target: Target, matrix: Tensor) -> list[Tensor]:
    """Groups of a 6 x 12 matrix in blocks and tiles of 4 x 5; filters and columns for `Filters`."""
    blocks = [
        matrix[rows, columns]
        for rows in (slice(0, 4), slice(4, 6))
        for columns in (slice(0, 5), slice(5, 10), slice(10, 12))
    ]
    if isinstance(target, Unstructured):
        return [item.reshape(1) for item in matrix.flatten()]
    if isinstance(target, Filters):
        return [*matrix, *matrix.T]
    if isinstance(target, Tiles):
        return [block.flatten() for block in blocks]
    return [part for block in blocks for part in (*block, *block.T)]


@pytest.mark.parametrize("form", ["norm", "squared"])
@pytest.mark.parametrize(
    "targets",
    [
        (Unstructured(keep=0.5),),
        (Filters(keep=0.5), Columns(keep=0.5)),
        (BlockColumnRow(block_filters=4, block_columns=5, keep_filters=0.5, keep_columns=0.5),),
        (Tiles(tile_filters=4, tile_columns=5, keep=0.5),),
    ],
)
def test_reweighted_penalty_by_hand(targets: tuple[Any, ...], form: Any) -> None:
    model = two_layers(8)
    weight = weight_of(model)
    with torch.no_grad():
        weight[:, 3] = 0.0
        weight[:4, 5:10] = 0.0  # whole groups of zeros
    callback = Reweighted(strength=0.7, epsilon=0.1, every=2, form=form).callback(
        Recipe(rules=(LayerRule(layers=("0",), targets=targets),))
    )
    callback.start(model, 4)
    generator = torch.Generator().manual_seed(9)
    factors: list[float] = []
    for epoch in range(4):
        callback.begin_epoch(epoch)
        matrix = weight.detach().double().clone().requires_grad_()
        groups = groups_by_hand(targets[0], matrix)
        if epoch % 2 == 0:
            sizes = [float(group.detach().norm()) ** (2 if form == "squared" else 1) for group in groups]
            factors = [1 / (size + 0.1) for size in sizes]
        wanted = sum(
            (
                0.7 * factor * (group.square().sum() if form == "squared" else group.norm())
                for factor, group in zip(factors, groups, strict=True)
            ),
            torch.zeros((), dtype=torch.float64),
        )
        penalty = callback.penalty()
        assert penalty is not None
        assert penalty.dtype == torch.float32
        torch.testing.assert_close(penalty.double(), wanted, rtol=1e-5, atol=1e-6)
        (gradient,) = torch.autograd.grad(penalty, weight)
        (expected,) = torch.autograd.grad(wanted, matrix)
        torch.testing.assert_close(gradient.double(), torch.nan_to_num(expected), rtol=1e-4, atol=1e-5)
        callback.end_epoch(epoch)
        with torch.no_grad():
            weight += 0.1 * torch.randn(weight.shape, generator=generator) * (weight != 0)


# ---------------------------------------------------------------------------------------------- magnitude


def test_magnitude_at_once() -> None:
    model = two_layers(3)
    expected = COLUMNS.masks(model)["0"]
    callback = Magnitude().callback(COLUMNS)
    callback.start(model, 5)
    assert torch.equal(callback.masks()["0"], expected)  # also before anything is trained
    assert weight_of(model).detach().bool().all()
    run(model, callback, regression(model), epochs=5)
    assert torch.equal(callback.masks()["0"], expected)
    assert torch.equal(weight_of(model) != 0, expected)  # momentum and all
    assert weight_of(model, 2).detach().bool().all()


def test_magnitude_in_steps() -> None:
    model = nn.Sequential(nn.Linear(100, 3), nn.ReLU(), nn.Linear(3, 3))
    weight_of(model).data = torch.randn(3, 100, generator=torch.Generator().manual_seed(1))
    recipe = Recipe(rules=(LayerRule(layers=("0",), targets=(Columns(keep=0.064),)),))
    callback = Magnitude(steps=3).callback(recipe)
    callback.start(model, 10)
    inputs = torch.randn(40, 100, generator=torch.Generator().manual_seed(2))
    kept = []
    last = torch.ones(3, 100, dtype=torch.bool)
    for epoch in range(10):
        callback.begin_epoch(epoch)
        for _ in range(3):
            model.zero_grad()
            model(inputs).square().mean().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter.sub_(0.01 * parameter.grad)
            callback.after_step()
            mask = callback.masks()["0"]
            assert torch.equal(weight_of(model) != 0, mask)
            assert not (mask & ~last).any()
            last = mask
        kept.append(int(last.any(dim=0).sum()))
    # 0.064 = 0.4^3: 40, 16 and 6 columns from the epochs 0, 3 and 6 on
    assert kept == [40] * 3 + [16] * 3 + [6] * 4


def test_what_is_pruned_stays_so() -> None:
    """Even if what was kept turns out to be zero."""
    model = two_layers(4)
    callback = Magnitude(steps=2).callback(COLUMNS)
    callback.start(model, 2)
    callback.begin_epoch(0)
    first = callback.masks()["0"]
    assert not first[:, 0].any()  # so that the first column, of all that are zero, would be next
    with torch.no_grad():
        weight_of(model).zero_()
    callback.begin_epoch(1)
    second = callback.masks()["0"]
    assert (int(first.any(dim=0).sum()), int(second.any(dim=0).sum())) == (6, 3)
    assert not (second & ~first).any()


def test_weights_may_lie_channels_last() -> None:
    """A view as a matrix is then a copy: what is pruned must be zero in the layer itself."""
    for method in (Magnitude(), Admm(constraints="in turn"), Reweighted()):
        plain = nn.Sequential(nn.Conv2d(4, 6, 3))
        model = channels_last(copy.deepcopy(plain))
        recipe = Recipe(rules=(LayerRule(layers=("0",), targets=(Filters(keep=0.5),), levels=Levels(bits=4)),))
        callback = method.callback(recipe)
        images = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
        other = method.callback(recipe)
        for network, taking_part in ((model, callback), (plain, other)):
            loss = partial(lambda network, images: network(images).square().mean(), network, images)
            run(network, taking_part, loss, epochs=4, steps=3)
        assert torch.equal(callback.masks()["0"], other.masks()["0"])
        torch.testing.assert_close(weight_of(model), weight_of(plain))
        if not isinstance(method, Reweighted):
            assert torch.equal(weight_of(model) != 0, callback.masks()["0"])


def test_the_free_weight_is_pruned() -> None:
    """Also where the layer computes with another weight that is made of it."""

    class Double(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    model = two_layers(3)
    expected = COLUMNS.masks(model)["0"]
    parametrize.register_parametrization(model[0], "weight", Double())
    callback = Magnitude().callback(COLUMNS)
    run(model, callback, regression(model), epochs=2)
    assert torch.equal(callback.masks()["0"], expected)
    assert torch.equal(weight_of(model) != 0, expected)


# ------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_run_that_was_cut_short_ends_the_same(method: Method, cut: int) -> None:
    whole = two_layers(11)
    callback = method.callback(BOTH)
    run(whole, callback, regression(whole), epochs=6)

    first = two_layers(11)
    before = method.callback(BOTH)
    optimised = run(first, before, regression(first), epochs=6, end=cut)
    state = before.state()
    assert all(isinstance(tensor, Tensor) for tensor in state.values())
    snapshot = {name: tensor.clone() for name, tensor in state.items()}
    weights = copy.deepcopy(first.state_dict())
    run(first, before, regression(first), epochs=6, begin=(cut, state, optimised))  # what goes on changes no snapshot
    assert all(torch.equal(snapshot[name], state[name]) for name in snapshot)

    second = two_layers(12)
    second.load_state_dict(weights)
    after = method.callback(BOTH)
    run(second, after, regression(second), epochs=6, begin=(cut, snapshot, optimised))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
    assert {name: mask.tolist() for name, mask in after.masks().items()} == {
        name: mask.tolist() for name, mask in callback.masks().items()
    }
    assert after.state().keys() == callback.state().keys()
    assert all(torch.equal(after.state()[name], tensor) for name, tensor in callback.state().items())


class Killed(Exception):
    """What ends a training."""


class Killer(Callback):
    """Ends a training after a few epochs, as often as it is asked to."""

    def __init__(self) -> None:
        self.at = -1

    def begin_epoch(self, epoch: int) -> None:
        if epoch == self.at:
            raise Killed


@pytest.mark.parametrize(
    "method", [Magnitude(steps=2), Admm(rho=0.1, constraints="in turn"), Reweighted(every=2)], ids=str
)
def test_the_trainer_takes_up_a_method(method: Method, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    data = TrainingSet.split(
        "noise", rng.integers(0, 256, (60, 1, 5, 5), dtype=np.uint8), rng.integers(0, 3, 60),
        validation=12, mean=(0.5,), standard_deviation=(0.3,),
    )  # fmt: skip

    def network() -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))

    recipe = Recipe(
        rules=(
            LayerRule(layers=("0",), targets=(Filters(keep=0.5),), levels=Levels(bits=4)),
            LayerRule(layers=("3",), targets=(Columns(keep=0.25),)),
        )
    )
    training = Training(epochs=4, batch=16, learning_rate=0.05, device="cpu", channels_last=True)
    whole, killed = network(), network()
    callback = method.callback(recipe)
    history = train(whole, data, training, callbacks=(callback, Killer()), progress=False)
    assert any(penalty > 0 for penalty in history.penalty) == (not isinstance(method, Magnitude))
    path, killer = tmp_path / "run.safetensors", Killer()
    for killer.at in (1, 3):
        with pytest.raises(Killed):
            train(killed, data, training, callbacks=(method.callback(recipe), killer), checkpoint=path, progress=False)
        killed = network()
    killer.at = -1
    last = method.callback(recipe)
    train(killed, data, training, callbacks=(last, killer), checkpoint=path, progress=False)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(killed.state_dict()[name], tensor)
    masks = last.masks()
    assert [int(gemm_view(masks["0"]).any(dim=1).sum()), int(masks["3"].any(dim=0).sum())] == [2, 9]
    for name, mask in callback.masks().items():
        assert torch.equal(masks[name], mask)


# ------------------------------------------------------------------------------------------- files, errors


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_methods_are_toml(method: Method) -> None:
    assert tomlio.loads(Method, tomlio.dumps(method)) == method  # type: ignore[type-abstract]


def test_settings_tell_methods_and_recipes_apart() -> None:
    texts = {method.callback(recipe).settings() for method in METHODS for recipe in (COLUMNS, BOTH)}
    assert len(texts) == 2 * len(METHODS)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Magnitude(steps=0), "steps must be an integer >= 1, got 0"),
        (lambda: Admm(rho=0), "rho must be a finite number > 0.0, got 0.0"),
        (lambda: Admm(growth=0.5), "growth must be a finite number >= 1.0, got 0.5"),
        (lambda: Admm(rho=0.1, rho_max=0.01), "rho_max must be a finite number >= 0.1, got 0.01"),
        (lambda: Admm(every=0), "every must be an integer >= 1, got 0"),
        (lambda: untyped(Admm)(constraints="both"), "constraints must be one of 'together', 'in turn', got 'both'"),
        (lambda: Reweighted(strength=-1.0), "strength must be a finite number > 0.0, got -1.0"),
        (lambda: Reweighted(epsilon=0.0), "epsilon must be a finite number > 0.0, got 0.0"),
        (lambda: untyped(Reweighted)(every=1.5), "every must be an integer >= 1, got 1.5"),
        (lambda: untyped(Reweighted)(form="cube"), "form must be one of 'norm', 'squared', got 'cube'"),
        (lambda: untyped(Magnitude()).callback(0.5), "recipe must be of type Recipe, got 0.5"),
        (
            lambda: Magnitude().callback(Recipe(rules=(LayerRule(layers=("0",), levels=Levels(bits=4)),))),
            "recipe must have a rule with targets, got Recipe",
        ),
        (
            lambda: Admm().callback(Recipe(rules=(LayerRule(layers=("0",)),))),
            "recipe must have a rule with targets or levels, got Recipe",
        ),
        (
            lambda: Magnitude(steps=6).callback(COLUMNS).start(two_layers(), 5),
            r"steps of Magnitude must be an integer <= 5 \(epochs\), got 6",
        ),
        (
            lambda: Admm(every=4).callback(COLUMNS).start(two_layers(), 3),
            r"every of Admm must be an integer <= 3 \(epochs\), got 4",
        ),
        (
            lambda: Admm(constraints="in turn").callback(BOTH).start(two_layers(), 1),
            r"every of Admm must be an integer <= 0 \(epochs of the second half\), got 1",
        ),
        (
            lambda: Admm().callback(COLUMNS).start(nn.Sequential(nn.ReLU()), 3),
            r"rules\[0\].layers\[0\] must match .* of Sequential \(it has none\), got '0'",
        ),
    ],
)
def test_bad_input(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_weight_that_is_not_finite_is_named(method: Method) -> None:
    model = two_layers()
    callback = method.callback(BOTH)
    callback.start(model, 6)
    with torch.no_grad():
        weight_of(model)[2, 3] = torch.nan
    with pytest.raises(InputError, match=r"layer '0': matrix must be finite, got nan at index \(2, 3\)"):
        callback.masks()


def test_masks_need_a_model() -> None:
    with pytest.raises(RuntimeError, match="the training has not begun"):
        Magnitude().callback(COLUMNS).masks()


def test_a_state_that_does_not_fit_is_refused() -> None:
    def started(method: Method, model: nn.Module) -> MethodCallback:
        callback = method.callback(COLUMNS)
        callback.start(model, 4)
        callback.begin_epoch(0)
        return callback

    for method in (Magnitude(), Admm(), Reweighted()):
        callback = started(method, two_layers())
        state = callback.state()
        with pytest.raises(FileFormatError, match=r"must have shape .*, got"):
            started(method, two_layers(inputs=16)).load_state(state)
        renamed = {name.replace("/0", "/9"): tensor for name, tensor in state.items()}
        with pytest.raises(FileFormatError, match=r"is of another model: '.*/9'"):
            callback.load_state(renamed)
    with pytest.raises(FileFormatError, match=r"is of another recipe: 'factor 7\.0/0'"):
        started(Reweighted(), two_layers()).load_state({"factor 7.0/0": torch.zeros(3)})
    assert isinstance(Admm().callback(COLUMNS), AdmmCallback)
