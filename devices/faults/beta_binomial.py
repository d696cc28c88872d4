"""Tiles of unequal quality: each has a fault rate of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faults.base import OnOffFaults, draw_positions
from xbarsim.devices.faults.kinds import Shape, dense_shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_real

__all__ = ["BetaBinomialFaults", "draw_rates"]

Array = npt.NDArray[np.float64]


def draw_rates(mean: float, correlation: float, tiles: int, rng: np.random.Generator) -> Array:
    """Draw a rate for each tile from the beta distribution of that mean and correlation, float64 (tiles,).

    Its parameters are ``mean (1 - r) / r`` and ``(1 - mean) (1 - r) / r``, with r the correlation, above 0: that of two
    events of a tile.
    """
    if mean in (0.0, 1.0) or correlation == 1:
        return (rng.random(tiles) < mean).astype(np.float64)
    weight = (1 - correlation) / correlation
    return np.asarray(rng.beta(mean * weight, (1 - mean) * weight, tiles), np.float64)


@dataclass(frozen=True, kw_only=True)
class BetaBinomialFaults(OnOffFaults):
    """Tiles that are not alike: each has a rate of its own, drawn from a beta distribution.

    The number of faults of a tile is beta-binomial: of n cells, with rate p = on + off and correlation r, its mean
    is n p and its variance n p (1 - p) (1 + (n - 1) r). Inside a tile, faults are spread evenly. The limit of
    small rates, a gamma distribution of rates, is the negative binomial law of integrated-circuit yield.

    Attributes
    ----------
    on, off
        Probability that a cell is stuck on or off over all tiles, each in [0, 1], together at most 1.
    correlation
        Correlation of two cells of a tile: from 1e-9 (nearly all tiles alike) to 1 (a tile is all broken or
        all sound). The beta distribution has the parameters p (1 - r) / r and (1 - p) (1 - r) / r.

    References
    ----------
    .. [1] C. H. Stapper, F. M. Armstrong and K. Saji, "Integrated circuit yield statistics", Proceedings of the
       IEEE 71(4), 453-470 (1983), doi:10.1109/PROC.1983.12619.
    """

    on: float
    off: float
    correlation: float

    def __post_init__(self) -> None:
        self.check_rates()
        correlation = check_real("correlation", self.correlation, at_least=1e-9, at_most=1.0)
        object.__setattr__(self, "correlation", correlation)

    @entrance
    def tile_rates(self, tiles: int, rng: np.random.Generator) -> Array:
        """Draw the share of broken cells that each tile expects, float64 (tiles,)."""
        return draw_rates(self.total, self.correlation, tiles, rng)

    @entrance
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of faults and tiles.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns).
        """
        tiles, rows, columns = shape = dense_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        if self.total == 0 or tiles == 0:
            return FaultMap.empty(shape)
        cells = rows * columns
        positions = [
            draw_positions(cells, rate, rng) + tile * cells
            for tile, rate in enumerate(self.tile_rates(tiles, rng).tolist())
        ]
        index = np.concatenate(positions)
        return FaultMap(shape=shape, index=index, kind=self.draw_kinds(index.size, rng))
