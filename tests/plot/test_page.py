"""Pictures and the page of a store: what they show, that they load nothing, and what is refused."""

from __future__ import annotations

import html.parser
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import xbarsim as xb
from tests.sweep.subjects import block, task
from xbarsim import plot
from xbarsim.cli import application
from xbarsim.devices import StuckFaults
from xbarsim.mapping import Differential, TwoColumn
from xbarsim.plot import save_figure
from xbarsim.plot.page import draw, report_html, write_report
from xbarsim.sweep import Dies, Results, Store, Task

METRICS = ("power_W", "area_m2")
VOID = ("meta", "br", "link", "img", "input")  # elements that nothing closes


def tasks() -> list[Task]:
    """Two polarities, two encodings and three rates."""
    found = []
    for polarity, (on, off) in {"<on>": (0.8, 0.2), "off": (0.2, 0.8)}.items():
        for encoding in (TwoColumn(), Differential()):
            for rate in (0.0, 0.01, 0.1):
                base = task()
                mapping = xb.Mapping(encoding=encoding, rows=32, columns=32)
                faults = StuckFaults(on=rate * on, off=rate * off)
                design = base.design.replace(mapping=mapping, faults=faults)
                tags = {"polarity": polarity, "mapping": encoding.name}
                found.append(task(design=design, metrics=METRICS, tags=tags))
    return found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "my_sweep.sqlite"
    with Store(path) as kept:
        kept.begin(tasks(), Dies(count=4), configuration="# <what> was asked for\n")
        for asked in tasks():
            for die in range(4):
                columns = asked.columns()
                worse = columns["mapping"] == "TwoColumn"
                lost = int(columns["fault_rate"] * 100 * (2 if worse else 1))
                correct = 38 - lost - die * (lost > 0)
                kept.add(block(asked.id, die, correct, metrics={"power_W": 0.1 + worse, "area_m2": 1e-6}))
    return path


def results(store: Path) -> Results:
    with Store(store, read_only=True) as kept:
        return kept.results()


class Loads(html.parser.HTMLParser):
    """Everything in a page that a browser would fetch, and whether its elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            outside = name in ("src", "href", "xlink:href", "data", "action") and not (value or "").startswith("#")
            if outside or tag in ("script", "link", "iframe", "img"):
                self.found.append((tag, str(value)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_is_whole_and_loads_nothing(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_report(store, page, target=0.9, chance=0.2)
    text = page.read_text()
    loads = Loads()
    loads.feed(text)
    assert loads.found == []
    assert loads.open == []
    assert not re.search(r"url\((?!#)|@import", text)
    # 2 polarities, each: accuracy, yield, dies, and power
    assert text.count("<figure>") == text.count("</svg>") == 8
    assert text.count("<tr>") == 1 + 12 + 1 + 1  # every task, and the run
    assert "<title>my sweep</title>" in text
    assert "&lt;on&gt;" in text
    assert "<on>" not in text
    assert "# &lt;what&gt; was asked for" in text
    assert "48 dies of 12 tasks" in text
    assert "more dies" not in text
    for row in results(store).summary(target=0.9):
        assert f"<td class=number>{100 * row['accuracy_mean']:.2f}</td>" in text
    first = text
    write_report(store, page, target=0.9, chance=0.2)
    assert page.read_text() == first


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "--><script>alert(1)</script><!--",
    "]]></style></svg><script>alert(1)</script>",
    "<a href='javascript:alert(1)'>x</a>",
    "{{ 7 * 7 }}{% include 'page.html' %}",
    "$\\href{javascript:alert(1)}{x}$",
)


class Handlers(Loads):
    """Also the attributes that a browser runs."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        self.found += [(tag, name) for name, _ in attrs if name.startswith("on")]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_store_says_becomes_a_part_of_its_page(text: str, tmp_path: Path) -> None:
    path, page = tmp_path / "hostile.sqlite", tmp_path / "page.html"
    asked = []
    for rate in (0.0, 0.01):
        for value in (text, "harmless"):
            faults = StuckFaults(on=rate, off=rate)
            asked.append(task(design=task().design.replace(faults=faults), tags={text: value, "mapping": value}))
    with Store(path) as kept:
        kept.begin(asked, Dies(count=2), configuration=text)
        for each in asked:
            for die in range(2):
                kept.add(block(each.id, die, 38 - die))
    write_report(path, page, title=text)
    written = page.read_text()
    found = Handlers()
    found.feed(written)
    assert found.found == []
    assert found.open == []
    assert "49" not in re.findall(r"<title>(.*?)</title>", written)
    if "<" in text:
        assert text not in written


def test_a_page_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "part.sqlite"
    with Store(path) as kept:
        kept.begin(tasks()[:2], Dies(count=4))
        kept.add(block(tasks()[0].id, 0, 38, metrics={"power_W": 0.1, "area_m2": 1e-6}))
    text = report_html(results(path))
    assert "2 of 2 tasks need more dies" in text
    assert ">1 so far</td>" in text


def test_a_store_without_dies_has_no_page(tmp_path: Path) -> None:
    path = tmp_path / "none.sqlite"
    with Store(path) as kept:
        kept.begin(tasks(), Dies(count=4))
    with pytest.raises(xb.InputError, match="results must hold at least one die that counts, got none"):
        write_report(path, tmp_path / "page.html")
    with pytest.raises(xb.FileFormatError):
        write_report(tmp_path / "nothing.sqlite", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    with pytest.raises(xb.InputError, match=r"target must be .* got 2"):
        report_html(results(path), target=2.0)


def test_curves_are_chosen_by_what_tells_tasks_apart(store: Path) -> None:
    axes = draw(results(store), where={"polarity": "off"}).axes[0]
    assert [str(line.get_label()) for line in axes.get_lines()] == ["TwoColumn", "Differential"]
    axes = draw(results(store), group="polarity", where={"mapping": "TwoColumn"}, chance=0.1).axes[0]
    assert [str(line.get_label()) for line in axes.get_lines()][:2] == ["<on>", "off"]
    axes = draw(results(store), "dies", where={"polarity": "off", "fault_rate": "0.10"}).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["TwoColumn", "Differential"]
    axes = draw(results(store), "dies", group="fault_rate", where={"polarity": "off", "mapping": "TwoColumn"}).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.01", "0.1"]
    assert draw(results(store), "yield", where={"polarity": "off"}, target=0.9).axes
    assert draw(results(store), "cost", where={"polarity": "off", "fault_rate": "0"}).axes
    assert draw(results(store), "layers", where={"polarity": "off", "fault_rate": "0.1"}, baseline=0.95).axes


def test_one_more_column_makes_panels(store: Path) -> None:
    for kind, target in (("accuracy", None), ("yield", 0.9)):
        first, second = draw(results(store), kind, target=target).axes  # type: ignore[arg-type]
        assert [first.get_title(), second.get_title()] == ["polarity: <on>", "polarity: off"]
        assert first.get_ylim() == second.get_ylim()
        for panel, value in ((first, "<on>"), (second, "off")):
            alone = draw(results(store), kind, where={"polarity": value}, target=target).axes[0]  # type: ignore[arg-type]
            for line, other in zip(panel.get_lines(), alone.get_lines(), strict=True):
                assert np.array_equal(line.get_xydata(), other.get_xydata())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"kind": "dies"},
            r"where must choose one polarity \(<on>, off\), or group must be 'polarity', got group 'map",
        ),
        ({"kind": "dies", "where": {"polarity": "off"}}, r"where must choose one fault_rate \(0.0, 0.01, 0.1\)"),
        ({"kind": "pie"}, "kind must be one of 'accuracy', 'yield', 'dies', 'layers', 'cost', got 'pie'"),
        ({"kind": "yield", "where": {"polarity": "off"}}, "target must be an accuracy for a picture of the yield"),
        (
            {"where": {"colour": "red"}},
            r"where must name a column, one of \d+ names, got 'colour'; did you mean 'columns'",
        ),
        ({"where": {"polarity": "up"}}, "polarity must be one of '<on>', 'off', got 'up'"),
        ({"group": "colour"}, r"group must be a column, one of \d+ names, got 'colour'; did you mean 'columns'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(store: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(xb.InputError, match=message):
        draw(results(store), **arguments)


def test_pictures_are_drawn_of_results_of_a_store_and_of_its_path(store: Path) -> None:
    frame = results(store).to_frame()
    chosen = frame[frame["polarity"] == "off"]
    drawn = plot.accuracy(chosen, group="mapping")
    with Store(store, read_only=True) as kept:
        for data in (kept.results(), kept, store, str(store)):
            with pytest.raises(xb.InputError, match=r"must be of one polarity in each mapping, got <on>, off: choose"):
                plot.accuracy(data)
            with pytest.raises(xb.InputError, match=r"must be of one polarity in each mapping"):
                plot.yield_curve(data, 0.9)
            with pytest.raises(xb.InputError, match=r"must be of one polarity in each mapping"):
                plot.die_violins(data)
            with pytest.raises(xb.InputError, match=r"must be of one polarity in each mapping"):
                plot.pareto(data)
            with pytest.raises(
                xb.InputError, match=r"group must be one of \d+ names, got 'maping'; did you mean 'mapp"
            ):
                plot.accuracy(data, group="maping")
    one = Results(tasks=tuple(each for each in results(store).tasks if each.columns["polarity"] == "off"))
    for axes in (plot.accuracy(one), plot.accuracy(chosen)):
        assert [line.get_label() for line in axes.lines] == [line.get_label() for line in drawn.lines]
        for line, other in zip(axes.lines, drawn.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())
    with pytest.raises(xb.InputError, match=r"must be of one fault_rate in each mapping, got 0.0, 0.01, 0.1"):
        plot.die_violins(one)
    assert len(plot.yield_curve(one, 0.9).lines) == 2


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_is_the_same_bytes_each_time(store: Path, tmp_path: Path, ending: str) -> None:
    pictures = []
    for _ in range(2):
        save_figure(draw(results(store), where={"polarity": "off"}), tmp_path / f"picture.{ending}")
        pictures.append((tmp_path / f"picture.{ending}").read_bytes())
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) > 5000
    with pytest.raises(xb.InputError, match=r"file ending must be one of '\.png', .* got '\.gif'"):
        save_figure(draw(results(store), where={"polarity": "off"}), tmp_path / "picture.gif")


def test_the_commands_write_picture_and_page(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    answer = run(application, ["plot", str(store), "picture.png", "--where", "polarity=off", "--chance", "0.2"])
    assert answer.exit_code == 0, answer.output
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    answer = run(application, ["report", str(store), "--target", "0.9"])
    assert answer.exit_code == 0, answer.output
    assert answer.output.strip() == "wrote my_sweep.html"
    assert (tmp_path / "my_sweep.html").exists()
    for arguments, message in (
        (["plot", str(store), "picture.png", "--where", "polarity"], "where must be COLUMN=VALUE, got 'polarity'"),
        (["plot", str(store), "picture.png", "--kind", "dies"], "where must choose one polarity"),
        (["plot", str(store), "picture.png", "--kind", "dies"], "for example: --where polarity=off"),
        (
            ["plot", str(store), "picture.png", "--kind", "dies", "--where", "polarity=off"],
            "choose one fault_rate (0.0, 0.01, 0.1), or group must be 'fault_rate', got group 'mapping'; for example: "
            "--where fault_rate=0.1",
        ),
        (["plot", str(store), "picture.png", "--kind", "yield"], "(--target 0.9, for example), got none"),
        (["report", "nothing.sqlite"], "nothing.sqlite"),
    ):
        answer = run(application, arguments)
        assert answer.exit_code == 2
        assert message in answer.output.replace("\n", " ")


def test_a_browser_shows_the_page(store: Path, tmp_path: Path) -> None:
    """In headless Chromium: all pictures are there, nothing is fetched, nothing overflows or complains."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser_path is None:
        pytest.skip("no Chromium is installed")
    page_path = tmp_path / "page.html"
    write_report(store, page_path, target=0.9)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        fetched: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: fetched.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(page_path.as_uri())
        assert fetched == [page_path.as_uri()]
        assert complaints == []
        sizes = page.eval_on_selector_all(
            "figure svg", "found => found.map(e => [e.getBoundingClientRect().width, e.getBoundingClientRect().height])"
        )
        assert len(sizes) == 8
        assert all(width > 250 and height > 150 for width, height in sizes)
        words = page.inner_text("body")
        assert "polarity: <on>" in words
        assert "Where the dies came from" in words
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow == 0
        picture = tmp_path / "page.png"
        page.screenshot(path=str(picture), full_page=True)
        assert picture.stat().st_size > 20_000
        browser.close()
