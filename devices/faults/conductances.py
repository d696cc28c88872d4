"""Cells stuck at conductances of their own, not at the ends of the range."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faults.base import FaultModel
from xbarsim.devices.faults.kinds import FaultKind, Shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_real, shown

__all__ = ["Conductances", "ListedConductances", "LogNormalConductances", "StuckAtFaults", "UniformConductances"]

Array = npt.NDArray[np.float64]


class Conductances(metaclass=ABCMeta):
    """At which conductance a broken cell is stuck; subclasses are frozen dataclasses."""

    @abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Draw `count` conductances, S; float64 (count,), finite and >= 0."""


@dataclass(frozen=True, kw_only=True)
class ListedConductances(Conductances):
    """One of some conductances, all as likely: a single value, or a sample of measured ones.

    Attributes
    ----------
    values
        S, each finite and >= 0, at least one.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.values, tuple | list) or not self.values:
            raise InputError(f"values must be at least one conductance, got {shown(self.values)}")
        values = tuple(check_real(f"values[{i}]", value, at_least=0.0) for i, value in enumerate(self.values))
        object.__setattr__(self, "values", values)

    @entrance
    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Draw `count` conductances, S."""
        return rng.choice(np.array(self.values), count)


@dataclass(frozen=True, kw_only=True)
class UniformConductances(Conductances):
    """Any conductance between two, all as likely.

    Attributes
    ----------
    low, high
        S, 0 <= low <= high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", check_real("low", self.low, at_least=0.0))
        object.__setattr__(self, "high", check_real("high", self.high, at_least=self.low))

    @entrance
    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Draw `count` conductances, S."""
        return rng.uniform(self.low, self.high, count)


@dataclass(frozen=True, kw_only=True)
class LogNormalConductances(Conductances):
    """Conductances of which the logarithm is normally distributed.

    Attributes
    ----------
    median
        S, > 0.
    sigma
        Standard deviation of the natural logarithm, 0 to 5.
    """

    median: float
    sigma: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "median", check_real("median", self.median, above=0.0))
        object.__setattr__(self, "sigma", check_real("sigma", self.sigma, at_least=0.0, at_most=5.0))

    @entrance
    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Draw `count` conductances, S."""
        return np.asarray(self.median * np.exp(self.sigma * rng.standard_normal(count)))


@dataclass(frozen=True, kw_only=True)
class StuckAtFaults(FaultModel):
    """Faults of another model, stuck at conductances of their own instead of at the ends of the range.

    Attributes
    ----------
    where
        Which cells are broken, and which of them are stuck on or off.
    on_conductances, off_conductances
        Where the cells stuck on, and those stuck off, really are; ``None`` leaves them at g_max or g_min.

    Examples
    --------
    Forming that failed half-way, on 1 % of the cells:

    >>> from xbarsim.devices import ListedConductances, StuckAtFaults, StuckFaults
    >>> half = ListedConductances(values=(20e-6,))
    >>> StuckAtFaults(where=StuckFaults(on=0.0, off=0.01), off_conductances=half).total
    0.01
    """

    where: FaultModel
    on_conductances: Conductances | None = None
    off_conductances: Conductances | None = None

    def __post_init__(self) -> None:
        check_instance("where", self.where, FaultModel)
        for name in ("on_conductances", "off_conductances"):
            check_instance(name, getattr(self, name), (Conductances, type(None)))
        if self.on_conductances is None and self.off_conductances is None:
            raise InputError("on_conductances or off_conductances must be given, got None for both")

    @property
    def rates(self) -> dict[FaultKind, float]:
        """The expected share of cells broken in each way."""
        rates = dict(self.where.rates)
        for kind, law in self._laws():
            if law is not None:
                rates[FaultKind.STUCK_AT] += rates[kind]
                rates[kind] = 0.0
        return rates

    @property
    def total(self) -> float:
        """The expected share of broken cells."""
        return self.where.total

    @property
    def even(self) -> bool:
        """Whether every cell of a tile is broken with the same probability."""
        return self.where.even

    @entrance
    def probability(self, shape: Shape) -> Array:
        """The probability of each cell of a tile to be broken; see :meth:`FaultModel.probability`."""
        return self.where.probability(shape)

    @entrance
    def with_total(self, rate: float) -> StuckAtFaults:
        """The same model with another share of broken cells, as `where` gives it."""
        return replace(self, where=self.where.with_total(rate))

    def _laws(self) -> tuple[tuple[FaultKind, Conductances | None], ...]:
        return (FaultKind.STUCK_ON, self.on_conductances), (FaultKind.STUCK_OFF, self.off_conductances)

    @entrance
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; errors as those of `where`."""
        faults = self.where.sample(shape, rng)
        kind, value = faults.kind.copy(), faults.value.copy()
        for stuck, law in self._laws():
            if law is not None:
                cells = np.flatnonzero(faults.kind == stuck)
                kind[cells] = FaultKind.STUCK_AT
                value[cells] = law.draw(cells.size, rng)
        return FaultMap(shape=faults.shape, index=faults.index, kind=kind, value=value, note=faults.note)
