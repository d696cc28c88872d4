"""Convolutions and recurrent layers of all kinds, against onnxruntime."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import xbarsim as xb
from tests.network.onnx.writing import Array, model_of, node
from xbarsim.devices import Cell

pytestmark = pytest.mark.usefixtures("one_thread")

DESIGN = xb.Design(
    cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16), mapping=xb.Mapping(rows=32, columns=32, weight_bits=12)
)
SETTINGS = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def check(model: onnx.ModelProto, path: Path, inputs: dict[str, Array], *, close: float = 0.05) -> xb.MappedNetwork:
    """Floats equal onnxruntime's, the quantised network is close, and an ideal chip equals it bit for bit."""
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, inputs)
    given_inputs: dict[str, Any] = {
        name: array.astype(np.int64) if array.dtype.kind == "i" else array for name, array in inputs.items()
    }
    network = xb.map_onnx(path, DESIGN, calibration=given_inputs)
    floating, digital = network.floating(**given_inputs), network.digital(**given_inputs)
    answers = floating, digital, network.fabricate(seed=1)(**given_inputs)
    several = [answer if isinstance(answer, tuple) else (answer,) for answer in answers]
    for wanted, one, quantised, chip in zip(expected, *several, strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=2e-5)
        assert np.linalg.norm(quantised - wanted) <= close * np.linalg.norm(wanted)
        np.testing.assert_array_equal(chip, quantised)
    return network


GEOMETRIES = st.fixed_dictionaries(
    {
        "kernel": st.integers(1, 3),
        "stride": st.integers(1, 3),
        "dilation": st.integers(1, 2),
        "before": st.integers(0, 2),
        "after": st.integers(0, 2),
        "groups": st.sampled_from([1, 2, 4]),
        "bias": st.booleans(),
        "size": st.integers(5, 7),
    }
)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("padding", ["pads", "SAME_UPPER", "SAME_LOWER", "VALID"])
@SETTINGS
@given(geometry=GEOMETRIES, seed=st.integers(0, 1000))
def test_convolutions(axes: int, padding: str, geometry: dict[str, Any], seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    groups, kernel = geometry["groups"], geometry["kernel"]
    attributes: dict[str, Any] = {"group": groups, "strides": (geometry["stride"],) * axes}
    if padding == "pads":
        attributes["pads"] = (geometry["before"],) * axes + (geometry["after"],) * axes
        attributes["dilations"] = (geometry["dilation"],) * axes
    else:
        attributes["auto_pad"] = padding
        attributes["strides"] = (min(geometry["stride"], kernel),) * axes  # onnxruntime can do no more
    constants = {"w": random.normal(size=(8, 4 // groups, *(kernel,) * axes)).astype(np.float32)}
    names = ["x", "w"]
    if geometry["bias"]:
        constants["b"] = random.normal(size=8).astype(np.float32)
        names.append("b")
    x = random.normal(size=(3, 4, *(geometry["size"],) * axes)).astype(np.float32)
    model = model_of([node("Conv", names, ["y"], **attributes)], constants, ["samples", 4, *[None] * axes])
    check(model, tmp_path / "a.onnx", {"x": x})


@pytest.mark.parametrize("axes", [1, 2])
@SETTINGS
@given(geometry=GEOMETRIES, more=st.integers(0, 1), seed=st.integers(0, 1000))
def test_transposed_convolutions(axes: int, geometry: dict[str, Any], more: int, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    groups, kernel = geometry["groups"], geometry["kernel"]
    attributes = {
        "group": groups,
        "strides": (geometry["stride"],) * axes,
        "dilations": (geometry["dilation"],) * axes,
        "pads": (min(geometry["before"], kernel - 1),) * axes + (min(geometry["after"], kernel - 1),) * axes,
        "output_padding": (min(more, geometry["stride"] - 1),) * axes,
    }
    constants = {
        "w": random.normal(size=(4, 6 // 2, *(kernel,) * axes)).astype(np.float32),
        "b": random.normal(size=3 * groups).astype(np.float32),
    }
    x = random.normal(size=(3, 4, *(geometry["size"],) * axes)).astype(np.float32)
    nodes = [node("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)]
    check(model_of(nodes, constants, ["samples", 4, *[None] * axes]), tmp_path / "a.onnx", {"x": x})


def test_padding_of_transposed_convolutions_that_depends_on_the_size_is_refused(tmp_path: Path) -> None:
    nodes = [node("ConvTranspose", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=(2, 2))]
    onnx.save(model_of(nodes, {"w": np.ones((2, 2, 3, 3), np.float32)}, ["n", 2, 5, 5]), tmp_path / "a.onnx")
    with pytest.raises(xb.InputError, match="must give its padding as pads"):
        xb.map_onnx(tmp_path / "a.onnx", DESIGN, calibration=np.ones((2, 2, 5, 5), np.float32) * np.arange(5.0))


# --- recurrent layers: behind a transpose, so that samples come first

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ENDINGS = {"forward": [""], "reverse": [""], "bidirectional": ["", "_reverse"]}


def recurrent(
    op: str,
    direction: str,
    *,
    lengths: bool = False,
    states: bool = False,
    all_outputs: bool = False,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one recurrent layer of 5 numbers over 6 steps of 3 inputs, and inputs for it; samples come first."""
    random = np.random.default_rng(len(op) + len(direction))
    count, hidden = len(ENDINGS[direction]), 5
    size = GATES[op] * hidden
    constants: dict[str, Any] = {
        "w": random.normal(size=(count, size, 3)).astype(np.float32),
        "r": 0.5 * random.normal(size=(count, size, hidden)).astype(np.float32),
        "b": random.normal(size=(count, 2 * size)).astype(np.float32),
    }
    inputs = {"x": random.normal(size=(4, 6, 3)).astype(np.float32)}
    declared = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["samples", 6, 3])]
    names = ["steps", "w", "r", "b", ""]
    if lengths:
        names[4] = "lengths"
        inputs["lengths"] = np.array([6, 2, 4, 1], np.int32)
        declared.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["samples"]))
    nodes = [helper.make_node("Transpose", ["x"], ["steps"], perm=(1, 0, 2))]
    if states:
        for each in ("h0", "c0")[: 2 if op == "LSTM" else 1]:
            inputs[each] = random.normal(size=(4, count, hidden)).astype(np.float32)
            declared.append(helper.make_tensor_value_info(each, TensorProto.FLOAT, ["samples", count, hidden]))
            nodes.append(helper.make_node("Transpose", [each], [f"{each} first"], perm=(1, 0, 2)))
            names.append(f"{each} first")
    places = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    nodes.append(
        helper.make_node(op, names, places, name="layer", hidden_size=hidden, direction=direction, **attributes)
    )
    results = {"Y": "y", "Y_h": "last state", "Y_c": "last cell"}
    if not all_outputs:
        results = {"Y": "y"}
    results = {place: name for place, name in results.items() if place in places}
    for place, name in results.items():
        order = (2, 0, 1, 3) if place == "Y" else (1, 0, 2)
        nodes.append(helper.make_node("Transpose", [place], [name], perm=order))
    graph = helper.make_graph(
        nodes,
        "graph",
        declared,
        [helper.make_empty_tensor_value_info(name) for name in results.values()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), inputs


@pytest.mark.parametrize(("lengths", "states"), list(itertools.product([False, True], [False, True])))
@pytest.mark.parametrize("direction", ENDINGS)
@pytest.mark.parametrize("op", GATES)
def test_recurrent_layers(op: str, direction: str, lengths: bool, states: bool, tmp_path: Path) -> None:
    more = {"linear_before_reset": 1} if op == "GRU" else {}
    model, inputs = recurrent(op, direction, lengths=lengths, states=states, all_outputs=True, **more)
    assert len(model.graph.output) == (3 if op == "LSTM" else 2)
    network = check(model, tmp_path / "a.onnx", inputs)
    assert list(network.layers) == [f"layer.{part}{end}" for end in ENDINGS[direction] for part in ("ih", "hh")]
    assert [each.vectors_per_image for each in network.layers.values()] == [6.0] * len(network.layers)


def test_a_reset_gate_before_the_product_makes_a_third_matrix(tmp_path: Path) -> None:
    model, inputs = recurrent("GRU", "forward", linear_before_reset=0)
    network = check(model, tmp_path / "a.onnx", inputs)
    assert {name: each.layer.codes.shape for name, each in network.layers.items()} == {
        "layer.ih": (3, 15),
        "layer.hh": (5, 10),
        "layer.hn": (5, 5),
    }
    names = [each.layer.output_names for each in network.layers.values()]
    assert names == [("reset", "update", "new"), ("reset", "update"), ("new",)]


def test_recurrent_layers_without_gates_may_be_rectified(tmp_path: Path) -> None:
    model, inputs = recurrent("RNN", "bidirectional", activations=["Relu", "Relu"])
    check(model, tmp_path / "a.onnx", inputs)


def test_peepholes_stay_digital_and_are_named(tmp_path: Path) -> None:
    model, inputs = recurrent("LSTM", "forward")
    layer = model.graph.node[-2]
    layer.input.extend(["", "", "p"])
    peepholes = np.random.default_rng(0).normal(size=(1, 15)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(peepholes, "p"))
    with pytest.warns(xb.network.NotMappedWarning, match="layer .LSTM"):
        network = check(model, tmp_path / "a.onnx", inputs)
    assert [item.parameters for item in network.not_mapped] == [15]


def test_samples_may_come_first_in_a_recurrent_node(tmp_path: Path) -> None:
    """`layout` 1, which onnxruntime does not have: against the same layer with layout 0."""
    for op in GATES:
        model, inputs = recurrent(op, "bidirectional", states=True)
        onnx.save(model, tmp_path / "a.onnx")
        plain = xb.map_onnx(tmp_path / "a.onnx", DESIGN, calibration=inputs)
        kept = [each for each in model.graph.node if each.op_type == op]
        kept[0].attribute.append(helper.make_attribute("layout", 1))
        for index, name in enumerate(kept[0].input):
            kept[0].input[index] = {"steps": "x"}.get(name, name.removesuffix(" first"))
        kept[0].output[0] = "samples first"
        # (samples, steps, directions, hidden) as the other gives it
        kept.append(helper.make_node("Identity", ["samples first"], ["y"]))
        del model.graph.node[:]
        model.graph.node.extend(kept)
        onnx.save(model, tmp_path / "b.onnx")
        first = xb.map_onnx(tmp_path / "b.onnx", DESIGN, calibration=inputs)
        np.testing.assert_array_equal(
            plain.digital(**inputs).transpose(0, 1, 2, 3), first.digital(**inputs).reshape(4, 6, 2, 5)
        )


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("LSTM", {"clip": 1.0}, "must have no clip, got 1.0"),
        ("LSTM", {"input_forget": 1}, "must have no input_forget"),
        ("GRU", {"activations": ["Sigmoid", "Relu"]}, "must have the activations"),
        ("RNN", {"activations": ["Sigmoid"]}, "must have the activations"),
    ],
)
def test_what_a_recurrent_layer_cannot_have_is_refused(
    op: str, attributes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model, inputs = recurrent(op, "forward", **attributes)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(xb.InputError, match=message):
        xb.map_onnx(tmp_path / "a.onnx", DESIGN, calibration=inputs)


def test_lengths_beyond_the_steps_are_refused(tmp_path: Path) -> None:
    model, inputs = recurrent("LSTM", "forward", lengths=True)
    inputs["lengths"][0] = 7
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(xb.InputError, match="one length of at most 6"):
        xb.map_onnx(tmp_path / "a.onnx", DESIGN, calibration=inputs)
