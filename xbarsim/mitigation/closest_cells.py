"""What the healthy cells of a weight can bring it to: the arithmetic that all methods with a map share.

A weight's cells fall into patterns: which of them are stuck, and where. For each pattern that occurs, and each code,
the smallest error that the healthy cells can reach, and the levels that reach it, are kept in tables.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from xbarsim.mapping import Mapping

__all__ = ["ClosestCells", "closest_cells"]

FloatArray = npt.NDArray[np.float64]
LevelArray = npt.NDArray[np.uint8]
StuckArray = npt.NDArray[np.float32]

_MOST_BYTES = 2**28  # of the tables of errors and levels
_MOST_MAPPINGS = 4  # whose tables are kept
_MOST_PATTERNS = 2**17  # that are remembered: where cells are stuck anywhere, no pattern comes twice


class ClosestCells:
    """Levels that bring weights of one mapping as close to their targets as their healthy cells can.

    Patterns are numbered as they occur, so that the numbers of two instances are not the same; errors and levels are.
    Numbers hold until the next call of :meth:`patterns`. Not for several threads at a time.

    Parameters
    ----------
    mapping
        Gives encoding and bits.

    Attributes
    ----------
    counts
        What one level of each cell of a weight counts in it, in units of the codes, shape ``(cells,)``.
    """

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self.counts = _counts(mapping)
        self._codes = np.arange(-mapping.max_weight, mapping.max_weight + 1)
        # The weight of cells all at 0, which is not 0 where an encoding has a shift.
        nothing = np.zeros((mapping.slices, mapping.sides))
        self._nothing = float(mapping.encoding.decode(nothing, mapping.weight_bits, mapping.cell_bits))
        self._powers = 3 ** np.arange(len(self.counts), dtype=np.int64) if len(self.counts) < 39 else None
        self._forget()

    def _forget(self) -> None:
        """Begin with pattern 0 alone: all cells work."""
        self._known: dict[bytes, int] = {}
        self._patterns: list[StuckArray] = []
        self._errors = np.zeros((0, len(self._codes)))
        self._levels = np.zeros((0, len(self._codes), len(self.counts)), np.uint8)
        self._filled = np.zeros(0, bool)
        self._number(np.full((1, len(self.counts)), np.nan, np.float32))

    def _number(self, patterns: StuckArray) -> npt.NDArray[np.int32]:
        """Numbers of patterns, given each once; new ones are entered."""
        numbers = np.empty(len(patterns), np.int32)
        for place, pattern in enumerate(patterns):
            key = pattern.tobytes()
            number = self._known.get(key)
            if number is None:
                number = self._known[key] = len(self._patterns)
                self._patterns.append(pattern)
            numbers[place] = number
        return numbers

    def patterns(self, stuck: StuckArray) -> npt.NDArray[np.int32]:
        """The number of the pattern of each weight; 0 where all its cells work.

        Parameters
        ----------
        stuck
            Level units, NaN where a cell works, shape ``(..., cells)``.
        """
        if len(self._patterns) > _MOST_PATTERNS:
            self._forget()
        flat = np.ascontiguousarray(stuck, dtype=np.float32).reshape(-1, len(self.counts))
        numbers = np.zeros(len(flat), np.int32)
        broken = np.flatnonzero(~np.isnan(flat).all(axis=1))
        flat = flat[broken] + np.float32(0)  # no negative zeros
        flat[np.isnan(flat)] = np.nan  # one bit pattern
        low, high = flat == 0, flat == self._mapping.max_level
        plain = np.zeros(len(flat), bool)
        keys = np.zeros(len(flat), np.int64)
        if self._powers is not None:  # numbers are sorted faster than rows
            plain = (low | high | np.isnan(flat)).all(axis=1)
            keys = (low @ self._powers) + 2 * (high @ self._powers)
        rows = flat.view(np.dtype((np.void, flat.shape[1] * flat.itemsize))).reshape(-1)
        for some, sorted_by in ((np.flatnonzero(plain), keys), (np.flatnonzero(~plain), rows)):
            if len(some):
                _, first, inverse = np.unique(sorted_by[some], return_index=True, return_inverse=True)
                numbers[broken[some]] = self._number(flat[some[first]])[inverse.reshape(-1)]
        return numbers.reshape(stuck.shape[:-1])

    def places(self, wanted: FloatArray) -> npt.NDArray[np.int64] | None:
        """Places in the tables of wanted weights; ``None`` where one is none of the codes."""
        largest = self._mapping.max_weight
        places = np.rint(np.clip(wanted, -largest, largest)).astype(np.int64)
        return places + largest if np.array_equal(places, wanted) else None

    def errors(self, patterns: npt.NDArray[np.int32]) -> FloatArray | None:
        """The table of the smallest errors, filled for some patterns.

        Returns
        -------
        ndarray or None
            Absolute deviation in units of the codes, by pattern and code (from -Q to Q), shape ``(patterns or more,
            2 Q + 1)``; ``None`` where so many patterns of so many codes do not fit.
        """
        count, codes, cells = len(self._patterns), len(self._codes), len(self.counts)
        if count * codes * (8 + cells) > _MOST_BYTES:
            return None
        if len(self._filled) < count:
            room = min(2 * count, _MOST_BYTES // (codes * (8 + cells)))  # patterns come a few at a time
            for name, shape, kind in (
                ("_errors", (codes,), np.float64),
                ("_levels", (codes, cells), np.uint8),
                ("_filled", (), bool),
            ):
                grown = np.zeros((room, *shape), kind)
                old = getattr(self, name)
                grown[: len(old)] = old
                setattr(self, name, grown)
        wanted = np.unique(patterns)
        for number in wanted[~self._filled[wanted]].tolist():
            self._levels[number], self._errors[number] = self._nearest(number, self._codes.astype(np.float64))
            self._filled[number] = True
        return self._errors

    def _nearest(self, number: int, wanted: FloatArray) -> tuple[LevelArray, FloatArray]:
        """Levels of all cells that bring weights of one pattern nearest to `wanted`, and how far off they are."""
        pattern = self._patterns[number]
        broken = ~np.isnan(pattern)
        healthy = np.flatnonzero(~broken)
        healthy = healthy[np.argsort(self.counts[healthy], kind="stable")]
        stuck = np.where(broken, pattern, 0.0).astype(np.float64)
        levels = np.empty((len(wanted), len(pattern)), np.uint8)
        # A cell believed to be stuck is written where it is believed to be: if it works after all, it does no harm.
        levels[:] = np.clip(np.rint(stuck), 0, self._mapping.max_level).astype(np.uint8)
        sums = _sums(tuple(self.counts[healthy].tolist()), self._mapping.cell_bits)
        levels[:, healthy], distance = sums.nearest(wanted - self._nothing - stuck @ self.counts)
        return levels, distance

    def distances(self, patterns: npt.NDArray[np.int32], wanted: FloatArray) -> FloatArray:
        """How far from what is wanted each weight is at best, as :meth:`closest`; for values between the codes too."""
        return self._found(patterns, wanted)[1]

    def closest(
        self, patterns: npt.NDArray[np.int32], wanted: FloatArray, targets: LevelArray
    ) -> tuple[LevelArray, FloatArray]:
        """Levels that bring each weight as close to what is wanted as its healthy cells can.

        Parameters
        ----------
        patterns
            Numbers of patterns, shape ``(weights,)``.
        wanted
            In units of the codes, shape ``(weights,)``.
        targets
            The levels of the mapping, shape ``(weights, cells)``: they stay in the healthy cells of weights that
            nothing brings nearer.

        Returns
        -------
        levels
            uint8 of shape ``(weights, cells)``; of those that come as near, the ones with the smallest sum.
        ndarray
            Absolute deviations that are left, shape ``(weights,)``.
        """
        found, distance = self._found(patterns, wanted)
        known, which = np.unique(patterns, return_inverse=True)
        stuck = np.stack([self._patterns[number] for number in known.tolist()])[which.reshape(-1)]
        broken = ~np.isnan(stuck)
        held = np.where(broken, stuck, targets).astype(np.float64)
        now = np.abs(held @ self.counts + self._nothing - wanted)
        better = distance < now * (1 - 1e-12)
        levels = np.where(better[:, np.newaxis] | broken, found, targets)
        return levels, np.where(better, distance, now)

    def _found(self, patterns: npt.NDArray[np.int32], wanted: FloatArray) -> tuple[LevelArray, FloatArray]:
        """The nearest levels of all cells, and how far off they are: from the tables, where they have them."""
        places = self.places(wanted)
        errors = None if places is None else self.errors(patterns)
        if errors is not None:
            return self._levels[patterns, places], errors[patterns, places]
        levels, left = np.empty((len(wanted), len(self.counts)), np.uint8), np.zeros(len(wanted))
        for some in _groups(patterns):
            levels[some], left[some] = self._nearest(int(patterns[some[0]]), wanted[some])
        return levels, left


def _groups(patterns: npt.NDArray[np.int32]) -> list[npt.NDArray[np.int64]]:
    """Places of the weights of each pattern."""
    order = np.argsort(patterns, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(patterns[order])) + 1) if len(order) else []


_tables = threading.local()


def closest_cells(mapping: Mapping) -> ClosestCells:
    """The one of a mapping and of this thread, with the patterns that have occurred so far."""
    kept: OrderedDict[Mapping, ClosestCells] = _tables.__dict__.setdefault("kept", OrderedDict())
    if mapping not in kept:
        kept[mapping] = ClosestCells(mapping)
        while len(kept) > _MOST_MAPPINGS:
            kept.popitem(last=False)
    kept.move_to_end(mapping)
    return kept[mapping]


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
