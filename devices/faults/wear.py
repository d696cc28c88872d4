"""Cells worn out by writes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from xbarsim.devices.faults.base import FaultModel
from xbarsim.devices.faults.kinds import FaultKind, Shape, dense_shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_real

__all__ = ["WearOutFaults"]

_BLOCK = 1 << 20  # cells whose endurance is drawn together: bounds the memory


@dataclass(frozen=True, kw_only=True)
class WearOutFaults(FaultModel):
    """Cells that stand a limited number of writes, each its own, by a Weibull distribution.

    After `writes` writes a cell is broken with probability ``1 - exp(-(writes / endurance) ** weibull_shape)``. From
    one random generator, more writes break the same cells and more: the same die, later.

    Attributes
    ----------
    writes
        Writes that every cell has had, >= 0.
    endurance
        Writes at which 63.2 % of the cells (1 - 1/e) are broken, > 0.
    weibull_shape
        Slope of the distribution: below 1 for early failures, above 1 for wear; above 0, at most 100.
    on_share
        Share of the broken cells that are stuck on; the others are stuck off.

    References
    ----------
    .. [1] W. Weibull, "A statistical distribution function of wide applicability", Journal of Applied Mechanics
       18(3), 293-297 (1951), doi:10.1115/1.4010337.
    """

    writes: float
    endurance: float
    weibull_shape: float
    on_share: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "writes", check_real("writes", self.writes, at_least=0.0))
        object.__setattr__(self, "endurance", check_real("endurance", self.endurance, above=0.0))
        shape = check_real("weibull_shape", self.weibull_shape, above=0.0, at_most=100.0)
        object.__setattr__(self, "weibull_shape", shape)
        object.__setattr__(self, "on_share", check_real("on_share", self.on_share, at_least=0.0, at_most=1.0))

    @property
    def total(self) -> float:
        """The expected share of broken cells."""
        try:
            return -math.expm1(-((self.writes / self.endurance) ** self.weibull_shape))
        except OverflowError:
            return 1.0

    @property
    def rates(self) -> dict[FaultKind, float]:
        """The expected share of cells broken in each way."""
        on = self.total * self.on_share
        return {FaultKind.STUCK_OFF: self.total - on, FaultKind.STUCK_ON: on, FaultKind.STUCK_AT: 0.0}

    @entrance
    def with_total(self, rate: float) -> WearOutFaults:
        """The same cells after as many writes as break the share `rate` of them.

        Raises
        ------
        InputError
            If `rate` is not in [0, 1), or is reached after more writes than a float holds.
        """
        rate = check_real("rate", rate, at_least=0.0, below=1.0)
        return replace(self, writes=self.endurance * (-math.log1p(-rate)) ** (1 / self.weibull_shape))

    @entrance
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of cells, for each has its endurance.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns).
        """
        shape = dense_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        cells = math.prod(shape)
        total = self.total
        positions, kinds = [np.empty(0, np.int64)], [np.empty(0, np.uint8)]
        for start in range(0, cells, _BLOCK):
            block = min(_BLOCK, cells - start)
            age = rng.random(block)  # of the die when the cell breaks, as the share of cells broken by then
            on = rng.random(block) < self.on_share
            index = np.flatnonzero(age < total)
            positions.append(index + start)
            kinds.append(np.where(on[index], np.uint8(FaultKind.STUCK_ON), np.uint8(FaultKind.STUCK_OFF)))
        return FaultMap(shape=shape, index=np.concatenate(positions), kind=np.concatenate(kinds))
