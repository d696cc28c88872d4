"""The pages of the guide, and those for users of other simulators, run from top to bottom, each in a folder of its own.

A block whose first line is a comment with a file's name is that file. Sweeps run in this process, as in a debugger:
that processes give the same is tested where sweeps are.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import run

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (
    "own_mlp",
    "own_cnn",
    "own_onnx",
    "own_device",
    "own_encoding",
    "compare_mappings",
    "sweep",
    "cluster",
    "search",
    "plot",
    "cost",
    "repair",
    "training",
    "read_a_report",
)
PEERS = ("aihwkit", "crosssim", "neurosim", "mnsim", "memtorch")
PAGES = ("docs/index.md", *(f"docs/guide/{name}.md" for name in GUIDE), *(f"docs/peers/{name}.md" for name in PEERS))
LEFT = {  # what a page leaves behind, and a word that it prints
    "docs/index.md": ("sweep.sqlite", "accuracy_mean"),
    "docs/guide/own_mlp.md": ("", "of 200 images"),
    "docs/guide/own_cnn.md": ("weights.pt", "mean accuracy"),
    "docs/guide/own_onnx.md": ("net.onnx", "of 200 images"),
    "docs/guide/own_device.md": ("fit.png", "programming error, spread"),
    "docs/guide/own_encoding.md": ("", ""),
    "docs/guide/compare_mappings.md": ("", "difference_low"),
    "docs/guide/sweep.md": ("dies.csv", "accuracy_mean"),
    "docs/guide/cluster.md": ("all.sqlite", "accuracy_mean"),
    "docs/guide/search.md": ("front.png", "designs are on the front"),
    "docs/guide/plot.md": ("page.html", ""),
    "docs/guide/cost.md": ("", "@"),
    "docs/guide/repair.md": ("", "PermuteRows"),
    "docs/guide/training.md": ("", "["),
    "docs/guide/read_a_report.md": ("layers.png", "against float"),
}
MOST_LINES = 15


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every block of a page that is run, or is a file."""
    found = re.findall(
        r"^```(python|console|toml)\n(.*?)^```$", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE
    )
    assert found, page
    return found


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from xbarsim.sweep import InProcess

    class Here(InProcess):
        def __init__(self, workers: int | None = None) -> None:
            super().__init__()

        def close(self) -> None:
            pass

    monkeypatch.setattr("xbarsim.sweep.collecting.LocalProcesses", Here)


def command(line: str) -> str:
    """What an `xbarsim` command prints; it must end well."""
    program, *arguments = shlex.split(line)
    assert program == "xbarsim"
    result = run(*arguments)
    assert result.exit_code == 0, f"{line}\n{result.output}"
    return result.output


@pytest.mark.filterwarnings("ignore::xbarsim.foundation.intervals.FewDiesWarning")
@pytest.mark.filterwarnings("ignore::xbarsim.network.report.ClippingWarning")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_it_stands(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    in_this_process: None,
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which has the digits, is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for language, text in blocks(page):
        file = re.match(r"# ([\w.]+\.(?:py|toml))\n", text)
        if file is not None:
            Path(file[1]).write_text(text)
        if language == "python":
            exec(compile(text, page, "exec", dont_inherit=True), names)
        elif language == "console":
            printed += "".join(command(line) for line in text.splitlines())
    printed += capsys.readouterr().out
    left, word = LEFT.get(page, ("", ""))
    assert (tmp_path / left).exists()
    assert word in printed
    assert printed or not word


@pytest.mark.parametrize("name", GUIDE)
def test_a_task_takes_at_most_fifteen_lines(name: str) -> None:
    lines = [
        line
        for language, text in blocks(f"docs/guide/{name}.md")
        if language != "toml"
        for line in text.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    assert len(lines) <= MOST_LINES, len(lines)


def test_every_page_of_the_guide_is_run() -> None:
    assert {path.stem for path in (ROOT / "docs/guide").glob("*.md")} == {*GUIDE, "index"}
    assert {path.stem for path in (ROOT / "docs/peers").glob("*.md")} == {*PEERS, "index"}


def test_a_command_that_fails_is_seen() -> None:
    with pytest.raises(AssertionError, match="model must be one of"):
        command("xbarsim cost no-such-network")
