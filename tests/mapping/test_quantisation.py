"""Symmetric quantisation of weight matrices."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.strategies import relaxed
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import quantise

Per = Literal["tensor", "output"]
shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
magnitudes = st.sampled_from([0.0, 5e-324, 1e-310, 3e-308, 1e-30, 0.7, 1.0, 1e6, 1e300])


@st.composite
def weight_matrices(draw: st.DrawFn) -> npt.NDArray[np.float64]:
    """Weights of one magnitude per output, from the smallest numbers to the largest."""
    shape = draw(shapes)
    relative = draw(hnp.arrays(np.float64, shape, elements=st.floats(-1, 1)))
    scale = np.array(draw(st.lists(magnitudes, min_size=shape[1], max_size=shape[1])))
    return np.asarray(relative * scale)


pers = st.sampled_from(["tensor", "output"])


@relaxed
@given(weights=weight_matrices(), bits=st.integers(2, 16), per=pers)
def test_properties(weights: npt.NDArray[np.float64], bits: int, per: Per) -> None:
    before = weights.copy()
    quantised = quantise(weights, bits, per)
    np.testing.assert_array_equal(weights, before)
    codes, scale = quantised.codes, quantised.scale
    assert codes.shape == weights.shape
    assert codes.dtype == np.int32
    assert scale.shape == (weights.shape[1],)
    assert scale.dtype == np.float64
    assert quantised.bits == bits
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    assert abs(codes).max() <= 2 ** (bits - 1) - 1
    assert (abs(quantised.dequantise() - weights) <= scale / 2 * (1 + 1e-10)).all()
    if per == "tensor":
        assert len(set(scale.tolist())) == 1
    np.testing.assert_array_equal(quantise(-weights, bits, per).codes, -codes)


@relaxed
@given(weights=weight_matrices(), bits=st.integers(2, 16), per=pers)
def test_idempotent(weights: npt.NDArray[np.float64], bits: int, per: Per) -> None:
    once = quantise(weights, bits, per)
    twice = quantise(once.dequantise(), bits, per)
    np.testing.assert_array_equal(once.codes, twice.codes)
    kept = (once.codes != 0).any(axis=0)
    np.testing.assert_allclose(once.scale[kept], twice.scale[kept], rtol=1e-15)


@relaxed
@given(weights=weight_matrices(), bits=st.integers(2, 16))
def test_outputs_are_quantised_one_by_one(weights: npt.NDArray[np.float64], bits: int) -> None:
    together = quantise(weights, bits, "output")
    for output in range(weights.shape[1]):
        alone = quantise(weights[:, output : output + 1], bits, "tensor")
        np.testing.assert_array_equal(together.codes[:, output], alone.codes[:, 0])
        assert together.scale[output] == alone.scale[0]


def test_known_values() -> None:
    weights = np.array([[1.0, 0.02, 0.0], [-0.5, -0.04, 0.0]])
    per_output = quantise(weights, 4, "output")
    assert per_output.codes.tolist() == [[7, 4, 0], [-4, -7, 0]]  # 3.5 goes to even: 4
    np.testing.assert_array_equal(per_output.scale, [1 / 7, 0.04 / 7, 1.0])
    per_tensor = quantise(weights, 4, "tensor")
    assert per_tensor.codes.tolist() == [[7, 0, 0], [-4, 0, 0]]
    np.testing.assert_array_equal(per_tensor.scale, [1 / 7] * 3)


def test_largest_magnitude_takes_the_largest_code() -> None:
    weights = np.random.default_rng(1).standard_normal((40, 30)).astype(np.float32)
    for bits in range(2, 17):
        codes = quantise(weights, bits, "output").codes
        assert (abs(codes).max(axis=0) == 2 ** (bits - 1) - 1).all()


def test_zeros() -> None:
    for per in ("tensor", "output"):
        quantised = quantise(np.zeros((3, 2)), 8, per)
        assert not quantised.codes.any()
        np.testing.assert_array_equal(quantised.scale, [1.0, 1.0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[1.0, np.nan]], r"weights must be finite, got nan at index \(0, 1\)"),
        ([[1.0], [np.inf]], r"weights must be finite, got inf at index \(1, 0\)"),
        ([[-np.inf]], r"weights must be finite, got -inf at index \(0, 0\)"),
        (np.zeros((0, 3)), r"weights must be a non-empty 2-dimensional array .*, got shape \(0, 3\)"),
        (np.zeros((3, 0)), r"weights must be a non-empty 2-dimensional array .*, got shape \(3, 0\)"),
        (np.float64(1.0), r"weights must be a non-empty 2-dimensional array .*, got shape \(\)"),
        (np.zeros(3), r"weights must be a non-empty 2-dimensional array .*, got shape \(3,\)"),
        (np.zeros((2, 2, 2)), r"weights must be a non-empty 2-dimensional array .*, got shape \(2, 2, 2\)"),
        ([[1, 2]], "weights must be .* of floating numbers, got type int64"),
        ([[True]], "weights must be .* of floating numbers, got type bool"),
        ([[1j]], "weights must be .* of floating numbers, got type complex128"),
    ],
)
def test_bad_weights(weights: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        quantise(weights, 8)


def test_bad_options() -> None:
    weights = np.ones((2, 2))
    with pytest.raises(InputError, match="bits must be an integer >= 2 and <= 16, got 1"):
        quantise(weights, 1)
    with pytest.raises(InputError, match="bits must be an integer >= 2 and <= 16, got 17"):
        quantise(weights, 17)
    with pytest.raises(InputError, match="per must be one of 'tensor', 'output', got 'row'"):
        quantise(weights, 8, "row")  # type: ignore[arg-type]
