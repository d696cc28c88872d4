"""Checksum columns: exact sums, closed forms against draws, and the reference engine reading a broken array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbarsim.design import Converter, Drive
from xbarsim.engine import reference_multiply
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Differential, Mapping, Reading, map_matrix
from xbarsim.mitigation import Checksums, ChecksumSum, output_sigma

Weights = npt.NDArray[np.int64]
FRACTIONS: Any = np.full((2, 3), 0.5)


def close(share: float, expected: float, count: int) -> bool:
    """Within 5 standard deviations of a share of `count`."""
    return bool(abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / count) + 1e-9)


def gaussian(inputs: int, outputs: int, largest: int, seed: int = 0) -> Weights:
    drawn = np.random.default_rng(seed).normal(0, largest / 4, (inputs, outputs))
    return np.clip(np.rint(drawn), -largest, largest).astype(np.int64)


# --- the columns


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Weights, int]:
    inputs, outputs = draw(st.integers(1, 6)), draw(st.integers(1, 24))
    largest = draw(st.sampled_from([1, 2, 7, 127, 32767]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    reach = draw(st.integers(0, largest))
    low = draw(st.sampled_from([-reach, reach]))
    return rng.integers(low, reach, (inputs, outputs), endpoint=True), largest


@settings(deadline=None)
@given(array=arrays(), weighted=st.booleans(), added=st.sampled_from([0.0, 0.5, 1.0, 1e6]))
def test_the_sum_of_outputs_and_columns_is_0_for_any_weights_and_inputs(
    array: tuple[Weights, int], weighted: bool, added: float
) -> None:
    """All columns are weights that a cell group can hold; both sums vanish exactly; the outputs stay as they are."""
    weights, largest = array
    checksums = Checksums.of(weights, largest, weighted=weighted, added=added)
    extended = checksums.extend(weights)
    outputs = weights.shape[1]
    assert extended.shape == (len(weights), outputs + checksums.columns)
    np.testing.assert_array_equal(extended[:, :outputs], weights)
    assert np.abs(extended).max() <= largest
    plain = checksums.plain.counts
    own = extended[:, outputs : outputs + len(plain)]
    np.testing.assert_array_equal(weights.sum(axis=1) + own @ np.array(plain), 0)
    if checksums.weighted is not None:
        places = np.array([2 * j - (outputs - 1) for j in range(outputs)])
        second = extended[:, outputs + len(plain) :]
        np.testing.assert_array_equal(weights @ places + second @ np.array(checksums.weighted.counts), 0)
    inputs = np.random.default_rng(0).integers(-5, 6, (3, len(weights))).astype(float)
    report = checksums.check(inputs @ extended, threshold=0.0)
    assert not report.flagged.any()
    assert tomlio.loads(Checksums, tomlio.dumps(checksums)) == checksums


@settings(deadline=None)
@given(array=arrays(), added=st.sampled_from([0.1, 0.5, 4.0]))
def test_columns_add_as_little_noise_as_is_asked_or_as_little_as_can_be(
    array: tuple[Weights, int], added: float
) -> None:
    weights, largest = array
    checksums = Checksums.of(weights, largest, added=added)
    outputs = weights.shape[1]
    counts = np.array(checksums.plain.counts)
    most = int(np.abs(weights.sum(axis=1)).max())
    assert (counts**2).sum() <= added * outputs or set(counts.tolist()) == {1}
    assert len(counts) <= max(1, -(-most // largest))
    loose = Checksums.of(weights, largest, added=10 * added)
    assert len(loose.plain.counts) <= len(counts)


def test_a_fault_is_found_and_located_by_vectors_that_drive_one_row_each() -> None:
    weights = gaussian(20, 12, 7)
    checksums = Checksums.of(weights, 7)
    array = checksums.extend(weights)
    rng = np.random.default_rng(3)
    for _ in range(50):
        row, output = int(rng.integers(20)), int(rng.integers(12))
        broken = array.copy()
        change = int(rng.choice([-3, -1, 2, 5]))
        broken[row, output] += change
        report = checksums.check(3.0 * np.eye(20) @ broken, threshold=0.5)
        assert np.flatnonzero(report.flagged).tolist() == [row]
        assert report.output.tolist() == [output if each == row else -1 for each in range(20)]
        assert report.residual[row] == 3 * change
    plain = Checksums.of(weights, 7, weighted=False)
    broken = plain.extend(weights)
    broken[2, 3] += 1
    report = plain.check(np.eye(20) @ broken, threshold=0.5)
    assert report.flagged.sum() == 1
    assert set(report.output.tolist()) == {-1}


def test_errors_that_add_up_to_nothing_are_not_seen() -> None:
    checksums = Checksums.of(gaussian(5, 4, 7), 7)
    array = checksums.extend(gaussian(5, 4, 7))
    array[1, 0] += 2
    array[1, 3] -= 2
    assert not checksums.check(np.ones((1, 5)) @ array, threshold=0.5).flagged.any()


# --- closed forms


@pytest.mark.parametrize("outputs", [2, 5, 16])
def test_the_chances_are_those_of_draws(outputs: int) -> None:
    checksums, sigma, count = Checksums.of(gaussian(64, outputs, 7), 7), 1.3, 40_000
    threshold = checksums.threshold(sigma, false_alarm=0.02)
    rng = np.random.default_rng(outputs)
    noise = rng.normal(0.0, sigma, (count, outputs + checksums.columns))
    sound = checksums.check(noise, threshold=threshold)
    assert sound.residual.std() == pytest.approx(checksums.residual_sigma(sigma), rel=0.02)
    assert close(sound.flagged.mean(), 0.02, count)
    assert checksums.detection(0.0, sigma, threshold=threshold) == pytest.approx(0.02)
    for output in {0, outputs // 2, outputs - 1}:
        for error in (-40.0, 0.0, 4.0, 12.0):
            sums = noise.copy()
            sums[:, output] += error
            flagged = checksums.check(sums, threshold=threshold).flagged
            assert close(flagged.mean(), checksums.detection(error, sigma, threshold=threshold), count)
            told = checksums.check(sums, threshold=0.0).output
            assert close((told == output).mean(), checksums.location(error, sigma, output=output), count)


def test_the_threshold_of_rounding_is_half_a_step_an_output_at_worst_and_the_root_of_a_twelfth_of_them_as_a_rule() -> (
    None
):
    """128 outputs and columns of weights that add to next to nothing: C / 2 steps, and sqrt(C / 12) steps."""
    weights = np.tile(np.array([1, -1]), (3, 64))
    checksums = Checksums.of(weights, 7, weighted=False)
    assert checksums.columns == 1
    assert checksums.worst_rounding(2.0) == 2.0 * 129 / 2
    assert checksums.residual_sigma(2.0 / np.sqrt(12)) == pytest.approx(2.0 * np.sqrt(129 / 12))
    rng = np.random.default_rng(1)
    sums = rng.normal(0, 50, (20_000, 129))
    sums[:, 128] = -sums[:, :128].sum(axis=1)
    residual = checksums.check(2.0 * np.rint(sums / 2.0), threshold=0.0).residual
    assert np.abs(residual).max() <= checksums.worst_rounding(2.0)
    assert residual.std() == pytest.approx(2.0 * np.sqrt(129 / 12), rel=0.03)


def test_the_noise_of_an_output_is_that_of_the_reads_it_sums() -> None:
    """Four reads of two planes and two slices, rounded: 200,000 draws."""
    rng, counts = np.random.default_rng(2), (1.0, 2.0, 4.0, 8.0)
    reads = rng.uniform(-50, 50, (200_000, 4))
    codes = 0.7 * np.rint((reads + rng.normal(0, 0.4, reads.shape)) / 0.7)
    spread = ((codes - reads) @ np.array(counts)).std()
    assert output_sigma(noise=0.4, step=0.7, counts=counts) == pytest.approx(spread, rel=0.01)
    with pytest.raises(InputError, match="counts must be of at least one read"):
        output_sigma(noise=0.4, step=0.7, counts=())


def test_a_place_is_certain_without_noise_and_a_guess_without_an_error() -> None:
    checksums = Checksums.of(gaussian(8, 6, 7), 7)
    assert checksums.location(1.0, 0.0, output=2) == 1.0
    assert checksums.location(0.0, 0.0, output=2) == 0.0
    assert sum(checksums.location(0.0, 1.0, output=j) for j in range(6)) == pytest.approx(1.0)
    assert checksums.detection(1.0, 0.0, threshold=0.5) == 1.0
    assert checksums.detection(0.4, 0.0, threshold=0.5) == 0.0
    assert Checksums.of(gaussian(8, 1, 7), 7).location(1.0, 9.0, output=0) == 1.0
    with pytest.raises(InputError, match="weighted must be given"):
        Checksums.of(gaussian(8, 6, 7), 7, weighted=False).location(1.0, 1.0, output=0)


# --- on an array


def test_an_array_read_by_the_reference_engine_is_flagged_as_the_closed_forms_say() -> None:
    """Differential pairs with read noise and a converter: residual, false alarms, detection, place of stuck cells."""
    largest, count, spread, step = 7, 3000, 0.3, 2.5
    weights = gaussian(32, 16, largest, seed=4)
    checksums = Checksums.of(weights, largest)
    extended = checksums.extend(weights)
    outputs = extended.shape[1]
    mapping = Mapping(encoding=Differential(), rows=32, columns=2 * outputs, weight_bits=4, cell_bits=3)
    matrix = map_matrix(extended, mapping)
    reading = Reading.of(matrix, "analog")
    assert matrix.tiles == 1
    drive = Drive(signed=False, input_bits=1, dac_bits=1)
    converter = Converter(step=step, low=-200, high=200)
    rng = np.random.default_rng(5)

    def read(cells: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return reference_multiply(
            np.ones((count, 32), np.int64),
            reading,
            cells,
            drive,
            converter,
            noise_spread=np.full(cells.shape, spread),
            normals=rng.standard_normal((count, 1, 1, 1, reading.reads)),
        )

    sigma = output_sigma(noise=spread * np.sqrt(2 * 32), step=step)  # a pair of 32 cells each
    threshold = checksums.threshold(sigma, false_alarm=0.05)
    sound = checksums.check(read(matrix.levels.astype(float)), threshold=threshold)
    assert sound.residual.std() == pytest.approx(checksums.residual_sigma(sigma), rel=0.08)
    assert abs(sound.residual.mean()) < 6 * checksums.residual_sigma(sigma) / np.sqrt(count)
    assert close(sound.flagged.mean(), 0.05, count)

    errors = []
    for output in (0, 9):
        (column,) = np.flatnonzero((reading.outputs[0] == output) & (reading.counts > 0))
        cells = matrix.levels.astype(float)
        stuck = mapping.max_level
        rows = np.argsort(cells[0, :, reading.plus[column]])[:4]  # several cells of one column, stuck on
        error = float((stuck - cells[0, rows, reading.plus[column]]).sum())
        cells[0, rows, reading.plus[column]] = stuck
        report = checksums.check(read(cells), threshold=threshold)
        assert close(report.flagged.mean(), checksums.detection(error, sigma, threshold=threshold), count)
        told = checksums.check(read(cells), threshold=0.0).output
        assert close((told == output).mean(), checksums.location(error, sigma, output=output), count)
        errors.append(error)
    assert min(errors) > 10


# --- bounds


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Checksums.of(FRACTIONS, 7), r"weights must be integers of shape \(inputs, outputs\)"),
        (lambda: Checksums.of(np.full((2, 3), 8), 7), "weights must be >= -7 and <= 7, got 8"),
        (lambda: Checksums.of(np.ones((2, 3), int), 0), "largest must be an integer >= 1"),
        (lambda: ChecksumSum(counts=(1, 2)), r"counts must fall to 1, got \(1, 2\)"),
        (lambda: ChecksumSum(counts=()), "counts must be 1 to"),
        (lambda: Checksums.of(np.ones((2, 3), int), 7).extend(np.ones((2, 4), int)), "must have 3 outputs, got 4"),
        (
            lambda: Checksums.of(np.ones((2, 8), int), 7).extend(np.full((2, 8), 7)),
            "weights must have sums that fit columns of weights up to 7",
        ),
        (
            lambda: Checksums.of(np.ones((2, 3), int), 7).check(np.ones((2, 3)), threshold=1.0),
            r"sums must be of shape \(vectors, 5\), got \(2, 3\)",
        ),
        (lambda: Checksums.of(np.ones((2, 3), int), 7).threshold(1.0, false_alarm=0.0), "false_alarm must be"),
    ],
)
def test_what_is_out_of_bounds_is_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@settings(max_examples=40, deadline=None)
@given(most=st.integers(0, 10**9), largest=st.integers(1, 1000), variance=st.floats(0, 1e9))
def test_any_sum_can_be_cut(most: int, largest: int, variance: float) -> None:
    law = ChecksumSum.smallest(most, largest, variance)
    sums = np.array([0, most, -most, most // 2, -(most // 3)])
    columns = law.cut(sums)
    assert np.abs(columns).max() <= largest
    np.testing.assert_array_equal(columns @ np.array(law.counts), sums)
