"""Write and verify: the closed form and the draw at once are what comes of single pulses; the cards hold what they say.

Statistical tests have fixed seeds and a false-alarm rate of 1e-4 each, unless they say otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from xbarsim.data import data_folder
from xbarsim.devices import Cell, Polynomial, WriteCard, WriteVerify, Written, write_names
from xbarsim.devices.write_verify import WRITE_CARDS
from xbarsim.experiments.fits import write_verify as fitted
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError

ALARM = 1e-4


def flat(value: float, minimum: float = 0.0) -> Polynomial:
    return Polynomial(coefficients=(value,), scale=1e-6, minimum=minimum)


def writing(
    tolerance: float = 1e-6, most: int = 30, spread: float = 4e-6, bias: float = 0.0, noise: float = 0.0, **more: Any
) -> WriteVerify:
    return WriteVerify(
        tolerance=tolerance, most_pulses=most, pulse_spread=flat(spread),
        pulse_bias=flat(bias, -math.inf) if bias else None, read_spread=flat(noise) if noise else None,
        valid_from=0.0, valid_to=1e-3, **more,
    )  # fmt: skip


KINDS = {
    "plain": writing(),
    "pulses that are off": writing(bias=2e-6),
    "reads with noise": writing(noise=0.7e-6),
    "reads noisier than the window": writing(noise=2e-6, bias=-1e-6, tolerance=0.5e-6),
    "few pulses": writing(most=2, bias=3e-6, noise=0.3e-6),
    "a wide window": writing(tolerance=6e-6),
    "far off": writing(bias=12e-6, most=60),
}
TARGET = 100e-6  # far above zero conductance


@dataclass
class Slow:
    """One cell, pulse by pulse."""

    law: WriteVerify
    rng: np.random.Generator

    def read(self, conductance: float, target: float) -> bool:
        noise = 0.0 if self.law.read_spread is None else float(self.law.read_spread(target))
        return abs(conductance + noise * self.rng.standard_normal() - target) <= self.law.tolerance

    def write(self, target: float, start: float | None = None) -> tuple[float, int, bool]:
        if start is not None and self.read(start, target):
            return start, 0, True
        conductance = math.nan
        for pulse in range(1, self.law.most_pulses + 1):
            bias = 0.0 if self.law.pulse_bias is None else float(self.law.pulse_bias(target))
            conductance = target + bias + float(self.law.pulse_spread(target)) * self.rng.standard_normal()
            if self.read(conductance, target):
                return max(conductance, 0.0), pulse, True
        return max(conductance, 0.0), self.law.most_pulses, False


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    return min(one.size, other.size) < 20 or stats.ks_2samp(one, other).pvalue > ALARM


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [None, TARGET + 0.8e-6])
def test_cells_written_at_once_are_like_cells_written_pulse_by_pulse(kind: str, start: float | None) -> None:
    law, cells = KINDS[kind], 4000
    slow = Slow(law, np.random.default_rng(1))
    single = [slow.write(TARGET, start) for _ in range(cells)]
    left, pulses, accepted = (np.array(column) for column in zip(*single, strict=True))
    held = None if start is None else np.full(cells, start)
    once = law.program(np.full(cells, TARGET), np.random.default_rng(2), start=held)
    assert stats.ks_2samp(pulses, once.pulses).pvalue > ALARM
    share = (accepted.sum() + once.accepted.sum()) / (2 * cells)
    error = math.sqrt(2 * max(share * (1 - share), 1 / cells) / cells)
    assert abs(accepted.mean() - once.accepted.mean()) < 4 * error
    for chosen in (True, False):
        assert alike(left[accepted == chosen], once.conductance[once.accepted == chosen])


@pytest.mark.parametrize("kind", KINDS)
def test_the_closed_form_is_the_integral_over_single_pulses(kind: str) -> None:
    law = KINDS[kind]
    found = law.law(TARGET)
    spread, tolerance = float(law.pulse_spread(TARGET)), law.tolerance
    bias = 0.0 if law.pulse_bias is None else float(law.pulse_bias(TARGET))
    noise = 0.0 if law.read_spread is None else float(law.read_spread(TARGET))

    def accept(error: np.ndarray) -> np.ndarray:
        if not noise:
            return np.asarray(np.abs(error) <= tolerance, dtype=float)
        return np.asarray(stats.norm.cdf((tolerance - error) / noise) - stats.norm.cdf((-tolerance - error) / noise))

    edges = np.unique(
        np.concatenate([np.linspace(bias - 12 * spread, bias + 12 * spread, 601), [-tolerance, tolerance]])
    )
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges)[:, np.newaxis] / 2
    error = (edges[:-1, np.newaxis] + half + half * nodes).reshape(-1)
    density = (half * weights).reshape(-1) * stats.norm.pdf(error, bias, spread)

    def moment(power: int, accepted: bool) -> float:
        """Of one pulse, over what its read does."""
        return float(np.sum(error**power * density * (accept(error) if accepted else 1 - accept(error))))

    chance = moment(0, True)
    np.testing.assert_allclose(found.accepted_a_pulse, chance, rtol=1e-6)
    waits = np.arange(1, law.most_pulses + 1)
    given_up = (1 - chance) ** law.most_pulses
    np.testing.assert_allclose(found.given_up, given_up, rtol=1e-4)
    np.testing.assert_allclose(
        found.pulses, np.sum(waits * chance * (1 - chance) ** (waits - 1)) + given_up * law.most_pulses, rtol=1e-6
    )
    mean, square = moment(1, True) / chance, moment(2, True) / chance
    np.testing.assert_allclose(found.accepted_bias, mean, rtol=1e-5, atol=1e-6 * spread)
    np.testing.assert_allclose(found.accepted_spread, math.sqrt(square - mean**2), rtol=1e-5)
    lost = moment(1, False) / (1 - chance), moment(2, False) / (1 - chance)
    whole = [(1 - given_up) * inside + given_up * outside for inside, outside in zip((mean, square), lost, strict=True)]
    np.testing.assert_allclose(found.bias, whole[0], rtol=1e-4, atol=1e-6 * spread)
    np.testing.assert_allclose(found.spread, math.sqrt(whole[1] - whole[0] ** 2), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_cells_written_at_once_have_the_moments_of_the_closed_form(kind: str) -> None:
    law, cells = KINDS[kind], 200_000
    found = law.law(TARGET)
    cell = law.program(np.full(cells, TARGET), np.random.default_rng(3))
    error = cell.conductance - TARGET
    samples: tuple[tuple[np.ndarray, np.ndarray], ...] = (
        (cell.pulses, found.pulses), (~cell.accepted, found.given_up), (error, found.bias),
    )  # fmt: skip
    for sample, mean in samples:
        assert abs(float(np.mean(sample)) - float(mean)) < 4 * max(float(np.std(sample)), 1e-12) / math.sqrt(cells)
    fourth = np.mean((error - error.mean()) ** 4)
    scale = math.sqrt((fourth - error.var() ** 2) / cells) / (2 * error.std())
    assert abs(error.std() - found.spread) < 4 * scale


def test_the_limits_are_those_that_are_known() -> None:
    narrow = writing(tolerance=1e-9, most=10**9).law(TARGET)
    np.testing.assert_allclose(narrow.accepted_spread, 1e-9 / math.sqrt(3), rtol=1e-6)  # uniform in the window
    np.testing.assert_allclose(narrow.accepted_a_pulse, 2e-9 / (4e-6 * math.sqrt(2 * math.pi)), rtol=1e-6)
    wide = writing(tolerance=1e-3).law(TARGET)
    np.testing.assert_allclose([wide.spread, wide.pulses, wide.given_up], [4e-6, 1.0, 0.0], atol=1e-15)
    # a read that is all noise tells nothing: what is accepted is what a pulse left
    blind = writing(noise=1.0, tolerance=1e-1).law(TARGET)
    np.testing.assert_allclose(blind.accepted_spread, 4e-6, rtol=1e-6)
    # one pulse and no choice
    once = writing(most=1, bias=3e-6, noise=1e-6).law(TARGET)
    np.testing.assert_allclose([once.bias, once.spread, once.pulses], [3e-6, 4e-6, 1.0])


@given(
    tolerance=st.floats(1e-7, 1e-4), most=st.integers(1, 10**6), spread=st.floats(1e-7, 2e-5),
    bias=st.floats(-1e-5, 1e-5), seed=st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_what_is_accepted_lies_in_the_window_and_what_is_given_up_does_not(
    tolerance: float, most: int, spread: float, bias: float, seed: int
) -> None:
    law = writing(tolerance, most, spread, bias)
    target = np.linspace(2e-4, 8e-4, 60).reshape(3, 20)
    assume(abs(bias) < tolerance + 5 * spread)  # else too few pulses are accepted: refused, see below
    cell = law.program(target, np.random.default_rng(seed))
    error = np.abs(cell.conductance - target)
    close = 1e-9 * (target + tolerance)
    assert (error[cell.accepted] <= (tolerance + close)[cell.accepted]).all()
    assert (error[~cell.accepted] >= (tolerance - close)[~cell.accepted]).all()
    assert cell.pulses.min() >= 1
    assert cell.pulses.max() <= most
    assert (cell.pulses[~cell.accepted] == most).all()
    again = law.program(target, np.random.default_rng(seed))
    np.testing.assert_array_equal(again.conductance, cell.conductance)
    expected = law.law(target)
    assert (expected.pulses >= 1 - 1e-12).all()
    assert (expected.pulses <= most * (1 + 1e-12)).all()


def test_time_and_energy_are_those_of_the_pulses() -> None:
    law = writing(pulse_seconds=2e-3, pulse_energy=5e-12)
    cell = law.program(np.full(50, TARGET), np.random.default_rng(0), start=np.full(50, TARGET))
    assert (cell.pulses == 0).all()
    assert cell.accepted.all()
    assert cell.seconds is not None
    assert cell.energy is not None
    assert not cell.seconds.any()
    cell = law.program(np.full(50, TARGET), np.random.default_rng(0))
    assert cell.seconds is not None
    assert cell.energy is not None
    np.testing.assert_allclose(cell.seconds, 2e-3 * cell.pulses)
    np.testing.assert_allclose(cell.energy, 5e-12 * cell.pulses)
    expected = law.law(TARGET)
    assert expected.seconds is not None
    assert expected.energy is not None
    np.testing.assert_allclose(expected.seconds, 2e-3 * expected.pulses)
    np.testing.assert_allclose(expected.energy, 5e-12 * expected.pulses)
    unknown = writing().program(np.full(5, TARGET), np.random.default_rng(0))
    assert isinstance(unknown, Written)
    assert unknown.seconds is unknown.energy is writing().law(TARGET).seconds is None


def test_a_cell_can_be_programmed_with_the_error_that_is_left() -> None:
    law = replace(writing(noise=0.3e-6, bias=1e-6), pulse_spread=Polynomial(coefficients=(2e-6, 3e-6), scale=100e-6))
    error = law.programming_error(50e-6, 150e-6)
    target = np.linspace(50e-6, 150e-6, 37)
    expected = law.law(target)
    np.testing.assert_allclose(error.spread(target), expected.spread, atol=1e-3 * expected.spread.max())
    assert error.bias is not None
    np.testing.assert_allclose(error.bias(target), expected.bias, atol=1e-3 * expected.spread.max())
    cell = Cell(g_min=50e-6, g_max=150e-6, levels=16, programming_error=error)
    levels = np.repeat(np.arange(16), 4000)
    missed = cell.conductance(cell.program(levels, 4, np.random.default_rng(1)), 4) - cell.conductance(levels, 4)
    exact = law.law(cell.conductance(np.arange(16), 4))
    # 4,000 cells a level: 5 standard errors, for 16 levels
    np.testing.assert_allclose(missed.reshape(16, -1).std(axis=1), exact.spread, rtol=5 / math.sqrt(2 * 4000))
    assert writing().programming_error(50e-6, 150e-6).bias is None


def test_a_law_that_no_polynomial_follows_is_refused() -> None:
    kink = Polynomial(coefficients=(-2e-6, 4e-6), scale=100e-6, minimum=1e-9)
    law = replace(writing(tolerance=5e-7), pulse_spread=kink)
    with pytest.raises(InputError, match=r"must be within 0\.001 of a polynomial of order 8"):
        law.programming_error(10e-6, 150e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tolerance": 0.0}, "tolerance must be a finite number > 0"),
        ({"most_pulses": 0}, "most_pulses must be an integer >= 1"),
        ({"pulse_spread": flat(1e-6, -1.0)}, "spread.minimum must be >= 0"),
        ({"read_spread": flat(1e-6, -1.0)}, "spread.minimum must be >= 0"),
        ({"pulse_bias": flat(1e-6)}, r"pulse_bias\.minimum must be -inf"),
        ({"valid_to": 0.0}, "valid_to must be a finite number > 0"),
        ({"pulse_seconds": -1.0}, "pulse_seconds must be a finite number >= 0"),
        ({"pulse_energy": math.nan}, "pulse_energy must be a finite number"),
    ],
)
def test_values_out_of_bounds_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(writing(), **fields)


def test_targets_and_starts_out_of_bounds_are_refused() -> None:
    law, rng = writing(), np.random.default_rng(0)
    with pytest.raises(InputError, match=r"target must be within 0\.0 and 0\.001 S, .* got 0\.002"):
        law.law(np.array([1e-4, 2e-3]))
    with pytest.raises(InputError, match=r"target must be within .* got nan"):
        law.law(math.nan)
    with pytest.raises(InputError, match=r"pulse_spread must be > 0 S, got 0 at a target of 0\.0001"):
        writing(spread=0.0).law(1e-4)
    with pytest.raises(InputError, match="must leave a pulse a chance of 1e-12 to be accepted, got 0 at a target of"):
        writing(bias=5e-4).law(1e-4)
    with pytest.raises(InputError, match=r"start must have the shape \(2,\)"):
        law.program(np.full(2, 1e-4), rng, start=np.zeros(3))
    with pytest.raises(InputError, match="start must be finite and >= 0 S"):
        law.program(np.full(2, 1e-4), rng, start=np.array([0.0, -1e-6]))


@pytest.mark.parametrize("name", write_names())
def test_every_card_loads_is_cited_and_survives_toml(name: str, tmp_path: Path) -> None:
    entry = WRITE_CARDS.load(name)
    assert entry.doi or "not verified" in entry.source
    assert entry.note
    assert tomlio.loads(WriteCard, tomlio.dumps(entry)) == entry
    tomlio.save(entry, tmp_path / "mine.toml")
    assert WriteVerify.load(tmp_path / "mine.toml") == WriteVerify.load(name) == entry.value
    assert entry.value.law(np.linspace(entry.value.valid_from, entry.value.valid_to, 50)).given_up.max() < 0.2
    with pytest.raises(InputError, match="write_verify must be one of"):
        WriteVerify.load("nobody2020")


def test_neurram_misses_as_many_cells_as_its_authors_saw() -> None:
    law = WriteVerify.load("wan2022")
    assert (law.tolerance, law.most_pulses) == (1e-6, 50)
    found = law.law(20e-6)
    np.testing.assert_allclose(found.given_up, 10 / 1300, rtol=2e-3)
    np.testing.assert_allclose(found.accepted_spread, 1e-6 / math.sqrt(3), rtol=5e-3)


@pytest.fixture(scope="module")
def writes() -> fitted.Writes:
    try:
        return fitted.measure(data_folder())
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.data
def test_the_shipped_card_is_what_the_timed_writes_give(writes: fitted.Writes) -> None:
    again, shipped = fitted.fit(writes), WRITE_CARDS.load(fitted.NAME)
    assert (again.source, again.note, again.origin) == (shipped.source, shipped.note, shipped.origin)
    old, new = shipped.value, again.value
    assert (new.tolerance, new.most_pulses, new.pulse_seconds) == (old.tolerance, old.most_pulses, old.pulse_seconds)
    fine = np.linspace(old.valid_from, old.valid_to, 300)
    # coefficients of high order hang on the last digits of a linear solve: compare what they say
    np.testing.assert_allclose(new.pulse_spread(fine), old.pulse_spread(fine), rtol=1e-3)


@pytest.mark.data
def test_measured_times_and_misses_are_those_of_the_card(writes: fitted.Writes) -> None:
    law = WriteVerify.load(fitted.NAME)
    total = writes.hits + writes.missed
    assert (total.sum(), writes.missed.sum()) == (2800, 41)  # shared/data/SOURCES.md: 100 cells x 28 windows
    target = np.clip(writes.target, law.valid_from, law.valid_to)
    said = [replace(law, tolerance=float(half)).law(aim) for half, aim in zip(writes.half, target, strict=True)]
    seconds = np.array([each.seconds for each in said], dtype=float)
    np.testing.assert_allclose(seconds, writes.waited / total, rtol=0.25)
    given_up = sum(float(each.given_up) * n for each, n in zip(said, total, strict=True))
    assert abs(given_up - 41) < 4 * math.sqrt(41)
    # uniform in the window and geometric in time, to the differences that the script states
    assert stats.kstest(writes.place, "uniform").statistic < 0.035
    waits = np.concatenate([times / times.mean() for times in writes.times])
    assert stats.kstest(waits, "expon").statistic < 0.042
    assert len(fitted.picture(writes, WRITE_CARDS.load(fitted.NAME)).axes) == 4


def test_absent_or_wrong_data(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fitted.measure(tmp_path)
    (tmp_path / "rram").mkdir()
    path = tmp_path / "rram" / "nirram_C14_mlc_write_read_traces.npz"
    np.savez(path, kind=np.zeros(3))
    with pytest.raises(FileFormatError, match="does not hold timed writes"):
        fitted.measure(tmp_path)
    fields: dict[str, Any] = {name: np.ones(3) for name in ("lo_ohm", "hi_ohm", "r_ohm")}
    np.savez(path, kind=np.array([0, 1, 0]), t_s=np.arange(3.0), **fields)
    with pytest.raises(FileFormatError, match="each with a read after it"):
        fitted.measure(tmp_path)
    np.savez(path, kind=np.array([0, 1, 2]), t_s=np.arange(3.0), **fields)
    with pytest.raises(FileFormatError, match=r"writes of more than 1\.0 s, got 1\.0"):
        fitted.measure(tmp_path)
