"""Identity of tasks and dies: what changes the answer changes the id, and nothing else does."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.sweep.subjects import DESIGN, NAME, task, tiny
from xbarsim import InputError, evaluate
from xbarsim.circuit import Wires
from xbarsim.devices import LineFaults, Polynomial, ReadNoise, StuckFaults, TelegraphNoise
from xbarsim.mapping import Differential
from xbarsim.mitigation import Diagnosis, ProtectLayers, RecalibrateOutputs
from xbarsim.sweep import COLUMNS, InProcess, Subject, Task, collect, die_seed
from xbarsim.sweep.subject import _hash_of_module, _settings

ROOT = Path(__file__).resolve().parents[2]


def with_weight(change: float) -> Subject:
    subject = tiny()
    with torch.no_grad():
        subject.model[0].weight[0, 0] += change
    return subject


CHANGES: dict[str, dict[str, Any]] = {
    "network": {"network": "tests.sweep.subjects:other"},
    "one weight": {"network": with_weight(1e-6)},
    "one module": {"network": dataclasses.replace(tiny(), model=nn.Sequential(*tiny().model, nn.ReLU()))},
    "name of the network": {"network": dataclasses.replace(tiny(), name="other")},
    "one label": {"network": dataclasses.replace(tiny(), labels=np.append(tiny().labels[:-1], 4 - tiny().labels[-1]))},
    "images": {"images": 39},
    "calibration": {"calibration": 19},
    "encoding": {"design": DESIGN.replace(mapping=dataclasses.replace(DESIGN.mapping, encoding=Differential()))},
    "rows": {"design": DESIGN.replace(mapping=dataclasses.replace(DESIGN.mapping, rows=16))},
    "cell": {"design": DESIGN.replace(cell=dataclasses.replace(DESIGN.cell, g_max=2e-5))},
    "periphery": {"design": DESIGN.replace(periphery=dataclasses.replace(DESIGN.periphery, input_bits=7))},
    "faults": {"design": DESIGN.replace(faults=StuckFaults(on=0.05, off=0.051))},
    "no faults": {"design": DESIGN.replace(faults=None)},
    "mitigation": {"mitigations": (ProtectLayers(layers=("0",)),)},
    "two mitigations": {"mitigations": (ProtectLayers(layers=("0",)), RecalibrateOutputs())},
    "diagnosis": {"diagnosis": Diagnosis(coverage=0.9)},
    "age": {"age": 10.0},
    "metrics": {"metrics": ("power_W",)},
    "seed": {"seed": 2},
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_answer_changes_the_id(name: str) -> None:
    assert task(**CHANGES[name]).id != task().id


def test_all_these_changes_differ_from_each_other() -> None:
    assert len({task(**change).id for change in CHANGES.values()}) == len(CHANGES)


@pytest.mark.parametrize(
    "change",
    [
        {"tags": {"mapping": "x", "rate": 0.1}},
        {"data_set": "noise"},  # said aloud
        {"images": 40},  # all there are
        {"network": tiny()},  # the same by another way
        {"design": DESIGN.replace(cell=dataclasses.replace(DESIGN.cell, name="renamed", source="a book"))},
        {"design": DESIGN.replace(cell=dataclasses.replace(DESIGN.cell, implausible=True))},
        {"metrics": ()},
    ],
)
def test_what_changes_no_answer_changes_no_id(change: dict[str, Any]) -> None:
    assert task(**change).id == task().id


def test_order_of_metrics_does_not_matter() -> None:
    assert task(metrics=("power_W", "area_m2")).id == task(metrics=("area_m2", "power_W", "area_m2")).id


def test_whole_numbers_are_the_same_as_integers() -> None:
    one = dataclasses.replace(DESIGN.periphery, adc_bits=8, adc_range=96)
    assert (
        task(design=DESIGN.replace(periphery=one)).id
        == task(design=DESIGN.replace(periphery=dataclasses.replace(one, adc_range=96.0))).id
    )


def test_id_is_the_same_in_another_process() -> None:
    code = "from tests.sweep.subjects import task; print(task().id)"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert answer.stdout.strip() == task().id


@pytest.mark.parametrize("words", ["", ", bias=True"])
def test_id_is_the_same_whatever_words_torch_has_for_a_batch_norm(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(module: nn.BatchNorm2d) -> str:  # before and since torch 2.13
        start = f"{module.num_features}, eps={module.eps}, momentum={module.momentum}, affine=True"
        return f"{start}{words}, track_running_stats=True"

    torch.manual_seed(0)
    norm = nn.BatchNorm2d(2)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), norm)
    monkeypatch.setattr(nn.BatchNorm2d, "extra_repr", said)
    expected = "2, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True"
    assert _settings(norm) == expected
    before = _hash_of_module(model)
    norm.eps = 1e-3
    assert _hash_of_module(model) != before


def test_tasks_that_differ_in_faults_share_a_mapping() -> None:
    same = [
        task(),
        task(design=DESIGN.replace(faults=None)),
        task(seed=3),
        task(mitigations=(ProtectLayers(layers=()),)),
    ]
    assert len({found.mapping_key for found in same}) == 1
    for name in ("network", "one weight", "images", "calibration", "encoding", "cell", "periphery"):
        assert task(**CHANGES[name]).mapping_key != task().mapping_key


def test_a_task_can_be_pickled() -> None:
    first = task(tags={"a": 1})
    assert pickle.loads(pickle.dumps(first)).id == first.id


def test_seeds_of_dies_depend_on_root_and_number_alone() -> None:
    seeds = {(root, die): die_seed(root, die) for root in range(3) for die in range(50)}
    assert len(set(seeds.values())) == len(seeds)
    assert seeds[2, 7] == die_seed(2, 7)
    words = np.random.SeedSequence(2, spawn_key=(7,)).generate_state(2, np.uint32)
    assert die_seed(2, 7) == int(words[0]) + (int(words[1]) << 32)


def test_mappings_meet_the_same_dies() -> None:
    """Tasks of one root break the same cells, where their tiles have the same shape."""
    first, second = task(), task(**CHANGES["encoding"])
    for die in (0, 3):
        assert first.fabricate(die).faults == second.fabricate(die).faults
    assert first.fabricate(0).faults != first.fabricate(1).faults


def test_a_block_is_what_a_user_gets_by_hand() -> None:
    found = collect([task()], stop=3, executor=InProcess()).tasks[0]
    subject = task().subject
    for block in found.dies:
        chip = task().fabricate(block.die)
        assert evaluate(chip, subject.images, subject.labels, progress=False).correct == block.correct
        assert sum(len(faults) for faults in chip.faults.values()) == block.stuck_on + block.stuck_off
        assert sum(faults.cells for faults in chip.faults.values()) == block.cells
    assert len({block.fault_hash for block in found.dies}) == 3


def test_the_fault_hash_knows_broken_lines() -> None:
    hashes = []
    for lines in (None, LineFaults(open_word_line=0.2), LineFaults(open_bit_line=0.2)):
        design = DESIGN.replace(faults=None, line_faults=lines)
        hashes += [
            block.fault_hash for block in collect([task(design=design)], stop=2, executor=InProcess()).tasks[0].dies
        ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 5


def test_protected_layers_do_not_break() -> None:
    for mitigation, whole in (
        (ProtectLayers(layers=("0",)), {"0"}),
        (ProtectLayers(layers=("0",), rest=True), {"2"}),
        (ProtectLayers(layers=("0", "2")), {"0", "2"}),
    ):
        chip = task(mitigations=(mitigation,)).fabricate(0)
        plain = task().fabricate(0)
        for name, faults in chip.faults.items():
            assert len(faults) == (0 if name in whole else len(plain.faults[name]))
            if name not in whole:
                assert faults == plain.faults[name]


def test_columns() -> None:
    columns = task(tags={"mapping": "mine"}, mitigations=(ProtectLayers(layers=("0",)),)).columns()
    assert columns["task"] == task(mitigations=(ProtectLayers(layers=("0",)),)).id
    assert list(columns)[:2] == ["task", "mapping"]
    assert set(columns) - {"mapping"} <= set(COLUMNS)
    assert columns["fault_rate_on"] == columns["fault_rate_off"] == 0.05
    assert columns["fault_rate"] == 0.1
    assert (columns["network"], columns["data_set"], columns["encoding"]) == ("tiny", "noise", "TwoColumn")
    assert columns["mitigation"] == "ProtectLayers(layers=['0'], rest=False)"
    third = StuckFaults(on=0.1, off=0.2)
    assert task(design=DESIGN.replace(faults=third)).columns()["fault_rate"] == 0.3  # 0.1 + 0.2 is not


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "nonsense"}, "network must be one of 'digits'.*got 'nonsense'"),
        (
            {"network": "nonsense:x"},
            "network must name a module that can be imported, got 'nonsense': ModuleNotFoundError",
        ),
        ({"network": "tests.sweep.subjects:none"}, "network must name a function"),
        ({"network": "tests.sweep.subjects:not_a_subject"}, "must be of type Subject, got 3"),
        (
            {"network": "digits", "data_set": "imagenet"},
            "data_set must be one of 'digits', 'cifar10', 'mnist', got 'imagenet'",
        ),
        ({"network": "digits", "data_set": "cifar10"}, "data_set must be 'digits' for network 'digits', got 'cifar10'"),
        ({"data_set": "digits"}, "data_set must be 'noise'"),
        ({"network": tiny(), "data_set": "digits"}, "data_set must be 'noise'"),
        ({"images": 41}, "images must be an integer >= 1 and <= 40, got 41"),
        ({"images": 0}, "images must be an integer >= 1, got 0"),
        ({"calibration": 21}, "calibration must be an integer >= 1 and <= 20, got 21"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"age": -1.0}, "age must be a finite number >= 0.0, got -1.0"),
        ({"metrics": ("nonsense",)}, "metrics must be one of 'power_W', 'area_m2', got 'nonsense'"),
        ({"tags": {"accuracy": 1}}, "tags must not be called like a column of results, got 'accuracy'"),
        ({"tags": {"x": [1]}}, r"tags\['x'\] must be of type"),
        ({"design": 3}, "design must be of type Design"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _ = task(**changes).id


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(InputError, match="layers must be one of '0', '2', got '7'"):
        task(mitigations=(ProtectLayers(layers=("7",)),)).fabricate(0)


def test_labels_must_fit() -> None:
    with pytest.raises(InputError, match="labels must be integers, one for each of 40 images"):
        dataclasses.replace(tiny(), labels=np.arange(3))
    with pytest.raises(InputError, match="images must be floating numbers"):
        dataclasses.replace(tiny(), images=np.zeros((40, 16), np.int64))


def test_networks_that_come_with_the_project() -> None:
    found = Task(network="digits", design=DESIGN, images=30, calibration=50)
    assert found.subject.images.shape == (30, 1, 8, 8)
    assert found.subject.calibration.shape == (50, 1, 8, 8)
    assert found.columns()["data_set"] == "digits"
    assert NAME not in found.description


def test_a_design_that_leaves_converters_to_the_hardware_keeps_the_id_it_had() -> None:
    """One column a converter was the default; a design that says so now costs something else, so it is told apart."""
    silent, *said = (
        task(design=DESIGN.replace(periphery=dataclasses.replace(DESIGN.periphery, columns_per_adc=columns)))
        for columns in (None, 1, 8)
    )
    content = json.loads(silent.description)
    assert content["design"]["periphery"]["columns_per_adc"] == 1
    assert "converters" not in content
    assert len({silent.id, *(each.id for each in said)}) == 3


def test_noise_through_wires_is_told_apart_from_noise_beside_them() -> None:
    """Only designs with both got other answers than before, and only they have other ids."""
    law = ReadNoise(spread=Polynomial(coefficients=(0.0, 0.01), scale=1.0), valid_from=0.0, valid_to=1.0)
    noisy, wires = dataclasses.replace(DESIGN.cell, read_noise=law), Wires(bit_line_resistance=1.0)
    frozen = dataclasses.replace(DESIGN.cell, read_noise=TelegraphNoise(saturation=0.1, corner=1e-5, frozen=True))
    changed: dict[str, dict[str, Any]] = {
        "neither": {},
        "wires": {"wires": wires},
        "noise": {"cell": noisy},
        "wires, states for good": {"wires": wires, "cell": frozen},
        "both": {"wires": wires, "cell": noisy},
    }
    said = {
        name: "noise" in json.loads(task(design=DESIGN.replace(**changes)).description)
        for name, changes in changed.items()
    }
    assert said == {"neither": False, "wires": False, "noise": False, "wires, states for good": False, "both": True}
