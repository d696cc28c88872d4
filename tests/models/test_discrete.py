"""Activations that take a few values, and networks made of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xbarsim.foundation.validation import InputError
from xbarsim.models import ARCHITECTURES, ConvNet, DiscreteActivation, MnistNet, convnet, mnist_net

SETTINGS = [
    {"exponent": exponent, "limit": limit, "window": window, "width": width}
    for exponent in (0, 1, 2, 3)
    for limit, window in ((1.0, 0.5), (1.0, 0.0), (2.5, 1.25))
    for width in (0.1, 0.5, 2.0)
] + [{"exponent": 1, "limit": 1.0, "window": 1.0, "width": 0.5}]


def staircase(x: float, exponent: int, limit: float, window: float, width: float) -> float:
    """The value of one number, by the cases of the definition."""
    if exponent == 0:
        return limit if x >= 0 else -limit
    if abs(x) <= window:
        return 0.0
    steps = 2 ** (exponent - 1)
    treads = window if steps == 1 else (limit - window) / steps
    number = 1 if steps == 1 else min(math.ceil((abs(x) - window) / treads), steps)
    return math.copysign(number * limit / steps, x)


@pytest.mark.parametrize("settings", SETTINGS)
def test_values_are_those_of_the_definition(settings: dict[str, Any]) -> None:
    x = torch.linspace(-4.003, 3.997, 1601, dtype=torch.float64)  # no threshold is hit
    activation = DiscreteActivation(**settings)
    wanted = torch.tensor([staircase(float(each), **settings) for each in x], dtype=torch.float64)
    torch.testing.assert_close(activation(x), wanted)
    zeros = settings["window"] > 0 or settings["exponent"] == 0
    assert len(set(activation(x).tolist())) == 2 ** settings["exponent"] + zeros
    with torch.no_grad():
        assert torch.equal(activation(x.requires_grad_()), activation(x.detach()))


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_gradient_is_that_of_the_staircase_smoothed_by_a_box(settings: dict[str, Any]) -> None:
    """The mean of a function over [x - a, x + a] rises as (f(x + a) - f(x - a)) / 2 a, whatever the function."""
    activation, width = DiscreteActivation(**settings), settings["width"]
    x = torch.linspace(-4.0031, 3.9969, 801, dtype=torch.float64, requires_grad=True)
    upstream = torch.linspace(1, 2, 801, dtype=torch.float64)
    activation(x).backward(upstream)
    above, below = activation(x.detach() + width), activation(x.detach() - width)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, upstream * (above - below) / (2 * width))


def test_the_ternary_gradient_is_the_rectangle_of_the_papers_code() -> None:
    x = torch.tensor([-1.6, -1.4, -1.0, -0.6, -0.4, 0.0, 0.4, 0.6, 1.0, 1.4, 1.6], requires_grad=True)
    y = DiscreteActivation(window=1.0)(x)
    y.sum().backward()
    assert y.tolist() == [-1, -1, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0]


@given(x=st.floats(-10, 10), exponent=st.integers(1, 8))
def test_activations_are_odd_and_within_their_limit(x: float, exponent: int) -> None:
    activation = DiscreteActivation(exponent=exponent, limit=1.5, window=0.25)
    there, back = activation(torch.tensor(x)), activation(torch.tensor(-x))
    assert there == -back
    assert abs(float(there)) <= 1.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exponent": -1}, "exponent must be an integer >= 0 and <= 8, got -1"),
        ({"limit": 0.0}, "limit must be a finite number > 0.0, got 0.0"),
        ({"window": -0.1}, "window must be a finite number >= 0.0, got -0.1"),
        ({"exponent": 2, "window": 1.0}, r"window must be < 1 \(limit\) for exponent 2, got 1"),
        ({"width": 0}, "width must be a finite number > 0.0, got 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DiscreteActivation(**settings)


def test_a_network_says_what_its_activations_are() -> None:
    """By this text a sweep tells two networks with the same weights apart."""
    assert "window=1.0" in repr(DiscreteActivation(window=1.0))


@pytest.mark.parametrize("name", ["mnistnet", "mnistnet-ternary", "convnet-ternary"])
def test_networks_are_what_their_architecture_says(name: str) -> None:
    architecture = ARCHITECTURES[name]
    network = architecture.build()
    assert sum(item.numel() for item in network.parameters()) == architecture.parameters
    network.eval()
    inner: list[torch.Tensor] = []
    for module in network.modules():
        if isinstance(module, DiscreteActivation):
            module.register_forward_hook(lambda _, __, output: inner.append(output))
    with torch.no_grad():
        assert network(torch.rand(2, *architecture.input_shape)).shape == (2, 10)
    assert len(inner) == {"mnistnet": 0, "mnistnet-ternary": 3, "convnet-ternary": 4}[name]
    assert all(set(each.flatten().tolist()) <= {-1.0, 0.0, 1.0} for each in inner)


def test_networks_of_few_classes_can_be_built() -> None:
    assert isinstance(mnist_net(3, ternary=True), MnistNet)
    assert isinstance(convnet(3, ternary=True), ConvNet)
    for build in (mnist_net, convnet):
        with pytest.raises(InputError, match=r"num_classes must be an integer >= 1.*, got 0"):
            build(0)
        with pytest.raises(InputError, match="ternary must be"):
            build(ternary=1)  # type: ignore[arg-type]
