"""``xbarsim cost``: what it prints and writes, and its exit codes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import Result

import xbarsim as xb
from tests.cli.running import run as run_command
from xbarsim.cost import Hardware, hardware
from xbarsim.devices import Cell
from xbarsim.mapping import Differential, TwoColumn


def run(*arguments: str) -> Result:
    return run_command("cost", *arguments)


def design(path: Path, encoding: object, **mapping: object) -> str:
    xb.Design(
        cell=Cell.load("wan2022"),
        mapping=xb.Mapping(encoding=encoding, **mapping),  # type: ignore[arg-type]
        periphery=xb.Periphery(adc_bits=8),
    ).save(path)
    return str(path)


def test_an_architecture_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))  # no data folder
    result = run("resnet20", "--preset", "isaac", "--output", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    for words in (
        "Cost on isaac2016",
        "One inference on isaac2016",
        "eDRAM buffer",
        "stages.0.0.convolution1",
        "energy per inference",
        "Top/s/mm2",
        "note: weights are random",
    ):
        assert words in result.output
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        "peak.csv", "energy.csv", "layers.csv", "summary.csv", "sources.bib", "peak.png", "energy.png", "layers.png",
    }  # fmt: skip
    with (tmp_path / "out" / "energy.csv").open() as file:
        total = sum(float(row["energy_J"]) for row in csv.DictReader(file))
    with (tmp_path / "out" / "summary.csv").open() as file:
        summary = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}
    assert total == pytest.approx(summary["energy per inference"])
    assert "@misc{isaac2016," in (tmp_path / "out" / "sources.bib").read_text()


def test_two_designs_and_what_changes(tmp_path: Path) -> None:
    two, parked = (design(tmp_path / f"{i}.toml", each) for i, each in enumerate((TwoColumn(), Differential())))
    result = run("digits", "--trained", "--design", two, "--compare", parked, "--output", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    with (tmp_path / "out" / "deltas.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert float(rows["cells: energy"]["relative"]) > 1  # parked zeros burn
    assert float(rows["area"]["difference"]) == 0
    assert "Compared" in result.output
    untrained = run("digits", "--design", two, "--compare", parked)
    line = next(line for line in untrained.output.splitlines() if line.startswith("cells: energy"))
    assert line.endswith("+0.0%")  # the card's array power, whatever the cells hold


@pytest.mark.parametrize("preset", ["puma", "forms", "mnsim", "islped", "forms2021_isaac"])
def test_every_preset(preset: str) -> None:
    result = run("digits", "--preset", preset, "--replication", "chip")
    assert result.exit_code == 0, result.output
    assert Hardware.load(preset).name in result.output


def test_options_that_cost(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text((hardware.CARDS.folder / "puma2019.toml").read_text())
    plain, dear = (
        run("digits", "--preset", str(mine), *more).output
        for more in ((), ("--adc", "cimloop2024", "--redundancy", "2", "--spare-columns", "4"))
    )
    area = [float(next(x for x in text.splitlines() if x.startswith("area")).split()[1]) for text in (plain, dear)]
    assert area[1] > 1.2 * area[0]
    assert "puma2019 with cimloop2024" in dear


def test_a_cost_says_what_it_is_of(tmp_path: Path) -> None:
    xb.Design(cell=Cell.load("wan2022"), faults=xb.StuckFaults(on=0.1, off=0.1)).save(tmp_path / "broken.toml")
    output = run("digits", "--trained", "--design", str(tmp_path / "broken.toml")).output
    assert "cell       wan2022" in output
    assert output.index("faults     StuckFaults: 10 % stuck off, 10 % stuck on") < output.index("power")
    assert "note: what the design breaks is in no number here" in output
    assert "note: weights are its own, inputs those of 1,201 training images of digits" in output
    assert "in no number here" not in run("digits").output


def test_two_kinds_of_hardware() -> None:
    output = run("digits", "--compare", "puma").output
    header = next(line for line in output.splitlines() if "difference" in line)
    assert header.split() == ["isaac2016", "puma2019", "difference", "relative"]
    assert "data memory: area (mm2)" in output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["nope"],
            2,
            "model must be one of 'digits', 'resnet20', 'resnet18', 'vgg16', 'lenet5', 'convnet', "
            "'convnet-ternary', 'mnistnet' and 1 others, got 'nope'",
        ),
        (["digits", "--preset", "nope"], 2, "hardware must be one of"),
        (["digits", "--adc", "nope"], 2, "adc must be one of 'cimloop2024'"),
        (
            ["digits", "--replication", "some"],
            2,
            "replication must be 'none', 'chip' or a number of arrays, got 'some'",
        ),
        (["digits", "--replication", "1"], 2, "replication must be an integer >="),
        (["digits", "--redundancy", "0"], 2, "redundancy must be an integer >= 1, got 0"),
        (["digits", "--spare-columns", "-1"], 2, "spare_columns must be an integer >= 0, got -1"),
        (["vgg16", "--trained"], 2, "must be one with stored weights"),
        (["digits", "--design", "none.toml"], 2, "cannot read Design"),
        (["digits", "--compare", "none.toml"], 2, "cannot read Design"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.output
    assert result.output.count("\n") == 1


def test_nothing_is_written_where_nothing_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = run("digits", "--output", str(tmp_path / "file" / "out"))
    assert result.exit_code == 4
    assert result.output.count("\n") == 1


def test_evaluate_refuses_an_architecture() -> None:
    result = run_command("evaluate", "resnet18")
    assert result.exit_code == 2
    assert "network must be one with stored weights" in result.output
