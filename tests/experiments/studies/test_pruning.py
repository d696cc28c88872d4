"""The comparison of pruning methods: its recipes, a training and a measurement in miniature, tables and pictures."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xbarsim.compress import GrowAndPrune, compression, mappable_layers
from xbarsim.experiments.studies.pruning import arms as script
from xbarsim.experiments.studies.pruning.arms import Arm, Study, load_stored, load_study, stored_file, train_arm
from xbarsim.experiments.studies.pruning.measuring import chosen_arms, measure, tolerated_rates, without_faults
from xbarsim.experiments.studies.pruning.pictures import (
    accuracy_picture,
    accuracy_table,
    equal_accuracy_picture,
    equal_accuracy_table,
    seeds_picture,
)
from xbarsim.experiments.studies.pruning.seeds import compared_arms, losses, of_seed, train_seeds
from xbarsim.foundation.validation import InputError
from xbarsim.sweep.executors import InProcess
from xbarsim.training import TrainingSet


@pytest.mark.parametrize("network", script.NETWORKS)
def test_recipes_prune_as_much_as_arms_are_called(network: str) -> None:
    study = load_study(network)
    model = script._untrained(network, 0)
    names = [arm.name for arm in study.arms]
    assert len(set(names)) == len(names)
    for arm in study.arms:
        assert arm.name.startswith(arm.family)
        if arm.family not in ("unstructured-admm", "shapes-lhc"):
            continue
        left = compression(model, arm.recipe.masks(model), arm.recipe)
        pruned = [layer for layer in left.layers if layer.name.rpartition(".")[0] or layer.name != "classifier"]
        first = [layer for layer in pruned if layer.index_bits is None]
        counted = [layer for layer in pruned if layer.index_bits is not None]
        if network == "convnet":  # compressions are those of all convolutions, the first among them
            counted.append(first[0])
        ratio = sum(layer.weights for layer in counted) / sum(layer.kept for layer in counted)
        assert ratio == pytest.approx(
            float(arm.name.rpartition("-")[2].removesuffix("x")), rel=0.07
        )  # whole groups stay


def test_arms_of_other_epochs_are_not_compared() -> None:
    for network in script.NETWORKS:
        study = load_study(network)
        compared = study.compared()
        for arm in study.arms:
            assert (arm in compared) == ("-long" not in arm.name and not arm.parallel), (network, arm.name)
    study = load_study("gru")
    assert study.epochs(study.arm("unstructured-admm-10x")) == 60 + 20 + 60
    assert study.epochs(study.arm("unstructured-gap-10x")) == 140
    assert study.epochs(study.arm("dense-long")) == 60 + 200
    assert study.epochs(study.arm("unstructured-admm-long-10x")) == 60 + 200 + 20 + 400
    assert study.epochs(study.arm("dense-longer")) == 60 + 200 + 420
    study = load_study("convnet")
    assert study.epochs(study.arm("unstructured-gap-parallel-10x")) == 5 * 4 * 4 + 80


def test_an_arm_starts_from_one_before_it() -> None:
    study = load_study("gru")
    message = "start of arm 'unstructured-admm-long-10x' must be one of .* got 'dense-long'"
    with pytest.raises(InputError, match=message):
        replace(study, arms=tuple(arm for arm in study.arms if arm.name != "dense-long"))


def _small(study: Study, names: tuple[str, ...] = ("bcr-admm-10x", "unstructured-gap-10x")) -> Study:
    def few(training: Any, epochs: int = 1) -> Any:
        return None if training is None else replace(training, epochs=epochs, warm_up=0.0, milestones=(), batch=20)

    def quick(arm: Arm) -> Arm:
        method = arm.method
        if isinstance(method, GrowAndPrune):
            return replace(
                arm, method=replace(method, parts=2, rounds=1, every=1), pruning=few(arm.pruning, 2),
                retraining=few(arm.retraining),
            )  # fmt: skip
        return replace(arm, pruning=few(arm.pruning), retraining=few(arm.retraining))

    chosen = tuple(quick(study.arm(name)) for name in names)
    return replace(
        study, dense=few(study.dense), pruning=few(study.pruning), retraining=few(study.retraining),
        quantising=few(study.quantising), arms=chosen,
    )  # fmt: skip


def _noise(images: int, shape: tuple[int, int, int] = (1, 28, 28)) -> TrainingSet:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (images, *shape)).astype(np.uint8)
    mean, deviation = (0.13,) * shape[0], (0.31,) * shape[0]
    return TrainingSet.split(
        "noise", pixels, np.arange(images) % 10, validation=10, mean=mean, standard_deviation=deviation
    )


@pytest.mark.data
def test_networks_are_trained_stored_and_measured(tmp_path: Path) -> None:
    data = _noise(50)
    study = _small(load_study("lenet5"))
    for arm in study.arms:
        train_arm(study, arm, tmp_path, data=data, progress=False)
    bytes_before = stored_file("lenet5", "bcr-admm-10x", tmp_path).read_bytes()
    train_arm(study, study.arms[0], tmp_path, data=data, progress=False)
    assert stored_file("lenet5", "bcr-admm-10x", tmp_path).read_bytes() == bytes_before
    model, card = load_stored("lenet5", "bcr-admm-10x", tmp_path)
    assert card["epochs"] == 3
    weights = [layer.weight for layer in mappable_layers(model).values()]
    assert sum(int(torch.count_nonzero(weight)) for weight in weights) == card["weights_kept"]
    measured = measure(study, "bcr-admm-10x", images=5, folder=tmp_path)
    assert measured["fewer"] > 8
    assert 0 < measured["index_bits"] < measured["csr_bits"]
    assert measured["kappa"] > 1
    faulty = tolerated_rates(
        measured, "mnist", dies=2, images=5, store=None, folder=tmp_path, rates=(0.01,), executor=InProcess()
    )  # fmt: skip
    assert faulty["dies"] == 2
    assert faulty["highest_rate"] == 0.01


def test_networks_with_arms_of_one_name_share_a_folder_and_no_checkpoint(tmp_path: Path) -> None:
    for network, shape in (("lenet5", (1, 28, 28)), ("convnet", (3, 32, 32))):
        study = _small(load_study(network), ("unstructured-gap-10x",))
        train_arm(study, study.arms[0], tmp_path, data=_noise(50, shape), progress=False)
        assert stored_file(network, "unstructured-gap-10x", tmp_path).exists()


def test_an_arm_goes_on_from_the_network_of_another(tmp_path: Path) -> None:
    first, second = _small(load_study("gru"), ("dense-long", "unstructured-admm-long-10x")).arms
    layers = ("features.3",)
    study = replace(
        _small(load_study("lenet5"), ()),
        arms=(
            first,
            replace(second, recipe=replace(second.recipe, rules=(replace(second.recipe.rules[0], layers=layers),))),
        ),
    )
    data = _noise(50)
    train_arm(study, study.arms[1], tmp_path, data=data, progress=False)
    train_arm(study, study.arms[0], tmp_path, data=data, progress=False)
    _, pruned = load_stored("lenet5", "unstructured-admm-long-10x", tmp_path)
    _, dense = load_stored("lenet5", "dense-long", tmp_path)
    assert (dense["epochs"], pruned["epochs"]) == (2, 4)
    assert pruned["weights_kept"] < dense["weights_kept"]


def test_arms_begin_with_a_stored_dense_network_whose_training_is_not_there(tmp_path: Path) -> None:
    shutil.copy(stored_file("convnet", None), stored_file("convnet", None, tmp_path))
    study = _small(load_study("convnet"), ())
    begun = script.train_dense(study, tmp_path, data=_noise(20, (3, 32, 32)))  # noise would change it
    stored, _ = load_stored("convnet", None)
    assert all(torch.equal(one, other) for one, other in zip(begun.parameters(), stored.parameters(), strict=True))


def row(network: str, arm: str, validation: float, weights: int, **changes: Any) -> dict[str, Any]:
    return {
        "network": network, "arm": arm, "family": arm.rpartition("-")[0] or arm, "epochs": 120,
        "validation": validation, "float": validation, "accuracy": validation - 0.5, "low": validation - 1.0,
        "high": validation, "images": 100, "weights": weights, "fewer": 1e5 / weights, "arrays": weights // 1000,
        "arrays_joined": weights // 2000,
        "area_mm2": weights * 1e-5, "energy_uJ": weights * 1e-4, "latency_us": 100.0, "index_bits": 0.1,
        "csr_bits": 9.0, "kappa": 20.0, **changes,
    }  # fmt: skip


ROWS = [
    row("convnet", "dense", 89.0, 100_000, family="dense"),
    row("convnet", "bcr-admm-4x", 88.5, 25_000),
    row("convnet", "bcr-admm-8x", 87.6, 12_500),
    row("convnet", "bcr-admm-16x", 85.0, 6_250),
    row("convnet", "columns-admm-4x", 87.0, 25_000),
]


def test_the_smallest_network_with_few_more_errors_is_chosen_by_images_held_back() -> None:
    assert [each["arm"] for each in chosen_arms(ROWS, errors=1.15)] == ["dense", "bcr-admm-8x"]
    assert [each["arm"] for each in chosen_arms(ROWS, errors=1.2)] == ["dense", "bcr-admm-8x", "columns-admm-4x"]


def test_tables_and_pictures_show_every_network() -> None:
    assert all(each["arm"] in accuracy_table(ROWS) for each in ROWS)
    figure = accuracy_picture(ROWS)
    words = {text.get_text() for text in figure.legends[0].get_texts()}
    assert words == {"dense", "block columns and rows: ADMM", "columns: ADMM"}
    chosen = [without_faults(each) for each in chosen_arms(ROWS, errors=1.2)]
    assert "8.00" in equal_accuracy_table(chosen, 1.2)
    assert len(equal_accuracy_picture(chosen, 1.2).axes) == 5
    faulty = {"rate_low": 0.001, "rate": 0.002, "rate_high": "", "highest_rate": 0.01, "dies": 2}
    measured = [each | faulty for each in chosen]
    assert "0.001 to > 0.01" in equal_accuracy_table(measured, 1.2)
    assert len(equal_accuracy_picture(measured, 1.2).axes) == 6


def test_bad_values_are_refused() -> None:
    with pytest.raises(InputError, match="network must be one of 'convnet', 'resnet20', 'lenet5', 'gru'"):
        load_study("alexnet")
    study = load_study("convnet")
    with pytest.raises(InputError, match="arm must be one of"):
        study.arm("bcr")
    with pytest.raises(InputError, match="parallel must be False for a method without parts"):
        replace(study.arms[0], parallel=True)


def test_other_seeds_are_other_seeds_of_every_training_and_nothing_else() -> None:
    study = load_study("gru")
    assert of_seed(study, 0) == study
    other = of_seed(study, 2)
    trainings = [(study.dense, other.dense), (study.quantising, other.quantising)]
    for arm, moved in zip(study.arms, other.arms, strict=True):
        assert (arm.pruning is None) == (moved.pruning is None)
        if arm.pruning is not None and moved.pruning is not None:
            trainings.append((arm.pruning, moved.pruning))
    for one, two in trainings:
        assert two == replace(one, seed=one.seed + 2000)
    grown = study.arm("unstructured-gap-10x").method, other.arm("unstructured-gap-10x").method
    assert isinstance(grown[0], GrowAndPrune)
    assert grown[1] == replace(grown[0], seed=grown[0].seed + 2000)
    assert study.arm("bcr-admm-4x").method == other.arm("bcr-admm-4x").method
    with pytest.raises(InputError, match="number must be an integer >= 0, got -1"):
        of_seed(study, -1)


@pytest.mark.data
def test_arms_of_several_seeds_are_trained_once_and_measured(tmp_path: Path) -> None:
    data = _noise(40)
    study = _small(load_study("lenet5"))
    once = train_seeds(study, ["bcr-admm-10x"], tmp_path, seeds=2, images=20, data=data, progress=False)
    assert [(each["seed"], each["arm"]) for each in once] == [
        (number, arm) for number in (0, 1) for arm in ("dense", "bcr-admm-10x")
    ]
    files = [stored_file("lenet5", None, tmp_path / f"seed{number}").read_bytes() for number in (0, 1)]
    assert files[0] != files[1]
    again = train_seeds(study, ["bcr-admm-10x"], tmp_path, seeds=2, images=20, data=data, progress=False)
    assert again == once


def test_losses_are_paired_by_seed() -> None:
    """Of 90 and 92 %, an arm with 88 and 91 % loses 2 and 1 points: 1.5 on the mean, +- 12.7 x 0.5."""
    rows = [
        {"seed": seed, **row("gru", arm, accuracy, 100)} | {"accuracy": accuracy}
        for seed, accuracies in enumerate([(90.0, 88.0), (92.0, 91.0)])
        for arm, accuracy in zip(("dense", "bcr-admm-4x"), accuracies, strict=True)
    ]
    (lost,) = losses(rows)
    assert lost["seeds"] == 2
    assert lost["accuracy lost"] == 1.5
    assert lost["accuracy lost, high"] == pytest.approx(1.5 + 12.706 * 0.5, abs=1e-2)
    assert (lost["accuracy"], lost["accuracy against"]) == (89.5, 91.0)
    (axes,) = seeds_picture([{**each, "epochs": 60 if each["arm"] == "dense" else 140} for each in rows]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bcr-admm-4x (140 epochs)", "dense (60 epochs)"]
    assert {text.get_text() for text in axes.texts} == {"89.5", "91.0"}
    names = ["unstructured-admm-10x", "dense-long", "unstructured-admm-long-10x", "dense-longer"]
    assert compared_arms(load_study("gru"), names) == [
        *((name, "dense") for name in names),
        ("unstructured-admm-long-10x", "dense-long"),
        ("unstructured-admm-long-10x", "dense-longer"),
        ("dense-longer", "dense-long"),
    ]
    (gained,) = losses(rows, [("dense", "bcr-admm-4x")])
    assert (gained["arm"], gained["against"]) == ("dense", "bcr-admm-4x")
    assert gained["accuracy lost"] == -1.5
