"""Fault models made of others or of a measurement: stuck at a conductance, several causes at once, a measured chip."""

from __future__ import annotations

import math
import os
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faultmap import FaultMap, Kind, Shape, as_shape
from xbarsim.devices.faults import FaultModel
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_real

__all__ = [
    "CombinedFaults",
    "Conductances",
    "ListedConductances",
    "LogNormalConductances",
    "MeasuredFaults",
    "StuckAtFaults",
    "UniformConductances",
]

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
            raise InputError(f"values must be at least one conductance, got {self.values!r}")
        values = tuple(check_real(f"values[{i}]", value, at_least=0.0) for i, value in enumerate(self.values))
        object.__setattr__(self, "values", values)

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
    def rates(self) -> dict[Kind, float]:
        """The expected share of cells broken in each way."""
        rates = dict(self.where.rates)
        for kind, law in self._laws():
            if law is not None:
                rates[Kind.STUCK_AT] += rates[kind]
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

    def probability(self, shape: Shape) -> Array:
        """The probability of each cell of a tile to be broken; see :meth:`FaultModel.probability`."""
        return self.where.probability(shape)

    def with_total(self, rate: float) -> StuckAtFaults:
        """The same model with another share of broken cells, as `where` gives it."""
        return replace(self, where=self.where.with_total(rate))

    def _laws(self) -> tuple[tuple[Kind, Conductances | None], ...]:
        return (Kind.STUCK_ON, self.on_conductances), (Kind.STUCK_OFF, self.off_conductances)

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; errors as those of `where`."""
        found = self.where.sample(shape, rng)
        kind, value = found.kind.copy(), found.value.copy()
        for stuck, law in self._laws():
            if law is not None:
                cells = np.flatnonzero(found.kind == stuck)
                kind[cells] = Kind.STUCK_AT
                value[cells] = law.draw(cells.size, rng)
        return FaultMap(shape=found.shape, index=found.index, kind=kind, value=value, note=found.note)


@dataclass(frozen=True, kw_only=True)
class CombinedFaults(FaultModel):
    """Several causes of faults at once, such as even faults and stuck lines.

    The models draw independently, one after the other. Where two break the same cell, the first in the list wins. So a
    model adds to the rates what it breaks among the cells that those before it spared:
    ``total = 1 - (1 - total_1) (1 - total_2) ...``, and so on for each kind.

    Attributes
    ----------
    models
        At least one. At most one may have a rate that differs over the cells of a tile: with two, the rate of their
        overlap would depend on the shape of the tiles.
    """

    models: tuple[FaultModel, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.models, tuple | list) or not self.models:
            raise InputError(f"models must be at least one fault model, got {self.models!r}")
        object.__setattr__(self, "models", tuple(self.models))
        for index, model in enumerate(self.models):
            check_instance(f"models[{index}]", model, FaultModel)
        uneven = [type(model).__name__ for model in self.models if not model.even]
        if len(uneven) > 1:
            raise InputError(f"models must hold at most 1 whose rate differs over a tile, got {' and '.join(uneven)}")

    @property
    def rates(self) -> dict[Kind, float]:
        """The expected share of cells broken in each way, overlaps taken off."""
        rates = dict.fromkeys(Kind, 0.0)
        spared = 1.0
        for model in self.models:
            for kind, rate in model.rates.items():
                rates[kind] += spared * rate
            spared *= 1 - model.total
        return rates

    @property
    def even(self) -> bool:
        """Whether every cell of a tile is broken with the same probability."""
        return all(model.even for model in self.models)

    def probability(self, shape: Shape) -> Array:
        """The probability of each cell of a tile to be broken; see :meth:`FaultModel.probability`."""
        spared = [1 - model.probability(shape) for model in self.models]
        return np.asarray(1 - np.prod(spared, axis=0))

    def with_total(self, rate: float) -> CombinedFaults:
        """The same causes with another share of broken cells together.

        Of each model, the share of cells that it spares is raised to one common power. The ratio of kinds can move a
        little where models of different kinds overlap.

        Raises
        ------
        InputError
            If `rate` is outside [0, 1], positive where there are no faults, or beyond what a model can give.
        """
        rate = check_real("rate", rate, at_least=0.0, at_most=1.0)
        spared = [1 - model.total for model in self.models]
        if math.prod(spared) == 1:
            if rate > 0:
                raise InputError(f"rate must be 0 where no model breaks any cell (no ratio to keep), got {rate!r}")
            return self
        if math.prod(spared) == 0:
            raise InputError(f"rate must be 1 where a model breaks every cell (no ratio to keep), got {rate!r}")
        if rate == 1:
            rates = [float(share < 1) for share in spared]
        else:
            power = math.log1p(-rate) / math.fsum(map(math.log, spared))
            rates = [-math.expm1(power * math.log(share)) for share in spared]
        models = [
            model if r == model.total else model.with_total(r) for model, r in zip(self.models, rates, strict=True)
        ]
        return replace(self, models=tuple(models))

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; errors as those of the models."""
        found = self.models[0].sample(shape, rng)
        for model in self.models[1:]:
            found = found.overlay(model.sample(shape, rng))
        return found


@dataclass(frozen=True, kw_only=True)
class MeasuredFaults(FaultModel):
    """Faults cut from a measured map, so that they lie as they lay on the chip.

    Every tile of a die gets a window of the map at a random place in a random one of its tiles. A window goes on at the
    first row or column where the map ends, so that it can be larger than the map, and every cell of the map is met as
    often: the rate is exactly the map's.

    Attributes
    ----------
    path
        File of the map, as :meth:`FaultMap.load` and :meth:`FaultMap.from_csv` read it; relative to the working folder.
    layout
        Of a CSV file, as :meth:`FaultMap.from_csv` takes it; ``"addresses"`` for the lists of dead cells.
    keep
        Probability that a fault of the map is kept, 0 to 1, each for itself: for the same pattern at a lower rate.
    content
        The map's :attr:`FaultMap.hash`: part of the model, so that two maps at one path are not taken for the same.
        Filled in from the file; given, it is compared with the file.

    Raises
    ------
    InputError
        If a value is out of bounds, or the file holds another map than `content` says.
    FileFormatError
        If the file cannot be read or holds no fault map.
    """

    path: str
    layout: Literal["cells", "addresses"] = "cells"
    keep: float = 1.0
    content: str | None = None

    def __post_init__(self) -> None:
        check_instance("path", self.path, (str, os.PathLike))
        object.__setattr__(self, "path", os.fspath(self.path))
        check_choice("layout", self.layout, ("cells", "addresses"))
        object.__setattr__(self, "keep", check_real("keep", self.keep, at_least=0.0, at_most=1.0))
        found = self.source.hash
        if self.content is not None and self.content != found:
            raise InputError(f"content must be the hash of the map in {self.path}, {found!r}, got {self.content!r}")
        if self.source.cells == 0:
            raise InputError(f"path must name a map with at least 1 tile, got {self.path!r} with none")
        object.__setattr__(self, "content", found)

    @cached_property
    def source(self) -> FaultMap:
        """The map that was measured."""
        if self.path.endswith(".csv"):
            return FaultMap.from_csv(self.path, layout=self.layout)
        return FaultMap.load(self.path)

    @cached_property
    def _dense(self) -> tuple[npt.NDArray[np.uint8], Array]:
        value = np.full(self.source.cells, np.nan)
        value[self.source.index] = self.source.value
        return self.source.dense(), value.reshape(self.source.shape)

    @property
    def rates(self) -> dict[Kind, float]:
        """The expected share of cells broken in each way."""
        return {kind: self.keep * count / self.source.cells for kind, count in self.source.counts.items()}

    @property
    def total(self) -> float:
        """The expected share of broken cells."""
        return self.keep * self.source.rate

    def with_total(self, rate: float) -> MeasuredFaults:
        """The same map with so many of its faults kept that the expected share of broken cells is `rate`.

        Raises
        ------
        InputError
            If `rate` is below 0 or above that of the map.
        """
        rate = check_real("rate", rate, at_least=0.0, at_most=self.source.rate)
        return replace(self, keep=rate / self.source.rate if rate else 0.0)

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns).
        """
        tiles, rows, columns = shape = as_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        kinds, values = self._dense
        starts = [rng.integers(0, size, tiles).tolist() for size in kinds.shape]
        index, kind, value = [np.empty(0, np.int64)], [np.empty(0, np.uint8)], [np.empty(0)]
        for tile, (source, row, column) in enumerate(zip(*starts, strict=True)):
            window = np.ix_((row + np.arange(rows)) % kinds.shape[1], (column + np.arange(columns)) % kinds.shape[2])
            cut = kinds[source][window].reshape(-1)
            broken = np.flatnonzero(cut)
            broken = broken[rng.random(broken.size) < self.keep]
            index.append(broken + tile * rows * columns)
            kind.append(cut[broken])
            value.append(values[source][window].reshape(-1)[broken])
        return FaultMap(
            shape=shape,
            index=np.concatenate(index),
            kind=np.concatenate(kind),
            value=np.concatenate(value),
            note=self.source.note,
        )
