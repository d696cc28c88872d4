"""A fit finds what a device was made with, says how good it is, and its card is the cell to the last bit."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from tests.devices.fitting.strangers import Truth, synthetic
from xbarsim.data import data_file
from xbarsim.devices import (
    Cell,
    CellFit,
    DriftEstimate,
    ErrorEstimate,
    FlickerNoise,
    Law,
    LogarithmicDrift,
    MeasuredDrift,
    Polynomial,
    ProgrammingError,
    QuantileEstimate,
    Readings,
    ReadNoise,
    SummedNoise,
    ThermalNoise,
    card,
    cell_names,
    fit_cell,
)
from xbarsim.devices.fitting.estimates import walk
from xbarsim.experiments.fits import device_cards
from xbarsim.foundation.validation import FileWriteError, InputError
from xbarsim.plot import cell_fit

TIMES = np.array([1.0, 10.0, 100.0, 1000.0])


def device(seed: int, *, noise: float = 0.01, repeats: int = 2, cells: int = 200) -> tuple[Readings, Truth]:
    """Reads of a synthetic device, each repeated, with a noise of a share of the conductance."""
    rng = np.random.default_rng(seed)
    truth = synthetic(rng, cells=cells, times=tuple(TIMES))
    reads = truth.conductance[..., None] * (1 + noise * rng.normal(size=(*truth.conductance.shape, repeats)))
    cell, target, time, _ = (axis.reshape(-1) for axis in np.indices(reads.shape))
    made = Readings(
        conductance=reads.reshape(-1), target=truth.target[target], time=truth.time[time], cell=cell.astype(np.int64)
    )
    return made, truth


def within(law: Law, truth: np.ndarray, limit: float) -> None:
    """Each point lies within so many standard errors of the truth, and the law between the points does too."""
    assert np.abs((law.value - truth) / law.error).max() < limit
    # a law of few coefficients lies closer than one point; of any, no point's error is far off
    assert np.abs(law.polynomial(law.conductance) - truth).max() < limit * law.error.max()


@pytest.mark.parametrize("seed", range(3))
def test_what_a_device_was_made_with_is_found_within_its_errors(seed: int) -> None:
    # 40 points a seed; beyond 4.5 standard errors lie 7e-6 of a normal law: a false alarm in 1,000 at fixed seeds
    readings, truth = device(seed)
    fit = fit_cell(readings)
    assert isinstance(fit.error, ErrorEstimate)
    assert isinstance(fit.noise, Law)
    assert isinstance(fit.drift, DriftEstimate)
    within(fit.error.bias, np.full(8, 0.3e-6), 4.5)
    within(fit.error.spread, 0.5e-6 + 0.02 * truth.target, 4.5)
    within(fit.noise, 0.01 * fit.noise.conductance, 4.5)
    within(fit.drift.shift, np.full(8, -0.1e-6), 4.5)
    within(fit.drift.spread, np.full(8, 0.4e-6), 4.5)
    assert fit.drift.noise_known
    assert (fit.cell.g_min, fit.cell.g_max, fit.cell.levels) == (10e-6, 80e-6, 8)
    assert 0.01 < fit.error.noise_removed < 0.2
    assert fit.error.beyond < 0.01
    np.testing.assert_allclose(fit.drift.deviation_law, fit.drift.deviation, rtol=0.1)


def test_errors_of_the_fit_are_as_large_as_they_say() -> None:
    scores = []
    for seed in range(30):
        fit = fit_cell(device(seed, cells=60)[0])
        assert isinstance(fit.error, ErrorEstimate)
        assert isinstance(fit.noise, Law)
        assert isinstance(fit.drift, DriftEstimate)
        scores += [
            ((law.value - truth) / law.error).tolist()
            for law, truth in (
                (fit.error.bias, 0.3e-6),
                (fit.error.spread, 0.5e-6 + 0.02 * np.linspace(10e-6, 80e-6, 8)),
                (fit.noise, 0.01 * fit.noise.conductance),
                (fit.drift.shift, -0.1e-6),
                (fit.drift.spread, 0.4e-6),
            )
        ]
    # 240 scores a law, each of variance 1: their mean square has a standard error of 0.09
    squares = np.mean(np.array(scores).reshape(30, 5, 8) ** 2, axis=(0, 2))
    assert (squares > 0.6).all(), squares
    assert (squares < 1.6).all(), squares


def test_without_repeated_reads_the_constant_variance_is_found_by_drift_alone() -> None:
    # drift sees the noise of two reads as a variance that does not grow; within 4.5 standard errors
    fit = fit_cell(device(5, repeats=1, cells=400)[0])
    assert isinstance(fit.noise, str)
    assert "degrees of freedom" in fit.noise
    assert fit.cell.read_noise is None
    assert isinstance(fit.drift, DriftEstimate)
    assert fit.drift.noise_known
    assert np.abs((fit.drift.spread.value - 0.4e-6) / fit.drift.spread.error).max() < 4.5


def test_reads_some_time_apart_are_drift_and_no_repeats() -> None:
    readings, _ = device(5)
    assert readings.time is not None
    # the second read of each state half as late again: still the same step, but no repeat
    late = readings.time * np.tile([1.0, 1.5], len(readings) // 2)
    fit = fit_cell(dataclasses.replace(readings, time=late))
    assert fit.noise == "repeated reads of one programmed state at one time leave 0 degrees of freedom, fewer than 10"
    near = readings.time * np.tile([1.0, 1.05], len(readings) // 2)
    again = fit_cell(dataclasses.replace(readings, time=near)).noise
    assert isinstance(again, Law)
    assert again.count.sum() == len(readings)


def test_quantiles_of_the_error_are_those_of_the_cells_and_foretell_others() -> None:
    readings, _ = device(8, cells=400, noise=0.0, repeats=1)
    fit = fit_cell(readings, drift_law="quantiles")
    drift = fit.drift
    assert isinstance(drift, QuantileEstimate)
    assert isinstance(fit.cell.drift, MeasuredDrift)
    assert [step.seconds for step in fit.cell.drift.steps] == [9.0, 99.0, 999.0]
    assert (drift.cells, drift.left_out, len(drift.law.target)) == ((3200, 3200, 3200), 0, 8)
    for step, decades in enumerate((1, 2, 3)):
        target = np.array(drift.law.target)
        mean, spread = drift.law.moments(target, float(drift.seconds[step] - 1))
        exact = np.sqrt((0.5e-6 + 0.02 * target) ** 2 + decades * 0.4e-6**2)
        # 400 cells a group: within 4.5 standard errors, and 1 % for digits and nodes
        assert np.abs(mean - (0.3e-6 - decades * 0.1e-6)).max() < 4.5 * exact.max() / 20
        np.testing.assert_allclose(spread, exact, rtol=4.5 / math.sqrt(800) + 0.01)
    # what the law of one half says of the other is off by what chance makes of it: eight groups, by a factor of two
    assert drift.mean_residual[-1] < 2 * drift.sampling_error[0]
    assert drift.spread_residual[-1] < 2 * drift.sampling_error[1]
    np.testing.assert_allclose(drift.mean_law, drift.mean, atol=2e-8)
    np.testing.assert_allclose(drift.deviation_law, drift.deviation, rtol=0.01)
    found = fit.card().drift
    assert found is not None
    assert found.fit is not None
    assert found.fit.time_s == (9.0, 99.0, 999.0)
    assert len(cell_fit(fit)[3].lines) > 2
    few = fit_cell(device(8, cells=6)[0], drift_law="quantiles").drift
    assert few == "48 states were read again later, and 60 are needed at each time"
    alone = fit_cell(device(8, cells=1)[0], drift_law="quantiles").drift
    assert isinstance(alone, str)
    assert alone.startswith("quantiles of the error start from the programming error, and there is none")


@pytest.mark.data
def test_quantiles_of_measured_errors_foretell_cells_that_were_not_fitted() -> None:
    try:
        path = data_file("rram", "relax_techC.npz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with np.load(path, allow_pickle=False) as archive:
        time, cell = archive["time_s"].astype(float), archive["addr"].astype(np.int64)
        first, conductance = archive["gi_S"].astype(float), archive["g_S"].astype(float)
    width = device_cards.FULL_SCALE["C"] / 32
    inside = (first >= 0) & (first < 32 * width)
    target = np.where(inside, (np.floor(first / width) + 0.5) * width, np.nan)
    readings = Readings(conductance=conductance, target=target, time=time, cell=cell)
    fit = fit_cell(readings, reference_time=1.0, drift_law="quantiles")
    assert isinstance(fit.drift, QuantileEstimate)
    np.testing.assert_allclose(fit.drift.deviation_law, fit.drift.deviation, rtol=0.02)
    assert fit.drift.spread_residual[-1] < 2 * fit.drift.sampling_error[1]


@pytest.mark.parametrize("law", ["walk", "quantiles"])
def test_simulated_cells_age_as_the_device_that_was_measured(law: Literal["walk", "quantiles"]) -> None:
    fit = fit_cell(device(8, cells=400, noise=0.0, repeats=1)[0], drift_law=law)
    rng = np.random.default_rng(1)
    levels = np.repeat(np.arange(8), 4000)
    drawn = fit.cell.program(levels, 3, rng, stopped=False)
    target = fit.cell.conductance(levels, 3)
    for seconds, decades in ((0.0, 0), (999.0, 3)):
        held = fit.cell.relax(drawn, levels, 3, seconds, np.random.default_rng(2))
        error = (fit.cell.conductance(held, 3) - target).reshape(8, -1)
        exact = np.sqrt((0.5e-6 + 0.02 * np.linspace(10e-6, 80e-6, 8)) ** 2 + decades * 0.4e-6**2)
        # the fit rests on 400 cells a level: 4.5 of their standard errors
        assert np.abs(error.mean(axis=1) - (0.3e-6 - decades * 0.1e-6)).max() < 4.5 * exact.max() / 20
        np.testing.assert_allclose(error.std(axis=1), exact, rtol=4.5 / math.sqrt(800))


def test_a_walk_is_what_bounded_least_squares_finds() -> None:
    rng = np.random.default_rng(2)
    x = np.array([0.5, 1.0, 2.0, 3.0])
    for _ in range(40):
        change = rng.normal(size=(12, 4)) * rng.uniform(0.2, 2.0, 4)
        change[rng.random((12, 4)) < 0.1] = np.nan
        count = np.isfinite(change).sum(axis=0)
        weight = np.sqrt(count) / x
        variance = np.nanvar(change, axis=0, ddof=1)
        found = walk(change, np.zeros(change.shape), x, constant=True)
        slope, constant = optimize.nnls(np.stack([x, np.ones(4)], axis=1) * weight[:, None], weight * variance)[0]
        np.testing.assert_allclose([found[2] ** 2, found[4]], [slope, constant], atol=1e-9)
        np.testing.assert_allclose(found[0], np.sum(count * np.nanmean(change, axis=0)) / np.sum(count * x))
        again = [walk(np.delete(change, k, 0), np.zeros((11, 4)), x, constant=True)[0] for k in range(12)]
        np.testing.assert_allclose(found[1], np.sqrt(11 * np.var(again)))


def test_the_order_of_readings_and_the_names_of_cells_change_nothing() -> None:
    readings, _ = device(1, cells=40)
    assert readings.target is not None
    assert readings.time is not None
    assert readings.cell is not None
    order = np.random.default_rng(0).permutation(len(readings))
    other = Readings(
        conductance=readings.conductance[order],
        target=readings.target[order],
        time=readings.time[order],
        cell=(39 - readings.cell)[order],
    )
    one, two = fit_cell(readings).cell, fit_cell(other).cell
    assert one == two


@pytest.mark.parametrize("name", cell_names())
def test_every_shipped_cell_is_saved_and_read_back_equal(name: str, tmp_path: Path) -> None:
    cell = Cell.load(name)
    cell.save(tmp_path / "one.toml")
    assert Cell.load(tmp_path / "one.toml") == cell
    cell.save(tmp_path / "two.toml", source="somewhere else", doi="10.1/2", origin="assumed")
    assert Cell.load(tmp_path / "two.toml") == dataclasses.replace(cell, source="somewhere else doi:10.1/2")
    assert card(tmp_path / "two.toml").g_min.origin == "assumed"


positive = st.floats(1e-9, 1e-3)


@given(
    g_min=positive, ratio=st.floats(1.001, 1e3), levels=st.integers(2, 300), voltage=st.floats(1e-3, 5.0),
    coefficients=st.lists(st.floats(-1e-4, 1e-4), min_size=1, max_size=5), seconds=st.floats(1e-3, 1e9),
    implausible=st.sampled_from([None, True]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_cell_is_saved_and_read_back_to_the_last_bit(
    g_min: float, ratio: float, levels: int, voltage: float, coefficients: list[float], seconds: float,
    implausible: bool | None, tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    g_max = min(g_min * ratio, 0.015)
    spread = Polynomial(coefficients=tuple(coefficients), scale=g_max)
    shift = Polynomial(coefficients=tuple(coefficients), scale=g_min, minimum=-np.inf)
    cell = Cell(
        name="any", g_min=g_min, g_max=g_max, levels=levels, read_voltage=voltage, source="s", implausible=implausible,
        programming_error=ProgrammingError(spread=spread, bias=shift, valid_from=g_min / 3, valid_to=g_max),
        read_noise=SummedNoise(mechanisms=(
            ReadNoise(spread=spread, valid_from=0.0, valid_to=g_max * 1.1), ThermalNoise(bandwidth=seconds),
            FlickerNoise(coefficient=1e-3, low_frequency=1 / seconds, high_frequency=1e9),
        )),
        drift=LogarithmicDrift(spread=spread, shift=shift, valid_from=g_min / 7, valid_to=g_max, valid_seconds=seconds),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("cell") / "any.toml"
    cell.save(path)
    assert Cell.load(path) == cell


def test_a_fitted_card_is_the_cell_and_holds_the_evidence(tmp_path: Path) -> None:
    fit = fit_cell(device(4)[0], name="mine")
    path = tmp_path / "mine.toml"
    fit.save(path, source="A. Nobody, Nowhere (2026)", description="ours")
    assert Cell.load(path) == dataclasses.replace(fit.cell, source="A. Nobody, Nowhere (2026)")
    found = card(path)
    assert (found.name, found.description) == ("mine", "ours")
    assert found.programming_error is not None
    assert found.programming_error.fit is not None
    assert found.programming_error.fit.cells == 1600
    assert found.drift is not None
    assert found.drift.fit is not None
    assert found.drift.fit.cells == (1600, 1600, 1600)
    assert found.read_noise is not None
    assert "12800 repeated reads" in found.read_noise.note
    fit.save(path)
    assert "no publication was stated" in Cell.load(path).source


def test_a_cell_or_fit_is_saved_only_as_a_card_and_with_a_source(tmp_path: Path) -> None:
    cell = Cell(g_min=1e-6, g_max=2e-6, levels=4)
    with pytest.raises(InputError, match=r"source must say where the values come from, got ''"):
        cell.save(tmp_path / "a.toml")
    for saved in (Cell.load("milo2021"), fit_cell(device(4, cells=20)[0])):
        with pytest.raises(InputError, match=r"path must end in '\.toml'"):
            saved.save(tmp_path / "a.csv")
        with pytest.raises(FileWriteError):
            saved.save(tmp_path / "absent" / "a.toml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["dev.csv", "Some Folder/dev.CSV", "dev.tsv", "dev.xlsx"])
def test_measurements_given_for_a_card_are_told_where_to_go(name: str) -> None:
    with pytest.raises(InputError, match=r"fit a card to measurements with xbarsim\.devices\.fit_cell\("):
        Cell.load(name)


def test_cells_that_are_dead_or_stuck_are_counted_and_left_out() -> None:
    readings, truth = device(6, cells=60)
    assert readings.cell is not None
    conductance = readings.conductance.copy()
    conductance[np.isin(readings.cell, (3, 4))] = np.nan
    conductance[readings.cell == 10] = 50e-6
    broken = dataclasses.replace(readings, conductance=conductance)
    fit = fit_cell(broken)
    assert (fit.dead, fit.stuck) == (2, 1)
    assert fit.count.tolist() == [57] * 8
    keep = ~np.isin(readings.cell, (3, 4, 10))
    assert readings.target is not None
    assert readings.time is not None
    without = fit_cell(Readings(
        conductance=readings.conductance[keep], target=readings.target[keep], time=readings.time[keep],
        cell=readings.cell[keep],
    ))  # fmt: skip
    assert isinstance(fit.error, ErrorEstimate)
    assert isinstance(without.error, ErrorEstimate)
    np.testing.assert_array_equal(fit.error.bias.value, without.error.bias.value)
    assert "Cells left out: 2 dead and 1 stuck." in fit.card().levels.note
    said = {line.quantity: line.value for line in fit.findings}
    assert (said["dead cells"], said["stuck cells"]) == ("2", "1")
    assert truth.target.size == 8


def test_cells_that_were_told_to_move_a_little_are_not_called_stuck() -> None:
    rng = np.random.default_rng(0)
    level = np.stack([np.arange(300) % 9, np.arange(300) % 9 + 1], axis=1)  # each cell at two neighbouring levels
    conductance = 1e-5 + 1e-6 * level + rng.normal(0, 1e-6, level.shape)
    near = np.abs(np.diff(conductance, axis=1)[:, 0]) < 1e-7
    assert near.any()
    fit = fit_cell(Readings(
        conductance=conductance.reshape(-1), level=level.reshape(-1), cell=np.repeat(np.arange(300), 2)
    ))  # fmt: skip
    assert fit.stuck == 0


def test_levels_without_targets_are_even_between_the_ends_and_what_misses_that_is_bias() -> None:
    rng = np.random.default_rng(0)
    means = np.array([10e-6, 12e-6, 20e-6, 40e-6])
    level = np.repeat(np.arange(4), 50)
    fit = fit_cell(Readings(conductance=means[level] + rng.normal(0, 1e-7, 200), level=level))
    assert fit.cell.levels == 4
    assert isinstance(fit.error, ErrorEstimate)
    np.testing.assert_allclose(fit.error.bias.value, [0, -8e-6, -10e-6, 0], atol=1e-7)
    assert any("evenly spaced" in line.basis for line in fit.findings)


def test_levels_that_are_missing_between_others_are_counted() -> None:
    level = np.repeat([0, 8, 31], 5)
    fit = fit_cell(Readings(conductance=1e-6 * (1 + level) * np.tile([1, 1.01, 0.99, 1.02, 1.03], 3), level=level))
    assert fit.cell.levels == 32
    assert fit.levels_note == "Levels 0 to 31 were programmed, of which 3 are in the data."


def test_a_continuum_of_targets_needs_the_levels_and_is_grouped() -> None:
    rng = np.random.default_rng(1)
    target = rng.uniform(10e-6, 100e-6, 3000)
    readings = Readings(conductance=target + rng.normal(0, 1, 3000) * 0.02 * target, target=target)
    with pytest.raises(InputError, match="levels must be given, for the data have more targets than states of each"):
        fit_cell(readings)
    fit = fit_cell(readings, levels=16)
    assert fit.cell.levels == 16
    assert fit.levels_origin == "assumed"
    assert isinstance(fit.error, ErrorEstimate)
    within(fit.error.spread, 0.02 * fit.error.spread.conductance, 4.5)


def test_what_the_data_do_not_say_is_absent_and_says_why() -> None:
    fit = fit_cell(Readings(conductance=np.array([1e-6, 5e-6]), level=np.array([0, 1])))
    assert fit.cell.exact
    assert not fit.cell.noisy
    assert fit.cell.drift is None
    absent = {line.quantity: line.basis for line in fit.findings if line.origin == "absent"}
    assert set(absent) == {"programming error", "read noise", "read noise, parts", "drift"}
    assert all(absent.values())
    assert fit.card().programming_error is None


def test_a_law_that_does_not_reach_over_the_range_is_not_carried_on() -> None:
    level = np.concatenate([np.repeat([0, 1, 2], 20), [9]])
    rng = np.random.default_rng(3)
    fit = fit_cell(Readings(conductance=1e-6 * (1 + level) + rng.normal(0, 1e-8, 61), level=level))
    assert isinstance(fit.error, str)
    assert "it is known from 0.9987 to 2.995 uS only" in fit.error
    assert fit.cell.programming_error is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conductance": np.full(3, np.nan)}, "at least one reading, got 3 without a value"),
        ({"conductance": np.ones(3), "target": np.ones(2)}, r"target must have the shape \(3,\)"),
        ({"conductance": np.ones((3, 1))}, r"conductance must have the shape \(3,\)"),
        ({"conductance": np.array([1.0, np.inf])}, "conductance must be finite or NaN, got inf at 1"),
        ({"conductance": np.ones(1), "time": np.array([-1.0])}, "time must be >= 0 s, got -1.0 at 0"),
        ({"conductance": np.ones(1), "time": np.array([np.nan])}, "time must be >= 0 s, got nan at 0"),
        ({"conductance": np.ones(1), "target": np.array([0.0])}, "target must be > 0 S, got 0.0 at 0"),
        ({"conductance": np.ones(1), "cell": np.array([0.5])}, "cell must be integers"),
        ({"conductance": np.ones(1), "level": np.array([-1])}, "level must be >= 0, got -1 at 0"),
        ({"conductance": np.ones(1), "level": np.array([1]), "target": np.ones(1)}, "must not both be given"),
        ({"conductance": np.ones(1), "read_voltage": 0.0}, "read_voltage must be a finite number > 0"),
    ],
)
def test_bad_readings_are_refused(fields: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Readings(**fields)  # type: ignore[arg-type]


def test_parameters_of_a_file_are_refused_beside_readings() -> None:
    with pytest.raises(InputError, match="must not be given with readings"):
        fit_cell(Readings(conductance=np.ones(2)), unit="uS")


@pytest.mark.data
def test_the_noise_of_a_measured_time_series_is_that_of_its_source() -> None:
    # shared/data/SOURCES.md: 9.1, 11.9, 1.7, 1.4 and 0.2 % of 9, 85, 134, 185 and 253 uS, over the whole series
    try:
        path = data_file("rram", "noise_techA_timeseries.npz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with np.load(path, allow_pickle=False) as archive:
        conductance, level = archive["g_S"].astype(float), archive["level"]
    cells, reads = conductance.shape
    fit = fit_cell(Readings(
        conductance=conductance.reshape(-1), level=np.repeat(level, reads), cell=np.repeat(np.arange(cells), reads)
    ))  # fmt: skip
    assert fit.cell.levels == 32
    assert isinstance(fit.noise, Law)
    np.testing.assert_allclose(fit.noise.conductance * 1e6, [9, 85, 134, 185, 253], rtol=0.06)
    np.testing.assert_allclose(
        fit.noise.value / fit.noise.conductance, [0.091, 0.119, 0.017, 0.014, 0.002], rtol=0.05, atol=5e-4
    )
    assert isinstance(fit, CellFit)
    assert isinstance(fit.error, str)
