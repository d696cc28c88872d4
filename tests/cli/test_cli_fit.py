"""``xbarsim fit``: one table of what was found and assumed, the card, the picture, and errors in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.running import one_line, run
from xbarsim.devices import Cell, card, fit_cell

HEADER = "device;level;Leitwert"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    rows = [f"{c};{k};{10 * (k + 1) + rng.normal():.4f}".replace(".", ",") for c in range(20) for k in range(4)]
    path = tmp_path / "dev.csv"
    path.write_text("\n".join([HEADER, *rows, "20;0;"]), encoding="utf-8")
    return path


def test_a_table_becomes_a_card_and_a_picture(table: Path, tmp_path: Path) -> None:
    output, picture = tmp_path / "mine.toml", tmp_path / "mine.png"
    told = ["--rename", "Leitwert=conductance (uS)", "--source", "A. Nobody (2026)", "--name", "mine"]
    result = run("fit", str(table), "--output", str(output), "--picture", str(picture), *told)
    assert result.exit_code == 0, result.output
    for words in ("g_min", "levels", "programming error, spread", "read noise", "absent", "dead cells", "assumption",
                  "the comma is the decimal sign", f"wrote {output}", f"wrote {picture}"):  # fmt: skip
        assert words in result.output
    cell = Cell.load(output)
    fitted = fit_cell(table, rename={"Leitwert": "conductance (uS)"}).cell
    assert (cell.name, cell.source, cell.levels) == ("mine", "A. Nobody (2026)", 4)
    assert (cell.g_min, cell.g_max, cell.programming_error) == (fitted.g_min, fitted.g_max, fitted.programming_error)
    assert card(output).programming_error is not None
    assert "no publication was stated" not in result.output
    again = run("fit", str(table), "--output", str(output), *told[:2])
    assert "no publication was stated" in " ".join(again.output.replace("│", " ").split())
    assert "no publication was stated" in Cell.load(output).source
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_an_output_nothing_is_written(table: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = run("fit", str(table), "--rename", "Leitwert=g (uS)", "--levels", "8")
    assert result.exit_code == 0
    assert "assumed" in result.output
    assert sorted(tmp_path.iterdir()) == before


def test_errors_are_one_line(table: Path, tmp_path: Path) -> None:
    one_line(run("fit", str(table)), 2, "column 'Leitwert': it must be a known quantity")
    one_line(run("fit", str(table), "--rename", "Leitwert"), 2, "rename must be HEADER=MEANING, got 'Leitwert'")
    one_line(run("fit", str(table), "--output", "card.json"), 2, "output must end in '.toml'")
    one_line(run("fit", str(tmp_path / "absent.csv")), 2, "cannot read a table of measured conductances")
    told = ["--rename", "Leitwert=g (uS)"]
    one_line(run("fit", str(table), *told, "--clock"), 2, "time_from must be 'programming'")
    one_line(run("fit", str(table), *told, "--decimal", "x"), 2, "decimal must be one of '.', ','")
    missing = str(tmp_path / "absent" / "card.toml")
    failed = run("fit", str(table), *told, "--output", missing)
    assert failed.exit_code == 4
    assert f"xbarsim: cannot write {missing}" in failed.output
