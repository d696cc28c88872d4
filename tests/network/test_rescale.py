"""Rescaling of inputs with outliers: the product stays, the spread of the channels shrinks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xbarsim.foundation.validation import InputError
from xbarsim.network.rescale import channel_scales


@st.composite
def layers(draw: st.DrawFn) -> tuple[Any, Any]:
    """Weights, and the largest value of each input; rows and inputs that are zero among them."""
    inputs, outputs = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    values = st.just(0.0) | st.floats(1e-6, 1e6)
    weights = draw(arrays.arrays(np.float64, (inputs, outputs), elements=values | values.map(lambda value: -value)))
    return weights, draw(arrays.arrays(np.float64, inputs, elements=values))


@settings(deadline=None)
@given(layer=layers(), strength=st.floats(0, 1), seed=st.integers(0, 1000))
def test_the_product_stays_and_no_range_grows(layer: tuple[Any, Any], strength: float, seed: int) -> None:
    weights, largest = layer
    scales = channel_scales(weights, largest, strength=strength)
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    inputs = np.random.default_rng(seed).uniform(-1, 1, (3, len(largest))) * largest
    rescaled = (inputs / scales) @ (weights * scales[:, None])
    np.testing.assert_allclose(
        rescaled, inputs @ weights, rtol=0, atol=1e-12 * (np.abs(inputs) @ np.abs(weights)).max()
    )
    slack = 1 + 1e-9
    assert np.abs(weights * scales[:, None]).max() <= np.abs(weights).max() * slack
    assert (largest / scales).max() <= largest.max() * slack


@given(layer=layers(), strength=st.floats(0, 1))
def test_scales_are_those_of_the_formula_up_to_one_factor(layer: tuple[Any, Any], strength: float) -> None:
    weights, largest = layer
    scales = channel_scales(weights, largest, strength=strength)
    factors = [
        scale / (x**strength / np.abs(row).max() ** (1 - strength))
        for scale, x, row in zip(scales, largest, weights, strict=True)
        if x > 0 and row.any()
    ]
    np.testing.assert_allclose(factors, factors[:1] * len(factors), rtol=1e-9)
    dead = [scale for scale, x, row in zip(scales, largest, weights, strict=True) if x == 0 or not row.any()]
    assert dead == [1.0] * len(dead)


@pytest.mark.parametrize(("strength", "spread"), [(0.0, 100.0), (0.5, 10.0), (1.0, 1.0)])
def test_the_spread_of_the_inputs_shrinks_by_the_strength(strength: float, spread: float) -> None:
    """Channels of equal weights and one outlier of 100: the spread becomes 100^(1 - strength)."""
    largest = np.array([1.0, 1.0, 100.0])
    after = largest / channel_scales(np.ones((3, 2)), largest, strength=strength)
    assert after.max() / after.min() == pytest.approx(spread)


def test_the_ends_of_the_strength_make_one_side_equal() -> None:
    weights = np.array([[1.0, -8.0], [0.5, 0.25], [2.0, 0.0]])
    largest = np.array([3.0, 50.0, 0.1])
    rows = np.abs(weights * channel_scales(weights, largest, strength=0.0)[:, None]).max(axis=1)
    np.testing.assert_allclose(rows, 8.0)
    inputs = largest / channel_scales(weights, largest, strength=1.0)
    np.testing.assert_allclose(inputs, inputs[0])


def test_an_outlier_costs_less_of_an_eight_bit_product() -> None:
    """Both sides rounded to 8 bits a matrix: with one channel of 100 the error falls to less than a third."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(256, 64))
    inputs[:, 5] *= 100
    weights = generator.normal(size=(64, 16))
    largest = np.abs(inputs).max(axis=0)

    def error(scales: Any) -> float:
        def rounded(values: Any) -> Any:
            step = np.abs(values).max() / 127
            return np.rint(values / step) * step

        exact = inputs @ weights
        got = rounded(inputs / scales) @ rounded(weights * scales[:, None])
        return float(np.sqrt(np.mean((got - exact) ** 2)))

    assert error(channel_scales(weights, largest)) < error(np.ones(64)) / 3


@pytest.mark.parametrize(
    ("weights", "largest", "strength", "message"),
    [
        (np.ones((3, 2)), np.ones(2), 0.5, "one value for each row"),
        (np.ones((3, 2)), np.array([1.0, -1.0, 1.0]), 0.5, "largest must be finite and at least 0"),
        (np.ones((3, 2)), np.array([1.0, np.inf, 1.0]), 0.5, "largest must be finite and at least 0"),
        (np.full((3, 2), np.nan), np.ones(3), 0.5, "weights must be finite"),
        (np.ones((3, 2)), np.ones(3), 1.5, "strength must be"),
    ],
)
def test_what_does_not_fit_is_refused(weights: Any, largest: Any, strength: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        channel_scales(weights, largest, strength=strength)
