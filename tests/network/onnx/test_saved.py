"""Networks from ONNX files, saved and loaded: without the file, without torch, and bit for bit."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper, numpy_helper

import xbarsim as xb
from tests.network.onnx.exports import Exported
from tests.network.onnx.test_files import external
from tests.network.onnx.test_layers import recurrent
from tests.network.onnx.test_quantised import codes_model, qdq
from tests.network.onnx.writing import Array, node, write
from tests.network.test_state import Change, record_text, rewritten
from xbarsim.devices import Cell, Polynomial, ReadNoise, StuckFaults
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.mitigation import ClosestValue, Diagnosis
from xbarsim.network import Chip, MappedNetwork
from xbarsim.network.files import contents
from xbarsim.network.onnx.graph import Codes, Graph, Input
from xbarsim.network.onnx.operations.call import Node
from xbarsim.network.onnx.stored import graph_arrays, graph_of_arrays
from xbarsim.network.onnx.types import NUMPY_TYPES
from xbarsim.network.samples import Samples

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::xbarsim.network.ClippingWarning", "ignore::xbarsim.network.NotMappedWarning"),
]

NOISE = ReadNoise(spread=Polynomial(coefficients=(5e-9, 0.001), scale=1.0), valid_from=1e-7, valid_to=1e-4)
DESIGN = xb.Design(
    cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16, read_voltage=0.2, read_noise=NOISE),
    mapping=xb.Mapping(rows=32, columns=32, weight_bits=8),
    periphery=xb.Periphery(adc_bits=8, adc_range="calibrated"),
    faults=StuckFaults(off=0.01, on=0.005),
)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(4, 3)).astype(np.float32)
X = RANDOM.normal(size=(8, 4)).astype(np.float32)


def arrays_of(answer: Any) -> list[Array]:
    return list(answer) if isinstance(answer, tuple) else [answer]


def assert_same_answers(one: Any, other: Any) -> None:
    for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def assert_saved_whole(network: MappedNetwork, samples: Any, folder: Path) -> MappedNetwork:
    """The network and a die of it come back as they were; what was saved is gone from memory and need not be there."""
    batch = Samples.of(samples)
    chip = network.fabricate(5, mitigations=(ClosestValue(),), diagnosis=Diagnosis(coverage=0.9))
    chip.run(batch)  # samples and clipped inputs are counted on
    chip.save(folder / "die")
    network.save(folder / "network")
    loaded, other = MappedNetwork.load(folder / "network"), Chip.load(folder / "die")
    assert type(other) is Chip
    for name, layer in chip.layers.items():
        np.testing.assert_array_equal(other.layers[name].cells(), layer.cells())
    assert other.clipped_inputs == chip.clipped_inputs
    assert_same_answers(other.run(batch), chip.run(batch))
    assert other.plan() == chip.plan()
    assert str(other.cost("isaac2016")) == str(chip.cost("isaac2016"))
    for one in (loaded, other.network):
        assert isinstance(one, MappedNetwork)
        assert str(one) == str(network)
        assert (one.notes, one.not_mapped) == (network.notes, network.not_mapped)
        assert one.digital_work == network.digital_work
        assert_same_answers(one.digital.run(batch), network.digital.run(batch))
        assert_same_answers(one.floating.run(batch), network.floating.run(batch))
        assert_same_answers(one.skeleton.doubled().run(batch), network.skeleton.doubled().run(batch))
    loaded.save(folder / "again")
    assert (folder / "again").read_bytes() == (folder / "network").read_bytes()
    return loaded


def assert_same_products(one: MappedNetwork, other: MappedNetwork) -> None:
    assert list(one.lowered.products) == list(other.lowered.products)
    for a, b in zip(one.lowered.products.values(), other.lowered.products.values(), strict=True):
        for name in ("adapter", "window", "groups", "output_names", "input_scale", "input_limit"):
            assert getattr(a, name) == getattr(b, name), name
        np.testing.assert_array_equal(a.weights, b.weights)
        np.testing.assert_array_equal(a.bias, b.bias)
        assert (a.given is None) == (b.given is None)
        if a.given is not None and b.given is not None:
            np.testing.assert_array_equal(a.given.codes, b.given.codes)
            np.testing.assert_array_equal(a.given.scale, b.given.scale)


# ------------------------------------------------------------------------------------------------ the same again


@pytest.mark.parametrize("name", ["vision", "sequence"])  # which hold what all others do
def test_a_network_is_loaded_as_it_was_saved(name: str, exported: Callable[[str], Exported], tmp_path: Path) -> None:
    given_network = exported(name)
    network = xb.map_onnx(given_network.path("legacy"), DESIGN, calibration=given_network.array)
    assert_same_products(network, assert_saved_whole(network, given_network.array, tmp_path))


def test_integers_and_scales_of_a_file_are_loaded(tmp_path: Path) -> None:
    x = RANDOM.normal(size=(4, 3, 6, 6)).astype(np.float32)
    models = {"qdq": qdq(np.int8(0)), "QLinearConv": codes_model("QLinearConv", np.int8)}
    for name, model in models.items():
        (tmp_path / name).mkdir()
        onnx.save(model, tmp_path / "a.onnx")
        network = xb.map_onnx(tmp_path / "a.onnx", DESIGN, calibration=x)
        (product,) = network.lowered.products.values()
        assert product.given is not None
        assert product.input_scale is not None
        assert_same_products(network, assert_saved_whole(network, x, tmp_path / name))


def test_limits_of_states_lengths_and_inputs_by_name_are_loaded(tmp_path: Path) -> None:
    model, inputs = recurrent("GRU", "bidirectional", lengths=True, states=True, linear_before_reset=0)
    model.graph.output.append(helper.make_empty_tensor_value_info("Y_h"))
    onnx.save(model, tmp_path / "a.onnx")
    samples = {name: array.astype(np.int64) if array.dtype.kind == "i" else array for name, array in inputs.items()}
    network = xb.map_onnx(
        tmp_path / "a.onnx",
        DESIGN.replace(cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16, read_voltage=0.2)),
        calibration=samples,
    )
    assert {each.input_limit for each in network.lowered.products.values()} == {None, 1.0}
    assert_same_products(network, assert_saved_whole(network, samples, tmp_path))


def test_rescaled_channels_are_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", [node("MatMul", ["x", "w"], ["y"])], {"w": WEIGHTS}, ["samples", 4])
    x = X * np.array([1, 1, 30, 1], np.float32)
    network = xb.map_onnx(path, DESIGN, calibration=x, rescale=xb.network.Rescale())
    assert next(iter(network.layers.values())).layer.divisors is not None
    assert_saved_whole(network, x, tmp_path)


def test_neither_the_file_nor_its_data_are_needed_any_more(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "data.bin").write_bytes(np.ascontiguousarray(RANDOM.normal(size=(4, 3)), np.float32).tobytes())
    path = external(home / "a.onnx", "data.bin")
    network = xb.map_onnx(path, DESIGN, calibration=X)
    network.save(tmp_path / "network")
    for each in home.iterdir():
        each.unlink()
    loaded = MappedNetwork.load(tmp_path / "network")
    assert_same_answers(loaded.digital(X), network.digital(X))
    assert_same_answers(loaded.fabricate(9)(X), network.fabricate(9)(X))


def test_a_fixed_batch_size_is_loaded(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Reshape", ["h", "shape"], ["y"])]
    constants = {"w": WEIGHTS, "shape": np.array([1, 3])}
    network = xb.map_onnx(write(tmp_path / "a.onnx", nodes, constants, [1, 4]), DESIGN, calibration=X)
    assert any("samples run one by one" in note for note in network.notes)
    assert_saved_whole(network, X, tmp_path)


SCRIPT = """
import sys

sys.modules["torch"] = sys.modules["onnx"] = sys.modules["onnxruntime"] = None  # importing one fails from here on

import numpy as np

import xbarsim as xb
from xbarsim.network.files import digest

x = np.load("x.npy")
print(digest(xb.Chip.load("die")(x)))
print(digest(xb.network.MappedNetwork.load("network").fabricate(7)(x, first_image=3)))
assert not [name for name in sys.modules if name.startswith(("torch.", "onnx."))]
"""


def test_a_chip_is_the_same_in_another_process_without_torch_and_onnx(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    given_network = exported("attention")
    network = xb.map_onnx(given_network.path("legacy"), DESIGN, calibration=given_network.array)
    chip = network.fabricate(3)
    chip(given_network.array)
    chip.save(tmp_path / "die")
    network.save(tmp_path / "network")
    np.save(tmp_path / "x.npy", given_network.array)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    wanted = [chip(given_network.array), network.fabricate(7)(given_network.array, first_image=3)]
    assert done.stdout.split() == [contents.digest(each) for each in wanted], done.stderr


# ------------------------------------------------------------------------------------------------ any graph


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
TYPES = sorted(set(NUMPY_TYPES.values()), key=str)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
ARRAYS = st.sampled_from(TYPES).flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0)))
ATTRIBUTES = st.one_of(
    NUMBERS,
    st.floats(),
    NAMES,
    st.lists(NUMBERS).map(tuple),
    st.lists(st.floats()).map(tuple),
    st.lists(NAMES).map(tuple),
    ARRAYS,
)


@settings(max_examples=60)
@given(data=st.data(), free=st.booleans(), batch=st.sampled_from([None, 1]))
def test_a_graph_is_what_its_arrays_say(data: st.DataObject, free: bool, batch: int | None) -> None:
    names = data.draw(st.lists(NAMES, min_size=4, max_size=4, unique=True))
    array = data.draw(ARRAYS)
    array = array.transpose(data.draw(st.permutations(range(array.ndim))))
    constants = {names[0]: array, names[1]: array, names[2]: np.zeros((2, 3), np.float32).T}
    attributes = data.draw(st.dictionaries(NAMES, ATTRIBUTES, max_size=3))
    relu = Node(name=names[0], op="Relu", inputs=(names[3], ""), outputs=("y",), attributes=attributes, opset=17)
    linear = Node(name=names[1], op="Linear", inputs=("y", names[2], ""), outputs=("z",), attributes={}, opset=17)
    codes = Codes(codes=np.ones((3, 2), np.int64), scale=np.full(2, 0.5, np.float32), axis=1)
    graph = Graph(
        nodes=(relu, linear),
        constants=constants,
        inputs=(Input(name=names[3], dtype=np.dtype(np.int64), shape=(None, 2) if free else None),),
        outputs=("z", names[0]),
        codes={names[2]: codes},
    )
    stored = graph_arrays(graph, batch)
    assert sum(name.startswith("array.") for name in stored) == 4 + sum(
        isinstance(each, np.ndarray) for each in attributes.values()
    )
    read, read_batch = graph_of_arrays({name: np.array(each, order="C") for name, each in stored.items()})
    assert (read.inputs, read.outputs, read_batch) == (graph.inputs, graph.outputs, batch)
    for one, other in zip(read.nodes, graph.nodes, strict=True):
        assert dataclasses.replace(one, attributes={}).__dict__ == dataclasses.replace(other, attributes={}).__dict__
        assert list(one.attributes) == list(other.attributes)
        for key, value in other.attributes.items():
            assert type(one.attributes[key]) is type(value)
            np.testing.assert_array_equal(one.attributes[key], value)
    for name, value in constants.items():
        found = read.constants[name]
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert value.size == 0 or found.tobytes() == value.tobytes()
        for step, wanted, size in zip(found.strides, value.strides, value.shape, strict=True):
            assert step == wanted or size <= 1 or value.size == 0
    np.testing.assert_array_equal(read.codes[names[2]].codes, codes.codes)
    assert read.codes[names[2]].axis == 1


def test_a_constant_of_a_type_that_no_file_holds_is_refused() -> None:
    graph = Graph(nodes=(), constants={"c": np.zeros(2, np.complex64)}, inputs=(), outputs=())
    with pytest.raises(InputError, match="constants of ordinary numbers to be saved, got complex64"):
        graph_arrays(graph, None)


# ------------------------------------------------------------------------------------------------ not the same: refused


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small network with a digital constant and a tensor among attributes."""
    folder = tmp_path_factory.mktemp("small")
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Shape", ["h"], ["s"]),
        node("ConstantOfShape", ["s"], ["o"], value=numpy_helper.from_array(np.full(1, 2.0, np.float32))),
        node("Mul", ["h", "o"], ["m"]),
        node("LeakyRelu", ["m"], ["r"], alpha=0.25),
        node("Mul", ["r", "c"], ["y"]),
    ]
    path = write(folder / "a.onnx", nodes, {"w": WEIGHTS, "c": WEIGHTS[0]}, ["samples", 4])
    network = xb.map_onnx(path, DESIGN, calibration=X)
    network.save(folder / "network")
    assert MappedNetwork.load(folder / "network").digital(X).tobytes() == network.digital(X).tobytes()
    return (folder / "network").read_bytes()


def test_a_torn_or_changed_file_is_refused(tmp_path: Path, small_file: bytes) -> None:
    path = tmp_path / "network"
    for length in range(0, len(small_file), 97):
        path.write_bytes(small_file[:length])
        with pytest.raises(FileFormatError, match="network is no valid mapped network"):
            MappedNetwork.load(path)
    for position in range(0, len(small_file), 41):
        changed = bytearray(small_file)
        changed[position] ^= 1 << int(RANDOM.integers(8))
        path.write_bytes(changed)
        with pytest.raises(FileFormatError, match="network is no valid mapped network"):
            MappedNetwork.load(path)


def graph_text(old: str, new: str) -> Change:
    """Another record of the graph."""

    def change(about: dict[str, Any], arrays: dict[str, Any]) -> None:
        text = arrays["skeleton.graph"].tobytes().decode()
        assert old in text, text
        arrays["skeleton.graph"] = np.frombuffer(text.replace(old, new, 1).encode(), np.uint8)

    return change


def other_array(name: str, to: Callable[[Any], Any] | None) -> Change:
    def change(about: dict[str, Any], arrays: dict[str, Any]) -> None:
        value = arrays.pop(f"skeleton.{name}")
        if to is not None:
            arrays[f"skeleton.{name}"] = np.ascontiguousarray(to(value))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (record_text('skeleton = "onnx"', 'skeleton = "unheard"'), "skeleton must be one of 'onnx', 'torch', got 'unh"),
        (other_array("graph", None), "'skeleton.graph' must be text, got float64"),
        (other_array("graph", lambda text: text.astype(np.int32)), "'skeleton.graph' must be text, got int32"),
        (other_array("graph", lambda text: text | 128), "'skeleton.graph' must be text"),
        (other_array("graph", lambda text: text[:-9]), "its graph is not valid TOML"),
        (lambda about, arrays: arrays.update({"skeleton.more": np.zeros(3)}), "unknown arrays: 'skeleton.more'"),
        (lambda about, arrays: arrays.update({"skeleton.array.99": np.zeros(3)}), "unknown arrays: 'skeleton.array.99"),
        (other_array("array.0", None), "'skeleton.array.0' is missing"),
        (other_array("array.0", lambda value: value + 1), "its digital part must be the network that was saved"),
        (other_array("array.0", lambda value: value.T), "Linear|must be the network that was saved|must fit"),
        (other_array("array.0", lambda value: value[0]), "must have inputs, constant weights and a bias"),
        (other_array("array.0", lambda value: value.astype(np.float16)), "must hold ordinary numbers, got float16"),
        (other_array("array.0", lambda value: value * np.nan), "must be finite"),
        (other_array("array.1", lambda value: value + 1), "got one that answers otherwise to the same samples"),
        (
            graph_text('op = "LeakyRelu"', 'op = "Unheard"'),
            "must be one of the operations that are known, got 'Unheard'",
        ),
        (graph_text('op = "LeakyRelu"', 'op = "Relu"'), "answers otherwise"),
        (graph_text('op = "LeakyRelu"', 'op = "LSTM"'), "nodes that fit their constants"),
        (graph_text('op = "LeakyRelu"', 'op = "Conv"'), "operations that are known, got 'Conv'"),
        (graph_text('op = "Linear"', 'op = "Convolution"'), "must have attributes that fit kernels"),
        (graph_text("value = 0.25", "value = 0.5"), "answers otherwise"),
        (graph_text("value = 0.25", 'value = "some"'), "must have inputs that fit it"),
        (graph_text("value = 0.25", "value = [true]"), "value must be int or float"),
        (graph_text("opset = 17", "opset = 99"), "must be an integer in .*11.* 23.*, got 99|<= 23"),
        (graph_text('inputs = [\n    "m"', 'inputs = [\n    "later"'), "must use values of earlier nodes, got 'later'"),
        (graph_text('name = "n_m"', 'name = "n_r"'), "nodes must have names of their own, got 'n_r' 2 times"),
        (graph_text('dtype = "float32"', 'dtype = "string"'), "tensor of ordinary numbers, got 'string'"),
        (graph_text("    -1,", "    0,"), "sizes >= 1, or -1 for any"),
        (graph_text("outputs = [", "batch = 0\noutputs = ["), "batch must be an integer >= 1, got 0"),
        (graph_text("outputs = [", "more = 0\noutputs = ["), "no key 'more'"),
        (graph_text("array = 0", "array = 0, codes = 0"), "must have scales along an axis"),
        (graph_text("array = 0", "array = 0, codes = 0, scale = 0, axis = 0"), "must have its shape"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(tmp_path: Path, small_file: bytes, change: Change, message: str) -> None:
    path = tmp_path / "network"
    path.write_bytes(rewritten(small_file, change))
    with pytest.raises(FileFormatError, match=message) as raised:
        MappedNetwork.load(path)
    assert str(path) in str(raised.value)


def test_a_model_beside_a_whole_file_is_refused(tmp_path: Path, small_file: bytes) -> None:
    path = tmp_path / "network"
    path.write_bytes(small_file)
    with pytest.raises(InputError, match="model must be None for a network that is whole in its file, got object"):
        MappedNetwork.load(path, model=object())
