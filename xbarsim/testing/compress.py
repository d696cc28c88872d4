"""Conformance checks of pruning targets and pruning methods."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xbarsim.compress import Columns, Filters, LayerRule, Method, MethodCallback, Recipe, Target, gemm_view, prune
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer
from xbarsim.testing.promises import call, check_value, for_all, load_hypothesis, promise, refuses
from xbarsim.training import Callback, Training, TrainingSet, train

__all__ = ["check_method", "check_target"]


# --------------------------------------------------------------------------------------------- targets


@entrance
def check_target(target: Target, *, nearest: bool = True, examples: int = 50) -> None:
    """Check that a pruning target keeps the promises of :class:`xbarsim.compress.Target`.

    It must be a frozen dataclass with an exact TOML round trip, also in a recipe; choose the same mask of the same
    matrix, and leave the matrix as it is; keep as many weights as it states, and none that may not stay; change nothing
    that was projected before; keep the largest squared norm of all masks of its structure; go the way to its shares
    from all weights; and have norms of its groups with finite gradients.

    Parameters
    ----------
    target
        The target, with the parameters it shall be tested with.
    nearest
        Whether its masks are the nearest of their structure for every matrix of up to 12 filters and 14 positions;
        ``False`` for one that looks for good masks without promising the best.
    examples
        Matrices to try.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    ImportError
        If hypothesis is not installed.

    Notes
    -----
    What masks a structure allows is learnt from the target itself: those that it chooses for other matrices. None of
    them may hold more of a matrix than the mask chosen for it.
    """
    check_instance("target", target, Target)
    check_integer("examples", examples, at_least=1)
    st = load_hypothesis().strategies

    check_value(target, Target)
    recipe = Recipe(rules=(LayerRule(layers=("*",), targets=(target,)),))
    again = call("reading a recipe with the target from TOML", Recipe.from_toml, recipe.to_toml())
    promise(again == recipe, "a recipe with the target must be read back from TOML as it was written", again)
    promise(
        call("part_way(1.0)", target.part_way, 1.0) == target,
        "part_way(1) must be the target itself",
        target.part_way(1.0),
    )
    refuses("a matrix that is not finite", target.mask, torch.tensor([[1.0, math.nan], [0.5, 2.0]]))

    def try_one(filters: int, positions: int, kind: str, double: bool, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(filters, positions, generator=generator, dtype=torch.float64 if double else torch.float32)
        if kind == "ties":
            matrix = matrix.round()
        mask = _check_mask(target, matrix)
        _check_projection(target, matrix, mask, generator, nearest)
        _check_among(target, matrix, mask, generator)
        _check_mask(target.part_way(0.5), matrix)
        promise(
            target.part_way(0.0).mask(matrix).all(),
            "part_way(0) must keep all weights",
            f"of a {filters} x {positions} matrix it keeps {int(target.part_way(0.0).mask(matrix).sum())}",
        )
        _check_norms(target, matrix, mask)

    for_all(
        try_one,
        examples,
        filters=st.integers(1, 12),
        positions=st.integers(1, 14),
        kind=st.sampled_from(["plain", "ties"]),
        double=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
    )


def _describe(matrix: Tensor) -> str:
    return f"of a {matrix.shape[0]} x {matrix.shape[1]} matrix"


def _check_mask(target: Target, matrix: Tensor) -> Tensor:
    before = matrix.clone()
    mask = call(f"choosing a mask {_describe(matrix)}", target.mask, matrix)
    promise(
        isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == matrix.shape,
        "a mask must be of type torch.bool and of the matrix's shape",
        f"{getattr(mask, 'dtype', type(mask))} of shape {tuple(getattr(mask, 'shape', ()))} {_describe(matrix)}",
    )
    promise(torch.equal(matrix, before), "choosing a mask must not change the matrix", "it did")
    promise(torch.equal(target.mask(matrix), mask), "the same matrix must get the same mask", "two masks differ")
    fewest, most = call("kept_weights", target.kept_weights, (matrix.shape[0], matrix.shape[1]))
    promise(
        0 <= fewest <= most <= matrix.numel(),
        "kept_weights must be two numbers of weights, the smaller first",
        f"{(fewest, most)} {_describe(matrix)}",
    )
    kept = int(mask.sum())
    promise(
        fewest <= kept <= most,
        "a mask must keep as many weights as kept_weights states",
        f"{kept} instead of {fewest} to {most} {_describe(matrix)}, by {target!r}",
    )
    return mask  # type: ignore[no-any-return]


def _held(matrix: Tensor, mask: Tensor) -> float:
    return float(torch.where(mask, matrix.double(), 0.0).square().sum())


def _check_projection(target: Target, matrix: Tensor, mask: Tensor, generator: torch.Generator, nearest: bool) -> None:
    projected = torch.where(mask, matrix, 0.0)
    again = torch.where(target.mask(projected), projected, 0.0)
    promise(
        torch.equal(again, projected),
        "projecting a matrix again must not change it",
        f"{int((again != projected).sum())} weights changed {_describe(matrix)}",
    )
    if not nearest:
        return
    noise = torch.randn(3, *matrix.shape, generator=generator, dtype=matrix.dtype)
    order = torch.randperm(matrix.shape[1], generator=generator)
    for other in (*noise, matrix * (1 + 0.3 * noise[0]), matrix[:, order], matrix.flip(0)):
        rival = target.mask(other)
        promise(
            _held(matrix, rival) <= _held(matrix, mask) * (1 + 1e-9),
            "a mask must hold the largest squared norm of its structure",
            f"it holds {_held(matrix, mask)}, one chosen for another matrix {_held(matrix, rival)} {_describe(matrix)}",
        )


def _check_among(target: Target, matrix: Tensor, mask: Tensor, generator: torch.Generator) -> None:
    everything = torch.ones_like(mask)
    promise(
        torch.equal(target.mask(matrix, among=everything), mask),
        "a mask must be the same where all weights may stay and where nothing is said",
        f"they differ {_describe(matrix)}",
    )
    _, most = target.kept_weights((matrix.shape[0], matrix.shape[1]))
    among = torch.rand(matrix.shape, generator=generator) < 0.6
    chosen = target.mask(matrix, among=among)
    promise(
        not (chosen & ~among).any(),
        "no weight may be kept that is not among those that may stay",
        f"{int((chosen & ~among).sum())} are {_describe(matrix)}",
    )
    promise(int(chosen.sum()) <= most, "never more weights may be kept than kept_weights states", int(chosen.sum()))
    refuses("among of another shape", lambda: target.mask(matrix, among=torch.ones(1, 99, dtype=torch.bool)))


def _check_norms(target: Target, matrix: Tensor, mask: Tensor) -> None:
    norms = call("norms", target.norms, matrix)
    promise(
        bool(norms) or bool(mask.all()),
        "a target that prunes must have norms of its groups",
        f"none {_describe(matrix)}",
    )
    for norm, double in zip(norms, target.norms(2 * matrix), strict=True):
        promise(
            bool((norm >= 0).all()) and torch.allclose(double, 2 * norm),
            "norms must be at least 0, and twice as large of twice the matrix",
            f"{norm.flatten()[:3].tolist()} and {double.flatten()[:3].tolist()} {_describe(matrix)}",
        )
    for values in (matrix, torch.zeros_like(matrix)):
        leaf = values.clone().requires_grad_()
        for norm in target.norms(leaf):
            (gradient,) = torch.autograd.grad(norm.sum(), leaf)
            promise(
                torch.isfinite(gradient).all(),
                "norms must have finite gradients, also of zeros",
                f"{int((~torch.isfinite(gradient)).sum())} are not {_describe(matrix)}",
            )


# --------------------------------------------------------------------------------------------- methods


class _Stopped(Exception):
    """What ends a training before its time."""


class _Observer(Callback):
    """Looks at the masks that a method holds after each step, and ends the training before an epoch."""

    def __init__(self, callback: MethodCallback, stop: int | None) -> None:
        self._callback, self._stop = callback, stop

    def begin_epoch(self, epoch: int) -> None:
        if epoch == self._stop:
            raise _Stopped

    def after_step(self) -> None:
        for layer, mask in self._callback.held_masks().items():
            outside = int((self._callback.matrix(layer)[~mask] != 0).sum())
            promise(not outside, "weights outside of a held mask must be zero after every step", f"{outside} are not")


def _small_network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):  # torch's own initial weights are drawn, and replaced
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.4, 0.4, generator=generator)
    return model


def _same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@entrance
def check_method(method: Method, *, recipe: Recipe | None = None, epochs: int = 6, seed: int = 2) -> None:
    """Check that a pruning method keeps the promises of :class:`xbarsim.compress.Method`.

    It must be a frozen dataclass with an exact TOML round trip; refuse a recipe that has nothing to do; reach the
    recipe's targets exactly on a small network, with SGD and with Adam; hold its masks after every step; leave NumPy's
    global generator alone, which no checkpoint holds; leave the network without anything of its own; and, stopped after
    any epoch, go on from the checkpoint and end with the same bits.

    Parameters
    ----------
    method
        The method, with the settings it shall be tested with.
    recipe
        For the network ``Conv2d(1, 4, 3)``, ``Linear(36, 6)``, ``Linear(6, 3)`` with the layers ``"0"``, ``"3"`` and
        ``"5"``; ``None`` for half the filters of the first, and a quarter of the columns of the second.
    epochs
        Of each training, 2 or more.
    seed
        Of the images and their order.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    """
    check_instance("method", method, Method)
    check_integer("epochs", epochs, at_least=2)
    check_integer("seed", seed, at_least=0)
    if recipe is None:
        recipe = Recipe(
            rules=(
                LayerRule(layers=("0",), targets=(Filters(keep=0.5),)),
                LayerRule(layers=("3",), targets=(Columns(keep=0.25),)),
            )
        )
    check_instance("recipe", recipe, Recipe)
    check_value(method, Method)
    refuses("a recipe with nothing to prune", method.callback, Recipe(rules=(LayerRule(layers=("*",)),)))
    callback = call("making a callback", method.callback, recipe)
    promise(isinstance(callback, MethodCallback), "callback must give a MethodCallback", type(callback).__name__)
    promise(
        callback.settings() == method.callback(recipe).settings(),
        "settings must say the same of the same method and recipe",
        "they differ",
    )
    rng = np.random.default_rng(seed)
    data = TrainingSet.split(
        "noise", rng.integers(0, 256, (60, 1, 5, 5), dtype=np.uint8), rng.integers(0, 3, 60),
        validation=12, mean=(0.5,), standard_deviation=(0.3,),
    )  # fmt: skip
    optimisers: tuple[Literal["sgd", "adam"], ...] = ("sgd", "adam")
    for optimiser in optimisers:
        training = Training(epochs=epochs, batch=16, optimiser=optimiser, learning_rate=0.02, device="cpu", seed=seed)
        _check_trainings(method, recipe, data, training)


def _check_trainings(method: Method, recipe: Recipe, data: TrainingSet, training: Training) -> None:
    before: Any = np.random.get_state(legacy=True)  # noqa: NPY002  whether somebody uses it
    whole = _small_network()
    callback = method.callback(recipe)
    call("a training", lambda: _train(whole, data, training, callback))
    after: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    promise(
        all(np.array_equal(one, another) for one, another in zip(before, after, strict=True)),
        "a method must not draw from NumPy's global generator, which no checkpoint holds",
        "it did",
    )
    promise(
        whole.state_dict().keys() == _small_network().state_dict().keys()
        and not any(parametrize.is_parametrized(module) for module in whole.modules()),
        "the network must be left without anything that the method put into it",
        sorted(whole.state_dict()),
    )
    masks = _check_reached(recipe, whole, callback)
    for name, mask in callback.held_masks().items():
        outside = int((gemm_view(whole.get_submodule(name).weight.detach())[~mask] != 0).sum())  # type: ignore[operator]
        promise(not outside, "weights outside of a held mask must be zero at the end", f"{outside} of {name!r} are not")

    for stop in range(1, training.epochs):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "run.safetensors"
            with contextlib.suppress(_Stopped):
                _train(_small_network(), data, training, method.callback(recipe), stop=stop, checkpoint=path)
            resumed, other = _small_network(), method.callback(recipe)
            call(f"going on after {stop} epochs", lambda: _train(resumed, data, training, other, checkpoint=path))  # noqa: B023
        promise(
            _same(resumed, whole) and all(torch.equal(mask, masks[name]) for name, mask in other.masks().items()),
            "a training that was stopped must go on and end with the same bits",
            f"stopped after {stop} of {training.epochs} epochs with {training.optimiser}, it ended otherwise",
        )

    original = _small_network()
    untouched = copy.deepcopy(original)
    pruned = prune(original, recipe, data, training, method=method, progress=False)
    promise(_same(original, untouched), "prune must leave the network it is given as it is", "it changed")
    for name, mask in pruned.masks.items():
        weight = pruned.model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        promise(
            torch.equal(mask, masks[name]) and not weight[~mask].any() and bool(torch.isfinite(weight).all()),
            "prune must leave the weights outside of the masks at zero",
            f"layer {name!r} of {dataclasses.asdict(method)}",  # type: ignore[call-overload]
        )


def _train(
    model: nn.Module,
    data: TrainingSet,
    training: Training,
    callback: MethodCallback,
    *,
    stop: int | None = None,
    checkpoint: Path | None = None,
) -> None:
    train(
        model, data, training, callbacks=(callback, _Observer(callback, stop)), checkpoint=checkpoint, progress=False
    )  # fmt: skip


def _check_reached(recipe: Recipe, model: nn.Module, callback: MethodCallback) -> dict[str, Tensor]:
    """The masks, each of which must be one that its rule could have chosen."""
    masks = call("masks", callback.masks)
    wanted = {name: rule for name, rule in recipe.layers(model).items() if rule.targets}
    promise(
        masks.keys() == wanted.keys(),
        "masks must be of every layer with a target, and of no other",
        f"{sorted(masks)} instead of {sorted(wanted)}",
    )
    for name, rule in wanted.items():
        mask = masks[name]
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        promise(
            mask.dtype == torch.bool and mask.shape == weight.shape,
            "a mask must be of type torch.bool and of the weight's shape",
            f"{mask.dtype} of shape {tuple(mask.shape)} of layer {name!r}",
        )
        kept = gemm_view(mask)
        try:
            exact = torch.equal(rule.mask(kept.float()), kept)
        except InputError as error:
            raise AssertionError(f"masks must suit the recipe; {error}") from error
        promise(
            exact,
            "masks must have the structure and exactly the shares of the recipe's targets",
            f"layer {name!r} keeps {int(kept.sum())} of {kept.numel()} weights for {rule.targets!r}",
        )
    return masks  # type: ignore[no-any-return]
