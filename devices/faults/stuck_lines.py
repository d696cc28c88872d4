"""Whole lines of stuck cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faults.base import OnOffFaults
from xbarsim.devices.faults.beta_binomial import draw_rates
from xbarsim.devices.faults.kinds import Shape, dense_shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real

__all__ = ["StuckLineFaults"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StuckLineFaults(OnOffFaults):
    """Whole word lines and bit lines of cells stuck on or off, such as those behind a broken or shorted line.

    Every line breaks on its own, unless `correlation` makes arrays unequal. Where a broken word line and a broken bit
    line cross, the word line decides how the cell is stuck. This is about the state of cells. What an open or shorted
    line does to the currents of sound cells is :class:`LineFaults`, a part of the design of its own.

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
        from these ends break more often than those near. Not every rate can then be reached.
    correlation
        Correlation of two word lines of an array, and of two bit lines, from 1e-9 to 1: each array then has rates of
        its own, drawn from beta distributions as the tiles' of :class:`BetaBinomialFaults`. ``None`` where arrays are
        alike. Needs a `width` of 1.
    """

    on: float
    off: float
    row_share: float = 0.5
    width: int = 1
    partial: bool = False
    correlation: float | None = None

    def __post_init__(self) -> None:
        self.check_rates()
        object.__setattr__(self, "row_share", check_real("row_share", self.row_share, at_least=0.0, at_most=1.0))
        check_integer("width", self.width, at_least=1)
        check_instance("partial", self.partial, bool)
        if self.correlation is not None:
            correlation = check_real("correlation", self.correlation, at_least=1e-9, at_most=1.0)
            object.__setattr__(self, "correlation", correlation)
            if self.width != 1:
                raise InputError(f"width must be 1 where correlation is given, got {self.width}")

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

    @entrance
    def probability(self, shape: Shape) -> Array:
        """The probability of each cell of a tile to be broken; see :meth:`FaultModel.probability`.

        Raises
        ------
        InputError
            If partial lines cannot reach the rate.
        """
        _, rows, columns = dense_shape(shape)
        word, along_word = self._groups(columns, self.row_share)
        bit, along_bit = self._groups(rows, 1 - self.row_share)
        spared_by_word = (1 - word * along_word) ** self.width
        spared_by_bit = (1 - bit * along_bit[::-1]) ** self.width
        return np.asarray(1 - np.outer(spared_by_bit, spared_by_word))

    @entrance
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults; the work grows with the number of cells of the tiles that have any.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns), or partial lines cannot reach the rate.
        """
        tiles, rows, columns = shape = dense_shape(shape)
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
            rates = rate if self.correlation is None else draw_rates(rate, self.correlation, tiles, rng)[:, np.newaxis]
            tile, last = np.nonzero(rng.random((tiles, lines + width - 1)) < rates)
            kinds = self.draw_kinds(tile.size, rng).tolist()
            whole = bool(np.all(along == 1))
            breaks = [0] * tile.size if whole else rng.integers(0, cells, tile.size).tolist()
            for t, end, kind, at in zip(tile.tolist(), last.tolist(), kinds, breaks, strict=True):
                broken = slice(max(0, end - width + 1), min(lines, end + 1))
                place = (broken, slice(at, cells)) if is_bit else (slice(0, cells - at), broken)
                groups.setdefault(t, []).append((*place, kind))
        positions, stuck = [np.empty(0, np.int64)], [np.empty(0, np.uint8)]
        for t in sorted(groups):
            dense = np.zeros((rows, columns), np.uint8)
            for across, down, kind in groups[t]:  # bit lines first: word lines have the last word
                dense[across, down] = kind
            index = np.flatnonzero(dense)
            positions.append(index + t * rows * columns)
            stuck.append(dense.reshape(-1)[index])
        return FaultMap(shape=shape, index=np.concatenate(positions), kind=np.concatenate(stuck))


@lru_cache(maxsize=64)
def _break_rate(spared: float, cells: int, width: int) -> float:
    """Probability with which groups of lines break at a random place to spare a share of the cells; 2 if none can."""
    from scipy.optimize import brentq

    reached = np.arange(1, cells + 1) / cells

    def too_few(rate: float) -> float:
        return float(np.mean((1 - rate * reached) ** width)) - spared

    return float(brentq(too_few, 0.0, 1.0, xtol=1e-15)) if too_few(1.0) <= 0 else 2.0
