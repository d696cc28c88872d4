"""Every operation against ONNX's own reference evaluator, over shapes and versions of the operator set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from xbarsim.foundation.validation import InputError
from xbarsim.network.onnx.constants import apply
from xbarsim.network.onnx.operations import OPERATIONS, Call, Node

Array = np.ndarray[Any, np.dtype[Any]]
Random = np.random.Generator
# From shapes and a version of the operator set to inputs and attributes
Make = Callable[[Random, tuple[int, ...], int], tuple[list[Any], dict[str, Any]]]

# The reference evaluator computes the versions before these as later ones, or not at all: onnxruntime does there.
WITHOUT_REFERENCE = {
    "AveragePool": 99,
    "BatchNormalization": 14,
    "DequantizeLinear": 19,
    "GlobalMaxPool": 99,
    "LogSoftmax": 13,
    "LpNormalization": 99,
    "MaxPool": 99,
    "Pad": 99,
    "QuantizeLinear": 19,
    "Resize": 99,
    "Softmax": 13,
}
SETTINGS = settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
OPSETS = (11, 12, 13, 17, 18, 20, 21, 22, 23)


def reference(op: str, inputs: list[Array | None], attributes: dict[str, Any], opset: int, outputs: int) -> list[Array]:
    names = ["" if array is None else f"x{index}" for index, array in enumerate(inputs)]
    given_attributes = {
        key: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in attributes.items()
    }
    results = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(op, names, results, **given_attributes)
    values = {name: np.asarray(array) for name, array in zip(names, inputs, strict=True) if array is not None}
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in values.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in results],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if opset < WITHOUT_REFERENCE.get(op, 0):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return [np.asarray(array) for array in session.run(None, values)]
    return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, values)]


def ours(
    op: str, inputs: list[Array | None], attributes: dict[str, Any], opset: int, outputs: int = 1, double: bool = False
) -> tuple[Array, ...]:
    node = Node(
        name="node",
        op=op,
        inputs=tuple("" if array is None else f"x{index}" for index, array in enumerate(inputs)),
        outputs=tuple(f"y{index}" for index in range(outputs)),
        attributes=attributes,
        opset=opset,
    )
    return apply(Call(node=node, inputs=tuple(inputs), double=double))


def exists(op: str, opset: int) -> bool:
    try:
        schema = onnx.defs.get_schema(op, max_inclusive_version=opset)
    except onnx.defs.SchemaError:
        return False
    return not schema.deprecated


def compare(op: str, make: Make, shape: tuple[int, ...], opset: int, seed: int, outputs: int = 1) -> None:
    if not exists(op, opset):
        opset = OPSETS[-1]
    inputs, attributes = make(np.random.default_rng(seed), shape, opset)
    expected = reference(op, inputs, attributes, opset, outputs)
    answers = ours(op, inputs, attributes, opset, outputs)
    for wanted, answer in zip(expected, answers, strict=False):
        assert answer.shape == wanted.shape
        assert answer.dtype == wanted.dtype
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(answer, wanted, rtol=2e-5, atol=2e-6)
        else:
            np.testing.assert_array_equal(answer, wanted)


def normal(random: Random, shape: tuple[int, ...]) -> Array:
    return random.normal(size=shape).astype(np.float32)


def one(**attributes: Any) -> Make:
    return lambda random, shape, opset: ([2 * normal(random, shape)], attributes)


def positive(**attributes: Any) -> Make:
    return lambda random, shape, opset: ([np.abs(normal(random, shape)) + np.float32(0.1)], attributes)


def two(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [normal(random, shape), normal(random, shape[1:]) + np.float32(3)], {}


def whole(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    other = random.integers(1, 9, shape[-1:])
    return [random.integers(-20, 20, shape), other * random.choice([-1, 1], shape[-1:])], {}


def truth(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [random.random(shape) < 0.5, random.random(shape[1:]) < 0.5], {}


def several(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [normal(random, shape), normal(random, shape[1:]), normal(random, (1,))], {}


def integers(values: Any) -> Array:
    return np.asarray(values, dtype=np.int64)


def with_axes(since: int, axes: list[int] | None, **attributes: Any) -> Make:
    """Axes as an attribute before a version of the operator set, as an input from then on."""

    def make(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
        inputs: list[Any] = [normal(random, shape)]
        given_attributes = dict(attributes)
        if axes is not None and opset >= since:
            inputs.append(integers(axes))
        elif axes is not None:
            given_attributes["axes"] = tuple(axes)
        return inputs, given_attributes

    return make


def fixed(*inputs: Any, **attributes: Any) -> Make:
    """An input of the drawn shape, and others that are given."""
    return lambda random, shape, opset: ([normal(random, shape), *inputs], attributes)


def channels(*kinds: str, **attributes: Any) -> Make:
    """An input and one number a channel for each of the others, positive for a variance."""

    def make(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
        numbers = [normal(random, shape[1:2]) for _ in kinds]
        return [
            normal(random, shape),
            *(np.abs(n) + np.float32(0.1) if k == "variance" else n for n, k in zip(numbers, kinds, strict=True)),
        ], attributes

    return make


def split(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    sizes = (1, shape[1] - 1)
    if opset < 13:
        return [normal(random, shape)], {"axis": 1, "split": sizes}
    return [normal(random, shape), integers(sizes)], {"axis": 1}


def halves(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    size = shape[-1] if opset >= 18 else 4
    return [normal(random, (2, size))], {"axis": -1, **({"num_outputs": 2} if opset >= 18 else {})}


def reshape(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [normal(random, shape), integers([0, -1])], {}


def gather(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [normal(random, shape), random.integers(-shape[1], shape[1], (2, 3))], {"axis": 1}


def gather_elements(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [normal(random, shape), random.integers(-shape[1], shape[1], shape)], {"axis": 1}


def gather_nd(batch: int) -> Make:
    def make(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
        if batch and opset < 12:
            return [normal(random, shape), random.integers(0, min(shape), (3, 2))], {}
        lead = shape[:batch]
        indices = random.integers(0, min(shape), (*lead, 3, 2) if not batch else (*lead, 3, 1))
        return [normal(random, shape), indices], {"batch_dims": batch} if opset >= 12 else {}

    return make


def norm_of_last(*extra: str, **attributes: Any) -> Make:
    def make(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
        return [normal(random, shape), *(normal(random, shape[-1:]) for _ in extra)], attributes

    return make


def group_norm(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    count = 2 if opset < 21 else 6
    return [normal(random, (2, 6, *shape[2:])), normal(random, (count,)), normal(random, (count,))], {"num_groups": 2}


def quantised(zero: Any, **attributes: Any) -> Make:
    def make(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
        return [4 * normal(random, shape), np.float32(0.037), zero], attributes

    return make


def quantised_by_channel(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    scale = np.abs(normal(random, shape[1:2])) + np.float32(0.01)
    zero = random.integers(-5, 5, shape[1:2]).astype(np.int8)
    return [normal(random, shape), scale, zero], {"axis": 1} if opset >= 13 else {}


def codes(kind: type[Any]) -> Make:
    def make(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
        return [random.integers(0, 100, shape).astype(kind), np.float32(0.037), kind(7)], {}

    return make


def matrices(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [
        normal(random, shape),
        normal(random, (shape[0], shape[-1], 3)) if len(shape) == 3 else normal(random, (shape[-1], 3)),
    ], {}


def gemm(**attributes: Any) -> Make:
    def make(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
        rows, inner = shape[:2]
        a = normal(random, (inner, rows) if attributes.get("transA") else (rows, inner))
        b = normal(random, (4, inner) if attributes.get("transB") else (inner, 4))
        return [a, b, normal(random, (4,))], attributes

    return make


def one_hot(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [random.integers(-5, 5, shape), integers(5), np.array([0.5, 2.0], np.float32)], {"axis": 1}


def clip(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [normal(random, shape), np.float32(-0.5), np.float32(0.7)], {}


def clip_above(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [normal(random, shape), None, np.float32(0.7)], {}


def choose(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [random.random(shape) < 0.5, normal(random, shape), normal(random, shape[1:])], {}


def slope(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [normal(random, shape), normal(random, (shape[1], *(1,) * (len(shape) - 2)))], {}


def pad(mode: str, pads: Callable[[int], list[int]]) -> Make:
    def make(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
        inputs: list[Any] = [normal(random, shape), integers(pads(len(shape)))]
        return [*inputs, np.float32(1.5)] if mode == "constant" else inputs, {"mode": mode}

    return make


def depth(op: str) -> Make:
    def make(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
        size = (2, 8, 3, 2) if op == "DepthToSpace" else (2, 3, 4, 6)
        return [normal(random, size)], {"blocksize": 2}

    return make


def depth_crd(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    return [normal(random, (2, 8, 3, 2))], {"blocksize": 2, "mode": "CRD"}


def masked(random: Random, shape: tuple[int, ...], opset: int) -> tuple[list[Any], dict[str, Any]]:
    x = normal(random, shape)
    x[..., 1:] = np.where(random.random(x[..., 1:].shape) < 0.4, -np.inf, x[..., 1:])
    return [x], {"axis": -1}


CASES: list[tuple[str, Make]] = [
    *((op, one()) for op in ("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Ceil", "Floor", "Round", "Sign", "Erf", "Exp")),
    *((op, one()) for op in ("Softplus", "Softsign", "Mish", "Sin", "Cos", "IsNaN", "IsInf", "Identity", "HardSwish")),
    *((op, positive()) for op in ("Sqrt", "Log", "Reciprocal")),
    *((op, one(alpha=0.3)) for op in ("LeakyRelu", "Elu", "Celu", "ThresholdedRelu")),
    ("LeakyRelu", one()),
    ("Selu", one()),
    ("Selu", one(alpha=1.5, gamma=0.7)),
    ("HardSigmoid", one()),
    ("HardSigmoid", one(alpha=0.3, beta=0.4)),
    ("Gelu", one()),
    ("Gelu", one(approximate="tanh")),
    ("PRelu", slope),
    *((op, two) for op in ("Add", "Sub", "Mul", "Div", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")),
    ("Pow", lambda random, shape, opset: ([np.abs(normal(random, shape)), np.float32(1.7)], {})),
    ("Pow", lambda random, shape, opset: ([normal(random, shape), integers(2) if opset > 11 else np.float32(2)], {})),
    *((op, whole) for op in ("Add", "Mul", "Mod", "Equal")),
    ("Mod", lambda random, shape, opset: (two(random, shape, opset)[0], {"fmod": 1})),
    *((op, truth) for op in ("And", "Or", "Xor")),
    ("Not", lambda random, shape, opset: (truth(random, shape, opset)[0][:1], {})),
    *((op, several) for op in ("Max", "Min", "Sum", "Mean")),
    ("Clip", clip),
    ("Clip", clip_above),
    ("Where", choose),
    ("Cast", one(to=7)),
    ("Cast", one(to=9)),
    ("Cast", one(to=11)),
    ("CastLike", fixed(integers([1]))),
    ("Dropout", lambda random, shape, opset: ([normal(random, shape)], {})),
    ("Softmax", one()),
    ("Softmax", one(axis=0)),
    ("Softmax", masked),
    ("LogSoftmax", one(axis=1)),
    ("LogSoftmax", one()),
    *(
        (op, with_axes(18, [1]))
        for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")
    ),
    ("ReduceMean", with_axes(18, [-1, 0], keepdims=0)),
    ("ReduceMean", with_axes(18, None)),
    ("ReduceSumSquare", with_axes(18, [0], keepdims=0)),
    ("ReduceSum", with_axes(13, [1, -1])),
    ("ReduceSum", with_axes(13, None, keepdims=0)),
    ("ArgMax", one(axis=1, keepdims=0)),
    ("ArgMin", one()),
    (
        "ArgMax",
        lambda random, shape, opset: (
            [random.integers(0, 2, shape)],
            {"axis": -1, **({"select_last_index": 1} if opset > 11 else {})},
        ),
    ),
    ("GlobalAveragePool", one()),
    ("GlobalMaxPool", one()),
    ("BatchNormalization", channels("gain", "shift", "mean", "variance", epsilon=1e-3)),
    ("InstanceNormalization", channels("gain", "shift", epsilon=1e-3)),
    ("GroupNormalization", group_norm),
    ("LayerNormalization", norm_of_last("gain", "shift", epsilon=1e-3)),
    ("LayerNormalization", norm_of_last("gain")),
    ("RMSNormalization", norm_of_last("gain", epsilon=1e-3)),
    ("LpNormalization", one(axis=1, p=2)),
    ("LpNormalization", one(axis=-1, p=1)),
    ("Reshape", reshape),
    ("Flatten", one()),
    ("Flatten", one(axis=0)),
    ("Flatten", one(axis=-1)),
    ("Transpose", one()),
    ("Transpose", lambda random, shape, opset: ([normal(random, shape)], {"perm": (1, 0, *range(2, len(shape)))})),
    ("Squeeze", lambda random, shape, opset: with_axes(13, [1])(random, (shape[0], 1, *shape[1:]), opset)),
    ("Squeeze", lambda random, shape, opset: ([normal(random, (*shape, 1))], {})),
    ("Unsqueeze", with_axes(13, [1, -1])),
    ("Expand", lambda random, shape, opset: ([normal(random, (1, shape[-1])), integers([2, 3, 1])], {})),
    ("Pad", pad("constant", lambda n: [1] * n + [2] * n)),
    ("Pad", pad("constant", lambda n: [-1] * n + [1] * n)),
    ("Pad", pad("reflect", lambda n: [1] * n + [0] * n)),
    ("Pad", pad("edge", lambda n: [2] * n + [1] * n)),
    ("Tile", lambda random, shape, opset: ([normal(random, shape), integers([2] * len(shape))], {})),
    ("Range", lambda random, shape, opset: ([integers(2), integers(2 + 3 * shape[0]), integers(3)], {})),
    ("Range", lambda random, shape, opset: ([np.float32(2), np.float32(-1.2), np.float32(-0.5)], {})),
    ("Shape", one()),
    ("Shape", lambda random, shape, opset: ([normal(random, shape)], {"start": 1, "end": -1} if opset >= 15 else {})),
    ("Size", one()),
    ("ConstantOfShape", lambda random, shape, opset: ([integers(shape)], {})),
    ("ConstantOfShape", lambda random, shape, opset: ([integers(shape)], {"value": np.array([3], np.int64)})),
    ("Concat", lambda random, shape, opset: ([normal(random, shape), normal(random, shape)], {"axis": -1})),
    ("Slice", fixed(integers([-1, 0]), integers([-9, 99]), integers([1, 0]), integers([-1, 2]))),
    ("Slice", fixed(integers([1]), integers([2**62]))),
    ("Gather", gather),
    ("Gather", fixed(integers(-1))),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd(0)),
    ("GatherND", gather_nd(1)),
    ("Trilu", lambda random, shape, opset: ([normal(random, shape), integers(1)], {"upper": 0})),
    ("Trilu", one()),
    ("OneHot", one_hot),
    ("CumSum", fixed(integers(1))),
    ("CumSum", fixed(integers(0), exclusive=1, reverse=1)),
    ("DepthToSpace", depth("DepthToSpace")),
    ("DepthToSpace", depth_crd),
    ("SpaceToDepth", depth("SpaceToDepth")),
    ("MatMul", matrices),
    ("Gemm", gemm()),
    ("Gemm", gemm(transA=1, transB=1, alpha=0.5, beta=2.0)),
    (
        "Einsum",
        lambda random, shape, opset: (
            [normal(random, (2, 3, 4)), normal(random, (2, 4, 5))],
            {"equation": "bij, bjk -> bik"},
        ),
    ),
    ("QuantizeLinear", quantised(np.uint8(100))),
    ("QuantizeLinear", quantised(np.int8(-3))),
    ("QuantizeLinear", quantised_by_channel),
    ("DequantizeLinear", codes(np.uint8)),
    ("DequantizeLinear", codes(np.int8)),
]

SHAPES = st.lists(st.integers(2, 5), min_size=3, max_size=4).map(tuple)


@pytest.mark.parametrize(("op", "make"), CASES, ids=[f"{index}-{op}" for index, (op, _) in enumerate(CASES)])
@SETTINGS
@given(shape=SHAPES, opset=st.sampled_from(OPSETS), seed=st.integers(0, 2**31))
def test_an_operation_gives_what_the_reference_gives(
    op: str, make: Make, shape: tuple[int, ...], opset: int, seed: int
) -> None:
    compare(op, make, shape, opset, seed)


POOLS = st.fixed_dictionaries(
    {"kernel": st.integers(1, 3), "stride": st.integers(1, 3), "pad": st.integers(0, 1), "size": st.integers(4, 7)}
)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("mode", ["plain", "ceil", "dilated", "SAME_UPPER", "SAME_LOWER", "VALID", "counted"])
@SETTINGS
@given(pool=POOLS, opset=st.sampled_from(OPSETS), seed=st.integers(0, 2**31))
def test_pooling_gives_what_the_reference_gives(
    op: str, axes: int, mode: str, pool: dict[str, int], opset: int, seed: int
) -> None:
    kernel = min(pool["kernel"], 2) if mode == "dilated" else pool["kernel"]
    stride = min(pool["stride"], kernel) if "SAME" in mode else pool["stride"]  # onnxruntime cannot do more
    attributes: dict[str, Any] = {"kernel_shape": (kernel,) * axes, "strides": (stride,) * axes}
    if mode in ("plain", "ceil", "dilated", "counted"):
        attributes["pads"] = (min(pool["pad"], kernel - 1),) * 2 * axes
    if mode == "ceil":
        attributes["ceil_mode"] = 1
    if mode == "dilated":
        opset = max(opset, 19)  # of averages since then
        attributes["dilations"] = (2,) * axes
    if mode == "counted":
        attributes.update({"count_include_pad": 1} if op == "AveragePool" else {"storage_order": 0})
    if mode.isupper():
        attributes["auto_pad"] = mode
    make: Make = lambda random, shape, version: ([normal(random, (2, 3, *(pool["size"],) * axes))], attributes)  # noqa: E731
    compare(op, make, (), opset, seed)


@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@SETTINGS
@given(size=st.integers(1, 9), scale=st.sampled_from([0.5, 1.0, 2.0, 3.0]), sized=st.booleans())
def test_resizing_to_the_nearest_gives_what_the_reference_gives(
    coordinates: str, rounding: str, size: int, scale: float, sized: bool
) -> None:
    x = normal(np.random.default_rng(0), (2, 3, 4, 5))
    inputs: list[Any] = [x, None, np.array([1, 1, scale, scale], np.float32)]
    if sized:
        inputs = [x, None, None, integers([2, 3, size, size + 1])]
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding, "mode": "nearest"}
    (expected,) = reference("Resize", inputs, attributes, 18, 1)
    (answer,) = ours("Resize", inputs, attributes, 18)
    np.testing.assert_array_equal(answer, expected)


@SETTINGS
@given(shape=SHAPES, opset=st.sampled_from(OPSETS), seed=st.integers(0, 2**31))
def test_parts_and_several_outputs_equal_the_references(shape: tuple[int, ...], opset: int, seed: int) -> None:
    compare("Split", split, shape, opset, seed, outputs=2)
    compare("Split", halves, shape, opset, seed, outputs=2)
    compare(
        "TopK", lambda random, s, o: ([normal(random, s), integers([2])], {"axis": 1}), shape, opset, seed, outputs=2
    )
    make: Make = lambda random, s, o: ([random.integers(0, 3, s), integers([2])], {"largest": 0})  # noqa: E731
    compare("TopK", make, shape, opset, seed, outputs=2)


def test_every_operation_is_compared() -> None:
    apart = {"MaxPool", "AveragePool", "Resize", "Split", "TopK"}
    assert {op for op, _ in CASES} | apart == set(OPERATIONS)


def test_integers_are_divided_towards_zero() -> None:
    a, b = integers([7, -7, 7, -7]), integers([2, 2, -2, -2])
    np.testing.assert_array_equal(ours("Div", [a, b], {}, 14)[0], [3, -3, -3, 3])
    with pytest.raises(InputError, match="divided by 0"):
        ours("Div", [a, integers([0])], {}, 14)


def test_in_float64_no_operation_falls_back_to_float32() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    for op, attributes in (("Softmax", {}), ("Gelu", {}), ("Cast", {"to": 1}), ("GlobalAveragePool", {})):
        assert ours(op, [x], attributes, 20, double=True)[0].dtype == np.float64
    assert ours("ConstantOfShape", [integers([2])], {}, 20, double=True)[0].dtype == np.float64


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("Expand", [np.zeros(1, np.float32), integers([2**20, 2**20])], {}, "at most"),
        ("Expand", [np.zeros(1, np.float32), integers([2**40, 2**40])], {}, "too large"),
        ("ConstantOfShape", [integers([2**50])], {}, "at most"),
        ("ConstantOfShape", [integers([-1])], {}, "without negative"),
        ("Tile", [np.zeros(8, np.float32), integers([2**45])], {}, "at most"),
        ("Range", [integers(0), integers(2**60), integers(1)], {}, "at most"),
        ("Pad", [np.zeros(8, np.float32), integers([2**45, 0])], {}, "at most"),
        ("Resize", [np.zeros((1, 1, 2, 2), np.float32), None, None, integers([1, 1, 2**30, 2**30])], {}, "at most"),
        ("OneHot", [integers([1]), integers(2**50), np.zeros(2, np.float32)], {}, "at most"),
        ("Gather", [np.zeros(3, np.float32), integers([3])], {}, "indices must lie in -3 to 2, got 3"),
        ("Reshape", [np.zeros(3, np.float32), integers([2])], {}, r"node 'node' \(Reshape\)"),
        ("Resize", [np.zeros((1, 1, 2, 2), np.float32), None, np.ones(4, np.float32)], {"mode": "linear"}, "nearest"),
        ("Cast", [np.zeros(2, np.float32)], {"to": 10}, "float16"),
        ("Dropout", [np.zeros(2, np.float32), None, np.array(True)], {}, "training_mode"),
    ],
)
def test_what_cannot_be_computed_is_refused(
    op: str, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ours(op, inputs, attributes, 20)
