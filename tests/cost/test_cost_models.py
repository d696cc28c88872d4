"""Architectures without stored weights, and published totals of networks pruned by others."""

from __future__ import annotations

import csv
import math
from typing import Any

import numpy as np
import pytest
import torch

from xbarsim.cost import Hardware
from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies import published_costs
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Mapping, map_matrix
from xbarsim.models import (
    ARCHITECTURES,
    MODELS,
    check_trained,
    load_model,
    load_test_set,
    resnet18,
    untrained_model,
    vgg16,
)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_architectures_agree_with_their_networks(name: str) -> None:
    before = torch.get_rng_state()
    model, card = untrained_model(name, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert sum(parameter.numel() for parameter in model.parameters()) == card.parameters
    assert not model.training
    with torch.inference_mode():
        assert model(torch.zeros(2, *card.input_shape)).shape == (2, card.classes)
    if name in MODELS:
        assert (MODELS[name].parameters, MODELS[name].input_shape) == (card.parameters, card.input_shape)
    again, other = (untrained_model(name, seed=seed)[0] for seed in (5, 6))
    first = next(iter(model.state_dict()))
    assert torch.equal(model.state_dict()[first], again.state_dict()[first])
    assert not torch.equal(model.state_dict()[first], other.state_dict()[first])


def test_multiply_accumulates_of_the_large_networks() -> None:
    """By hand: kernel area x channels x positions of each convolution."""
    expected = {"vgg16": 0, "resnet18": 0}
    size, inputs = 32, 3
    for stage in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
        for outputs in stage:
            expected["vgg16"] += 9 * inputs * outputs * size**2
            inputs = outputs
        size //= 2
    size, inputs = 32, 64
    expected["resnet18"] = 9 * 3 * 64 * size**2
    for outputs in (64, 128, 256, 512):
        if outputs > 64:
            size //= 2
            expected["resnet18"] += inputs * outputs * size**2  # the shortcut
        expected["resnet18"] += 9 * (inputs + 3 * outputs) * outputs * size**2
        inputs = outputs
    for name, build in (("vgg16", vgg16), ("resnet18", resnet18)):
        counted: list[int] = []

        def count(layer: Any, inputs: Any, output: Any, into: list[int] = counted) -> None:
            into.append(layer.weight.numel() * output.shape[2] * output.shape[3])

        with torch.device("meta"):
            model = build().eval()
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(count)
        model(torch.zeros(1, 3, 32, 32, device="meta"))
        assert sum(counted) == expected[name]
    assert expected == {"vgg16": 313_196_544, "resnet18": 555_417_600}


def test_an_architecture_has_no_accuracy() -> None:
    for ask in (load_model, load_test_set, check_trained):
        with pytest.raises(
            InputError, match=r"model must be one with stored weights .*got 'vgg16'.*xbarsim cost vgg16"
        ):
            ask("vgg16")
    known = "'digits', 'resnet20', 'resnet18', 'vgg16', 'lenet5', 'convnet', 'convnet-ternary', 'mnistnet' and 1"
    with pytest.raises(InputError, match=f"model must be one of {known} others, got 'x'"):
        untrained_model("x")
    with pytest.raises(InputError, match="seed must be an integer >= 0, got -1"):
        untrained_model("digits", seed=-1)
    with pytest.raises(InputError, match="num_classes must be"):
        resnet18(0)
    with pytest.raises(InputError, match="num_classes must be"):
        vgg16(0)


# ------------------------------------------------------------------- totals of networks pruned by others


def test_the_card_holds_the_fit() -> None:
    power, area, power_left, area_left = published_costs.fit()
    (component,) = Hardware.load("islped2019").levels[0].components
    assert component.power is not None
    assert component.area is not None
    assert component.power.si == pytest.approx(power, rel=1e-3)
    assert component.area.si == pytest.approx(area, rel=1e-3)
    assert power_left == pytest.approx(0.086, abs=0.0005)
    assert area_left == pytest.approx(0.074, abs=0.0005)


def test_published_totals_of_pruned_networks() -> None:
    rows = {(row.name, row.quantity): row for row in published_costs.anchors()}
    assert len(rows) == 14
    assert all(abs(row.deviation) < 0.087 for row in rows.values())
    assert rows["resnet18 5.83x", "power"].deviation == pytest.approx(-0.002, abs=0.0005)
    assert rows["vgg16 44.67x", "area"].deviation == pytest.approx(-0.038, abs=0.0005)


def test_published_relative_savings() -> None:
    rows = {(row.name, row.quantity): row for row in published_costs.savings()}
    for (name, quantity), row in rows.items():
        published = {"r area": 0.53, "r power": 0.64, "v area": 0.51, "v power": 0.48}[
            f"{name[0]} {quantity.split()[0]}"
        ]
        assert row.published == pytest.approx(published, abs=0.005)
        if "whole crossbars" in name:
            assert row.ours == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize("compression", [1.0, 5.83, 44.67])
def test_arrays_are_those_of_the_mapping(compression: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count of arrays from shapes against matrices really placed."""
    mapping = Mapping(rows=128, columns=64, weight_bits=9, cell_bits=4)  # 16 outputs an array
    shapes = published_costs.layer_shapes("resnet18")[:8]
    monkeypatch.setattr(published_costs, "layer_shapes", lambda network: shapes)
    placed = 0
    for inputs, outputs in shapes:
        codes = np.zeros((inputs, outputs), dtype=np.int16)
        codes[: math.ceil(inputs / math.sqrt(compression)), : math.ceil(outputs / math.sqrt(compression))] = 1
        placed += map_matrix(codes, mapping).tiles
    assert published_costs.arrays("resnet18", compression, mapping) == placed


def test_the_table_on_disk_is_the_one_computed() -> None:
    path = FIGURES / "published_costs.csv"
    with path.open(newline="") as file:
        stored = list(csv.DictReader(file))
    rows = [*published_costs.totals(), *published_costs.anchors(), *published_costs.savings()]
    assert len(stored) == len(rows)
    for old, row in zip(stored, rows, strict=True):
        assert (old["source"], old["name"], old["quantity"], old["note"]) == (
            row.source,
            row.name,
            row.quantity,
            row.note,
        )
        assert float(old["ours"]) == pytest.approx(row.ours, rel=1e-5)
        assert float(old["deviation"]) == pytest.approx(row.deviation, abs=2e-6)


def test_differential_mapping_draws_more_and_pruning_does_not_help_it() -> None:
    pytest.importorskip("sklearn")
    rows = {
        (row["device"], row["sparsity"], row["mapping"]): row
        for row in published_costs.differential(devices=["wan2022"])
    }
    cost = {key[1:]: row["cells_power_W"] for key, row in rows.items()}
    assert 3 < cost[0.0, "Differential"] / cost[0.0, "TwoColumn"] < 5
    assert 10 < cost[0.8, "Differential"] / cost[0.8, "TwoColumn"] < 14
    assert cost[0.8, "TwoColumn"] < cost[0.0, "TwoColumn"]
    assert cost[0.8, "Differential"] > cost[0.0, "Differential"]


def test_the_picture_shows_every_row() -> None:
    rows = published_costs.totals()
    (axes,) = published_costs.picture(rows).axes
    assert len(axes.get_yticks()) == len(rows)
