"""Fault models that differ in where faults lie: clusters, uneven tiles, lines, fields, and wear.

Each breaks the share of cells that it is asked for, in expectation and in arrays of any shape, so that what the
pattern does to a network can be told from what the rate does.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faultmap import FaultMap, Kind, Shape, as_shape
from xbarsim.devices.faults import FaultModel, OnOffFaults, draw_positions
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

__all__ = [
    "BetaBinomialFaults",
    "ClusteredFaults",
    "FieldFaults",
    "GradientFaults",
    "RadialFaults",
    "StuckLineFaults",
    "WearOutFaults",
]

_TRUNCATION = 4  # standard deviations to which a cluster reaches
_HITS = 1 << 22  # of clusters, drawn together: bounds the memory
_BLOCK = 1 << 20  # cells whose endurance is drawn together

Array = npt.NDArray[np.float64]


def _whole(shape: Shape, kind: npt.NDArray[np.uint8]) -> FaultMap:
    """A map in which every cell is broken."""
    return FaultMap(shape=shape, index=np.arange(kind.size), kind=kind)


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
        self._check_rates()
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
        return -math.log1p(-self.total) / _hitting(self.size, self.spread) if self.total < 1 else math.inf

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of faults.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns).
        """
        tiles, rows, columns = shape = as_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        if self.total == 0:
            return FaultMap.empty(shape)
        if self.total == 1:
            return _whole(shape, self._draw_kinds(math.prod(shape), rng))
        reach, law = self.reach, _scatter(self.spread)
        high, wide = rows + 2 * reach, columns + 2 * reach  # where a centre can reach the tile from
        per_tile = self.centres * high * wide
        together = max(1, int(_HITS / (per_tile * (self.size + 1))))
        found, kinds = [np.empty(0, np.int64)], [np.empty(0, np.uint8)]
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
            found.append(index)
            if self.alike:
                kinds.append(self._draw_kinds(centres, rng)[parent[inside[first]]])
            else:
                kinds.append(self._draw_kinds(index.size, rng))
        return FaultMap(shape=shape, index=np.concatenate(found), kind=np.concatenate(kinds))


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
        self._check_rates()
        correlation = check_real("correlation", self.correlation, at_least=1e-9, at_most=1.0)
        object.__setattr__(self, "correlation", correlation)

    def tile_rates(self, tiles: int, rng: np.random.Generator) -> Array:
        """Draw the share of broken cells that each tile expects, float64 (tiles,)."""
        p = self.total
        if p in (0.0, 1.0) or self.correlation == 1:
            return (rng.random(tiles) < p).astype(np.float64)
        weight = (1 - self.correlation) / self.correlation
        return np.asarray(rng.beta(p * weight, (1 - p) * weight, tiles), np.float64)

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of faults and tiles.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns).
        """
        tiles, rows, columns = shape = as_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        if self.total == 0 or tiles == 0:
            return FaultMap.empty(shape)
        cells = rows * columns
        found = [
            draw_positions(cells, rate, rng) + tile * cells
            for tile, rate in enumerate(self.tile_rates(tiles, rng).tolist())
        ]
        index = np.concatenate(found)
        return FaultMap(shape=shape, index=index, kind=self._draw_kinds(index.size, rng))


@dataclass(frozen=True, kw_only=True)
class StuckLineFaults(OnOffFaults):
    """Whole word lines and bit lines of cells stuck on or off, such as those behind a broken or shorted line.

    Every line breaks on its own; where a broken word line and a broken bit line cross, the word line decides how the
    cell is stuck. This is about the state of cells. What an open or shorted line does to the currents of sound cells
    is :class:`LineFaults`, a part of the design of its own.

    Attributes
    ----------
    on, off
        Probability that a cell is stuck on or off, each in [0, 1], together at most 1: the lines of either kind
        are in that ratio.
    row_share
        What word lines (rows) contribute, 0 to 1: the share of cells that no broken word line spares is
        ``(1 - on - off) ** row_share``, and of bit lines (columns) ``(1 - on - off) ** (1 - row_share)``.
    width
        Neighbouring lines that break together, 1 or more; 2 for pairs of shorted bit lines. Groups may overlap.
    partial
        Whether a line breaks at a random place, as an open one does. The cells behind it, seen from the driver of
        a word line (beside column 0) or the sense circuit of a bit line (beyond the last row), are stuck, and those far
        from these ends break more often than those near. Not all rates can then be had.
    """

    on: float
    off: float
    row_share: float = 0.5
    width: int = 1
    partial: bool = False

    def __post_init__(self) -> None:
        self._check_rates()
        object.__setattr__(self, "row_share", check_real("row_share", self.row_share, at_least=0.0, at_most=1.0))
        check_integer("width", self.width, at_least=1)
        check_instance("partial", self.partial, bool)

    @property
    def even(self) -> bool:
        """Whether every cell of a tile is broken with the same probability."""
        return not self.partial or self.total in (0.0, 1.0)

    def _groups(self, cells: int, share: float) -> tuple[float, Array]:
        """How lines of `cells` cells break to contribute `share`.

        Returns the probability of a group of lines to break, and that of each cell of a line to be stuck by it, from
        the end of the line that is used.
        """
        spared = (1 - self.total) ** share if self.total < 1 else float(share == 0)
        reached = np.arange(1, cells + 1) / cells if self.partial else np.ones(cells)
        if spared in (0.0, 1.0) or not self.partial:
            if self.total == 1:
                reached = np.ones(cells)
            return 1 - spared ** (1 / self.width), reached
        rate = _break_rate(spared, cells, self.width)
        if rate > 1:
            fewest = float(np.mean((1 - reached) ** self.width))
            raise InputError(
                f"on + off must be <= {1 - fewest ** (1 / share):.6g} for partial lines of {cells} cells with a share "
                f"of {share:g}, got {self.total!r}"
            )
        return rate, reached

    def probability(self, shape: Shape) -> Array:
        """The probability of each cell of a tile to be broken; see :meth:`FaultModel.probability`.

        Raises
        ------
        InputError
            If the rate cannot be had by partial lines.
        """
        _, rows, columns = as_shape(shape)
        word, along_word = self._groups(columns, self.row_share)
        bit, along_bit = self._groups(rows, 1 - self.row_share)
        spared_by_word = (1 - word * along_word) ** self.width
        spared_by_bit = (1 - bit * along_bit[::-1]) ** self.width
        return np.asarray(1 - np.outer(spared_by_bit, spared_by_word))

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of cells of the tiles that have any.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns), or the rate cannot be had by partial lines.
        """
        tiles, rows, columns = shape = as_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        if self.total == 0 or tiles == 0:
            return FaultMap.empty(shape)
        word, along_word = self._groups(columns, self.row_share)
        bit, along_bit = self._groups(rows, 1 - self.row_share)
        width = self.width
        # A group is known by its last line; the first groups begin outside, so that edges are as others.
        groups: dict[int, list[tuple[slice, slice, int]]] = {}
        for is_bit, (rate, lines, cells, along) in enumerate(
            ((bit, columns, rows, along_bit), (word, rows, columns, along_word))
        ):
            tile, last = np.nonzero(rng.random((tiles, lines + width - 1)) < rate)
            kinds = self._draw_kinds(tile.size, rng).tolist()
            whole = bool(np.all(along == 1))
            breaks = [0] * tile.size if whole else rng.integers(0, cells, tile.size).tolist()
            for t, end, kind, at in zip(tile.tolist(), last.tolist(), kinds, breaks, strict=True):
                broken = slice(max(0, end - width + 1), min(lines, end + 1))
                place = (broken, slice(at, cells)) if is_bit else (slice(0, cells - at), broken)
                groups.setdefault(t, []).append((*place, kind))
        found, kinds_found = [np.empty(0, np.int64)], [np.empty(0, np.uint8)]
        for t in sorted(groups):
            dense = np.zeros((rows, columns), np.uint8)
            for across, down, kind in groups[t]:  # bit lines first: word lines have the last word
                dense[across, down] = kind
            index = np.flatnonzero(dense)
            found.append(index + t * rows * columns)
            kinds_found.append(dense.reshape(-1)[index])
        return FaultMap(shape=shape, index=np.concatenate(found), kind=np.concatenate(kinds_found))


@lru_cache(maxsize=64)
def _break_rate(spared: float, cells: int, width: int) -> float:
    """Probability with which groups of lines break at a random place to spare a share of the cells; 2 if none can."""
    from scipy.optimize import brentq

    reached = np.arange(1, cells + 1) / cells

    def too_few(rate: float) -> float:
        return float(np.mean((1 - rate * reached) ** width)) - spared

    return float(brentq(too_few, 0.0, 1.0, xtol=1e-15)) if too_few(1.0) <= 0 else 2.0


class FieldFaults(OnOffFaults):
    """Cells that break each on its own, at a rate that depends on their place in the tile.

    For a field of your own, make a frozen dataclass of it with ``on``, ``off`` and :meth:`relative`.
    """

    @abstractmethod
    def relative(self, rows: int, columns: int) -> Array:
        """The rate of each cell of a tile over the mean rate: float64 (rows, columns), >= 0, of mean 1."""

    def probability(self, shape: Shape) -> Array:
        """The probability of each cell of a tile to be broken; see :meth:`FaultModel.probability`.

        Raises
        ------
        InputError
            If it would be above 1 somewhere.
        """
        _, rows, columns = as_shape(shape)
        relative = self.relative(rows, columns)
        highest = float(relative.max())
        if self.total * highest > 1 + 1e-12:
            raise InputError(
                f"on + off must be <= {1 / highest:.6g}, so that no cell of a tile of {rows} x {columns} has a rate "
                f"above 1, got {self.total!r}"
            )
        return np.minimum(self.total * relative, 1.0)

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of faults.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns), or some cell's rate would be above 1.
        """
        shape = as_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        probability = self.probability(shape).reshape(-1)
        highest = float(probability.max())
        cells = math.prod(shape)
        if highest == 0 or cells == 0:
            return FaultMap.empty(shape)
        candidates = draw_positions(cells, highest, rng)
        index = candidates[rng.random(candidates.size) * highest < probability[candidates % probability.size]]
        return FaultMap(shape=shape, index=index, kind=self._draw_kinds(index.size, rng))


@dataclass(frozen=True, kw_only=True)
class GradientFaults(FieldFaults):
    """Faults that grow evenly from the first column of a tile to the last, or from the first row to the last.

    V. Sawal and H. Y. Wong found that variation across columns hurts far more than an even rate (arXiv:2402.10981).

    Attributes
    ----------
    on, off
        Probability that a cell is stuck on or off over the whole tile, each in [0, 1], together at most 1.
    contrast
        From -1 to 1: the rate at the first column is ``1 - contrast`` and at the last ``1 + contrast`` times the mean.
    across
        ``"columns"`` (the rate changes from column to column, and is the same down each) or ``"rows"``.
    """

    on: float
    off: float
    contrast: float
    across: Literal["columns", "rows"] = "columns"

    def __post_init__(self) -> None:
        self._check_rates()
        object.__setattr__(self, "contrast", check_real("contrast", self.contrast, at_least=-1.0, at_most=1.0))
        check_choice("across", self.across, ("columns", "rows"))

    @property
    def even(self) -> bool:
        """Whether every cell of a tile is broken with the same probability."""
        return self.contrast == 0 or self.total == 0

    def relative(self, rows: int, columns: int) -> Array:
        """The rate of each cell over the mean rate."""
        lines = columns if self.across == "columns" else rows
        ramp = 1 + self.contrast * np.linspace(-1, 1, lines) if lines > 1 else np.ones(1)
        return np.broadcast_to(ramp if self.across == "columns" else ramp[:, np.newaxis], (rows, columns))


@dataclass(frozen=True, kw_only=True)
class RadialFaults(FieldFaults):
    """Faults that grow, or fall, from the middle of a tile to its corners.

    With u the distance from the middle over that of a corner, a cell's rate is proportional to
    ``1 + contrast * (2 u**exponent - 1)``: high exponents give a rim, low ones a spot. V. Sawal and H. Y. Wong studied
    such patterns (circular and its complement, arXiv:2402.10981).

    Attributes
    ----------
    on, off
        Probability that a cell is stuck on or off over the whole tile, each in [0, 1], together at most 1.
    contrast
        From -1 (faults in the middle, none at the corners) to 1 (at the edge, none in the middle).
    exponent
        Above 0, at most 100.
    """

    on: float
    off: float
    contrast: float
    exponent: float = 2.0

    def __post_init__(self) -> None:
        self._check_rates()
        object.__setattr__(self, "contrast", check_real("contrast", self.contrast, at_least=-1.0, at_most=1.0))
        object.__setattr__(self, "exponent", check_real("exponent", self.exponent, above=0.0, at_most=100.0))

    @property
    def even(self) -> bool:
        """Whether every cell of a tile is broken with the same probability."""
        return self.contrast == 0 or self.total == 0

    def relative(self, rows: int, columns: int) -> Array:
        """The rate of each cell over the mean rate."""
        down, across = np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2
        distance = np.hypot(down[:, np.newaxis], across)
        if distance.min() == distance.max():  # all cells are as far from the middle
            return np.ones((rows, columns))
        rate = 1 + self.contrast * (2 * (distance / distance.max()) ** self.exponent - 1)
        return np.asarray(rate / rate.mean())


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
    def rates(self) -> dict[Kind, float]:
        """The expected share of cells broken in each way."""
        on = self.total * self.on_share
        return {Kind.STUCK_OFF: self.total - on, Kind.STUCK_ON: on, Kind.STUCK_AT: 0.0}

    def with_total(self, rate: float) -> WearOutFaults:
        """The same cells after as many writes as break the share `rate` of them.

        Raises
        ------
        InputError
            If `rate` is not in [0, 1), or is reached after more writes than a float holds.
        """
        rate = check_real("rate", rate, at_least=0.0, below=1.0)
        return replace(self, writes=self.endurance * (-math.log1p(-rate)) ** (1 / self.weibull_shape))

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of cells, for each has its endurance.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns).
        """
        shape = as_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        cells = math.prod(shape)
        total = self.total
        found, kinds = [np.empty(0, np.int64)], [np.empty(0, np.uint8)]
        for start in range(0, cells, _BLOCK):
            block = min(_BLOCK, cells - start)
            age = rng.random(block)  # of the die when the cell breaks, as the share of cells broken by then
            on = rng.random(block) < self.on_share
            index = np.flatnonzero(age < total)
            found.append(index + start)
            kinds.append(np.where(on[index], np.uint8(Kind.STUCK_ON), np.uint8(Kind.STUCK_OFF)))
        return FaultMap(shape=shape, index=np.concatenate(found), kind=np.concatenate(kinds))
