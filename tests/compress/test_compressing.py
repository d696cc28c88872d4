"""Prune, hold, retrain: from a trained network to one whose weights are few and on levels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import xbarsim as xb
from tests.training.squares import data, network, same
from xbarsim.compress import (
    Admm,
    Columns,
    Filters,
    Injection,
    LayerRule,
    Levels,
    Magnitude,
    Method,
    Recipe,
    Reweighted,
    compress,
    prune,
    retrain,
)
from xbarsim.devices import Cell, StuckFaults
from xbarsim.mapping import Mapping, quantise
from xbarsim.training import Training, train

QUICK = Training(epochs=2, batch=16, learning_rate=0.05, device="cpu", seed=3)
RECIPE = Recipe(
    rules=(
        LayerRule(layers=("0",), targets=(Filters(keep=0.5),), levels=Levels(bits=5, zero=False)),
        LayerRule(layers=("6",), targets=(Columns(keep=0.25),), levels=Levels(bits=4)),
    )
)


def trained() -> nn.Module:
    made = network(dropout=0.0)
    train(made, data(), dataclasses.replace(QUICK, epochs=4))
    return made


def weight(model: nn.Module, name: str) -> torch.Tensor:
    found = model.get_submodule(name).weight
    assert isinstance(found, torch.Tensor)
    return found.detach()


@pytest.mark.parametrize("method", [Magnitude(), Magnitude(steps=2), Admm(rho=0.1), Reweighted(strength=1e-3, every=1)])
def test_a_compressed_network_is_what_its_recipe_says(method: Method) -> None:
    model = trained()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = compress(model, RECIPE, data(), pruning=QUICK, retraining=QUICK, method=method)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())  # not changed
    assert set(found.masks) == {"0", "6"}
    first, last = weight(found.model, "0").flatten(1), weight(found.model, "6")
    assert int((first != 0).any(dim=1).sum()) == 3
    assert torch.equal(first != 0, found.masks["0"].flatten(1))  # no level is zero
    assert int((last != 0).any(dim=0).sum()) <= 24
    assert not last[~found.masks["6"]].any()
    for matrix, bits in ((first, 5), (last, 4)):
        held = quantise(matrix.T.numpy(), bits=bits)
        np.testing.assert_allclose(held.dequantise(), matrix.T.numpy(), rtol=1e-6)
    assert found.pruning is not None
    assert found.retraining is not None
    assert not found.model.training
    again = compress(model, RECIPE, data(), pruning=QUICK, retraining=QUICK, method=method)
    assert same(found.model, again.model)


def test_mapping_it_frees_cells_and_keeps_its_answers() -> None:
    """The chip holds the compressed network's own codes, in fewer cells, and answers as its digital network does."""
    model = trained()
    found = compress(model, RECIPE, data(), pruning=QUICK, retraining=QUICK)
    images = torch.rand((8, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    design = xb.Design(
        cell=Cell.load("islped2019").without_errors(),
        mapping=Mapping(rows=8, columns=8, weight_bits=5, cell_bits=4),
        periphery=xb.Periphery(input_bits=8, adc_range="lossless"),
    )
    many, few = (xb.map_model(one, design, calibration=images) for one in (model, found.model))
    assert torch.equal(few.fabricate(seed=1)(images), few.digital(images))
    used = {name: mapped.matrix.cells_used for name, mapped in few.layers.items()}
    assert used["0"] == 9 * 3 * 2
    assert used["6"] <= 24 * 4 * 2
    assert few.tiles < many.tiles
    before, after = many.cost(), few.cost()
    assert after.area < before.area
    assert after.power < before.power


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained()
    whole = compress(model, RECIPE, data(), pruning=QUICK, retraining=QUICK, method=Admm(), folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"pruning.safetensors", "retraining.safetensors"}
    (tmp_path / "retraining.safetensors").unlink()  # as if it had ended before

    def refuse(self: object, display: object) -> None:
        raise AssertionError("trained again")

    again = compress(model, RECIPE, data(), pruning=QUICK, retraining=QUICK, method=Admm(), folder=tmp_path)
    assert same(whole.model, again.model)
    monkeypatch.setattr("xbarsim.training.trainer.Run.epoch", refuse)
    third = compress(model, RECIPE, data(), pruning=QUICK, retraining=QUICK, method=Admm(), folder=tmp_path)
    assert same(whole.model, third.model)
    other = dataclasses.replace(QUICK, learning_rate=0.01)
    with pytest.raises(xb.InputError, match="checkpoint"):
        compress(model, RECIPE, data(), pruning=QUICK, retraining=other, method=Admm(), folder=tmp_path)


def test_training_with_broken_cells_makes_faulty_dies_better() -> None:
    """Fresh dies at every step: what is learnt holds for dies that were never seen."""
    model = trained()
    design = xb.Design(
        cell=Cell.load("islped2019").without_errors(),
        mapping=Mapping(rows=64, columns=64, weight_bits=5, cell_bits=4),
        periphery=xb.Periphery(input_bits=8),
        faults=StuckFaults(on=0.25, off=0.0),
    )
    longer = dataclasses.replace(QUICK, epochs=6)
    plain = retrain(model, data(), longer, masks={}).model
    hard = retrain(model, data(), longer, masks={}, injection=Injection(design=design, seed=1)).model
    held = data()
    images = (held.validation_images.float() / 255 - 0.3) / 0.2
    labels = held.validation_labels.numpy()

    def accuracy(one: nn.Module) -> float:
        mapped = xb.map_model(one, design, calibration=images)
        chips = [mapped.fabricate(seed=seed) for seed in range(12)]
        return float(np.mean([xb.evaluate(chip, images, labels, progress=False).accuracy for chip in chips]))

    assert accuracy(hard) > accuracy(plain) + 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda model: compress(model, RECIPE, data(), retraining=QUICK),
            "pruning must be given for a recipe that prunes",
        ),
        (
            lambda model: prune(
                model,
                Recipe(rules=(LayerRule(layers=("*",), levels=Levels(bits=4)),)),
                data(),
                QUICK,
                method=Magnitude(),
            ),
            "recipe must have a target to prune, got none",
        ),
        (lambda model: compress(model, "recipe", data(), retraining=QUICK), "recipe must be"),  # type: ignore[arg-type]
        (
            lambda model: retrain(model, data(), QUICK, masks={"5": torch.ones(3, dtype=torch.bool)}),
            "layers must be names of layers with a weight, got '5'",
        ),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(xb.InputError, match=message):
        call(network())
