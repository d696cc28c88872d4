"""The code in the documents runs as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def blocks(document: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)


def run(code: list[str], document: str) -> dict[str, object]:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(code):
        exec(compile(block, f"{document}, block {number}", "exec", dont_inherit=True), namespace)
    return namespace


def test_the_three_entrances_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    *entrances, compression = blocks("README.md")
    run(entrances, "README.md")
    assert "accuracy" in capsys.readouterr().out
    assert (tmp_path / "sweep.sqlite").is_file()

    run(["import numpy as np\nimport xbarsim as xb", compression], "README.md")
    line = re.compile(r"^(\d) bits: ([\d.]+)%, (\d+) arrays, (\d+) mW, ([\d,]+) um2$", flags=re.MULTILINE)
    said, printed = line.findall((ROOT / "README.md").read_text()), line.findall(capsys.readouterr().out)
    assert len(said) == len(printed) == 2
    for stated, found in zip(said, printed, strict=True):
        assert float(found[1]) == pytest.approx(float(stated[1]), abs=2.0)  # training differs between processors
        assert (found[0], *found[2:]) == (stated[0], *stated[2:])


def test_how_to_bring_parts_of_your_own() -> None:
    encoding, fault_model = blocks("docs/extending.md")
    run([encoding], "docs/extending.md")
    run([fault_model], "docs/extending.md")


def test_how_to_repair_a_die(capsys: pytest.CaptureFixture[str]) -> None:
    repair, formula = blocks("docs/repair.md")
    run([repair], "docs/repair.md")
    assert "PermuteRows" in capsys.readouterr().out
    run([formula], "docs/repair.md")


def test_what_comes_with_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    run(blocks("docs/devices.md"), "docs/devices.md")
    assert "wan2022_lines" in capsys.readouterr().out


def test_how_to_match_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    run(blocks("docs/sequences.md"), "docs/sequences.md")
    assert "only local distances are on crossbars" in capsys.readouterr().out


def test_how_to_train_and_map_a_ternary_network(capsys: pytest.CaptureFixture[str]) -> None:
    (ternary,) = blocks("docs/ternary.md")
    accuracy = re.search(r"([0-9.]+) ?%", capsys.readouterr().out + str(run([ternary], "docs/ternary.md")["network"]))
    assert accuracy is not None


def test_how_to_map_a_network_of_spikes(capsys: pytest.CaptureFixture[str]) -> None:
    (spikes,) = blocks("docs/spikes.md")
    run([spikes], "docs/spikes.md")
    assert capsys.readouterr().out.strip().endswith("True")


def test_the_page_of_repair_names_every_method() -> None:
    from xbarsim.cli.mitigations import methods

    text = (ROOT / "docs/repair.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (nothing|rates|images|map) \|", text, flags=re.MULTILINE))
    assert rows == {kind.__name__: kind.needs for kind in methods().values()}


def commands() -> list[tuple[str, str]]:
    """Every command line of the project in a document or an example, with where it stands."""
    found = []
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "experiments").rglob("*.toml")),
    ):
        text = path.read_text()
        for command in re.findall(r"(?:^#? *|`)(xbarsim [a-z][^`\n#]*)", text, flags=re.MULTILINE):
            found.append((path.name, command.partition("   ")[0].strip()))
    return found


def test_every_command_in_a_document_is_one_that_there_is() -> None:
    from typer.main import get_command

    from xbarsim.cli import application
    from xbarsim.cli.info import TOPICS

    known: Any = get_command(application)
    found = commands()
    assert len(found) > 8
    for place, command in found:
        _, name, *arguments = shlex.split(command)
        assert name in known.commands, (place, command)
        options = {option for each in known.commands[name].params for option in each.opts}
        assert {argument for argument in arguments if argument.startswith("--")} <= options, (place, command)
        if name == "info" and arguments:
            names = {name for topic in TOPICS.values() for name in topic.names()}
            assert arguments[0] in names | TOPICS.keys(), (place, command)
        for argument in arguments:
            if argument.startswith("experiments/"):
                assert (ROOT / argument).exists(), (place, command)


def test_rows_of_tables_have_the_columns_of_their_head() -> None:
    """A page shows no cell beyond those of the head, and says nothing of it."""
    wrong, tables = [], 0
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        lines = [re.sub(r"`[^`]*`|\\\|", "", line) for line in page.read_text().splitlines()]
        for number, line in enumerate(lines):
            if not re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", line):
                continue
            tables += 1
            row = number + 1
            while row < len(lines) and lines[row].startswith("|"):
                if not lines[row].count("|") == lines[number - 1].count("|") == line.count("|"):
                    wrong.append(f"{page.relative_to(ROOT)}:{row + 1}")
                row += 1
    assert tables > 40
    assert wrong == []
