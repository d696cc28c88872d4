"""Faults in clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faults.base import OnOffFaults
from xbarsim.devices.faults.kinds import Shape, dense_shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_memory, check_real

__all__ = ["ClusteredFaults"]

_TRUNCATION = 4  # standard deviations to which a cluster reaches
_MOST_HITS = 1e12  # in a tile: beyond, numbers of them are no longer counted
_HITS = 1 << 22  # of clusters, drawn together: bounds the memory

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ClusteredFaults(OnOffFaults):
    """Cells broken in clusters: a Neyman-Scott process with Gaussian clusters (a Thomas process) in every tile.

    Centres of clusters lie anywhere, also outside the tile, as a Poisson process; each has a Poisson number of
    hits, scattered around it by a Gaussian law in both directions (on the grid of cells, cut off at 4 standard
    deviations). A cell that is hit at all is broken. The density of centres is what makes the expected share of
    hit cells exactly ``on + off``, the cells that are hit more than once included, up to the last cells of a
    tile's edge.

    Attributes
    ----------
    on, off
        Probability that a cell is stuck on (at g_max, low resistance) or off (at g_min, high resistance),
        each in [0, 1], together at most 1.
    size
        Mean number of hits of a cluster, above 0 and at most 10,000.
    spread
        Standard deviation of the distance of a hit from its centre in each direction, cells, 0 to 256.
    alike
        Whether the cells of a cluster are all stuck on or all stuck off, or each for itself.

    References
    ----------
    .. [1] J. Neyman and E. L. Scott, "Statistical approach to problems of cosmology", Journal of the Royal
       Statistical Society B 20(1), 1-29 (1958), doi:10.1111/j.2517-6161.1958.tb00272.x.
    .. [2] M. Thomas, "A generalization of Poisson's binomial limit for use in ecology", Biometrika 36(1/2),
       18-25 (1949), doi:10.1093/biomet/36.1-2.18.
    """

    on: float
    off: float
    size: float
    spread: float
    alike: bool = False

    def __post_init__(self) -> None:
        self.check_rates()
        object.__setattr__(self, "size", check_real("size", self.size, above=0.0, at_most=1e4))
        object.__setattr__(self, "spread", check_real("spread", self.spread, at_least=0.0, at_most=256.0))
        check_instance("alike", self.alike, bool)

    @property
    def reach(self) -> int:
        """Cells to which a cluster reaches from its centre, in each direction."""
        return math.ceil(_TRUNCATION * self.spread)

    @property
    def centres(self) -> float:
        """Centres of clusters for each cell; infinite where all cells are to be broken."""
        # No hit from any centre: exp(-centres * sum over places of a centre of P(a hit from there)).
        hitting = _hitting(self.size, self.spread)
        return -math.log1p(-self.total) / hitting if self.total < 1 and hitting > 0 else math.inf

    @entrance
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of faults.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns).
        """
        tiles, rows, columns = shape = dense_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        if self.total == 0:
            return FaultMap.empty(shape)
        if self.total == 1:
            cells = math.prod(shape)
            return FaultMap(shape=shape, index=np.arange(cells), kind=self.draw_kinds(cells, rng))
        reach, law = self.reach, _scatter(self.spread)
        high, wide = rows + 2 * reach, columns + 2 * reach  # where a centre can reach the tile from
        per_tile = self.centres * high * wide
        hits = per_tile * (self.size + 1)
        if not hits < _MOST_HITS:
            raise InputError(
                f"on + off must be reached with less than {_MOST_HITS:.0e} centres and hits a tile of {rows} x "
                f"{columns}, got {self.total!r} with size {self.size!r}, which takes {hits:.3g}"
            )
        check_memory("size", f"{hits:.3g} centres and hits of clusters in a tile", int(48 * hits))
        together = max(1, int(_HITS / hits))
        positions, kinds = [np.empty(0, np.int64)], [np.empty(0, np.uint8)]
        for start in range(0, tiles, together):
            here = min(together, tiles - start)
            centres = int(rng.poisson(per_tile * here))
            tile, row, column = (rng.integers(0, size, centres) for size in (here, high, wide))
            parent = np.repeat(np.arange(centres), rng.poisson(self.size, centres))
            down, across = (rng.choice(law.size, parent.size, p=law) - reach for _ in range(2))
            row, column = row[parent] - reach + down, column[parent] - reach + across
            inside = np.flatnonzero((row >= 0) & (row < rows) & (column >= 0) & (column < columns))
            place = ((tile[parent[inside]] + start) * rows + row[inside]) * columns + column[inside]
            # Of several hits of a cell the first counts, whatever it does: so the ratio of kinds stays.
            index, first = np.unique(place, return_index=True)
            positions.append(index)
            if self.alike:
                kinds.append(self.draw_kinds(centres, rng)[parent[inside[first]]])
            else:
                kinds.append(self.draw_kinds(index.size, rng))
        return FaultMap(shape=shape, index=np.concatenate(positions), kind=np.concatenate(kinds))


@lru_cache(maxsize=64)
def _scatter(spread: float) -> Array:
    """Probability of each distance from -reach to reach in one direction."""
    reach = math.ceil(_TRUNCATION * spread)
    distance = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (distance / spread) ** 2) if spread > 0 else np.ones(1)
    law: Array = weights / weights.sum()
    law.flags.writeable = False
    return law


@lru_cache(maxsize=64)
def _hitting(size: float, spread: float) -> float:
    """Sum over all places of a centre of the probability that its cluster hits a given cell."""
    law = _scatter(spread)
    return float(-np.expm1(-size * np.outer(law, law)).sum())
