"""The check of a paper's reproduction: the shipped ones pass, and each promise that is broken is named."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.experiments.papers.shipped import shipped
from xbarsim.experiments import papers
from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.papers import gxnor2018, islped2019, isqed2021
from xbarsim.experiments.tolerance import Point
from xbarsim.testing import check_paper

HERE = Path("figures")


def paper(main: Any, cites: str = "Somebody, A paper, 2030, doi:10.1000/182.") -> ModuleType:
    module = ModuleType("a_paper", f"What a paper says. {cites}")
    module.__dict__["main"] = main
    return module


def write(output: Path, text: str = "x\n1\n") -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.csv").write_text(text)


def good(points: int = 3, output: Path = HERE) -> None:
    write(output, "x\n" + "1\n" * points)


def without_output(points: int = 3) -> None:
    write(HERE)


def with_a_needed_argument(points: int, output: Path = HERE) -> None:
    write(output)


def to_the_working_folder(output: Path = HERE) -> None:
    write(output)
    Path("left.txt").write_text("left")


def nothing(output: Path = HERE) -> None:
    pass


def no_rows(output: Path = HERE) -> None:
    write(output, "x\n")


def fails(output: Path = HERE) -> None:
    raise RuntimeError("no data")


@pytest.mark.parametrize(
    "cites", ["doi:10.1109/ISLPED.2019.8824944", "https://doi.org/10.1000/182", "arXiv:2106.09166"]
)
def test_a_good_paper_passes(cites: str) -> None:
    check_paper(paper(good, cites), points=2)


@pytest.mark.parametrize(
    ("main", "promise"),
    [
        (None, "a_paper must have a function main; it is None"),
        (without_output, "main must take the folder to write to as output"),
        (with_a_needed_argument, "main must run without arguments; it needs points"),
        (to_the_working_folder, r"main must write into output, and nothing into the working folder; it left \['left"),
        (nothing, r"main must write a table \(.csv\) into output"),
        (no_rows, "a table must have rows; table.csv has none"),
        (fails, "main must not raise; it raised RuntimeError: no data"),
    ],
)
def test_broken_papers_are_told(main: Callable[..., None] | None, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_paper(paper(main))


def test_a_paper_without_a_source_is_told() -> None:
    with pytest.raises(AssertionError, match="the docstring of a_paper must cite the paper"):
        check_paper(paper(good, "As is well known."))


def test_tables_that_differ_are_told() -> None:
    runs = iter("12")

    def main(output: Path = HERE) -> None:
        write(output, f"x\n{next(runs)}\n")

    with pytest.raises(AssertionError, match="main must write the same table in every run"):
        check_paper(paper(main))


def test_writing_where_it_writes_by_default_is_told(tmp_path: Path) -> None:
    def main(output: Path = tmp_path / "figures") -> None:
        write(output)
        write(tmp_path / "figures")

    (tmp_path / "figures").mkdir()
    with pytest.raises(AssertionError, match=r"main must leave alone the folder .* it changed \['table.csv'\]"):
        check_paper(paper(main))


def test_every_paper_is_checked_here() -> None:
    files = {path.stem for path in Path(inspect.getfile(papers)).parent.glob("*.py")}
    # others than the first two where they are tested: they are measured in miniature
    assert files == {
        "__init__",
        "gxnor2018",
        "islped2019",
        "isqed2021",
        "liaf2021",
        "lottery2021",
        "neurram2022",
        "tsdtw2017",
    }


def test_islped2019_conforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measuring takes minutes: what was measured stands in the shipped table, which is written as it is."""
    rows = shipped(islped2019.Measured, "islped2019.csv")
    monkeypatch.setattr(
        islped2019, "measure", lambda study, **options: [row for row in rows if row.network == study.network]
    )
    check_paper(islped2019)
    islped2019.main(output=tmp_path)
    assert (tmp_path / "islped2019.csv").read_bytes() == (FIGURES / "islped2019.csv").read_bytes()


def test_gxnor2018_conforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = {row.name: row for row in shipped(gxnor2018.Measured, "gxnor2018.csv")}
    monkeypatch.setattr(gxnor2018, "measure", lambda row, **options: rows[row.name])
    check_paper(gxnor2018)
    gxnor2018.main(output=tmp_path)
    assert (tmp_path / "gxnor2018.csv").read_bytes() == (FIGURES / "gxnor2018.csv").read_bytes()


def test_isqed2021_conforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = shipped(Point, "isqed2021.csv")
    monkeypatch.setattr(isqed2021, "tasks", lambda study, images, **options: (study.network, [], []))
    monkeypatch.setattr(isqed2021, "collect", lambda part, **options: SimpleNamespace(tasks=(), network=part))
    monkeypatch.setattr(
        isqed2021, "points", lambda results, whole: [row for row in rows if row.network == whole.network]
    )
    check_paper(isqed2021)
    isqed2021.main(output=tmp_path)
    for name in ("isqed2021.csv", "isqed2021_tolerance.csv"):
        assert (tmp_path / name).read_bytes() == (FIGURES / name).read_bytes()
