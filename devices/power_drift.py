"""Drift by a power of time, as that of phase-change memory: each cell with an exponent of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.devices.drift import Drift, Programming, check_ends
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_real

__all__ = ["ExponentLaw", "PowerLawDrift"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ExponentLaw:
    """A drift exponent against conductance: ``offset + slope * ln(g / scale)``, held between `least` and `most`.

    Attributes
    ----------
    offset
        At the conductance `scale`, unitless.
    slope
        Change for each factor e of conductance.
    scale
        S.
    least, most
        What it is held between.
    """

    offset: float
    slope: float
    scale: float
    least: float
    most: float

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("offset", "slope", "least"):
            object.__setattr__(self, name, check_real(name, getattr(self, name)))
        object.__setattr__(self, "scale", check_real("scale", self.scale, above=0.0))
        object.__setattr__(self, "most", check_real("most", self.most, at_least=self.least))

    def __call__(self, conductance: npt.ArrayLike) -> FloatArray:
        """The exponent at `conductance` (S, any shape)."""
        g = np.maximum(np.asarray(conductance, dtype=np.float64), self.scale * 1e-12)
        return np.clip(self.offset + self.slope * np.log(g / self.scale), self.least, self.most)


@dataclass(frozen=True, kw_only=True)
class PowerLawDrift(Drift):
    """Conductance falls as a power of time, ``g (t / reference_time)**-nu``, t since programming.

    Each cell has one exponent nu for good, from a normal law whose mean and standard deviation go with the conductance
    that it has at the reference time: poorly conducting cells, mostly amorphous, drift more and differ more. An
    exponent drawn below zero lets a cell rise; the sources say nothing against it.

    Attributes
    ----------
    mean, spread
        Of the exponent, against conductance.
    reference_time, valid_from, valid_to
        As in :class:`Drift`.
    valid_seconds
        The most seconds it holds for, s.

    References
    ----------
    .. [1] M. Le Gallo, D. Krebs, F. Zipoli, M. Salinga, A. Sebastian, Adv. Electron. Mater. 4, 1700627 (2018),
       doi:10.1002/aelm.201700627 (the power law; not verified). The exponent against conductance: S. R. Nandakumar et
       al., ICECS 2019, 727, doi:10.1109/ICECS46596.2019.8964852.
    """

    mean: ExponentLaw
    spread: ExponentLaw
    reference_time: float = 1.0
    valid_from: float
    valid_to: float
    valid_seconds: float

    def __post_init__(self) -> None:
        check_fields(self)
        if self.spread.least < 0:
            raise InputError(f"spread.least must be >= 0 (a standard deviation), got {self.spread.least!r}")
        check_ends(self)
        object.__setattr__(self, "valid_seconds", check_real("valid_seconds", self.valid_seconds, above=0.0))

    @property
    def longest(self) -> float:
        """`valid_seconds`."""
        return self.valid_seconds

    @property
    def scores(self) -> int:
        """One: the exponent stays."""
        return 1

    def _logarithm(self, seconds: float) -> float:
        return math.log1p(seconds / self.reference_time)

    def _exponents(self, conductance: FloatArray) -> tuple[FloatArray, FloatArray]:
        held = np.clip(conductance, self.valid_from, self.valid_to)
        return self.mean(held), self.spread(held)

    @entrance
    def later(
        self, conductance: FloatArray, seconds: float, scores: FloatArray, programming: Programming | None = None
    ) -> FloatArray:
        """The power of time, with the exponent that each cell's score picks."""
        mean, spread = self._exponents(conductance)
        return np.asarray(conductance * np.exp(-self._logarithm(seconds) * (mean + spread * scores[0])))

    @entrance
    def moments(self, conductance: npt.ArrayLike, seconds: float) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the change: those of a log-normal law."""
        g, x = np.asarray(conductance, dtype=np.float64), self._logarithm(self.check_seconds(seconds))
        mean, spread = self._exponents(g)
        square = (spread * x) ** 2
        middle = np.exp(-mean * x + square / 2)
        return g * (middle - 1.0), g * middle * np.sqrt(np.expm1(square))

    def __str__(self) -> str:
        return (
            f"power of time from {self.reference_time:g} s on, for {self.valid_seconds:g} s, exponent "
            f"{self.mean.offset:g} {self.mean.slope:+g} ln(g / {self.mean.scale * 1e6:g} uS), "
            f"{self.mean.least:g} to {self.mean.most:g}"
        )
