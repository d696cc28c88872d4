"""Recurrent layers and cells as products and gates: equal to torch's in every option."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.cells import LowerGRUCell, LowerLSTMCell, LowerRNNCell
from xbarsim.network.lowering.gates import Gates, gate_table
from xbarsim.network.lowering.recurrent import LowerGRU, LowerLSTM, LowerRecurrent, LowerRNN
from xbarsim.network.lowering.replacement import linear

# Both precisions compute each sum in another order than torch's fused functions, hence not bit for bit.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}

LAYERS: dict[str, tuple[Any, type[LowerRecurrent]]] = {
    "RNN": (nn.RNN, LowerRNN),
    "LSTM": (nn.LSTM, LowerLSTM),
    "GRU": (nn.GRU, LowerGRU),
}
CELLS: dict[str, tuple[Any, type[LowerRecurrent]]] = {
    "RNNCell": (nn.RNNCell, LowerRNNCell),
    "LSTMCell": (nn.LSTMCell, LowerLSTMCell),
    "GRUCell": (nn.GRUCell, LowerGRUCell),
}


def assert_same(got: Any, expected: Any, dtype: torch.dtype) -> None:
    """Tensors, packed sequences and tuples of them, equal to the tolerance of the precision, in the same layout."""
    assert type(got) is type(expected)
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], equal_nan=True)
    elif expected is not None:
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other, dtype)


def randomised(module: nn.Module, seed: int, dtype: torch.dtype) -> Any:
    """The module in evaluation mode, with weights of the seed."""
    generator = torch.Generator().manual_seed(seed)
    module = module.to(dtype).eval()
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=dtype) * 0.5
    return module


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@st.composite
def layers(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A kind of layer and its options."""
    kind = draw(st.sampled_from(sorted(LAYERS)))
    options: dict[str, Any] = {
        "input_size": draw(st.integers(1, 5)),
        "hidden_size": draw(st.integers(1, 5)),
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.5])),
    }
    if kind == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if kind == "LSTM" and options["hidden_size"] > 1:
        options["proj_size"] = draw(st.integers(0, options["hidden_size"] - 1))
    return kind, options


def build(kind: str, options: dict[str, Any], seed: int, dtype: torch.dtype) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="dropout option adds dropout")
        return randomised(LAYERS[kind][0](**options), seed, dtype)


def first_states(kind: str, options: dict[str, Any], batch: int | None, seed: int, dtype: torch.dtype) -> Any:
    rows = options["num_layers"] * (2 if options["bidirectional"] else 1)
    samples = () if batch is None else (batch,)
    hidden = normal(seed, rows, *samples, options.get("proj_size") or options["hidden_size"], dtype=dtype)
    if kind != "LSTM":
        return hidden
    return hidden, normal(seed + 1, rows, *samples, options["hidden_size"], dtype=dtype)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@settings(deadline=None, max_examples=150)
@given(
    layer=layers(),
    combined=st.booleans(),
    batch=st.none() | st.integers(1, 3),
    steps=st.integers(1, 4),
    with_state=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_layers_compute_what_torchs_do(
    layer: tuple[str, dict[str, Any]],
    combined: bool,
    batch: int | None,
    steps: int,
    with_state: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    kind, options = layer
    module = build(kind, options, seed, dtype)
    before = copy.deepcopy(module.state_dict())
    lowered = LAYERS[kind][1](combined=combined).lower(module)
    samples = () if batch is None else (batch,)
    shape = (*samples, steps) if options["batch_first"] else (steps, *samples)
    inputs = normal(seed, *shape, options["input_size"], dtype=dtype)
    state = first_states(kind, options, batch, seed, dtype) if with_state else None
    with torch.no_grad():
        expected = module(inputs, state)
        got = lowered(inputs, state)
        again = copy.deepcopy(lowered)(input=inputs, hx=state)
    assert_same(got, expected, dtype)
    assert got[0].is_contiguous()  # a model may call view on it, as it may on torch's
    for one, other in zip(torch.utils._pytree.tree_leaves(got), torch.utils._pytree.tree_leaves(again), strict=True):
        assert torch.equal(one, other)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@settings(deadline=None, max_examples=150)
@given(
    layer=layers(),
    combined=st.booleans(),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    enforce_sorted=st.booleans(),
    with_state=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_packed_sequences_give_what_torch_gives(
    layer: tuple[str, dict[str, Any]],
    combined: bool,
    lengths: list[int],
    enforce_sorted: bool,
    with_state: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    kind, options = layer
    module = build(kind, options, seed, dtype)
    lowered = LAYERS[kind][1](combined=combined).lower(module)
    lengths = sorted(lengths, reverse=True) if enforce_sorted else lengths
    padded = normal(seed, len(lengths), max(lengths), options["input_size"], dtype=dtype)
    inputs = pack_padded_sequence(padded, torch.tensor(lengths), batch_first=True, enforce_sorted=enforce_sorted)
    state = first_states(kind, options, len(lengths), seed, dtype) if with_state else None
    with torch.no_grad():
        expected, got = module(inputs, state), lowered(inputs, state)
    assert isinstance(got[0], PackedSequence)
    assert_same(tuple(got[0]), tuple(expected[0]), dtype)
    assert_same(got[1], expected[1], dtype)
    assert_same(pad_packed_sequence(got[0]), pad_packed_sequence(expected[0]), dtype)


def test_a_sequence_in_a_pack_gives_what_it_gives_alone() -> None:
    """Not asking torch: what stands behind the end of a sequence changes nothing, in either direction."""
    lowered: Any = LowerGRU().lower(randomised(nn.GRU(3, 4, 2, bidirectional=True, batch_first=True), 1, torch.float64))
    long, short = normal(2, 5, 3), normal(3, 2, 3)
    packed = nn.utils.rnn.pack_sequence([short, long], enforce_sorted=False)
    outputs, state = lowered(packed)
    alone_outputs, alone_state = lowered(short)
    assert_same(pad_packed_sequence(outputs, batch_first=True)[0][0, :2], alone_outputs, torch.float64)
    assert_same(state[:, 0], alone_state, torch.float64)


@settings(deadline=None, max_examples=100)
@given(
    kind=st.sampled_from(sorted(CELLS)),
    nonlinearity=st.sampled_from(["tanh", "relu"]),
    bias=st.booleans(),
    combined=st.booleans(),
    batch=st.none() | st.integers(1, 3),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    with_state=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_cells_compute_what_torchs_do(
    kind: str,
    nonlinearity: str,
    bias: bool,
    combined: bool,
    batch: int | None,
    sizes: tuple[int, int],
    with_state: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    options = {"nonlinearity": nonlinearity} if kind == "RNNCell" else {}
    module = randomised(CELLS[kind][0](*sizes, bias=bias, **options), seed, dtype)
    lowered = CELLS[kind][1](combined=combined).lower(module)
    samples = () if batch is None else (batch,)
    inputs = normal(seed, *samples, sizes[0], dtype=dtype)
    states = [normal(seed + number, *samples, sizes[1], dtype=dtype) for number in (1, 2)]
    state: Any = (tuple(states) if kind == "LSTMCell" else states[0]) if with_state else None
    with torch.no_grad():
        expected, got = module(inputs, state), copy.deepcopy(lowered)(inputs, state)
    assert_same(got, expected, dtype)


def called(module: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    """A list that each call of a linear layer in the module enters, with the shape of its activations."""
    calls: list[tuple[str, tuple[int, ...]]] = []
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear):
            child.register_forward_hook(lambda _, inputs, __, name=name: calls.append((name, tuple(inputs[0].shape))))
    return calls


@pytest.mark.parametrize("batch_first", [False, True])
def test_inputs_of_all_steps_are_one_product_with_the_samples_first(batch_first: bool) -> None:
    lowered = LowerLSTM().lower(nn.LSTM(3, 4, bidirectional=True, batch_first=batch_first, proj_size=2).eval())
    calls = called(lowered)
    lowered(torch.zeros((5, 7, 3) if batch_first else (7, 5, 3)))
    each_way = [("hh", (5, 2)), ("hr", (5, 4))] * 7
    assert calls == [
        (f"{layer}.{name}", shape) for layer in ("l0", "l0_reverse") for name, shape in [("ih", (5, 7, 3)), *each_way]
    ]


def test_combined_is_one_product_a_step_on_inputs_and_state() -> None:
    lowered = LowerGRU(combined=True).lower(nn.GRU(3, 4).eval())
    calls = called(lowered)
    lowered(torch.zeros(7, 5, 3))
    assert calls == [("l0.ih_hh", (5, 7))] * 7


def test_what_stands_behind_the_end_of_a_sequence_is_zero_in_every_layer() -> None:
    """So that ranges and counts of clipped inputs of upper layers are not those of states that stand still."""
    lowered: Any = LowerGRU().lower(randomised(nn.GRU(2, 3, 2, bidirectional=True), 0, torch.float64))
    seen: list[torch.Tensor] = []
    for layer in (lowered.l0, lowered.l1, lowered.l1_reverse):
        layer.ih.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    packed = nn.utils.rnn.pack_sequence([normal(0, 2, 2), normal(1, 5, 2)], enforce_sorted=False)
    lowered(packed)
    assert [tuple(inputs.shape[:2]) for inputs in seen] == [(2, 5)] * 3
    for inputs in seen:
        assert not inputs[0, 2:].any()
        assert inputs[0, :2].all()
        assert inputs[1].all()


@pytest.mark.parametrize(
    ("lowering", "module", "limit"),
    [
        (LowerRNN(), nn.RNN(2, 3), 1.0),
        (LowerRNN(), nn.RNN(2, 3, nonlinearity="relu"), None),
        (LowerLSTM(), nn.LSTM(2, 3), 1.0),
        (LowerLSTM(), nn.LSTM(2, 3, proj_size=2), None),
        (LowerGRU(gate_bits=3), nn.GRU(2, 3), 1.0),
    ],
)
def test_the_limit_of_hidden_states_is_kept_where_one_is_named(
    lowering: LowerRecurrent, module: Any, limit: float | None
) -> None:
    lowered: Any = lowering.lower(module)
    assert lowered.l0.hh.input_limit == limit
    for parameter in lowered.parameters():
        parameter.data *= 30  # far outside of the gates' linear ranges
    outputs, _ = lowered(10 * normal(0, 20, 5, 2, dtype=torch.float32))
    assert (outputs.abs().max() <= 1.0) == (limit is not None)


def test_both_biases_stay_with_their_products() -> None:
    module: Any = nn.LSTM(3, 4)
    lowered: Any = LowerLSTM().lower(module)
    assert torch.equal(lowered.l0.ih.bias, module.bias_ih_l0)
    assert torch.equal(lowered.l0.hh.bias, module.bias_hh_l0)
    assert torch.equal(lowered.l0.ih.weight, module.weight_ih_l0)
    assert torch.equal(lowered.l0.hh.weight, module.weight_hh_l0)


def test_a_combined_gru_keeps_the_parts_of_its_new_state_apart() -> None:
    module: Any = nn.GRU(2, 3)
    lowered: Any = LowerGRU(combined=True).lower(module)
    matrix, bias = lowered.l0.ih_hh.weight, lowered.l0.ih_hh.bias
    assert matrix.shape == (12, 5)
    assert torch.equal(matrix[:6], torch.cat([module.weight_ih_l0[:6], module.weight_hh_l0[:6]], dim=1))
    assert torch.equal(matrix[6:9, :2], module.weight_ih_l0[6:])
    assert torch.equal(matrix[9:, 2:], module.weight_hh_l0[6:])
    assert not matrix[6:9, 2:].any()
    assert not matrix[9:, :2].any()
    assert torch.equal(bias[:6], module.bias_ih_l0[:6] + module.bias_hh_l0[:6])
    assert torch.equal(bias[6:], torch.cat([module.bias_ih_l0[6:], module.bias_hh_l0[6:]]))


@pytest.mark.parametrize(
    ("lowering", "module", "names"),
    [
        (LowerRNN(), nn.RNN(2, 3), {"l0.ih": ("hidden",), "l0.hh": ("hidden",)}),
        (
            LowerLSTM(),
            nn.LSTM(2, 3, proj_size=1),
            {
                "l0.ih": ("input", "forget", "cell", "output"),
                "l0.hh": ("input", "forget", "cell", "output"),
                "l0.hr": ("projection",),
            },
        ),
        (LowerGRU(), nn.GRU(2, 3), {"l0.ih": ("reset", "update", "new"), "l0.hh": ("reset", "update", "new")}),
        (LowerGRU(combined=True), nn.GRU(2, 3), {"l0.ih_hh": ("reset", "update", "new_input", "new_hidden")}),
        (LowerRNNCell(combined=True), nn.RNNCell(2, 3), {"ih_hh": ("hidden",)}),
        (
            LowerLSTMCell(),
            nn.LSTMCell(2, 3),
            {"ih": ("input", "forget", "cell", "output"), "hh": ("input", "forget", "cell", "output")},
        ),
        (LowerGRUCell(), nn.GRUCell(2, 3), {"ih": ("reset", "update", "new"), "hh": ("reset", "update", "new")}),
    ],
)
def test_products_name_the_blocks_of_their_outputs(
    lowering: LowerRecurrent, module: nn.Module, names: dict[str, tuple[str, ...]]
) -> None:
    products = {name: child for name, child in lowering.lower(module).named_modules() if isinstance(child, nn.Linear)}
    assert {name: product.output_names for name, product in products.items()} == names
    for product in products.values():
        assert type(product) is nn.Linear
        assert product.out_features % len(product.output_names) == 0  # type: ignore[arg-type]


def test_the_forget_block_is_the_forget_gate() -> None:
    """Not asking torch's order: with the forget gate shut and the others open, the cell state is forgotten."""
    lowered: Any = LowerLSTM().lower(randomised(nn.LSTM(1, 1), 0, torch.float64))
    place = lowered.l0.ih.output_names.index("forget")
    lowered.l0.ih.bias.data[place] = -100.0
    inputs = normal(0, 1, 1, 1)
    hidden = torch.zeros(1, 1, 1, dtype=torch.float64)
    assert_same(lowered(inputs, (hidden, hidden + 5.0)), lowered(inputs, (hidden, hidden)), torch.float64)


@pytest.mark.parametrize("combined", [False, True])
def test_models_read_what_they_read_of_the_original(combined: bool) -> None:
    class Own(nn.LSTM):
        def zeros(self, batch: int) -> torch.Tensor:
            return torch.zeros(self.num_layers, batch, self.hidden_size)

    module = Own(2, 3, 2, batch_first=True, bidirectional=True, proj_size=1).eval()
    module.comment = "mine"
    lowered: Any = copy.deepcopy(LowerLSTM(combined=combined).lower(module))
    for name in ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "proj_size"):
        assert getattr(lowered, name) == getattr(module, name)
    assert lowered.comment == "mine"
    assert lowered.zeros(4).shape == (2, 4, 3)
    lowered.flatten_parameters()
    for name, value in module.named_parameters():
        assert torch.equal(getattr(lowered, name), value)
    for ours, theirs in zip(lowered.all_weights, module.all_weights, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)
    assert len(lowered._flat_weights) == len(module._flat_weights)
    assert not hasattr(lowered, "weight_ih_l5")
    assert not hasattr(lowered, "nothing_like_it")
    assert not lowered.training


@pytest.mark.parametrize("combined", [False, True])
def test_cells_answer_with_the_weights_of_the_original(combined: bool) -> None:
    module = nn.GRUCell(2, 3)
    lowered: Any = LowerGRUCell(combined=combined).lower(module)
    for name, value in module.named_parameters():
        assert torch.equal(getattr(lowered, name), value)
    assert LowerGRUCell(combined=combined).lower(nn.GRUCell(2, 3, bias=False)).bias_ih is None
    assert (lowered.input_size, lowered.hidden_size) == (2, 3)


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_no_parameter_is_there_twice(kind: str) -> None:
    module = LAYERS[kind][0](2, 3, 2, bidirectional=True)
    lowered = LAYERS[kind][1]().lower(module)
    assert sum(p.numel() for p in lowered.parameters()) == sum(p.numel() for p in module.parameters())
    assert not list(lowered.buffers())


def test_the_replacement_shares_no_memory_with_the_original() -> None:
    module: Any = nn.LSTM(2, 3)
    lowered: Any = LowerLSTM().lower(module)
    with torch.no_grad():
        lowered.l0.ih.weight.add_(1.0)
        lowered.l0.hh.bias.add_(1.0)
    assert not torch.equal(lowered.l0.ih.weight, module.weight_ih_l0)
    assert not torch.equal(lowered.l0.hh.bias, module.bias_hh_l0)


def test_lowering_draws_no_random_numbers() -> None:
    module = nn.LSTM(2, 3)
    before = torch.get_rng_state()
    LowerLSTM().lower(module)
    assert torch.equal(torch.get_rng_state(), before)


def test_forward_hooks_stay() -> None:
    module = nn.GRU(2, 3).eval()
    module.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))
    module.register_forward_hook(lambda _, inputs, keywords, outputs: (outputs[0] + 1, outputs[1]), with_kwargs=True)
    inputs = torch.ones(4, 1, 2)
    assert_same(LowerGRU().lower(module)(inputs), module(inputs), torch.float32)


def weight_norm(module: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        nn.utils.weight_norm(module, "weight_hh_l0")
    module.weight_hh_l0_g.data.mul_(3.0)


def pruned(module: Any) -> None:
    prune.l1_unstructured(module, "weight_hh_l0", amount=0.5)  # type: ignore[no-untyped-call]
    module.weight_hh_l0_orig.data.mul_(3.0)


def parametrised(module: Any) -> None:
    parametrizations.weight_norm(module, "weight_hh_l0")


def spectral_norm(module: Any) -> None:
    nn.utils.spectral_norm(module, "weight_hh_l0")


@pytest.mark.parametrize("compute", [weight_norm, pruned, parametrised, spectral_norm])
def test_weights_that_are_computed_are_taken_as_the_next_call_would(compute: Any) -> None:
    """The attribute holds what the last call computed, so it is stale after the weights behind it have changed."""
    module = nn.LSTM(2, 3)
    compute(module)
    module.eval()
    assert LowerLSTM().misfit(module) is None
    lowered = LowerLSTM().lower(module)
    inputs = normal(0, 4, 1, 2, dtype=torch.float32)
    assert_same(lowered(inputs), module(inputs), torch.float32)


def test_a_type_with_a_forward_of_its_own_is_not_lowered() -> None:
    class Doubled(nn.GRU):
        def forward(self, input: Any, hx: Any = None) -> Any:
            outputs, state = super().forward(input, hx)
            return 2 * outputs, state

    assert LowerGRU().misfit(Doubled(2, 3)) == "has a forward of its own, not that of GRU"
    patched: Any = nn.GRU(2, 3)
    patched.forward = lambda input, hx=None: (input, hx)
    assert LowerGRU().misfit(patched) is not None
    assert LowerGRU().misfit(nn.GRU(2, 3)) is None


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (LowerGRU().lower(nn.GRU(2, 3)), (torch.zeros(4, 1, 5),), "last dimension of input must be 2, got 5"),
        (LowerGRU().lower(nn.GRU(2, 3)), (torch.zeros(2),), "2 or 3 dimensions, got 1"),
        (LowerGRU().lower(nn.GRU(2, 3)), (torch.zeros(0, 1, 2),), "at least one time step"),
        (LowerGRU().lower(nn.GRU(2, 3)), (torch.zeros(4, 2, 2), torch.zeros(1, 1, 3)), r"shape \(1, 2, 3\), got"),
        (LowerLSTM().lower(nn.LSTM(2, 3)), (torch.zeros(4, 2, 2), (torch.zeros(1, 2, 3),)), "hold 2 tensors, got 1"),
        (LowerGRUCell().lower(nn.GRUCell(2, 3)), (torch.zeros(4, 5),), "last dimension of input must be 2, got 5"),
        (LowerGRUCell().lower(nn.GRUCell(2, 3)), (torch.zeros(1, 4, 2),), "1 or 2 dimensions, got 3"),
        (LowerGRUCell().lower(nn.GRUCell(2, 3)), (torch.zeros(4, 2), torch.zeros(1, 3)), r"shape \(4, 3\), got"),
    ],
)
def test_wrong_shapes_are_refused(module: nn.Module, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        module(*arguments)


# ------------------------------------------------------------------------------------------------------- gates


@given(
    function=st.sampled_from(["sigmoid", "tanh"]),
    bits=st.integers(2, 16),
    value=st.floats(-20, 20) | st.floats(allow_nan=False, allow_infinity=True),
)
def test_a_table_is_as_near_to_its_function_as_it_says(function: str, bits: int, value: float) -> None:
    table = gate_table(function, bits)
    exact = expit(value) if function == "sigmoid" else np.tanh(value)
    assert abs(table(np.array(value)) - exact) <= table.error_bound * (1 + 1e-12)


@pytest.mark.parametrize(("function", "bound"), [("sigmoid", 0.01), ("tanh", 0.0198)])
def test_the_bound_of_eight_bits_is_the_stated_one_and_nearly_reached(function: str, bound: float) -> None:
    table = gate_table(function, 8)
    values = np.linspace(-10, 10, 200001)
    exact = expit(values) if function == "sigmoid" else np.tanh(values)
    largest = np.abs(table(values) - exact).max()
    assert table.error_bound == pytest.approx(bound, rel=0.02)
    assert largest > 0.8 * table.error_bound


@given(function=st.sampled_from(["sigmoid", "tanh"]), bits=st.integers(2, 12))
def test_tables_hold_codes_of_their_bits_and_are_odd(function: str, bits: int) -> None:
    table = gate_table(function, bits)
    codes = table.entries / table.output_step
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-9)
    assert len(table.entries) == 2**bits - 1
    assert len(np.unique(np.rint(codes))) <= 2**bits
    assert (np.diff(table.entries) >= 0).all()
    if function == "tanh":
        np.testing.assert_array_equal(table.entries, -table.entries[::-1])  # zero gives zero


@settings(deadline=None)
@given(function=st.sampled_from(["sigmoid", "tanh"]), bits=st.integers(2, 12), seed=st.integers(0, 1000))
def test_torch_looks_up_what_the_table_holds(function: str, bits: int, seed: int) -> None:
    values = torch.cat([3 * normal(seed, 50), torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0])])
    for dtype in (torch.float64, torch.float32):
        got = getattr(Gates(bits), function)(values.to(dtype))
        assert got.dtype == dtype
        np.testing.assert_array_equal(got.numpy(), gate_table(function, bits)(values.to(dtype).numpy()))


@pytest.mark.parametrize("bits", [1, 17])
def test_tables_of_other_bits_are_refused(bits: int) -> None:
    with pytest.raises(InputError, match="gate_bits must be"):
        LowerLSTM(gate_bits=bits)


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_more_gate_bits_come_nearer_to_the_exact_layer(kind: str) -> None:
    module = randomised(LAYERS[kind][0](4, 6, batch_first=True), 5, torch.float64)
    inputs = normal(1, 8, 10, 4)
    exact = module(inputs)[0]
    errors = [
        (LAYERS[kind][1](gate_bits=bits).lower(module)(inputs)[0] - exact).abs().mean().item() for bits in (4, 8, 12)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0


def test_a_rectifier_needs_no_table() -> None:
    module = randomised(nn.RNN(4, 6, nonlinearity="relu"), 5, torch.float64)
    inputs = normal(1, 8, 2, 4)
    assert_same(LowerRNN(gate_bits=2).lower(module)(inputs), module(inputs), torch.float64)


def test_outputs_of_a_table_are_on_its_grid() -> None:
    """A GRU's first state from zeros is (1 - z) n with both from tables."""
    lowered: Any = LowerGRU(gate_bits=3).lower(randomised(nn.GRU(2, 3), 0, torch.float64))
    outputs, _ = lowered(normal(0, 1, 1, 2))
    product = (outputs * 7 * 3).numpy()  # steps of 1/7 and 1/3
    np.testing.assert_allclose(product, np.rint(product), atol=1e-9)


def test_a_linear_layer_without_a_bias_has_none() -> None:
    assert linear(torch.ones(2, 3), None, ("a", "b")).bias is None
