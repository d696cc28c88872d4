"""What a file may hold, and one clear error for what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import xbarsim as xb
from tests.network.onnx.writing import model_of, node, write
from xbarsim.devices import Cell
from xbarsim.network.onnx.constants import fold_constants
from xbarsim.network.onnx.graph import read_graph
from xbarsim.network.onnx.patterns import fold_patterns

DESIGN = xb.Design(
    cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16), mapping=xb.Mapping(rows=32, columns=32, weight_bits=8)
)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(4, 3)).astype(np.float32)
X = RANDOM.normal(size=(8, 4)).astype(np.float32)
MATMUL = [node("MatMul", ["x", "w"], ["y"])]


def mapped(path: Path) -> xb.MappedNetwork:
    return xb.map_onnx(path, DESIGN, calibration=X)


def test_a_product_is_mapped(tmp_path: Path) -> None:
    network = mapped(write(tmp_path / "a.onnx", MATMUL, {"w": WEIGHTS}, ["samples", 4]))
    assert list(network.layers) == ["n_y"]
    np.testing.assert_allclose(network.floating(X), X @ WEIGHTS, atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"not an ONNX file", b"\x00" * 64, b"PK\x03\x04" + bytes(range(200))])
def test_a_file_that_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(xb.InputError, match="path must name an ONNX file"):
        mapped(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", MATMUL, {"w": RANDOM.normal(size=(4, 300)).astype(np.float32)}, ["samples", 4])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(xb.InputError):
        mapped(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(xb.InputError, match="cannot read an ONNX network"):
        mapped(tmp_path / "none.onnx")
    with pytest.raises(xb.InputError, match=r"path must be a path, as text or os\.PathLike, got 7"):
        mapped(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("opset", [10, 24])
def test_other_versions_of_the_operators_are_refused(opset: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", MATMUL, {"w": WEIGHTS}, ["samples", 4], opset=opset)
    with pytest.raises(xb.InputError, match=f"operators of version 11 to 23, got {opset}"):
        mapped(path)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(number: float, tmp_path: Path) -> None:
    wrong = WEIGHTS.copy()
    wrong[1, 2] = number
    path = write(tmp_path / "a.onnx", MATMUL, {"w": wrong}, ["samples", 4])
    with pytest.raises(xb.InputError, match="must be finite, got NaN"):
        mapped(path)


def test_an_operation_that_is_not_supported_is_named_with_all_that_are(tmp_path: Path) -> None:
    nodes = [*MATMUL[:0], node("MatMul", ["x", "w"], ["h"]), node("Det", ["h"], ["y"])]
    with pytest.raises(xb.InputError, match=r"node 'n_y' must be one of .*Conv, .*Softmax, .*got Det"):
        mapped(write(tmp_path / "a.onnx", nodes, {"w": WEIGHTS}, ["samples", 4]))
    other = helper.make_node("MatMul", ["x", "w"], ["y"], domain="com.example")
    with pytest.raises(xb.InputError, match=r"got com.example.MatMul"):
        mapped(write(tmp_path / "b.onnx", [other], {"w": WEIGHTS}, ["samples", 4]))


def test_graphs_inside_nodes_are_refused(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "inner", [], [helper.make_empty_tensor_value_info("z")]
    )
    branch = helper.make_node("If", ["c"], ["h"], then_branch=inner, else_branch=inner)
    path = tmp_path / "a.onnx"
    for constants in ({"w": WEIGHTS, "c": np.array(True)}, {"w": WEIGHTS}):
        nodes = [branch, node("MatMul", ["h", "w"], ["y"])]
        with pytest.raises(xb.InputError, match=r"no graph inside it|got If"):
            mapped(write(path, nodes, constants, ["samples", 4]))


def test_functions_of_a_file_are_put_in_the_place_of_their_calls(tmp_path: Path) -> None:
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    calling = helper.make_node("Twice", ["h"], ["y"], domain="local")
    model = model_of([node("MatMul", ["x", "w"], ["h"]), calling], {"w": WEIGHTS}, ["samples", 4])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    onnx.save(model, tmp_path / "a.onnx")
    np.testing.assert_allclose(mapped(tmp_path / "a.onnx").floating(X), 2 * (X @ WEIGHTS), atol=1e-5)


def tensor(dims: list[int], raw: bytes, kind: int = TensorProto.FLOAT) -> onnx.TensorProto:
    made = onnx.TensorProto(name="w", data_type=kind, raw_data=raw)
    made.dims.extend(dims)
    return made


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (tensor([2**40, 2**40], b"1234"), "must have .* bytes for shape"),
        (tensor([-4, -3], WEIGHTS.tobytes()), "without negative numbers"),
        (tensor([4, 3], WEIGHTS.tobytes()[:-1]), "must have 48 bytes for shape .*, got 47"),
        (tensor([4, 3], b"\0" * 24, TensorProto.FLOAT16), "ordinary numbers, got float16"),
        (tensor([4, 3], b"\0" * 24, TensorProto.BFLOAT16), "ordinary numbers, got bfloat16"),
    ],
)
def test_constants_that_contradict_themselves_are_refused(
    given: onnx.TensorProto, message: str, tmp_path: Path
) -> None:
    model = model_of(MATMUL, {}, ["samples", 4])
    model.graph.initializer.append(given)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(xb.InputError, match=message):
        mapped(path)


# --- data beside the file


def external(path: Path, location: str, **entries: int) -> Path:
    made = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    made.dims.extend(WEIGHTS.shape)
    for key, value in {"location": location, **entries}.items():
        made.external_data.add(key=key, value=str(value))
    model = model_of(MATMUL, {}, ["samples", 4])
    model.graph.initializer.append(made)
    path.write_bytes(model.SerializeToString())
    return path


def test_data_in_the_folder_of_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"1234" + WEIGHTS.tobytes())
    (tmp_path / "link.bin").symlink_to(tmp_path / "data.bin")
    for name in ("data.bin", "./data.bin", "link.bin"):
        network = mapped(external(tmp_path / "a.onnx", name, offset=4, length=48))
        np.testing.assert_allclose(network.floating(X), X @ WEIGHTS, atol=1e-6)


def test_data_outside_the_folder_of_the_file_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    (home / "link.bin").symlink_to(tmp_path / "secret.bin")
    (home / "folder").symlink_to(tmp_path)
    for name in ("../secret.bin", "link.bin", "folder/secret.bin", "x/../../secret.bin"):
        with pytest.raises(xb.InputError, match="must lie in the network's folder"):
            mapped(external(home / "a.onnx", name))
    with pytest.raises(xb.InputError, match="relative to the network's folder"):
        mapped(external(home / "a.onnx", str(tmp_path / "secret.bin")))


@pytest.mark.parametrize("entries", [{"offset": -4}, {"offset": 4}, {"length": 47}, {"length": 2**60}])
def test_data_beyond_its_file_is_refused(entries: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(xb.InputError, match="must be 48 bytes within"):
        mapped(external(tmp_path / "a.onnx", "data.bin", **entries))
    with pytest.raises(xb.InputError, match="must be a file"):
        mapped(external(tmp_path / "a.onnx", "none.bin"))


# --- what is folded


def folded(path: Path) -> list[str]:
    return [each.op for each in fold_patterns(fold_constants(read_graph(path))).nodes]


def test_constants_are_folded_also_by_operations_that_are_rare(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["v"], ["t"]),
        node("Hardmax", ["t"], ["hard"], axis=0),  # not among those that run
        node("Mul", ["t", "hard"], ["w"]),
        node("MatMul", ["x", "w"], ["h"]),
        node("Identity", ["h"], ["i"]),
        node("Dropout", ["i"], ["d"]),
        node("Relu", ["d"], ["y"]),
    ]
    path = write(tmp_path / "a.onnx", nodes, {"v": np.ascontiguousarray(WEIGHTS.T)}, ["samples", 4])
    assert folded(path) == ["Linear", "Relu"]
    only_largest = np.where(WEIGHTS.max(axis=0) == WEIGHTS, WEIGHTS, 0)
    np.testing.assert_allclose(mapped(path).floating(X), np.maximum(X @ only_largest, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("op", "constant", "kept"),
    [
        ("Add", RANDOM.normal(size=3), False),
        ("Add", RANDOM.normal(size=(1, 3)), False),
        ("Sub", RANDOM.normal(size=3), False),
        ("Mul", RANDOM.normal(size=3), False),
        ("Mul", np.array(0.5), False),
        ("Div", RANDOM.normal(size=3), False),
        ("Div", np.array([1.0, 0.0, 2.0]), True),
        ("Add", RANDOM.normal(size=(8, 3)), True),
        ("Mul", RANDOM.normal(size=(8, 1)), True),
    ],
)
def test_constants_behind_a_product_are_folded_where_there_is_one_an_output(
    op: str, constant: Any, kept: bool, tmp_path: Path
) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["i"]), node(op, ["i", "c"], ["y"])]
    constants = {"w": WEIGHTS, "b": WEIGHTS[0], "c": np.float32(constant)}
    path = write(tmp_path / "a.onnx", nodes, constants, ["samples", 4])
    assert folded(path) == (["Linear", op] if kept else ["Linear"])
    functions = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
    if not (constant == 0).any():
        expected = functions[op](X @ WEIGHTS + WEIGHTS[0], np.float32(constant))
        np.testing.assert_allclose(mapped(path).floating(X), expected, rtol=1e-4, atol=1e-5)


def test_nothing_is_folded_into_a_product_whose_result_is_used_elsewhere(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Mul", ["h", "c"], ["i"]), node("Add", ["h", "i"], ["y"])]
    path = write(tmp_path / "a.onnx", nodes, {"w": WEIGHTS, "c": WEIGHTS[0]}, ["samples", 4])
    assert folded(path) == ["Linear", "Mul", "Add"]
    h = X @ WEIGHTS
    np.testing.assert_allclose(mapped(path).floating(X), h + h * WEIGHTS[0], rtol=1e-5, atol=1e-5)


def test_a_layer_that_is_used_twice_is_one_layer(tmp_path: Path) -> None:
    square = RANDOM.normal(size=(4, 4)).astype(np.float32)
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w", "b"], ["y"], transB=1),
    ]
    network = mapped(write(tmp_path / "a.onnx", nodes, {"w": square, "b": square[0]}, ["samples", 4]))
    assert list(network.layers) == ["n_h"]
    assert network.layers["n_h"].vectors_per_image == 2
    assert any("2 nodes share the weights" in note for note in network.notes)
    expected = np.maximum(X @ square.T + square[0], 0) @ square.T + square[0]
    np.testing.assert_allclose(network.floating(X), expected, rtol=1e-4, atol=1e-5)


def test_a_matrix_on_the_left_is_mapped_too(tmp_path: Path) -> None:
    x = RANDOM.normal(size=(6, 4, 5)).astype(np.float32)
    left = np.ascontiguousarray(WEIGHTS.T)
    path = write(tmp_path / "a.onnx", [node("MatMul", ["w", "x"], ["y"])], {"w": left}, ["samples", 4, 5])
    network = xb.map_onnx(path, DESIGN, calibration=x)
    assert [layer.layer.codes.shape for layer in network.layers.values()] == [(4, 3)]
    np.testing.assert_allclose(network.floating(x), left @ x, atol=1e-5)
    np.testing.assert_array_equal(network.fabricate(seed=0)(x), network.digital(x))


def test_what_holds_weights_and_stays_digital_is_named(tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["table", "x"], ["e"]),
        node("MatMul", ["e", "w"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Mul", ["r", "c"], ["y"]),
    ]
    table = RANDOM.normal(size=(10, 4)).astype(np.float32)
    path = write(
        tmp_path / "a.onnx",
        nodes,
        {"table": table, "w": WEIGHTS, "c": WEIGHTS[0]},
        ["samples", 5],
        kind=TensorProto.INT32,
    )
    words = RANDOM.integers(0, 10, (6, 5))
    with pytest.warns(xb.network.NotMappedWarning, match="n_e .*look-up in a table"):
        network = xb.map_onnx(path, DESIGN, calibration=words)
    assert [(item.name, item.parameters) for item in network.not_mapped] == [("n_e", 40), ("n_y", 3)]
    assert network.layers["n_h"].vectors_per_image == 5


def test_a_network_without_a_product_is_refused(tmp_path: Path) -> None:
    with pytest.raises(xb.InputError, match="trained weights"):
        mapped(write(tmp_path / "a.onnx", [node("Relu", ["x"], ["y"])], {}, ["samples", 4]))
    nodes = [node("Conv", ["x", "x"], ["y"])]
    with pytest.raises(xb.InputError, match="weights that depend on no input"):
        mapped(write(tmp_path / "b.onnx", nodes, {}, ["samples", 4, 3, 3]))


def test_batch_norms_fold_to_the_bits_that_torch_folds_to(tmp_path: Path) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(150, 4), nn.BatchNorm1d(4)
    ).eval()
    constants: dict[str, Any] = {}
    for index, layer in enumerate(model):
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            for value in (layer.weight, layer.bias, layer.running_mean):
                nn.init.normal_(value)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.3, 3.0)  # type: ignore[arg-type]
        constants |= {f"{index}.{key}": value.numpy() for key, value in layer.state_dict().items()}
    norm = ("weight", "bias", "running_mean", "running_var")
    nodes = [
        node("Conv", ["x", "0.weight", "0.bias"], ["a"], auto_pad="SAME_UPPER"),
        node("BatchNormalization", ["a", *(f"1.{key}" for key in norm)], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("Flatten", ["c"], ["d"]),
        node("Gemm", ["d", "4.weight", "4.bias"], ["e"], transB=1),
        node("BatchNormalization", ["e", *(f"5.{key}" for key in norm)], ["y"]),
    ]
    x = torch.randn(8, 3, 5, 5)
    constants = {name: array for name, array in constants.items() if "num" not in name}
    path = write(tmp_path / "a.onnx", nodes, constants, ["samples", 3, 5, 5])
    assert folded(path) == ["Convolution", "Relu", "Flatten", "Linear"]
    one, other = xb.map_model(model, DESIGN, calibration=x), xb.map_onnx(path, DESIGN, calibration=x.numpy())
    for a, b in zip(one.layers.values(), other.layers.values(), strict=True):
        np.testing.assert_array_equal(a.layer.codes, b.layer.codes)
        np.testing.assert_array_equal(a.layer.weight_scale, b.layer.weight_scale)
        np.testing.assert_array_equal(a.layer.bias, b.layer.bias)
        assert a.layer.input_scale == b.layer.input_scale
    np.testing.assert_array_equal(one.fabricate(seed=2)(x).numpy(), other.fabricate(seed=2)(x.numpy()))


def test_tensors_are_read_in_every_form_that_files_hold_them_in(tmp_path: Path) -> None:
    model = model_of(MATMUL, {}, ["samples", 4])
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, WEIGHTS.shape, WEIGHTS.reshape(-1)))
    onnx.save(model, tmp_path / "a.onnx")
    np.testing.assert_allclose(mapped(tmp_path / "a.onnx").floating(X), X @ WEIGHTS, atol=1e-6)
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHTS))
    path = write(tmp_path / "b.onnx", [constant, *MATMUL], {}, ["samples", 4])
    np.testing.assert_allclose(mapped(path).floating(X), X @ WEIGHTS, atol=1e-6)


def test_nodes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "v"], ["y"])]
    for each in nodes:
        each.name = "same"
    network = mapped(write(tmp_path / "a.onnx", nodes, {"w": WEIGHTS, "v": WEIGHTS[:3]}, ["samples", 4]))
    assert list(network.layers) == ["same", "same (y)"]
    np.testing.assert_allclose(network.floating(X), X @ WEIGHTS @ WEIGHTS[:3], rtol=1e-4, atol=1e-5)
