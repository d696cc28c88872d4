"""Current through a cell against the voltage across it, where it is not a straight line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError, check_instance, check_real

__all__ = ["CurrentLaw", "PolynomialLaw", "SinhLaw"]

Floats = npt.NDArray[np.float64]


class CurrentLaw:
    """How the current through a cell depends on its voltage; at small voltages, conductance times voltage."""

    maximum_voltage: float

    def evaluate(self, conductance: Floats, voltage: Floats) -> tuple[Floats, Floats]:
        """Current (A) and its slope against voltage (S) of cells at `voltage` (V), word line against bit line."""
        raise NotImplementedError

    @property
    def proportional(self) -> bool:
        """Whether the current is the conductance times a function of the voltage alone."""
        return False

    def relative(self, voltage: Floats) -> Floats:
        """That function (V), for a law that is proportional."""
        return self.evaluate(np.ones_like(voltage), voltage)[0]

    def check(self, conductance: Floats) -> None:
        """Refuse cells whose current does not rise with the voltage in the law's range."""
        raise NotImplementedError


def _check_maximum(law: CurrentLaw) -> None:
    if law.maximum_voltage != math.inf:
        object.__setattr__(law, "maximum_voltage", check_real("maximum_voltage", law.maximum_voltage, above=0.0))


@dataclass(frozen=True, kw_only=True)
class PolynomialLaw(CurrentLaw):
    """``I = G V + NL2(G) V^2 + NL3(G) V^3``, the form Milo et al. give their cells.

    Source: doi:10.1109/IRPS46558.2021.9405119; coefficients are not shipped.

    Beyond `maximum_voltage` the law goes on as its tangent, so that a solver may pass through there; an answer
    there is refused.

    Attributes
    ----------
    quadratic, cubic
        NL2 in A/V^2 and NL3 in A/V^3 as polynomials of the cell's conductance, from the constant term up: the k-th
        coefficient is multiplied by G^k (S^k). A cubic of ``(0.0, 0.5)`` is ``0.5 G V^3``.
    maximum_voltage
        The law holds for ``|V|`` up to this, V.
    """

    quadratic: tuple[float, ...] = ()
    cubic: tuple[float, ...] = ()
    maximum_voltage: float

    def __post_init__(self) -> None:
        for name in ("quadratic", "cubic"):
            check_instance(name, getattr(self, name), tuple)
            values = tuple(check_real(f"{name}[{k}]", value) for k, value in enumerate(getattr(self, name)))
            object.__setattr__(self, name, values)
        object.__setattr__(self, "maximum_voltage", check_real("maximum_voltage", self.maximum_voltage, above=0.0))

    @property
    def proportional(self) -> bool:
        """Whether both coefficients are proportional to the conductance."""
        terms = (self.quadratic, self.cubic)
        return all(value == 0.0 for term in terms for power, value in enumerate(term) if power != 1)

    def _terms(self, conductance: Floats) -> tuple[Floats, Floats]:
        def term(coefficients: tuple[float, ...]) -> Floats:
            return np.asarray(np.polynomial.polynomial.polyval(conductance, np.array(coefficients or (0.0,))))

        return term(self.quadratic), term(self.cubic)

    def evaluate(self, conductance: Floats, voltage: Floats) -> tuple[Floats, Floats]:
        """Current (A) and its slope against voltage (S) of cells at `voltage` (V), word line against bit line."""
        second, third = self._terms(conductance)
        inside = np.clip(voltage, -self.maximum_voltage, self.maximum_voltage)
        current = inside * (conductance + inside * (second + inside * third))
        slope = conductance + inside * (2.0 * second + inside * 3.0 * third)
        return current + slope * (voltage - inside), slope

    def check(self, conductance: Floats) -> None:
        """Refuse cells whose current falls with rising voltage somewhere in ``+-maximum_voltage``."""
        second, third = self._terms(conductance)
        # The slope is a parabola: lowest at the ends, or at its vertex if that is inside and it opens upwards.
        with np.errstate(divide="ignore", invalid="ignore"):
            vertex = np.where(third > 0.0, -second / (3.0 * third), 0.0)
        lowest = np.full(conductance.shape, np.inf)
        for voltage in (
            np.clip(vertex, -self.maximum_voltage, self.maximum_voltage),
            np.full(conductance.shape, self.maximum_voltage),
            np.full(conductance.shape, -self.maximum_voltage),
        ):
            lowest = np.minimum(lowest, self.evaluate(conductance, voltage)[1])
        if (lowest < 0.0).any():
            where = tuple(int(k) for k in np.argwhere(lowest < 0.0)[0])
            raise InputError(
                f"the slope of the current must be >= 0 S up to {self.maximum_voltage!r} V, "
                f"got {float(lowest[where])!r} for the cell of {float(conductance[where])!r} S at index {where}"
            )


@dataclass(frozen=True, kw_only=True)
class SinhLaw(CurrentLaw):
    """``I = G v0 sinh(V / v0)``, with ``v0`` the `voltage_scale`.

    Attributes
    ----------
    voltage_scale
        V; the current is 17.5 % above a straight line at ``V = v0``.
    maximum_voltage
        The law holds for ``|V|`` up to this, V; ``inf`` for no bound.
    """

    voltage_scale: float
    maximum_voltage: float = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "voltage_scale", check_real("voltage_scale", self.voltage_scale, above=0.0))
        _check_maximum(self)

    @property
    def proportional(self) -> bool:
        """It always is."""
        return True

    def evaluate(self, conductance: Floats, voltage: Floats) -> tuple[Floats, Floats]:
        """Current (A) and its slope against voltage (S) of cells at `voltage` (V), word line against bit line."""
        with np.errstate(over="ignore"):  # an overshoot of the solver; its line search turns back
            ratio = voltage / self.voltage_scale
            return conductance * self.voltage_scale * np.sinh(ratio), conductance * np.cosh(ratio)

    def check(self, conductance: Floats) -> None:
        """Accept every conductance: the current always rises with the voltage."""
