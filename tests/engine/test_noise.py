"""Draws of read noise against published words and the normal distribution, and noisy kernels against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.engine.test_engine import fixed_layer, spreads, stick
from tests.strategies import TiledLayer, relaxed
from xbarsim.engine import Noise, Plan, Scaling, Window, kernels, unfold
from xbarsim.engine.backends.noisy import block_keys
from xbarsim.engine.noise import box_muller, philox
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Offset, TwoColumn

Array = npt.NDArray[Any]

ALARM = 1e-6  # false-alarm rate of each statistical test below; seeds are fixed, so they pass for ever


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small layers: starting threads would take most of the time."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def words(*values: int) -> Array:
    return np.array(values, np.uint32)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # kat_vectors of Random123 1.14, https://github.com/DEShawResearch/random123
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_random_words_are_those_published(counter: Any, key: Any, expected: Any) -> None:
    np.testing.assert_array_equal(philox(words(*counter), words(*key)), words(*expected))


@relaxed
@given(radius=st.integers(0, 2**32 - 1), angle=st.integers(0, 2**32 - 1))
def test_normals_are_those_of_box_and_muller(radius: int, angle: int) -> None:
    """Against logarithm, sine and cosine in float64."""
    first, second = box_muller(words(radius), words(angle))
    rest = ((radius & 255) << 8) | (angle & 255)
    size = np.sqrt(-2.0 * np.log(min(((radius >> 8) * 2**16 + rest + 0.5) * 2.0**-40, 1.0)))
    turn = (((angle >> 8) & (2**22 - 1)) + 0.5) / 2**22 * np.pi / 2
    signs = (-1.0) ** np.array([angle >> 31, angle >> 30 & 1])
    # u near 1 is rounded to float32, by up to 2^-25
    bound = 5e-7 * size + 2.0**-25 / max(float(size), 2.0**-12)
    np.testing.assert_allclose([first[0], second[0]], signs * size * [np.cos(turn), np.sin(turn)], rtol=0, atol=bound)


def test_draws_are_independent_standard_normals() -> None:
    drawn = np.stack([Noise(spread=np.zeros(1), key=17).normals(image, (500, 3, 67)) for image in range(20)])
    flat = drawn.reshape(-1)
    assert stats.kstest(flat, "norm").pvalue > ALARM
    bound = stats.norm.isf(ALARM / 2)
    assert abs(float((flat**2 - 1).sum())) < bound * np.sqrt(2 * flat.size)
    assert abs(float((flat**4 - 3).sum())) < bound * np.sqrt(96 * flat.size)
    assert float(np.mean(np.abs(flat) > 3)) == pytest.approx(2 * stats.norm.sf(3), rel=0.15)
    for axis in range(drawn.ndim):  # neighbours along each dimension, by value and by size
        left, right = (np.moveaxis(drawn, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        assert abs(float((left * right).sum())) < bound * np.sqrt(left.size)
        assert abs(float(((left**2 - 1) * (right**2 - 1)).sum())) < bound * 2 * np.sqrt(left.size)


@pytest.mark.parametrize("first", [0, 5, 2**32 - 3, (3 << 48) + 7])
def test_kernels_draw_the_normals_of_the_definition(first: int) -> None:
    noise = Noise(spread=np.zeros(1), key=2**63 + 11)
    images, outputs, vectors = 21, 6, 5
    shape = (images, outputs, vectors)
    result = np.empty(shape)
    keys = block_keys(noise, first, 2)
    kernels.add_noise(keys, np.ones(shape), np.ones(outputs), np.zeros(outputs), np.zeros(shape), result)
    expected = [noise.normals(first + image, (vectors, outputs)).T for image in range(images)]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("key", [-1, 2**64])
def test_keys_have_64_bits(key: int) -> None:
    with pytest.raises(InputError, match="key must be an integer >= 0"):
        Noise(spread=np.zeros(1), key=key)


# --- noisy kernels


LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "folded": (TwoColumn(), {"input_bits": 6, "dac_bits": 2}),
    "folded, offset": (TwoColumn(), {"input_bits": 6, "dac_bits": 3, "signed_inputs": "offset"}),
    "one plane": (TwoColumn(), {"adc_bits": 6, "adc_range": "full", "dac_bits": 8}),
    "planes": (TwoColumn(), {"adc_bits": 6, "adc_range": "full", "dac_bits": 3, "signed_inputs": "offset"}),
    "bits, reference column": (Offset(), {"adc_bits": 6, "adc_range": "full", "active_rows": 20}),
    "ideal, reference column": (Offset(), {"dac_bits": 4}),
}


def noise_of(layer: TiledLayer, seed: int = 3) -> Noise:
    """Noise with all three powers of the plane code."""
    shape = layer.mapped.levels.shape
    return Noise(spread=spreads(shape, seed), linear=spreads(shape, 1) ** 2, constant=spreads(shape, 2) ** 2, key=99)


def made(name: str, precision: str) -> tuple[TiledLayer, Array, Noise, Plan]:
    encoding, periphery = LAYERS[name]
    layer, codes = fixed_layer(encoding, **periphery)
    noise = noise_of(layer)
    return layer, codes, noise, layer.plan(stick(layer.mapped), noise, precision=precision)


@pytest.mark.parametrize("name", [name for name in LAYERS if "folded" not in name])
def test_noise_of_every_power_equals_the_reference_with_the_same_normals(name: str) -> None:
    layer, codes, noise, plan = made(name, "double")
    drive, rows = layer.drive, layer.mapped.mapping.rows
    reads = layer.reading.reads * drive.row_group_count(rows)
    shape = (codes.shape[1], drive.passes, drive.planes, layer.mapped.tiles, reads)
    normals = np.concatenate([noise.normals(7 + image, shape) for image in range(len(codes))])
    expected = layer.product(
        codes.reshape(-1, codes.shape[2]),
        stick(layer.mapped),
        noise_spread=noise.spread,
        noise_linear=noise.linear,
        noise_constant=noise.constant,
        normals=normals,
    ).reshape(*codes.shape[:2], -1)
    got = plan.multiply(codes, first_image=7)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * float(np.abs(expected).max()))
    single = made(name, "single")[3].multiply(codes, first_image=7)
    np.testing.assert_allclose(single, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))


@pytest.mark.parametrize("name", [name for name in LAYERS if "folded" in name])
def test_folded_noise_of_every_power_is_the_sum_of_all_reads(name: str) -> None:
    """The share of each draw in the reference's answer, one after the other: their squares add up to the variance."""
    layer, codes, noise, plan = made(name, "double")
    drive = layer.drive
    vector = codes[:1, 0]
    cells = stick(layer.mapped)
    quiet = layer.product(vector, cells)
    shape = (drive.passes, drive.planes, layer.mapped.tiles, layer.reading.reads)
    variance = np.zeros_like(quiet)
    for read in np.ndindex(*shape):
        normals = np.zeros((1, *shape))
        normals[(0, *read)] = 1.0
        options = {"noise_spread": noise.spread, "noise_linear": noise.linear, "noise_constant": noise.constant}
        variance += (layer.product(vector, cells, normals=normals, **options) - quiet) ** 2
    drawn = noise.normals(4, (1, layer.mapped.shape[1]))
    expected = quiet + np.sqrt(variance) * drawn
    for precision, bound in (("double", 1e-9), ("single", 1e-5)):
        got = made(name, precision)[3].multiply(vector[np.newaxis], first_image=4)[0]
        np.testing.assert_allclose(got, expected, rtol=0, atol=bound * float(np.abs(expected).max()))
    assert plan.name == "folded"


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("name", LAYERS)
def test_no_batch_and_no_number_of_threads_changes_a_noisy_bit(name: str, precision: str) -> None:
    layer, codes, _, plan = made(name, precision)
    many = np.random.default_rng(8).integers(layer.drive.min_input, layer.drive.max_input, (37, *codes.shape[1:]))
    whole = plan.multiply(many, first_image=2)
    for size in (1, 7, 16, 20):
        parts = [plan.multiply(many[i : i + size], first_image=2 + i) for i in range(0, len(many), size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    for threads in range(2, min(3, numba.config.NUMBA_NUM_THREADS) + 1):  # type: ignore[attr-defined]
        numba.set_num_threads(threads)
        np.testing.assert_array_equal(plan.multiply(many, first_image=2), whole)


@pytest.mark.parametrize("name", ["folded, offset", "planes"])
def test_zeros_around_maps_are_driven_and_noisy_as_any_other(name: str) -> None:
    """With signed inputs driven as an offset a padded zero is no zero on the word line."""
    encoding, periphery = LAYERS[name]
    layer, _ = fixed_layer(encoding, shape=(27, 5), **periphery)
    plan = layer.plan(stick(layer.mapped), noise_of(layer), precision="double")
    maps = np.random.default_rng(4).integers(layer.drive.min_input, layer.drive.max_input, (3, 3, 6, 7))
    window = Window(kernel=(3, 3), stride=(2, 1), padding=(1, 1, 1, 0))
    scaling = Scaling.none(layer.drive, 5)
    got, finite = plan.run(maps.astype(np.float32), window, scaling, first_image=6)
    expected = plan.multiply(unfold(maps.astype(np.int32), window), first_image=6)
    assert finite
    np.testing.assert_array_equal(got.reshape(3, 5, -1), expected.transpose(0, 2, 1).astype(np.float32))


def test_noise_alone_without_any_input_is_that_of_the_constant_power() -> None:
    """No current flows, and thermal noise is there all the same: exactly in every output of an ideal read-out."""
    layer, _ = fixed_layer(TwoColumn(), shape=(30, 4), rows=16, signed=False, dac_bits=8)
    ones = np.ones(layer.mapped.levels.shape, np.float32)
    noise = Noise(spread=0 * ones, constant=ones, key=5)
    plan = layer.plan(layer.mapped.levels.astype(np.float32), noise)
    got = plan.multiply(np.zeros((2, 3, 30), np.int32))
    weights = layer.mapped.mapping.encoding.slice_weights(5, 2)
    rows = int((np.unique(layer.mapped.tile_rows) >= 0).sum())  # rows without a weight are not placed
    variance = 2 * rows * float((np.asarray(weights, float) ** 2).sum())  # both cells of each slice
    expected = np.stack([noise.normals(image, (3, 4)) for image in range(2)]) * np.sqrt(variance)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
