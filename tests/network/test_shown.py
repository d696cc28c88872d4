"""What a notebook shows of the main objects: short, true, escaped; looked at by a browser."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

import xbarsim as xb
from tests.foundation.test_html import NASTY, Read
from tests.sweep.subjects import task, tiny
from xbarsim.mitigation import ClosestValue, Diagnosis
from xbarsim.network import PlanTable
from xbarsim.sweep import InProcess, collect


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """One of each, with names that a page must not obey."""
    subject, asked = tiny(), task()
    design = asked.design.replace(cell=dataclasses.replace(asked.design.cell, name=NASTY, source=NASTY))
    network = xb.map_model(subject.model, design, calibration=subject.calibration)
    chip = network.fabricate(7, mitigations=(ClosestValue(),), diagnosis=Diagnosis())
    tasks = [task(design=design, images=10, tags={NASTY: NASTY, "number": number}) for number in (1, 2)]
    return {
        "design": design,
        "cell": design.cell,
        "network": network,
        "chip": chip,
        "plan": PlanTable(((NASTY, "exact", NASTY),)),
        "evaluation": xb.evaluate(chip, subject.images, subject.labels, metric="error"),
        "results": collect(tasks, stop=2, executor=InProcess()),
    }


def test_every_object_is_a_whole_escaped_table(shown: dict[str, Any]) -> None:
    for name, each in shown.items():
        page = Read(each._repr_html_())
        assert page.open == [], name
        assert not {"script", "img"} & set(page.tags), name
        assert page.names <= {"style", "scope"}, name
        assert len(page.words) < 4000, name
        if name != "evaluation":
            assert NASTY in page.words, name


def test_what_stands_in_them_is_true(shown: dict[str, Any]) -> None:
    chip, network, evaluation = shown["chip"], shown["network"], shown["evaluation"]
    words = {name: " ".join(Read(each._repr_html_()).words.split()) for name, each in shown.items()}
    assert "faults StuckFaults: 5 % stuck off, 5 % stuck on" in words["design"]
    assert "conductance 1 to 10 uS (on/off 10)" in words["cell"]
    assert "none: programmed exactly" in words["cell"]
    assert f"Mapped network: 2 layers on {network.tiles} arrays" in words["network"]
    for faults in chip.faults.values():
        on, off = (sum(count for kind, count in faults.counts.items() if kind.name == each)
                   for each in ("STUCK_ON", "STUCK_OFF"))  # fmt: skip
        assert on > 0
        assert f"{faults.cells:,} {on:,} {off:,} 0" in words["chip"]
    assert "repaired: ClosestValue" in words["chip"]
    assert f"error {evaluation.score:.6g} accuracy {evaluation.accuracy:.2%}" in words["evaluation"]
    assert "intervals of fewer than 20 dies" in words["results"]
    for row in shown["results"].summary():
        assert f"{100 * row['accuracy_mean']:.2f}" in words["results"]
    assert "programming error, spread 4.33 uS at 50 uS and 2.73 uS at 225 uS" in " ".join(
        Read(xb.Cell.load("milo2021")._repr_html_()).words.split()
    )


def test_a_design_in_text_says_all_that_decides_its_numbers(shown: dict[str, Any]) -> None:
    text = str(shown["design"].replace(faults=None, cell=xb.Cell.load("milo2021")))
    for words in ("programming error", "TwoColumn", "32 x 32", "8-bit inputs, 1 bit at a time", "range lossless",
                  "none: no cell is stuck", "wires      ideal"):  # fmt: skip
        assert words in text


def test_a_browser_shows_them_on_light_and_dark_pages(shown: dict[str, Any], tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser_path is None:
        pytest.skip("no Chromium is installed")
    body = "".join(each._repr_html_() for each in shown.values())
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for colours in ("background:#fff; color:#111", "background:#111; color:#eee"):
            path = tmp_path / "page.html"
            path.write_text(f"<meta charset='utf-8'><body style='{colours}'>{body}</body>")
            for width in (1200, 400):
                page = browser.new_page(viewport={"width": width, "height": 900})
                dialogs: list[str] = []
                page.on("dialog", lambda dialog, seen=dialogs: seen.append(dialog.message))
                fetched: list[str] = []
                page.on("request", lambda request, seen=fetched: seen.append(request.url))
                page.goto(path.as_uri())
                assert (dialogs, fetched) == ([], [path.as_uri()])
                overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert overflow == 0  # wide tables scroll in themselves
                colour = page.evaluate("getComputedStyle(document.querySelector('td')).color")
                assert colour == page.evaluate("getComputedStyle(document.body).color")
                page.close()
        browser.close()
