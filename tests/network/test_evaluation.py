from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

import xbarsim as xb
from tests.strategies import relaxed
from xbarsim.devices import Cell
from xbarsim.foundation.validation import InputError
from xbarsim.network.evaluation import Evaluation


class Argmax(nn.Module):
    """Takes its images for logits; keeps the size of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        return x


def scores(count: int = 23, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).random((count, 5), dtype=np.float32)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_counts_what_is_right(batch_size: int) -> None:
    images, model = scores(), Argmax()
    labels = images.argmax(axis=1)
    labels[:4] = (labels[:4] + 1) % 5
    result = xb.evaluate(model, images, labels, batch_size=batch_size)
    assert (result.correct, result.images) == (19, 23)
    assert result.accuracy == 19 / 23
    assert result.predictions == tuple(images.argmax(axis=1).tolist())
    assert sum(model.batches) == 23
    assert max(model.batches) == min(batch_size, 23)
    assert result.seconds >= 0
    low, high = result.interval()
    assert "82.61%" in str(result)
    assert f"{low:.2%} to {high:.2%}" in str(result)


def test_takes_tensors_and_arrays() -> None:
    images = scores()
    labels = images.argmax(axis=1)
    for given_labels in (labels, torch.from_numpy(labels), labels.tolist(), labels.astype(np.uint8)):
        assert xb.evaluate(Argmax(), torch.from_numpy(images), given_labels).accuracy == 1.0


@relaxed
@given(images=st.integers(1, 300), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_interval_is_clopper_and_pearsons(images: int, share: float, confidence: float) -> None:
    correct = round(share * images)
    result = Evaluation(correct=correct, images=images, predictions=(), seconds=0.0)
    low, high = result.interval(confidence)
    assert low <= result.accuracy <= high
    tail = (1 - confidence) / 2  # the definition: at either end the observation is just this improbable
    if correct == 0:
        assert low == 0
    else:
        assert stats.binom.sf(correct - 1, images, low) == pytest.approx(tail, rel=1e-6)
    if correct == images:
        assert high == 1
    else:
        assert stats.binom.cdf(correct, images, high) == pytest.approx(tail, rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(22, int), r"labels must be as many as images \(23\), got 22"),
        (np.zeros(23), "labels must be integers, one for each answer, got float64"),
        (np.zeros((23, 5), int), r"labels must have shape \(23,\), one for each answer, got \(23, 5\)"),
        (np.zeros(23, bool), "labels must be integers, one for each answer, got bool"),
        (np.array(["cat"] * 23), "labels must be integers, one for each answer"),
        (3, "labels must be integers, one for each answer"),
        ([], "labels must be "),
    ],
)
def test_labels_that_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        xb.evaluate(Argmax(), scores(), labels)


def test_images_that_are_refused() -> None:
    labels = np.zeros(3, int)
    for images, message in (
        (np.zeros((0, 5), np.float32), "images must be a non-empty batch"),
        (np.zeros(3, np.float32), "images must be a non-empty batch"),
        (np.zeros((3, 5), np.uint8), "images must be floating numbers"),
        (np.full((3, 5), np.nan), "images must be finite"),
    ):
        with pytest.raises(InputError, match=message):
            xb.evaluate(Argmax(), images, labels)
    for batch_size in (0, -1, 2.0):
        with pytest.raises(InputError, match="batch_size must be an integer"):
            xb.evaluate(Argmax(), scores(3), labels, batch_size=batch_size)  # type: ignore[arg-type]


def test_a_chip_knows_its_images() -> None:
    design = xb.Design(cell=Cell.load("islped2019"), mapping=xb.Mapping(rows=8, columns=8))
    network = xb.map_model(nn.Linear(5, 3), design, calibration=scores())
    chip = network.fabricate(seed=1)
    labels = np.zeros(4, int)
    with pytest.raises(InputError, match=r"inputs of layer '' must be a batch with 5 features, got shape \(4, 6\)"):
        xb.evaluate(chip, np.zeros((4, 6), np.float32), labels)
    assert xb.evaluate(chip, scores(), np.zeros(23, int)).predictions == (
        xb.evaluate(network.digital, scores(), np.zeros(23, int)).predictions
    )


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    xb.evaluate(Argmax(), scores(), np.zeros(23, int))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
