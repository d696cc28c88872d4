"""Classifiers that answer in an error-correcting code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import xbarsim as xb
from xbarsim.devices import Cell
from xbarsim.models import CodedClassifier, exhaustive_code, random_code
from xbarsim.training import Training, TrainingSet, train

CODE = random_code(5, 11, seed=1)


def places(code: np.ndarray[Any, Any], inputs: int = 12) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, code.shape[1]))


def distances(code: np.ndarray[Any, Any]) -> list[int]:
    return [int((code[i] != code[j]).sum()) for i in range(len(code)) for j in range(i)]


@pytest.mark.parametrize("classes", [3, 4, 7, 10])
def test_an_exhaustive_code_asks_every_question_once(classes: int) -> None:
    code = exhaustive_code(classes)
    assert code.shape == (classes, 2 ** (classes - 1) - 1)
    assert set(distances(code)) == {2 ** (classes - 2)}
    questions = {tuple(column * column[0]) for column in code.T}
    assert len(questions) == code.shape[1]
    assert tuple([1] * classes) not in questions


@pytest.mark.parametrize(("classes", "length"), [(10, 15), (10, 31), (5, 11), (2, 1)])
def test_words_of_a_random_code_are_far_apart(classes: int, length: int) -> None:
    code = random_code(classes, length, seed=7)
    assert code.shape == (classes, length)
    assert min(distances(code)) >= max(1, length // 2 - 1)
    assert (np.abs(code.sum(axis=0)) < classes).all()
    np.testing.assert_array_equal(code, random_code(classes, length, seed=7))


def test_a_code_that_cannot_be_is_refused() -> None:
    with pytest.raises(xb.InputError, match="length must leave words of 3 classes"):
        random_code(3, 8)  # there are only 3 questions
    with pytest.raises(xb.InputError, match=r"code must hold at least 2 words of \+1 and -1, all different"):
        CodedClassifier(nn.Identity(), np.ones((3, 4), dtype=np.int8))
    with pytest.raises(xb.InputError, match=r"network must give \(images, 11\), one output a place, got \(2, 4\)"):
        CodedClassifier(nn.Identity(), CODE)(torch.zeros(2, 4))


@given(seed=st.integers(0, 2**31), size=st.sampled_from([0.1, 1.0, 5.0]))
def test_training_logits_carry_the_binary_cross_entropy_and_its_gradient(seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = size * torch.randn((6, CODE.shape[1]), generator=generator, dtype=torch.float64)
    labels = torch.randint(len(CODE), (6,), generator=generator)
    coded = CodedClassifier(nn.Identity(), CODE).double()
    gradients, losses = [], []
    for loss in (
        lambda outputs: functional.cross_entropy(coded.train()(outputs), labels),
        lambda outputs: (
            functional.binary_cross_entropy_with_logits(outputs, (coded.code[labels] + 1) / 2, reduction="sum") / 6
        ),
    ):
        outputs = drawn.clone().requires_grad_()
        value: torch.Tensor = loss(outputs)  # type: ignore[no-untyped-call]
        torch.autograd.backward(value)
        losses.append(value.detach())
        gradients.append(outputs.grad)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


@given(data=st.data())
def test_half_the_distance_of_wrong_outputs_is_put_right(data: st.DataObject) -> None:
    """Up to (d - 1) // 2 outputs turned round, however sure they are: the others still outvote them."""
    code = random_code(10, 31, seed=2)
    right = (min(distances(code)) - 1) // 2
    wrong = data.draw(st.lists(st.integers(0, 30), max_size=right, unique=True))
    outputs = 20.0 * torch.from_numpy(code).float()
    outputs[:, wrong] *= -50.0
    assert right >= 6
    answers = CodedClassifier(nn.Identity(), code).eval()(outputs).argmax(dim=1)
    assert answers.tolist() == list(range(10))


def test_a_coded_classifier_learns_and_maps_like_any_network() -> None:
    rng = np.random.default_rng(0)
    centres = rng.integers(40, 216, (5, 12))
    labels = np.arange(600) % 5
    images = np.clip(centres[labels] + rng.normal(0, 25, (600, 12)), 0, 255).astype(np.uint8).reshape(600, 1, 3, 4)
    data = TrainingSet.split("blobs", images, labels, validation=100, mean=(0.0,), standard_deviation=(1.0,))
    model = CodedClassifier(places(CODE), CODE)
    history = train(model, data, Training(epochs=12, batch=20, learning_rate=0.05, device="cpu", momentum=0.5))
    assert history.validation_accuracy[-1] > 0.95
    samples = data.normalise(data.validation_images)
    design = xb.Design(cell=Cell(g_min=1e-6, g_max=1e-4, levels=16), periphery=xb.Periphery(input_bits=8))
    network = xb.map_model(model.eval(), design, calibration=samples)
    assert list(network.layers) == ["network.1", "network.3"]  # the words are not mapped
    scores = network.fabricate(seed=0)(samples)
    assert scores.shape == (100, 5)
    assert (scores.argmax(dim=1) == model(samples).argmax(dim=1)).float().mean() > 0.98
