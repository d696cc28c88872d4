"""The command line: what it prints and the exit codes it promises."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import xbarsim as xb
from tests.cli.running import one_line, run
from xbarsim import cli
from xbarsim.cli import demonstration
from xbarsim.cli.info import Topic
from xbarsim.devices import card, cell_names, fault_preset, preset_names
from xbarsim.models import MODELS


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"xbarsim {xb.__version__}\n")


@pytest.mark.parametrize("command", [[], ["demo"], ["info"], ["evaluate"]])
def test_help_says_the_exit_codes(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    words = " ".join(result.output.split())
    for promise in (
        "0 done",
        "2 wrong usage or input",
        "is missing",
        "4 a result cannot be written",
        "130 interrupted",
    ):
        assert promise in words


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["info", "nonsense"], ["demo", "--dies", "x"], ["demo", "--nonsense"], ["evaluate"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_info_devices_shows_values_origins_and_sources() -> None:
    output = run("info", "devices").output
    for name in cell_names():
        found = card(name)
        assert f"{name}: {found.description}" in output
        assert found.source in output
        assert found.doi is None or found.doi in output
    for word in ("uS", "measured", "fitted", "assumed", "cited", "programming error, spread"):
        assert word in output
    assert "4.782 - 0.009107 g, at least 0" in output  # milo2021's line, in uS


def test_info_faults_shows_rates_and_sources() -> None:
    output = run("info", "faults").output
    for name in preset_names():
        found = fault_preset(name)
        assert found.source in output
        assert found.doi is None or found.doi in output
    assert "9.04" in output
    assert "1.75" in output


def test_info_components_shows_references() -> None:
    from xbarsim.cost import Hardware

    output = run("info", "components").output
    for reference in Hardware.load("isaac2016").references:
        assert str(reference) in output
    assert "mW" in output


def test_info_networks_and_encodings() -> None:
    output = run("info", "networks").output
    for found in MODELS.values():
        assert found.source in output
        assert f"{100 * found.accuracy:.2f}" in output
    output = run("info", "encodings").output
    for word in ("TwoColumn", "Differential", "Balanced", "Offset", "arXiv:2106.09166", "[[15, 15], [15, 15]]"):
        assert word in output


def test_info_without_a_topic_shows_all() -> None:
    result = run("info")
    assert result.exit_code == 0
    assert all(run("info", topic).output in result.output for topic in Topic)


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo with few images, one rate, and in this process."""
    whole = demonstration.run_demo

    def less(**settings: Any) -> demonstration.DemoResult:
        return whole(**{**settings, "rates": (0.0, 0.05), "images": 20, "workers": 1, "progress": False})

    monkeypatch.setattr(demonstration, "run_demo", less)


@pytest.mark.usefixtures("small_demo")
def test_demo_prints_tables_and_writes_files(tmp_path: Path) -> None:
    outputs = []
    for name in ("first", "second"):
        result = run("demo", "--quick", "--output", str(tmp_path / name), "--dies", "2")
        assert result.exit_code == 0, result.output
        outputs.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
        for word in ("TwoColumn", "Differential", "Balanced", "mostly stuck on", "mostly stuck off", "power (mW)"):
            assert word in result.output
        assert "Differential, repaired" in result.output
        assert "a test that finds 99 % of the stuck cells" in result.output
        assert "area (mm2)" in result.output
        assert "0.2 V" in result.output
        assert result.output.count("wrote ") == 3
    assert outputs[0] == outputs[1]
    assert sorted(outputs[0]) == ["accuracy.png", "results.csv", "summary.csv"]


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_demo(**_: Any) -> None:
        raise AssertionError("the run must not begin")

    monkeypatch.setattr(demonstration, "run_demo", run_demo)


@pytest.mark.usefixtures("no_run")
def test_a_bad_folder_is_4_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    one_line(run("demo", "--output", str(tmp_path / "file")), 4, f"cannot write into folder {tmp_path / 'file'}")
    one_line(run("demo", "--output", str(tmp_path / "file" / "below")), 4, "Not a directory")


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--dies", "0", "dies must be an integer >= 1, got 0"),
        ("--seed", "-1", "seed must be an integer >= 0, got -1"),
        ("--workers", "0", "workers must be an integer >= 1, got 0"),
    ],
)
def test_bad_settings_are_2_and_make_no_folder(tmp_path: Path, option: str, value: str, message: str) -> None:
    one_line(run("demo", "--output", str(tmp_path / "new"), option, value), 2, message)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (xb.FileWriteError(28, "cannot write results.csv: No space left on device"), 4),
        (ImportError("the digits come with scikit-learn, which is not installed"), 3),
        (FileNotFoundError("no data folder: set XBARSIM_DATA to it"), 3),
        (xb.FileFormatError("weights are truncated [at 3]"), 2),
    ],
)
def test_each_kind_of_error_has_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(demonstration, "run_demo", fail)
    message = "interrupted" if code == 130 else str(error).removeprefix("[Errno 28] ")
    one_line(run("demo", "--output", str(tmp_path)), code, message)


def test_evaluate_reports_accuracy_errors_and_cost(tmp_path: Path) -> None:
    design = demonstration.demo_design(xb.mapping.Differential())
    design.save(tmp_path / "design.toml")
    result = run("evaluate", "digits", "--design", str(tmp_path / "design.toml"), "--dies", "2", "--images", "20")
    assert result.exit_code == 0, result.output
    for word in ("exact", "digital, quantised", "mean accuracy", "own error", "power"):
        assert word in result.output
    assert "Student's t over 2 dies" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], f"network must be one of {', '.join(map(repr, MODELS))}, got 'nope'"),
        (["digits", "--dies", "0"], "dies must be an integer >= 1, got 0"),
        (["digits", "--images", "597"], "images must be an integer >= 1 and <= 596, got 597"),
        (["digits", "--design", "missing.toml"], "cannot read Design from missing.toml"),
    ],
)
def test_bad_input_to_evaluate_is_2(arguments: list[str], message: str) -> None:
    one_line(run("evaluate", *arguments), 2, message)


def test_an_unknown_key_in_a_design_is_2(tmp_path: Path) -> None:
    text = demonstration.demo_design(xb.mapping.Balanced()).to_toml()
    (tmp_path / "design.toml").write_text(f"colour = 'red'\n{text}")
    one_line(run("evaluate", "digits", "--design", str(tmp_path / "design.toml")), 2, "has no key 'colour'")


def test_missing_data_is_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    one_line(run("evaluate", "resnet20"), 3, "the data folder has no file")


def test_the_installed_command_is_main() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="xbarsim")
    assert entry.load() is cli.main


def test_the_package_runs_like_the_command() -> None:
    answer = subprocess.run([sys.executable, "-m", "xbarsim", "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout == f"xbarsim {xb.__version__}\n"


def test_help_lists_every_command_of_the_table() -> None:
    names = [command.__name__ for command in cli.COMMANDS]
    assert names == ["demo", "info", "fit", "cost", "evaluate", "sweep", "show", "merge", "export", "plot", "report"]
    lines = [line.strip("│ ").split() for line in run("--help").output.splitlines()]
    assert [line[0] for line in lines if line and line[0] in names] == names


def test_version_and_help_load_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from xbarsim.cli import application\n"
        "assert CliRunner().invoke(application, ['--version']).exit_code == 0\n"
        "assert CliRunner().invoke(application, ['info', 'devices']).exit_code == 0\n"
        "assert not {'torch', 'matplotlib', 'numba', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
