"""The range of a layer's inputs: what each way of choosing it makes of a distribution, and what it costs a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import xbarsim as xb
from tests.strategies import relaxed
from xbarsim.devices import Cell
from xbarsim.foundation.validation import InputError
from xbarsim.network import (
    LargestInput,
    LeastSquaredError,
    MappedNetwork,
    MovingAverage,
    Percentile,
    Rescale,
    map_model,
)
from xbarsim.network.ranges import InputRange, input_ranges

pytestmark = pytest.mark.usefixtures("one_thread")

DESIGN = xb.Design(cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16))


class Plain(nn.Module):
    """One linear layer on its inputs as they are."""

    def __init__(self, features: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layer = nn.Linear(features, 3, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(3, features, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layer(x)
        return answer


def normal(count: int, features: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed))


def mapped(samples: Tensor, ranges: Any = "max", **keywords: Any) -> MappedNetwork:
    return map_model(Plain(samples.shape[1]), DESIGN, calibration=samples, ranges=ranges, **keywords)


def limit(samples: Tensor, ranges: Any) -> float:
    """The magnitude that the largest code stands for."""
    layer = mapped(samples, ranges).layers["layer"].layer
    return float(layer.input_scale * layer.scaling.high)


def test_the_largest_magnitude() -> None:
    samples = normal(200)
    largest = float(samples.abs().max())
    assert limit(samples, "max") == limit(samples, LargestInput()) == pytest.approx(largest, rel=1e-12)


@pytest.mark.parametrize("percent", [50.0, 99.0, 99.9, 100.0])
def test_a_percentile_is_that_of_the_magnitudes(percent: float) -> None:
    samples = normal(500)
    magnitudes = np.sort(np.abs(samples.numpy().astype(np.float64)).reshape(-1))
    wanted = magnitudes[int(np.ceil(len(magnitudes) * percent / 100)) - 1]
    width = magnitudes[-1] / 65536
    assert wanted <= limit(samples, Percentile(percent=percent)) <= wanted + width * (1 + 1e-9)


def test_the_moving_average_by_hand() -> None:
    samples = normal(192)  # three batches of 64
    first, second, third = (float(part.abs().max()) for part in samples.reshape(3, 64, 4))
    wanted = 0.5 * (0.5 * first + 0.5 * second) + 0.5 * third
    assert limit(samples, MovingAverage(momentum=0.5)) == pytest.approx(wanted, rel=1e-12)
    assert limit(samples, MovingAverage(momentum=0.0)) == pytest.approx(third, rel=1e-12)


def test_the_least_squared_error_is_no_larger_than_that_of_any_other_limit() -> None:
    samples = normal(2000)
    values = samples.numpy().astype(np.float64)

    def error(bound: float) -> float:
        step = bound / 127
        return float(((np.clip(np.floor(values / step + 0.5), -127, 127) * step - values) ** 2).mean())

    chosen = limit(samples, "mse")
    largest = float(samples.abs().max())
    assert chosen < largest
    others = [error(share * largest) for share in np.linspace(0.2, 1.0, 100)]
    assert error(chosen) <= min(others) * 1.02  # candidates lie 2.8 % apart


def test_an_outlier_costs_the_largest_magnitude_its_resolution_and_the_others_nothing() -> None:
    samples = normal(1000)
    samples[17, 2] = 300.0
    model, batch = Plain(), normal(300, seed=1)
    with torch.no_grad():
        expected = model(batch)
    errors = {}
    for ranges in ("max", "percentile", "mse"):
        with torch.no_grad():
            digital = mapped(samples, ranges).digital(batch)
        errors[ranges] = float((digital - expected).norm() / expected.norm())
    assert errors["max"] > 0.3  # one code is worth 2.4 standard deviations
    assert errors["percentile"] < 0.03
    assert errors["mse"] < errors["max"]


@relaxed
@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=60),
    ranges=st.sampled_from([LargestInput(), Percentile(percent=90.0), LeastSquaredError(), MovingAverage()]),
)
def test_a_limit_is_positive_and_no_larger_than_the_largest(values: list[float], ranges: InputRange) -> None:
    samples = torch.tensor(values, dtype=torch.float32)[:, None]
    if float(samples.abs().max()) < 1e-30 or float(samples.min()) == float(samples.max()):
        return
    chosen = limit(samples, ranges)
    assert 0 < chosen <= float(samples.abs().max()) * (1 + 1e-12)


def test_what_is_clipped_is_counted_by_the_run_and_the_report() -> None:
    samples = normal(400)
    network = mapped(samples, Percentile(percent=90.0))
    chip = network.fabricate(seed=0)
    with pytest.warns(xb.network.ClippingWarning, match=r"more than 1% of the inputs .* in layers layer \(\d+\.\d%\)"):
        chip(samples)
    bound = limit(samples, Percentile(percent=90.0))
    step = bound / 127
    wanted = int((np.abs(np.floor(samples.numpy().astype(np.float64) / step + 0.5)) > 127).sum())
    counted = chip.clipped_inputs["layer"]
    assert (counted.clipped, counted.inputs) == (wanted, 1600)
    assert 0.08 < counted.share < 0.1
    with pytest.warns(xb.network.ClippingWarning):
        (row,) = chip.report(samples).layers
    assert row.clipped_inputs == wanted / 1600


def test_a_calibration_without_negative_numbers_rectifies_aloud() -> None:
    """Inputs below 0 of a layer calibrated without them are clipped, and that is counted and reported."""
    samples = normal(100)
    chip = mapped(samples.abs()).fabricate(seed=0)
    with pytest.warns(xb.network.ClippingWarning, match="beyond the calibrated range"):
        chip(samples)
    assert chip.clipped_inputs["layer"].share == pytest.approx(float((samples < 0).float().mean()), abs=0.02)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (
            "average",
            "ranges must be of type InputRange or one of 'max', 'percentile', 'mse', 'moving average', got 'average'",
        ),
        (7, "ranges must be of type InputRange or one of"),
    ],
)
def test_ranges_that_are_refused(ranges: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mapped(normal(5), ranges)


def test_settings_that_are_refused() -> None:
    for make in (
        lambda: Percentile(percent=0.0),
        lambda: Percentile(percent=100.1),
        lambda: MovingAverage(momentum=1.0),
        lambda: Rescale(strength=1.5),
    ):
        with pytest.raises(InputError):
            make()


# --- channels with outliers


def outlying(count: int, seed: int = 0) -> Tensor:
    samples = normal(count, 16, seed)
    samples[:, 3] *= 100.0
    return samples


def test_rescaled_channels_change_no_product_and_keep_their_resolution() -> None:
    samples, batch = outlying(500), outlying(200, seed=1)
    model = Plain(16)
    with torch.no_grad():
        model.layer.weight[:, 3] /= 100.0
        expected = model(batch)
    errors = {}
    for rescale in (None, Rescale(strength=0.5)):
        network = map_model(model, DESIGN, calibration=samples, rescale=rescale)
        with torch.no_grad():
            digital = network.digital(batch)
        assert torch.equal(network.fabricate(seed=1)(batch), digital)
        errors[rescale] = float((digital - expected).norm() / expected.norm())
    assert errors[Rescale(strength=0.5)] < errors[None] / 3
    assert any("16 channels are divided digitally" in note for note in network.notes)
    (work,) = [use for use in network.cost(data=False).digital if use.kind == "rescaling"]
    assert (work.name, work.elementwise) == ("layer", 16)  # one division an input


def test_rescaled_convolutions_are_close_to_their_model() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3, groups=1)).eval()
    batch = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    batch[:, 1] *= 30
    network = map_model(model, DESIGN, calibration=batch, rescale=Rescale())
    with torch.no_grad():
        expected, digital = model(batch), network.digital(batch)
    assert torch.equal(network.fabricate(seed=1)(batch), digital)
    assert float((digital - expected).norm() / expected.norm()) < 0.03


def test_ranges_are_seen_channel_by_channel() -> None:
    samples = outlying(300)
    lowered = mapped(samples).lowered
    seen = input_ranges(lowered.skeleton, lowered.products, xb.network.samples.Samples.of(samples))["layer"]
    np.testing.assert_array_equal(seen.channels, samples.abs().max(dim=0).values.double().numpy())
