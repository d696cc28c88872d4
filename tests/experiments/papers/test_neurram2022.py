"""The NeuRRAM chip in miniature: noise against the authors' law, causes one by one, tables and picture."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xbarsim as xb
from xbarsim.data import data_file
from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.papers import neurram2022 as script
from xbarsim.experiments.papers.neurram2022 import CAUSES, LEVELS, design, measure_chip, measure_noise, picture
from xbarsim.foundation.validation import InputError
from xbarsim.models import NeuRRAMMnistNet, load_neurram_network
from xbarsim.testing import check_paper

MNIST = "7 layers, MNIST"


@pytest.fixture(autouse=True)
def _few_images_one_thread_and_the_data(monkeypatch: pytest.MonkeyPatch) -> Any:
    try:
        data_file("neurram", "authors_tables.csv")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    load = script._images
    monkeypatch.setattr(script, "_images", lambda data_set, split, count: load(data_set, split, min(count or 200, 200)))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.data
def test_it_keeps_the_promises_of_a_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "NETWORKS", {MNIST: script.NETWORKS[MNIST]})
    monkeypatch.setattr(measure_chip, "__kwdefaults__", {"networks": (MNIST,)})
    few = list(script._stages())[:3]  # all of them below
    monkeypatch.setattr(script, "_stages", lambda: few)
    check_paper(sys.modules[script.__name__], images=20, dies=2, part=["chip"])


@pytest.mark.data
def test_noise_is_gaussian_of_the_largest_weight_and_leaves_biases_alone() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(8, 64, 3), torch.nn.Linear(500, 40))
    noisy, again = (script._noisy(model, 0.1, torch.Generator().manual_seed(1)).state_dict() for _ in range(2))
    for layer in ("0", "1"):
        before = model.state_dict()[f"{layer}.weight"]
        assert torch.equal(model.state_dict()[f"{layer}.bias"], noisy[f"{layer}.bias"])
        change = (noisy[f"{layer}.weight"] - before) / before.abs().max()
        count = change.numel()
        assert abs(float(change.mean())) < 5 * 0.1 / count**0.5  # one in 1.7 million by chance
        assert float(change.std()) == pytest.approx(0.1, abs=5 * 0.1 / (2 * count) ** 0.5)
    assert all(torch.equal(noisy[name], again[name]) for name in noisy)


@pytest.mark.data
def test_noise_in_training_helps_against_noise_in_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "LEVELS", (0.0, 0.15))
    rows = measure_noise(images=160, draws=4)
    assert [row["draws"] for row in rows] == [1, 4, 1, 4]
    clean, spoilt, _, held = (row["accuracy"] for row in rows)
    assert clean > 80
    assert held > spoilt + 20
    assert [row["published"] for row in rows] == [87.25, 12.21, 87.58, 81.37]


@pytest.mark.data
def test_causes_come_one_after_another_and_a_die_more_has_a_wider_interval_than_the_mean() -> None:
    rows = measure_chip(images=60, dies=2, networks=[MNIST])
    assert [row["cause"] for row in rows] == list(CAUSES)
    assert [row["dies"] for row in rows] == [1, 1, 1, 2, 2, 2, 2, 2]
    assert all(row["accuracy"] > 90 for row in rows[:4])
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in rows)
    one = script._row("n", "c", [0.8, 0.9], 85.0)  # Student's 12.706 for two, spread 0.0707, root of 1.5
    assert one["high"] - one["accuracy"] == pytest.approx(100 * 12.706 * 0.070711 * 1.5**0.5, abs=0.02)
    assert len(picture([], rows).axes) == 1


@pytest.mark.data
def test_layers_take_three_bits_in_one_plane_and_nothing_is_lost_but_by_weights() -> None:
    accelerator = design(bits=None, errors=False)
    assert (accelerator.mapping.weight_bits, accelerator.cell.levels) == (9, 256)
    images, _ = script._images("mnist", "train", 100)
    model = load_neurram_network("mnist_0.15")
    assert isinstance(model, NeuRRAMMnistNet)
    mapped = xb.map_model(model, accelerator, calibration=images)
    assert {(each.layer.input_bits, each.drive.planes) for each in mapped.layers.values()} == {(3, 1)}
    first = mapped.layers["convs.0"].layer
    driven = model.image(images).numpy()
    codes = first.quantise(first.as_maps(driven))
    assert float(np.abs(codes * first.input_scale - driven).max()) < 1e-6


def test_draws_that_do_not_fill_the_parts_are_refused() -> None:
    with pytest.raises(InputError, match="draws must be a multiple of the 4 parts"):
        measure_noise(images=4, draws=5)


def test_shipped_tables_are_those_that_the_picture_shows() -> None:
    tables = {}
    for part in script.PARTS:
        path = FIGURES / f"neurram2022_{part}.csv"
        with Path(path).open(newline="") as file:
            text = list(csv.DictReader(file))
        tables[part] = script._stored(path)
        assert [{key: str(value) for key, value in row.items()} for row in tables[part]] == text
    assert {(row["trained with"], row["tested with"]) for row in tables["noise"]} == {
        (a, b) for a in LEVELS for b in LEVELS
    }
    assert len(picture(tables["noise"], tables["chip"]).axes) == 3
