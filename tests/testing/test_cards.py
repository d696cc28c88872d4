"""The cards of the project keep the promises of the conformance checks; tests/extending has broken ones."""

from __future__ import annotations

import pytest

from xbarsim.cost import Hardware, hardware_names
from xbarsim.design import Design, design_names
from xbarsim.devices import Cell, cell_names
from xbarsim.testing import check_cell_card, check_component_card, check_design_card


@pytest.mark.parametrize("name", cell_names())
def test_every_cell_card_conforms(name: str) -> None:
    assert check_cell_card(name) == Cell.load(name)


@pytest.mark.parametrize("name", hardware_names())
def test_every_component_card_conforms(name: str) -> None:
    assert check_component_card(name) == Hardware.load(name)


@pytest.mark.parametrize("name", design_names())
def test_every_design_card_conforms(name: str) -> None:
    assert check_design_card(name) == Design.load(name)


def test_a_card_that_does_not_exist_is_told() -> None:
    with pytest.raises(
        AssertionError, match=r"reading the card 'nope' must not raise; it raised InputError: cell must"
    ):
        check_cell_card("nope")
    with pytest.raises(
        AssertionError, match=r"reading the card 'nope\.toml' must not raise; it raised FileFormatError"
    ):
        check_component_card("nope.toml")
