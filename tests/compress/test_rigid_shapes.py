"""Rigid shapes: one of a few for each group, chosen by brute force alike, and learnt where they are."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xbarsim.compress import SHAPES_3X3, LayerRule, LearnedShapes, Recipe, RigidShapes, gemm_view, kept_count, prune
from xbarsim.compress.methods.learned_shapes import _pick, _Shaped
from xbarsim.compress.targets.rigid_shapes import choose_shapes
from xbarsim.foundation.validation import InputError
from xbarsim.testing import check_method, check_target
from xbarsim.training import Training, TrainingSet

FEW = ("100", "010", "110", "111")


@pytest.mark.parametrize(
    "target",
    [
        RigidShapes(group_filters=2, group_channels=2, keep=0.5, shapes=FEW),
        RigidShapes(group_filters=3, group_channels=1, keep=0.6),
        RigidShapes(group_filters=1, group_channels=1, keep=0.01, shapes=FEW),
    ],
)
def test_it_keeps_the_promises_of_a_target(target: RigidShapes) -> None:
    check_target(target, examples=30)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(4, 12))
def test_the_best_choice_by_brute_force(seed: int, groups: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, 4)
    most = max(most, groups * int(sizes.min()))
    scores = rng.integers(-8, 9, (groups, 4)) / 4
    chosen = choose_shapes(scores, sizes, most)
    allowed = [
        (scores[range(groups), each].sum(), -int(sizes[list(each)].sum()))
        for each in itertools.product(range(4), repeat=groups)
        if sizes[list(each)].sum() <= most
    ]
    # of equal sums that with the fewest positions
    assert (scores[range(groups), chosen].sum(), -int(sizes[chosen].sum())) == max(allowed)


def test_every_group_has_one_of_the_shapes_and_all_together_no_more_than_the_share() -> None:
    matrix = torch.randn(6, 5 * 9, generator=torch.Generator().manual_seed(3))
    target = RigidShapes(group_filters=4, group_channels=2, keep=0.4)
    mask = target.mask(matrix)
    found = []
    for top in (0, 4):
        for left in (0, 2, 4):
            part = mask[top : top + 4].reshape(-1, 5, 9)[:, left : left + 2]
            assert (part == part[0, 0]).all()
            found.append("".join(str(int(item)) for item in part[0, 0]))
    assert set(found) <= set(SHAPES_3X3)
    assert len(set(found)) > 1
    assert sum(shape.count("1") for shape in found) <= kept_count(0.4, 6 * 9)
    assert target.index_bits((6, 45)) == 6 * 4
    assert len(set(SHAPES_3X3)) == 15


def test_gradients_pass_the_choice_and_a_tenth_of_them_far_from_the_mean() -> None:
    effects = torch.tensor([[0.1, 0.4, -0.2], [3.0, 0.0, 0.3]], requires_grad=True)
    picked = _pick(effects)
    assert picked.tolist() == [[0, 1, 0], [1, 0, 0]]
    (picked * torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).sum().backward()  # type: ignore[no-untyped-call]
    assert effects.grad is not None
    # means 0.1 and 1.1: of the second row the first and the second effect are further than 1 away
    torch.testing.assert_close(effects.grad, torch.tensor([[1.0, 2.0, 3.0], [0.4, 0.5, 6.0]]))


def test_the_share_and_the_weight_by_hand() -> None:
    target = RigidShapes(group_filters=2, group_channels=1, keep=0.5, shapes=FEW)
    places, groups = target.places((3, 6))
    assert groups == 4
    sizes = torch.bincount(places.flatten())
    effects = torch.zeros(4, 4)
    for group, shape in enumerate((0, 3, 2, 1)):
        effects[group, shape] = 1.0
    module = _Shaped(places, sizes, effects, (0, 0), target.table().float())
    weight = torch.arange(1.0, 19.0).reshape(3, 6)
    expected = weight * torch.tensor([[1, 0, 0, 1, 1, 1]] * 2 + [[1, 1, 0, 0, 1, 0]])
    assert torch.equal(module(weight), expected)
    assert float(module.share().detach()) == pytest.approx((2 * 4 + 3) / 18)


def test_it_conforms_in_a_training() -> None:
    target = RigidShapes(group_filters=2, group_channels=1, keep=0.5)
    recipe = Recipe(rules=(LayerRule(layers=("0",), targets=(target,)),))
    check_method(LearnedShapes(learn=2, warm_up=1, strength=0.5), recipe=recipe, epochs=3)


def test_shapes_are_found_where_they_are() -> None:
    """Labels are told by single columns of the image: of kernels with one channel, three lines and the whole."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 400)
    pixels = rng.integers(0, 256, (400, 1, 3, 3))
    pixels[:, 0, 1] = rng.integers(0, 60, (400, 3)) + 190 * (np.arange(3) == labels[:, None])  # only in the middle row
    data = TrainingSet.split(
        "lines", pixels.astype(np.uint8), labels, validation=80, mean=(0.4,), standard_deviation=(0.3,)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3))
    shapes = ("111000000", "000111000", "000000111", "111111111")
    target = RigidShapes(group_filters=6, group_channels=1, keep=1 / 3, shapes=shapes)
    recipe = Recipe(rules=(LayerRule(layers=("0",), targets=(target,)),))
    training = Training(epochs=20, batch=40, learning_rate=0.05, device="cpu", seed=4)
    found = prune(
        model, recipe, data, training, method=LearnedShapes(learn=14, strength=0.5, rate_factor=5.0), progress=False
    )  # fmt: skip
    assert gemm_view(found.masks["0"]).tolist() == [[shape == "1" for shape in shapes[1]]] * 6
    assert found.pruning is not None
    assert found.pruning.validation_accuracy[-1] > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"shapes": ("11", "101")},
            r"shapes\[1\] must be a text of 0 and 1 .* as long as the others, got '101'",
        ),
        ({"shapes": ("00", "11")}, r"shapes\[0\] must be a text of 0 and 1 with a 1"),
        ({"shapes": ("11", "11")}, r"shapes\[1\] must be another than those before it, got '11'"),
        ({"shapes": ("10", "01")}, "shapes must have one of the whole kernel"),
        ({"shapes": ()}, "shapes must be 1 to 255 shapes, got 0"),
        ({"group_filters": 0}, "group_filters must be an integer >= 1"),
    ],
)
def test_bad_shapes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RigidShapes(**{"group_filters": 1, "group_channels": 1, "keep": 0.5, **options})


def test_too_many_groups_are_refused() -> None:
    with pytest.raises(InputError, match=r"must leave at most 268435456 groups x positions that stay, got .* x 20000"):
        choose_shapes(np.zeros((40_000, 1)), np.array([1]), 20_000)
