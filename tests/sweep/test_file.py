"""Sweep files, and the commands that run, show, merge and export them."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.sweep.subjects import task
from xbarsim import FileFormatError, InputError, cli
from xbarsim.design import Design
from xbarsim.devices import StuckFaults
from xbarsim.mapping import Differential, TwoColumn
from xbarsim.mitigation import ProtectLayers
from xbarsim.sweep import Dies, MeanWithin, Store, Sweep, collect

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(
    path for path in (ROOT / "experiments" / "sweeps").glob("*.toml") if path.stem != "digits_search"
)  # which is a search
TEXT = """
network = "tests.sweep.subjects:tiny"
calibration = 20
seed = 5
rates = [0.0, 0.1]
tags.study = "mine"
[stop]
type = "Dies"
count = 4
[design]
cell = { g_min = 1e-6, g_max = 1e-5, levels = 16 }
faults = { type = "StuckFaults", on = 0.3, off = 0.1 }
mapping = { rows = 32, columns = 32 }
periphery.adc_range = "lossless"
[vary.mapping.TwoColumn]
design.mapping.encoding.type = "TwoColumn"
[vary.mapping.Differential]
design.mapping.encoding.type = "Differential"
[vary.repair.no]
[vary.repair.first]
mitigations = [{ type = "ProtectLayers", layers = ["0"] }]
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.application, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TEXT)
    return path


def fill(file: Path, store: Path, *, stop: int = 4) -> None:
    from xbarsim.sweep import InProcess

    collect(Sweep.load(file).tasks, stop=stop, executor=InProcess(), store=store)


def test_every_combination_is_a_task() -> None:
    sweep = Sweep.loads(TEXT)
    assert sweep.stop == Dies(count=4)
    assert [dict(found.tags) for found in sweep.tasks[::2]] == [
        {"study": "mine", "mapping": mapping, "repair": repair}
        for mapping in ("TwoColumn", "Differential")
        for repair in ("no", "first")
    ]
    assert [type(found.design.mapping.encoding) for found in sweep.tasks] == [TwoColumn] * 4 + [Differential] * 4
    assert [found.mitigations for found in sweep.tasks[:4]] == [()] * 2 + [(ProtectLayers(layers=("0",)),)] * 2
    assert [found.design.faults for found in sweep.tasks[:2]] == [
        StuckFaults(on=0.0, off=0.0),
        StuckFaults(on=0.3, off=0.1).with_total(0.1),
    ]
    assert all(found.seed == 5 for found in sweep.tasks)
    assert sweep.tasks[0].design.mapping.rows == 32
    same = task(seed=5, design=sweep.tasks[1].design, tags={"other": 1})
    assert sweep.tasks[1].id == same.id


def test_design_from_a_file(tmp_path: Path) -> None:
    sweep = Sweep.loads(TEXT)
    sweep.tasks[0].design.save(tmp_path / "design.toml")
    begin, end = TEXT.index("[design]"), TEXT.index("[vary.mapping.TwoColumn]")
    text = TEXT[:begin] + TEXT[end:]
    (tmp_path / "s.toml").write_text('design = "design.toml"\n' + text.replace("rates = [0.0, 0.1]", ""))
    found = Sweep.load(tmp_path / "s.toml")
    assert found.tasks[0].id == sweep.tasks[0].id
    assert isinstance(found.tasks[2].design.mapping.encoding, Differential)
    assert found.tasks[2].design.mapping.rows == 32


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_can_be_read(path: Path) -> None:
    sweep = Sweep.load(path)
    assert len(sweep.tasks) > 1
    assert len({(found.columns()["task"], str(found)) for found in sweep.tasks if found.network == "digits"}) in (
        0,
        len(sweep.tasks),
    )
    assert isinstance(sweep.stop, Dies | MeanWithin)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[stop]", "[stops]", "stop is missing"),
        ("count = 4", "count = 0", "count must be an integer >= 1 and <= 1000000, got 0"),
        ('"Dies"', '"Days"', "stop.type must be one of 'Dies', 'MeanWithin', 'YieldWithin', got 'Days'"),
        ("seed = 5", "sed = 5", "a sweep has no key 'sed'; its keys are"),
        ("seed = 5", 'seed = "x"', "seed must be int, got 'x'"),
        ("rates = [0.0, 0.1]", "rates = [0.0, 1.5]", r"rates\[1\] must be a finite number .*got 1.5"),
        ("rates = [0.0, 0.1]", "rates = []", "rates must be an array of at least one number"),
        ("faults =", "# faults =", "rates needs a fault model in design.faults"),
        ("[vary.repair.no]", "[vary.repair.no]\nstop = 1", "vary.repair.no cannot change 'stop'"),
        ("[vary.repair.no]", "[vary.repair.no]\nnonsense = 1", "vary.repair.no cannot change 'nonsense'"),
        ("[vary.repair.no]", "[vary.accuracy.no]", "tags must not be called like a column of results, got 'accuracy'"),
        ("rows = 32", "rows = 32, lines = 3", "design.mapping has no key 'lines'"),
        ("network =", "network 3", "is not valid TOML"),
        ("lossless", "losless", "design.periphery.adc_range must be"),
    ],
)
def test_bad_sweeps(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in TEXT
    path = tmp_path / "s.toml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises((FileFormatError, InputError), match=message) as caught:
        Sweep.load(path)
    assert str(path) in str(caught.value)
    result = run("sweep", str(path))
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert result.output.startswith("xbarsim: ")
    assert list(tmp_path.iterdir()) == [path]  # no store was begun


# --- commands


def test_dry_run(file: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    result = run("sweep", str(file), "--store", str(store), "--dry-run")
    assert result.exit_code == 0, result.output
    assert not store.exists()
    assert "8 tasks, 32 dies needed" in result.output
    for found in Sweep.load(file).tasks:
        assert found.id[:12] in result.output
        assert str(found) in result.output
    fill(file, store, stop=3)
    assert "8 tasks, 8 dies needed" in run("sweep", str(file), "--store", str(store), "--dry-run").output
    # Die 3 of each task is missing, which the fourth part of four has, counted from 1.
    for part, needed in (("1/4", 0), ("2/4", 0), ("3/4", 0), ("4/4", 8)):
        result = run("sweep", str(file), "--store", str(store), "--dry-run", "--shard", part)
        assert f"8 tasks, {needed} dies needed" in result.output


def test_sweep_show_export_merge(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("sweep", str(file), "--workers", "1")
    assert result.exit_code == 0, result.output
    assert "32 dies in tiny.sqlite, 32 of them new" in result.output
    assert "study=mine mapping=TwoColumn repair=no rate=0.1: accuracy" in result.output
    assert "32 dies in tiny.sqlite, 0 of them new" in run("sweep", str(file), "--workers", "1").output

    output = run("show", "tiny.sqlite", "--target", "0.5", "--runs").output
    for word in ("Differential", "yield (%) at 50 %", "fault rate", "commit", "32 dies"):
        assert word in output

    result = run("export", "tiny.sqlite", "dies.csv")
    assert result.output == "wrote dies.csv: 32 dies\n"
    with open("dies.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    with Store("tiny.sqlite", read_only=True) as store:
        assert [int(row["correct"]) for row in rows] == [row["correct"] for row in store.results().rows()]
        assert store.runs()[0]["configuration"] == TEXT

    fill(file, Path("more.sqlite"), stop=6)
    result = run("merge", "all.sqlite", "tiny.sqlite", "more.sqlite")
    assert result.output == "48 dies in all.sqlite, 48 of them new\n"
    assert run("merge", "all.sqlite", "tiny.sqlite").output == "48 dies in all.sqlite, 0 of them new\n"


def test_show_and_export_of_an_unfinished_sweep(file: Path, tmp_path: Path) -> None:
    from xbarsim.sweep import InProcess

    store = tmp_path / "s.sqlite"
    collect(Sweep.load(file).tasks, stop=4, executor=InProcess(), store=store, shard=(0, 2))
    output = run("show", str(store)).output
    assert "1 so far" in output
    assert "8 of 8 tasks need more dies" in output
    assert "8 dies (8 more with --all)" in run("export", str(store), str(tmp_path / "d.csv")).output
    assert "16 dies\n" in run("export", str(store), str(tmp_path / "d.csv"), "--all").output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sweep", "none.toml"], 2, "cannot read a sweep from none.toml"),
        (["sweep", "tiny.toml", "--workers", "0"], 2, "workers must be an integer >= 1, got 0"),
        (["sweep", "tiny.toml", "--shard", "0/3"], 2, "shard must be i/n with 1 <= i <= n, got '0/3'"),
        (["sweep", "tiny.toml", "--shard", "4/3"], 2, "shard must be i/n with 1 <= i <= n, got '4/3'"),
        (["sweep", "tiny.toml", "--dask", "x:1", "--workers", "2"], 2, "workers must not be given with dask"),
        (["sweep", "tiny.toml", "--store", "none/s.sqlite"], 4, "there is no folder none"),
        (["sweep", "tiny.toml", "--store", "tiny.toml"], 2, "tiny.toml is not a store of sweeps, or is corrupt"),
        (["show", "none.sqlite"], 2, "cannot read store none.sqlite: there is no such file"),
        (["show", "tiny.toml"], 2, "tiny.toml is not a store of sweeps"),
        (["merge", "new.sqlite", "none.sqlite"], 2, "cannot read store none.sqlite"),
        (["merge", "new.sqlite", "tiny.toml"], 2, "tiny.toml is not a store of sweeps"),
        (["export", "none.sqlite", "x.csv"], 2, "cannot read store none.sqlite"),
    ],
)
def test_one_line_for_what_goes_wrong(
    arguments: list[str], code: int, message: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    result = run(*arguments)
    assert (result.exit_code, result.output.count("\n")) == (code, 1), result.output
    assert message in result.output
    assert sorted(path.name for path in file.parent.iterdir()) == ["tiny.toml"]


def test_a_task_that_cannot_be_measured(file: Path, tmp_path: Path) -> None:
    file.write_text(TEXT.replace("seed = 5", 'seed = 5\nmetrics = ["tests.sweep.subjects:raises"]'))
    result = run("sweep", str(file), "--store", str(tmp_path / "s.sqlite"), "--workers", "1")
    assert result.exit_code == 5
    # every task is shown with what failed, and the first failures with their reasons
    # of the four dies the last is not begun where the first three have failed by then
    shown = re.findall(
        r"^study=mine mapping=\S+ repair=\S+ rate=\S+: 0 dies, [34] failed$", result.output, re.MULTILINE
    )
    assert len(shown) == 8
    assert any(line.startswith("study=mine mapping=TwoColumn repair=no rate=0:") for line in shown)
    assert "die 1: ValueError: this metric knows no answer (1 try)" in result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupts_end_cleanly(number: int, file: Path, tmp_path: Path) -> None:
    file.write_text(TEXT.replace("count = 4", "count = 100000"))
    store = tmp_path / "s.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-m", "xbarsim", "sweep", str(file), "--store", str(store), "--workers", "1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            time.sleep(0.1)
            if store.exists():
                try:
                    with Store(store, read_only=True) as kept:
                        if kept.count():
                            break
                except FileFormatError:  # seen between its making and its tables
                    continue
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, output
    with Store(store, read_only=True) as kept:
        count = kept.count()
    assert count > 0
    assert output == f"xbarsim: interrupted; {count} dies are in {store}, the same command goes on\n"


class TestExport:
    """Dies of a store as a file, by its ending."""

    @pytest.fixture
    def store(self, file: Path, tmp_path: Path) -> str:
        from xbarsim.sweep import InProcess

        path = tmp_path / "s.sqlite"
        collect(Sweep.load(file).tasks[:2], stop=2, executor=InProcess(), store=path)
        return str(path)

    @pytest.mark.parametrize("name", ["dies.xlsx", "dies", "dies.csv.gz"])
    def test_an_unknown_ending_is_refused(self, store: str, tmp_path: Path, name: str) -> None:
        result = run("export", store, str(tmp_path / name))
        assert (result.exit_code, result.output) == (
            2,
            f"xbarsim: output must end in .csv or .parquet, got {name!r}\n",
        )
        assert not (tmp_path / name).exists()

    def test_parquet_holds_what_the_frame_holds(self, store: str, tmp_path: Path) -> None:
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        result = run("export", store, str(tmp_path / "dies.parquet"))
        assert result.exit_code == 0, result.output
        assert "4 dies" in result.output
        with Store(store, read_only=True) as kept:
            wanted = kept.results().to_frame()
        pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "dies.parquet"), wanted)

    @pytest.mark.parametrize("absent", ["pandas", "pyarrow"])
    def test_what_parquet_needs_is_named_where_it_is_absent(
        self, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str
    ) -> None:
        monkeypatch.setitem(sys.modules, absent, None)
        result = run("export", store, str(tmp_path / "dies.parquet"))
        assert result.exit_code == 3
        assert absent in result.output
        assert "pip install 'xbarsim[frames]'" in result.output
        assert result.output.count("\n") == 1
        assert not (tmp_path / "dies.parquet").exists()


def test_a_design_may_be_one_that_comes_with_the_project(tmp_path: Path) -> None:
    text = 'network = "digits"\ndesign = "isaac2016"\nimages = 10\n[stop]\ntype = "Dies"\ncount = 2\n'
    path = tmp_path / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    (task,) = Sweep.load(path).tasks
    assert task.design == Design.load("isaac2016")
    path.write_text(text.replace("isaac2016", "isac2016"), encoding="utf-8")
    with pytest.raises(InputError, match="did you mean 'isaac2016'"):
        Sweep.load(path)
