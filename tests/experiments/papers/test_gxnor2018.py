"""GXNOR-Net in miniature: training, storing, measuring, the table beside the published figures and the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xbarsim.compress import DiscreteStates, Levels, mappable_layers
from xbarsim.experiments.papers import gxnor2018
from xbarsim.experiments.papers.gxnor2018 import Row, load_study, measure, picture, table, train_row
from xbarsim.foundation.validation import InputError
from xbarsim.models import load_zoo_file
from xbarsim.training import Training, TrainingSet

ROWS = {row.name: row for row in load_study().rows}


def images(split: str, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright row whose place tells the class."""
    rng = np.random.default_rng(len(split))
    pixels = rng.integers(0, 120, (count, 1, 28, 28)).astype(np.uint8)
    labels = np.arange(count) % 10
    pixels[np.arange(count), 0, 2 * labels + 4] += 120
    return pixels, labels.astype(np.int64)


def data() -> TrainingSet:
    return TrainingSet.split("rows", *images("train"), validation=10, mean=(0.0,), standard_deviation=(1.0,))


def quick(name: str) -> Row:
    row = ROWS[name]
    return replace(row, training=replace(row.training, epochs=2, batch=10))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(data_set: str, split: str, *, count: int | None = None) -> Any:
        pixels, labels = images(split)
        return pixels[:count].astype(np.float32) / 255, labels[:count]

    monkeypatch.setattr(gxnor2018, "load_images", load)
    monkeypatch.setattr(gxnor2018, "_CHECKED", 4)


def test_networks_are_chosen_by_images_held_back_and_pairs_trained_for_as_long() -> None:
    assert {row.training.select for row in ROWS.values()} == {"best"}
    for one, other in (
        ("mnist-transitions-averaged", "mnist-straight-through"), ("cifar10-transitions", "cifar10-full-precision")
    ):  # fmt: skip
        assert ROWS[one].training.epochs == ROWS[other].training.epochs
    assert ROWS["mnist-transitions"].published == 99.32


@pytest.mark.parametrize("name", ["mnist-transitions", "mnist-straight-through", "mnist-full-precision"])
def test_a_network_is_trained_stored_and_measured(name: str, small: None, tmp_path: Path) -> None:
    row = quick(name)
    trained = train_row(row, tmp_path, data=data(), progress=False)
    stored, card = load_zoo_file(tmp_path / f"{name}.safetensors")
    assert card["epochs"] == 2
    for layer, module in mappable_layers(stored).items():
        weight = module.weight.detach()
        torch.testing.assert_close(weight, mappable_layers(trained)[layer].weight.detach(), rtol=1e-6, atol=0.0)
        if row.bits == 2:
            assert len({float(each) for each in weight.abs().flatten()}) <= 1 + len(weight)  # a scale an output
        if row.states is not None:
            assert {float(each) for each in weight.flatten()} <= {-1.0, 0.0, 1.0}
    before = (tmp_path / f"{name}.safetensors").read_bytes()
    train_row(row, tmp_path, data=data(), progress=False)  # nothing is left to do
    assert (tmp_path / f"{name}.safetensors").read_bytes() == before
    if row.levels is not None:
        return  # what is measured is the same
    found = measure(row, folder=tmp_path)
    assert (found.images, found.checked) == (20, 4)
    assert found.weights == 581_408
    assert found.low <= found.accuracy <= found.high
    if row.bits == 2:
        assert found.kappa == pytest.approx(1 / found.density, rel=1e-3)
        assert found.chip_narrow is not None
    else:
        assert found.kappa > 3
        assert found.chip_narrow is None
    assert f"{found.kappa:.2f}" in table([found])
    (axes,) = picture([found]).axes
    assert axes.get_title() == "mnist"
    assert f"epoch {found.kept}" in axes.get_xticklabels()[0].get_text()


def test_a_row_is_trained_in_one_way() -> None:
    with pytest.raises(InputError, match="levels must be None for weights that move between states"):
        Row(
            name="a", network="mnistnet", data_set="mnist", bits=2, training=Training(epochs=1),
            states=DiscreteStates(), levels=Levels(bits=2),
        )  # fmt: skip
