"""Write the device cards whose laws are formulas that a card's tables and polynomials can only come near to.

Run as ``python -m xbarsim.experiments.fits.cited_cards``. Three sources state how errors grow with time as formulas or
coefficients; a card holds them as quantiles of a normal law at the source's times. How far what a card holds is from
the source's formula is measured here, and written into the card.

None of it is measured by us. What the sources do not say and a card must is assumed, and the card says so: most of all
how the errors of one cell at two times hang together. Here the later error is the earlier one and an independent
change, which gives the correlation of the two as the ratio of their standard deviations; a die at one time does not
depend on it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import typer
from scipy.special import ndtri

from xbarsim.devices import (
    Card,
    CardValue,
    DriftStep,
    DriftValue,
    MeasuredDrift,
    Polynomial,
    ProgrammingError,
    ProgrammingErrorValue,
    ReadNoise,
    ReadNoiseValue,
)
from xbarsim.devices import card as shipped
from xbarsim.devices.drift import quantile_moments
from xbarsim.experiments.folders import DEVICE_CARDS
from xbarsim.foundation import tomlio

__all__ = ["cards"]

Array = npt.NDArray[np.float64]

_DAY = 86400.0
_DECADE = 3.156e8  # s: ten years
_LOWER = (0.0, 0.0005, 0.002, 0.006, 0.015, 0.035, 0.08, 0.16, 0.3)
_PROBABILITY = (*_LOWER, 0.5, *(round(1.0 - chance, 4) for chance in reversed(_LOWER)))
_END = 4.0  # standard deviations: nothing lies beyond
_TOGETHER = (
    "Assumed: the error at a time is that at the time before and an independent change, so that their correlation is "
    "the ratio of the standard deviations; of a die at one time this changes nothing"
)


def _scores() -> Array:
    """Normal scores of the probabilities, all a little smaller, so that the law of straight lines has deviation 1."""
    scores = np.array([-_END, *ndtri(np.array(_PROBABILITY[1:-1])), _END])
    return np.asarray(scores / quantile_moments(scores, np.array(_PROBABILITY))[1])


def _rounded(values: Array | Sequence[float], digits: int = 4) -> tuple[float, ...]:
    return tuple(float(f"{value:.{digits}g}") for value in np.asarray(values).tolist())


def _normal_drift(
    targets: Array,
    times: Sequence[float],
    mean: Callable[[Array, int], Array],
    deviation: Callable[[Array, int], Array],
    start: Array,
    *,
    reference_time: float,
    valid: tuple[float, float],
) -> MeasuredDrift:
    """Normal errors of a mean and a standard deviation at some times, as a law of quantiles.

    Parameters
    ----------
    targets
        Nodes, S.
    times
        Of the steps, s since programming.
    mean, deviation
        At targets and the step of a number, S.
    start
        Standard deviation of the programming error at the targets, S.
    reference_time, valid
        As of the law.
    """
    scores, before, steps = _scores(), start, []
    for index, time in enumerate(times):
        now = deviation(targets, index)
        correlation = float(np.median(np.minimum(before / now, 1.0)))
        table = mean(targets, index)[:, np.newaxis] + now[:, np.newaxis] * scores
        rows = tuple(_rounded(row) for row in table)
        steps.append(DriftStep(seconds=time - reference_time, correlation=round(correlation, 3), error=rows))
        before = now
    return MeasuredDrift(target=_rounded(targets), probability=_PROBABILITY, steps=tuple(steps),
                         reference_time=reference_time, valid_from=valid[0], valid_to=valid[1])  # fmt: skip


def _between_nodes(law: Callable[[Array], Array], targets: Array) -> float:
    """The largest relative error that straight lines between the nodes make of a law."""
    fine = np.concatenate([np.linspace(a, b, 20) for a, b in itertools.pairwise(targets.tolist())])
    exact = law(fine)
    return float(np.max(np.abs(np.interp(fine, targets, law(targets)) - exact) / exact))


def _polynomial(
    law: Callable[[Array], Array], low: float, high: float, orders: Sequence[int]
) -> tuple[Polynomial, float]:
    """A polynomial of these powers through a positive law, by relative least squares; its largest relative error."""
    x = (low + (high - low) * (1 - np.cos(np.linspace(0, math.pi, 400))) / 2) / high
    values = law(x * high)
    columns = x[:, np.newaxis] ** np.array(orders) / values[:, np.newaxis]
    found = np.linalg.lstsq(columns, np.ones(x.size), rcond=None)[0]
    coefficients = np.zeros(max(orders) + 1)
    coefficients[list(orders)] = found
    polynomial = Polynomial(coefficients=_rounded(coefficients, 7), scale=high)
    return polynomial, float(np.max(np.abs(polynomial(x * high) / values - 1)))


# --- NeuRRAM

_WAN = {  # uS, of powers of g / 40 uS, at s after programming
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    _DAY: (0.701, 22.086, -50.773, 47.095, -16.458),
    2 * _DAY: (0.782, 20.274, -43.507, 37.062, -11.934),
}


def _wan() -> Card:
    old = shipped("wan2022")
    assert old.programming_error is not None
    low, high = float(old.g_min.value), float(old.g_max.value)
    targets = np.concatenate([np.linspace(low, 12e-6, 12), np.linspace(14e-6, high, 10)])
    times = [time for time in _WAN if time > 1.0]

    def deviation(g: Array, index: int) -> Array:
        return np.asarray(1e-6 * np.polynomial.polynomial.polyval(g / 40e-6, _WAN[times[index]]), np.float64)

    drift = _normal_drift(
        targets, times, lambda g, _: np.zeros(g.shape), deviation, old.programming_error.value.spread(targets),
        reference_time=1.0, valid=(low, high),
    )  # fmt: skip
    off = max(_between_nodes(lambda g, k=k: deviation(g, k), targets) for k in range(len(times)))  # type: ignore[misc]
    values = {name: getattr(old, name) for name in ("g_min", "g_max", "read_voltage", "programming_error")}
    return Card(
        name="wan2022_relaxing",
        description="RRAM of the NeuRRAM chip, 130 nm, with its relaxation over two days; wan2022 holds 1 s only",
        source=old.source,
        doi=old.doi,
        drift=DriftValue(
            value=drift, unit="S", origin="fitted",
            note="Standard deviation of the error 1 and 2 days after programming, polynomials of order 4 through "
            "Extended Data Fig. 3 as aihwkit's ReRamWan2022NoiseModel states them; normal, with no shift of the mean. "
            f"Straight lines between the targets here are off by at most {100 * off:.2g} %. Only the three times were "
            f"measured; between them the logarithm of time is assumed. {_TOGETHER}. Read noise is not in the source; "
            "aihwkit suggests about 1 %.",
        ),
        levels=CardValue(
            value=256, unit="1", origin="assumed",
            note="The conductance is analog: every target is programmed to within 1 uS.",
        ),
        **values,
    )  # fmt: skip


# --- CMO/HfOx

_FALCONE = {"0.2": (0.00081107, 0.00106879), "2": (0.0112185391, 0.01129027418)}  # uS, of 1 and g / uS
_FALCONE_MEAN, _FALCONE_SPREAD = -0.08900206, (0.41183342, 0.04201137)  # uS, of ln(t / s), and of 1 and it
_FALCONE_READ, _FALCONE_READ_TIME = 0.0277316483, 1e-6


def _falcone(name: str, acceptance: str) -> Card:
    old = shipped("falcone2025")
    low, high = float(old.g_min.value), float(old.g_max.value)
    constant, slope = _FALCONE[acceptance]
    spread = Polynomial(coefficients=(float(f"{constant * 1e-6:.7g}"), float(f"{slope * 1e-6:.7g}")), scale=1e-6)
    targets, times = np.linspace(low, high, 9), [1.0, 1e2, 1e4, 1e6, _DECADE]

    def deviation(g: Array, index: int) -> Array:
        relaxed = 1e-6 * (_FALCONE_SPREAD[0] + _FALCONE_SPREAD[1] * math.log(times[index]))
        return np.asarray(np.hypot(spread(g), relaxed))

    drift = _normal_drift(
        targets, times, lambda g, k: np.full(g.shape, 1e-6 * _FALCONE_MEAN * math.log(times[k])), deviation,
        spread(targets), reference_time=1e-3, valid=(low, high),
    )  # fmt: skip
    width = math.sqrt(math.log((1.0 + _FALCONE_READ_TIME) / (2 * _FALCONE_READ_TIME)))
    later = math.sqrt(math.log((_DECADE + _FALCONE_READ_TIME) / (2 * _FALCONE_READ_TIME)))
    read, off = _polynomial(lambda g: 1e-6 * _FALCONE_READ * width * np.log10(g * 1e6), low, high, range(6))
    return Card(
        name=name,
        description=f"Analog filamentary CMO/HfOx ReRAM, 130 nm back end, programmed to within {acceptance} % of the "
        "target, with its relaxation and read noise",
        source=old.source,
        doi=old.doi,
        g_min=old.g_min,
        g_max=old.g_max,
        levels=old.levels,
        programming_error=ProgrammingErrorValue(
            value=ProgrammingError(spread=spread, valid_from=low, valid_to=high), unit="S", origin="fitted",
            note=f"Straight line, acceptance range {acceptance} % of the target, read from aihwkit's "
            f"ReRamCMONoiseModel, where g is in uS: {constant:.8g} + {slope:.8g} g.",
        ),
        read_noise=ReadNoiseValue(
            value=ReadNoise(spread=read, valid_from=low, valid_to=high), unit="S", origin="fitted",
            note="1/f noise from 1 s after programming on, by aihwkit's ReRamCMONoiseModel: 0.02773 log10(g / uS) "
            f"sqrt(ln((t + 1 us) / 2 us)) uS at t = 1 s (at ten years {later / width:.2f} times as much); a polynomial "
            f"of order 5, off by at most {100 * off:.2g} %. It is 1/f noise alone: thermal and telegraph noise are not "
            "in it.",
        ),
        drift=DriftValue(
            value=drift, unit="S", origin="fitted",
            note="Change since programming, normal and the same for all targets, by aihwkit's ReRamCMONoiseModel: mean "
            "-0.08900 ln t uS, standard deviation 0.04201 ln t + 0.41183 uS, t in s from 1 s on; the programming error "
            "is in it. Ten years are the source's own extrapolation (abstract); how long it measured was not read. "
            f"Assumed: before 1 s the errors grow with the logarithm of time from 1 ms on. {_TOGETHER}.",
        ),
    )  # fmt: skip


# --- SONOS

_SONOS_MOST, _SONOS_VOLTAGE = 1400.0, 0.1  # nA, V; beyond, the polynomials of the shift turn away
_SONOS_SPREAD = (  # nA: A and B of A (1 - exp(-I / B)), at 0 to 5 days
    (19.88665, 176.3115), (25.59102, 186.85544), (28.72753, 193.56834), (31.04318, 198.90332), (33.76214, 204.77023),
    (34.57909, 207.34309),
)  # fmt: skip
_SONOS_NOISE = (12.58037, 215.36557)
_SONOS_SHIFT = (  # nA, of powers of I / nA, at 1 to 5 days
    (6.83650e-01, 6.51250e-03, -4.03163e-04, 3.37944e-06, -1.87435e-08, 5.88902e-11, -1.07685e-13, 1.17751e-16,
     -7.60016e-20, 2.67255e-23, -3.94954e-27),
    (6.60925e-01, 8.60627e-03, -1.72936e-04, 7.44096e-07, -5.94866e-09, 2.36734e-11, -4.83740e-14, 5.56072e-17,
     -3.65397e-20, 1.28405e-23, -1.87450e-27),
    (1.15821e00, 1.96116e-02, -4.70807e-04, 3.67510e-06, -2.08786e-08, 6.59752e-11, -1.19499e-13, 1.28435e-16,
     -8.11574e-20, 2.78802e-23, -4.02057e-27),
    (8.72216e-01, 1.70926e-02, -2.23370e-04, 1.57526e-06, -1.32779e-08, 5.08256e-11, -1.01251e-13, 1.14633e-16,
     -7.46124e-20, 2.60559e-23, -3.78724e-27),
    (1.15294e00, 1.03149e-02, -6.05199e-05, 1.76086e-08, -6.46690e-09, 3.39044e-11, -7.53872e-14, 8.98185e-17,
     -6.00346e-20, 2.12615e-23, -3.11099e-27),
)  # fmt: skip
_SIEMENS = 1e-9 / _SONOS_VOLTAGE  # of 1 nA


def _saturating(current: Array, law: tuple[float, float]) -> Array:
    return np.asarray(law[0] * -np.expm1(-current / law[1]))


def _sonos() -> Card:
    high = _SONOS_MOST * _SIEMENS
    low = high / 1e7
    spread, off = _polynomial(lambda g: _SIEMENS * _saturating(g / _SIEMENS, _SONOS_SPREAD[0]), low, high, range(1, 9))
    noise, off_noise = _polynomial(lambda g: _SIEMENS * _saturating(g / _SIEMENS, _SONOS_NOISE), low, high, range(1, 9))
    currents = np.array([1.4e-4, 5, 10, 20, 30, 45, 60, 80, 100, 130, 160, 200, 250, 300, 360, 430, 500, 600, 700, 800,
                         900, 1000, 1100, 1200, 1300, 1400])  # fmt: skip

    def shifted(g: Array, index: int) -> Array:
        current = g / _SIEMENS
        return np.asarray(current + np.polynomial.polynomial.polyval(current, _SONOS_SHIFT[index]))

    drift = _normal_drift(
        currents * _SIEMENS, [day * _DAY for day in range(1, 6)],
        lambda g, k: _SIEMENS * shifted(g, k) - g,
        lambda g, k: _SIEMENS * _saturating(np.maximum(shifted(g, k), 0.0), _SONOS_SPREAD[k + 1]),
        spread(currents * _SIEMENS), reference_time=1.0, valid=(low, high),
    )  # fmt: skip
    return Card(
        name="agrawal2022",
        description="SONOS charge-trap memory, 40 nm, read below threshold, with five days of retention",
        source="V. Agrawal et al., Subthreshold operation of SONOS analog memory to enable accurate low-power neural "
        "network inference, IEEE International Electron Devices Meeting (IEDM), 21.7.1-21.7.4 (2022). Laws from "
        "CrossSim's device SONOS.",
        doi="10.1109/IEDM45625.2022.10019564",
        g_min=CardValue(value=float(f"{low:.6g}"), unit="S", origin="cited",
                        note="On/off ratio 1e7, as CrossSim's device SONOS suggests."),
        g_max=CardValue(value=float(f"{high:.6g}"), unit="S", origin="cited",
                        note="1400 nA at the read voltage. CrossSim's device SONOS stores weights to 1600 nA, but its "
                        "polynomials of the drift turn away there (to -246 nA after one day and -98 nA after two, from "
                        "-39 and -46 nA at 1400): what they were fitted to ends before. "
                        "A cell is a source of current: the conductance is its current over one voltage and holds at "
                        "no other."),
        levels=CardValue(value=256, unit="1", origin="assumed",
                         note="The current is analog; the authors' system holds 8-bit weights without slicing them (T. "
                         "P. Xiao et al., IEEE TCAS-I 69, 1480 (2022), doi:10.1109/TCSI.2021.3134313, abstract)."),
        read_voltage=CardValue(value=_SONOS_VOLTAGE, unit="V", origin="derived",
                               note="1600 nA over the 16 uS that CrossSim's device SONOS gives for it."),
        programming_error=ProgrammingErrorValue(
            value=ProgrammingError(spread=spread, valid_from=0.0, valid_to=high), unit="S", origin="fitted",
            note="Fig. 10(a), of 128K cells, as CrossSim's device SONOS states it: 19.88665 (1 - exp(-I / 176.3115)) "
            f"nA; here a polynomial of order 8, off by at most {100 * off:.2g} %. When it was read is not stated: 1 s "
            "after programming is assumed.",
        ),
        read_noise=ReadNoiseValue(
            value=ReadNoise(spread=noise, valid_from=0.0, valid_to=high), unit="S", origin="fitted",
            note="Fig. 11(b), as CrossSim's device SONOS states it: 12.58037 (1 - exp(-I / 215.36557)) nA; here a "
            f"polynomial of order 8, off by at most {100 * off_noise:.2g} %. What it is made of is not told apart.",
        ),
        drift=DriftValue(
            value=drift, unit="S", origin="fitted",
            note="Fig. 10, 1 to 5 days after programming, as CrossSim's device SONOS states it: the mean shift of a "
            "state by polynomials of order 10, the spread about it by A (1 - exp(-I / B)), A 25.6 to 34.6 nA, B 187 to "
            f"207 nA; normal, without tails. {_TOGETHER}.",
        ),
    )  # fmt: skip


def cards() -> list[Card]:
    """The cards, as the sources' formulas give them."""
    return [_wan(), _falcone("falcone2025_relaxing", "0.2"), _falcone("falcone2025_coarse", "2"), _sonos()]


def main() -> None:
    """Write the cards."""
    for card in cards():
        tomlio.save(card, DEVICE_CARDS / f"{card.name}.toml")
        typer.echo(f"wrote {card.name}")


if __name__ == "__main__":
    typer.run(main)
