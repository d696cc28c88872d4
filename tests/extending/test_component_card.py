"""How to add a table of components: one TOML file like the text here, in ``xbarsim/cost/cards/`` or elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from xbarsim.cost import LayerUse, estimate
from xbarsim.testing import check_component_card

CARD = """
name = "doe2030"
description = "arrays of 64 x 64, sixteen to a core, 28 nm"
counted_to = "core"
technology_node = { value = 28, unit = "nm", origin = "cited", source = "doe2030" }
clock = { value = 1, unit = "GHz", origin = "cited", source = "doe2030" }
read_time = { value = 50, unit = "ns", origin = "cited", source = "doe2030" }
dac_growth = { value = 1, unit = "1", origin = "assumed", source = "doe2030", note = "one-bit drivers only" }
stages_after_read = { value = 3, unit = "1", origin = "cited", source = "doe2030" }

[array]
rows = 64
columns = 64
adc_bits = 6
dac_bits = 1
reads_per_vector = 8
macs_per_array = 1024
origin = "cited"
source = "doe2030"

[[levels]]
name = "array"

[[levels.components]]
name = "cells"
role = "cells"
power = { value = 0.2, unit = "mW" }
area = { value = 100, unit = "um2" }
origin = "cited"
source = "doe2030"

[[levels.components]]
name = "sense amplifier"
per = "column"
power = { value = 0.64, unit = "mW" }
area = { value = 640, unit = "um2" }
covers = 64
origin = "cited"
source = "doe2030"

[[levels]]
name = "core"
children = { value = 16, unit = "1", origin = "cited", source = "doe2030" }

[[levels.components]]
name = "buffer"
power = { value = 3, unit = "mW" }
area = { value = 0.01, unit = "mm2" }
origin = "cited"
source = "doe2030"

[[published]]
name = "core"
level = "core"
quantity = "power"
value = { value = 16.4, unit = "mW", origin = "cited", source = "doe2030", note = "Table 1" }
place = 0.1

[[references]]
key = "doe2030"
citation = "J. Doe, A Chip, Journal of Examples 1, 1 (2030)"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "doe2030.toml"
    file.write_text(CARD, encoding="utf-8")
    return file


def test_it_conforms_and_costs_a_layer(path: Path) -> None:
    hardware = check_component_card(path)
    layer = LayerUse(
        name="layer",
        arrays=20,
        rows=64,
        columns=64,
        adc_bits=6,
        dac_bits=1,
        reads_per_vector=8,
        macs_per_vector=20_000,
        vectors_per_image=1,
    )
    cost = estimate([layer], hardware)
    assert cost.power == pytest.approx(20 * 0.84e-3 + 2 * 3e-3)  # 20 arrays take two cores
    assert cost.area == pytest.approx(20 * 740e-12 + 2 * 0.01e-6)


@pytest.mark.parametrize(
    ("old", "new", "promise"),
    [
        ('name = "doe2030"', 'name = "doe"', "name must be as the file is called; it is 'doe' in 'doe2030.toml'"),
        (', note = "one-bit drivers only"', "", "the note of an assumed value must say why; that of dac_growth"),
        ('source = "doe2030"\n\n[[levels]]', 'source = "roe"\n\n[[levels]]', "reading the card .* must not raise"),
        ('value = 16.4, unit = "mW", origin = "cited", source = "doe2030", note = "Table 1"',
         'value = 17.4, unit = "mW", origin = "cited", source = "doe2030"',
         "a published total must come out within its rounding, or its note must say why not; .*computed 16.44"),
    ],
)  # fmt: skip
def test_a_bad_card_is_told_what_is_wrong(path: Path, old: str, new: str, promise: str) -> None:
    assert old in CARD
    path.write_text(CARD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(AssertionError, match=promise):
        check_component_card(path)
