"""Training that follows a teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import xbarsim as xb
from tests.training.squares import data
from xbarsim.compress import Distillation
from xbarsim.training import Training, train


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        images = data().images
        return nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 8), nn.Dropout(0.5), nn.Linear(8, 4))


def test_the_term_is_the_divergence_of_softened_answers() -> None:
    teacher, student = network(1), network(2)
    images = data().normalise(data().images[:10])
    distillation = Distillation(teacher, weight=0.5, temperature=3.0)
    distillation.start(student, 1)
    student.eval()
    student(images)
    assert distillation.penalty() is None  # validation adds nothing
    student.train()
    logits = student(images)
    term = distillation.penalty()
    assert term is not None
    wanted = functional.softmax(teacher.eval()(images) / 3, dim=1)
    found = functional.softmax(logits / 3, dim=1)
    by_hand = 0.5 * 9 * (wanted * (wanted / found).log()).sum(dim=1).mean()
    torch.testing.assert_close(term, by_hand)
    assert distillation.penalty() is None
    torch.autograd.backward(term)
    assert all(parameter.grad is None for parameter in distillation.teacher.parameters())
    distillation.finish()
    student(images)
    assert distillation.penalty() is None


def test_a_student_comes_nearer_to_its_teacher_than_labels_bring_it(tmp_path: Path) -> None:
    teacher = network(1)
    images = data().normalise(data().images)
    training = Training(epochs=6, batch=10, learning_rate=0.05, device="cpu")
    wanted = teacher.eval()(images).softmax(dim=1)
    off = []
    for weight in (0.0, 5.0):
        student = network(2)
        train(student, data(), training, callbacks=(Distillation(teacher, weight=weight),), checkpoint=None)
        off.append(float((student(images).softmax(dim=1) - wanted).abs().mean().detach()))
    assert off[1] < 0.7 * off[0]
    settings = {Distillation(network(seed), weight=weight).settings() for seed in (1, 2) for weight in (1.0, 2.0)}
    assert len(settings) == 4


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(xb.InputError, match=r"temperature must be .* 0\.0"):
        Distillation(network(1), temperature=0.0)
    with pytest.raises(xb.InputError, match=r"weight must be .* -1"):
        Distillation(network(1), weight=-1.0)
