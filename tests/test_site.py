"""The documentation site is whole: links, pictures, every public name, and a glossary that cannot go stale."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"))]
)


def part(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the site's own, from docs/_site."""
    for library in ("sphinx", "numpydoc"):
        pytest.importorskip(library, reason=f"{library} is not installed (make docs)")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_site"))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_what_a_page_links_to_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for picture, alternative, target in re.findall(r"(!?)\[([^\]]*)\]\(<?([^)>\s]+)", text):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target
        assert alternative.strip() or not picture, f"{target} has no alternative text"


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = set()
    for page in (path for path in PAGES if path.is_relative_to(ROOT / "docs")):
        for block in re.findall(r"^```{toctree}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE):
            entries = [line for line in block.split() if not line.startswith(":")]
            listed |= {(page.parent / entry).resolve() for entry in entries}
    pages = {page.with_suffix("").resolve() for page in PAGES}
    assert pages - listed == {(ROOT / "docs" / "index").resolve()}


def test_every_public_name_has_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = part("faces", monkeypatch)
    pages = {room: faces.page(room) for room in faces.rooms()}
    assert len(pages) > 15
    for room, text in pages.items():
        for name in faces.names_of(room):
            assert re.search(rf"^\.\. (autoclass|autofunction|autoexception|py:data):: {name}$", text, re.MULTILINE), (
                room,
                name,
            )
    assert not [
        name for name in importlib.import_module("xbarsim").__all__ if f"xbarsim.{name}" not in faces.addresses()
    ]


def test_a_value_that_nothing_is_said_of_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = part("faces", monkeypatch)
    monkeypatch.setattr(faces, "comment_of", lambda room, name: "")
    with pytest.raises(ValueError, match="is public, but no comment"):
        faces.page("xbarsim.devices")


def test_the_glossary_holds_every_field_with_its_unit_and_default(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = part("parameters", monkeypatch)
    found = {
        f"{kind.__name__}.{each.name}": each
        for _, classes in parameters.groups()
        for _, kind, fields in classes
        for each in fields
    }
    assert found["Cell.g_min"].unit == "S"
    assert found["Cell.g_min"].default == "required"
    assert found["Wires.driver_resistance"].unit == "ohm"
    assert found["Mapping.cell_bits"][1:3] == ("bits", "4")
    assert found["FlickerNoise.coefficient"].unit == "1"
    assert found["MeasuredDrift.reference_time"].unit == "s"  # its text stands in the base class
    assert found["Design.mapping"].default == "Mapping()"
    assert all(each.meaning for each in found.values())


def test_the_glossary_names_every_part_that_a_design_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    import xbarsim as xb
    from xbarsim.devices import Drift, FaultModel, NoiseModel
    from xbarsim.mitigation import Mitigation

    parameters = part("parameters", monkeypatch)
    named = {name for _, _, names in parameters.GROUPS for name in names.split()}

    def below(kind: type[Any]) -> set[type[Any]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    for base in (Drift, FaultModel, NoiseModel, Mitigation):
        faces = (xb.devices, xb.mitigation)
        public = {kind.__name__ for kind in below(base) for face in faces if getattr(face, kind.__name__, None) is kind}
        bases = {"Drift", "FaultModel", "NoiseModel", "Mitigation", "OnOffFaults", "FieldFaults"}
        assert public - bases <= named, base


def test_a_number_without_a_unit_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import dataclass

    parameters = part("parameters", monkeypatch)

    @dataclass
    class Odd:
        """Something odd.

        Attributes
        ----------
        size
            How large it is.
        """

        size: float

    with pytest.raises(ValueError, match="no unit stands in"):
        list(parameters.parameters_of(Odd))


def test_commands_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(part("commands", monkeypatch).text())
    assert "xbarsim sweep FILE [OPTIONS]" in text
    assert "``--dry-run``" in text
