"""A published accelerator of your own as a design: one TOML file, and what the check says of one that is not sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from xbarsim.design import Design
from xbarsim.testing import check_design_card

CARD = """
name = "mine2030"
description = "Arrays of 64 x 64 cells of 2 bits, 8-bit weights and inputs"
source = "A. Researcher et al., An accelerator, Some Conference 2030 (not verified)."
limits = ["Its buffers are not described."]

[[values]]
parameters = ["cell", "mapping.rows", "mapping.columns", "mapping.cell_bits", "mapping.weight_bits"]
origin = "cited"
note = "Table 1."

[[values]]
parameters = ["mapping.encoding", "periphery.input_bits", "periphery.dac_bits"]
origin = "assumed"
note = "Not stated; the usual ones."

[design]
cell = "isaac2016"

[design.mapping]
rows = 64
columns = 64
weight_bits = 8
cell_bits = 2
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine2030.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_design_of_your_own(tmp_path: Path) -> None:
    design = check_design_card(written(tmp_path, CARD))
    assert isinstance(design, Design)
    assert (design.mapping.rows, design.cell.name) == (64, "isaac2016")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mine2030"', 'name = "yours2030"', "name must be as the file is called"),
        (" (not verified)", "", "doi must be given, or source must say 'not verified'"),
        ('limits = ["Its buffers are not described."]', "", "limits must say what of the source is not in it"),
        ('note = "Table 1."', 'note = ""', "a note must say where a value stands"),
        ('"mapping.rows", ', "", r"values must say where mapping\.rows of design 'mine2030' are from"),
        ('"mapping.rows"', '"mapping.lines"', r"values must name parameters of a design, got 'mapping\.lines'"),
        ("[design]\ncell", 'hardware = "isaac2016"\n[design]\ncell', "hardware"),
    ],
)
def test_a_card_that_is_not_sound_is_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in CARD
    with pytest.raises(AssertionError, match=message):
        check_design_card(written(tmp_path, CARD.replace(old, new)))


def test_arrays_of_other_sizes_than_the_component_card_are_told(tmp_path: Path) -> None:
    text = CARD.replace("limits =", 'hardware = "isaac2016"\nlimits =')
    with pytest.raises(AssertionError, match=r"rows, columns and bits of a driver must be those of the component card"):
        check_design_card(written(tmp_path, text))
    with pytest.raises(AssertionError, match="hardware must name a component card"):
        check_design_card(written(tmp_path, text.replace('hardware = "isaac2016"', 'hardware = "isac"')))
