"""Neurons with time: what they send, how they learn, and that ideal chips of them are the quantised networks."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import xbarsim as xb
from tests.network.test_cases import noise, seeded
from xbarsim.cost import OPERATIONS
from xbarsim.devices import Cell
from xbarsim.foundation.validation import InputError
from xbarsim.models import EventNet, LiafLayer, Neuron, RecurrentLiaf, SequenceNet
from xbarsim.network import MappedNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

FIRES: tuple[Any, ...] = ("lif", "selu", "relu", "relu1", "sigmoid")
STEPS = 4


def design(input_bits: int = 4, **periphery: Any) -> xb.Design:
    return xb.Design(
        cell=Cell(g_min=1e-6, g_max=1e-4, levels=16, read_voltage=0.2),
        mapping=xb.Mapping(rows=64, columns=64, weight_bits=8, cell_bits=4),
        periphery=xb.Periphery(input_bits=input_bits, **periphery),
    )


def events(samples: int, seed: int = 0, size: int = 8) -> Tensor:
    return (noise(samples, STEPS, 2, size, size, seed=seed) > 0.7).float()


def event_net(fire: Any, **neuron: Any) -> nn.Module:
    """A small network of events whose batch norms have statistics and weights of their own."""
    model = seeded(lambda: EventNet(fire, size=8, channels=(2, 4, 5), classes=3, **neuron))
    for number, norm in enumerate(each for each in model.modules() if isinstance(each, nn.BatchNorm2d)):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(0.2 * noise(norm.num_features, seed=number))
        norm.running_var.copy_(0.5 + noise(norm.num_features, seed=number + 9).abs())
    return model


def sent(
    currents: npt.NDArray[np.float64], fire: str, threshold: float, leak: float, related: bool
) -> npt.NDArray[np.float64]:
    """The equations, neuron by neuron and step by step."""
    outputs = np.zeros_like(currents)
    for index in np.ndindex(currents.shape[:1] + currents.shape[2:]):
        membrane = 0.0
        for time in range(currents.shape[1]):
            place = (index[0], time, *index[1:])
            potential = membrane + currents[place]
            fired = potential > threshold
            u = potential - threshold if related else potential
            outputs[place] = {
                "lif": float(fired),
                "selu": 1.0507009873554805 * (u if u > 0 else 1.6732632423543772 * math.expm1(u)),
                "relu": max(u, 0.0),
                "relu1": min(max(u, 0.0), 1.0),
                "sigmoid": 1 / (1 + math.exp(-u)),
            }[fire]
            membrane = 0.0 if fired else leak * potential
    return outputs


# --- what a neuron does


@settings(max_examples=60)
@given(
    fire=st.sampled_from(FIRES),
    threshold=st.floats(-1, 2),
    leak=st.floats(0, 1),
    related=st.booleans(),
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
def test_neurons_follow_their_equations(
    fire: Any, threshold: float, leak: float, related: bool, shape: list[int], seed: int
) -> None:
    currents = np.random.default_rng(seed).normal(0, 1, (2, 5, *shape))
    neuron = Neuron(fire, threshold=threshold, leak=leak, threshold_related=related)
    found = neuron(torch.from_numpy(currents)).numpy()
    np.testing.assert_allclose(found, sent(currents, fire, threshold, leak, related), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fire", FIRES)
def test_training_sends_what_evaluation_sends(fire: Any) -> None:
    currents = noise(3, 6, 4)
    neuron = Neuron(fire)
    assert torch.equal(neuron(currents.clone().requires_grad_()).detach(), neuron(currents))


def test_a_membrane_that_spikes_is_empty_and_one_that_does_not_leaks() -> None:
    neuron = Neuron("lif", threshold=1.0, leak=0.25)
    spikes, left = neuron.step(torch.tensor([[0.5, 0.8, 1.0]]), torch.tensor([[0.25, 0.25, 0.0]]))
    assert spikes.tolist() == [[0.0, 1.0, 0.0]]  # at the threshold there is no spike
    torch.testing.assert_close(left, torch.tensor([[0.1875, 0.0, 0.25]]))


@pytest.mark.parametrize("fire", FIRES)
def test_every_call_starts_from_empty_membranes_and_samples_are_independent(fire: Any) -> None:
    model = event_net(fire)
    x = events(5)
    with torch.no_grad():
        whole = model(x)
        assert torch.equal(model(x), whole)
        alone = torch.cat([model(x[index : index + 1]) for index in range(5)])
    torch.testing.assert_close(alone, whole, rtol=1e-5, atol=1e-6)


def test_what_is_sent_before_an_event_does_not_know_of_it() -> None:
    layer = seeded(lambda: RecurrentLiaf(3, 4, Neuron("relu1", leak=0.9)))
    x = noise(2, 6, 3)
    later = x.clone()
    later[:, 4] += 1.0
    with torch.no_grad():
        before, after = layer(x), layer(later)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


def test_answers_are_averaged_over_time_or_those_of_the_last_step() -> None:
    x = noise(3, 6, 7)
    for last in (False, True):
        net: Any = seeded(partial(SequenceNet, "relu1", inputs=7, units=9, classes=3, bias=False, last=last))
        with torch.no_grad():
            steps = torch.stack([net.classifier(sent) for sent in net.recurrent(x).unbind(1)], dim=1)
            torch.testing.assert_close(net(x), steps[:, -1] if last else steps.mean(dim=1), rtol=1e-5, atol=1e-6)
        assert net.recurrent.product.bias is None


# --- how it learns


def slope(above: float, surrogate: str, width: float) -> float:
    if surrogate == "rectangle":
        return float(abs(above) < width) / (2 * width)
    return math.exp(-((above / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))


@pytest.mark.parametrize(("surrogate", "width"), [("rectangle", None), ("rectangle", 0.3), ("gaussian", None)])
def test_the_gradient_of_a_spike_is_the_surrogate_through_the_leak_and_not_through_the_reset(
    surrogate: Any, width: float | None
) -> None:
    used = width or (0.5 if surrogate == "rectangle" else 1.0)
    for first, second in ((0.4, 0.2), (0.9, 0.7), (-0.3, 0.1), (0.45, 0.9)):
        currents = torch.tensor([[[first], [second]]], dtype=torch.float64, requires_grad=True)
        spike: Any = Neuron("lif", leak=0.5, surrogate=surrogate, width=width)(currents)[0, 1].sum()
        spike.backward()
        fired = first > 0.5
        potential = second + (0.0 if fired else 0.5 * first)
        of_second = slope(potential - 0.5, surrogate, used)
        assert currents.grad is not None
        # where the first step fired, the membrane passed nothing on, and the reset has no slope of its own
        expected = [0.0 if fired else 0.5 * of_second, of_second]
        torch.testing.assert_close(currents.grad[0, :, 0], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("fire", FIRES)
def test_gradients_reach_every_weight(fire: Any) -> None:
    x = events(6)
    nets = (
        seeded(lambda: EventNet(fire, size=8, channels=(2, 4, 5), classes=3)).train(),
        seeded(lambda: SequenceNet(fire, inputs=128, units=7, classes=3)).train(),
    )
    for model, inputs in zip(nets, (x, x.flatten(2)), strict=True):
        nn.functional.cross_entropy(model(inputs), torch.arange(6) % 3).backward()  # type: ignore[no-untyped-call]
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


# --- on crossbars


class StepByStep(nn.Module):
    """The same network of events, each layer used once a step."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.layers, self.classifier = net.layers, net.classifier

    def forward(self, frames: Tensor) -> Tensor:
        states: list[Any] = [None] * len(self.layers)
        total: Any = 0
        for time in range(frames.shape[1]):
            x = frames[:, time]
            for number, layer in enumerate(self.layers):
                parts: Any = layer
                current = parts.norm(parts.product(x))
                before = torch.zeros_like(current) if time == 0 else states[number]
                x, states[number] = parts.neuron.step(current, before)
                x = parts.pool(x)
            total = total + self.classifier(x.flatten(1))
        result: Tensor = total / frames.shape[1]
        return result


@pytest.mark.filterwarnings("ignore::xbarsim.network.NotMappedWarning")  # norms of the loop cannot be folded
@pytest.mark.parametrize("fire", FIRES)
def test_steps_at_once_are_steps_one_by_one(fire: Any) -> None:
    """In floating point, and on crossbars: the same vectors, each as often."""
    model, x = event_net(fire), events(6)
    one_by_one = StepByStep(model).eval()
    with torch.no_grad():
        torch.testing.assert_close(one_by_one(x), model(x), rtol=1e-5, atol=1e-6)
    at_once, apart = (xb.map_model(each, design(), calibration=x) for each in (model, one_by_one))
    for name, layer in at_once.layers.items():
        other = apart.layers[name]
        assert layer.vectors_per_image == other.vectors_per_image
        assert layer.drive == other.drive
    assert at_once.layers["layers.0.product"].vectors_per_image == STEPS * 8 * 8
    assert at_once.layers["classifier"].vectors_per_image == STEPS
    if fire == "lif":  # the one whose ranges do not come from sums
        assert torch.equal(apart.digital(x) > 0, at_once.digital(x) > 0)


def assert_ideal(network: MappedNetwork, x: Tensor) -> None:
    ideal = network.digital(x)
    chip = network.fabricate(seed=0)
    assert torch.equal(chip(x), ideal)
    assert torch.equal(chip(x), ideal)  # nothing is left of the call before
    torch.testing.assert_close(chip(x[1:2]), ideal[1:2], rtol=1e-5, atol=1e-6)
    assert torch.equal(chip.reference()(x[:1]), chip(x[:1]))


@pytest.mark.parametrize("fire", FIRES)
def test_ideal_chips_of_events_are_the_quantised_networks_bit_for_bit(fire: Any) -> None:
    x = events(5)
    network = xb.map_model(event_net(fire), design(), calibration=x)
    assert not network.not_mapped
    assert "2 batch norms folded into the layers before them" in network.notes
    assert_ideal(network, x)


@pytest.mark.parametrize("fire", FIRES)
def test_ideal_chips_of_recurrent_neurons_are_the_quantised_networks_bit_for_bit(fire: Any) -> None:
    x = noise(5, 6, 7).abs()
    model = seeded(lambda: SequenceNet(fire, inputs=7, units=9, classes=3, leak=0.8))
    network = xb.map_model(model, design(), calibration=x)
    assert list(network.layers) == ["recurrent.product", "recurrent.recurrent", "classifier"]
    if fire in ("lif", "relu1", "sigmoid"):
        assert network.layers["recurrent.recurrent"].layer.input_scale == (
            1.0 if fire == "lif" else pytest.approx(1 / 15)
        )
    assert [layer.vectors_per_image for layer in network.layers.values()] == [6, 6, 6]
    assert_ideal(network, x)


def test_a_norm_of_recurrent_neurons_goes_into_their_weights() -> None:
    x = noise(5, 6, 7).abs()
    model = seeded(lambda: SequenceNet("lif", inputs=7, units=9, classes=3, norm=True))
    norm: Any = model.get_submodule("recurrent.norm")
    norm.running_mean.copy_(0.2 * noise(9))
    norm.running_var.copy_(0.5 + noise(9, seed=1).abs())
    network = xb.map_model(model, design(), calibration=x)
    assert not network.not_mapped
    assert "1 batch norms folded into the layers before them" in network.notes
    assert network.layers["recurrent.recurrent"].drive.input_bits == 1
    assert_ideal(network, x)


@pytest.mark.parametrize("fire", FIRES)
def test_inputs_take_as_many_bits_as_tell_them_apart(fire: Any) -> None:
    x = events(4)
    network = xb.map_model(event_net(fire), design(input_bits=6, dac_bits=3), calibration=x)
    first, *others = network.layers.values()
    assert (first.drive.input_bits, first.drive.planes, first.drive.max_plane) == (1, 1, 1)
    assert first.layer.input_scale == 1.0
    for layer in others:
        bits = 1 if fire == "lif" else 6
        assert layer.drive.input_bits == layer.layer.input_bits == bits
        assert layer.drive.dac_bits == min(3, bits)
        if fire in ("lif", "relu1", "sigmoid"):
            assert layer.layer.input_scale == pytest.approx(1 / (2**bits - 1))
    use = network.cost().layers[0].use
    assert use.reads_per_vector == 1


def test_one_bit_of_a_spike_is_all_of_it() -> None:
    """More bits change no output, and a design of one bit takes the whole network."""
    x = events(4)
    model = event_net("lif")
    one = xb.map_model(model, design(input_bits=1), calibration=x)
    for product in (each for each in model.modules() if hasattr(each, "input_bits")):
        product.input_bits = None  # type: ignore[assignment]
    many = xb.map_model(model, design(input_bits=7), calibration=x)
    assert {layer.drive.planes for layer in one.layers.values()} == {1}
    assert {layer.drive.planes for layer in many.layers.values()} == {7}
    torch.testing.assert_close(one.digital(x), many.digital(x), rtol=1e-6, atol=1e-6)


def test_networks_of_few_bits_are_saved_and_loaded(tmp_path: Path) -> None:
    x = events(4)
    chip = xb.map_model(event_net("relu1"), design(), calibration=x).fabricate(seed=3)
    chip.save(tmp_path / "chip")
    loaded = xb.Chip.load(tmp_path / "chip", model=EventNet("relu1", size=8, channels=(2, 4, 5), classes=3))
    assert torch.equal(loaded(x), chip(x))
    assert [each.drive for each in loaded.network.layers.values()] == [
        each.drive for each in chip.network.layers.values()
    ]


@pytest.mark.parametrize(
    ("fire", "elementwise", "nonlinear", "comparisons"),
    [("lif", 2, 0, 1), ("selu", 2, 1, 1), ("relu", 2, 0, 2), ("relu1", 2, 0, 3), ("sigmoid", 2, 1, 1)],
)
def test_membranes_are_counted_step_by_step(fire: Any, elementwise: int, nonlinear: int, comparisons: int) -> None:
    """An addition, a comparison, the leak, a read and a write a step and neuron, and f; the reset moves data."""
    x = events(5)
    network = xb.map_model(event_net(fire), design(), calibration=x)
    neurons = {"layers.0.neuron": 4 * 8 * 8, "layers.1.neuron": 5 * 4 * 4}
    work = {use.name: use for use in network.digital_work}
    for name, count in neurons.items():
        found = {each: getattr(work[name], each) for each in OPERATIONS}
        assert found == {
            "multiply_accumulates": 0,
            "elementwise": STEPS * count * elementwise,
            "nonlinear": STEPS * count * nonlinear,
            "comparisons": STEPS * count * comparisons,
            "lookups": 0,
            "state_accesses": STEPS * count * 2,
        }
    assert work["layers.0.pool"].comparisons == STEPS * 3 * 4 * 4 * 4
    total = sum(use.operations for use in network.digital_work)
    rest = STEPS * 3 * (4 * 4 * 4 + 5 * 2 * 2) + STEPS * 3  # the pools, and the mean of three outputs
    assert total == STEPS * sum(neurons.values()) * (elementwise + nonlinear + comparisons + 2) + rest


def test_threshold_relation_takes_a_subtraction() -> None:
    x = events(5)

    def elementwise(related: bool) -> float:
        network = xb.map_model(event_net("relu", threshold_related=related), design(), calibration=x)
        return sum(use.elementwise for use in network.digital_work)

    assert elementwise(True) - elementwise(False) == STEPS * (4 * 8 * 8 + 5 * 4 * 4)


# --- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Neuron(cast(Any, "step")), r"fire must be one of 'lif', .* 'sigmoid', got 'step'"),
        (lambda: Neuron("lif", leak=1.5), "leak must be"),
        (lambda: Neuron("lif", threshold=math.nan), "threshold must be"),
        (lambda: Neuron("lif", surrogate=cast(Any, "sine")), "surrogate must be one of"),
        (lambda: Neuron("lif", width=0.0), "width must be"),
        (lambda: LiafLayer(cast(Any, nn.Conv1d(1, 1, 1)), Neuron()), "product must be of type Linear or Conv2d"),
        (lambda: LiafLayer(nn.Linear(2, 2), cast(Any, nn.ReLU())), "neuron must be of type Neuron"),
        (lambda: LiafLayer(nn.Linear(2, 2), Neuron(), pool=2), "pool must be None behind a linear layer, got 2"),
        (lambda: LiafLayer(nn.Linear(2, 2), Neuron(), input_bits=0), "input_bits must be"),
        (lambda: LiafLayer(nn.Linear(2, 2), Neuron(), input_limit=-1.0), "input_limit must be"),
        (lambda: RecurrentLiaf(0, 2, Neuron()), "inputs must be"),
        (lambda: EventNet("lif", size=3), "size must be"),
        (lambda: EventNet("lif", channels=(2,)), "channels must be those of a frame and of a layer or more"),
        (lambda: EventNet("lif", leak=-1.0), "leak must be"),
        (lambda: SequenceNet("lif", inputs=3, units=0), "units must be"),
        (lambda: Neuron()(torch.zeros(2, 3)), r"currents must be of shape \(samples, time, ...\), got \(2, 3\)"),
        (lambda: LiafLayer(nn.Linear(2, 2), Neuron())(torch.zeros(2, 2)), "inputs must be of shape"),
        (lambda: RecurrentLiaf(3, 2, Neuron())(torch.zeros(2, 3)), "inputs must be of shape"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_signed_inputs_of_one_bit_are_refused() -> None:
    model = seeded(lambda: nn.Sequential(LiafLayer(nn.Linear(3, 4), Neuron("lif"), input_bits=1)))
    with pytest.raises(InputError, match=r"input_bits must be >= 2 for layer .*, whose inputs are signed, got 1"):
        xb.map_model(model, design(), calibration=noise(4, 5, 3))
