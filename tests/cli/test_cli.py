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
from xbarsim.cli.info import TOPICS
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


def test_info_is_an_index_of_one_screen() -> None:
    result = run("info")
    assert result.exit_code == 0
    assert result.output.count("\n") < 24
    for name, topic in TOPICS.items():
        (line,) = (line for line in result.output.splitlines() if line.startswith(f"{name} "))
        assert f" {len(list(topic.names()))} " in line
        assert next(iter(topic.names())) in line
    assert "xbarsim info NAME" in result.output


@pytest.mark.parametrize("name", TOPICS)
def test_info_lists_each_topic_one_line_a_name(name: str) -> None:
    result = run("info", name)
    assert result.exit_code == 0
    starts = [line.split(" ")[0] for line in result.output.splitlines()]
    for known in TOPICS[name].names():
        assert starts.count(known) == 1
    assert f"xbarsim info {next(iter(TOPICS[name].names()))}" in result.output  # the next command


def test_info_says_all_of_a_cell() -> None:
    for name in cell_names():
        found = card(name)
        output = run("info", name).output
        assert f"{name}: {found.description}" in output
        assert found.source in output
        assert found.doi is None or found.doi in output
    output = run("info", "milo2021").output
    for word in ("uS", "measured", "fitted", "assumed", "programming error, spread"):
        assert word in output
    assert "4.782 - 0.009107 g, at least 0" in output  # milo2021's line, in uS


def test_info_says_all_of_fault_statistics() -> None:
    for name in preset_names():
        found = fault_preset(name)
        output = run("info", name).output
        assert found.source in output
        assert found.doi is None or found.doi in output
    output = run("info", "chen2015_sa0_hrs").output
    assert "9.04" in output
    assert "1.75" in output


def test_info_says_all_of_what_has_one_name_twice() -> None:
    from xbarsim.cost import Hardware

    output = run("info", "isaac2016").output  # a cell, and hardware
    assert "g_min" in output
    assert "read_time" in output
    for reference in Hardware.load("isaac2016").references:
        assert str(reference) in output
    assert "mW" in output


def test_info_says_all_of_networks_and_encodings() -> None:
    for name in ("digits", "lenet5-106x-5bit"):
        found = MODELS[name]
        output = run("info", name).output
        assert found.source in output
        assert f"{100 * found.accuracy:.2f}" in output
    assert "19,340" in output  # weights that its compression kept
    assert "random: enough for its cost" in run("info", "vgg16").output
    assert "[[15, 15], [15, 15]]" in run("info", "encodings").output
    output = run("info", "differential").output
    assert output.startswith("Differential: Both cells parked")
    assert "arXiv:2106.09166" in output
    assert "`" not in output
    assert "torch.nn.Linear: mapped" in run("info", "Linear").output


def test_info_of_nothing_names_what_is_close() -> None:
    one_line(run("info", "milo"), 2, "did you mean 'milo2021'")
    one_line(run("info", "permute-row"), 2, "did you mean 'permute-rows'")
    one_line(run("info", "zzz"), 2, "'xbarsim info' lists them")


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
        (["nope"], "network must be one of 'digits', 'resnet20'"),
        (["digts"], f"network must be one of {len(MODELS)} names, got 'digts'; did you mean 'digits'"),
        (["digits", "--data-set", "mnist"], "data_set must be 'digits' for network 'digits', got 'mnist'"),
        (["digits", "--rate", "0.1"], "rate must be given with stuck cells to take the ratio"),
        (["digits", "--faults", "chen2015_sa0_hrs", "--rate", "2"], "rate must be a finite number >= 0.0 and <= 1.0"),
        (["digits", "--faults", "chen2015"], "did you mean 'chen2015_sa0_"),
        (["digits", "--encoding", "Diferential"], "encoding must be one of"),
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
    assert names == ["demo", "info", "fit", "cost", "evaluate", "sweep", "search", "show", "merge", "export", "plot",
             "report"]  # fmt: skip
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
