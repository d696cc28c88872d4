"""Files in integers keep their own codes and scales."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

import xbarsim as xb
from tests.network.onnx.writing import Array, model_of, node
from xbarsim.devices import Cell

pytestmark = pytest.mark.usefixtures("one_thread")

CELL = Cell(g_min=1e-6, g_max=1.2e-5, levels=16)


def design(weight_bits: int = 8, input_bits: int = 8) -> xb.Design:
    return xb.Design(
        cell=CELL,
        mapping=xb.Mapping(rows=32, columns=32, weight_bits=weight_bits),
        periphery=xb.Periphery(input_bits=input_bits),
    )


def by_onnxruntime(model: onnx.ModelProto, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


RANDOM = np.random.default_rng(4)
KERNELS = RANDOM.integers(-127, 128, (6, 3, 3, 3)).astype(np.int8)
SCALES = RANDOM.uniform(0.005, 0.02, 6).astype(np.float32)
X = RANDOM.normal(size=(4, 3, 6, 6)).astype(np.float32)


def qdq(zero: Any, *, weights: Array = KERNELS, weight_zero: Array | None = None) -> onnx.ModelProto:
    """A convolution between pairs of QuantizeLinear and DequantizeLinear, scales of weights one an output."""
    constants = {
        "s": np.float32(0.031),
        "z": zero,
        "k": weights,
        "ks": SCALES,
        "kz": np.zeros(6, weights.dtype) if weight_zero is None else weight_zero,
        "b": RANDOM.integers(-500, 500, 6).astype(np.int32),
        "bs": np.float32(0.031) * SCALES,
        "bz": np.zeros(6, np.int32),
    }
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["k", "ks", "kz"], ["w"], axis=0),
        node("DequantizeLinear", ["b", "bs", "bz"], ["shift"], axis=0),
        node("Conv", ["d", "w", "shift"], ["y"], pads=(1, 1, 1, 1)),
    ]
    return model_of(nodes, constants, ["samples", 3, 6, 6])


def test_codes_and_scales_of_a_file_are_what_is_mapped(tmp_path: Path) -> None:
    model = qdq(np.int8(0))
    onnx.save(model, tmp_path / "a.onnx")
    network = xb.map_onnx(tmp_path / "a.onnx", design(), calibration=X)
    (mapped,) = network.layers.values()
    matrix = KERNELS.reshape(6, -1).T
    np.testing.assert_array_equal(mapped.layer.codes, matrix)
    np.testing.assert_array_equal(mapped.layer.weight_scale, SCALES.astype(np.float64))
    assert mapped.layer.input_scale == float(np.float32(0.031))
    # the digital network computes what the file says: the integers are exact, and only the last rounding is another
    np.testing.assert_allclose(network.digital(X), by_onnxruntime(model, X), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(network.fabricate(seed=0)(X), network.digital(X))


def test_the_lowest_of_the_files_input_codes_is_clipped_and_counted(tmp_path: Path) -> None:
    """Signed codes of a design are symmetric: -128 is driven as -127."""
    onnx.save(qdq(np.int8(0)), tmp_path / "a.onnx")
    chip = xb.map_onnx(tmp_path / "a.onnx", design(), calibration=X).fabricate(seed=0)
    low = X.copy()
    low[0, 0, 0, :3] = -9.0
    chip(low)
    (clipped,) = chip.clipped_inputs.values()
    assert clipped.clipped == 3


def test_codes_that_take_more_bits_than_the_design_has_are_refused(tmp_path: Path) -> None:
    onnx.save(qdq(np.int8(0)), tmp_path / "a.onnx")
    with pytest.raises(xb.InputError, match=r"weight_bits must be >= 8 .*integers from -126 to 127, got 4"):
        xb.map_onnx(tmp_path / "a.onnx", design(weight_bits=4), calibration=X)
    weights = KERNELS.copy()
    weights[0, 0, 0, 0] = -128
    onnx.save(qdq(np.int8(0), weights=weights), tmp_path / "a.onnx")
    clipped = design()
    clipped = clipped.replace(mapping=dataclasses.replace(clipped.mapping, weight_clip=0.9))
    with pytest.raises(xb.InputError, match=r"weight_clip must be None .*whose weights come as integers, got 0\.9"):
        xb.map_onnx(tmp_path / "a.onnx", clipped, calibration=X)
    with pytest.raises(xb.InputError, match="weight_bits must be >= 9"):
        xb.map_onnx(tmp_path / "a.onnx", design(), calibration=X)


def test_zero_points_of_weights_are_taken_off_exactly(tmp_path: Path) -> None:
    weights = (KERNELS.astype(np.int64) + 128).clip(0, 255).astype(np.uint8)
    model = qdq(np.int8(0), weights=weights, weight_zero=np.full(6, 128, np.uint8))
    onnx.save(model, tmp_path / "a.onnx")
    network = xb.map_onnx(tmp_path / "a.onnx", design(), calibration=X)
    (mapped,) = network.layers.values()
    np.testing.assert_array_equal(mapped.layer.codes, weights.astype(np.int64).reshape(6, -1).T - 128)
    np.testing.assert_allclose(network.digital(X), by_onnxruntime(model, X), rtol=1e-5, atol=1e-5)


def test_the_files_scale_of_inputs_is_kept_where_the_design_holds_its_codes(tmp_path: Path) -> None:
    model = qdq(np.uint8(100))  # codes from -100 to 155
    onnx.save(model, tmp_path / "a.onnx")
    few = xb.map_onnx(tmp_path / "a.onnx", design(), calibration=X)
    assert any("take 9 input_bits; with 8 the range of the calibration is used" in note for note in few.notes)
    assert next(iter(few.layers.values())).layer.input_scale != float(np.float32(0.031))
    enough = xb.map_onnx(tmp_path / "a.onnx", design(input_bits=9), calibration=X)
    assert next(iter(enough.layers.values())).layer.input_scale == float(np.float32(0.031))
    np.testing.assert_allclose(enough.digital(X), by_onnxruntime(model, X), rtol=1e-5, atol=1e-5)


def codes_model(op: str, kind: Any) -> onnx.ModelProto:
    zero = kind(0) if kind is np.int8 else kind(3)
    y_zero = kind(5)
    quantise = node("QuantizeLinear", ["x", "s", "z"], ["q"])
    constants: dict[str, Any] = {"s": np.float32(0.03), "z": zero, "ys": np.float32(0.4), "yz": y_zero}
    back = node("DequantizeLinear", ["i", "ys", "yz"], ["y"])
    if op == "QLinearConv":
        constants |= {"w": KERNELS, "ws": SCALES, "wz": np.zeros(6, np.int8), "b": np.arange(6, dtype=np.int32) * 40}
        names = ["q", "s", "z", "w", "ws", "wz", "ys", "yz", "b"]
        return model_of(
            [quantise, node(op, names, ["i"], strides=(2, 2), pads=(1, 0, 1, 0)), back], constants, ["n", 3, 6, 6]
        )
    if op == "QLinearMatMul":
        weights = KERNELS.reshape(6, -1)[:, :5]
        constants |= {"w": weights, "ws": np.float32(0.01), "wz": np.int8(0)}
        names = ["q", "s", "z", "w", "ws", "wz", "ys", "yz"]
        return model_of([quantise, node(op, names, ["i"]), back], constants, ["n", 6])
    constants |= {"w": KERNELS if op == "ConvInteger" else KERNELS.reshape(6, -1)[:, :5], "unit": np.float32(0.001)}
    more = {"auto_pad": "SAME_LOWER"} if op == "ConvInteger" else {}
    nodes = [
        quantise,
        node(op, ["q", "w", "z"], ["i"], **more),
        node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["f", "unit"], ["y"]),
    ]
    return model_of(nodes, constants, ["n", 3, 6, 6] if op == "ConvInteger" else ["n", 6])


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("op", ["QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"])
def test_operations_on_integers_give_what_onnxruntime_gives(op: str, kind: Any, tmp_path: Path) -> None:
    if op == "ConvInteger" and kind is np.int8:
        pytest.skip("onnxruntime has no ConvInteger of signed activations")
    model = codes_model(op, kind)
    onnx.save(model, tmp_path / "a.onnx")
    x = X if "Conv" in op else RANDOM.normal(size=(7, 6)).astype(np.float32)
    network = xb.map_onnx(tmp_path / "a.onnx", design(input_bits=9), calibration=x)
    (mapped,) = network.layers.values()
    assert mapped.layer.codes.min() >= -127
    expected = by_onnxruntime(model, x)
    step = 0.4 if op.startswith("QLinear") else 0.0  # a sum between two codes may round to either
    for answer in (network.floating(x), network.digital(x)):
        assert np.abs(answer - expected).max() <= 1.001 * step + 1e-5
        assert (np.abs(answer - expected) > 1e-5).mean() < 0.02
    np.testing.assert_array_equal(network.fabricate(seed=0)(x), network.digital(x))


def test_sums_of_integers_that_float32_does_not_hold_are_refused(tmp_path: Path) -> None:
    weights = np.full((700, 2), 127, np.int8)
    nodes = [
        node("QuantizeLinear", ["x", "s"], ["q"]),
        node("MatMulInteger", ["q", "w"], ["i"]),
        node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    onnx.save(model_of(nodes, {"w": weights, "s": np.float32(1)}, ["n", 700]), tmp_path / "a.onnx")
    with pytest.raises(xb.InputError, match=r"integers below 2\^24"):
        xb.map_onnx(tmp_path / "a.onnx", design(), calibration=RANDOM.normal(size=(3, 700)))


class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [{"x": X[index : index + 1]} for index in range(len(X))]

    def get_next(self) -> Any:
        return self.left.pop() if self.left else None


def test_a_network_that_onnxruntime_quantised_keeps_all_its_codes(tmp_path: Path) -> None:
    """Two convolutions and a classifier in QDQ form: every weight is an integer of the file, and none is lost."""
    random = np.random.default_rng(1)
    constants = {
        "k": random.normal(size=(6, 3, 3, 3)).astype(np.float32),
        "c": random.normal(size=6).astype(np.float32),
        "l": random.normal(size=(6 * 16, 4)).astype(np.float32),
        "m": random.normal(size=4).astype(np.float32),
    }
    nodes = [
        node("Conv", ["x", "k", "c"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("Gemm", ["f", "l", "m"], ["y"]),
    ]
    model = model_of(nodes, constants, ["n", 3, 6, 6])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4]))
    onnx.save(model, tmp_path / "float.onnx")
    quantization.quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "codes.onnx",
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
        activation_type=quantization.QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )
    written = onnx.load(tmp_path / "codes.onnx")
    network = xb.map_onnx(tmp_path / "codes.onnx", design(), calibration=X)
    held = [numpy_helper.to_array(each) for each in written.graph.initializer]
    integers = [each for each in held if each.dtype == np.int8 and each.size > 6]
    found = [layer.layer.codes for layer in network.layers.values()]
    assert len(integers) == len(found) == 2
    for codes in found:
        assert any(np.array_equal(np.sort(codes.reshape(-1)), np.sort(each.reshape(-1))) for each in integers)
    scales = {float(each) for each in held if each.dtype == np.float32 and each.size == 1}
    assert all(layer.layer.input_scale in scales for layer in network.layers.values())
    expected = by_onnxruntime(written, X)
    assert np.linalg.norm(network.digital(X) - expected) < 0.01 * np.linalg.norm(expected)


def test_integers_that_cannot_be_kept_are_said(tmp_path: Path) -> None:
    """Scales along the inputs of a product are no scales of its outputs; the weights are quantised anew."""
    constants = {
        "w": KERNELS.reshape(6, -1),
        "s": SCALES,
        "z": np.zeros(6, np.int8),
    }
    nodes = [node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=0), node("MatMul", ["x", "d"], ["y"])]
    onnx.save(model_of(nodes, constants, ["n", 6]), tmp_path / "a.onnx")
    x = RANDOM.normal(size=(5, 6)).astype(np.float32)
    network = xb.map_onnx(tmp_path / "a.onnx", design(), calibration=x)
    assert any("quantised anew" in note for note in network.notes)
    weights = KERNELS.reshape(6, -1) * SCALES[:, None]
    np.testing.assert_allclose(network.floating(x), x @ weights, rtol=1e-4, atol=1e-5)


def test_rescaling_leaves_the_files_integers_as_they_are(tmp_path: Path) -> None:
    onnx.save(qdq(np.int8(0)), tmp_path / "a.onnx")
    plain = xb.map_onnx(tmp_path / "a.onnx", design(), calibration=X)
    rescaled = xb.map_onnx(tmp_path / "a.onnx", design(), calibration=X, rescale=xb.network.Rescale())
    np.testing.assert_array_equal(plain.digital(X), rescaled.digital(X))
    (mapped,) = rescaled.layers.values()
    np.testing.assert_array_equal(mapped.layer.codes, KERNELS.reshape(6, -1).T)
