"""The demonstration: its numbers, its files, and that they can be had again."""

from __future__ import annotations

import csv
import dataclasses
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
import torch
from scipy import stats

import xbarsim as xb
from xbarsim.cli.demonstration import DemoResult, demo_design, run_demo, summarise
from xbarsim.devices import POLARITIES, StuckFaults
from xbarsim.foundation.validation import FileWriteError, prepare_folder
from xbarsim.mapping import Differential

SMALL: dict[str, Any] = {"dies": 3, "seed": 4, "rates": (0.0, 0.02, 0.1), "images": 60, "progress": False}


@pytest.fixture
def threads() -> Iterator[None]:
    before = numba.get_num_threads(), torch.get_num_threads()
    yield
    xb.set_threads(before[0])
    torch.set_num_threads(before[1])


@pytest.fixture(scope="module")
def result() -> DemoResult:
    return run_demo(**SMALL)


def test_one_row_a_die(result: DemoResult) -> None:
    keys = [(die["polarity"], die["rate"], die["mapping"], die["die_seed"]) for die in result.dies]
    sound = 2 * 3 * 1  # polarities, mappings that are not repaired, one die: all are alike
    assert len(keys) == len(set(keys)) == sound + 2 * 1 * 3 + 2 * 2 * 4 * 3
    seeds = {die["die_seed"] for die in result.dies}
    assert len(seeds) == 3
    assert {die["images"] for die in result.dies} == {60}


def test_every_mapping_meets_the_same_dies(result: DemoResult) -> None:
    found: dict[tuple[str, float, int], set[tuple[int, int, int]]] = {}
    for die in result.dies:
        found.setdefault((die["preset"], die["rate"], die["die_seed"]), set()).add(
            (die["cells_stuck_on"], die["cells_stuck_off"], die["cells"])
        )
    assert all(len(counts) == 1 for counts in found.values())


@pytest.mark.parametrize("preset", list(POLARITIES))
def test_rates_are_those_of_the_preset_and_are_realised(result: DemoResult, preset: str) -> None:
    parts = StuckFaults.load(preset)
    for die in result.dies:
        if die["preset"] == preset:
            assert die["on"] + die["off"] == pytest.approx(die["rate"])
            assert die["on"] * parts.off == pytest.approx(die["off"] * parts.on)
            for count, rate in ((die["cells_stuck_on"], die["on"]), (die["cells_stuck_off"], die["off"])):
                # exact binomial test; false alarm below 1e-6 a draw
                assert rate == count == 0 or stats.binomtest(count, die["cells"], rate).pvalue > 1e-6


def test_without_faults_all_mappings_are_the_digital_network(result: DemoResult) -> None:
    """What is repaired after false alarms is so nearly."""
    everywhere = [point for point in result.summary if point["rate"] == 0]
    points = [point for point in everywhere if "repaired" not in point["mapping"]]
    assert all(abs(point["accuracy_mean"] - points[0]["accuracy_mean"]) < 0.02 for point in everywhere)
    assert len({point["accuracy_mean"] for point in points}) == 1
    assert points[0]["accuracy_mean"] > 0.95
    assert all(
        (point["accuracy_low"], point["accuracy_high"], point["accuracy_deviation"]) == (None, None, None)
        for point in points
    )


def test_faults_cost_accuracy_and_the_mapping_decides_how_much(result: DemoResult) -> None:
    mean = {(point["polarity"], point["rate"], point["mapping"]): point["accuracy_mean"] for point in result.summary}
    for name in ("TwoColumn", "Differential", "Balanced"):
        assert mean["mostly stuck on", 0.1, name] < mean["mostly stuck on", 0.0, name] - 0.2
    for polarity in POLARITIES.values():
        unrepaired, repaired = (mean[polarity, 0.1, name] for name in ("Differential", "Differential, repaired"))
        assert repaired > mean[polarity, 0.0, "Differential"] - 0.05
        assert unrepaired < repaired - 0.2
    assert mean["mostly stuck on", 0.02, "Differential"] > mean["mostly stuck on", 0.02, "TwoColumn"]
    assert mean["mostly stuck off", 0.1, "Differential"] < mean["mostly stuck off", 0.1, "TwoColumn"]


def test_parked_zeros_cost_power(result: DemoResult) -> None:
    power = {cost["mapping"]: cost["cells_power"] for cost in result.costs}
    assert power["TwoColumn"] < power["Balanced"] < power["Differential"]
    area = {cost["mapping"]: cost["area"] for cost in result.costs}
    assert area["TwoColumn"] == area["Differential"] == area["Balanced"] < area["Differential, repaired"]


def _die(correct: int, *, rate: float = 0.1) -> dict[str, Any]:
    return {
        "mapping": "TwoColumn", "polarity": "p", "preset": "chen2015_sa0_hrs", "rate": rate, "on": rate, "off": 0.0,
        "correct": correct, "images": 10, "accuracy": correct / 10, "power_W": 2.0, "area_m2": 3.0,
    }  # fmt: skip


def test_the_interval_is_students_t() -> None:
    counts = [3, 5, 6, 6, 8]
    point = summarise([_die(count) for count in counts])
    accuracies = [count / 10 for count in counts]
    expected = stats.t.interval(0.95, 4, statistics.fmean(accuracies), stats.sem(accuracies))
    assert (point["accuracy_low"], point["accuracy_high"]) == pytest.approx(expected)
    assert point["accuracy_mean"] == pytest.approx(0.56)
    assert (point["accuracy_worst"], point["accuracy_best"], point["dies"]) == (0.3, 0.8, 5)


def test_no_interval_where_there_is_none() -> None:
    assert summarise([_die(3)])["accuracy_low"] is None
    assert summarise([_die(9, rate=0.0)] * 4)["accuracy_high"] is None
    assert summarise([_die(9, rate=0.0), _die(8, rate=0.0)])["accuracy_high"] is not None  # false alarms
    whole = summarise([_die(0), _die(10)])
    assert (whole["accuracy_low"], whole["accuracy_high"]) == (0.0, 1.0)


def test_files_read_back(result: DemoResult, tmp_path: Path) -> None:
    written = result.save(tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["results.csv", "summary.csv", "accuracy.png"]
    rows = list(csv.DictReader(written[0].read_text().splitlines()))
    assert [int(row["correct"]) for row in rows] == [die["correct"] for die in result.dies]
    assert [float(row["on"]) for row in rows] == [die["on"] for die in result.dies]
    summary = list(csv.DictReader(written[1].read_text().splitlines()))
    assert len(summary) == len(result.summary) == 24
    assert [row["accuracy_low"] == "" for row in summary] == [point["accuracy_low"] is None for point in result.summary]
    assert written[2].read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in written[0].parent.iterdir()) == ["accuracy.png", "results.csv", "summary.csv"]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2])
def test_same_seed_same_bytes_for_any_number_of_threads(result: DemoResult, count: int) -> None:
    try:
        xb.set_threads(count)
    except xb.InputError:
        pytest.skip("one core")
    if count == 1:
        again = run_demo(**SMALL)
        assert again == result
        assert again.files() == result.files()
    else:  # with fewer dies: threads that share cores with other tests wait for each other
        some = run_demo(**{**SMALL, "dies": 1, "rates": (0.1,)})
        assert some.dies
        assert all(die in result.dies for die in some.dies)


def test_same_bytes_from_worker_processes(result: DemoResult) -> None:
    assert run_demo(**SMALL, workers=2).files() == result.files()


def test_another_seed_is_another_result(result: DemoResult) -> None:
    other = run_demo(**{**SMALL, "seed": 5, "rates": (0.1,)})
    assert {die["die_seed"] for die in other.dies}.isdisjoint(die["die_seed"] for die in result.dies)


def test_more_dies_begin_with_the_same_ones(result: DemoResult) -> None:
    fewer = run_demo(**{**SMALL, "dies": 1, "rates": (0.1,)})
    assert all(die in result.dies for die in fewer.dies)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dies": 0}, "dies must be an integer >= 1, got 0"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"workers": 0}, "workers must be an integer >= 1, got 0"),
        ({"images": 597}, "images must be an integer >= 1 and <= 596, got 597"),
        ({"rates": ()}, "rates must be at least one number"),
        ({"rates": (0.1, 0.1)}, "rates must be .* ascending"),
        ({"rates": (0.1, 1.5)}, r"rates\[1\] must be .* <= 1.0, got 1.5"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(xb.InputError, match=message):
        run_demo(**{**SMALL, **change})


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileWriteError, match="cannot write into folder"):
            prepare_folder(bad)
    assert list(prepare_folder(tmp_path / "a" / "b").iterdir()) == []


def test_a_failed_write_leaves_the_old_file(
    result: DemoResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results.csv").write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileWriteError, match=r"cannot write .*results\.csv: No space left"):
        result.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    assert (tmp_path / "results.csv").read_text() == "old"


def test_the_design_survives_toml() -> None:
    design = demo_design(Differential())
    assert xb.Design.from_toml(design.to_toml()) == design
    assert design.cell.read_voltage == 0.2
    assert dataclasses.replace(design.cell, read_voltage=None) == xb.devices.Cell.load("islped2019")
