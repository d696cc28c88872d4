"""The checks of pruning targets and methods: what comes with the project passes, and broken promises are named."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xbarsim.compress import (
    Admm,
    BlockColumnRow,
    Columns,
    Filters,
    LayerRule,
    Magnitude,
    Method,
    MethodCallback,
    Recipe,
    Reweighted,
    Target,
    Tiles,
    Unstructured,
)
from xbarsim.foundation.validation import InputError
from xbarsim.testing import check_method, check_target

TARGETS: tuple[Target, ...] = (
    Unstructured(keep=0.3),
    Unstructured(keep=1.0),
    Filters(keep=0.5),
    Columns(keep=0.01),
    BlockColumnRow(block_filters=4, block_columns=5, keep_filters=0.5, keep_columns=0.4),
    BlockColumnRow(block_filters=12, block_columns=14, keep_columns=0.5),
    Tiles(tile_filters=3, tile_columns=4, keep=0.5),
)
METHODS: tuple[Method, ...] = (
    Magnitude(),
    Magnitude(steps=3),
    Admm(rho=0.1, growth=1.5),
    Admm(rho=0.1, every=2, constraints="in turn"),
    Reweighted(strength=0.01, every=3),
    Reweighted(strength=0.01, every=2, form="squared"),
)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_targets_conform(target: Target) -> None:
    check_target(target)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_methods_conform(method: Method) -> None:
    check_method(method, epochs=4)


# --- targets that break one promise

CALLS = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Sloppy(Target):
    """Single weights, with one thing wrong."""

    keep: float = 0.5
    wrong: str = "nothing"

    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        if self.wrong == "nan" and not torch.isfinite(matrix).all():
            return torch.ones_like(matrix, dtype=torch.bool)
        right = Unstructured(keep=self.keep).mask(matrix, among=among)
        if self.wrong == "among":
            return Unstructured(keep=self.keep).mask(matrix)
        match self.wrong:
            case "one more":
                right = right.clone()
                right.flatten()[(~right.flatten()).nonzero()[:1]] = True
            case "smallest":
                return ~Unstructured(keep=1 - self.keep).mask(matrix) if matrix.numel() % 2 == 0 else right
            case "fixed":
                fixed = torch.zeros_like(right).flatten()
                fixed[: int(right.sum())] = True
                return fixed.reshape(right.shape) if among is None else fixed.reshape(right.shape) & among
            case "moody":
                return right.roll(next(CALLS) % 2, dims=1)
            case "changes":
                matrix[0, 0] = 0.0
            case "float":
                return right.float()
        return right

    def kept_weights(self, shape: tuple[int, int]) -> tuple[int, int]:
        return Unstructured(keep=self.keep).kept_weights(shape)

    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        if self.wrong == "no norms":
            return ()
        return ((matrix.square() + 0.0).sqrt(),) if self.wrong == "gradient" else (matrix.abs(),)

    def part_way(self, progress: float, **law: Any) -> Any:
        return self if self.wrong == "way" else super().part_way(progress, **law)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("one more", "a mask must keep as many weights as kept_weights states; "),
        ("smallest", "must hold the largest squared norm of its structure|projecting a matrix again"),
        ("moody", "the same matrix must get the same mask"),
        ("changes", "choosing a mask must not change the matrix"),
        ("float", r"a mask must be of type torch.bool .*; torch.float32"),
        ("nan", "a matrix that is not finite must be refused by InputError; it gave"),
        ("among", "no weight may be kept that is not among those that may stay"),
        ("no norms", "a target that prunes must have norms of its groups"),
        ("gradient", "norms must have finite gradients, also of zeros"),
        ("way", r"part_way\(0\) must keep all weights"),
    ],
)
def test_broken_promises_of_targets_are_named(wrong: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_target(Sloppy(wrong=wrong))


def test_a_target_that_is_right_passes_and_one_that_is_not_nearest_may_say_so() -> None:
    check_target(Sloppy())
    check_target(Sloppy(wrong="fixed"), nearest=False)  # always the first weights: every other promise holds


# --- methods that break one promise


@dataclass(frozen=True, kw_only=True)
class Careless(Method):
    """Magnitude at once, with one thing wrong."""

    wrong: str = "nothing"

    def callback(self, recipe: Recipe) -> MethodCallback:
        return CarelessCallback(self, recipe)


class CarelessCallback(MethodCallback):
    method: Careless

    def start(self, model: nn.Module, epochs: int) -> None:
        super().start(model, epochs)
        self.model, self.drawn = model, 0.0

    def begin_epoch(self, epoch: int) -> None:
        wrong = self.method.wrong
        if wrong == "global":
            np.random.rand()  # noqa: NPY002
        if wrong == "extra":
            self.model.register_buffer("mine", torch.zeros(1))
        if epoch == 0 or wrong == "forgets":
            for name, rule in self.pruned_layers().items():
                matrix = self.matrix(name)
                mask = rule.mask(matrix, among=None)
                if wrong == "too few":
                    mask = mask & (torch.arange(mask.shape[1]) % 2 == 0)
                self.set_mask(name, mask)
        if wrong == "remembers" and epoch < 2:
            self.drawn += 0.1  # in no checkpoint

    def penalty(self) -> Tensor | None:
        return self.drawn * self.weight("0").square().sum() if self.method.wrong == "remembers" else None

    def after_step(self) -> None:
        if self.method.wrong != "lets go":
            super().after_step()

    def masks(self) -> dict[str, Tensor]:
        masks = super().masks()
        return dict(list(masks.items())[:1]) if self.method.wrong == "one layer" else masks


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("global", "a method must not draw from NumPy's global generator"),
        ("extra", "the network must be left without anything that the method put into it"),
        (
            "too few",
            "masks must have the structure and exactly the shares of the recipe's targets; layer '0'",
        ),
        ("remembers", "a training that was stopped must go on and end with the same bits; stopped after 1 of 4"),
        ("lets go", "weights outside of a held mask must be zero after every step"),
        ("one layer", r"masks must be of every layer with a target, and of no other; \['0'\] instead of \['0', '3'\]"),
    ],
)
def test_broken_promises_of_methods_are_named(wrong: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_method(Careless(wrong=wrong), epochs=4)


def test_a_method_that_is_right_passes() -> None:
    check_method(Careless(), epochs=4)


def test_what_cannot_be_checked_is_refused() -> None:
    checks: tuple[Any, ...] = (check_method, check_target)
    for check in checks:
        with pytest.raises(InputError, match="must be of type"):
            check("Filters")


# --- names


def test_two_classes_cannot_have_one_name_in_files() -> None:
    with pytest.raises(TypeError, match=r"must have a name of its own in TOML files: xbarsim\.compress.*'Filters'"):
        type("Filters", (Target,), {})
    with pytest.raises(TypeError, match=r"xbarsim\.compress\.methods\.admm\.Admm is 'Admm' there"):
        type("Admm", (Method,), {})
    assert Target.known["Filters"] is Filters
    rule = LayerRule(layers=("*",), targets=(Sloppy(),))
    assert Recipe.from_toml(Recipe(rules=(rule,)).to_toml()).rules == (rule,)
