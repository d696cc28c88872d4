"""The healthy cells of a weight make up for its stuck ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.mapping import Mapping
from xbarsim.mitigation.base import KnownTile, LevelArray, Mitigation, Needs, Overhead

__all__ = ["ClosestValue"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ClosestValue(Mitigation):
    """Re-programme the healthy cells of each weight so that it comes as close to its target as they can bring it.

    Exact: of all levels that the healthy cells can take, those whose weight is nearest, and of these those with the
    smallest sum, which draw the least power. Weights that are right are left alone. Cells believed to be stuck are
    programmed to the level next to where they are believed to be stuck, so that one that works after all does no harm.
    A faulty reference cell is made up for by the weights of its row.

    The idea is that of the closest value mapping of fault-aware decompositions (T. Shin et al., "Fault-Free: A
    Framework for Analysis and Mitigation of Stuck-at-Fault on Realistic ReRAM-Based DNN Accelerators", IEEE
    Transactions on Computers, 2022; the abstract alone was read).
    """

    needs: ClassVar[Needs] = "map"

    def __post_init__(self) -> None:
        check_fields(self)

    @entrance
    def fit(self, tile: KnownTile, rng: np.random.Generator) -> LevelArray:
        """The nearest levels, as :meth:`Mitigation.fit`; draws nothing."""
        deviation = tile.deviation(tile.levels)
        rows, outputs = np.nonzero(deviation)
        if not len(rows):
            return tile.levels
        mapping = tile.matrix.mapping
        counts = _counts(mapping)

        def by_weight(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return array[:, : mapping.outputs_per_tile * len(counts)].reshape(mapping.rows, -1, len(counts))

        levels = tile.levels.copy()
        stuck = by_weight(tile.stuck)[rows, outputs]  # (weights, cells)
        held = by_weight(tile.held(tile.levels))[rows, outputs]
        wrong = deviation[rows, outputs]
        # What the healthy cells must add up to: what all cells do, less the deviation, less what the stuck ones do.
        wanted = (np.where(stuck, 0.0, held) * counts).sum(axis=1) - wrong
        patterns, which = np.unique(stuck, axis=0, return_inverse=True)
        programmed = np.clip(np.rint(held), 0, mapping.max_level).astype(np.uint8)
        better = np.zeros(len(rows), dtype=bool)
        for number, pattern in enumerate(patterns):
            weights = np.flatnonzero(which.reshape(-1) == number)
            healthy = np.flatnonzero(~pattern)
            healthy = healthy[np.argsort(counts[healthy], kind="stable")]
            sums = _sums(tuple(counts[healthy].tolist()), mapping.cell_bits)
            chosen, distance = sums.nearest(wanted[weights])
            programmed[np.ix_(weights, healthy)] = chosen
            better[weights] = distance < np.abs(wrong[weights]) * (1 - 1e-12)
        places = rows[better], outputs[better]
        columns = places[1][:, np.newaxis] * len(counts) + np.arange(len(counts))
        levels[places[0][:, np.newaxis], columns] = programmed[better]
        return levels

    @entrance
    def overhead(self, tile: KnownTile, levels: LevelArray) -> Overhead:
        """Cells written anew: nothing else is needed."""
        return Overhead(reprogrammed_cells=int((levels != tile.matrix.levels[0]).sum()))


@lru_cache(maxsize=64)
def _counts(mapping: Mapping) -> FloatArray:
    """What one level of each cell of a weight counts in it, in units of the codes: shape (cells of a weight,)."""
    shape = (mapping.slices, mapping.sides)
    each = np.eye(mapping.slices * mapping.sides).reshape(-1, *shape)
    decode, bits = mapping.encoding.decode, (mapping.weight_bits, mapping.cell_bits)
    return np.asarray(decode(each, *bits) - decode(np.zeros(shape), *bits), dtype=np.float64)


class _Sums:
    """All that some cells can add up to, with the levels of smallest sum that do it.

    Bit by bit of each cell's level: the sums that are reached so far, and those moved by what the bit counts, are the
    sums with one bit more.

    Parameters
    ----------
    counts
        What one level of each cell counts; multiples of a power of two.
    cell_bits
        Bits of a cell.
    """

    def __init__(self, counts: tuple[float, ...], cell_bits: int) -> None:
        self._unit = 1.0
        while any((count / self._unit) % 1.0 for count in counts):
            self._unit /= 2.0
        self._cells = len(counts)
        whole = [round(count / self._unit) for count in counts]
        self._bits = [(cell, count << bit, 1 << bit) for cell, count in enumerate(whole) for bit in range(cell_bits)]
        self._lowest = sum(min(moved, 0) for _, moved, _ in self._bits)
        size = sum(abs(moved) for _, moved, _ in self._bits) + 1
        never = np.iinfo(np.int32).max // 2
        total = np.full(size, never, dtype=np.int32)  # smallest sum of levels that gives each sum
        total[-self._lowest] = 0
        self._set: list[npt.NDArray[np.bool_]] = []  # whether each bit is set, by the sum of it and the bits before it
        for _, moved, level in self._bits:
            with_bit = np.full(size, never, dtype=np.int32)
            if moved >= 0:
                with_bit[moved:] = total[: size - moved] + level
            else:
                with_bit[:moved] = total[-moved:] + level
            self._set.append(with_bit < total)
            total = np.minimum(total, with_bit)
        self._places = np.flatnonzero(total < never)
        self._totals = total[self._places]

    def nearest(self, wanted: FloatArray) -> tuple[LevelArray, FloatArray]:
        """Levels whose sum is nearest, shape (wanted, cells), and how far from it they are, shape (wanted,)."""
        position = wanted / self._unit - self._lowest
        above = np.clip(np.searchsorted(self._places, position), 0, len(self._places) - 1)
        below = np.maximum(above - 1, 0)
        far, near = np.abs(self._places[above] - position), np.abs(self._places[below] - position)
        lower = (near < far) | ((near == far) & (self._totals[below] <= self._totals[above]))
        place = self._places[np.where(lower, below, above)]
        levels = np.zeros((len(wanted), self._cells), dtype=np.uint8)
        left = place.copy()
        for (cell, moved, level), bit_set in zip(reversed(self._bits), reversed(self._set), strict=True):
            chosen = bit_set[left]
            levels[:, cell] += chosen * np.uint8(level)
            left -= chosen * moved
        return levels, np.abs(place - position) * self._unit


@lru_cache(maxsize=256)
def _sums(counts: tuple[float, ...], cell_bits: int) -> _Sums:
    return _Sums(counts, cell_bits)
