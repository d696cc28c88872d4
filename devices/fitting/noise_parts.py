"""Read noise taken apart: white, 1/f and telegraph noise of cells that were read at an even pace.

The spectral density of such reads is compared with laws: white noise with or without 1/f noise, and with the
Lorentzians of none to three telegraph signals. Each is fitted by Whittle's likelihood, in which a periodogram is the
density times an exponentially distributed number (P. Whittle, Arkiv foer Matematik 2, 423 (1953),
doi:10.1007/BF02590998), and the one with the lowest Bayesian information criterion is taken. 1/f noise is what many
telegraph signals of many times add up to: how far the data decide between the two is said.

What no spectrum of one temperature and one voltage can tell is said and not guessed: white noise is thermal, shot and
instrument noise in one; what is slower than the reads lasted is in the mean, and what is faster than their pace is
white.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.constants import Boltzmann
from scipy.optimize import minimize

from xbarsim.devices.fitting.laws import fit_law, rounded
from xbarsim.devices.fitting.readings import Readings
from xbarsim.devices.noise import FlickerNoise, NoiseModel, ReadNoise, SummedNoise, TelegraphNoise

__all__ = ["NoiseParts", "NoiseSeries", "noise_parts"]

FloatArray = npt.NDArray[np.float64]

_FEWEST = 512  # reads of a series: two decades of frequency
_LEAST_GAP = 1.5  # of the median interval: further apart, reads are not at an even pace
_BINS_A_DECADE = 16
_HANN = 1.944  # neighbouring bins of a Hann-windowed periodogram hang together: so many of them count as one
_FIRST = 2  # the lowest frequencies hold what the window makes of the mean
_DECIDED = 10.0  # difference of the criterion from which a law counts as decided (Kass and Raftery 1995: very strong)
_START_TIMES = 5
_MOST_SIGNALS = 3  # telegraph signals of one cell
_MISSED = 2.0  # chi-square a degree of freedom from which a law is said to miss the spectrum
_FEWEST_OF_A_LAW = 3  # cells with telegraph noise from which its amplitude against conductance is taken
_STEEPEST = 1.9  # a power of the conductance at which the fluctuation itself still goes to 0 with it
_WIDE = 1e6  # times g_max: a corner so high that the relative amplitude is the same for all conductances
_MUCH = 0.2  # of the variance: more of it in no part is said
_TEMPERATURE = 300.0  # K, that a thermal noise is named at


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseSeries:
    """The noise of one programmed state that was read many times at an even pace.

    Attributes
    ----------
    conductance
        Mean, S.
    reads
        How many reads.
    interval
        From read to read, s; the band reaches from one over their duration to half of one over this.
    white
        One-sided spectral density of the white noise, S^2/Hz, and its relative standard error.
    flicker
        Coefficient of the 1/f noise, relative power at 1 Hz as in :class:`FlickerNoise`, and its relative standard
        error; zeros where the data do not ask for it.
    telegraph
        Of each telegraph signal that the data ask for, fastest first: variance, S^2, its relative standard error, and
        the switching time, s.
    amplitude, probability
        Difference of the two states, S, and probability of the lower one: by the third moment of the reads, or, where
        there are several signals or they do not look like two states, those of two equally likely ones with the
        variance of all signals; NaN without a signal.
    two_states
        Whether there is one signal, and the fourth moment is nearer to that of two states than to that of many (a
        normal law).
    chi_square
        Sum over the bins of the squared deviations of the measured density from the law, in standard errors, a degree
        of freedom: about 1 where the law is as good as the data can tell.
    total
        Variance of all reads, S^2: beside the parts, what is slower than the band, and rare events.
    lead
        By how much the criterion of the next best law is higher; below 10 the data do not decide between the two.
    runner_up
        That law.
    frequency, density, law
        Hz, the measured spectral density and the law, S^2/Hz, in bins, shape ``(bins,)``.
    """

    conductance: float
    reads: int
    interval: float
    white: tuple[float, float]
    flicker: tuple[float, float]
    telegraph: tuple[tuple[float, float, float], ...]
    amplitude: float
    probability: float
    two_states: bool
    chi_square: float
    total: float
    lead: float
    runner_up: str
    frequency: FloatArray
    density: FloatArray
    law: FloatArray

    @property
    def band(self) -> tuple[float, float]:
        """The band that the reads cover, Hz."""
        return 1.0 / (self.reads * self.interval), 0.5 / self.interval

    @property
    def variances(self) -> dict[str, float]:
        """Variance of each part in the band of the reads, S^2."""
        low, high = self.band
        seen = 0.0
        for variance, _, time in self.telegraph:
            seen += (
                variance * 2 / math.pi * (math.atan(2 * math.pi * high * time) - math.atan(2 * math.pi * low * time))
            )
        return {
            "white": self.white[0] * (high - low),
            "1/f": self.flicker[0] * self.conductance**2 * math.log(high / low),
            "telegraph": seen,
        }

    @property
    def decided(self) -> bool:
        """Whether the data decide for the law."""
        return self.lead >= _DECIDED


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseParts:
    """Read noise taken apart.

    Attributes
    ----------
    series
        One a programmed state that was read at an even pace.
    noise
        White, 1/f and telegraph noise with the parameters of all series together: their sum is the read noise.
    notes
        What was assumed, and what the data cannot tell.
    """

    series: tuple[NoiseSeries, ...]
    noise: SummedNoise
    notes: tuple[str, ...]

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Quantity, value, unit, origin and basis of each series and note, as a fit shows them."""
        lines = []
        for one in self.series:
            said = ", ".join(f"{name} {math.sqrt(part) * 1e6:.2g}" for name, part in one.variances.items() if part)
            decided = f"criterion {one.lead:+.0f} for {one.runner_up} instead"
            basis = f"{one.reads} reads, {one.band[0]:.2g} to {one.band[1]:.3g} Hz; {decided}; chi-square "
            basis += f"{one.chi_square:.2g} a degree of freedom"
            if one.telegraph:
                basis += f"; switching times {', '.join(f'{time:.2g}' for _, _, time in one.telegraph)} s"
            lines.append((f"read noise at {one.conductance * 1e6:.3g} uS, parts", said, "uS", "fitted", basis))
        return lines + [("read noise, parts", "", "", "assumed", note) for note in self.notes]


def noise_parts(readings: Readings, low: float, high: float) -> NoiseParts | str:
    """Take the noise of reads apart, or say why that cannot be done.

    Parameters
    ----------
    readings
        All of them; cells that were read at least 512 times, at an even pace, are used.
    low, high
        The range of conductances that the laws shall hold for, S.
    """
    if readings.time is None:
        return "the reads have no times"
    found = [one for one in map(_series, _sequences(readings)) if one is not None]
    if not found:
        return f"no cell was read {_FEWEST} times or more at an even pace"
    found.sort(key=lambda one: one.conductance)
    noise, notes = _together(found, low, high)
    notes += _scatter(found, noise)
    return NoiseParts(series=tuple(found), noise=noise, notes=(*notes, *_limits(found, readings.read_voltage)))


def _sequences(readings: Readings) -> list[tuple[FloatArray, FloatArray]]:
    """Times and conductances of every programmed state that was read often enough."""
    assert readings.time is not None
    good = np.isfinite(readings.conductance)
    keys = [np.unique(key[good], return_inverse=True)[1] for key in (readings.cell, readings.cycle, readings.target,
                                                                     readings.level) if key is not None]  # fmt: skip
    time, conductance = readings.time[good], readings.conductance[good]
    state = np.zeros(time.size, np.int64)
    if keys:
        state = np.asarray(np.unique(np.stack(keys), axis=1, return_inverse=True)[1]).reshape(-1)
    if readings.cell is None:
        return []  # every reading is of another cell
    sequences = []
    for which in np.flatnonzero(np.bincount(state) >= _FEWEST):
        here = np.flatnonzero(state == which)
        here = here[np.argsort(time[here], kind="stable")]
        step = np.diff(time[here])
        if step.min() > 0 and step.max() <= _LEAST_GAP * np.median(step):
            sequences.append((time[here], conductance[here]))
    return sequences


def _densities(frequency: FloatArray, interval: float, logs: FloatArray, kind: str) -> FloatArray:
    """The law of a kind: ``"w"`` white, ``"f"`` 1/f, a ``"t"`` for each telegraph signal; parameters in logarithms."""
    values = np.exp(logs)
    total = np.full(frequency.shape, values[0])
    place = 1
    if "f" in kind:
        total = total + values[place] / frequency
        place += 1
    for variance, time in zip(values[place::2], values[place + 1 :: 2], strict=True):
        # of a signal that is looked at once an interval: exact, with what is folded back from above half the pace
        kept = math.exp(-interval / time)
        total = total + 2 * interval * variance * (1 - kept**2) / (
            1 - 2 * kept * np.cos(2 * np.pi * frequency * interval) + kept**2
        )
    return np.asarray(total)


def _series(sequence: tuple[FloatArray, FloatArray]) -> NoiseSeries | None:
    """The parts of one series of reads."""
    time, conductance = sequence
    size, interval = time.size, float((time[-1] - time[0]) / (time.size - 1))
    mean = float(conductance.mean())
    rest = conductance - mean
    if not rest.any() or mean <= 0:
        return None
    window = np.hanning(size + 1)[:-1]
    periodogram = 2 * interval * np.abs(np.fft.rfft(window * rest)) ** 2 / np.sum(window**2)
    number = np.arange(_FIRST, (size - 1) // 2 + 1)
    bins = np.floor(_BINS_A_DECADE * np.log10(number / _FIRST)).astype(int)
    bins = np.unique(bins, return_inverse=True)[1]
    count = np.bincount(bins).astype(float)
    density = np.bincount(bins, periodogram[number]) / count
    frequency = np.bincount(bins, number / (size * interval)) / count
    weight = count / _HANN
    # in units of the mean density, so that the logarithms are of order one
    unit = float(np.sum(density * count) / count.sum())
    scaled = density / unit

    def cost(logs: FloatArray, kind: str) -> float:
        law = _densities(frequency, interval, logs, kind)
        return float(np.sum(weight * (np.log(law) + scaled / law)))

    def fitted(kind: str, guess: list[float]) -> tuple[float, FloatArray]:
        lowest, highest = _bounds(kind, interval, size)
        bounds = list(zip(lowest, highest, strict=True))
        result = minimize(cost, np.clip(guess, lowest, highest), args=(kind,), method="L-BFGS-B", bounds=bounds)
        return float(result.fun), np.asarray(result.x, dtype=np.float64)

    def criterion(kind: str) -> float:
        least, logs = fits[kind]
        return 2 * least + len(logs) * math.log(float(weight.sum()))

    variance = math.log(float(rest.var()) / unit / 2)
    times = np.log(np.geomspace(interval / 2, size * interval / 12, _START_TIMES)).tolist()
    fits: dict[str, tuple[float, FloatArray]] = {}
    for kind, slow in (("w", []), ("wf", [math.log(float(scaled[0] * frequency[0]) / 2)])):
        fits[kind] = fitted(kind, [math.log(float(np.median(scaled[-3:]))), *slow])
        for _ in range(_MOST_SIGNALS):  # one signal more, begun at several times
            before, last, kind = fits[kind][1].tolist(), criterion(kind), kind + "t"
            tried = [fitted(kind, [*before, variance, begun]) for begun in times]
            fits[kind] = min(tried, key=lambda each: each[0])
            if criterion(kind) > last:
                break
    criteria = {kind: criterion(kind) for kind in fits}
    kind, other = sorted(criteria, key=lambda each: criteria[each])[:2]
    logs = fits[kind][1]
    errors = _errors(lambda at: cost(at, kind), logs)
    values, place = np.exp(logs), 2 if "f" in kind else 1
    telegraph = sorted(
        ((float(values[k]) * unit, float(errors[k]), float(values[k + 1])) for k in range(place, len(values), 2)),
        key=lambda signal: signal[2],
    )
    amplitude = probability = math.nan
    two_states = False
    if telegraph:
        whole = sum(signal[0] for signal in telegraph)
        if len(telegraph) == 1:
            amplitude, probability, two_states = _states(rest, whole)
        if not two_states:
            amplitude, probability = 2.0 * math.sqrt(whole), 0.5
    law = _densities(frequency, interval, logs, kind)
    return NoiseSeries(
        conductance=mean,
        reads=size,
        interval=interval,
        white=(float(values[0]) * unit, float(errors[0])),
        flicker=(float(values[1]) * unit / mean**2, float(errors[1])) if "f" in kind else (0.0, 0.0),
        telegraph=tuple(telegraph),
        amplitude=amplitude,
        probability=probability,
        two_states=two_states,
        chi_square=float(np.sum(weight * (scaled / law - 1.0) ** 2)) / max(len(law) - len(logs), 1),
        total=float(rest.var()),
        lead=criteria[other] - criteria[kind],
        runner_up=_name(other),
        frequency=frequency,
        density=density,
        law=law * unit,
    )


def _name(kind: str) -> str:
    """A kind of law in words."""
    signals = kind.count("t")
    named = ["white", *(["1/f"] if "f" in kind else [])]
    if signals:
        named.append("telegraph" if signals == 1 else f"{signals} telegraph signals")
    return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))


def _bounds(kind: str, interval: float, size: int) -> tuple[list[float], list[float]]:
    """Bounds of the logarithms of parameters in units of the mean density."""
    low, high = [-25.0], [5.0]
    pace = math.log(1 / interval)
    if "f" in kind:
        low, high = [*low, -30.0 + min(pace, 0.0)], [*high, 10.0 + max(pace, 0.0)]
    for _ in range(kind.count("t")):
        low = [*low, pace - 25.0, math.log(interval / 4)]
        high = [*high, pace + 5.0, math.log(size * interval / 6)]
    return low, high


def _errors(cost: object, at: FloatArray) -> FloatArray:
    """Standard errors of the logarithms: by the curvature of the likelihood; infinite where it has none."""
    assert callable(cost)
    size, step = at.size, 1e-3
    curvature = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            total = 0.0
            for a in (1, -1):
                for b in (1, -1):
                    moved = at.copy()
                    moved[i] += a * step
                    moved[j] += b * step
                    total += a * b * cost(moved)
            curvature[i, j] = total / (4 * step**2)
    try:
        variance = np.diag(np.linalg.inv(curvature))
    except np.linalg.LinAlgError:
        return np.full(size, np.inf)
    return np.where(variance > 0, np.sqrt(np.abs(variance)), np.inf)


def _states(rest: FloatArray, variance: float) -> tuple[float, float, bool]:
    """Amplitude, probability of the lower state, and whether there are two, of a signal beside normal noise.

    With p of the lower state and the amplitude d the signal has the variance ``p (1 - p) d**2``, the third moment
    ``p (1 - p) (2 p - 1) d**3`` and the fourth cumulant ``p (1 - p) (1 - 6 p (1 - p)) d**4``; the third moment and the
    cumulant of normal noise are zero.
    """
    skew = float(np.mean(rest**3)) / variance**1.5
    probability = 0.5 * (1.0 + skew / math.sqrt(4.0 + skew**2))
    product = probability * (1.0 - probability)
    amplitude = math.sqrt(variance / product)
    expected = (1.0 - 6.0 * product) / product
    found = float(np.mean(rest**4) - 3.0 * np.mean(rest**2) ** 2) / variance**2
    return amplitude, probability, abs(found - expected) < abs(found)


def _together(series: list[NoiseSeries], low: float, high: float) -> tuple[SummedNoise, list[str]]:
    """Laws against conductance for all series together, and what was assumed for them."""
    first = min(one.band[0] for one in series)
    last = max(one.band[1] for one in series)
    parts: list[NoiseModel] = []
    notes: list[str] = []
    white = [one for one in series if one.white[1] < 1.0]
    if white:
        spread = np.array([math.sqrt(one.variances["white"]) for one in white])
        error = spread * np.array([one.white[1] for one in white]) / 2
        law = fit_law(np.array([one.conductance for one in white]), spread, error, 1.0 / spread,
                      count=np.array([float(one.reads) for one in white]), scale=high, positive=True)  # fmt: skip
        parts.append(ReadNoise(spread=law.polynomial, valid_from=low, valid_to=high))
        notes.append(f"white noise against conductance: {law.goodness()}")
    if len(white) < len(series):
        notes.append(f"no white noise can be told in {len(series) - len(white)} of {len(series)} cells")
    flicker = [one for one in series if one.flicker[0] > 0]
    if flicker:
        parts.append(_flicker(flicker, len(series), high, first, last, notes))
    having = [one for one in series if one.telegraph]
    if having:
        parts.append(_telegraph(having, len(series), high, first, last, notes))
    return SummedNoise(mechanisms=tuple(parts)), notes


def _scatter(series: list[NoiseSeries], noise: SummedNoise) -> list[str]:
    """How far the laws of all cells together are from the parts of each."""
    if len(series) == 1:
        return []
    law = np.sqrt(noise.variance([one.conductance for one in series], None).quadratic)
    factors = np.sqrt([sum(one.variances.values()) for one in series]) / law
    return [
        f"cells differ: the standard deviation of the parts of one cell is {factors.min():.2g} to {factors.max():.2g} "
        "times that of the laws of all together"
    ]


def _flicker(
    having: list[NoiseSeries], total: int, high: float, first: float, last: float, notes: list[str]
) -> FlickerNoise:
    """One 1/f law of several cells: a power of the conductance, or the mean coefficient where there are few."""
    band = {"low_frequency": rounded(first), "high_frequency": rounded(last)}
    coefficients = np.array([one.flicker[0] for one in having])
    reach = f"which have {coefficients.min():.2g} to {coefficients.max():.2g}"
    if len(having) < total:
        reach += f"; {total - len(having)} have none and are not in it"
    if len(having) < _FEWEST_OF_A_LAW:
        notes.append(f"one 1/f coefficient for all conductances, the mean of {len(having)} cells, {reach}")
        return FlickerNoise(coefficient=rounded(float(coefficients.mean())), **band)
    place = np.log([one.conductance / high for one in having])
    exponent = 0.0 if np.ptp(place) == 0 else float(np.polyfit(place, np.log(coefficients), 1)[0])
    exponent = min(max(exponent, -_STEEPEST), _STEEPEST)
    at_high = float(np.exp(np.mean(np.log(coefficients) - exponent * place)))
    rest = np.log(coefficients) - math.log(at_high) - exponent * place
    notes.append(
        f"the 1/f coefficient goes with the power {exponent:.2f} of the conductance, through {len(having)} cells, "
        f"{reach}; they scatter about it by a factor of {math.exp(float(rest.std())):.2g}"
    )
    return FlickerNoise(coefficient=rounded(at_high), scale=high, exponent=rounded(exponent), **band)


def _telegraph(
    having: list[NoiseSeries], total: int, high: float, first: float, last: float, notes: list[str]
) -> TelegraphNoise:
    """One telegraph law of several cells: the variance is that of the mean over all cells, also those without."""
    g = np.array([one.conductance for one in having])
    single = all(len(one.telegraph) == 1 for one in having)
    amplitudes = [one.amplitude if single else 2.0 * math.sqrt(one.variances["telegraph"]) for one in having]
    relative = np.minimum(np.array(amplitudes) / g, 1.0)
    share = len(having) / total
    corner = _WIDE * high
    saturation = math.sqrt(float(np.mean(relative**2)))
    if len(having) >= _FEWEST_OF_A_LAW:
        corners = np.geomspace(g.min() / 100, 100 * g.max(), 400)
        shape = -np.log1p(g[np.newaxis] / corners[:, np.newaxis])
        offset = np.mean(np.log(relative)[np.newaxis] - shape, axis=1)
        rest = np.sum((np.log(relative)[np.newaxis] - shape - offset[:, np.newaxis]) ** 2, axis=1)
        best = int(np.argmin(rest))
        corner, saturation = float(corners[best]), math.exp(float(offset[best]))
    else:
        notes.append(f"telegraph noise of {len(having)} cells: one relative amplitude for all conductances, for so few")
    notes.append(
        f"telegraph noise in {len(having)} of {total} cells; the law gives it to all cells, with the mean variance, "
        "and " + ("with the median time and probability" if single else "takes what the reads' band has of several "
                  "signals as one of two equally likely states")
    )  # fmt: skip
    if single and any(not one.two_states for one in having):
        count = sum(not one.two_states for one in having)
        notes.append(f"in {count} of these cells the reads look more like many states than like two: its amplitude is "
                     "that of two with the same variance")  # fmt: skip
    law = TelegraphNoise(
        saturation=rounded(min(saturation * math.sqrt(share), 1.0)),
        corner=rounded(corner),
        probability=rounded(float(np.median([one.probability for one in having]))) if single else 0.5,
    )
    if not single:
        return law
    time = rounded(float(np.median([one.telegraph[0][2] for one in having])))
    return replace(law, switching_time=time, low_frequency=rounded(first), high_frequency=rounded(last))


def _limits(series: list[NoiseSeries], voltage: float | None) -> list[str]:
    """What the data cannot tell."""
    low, high = min(one.band[0] for one in series), max(one.band[1] for one in series)
    first, last = series[0].conductance, series[-1].conductance
    notes = [
        f"measured from {first * 1e6:.4g} to {last * 1e6:.4g} uS",
        "white noise is thermal, shot and instrument noise in one: reads at one temperature, voltage and bandwidth do "
        "not tell them apart",
        f"nothing is known below {low:.3g} Hz, one over the duration, and above {high:.3g} Hz, half the pace: what is "
        "slower is in the mean or in the drift, what is faster counts as white",
    ]
    if voltage is not None:
        most = max(series, key=lambda one: one.conductance)
        thermal = math.sqrt(4 * Boltzmann * _TEMPERATURE * most.conductance * most.band[1]) / voltage
        seen = math.sqrt(most.variances["white"])
        notes.append(
            f"thermal noise at {_TEMPERATURE:g} K in that band would be {thermal * 1e6:.2g} uS at "
            f"{most.conductance * 1e6:.3g} uS, of {seen * 1e6:.2g} uS of white noise; a wider band would have more"
        )
    left = [1.0 - sum(one.variances.values()) / one.total for one in series]
    if max(left) > _MUCH:
        notes.append(
            "part of the variance of the reads is in no part, slower than the band or in rare events: "
            + "; ".join(f"{100 * share:.0f} % at {one.conductance * 1e6:.3g} uS"
                        for share, one in zip(left, series, strict=True) if share > _MUCH)
        )  # fmt: skip
    missed = [one for one in series if one.chi_square > _MISSED]
    if missed:
        notes.append(
            "the law misses the spectrum, more than chance would, "
            + "; ".join(f"at {one.conductance * 1e6:.3g} uS (chi-square {one.chi_square:.2g})" for one in missed)
        )
    open_ones = [one for one in series if not one.decided]
    if open_ones:
        notes.append(
            f"in {len(open_ones)} of {len(series)} cells the data do not decide between two laws: "
            + "; ".join(f"at {one.conductance * 1e6:.3g} uS {one.runner_up} would do too" for one in open_ones[:4])
        )
    return notes
