"""Every choice of a design reaches its cost, or stands in a list here with the reason why it does not."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import xbarsim as xb
from tests.cost.uses import use
from xbarsim.circuit import SinhLaw, Wires
from xbarsim.cost import CostReport, DigitalUse, Hardware, estimate, hardware_names
from xbarsim.design import AdcErrors, DacErrors
from xbarsim.devices import Cell, LineFaults, Polynomial, ReadNoise, StuckFaults
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Differential, TwoColumn

ISAAC = Hardware.load("isaac")
PLAIN = Cell(name="plain", g_min=1e-6, g_max=1e-4, levels=16)
CELL = dataclasses.replace(PLAIN, read_voltage=0.2)
DESIGN = xb.Design(
    cell=CELL,
    mapping=xb.Mapping(weight_bits=8, cell_bits=4),
    periphery=xb.Periphery(input_bits=8, adc_bits=8, active_rows=64),
)


def mapped(design: xb.Design, inputs: int = 100, outputs: int = 64) -> xb.MappedNetwork:
    """One layer on two tiles: 64 outputs take 4 columns each."""
    generator = torch.Generator().manual_seed(1)
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=generator))
        layer.weight[:, ::5] = 0.0  # for packing to find
    images = torch.randn(32, inputs, generator=generator)
    return xb.map_model(nn.Sequential(layer), design, calibration=images)


def numbers(report: CostReport) -> tuple[float, ...]:
    """What a user reads off: area, peak power, energy, latency."""
    return report.area, report.power, report.workload().energy, report.workload().latency


# ------------------------------------------------------------------------------------------ columns_per_adc


@pytest.mark.parametrize("columns_per_adc", [1, 3, 8, 64, 128, 1000])
@pytest.mark.parametrize("subtraction", ["analog", "digital"])
def test_converters_and_read_time_follow_columns_per_adc(columns_per_adc: int, subtraction: Any) -> None:
    """Of 128 columns, 64 pairs: ceil(inputs / c) converters of 1,200 um2 and 2 mW, c conversions at 1.28 GS/s."""
    periphery = dataclasses.replace(DESIGN.periphery, columns_per_adc=columns_per_adc, subtraction=subtraction)
    report = mapped(DESIGN.replace(periphery=periphery)).cost()
    inputs = 64 if subtraction == "analog" else 128
    each = math.ceil(inputs / columns_per_adc)
    adc = next(cost for cost in report.components if cost.name == "ADC")
    assert adc.count == 2 * each
    assert adc.area == pytest.approx(2 * each * 1200e-12, rel=1e-9)
    assert adc.power == pytest.approx(2 * each * 1.667e-12 * 1.2e9, rel=1e-9)
    assert report.layers[0].read_time == pytest.approx(min(columns_per_adc, inputs) / 1.28e9, rel=1e-12)
    # signed inputs in two passes of 7 planes, 100 rows in two groups of 64
    assert report.workload().layers[0].time == pytest.approx(7 * 2 * 2 * report.layers[0].read_time, rel=1e-12)
    (note,) = (note for note in report.notes if "columns_per_adc" in note)
    assert f"columns_per_adc is {columns_per_adc}: {each} converters for the {inputs} converter inputs" in note
    assert "not the card's 1 for an array" in note


def test_a_conversion_takes_the_same_energy_whoever_shares_its_converter() -> None:
    energies = set()
    for columns_per_adc in (None, 1, 8, 128):
        periphery = dataclasses.replace(DESIGN.periphery, columns_per_adc=columns_per_adc)
        work = mapped(DESIGN.replace(periphery=periphery)).cost().workload()
        energies.add(next(cost.energy for cost in work.components if cost.name == "ADC"))
    assert len(energies) == 1


@pytest.mark.parametrize("name", hardware_names())
def test_a_design_that_does_not_say_has_the_converters_of_the_card(name: str) -> None:
    """And one that asks for what the card has costs the same."""
    card = Hardware.load(name)
    layer = use(arrays=4)
    silent = estimate([layer], card)
    (note,) = (note for note in silent.notes if "columns_per_adc" in note)
    if card.adc is None:
        said = dataclasses.replace(layer, columns_per_adc=8)
        assert "columns_per_adc change nothing" in note
        assert numbers(estimate([said], card)) == numbers(silent)
        return
    assert "converters are shared as on the card" in note
    own = next(component for component in card.levels[0].components if component.role == "adc")
    shared = 128 * own.shared_by // own.count
    said = dataclasses.replace(layer, columns_per_adc=shared)
    assert numbers(estimate([said], card)) == pytest.approx(numbers(silent), rel=1e-9)


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 128))
def test_more_columns_a_converter_never_take_more_area_or_less_time(some: int, more: int, inputs: int) -> None:
    few, many = sorted((some, more))
    reports = [estimate([use(columns_per_adc=c, converter_inputs=inputs)], ISAAC) for c in (few, many)]
    assert reports[0].area >= reports[1].area
    assert reports[0].layers[0].read_time <= reports[1].layers[0].read_time
    for report, c in zip(reports, (few, many), strict=True):
        layer = report.layers[0].use
        assert layer.converters is not None
        assert layer.converters * min(c, inputs) >= inputs  # every input has its turn


@pytest.mark.parametrize(
    "change", [{"columns_per_adc": 0}, {"columns_per_adc": 1.5}, {"converter_inputs": 0}, {"converter_inputs": 129}]
)
def test_impossible_sharing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"layer: {next(iter(change))} must be an integer >= 1"):
        use(**change)


def test_errors_of_converters_are_drawn_for_each_column_where_a_design_does_not_say() -> None:
    errors = AdcErrors(gain=0.05)
    dies = {}
    for columns_per_adc in (None, 1, 8):
        periphery = xb.Periphery(adc_bits=8, adc_errors=errors, columns_per_adc=columns_per_adc)
        weights = np.random.default_rng(0).integers(-7, 8, (16, 8))
        die = xb.Crossbar(weights, DESIGN.replace(periphery=periphery), seed=1, calibration=np.eye(16))
        dies[columns_per_adc] = np.ones(16) @ die
    assert np.array_equal(dies[None], dies[1])
    assert not np.array_equal(dies[1], dies[8])


# ------------------------------------------------------------------------------------------- every field

#: What must change the cost: of each field another value, and what else the design then needs.
COUNTS: dict[str, dict[str, Any]] = {
    "cell.g_min": {"cell.g_min": 1e-5},
    "cell.g_max": {"cell.g_max": 2e-4},
    "cell.read_voltage": {"cell.read_voltage": 0.3},
    "mapping.encoding": {"mapping.encoding": Differential()},
    "mapping.rows": {"mapping.rows": 64},
    "mapping.columns": {"mapping.columns": 64},
    "mapping.weight_bits": {"mapping.weight_bits": 5},
    "mapping.cell_bits": {"mapping.cell_bits": 2},
    "mapping.weight_scale": {"mapping.weight_scale": "tensor"},  # other codes, so other conductances
    "mapping.weight_clip": {"mapping.weight_clip": 0.9},
    "mapping.pack": {"mapping.pack": "none"},
    "periphery.input_bits": {"periphery.input_bits": 6},
    "periphery.dac_bits": {"periphery.dac_bits": 2},
    "periphery.adc_bits": {"periphery.adc_bits": 6},
    "periphery.adc_range": {"periphery.adc_range": "lossless", "periphery.adc_bits": None},
    "periphery.subtraction": {"periphery.subtraction": "digital"},
    "periphery.skip_idle": {"periphery.skip_idle": True},
    "periphery.drift_compensation": {
        "periphery.drift_compensation": "layer",
        "cell.drift": Cell.load("nandakumar2019").drift,
        "cell.g_max": 2.5e-5,
    },
    "periphery.signed_inputs": {"periphery.signed_inputs": "offset"},
    "periphery.active_rows": {"periphery.active_rows": None},
    "periphery.columns_per_adc": {"periphery.columns_per_adc": 8},
    "current_law": {"current_law": SinhLaw(voltage_scale=0.1), "periphery.dac_bits": 2},
}

_CHECKED = "bounds of what may be built; nothing is built of it"
_OF_A_DIE = "how dies differ, which nobody builds; what the cells of a die hold is in Chip.cost"
_NOTED = "the power of the cells is that of sound, ideal lines, and a note says so"
#: What changes no number of the cost of a network, and why.
NOTHING: dict[str, tuple[dict[str, Any], str]] = {
    "cell.name": ({"cell.name": "other"}, "a name"),
    "cell.source": ({"cell.source": "other"}, "a citation"),
    "cell.implausible": ({"cell.implausible": True}, _CHECKED),
    "cell.levels": ({"cell.levels": 32}, "mapping.cell_bits says how many levels are used"),
    "cell.programming_error": (
        {
            "cell.programming_error": xb.devices.ProgrammingError(
                spread=Polynomial(coefficients=(1e-6,), scale=1e-6), valid_from=1e-7, valid_to=1e-3
            )
        },
        _OF_A_DIE,
    ),
    "cell.read_noise": (
        {
            "cell.read_noise": ReadNoise(
                spread=Polynomial(coefficients=(1e-7,), scale=1e-6), valid_from=1e-7, valid_to=1e-3
            )
        },
        "its mean is zero, so that the mean power does not move",
    ),
    "cell.drift": ({"cell.drift": Cell.load("nandakumar2019").drift, "cell.g_max": 2.5e-5}, _OF_A_DIE),
    "faults": ({"faults": StuckFaults(on=0.3, off=0.1)}, _OF_A_DIE),
    "wires": ({"wires": Wires(word_line_resistance=20.0)}, _NOTED),
    "line_faults": ({"line_faults": LineFaults(open_bit_line=0.1)}, _NOTED),
    "periphery.adc_errors": ({"periphery.adc_errors": AdcErrors(gain=0.1)}, _OF_A_DIE),
    "periphery.dac_errors": ({"periphery.dac_errors": DacErrors(gain=0.1)}, _OF_A_DIE),
}


def changed(changes: dict[str, Any]) -> xb.Design:
    """The design with some fields exchanged, each by its path."""
    parts: dict[str, dict[str, Any]] = {}
    design: dict[str, Any] = {}
    for path, value in changes.items():
        part, _, field = path.partition(".")
        if field:
            parts.setdefault(part, {})[field] = value
        else:
            design[part] = value
    for part, fields in parts.items():
        design[part] = dataclasses.replace(getattr(DESIGN, part), **fields)
    return DESIGN.replace(**design)


def test_no_field_of_a_design_is_left_out() -> None:
    fields = set()
    for field in dataclasses.fields(xb.Design):
        part = getattr(DESIGN, field.name)
        inner = [] if part is None else dataclasses.fields(part)
        fields |= {f"{field.name}.{each.name}" for each in inner} or {field.name}
    assert fields == set(COUNTS) | set(NOTHING)
    assert not set(COUNTS) & set(NOTHING)
    assert all(reason for _, reason in NOTHING.values())


@pytest.mark.parametrize("field", COUNTS)
def test_a_field_changes_the_cost(field: str) -> None:
    part = field.partition(".")[0]  # what is changed beside it in other parts stands on both sides
    beside = {path: value for path, value in COUNTS[field].items() if path.partition(".")[0] != part}
    assert numbers(mapped(changed(COUNTS[field])).cost()) != numbers(mapped(changed(beside)).cost())


@pytest.mark.parametrize("field", NOTHING)
def test_a_field_changes_no_number_for_the_reason_given(field: str) -> None:
    changes, _ = NOTHING[field]
    beside = {path: value for path, value in changes.items() if path != field}
    report, plain = mapped(changed(changes)).cost(), mapped(changed(beside)).cost()
    assert numbers(report) == numbers(plain)
    noted = {"wires": "without wire resistance", "line_faults": "open and shorted ones"}
    if field in noted:
        assert any(noted[field] in note for note in report.notes)
        assert not any(noted[field] in note for note in plain.notes)


#: Fields of which every value costs something else, drawn together.
some_designs = st.fixed_dictionaries(
    {
        "periphery.columns_per_adc": st.none() | st.integers(1, 64),
        "periphery.adc_bits": st.integers(4, 10),
        "periphery.dac_bits": st.integers(1, 4),
        "periphery.active_rows": st.none() | st.sampled_from([8, 16, 32]),
        "mapping.cell_bits": st.sampled_from([1, 2, 4]),
    }
)


@settings(max_examples=15, deadline=None)
@given(some_designs, some_designs)
@example({"periphery.columns_per_adc": None}, {"periphery.columns_per_adc": 64})
def test_designs_that_differ_cost_differently(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Time, area or energy tells any two apart that differ in one of these, with 40 rows and at least 64 columns."""
    first, second = (numbers(mapped(changed(changes), 40, 16).cost()) for changes in (one, other))
    assert (first == second) == (one == other)


# ----------------------------------------------------------------------------------------- read voltage


def test_a_cell_without_a_read_voltage_draws_the_nominal_power_and_that_is_said() -> None:
    """Weights, encoding and faults do not show in it: the report must not pretend that they do."""
    reports = []
    for encoding in (TwoColumn(), Differential()):
        for on in (0.0, 0.3):
            design = DESIGN.replace(
                cell=PLAIN,
                mapping=dataclasses.replace(DESIGN.mapping, encoding=encoding),
                faults=StuckFaults(on=on, off=0.0),
            )
            network = mapped(design)
            chip = network.fabricate(1)
            cells = {name: layer.cells() for name, layer in chip.layers.items()}
            reports.append((network.cost_of(cells, ISAAC), network.cost_of(cells, ISAAC, read_voltage=0.2)))
    silent, told = [numbers(one) for one, _ in reports], [numbers(other) for _, other in reports]
    assert len(set(silent)) == 1
    assert len(set(told)) == 4
    for one, other in reports:
        (note,) = (note for note in one.notes if "read voltage" in note)
        assert note.startswith("cell 'plain' has no read voltage: the cells draw the nominal power")
        assert "the cells are read at 0.2 V as asked; cell 'plain' has none of its own" in other.notes


def test_a_given_read_voltage_costs_what_a_cell_with_that_voltage_costs() -> None:
    assert numbers(mapped(DESIGN.replace(cell=PLAIN)).cost(read_voltage=0.2)) == numbers(mapped(DESIGN).cost())
    own = mapped(DESIGN)
    half, whole = (next(c.power for c in own.cost(read_voltage=v).components if c.name == "cells") for v in (None, 0.4))
    assert whole == pytest.approx(4 * half, rel=1e-12)  # V^2 G
    assert "the cells are read at 0.4 V as asked; cell 'plain' has 0.2 V" in own.cost(read_voltage=0.4).notes


def test_without_data_the_nominal_power_is_said_too() -> None:
    network = mapped(DESIGN)
    assert (
        "the cells draw the nominal power of the component card, whatever they hold" in network.cost(data=False).notes
    )
    with pytest.raises(InputError, match=r"read_voltage must be None where data is False, got 0\.2"):
        network.cost(data=False, read_voltage=0.2)


@pytest.mark.parametrize("voltage", [0.0, -0.2, 200.0, math.nan, "0.2", True])
def test_impossible_read_voltages_are_refused(voltage: Any) -> None:
    with pytest.raises(InputError, match="read_voltage must be"):
        mapped(DESIGN).cost(read_voltage=voltage)


def test_what_a_network_computes_digitally_is_in_its_cost() -> None:
    network = mapped(DESIGN)
    assert network.cost().digital == network.digital_work
    network.digital_work = (DigitalUse(name="gap", kind="scores", multiply_accumulates=6400),)
    for report in (network.cost(), network.cost(data=False), network.with_faults(None).cost()):
        assert report.digital == network.digital_work
        assert report.digital_share == 0.5  # beside 100 x 64 on arrays


def test_a_model_that_is_one_layer_has_a_cost() -> None:
    images = torch.randn(16, 12, generator=torch.Generator().manual_seed(1))
    layer = nn.Linear(12, 8)
    report = xb.map_model(layer, DESIGN, calibration=images).cost()
    assert [each.use.name for each in report.layers] == ["(model)"]
    assert "(model)" in str(report)
    assert numbers(report)[:2] == pytest.approx(
        numbers(xb.map_model(nn.Sequential(layer), DESIGN, calibration=images).cost())[:2], rel=1e-12
    )
