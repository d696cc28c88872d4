"""Fault tolerance by mapping and pruning: its training and its curves in miniature, and the figures that ship."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import xbarsim as xb
from tests.experiments.papers.shipped import shipped
from tests.sweep.subjects import noise
from xbarsim.compress import Admm
from xbarsim.devices import POLARITIES, StuckFaults
from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.papers import islped2019
from xbarsim.experiments.papers import isqed2021 as script
from xbarsim.experiments.papers.isqed2021 import Study
from xbarsim.experiments.tolerance import Point, curves, factor, tolerance_table, tolerances
from xbarsim.mapping import Differential, TwoColumn
from xbarsim.models import MODELS, ZOO, load_images, load_model, load_zoo_file
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.results import Results
from xbarsim.training import Training, TrainingSet


def _curve(weights: str, encoding: str, accuracies: list[float], polarity: str = "mostly stuck on") -> list[Point]:
    return [
        Point(
            network="net", weights=weights, encoding=encoding, polarity=polarity, rate=rate, dies=50, images=100,
            accuracy=value, low=value - 1, high=value + 1, lost=90 - value,
        )
        for rate, value in zip((0.0, 0.001, 0.01, 0.1), accuracies, strict=True)
    ]  # fmt: skip


def _points() -> list[Point]:
    return [
        *_curve("dense", "TwoColumn", [90, 88, 60, 10]),
        *_curve("dense", "Differential", [90, 90, 88, 50]),
        *_curve("dense", "Balanced", [90, 89.5, 80, 30]),
        *_curve("pruned", "TwoColumn", [89.5, 88.5, 70, 15]),
        *_curve("pruned", "Differential", [89.5, 89.5, 89.5, 87.5]),
        *_curve("pruned", "Balanced", [88, 87, 60, 20]),
    ]


@pytest.mark.parametrize("name", script.STUDIES)
def test_settings(name: str) -> None:
    study = script.load_study(name)
    assert study.network == name
    assert study.dense in ("resnet20", "convnet-unpruned-9bit")
    assert list(study.ratios) == sorted(study.ratios)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(xb.InputError, match="network must be one of 'resnet20', 'convnet', 'resnet18', got 'vgg16'"):
        script.load_study("vgg16")


def test_design_has_the_papers_ratio_and_its_opposite() -> None:
    on, off = (script.design(TwoColumn(), preset, 0.01).faults for preset in POLARITIES)
    assert isinstance(on, StuckFaults)
    assert isinstance(off, StuckFaults)
    assert on.on / on.off == pytest.approx(9.04 / 1.75)
    assert (on.on, on.off) == pytest.approx((off.off, off.on))
    assert on.total == pytest.approx(0.01)
    assert script.design(TwoColumn(), "", 0.0).faults is None
    assert script.design(Differential(), "chen2015_sa0_hrs", 0.1).mapping.slices == 2


def test_tolerances_by_hand() -> None:
    found = {(one.weights, one.encoding, one.loss): one for one in tolerances(_points(), script.LOSSES)}
    # linear between a rate of 0 and the first, logarithmic from there
    assert found["dense", "TwoColumn", 1.0].rate == pytest.approx(0.0005)
    assert found["dense", "Differential", 1.0].rate == pytest.approx(0.001 * 10**0.5)
    assert found["dense", "Differential", 2.0].rate == pytest.approx(0.01)
    assert found["pruned", "Differential", 2.0].rate == pytest.approx(0.01 * 10 ** (1.5 / 2))
    assert found["pruned", "Balanced", 1.0].rate == 0
    assert found["dense", "Differential", 1.0].low == 0.001  # the lower end, a point below, begins at the target
    assert found["pruned", "Differential", 2.0].high == math.inf
    assert all(one.low <= one.rate <= one.high for one in found.values())


def test_tables_tell_what_buys_what() -> None:
    found = _points()
    tolerated = tolerances(found, script.LOSSES)
    row = next(line for line in script.ablation_table(tolerated).splitlines() if line.split()[4] == "1")
    # differential 6.3, balanced, pruning with two columns, pruning with differential, both
    rates = {(one.weights, one.encoding): one.rate for one in tolerated if one.loss == 1}
    base = rates["dense", "TwoColumn"]
    assert row.split()[5::2] == [
        f"{value:.1f}"
        for value in (
            rates["dense", "Differential"] / base,
            rates["dense", "Balanced"] / base,
            rates["pruned", "TwoColumn"] / base,
            rates["pruned", "Differential"] / rates["dense", "Differential"],
            rates["pruned", "Differential"] / base,
        )
    ]
    assert "> 0.1" in tolerance_table(tolerated, script.RATES[-1], first="mostly stuck on")
    text = script.paper_table(found).splitlines()
    assert text[2].split() == ["dense,", "TwoColumn", "1.2", "2.0"]
    assert text[3].split() == ["pruned,", "Differential", "0.2", "0.5"]
    assert "87.5" in script.accuracy_table(found)


@pytest.mark.parametrize(
    ("above", "below", "text"),
    [(0.02, 0.01, "2.0 x"), (0.0004, 0.01, "0.04 x"), (0.0, 0.01, "0 x"), (math.inf, 0.05, "> 2.0 x"),
     (0.05, math.inf, "< 0.5 x"), (0.01, 0.0, "-"), (math.inf, math.inf, "-")],
)  # fmt: skip
def test_factors_beyond_what_was_measured_are_bounds(above: float, below: float, text: str) -> None:
    assert factor(above, below, script.RATES[-1]) == text


def test_picture_has_a_panel_for_each_network_and_polarity() -> None:
    found = [*_points(), *(dataclasses.replace(p, polarity="mostly stuck off") for p in _points())]
    panels = script.picture(found).axes
    assert [axes.get_title() for axes in panels] == ["net, mostly stuck on", "net, mostly stuck off"]
    assert all(len(axes.lines) == 7 for axes in panels)
    assert panels[0].get_ylabel() == "accuracy on 100 CIFAR-10 images (%)"
    assert [axes.get_xlabel() for axes in panels] == ["probability that a cell is stuck"] * 2


def test_what_a_point_has_lost_by_hand() -> None:
    """Faults cost against the same network on the same images; pruning costs without faults on all images."""

    def measured(weights: str, rate: float, accuracy: float, images: int) -> Any:
        columns = {
            "study": "net", "weights": weights, "encoding": "TwoColumn", "polarity": "mostly stuck on",
            "fault_rate": rate,
        }  # fmt: skip
        interval = SimpleNamespace(estimate=accuracy, low=accuracy - 0.01, high=accuracy + 0.01)
        measured_die = SimpleNamespace(images=images)
        return SimpleNamespace(columns=columns, dies=[measured_die] * 2, mean=lambda: interval)

    whole: Any = SimpleNamespace(tasks=[measured("dense", 0.0, 0.90, 1000), measured("pruned", 0.0, 0.87, 1000)])
    curves: Any = SimpleNamespace(
        tasks=[
            measured("dense", 0.0, 0.95, 100),
            measured("pruned", 0.0, 0.96, 100),
            measured("dense", 0.1, 0.80, 100),
            measured("pruned", 0.1, 0.90, 100),
        ]
    )
    assert [point.lost for point in script.points(curves, whole)] == pytest.approx([0, 3, 15, 3 + 6])


def test_training_and_measuring_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled, labels, small = noise()

    def few(name: str, split: str, count: int | None = None) -> Any:
        return scaled[:count], labels[:count]

    monkeypatch.setattr(TrainingSet, "load", lambda name: small)
    monkeypatch.setattr(script, "load_images", few)
    short = Training(epochs=1, batch=32, learning_rate=0.01)
    whole = dataclasses.replace(islped2019.load_study("lenet5"), dense=short, quantising=short)
    monkeypatch.setattr(islped2019, "load_study", lambda name: whole)
    study = Study(
        network="lenet5",
        data_set="mnist",
        dense="lenet5-unpruned-9bit",
        layers=("features.*",),
        ratios=(0.4, 0.7),
        threshold=1.0,  # every step is kept, whatever it costs
        failure_rate=0.05,
        dies=2,
        images=16,
        method=Admm(rho=1e-2),
        pruning=short,
        retraining=short,
    )
    # the accuracy of noise means nothing: the steps are judged by how much is pruned
    judged = []

    def judge(*args: Any, dies: int, **kwargs: Any) -> Any:
        assert dies == 2
        judged.append(args)
        return lambda model: 1 - float(torch.count_nonzero(model.features[3].weight)) / 25_000

    monkeypatch.setattr(script, "faulty_accuracy", judge)
    found = script.train_study(study, tmp_path)
    assert [step.ratio for step in found.steps] == [0.4, 0.7]
    assert found.steps[-1].best
    assert judged[0][1].shape == (16, 1, 28, 28)
    script.complete_card(study, tmp_path)
    model, card = load_zoo_file(tmp_path / "lenet5-pruned-9bit.safetensors")
    layers = {name: part for name, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    kept = {name: int(torch.count_nonzero(part.weight)) for name, part in layers.items()}
    assert kept["features.3"] <= 7_500 < 1.02 * kept["features.3"]  # a weight that stays may lie on the level 0
    assert kept["classifier.1"] > 390_000  # not among the layers to prune
    assert card["weights_kept"] == sum(kept.values())
    assert card["test_images"] == 96
    # the same again, from its checkpoints
    again = script.train_study(study, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), found.model.parameters(), strict=True))

    # where every step is worse than the dense network, the best of them is stored
    monkeypatch.setattr(
        script,
        "faulty_accuracy",
        lambda *a, **k: lambda model: float(torch.count_nonzero(model.features[3].weight)) / 25_000,
    )
    worse = script.train_study(study, tmp_path)
    assert not any(step.best for step in worse.steps)
    model, card = load_zoo_file(tmp_path / "lenet5-pruned-9bit.safetensors")
    assert int(torch.count_nonzero(model.state_dict()["features.3.weight"])) > 14_000
    assert card["faulty_validation_accuracy"] < card["faulty_validation_accuracy_before"]

    every, sound, faulty = script.tasks(study, 8, folder=tmp_path, rates=(0.01, 0.2))
    assert (len(sound), len(faulty)) == (12, 24)
    chosen = [task for task in faulty if task.columns()["encoding"] != "Balanced"]
    results = Results(
        tasks=(
            *collect(sound, stop=1, workers=1, progress=False).tasks,
            *collect(chosen, stop=2, workers=1, progress=False).tasks,
        )
    )
    assert len(every) == 2
    all_images = collect(every, stop=1, workers=1, progress=False)
    assert {task.dies[0].images for task in all_images.tasks} == {96}
    points = script.points(results, all_images)
    assert {(p.weights, p.encoding, p.polarity) for p in points if p.rate} == {
        (w, e, p)
        for w in script.WEIGHTS
        for e in ("TwoColumn", "Differential")
        for p in ("mostly stuck on", "mostly stuck off")
    }
    assert {p.dies for p in points if p.rate} == {2}
    assert all(p.low == p.accuracy == p.high for p in points if not p.rate)
    without = {p.weights: p for p in points if not p.rate}
    assert without["dense"].lost == 0
    dense, pruned = (100 * task.mean().estimate for task in all_images.tasks)
    assert without["pruned"].lost == dense - pruned
    for point in points:
        fault_free = without[point.weights]
        assert point.lost - fault_free.lost == pytest.approx(fault_free.accuracy - point.accuracy)


def test_shipped_curves_are_complete() -> None:
    found = shipped(Point, "isqed2021.csv")
    assert {p.network for p in found} == set(script.STUDIES)
    grouped = curves(found)
    assert len(grouped) == 2 * 2 * 3 * 2
    for curve in grouped.values():
        assert [p.rate for p in curve] == [0.0, *script.RATES]
        assert all(p.dies >= 50 for p in curve[1:])
        assert all(p.low <= p.accuracy <= p.high for p in curve)
    with (FIGURES / "isqed2021_tolerance.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    again = [dataclasses.asdict(one) for one in tolerances(found, script.LOSSES)]
    assert [{name: str(value) for name, value in row.items()} for row in again] == rows


@pytest.mark.parametrize("name", ["isqed2021.csv", "isqed2021_large.csv"])
def test_shipped_curves_show_the_duality(name: str) -> None:
    """Two columns with one polarity are the complement of differential with the other: the same law, other dies."""
    found = {(p.network, p.weights, p.encoding, p.polarity, p.rate): p for p in shipped(Point, name)}
    for (network, weights, encoding, polarity, rate), one in found.items():
        if encoding == "TwoColumn":
            opposite = "mostly stuck off" if polarity == "mostly stuck on" else "mostly stuck on"
            other = found[network, weights, "Differential", opposite, rate]
            four_sigma = math.hypot(one.high - one.low, other.high - other.low)  # each about four standard errors wide
            assert abs(one.accuracy - other.accuracy) <= four_sigma


@pytest.mark.data
def test_shipped_pruned_network_without_faults_is_that_of_the_table() -> None:
    study = script.load_study("convnet")
    name = script.pruned_name(study)
    model, card = load_model(name)
    assert (ZOO / f"{name}.safetensors").exists()
    assert MODELS[name].accuracy == card.accuracy > 0.8
    point = next(
        p for p in shipped(Point, "isqed2021.csv") if (p.network, p.weights, p.rate) == ("convnet", "pruned", 0.0)
    )
    images, labels = load_images("cifar10", "test", count=point.images)
    calibration = load_images("cifar10", "train", count=256)[0]
    chip = xb.map_model(model, script.design(TwoColumn(), "", 0.0), calibration=calibration).fabricate(seed=0)
    assert 100 * xb.evaluate(chip, images, labels).accuracy == pytest.approx(point.accuracy)


def test_a_network_whose_weights_are_not_stored_asks_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(
        xb.InputError, match="train must be a folder for resnet18, whose weights are not stored, got None"
    ):
        script.main(network=["resnet18"], output=tmp_path)
