"""How to add a memory cell: one TOML file like the text here, in ``devices/cards/`` or anywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from xbarsim import Design, Mapping
from xbarsim.devices import Cell
from xbarsim.testing import check_cell_card

CARD = """
name = "doe2030"
description = "HfO2 1T1R, 40 nm, 8 levels"
source = "J. Doe, Journal of Examples 1, 1 (2030); not verified"
doi = "10.1000/example"

[g_min]
value = 5e-6
unit = "S"
origin = "measured"
note = "Fig. 2"

[g_max]
value = 50e-6
unit = "S"
origin = "measured"

[levels]
value = 8
unit = "1"
origin = "cited"

[read_voltage]
value = 0.2
unit = "V"
origin = "assumed"
note = "not stated; usual for such cells"

[programming_error]
unit = "S"
origin = "fitted"
note = "Fig. 3: standard deviation of 1,000 cells at each level, 1 s after verify"

[programming_error.value]
valid_from = 5e-6
valid_to = 50e-6

[programming_error.value.spread]
coefficients = [0.5e-6, 0.02e-6]
scale = 1e-6

[read_noise]
unit = "S"
origin = "assumed"
note = "thermal noise of the read-out's bandwidth"

[read_noise.value]
type = "ThermalNoise"
bandwidth = 1e8

[drift]
unit = "S"
origin = "measured"
note = "Fig. 5"

[drift.value]
type = "LogarithmicDrift"
reference_time = 1.0
valid_from = 5e-6
valid_to = 50e-6
valid_seconds = 1e4

[drift.value.spread]
coefficients = [0.1e-6]
scale = 1e-6
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "doe2030.toml"
    file.write_text(CARD, encoding="utf-8")
    return file


def test_it_conforms_and_stands_in_a_design(path: Path) -> None:
    cell = check_cell_card(path)
    assert cell == Cell.load(path)
    assert cell.source.endswith("(2030); not verified doi:10.1000/example")
    design = Design(cell=cell, mapping=Mapping(cell_bits=3))
    assert Design.from_toml(design.to_toml()) == design


@pytest.mark.parametrize(
    ("old", "new", "promise"),
    [
        ('name = "doe2030"', 'name = "doe"', "name must be as the file is called; it is 'doe' in 'doe2030.toml'"),
        ('doi = "10.1000/example"\n', "", None),
        ("; not verified", "", None),
        ('; not verified"\ndoi = "10.1000/example"', '"', "doi must be given, or source must say 'not verified'"),
        ('note = "not stated; usual for such cells"', "", "the note of an assumed value must say why; .*read_voltage"),
        ("valid_to = 50e-6\n\n[programming", "valid_to = 40e-6\n\n[programming", "reading the card .* must not raise"),
        ("[levels]", "[steps]", "reading the card .* must not raise; it raised FileFormatError"),
    ],
)
def test_a_bad_card_is_told_what_is_wrong(path: Path, old: str, new: str, promise: str | None) -> None:
    assert old in CARD
    path.write_text(CARD.replace(old, new, 1), encoding="utf-8")
    if promise is None:
        check_cell_card(path)
    else:
        with pytest.raises(AssertionError, match=promise):
            check_cell_card(path)
