"""Dies, networks and matrices in files: what is loaded is what was saved, bit for bit, or the file is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import xbarsim as xb
from tests.network.test_chip import ARRAY, NOISY, QUIET, Small, images, mapped, model
from tests.strategies import ALL_ENCODINGS, designs
from tests.test_repository import ROOT
from xbarsim.devices import Cell, FaultMap, StuckFaults
from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError
from xbarsim.mapping import Mapping
from xbarsim.mitigation import ClosestValue, Diagnosis, Mitigation, ProtectLayers
from xbarsim.network import Chip, MappedNetwork, map_model
from xbarsim.network.files import contents
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Layer, Skeleton, Watch

pytestmark = pytest.mark.filterwarnings(
    "ignore::xbarsim.network.ClippingWarning", "ignore::xbarsim.network.NotMappedWarning"
)

SLOW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
DRIFTING = Cell.load("joshi2020")


def other() -> nn.Module:
    """The architecture of the model of the dies, with weights of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(99)
        return Small()


def assert_same_die(loaded: Chip, chip: Chip, x: Tensor) -> None:
    assert loaded.faults == chip.faults
    for name, layer in chip.layers.items():
        assert np.array_equal(loaded.layers[name].cells(), layer.cells())
        assert np.array_equal(loaded.layers[name].targets, layer.targets)
    assert torch.equal(loaded(x, first_image=7), chip(x, first_image=7))
    assert torch.equal(loaded.network.digital(x), chip.network.digital(x))
    assert torch.equal(loaded.network.floating(x), chip.network.floating(x))
    assert loaded.plan() == chip.plan()
    assert str(loaded.cost()) == str(chip.cost())
    assert loaded.mitigations == chip.mitigations
    assert (loaded.seed, loaded.seconds, loaded.precision) == (chip.seed, chip.seconds, chip.precision)
    assert loaded.network.design == chip.network.design
    assert str(loaded.network) == str(chip.network)


# ------------------------------------------------------------------------------------------------ the same again


MITIGATIONS: tuple[tuple[Mitigation, ...], ...] = (
    (),
    (ClosestValue(),),
    (ProtectLayers(layers=("first",)), ClosestValue()),
)


@SLOW
@given(
    cell=st.sampled_from([QUIET, NOISY, DRIFTING]),
    encoding=st.sampled_from(ALL_ENCODINGS),
    faults=st.sampled_from([None, StuckFaults(on=0.02, off=0.05)]),
    around=st.sampled_from([{}, {"adc_bits": 6}, ARRAY]),
    mitigations=st.sampled_from(MITIGATIONS),
    precision=st.sampled_from(["single", "double"]),
    age=st.sampled_from([0.0, 1000.0]),
    seed=st.integers(0, 2**31),
)
def test_a_die_that_is_loaded_is_the_die_that_was_saved(
    tmp_path: Path,
    cell: Cell,
    encoding: Any,
    faults: StuckFaults | None,
    around: dict[str, Any],
    mitigations: tuple[Mitigation, ...],
    precision: Any,
    age: float,
    seed: int,
) -> None:
    try:
        network = mapped(cell, faults, encoding, **around)
    except InputError:
        assume(False)
    chip = network.fabricate(seed, mitigations=mitigations, diagnosis=Diagnosis(coverage=0.8), precision=precision)
    chip = chip.at(age) if cell.drift is not None else chip
    chip.save(tmp_path / "die.safetensors")
    loaded = Chip.load(tmp_path / "die.safetensors", model=other())
    assert_same_die(loaded, chip, images(3))
    if cell.drift is not None:
        assert_same_die(
            loaded.at(3e4),
            network.fabricate(seed, mitigations=mitigations, diagnosis=Diagnosis(coverage=0.8), precision=precision).at(
                3e4
            ),
            images(3),
        )


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(design=designs(), seed=st.integers(0, 2**31), calibrated=st.booleans(), whole=st.booleans())
def test_a_matrix_that_is_loaded_is_the_matrix_that_was_saved(
    tmp_path: Path, design: xb.Design, seed: int, calibrated: bool, whole: bool
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-1, 2, (9, 4)) if whole else rng.normal(size=(9, 4))
    x = rng.normal(size=(5, 9))
    try:
        crossbar = xb.Crossbar(weights, design, seed=seed, calibration=x if calibrated else None)
    except InputError:
        assume(False)
    with np.errstate(all="ignore"):
        x @ crossbar
        crossbar.save(tmp_path / "matrix.safetensors")
        loaded = xb.Crossbar.load(tmp_path / "matrix.safetensors")
        assert loaded.clipped == crossbar.clipped
        assert loaded.design == design
        assert np.array_equal(x @ loaded, x @ crossbar)  # also of read noise: both count on from here
        assert np.array_equal(loaded.digital(x), crossbar.digital(x))
        assert loaded.faults == crossbar.faults
        assert str(loaded.cost()) == str(crossbar.cost())


def test_a_network_that_is_loaded_makes_the_dies_of_the_one_that_was_saved(tmp_path: Path) -> None:
    network, x = mapped(adc_bits=6, adc_range="calibrated"), images(3)
    network.save(tmp_path / "network.safetensors")
    loaded = MappedNetwork.load(tmp_path / "network.safetensors", model=other())
    assert torch.equal(loaded.digital(x), network.digital(x))
    assert_same_die(loaded.fabricate(8), network.fabricate(8), x)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "network.safetensors").read_bytes()


def test_a_file_says_the_same_each_time_it_is_written(tmp_path: Path) -> None:
    chip = mapped(**ARRAY).fabricate(8)
    chip.save(tmp_path / "one")
    Chip.load(tmp_path / "one", model=other()).save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_given_faults_and_those_of_a_changed_model_are_saved(tmp_path: Path) -> None:
    network = mapped(faults=None).with_faults(StuckFaults(on=0.3, off=0.0))
    shape = network.layers["last"].matrix.levels.shape
    fault_map = FaultMap.from_dense(np.ones(shape, int), note="all of them")
    chip = network.fabricate(3, faults={"last": fault_map})
    chip.save(tmp_path / "die")
    loaded = Chip.load(tmp_path / "die", model=other())
    assert_same_die(loaded, chip, images(3))
    assert loaded.faults["last"].note == "all of them"
    assert loaded.faults["last"] == fault_map


def test_a_loaded_die_counts_its_samples_on(tmp_path: Path) -> None:
    chip, x = mapped(NOISY).fabricate(3), images(4)
    first = chip(x)
    chip.save(tmp_path / "die")
    loaded = Chip.load(tmp_path / "die", model=other())
    assert loaded.clipped_inputs == chip.clipped_inputs
    second = loaded(x)
    assert not torch.equal(second, first)
    assert torch.equal(second, chip(x))


def _loaded_elsewhere(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=folder, capture_output=True, text=True)


def test_a_die_is_the_same_in_another_process(tmp_path: Path) -> None:
    chip = mapped(NOISY, **ARRAY).fabricate(3, mitigations=(ClosestValue(),), diagnosis=Diagnosis())
    chip.save(tmp_path / "die")
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import xbarsim as xb
load = xb.Chip.load
assert xb.Chip.network_type is not None  # with nothing of the project imported but its face
from tests.network.test_chip import Small, images
from xbarsim.network.files import digest
print(digest(load("die", model=Small())(images(3), first_image=7).numpy()))
"""
    done = _loaded_elsewhere(script, tmp_path)
    assert done.stdout.strip() == contents.digest(chip(images(3), first_image=7).numpy()), done.stderr


# ------------------------------------------------------------------------------------------------ any model


class Folded(nn.Module):
    """Batch norms: one that is folded, one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 6, 3, bias=False, groups=2), nn.BatchNorm2d(6)
        self.alone, self.last = nn.BatchNorm2d(6), nn.Linear(6, 3)
        with torch.no_grad():
            for norm in (self.norm, self.alone):
                norm.running_mean.normal_()  # type: ignore[union-attr]
                norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.last(self.alone(torch.relu(self.norm(self.conv(x)))).mean((2, 3)))
        return answer


class Recurrent(nn.Module):
    """A layer that is taken apart, and one whose weights are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(8, 5, batch_first=True)
        self.last = parametrizations.spectral_norm(nn.Linear(5, 3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        steps, _ = self.recurrent(x.flatten(1, 2))
        return {"logits": self.last(steps[:, -1]), "steps": steps}


class Standardised(nn.Module):
    """Weights that are computed as the model runs, used twice; a tensor that is no buffer; and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.back = nn.Parameter(torch.randn(16, 16)), nn.Linear(16, 16)
        self.again = nn.Linear(16, 16)
        self.again.weight = self.back.weight
        self.shift = torch.randn(16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x[:, 0, :2].flatten(1) + self.shift
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        y = torch.relu(rows @ weight) @ weight
        return self.back(y), self.again(torch.relu(y))


@pytest.mark.parametrize("kind", [Folded, Recurrent, Standardised])
@pytest.mark.parametrize("noisy", [False, True])
def test_any_model_is_loaded_with_a_module_of_other_weights(tmp_path: Path, kind: type[nn.Module], noisy: bool) -> None:
    torch.manual_seed(1)
    network = mapped(NOISY if noisy else QUIET, network=kind().eval(), adc_bits=7)
    chip, x = network.fabricate(4), images(5)
    chip.save(tmp_path / "die")
    torch.manual_seed(2)
    given_model = kind().train()
    before = {name: value.clone() for name, value in given_model.state_dict().items()}
    loaded = Chip.load(tmp_path / "die", model=given_model)
    for one, two in zip(_leaves(loaded(x, first_image=0)), _leaves(chip(x, first_image=0)), strict=True):
        assert torch.equal(one, two)
    for one, two in zip(_leaves(loaded.network.floating(x)), _leaves(network.floating(x)), strict=True):
        assert torch.equal(one, two)
    assert given_model.training
    assert all(torch.equal(value, before[name]) for name, value in given_model.state_dict().items())
    assert isinstance(loaded.network, MappedNetwork)
    assert loaded.network.not_mapped == network.not_mapped
    assert loaded.network.notes == network.notes
    assert loaded.network.orders == network.orders


def _leaves(answer: Any) -> list[Tensor]:
    values = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, tuple) else [answer]
    return list(values)


class Words(nn.Module):
    """Indices, and a second input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(20, 8), nn.Linear(8, 4)

    def forward(self, words: Tensor, scale: Tensor) -> Tensor:
        answer: Tensor = self.last(self.table(words).mean(1) * scale)
        return answer


def test_a_model_with_inputs_by_name_is_loaded(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = {"words": rng.integers(0, 20, (9, 5)), "scale": rng.random((9, 1))}
    network = map_model(Words(), xb.Design(cell=QUIET), calibration=x)
    network.save(tmp_path / "network")
    loaded = MappedNetwork.load(tmp_path / "network", model=Words())
    assert torch.equal(loaded.digital(**x), network.digital(**x))


class Branching(nn.Module):
    """A layer that few samples reach."""

    def __init__(self) -> None:
        super().__init__()
        self.often, self.seldom = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.often(x)
        chosen = x[:, 0] > 10
        if chosen.any():
            answer = torch.where(chosen[:, None], self.seldom(answer), answer)
        return answer


def test_a_layer_that_few_samples_reach_is_loaded(tmp_path: Path) -> None:
    x = torch.randn(200, 4)
    x[150, 0] = 20.0
    network = map_model(Branching(), xb.Design(cell=QUIET), calibration=x)
    assert list(network.layers) == ["often", "seldom"]
    network.save(tmp_path / "network")
    loaded = MappedNetwork.load(tmp_path / "network", model=Branching())
    assert torch.equal(loaded.digital(x), network.digital(x))


# ------------------------------------------------------------------------------------------------ not the same: refused


class Other(Small):
    """The same parameters, computed with otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.second(torch.relu(self.first(x)))).flatten(1)
        answer: Tensor = self.last(torch.sigmoid(self.third(y)))
        return answer


class Swapped(Small):
    """The same parameters, one of them not used."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.second(torch.relu(self.first(x)))).flatten(1)
        return torch.tanh(self.third(y))[:, :4]


class Strided(Small):
    """The same parameters in a convolution of another geometry."""

    def __init__(self) -> None:
        super().__init__()
        self.first.stride, self.first.padding = (1, 1), (2, 2)


def _wider() -> nn.Module:
    made = Small()
    made.last = nn.Linear(10, 5)
    return made


def _with_more() -> nn.Module:
    made = Small()
    made.more = nn.Linear(4, 4)
    return made


@pytest.mark.parametrize(
    ("given_model", "message"),
    [
        (None, "model must be given for a network from torch"),
        ("model", "model must be of type Module"),
        (Other(), "the network that was saved, got one that answers otherwise"),
        (Swapped(), "product 'last' has shape .* got none"),
        (Strided(), "the network that was saved, got one that its samples do not fit"),
        (_wider(), r"'last.bias' is torch.float32 of shape \(4,\), got torch.float32 of shape \(5,\)"),
        (_with_more(), "'more.bias' besides"),
        (nn.Linear(3, 3), "the network that was saved, got one without"),
    ],
)
def test_another_model_is_refused(tmp_path: Path, given_model: Any, message: str) -> None:
    mapped().fabricate(1).save(tmp_path / "die")
    with pytest.raises(InputError, match=message):
        Chip.load(tmp_path / "die", model=given_model)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small matrix with everything that can be broken."""
    path = tmp_path_factory.mktemp("small") / "matrix"
    design = xb.Design(
        cell=QUIET,
        mapping=Mapping(rows=2, columns=4, weight_bits=4, cell_bits=4),
        faults=StuckFaults(on=0.3, off=0.0),
        **{name: ARRAY[name] for name in ("wires", "line_faults")},
        periphery=xb.Periphery(
            **{name: value for name, value in ARRAY.items() if name not in ("wires", "line_faults")}
        ),
    )
    crossbar = xb.Crossbar(
        [[0.5, -1.0]], design, seed=1, calibration=[[-127.0]], mitigations=(ClosestValue(),), diagnosis=Diagnosis()
    )
    crossbar.save(path)
    return path.read_bytes()


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, small_file: bytes) -> None:
    path = tmp_path / "matrix"
    for length in range(len(small_file)):
        path.write_bytes(small_file[:length])
        with pytest.raises(FileFormatError, match="matrix is no valid crossbar"):
            xb.Crossbar.load(path)
    path.write_bytes(small_file + b"\0")
    with pytest.raises(FileFormatError, match="matrix is no valid crossbar"):
        xb.Crossbar.load(path)


def test_a_file_in_which_any_byte_was_changed_is_refused(tmp_path: Path, small_file: bytes) -> None:
    path, rng = tmp_path / "matrix", np.random.default_rng(5)
    for position in range(len(small_file)):
        changed = bytearray(small_file)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(FileFormatError, match="matrix is no valid crossbar"):
            xb.Crossbar.load(path)


Change = Callable[[dict[str, Any], dict[str, Any]], None]


def rewritten(content: bytes, change: Change) -> bytes:
    """A file that says something else, with the sum that goes with it."""
    arrays = safetensors.numpy.load(content)
    length = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + length])["__metadata__"]
    change(about, arrays)
    kind = about["format"].removeprefix("xbarsim ")
    about["sha256"] = contents._sum(kind, about["record"], arrays)
    result: bytes = safetensors.numpy.save(arrays, about)
    return result


def record_text(old: str, new: str) -> Change:
    def change(about: dict[str, Any], arrays: dict[str, Any]) -> None:
        assert old in about["record"], about["record"]
        about["record"] = about["record"].replace(old, new, 1)

    return change


def _array(name: str, to: Callable[[Any], Any] | None) -> Change:
    def change(about: dict[str, Any], arrays: dict[str, Any]) -> None:
        value = arrays.pop(name)
        if to is not None:
            arrays[name] = np.ascontiguousarray(to(value))

    return change


def _spoiled(value: Any) -> Any:
    value = value.copy()
    value.flat[0] = np.nan
    return value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about, arrays: about.update(version="2"), "format must have version 1, got '2'"),
        (lambda about, arrays: about.update(format="xbarsim chip"), "must hold a crossbar, got a chip"),
        (lambda about, arrays: about.update(format=""), "must hold a crossbar, got something else"),
        (lambda about, arrays: about.update(more="x"), "metadata must be"),
        (lambda about, arrays: arrays.update(more=np.zeros(3)), "unknown arrays: 'more'"),
        (record_text("seed = 1", "seed = -1"), "seed must be an integer >= 0, got -1"),
        (record_text("seed = 1", "seed = 2"), ""),
        (record_text("seed = 1", "seed = 1\nsead = 1"), "no key 'sead'"),
        (record_text("seed = 1\n", ""), "seed is missing"),
        (record_text("next_sample = 0", "next_sample = 0.5"), "next_sample must be int"),
        (record_text("signed = true", "signed = false"), "drive must be that of the design"),
        (record_text("input_scale = 1.0", "input_scale = 0.0"), "input_scale must be a finite number > 0"),
        (record_text("groups = 1", "groups = 2"), "array 'layer.0.codes' must have shape"),
        (record_text("features = 1", "features = 2"), "layer must be a matrix"),
        (record_text('type = "TwoColumn"', 'type = "Unheard"'), "encoding.type must be one of .*, got 'Unheard'"),
        (record_text('type = "TwoColumn"', 'type = "Differential"'), "placed in other cells"),
        (record_text('type = "ClosestValue"', 'type = "Unheard"'), "type must be one of .*, got 'Unheard'"),
        (record_text('name = "crossbar"', 'name = "another"'), "layer"),
        (_array("layer.0.codes", None), "array 'layer.0.codes' is missing"),
        (_array("layer.0.codes", lambda value: value + 1), "placed in other cells|codes must be in"),
        (_array("layer.0.codes", lambda value: value.astype(float)), "codes must be integers"),
        (_array("layer.0.weight_scale", _spoiled), "must be finite"),
        (_array("layer.0.weight_scale", lambda value: -value), "must be >= 0"),
        (_array("layer.0.bias", lambda value: value + 1), "without bias"),
        (_array("layer.0.mean_square_input", lambda value: value[:0]), "must have shape"),
        (_array("die.0.levels", lambda value: value + 16), "must be <= 15"),
        (_array("die.0.levels", lambda value: (value + 1) % 16), "does not hold what it held"),
        (_array("die.0.faults.index", lambda value: value[::-1]), "index must be strictly increasing|what it held"),
        (_array("die.0.drivers.gain", lambda value: -1 - value), "must be >= 0"),
        (_array("die.0.converters.offset", _spoiled), "must be finite"),
        (_array("die.0.lines.open_bit_lines", lambda value: value.astype(np.uint8)), "must be of type bool"),
        (_array("die.0.converters.weights", None), "is missing"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused(
    tmp_path: Path, small_file: bytes, change: Change, message: str
) -> None:
    path = tmp_path / "matrix"
    path.write_bytes(rewritten(small_file, change))
    if not message:  # another seed: other cells only where something is drawn from it after the silicon
        assert xb.Crossbar.load(path).seed == 2
        return
    with pytest.raises(FileFormatError, match=message) as raised:
        xb.Crossbar.load(path)
    assert str(path) in str(raised.value)


def test_the_cells_of_another_seed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "die"
    mapped(NOISY).fabricate(1).save(path)
    path.write_bytes(rewritten(path.read_bytes(), record_text("seed = 1", "seed = 2")))
    with pytest.raises(FileFormatError, match="layer 'first' of the die does not hold what it held"):
        Chip.load(path, model=other())


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    network = mapped()
    network.save(tmp_path / "network")
    network.fabricate(1).save(tmp_path / "die")
    with pytest.raises(FileFormatError, match="must hold a chip, got a mapped network"):
        Chip.load(tmp_path / "network", model=other())
    with pytest.raises(FileFormatError, match="must hold a mapped network, got a chip"):
        MappedNetwork.load(tmp_path / "die", model=other())
    (tmp_path / "text").write_text("a file of another kind altogether")
    with pytest.raises(FileFormatError, match="text is no valid chip"):
        Chip.load(tmp_path / "text", model=other())
    with pytest.raises(FileFormatError, match="cannot read chip"):
        Chip.load(tmp_path / "nothing", model=other())
    safetensors.numpy.save_file({"weights": np.zeros(3)}, tmp_path / "weights")
    with pytest.raises(FileFormatError, match="must hold a chip, got something else"):
        Chip.load(tmp_path / "weights", model=other())


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(FileWriteError):
        mapped().save(tmp_path / "no" / "such" / "folder")


# ------------------------------------------------------------------------------------------------ classes of a user


OWN = """
from dataclasses import dataclass
from xbarsim.devices import StuckFaults


@dataclass(frozen=True, kw_only=True)
class OwnFaults(StuckFaults):
    grade: int = 1
"""


def test_a_fault_model_of_ones_own_is_loaded_where_its_module_is_imported(tmp_path: Path) -> None:
    (tmp_path / "own_faults.py").write_text(OWN)
    first = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    save = """
import own_faults
from tests.network.test_chip import mapped
mapped(faults=own_faults.OwnFaults(on=0.1, off=0.1, grade=3)).fabricate(1).save("die")
"""
    load = """
import xbarsim as xb
from tests.network.test_chip import Small
try:
    xb.Chip.load("die", model=Small())
except xb.FileFormatError as error:
    print(error)
import own_faults
print(xb.Chip.load("die", model=Small()).network.design.faults)
"""
    done = _loaded_elsewhere(first + save, tmp_path)
    assert done.returncode == 0, done.stderr
    done = _loaded_elsewhere(first + load, tmp_path)
    refused, found = done.stdout.splitlines()
    assert "die is no valid chip" in refused
    assert "got 'OwnFaults'" in refused
    assert "grade=3" in found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unwritable(Mitigation):
    """A method with a field that TOML does not have."""

    needs: ClassVar[Any] = "nothing"
    table: dict[int, Any] = dataclasses.field(default_factory=lambda: {1: object()})


def test_what_a_file_cannot_hold_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="chip must have a design and methods that TOML can hold"):
        mapped().fabricate(1, mitigations=(Unwritable(),)).save(tmp_path / "die")
    assert not (tmp_path / "die").exists()


class Bare(Skeleton):
    """A digital part that does not say how it is saved."""

    def run(self, samples: Samples, layers: Any = None, *, watch: Watch | None = None) -> Any:
        layer: Layer = layers["last"]
        return layer(samples.arguments[0])

    def doubled(self) -> Skeleton:
        return self


def test_a_skeleton_that_does_not_say_how_is_not_saved(tmp_path: Path) -> None:
    network = mapped()
    network.lowered = dataclasses.replace(network.lowered, skeleton=Bare())
    with pytest.raises(InputError, match="a digital part that can be saved, got Bare"):
        network.save(tmp_path / "network")


def test_a_network_that_answers_by_chance_is_not_saved(tmp_path: Path) -> None:
    class Chance(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model()

        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.inner(x)
            return answer + torch.rand(())

    torch.manual_seed(0)
    network = mapped(network=Chance())
    with pytest.raises(InputError, match="the same for the same samples"):
        network.save(tmp_path / "network")
