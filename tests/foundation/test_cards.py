"""Cards by name and by path, for any dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from xbarsim.foundation.cards import CardFolder, cite
from xbarsim.foundation.validation import FileFormatError, InputError


@dataclass(frozen=True, kw_only=True)
class Gadget:
    """What the cards of these tests describe."""

    name: str
    size: float = 1.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("doe2020.toml", "doe2021.toml", "roe1999.toml", "roe1999.part.toml"):
        (tmp_path / name).write_text(f"name = {name.partition('.')[0]!r}\n", encoding="utf-8")
    return tmp_path


def test_cards_are_told_apart_by_their_ending(folder: Path) -> None:
    assert CardFolder("gadget", Gadget, folder).names() == ["doe2020", "doe2021", "roe1999"]
    assert CardFolder("part", Gadget, folder, ending=".part.toml").names() == ["roe1999"]


def test_a_card_by_name_and_by_path(folder: Path) -> None:
    cards = CardFolder("gadget", Gadget, folder)
    assert cards.load("doe2020") == Gadget(name="doe2020")
    other = folder / "elsewhere" / "mine.toml"
    other.parent.mkdir()
    other.write_text('name = "whatever"\nsize = 2.0\n', encoding="utf-8")
    assert cards.load(other) == cards.load(str(other)) == Gadget(name="whatever", size=2.0)


def test_a_new_card_is_one_file(folder: Path) -> None:
    cards = CardFolder("gadget", Gadget, folder)
    (folder / "new2030.toml").write_text('name = "new2030"\n', encoding="utf-8")
    assert "new2030" in cards.names()
    assert cards.load("new2030").name == "new2030"


def test_a_year_may_be_left_out_only_where_one_card_is_left(folder: Path) -> None:
    cards = CardFolder("gadget", Gadget, folder, undated=True)
    assert cards.load("roe").name == "roe1999"
    with pytest.raises(InputError, match=r"gadget must be one of 'doe2020', 'doe2021', 'roe1999'.* got 'doe'"):
        cards.load("doe")
    with pytest.raises(InputError, match="got 'roe'"):
        CardFolder("gadget", Gadget, folder).load("roe")


def test_an_unknown_name_lists_the_others_and_the_nearest(folder: Path) -> None:
    cards = CardFolder("gadget", Gadget, folder)
    message = r"gadget must be one of .*, or a path ending in '\.toml', got 'doe2012'; did you mean 'doe202\d'.*\?$"
    with pytest.raises(InputError, match=message):
        cards.load("doe2012")
    with pytest.raises(InputError, match=r"got 'xyz'$"):
        cards.load("xyz")
    with pytest.raises(InputError, match=r"gadget must be a path, as text or os\.PathLike, got 7"):
        cards.load(7)  # type: ignore[arg-type]


def test_a_card_must_be_called_as_its_file(folder: Path) -> None:
    (folder / "doe2020.toml").write_text('name = "roe"\n', encoding="utf-8")
    for name in ("doe2020", folder / "doe2020.toml"):
        with pytest.raises(FileFormatError, match="name must be 'doe2020', as the file is called, got 'roe'"):
            CardFolder("gadget", Gadget, folder).load(name)


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(FileFormatError, match=r"cannot read Gadget from absent\.toml"):
        CardFolder("gadget", Gadget, folder).load("absent.toml")


def test_a_citation_has_its_identifier_once() -> None:
    assert cite("Doe (2020)", None) == "Doe (2020)"
    assert cite("Doe (2020)", "10.1/2") == "Doe (2020) doi:10.1/2"
    assert cite("Doe (2020), doi:10.1/2", "10.1/2") == "Doe (2020), doi:10.1/2"
