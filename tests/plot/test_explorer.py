"""The page to look around in the tiles of a die: that it holds what the die holds, in bounds, and can be used."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

import xbarsim as xb
from tests.plot.test_page import HOSTILE, Handlers, Loads
from tests.sweep.subjects import DESIGN, NAME, task, tiny
from xbarsim import plot
from xbarsim.circuit import Wires
from xbarsim.cli import application
from xbarsim.design import DacErrors
from xbarsim.devices import Cell, FaultKind, LineFaults
from xbarsim.mitigation import Diagnosis, PermuteRows
from xbarsim.plot.page import chosen_task, tiles_of_die, write_report
from xbarsim.sweep import Dies, Store

MEASURED = Cell.load("wan2022")  # with programming errors and a read voltage
MAPPING = xb.Mapping(encoding=xb.Differential(), rows=16, columns=16)


def chip(**changes: Any) -> xb.Chip:
    made = tiny()
    mitigations = changes.pop("mitigations", ())
    network = xb.map_model(made.model, DESIGN.replace(**changes), calibration=made.calibration)
    return network.fabricate(7, mitigations=mitigations, diagnosis=Diagnosis() if mitigations else None)


class Elements(Handlers):
    """Also every script and picture, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        if tag in ("script", "img", "iframe", "link", "object"):
            self.tags.append(tag)


def check_page(text: str) -> None:
    """Whole, with its own picture and scripts, and nothing that a browser fetches or runs besides."""
    page = Elements()
    page.feed(text)
    assert page.open == []
    assert page.tags == ["img", "script", "script"]
    assert {tag for tag, _ in page.found} <= {"img", "script"}
    assert not [
        value for _, value in page.found if value.startswith("on") or (":" in value[:8] and value[:5] != "data:")
    ]


def written(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="explorer-data">(.*?)</script>', page.read_text())
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def array(text: str, kind: str) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), kind)


def levels(layer: dict[str, Any], tile: dict[str, Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Target and held levels, as the script of the page reads them."""
    shape = layer["rows"], layer["columns"]
    each = 8 // layer["bits"]
    packed = array(tile["target"], "u1")
    target = np.stack([packed >> (layer["bits"] * i) & (2 ** layer["bits"] - 1) for i in range(each)], axis=1)
    target = target.ravel()[: shape[0] * shape[1]].reshape(shape)
    if "held" in tile:
        return target, (tile["low"] + tile["step"] * array(tile["held"], "<u2")).reshape(shape)
    held = target.astype(np.float32)
    held.ravel()[array(tile["at"], "<u4")] = array(tile["values"], "<f4")
    return target, held


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mapping": MAPPING},
        {"mapping": xb.Mapping(encoding=xb.Offset(), rows=16, columns=17, weight_bits=4, cell_bits=2)},
        {"mapping": MAPPING, "cell": MEASURED, "wires": Wires(word_line_resistance=5.0, bit_line_resistance=5.0)},
        {"mapping": MAPPING, "line_faults": LineFaults(open_word_line=0.1, open_bit_line=0.1, shorted_bit_lines=0.1)},
        {"mapping": MAPPING, "mitigations": (PermuteRows(),)},
    ],
    ids=["exact", "many tiles", "reference column", "wires", "lines", "permuted"],
)
def test_a_page_holds_what_the_die_holds(changes: dict[str, Any], tmp_path: Path) -> None:
    die = chip(**changes)
    plot.tile_explorer(die, tmp_path / "tiles.html")
    data = written(tmp_path / "tiles.html")
    cell, bits = die.network.design.cell, die.network.design.mapping.cell_bits
    assert [layer["name"] for layer in data["layers"]] == list(die.layers)
    for layer in data["layers"]:
        arrays = die.layers[layer["name"]]
        assert [tile["tile"] for tile in layer["shown"]] == list(range(arrays.matrix.tiles))
        for tile in layer["shown"]:
            view = arrays.tile(tile["tile"])
            target, held = levels(layer, tile)
            np.testing.assert_array_equal(target, view.target)
            np.testing.assert_allclose(held, view.faulty, rtol=0, atol=0.51 * tile.get("step", 0.0))
            np.testing.assert_array_equal(array(tile["stuck"], "<u4"), view.faults.index)
            np.testing.assert_array_equal(array(tile["kinds"], "u1"), view.faults.kind)
            np.testing.assert_array_equal(array(tile["inputs"], "<i4"), arrays.matrix.tile_rows[tile["tile"]])
            in_use = arrays.matrix.tile_rows[tile["tile"]] >= 0
            seen = arrays.seen()[0][tile["tile"], in_use].sum(axis=0, dtype=np.float64)
            read = array(tile["read"], "<f4") if "read" in tile else held[in_use].sum(axis=0)
            np.testing.assert_allclose(read, seen, rtol=1e-5, atol=1e-4 + layer["rows"] * tile.get("step", 0.0))
            wanted = 1e6 * cell.conductance(arrays.through_wires()[tile["tile"], in_use], bits).sum(axis=0)
            found = layer["least"] * in_use.sum() + layer["step"] * held[in_use].sum(axis=0)
            found = array(tile["conductance"], "<f4") if "conductance" in tile else found
            np.testing.assert_allclose(found, wanted, rtol=1e-4)
            assert ("place" in tile) == ("mitigations" in changes)
            if "place" in tile:
                assert arrays.arrangement is not None
                rows = arrays.arrangement.rows[tile["tile"]]
                np.testing.assert_array_equal(array(tile["place"]["rows"], "<i4"), rows)


def test_a_page_says_what_its_sums_are_and_leave_out(tmp_path: Path) -> None:
    path = tmp_path / "tiles.html"
    plot.tile_explorer(chip(), path, title="A die")
    text = path.read_text()
    assert "Die of seed 7." in text
    assert "Levels held are given as they are." in text
    assert "no wires, broken lines, drivers or converters err" in text
    assert "The cell has no read voltage" in text
    periphery = xb.Periphery(dac_errors=DacErrors(gain=0.01, offset=0.1))
    plot.tile_explorer(chip(cell=MEASURED, periphery=periphery), path)
    text = path.read_text()
    assert "Levels held are given to within" in text
    assert f"each row at {MEASURED.read_voltage:g} V" in text
    assert "gains of drivers and converters in it" in text
    assert "Offsets of drivers and converters" in text
    assert ("Read noise, which is drawn anew" in text) == MEASURED.noisy


def test_a_page_is_whole_loads_nothing_and_is_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / "tiles.html"
    plot.tile_explorer(chip(), path)
    text = path.read_text()
    check_page(text)
    assert "default-src &#39;none&#39;" in text
    assert not re.search(r"url\(|@import|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(", text)
    plot.tile_explorer(chip(), path)
    assert path.read_text() == text


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_becomes_a_part_of_the_page(text: str, tmp_path: Path) -> None:
    from torch import nn

    model = nn.Sequential()
    model.add_module(text.replace(".", ""), nn.Linear(6, 4))
    die = xb.map_model(model, DESIGN, calibration=np.random.default_rng(1).random((9, 6), np.float32)).fabricate(7)
    plot.tile_explorer(die, tmp_path / "tiles.html", title=text)
    page = (tmp_path / "tiles.html").read_text()
    check_page(page)
    assert list(die.layers) == [layer["name"] for layer in written(tmp_path / "tiles.html")["layers"]]
    if "<" in text:
        assert text not in page


def test_a_large_die_is_shown_in_part_and_says_so(tmp_path: Path) -> None:
    die, path = chip(mapping=xb.Mapping(rows=4, columns=8, weight_bits=4, cell_bits=2)), tmp_path / "tiles.html"
    plot.tile_explorer(die, path)
    whole = path.stat().st_size
    total = sum(layer.matrix.tiles for layer in die.layers.values())
    assert "tiles are here" not in path.read_text()
    plot.tile_explorer(die, path, most_bytes=70_000)
    data, text = written(path), path.read_text()
    shown = sum(len(layer["shown"]) for layer in data["layers"])
    assert 0 < shown < total
    assert f"{shown} of {total} tiles are here, of each layer those with the most stuck cells" in text
    assert path.stat().st_size < whole
    blob = re.search(r'id="explorer-data">(.*?)</script>.*?', text)
    picture = re.search(r"base64,([^\"]*)", text)
    assert blob is not None
    assert picture is not None
    assert len(blob[1]) + len(picture[1]) <= 70_000
    for layer in data["layers"]:
        counts = [int(die.layers[layer["name"]].faults.tile(t).index.size) for t in range(layer["tiles"])]
        here = [counts[tile["tile"]] for tile in layer["shown"]]
        assert here
        assert sorted(here, reverse=True) == sorted(counts, reverse=True)[: len(here)]
    with pytest.raises(xb.InputError, match=r"most_bytes must be >= \d+ for one tile of this die, got 100"):
        plot.tile_explorer(die, path, most_bytes=100)


def test_a_matrix_has_a_page_and_what_has_no_tile_has_none(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(20, 3))
    plot.tile_explorer(xb.Crossbar(weights, DESIGN, seed=3), tmp_path / "tiles.html")
    assert [layer["name"] for layer in written(tmp_path / "tiles.html")["layers"]] == ["matrix"]
    empty = xb.Crossbar(np.zeros((4, 4)), DESIGN.replace(mapping=xb.Mapping(pack="matrix")), seed=3)
    with pytest.raises(xb.InputError, match="die must have a tile to be looked at, got none"):
        plot.tile_explorer(empty, tmp_path / "none.html")
    with pytest.raises(xb.InputError, match="die must be"):
        plot.tile_explorer(3, tmp_path / "none.html")  # type: ignore[arg-type]
    assert not (tmp_path / "none.html").exists()


# ------------------------------------------------------------------------------------------------ of a sweep

SWEEP = f"""
network = "{NAME}"
calibration = 20
rates = [0.01, 0.05]

[stop]
type = "Dies"
count = 2

[design]
cell = "islped2019"
faults = "chen2015_sa0_lrs"
"""


def test_a_report_shows_the_tiles_of_a_die_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xbarsim.sweep import InProcess, Sweep

    monkeypatch.chdir(tmp_path)
    Path("points.toml").write_text(SWEEP)
    sweep = Sweep.load("points.toml")
    results = xb.collect(sweep.tasks, stop=sweep.stop, store="points.sqlite", executor=InProcess())
    run = CliRunner().invoke
    answer = run(
        application,
        ["report", "points.sqlite", "--tiles", "points.toml", "--die", "1", "--where", "fault_rate=0.05"],
    )
    assert answer.exit_code == 0, answer.output
    text = Path("points.html").read_text()
    measured = results.tasks[1].dies[1]
    assert f"Tiles of die 1 of {sweep.tasks[1]}" in text
    assert f"{measured.correct} of {measured.images} images were classified right on it." in text
    stuck = sum(tile["count"] for layer in written(Path("points.html"))["layers"] for tile in layer["shown"])
    assert stuck == measured.stuck_on + measured.stuck_off + measured.stuck_at
    loads = Loads()
    loads.feed(text)
    assert loads.open == []
    for arguments, message in (
        (["--tiles", "points.toml"], "where must choose one fault_rate_on"),
        (["--die", "1"], "tiles must be given for a die to be shown"),
        (["--tiles", "points.toml", "--where", "fault_rate=2"], "fault_rate must be one of"),
        (["--tiles", "points.toml", "--where", "fault_rate=0.01", "--die", "-1"], "die must be an integer >= 0"),
    ):
        answer = run(application, ["report", "points.sqlite", *arguments])
        assert answer.exit_code == 2
        assert message in answer.output.replace("\n", " ")
    with pytest.raises(xb.InputError, match="task must be one that the store has"):
        write_report("points.sqlite", "none.html", task=task(seed=5))
    unmeasured = tiles_of_die(results, sweep.tasks[0], 40)
    assert "It was not measured in this sweep." in unmeasured.notes


def test_a_die_that_is_not_the_one_that_was_measured_is_refused(tmp_path: Path) -> None:
    from tests.sweep.subjects import block

    with Store(tmp_path / "other.sqlite") as kept:
        kept.begin([task()], Dies(count=1))
        kept.add(block(task().id, 0, 38))  # with a made-up hash of its faults
    with Store(tmp_path / "other.sqlite", read_only=True) as kept:
        results = kept.results()
    with pytest.raises(xb.InputError, match=r"die 0 of .* must have the faults that it was measured with, got others"):
        tiles_of_die(results, task(), 0)
    assert chosen_task([task()]) == task()


# ------------------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


def test_every_cell_is_reached_by_keyboard_and_said_in_words(browser: Any, tmp_path: Path) -> None:
    die = chip(mapping=MAPPING)
    plot.tile_explorer(die, tmp_path / "tiles.html")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    complaints: list[str] = []
    fetched: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto((tmp_path / "tiles.html").as_uri())
    assert complaints == []
    assert [url for url in fetched if not url.startswith("data:")] == [(tmp_path / "tiles.html").as_uri()]
    said = page.locator("[data-part=cell]")
    cells = page.locator("[data-part=map]")
    assert said.get_attribute("aria-live") == "polite"
    name = next(iter(die.layers))
    tile = die.tile(name, 0)

    def sentence(row: int, column: int) -> str:
        kinds = {kind: text for kind, (_, _, text) in plot_kinds().items()}
        place = np.flatnonzero(tile.faults.index == row * 16 + column)
        fault = f"This cell is {kinds[FaultKind(tile.faults.kind[place[0]])]}" if place.size else "This cell works"
        level = f"target level {tile.target[row, column]}, holds {tile.faulty[row, column]:g}"
        return f"Row {row}, column {column}: {level}, .*{fault}"

    cells.focus()
    assert cells.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"  # focus can be seen
    assert re.match(sentence(0, 0), said.inner_text())
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert re.match(sentence(2, 1), said.inner_text())
    page.keyboard.press("End")
    page.keyboard.press("PageDown")
    page.keyboard.press("ArrowRight")  # and not over the edge
    assert re.match(sentence(15, 15), said.inner_text())
    page.keyboard.press("n")  # round the end to the first
    first = int(tile.faults.index[0])
    assert re.match(sentence(*divmod(first, 16)), said.inner_text())
    page.keyboard.press("p")
    assert re.match(sentence(*divmod(int(tile.faults.index[-1]), 16)), said.inner_text())
    box = cells.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 3.5 / 16, box["y"] + box["height"] * 5.5 / 16)
    assert re.match(sentence(5, 3), said.inner_text())

    for details in page.locator("#tiles details summary").all():
        details.click()
    for table in ("row-table", "column-table", "stuck-table"):  # filled after the click, by an event of its own
        page.locator(f"[data-part={table}] tbody tr").first.wait_for()
    assert page.locator("[data-part=row-table] tbody tr").count() == 16
    assert page.locator("[data-part=stuck-table] tbody tr").count() == len(tile.faults.index)
    column = page.locator("[data-part=column-table] tbody tr").nth(4).locator("td").all_inner_texts()
    in_use = die.layers[name].matrix.tile_rows[0] >= 0
    assert float(column[1]) == tile.target[in_use, 4].sum()
    assert float(column[2]) == pytest.approx(tile.faulty[in_use, 4].sum(), rel=1e-3)
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    page.set_viewport_size({"width": 390, "height": 900})
    page.wait_for_function("document.querySelector('[data-part=sums]').clientWidth < 390")
    assert page.evaluate(overflow) == 0
    last = list(die.layers)[-1]
    page.select_option("[data-part=layer]", str(len(die.layers) - 1))
    assert last in page.locator("[data-part=summary]").inner_text()
    for shown in ("target", "error", "held"):
        page.select_option("[data-part=shown]", shown)
    assert complaints == []
    page.close()


def plot_kinds() -> dict[FaultKind, tuple[str, str, str]]:
    from xbarsim.plot.style import STUCK

    return STUCK


def test_without_scripts_a_picture_stands_in_the_page(browser: Any, tmp_path: Path) -> None:
    plot.tile_explorer(chip(), tmp_path / "tiles.html")
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 900})
    page = context.new_page()
    page.goto((tmp_path / "tiles.html").as_uri())
    assert page.locator("#tiles img").is_visible()
    assert not page.locator("#explorer").is_visible()
    box = page.locator("#tiles img").bounding_box()
    assert 200 < box["width"] <= 390
    context.close()
