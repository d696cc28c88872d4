"""Several causes of faults at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faults.base import FaultModel
from xbarsim.devices.faults.kinds import FaultKind, Shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_depth, check_instance, check_real, shown

__all__ = ["CombinedFaults"]

Array = npt.NDArray[np.float64]

MOST_NESTED = 16  # levels of tuples and models: 8 combinations in one another; every one asks its parts twice


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
            raise InputError(f"models must be at least one fault model, got {shown(self.models)}")
        object.__setattr__(self, "models", tuple(self.models))
        for index, model in enumerate(self.models):
            check_instance(f"models[{index}]", model, FaultModel)
        check_depth("models", self.models, at_most=MOST_NESTED)
        uneven = [type(model).__name__ for model in self.models if not model.even]
        if len(uneven) > 1:
            raise InputError(f"models must hold at most 1 whose rate differs over a tile, got {' and '.join(uneven)}")

    @property
    def rates(self) -> dict[FaultKind, float]:
        """The expected share of cells broken in each way, overlaps taken off."""
        rates = dict.fromkeys(FaultKind, 0.0)
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

    @entrance
    def probability(self, shape: Shape) -> Array:
        """The probability of each cell of a tile to be broken; see :meth:`FaultModel.probability`."""
        spared = [1 - model.probability(shape) for model in self.models]
        return np.asarray(1 - np.prod(spared, axis=0))

    @entrance
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

    @entrance
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; errors as those of the models."""
        faults = self.models[0].sample(shape, rng)
        for model in self.models[1:]:
            faults = faults.overlay(model.sample(shape, rng))
        return faults
