"""Read noise: how much one read of a cell strays from its conductance, by mechanism.

The current of a cell driven with code x, at x times the voltage of code 1, has a variance that is a polynomial of x.
Fluctuations of the conductance (1/f, telegraph, a measured law) grow with x squared, shot noise with the current and so
with x, thermal noise not at all. Divided by the squared voltage of code 1, the current becomes what a converter sees:
conductance times code, in siemens. :class:`NoiseVariance` holds the three coefficients.

The mechanisms are apart, each with its own parameters: a variance is the integral of a spectral density over the band
of the read-out, and a sum of mechanisms (:class:`SummedNoise`) is the sum of these integrals, which is all that a read
sees. What makes reads of one cell hang together in time is not kept.

All of it has mean zero and is independent from cell to cell, so the variance of a column is the sum over its cells.
Every cell in a row that is selected counts: one at code 0 stands between its word line at 0 V and the bit line, and is
as hot as the others. Rows that are not selected are cut off by their transistors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.constants import Boltzmann, elementary_charge

from xbarsim.devices.polynomial import Polynomial, check_spread
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_instance, check_real

__all__ = [
    "FlickerNoise",
    "NoiseModel",
    "NoiseVariance",
    "ReadNoise",
    "ShotNoise",
    "SummedNoise",
    "TelegraphNoise",
    "ThermalNoise",
]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseVariance:
    """Variance of conductance times code, of each cell in one read: ``constant + linear * x + quadratic * x**2``.

    Attributes
    ----------
    constant, linear, quadratic
        S^2, of the shape of the conductances; x is the code (>= 0) that drives the cell.
    """

    constant: FloatArray
    linear: FloatArray
    quadratic: FloatArray

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @entrance
    def of(
        cls,
        shape: tuple[int, ...],
        *,
        constant: FloatArray | float = 0.0,
        linear: FloatArray | float = 0.0,
        quadratic: FloatArray | float = 0.0,
    ) -> NoiseVariance:
        """The variance of cells of this shape, absent terms zero."""
        terms = (np.array(np.broadcast_to(term, shape), np.float64) for term in (constant, linear, quadratic))
        return cls(**dict(zip(("constant", "linear", "quadratic"), terms, strict=True)))

    def __add__(self, other: NoiseVariance) -> NoiseVariance:
        return NoiseVariance(
            constant=self.constant + other.constant,
            linear=self.linear + other.linear,
            quadratic=self.quadratic + other.quadratic,
        )

    def __call__(self, code: npt.ArrayLike) -> FloatArray:
        """The variance at `code` (any shape that broadcasts), S^2."""
        x = np.asarray(code, dtype=np.float64)
        return np.asarray(self.constant + self.linear * x + self.quadratic * x**2)


class NoiseModel:
    """What makes a read of a cell uncertain; the subclasses are the models.

    Attributes
    ----------
    needs_voltage
        Whether the cell's read voltage must be known.
    """

    needs_voltage: ClassVar[bool] = False

    def valid_range(self) -> tuple[float, float]:
        """The range of conductances that the model holds for, S."""
        return 0.0, math.inf

    @property
    def terms(self) -> tuple[NoiseModel, ...]:
        """The independent mechanisms that it is the sum of."""
        return (self,)

    @property
    def per_read(self) -> bool:
        """Whether it is new at every read."""
        return True

    @property
    def per_die(self) -> bool:
        """Whether it leaves something for good in every die."""
        return False

    @entrance
    def variance(self, conductance: npt.ArrayLike, code_voltage: float | None) -> NoiseVariance:
        """Variance of one read of each cell.

        Parameters
        ----------
        conductance
            S, any shape.
        code_voltage
            Voltage of code 1, V; ``None`` where it is not known and not needed.
        """
        raise NotImplementedError

    @entrance
    def settle(self, conductance: FloatArray, rng: np.random.Generator) -> FloatArray:
        """The conductance that each cell of one die keeps, S; `conductance` itself where nothing is fixed."""
        return conductance

    def __str__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        said = (f"{name} {value!r}" for name, value in values.items() if value is not None)
        return f"{type(self).__name__}: {', '.join(said)}"


@dataclass(frozen=True, kw_only=True)
class ReadNoise(NoiseModel):
    """A measured law: the conductance fluctuates by a normal law, new at every read.

    Attributes
    ----------
    spread
        Standard deviation against conductance, S.
    valid_from, valid_to
        The range of conductances the law was measured over, S. A cell that strays out of it has the noise of its end.
    """

    spread: Polynomial
    valid_from: float
    valid_to: float

    def __post_init__(self) -> None:
        check_spread(self.spread)
        object.__setattr__(self, "valid_from", check_real("valid_from", self.valid_from, at_least=0.0))
        object.__setattr__(self, "valid_to", check_real("valid_to", self.valid_to, above=self.valid_from))

    def valid_range(self) -> tuple[float, float]:
        """The measured range, S."""
        return self.valid_from, self.valid_to

    @entrance
    def variance(self, conductance: npt.ArrayLike, code_voltage: float | None) -> NoiseVariance:
        """The measured spread, squared."""
        g = np.clip(np.asarray(conductance, dtype=np.float64), self.valid_from, self.valid_to)
        return NoiseVariance.of(g.shape, quadratic=self.spread(g) ** 2)


@dataclass(frozen=True, kw_only=True)
class ThermalNoise(NoiseModel):
    """Johnson-Nyquist noise: a current of variance 4 k T g B from each cell in a selected row, whatever its code.

    Attributes
    ----------
    temperature
        K.
    bandwidth
        Noise bandwidth of the read-out, Hz (pi/2 times the corner of a first-order low pass).

    References
    ----------
    .. [1] J. B. Johnson, Phys. Rev. 32, 97 (1928), doi:10.1103/PhysRev.32.97; H. Nyquist, Phys. Rev. 32, 110 (1928),
       doi:10.1103/PhysRev.32.110.
    """

    temperature: float = 300.0
    bandwidth: float

    needs_voltage: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", check_real("temperature", self.temperature, above=0.0))
        object.__setattr__(self, "bandwidth", check_real("bandwidth", self.bandwidth, above=0.0))

    @entrance
    def variance(self, conductance: npt.ArrayLike, code_voltage: float | None) -> NoiseVariance:
        """4 k T g B over the squared voltage of one code."""
        voltage = _known(code_voltage, self)
        g = np.asarray(conductance, dtype=np.float64)
        return NoiseVariance.of(g.shape, constant=4.0 * Boltzmann * self.temperature * self.bandwidth * g / voltage**2)


@dataclass(frozen=True, kw_only=True)
class ShotNoise(NoiseModel):
    """Shot noise: a current of variance 2 q F I B from each cell, I its current.

    Full shot noise needs carriers that cross one barrier independently of each other, as in a tunnel gap. In a metallic
    filament it is suppressed; `fano` says by how much.

    Attributes
    ----------
    bandwidth
        Noise bandwidth of the read-out, Hz.
    fano
        Fano factor F, 0 to 1; a diffusive conductor has 1/3.

    References
    ----------
    .. [1] W. Schottky, Annalen der Physik 362, 541 (1918), doi:10.1002/andp.19183622304.
    """

    bandwidth: float
    fano: float = 1.0

    needs_voltage: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", check_real("bandwidth", self.bandwidth, above=0.0))
        object.__setattr__(self, "fano", check_real("fano", self.fano, at_least=0.0, at_most=1.0))

    @entrance
    def variance(self, conductance: npt.ArrayLike, code_voltage: float | None) -> NoiseVariance:
        """2 q F g B over the voltage of one code, times the code."""
        voltage = _known(code_voltage, self)
        g = np.asarray(conductance, dtype=np.float64)
        return NoiseVariance.of(g.shape, linear=2.0 * elementary_charge * self.fano * self.bandwidth * g / voltage)


@dataclass(frozen=True, kw_only=True)
class FlickerNoise(NoiseModel):
    """1/f noise: the conductance fluctuates with the spectral density ``coefficient(g) * g**2 / f``.

    Its variance is ``coefficient(g) * g**2 * ln(high_frequency / low_frequency)``. The coefficient is the same for all
    conductances (Hooge), or ``coefficient * (g / scale)**exponent``, held below `largest`: in phase-change memory
    poorly conducting cells fluctuate more. Every read draws anew: the part that is slower than a read, and so common to
    neighbouring reads of a cell, is not kept.

    Attributes
    ----------
    coefficient
        Relative power spectral density at 1 Hz, unitless: S_I f / I^2.
    low_frequency
        Lower limit of the integration, Hz: about one over the time since the cell was verified.
    high_frequency
        Upper limit, Hz: about the bandwidth of the read-out.
    scale
        The conductance that `coefficient` is stated at, S; ``None`` where it is the same for all.
    exponent
        Power of the conductance that it goes with; given with `scale`.
    largest
        What the coefficient is held below, or ``None``; only with `scale`.

    References
    ----------
    .. [1] F. N. Hooge, Physics Letters A 29, 139 (1969), doi:10.1016/0375-9601(69)90076-0. In resistive memories: S.
       Ambrogio et al., IEEE Trans. Electron Devices 62, 3805 (2015), doi:10.1109/TED.2015.2475598 (pages not verified).
       Against conductance: S. R. Nandakumar et al., ICECS 2019, 727, doi:10.1109/ICECS46596.2019.8964852.
    """

    coefficient: float
    low_frequency: float
    high_frequency: float
    scale: float | None = None
    exponent: float | None = None
    largest: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficient", check_real("coefficient", self.coefficient, at_least=0.0))
        object.__setattr__(self, "low_frequency", check_real("low_frequency", self.low_frequency, above=0.0))
        high = check_real("high_frequency", self.high_frequency, above=self.low_frequency)
        object.__setattr__(self, "high_frequency", high)
        if (self.scale is None) != (self.exponent is None):
            raise InputError(f"scale and exponent must be given together, got {self.scale!r} and {self.exponent!r}")
        if self.largest is not None:
            if self.scale is None:
                raise InputError(
                    f"largest must be None where the coefficient is the same for all, got {self.largest!r}"
                )
            object.__setattr__(self, "largest", check_real("largest", self.largest, at_least=0.0))
        if self.scale is not None:
            object.__setattr__(self, "scale", check_real("scale", self.scale, above=0.0))
            # g^2 times the coefficient must vanish with g: a cell that does not conduct does not fluctuate
            object.__setattr__(self, "exponent", check_real("exponent", self.exponent, above=-2.0, at_most=2.0))

    @classmethod
    @entrance
    def hooge(cls, *, alpha: float, carriers: float, low_frequency: float, high_frequency: float) -> FlickerNoise:
        """Hooge's law: the coefficient is `alpha` (unitless, about 2e-3 in metals) over the number of carriers."""
        alpha = check_real("alpha", alpha, at_least=0.0)
        carriers = check_real("carriers", carriers, above=0.0)
        return cls(coefficient=alpha / carriers, low_frequency=low_frequency, high_frequency=high_frequency)

    @entrance
    def variance(self, conductance: npt.ArrayLike, code_voltage: float | None) -> NoiseVariance:
        """The spectral density integrated between the limits."""
        g = np.asarray(conductance, dtype=np.float64)
        width = math.log(self.high_frequency / self.low_frequency)
        if self.scale is None or self.exponent is None:
            return NoiseVariance.of(g.shape, quadratic=self.coefficient * width * g**2)
        # the powers of g are taken together: the coefficient alone has none at 0
        density = self.coefficient * self.scale**2 * (np.maximum(g, 0.0) / self.scale) ** (2.0 + self.exponent)
        if self.largest is not None:
            density = np.minimum(density, self.largest * g**2)
        return NoiseVariance.of(g.shape, quadratic=width * density)


@dataclass(frozen=True, kw_only=True)
class TelegraphNoise(NoiseModel):
    """Random telegraph noise: each cell is in one of two states that differ by ``amplitude(g)``.

    With g the mean over time, a cell has ``g - (1 - probability) * amplitude`` with `probability`, else ``g +
    probability * amplitude``: mean g, variance ``probability * (1 - probability) * amplitude**2``. The relative
    amplitude is ``saturation / (1 + g / corner)``: constant in poorly conducting cells, where one trap can pinch off
    the path, and falling as 1/g in a filament wide against the trap.

    Switching faster than reads repeat is new at every read. Then a sum over rows is drawn from the normal law with the
    exact mean and variance, which is the limit for many rows; with one row driven the true law has two values. With
    `frozen`, switching is slower than an inference: each cell of a die is drawn into one state and stays there, and
    nothing is approximated.

    Where the `switching_time` is known, only what a read-out's band lets through counts: the spectral density is the
    Lorentzian ``4 v t / (1 + (2 pi f t)**2)`` of the variance v and the time t, and its integral from `low_frequency`
    to `high_frequency` the share ``(2 / pi) (atan(2 pi f_high t) - atan(2 pi f_low t))`` of v.

    Attributes
    ----------
    saturation
        Relative amplitude at low conductance, 0 to 1.
    corner
        Conductance at which it has halved, S.
    probability
        Of the state of lower conductance, 0 to 1.
    frozen
        Whether a die keeps the state it was made with.
    switching_time
        ``1 / (1 / a + 1 / b)`` of the mean times a and b in the two states, s: that over which the signal forgets its
        state. ``None`` where it is not known: then the whole variance counts. Not with `frozen`.
    low_frequency, high_frequency
        Ends of the band that a read-out sees, Hz; given with `switching_time`.

    References
    ----------
    .. [1] S. Machlup, J. Appl. Phys. 25, 341 (1954), doi:10.1063/1.1721637 (the two-state signal). Amplitude against
       resistance: D. Ielmini, F. Nardi, C. Cagli, Appl. Phys. Lett. 96, 053503 (2010), doi:10.1063/1.3304167 (not
       verified); S. Ambrogio et al., doi:10.1109/TED.2015.2475598. The smooth step between its two ends is ours.
    """

    saturation: float
    corner: float
    probability: float = 0.5
    frozen: bool = False
    switching_time: float | None = None
    low_frequency: float | None = None
    high_frequency: float | None = None

    def __post_init__(self) -> None:
        saturation = check_real("saturation", self.saturation, at_least=0.0, at_most=1.0)
        object.__setattr__(self, "saturation", saturation)
        object.__setattr__(self, "corner", check_real("corner", self.corner, above=0.0))
        probability = check_real("probability", self.probability, at_least=0.0, at_most=1.0)
        object.__setattr__(self, "probability", probability)
        check_instance("frozen", self.frozen, bool)
        given = [value is not None for value in (self.switching_time, self.low_frequency, self.high_frequency)]
        if any(given) != all(given):
            raise InputError(
                "switching_time, low_frequency and high_frequency must be given together, got "
                f"{self.switching_time!r}, {self.low_frequency!r} and {self.high_frequency!r}"
            )
        if all(given):
            if self.frozen:
                raise InputError(f"switching_time must be None for a frozen state, got {self.switching_time!r}")
            object.__setattr__(self, "switching_time", check_real("switching_time", self.switching_time, above=0.0))
            low = check_real("low_frequency", self.low_frequency, at_least=0.0)
            object.__setattr__(self, "low_frequency", low)
            object.__setattr__(self, "high_frequency", check_real("high_frequency", self.high_frequency, above=low))

    @property
    def share(self) -> float:
        """The share of the variance that lies in the band of the read-out; 1 where no band is given."""
        if self.switching_time is None or self.low_frequency is None or self.high_frequency is None:
            return 1.0
        low, high = (2.0 * math.pi * f * self.switching_time for f in (self.low_frequency, self.high_frequency))
        return 2.0 / math.pi * (math.atan(high) - math.atan(low))

    @property
    def per_read(self) -> bool:
        """Whether the state is new at every read."""
        return not self.frozen

    @property
    def per_die(self) -> bool:
        """Whether the state is drawn once a die."""
        return self.frozen

    @entrance
    def amplitude(self, conductance: npt.ArrayLike) -> FloatArray:
        """Difference of the two states at a mean `conductance` (S, any shape), S."""
        g = np.asarray(conductance, dtype=np.float64)
        return np.asarray(self.saturation * g / (1.0 + g / self.corner))

    @entrance
    def variance(self, conductance: npt.ArrayLike, code_voltage: float | None) -> NoiseVariance:
        """Of a state that is new at every read; zero for a frozen one."""
        amplitude = self.amplitude(conductance)
        if self.frozen:
            return NoiseVariance.of(amplitude.shape)
        variance = self.probability * (1 - self.probability) * amplitude**2
        if self.switching_time is not None:
            variance = self.share * variance
        return NoiseVariance.of(amplitude.shape, quadratic=variance)

    @entrance
    def settle(self, conductance: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Each cell in one of its two states, if they are frozen."""
        if not self.frozen:
            return conductance
        amplitude = self.amplitude(conductance)
        low = rng.random(conductance.shape, dtype=np.float32) < self.probability
        return np.asarray(conductance + np.where(low, self.probability - 1.0, self.probability) * amplitude)


@dataclass(frozen=True, kw_only=True)
class SummedNoise(NoiseModel):
    """Several independent mechanisms: their variances add.

    Attributes
    ----------
    mechanisms
        At least one; a sum within a sum is taken apart.
    """

    mechanisms: tuple[NoiseModel, ...]

    def __post_init__(self) -> None:
        check_instance("mechanisms", self.mechanisms, tuple)
        if not self.mechanisms:
            raise InputError("mechanisms must hold at least one model, got ()")
        for index, model in enumerate(self.mechanisms):
            check_instance(f"mechanisms[{index}]", model, NoiseModel)
        object.__setattr__(self, "mechanisms", tuple(term for model in self.mechanisms for term in model.terms))

    @property
    def terms(self) -> tuple[NoiseModel, ...]:
        """The mechanisms."""
        return self.mechanisms

    @property
    def per_read(self) -> bool:
        """Whether any mechanism is new at every read."""
        return any(model.per_read for model in self.mechanisms)

    @property
    def per_die(self) -> bool:
        """Whether any mechanism is drawn once a die."""
        return any(model.per_die for model in self.mechanisms)

    def valid_range(self) -> tuple[float, float]:
        """The range that all hold for, S."""
        ranges = [model.valid_range() for model in self.mechanisms]
        return max(low for low, _ in ranges), min(high for _, high in ranges)

    @entrance
    def variance(self, conductance: npt.ArrayLike, code_voltage: float | None) -> NoiseVariance:
        """The sum of the mechanisms' variances."""
        total, *others = (model.variance(conductance, code_voltage) for model in self.mechanisms)
        for other in others:
            total = total + other
        return total

    @entrance
    def settle(self, conductance: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Each mechanism in turn, from the same mean."""
        settled = conductance
        for model in self.mechanisms:
            settled = settled + (model.settle(conductance, rng) - conductance)
        return settled

    def __str__(self) -> str:
        return "; ".join(map(str, self.mechanisms))


def needs_voltage(model: NoiseModel) -> tuple[str, ...]:
    """Names of the mechanisms in `model` that need the read voltage."""
    return tuple(type(term).__name__ for term in model.terms if term.needs_voltage)


def _known(code_voltage: Any, model: NoiseModel) -> float:
    if code_voltage is None:
        raise InputError(f"code_voltage must be given for {type(model).__name__}, got None")
    return check_real("code_voltage", code_voltage, above=0.0)
