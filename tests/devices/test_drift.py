"""Drift: closed forms, one trajectory for every cell, the fitted cards, and dies at later times."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

import xbarsim as xb
from xbarsim.data import data_file, data_folder
from xbarsim.devices import (
    GRID,
    Cell,
    Drift,
    DriftStep,
    LogarithmicDrift,
    MeasuredDrift,
    Polynomial,
    Programming,
    ProgrammingError,
    StuckFaults,
    TelegraphNoise,
    card,
)
from xbarsim.die import Purpose, generator, program
from xbarsim.experiments.fits import drift_cards
from xbarsim.experiments.fits.device_cards import FULL_SCALE
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.mapping import Mapping
from xbarsim.network import MappedNetwork, map_model

Array = np.ndarray[Any, np.dtype[Any]]

ALARM = 1e-6  # false-alarm rate of each statistical test; seeds are fixed

WALK = LogarithmicDrift(
    spread=Polynomial(coefficients=(1e-7, 0.02), scale=1.0),
    shift=Polynomial(coefficients=(2e-7, -0.05), scale=1.0, minimum=-math.inf),
    reference_time=2.0,
    valid_from=1e-6,
    valid_to=1e-4,
    valid_seconds=1e6,
)
STEPS = MeasuredDrift(
    target=(1e-5, 3e-5),
    probability=(0.0, 0.25, 1.0),
    steps=(
        DriftStep(seconds=9.0, correlation=0.8, error=((-1e-6, 0.0, 1e-6), (-2e-6, -1e-6, 3e-6))),
        DriftStep(seconds=999.0, correlation=0.6, error=((-4e-6, -1e-6, 2e-6), (-6e-6, -2e-6, 5e-6))),
    ),
    valid_from=0.5e-5,
    valid_to=5e-5,
)
ERROR = ProgrammingError(spread=Polynomial(coefficients=(4e-7,), scale=1.0), valid_from=0.5e-5, valid_to=5e-5)
LAWS: dict[str, Drift] = {
    "walk": WALK,
    "steps": STEPS,
    "levy2021_b": Cell.load("levy2021_b").drift or WALK,
    "levy2021_c": Cell.load("levy2021_c").drift or WALK,
}
every_law = pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def range_of(law: Drift) -> Array:
    return np.linspace(law.valid_from, law.valid_to, 2001)


def programmed(target: Any, bias: float = 1e-7, spread: float = 4e-7) -> Programming:
    """The same normal law for all cells."""
    array = np.asarray(target, dtype=np.float64)
    return Programming(target=array, bias=np.full(array.shape, bias), spread=np.full(array.shape, spread))


def relax(law: Drift, g: Array, seconds: float, generator: np.random.Generator) -> Array:
    """Cells that were programmed to `g` and hit it."""
    return law.relax(g, seconds, generator, programmed(g))


# --- what every law owes


def test_the_laws_are_not_stand_ins() -> None:
    assert [type(law).__name__ for law in LAWS.values()] == ["LogarithmicDrift", *3 * ["MeasuredDrift"]]


@every_law
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_zero_seconds_change_nothing_and_any_others_do(law: Drift, kind: Any) -> None:
    g = range_of(law).astype(kind).reshape(3, -1)
    held = relax(law, g, 0, rng())
    np.testing.assert_array_equal(held, g)
    assert held is not g
    later = relax(law, g, law.longest, rng())
    assert (later.dtype, later.shape) == (kind, g.shape)
    assert (later != g).mean() > 0.9
    assert later.min() >= 0
    assert relax(law, g[:0], law.longest, rng()).shape == (0, g.shape[1])


@every_law
def test_one_stream_is_one_trajectory(law: Drift) -> None:
    """Continuous in time, whatever the other times asked for, cell by cell; another stream is another die."""
    g = range_of(law)
    generator = rng()
    first = relax(law, g, law.longest, generator)
    np.testing.assert_array_equal(first, relax(law, g, law.longest, rng()))
    after = generator.random()
    generator = rng()
    relax(law, g, law.longest / 100, generator)
    assert generator.random() == after  # later draws of a stream do not depend on the seconds either
    assert (relax(law, g, law.longest, rng(2)) != first).mean() > 0.9
    step = (law.valid_to - law.valid_from) * 1e-3
    for seconds in np.geomspace(law.longest * 1e-7, law.longest / 1.001, 40):
        near = np.abs(relax(law, g, seconds * 1.0000001, rng()) - relax(law, g, seconds, rng()))
        assert near.max() < step
    soon = np.abs(relax(law, g, law.reference_time * 1e-10, rng()) - g)
    assert soon.max() < step


@every_law
def test_moments_are_those_of_the_cells(law: Drift) -> None:
    """Of the change, or of the error: which does not depend on how cells were programmed."""
    count = 40_000
    generator = rng(4)
    for target in (law.valid_from * 1.5 + 1e-6, law.valid_to):
        targets = np.full(count, target)
        start = targets + 1e-7 + 4e-7 * generator.standard_normal(count)
        for seconds in (law.longest, law.longest ** (2 / 3) + 9.0):
            scores = generator.standard_normal((law.scores, count))
            if law.needs_programming:
                moved = law.later(start, seconds, scores, programmed(targets)) - target
            else:
                moved = law.later(targets, seconds, scores, None) - target
            mean, spread = law.moments(np.array([target]), seconds)
            assert_moments(moved, float(mean[0]), float(spread[0]))


def assert_moments(sample: Any, mean: float, spread: float) -> None:
    bound = stats.norm.isf(ALARM / 2) / math.sqrt(sample.size)
    assert abs(sample.mean() - mean) < bound * spread
    kurtosis = float(np.mean((sample - sample.mean()) ** 4)) / sample.var() ** 2
    assert abs(sample.var() / spread**2 - 1) < bound * math.sqrt(kurtosis - 1) * 1.1 + 1e-3


@every_law
def test_the_law_ends_where_it_was_measured(law: Drift) -> None:
    g = np.array([law.valid_to])
    for seconds in (-1.0, -1e-9, math.nan, math.inf, law.longest * 1.001, "10", True):
        with pytest.raises(InputError, match=rf"seconds must be a finite number >= 0.0 and <= {law.longest!r}, got "):
            law.relax(g, seconds, rng())  # type: ignore[arg-type]
        with pytest.raises(InputError, match="seconds must be"):
            law.moments(g, seconds)  # type: ignore[arg-type]
    # cells beyond the ends move like those at the ends
    moved = [relax(law, g * times, law.longest, rng()) - g * times for times in (1.0, 2.0)]
    if not isinstance(law, MeasuredDrift) or law.target[-1] < law.valid_to:
        np.testing.assert_allclose(moved[1], moved[0], atol=1e-12)


@every_law
@pytest.mark.parametrize(
    ("conductance", "message"),
    [
        ([1e-5, -1e-9], r"conductance must be finite and >= 0 S, got -1e-09"),
        ([math.nan], r"conductance must be finite and >= 0 S, got nan"),
        ([math.inf], r"conductance must be finite and >= 0 S, got inf"),
    ],
)
def test_bad_conductances_are_refused(law: Drift, conductance: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        law.relax(np.array(conductance), 1.0, rng())
    with pytest.raises(InputError, match="conductance must be float32 or float64, got type int"):
        law.relax(np.array([1]), 1.0, rng())
    with pytest.raises(InputError, match="rng must be of type Generator"):
        law.relax(np.array([1e-5]), 1.0, 7)  # type: ignore[arg-type]


def test_measured_drift_must_know_what_was_programmed() -> None:
    g = np.array([1e-5, 2e-5])
    with pytest.raises(InputError, match="programming must be given for MeasuredDrift, got None"):
        STEPS.relax(g, 1.0, rng())
    with pytest.raises(InputError, match=r"programming.target must have shape \(2,\), got \(3,\)"):
        STEPS.relax(g, 1.0, rng(), programmed(np.full(3, 1e-5)))
    with pytest.raises(InputError, match=r"programming.spread must be > 0 S, got 0.0"):
        STEPS.relax(g, 1.0, rng(), programmed(g, spread=0.0))
    with pytest.raises(InputError, match="programming_error must be given for MeasuredDrift, got None"):
        Cell(g_min=1e-5, g_max=4e-5, levels=4, drift=STEPS)
    with pytest.raises(InputError, match=r"seconds must be a finite number >= 9.0 and <= 999.0, got 8.0"):
        STEPS.moments(g, 8.0)


def cell(law: Drift) -> Cell:
    error = dataclasses.replace(ERROR, valid_from=0.0, valid_to=1.0)
    return Cell(g_min=law.valid_from, g_max=law.valid_to, levels=4, programming_error=error, drift=law)


@every_law
def test_a_cell_with_drift_survives_toml(law: Drift) -> None:
    made = cell(law)
    assert tomlio.loads(Cell, tomlio.dumps(made)) == made
    design = xb.Design(cell=made, mapping=Mapping(cell_bits=2))
    assert xb.Design.from_toml(design.to_toml()) == design


@pytest.mark.parametrize(
    ("law", "old", "new", "message"),
    [
        (
            WALK,
            "LogarithmicDrift",
            "PowerDrift",
            r"drift.type must be one of 'LogarithmicDrift', 'MeasuredDrift', 'PowerLawDrift', got",
        ),
        (WALK, "valid_seconds", "seconds", r"drift has no key 'seconds'"),
        (STEPS, "correlation", "correlated", r"drift.steps\[0\] has no key 'correlated'"),
        (STEPS, "seconds = 9.0", 'seconds = "9"', r"drift.steps\[0\].seconds must be float, got '9'"),
    ],
)
def test_drift_in_toml_is_read_strictly(law: Drift, old: str, new: str, message: str) -> None:
    text = tomlio.dumps(cell(law))
    assert old in text
    with pytest.raises(FileFormatError, match=message):
        tomlio.loads(Cell, text.replace(old, new))


# --- closed forms


def test_a_walk_by_hand() -> None:
    """From 2 s on: 18 s later is one decade, 198 s two, and 2 (10^1.25 - 1) s one and a quarter."""
    g = np.array([1e-5])
    scores = np.array([[1.0], [-2.0], [0.5], [0.0], [0.0], [0.0]])
    spread, shift = 1e-7 + 0.02e-5, 2e-7 - 0.05e-5
    for seconds, walk, decades in ((18.0, 1.0, 1.0), (198.0, -1.0, 2.0), (2 * (10**1.25 - 1), 1 - 2 * 0.5, 1.25)):
        moved = WALK.later(g, seconds, scores) - g
        np.testing.assert_allclose(moved, [spread * walk + shift * decades], atol=1e-16)
        mean, deviation = WALK.moments(g, seconds)
        assert (float(mean[0]), float(deviation[0])) == pytest.approx((shift * decades, spread * math.sqrt(decades)))
    assert WALK.scores == 6
    steady = dataclasses.replace(WALK, shift=None)
    np.testing.assert_allclose(steady.later(g, 18.0, scores) - g, [spread])
    assert steady.moments(g, 18.0)[0].tolist() == [0.0]


def test_errors_by_hand() -> None:
    """A score picks a probability; between targets, probabilities and log times lie straight lines."""
    half = np.zeros((2, 3))  # probability 1/2: a third of the way from the second node to the third
    target = np.array([1e-5, 3e-5, 2e-5])
    programming = programmed(target)
    start = target + 1e-7  # the score of programming is zero too

    def error(seconds: float, scores: Array = half) -> Array:
        return np.asarray(STEPS.later(start, seconds, scores, programming) - target)

    at_nodes = np.array([1 / 3, -1 + 4 / 3]) * 1e-6
    np.testing.assert_allclose(error(9.0), [*at_nodes, at_nodes.mean()], atol=1e-18)
    later = np.array([0.0, -2 + 7 / 3]) * 1e-6
    np.testing.assert_allclose(error(999.0), [*later, later.mean()], atol=1e-18)
    # 99 s is half way in log time from 9 s to 999 s, and sqrt(10) - 1 s half way to 9 s, from a bias of 0.1 uS
    np.testing.assert_allclose(error(99.0)[:2], (at_nodes + later) / 2, atol=1e-18)
    np.testing.assert_allclose(error(math.sqrt(10) - 1)[:2], (1e-7 + at_nodes) / 2, atol=1e-18)
    # a cell that starts one spread high has score 0.8 at 9 s and 0.48 at 999 s; a new score of 1 adds 0.6 at 9 s
    high = dataclasses.replace(programming, bias=programming.bias - 4e-7)
    for seconds, score, new in ((9.0, 0.8, 0.0), (999.0, 0.48, 0.0), (9.0, 1.4, 1.0)):
        errors = STEPS.later(start, seconds, half + new, high) - target
        chance = float(stats.norm.cdf(score))
        nodes = STEPS.steps[0 if seconds == 9.0 else 1].error[0]
        assert errors[0] == pytest.approx(float(np.interp(chance, STEPS.probability, nodes)), abs=1e-18)
    # uniform laws: mean and spread of two boxes
    mean, spread = STEPS.moments(target[:1], 9.0)
    assert float(mean[0]) == pytest.approx((0.25 * -0.5 + 0.75 * 0.5) * 1e-6)
    assert float(spread[0]) == pytest.approx(math.sqrt(1 / 3 - 0.25**2) * 1e-6)


def test_steps_are_correlated_as_stated() -> None:
    count = 40_000
    generator = rng(3)
    scores = generator.standard_normal((2, count))
    box = (tuple(np.linspace(-1e-6, 1e-6, 101)),)
    flat = MeasuredDrift(
        target=(1e-5,),
        probability=tuple(np.linspace(0, 1, 101)),
        steps=tuple(dataclasses.replace(step, error=box) for step in STEPS.steps),
        valid_from=0.5e-5,
        valid_to=5e-5,
    )
    target = np.full(count, 1e-5)
    first = generator.standard_normal(count)
    start = target + 1e-7 + 4e-7 * first
    ranks = [first]
    for seconds in (9.0, 99.0, 999.0):
        error = flat.later(start, seconds, scores, programmed(target)) - target
        ranks.append(stats.norm.ppf((error / 1e-6 + 1) / 2))
    for i, j, expected in ((0, 1, 0.8), (1, 2, 0.8), (1, 3, 0.6), (0, 3, 0.48), (0, 2, 0.64)):
        correlation = float(np.corrcoef(ranks[i], ranks[j])[0, 1])
        error = (1 - expected**2) / math.sqrt(count)
        assert abs(correlation - expected) < stats.norm.isf(ALARM / 2) * error


@settings(deadline=None, max_examples=30)
@given(st.floats(9.0, 999.0), st.floats(1e-6, 1e-4), st.integers(0, 99))
def test_errors_stay_between_the_extreme_quantiles(seconds: float, g: float, seed: int) -> None:
    start = np.full(200, g)
    later = relax(STEPS, start, seconds, rng(seed))
    assert (later - start).min() >= max(-6e-6, -g) - 1e-18
    assert (later - start).max() <= 5e-6 + 1e-18


# --- what is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dataclasses.replace(WALK, reference_time=0.0), r"reference_time must be .*> 0.0, got 0.0"),
        (lambda: dataclasses.replace(WALK, valid_seconds=-1.0), r"valid_seconds must be .*> 0.0, got -1.0"),
        (lambda: dataclasses.replace(WALK, valid_to=1e-6), r"valid_to must be .*> 1e-06, got 1e-06"),
        (lambda: dataclasses.replace(WALK, shift=WALK.spread), r"shift.minimum must be -inf .*got 0.0"),
        (lambda: dataclasses.replace(WALK, spread=WALK.shift), r"spread.minimum must be >= 0 .*got -inf"),  # type: ignore[arg-type]
        (lambda: dataclasses.replace(STEPS, steps=()), r"steps must hold at least one step, got \(\)"),
        (lambda: dataclasses.replace(STEPS, steps=STEPS.steps[::-1]), r"seconds of the steps must rise, got 999.0"),
        (lambda: dataclasses.replace(STEPS, steps=(1,)), r"steps\[0\] must be of type DriftStep"),  # type: ignore[arg-type]
        (lambda: dataclasses.replace(STEPS, target=(3e-5, 1e-5)), r"target must rise, got 3e-05 and then"),
        (lambda: dataclasses.replace(STEPS, target=()), r"target must hold at least 1 numbers, got 0"),
        (lambda: dataclasses.replace(STEPS, target=(1e-5,)), r"steps\[0\].error must hold 1 rows, .*got 2"),
        (lambda: dataclasses.replace(STEPS, probability=(0.0, 1.0)), r"must hold 2 quantiles, .*got 3"),
        (lambda: dataclasses.replace(STEPS, probability=(0.0, 0.5, 0.9)), r"probability must run from 0 to 1, got 0.0"),
        (lambda: DriftStep(seconds=0.0, correlation=1.0, error=((0.0,),)), r"seconds must be .*> 0.0, got 0.0"),
        (lambda: DriftStep(seconds=1.0, correlation=1.5, error=((0.0,),)), r"correlation must be .*got 1.5"),
        (
            lambda: DriftStep(seconds=1.0, correlation=1.0, error=((1.0, 0.0),)),
            r"error\[0\] must not fall, got 1.0 and then 0.0",
        ),
        (lambda: DriftStep(seconds=1.0, correlation=1.0, error=((math.nan,),)), r"error\[0\]\[0\] must be .*got nan"),
        (lambda: Cell(g_min=1e-7, g_max=1e-5, levels=2, drift=WALK), r"where drift is valid, got 1e-07 and 1e-05"),
        (lambda: Cell(g_min=1e-6, g_max=1e-5, levels=2, drift=0.1), r"drift must be of type Drift"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_law_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


# --- cells


def test_cells_relax_on_the_grid() -> None:
    made = Cell(g_min=1e-5, g_max=4e-5, levels=16, programming_error=ERROR, drift=STEPS)
    levels = np.repeat(np.arange(16, dtype=np.uint8), 300)
    held = made.program(levels, 4, rng(2))
    later = made.relax(held, levels, 4, 999.0, rng())
    assert later.dtype == np.float32
    np.testing.assert_array_equal(later / GRID, np.rint(later / GRID))
    programming = programmed(np.minimum(made.conductance(levels, 4), 4e-5), bias=0.0)
    moved = STEPS.relax(made.conductance(held, 4), 999.0, rng(), programming)
    np.testing.assert_allclose(made.conductance(later, 4), moved, atol=GRID * made.level_step(4))
    np.testing.assert_array_equal(made.relax(held, levels, 4, 0.0, rng()), held)
    walking = Cell(g_min=1e-5, g_max=4e-5, levels=16, drift=WALK)
    later = walking.relax(held, levels, 4, 999.0, rng())
    moved = WALK.relax(walking.conductance(held, 4), 999.0, rng())
    np.testing.assert_allclose(walking.conductance(later, 4), moved, atol=GRID * walking.level_step(4))
    with pytest.raises(InputError, match=r"drift must be given for a cell at later times, got None for cell 'plain'"):
        Cell(name="plain", g_min=1e-5, g_max=4e-5, levels=16).relax(held, levels, 4, 1.0, rng())


def test_cells_stopped_at_zero_drift_by_the_error_they_were_drawn_with() -> None:
    """Shares of cells below each quantile of the card are its probabilities, at the lowest levels and all its times.

    Binomial counts of 100,000 cells, each test with a false-alarm rate of 1e-6. Without the score of stopped cells,
    0.26 % lay below the 1 % quantile of level 0 at 2.44 s.
    """
    made = Cell.load("levy2021_c")
    law, count = made.drift, 100_000
    assert isinstance(law, MeasuredDrift)
    assert law.probability[1:4] == (0.01, 0.03, 0.1)
    assert law.steps[0].error[0][1:4] == (-5.48e-7, -5.15e-7, -3.73e-7)
    for level in (0, 1):
        levels = np.full((1, count, 1), level)
        stopped = program(levels, made, 5, rng(11)) != made.program(levels, 5, rng(11), stopped=False)
        assert stopped.mean() > (0.1, 0.0)[level]
        target = made.conductance(level, 5)
        assert target == pytest.approx(law.target[level], rel=1e-12)
        for step in law.steps:
            cells = program(levels, made, 5, rng(11), seconds=step.seconds, drift=rng(12))
            error = made.conductance(cells, 5).reshape(-1) - target
            for chance, quantile in zip(law.probability[1:-1], step.error[level][1:-1], strict=True):
                if quantile <= -target:
                    continue  # a cell has no less than zero conductance
                low, high = stats.binom.interval(1 - ALARM, count, chance)
                assert low <= np.count_nonzero(error < quantile) <= high


def test_cells_that_were_not_stopped_drift_as_from_their_conductance() -> None:
    """Bit for bit, so that dies of a seed stay what they were but for the cells stopped at zero."""
    made = Cell.load("levy2021_c")
    levels = np.random.default_rng(3).integers(0, 32, (2, 64, 64))
    drawn, held = (made.program(levels, 5, rng(4), stopped=stopped) for stopped in (False, True))
    free = drawn == held
    assert 0.0 < np.mean(~free) < 0.05
    np.testing.assert_array_equal(held, np.maximum(drawn, held.min()))
    later = [made.relax(cells, levels, 5, 100.0, rng(5)) for cells in (drawn, held)]
    np.testing.assert_array_equal(later[0][free], later[1][free])
    assert (later[0] != later[1])[~free].mean() > 0.5
    np.testing.assert_array_equal(made.relax(drawn, levels, 5, 0.0, rng(5)), held)


# --- the fitted cards


@pytest.fixture(params=sorted(FULL_SCALE))
def measured(request: pytest.FixtureRequest) -> drift_cards.Relaxation:
    try:
        data_file("rram", f"relax_tech{request.param}.npz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return drift_cards.measure(data_folder(), request.param)


@pytest.mark.data
def test_a_fitted_card_equals_a_fit_done_again(measured: drift_cards.Relaxation) -> None:
    shipped, again = card(f"levy2021_{measured.technology.lower()}").drift, drift_cards.fit(measured)
    assert shipped is not None
    assert isinstance(shipped.value, MeasuredDrift)
    assert isinstance(again.value, MeasuredDrift)
    assert again.note == shipped.note
    assert again.fit is not None
    assert shipped.fit is not None
    assert (again.fit.cells, again.fit.time_s) == (shipped.fit.cells, shipped.fit.time_s)
    np.testing.assert_allclose(again.value.target, shipped.value.target, rtol=2e-4)
    scale = FULL_SCALE[measured.technology]
    for new, old in zip(again.value.steps, shipped.value.steps, strict=True):
        np.testing.assert_allclose(new.error, old.error, atol=scale * 1e-5, rtol=2e-2)
        assert (new.seconds, new.correlation) == pytest.approx((old.seconds, old.correlation), abs=2e-3)
    for name in ("mean_residual", "spread_residual", "sampling_error"):
        np.testing.assert_allclose(getattr(again.fit, name), getattr(shipped.fit, name), rtol=0.02)


@pytest.mark.data
def test_the_fit_foretells_cells_it_has_not_seen(measured: drift_cards.Relaxation) -> None:
    """Of one half of the cells against the other: no further than chance takes two halves apart."""
    residual, chance = drift_cards.held_out(measured)
    away = np.abs(residual / chance)
    assert np.median(away) < 1.0
    assert np.mean(away < 3) > 0.95
    shift = np.abs(residual[0, :, -1]).max()
    assert shift < 0.02 * FULL_SCALE[measured.technology]


@pytest.mark.data
def test_a_die_programmed_like_the_measured_cells_ages_as_they_did(measured: drift_cards.Relaxation) -> None:
    """Mean, spread and quartiles of the errors from `program` and `relax`, group by group, at every measured time."""
    made = Cell.load(f"levy2021_{measured.technology.lower()}")
    which = drift_cards.groups(measured)
    levels = np.rint(np.nan_to_num(measured.target) / (FULL_SCALE[measured.technology] / 32) - 0.5).astype(np.int64)
    for index, seconds in enumerate(measured.seconds):
        present = np.isfinite(measured.trajectories.error[:, index])
        chosen, groups, shown = levels[present], which[present], measured.trajectories.error[present, index]
        held = made.program(chosen, 5, rng(7))
        later = made.conductance(made.relax(held, chosen, 5, float(seconds), rng(8)), 5)
        simulated = later - measured.target[present]
        for g in range(groups.max() + 1):
            here = groups == g
            error = shown[here].std() / math.sqrt(here.sum())
            # two samples of that size, and the cells that the simulator stops at zero
            assert abs(simulated[here].mean() - shown[here].mean()) < 6 * error
            assert simulated[here].std() == pytest.approx(shown[here].std(), rel=0.6)
            width = np.subtract(*np.quantile(shown[here], [0.9, 0.1]))
            for chance in (0.25, 0.5, 0.75):
                apart = np.quantile(simulated[here], chance) - np.quantile(shown[here], chance)
                assert abs(apart) < 0.2 * width
        whole = np.sqrt(np.mean(simulated**2)), np.sqrt(np.mean(shown**2))
        assert whole[0] == pytest.approx(whole[1], rel=0.05)


@pytest.mark.data
def test_the_picture_shows_fit_and_residuals_with_units(measured: drift_cards.Relaxation) -> None:
    figure = drift_cards.picture([measured], [card(f"levy2021_{measured.technology.lower()}")])
    assert len(figure.axes) == 4
    assert all("µS" in axes.get_ylabel() for axes in figure.axes)
    assert "unseen cells minus" in figure.axes[2].get_ylabel()


def test_absent_or_wrong_data(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        drift_cards.measure(tmp_path, "B")
    (tmp_path / "rram").mkdir()
    path = tmp_path / "rram" / "relax_techB.npz"
    np.savez(path, g_S=np.zeros(3))
    with pytest.raises(FileFormatError, match="does not hold the relaxation data"):
        drift_cards.measure(tmp_path, "B")
    arrays: dict[str, Any] = {
        "addr": np.arange(3),
        "g_S": np.full(3, 1e-6),
        "gi_S": np.full(3, 1e-6),
        "time_s": np.ones(3),
    }
    np.savez(path, **arrays, timept_s=np.ones(3))
    with pytest.raises(FileFormatError, match="must hold reads at 1 s and later, got 3 and 0 times"):
        drift_cards.measure(tmp_path, "B")
    np.savez(path, **arrays, timept_s=np.array([1.0, 10.0, 10.0]))
    with pytest.raises(FileFormatError, match="must hold reads at 1 s and later, got 1 and 0 times"):
        drift_cards.measure(tmp_path, "B")
    np.savez(path, **{**arrays, "addr": np.array([0, 0, 0])}, timept_s=np.array([1.0, 10.0, 100.0]))
    with pytest.raises(FileFormatError, match="at least 40 cells in each group and time, got 0"):
        drift_cards.fit(drift_cards.measure(tmp_path, "B"))


# --- dies


def network(cell: Cell, faults: StuckFaults | None = None) -> MappedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    design = xb.Design(cell=cell, mapping=Mapping(rows=16, columns=32), faults=faults)
    return map_model(model, design, calibration=images())


def images() -> torch.Tensor:
    return torch.rand(10, 16, generator=torch.Generator().manual_seed(2))


def test_a_die_ages_and_stays_the_same_die() -> None:
    made = Cell.load("levy2021_b")
    new = network(made, StuckFaults(on=0.05, off=0.05)).fabricate(seed=7, precision="double")
    before = new(images())
    old = new.at(10_000.0)
    assert (old.seconds, old.seed, old.precision, old.faults) == (10_000.0, 7, "double", new.faults)
    assert torch.equal(new(images()), before)  # the new die is still there
    assert torch.equal(new.at(0.0)(images()), before)
    assert not torch.equal(old(images()), before)
    assert torch.equal(old.at(100.0)(images()), new.at(100.0)(images()))
    again = network(made, StuckFaults(on=0.05, off=0.05)).fabricate(7, precision="double").at(10_000.0)
    assert torch.equal(old(images()), again(images()))
    for name, layer in new.layers.items():
        stuck = layer.faults.index
        np.testing.assert_array_equal(old.layers[name].cells().reshape(-1)[stuck], layer.cells().reshape(-1)[stuck])
        np.testing.assert_array_equal(old.layers[name].programmed(), layer.programmed())
        drift = generator(7, layer.index, Purpose.DRIFT)
        expected = made.relax(layer.programmed(), layer.matrix.levels, 4, 10_000.0, drift)
        free = np.delete(np.arange(expected.size), stuck)
        np.testing.assert_array_equal(old.layers[name].cells().reshape(-1)[free], expected.reshape(-1)[free])
    errors = [float((new.at(s)(images()) - new.network.digital(images())).norm()) for s in (0.0, 1e4)]
    assert errors[1] > errors[0]


def test_layers_drift_by_streams_of_their_own() -> None:
    die = network(Cell(g_min=1e-5, g_max=4e-5, levels=16, drift=WALK)).fabricate(seed=1)
    first, second = (generator(1, layer.index, Purpose.DRIFT).random(8) for layer in die.layers.values())
    assert (first != second).all()
    assert {row[1] for row in die.plan().rows} == {"exact"}
    assert {row[1] for row in die.at(100.0).plan().rows} == {"folded"}


def test_frozen_states_do_not_change_with_age() -> None:
    still = LogarithmicDrift(
        spread=Polynomial(coefficients=(0.0,), scale=1.0), valid_from=1e-6, valid_to=1e-4, valid_seconds=1e3
    )
    noise = TelegraphNoise(saturation=0.3, corner=1e-5, frozen=True)
    die = network(Cell(g_min=1e-5, g_max=4e-5, levels=16, drift=still, read_noise=noise)).fabricate(seed=1)
    for name, layer in die.at(100.0).layers.items():
        np.testing.assert_allclose(layer.cells(), die.layers[name].cells(), atol=2 * GRID)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, "1", None])
def test_times_that_are_refused(seconds: Any) -> None:
    die = network(Cell.load("levy2021_c")).fabricate(seed=1)
    with pytest.raises(InputError, match=r"seconds must be a finite number >= 0.0, got "):
        die.at(seconds)
    with pytest.raises(InputError, match=r"seconds must be a finite number >= 0.0 and <= 100000.0, got 200000.0"):
        die.at(200_000)
    with pytest.raises(
        InputError, match=r"drift must be given for a cell at later times, got None for cell 'milo2021'"
    ):
        network(Cell.load("milo2021")).fabricate(seed=1).at(1.0)
