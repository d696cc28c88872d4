"""Designs that come with the project: by name, every value with its origin, and what they hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xbarsim as xb
from tests.cli.running import one_line, run
from xbarsim.cost import Hardware, hardware_names
from xbarsim.design import Design, DesignCard, DesignValue, design_card, design_names
from xbarsim.devices import FaultModel, MeasuredDrift, WriteVerify
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.mapping import Offset, TwoColumn


def test_the_promised_designs_are_there() -> None:
    promised = {"isaac2016", "puma2019", "forms2021", "islped2019", "neurram2022", "neurram2022_lines"}
    assert promised <= set(design_names())


@pytest.mark.parametrize("name", design_names())
def test_every_design_is_cited_and_survives_toml(name: str) -> None:
    found = design_card(name)
    assert found.name == name
    assert found.description
    assert found.doi
    assert found.limits
    assert all(value.note for value in found.values)
    assert found.hardware is None or found.hardware in hardware_names()
    design = Design.load(name)
    assert design == found.design
    assert Design.from_toml(design.to_toml()) == design


@pytest.mark.parametrize("name", [name for name in design_names() if design_card(name).hardware])
def test_arrays_are_those_of_the_component_card(name: str) -> None:
    found = design_card(name)
    assert found.hardware is not None
    array, design = Hardware.load(found.hardware).array, found.design
    mapping, periphery = design.mapping, design.periphery
    assert (mapping.rows, mapping.columns, periphery.dac_bits) == (array.rows, array.columns, array.dac_bits)
    assert -(-periphery.input_bits // periphery.dac_bits) == array.reads_per_vector
    if periphery.adc_bits is not None:
        assert periphery.adc_bits == array.adc_bits


def test_published_numbers_by_hand() -> None:
    isaac = Design.load("isaac2016")
    assert isaac.mapping.outputs_per_tile * isaac.mapping.rows == 2048  # 16 weights a row, 128 rows
    assert isinstance(isaac.mapping.encoding, Offset)
    assert isaac.periphery.columns_per_adc == 128  # one converter an array
    forms = Design.load("forms2021").periphery
    assert (forms.active_rows, forms.adc_bits, 128 // (forms.columns_per_adc or 0)) == (8, 4, 4)
    islped = Design.load("islped2019")
    assert (islped.mapping.rows, islped.mapping.columns, islped.mapping.slices) == (128, 64, 2)
    core = Design.load("neurram2022")
    assert core.mapping.rows * core.mapping.columns == 256 * 256
    assert isinstance(core.mapping.encoding, TwoColumn)
    assert core.faults is None
    assert isinstance(core.cell.drift, MeasuredDrift)
    lines = design_card("neurram2022_lines")
    assert lines.design.replace(faults=None) == core
    assert lines.design.faults == FaultModel.load("wan2022_lines")
    assert lines.write == WriteVerify.load("wan2022")


@pytest.mark.parametrize("name", ["isaac2016", "islped2019", "neurram2022"])
def test_a_matrix_runs_on_it(name: str) -> None:
    """On sound, exact cells the product comes out near; what converters of few bits lose is bounded."""
    rng = np.random.default_rng(1)
    weights, inputs = rng.normal(size=(40, 6)), np.abs(rng.normal(size=(20, 40)))
    design = Design.load(name)
    exact = design.replace(cell=design.cell.without_errors(), faults=None)
    answers = inputs @ xb.Crossbar(weights, exact, seed=1, calibration=inputs)
    expected = inputs @ weights
    error = np.sqrt(np.mean((answers - expected) ** 2) / np.mean(expected**2))
    assert error < (0.15 if name == "neurram2022" else 0.02)


def test_a_name_that_is_not_there_names_the_close_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"design must be one of .*got 'isac2016'; did you mean 'isaac2016'"):
        Design.load("isac2016")
    with pytest.raises(FileFormatError, match=r"cannot read Design from isaac2016\.toml"):
        Design.load("isaac2016.toml")  # a path has an ending
    path = tmp_path / "mine.toml"
    Design.load("islped2019").save(path)
    assert Design.load(path) == Design.load(str(path)) == Design.load("islped2019")
    one_line(run("evaluate", "digits", "--design", "neuram2022"), 2, "did you mean 'neurram2022'")


def test_a_design_file_may_take_a_design_by_name() -> None:
    text = 'design = "isaac2016"\n'

    @dataclasses.dataclass(frozen=True)
    class Holder:
        design: Design

    Holder.__annotations__["design"] = Design
    assert tomlio.loads(Holder, text).design == Design.load("isaac2016")


def test_info_says_all_of_a_design() -> None:
    for name in ("neurram2022", "isaac2016"):
        found = design_card(name)
        output = " ".join(run("info", name).output.split())
        assert found.source in output
        assert all(" ".join(limit.split()) in output for limit in found.limits)
        for value in found.values:
            assert all(parameter in output for parameter in value.parameters)
    assert "256 levels (assumed)" in " ".join(run("info", "neurram2022").output.split())


def test_every_value_needs_an_origin(tmp_path: Path) -> None:
    found = design_card("islped2019")
    with pytest.raises(InputError, match=r"values must say where periphery.input_bits, .* of design 'islped2019'"):
        dataclasses.replace(found, values=found.values[:-1])
    stray = DesignValue(parameters=("mapping.colour",), origin="cited", note="nowhere")
    with pytest.raises(InputError, match=r"values must name parameters of a design, got 'mapping.colour'"):
        dataclasses.replace(found, values=(*found.values, stray))
    path = tmp_path / "islped2019.toml"
    path.write_text(tomlio.dumps(found).replace("limits", "limit"), encoding="utf-8")
    with pytest.raises(FileFormatError, match="DesignCard has no key 'limit'"):
        design_card(path)
    tomlio.save(found, path)
    assert design_card(path) == found
    assert isinstance(found, DesignCard)
