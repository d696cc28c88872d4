"""The study of fault tolerance: its arms, what is made of their dies, and its tables and pictures."""

from __future__ import annotations

import collections
import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.patches import Rectangle

import xbarsim as xb
from xbarsim.devices import Cell, fault_preset
from xbarsim.experiments.folders import WEIGHTS
from xbarsim.experiments.studies.fault_tolerance.__main__ import _held, _kept, _results, main
from xbarsim.experiments.studies.fault_tolerance.arms import PARTS, TRAINED, arms, design
from xbarsim.experiments.studies.fault_tolerance.measuring import (
    factors,
    images_of,
    read_table,
    reference,
    tasks,
    tolerated,
)
from xbarsim.experiments.studies.fault_tolerance.pictures import (
    accuracy_table,
    draw,
    factor_picture,
    factor_table,
    pareto,
    picture,
    tolerance_table,
)
from xbarsim.foundation.tables import csv_bytes
from xbarsim.foundation.validation import InputError
from xbarsim.mitigation import check_mitigations
from xbarsim.sweep import Task
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.executors import InProcess


@pytest.mark.parametrize("part", PARTS)
def test_every_arm_can_be_built_and_stands_once(part: str) -> None:
    listed = arms(part)
    assert len({arm.name + arm.polarity for arm in listed}) == len(listed)
    for arm in listed:
        check_mitigations(arm.mitigations, arm.diagnosis)
        for rate in arm.rates:
            made = design(arm, rate)
            assert made.faults is None if rate == 0 else math.isclose(math.fsum(made.faults.rates.values()), rate)  # type: ignore[union-attr]


def test_the_curves_go_on_with_the_arms_of_the_table() -> None:
    rates: dict[str, list[float]] = collections.defaultdict(list)
    for part in ("table", "curves"):
        for arm in arms(part):
            rates[arm.name] += arm.rates
    assert all(len(set(each)) == len(each) for each in rates.values())
    assert sum(0.0 in each for each in rates.values()) == len(rates)


def test_five_bits_twice_take_no_more_cells_than_nine_bits_once() -> None:
    by_name = {arm.name: arm for part in ("table", "curves") for arm in arms(part)}
    once, twice = (
        design(by_name[name], 0.01).mapping for name in ("differential", "5 bits twice, trained with faults")
    )
    columns = [
        mapping.encoding.slice_count(mapping.weight_bits, mapping.cell_bits) * mapping.encoding.sides
        for mapping in (once, twice)
    ]
    assert columns == [4, 4]
    assert once.cell_bits == twice.cell_bits


def test_weights_that_are_named_are_there_or_can_be_trained() -> None:
    from xbarsim.experiments.fits.train_fault_tolerant import FITS
    from xbarsim.models import MODELS

    for part in PARTS:
        for arm in arms(part):
            there = (WEIGHTS / "fault_tolerant" / f"{arm.weights}.safetensors").exists()
            assert arm.weights in ("as trained", TRAINED) or there or arm.weights in MODELS or arm.weights in FITS


@pytest.mark.data
def test_tasks_of_other_networks_leave_out_what_only_resnet20_has() -> None:
    made = tasks("lenet5", "table", 10) + tasks("lenet5", "training", 10)
    assert {task.tags["weights"] for task in made} == {"as trained", "lenet5_raw"}
    assert {task.tags["arm"] for task in tasks("lenet5", "table", 10, only=("two col",))} == {"two columns"}
    assert len({task.id for task in tasks("lenet5", "table", 10)}) == len(tasks("lenet5", "table", 10))


def test_dies_that_are_held_under_other_tags_are_those_of_a_task(tmp_path: Path) -> None:
    design = xb.Design(
        cell=Cell.load("wan2022").without_errors(),
        mapping=xb.Mapping(rows=64, columns=64),
        faults=fault_preset("chen2015_sa0_hrs").faults,
    )
    asked, held = (Task(network="digits", images=8, design=design, tags={"part": part}) for part in ("curves", "table"))
    assert asked.id == held.id
    store = tmp_path / "dies.sqlite"
    collect([held], stop=2, store=store, executor=InProcess(), progress=False)
    (found,) = _results([asked], 2, store, None, _held(store))
    assert found.columns["part"] == "curves"
    assert len(found.dies) == 2
    assert _results([asked], 2, store, None, {}) == ()


def row(arm: str, rate: float, lost: float, **changes: Any) -> dict[str, Any]:
    return {
        "network": "resnet20", "part": "table", "arm": arm, "known": "nothing", "weights": "as trained",
        "encoding": "Differential", "cell_bits": 4, "polarity": "mostly stuck on", "rate": rate, "dies": 50,
        "images": 1000, "accuracy": 90.0 - lost, "low": 89.5 - lost, "high": 90.5 - lost, "worst_die": 80.0,
        "lost": lost, "worst_noise_to_signal": 0.01, "stored_bits": 1e3, "rewritten_cells": 10, "added_operations": 5,
        "energy_J": 1e-6, "area_m2": 1e-6, **changes,
    }  # fmt: skip


TABLE = [
    *(row("two columns", rate, lost) for rate, lost in ((0.0, 0.0), (0.001, 0.5), (0.002, 1.5))),
    *(row("differential", rate, lost) for rate, lost in ((0.0, 0.0), (0.01, 0.5))),
    row("differential", 0.03, 1.5, part="curves"),
]


def test_the_rate_that_is_tolerated_lies_between_those_measured() -> None:
    found = {each["arm"]: each for each in tolerated(TABLE)}
    assert found["two columns"]["rate"] == pytest.approx(math.sqrt(0.001 * 0.002))  # on a logarithmic axis
    assert found["differential"]["rate"] == pytest.approx(math.sqrt(0.01 * 0.03))
    assert found["differential"]["part"] == "table"
    assert found["differential"]["low"] < 0.0173 < found["differential"]["high"]
    text = tolerance_table(list(found.values()))
    assert "12.2" in text  # one over the other
    assert all(each["arm"] in accuracy_table(TABLE) for each in TABLE)
    with pytest.raises(InputError, match="a rate of an arm once, got 'differential'"):
        tolerated([*TABLE, row("differential", 0.03, 1.4)])


def test_one_rate_that_is_tolerated_bounds_from_below_and_one_that_is_not_says_nothing() -> None:
    kept, lost = [row("kept", 0.0, 0.0), row("kept", 0.01, 0.3)], [row("lost", 0.0, 0.0), row("lost", 0.01, 0.8)]
    (found,) = tolerated([*kept, *lost, row("alone", 0.0, 0.0)])  # 0.8 lost, of which the interval reaches beyond 1
    assert found["arm"] == "kept"
    assert math.isinf(found["rate"])
    assert "> 0.01" in tolerance_table([found])


def test_arms_that_a_run_leaves_out_stay_in_the_table_if_it_is_told_to_keep_them(tmp_path: Path) -> None:
    path = tmp_path / "fault_tolerance_factors.csv"
    names = [arm.name for arm in arms("factors")][:3]
    reference_row = row("two columns", 0.0, 0.0, part="reference")
    older = [row(name, rate, 1.0, part="factors") for name in names for rate in (0.001, 0.002)]
    for each in older[:2]:
        del each["energy_J"]
    path.write_bytes(csv_bytes([reference_row, *older]))
    assert read_table(path) == [reference_row, *older]
    table = [reference_row, *(row(names[1], rate, 2.0, part="factors") for rate in (0.001, 0.005))]
    kept = _kept(path, table, ["factors"])
    assert [(each["arm"], each["rate"], each["lost"]) for each in kept] == [
        ("two columns", 0.0, 0.0), (names[0], 0.001, 1.0), (names[0], 0.002, 1.0), (names[1], 0.001, 2.0),
        (names[1], 0.005, 2.0), (names[2], 0.001, 1.0), (names[2], 0.002, 1.0),
    ]  # fmt: skip
    assert _kept(tmp_path / "none.csv", table, ["factors"]) == table
    for change, words in (
        ({"images": 300}, "rows of 1000 images .* got 300"),
        ({"arm": "gone"}, "arms of .* got 'gone'"),
    ):
        path.write_bytes(csv_bytes([older[0] | change]))
        with pytest.raises(InputError, match=f"keep must find {words}"):
            _kept(path, table, ["factors"])


def test_an_arm_that_there_is_not_is_refused_before_a_table_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="arm must stand in the name of an arm of wires, got 'three columns'"):
        main(part=["wires"], arm=["rows permuted", "three columns"], output=tmp_path, store=tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_pictures_show_every_arm() -> None:
    figure = picture(TABLE, tolerated(TABLE))
    left, right = figure.axes
    assert {text.get_text() for text in left.get_legend().get_texts()} == {"two columns", "differential"}  # type: ignore[union-attr]
    assert [label.get_text() for label in right.get_yticklabels()] == ["differential", "two columns"]
    methods = [row(name, 0.1, 1.0 + number, part="methods") for number, name in enumerate(("nothing", "rows permuted"))]
    assert len(pareto(methods).axes) == 3


def test_every_part_has_a_picture_of_all_its_arms() -> None:
    for part in PARTS:
        made = [
            row(arm.name, rate, 100 * rate, part=part, polarity=arm.polarity)
            for arm in arms(part)
            for rate in arm.rates
        ]
        figure = draw(made, tolerated(made), factors(tolerated(made)))
        if part == "curves":  # are drawn with the table
            assert figure is None
            continue
        assert figure is not None
        words = {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()}
        lines = sum(len(axes.get_lines()) for axes in figure.axes)
        if part in ("patterns", "wires"):
            assert words >= {arm.name for arm in arms(part)}
        if part == "training":
            assert lines == len(arms(part))
        if part == "diagnosis":
            assert [len(axes.get_legend_handles_labels()[0]) for axes in figure.axes] == [3, 3]


def test_factors_that_multiply_are_found_again() -> None:
    """A tolerated rate made of one number a level: each ratio is the level's number, whatever the others are."""
    numbers = {"differential": 4.0, "balanced": 2.0, "an output": 2.5, "clipped": 3.0, "trained on": 1.1,
               "pruned by 60 %": 0.8, "all but first and last": 1.5}  # fmt: skip
    found = [
        {
            "network": "resnet20", "part": "factors", "arm": arm.name, "polarity": arm.polarity, "known": "nothing",
            "loss": 1.0, "rate": rate, "low": 0.8 * rate, "high": 1.2 * rate, "lowest": 1e-4, "highest": 1.0,
        }
        for arm in arms("factors")
        for rate in [4e-4 * math.prod(numbers.get(level, 1.0) for level in arm.settings.values())]
    ]  # fmt: skip
    assert len(found) == 3 * 3 * 5 * 2
    effects = {(each["factor"], each["level"]): each for each in factors(found)}
    for (_, level), each in effects.items():
        assert each["ratio"] == pytest.approx(numbers.get(level, 1.0))
        assert each["low"] == pytest.approx(each["high"])
    assert {len(each["ratios"]) for each in effects.values()} == {30, 18, 45}  # all combinations of the others
    below = [each | {"lowest": 1.0} if "balanced" in str(each["arm"]) else each for each in found]
    assert "balanced" not in {each["level"] for each in factors(below)}
    lacking = [each if "clipped" not in str(each["arm"]) else each | {"rate": math.inf} for each in found]
    fewer = {each["level"]: each for each in factors(lacking)}
    assert "clipped" not in fewer
    assert (len(fewer["balanced"]["ratios"]), fewer["balanced"]["beyond"]) == (20, 10)
    table = factor_table(list(effects.values()))
    assert "4.00" in table
    left, right = factor_picture(found, list(effects.values())).axes
    assert len(left.get_yticklabels()) == len(effects)
    (first, *_) = right.patches
    assert isinstance(first, Rectangle)
    assert first.get_width() == pytest.approx(100 * 4e-4 * 4 * 2.5 * 0.8 * 1.5)


@pytest.mark.data
def test_a_part_with_fewer_images_is_compared_with_a_reference_of_as_many() -> None:
    assert images_of("factors", 1000) == 300
    assert images_of("table", 1000) == 1000
    assert reference("resnet20", images_of("factors", 20)).subject.images.shape[0] == 20
