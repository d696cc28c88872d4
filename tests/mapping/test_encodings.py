"""Encodings: what a weight becomes in cells, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.strategies import ALL_ENCODINGS, encodings, relaxed
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.mapping import (
    ENCODINGS,
    Balanced,
    Differential,
    Encoding,
    Offset,
    TwoColumn,
)
from xbarsim.mapping.encodings.duplicated_top import DuplicatedPairs

BITS = [(weight, cell) for weight in [*range(2, 11), 16] for cell in range(1, 9)]
PAIRS = (TwoColumn(), Differential(), Balanced())


def all_codes(weight_bits: int) -> np.ndarray:
    largest = 2 ** (weight_bits - 1) - 1
    return np.arange(-largest, largest + 1)


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_decode_inverts_encode_for_every_weight(encoding: Encoding) -> None:
    for weight_bits, cell_bits in BITS:
        codes = all_codes(weight_bits)
        levels = encoding.encode(codes, weight_bits, cell_bits)
        assert levels.dtype == np.uint8
        assert levels.shape == (len(codes), encoding.slice_count(weight_bits, cell_bits), encoding.sides)
        assert levels.max() <= 2**cell_bits - 1
        decoded = encoding.decode(levels, weight_bits, cell_bits)
        halves = encoding.slice_weights(weight_bits, cell_bits).dtype == np.float64  # a slice that counts 1/2
        assert decoded.dtype == (np.float64 if halves else np.int64)
        assert not halves or isinstance(encoding, DuplicatedPairs)
        np.testing.assert_array_equal(decoded, codes)
        as_float = encoding.decode(levels.astype(np.float32), weight_bits, cell_bits)
        assert as_float.dtype == np.float64
        np.testing.assert_array_equal(as_float, codes)


def test_slices_of_a_pair_follow_the_definition() -> None:
    for weight_bits, cell_bits in BITS:
        base, largest_level = 2**cell_bits, 2**cell_bits - 1
        codes = all_codes(weight_bits)
        count = -(-(weight_bits - 1) // cell_bits)
        slices = np.stack([np.sign(codes) * (abs(codes) // base**s % base) for s in range(count)], axis=-1)
        positive, negative = np.maximum(slices, 0), np.maximum(-slices, 0)
        expected = {
            "TwoColumn": (positive, negative),
            "Differential": (largest_level - negative, largest_level - positive),
        }
        for encoding in PAIRS:
            levels = encoding.encode(codes, weight_bits, cell_bits).astype(int)
            assert levels.shape[1] == count
            np.testing.assert_array_equal(levels[..., 0] - levels[..., 1], slices)
            if encoding.name in expected:
                np.testing.assert_array_equal(levels, np.stack(expected[encoding.name], axis=-1))
            else:  # nearest integers to (M + s)/2 and (M - s)/2
                halves = np.stack([largest_level + slices, largest_level - slices], axis=-1) / 2
                assert abs(levels - halves).max() <= 0.5


def test_offset_slices_follow_the_definition() -> None:
    for weight_bits, cell_bits in BITS:
        codes = all_codes(weight_bits)
        base, count = 2**cell_bits, -(-weight_bits // cell_bits)
        shift = 2 ** (weight_bits - 1)
        expected = np.stack([(codes + shift) // base**s % base for s in range(count)], axis=-1)
        for reference in ("column", "digital"):
            levels = Offset(reference=reference).encode(codes, weight_bits, cell_bits)
            np.testing.assert_array_equal(levels[..., 0], expected)
        level = Offset().reference_level(weight_bits, cell_bits)
        assert 0 < level < base
        assert level * base ** (count - 1) == shift  # one reference cell at the top slice's weight is enough
        assert Offset(reference="digital").reference_level(weight_bits, cell_bits) == 0


@pytest.mark.parametrize(
    ("encoding", "zero"),
    [(TwoColumn(), [0, 0]), (Differential(), [15, 15]), (Balanced(), [7, 7])],
    ids=lambda value: str(value),
)
def test_where_zero_sits(encoding: Encoding, zero: list[int]) -> None:
    assert encoding.encode(0, 9, 4).tolist() == [zero, zero]


@relaxed
@given(data=st.data(), weight_bits=st.integers(2, 16), cell_bits=st.integers(1, 8))
def test_decode_is_linear_beyond_the_shift(data: st.DataObject, weight_bits: int, cell_bits: int) -> None:
    encoding = data.draw(encodings())
    shape = (3, encoding.slice_count(weight_bits, cell_bits), encoding.sides)
    values = st.integers(-(2**12), 2**12)  # in 1/16 of a level: every sum is exact in float64
    first, second = (data.draw(hnp.arrays(np.int64, shape, elements=values)) / 16 for _ in range(2))
    zero = encoding.decode(np.zeros(shape), weight_bits, cell_bits)

    def linear(levels: np.ndarray) -> np.ndarray:
        return np.asarray(encoding.decode(levels, weight_bits, cell_bits) - zero)

    np.testing.assert_array_equal(linear(first + second), linear(first) + linear(second))
    np.testing.assert_array_equal(zero, 0 if encoding.sides == 2 else -(2 ** (weight_bits - 1)))


@relaxed
@given(data=st.data(), weight_bits=st.integers(2, 16), cell_bits=st.integers(1, 8))
def test_differential_is_two_column_complemented_and_exchanged(
    data: st.DataObject, weight_bits: int, cell_bits: int
) -> None:
    largest, highest = 2 ** (weight_bits - 1) - 1, 2**cell_bits - 1
    codes = data.draw(hnp.arrays(np.int64, (5,), elements=st.integers(-largest, largest)))
    two_column = TwoColumn().encode(codes, weight_bits, cell_bits)
    differential = Differential().encode(codes, weight_bits, cell_bits)
    np.testing.assert_array_equal(differential, (highest - two_column)[..., ::-1])
    cells = data.draw(hnp.arrays(np.int64, two_column.shape, elements=st.integers(0, 16 * highest))) / 16
    np.testing.assert_array_equal(
        Differential().decode((highest - cells)[..., ::-1], weight_bits, cell_bits),
        TwoColumn().decode(cells, weight_bits, cell_bits),
    )


def test_names() -> None:
    assert set(ENCODINGS) == {
        "TwoColumn", "Differential", "Balanced", "Offset", "Unary", "DuplicatedTop", "DuplicatedDifferential"
    }  # fmt: skip
    for name, kind in ENCODINGS.items():
        assert kind.name == name == kind.__name__
        assert kind().sides in (1, 2)
    assert [encoding.has_reference for encoding in ALL_ENCODINGS] == [False] * 3 + [True] + [False] * 4


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_toml_round_trip(encoding: Encoding) -> None:
    text = tomlio.dumps(encoding)
    assert tomlio.loads(Encoding, text) == encoding  # type: ignore[type-abstract]
    assert tomlio.loads(type(encoding), text) == encoding


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
@pytest.mark.parametrize(
    ("codes", "weight_bits", "cell_bits", "message"),
    [
        ([128], 8, 4, r"codes must be in \[-127, 127\] for 8 bits, got 128"),
        ([0, -128], 8, 4, r"codes must be in \[-127, 127\] for 8 bits, got -128"),
        ([1.0], 8, 4, "codes must be integers, got type float64"),
        ([True], 8, 4, "codes must be integers, got type bool"),
        ([0], 1, 4, "weight_bits must be an integer >= 2 and <= 16, got 1"),
        ([0], 8, 9, "cell_bits must be an integer >= 1 and <= 8, got 9"),
    ],
)
def test_bad_codes(encoding: Encoding, codes: list[int], weight_bits: int, cell_bits: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoding.encode(codes, weight_bits, cell_bits)


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_bad_levels(encoding: Encoding) -> None:
    with pytest.raises(InputError, match=r"levels must have shape \(\.\.\., \d+, [12]\), got \(5, 3, 1\)"):
        encoding.decode(np.zeros((5, 3, 1)), 8, 4)


def test_bad_reference() -> None:
    with pytest.raises(InputError, match="reference must be one of 'column', 'digital', got 'analog'"):
        Offset(reference="analog")  # type: ignore[arg-type]
    with pytest.raises(FileFormatError, match="reference must be 'column' or 'digital', got 'analog'"):
        tomlio.loads(Encoding, 'type = "Offset"\nreference = "analog"')  # type: ignore[type-abstract]
