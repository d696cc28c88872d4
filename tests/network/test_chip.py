"""One die: the same from the same seed, whatever runs it; and what its faults and errors do."""

from __future__ import annotations

import copy
import tracemalloc
import warnings
from collections.abc import Iterator
from itertools import product
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.circuit import SinhLaw, Wires, reference_effective_conductance
from xbarsim.data import load_cifar10
from xbarsim.design import AdcErrors, DacErrors
from xbarsim.devices import (
    Cell,
    FaultKind,
    FaultMap,
    LineFaults,
    Polynomial,
    ProgrammingError,
    ReadNoise,
    ShotNoise,
    StuckFaults,
    ThermalNoise,
)
from xbarsim.die import Purpose, stream
from xbarsim.engine import largest_conversion, reference_multiply
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Differential, Encoding, Mapping, Offset, TwoColumn
from xbarsim.models import load_resnet20, normalise
from xbarsim.network import MappedNetwork, map_model
from xbarsim.network.calibrate import sample_vectors
from xbarsim.network.layers import DigitalLayer
from xbarsim.network.lowering import TorchSkeleton
from xbarsim.network.report import ClippingWarning
from xbarsim.network.samples import Samples

QUIET = Cell(g_min=1e-6, g_max=1.2e-5, levels=16, read_voltage=0.2)
NOISY = Cell(
    g_min=1e-6,
    g_max=1.2e-5,
    levels=16,
    read_voltage=0.2,
    programming_error=ProgrammingError(
        spread=Polynomial(coefficients=(2e-7, 0.02), scale=1.0), valid_from=1e-7, valid_to=1e-4
    ),
    read_noise=ReadNoise(spread=Polynomial(coefficients=(5e-8, 0.01), scale=1.0), valid_from=1e-7, valid_to=1e-4),
)
FAULTS = StuckFaults(on=0.02, off=0.05)
WIRES = Wires(word_line_resistance=20.0, bit_line_resistance=30.0, driver_resistance=200.0)
LINE_FAULTS = LineFaults(open_word_line=0.02, open_bit_line=0.02, shorted_bit_lines=0.05)
ADC_ERRORS = AdcErrors(offset=0.5, gain=0.05, capacitor_mismatch=0.05, dead=0.02)
DAC_ERRORS = DacErrors(offset=0.02, gain=0.05, dead=0.02)


class Small(nn.Module):
    """Two convolutions and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2)
        self.third = nn.Linear(72, 10)
        self.last = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.second(torch.relu(self.first(x)))).flatten(1)
        answer: Tensor = self.last(torch.tanh(self.third(y)))
        return answer


def images(count: int = 10) -> Tensor:
    return torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(3))


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return Small().eval()


def mapped(
    cell: Cell = QUIET,
    faults: StuckFaults | None = FAULTS,
    encoding: Encoding | None = None,
    network: nn.Module | None = None,
    calibration: Tensor | None = None,
    wires: Wires | None = None,
    line_faults: LineFaults | None = None,
    **periphery: Any,
) -> MappedNetwork:
    design = xb.Design(
        cell=cell,
        mapping=Mapping(encoding=encoding or TwoColumn(), rows=32, columns=32),
        periphery=xb.Periphery(**periphery),
        faults=faults,
        wires=wires,
        line_faults=line_faults,
    )
    return map_model(
        model() if network is None else network,
        design,
        calibration=images() if calibration is None else calibration,
    )


# All that can be wrong around the cells.
ARRAY: dict[str, Any] = {
    "wires": WIRES,
    "line_faults": LINE_FAULTS,
    "adc_bits": 6,
    "dac_bits": 4,
    "active_rows": 12,
    "columns_per_adc": 3,
    "adc_errors": ADC_ERRORS,
    "dac_errors": DAC_ERRORS,
}

# What a chip can suffer from, with the plans it gets.
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "exact": ({}, "exact"),
    "bitplane": ({"adc_bits": 5}, "bitplane"),
    "tiled": ({"adc_bits": 5, "dac_bits": 8}, "tiled"),
    "errors": ({"cell": NOISY}, "folded"),
    "errors, converter": ({"cell": NOISY, "adc_bits": 5, "dac_bits": 2}, "bitplane-analog"),
    "errors, offset": ({"cell": NOISY, "encoding": Offset(), "adc_bits": 6, "dac_bits": 8}, "tiled"),
    "array": (ARRAY, "bitplane-analog"),
    "array, errors": ({"cell": NOISY, **ARRAY}, "bitplane-analog"),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small layers: threads would wait for each other most of the time. Tests of threads ask for their number."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


@pytest.fixture(scope="module", params=KINDS)
def network(request: pytest.FixtureRequest) -> MappedNetwork:
    arguments, plan = KINDS[request.param]
    made = mapped(**arguments)
    assert {row[1] for row in made.fabricate(seed=0).plan().rows} == {plan}
    return made


# --- seeds


def test_same_seed_same_die_and_another_seed_another(network: MappedNetwork) -> None:
    batch = images()
    first = network.fabricate(seed=7)
    answer = first(batch)
    other = network.fabricate(seed=8)
    assert not torch.equal(other(batch), answer)
    second = network.fabricate(seed=7)
    assert torch.equal(second(batch), answer)
    assert torch.equal(first(batch, first_image=0), answer)  # running a die does not change it
    assert second.faults == first.faults != other.faults
    for name in network.layers:
        np.testing.assert_array_equal(first.layers[name].cells(), second.layers[name].cells())
        assert (first.layers[name].cells() != other.layers[name].cells()).any()
    assert first.seed == 7


def test_fabricating_leaves_the_network_alone(network: MappedNetwork) -> None:
    levels = {name: layer.matrix.levels.copy() for name, layer in network.layers.items()}
    assert isinstance(network.skeleton, TorchSkeleton)
    state = copy.deepcopy(network.skeleton.model.state_dict())
    with torch.no_grad():
        digital = network.digital(images())
    for seed in range(3):
        network.fabricate(seed=seed)(images())
    for name, layer in network.layers.items():
        np.testing.assert_array_equal(layer.matrix.levels, levels[name])
    after = network.skeleton.model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[key], state[key]) for key in state)
    with torch.no_grad():
        assert torch.equal(network.digital(images()), digital)


def test_layers_and_purposes_draw_from_streams_of_their_own() -> None:
    """Two like layers break in different cells, and faults do not depend on whether programming errs."""
    twins = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    calibration = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    quiet, noisy = (mapped(cell, network=twins, calibration=calibration).fabricate(seed=4) for cell in (QUIET, NOISY))
    assert quiet.faults["0"] != quiet.faults["1"]
    assert quiet.faults == noisy.faults
    without = mapped(NOISY, None, network=twins, calibration=calibration).fabricate(seed=4)
    np.testing.assert_array_equal(without.layers["1"].programmed(), noisy.layers["1"].programmed())
    assert (noisy.layers["0"].programmed() != noisy.layers["1"].programmed()).any()
    keys = {
        tuple(stream(seed, layer, purpose).generate_state(4))
        for seed in (0, 1)
        for layer in (0, 1)
        for purpose in Purpose
    }
    assert len(keys) == 4 * len(Purpose)


@pytest.mark.parametrize("seed", [-1, 1.5, True, None, "7"])
def test_seeds_that_are_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="seed must be an integer"):
        mapped().fabricate(seed=seed)


# --- nothing depends on batches or threads


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_batch_size_changes_no_answer(network: MappedNetwork, batch_size: int) -> None:
    chip = network.fabricate(seed=1)
    batch = images(9)
    whole = chip(batch)
    parts = [chip(batch[start : start + batch_size], first_image=start) for start in range(0, 9, batch_size)]
    assert torch.equal(torch.cat(parts), whole)
    labels = torch.zeros(9, dtype=torch.int64)
    assert (
        xb.evaluate(chip, batch, labels, batch_size=batch_size).predictions
        == xb.evaluate(chip, batch, labels, batch_size=9).predictions
    )


def test_threads_change_no_answer(network: MappedNetwork) -> None:
    most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if most < 2:
        pytest.skip("one thread is all there is")
    batch = images(9)
    before, torch_before = numba.get_num_threads(), torch.get_num_threads()
    answers = []
    try:
        for threads in (1, 2):
            xb.set_threads(threads)
            assert numba.get_num_threads() == torch.get_num_threads() == threads
            chip = network.fabricate(seed=1)
            with torch.no_grad():
                answers.append((chip(batch), network.digital(batch)))
    finally:
        xb.set_threads(min(before, most))
        torch.set_num_threads(torch_before)
    assert torch.equal(answers[0][0], answers[1][0])
    assert torch.equal(answers[0][1], answers[1][1])


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, 10_000])
def test_threads_that_are_refused(threads: Any) -> None:
    with pytest.raises(InputError, match="threads must be an integer >= 1 and <= "):
        xb.set_threads(threads)


class Folding(nn.Module):
    """Folds two halves of each image into the dimension of the images, as attention and sequences do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layer(x.reshape(-1, 8)).reshape(len(x), -1)
        return answer


def test_read_noise_knows_its_image_where_a_model_folds_dimensions() -> None:
    batch = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    chip = mapped(NOISY, network=Folding(), calibration=batch).fabricate(seed=1)
    parts = [chip(batch[start : start + 1], first_image=start) for start in range(6)]
    assert torch.equal(torch.cat(parts), chip(batch, first_image=0))
    assert not torch.equal(torch.cat(parts), chip(batch))  # a second read of the same images draws anew


class Twice(nn.Module):
    """One layer read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(x), self.layer(x)])


def test_every_read_of_a_shared_layer_draws_its_own_noise() -> None:
    batch = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    first, second = mapped(NOISY, network=Twice(), calibration=batch).fabricate(seed=1)(batch)
    assert not torch.equal(first, second)
    first, second = mapped(QUIET, network=Twice(), calibration=batch).fabricate(seed=1)(batch)
    assert torch.equal(first, second)


def test_read_noise_is_new_for_every_image_and_the_die_is_not() -> None:
    same = images(1).expand(4, -1, -1, -1).contiguous()
    noisy = mapped(NOISY, None).fabricate(seed=1)(same)
    assert len({tuple(row.tolist()) for row in noisy}) == 4
    quiet = mapped(QUIET).fabricate(seed=1)(same)
    assert len({tuple(row.tolist()) for row in quiet}) == 1


# --- fault maps


def test_fault_maps_by_name() -> None:
    network = mapped(faults=None)
    shape = network.layers["third"].matrix.levels.shape
    broken = FaultMap.from_dense(np.full(shape, int(FaultKind.STUCK_OFF)))
    chip = network.fabricate(seed=1, faults={"third": broken})
    assert chip.faults["third"] == broken
    assert all(len(chip.faults[name]) == 0 for name in network.layers if name != "third")
    assert (chip.layers["third"].cells() == 0).all()
    # a layer without weights gives its bias, whatever the image
    with torch.no_grad():
        bias = model().get_parameter("third.bias")
        expected = DigitalLayer(network.layers["last"].layer)(torch.tanh(bias)[None].numpy())
    assert torch.equal(chip(images()), torch.from_numpy(expected).expand(10, -1))
    # the other layers keep the faults of the design
    network = mapped()
    given, sampled = network.fabricate(seed=1, faults={"third": broken}), network.fabricate(seed=1)
    assert given.faults["first"] == sampled.faults["first"]
    assert given.faults["third"] != sampled.faults["third"]


def test_one_stuck_cell_changes_one_weight() -> None:
    """By hand: a cell of weight (row 3, output 2) stuck on moves that output by code x slice x (M - level)."""
    linear = nn.Linear(8, 4)
    batch = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    network = mapped(faults=None, network=linear, calibration=batch)
    layer = network.layers[""]
    place = layer.matrix.cells_of(3, 2)
    cell = int(np.flatnonzero((place.slice == 1) & (place.side == 0))[0])
    where = (int(place.tile[cell]), int(place.row[cell]), int(place.column[cell]))
    dense = np.zeros(layer.matrix.levels.shape, np.uint8)
    dense[where] = FaultKind.STUCK_ON
    chip = network.fabricate(seed=1, faults={"": FaultMap.from_dense(dense)})
    change = 16 * (15 - int(layer.matrix.levels[where]))
    codes = np.floor(batch.numpy().astype(np.float64) / layer.layer.input_scale + 0.5)
    with torch.no_grad():
        moved = (chip(batch) - network.digital(batch)).numpy()
    expected = np.zeros((6, 4))
    expected[:, 2] = codes[:, 3] * change * layer.layer.input_scale * layer.layer.weight_scale[2]
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-6)


def test_fault_maps_that_are_refused() -> None:
    network = mapped()
    shape = network.layers["first"].matrix.levels.shape
    wrong = FaultMap.empty((shape[0] + 1, *shape[1:]))
    with pytest.raises(InputError, match=r"faults\['first'\] must have shape .*, got "):
        network.fabricate(seed=1, faults={"first": wrong})
    with pytest.raises(InputError, match=r"faults must name mapped layers \(first, second, third, last\), got 'fifth'"):
        network.fabricate(seed=1, faults={"fifth": FaultMap.empty(shape)})
    with pytest.raises(
        InputError, match=r"faults must be of type mapping, each text, of type FaultMap or None, got \{'first': None\}"
    ):
        network.fabricate(seed=1, faults={"first": None})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="faults must be of type mapping, each text, of type FaultMap or None"):
        network.fabricate(seed=1, faults=FaultMap.empty(shape))  # type: ignore[arg-type]


def test_the_same_mapping_with_other_faults() -> None:
    network = mapped()
    none, more = network.with_faults(None), network.with_faults(StuckFaults(on=0.5, off=0.5))
    assert (network.design.faults, none.design.faults) == (FAULTS, None)
    assert none.layers is network.layers
    with torch.no_grad():
        assert torch.equal(none.fabricate(seed=1)(images()), network.digital(images()))
    assert all(fault_map.rate == 1 for fault_map in more.fabricate(seed=1).faults.values())
    with pytest.raises(InputError, match="faults must be of type FaultModel or None"):
        network.with_faults(0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("periphery", [{}, {"adc_bits": 4}, {"adc_bits": 4, "dac_bits": 8}], ids=str)
def test_differential_is_the_dual_of_two_columns(periphery: dict[str, Any]) -> None:
    """Differential under a map is TwoColumn under its complement with the columns of each pair exchanged."""
    two, differential = (mapped(encoding=e, **periphery) for e in (TwoColumn(), Differential()))
    chip = differential.fabricate(seed=5)
    exchanged = {}
    for name, fault_map in chip.faults.items():
        dense = fault_map.complement().dense()
        tiles, rows, columns = dense.shape
        exchanged[name] = FaultMap.from_dense(
            dense.reshape(tiles, rows, -1, 2)[..., ::-1].reshape(tiles, rows, columns)
        )
        assert len(exchanged[name]) > 0
    dual = two.fabricate(seed=9, faults=exchanged)
    assert torch.equal(chip(images()), dual(images()))
    with torch.no_grad():
        assert not torch.equal(chip(images()), differential.digital(images()))


def test_a_fault_map_at_target_levels_changes_nothing() -> None:
    network = mapped(faults=None)
    faults = {
        name: FaultMap.from_dense(np.where(layer.matrix.levels == 0, FaultKind.STUCK_OFF, 0).astype(np.uint8))
        for name, layer in network.layers.items()
    }
    chip = network.fabricate(seed=1, faults=faults)
    with torch.no_grad():
        assert torch.equal(chip(images()), network.digital(images()))


# --- target, programmed and faulty cells


def test_tiles_keep_target_programmed_and_faulty_apart() -> None:
    network = mapped(NOISY)
    chip = network.fabricate(seed=1)
    view = chip.tile("third", 1)
    np.testing.assert_array_equal(view.target, network.layers["third"].matrix.levels[1])
    broken = view.faults.dense()[0] > 0
    assert broken.any()
    np.testing.assert_array_equal(view.programmed[~broken], view.faulty[~broken])
    assert set(np.unique(view.faulty[broken])) <= {0.0, 15.0}
    assert (view.programmed != view.target).mean() > 0.9
    np.testing.assert_array_equal(view.used, network.layers["third"].matrix.used[1])
    with pytest.raises(InputError, match="layer must be one of 'first', 'second', 'third', 'last', got 'fifth'"):
        chip.tile("fifth")
    tiles = network.layers["third"].matrix.tiles
    with pytest.raises(InputError, match=rf"tile must be an integer >= 0 and <= {tiles - 1}, got {tiles}"):
        chip.tile("third", tiles)


# --- reports


def test_an_ideal_chip_has_no_errors() -> None:
    chip = mapped(faults=None).fabricate(seed=1)
    report = chip.report(images(), batch_size=3)
    assert [(error.layer, error.own, error.total) for error in report.layers] == [
        (name, 0.0, 0.0) for name in ("first", "second", "third", "last")
    ]
    assert report.images == 10


def test_the_report_shows_where_accuracy_is_lost() -> None:
    network = mapped(faults=None)
    shape = network.layers["second"].matrix.levels.shape
    broken = FaultMap.from_dense(np.full(shape, int(FaultKind.STUCK_OFF)))
    chip = network.fabricate(seed=1, faults={"second": broken})
    report = chip.report(images())
    own = {error.layer: error.own for error in report.layers}
    total = {error.layer: error.total for error in report.layers}
    assert own["first"] == own["third"] == own["last"] == total["first"] == 0.0
    assert own["second"] > 0.5
    assert own["second"] == total["second"]
    assert total["third"] > 0
    assert total["last"] > 0
    row = report.to_rows()[1]
    assert (row["layer"], row["own"], row["total"]) == ("second", own["second"], total["second"])
    assert row["clipped"] is None
    assert row["current_loss"] is None
    assert row["clipped_inputs"] == 0.0
    assert row["parts"] == {}
    assert "second" in str(report)
    # by hand for the last layer
    with torch.no_grad():
        digital, answer = network.digital(images()).double(), chip(images()).double()
        floating = model()(images()).double()
    assert total["last"] == pytest.approx(float((answer - digital).norm() / digital.norm()), rel=1e-9)
    last = report.layers[-1]
    assert last.float_total == pytest.approx(float((answer - floating).norm() / floating.norm()), rel=1e-5)
    assert last.quantisation == pytest.approx(float((digital - floating).norm() / floating.norm()), rel=1e-4)
    again = chip.report(images(), batch_size=3)
    assert [e.total for e in again.layers] == pytest.approx([e.total for e in report.layers], rel=1e-9)


def test_the_report_handles_shared_layers() -> None:
    batch = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    network = mapped(faults=FAULTS, network=Twice(), calibration=batch)
    chip = network.fabricate(seed=1)
    (error,) = chip.report(batch).layers
    assert error.own == error.total > 0


# --- wires, lines, drivers and converters


@pytest.mark.parametrize("periphery", [{}, {"adc_bits": 5}, {"adc_bits": 5, "dac_bits": 8, "active_rows": 7}], ids=str)
@pytest.mark.parametrize("encoding", [TwoColumn(), Offset()], ids=repr)
def test_wires_without_resistance_are_no_wires(encoding: Encoding, periphery: dict[str, Any]) -> None:
    without, ideal = (mapped(encoding=encoding, wires=wires, **periphery) for wires in (None, Wires()))
    for name, layer in without.layers.items():
        assert (layer.drive, layer.converter) == (ideal.layers[name].drive, ideal.layers[name].converter)
    first, second = (network.fabricate(seed=3) for network in (without, ideal))
    assert torch.equal(first(images()), second(images()))
    assert first.plan().rows == second.plan().rows
    lost = [loss.worst for loss in second.report(images(2), clipping=1.0).tiles]
    assert lost == pytest.approx([0.0] * len(lost), abs=1e-12)


def test_calibrated_converters_know_the_wires() -> None:
    """Wires take current: a die's converters span less, and none of them clips what it was calibrated on."""
    lossy = Wires(word_line_resistance=100.0, bit_line_resistance=150.0, driver_resistance=1000.0)
    without, through = (mapped(faults=None, wires=wires, adc_bits=4) for wires in (None, lossy))
    for name, layer in without.layers.items():
        step, shrunk = layer.converter.step, through.layers[name].converter.step
        assert step is not None
        assert shrunk is not None
        assert 1.0 < shrunk < 0.98 * step
    # the first layer's inputs are those of the calibration; the chip's own errors move those of the others a little
    assert through.fabricate(seed=1).report(images(), clipping=1.0).layers[0].clipped == 0.0
    # and no range is wider than it has to be: the largest read gets the highest code
    first = through.layers["first"]
    seen = through.fabricate(seed=1).layers["first"].seen()[0]
    codes = first.layer.quantise(first.layer.as_maps(images().numpy()))
    vectors, offset_levels = sample_vectors(first.layer, codes)[0], through.design.offset_levels
    largest = largest_conversion(first.reading, first.drive, vectors, offset_levels=offset_levels, cells=seen)
    assert largest / (first.converter.step or 0.0) == pytest.approx(first.converter.high, rel=1e-12)


def test_more_resistance_costs_more() -> None:
    own, lost = [], []
    for scale in (0.0, 1.0, 4.0, 16.0):
        wires = Wires(word_line_resistance=5.0 * scale, bit_line_resistance=5.0 * scale)
        report = mapped(faults=None, wires=wires).fabricate(seed=1).report(images())
        own.append(report.layers[1].own)
        lost.append(report.layers[1].current_loss)
    assert own[0] == 0.0
    assert own == sorted(own)
    assert lost == sorted(lost)  # type: ignore[type-var]
    assert lost[-1] > 0.05  # type: ignore[operator]


@pytest.mark.parametrize("encoding", [Differential(), Offset()], ids=repr)
@pytest.mark.parametrize("subtraction", ["analog", "digital"])
def test_a_die_with_all_effects_is_what_the_reference_makes_of_its_parts(encoding: Encoding, subtraction: str) -> None:
    if encoding.sides == 1 and subtraction == "analog":
        pytest.skip("no pairs to subtract")
    network = mapped(encoding=encoding, subtraction=subtraction, **ARRAY)
    chip = network.fabricate(seed=5, precision="double")
    passed: dict[str, tuple[Any, Any]] = {}
    chip.network.skeleton.run(
        Samples.of(images(2)), chip.running, watch=lambda name, given, answer: passed.update({name: (given, answer)})
    )
    for name, layer in chip.layers.items():
        quantised = network.layers[name].layer
        given, found = passed[name]
        codes = quantised.unfold(quantised.quantise(quantised.as_maps(given)))  # (images, positions, inputs)
        seen, errors = layer.seen()
        assert errors.offset is not None
        assert errors.weights is not None
        vectors = codes.reshape(-1, codes.shape[2])
        product = reference_multiply(vectors, layer.reading, seen, layer.drive, layer.converter, errors=errors)
        scaled = (product * quantised.scaling.scale + quantised.scaling.bias).astype(np.float32)
        wanted = scaled.reshape(*codes.shape[:2], -1).swapaxes(1, 2).reshape(found.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * float(np.abs(wanted).max()))
        np.testing.assert_array_equal(layer.plan("double").multiply(codes).reshape(product.shape), product)


@pytest.mark.parametrize("effects", [{}, {"adc_bits": 5}, {"adc_bits": 5, "dac_bits": 2}, ARRAY])
def test_a_chip_equals_its_reference(effects: dict[str, Any]) -> None:
    chip = mapped(**effects).fabricate(seed=4, precision="double")
    np.testing.assert_array_equal(chip(images(2)).numpy(), chip.reference()(images(2)).numpy())
    np.testing.assert_array_equal(chip.reference()(images(3)).numpy()[:2], chip(images(2)).numpy())


def test_a_reference_with_read_noise_is_refused() -> None:
    with pytest.raises(InputError, match="cell must have no read noise for the reference engine"):
        mapped(NOISY).fabricate(seed=4).reference()


def test_each_effect_draws_from_streams_of_its_own() -> None:
    """Adding one effect breaks no other cell, line, driver or converter of the die."""
    all_of_them = mapped(NOISY, **ARRAY).fabricate(seed=6)
    some: dict[str, Any] = {"cell": NOISY, "adc_bits": 6, "dac_bits": 4, "active_rows": 12, "columns_per_adc": 3}
    plain = mapped(**some).fabricate(seed=6)
    lines = mapped(**some, line_faults=LINE_FAULTS).fabricate(seed=6)
    converters = mapped(**some, adc_errors=ADC_ERRORS).fabricate(seed=6)
    drivers = mapped(**some, dac_errors=DAC_ERRORS).fabricate(seed=6)
    other = mapped(NOISY, **ARRAY).fabricate(seed=7)
    assert all_of_them.faults == plain.faults == lines.faults
    for name, layer in all_of_them.layers.items():
        np.testing.assert_array_equal(layer.cells(), plain.layers[name].cells())
        broken, same, others = layer.silicon.lines, lines.layers[name].silicon.lines, other.layers[name].silicon.lines
        assert broken is not None
        assert same is not None
        assert others is not None
        for mask in ("open_word_lines", "open_bit_lines", "shorted_bit_lines"):
            np.testing.assert_array_equal(getattr(broken, mask), getattr(same, mask))
        assert (broken.shorted_bit_lines != others.shorted_bit_lines).any()
        errors = layer.seen()[1]
        alone, driven = converters.layers[name].seen()[1], drivers.layers[name].seen()[1]
        np.testing.assert_array_equal(errors.weights, alone.weights)
        np.testing.assert_array_equal(errors.converter_gain, alone.converter_gain)
        np.testing.assert_array_equal(errors.driver_gain, driven.driver_gain)
        assert plain.layers[name].silicon.lines is None
        assert not plain.layers[name].seen()[1].any
    first, second = (all_of_them.layers[name].silicon.lines for name in ("first", "second"))
    assert first is not None
    assert second is not None
    assert (first.open_word_lines[0] != second.open_word_lines[0]).any() or (
        first.shorted_bit_lines[0] != second.shorted_bit_lines[0]
    ).any()


@pytest.mark.parametrize(
    "effect",
    [
        {"adc_bits": 6, "adc_errors": AdcErrors(dead=1.0, offset=1.0)},
        {"adc_bits": 6, "subtraction": "digital", "adc_errors": AdcErrors(dead=1.0)},
        {"adc_bits": 6, "line_faults": LineFaults(open_bit_line=1.0)},
        {"line_faults": LineFaults(open_word_line=1.0)},
        {"line_faults": LineFaults(open_word_line=1.0), "wires": WIRES, "active_rows": 5},
        {"dac_errors": DacErrors(dead=1.0, offset=0.5)},
    ],
    ids=str,
)
def test_what_is_dead_is_silent_too(effect: dict[str, Any]) -> None:
    """No current, and no read noise of cells that carry none: only biases are left, the same for every image."""
    network = mapped(NOISY, **effect)
    answer = network.fabricate(seed=1)(images())
    bias = {name: model().get_parameter(f"{name}.bias") for name in ("third", "last")}
    with torch.no_grad():
        np.testing.assert_allclose(answer.numpy(), bias["last"].expand(10, -1).numpy(), rtol=1e-6)


def test_gains_scale_read_noise() -> None:
    """Noise of the conductance passes driver and converter, shot noise follows the current, and thermal noise none."""
    linear, batch = nn.Linear(12, 5), torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
    for law, powers in (
        (NOISY.read_noise, (1, 1)),
        (ShotNoise(bandwidth=1e9), (0.5, 1)),
        (ThermalNoise(bandwidth=1e9, temperature=300.0), (0, 1)),
    ):
        cell = Cell(g_min=1e-6, g_max=1.2e-5, levels=16, read_voltage=0.2, read_noise=law)
        effects: dict[str, Any] = {
            "line_faults": LineFaults(open_word_line=0.1, open_bit_line=0.1),
            "adc_errors": AdcErrors(gain=0.2, dead=0.1),
            "dac_errors": DacErrors(gain=0.2, dead=0.1),
        }
        network = mapped(cell, network=linear, calibration=batch, adc_bits=6, **effects)
        layer = network.fabricate(seed=2).layers[""]
        cells, errors, lines = layer.cells(), layer.seen()[1], layer.silicon.lines
        quiet = mapped(cell, network=linear, calibration=batch, adc_bits=6).fabricate(seed=2).layers[""]
        before, after, kept = quiet.noise(cells), layer.noise(cells, errors), layer.case().noise  # given to the plan
        assert before is not None
        assert after is not None
        assert kept is not None
        assert lines is not None
        assert errors.driver_gain is not None
        assert errors.converter_gain is not None
        cut = lines.open_word_lines[:, :, None] | lines.open_bit_lines[:, None, :]
        assert cut.any()
        scale = errors.driver_gain[:, :, None] ** powers[0] * errors.converter_gain[:, None, :] ** powers[1]
        expected = np.where(cut, 0.0, scale)
        for noise in (after, kept):
            pairs = (
                (noise.spread**2, before.spread**2),
                (noise.linear, before.linear),
                (noise.constant, before.constant),
            )
            for term, was in pairs:
                assert (term is None) == (was is None)
                if term is not None and was is not None:
                    np.testing.assert_allclose(term, was * expected**2, rtol=1e-5)


def test_the_plan_of_a_network_is_that_of_its_dies() -> None:
    effects: tuple[dict[str, Any], ...] = (
        {"wires": WIRES},
        {"line_faults": LineFaults(open_word_line=0.3, open_bit_line=0.3), "adc_bits": 5},
        {"adc_errors": AdcErrors(gain=0.1), "adc_bits": 5},
        {"dac_errors": DacErrors(offset=0.1)},
        {"active_rows": 3, "adc_bits": 5},
    )
    for effect in effects:
        network = mapped(faults=None, **effect)
        # the reason may differ where an effect happens to leave the cells on whole levels
        assert [row[:2] for row in network.plan().rows] == [row[:2] for row in network.fabricate(seed=1).plan().rows]


# --- reports of converters and currents


def linear_network(**arguments: Any) -> tuple[MappedNetwork, Tensor]:
    """One linear layer on several tiles, signed inputs; and images."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        linear = nn.Linear(40, 7)
    batch = torch.randn(9, 40, generator=torch.Generator().manual_seed(1))
    return mapped(network=linear, calibration=batch, **arguments), batch


@pytest.mark.parametrize(
    "arguments",
    [
        {"adc_bits": 5, "adc_range": 30.0},
        {"adc_bits": 5, "adc_range": 30.0, "dac_bits": 3, "active_rows": 6},
        {"adc_bits": 6, "adc_range": 100.0, "subtraction": "digital", "signed_inputs": "offset", "wires": WIRES},
        {"adc_bits": 6, "adc_range": 60.0, "encoding": Offset(), "active_rows": 12, "dac_errors": DacErrors(gain=0.2)},
        {"adc_bits": 5, "adc_range": 30.0, "line_faults": LINE_FAULTS, "adc_errors": AdcErrors(gain=0.2)},
    ],
    ids=str,
)
def test_clipped_conversions_are_counted(arguments: dict[str, Any]) -> None:
    """Against a count of every conversion of every column that is in use, one by one."""
    network, batch = linear_network(**arguments)
    chip = network.fabricate(seed=1)
    layer = network.layers[""]
    matrix, drive, converter = layer.matrix, layer.drive, layer.converter
    assert converter.step is not None
    cells = chip.layers[""].seen()[0].astype(np.float64)
    scaled = np.floor(batch.numpy().astype(np.float64) / layer.layer.input_scale + 0.5).astype(int)
    codes = np.clip(scaled, -drive.max_input, drive.max_input)
    signs: tuple[int, ...] = (1, -1) if drive.signed_inputs == "two_pass" else (0,)
    clipped = total = 0
    for v, sign, plane, tile in product(range(9), signs, range(drive.planes), range(matrix.tiles)):
        driven = np.maximum(sign * codes[v], 0) if sign else codes[v] + 2 ** (drive.input_bits - 1)
        together = drive.active_rows or 32
        for first in range(0, 32, together):
            rows = [k for k in range(first, min(first + together, 32)) if matrix.tile_rows[tile, k] >= 0]
            x = [int(driven[matrix.tile_rows[tile, k]]) >> (plane * drive.dac_bits) & drive.max_plane for k in rows]
            columns = np.flatnonzero(matrix.used[tile].any(axis=0))
            values = {c: sum(code * cells[tile, k, c] for code, k in zip(x, rows, strict=True)) for c in columns}
            if network.design.subtraction == "analog":
                reads = [values[c] - values[c + 1] for c in columns if c % 2 == 0]
            else:
                reads = [value + sum(x) * converter.offset_levels for value in values.values()]
            if rows:
                total += len(reads)
                clipped += sum(
                    not converter.low <= np.floor(value / converter.step + 0.5) <= converter.high for value in reads
                )
    assert clipped > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClippingWarning)
        for batch_size in (9, 2):
            (error,) = chip.report(batch, batch_size=batch_size).layers
            assert error.clipped == clipped / total


def test_clipping_is_warned_of_by_layer_and_share() -> None:
    network = mapped(faults=None, adc_bits=4, adc_range=9.0)
    chip = network.fabricate(seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = chip.report(images(), clipping=1.0)
    shares = {error.layer: error.clipped for error in report.layers}
    assert all(share is not None and share > 0.01 for share in shares.values())
    worst = max(shares, key=lambda name: shares[name] or 0.0)
    bound = sorted(share or 0.0 for share in shares.values())[-2]
    with pytest.warns(ClippingWarning) as found:
        chip.report(images(), clipping=bound)
    (warning,) = found
    assert str(warning.message) == (
        f"converters clip more than {bound:.1%} of what they read in layers {worst} ({shares[worst]:.1%})"
        "; see guide: docs/guide/read_a_report.md"
    )
    assert warning.filename == __file__
    with pytest.warns(ClippingWarning, match=r"more than 1\.0% .* in layers first \(.*%\), second \(.*%\), third"):
        chip.report(images())
    for bad in (-0.1, 1.1, float("nan"), "1%"):
        with pytest.raises(InputError, match=f"clipping must be a (finite )?number.* got {bad!r}"):
            chip.report(images(), clipping=bad)  # type: ignore[arg-type]
    assert f"{shares['first']:.2%}" in str(report)


@pytest.mark.parametrize("active_rows", [None, 10])
def test_the_report_shows_the_current_that_wires_cost(active_rows: int | None) -> None:
    """Against the sparse solver, tile by tile, stuck cells and all."""
    network, batch = linear_network(wires=WIRES, active_rows=active_rows)
    chip = network.fabricate(seed=1)
    report = chip.report(batch)
    matrix, cells = network.layers[""].matrix, chip.layers[""].cells()
    assert [(loss.layer, loss.tile) for loss in report.tiles] == [("", tile) for tile in range(matrix.tiles)]
    means = []
    for tile, loss in enumerate(report.tiles):
        conductance = QUIET.conductance(cells[tile], 4)
        used = matrix.used[tile]
        rows = used.any(axis=1)
        got, numbers = np.zeros(32), np.arange(32) // (active_rows or 32)
        for number in np.unique(numbers[rows]):
            selected = rows & (numbers == number)
            got += reference_effective_conductance(conductance, WIRES, rows=selected).sum(axis=0)
        wanted = np.where(used, conductance, 0.0).sum(axis=0)
        columns = used.any(axis=0)
        assert loss.mean == pytest.approx(1 - got[columns].sum() / wanted[columns].sum(), rel=1e-6)
        assert loss.worst == pytest.approx((1 - got[columns] / wanted[columns]).max(), rel=1e-6)
        assert loss.worst > loss.mean > 0.0
        means.append(loss.mean)
    (error,) = report.layers
    assert error.current_loss == pytest.approx(np.mean(means), rel=1e-12)
    text = str(report)
    assert "current lost" in text
    assert f"{max(means):.2%}" in text
    plain = linear_network()[0].fabricate(seed=1).report(batch)
    assert plain.tiles == ()
    assert plain.layers[0].current_loss is None
    assert "current lost" not in str(plain)


# --- one tile, node by node


@pytest.mark.parametrize("wires", [None, WIRES, Wires(bit_line_resistance=50.0, access="0T1R")], ids=str)
def test_a_solved_tile_has_the_currents_that_its_reads_see(wires: Wires | None) -> None:
    network, _ = linear_network(wires=wires, line_faults=LineFaults(open_word_line=0.1, open_bit_line=0.1))
    chip = network.fabricate(seed=1)
    matrix = network.layers[""].matrix
    seen = QUIET.conductance(chip.layers[""].seen()[0], 4)
    rng = np.random.default_rng(0)
    for tile in range(matrix.tiles):
        used = matrix.tile_rows[tile] >= 0
        grid = QUIET.level_step(4) * 2.0**-16
        for voltages in (None, np.where(used, rng.uniform(-0.2, 0.2, 32), 0.0)):
            solution = chip.solve("", tile, voltages=voltages)
            driven = np.where(used, 0.2, 0.0) if voltages is None else voltages
            expected = driven @ seen[tile]
            np.testing.assert_allclose(solution.column_currents, expected, rtol=0, atol=np.abs(driven).sum() * grid)
            assert solution.row_currents.sum() == pytest.approx(solution.column_currents.sum(), rel=1e-9)


def test_a_solved_tile_of_curved_cells_carries_more() -> None:
    network, _ = linear_network(wires=WIRES)
    chip = network.fabricate(seed=1)
    straight, curved = chip.solve("", 0), chip.solve("", 0, law=SinhLaw(voltage_scale=0.2))
    assert (curved.column_currents > straight.column_currents).all()
    assert curved.iterations > straight.iterations == 0


def test_open_word_lines_do_not_keep_a_tile_from_being_solved() -> None:
    wires = Wires(word_line_resistance=5.0, access="0T1R", unselected="floating")
    network, batch = linear_network(wires=wires, line_faults=LineFaults(open_word_line=0.5), active_rows=8)
    chip = network.fabricate(seed=1)
    assert torch.isfinite(chip(batch)).all()
    lines = chip.layers[""].silicon.lines
    assert lines is not None
    last = network.layers[""].matrix.tiles - 1
    assert (lines.open_word_lines[last] & (network.layers[""].matrix.tile_rows[last] < 0)).any()
    assert np.isfinite(chip.solve("", last).word_line_voltages).all()


def test_tiles_that_cannot_be_solved() -> None:
    network, _ = linear_network(wires=WIRES)
    chip = network.fabricate(seed=1)
    with pytest.raises(InputError, match="layer must be one of '', got 'first'"):
        chip.solve("first")
    with pytest.raises(InputError, match=r"tile must be an integer >= 0 and <= \d+, got 99"):
        chip.solve("", 99)
    with pytest.raises(InputError, match=r"voltages must have shape \(32,\), got \(3,\)"):
        chip.solve("", 0, voltages=[0.1, 0.2, 0.3])
    with pytest.raises(InputError, match="voltages must be"):
        chip.solve("", 0, voltages=np.full(32, np.nan))
    last = network.layers[""].matrix.tiles - 1
    with pytest.raises(InputError, match=r"voltages must be 0 V in rows not selected, got 0.2 at index \d+"):
        chip.solve("", last, voltages=np.full(32, 0.2))
    with pytest.raises(InputError, match="law must be of type CurrentLaw or None"):
        chip.solve("", 0, law="sinh")  # type: ignore[arg-type]
    nameless = Cell(g_min=1e-6, g_max=1.2e-5, levels=16)
    chip = linear_network(cell=nameless)[0].fabricate(seed=1)
    with pytest.raises(InputError, match="voltages must be given for cell 'custom', which has no read voltage"):
        chip.solve("", 0)
    assert chip.solve("", 0, voltages=np.full(32, 0.1)).column_currents.shape == (32,)


# --- cost


def test_rows_in_turn_take_more_reads_and_less_power() -> None:
    """40 inputs fill a tile of 32 rows: 6 at a time take 6 reads where one was; the cells' energy is the same."""

    def placed(inputs: int, active_rows: int | None) -> MappedNetwork:
        with torch.random.fork_rng():
            torch.manual_seed(4)
            layer, batch = nn.Sequential(nn.Linear(inputs, 7)), torch.randn(9, inputs)
        return mapped(network=layer, calibration=batch, faults=None, active_rows=active_rows)

    for together, reads in ((None, 1), (32, 1), (6, 6), (1, 32)):
        use = placed(40, together).cost().layers[0].use
        if together is None:
            first = use
            assert use.reads_per_vector == 14  # 7 planes in 2 passes
        assert use.reads_per_vector == reads * 14
        assert use.cells_power is not None
        assert first.cells_power is not None
        assert use.cells_power * reads == pytest.approx(first.cells_power, rel=1e-12)
        assert use.adc_bits <= first.adc_bits
    assert use.adc_bits == 5  # one row of 4-bit levels, with its sign
    # a layer of few rows is read in few reads, however many word lines its arrays have
    assert placed(5, 2).cost().layers[0].use.reads_per_vector == 3 * 14


def test_cost_of_a_die() -> None:
    network = mapped(faults=None)
    assert network.fabricate(seed=1).cost() == network.cost()
    broken = mapped(faults=StuckFaults(on=0.5, off=0.0)).fabricate(seed=1)
    assert broken.cost() != network.cost()  # cells stuck on draw current


def test_a_chip_is_a_module_that_learns_nothing() -> None:
    chip = mapped().fabricate(seed=1)
    assert isinstance(chip, nn.Module)
    assert not chip.training
    answer = chip(images().requires_grad_())
    assert not answer.requires_grad
    inside = nn.Sequential(chip, nn.Softmax(1)).train()
    assert torch.equal(inside(images()), answer.softmax(1))
    with pytest.raises(InputError, match="state_dict holds no die"):
        inside.state_dict()
    with pytest.raises(InputError, match="device must be one that torch can compute in float64 on here, such as 'cpu'"):
        chip.to("nowhere")
    for first_image in (-1, 1.5):
        with pytest.raises(InputError, match="first_image must be an integer >= 0"):
            chip(images(), first_image=first_image)


# --- a real network


@pytest.mark.data
def test_resnet20_is_the_digital_network_and_keeps_its_accuracy() -> None:
    try:
        raw, labels = load_cifar10("test", count=500)
        calibration, _ = load_cifar10("train", count=64)
        network = load_resnet20()
    except FileNotFoundError as error:
        pytest.skip(f"ResNet-20 and CIFAR-10 are not here: {error}")
    batch = normalise(raw)
    design = xb.Design(cell=Cell.load("islped2019"), periphery=xb.Periphery(adc_range="lossless"))
    placed = map_model(network, design, calibration=normalise(calibration))
    assert len(placed.layers) == 20
    assert not placed.not_mapped
    chip = placed.fabricate(seed=7)
    assert {row[1] for row in chip.plan().rows} == {"exact"}
    some = torch.as_tensor(batch[:24])
    with torch.no_grad():
        assert torch.equal(chip(some), placed.digital(some))
    # 91.4 % of the full set; of the first 500 images the float network has 459 right
    assert xb.evaluate(chip, batch, labels).correct >= 455


@pytest.mark.parametrize("adc_bits", [8, None])
def test_a_die_takes_little_more_memory_than_its_weights(adc_bits: int | None) -> None:
    """Nothing of a layout stays but what the kernels read: every worker of a sweep holds a die."""
    wide = nn.Linear(768, 512)
    faults = StuckFaults(on=0.002, off=0.002)
    network = mapped(QUIET, faults, network=wide, calibration=torch.randn(8, 768), adc_bits=adc_bits, dac_bits=8)
    network.fabricate(seed=2)
    tracemalloc.start()
    try:
        chip = network.fabricate(seed=1)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(chip.faults[""]) > 1000
    assert held < 1.5 * 4 * wide.weight.numel() * network.design.mapping.slices
