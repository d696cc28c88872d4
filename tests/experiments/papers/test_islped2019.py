"""The table of the ISLPED 2019 paper: its settings, its trainings in miniature, and the networks that ship."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import xbarsim as xb
from tests.sweep.subjects import noise
from xbarsim.compress import Compressed, prune, retrain
from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.papers import islped2019 as script
from xbarsim.models import MODELS, ZOO, load_images, load_model, load_zoo_file, read_card, untrained_model
from xbarsim.training import Training, TrainingSet


@pytest.mark.parametrize("name", script.LARGE)
def test_recipes_of_large_networks_prune_as_much_as_published(name: str) -> None:
    study = script.load_study(name)
    with torch.random.fork_rng(devices=[]):
        model, _ = untrained_model(name)
    for row in study.rows:
        masks = row.recipe.masks(model)
        kept = sum(int(mask.sum()) for mask in masks.values())
        convolutions = {
            layer: module.weight.numel() for layer, module in model.named_modules() if isinstance(module, nn.Conv2d)
        }
        left = sum(count for layer, count in convolutions.items() if layer not in masks)
        assert set(masks) <= set(convolutions)
        assert sum(convolutions.values()) / (kept + left) == pytest.approx(row.ratio, rel=0.01)


@pytest.mark.parametrize("name", script.STUDIES)
def test_rows_are_compressed_at_least_as_published(name: str) -> None:
    study = script.load_study(name)
    model, _ = untrained_model(name)
    weights = {key: part.weight for key, part in model.named_modules() if isinstance(part, nn.Conv2d)}
    total = sum(weight.numel() for weight in weights.values())
    for row in study.rows:
        masks = row.recipe.masks(model)
        kept = sum(int(masks[key].sum()) if key in masks else weight.numel() for key, weight in weights.items())
        if row.ratio is not None:
            assert row.ratio <= total / kept < 1.05 * row.ratio
        assert (row.ratio is None) == (row.published is None)
        assert row.name == f"{total / kept:.{len(row.name.partition('.')[2]) - 1 if '.' in row.name else 0}f}x"
    assert len({row.name for row in study.rows}) == len(study.rows)
    assert sum(row.ratio is not None for row in study.rows) == 3
    assert study.network == name


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(xb.InputError, match="network must be one of 'lenet5', 'convnet', 'vgg16', 'resnet18', got 'a'"):
        script.load_study("a")


def test_training_and_measuring_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled, labels, small = noise()
    monkeypatch.setattr(TrainingSet, "load", lambda name: small)
    monkeypatch.setattr(script, "load_images", lambda name, split, count: (scaled[:count], labels[:count]))
    monkeypatch.setattr(script, "BITS", (9, 5))
    study = script.load_study("lenet5")

    def short(training: Training) -> Training:
        return dataclasses.replace(training, epochs=1, batch=32, warm_up=0.0)

    row = dataclasses.replace(study.rows[-1], published=(98.33, 98.23))  # type: ignore[arg-type]
    study = dataclasses.replace(
        study,
        rows=(row,),
        dense=short(study.dense),
        pruning=short(study.pruning),
        retraining=short(study.retraining),
        quantising=short(study.quantising),
    )
    script.train_study(study, tmp_path)
    found = script.measure(study, folder=tmp_path, images=60)
    script.complete_cards(tmp_path, found, study)
    assert [(one.row, one.bits, one.images, one.checked) for one in found] == [
        ("", 9, 60, 1),
        ("106x", 9, 60, 1),
        ("106x", 5, 60, 1),
    ]
    dense, nine, five = found
    assert dense.area_saved == dense.power_saved == 0
    assert dense.ratio == dense.whole_ratio == 1
    assert nine.ratio == five.ratio == 25_500 / 240
    # 9 bits take two slices of 4 bits, 5 bits one: the columns, and nearly the arrays, halve.
    assert 0.45 < (100 - five.area_saved) / (100 - nine.area_saved) < 0.6
    assert 90 < nine.area_saved < five.area_saved < 100
    model, card = load_zoo_file(tmp_path / "lenet5-106x-5bit.safetensors")
    assert card["accuracy_simulator"] == five.accuracy / 100
    assert card["weights_kept"] == sum(
        int(torch.count_nonzero(part.weight)) for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear)
    )
    assert "106.25 x fewer weights in convolutions" in str(card["compression"])
    text = script.table(found)
    assert "106.25" in text
    axes = script.picture(found).axes
    assert [ax.get_title() for ax in axes] == ["lenet5"]
    legend = axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][1:] == [
        "published: 99.17 %",
        "published: 105.5 x",
        "106.2 x",
    ]
    # a large network without its unpruned weights has no row of it, and saves as much against its shape
    monkeypatch.setattr(script, "LARGE", ("lenet5",))
    whole = script.measure(study, folder=tmp_path, images=2)
    (tmp_path / "lenet5-unpruned-9bit.safetensors").unlink()
    assert script.measure(study, folder=tmp_path, images=2) == whole[1:]
    legend = script.picture(whole[1:]).axes[0].get_legend()
    assert legend is not None
    assert not any("unpruned" in text.get_text() for text in legend.get_texts())


def test_rows_that_go_on_from_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row begins where the one before ended, with seeds and checkpoints of its own."""
    _, _, small = noise()
    monkeypatch.setattr(TrainingSet, "load", lambda name: small)
    monkeypatch.setattr(script, "BITS", (9, 5))
    study = script.load_study("lenet5")
    short = dataclasses.replace(study.dense, epochs=1, batch=32, warm_up=0.0, learning_rate=0.01)
    study = dataclasses.replace(
        study,
        # names that are the same up to their point
        rows=tuple(dataclasses.replace(study.rows[0], name=name) for name in ("2.4x", "2.9x")),
        dense=short, pruning=short, retraining=short, quantising=short, progressive=True,
    )  # fmt: skip
    calls: list[tuple[str, torch.Tensor, torch.Tensor, int]] = []

    def recorded(stage: Callable[..., Compressed]) -> Callable[..., Compressed]:
        def call(model: nn.Module, *settings: Any, **options: Any) -> Compressed:
            before = model.state_dict()["classifier.1.weight"].clone()
            found = stage(model, *settings, **options)
            after = found.model.state_dict()["classifier.1.weight"].clone()
            training = next(item for item in settings if isinstance(item, Training))
            calls.append((options["checkpoint"].name, before, after, training.seed))
            return found

        return call

    monkeypatch.setattr(script, "prune", recorded(prune))
    monkeypatch.setattr(script, "retrain", recorded(retrain))
    script.train_study(study, tmp_path)
    names, before, after, seeds = zip(*calls[1:], strict=True)  # the first is the unpruned network
    stages = ("pruning", "9bit", "5bit")
    assert names == tuple(f"lenet5-{row}.{stage}.safetensors" for row in ("2.4x", "2.9x") for stage in stages)
    assert all((tmp_path / "checkpoints" / name).exists() for name in names)
    # by kind of training, for they are other trainings anyway
    assert [seed - short.seed for seed in seeds] == [0, 0, 0, 10, 10, 20]
    for stage, origin in ((1, 0), (2, 1), (3, 1), (4, 3), (5, 4)):  # the second row goes on from 9 bits of the first
        assert torch.equal(before[stage], after[origin])


def _measured(row: str, bits: int, ratio: float, accuracy: float, published: float | None) -> script.Measured:
    return script.Measured(
        network="net", row=row, bits=bits, published_ratio=None, published=published, ratio=ratio, whole_ratio=ratio,
        accuracy=accuracy, float_accuracy=accuracy, images=1000, checked=20, area=1.0, power=1.0, tiles=1,
    )  # fmt: skip


def test_the_highest_compression_without_loss() -> None:
    dense = _measured("", 9, 1.0, 95.0, 90.0)
    rows = [
        _measured("2x", 9, 2.0, 95.0, 89.0),
        _measured("2x", 5, 2.0, 95.1, 89.0),
        _measured("4x", 9, 4.0, 90.0, None),
        _measured("4x", 5, 4.0, 89.9, None),
    ]
    assert script.without_loss([dense, *rows]).splitlines() == [
        "net: no worse than the published unpruned network (90.00 %) up to 4.00 x at 9 bits",
        "net: no worse than ours (95.00 %) up to 2.00 x at 5 bits",
    ]
    assert "at no compression" in script.without_loss([dense, rows[3]])
    assert script.table([dense, *rows]).splitlines()[-1].split()[6] == "-"
    names = [text.get_text() for text in script.picture([dense, *rows[2:]]).axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert names == ["unpruned: 95.00 %", "published: 90.00 %", "4.0 x"]


def test_large_networks_are_trained_with_their_unpruned_one_and_written_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rows = {name: [_measured("2x", 9, 2.0, 95.0, None)] for name in ("lenet5", "vgg16")}
    monkeypatch.setattr(script, "train_study", lambda study, folder: asked.append(study.network))
    monkeypatch.setattr(script, "complete_cards", lambda *arguments: None)
    monkeypatch.setattr(
        script,
        "measure",
        lambda study, **_: [dataclasses.replace(one, network=study.network) for one in rows[study.network]],
    )
    for file in script.stored_folder("vgg16").glob("vgg16-*"):
        (tmp_path / file.name).touch()  # all but the unpruned one
    script.main(network=["vgg16"], train_in=tmp_path, output=tmp_path / "first")
    assert asked == ["vgg16"]
    script.main(network=["lenet5", "vgg16"], output=tmp_path / "both")
    assert asked == ["vgg16"]  # what comes with the project is enough to measure
    for name, network in (("islped2019", "lenet5"), ("islped2019_large", "vgg16")):
        with (tmp_path / "both" / f"{name}.csv").open(newline="") as opened:
            assert [row["network"] for row in csv.DictReader(opened)] == [network]


def test_no_row_of_the_shipped_table_is_less_compressed_or_less_accurate_than_published() -> None:
    with (FIGURES / "islped2019.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["published"]]
    assert len(rows) == 2 * (1 + 3 * len(script.BITS))
    for row in rows:
        assert float(row["accuracy"]) >= float(row["published"])
        assert float(row["ratio"]) >= float(row["published_ratio"] or 1)


def test_all_shipped_networks_fit_into_three_megabytes() -> None:
    assert sum(path.stat().st_size for path in ZOO.iterdir()) < 3_000_000


@pytest.mark.data
def test_shipped_networks_are_those_of_the_table() -> None:
    """Every row of the table has its network, with the accuracy that its card and the table give."""
    with (FIGURES / "islped2019.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        card = MODELS[f"{row['network']}-{row['row'] or 'unpruned'}-{row['bits']}bit"]
        assert card.weight_bits == int(row["bits"])
        assert card.details["accuracy_simulator"] == pytest.approx(float(row["accuracy"]) / 100)
        assert card.accuracy == pytest.approx(float(row["float_accuracy"]) / 100)
        assert int(row["images"]) == card.test_images == 10_000
    # One of them measured again.
    model, card = load_model("lenet5-106x-5bit")
    images, labels = load_images("mnist", "test")
    calibration = load_images("mnist", "train", count=256)[0]
    chip = xb.map_model(model, script.design(5), calibration=calibration).fabricate(seed=0)
    assert xb.evaluate(chip, images, labels).accuracy == card.details["accuracy_simulator"]


@pytest.mark.data
def test_shipped_large_networks_are_those_of_their_table() -> None:
    with (FIGURES / "islped2019_large.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["row"]]
    assert {row["network"] for row in rows} == set(script.LARGE)
    for row in rows:
        file_name = f"{row['network']}-{row['row']}-{row['bits']}bit"
        card = read_card(script.stored_folder(row["network"]) / f"{file_name}.safetensors")
        assert card["accuracy_simulator"] == pytest.approx(float(row["accuracy"]) / 100)
        assert card["test_images"] == int(row["images"])
        assert float(row["ratio"]) == pytest.approx(float(row["published_ratio"]), rel=0.01)
