"""Read noise taken apart: what was put into a series of reads comes out of it, and what cannot be told is said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.cli.running import one_line, run
from xbarsim.devices import Cell, FlickerNoise, Readings, ReadNoise, SummedNoise, TelegraphNoise, fit_cell
from xbarsim.devices.fitting import NoiseParts, NoiseSeries
from xbarsim.devices.fitting.noise_parts import noise_parts
from xbarsim.foundation.validation import InputError

Array = npt.NDArray[np.float64]

READS, INTERVAL = 1 << 15, 1e-3
MEAN = 20e-6
SIGMAS = 5.0  # standard errors that a parameter may be off; seeds are fixed


def white(rng: np.random.Generator, spread: float, size: int = READS) -> Array:
    return spread * rng.standard_normal(size)


def flicker(rng: np.random.Generator, coefficient: float, mean: float = MEAN, size: int = READS) -> Array:
    """Normal noise whose one-sided spectral density is ``coefficient * mean**2 / f``, made in the frequency domain."""
    f = np.fft.rfftfreq(size, INTERVAL)[1:]
    scale = np.sqrt(coefficient * mean**2 / f * size / (4 * INTERVAL))
    spectrum = np.concatenate([[0.0], scale * (rng.standard_normal(f.size) + 1j * rng.standard_normal(f.size))])
    return np.asarray(np.fft.irfft(spectrum, size))


def telegraph(rng: np.random.Generator, amplitude: float, probability: float, time: float, size: int = READS) -> Array:
    """A two-state chain with this probability of the lower state, that forgets its state in this time; mean 0."""
    stay = math.exp(-INTERVAL / time)
    low = np.empty(size, bool)
    low[0] = rng.random() < probability
    draws = rng.random(size)
    for k in range(1, size):
        chance = (
            probability
            + (stay if low[k - 1] else 0.0) * (1 - probability)
            - (0.0 if low[k - 1] else stay * probability)
        )
        low[k] = draws[k] < chance
    return np.where(low, probability - 1, probability) * amplitude


def reads(*series: Array, voltage: float | None = None) -> Readings:
    size = series[0].size
    return Readings(
        conductance=np.concatenate(series),
        cell=np.repeat(np.arange(len(series)), size),
        time=np.tile(1.0 + INTERVAL * np.arange(size), len(series)),
        read_voltage=voltage,
    )


def parts_of(*series: Array, **more: Any) -> NoiseParts:
    found = noise_parts(reads(*series, **more), 1e-6, 1e-4)
    assert isinstance(found, NoiseParts), found
    return found


def check(found: tuple[float, float], expected: float) -> None:
    value, error = found
    assert 0 < error < 0.3
    assert abs(math.log(value / expected)) < SIGMAS * error


def test_white_noise_alone() -> None:
    found = parts_of(MEAN + white(np.random.default_rng(1), 0.3e-6), voltage=0.1)
    (one,) = found.series
    check(one.white, 2 * INTERVAL * (0.3e-6) ** 2)
    assert one.flicker == (0.0, 0.0)
    assert one.telegraph == ()
    assert math.isnan(one.amplitude)
    assert one.chi_square < 1.6
    assert one.variances["white"] == pytest.approx((0.3e-6) ** 2, rel=0.05)
    (only,) = found.noise.terms
    assert isinstance(only, ReadNoise)
    # what no spectrum tells is said: thermal noise in half the pace, sqrt(4 k T g f) / V, beside all that is white
    thermal = math.sqrt(4 * 1.380649e-23 * 300.0 * one.conductance * 500.0) / 0.1 * 1e6
    assert any("thermal, shot and instrument noise in one" in note for note in found.notes)
    assert any(f"would be {thermal:.2g} uS" in note for note in found.notes)


def test_white_and_flicker_noise() -> None:
    rng = np.random.default_rng(2)
    (one,) = parts_of(MEAN + white(rng, 0.1e-6) + flicker(rng, 2e-5)).series
    check(one.white, 2 * INTERVAL * (0.1e-6) ** 2)
    check(one.flicker, 2e-5)
    assert one.telegraph == ()
    assert one.decided
    assert one.variances["1/f"] == pytest.approx(2e-5 * MEAN**2 * math.log(READS / 2), rel=0.1)


def test_white_and_telegraph_noise() -> None:
    rng = np.random.default_rng(3)
    (one,) = parts_of(MEAN + white(rng, 0.1e-6) + telegraph(rng, 0.8e-6, 0.25, 20e-3)).series
    check(one.white, 2 * INTERVAL * (0.1e-6) ** 2)
    assert one.flicker == (0.0, 0.0)
    assert one.two_states
    assert one.amplitude == pytest.approx(0.8e-6, rel=0.1)
    assert one.probability == pytest.approx(0.25, abs=0.05)
    ((_, _, time),) = one.telegraph
    assert time == pytest.approx(20e-3, rel=0.15)


def test_two_signals_are_told_apart_by_their_times() -> None:
    rng = np.random.default_rng(9)
    fast, slow = (telegraph(rng, amplitude, 0.5, time) for amplitude, time in ((0.6e-6, 4e-3), (0.8e-6, 300e-3)))
    found = parts_of(MEAN + white(rng, 0.1e-6) + fast + slow)
    (one,) = found.series
    assert [time for _, _, time in one.telegraph] == pytest.approx([4e-3, 300e-3], rel=0.5)
    assert one.variances["telegraph"] == pytest.approx(0.25 * (0.6e-6**2 + 0.8e-6**2), rel=0.2)
    assert not one.two_states
    law = found.noise.terms[-1]
    assert isinstance(law, TelegraphNoise)
    assert law.switching_time is None
    assert float(law.variance(MEAN, None).quadratic) == pytest.approx(one.variances["telegraph"], rel=1e-3)


def test_a_law_that_misses_the_spectrum_says_so() -> None:
    rng = np.random.default_rng(10)
    tone = 1e-6 * np.sin(2 * np.pi * 50.0 * INTERVAL * np.arange(READS))  # hum of the mains is in no law
    found = parts_of(MEAN + white(rng, 0.1e-6) + tone)
    assert found.series[0].chi_square > 10
    assert any("the law misses the spectrum" in note for note in found.notes)


def test_all_three_and_their_sum() -> None:
    rng = np.random.default_rng(14)
    series = MEAN + white(rng, 0.5e-6) + flicker(rng, 1e-4) + telegraph(rng, 2e-6, 0.5, 30e-3)
    (one,) = parts_of(series).series
    check(one.white, 2 * INTERVAL * (0.5e-6) ** 2)
    check(one.flicker, 1e-4)
    assert one.amplitude == pytest.approx(2e-6, rel=0.15)
    assert sum(one.variances.values()) == pytest.approx(float(series.var()), rel=0.15)


def test_many_traps_are_not_called_two_states() -> None:
    """A normal process of one time constant has the spectrum of a telegraph signal: the fourth moment tells."""
    rng = np.random.default_rng(5)
    kept = math.exp(-INTERVAL / 20e-3)
    walk = np.zeros(READS)
    steps = rng.standard_normal(READS) * math.sqrt(1 - kept**2)
    for k in range(1, READS):
        walk[k] = kept * walk[k - 1] + steps[k]
    found = parts_of(MEAN + white(rng, 0.1e-6) + 0.4e-6 * walk)
    (one,) = found.series
    assert not one.two_states
    assert (one.amplitude / 2) ** 2 == pytest.approx(sum(signal[0] for signal in one.telegraph))
    assert any("more like many states than like two" in note for note in found.notes)


def test_the_law_of_several_cells_is_their_noise() -> None:
    """1/f noise with a power of the conductance, through cells that have it."""
    rng = np.random.default_rng(6)
    means = np.array([5e-6, 20e-6, 80e-6])
    size = 1 << 13
    coefficients = 4e-5 * (means / 20e-6) ** -1.0
    found = parts_of(*(g + white(rng, 1e-3 * g, size) + flicker(rng, c, g, size)
                       for g, c in zip(means, coefficients, strict=True)))  # fmt: skip
    law = next(term for term in found.noise.terms if isinstance(term, FlickerNoise))
    assert law.exponent == pytest.approx(-1.0, abs=0.1)
    expected = coefficients * means**2 * math.log(size / 2)
    np.testing.assert_allclose(law.variance(means, None).quadratic, expected, rtol=0.25)
    assert any(note.startswith("cells differ: the standard deviation") for note in found.notes)
    whole = found.noise.variance(means, None).quadratic
    np.testing.assert_allclose(whole, expected + (1e-3 * means) ** 2, rtol=0.25)


def test_a_cell_that_wanders_is_said_to() -> None:
    rng = np.random.default_rng(7)
    steps = np.where(np.arange(READS) < READS // 3, 2e-6, 0.0)
    found = parts_of(MEAN + white(rng, 0.1e-6) + steps)
    assert any("is in no part" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"time": None}, "the reads have no times"),
        ({"cell": None}, "no cell was read 512 times"),
        ({"time": np.cumsum(np.where(np.arange(2000) == 1000, 1.0, INTERVAL))}, "no cell was read 512 times"),
        ({"cell": np.arange(2000) // 100}, "no cell was read 512 times"),
    ],
)
def test_what_cannot_be_taken_apart_says_why(change: dict[str, Any], why: str) -> None:
    given: dict[str, Any] = {
        "conductance": MEAN + white(np.random.default_rng(1), 1e-7, 2000),
        "time": INTERVAL * np.arange(2000),
        "cell": np.zeros(2000, np.int64),
    }
    answer = noise_parts(Readings(**{**given, **change}), 1e-6, 1e-4)
    assert isinstance(answer, str)
    assert why in answer


def table(path: Path, *, size: int) -> None:
    rng = np.random.default_rng(8)
    rows = []
    for cell, (level, mean) in enumerate(((0, 5e-6), (1, 50e-6))):
        series = mean + white(rng, 2e-3 * mean, size) + telegraph(rng, 0.02 * mean, 0.5, 10e-3, size)
        rows += [f"{cell},{level},{k * INTERVAL + 1:.4f},{1e6 * g:.9g}" for k, g in enumerate(series)]
    path.write_text("\n".join(["device,level,time (s),g (uS)", *rows, ""]), encoding="utf-8")


def test_a_fit_takes_noise_apart_and_by_default_keeps_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "reads.csv"
    table(path, size=4096)
    whole, apart = fit_cell(path), fit_cell(path, noise_law="parts")
    assert isinstance(whole.cell.read_noise, ReadNoise)
    assert isinstance(whole.noise_parts, NoiseParts)
    assert all(isinstance(one, NoiseSeries) for one in whole.noise_parts.series)
    assert any(line.quantity.startswith("read noise at") for line in whole.findings)
    noise = apart.cell.read_noise
    assert isinstance(noise, SummedNoise)
    assert {type(term) for term in noise.terms} >= {ReadNoise, TelegraphNoise}
    # the sum is the noise that was seen: telegraph 0.01 and white 0.002 of the conductance
    g = np.array([5e-6, 50e-6])
    np.testing.assert_allclose(np.sqrt(noise.variance(g, None).quadratic), math.hypot(0.01, 0.002) * g, rtol=0.1)
    apart.save(tmp_path / "card.toml")
    loaded = Cell.load(tmp_path / "card.toml")
    assert loaded.read_noise == noise
    assert "do not tell them apart" in apart.card().read_noise.note  # type: ignore[union-attr]


def test_the_command_takes_noise_apart(tmp_path: Path) -> None:
    path = tmp_path / "reads.csv"
    table(path, size=2048)
    result = run("fit", str(path), "--noise", "parts", "--output", str(tmp_path / "card.toml"))
    assert result.exit_code == 0, result.output
    assert "read noise at 5 uS, parts" in result.output
    assert isinstance(Cell.load(tmp_path / "card.toml").read_noise, SummedNoise)
    one_line(run("fit", str(path), "--noise", "pink"), 2, "noise_law must be one of 'whole', 'parts', got 'pink'")


def test_parts_are_refused_where_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "reads.csv"
    table(path, size=100)
    with pytest.raises(InputError, match=r"noise_law must be 'whole' .*no cell was read 512 times or more"):
        fit_cell(path, noise_law="parts")
    with pytest.raises(InputError, match=r"noise_law must be one of 'whole', 'parts', got 'pink'"):
        fit_cell(path, noise_law="pink")  # type: ignore[arg-type]
