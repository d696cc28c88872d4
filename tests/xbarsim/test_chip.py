"""One die: the same from the same seed, whatever runs it; and what its faults and errors do."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.chip import _FAULTS, _PROGRAMMING, _READ_NOISE, _stream
from xbarsim.data import load_cifar10
from xbarsim.devices import Cell, FaultMap, Kind, Polynomial, ProgrammingError, ReadNoise, StuckFaults
from xbarsim.mapping import Differential, Encoding, Mapping, Offset, TwoColumn
from xbarsim.models import load_resnet20, normalise
from xbarsim.network import MappedNetwork, map_model
from xbarsim.validation import InputError

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
    **periphery: Any,
) -> MappedNetwork:
    design = xb.Design(
        cell=cell,
        mapping=Mapping(encoding=encoding or TwoColumn(), rows=32, columns=32),
        periphery=xb.Periphery(**periphery),
        faults=faults,
    )
    return map_model(
        model() if network is None else network,
        design,
        calibration=images() if calibration is None else calibration,
    )


# What a chip can suffer from, with the plans it gets.
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "exact": ({}, "exact"),
    "bitplane": ({"adc_bits": 5}, "bitplane"),
    "tiled": ({"adc_bits": 5, "dac_bits": 8}, "tiled"),
    "errors": ({"cell": NOISY}, "folded"),
    "errors, converter": ({"cell": NOISY, "adc_bits": 5, "dac_bits": 2}, "bitplane-analog"),
    "errors, offset": ({"cell": NOISY, "encoding": Offset(), "adc_bits": 6, "dac_bits": 8}, "tiled"),
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
    assert torch.equal(first(batch), answer)  # running a die does not change it
    assert second.faults == first.faults != other.faults
    for name in network.layers:
        np.testing.assert_array_equal(first.layers[name].cells(), second.layers[name].cells())
        assert (first.layers[name].cells() != other.layers[name].cells()).any()
    assert first.seed == 7


def test_fabricating_leaves_the_network_alone(network: MappedNetwork) -> None:
    levels = {name: layer.matrix.levels.copy() for name, layer in network.layers.items()}
    state = copy.deepcopy(network.digital.state_dict())
    with torch.no_grad():
        digital = network.digital(images())
    for seed in range(3):
        network.fabricate(seed=seed)(images())
    for name, layer in network.layers.items():
        np.testing.assert_array_equal(layer.matrix.levels, levels[name])
    assert network.digital.state_dict().keys() == state.keys()
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
        tuple(_stream(seed, layer, purpose).generate_state(4))
        for seed in (0, 1)
        for layer in (0, 1)
        for purpose in (_PROGRAMMING, _FAULTS, _READ_NOISE)
    }
    assert len(keys) == 12


@pytest.mark.parametrize("seed", [-1, 1.5, True, None, "7"])
def test_seeds_that_are_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="seed must be an integer >= 0, got "):
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
    assert torch.equal(torch.cat(parts), chip(batch))


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
    broken = FaultMap.from_dense(np.full(shape, int(Kind.STUCK_OFF)))
    chip = network.fabricate(seed=1, faults={"third": broken})
    assert chip.faults["third"] == broken
    assert all(len(chip.faults[name]) == 0 for name in network.layers if name != "third")
    assert (chip.layers["third"].cells() == 0).all()
    # a layer without weights gives its bias, whatever the image
    with torch.no_grad():
        bias = model().get_parameter("third.bias")
        expected = network.digital.get_submodule("last")(torch.tanh(bias)[None])
    assert torch.equal(chip(images()), expected.expand(10, -1))
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
    dense[where] = Kind.STUCK_ON
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
    with pytest.raises(InputError, match=r"faults\['first'\] must be of type FaultMap"):
        network.fabricate(seed=1, faults={"first": None})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="faults must be of type Mapping"):
        network.fabricate(seed=1, faults=FaultMap.empty(shape))  # type: ignore[arg-type]


def test_the_same_mapping_with_other_faults() -> None:
    network = mapped()
    none, more = network.with_faults(None), network.with_faults(StuckFaults(on=0.5, off=0.5))
    assert (network.design.faults, none.design.faults) == (FAULTS, None)
    assert none.layers is network.layers
    with torch.no_grad():
        assert torch.equal(none.fabricate(seed=1)(images()), network.digital(images()))
    assert all(fault_map.rate == 1 for fault_map in more.fabricate(seed=1).faults.values())
    with pytest.raises(InputError, match="faults must be of type FaultModel"):
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
        name: FaultMap.from_dense(np.where(layer.matrix.levels == 0, Kind.STUCK_OFF, 0).astype(np.uint8))
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
    with pytest.raises(InputError, match="tile must be an integer >= 0 and <= "):
        chip.tile("third", 99)


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
    broken = FaultMap.from_dense(np.full(shape, int(Kind.STUCK_OFF)))
    chip = network.fabricate(seed=1, faults={"second": broken})
    report = chip.report(images())
    own = {error.layer: error.own for error in report.layers}
    total = {error.layer: error.total for error in report.layers}
    assert own["first"] == own["third"] == own["last"] == total["first"] == 0.0
    assert own["second"] > 0.5
    assert own["second"] == total["second"]
    assert total["third"] > 0
    assert total["last"] > 0
    assert report.to_rows()[1] == {"layer": "second", "own": own["second"], "total": total["second"]}
    assert "second" in str(report)
    # by hand for the last layer
    with torch.no_grad():
        digital, answer = network.digital(images()).double(), chip(images()).double()
    assert total["last"] == pytest.approx(float((answer - digital).norm() / digital.norm()), rel=1e-9)
    again = chip.report(images(), batch_size=3)
    assert [e.total for e in again.layers] == pytest.approx([e.total for e in report.layers], rel=1e-9)


def test_the_report_handles_shared_layers_and_leaves_no_hooks() -> None:
    batch = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    network = mapped(faults=FAULTS, network=Twice(), calibration=batch)
    chip = network.fabricate(seed=1)
    (error,) = chip.report(batch).layers
    assert error.own == error.total > 0
    hooked = [m for net in (chip, network.digital) for m in net.modules() if m._forward_hooks]
    assert not hooked


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
