"""Attention as products and digital operations, alone and in transformers: equal to torch's in every option."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.overrides import TorchFunctionMode

from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.attention import Attention, LowerMultiheadAttention, settle_attention
from xbarsim.network.lowering.transformers import prepare_transformers

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = TOLERANCE[expected.dtype]
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomised(module: nn.Module, seed: int, dtype: torch.dtype = torch.float64) -> Any:
    """The module in evaluation mode, with weights of the seed."""
    module = module.to(dtype).eval()
    for number, parameter in enumerate(module.parameters()):
        parameter.data = normal(seed + number, *parameter.shape, dtype=dtype) * 0.4
    return module


def replaced(model: nn.Module) -> Any:
    """A copy of the model, prepared, with every attention lowered."""
    model = copy.deepcopy(model)
    prepare_transformers(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MultiheadAttention):
            assert LowerMultiheadAttention().misfit(module) is None
            model.set_submodule(name, LowerMultiheadAttention().lower(module))
    return model


class Called(TorchFunctionMode):
    """Names of torch's functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


@st.composite
def modules(draw: st.DrawFn, dtype: torch.dtype) -> Any:
    """An attention with any of its options."""
    heads = draw(st.integers(1, 3))
    width = heads * draw(st.integers(1, 3))
    module = nn.MultiheadAttention(
        width,
        heads,
        dropout=draw(st.sampled_from([0.0, 0.3])),
        bias=draw(st.booleans()),
        add_bias_kv=draw(st.booleans()),
        add_zero_attn=draw(st.booleans()),
        kdim=draw(st.sampled_from([None, 2, 5])),
        vdim=draw(st.sampled_from([None, 3, 5])),
        batch_first=draw(st.booleans()),
    )
    return randomised(module, draw(st.integers(0, 1000)), dtype)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """An attention, and the arguments of a call."""
    dtype = draw(st.sampled_from([torch.float64, torch.float32]))
    module = draw(modules(dtype))
    batch = draw(st.none() | st.integers(1, 3))
    same = module.embed_dim == module.kdim == module.vdim
    sharing = draw(st.sampled_from(["all", "key and value", "none"])) if same else "none"
    length = draw(st.integers(1, 4))
    positions = length if sharing == "all" else draw(st.integers(1, 4))
    seed = draw(st.integers(0, 1000))

    def tensor(number: int, count: int, features: int) -> torch.Tensor:
        shape = (count,) if batch is None else (batch, count) if module.batch_first else (count, batch)
        return normal(seed + number, *shape, features, dtype=dtype)

    query = tensor(0, length, module.embed_dim)
    key = query if sharing == "all" else tensor(1, positions, module.kdim)
    value = key if sharing != "none" else tensor(2, positions, module.vdim)
    arguments: dict[str, Any] = {
        "query": query,
        "key": key,
        "value": value,
        "need_weights": draw(st.booleans()),
        "average_attn_weights": draw(st.booleans()),
    }
    boolean = draw(st.booleans())
    kind = draw(st.sampled_from(["none", "causal", "square", "one a head"]))

    def masked(number: int, *shape: int) -> torch.Tensor:
        """A mask that hides about a third, or numbers to add, some of them minus infinity."""
        numbers = normal(seed + number, *shape, dtype=dtype)
        return numbers > 0.4 if boolean else numbers.masked_fill(numbers > 0.8, -torch.inf)

    if kind == "causal":
        hidden = torch.ones(length, positions, dtype=torch.bool).tril().logical_not()
        arguments["attn_mask"] = (
            hidden if boolean else torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, -torch.inf)
        )
        arguments["is_causal"] = draw(st.booleans())
    elif kind == "square":
        arguments["attn_mask"] = masked(3, length, positions)
    elif kind == "one a head":
        arguments["attn_mask"] = masked(4, (batch or 1) * module.num_heads, length, positions)
    if draw(st.booleans()):
        arguments["key_padding_mask"] = masked(5, *(() if batch is None else (batch,)), positions)
    return module, arguments


@settings(deadline=None, max_examples=200)
@given(call=calls())
def test_attention_computes_what_torchs_does(call: tuple[Any, dict[str, Any]]) -> None:
    """Torch's plain path: rows that see nothing are not a number, or zero without weights, in both."""
    module, arguments = call
    before = copy.deepcopy(module.state_dict())
    lowered = LowerMultiheadAttention().lower(module)
    expected, expected_weights = module(**arguments)  # gradients are enabled: the plain path
    with torch.no_grad():
        got, weights = lowered(**arguments)
        again, _ = copy.deepcopy(lowered)(**arguments)
    assert_same(got, expected.detach())
    assert torch.equal(got.nan_to_num(), again.nan_to_num())
    assert got.is_contiguous() or not expected.is_contiguous()
    assert (weights is None) == (expected_weights is None)
    if weights is not None:
        assert_same(weights, expected_weights.detach())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_computes_what_torchs_fused_path_does(need_weights: bool, padded: bool) -> None:
    module = randomised(nn.MultiheadAttention(8, 2, batch_first=True), 0)
    inputs = normal(1, 3, 5, 8)
    mask = torch.arange(5) >= torch.tensor([[5], [3], [1]]) if padded else None
    options = {"key_padding_mask": mask, "need_weights": need_weights, "average_attn_weights": False}
    assert "aten::_native_multi_head_attention" in computed_by(lambda: module(inputs, inputs, inputs, **options))
    with torch.no_grad():
        expected, expected_weights = module(inputs, inputs, inputs, **options)
    got, weights = LowerMultiheadAttention().lower(module)(inputs, inputs, inputs, **options)
    assert_same(got, expected)
    if need_weights:
        assert_same(weights, expected_weights)


def used(model: nn.Module, call: Callable[[], Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Products of a model that a call uses, in order, each with the shape of its activations."""
    found: list[tuple[str, tuple[int, ...]]] = []
    hooks = [
        module.register_forward_hook(lambda _, inputs, __, name=name: found.append((name, tuple(inputs[0].shape))))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    call()
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("batch_first", [False, True])
def test_self_attention_is_one_product_with_the_samples_first(batch_first: bool) -> None:
    lowered = LowerMultiheadAttention().lower(nn.MultiheadAttention(8, 2, batch_first=batch_first).eval())
    inputs = torch.zeros((3, 5, 8) if batch_first else (5, 3, 8))
    assert used(lowered, lambda: lowered(inputs, inputs, inputs)) == [("in_proj", (3, 5, 8)), ("out_proj", (3, 5, 8))]


def test_other_attention_is_three_products() -> None:
    lowered = LowerMultiheadAttention().lower(nn.MultiheadAttention(8, 2, batch_first=True).eval())
    inputs, memory = torch.zeros(3, 5, 8), torch.zeros(3, 4, 8)
    assert used(lowered, lambda: lowered(inputs, memory, memory)) == [
        ("q_proj", (3, 5, 8)),
        ("k_proj", (3, 4, 8)),
        ("v_proj", (3, 4, 8)),
        ("out_proj", (3, 5, 8)),
    ]


def test_the_rest_is_plain_products_and_softmax() -> None:
    lowered = LowerMultiheadAttention().lower(nn.MultiheadAttention(8, 2).eval())
    inputs = torch.zeros(5, 3, 8)
    with Called() as called:
        lowered(inputs, inputs, inputs, need_weights=False)
    assert [name for name in called.names if name in ("linear", "matmul", "softmax")] == [
        "linear",
        "matmul",
        "softmax",
        "matmul",
        "linear",
    ]
    assert not {"scaled_dot_product_attention", "multi_head_attention_forward"} & set(called.names)


def test_products_name_the_blocks_of_their_outputs() -> None:
    lowered = LowerMultiheadAttention().lower(nn.MultiheadAttention(8, 2))
    names = {name: child.output_names for name, child in lowered.named_modules() if isinstance(child, nn.Linear)}
    assert names == {
        "in_proj": ("query", "key", "value"),
        "q_proj": ("query",),
        "k_proj": ("key",),
        "v_proj": ("value",),
        "out_proj": ("output",),
    }


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 3, "vdim": 5}, {"add_bias_kv": True}])
def test_no_parameter_is_there_twice(options: dict[str, Any]) -> None:
    module = nn.MultiheadAttention(8, 2, **options)
    lowered: Any = LowerMultiheadAttention().lower(module)
    expected = sum(parameter.numel() for parameter in module.parameters())
    separate = LowerMultiheadAttention().lower(module)
    for name in ("q_proj", "k_proj", "v_proj"):
        assert torch.equal(separate.get_submodule(name).weight, getattr(lowered, f"{name}_weight"))  # type: ignore[arg-type]
    settle_attention(separate, {"q_proj", "k_proj", "v_proj", "out_proj"})
    joined = LowerMultiheadAttention().lower(module)
    settle_attention(joined, {"in_proj", "out_proj"})
    for form in (lowered, separate, joined):
        assert sum(parameter.numel() for parameter in form.parameters()) == expected


@pytest.mark.parametrize("options", [{}, {"bias": False}])
def test_settled_attention_keeps_what_is_used_and_computes_the_same(options: dict[str, Any]) -> None:
    module = randomised(nn.MultiheadAttention(8, 2, **options), 0)
    query, memory = normal(1, 5, 3, 8), normal(2, 4, 3, 8)
    model = nn.ModuleDict({name: LowerMultiheadAttention().lower(module) for name in ("itself", "other", "both")})
    settle_attention(
        model,
        {"itself.in_proj", "other.q_proj", "other.k_proj", "other.v_proj", "both.in_proj", "both.k_proj"},
    )
    model = copy.deepcopy(model)
    assert [name for name, _ in model["itself"].named_children()] == ["in_proj", "out_proj"]
    assert [name for name, _ in model["other"].named_children()] == ["q_proj", "k_proj", "v_proj", "out_proj"]
    assert len(list(model["both"].children())) == 5
    assert not list(model["other"].buffers())
    assert_same(model["itself"](query, query, query)[0], module(query, query, query)[0])
    assert_same(model["other"](query, memory, memory)[0], module(query, memory, memory)[0])
    assert_same(model["other"](query, query, query)[0], module(query, query, query)[0])  # as three products
    with pytest.raises(InputError, match="must be one tensor"):
        model["itself"](query, memory, memory)
    for attention in model.values():
        for name in ("in_proj_weight", "in_proj_bias"):
            held, expected = getattr(attention, name), getattr(module, name)
            assert held is None if expected is None else torch.equal(held, expected)


def test_an_attention_that_is_not_used_keeps_all() -> None:
    lowered = LowerMultiheadAttention().lower(nn.MultiheadAttention(8, 2))
    settle_attention(lowered, set())
    assert len(list(lowered.children())) == 5


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 3, "vdim": 5, "add_bias_kv": True}])
def test_whoever_computes_with_the_weights_gets_what_the_original_gives(options: dict[str, Any]) -> None:
    """As models do that call torch's function with an attention's weights, by the same attributes as torch."""

    def by_hand(attention: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        separate = not attention._qkv_same_embed_dim
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight") if separate else ()
        outputs, _ = functional.multi_head_attention_forward(
            query,
            key,
            value,
            attention.embed_dim,
            attention.num_heads,
            attention.in_proj_weight,
            attention.in_proj_bias,
            attention.bias_k,
            attention.bias_v,
            attention.add_zero_attn,
            attention.dropout,
            attention.out_proj.weight,
            attention.out_proj.bias,
            training=attention.training,
            use_separate_proj_weight=separate,
            **{name: getattr(attention, name) for name in names},
        )
        return outputs

    module = randomised(nn.MultiheadAttention(8, 2, **options), 0)
    lowered: Any = LowerMultiheadAttention().lower(module)
    inputs = normal(1, 5, 3, 8), normal(2, 4, 3, module.kdim), normal(3, 4, 3, module.vdim)
    assert_same(by_hand(lowered, *inputs), by_hand(module, *inputs))
    for name in ("embed_dim", "num_heads", "head_dim", "kdim", "vdim", "batch_first", "dropout", "add_zero_attn"):
        assert getattr(lowered, name) == getattr(module, name)
    for name, value in module.named_parameters():
        held = lowered.get_parameter(name) if "out_proj" in name else getattr(lowered, name)
        assert torch.equal(held, value)


def test_a_pruned_output_projection_is_taken_as_the_original_uses_it() -> None:
    """Torch's attention reads the weight of its output projection and never calls it, so what is stale stays so."""
    module = nn.MultiheadAttention(8, 2).eval()
    prune.l1_unstructured(module, "in_proj_weight", amount=0.5)  # type: ignore[no-untyped-call]
    module.in_proj_weight_orig.data.mul_(3.0)  # type: ignore[operator]
    inputs = normal(0, 5, 3, 8, dtype=torch.float32)
    lowered = LowerMultiheadAttention().lower(module)
    assert_same(lowered(inputs, inputs, inputs)[0], module(inputs, inputs, inputs)[0].detach())


def test_a_type_with_a_forward_of_its_own_is_not_lowered() -> None:
    class Doubled(nn.MultiheadAttention):
        def forward(self, *arguments: Any, **keywords: Any) -> Any:
            outputs, weights = super().forward(*arguments, **keywords)
            return 2 * outputs, weights

    assert LowerMultiheadAttention().misfit(Doubled(8, 2)) == "has a forward of its own, not that of MultiheadAttention"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": torch.zeros(5, 8)}, "all have 2 or all have 3 dimensions, got 3, 2 and 3"),
        ({"value": torch.zeros(4, 3, 8)}, r"shape of key, \(5, 3, 8\), got \(4, 3, 8\)"),
        ({"is_causal": True}, "attn_mask must be given with is_causal"),
        ({"attn_mask": torch.zeros(1, 5)}, r"attn_mask must be of shape \(5, 5\), got \(1, 5\)"),
        ({"attn_mask": torch.zeros(3, 5, 5)}, r"attn_mask must be of shape \(6, 5, 5\), got"),
        ({"attn_mask": torch.zeros(5, 5, dtype=torch.int64)}, "boolean or floating, got torch.int64"),
        ({"key_padding_mask": torch.zeros(5, 3)}, r"key_padding_mask must be of shape \(3, 5\), got \(5, 3\)"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    lowered = LowerMultiheadAttention().lower(nn.MultiheadAttention(8, 2))
    inputs = torch.zeros(5, 3, 8)
    with pytest.raises(InputError, match=message):
        lowered(**{"query": inputs, "key": inputs, "value": inputs} | arguments)


# ------------------------------------------------------------------------------------------------ transformers


@st.composite
def layer_options(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "d_model": 8,
        "nhead": draw(st.sampled_from([1, 2, 4])),
        "dim_feedforward": draw(st.integers(1, 6)),
        "activation": draw(st.sampled_from(["relu", "gelu", functional.silu])),
        "batch_first": draw(st.booleans()),
        "norm_first": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "dropout": 0.3,
    }


def sequence(seed: int, batch: int, length: int, batch_first: bool) -> torch.Tensor:
    return normal(seed, *((batch, length) if batch_first else (length, batch)), 8)


def padding(lengths: list[int], total: int) -> torch.Tensor:
    return torch.arange(total) >= torch.tensor(lengths)[:, None]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True, but")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@settings(deadline=None, max_examples=60)
@given(
    options=layer_options(),
    layers=st.integers(1, 2),
    normalised=st.booleans(),
    lengths=st.none() | st.lists(st.integers(1, 4), min_size=2, max_size=2),
    front=st.booleans(),
    causal=st.booleans(),
    gradients=st.booleans(),
    seed=st.integers(0, 100),
)
def test_encoders_compute_the_same_with_and_without_the_fused_paths(
    options: dict[str, Any],
    layers: int,
    normalised: bool,
    lengths: list[int] | None,
    front: bool,
    causal: bool,
    gradients: bool,
    seed: int,
) -> None:
    norm = nn.LayerNorm(8) if normalised else None
    model = randomised(nn.TransformerEncoder(nn.TransformerEncoderLayer(**options), layers, norm), seed)
    lowered = replaced(model)
    inputs = sequence(seed, 2, 4, options["batch_first"])
    arguments: dict[str, Any] = {}
    if lengths is not None:
        mask = padding(lengths, 4)
        arguments["src_key_padding_mask"] = mask.flip(1) if front else mask
    if causal and not (front and lengths):  # else a row would see nothing
        arguments["mask"] = torch.ones(4, 4, dtype=torch.bool).triu(1)
        arguments["is_causal"] = True
    with torch.no_grad():
        got = lowered(inputs, **arguments)
        assert torch.equal(got, copy.deepcopy(lowered)(inputs, **arguments))
    with torch.set_grad_enabled(gradients):
        expected = model(inputs, **arguments).detach()
    if gradients and lengths is not None:  # torch makes no nested tensor then: padded positions are not zero
        kept = arguments["src_key_padding_mask"].logical_not()
        kept = kept if options["batch_first"] else kept.T
        got, expected = got[kept], expected[kept]
    assert_same(got, expected)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_padded_positions_are_zero_as_torch_leaves_them() -> None:
    """The mean over positions of a user's model sees them; torch is asked what it does, and does it."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = randomised(nn.TransformerEncoder(layer, 2), 0)
    inputs, mask = normal(1, 2, 4, 8), padding([4, 2], 4)
    with torch.no_grad():
        expected = model(inputs, src_key_padding_mask=mask)
        got = replaced(model)(inputs, src_key_padding_mask=mask)
    assert not expected[1, 2:].any()
    assert not got[1, 2:].any()
    assert got[1, :2].all()
    assert_same(got, expected)


def test_preparing_twice_is_preparing_once() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model: Any = nn.TransformerEncoder(layer, 2).eval()
    prepare_transformers(model)
    prepare_transformers(model)
    assert len(model.layers[-1]._forward_hooks) == 1


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize(
    ("front", "masked", "checked"),
    # Padding in front that is not checked for is left out: torch then mixes positions up.
    [
        (False, False, True),
        (False, False, False),
        (False, True, True),
        (False, True, False),
        (True, False, True),
        (True, True, True),
        (True, True, False),
    ],
)
def test_padded_positions_are_zero_only_where_torch_leaves_them_so(front: bool, masked: bool, checked: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = randomised(nn.TransformerEncoder(layer, 2, mask_check=checked), 0)
    mask = padding([4, 2], 4)
    arguments: dict[str, Any] = {"src_key_padding_mask": mask.flip(1) if front else mask}
    if masked:
        arguments["mask"] = torch.eye(4, dtype=torch.bool).roll(1, 0)
    inputs = normal(1, 2, 4, 8)
    with torch.no_grad():
        expected, got = model(inputs, **arguments), replaced(model)(inputs, **arguments)
    assert bool((expected[1] == 0).any()) == (not front and not masked)
    assert_same(got, expected)


def computed_by(call: Callable[[], Any]) -> set[str]:
    """Names of the operations that torch runs in a call. (A function mode or a hook would itself stop fused paths.)"""
    with torch.no_grad(), torch.profiler.profile() as profile:
        call()
    return {event.name for event in profile.events() or ()}


def test_neither_preparing_nor_replacing_alone_leaves_a_fused_path() -> None:
    """Either is enough, since an attention with a forward of its own stays, and so may a layer."""
    layer: Any = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    inputs = torch.zeros(2, 4, 8)
    fused = "aten::_transformer_encoder_layer_fwd"
    assert fused in computed_by(lambda: layer(inputs))
    prepared = copy.deepcopy(layer)
    prepare_transformers(prepared)
    assert fused not in computed_by(lambda: prepared(inputs))
    layer.self_attn = LowerMultiheadAttention().lower(layer.self_attn)
    names = computed_by(lambda: layer(inputs))
    assert fused not in names
    assert "aten::softmax" in names


@settings(deadline=None, max_examples=50)
@given(
    options=layer_options(),
    lengths=st.none() | st.lists(st.integers(1, 3), min_size=2, max_size=2),
    causal=st.booleans(),
    unbatched=st.booleans(),
    seed=st.integers(0, 100),
)
def test_decoders_compute_the_same(
    options: dict[str, Any], lengths: list[int] | None, causal: bool, unbatched: bool, seed: int
) -> None:
    model = randomised(nn.TransformerDecoder(nn.TransformerDecoderLayer(**options), 2, nn.LayerNorm(8)), seed)
    target = normal(seed, 4, 8) if unbatched else sequence(seed, 2, 4, options["batch_first"])
    memory = normal(seed + 1, 3, 8) if unbatched else sequence(seed + 1, 2, 3, options["batch_first"])
    arguments: dict[str, Any] = {}
    if lengths is not None and not unbatched:
        arguments["memory_key_padding_mask"] = padding(lengths, 3)
    if causal:
        arguments["tgt_mask"] = torch.ones(4, 4, dtype=torch.bool).triu(1)
    with torch.no_grad():
        assert_same(replaced(model)(target, memory, **arguments), model(target, memory, **arguments))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True, but")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_transformers_compute_the_same(batch_first: bool, dtype: torch.dtype) -> None:
    model = randomised(nn.Transformer(8, 2, 2, 2, 16, batch_first=batch_first), 0, dtype)
    source, target = (sequence(seed, 3, 5, batch_first).to(dtype) for seed in (1, 2))
    arguments = {
        "tgt_mask": nn.Transformer.generate_square_subsequent_mask(5, dtype=dtype),
        "src_key_padding_mask": padding([5, 3, 1], 5),
        "memory_key_padding_mask": padding([5, 3, 1], 5),
    }
    lowered = replaced(model)
    with torch.no_grad():
        assert_same(lowered(source, target, **arguments), model(source, target, **arguments))
        products = {name for name, _ in used(lowered, lambda: lowered(source, target, **arguments))}
    settle_attention(lowered, products)
    names = {name for name, module in lowered.named_modules() if isinstance(module, nn.Linear)}
    assert names == products
    assert "encoder.layers.0.self_attn.in_proj" in names
    assert "decoder.layers.1.multihead_attn.k_proj" in names
    assert "decoder.layers.1.multihead_attn.in_proj" not in names
    assert sum(p.numel() for p in lowered.parameters()) == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        assert_same(lowered(source, target, **arguments), model(source, target, **arguments))


def test_hooks_and_attributes_of_an_attention_stay() -> None:
    module = nn.MultiheadAttention(8, 2).eval()
    module.register_forward_hook(lambda _, inputs, outputs: (2 * outputs[0], outputs[1]))
    lowered = LowerMultiheadAttention().lower(module)
    inputs = normal(0, 5, 3, 8, dtype=torch.float32)
    assert_same(lowered(inputs, inputs, inputs)[0], module(inputs, inputs, inputs)[0].detach())
    assert isinstance(lowered, Attention)
    assert not lowered.training
