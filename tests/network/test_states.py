"""States that are kept from step to step: accesses counted by hand, the same on every way into the simulator."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

import xbarsim as xb
from tests.network.test_cases import DESIGN, noise, quietly_mapped, seeded
from xbarsim.foundation.validation import InputError
from xbarsim.models import Neuron, SequenceNet, liaf
from xbarsim.network import keep_state
from xbarsim.network.lowering import cells, recurrent

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS, INPUTS, UNITS = 6, 3, 5
KINDS: dict[str, tuple[Any, int]] = {"RNN": (nn.RNN, 1), "GRU": (nn.GRU, 1), "LSTM": (nn.LSTM, 2)}
"""Types of layers, and values that each keeps for one unit."""


def accesses(network: xb.MappedNetwork) -> float:
    return sum(use.state_accesses for use in network.digital_work)


class Reader(nn.Module):
    """A recurrent layer, and a linear one on its last output."""

    def __init__(self, layer: nn.Module, features: int) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.Linear(features, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x)[0][:, -1])  # type: ignore[no-any-return]


def own_type(kind: Any) -> Any:
    """A type that computes the same in a forward of its own, so that it is not taken apart."""
    return type("Own", (kind,), {"forward": lambda self, *given: kind.forward(self, *given)})


def reader(kind: str, *, digital: bool = False, **options: Any) -> nn.Module:
    """With `digital`, of a type of its own, which is left to torch."""
    layer_type, _ = KINDS[kind]
    if digital:
        layer_type = own_type(layer_type)
    directions = 2 if options.get("bidirectional") else 1
    width = options.get("proj_size") or UNITS
    return seeded(lambda: Reader(layer_type(INPUTS, UNITS, batch_first=True, **options), directions * width))


def exported(model: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "samples"}}
        example = noise(2, STEPS, INPUTS)
        torch.onnx.export(model, (example,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    return path


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [4, 67])
def test_layers_on_crossbars_in_torch_and_from_files_keep_the_same(
    kind: str, options: dict[str, Any], samples: int, tmp_path: Path
) -> None:
    """A read and a write of each state a step, whoever runs the layer, and however many samples are run at a time."""
    x = noise(samples, STEPS, INPUTS)
    lowered = quietly_mapped(reader(kind, **options), x)
    left = quietly_mapped(reader(kind, digital=True, **options), x)
    from_file = xb.map_onnx(exported(reader(kind, **options), tmp_path / "a.onnx"), DESIGN, calibration=x.numpy())
    assert len(lowered.layers) == len(from_file.layers) > len(left.layers) == 1
    layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    by_hand = 2 * STEPS * layers * UNITS * KINDS[kind][1]
    assert accesses(lowered) == accesses(left) == accesses(from_file) == by_hand
    named = {use.name for use in lowered.digital_work if use.state_accesses}
    places = [f"layer.l{n}{way}" for n in range(options.get("num_layers", 1)) for way in ("", "_reverse")]
    assert named == set(places[:: 1 if options.get("bidirectional") else 2])
    (own,) = (use for use in left.digital_work if use.state_accesses)
    assert own.name == "layer"


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("digital", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_projected_state_is_as_long_as_its_projection(layers: int, digital: bool) -> None:
    network = quietly_mapped(reader("LSTM", digital=digital, num_layers=layers, proj_size=2), noise(4, STEPS, INPUTS))
    assert accesses(network) == 2 * STEPS * layers * (UNITS + 2)
    nonlinear = sum(use.nonlinear for use in network.digital_work)
    assert nonlinear == STEPS * layers * 5 * UNITS  # gates are as many as cells, in every layer


class Packer(nn.Module):
    """A recurrent layer that is given sequences of three lengths."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.Linear(UNITS, 2)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.tensor([2, 3, STEPS])
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)
        return self.last(outputs)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
def test_padded_steps_of_packed_sequences_are_taken_on_crossbars_and_not_by_torch(kind: str) -> None:
    layer_type, states = KINDS[kind]
    for each, steps in ((layer_type, 3 * STEPS), (own_type(layer_type), 2 + 3 + STEPS)):
        model = seeded(lambda each=each: Packer(each(INPUTS, UNITS, batch_first=True)))  # type: ignore[misc]
        assert accesses(quietly_mapped(model, noise(3, STEPS, INPUTS))) == pytest.approx(2 * steps * UNITS * states / 3)


class Walker(nn.Module):
    """A cell that the model itself repeats, on half of the steps."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.last = cell, nn.Linear(UNITS, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1)[::2]:
            state = self.cell(step, state)
        return self.last(state[0] if isinstance(state, tuple) else state)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
def test_cells_keep_what_they_give_at_every_call(kind: str) -> None:
    cell_type = getattr(nn, f"{kind}Cell")
    for each in (cell_type, own_type(cell_type)):
        network = quietly_mapped(seeded(lambda each=each: Walker(each(INPUTS, UNITS))), noise(4, STEPS, INPUTS))  # type: ignore[misc]
        assert accesses(network) == 2 * (STEPS // 2) * UNITS * KINDS[kind][1]


class ByHand(nn.Module):
    """A recurrence that nothing but its author's mark tells from other loops."""

    def __init__(self, mark: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ih, self.hh, self.mark = nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, UNITS), mark

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), UNITS)
        for step in x.unbind(1):
            state = self.mark(torch.tanh(self.ih(step) + self.hh(state)))
        return state


def test_a_loop_that_is_written_by_hand_is_counted_where_it_is_marked() -> None:
    x = noise(7, STEPS, INPUTS)
    marked, plain = (quietly_mapped(seeded(lambda mark=mark: ByHand(mark)), x) for mark in (keep_state, torch.detach))  # type: ignore[misc]
    assert (accesses(marked), accesses(plain)) == (2 * STEPS * UNITS, 0)
    assert torch.equal(marked.digital(x), plain.digital(x))
    assert {use.kind for use in marked.digital_work} == {"add", "tanh", "keep_state"}
    assert not any("not counted" in note for note in marked.notes)


@pytest.mark.parametrize("fire", ["lif", "relu1"])
def test_recurrent_neurons_keep_membranes_and_what_was_sent(fire: Any) -> None:
    x = noise(5, STEPS, INPUTS)
    network = quietly_mapped(seeded(lambda: SequenceNet(fire, inputs=INPUTS, units=UNITS, classes=2)), x)
    assert accesses(network) == 2 * STEPS * 2 * UNITS
    price = network.cost(xb.cost.Hardware.load("isaac2016").with_digital("horowitz2014"))
    work = price.workload()
    digital = {each.name: each.energy for each in work.components if each.level == "digital"}
    card = price.hardware.digital
    assert card is not None
    one = card.energy("state_accesses", price.hardware.technology_node.si)
    assert one is not None
    assert digital["state-accesses"] == pytest.approx(2 * STEPS * 2 * UNITS * one, rel=1e-12)


# --- nothing else changes


class Calls(TorchFunctionMode):
    """Counts calls of `keep_state`, and marks the tensors that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        if function is keep_state:
            self.shapes.append(tuple(arguments[0].shape))
        return function(*arguments, **(keywords or {}))


def test_a_state_is_the_tensor_itself_with_and_without_a_mode() -> None:
    state = noise(2, 3).requires_grad_()
    assert keep_state(state) is state
    with Calls() as calls:
        assert keep_state(state) is state
    assert calls.shapes == [(2, 3)]
    (2 * keep_state(state)).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(state.grad, torch.full((2, 3), 2.0))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="state must be of type Tensor, got 3 of type int"):
        keep_state(3)  # type: ignore[arg-type]


def test_a_mark_stands_in_a_traced_graph() -> None:
    graph = fx.symbolic_trace(lambda x: keep_state(x + 1)).graph
    assert [node.target for node in graph.nodes if node.op == "call_function"][1] is keep_state


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "LIF": (lambda: Neuron("lif"), STEPS),
    "SELU": (lambda: Neuron("selu", threshold_related=True), STEPS),
    "recurrent LIF": (lambda: SequenceNet("lif", inputs=INPUTS, units=UNITS), 2 * STEPS),
    "recurrent sigmoid": (lambda: SequenceNet("sigmoid", inputs=INPUTS, units=UNITS, norm=True), 2 * STEPS),
    "RNN": (lambda: recurrent.LowerRNN().lower(nn.RNN(INPUTS, UNITS, batch_first=True)), STEPS),
    "GRU": (lambda: recurrent.LowerGRU().lower(nn.GRU(INPUTS, UNITS, batch_first=True)), STEPS),
    "LSTM": (lambda: recurrent.LowerLSTM().lower(nn.LSTM(INPUTS, UNITS, batch_first=True)), 2 * STEPS),
    "LSTM cell": (lambda: Walker(cells.LowerLSTMCell().lower(nn.LSTMCell(INPUTS, UNITS))), STEPS),
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_bit_for_bit_those_of_a_model_without_marks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, marks = MODELS[name]
    model, x = seeded(make), noise(4, STEPS, INPUTS)

    def run() -> list[npt.NDArray[np.float32]]:
        with torch.no_grad():
            answer = model(x)
        tensors = [answer] if isinstance(answer, Tensor) else [answer[0], *answer[1]]
        return [each.numpy() for each in tensors]

    marked = run()
    with Calls() as calls:
        watched = run()
    assert len(calls.shapes) == marks
    for module in (liaf, recurrent, cells):
        monkeypatch.setattr(module, "keep_state", lambda state: state)
    plain = run()
    with Calls() as calls:
        run()
    assert not calls.shapes
    for one, other, third in zip(marked, watched, plain, strict=True):
        np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))
        np.testing.assert_array_equal(one.view(np.uint32), third.view(np.uint32))
