"""Write and verify: cells are pulsed until a read says that they are within a window, or until one gives up.

A pulse leaves a cell somewhere about its target, by a normal law, wherever it was before; then it is read, with the
noise of a read, and the pulses go on until a read falls into the window or there have been too many. Whatever the
attempts are, the number of pulses is then geometric and the conductance that is left is uniform in a window that is
narrow against the spread of a pulse: both are what a measured chip shows (``experiments/fits/write_verify.py``).
Because attempts are alike, all of it has a closed form, and a cell is drawn at once, without its pulses.

What it leaves out: pulses that come nearer to the target step by step, cells that are slower than others for good, and
that a cell which one gives up is often one that cannot be set at all. Relaxation after the last read is drift.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from xbarsim.devices.polynomial import Polynomial, check_spread
from xbarsim.devices.programming import ProgrammingError
from xbarsim.foundation.cards import CardFolder, Origin
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real

__all__ = ["WriteCard", "WriteLaw", "WriteVerify", "Written", "write_names"]

FloatArray = npt.NDArray[np.float64]

_NODES = 129  # targets that a programming error is fitted through
_HIGHEST_ORDER = 8
_LEAST_CHANCE = 1e-12
_NARROW = 1.0  # standard deviations: below that the moments of a window are summed up, for differences would cancel
_CLOSE = 1e-3  # of its largest value: how close a polynomial comes to the law


@dataclass(frozen=True, kw_only=True, eq=False)
class WriteLaw:
    """What write and verify does to cells of some targets; arrays of one shape.

    Attributes
    ----------
    accepted_a_pulse
        Probability that a pulse is the last, because its read falls into the window.
    given_up
        Probability that the most pulses do not bring a cell there.
    pulses
        Mean number of pulses.
    bias, spread
        Mean and standard deviation of (conductance - target), S, of all cells, those given up too.
    accepted_bias, accepted_spread
        Of those that were accepted.
    seconds, energy
        Mean time, s, and energy, J, a cell, or ``None`` where those of a pulse are not known.
    """

    accepted_a_pulse: FloatArray
    given_up: FloatArray
    pulses: FloatArray
    bias: FloatArray
    spread: FloatArray
    accepted_bias: FloatArray
    accepted_spread: FloatArray
    seconds: FloatArray | None
    energy: FloatArray | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """Cells that were written; arrays of the shape of their targets.

    Attributes
    ----------
    conductance
        What is left, S, never below zero.
    pulses
        How many each took; 0 for one that was in its window before.
    accepted
        Whether its last read fell into the window; the others were given up.
    seconds, energy
        Time, s, and energy, J, of each, or ``None`` where those of a pulse are not known.
    """

    conductance: FloatArray
    pulses: npt.NDArray[np.int64]
    accepted: npt.NDArray[np.bool_]
    seconds: FloatArray | None
    energy: FloatArray | None


@dataclass(frozen=True, kw_only=True)
class WriteVerify:
    """How cells are written and verified.

    Attributes
    ----------
    tolerance
        Half the width of the window about the target, S.
    most_pulses
        After so many a cell is given up.
    pulse_spread
        Standard deviation of the conductance that a pulse leaves, against the target, S; above 0 where it is asked.
    pulse_bias
        Its mean, less the target, S, or ``None`` for zero. Its ``minimum`` must be ``-inf``.
    read_spread
        Standard deviation of a read that verifies, against the target, S, or ``None`` for a read without noise. What
        is accepted then strays from the window by more than its width says.
    valid_from, valid_to
        The range of targets that the law was measured over, S.
    pulse_seconds, pulse_energy
        Time, s, and energy, J, of a pulse with the read that verifies it, or ``None`` where they are not known.

    Raises
    ------
    InputError
        If a value is out of its bound.

    Examples
    --------
    Of cells of the NeuRRAM chip, with pulses and what is left of the error, uS; 0.77 % are given up:

    >>> law = WriteVerify.load("wan2022").law(20e-6)
    >>> [round(float(value), 2) for value in (law.pulses, 1e6 * law.accepted_spread, 100 * law.given_up)]
    [10.69, 0.58, 0.77]
    """

    tolerance: float
    most_pulses: int
    pulse_spread: Polynomial
    pulse_bias: Polynomial | None = None
    read_spread: Polynomial | None = None
    valid_from: float
    valid_to: float
    pulse_seconds: float | None = None
    pulse_energy: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tolerance", check_real("tolerance", self.tolerance, above=0.0))
        object.__setattr__(
            self, "most_pulses", check_integer("most_pulses", self.most_pulses, at_least=1, at_most=10**9)
        )
        check_spread(self.pulse_spread)
        if self.read_spread is not None:
            check_spread(self.read_spread)
        check_instance("pulse_bias", self.pulse_bias, (Polynomial, type(None)))
        if self.pulse_bias is not None and self.pulse_bias.minimum != -math.inf:
            raise InputError(f"pulse_bias.minimum must be -inf (it may be negative), got {self.pulse_bias.minimum!r}")
        object.__setattr__(self, "valid_from", check_real("valid_from", self.valid_from, at_least=0.0))
        object.__setattr__(self, "valid_to", check_real("valid_to", self.valid_to, above=self.valid_from))
        for name in ("pulse_seconds", "pulse_energy"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check_real(name, value, at_least=0.0))

    @classmethod
    @entrance
    def load(cls, name_or_path: str | os.PathLike[str]) -> WriteVerify:
        """The write and verify of a card: a name from :func:`write_names`, or a path that ends in ``.toml``.

        Raises
        ------
        InputError
            If no card has that name, or a value in it is out of bounds.
        FileFormatError
            If the card cannot be read, is not TOML, or has unknown keys or wrong types.
        """
        return WRITE_CARDS.load(name_or_path).value

    def _parts(self, target: npt.ArrayLike) -> tuple[FloatArray, ...]:
        """Targets, and bias of a pulse, share of its spread in that of a read, spread of a read, both ends, chance."""
        aim = np.asarray(target, dtype=np.float64)
        wrong = ~((aim >= self.valid_from) & (aim <= self.valid_to))
        if wrong.any():
            raise InputError(
                f"target must be within {self.valid_from!r} and {self.valid_to!r} S, "
                f"where the law is valid, got {float(aim[wrong].flat[0])!r}"
            )
        pulse = self.pulse_spread(aim)
        if not (pulse > 0).all():
            raise InputError(f"pulse_spread must be > 0 S, got 0 at a target of {float(aim[pulse <= 0].flat[0])!r} S")
        noise = np.zeros(aim.shape) if self.read_spread is None else self.read_spread(aim)
        bias = np.zeros(aim.shape) if self.pulse_bias is None else self.pulse_bias(aim)
        read = np.hypot(pulse, noise)
        low, high = (-self.tolerance - bias) / read, (self.tolerance - bias) / read
        # by the tail that both ends lie in, for accuracy
        chance = np.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))
        if not (chance >= _LEAST_CHANCE).all():
            worst = np.argmin(chance)
            raise InputError(
                f"tolerance, pulse_spread and pulse_bias must leave a pulse a chance of {_LEAST_CHANCE:g} "
                f"to be accepted, got {float(chance.flat[worst]):.3g} at a target of {float(aim.flat[worst])!r} S"
            )
        return aim, bias, (pulse / read) ** 2, read, low, high, chance

    @entrance
    def law(self, target: npt.ArrayLike) -> WriteLaw:
        """What becomes of cells of these targets, in closed form, for cells far enough above zero conductance.

        Parameters
        ----------
        target
            S, any shape, within the range that the law is valid in.

        Raises
        ------
        InputError
            If a target is out of the range, or no pulse can be accepted.
        """
        _, bias, share, read, low, high, chance = self._parts(target)
        never = self.most_pulses * np.log1p(-np.minimum(chance, 1 - 2**-53))
        given_up, pulses = np.exp(never), -np.expm1(never) / chance
        centre, width = _between(low, high, chance)  # of the read, in its own standard deviations, if accepted
        # of what was read, the share that is the pulse's; the rest is noise, which acceptance tells nothing of
        mean = share * read * centre
        square = (share * read * width) ** 2 + share * (1 - share) * read**2 + mean**2
        whole = share * read**2  # the variance of a pulse
        with np.errstate(divide="ignore", invalid="ignore"):
            rest = np.where(chance < 1, 1 / (1 - chance), 0.0)
        other_mean, other_square = -chance * mean * rest, (whole - chance * square) * rest
        all_mean = (1 - given_up) * mean + given_up * other_mean
        all_square = (1 - given_up) * square + given_up * other_square
        return WriteLaw(
            accepted_a_pulse=chance,
            given_up=given_up,
            pulses=pulses,
            bias=bias + all_mean,
            spread=np.sqrt(np.maximum(all_square - all_mean**2, 0.0)),
            accepted_bias=bias + mean,
            accepted_spread=np.sqrt(np.maximum(square - mean**2, 0.0)),
            seconds=None if self.pulse_seconds is None else pulses * self.pulse_seconds,
            energy=None if self.pulse_energy is None else pulses * self.pulse_energy,
        )

    @entrance
    def program(
        self, target: npt.ArrayLike, rng: np.random.Generator, *, start: npt.ArrayLike | None = None
    ) -> Written:
        """Write cells.

        Parameters
        ----------
        target
            S, any shape.
        rng
            Source of pulses and reads; so many numbers a cell are drawn, whatever happens to it.
        start
            Conductance before, S, of the same shape: cells whose read is in the window get no pulse. ``None`` for cells
            that get one in any case.

        Raises
        ------
        InputError
            As :meth:`law`, and if `start` is of another shape, negative or not finite.
        """
        aim, bias, share, read, low, high, chance = self._parts(target)
        check_instance("rng", rng, np.random.Generator)
        waits, place, noise, before = (rng.random(aim.shape), rng.random(aim.shape), rng.standard_normal(aim.shape),
                                       rng.standard_normal(aim.shape))  # fmt: skip
        with np.errstate(divide="ignore"):
            pulses = np.floor(np.log1p(-waits) / np.log1p(-chance)) + 1  # geometric; 1 where the chance is 1
        accepted = pulses <= self.most_pulses
        pulses = np.minimum(pulses, self.most_pulses)
        below, above = ndtr(low), ndtr(-high)
        inside = np.where(
            low > 0, -ndtri(ndtr(-low) - place * chance), ndtri(np.minimum(below + place * chance, 1 - 2**-53))
        )
        missed = place * (below + above)
        outside = np.where(missed < below, 1, -1) * ndtri(np.where(missed < below, missed, missed - below) + 2.0**-1074)
        seen = np.where(accepted, np.clip(inside, low, high), outside)
        left = aim + bias + share * read * seen + np.sqrt(share * (1 - share)) * read * noise
        if start is not None:
            held = np.asarray(start, dtype=np.float64)
            if held.shape != aim.shape:
                raise InputError(f"start must have the shape {aim.shape} of the targets, got {held.shape}")
            if held.size and not (np.isfinite(held).all() and held.min() >= 0):
                raise InputError("start must be finite and >= 0 S, got another value")
            spread = 0.0 if self.read_spread is None else self.read_spread(aim)
            ready = np.abs(held + spread * before - aim) <= self.tolerance
            left, pulses, accepted = np.where(ready, held, left), np.where(ready, 0, pulses), accepted | ready
        return Written(
            conductance=np.maximum(left, 0.0),
            pulses=pulses.astype(np.int64),
            accepted=accepted,
            seconds=None if self.pulse_seconds is None else pulses * self.pulse_seconds,
            energy=None if self.pulse_energy is None else pulses * self.pulse_energy,
        )

    @entrance
    def programming_error(self, valid_from: float, valid_to: float) -> ProgrammingError:
        """The error that is left, as the normal law of a :class:`Cell`: its bias and spread are those of :meth:`law`.

        Its shape is not: the error of accepted cells is nearly uniform, and that of cells given up is far larger.

        Parameters
        ----------
        valid_from, valid_to
            The range of targets, S.

        Raises
        ------
        InputError
            As :meth:`law`, or if no polynomial of order 8 comes within a thousandth of it.
        """
        low = check_real("valid_from", valid_from, at_least=0.0)
        high = check_real("valid_to", valid_to, above=low)
        target = np.linspace(low, high, _NODES)
        law = self.law(target)
        spread = _polynomial("spread", target, law.spread, 0.0, float(law.spread.max()))
        bias = None
        if np.any(law.bias != 0):
            bias = _polynomial("bias", target, law.bias, -math.inf, float(law.spread.max()))
        return ProgrammingError(spread=spread, bias=bias, valid_from=low, valid_to=high)


def _between(low: FloatArray, high: FloatArray, chance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of a standard normal number that lies between `low` and `high`."""
    ends = np.exp(-(low**2) / 2) / math.sqrt(2 * math.pi), np.exp(-(high**2) / 2) / math.sqrt(2 * math.pi)
    mean = (ends[0] - ends[1]) / chance
    variance = 1 + (low * ends[0] - high * ends[1]) / chance - mean**2
    # Gauss-Legendre, about the middle and with the density there as unit; exact to rounding for such widths
    nodes, weights = np.polynomial.legendre.leggauss(16)
    half, middle = np.minimum(high - low, _NARROW)[..., np.newaxis] / 2, (high + low)[..., np.newaxis] / 2
    off = half * nodes
    density = weights * np.exp(-(off**2) / 2 - off * np.clip(middle, -40, 40))
    total = density.sum(axis=-1)
    shift = (density * off).sum(axis=-1) / total
    spread = (density * (off - shift[..., np.newaxis]) ** 2).sum(axis=-1) / total
    narrow = high - low < _NARROW
    return (
        np.where(narrow, middle[..., 0] + shift, mean),
        np.sqrt(np.where(narrow, spread, np.maximum(variance, 0.0))),
    )


def _polynomial(name: str, target: FloatArray, value: FloatArray, minimum: float, size: float) -> Polynomial:
    """The polynomial of the lowest order that comes within a thousandth of `size`."""
    scale = float(target[-1])
    for order in range(_HIGHEST_ORDER + 1):
        coefficients: Any = np.polynomial.polynomial.polyfit(target / scale, value, order)
        polynomial = Polynomial(coefficients=tuple(coefficients.tolist()), scale=scale, minimum=minimum)
        worst = float(np.abs(polynomial(target) - value).max())
        if worst <= _CLOSE * size:
            return polynomial
    raise InputError(
        f"the {name} that is left must be within {_CLOSE:g} of a polynomial of order {_HIGHEST_ORDER}, "
        f"got {worst / size:.2g}: narrow the range"
    )


@dataclass(frozen=True, kw_only=True)
class WriteCard:
    """A cited write and verify.

    Attributes
    ----------
    name
        The card's name; its file is ``<name>.write.toml``.
    description
        The chip and what was measured of it.
    source
        Citation.
    doi
        Digital object identifier, or ``None`` where there is none (the source says so).
    origin
        One of :data:`xbarsim.foundation.cards.ORIGINS`.
    note
        What was done to the source's numbers.
    value
        The write and verify.
    """

    name: str
    description: str
    source: str
    doi: str | None = None
    origin: Origin
    note: str
    value: WriteVerify

    def __post_init__(self) -> None:
        check_fields(self)


WRITE_CARDS = CardFolder("write_verify", WriteCard, Path(__file__).parent / "cards", ending=".write.toml")
"""The cards of writing that come with the project."""


@entrance
def write_names() -> list[str]:
    """The names of the cards of writing that come with the project, sorted."""
    return WRITE_CARDS.names()
