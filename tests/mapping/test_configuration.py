"""The configuration object, and what the room imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.strategies import mappings, relaxed
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.mapping import Balanced, Mapping, Offset, TwoColumn


def test_derived_values() -> None:
    mapping = Mapping()
    assert (mapping.max_weight, mapping.max_level, mapping.slices, mapping.sides) == (127, 15, 2, 2)
    assert (mapping.outputs_per_tile, mapping.has_reference, mapping.reference_level) == (32, False, 0)
    mapping = Mapping(encoding=Offset(), weight_bits=7, cell_bits=3)
    assert (mapping.max_weight, mapping.max_level, mapping.slices, mapping.sides) == (63, 7, 3, 1)
    assert (mapping.outputs_per_tile, mapping.has_reference, mapping.reference_level) == (42, True, 1)
    digital = Mapping(encoding=Offset(reference="digital"), columns=129, weight_bits=7, cell_bits=3)
    assert (digital.outputs_per_tile, digital.has_reference, digital.reference_level) == (43, False, 0)


@relaxed
@given(mapping=mappings())
def test_toml_round_trip(mapping: Mapping) -> None:
    assert tomlio.loads(Mapping, tomlio.dumps(mapping)) == mapping


@relaxed
@given(mapping=mappings())
def test_as_many_outputs_as_fit(mapping: Mapping) -> None:
    output = mapping.slices * mapping.sides
    left = mapping.columns - mapping.has_reference - mapping.outputs_per_tile * output
    assert mapping.outputs_per_tile >= 1
    assert 0 <= left < output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, "rows must be an integer >= 1, got 0"),
        ({"rows": -3}, "rows must be an integer >= 1, got -3"),
        ({"rows": 1.5}, "rows must be an integer >= 1, got 1.5"),
        ({"columns": 0}, "columns must be an integer >= 1, got 0"),
        ({"columns": True}, "columns must be an integer >= 1, got True"),
        ({"columns": 3}, "columns must be an integer >= 4 to hold one output of 8 bits .* TwoColumn, got 3"),
        ({"columns": 2, "encoding": Offset()}, "columns must be an integer >= 3 .* Offset, got 2"),
        ({"weight_bits": 1}, "weight_bits must be an integer >= 2 and <= 16, got 1"),
        ({"weight_bits": 17}, "weight_bits must be an integer >= 2 and <= 16, got 17"),
        ({"cell_bits": 0}, "cell_bits must be an integer >= 1 and <= 8, got 0"),
        ({"cell_bits": 9}, "cell_bits must be an integer >= 1 and <= 8, got 9"),
        ({"weight_scale": "row"}, "weight_scale must be one of 'tensor', 'output', got 'row'"),
        ({"pack": "tile"}, "pack must be one of 'none', 'matrix', 'block'.*, got 'tile'"),
        ({"encoding": "TwoColumn"}, "encoding must be of type Encoding, got 'TwoColumn' of type str"),
        ({"encoding": TwoColumn}, "encoding must be of type Encoding, got"),
    ],
)
def test_bad_values(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mapping(**arguments)


def test_the_smallest_tile_that_fits() -> None:
    assert Mapping(columns=4, encoding=Balanced()).outputs_per_tile == 1
    assert Mapping(columns=3, encoding=Offset()).outputs_per_tile == 1
    assert Mapping(columns=2, encoding=Offset(reference="digital")).outputs_per_tile == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tile = 3", "has no key 'tile'"),
        ('rows = "many"', "rows must be int, got 'many'"),
        ("pack = 3", "pack must be str, got 3"),
        ('[encoding]\ntype = "Mirror"', "type must be one of .*'TwoColumn', .*got 'Mirror'"),
        ("[encoding]\nbias = 3", "type must be one of"),
        ("rows = ", "not valid TOML"),
    ],
)
def test_bad_toml(text: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        tomlio.loads(Mapping, text)


def test_an_unknown_packing_in_a_file_is_named_with_those_that_there_are() -> None:
    with pytest.raises(
        InputError, match=r"^TOML text:1: pack must be one of 'none', 'matrix', 'block'(, '\w+')*, got 'tile'$"
    ):
        tomlio.loads(Mapping, 'pack = "tile"')


@relaxed
@given(mapping=mappings())
def test_more_bits_fit_where_the_top_slice_is_not_full(mapping: Mapping) -> None:
    encoding, most = mapping.encoding, mapping.most_weight_bits
    assert mapping.weight_bits <= most <= 16
    count = encoding.slice_count(mapping.weight_bits, mapping.cell_bits)
    assert encoding.slice_count(most, mapping.cell_bits) == count
    assert most == 16 or encoding.slice_count(most + 1, mapping.cell_bits) > count


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)


def test_import_is_light() -> None:
    loaded = "[m for m in ('torch', 'matplotlib', 'pandas') if m in sys.modules]"
    result = run_python(f"import sys, xbarsim.mapping; sys.exit(str({loaded} or '') or None)")
    assert result.returncode == 0, result.stderr


def test_bare_import_is_refused() -> None:
    result = run_python("import mapping")
    assert result.returncode == 1
    assert "ImportError: import xbarsim.mapping, not mapping" in result.stderr
