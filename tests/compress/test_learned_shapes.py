"""Kernel shapes: the structure by brute force, effects by hand, and shapes that are found where they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from xbarsim.compress import (
    KernelShapes,
    LayerRule,
    LearnedShapes,
    Recipe,
    Unstructured,
    gemm_view,
    kept_count,
    prune,
)
from xbarsim.compress.methods.learned_shapes import _Shaped, _step
from xbarsim.foundation.validation import InputError
from xbarsim.testing import check_method, check_target
from xbarsim.training import Training, TrainingSet

SHAPES = KernelShapes(kernel=9, group_filters=4, group_channels=2, keep=0.4)


@pytest.mark.parametrize(
    "target",
    [
        KernelShapes(kernel=3, group_filters=2, group_channels=2, keep=0.5),
        KernelShapes(kernel=4, group_filters=12, group_channels=1, keep=0.2),
    ],
)
def test_it_keeps_the_promises_of_a_target(target: KernelShapes) -> None:
    check_target(target)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 3), st.floats(0.05, 1.0))
def test_all_weights_of_a_position_and_a_group_go_together(seed: int, filters: int, channels: int, keep: float) -> None:
    matrix = torch.randn(7, 5 * 4, generator=torch.Generator().manual_seed(seed))
    target = KernelShapes(kernel=4, group_filters=filters, group_channels=channels, keep=keep)
    mask = target.mask(matrix)
    kept, groups = 0, 0
    for top in range(0, 7, filters):
        for left in range(0, 5, channels):
            for place in range(4):
                columns = [4 * channel + place for channel in range(left, min(left + channels, 5))]
                part = mask[top : top + filters][:, columns]
                assert part.all() or not part.any()
                kept, groups = kept + bool(part.all()), groups + 1
    assert kept == kept_count(keep, groups)


def test_the_nearest_by_brute_force() -> None:
    matrix = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = KernelShapes(kernel=3, group_filters=2, group_channels=1, keep=0.5)
    groups, sizes = target.groups((4, 6))
    assert sizes.tolist() == [2] * 12
    held = max(
        float(matrix[torch.isin(groups, torch.tensor(chosen))].square().sum())
        for chosen in itertools.combinations(range(12), 6)
    )
    assert float(matrix[target.mask(matrix)].square().sum()) == pytest.approx(held, rel=1e-12)


def test_gradients_pass_the_step_and_a_tenth_of_them_far_from_it() -> None:
    effects = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], requires_grad=True)
    gate = _step(effects)
    assert gate.tolist() == [0, 0, 0, 1, 1]
    (gate * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert effects.grad is not None
    torch.testing.assert_close(effects.grad, torch.tensor([0.1, 2.0, 3.0, 4.0, 0.5]))


def test_in_the_warm_up_a_filter_computes_with_its_mask_by_chance() -> None:
    groups, sizes = SHAPES.groups((400, 18))
    module = _Shaped(groups, sizes, -torch.ones(len(sizes)), (0, 0))
    module.chance = 0.3
    weight = torch.ones(400, 2, 3, 3)
    masked = (module(weight).flatten(1) == 0).all(dim=1)
    assert (module(weight).flatten(1) == 0).any(dim=1).equal(masked)  # the whole filter or nothing of it
    assert 80 < int(masked.sum()) < 160
    assert torch.equal(module(weight), module(weight))  # drawn by the number of the step
    module.step = 1
    assert not torch.equal((module(weight).flatten(1) == 0).all(dim=1), masked)
    module.eval()
    assert not module(weight).any()
    module.chance, module.frozen = 1.0, True
    assert torch.equal(module(weight), weight)


def test_it_keeps_the_promises_of_a_method() -> None:
    shapes = tuple(
        LayerRule(layers=(layer,), targets=(KernelShapes(kernel=9, group_filters=2, group_channels=2, keep=keep),))
        for layer, keep in (("0", 0.5), ("3", 0.25))
    )
    check_method(LearnedShapes(learn=3, warm_up=2, seed=4), recipe=Recipe(rules=shapes), epochs=5)


def crosses(images: int) -> TrainingSet:
    """Whether the bright line of a picture goes along or across; the rest of it is noise."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, images)
    pixels = rng.integers(0, 120, (images, 1, 6, 6))
    for image, label, line in zip(pixels, labels, rng.integers(0, 6, images), strict=True):
        image[0, line, :] += 100 * label
        image[0, :, line] += 100 * (1 - label)
    return TrainingSet.split(
        "lines", pixels.astype(np.uint8), labels, validation=images // 4, mean=(0.3,), standard_deviation=(0.2,)
    )


def test_it_finds_the_positions_that_matter() -> None:
    """With a third of the positions, those along a line: the rows or columns of the kernel, not any three."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2)
        )
    target = KernelShapes(kernel=9, group_filters=2, group_channels=1, keep=1 / 3)
    recipe = Recipe(rules=(LayerRule(layers=("0",), targets=(target,)),))
    training = Training(epochs=20, batch=32, learning_rate=0.05, device="cpu", weight_decay=0.0, seed=2)
    data = crosses(1600)
    learnt = prune(model, recipe, data, training, method=LearnedShapes(learn=10, warm_up=5), progress=False)
    mask = gemm_view(learnt.masks["0"])
    assert int(mask.sum()) == kept_count(1 / 3, 18) * 2
    with torch.no_grad():
        answers = learnt.model(data.normalise(data.validation_images)).argmax(dim=1)
    assert float((answers == data.validation_labels).float().mean()) > 0.9
    assert learnt.model.state_dict().keys() == model.state_dict().keys()


def test_other_targets_are_refused() -> None:
    other = Recipe(rules=(LayerRule(layers=("*",), targets=(Unstructured(keep=0.5),)),))
    with pytest.raises(InputError, match=r"rules\[0\]\.targets must be one KernelShapes or RigidShapes, got"):
        LearnedShapes(learn=1).callback(other)
    with pytest.raises(InputError, match="learn must be an integer < 2"):
        prune(
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 2)),
            Recipe(rules=(LayerRule(layers=("0",), targets=(SHAPES,)),)),
            crosses(40),
            Training(epochs=2, batch=8, device="cpu"),
            method=LearnedShapes(learn=2),
            progress=False,
        )
