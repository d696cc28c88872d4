"""Cells whose current is no straight line of the voltage: on paper, against the circuit solver, and plan by plan."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import xbarsim as xb
from tests.engine.test_engine import fixed_layer, spreads, stick
from tests.strategies import ALL_ENCODINGS, TiledLayer
from xbarsim.circuit import PolynomialLaw, SinhLaw, Wires
from xbarsim.design import DacErrors, Design, Drive, Periphery
from xbarsim.devices import Cell
from xbarsim.engine import Noise, Scaling, TorchBackend, Window, unfold
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Mapping, Offset, TwoColumn, map_matrix

Array = npt.NDArray[Any]

LAW = SinhLaw(voltage_scale=0.15)
CELL = Cell(g_min=1e-6, g_max=1.6e-5, levels=16, read_voltage=0.3)
MAPPING = Mapping(rows=32, columns=32, weight_bits=8, cell_bits=4)


def design(**changes: Any) -> Design:
    settings: dict[str, Any] = {
        "cell": CELL,
        "mapping": MAPPING,
        "periphery": Periphery(input_bits=7, dac_bits=3),
        "current_law": LAW,
    }
    return Design(**{**settings, **changes})


def curved(layer: TiledLayer, power: float = 1.5) -> TiledLayer:
    """The layer with cells that carry less than their share below the largest code, on the grid."""
    largest = layer.drive.max_plane
    values = largest * (np.arange(largest + 1) / largest) ** power
    return replace(layer, drive=replace(layer.drive, values=tuple((np.rint(values * 2**16) / 2**16).tolist())))


def test_a_product_worked_out_on_paper() -> None:
    """Two-bit codes 3 and 1 on weights 1 and -1: sinh(2/3) / sinh(2) of three steps are left of the code 1."""
    cell = replace(CELL, levels=2)
    mapping = Mapping(rows=2, columns=2, weight_bits=2, cell_bits=1)
    small = Design(
        cell=cell,
        mapping=mapping,
        periphery=Periphery(input_bits=2, dac_bits=2),
        current_law=SinhLaw(voltage_scale=0.15),
    )
    drive = small.drive(signed=False)
    assert drive.values is not None
    assert drive.values[1] == pytest.approx(3 * math.sinh(2 / 3) / math.sinh(2), abs=2.0**-17)
    layer = TiledLayer.of(map_matrix(np.array([[1], [-1]]), mapping), small, signed=False, rows=2)
    assert layer.product(np.array([[3, 1]]), layer.mapped.levels)[0, 0] == 3 - drive.values[1]


def test_what_is_carried_is_that_of_the_law() -> None:
    for bits in (2, 3, 8):
        chosen = design(periphery=Periphery(input_bits=8, dac_bits=bits))
        values = chosen.drive(signed=False).values
        assert values is not None
        steps = np.arange(2**bits) / (2**bits - 1)
        expected = (2**bits - 1) * np.sinh(2 * steps) / np.sinh(2)
        np.testing.assert_allclose(values, expected, rtol=0, atol=2.0**-17)
    polynomial = PolynomialLaw(cubic=(0.0, 5.0), maximum_voltage=1.0)
    values = design(current_law=polynomial).drive(signed=False).values
    assert values is not None
    volts = 0.3 * np.arange(8) / 7
    carried = volts + 5 * volts**3
    np.testing.assert_allclose(values, 7 * carried / carried[-1], rtol=0, atol=2.0**-17)


@pytest.mark.parametrize("signed_inputs", ["two_pass", "offset"])
@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
@pytest.mark.parametrize("periphery", [{"dac_bits": 8}, {"dac_bits": 3, "adc_bits": 6, "adc_range": "full"}], ids=repr)
def test_plans_and_torch_equal_the_reference_bit_for_bit(encoding: Any, periphery: Any, signed_inputs: Any) -> None:
    layer, codes = fixed_layer(encoding, **periphery, signed_inputs=signed_inputs)
    layer = curved(layer)
    for cells in (layer.mapped.levels.astype(np.float32), stick(layer.mapped)):
        expected = layer.product(codes.reshape(-1, codes.shape[2]), cells).reshape(*codes.shape[:2], -1)
        plan = layer.plan(cells, precision="double")
        assert plan.name in ("tiled", "bitplane-analog")
        assert "not proportional to" in plan.reason
        np.testing.assert_array_equal(plan.multiply(codes), expected)
        by_torch = layer.plan(cells, precision="double", backend=TorchBackend("cpu")).multiply(codes)
        np.testing.assert_array_equal(by_torch, expected)
        single = layer.plan(cells).multiply(codes)
        off = np.abs(single - expected)
        assert (off <= 1e-5 * np.abs(expected).max()).mean() > 0.99  # a code may round the other way


@pytest.mark.parametrize("backend", [None, TorchBackend("cpu")], ids=["compiled", "torch"])
@pytest.mark.parametrize("signed_inputs", ["two_pass", "offset"])
def test_zeros_around_maps_are_driven_as_any_other(signed_inputs: Any, backend: Any) -> None:
    layer, _ = fixed_layer(
        Offset(), shape=(27, 5), dac_bits=3, adc_bits=6, adc_range="full", signed_inputs=signed_inputs
    )
    layer = curved(layer)
    plan = layer.plan(stick(layer.mapped), precision="double", backend=backend)
    maps = np.random.default_rng(4).integers(layer.drive.min_input, layer.drive.max_input, (3, 3, 6, 7))
    window = Window(kernel=(3, 3), stride=(2, 1), padding=(1, 1, 1, 0))
    got, _ = plan.run(maps.astype(np.float32), window, Scaling.none(layer.drive, 5))
    expected = layer.product(unfold(maps.astype(np.int32), window).reshape(-1, 27), stick(layer.mapped))
    np.testing.assert_array_equal(
        got.reshape(3, 5, -1), expected.reshape(3, -1, 5).transpose(0, 2, 1).astype(np.float32)
    )


@pytest.mark.parametrize("periphery", [{"dac_bits": 3}, {"dac_bits": 8, "adc_bits": 6, "adc_range": "full"}], ids=repr)
def test_noise_follows_what_is_carried(periphery: Any) -> None:
    layer, codes = fixed_layer(TwoColumn(), **periphery)
    layer = curved(layer)
    shape, drive = layer.mapped.levels.shape, layer.drive
    noise = Noise(spread=spreads(shape, 3), linear=spreads(shape, 1) ** 2, constant=spreads(shape, 2) ** 2, key=9)
    cells = stick(layer.mapped)
    plan = layer.plan(cells, noise, precision="double")
    draws = (codes.shape[1], drive.passes, drive.planes, layer.mapped.tiles, layer.reading.reads)
    normals = np.concatenate([noise.normals(image, draws) for image in range(len(codes))])
    given = {"noise_spread": noise.spread, "noise_linear": noise.linear, "noise_constant": noise.constant}
    expected = layer.product(codes.reshape(-1, codes.shape[2]), cells, normals=normals, **given)
    got = plan.multiply(codes).reshape(expected.shape)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * float(np.abs(expected).max()))


def network(chosen: Design, seed: int = 1) -> tuple[xb.network.MappedNetwork, torch.Tensor]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 5)).eval()
    images = torch.rand(12, 3, 6, 6)
    return xb.map_model(model, chosen, calibration=images), images


def test_currents_are_those_of_the_circuit() -> None:
    """Every column of an array of curved cells, driven by one code after another, as the circuit solver has it."""
    chosen = design(periphery=Periphery(input_bits=3, dac_bits=3, signed_inputs="offset", subtraction="digital"))
    mapped, _ = network(chosen)
    chip = mapped.fabricate(seed=1)
    layer = chip.layers["3"]
    drive, tile = chosen.drive(signed=False), 0
    used = layer.matrix.tile_rows[tile] >= 0
    plane = np.random.default_rng(2).integers(0, 7, used.sum(), endpoint=True)
    volts = np.zeros(len(used))
    volts[used] = 0.3 * plane / 7
    solved = chip.solve("3", tile, voltages=volts).column_currents
    carried = np.zeros(len(used))
    carried[used] = drive.carried(plane)
    conductance = CELL.conductance(layer.cells()[tile], 4)
    np.testing.assert_allclose(solved, 0.3 / 7 * carried @ conductance, rtol=2e-5)


def test_bits_alone_see_no_law() -> None:
    """At 0 V and the read voltage a curved cell carries what a straight one carries."""
    bits = Periphery(input_bits=6, dac_bits=1, adc_bits=7)
    mapped, images = network(design(periphery=bits))
    straight, _ = network(design(periphery=bits, current_law=None))
    assert torch.equal(mapped.fabricate(seed=1)(images), straight.fabricate(seed=1)(images))


@pytest.mark.parametrize("dac_bits", [1, 3])
@pytest.mark.parametrize("access", [{}, {"access": "1T1R", "access_resistance": 5e3}], ids=["0T1R", "1T1R"])
def test_behind_wires_dies_are_near_the_circuit(dac_bits: int, access: Any) -> None:
    """Column currents of a tile of a die, from what its reads see, against Newton's method and straight lines."""
    wires = Wires(word_line_resistance=20.0, bit_line_resistance=20.0, **access)
    periphery = Periphery(input_bits=3, dac_bits=dac_bits, signed_inputs="offset", subtraction="digital")
    rng = np.random.default_rng(2)
    off = {}
    for name, law in (("law", LAW), ("straight", None)):
        chosen = design(periphery=periphery, wires=wires, current_law=law)
        mapped, _ = network(chosen)
        chip = mapped.fabricate(seed=1)
        layer, drive = chip.layers["3"], chosen.drive(signed=False)
        used = layer.matrix.tile_rows[0] >= 0
        errors = []
        for _ in range(5):
            plane = rng.integers(0, drive.max_plane, len(used), endpoint=True) * used * (rng.random(len(used)) < 0.6)
            with_law, _ = network(design(periphery=periphery, wires=wires))
            volts = 0.3 * plane / drive.max_plane
            exact = with_law.fabricate(seed=1).solve("3", 0, voltages=volts).column_currents
            seen = CELL.conductance(layer.seen()[0][0], 4)
            errors.append(0.3 / drive.max_plane * drive.carried(plane) @ seen - exact)
        off[name] = float(np.sqrt(np.mean(np.square(errors))) / np.abs(exact).max())
    assert off["law"] < (0.5 if dac_bits == 1 else 0.15) * off["straight"]
    assert off["law"] < 0.02


def test_a_network_of_curved_cells_is_off_and_a_faint_curve_is_not() -> None:
    straight, images = network(design(current_law=None))
    answer = straight.fabricate(seed=1)(images)
    off = []
    for scale in (0.1, 0.3, 3.0):
        mapped, _ = network(design(current_law=SinhLaw(voltage_scale=scale)))
        off.append(float((mapped.fabricate(seed=1)(images) - answer).abs().max() / answer.abs().max()))
    assert off[0] > off[1] > 0.02
    assert off[2] < off[1] / 5


def test_energy_counts_what_is_carried() -> None:
    """Voltage times current: less than with straight lines below the read voltage."""
    straight, _ = network(design(current_law=None))
    mapped, _ = network(design())
    for name, layer in mapped.layers.items():
        both = layer.mean_square_input, straight.layers[name].mean_square_input
        assert (both[0] <= both[1]).all()
        assert (both[0] < both[1]).any()
    codes = np.arange(8)[:, np.newaxis].repeat(8, axis=1)
    drive = design(periphery=Periphery(input_bits=3, dac_bits=3)).drive(signed=False)
    expected = float((codes[:, 0] / 7 * drive.carried(codes[:, 0]) / 7).mean())
    from xbarsim.network.calibrate import _mean_square_input

    np.testing.assert_allclose(_mean_square_input(codes.astype(np.int32), drive), expected)


def test_a_design_with_a_law_is_one_in_toml() -> None:
    for law in (LAW, PolynomialLaw(quadratic=(0.0, 0.1), cubic=(0.0, 2.0), maximum_voltage=0.5)):
        chosen = design(current_law=law)
        assert Design.from_toml(chosen.to_toml()) == chosen
        assert type(law).__name__ in str(chosen)
    assert "current_law" not in design(current_law=None).to_toml()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"current_law": "sinh"}, "current_law must be of type CurrentLaw or None"),
        ({"current_law": PolynomialLaw(cubic=(1e-5,), maximum_voltage=1.0)}, "proportional to the conductance"),
        ({"current_law": PolynomialLaw(cubic=(0.0, 1.0), maximum_voltage=0.2)}, "of 0.3 V, got one up to 0.2 V"),
        ({"current_law": PolynomialLaw(cubic=(0.0, -9.0), maximum_voltage=1.0)}, "slope of the current must be >= 0"),
        ({"cell": replace(CELL, read_voltage=None)}, "has no read voltage"),
        ({"periphery": Periphery(dac_errors=DacErrors(gain=0.1))}, "dac_errors must have no offset and no gain"),
    ],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        design(**changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.0, 1.0, 3.0), "values must be 4, one for each code of 2 bits, got 3"),
        ((0.1, 1.0, 2.0, 3.0), "values must rise from 0 to 3"),
        ((0.0, 2.0, 1.0, 3.0), "values must rise from 0 to 3"),
        ((0.0, 1.0, 2.0, 4.0), "values must rise from 0 to 3"),
    ],
)
def test_values_that_no_driver_gives(values: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Drive(signed=False, input_bits=2, dac_bits=2, values=values)
