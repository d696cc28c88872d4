"""Measures: what is measured on a die is one class, and accuracy is only one of them."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.sweep.subjects import DESIGN, task
from xbarsim import Chip, Design, InputError
from xbarsim.devices import Cell, StuckFaults
from xbarsim.mitigation import ProtectLayers
from xbarsim.sweep import (
    Accuracy,
    CollectError,
    Cost,
    Dies,
    InProcess,
    InputClipping,
    LayerErrors,
    LocalProcesses,
    MeanWithin,
    Measure,
    Results,
    Store,
    Sweep,
    Task,
    collect,
)

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class AmongFirst(Measure):
    """Images whose class is among the `most` likely: counts in place of accuracy."""

    most: int = 2

    @property
    def columns(self) -> Mapping[str, type]:
        return {"correct": int, "images": int}

    def run(self, chip: Chip, images: Images, labels: Labels) -> Mapping[str, int]:
        likely = chip(torch.from_numpy(images), first_image=0).topk(self.most, dim=1).indices.numpy()
        return {"correct": (likely == labels[:, None]).any(axis=1).sum(), "images": len(images)}


@dataclass(frozen=True, kw_only=True)
class Gives(Measure):
    """Whatever it is told to."""

    column: str = "x"
    wanted: str = "float"
    text: str = "1.5"

    @property
    def columns(self) -> Mapping[str, type]:
        return {self.column: {"float": float, "int": int, "str": str}[self.wanted]}

    def run(self, chip: Chip, images: Images, labels: Labels) -> Mapping[str, Any]:
        value: dict[str, Any] = {"one": 1, "1.5": 1.5, "nan": float("nan"), "true": True}
        return {} if self.text == "nothing" else {self.column: value.get(self.text, self.text)}


# --- identity


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({}, "ba5aacf227f7a830"),
        ({"metrics": ("power_W",)}, "6b55f804c9d7939a"),
        ({"age": 3.0}, "497b86318d5a4fe0"),
        ({"mitigations": (ProtectLayers(layers=("0", "2"), rest=True),)}, "3a6cdc3d0968113e"),
        ({"images": 33, "calibration": 70, "seed": 9}, "4202084aa88c7a4a"),
    ],
)
def test_ids_are_those_from_before_there_were_measures(changes: dict[str, Any], start: str) -> None:
    """What stores of earlier versions hold is found again."""
    design = Design(cell=Cell.load("islped2019"), faults=StuckFaults(on=0.01, off=0.02))
    assert Task(network="digits", design=design, **changes).id.startswith(start)
    assert Task(network="digits", design=design, measures=(Accuracy(),), **changes).id.startswith(start)


def test_what_is_measured_is_part_of_the_identity() -> None:
    different: list[dict[str, Any]] = [
        {},
        {"measures": (Accuracy(), Cost())},
        {"measures": (Accuracy(), LayerErrors())},
        {"measures": (Accuracy(), LayerErrors(images=7))},
        {"measures": (Cost(),)},
        {"measures": (AmongFirst(),)},
        {"measures": (AmongFirst(most=3),)},
        {"seeds": (1, 2, 3)},
        {"seeds": (1, 2)},
    ]
    assert len({task(**changes).id for changes in different}) == len(different)
    assert len({task(**changes).mapping_key for changes in different}) == 1
    assert task(measures=(Cost(), Accuracy())).id == task(measures=(Accuracy(), Cost())).id


# --- what they measure


# cells that are read at a voltage, so that their power is known
POWERED = DESIGN.replace(cell=dataclasses.replace(DESIGN.cell, read_voltage=0.2))
EVERYTHING = task(
    design=POWERED, measures=(Accuracy(), LayerErrors(images=20, layers=("2",)), Cost()), tags={"which": "all"}
)


@pytest.fixture(scope="module")
def results() -> Results:
    return collect([EVERYTHING], stop=3, executor=InProcess())


def test_measures_are_what_a_user_gets_by_hand(results: Results) -> None:
    plain = collect([task(design=POWERED)], stop=3, executor=InProcess()).rows()
    for row, other in zip(results.rows(), plain, strict=True):
        assert all(row[name] == other[name] for name in ("correct", "images", "accuracy", "fault_hash", "die_seed"))
        chip = EVERYTHING.fabricate(row["die"])
        first, second = chip.report(task().subject.images[:20]).layers
        assert row["output_error"] == pytest.approx(second.total, rel=1e-5)
        assert row["error_2"] == pytest.approx(second.own, rel=1e-5)
        worst = max((first, second), key=lambda error: error.own)
        assert (row["worst_layer"], row["worst_layer_error"]) == (worst.layer, pytest.approx(worst.own, rel=1e-5))
        cost = chip.cost()
        assert (row["power_W"], row["area_m2"]) == (cost.power, cost.area)
        assert row["energy_J"] == cost.workload().energy
        assert 0 < row["cells_power_W"] < row["power_W"]
    assert len({row["cells_power_W"] for row in results.rows()}) == 3  # of each die's own cells


def test_clipped_inputs_are_counted_a_layer() -> None:
    """As a die counts them; and for images four times as bright, as the first layer's range says."""
    asked = task(measures=(InputClipping(images=30),))
    (row, *_) = collect([asked], stop=1, executor=InProcess()).rows()
    chip = asked.fabricate(row["die"])
    chip(asked.subject.images[:30], first_image=0)
    counts = chip.clipped_inputs
    wanted = sum(count.clipped for count in counts.values()) / sum(count.inputs for count in counts.values())
    assert row["clipped_inputs"] == wanted
    assert row["most_clipped_inputs"] == max(count.share for count in counts.values())
    first = next(iter(counts))
    images = asked.subject.images[:30]
    far = InputClipping().run(asked.fabricate(0), 4 * images, np.zeros(30, np.int64))
    assert far["most_clipped_layer"] == first
    largest = chip.network.layers[first].layer.input_scale * chip.network.layers[first].layer.scaling.high
    beyond = float((np.abs(4 * images) > largest * 1.01).mean())
    assert far["most_clipped_inputs"] == pytest.approx(beyond, rel=0.1)
    assert beyond > 0.01


def test_a_store_and_a_table_hold_what_was_measured(results: Results, tmp_path: Path) -> None:
    collect([EVERYTHING], stop=3, executor=InProcess(), store=tmp_path / "s.sqlite")
    with Store(tmp_path / "s.sqlite", read_only=True) as store:
        kept = store.results()
    assert [die.answer for die in kept.tasks[0].dies] == [die.answer for die in results.tasks[0].dies]
    kept.to_csv(tmp_path / "dies.csv")
    rows = list(csv.DictReader((tmp_path / "dies.csv").read_text().splitlines()))
    assert [row["worst_layer"] for row in rows] == [row["worst_layer"] for row in results.rows()]
    assert [float(row["energy_J"]) for row in rows] == [row["energy_J"] for row in results.rows()]


def test_another_measure_may_count_and_stop_rules_follow_it() -> None:
    rule = MeanWithin(half_width=0.1, at_least=3, at_most=12)
    two, one = collect([task(measures=(AmongFirst(),)), task()], stop=rule, executor=InProcess()).tasks
    shared = min(len(two.dies), len(one.dies))
    assert (two.accuracies[:shared] >= one.accuracies[:shared]).all()
    assert two.mean().estimate > one.mean().estimate
    assert {die.images for die in two.dies} == {40}


def test_a_task_may_do_without_accuracy(tmp_path: Path) -> None:
    asked = task(measures=(Cost(),))
    found = collect([asked], stop=Dies(count=2), executor=InProcess(), store=tmp_path / "s.sqlite")
    for row in found.rows():
        assert (row["correct"], row["images"], row["accuracy"]) == (0, 0, None)
        assert row["power_W"] > 0
    (summary,) = found.summary(target=0.5)
    assert (summary["dies"], summary["complete"]) == (2, True)
    assert summary["accuracy_mean"] is summary["accuracy_low"] is summary["yield"] is None
    with pytest.raises(InputError, match="measures must count images for a statistic of accuracy"):
        found.tasks[0].mean()
    with pytest.raises(InputError, match="stop must be a number of dies for a task that counts no images"):
        collect([asked], stop=MeanWithin(half_width=0.1), executor=InProcess())


def test_measures_in_a_sweep_file() -> None:
    text = """
    network = "tests.sweep.subjects:tiny"
    calibration = 20
    measures = ["Accuracy", {type = "LayerErrors", images = 5}, "tests.sweep.subjects:BrokenCells"]
    design.cell = "islped2019"
    stop = {type = "Dies", count = 2}
    """
    (asked,) = Sweep.loads(text).tasks
    assert asked.measures[:2] == (Accuracy(), LayerErrors(images=5))
    assert asked.measures[2].name == "BrokenCells"
    with pytest.raises(InputError, match=r"measures must be one of .*'Accuracy'.*got 'Speed'"):
        Sweep.loads(text.replace('"Accuracy"', '"Speed"'))


def test_a_measure_of_a_test_runs_in_other_processes() -> None:
    pool = LocalProcesses(1)
    try:
        found = collect([task(measures=(Accuracy(), Gives(column="mine")))], stop=2, executor=pool)
    finally:
        pool.close()
    assert [row["mine"] for row in found.rows()] == [1.5, 1.5]


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measures": ()}, "measures must be at least one measure, got none"),
        ({"measures": (3,)}, r"measures\[0\] must be of type Measure"),
        ({"measures": (Cost(), Cost())}, "measures must not add column 'power_W' twice, got Cost besides another"),
        ({"measures": (Cost(),), "metrics": ("power_W",)}, "column 'power_W' twice, got metrics besides another"),
        ({"measures": (Accuracy(), AmongFirst())}, "column 'correct' twice, got AmongFirst besides another"),
        ({"measures": (Gives(column="seed"),)}, "measures must not add a column of every task, got 'seed' of Gives"),
        ({"measures": (Gives(column="a"),), "tags": {"a": 1}}, "tags must not be called like a column of results"),
        ({"seeds": (1, -2)}, r"seeds\[1\] must be an integer >= 0, got -2"),
    ],
)
def test_bad_tasks(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task(**changes)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (Gives(text="nothing"), "Gives must give x, got nothing"),
        (Gives(text="words"), "Gives must give float for 'x', got 'words'"),
        (Gives(text="true"), "Gives must give float for 'x', got True"),
        (Gives(wanted="int"), "Gives must give int for 'x', got 1.5"),
        (Gives(text="nan"), "Gives must give finite numbers, got nan for 'x'"),
        (LayerErrors(layers=("7",)), "layers must be one of '0', '2', got '7'"),
    ],
)
def test_a_measure_that_breaks_its_promise_fails_its_task(measure: Measure, message: str) -> None:
    with pytest.raises(CollectError, match=message):
        collect([task(measures=(measure,))], stop=1, executor=InProcess())


def test_whole_numbers_and_numbers_of_numpy_are_taken() -> None:
    whole = Gives(text="one").checked(task().fabricate(0), task().subject.images, task().subject.labels)
    assert whole == {"x": 1.0}
    assert type(whole["x"]) is float
    counted = AmongFirst().checked(task().fabricate(0), task().subject.images, task().subject.labels)
    assert type(counted["correct"]) is int


# --- dies that are known by their seeds


def test_dies_by_their_seeds(tmp_path: Path) -> None:
    seeds = (99, 3, task().die_seed(1))
    asked = task(seeds=seeds)
    found = collect([asked], stop=3, executor=InProcess(), store=tmp_path / "s.sqlite")
    assert [row["die_seed"] for row in found.rows()] == list(seeds)
    assert found.rows()[2]["fault_hash"] == collect([task()], stop=2, executor=InProcess()).rows()[1]["fault_hash"]
    assert asked.fabricate(1).faults == task().map().fabricate(3).faults
    with Store(tmp_path / "s.sqlite", read_only=True) as store:
        assert store.results().rows() == found.rows()
    with pytest.raises(InputError, match=r"stop must ask for at most 3 dies, as many as there are seeds of .* got 4"):
        collect([asked], stop=4, executor=InProcess())
