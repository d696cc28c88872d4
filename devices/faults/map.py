"""Fault maps: which cells are broken, and how."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices.cell import Cell
from xbarsim.devices.faults import files, spatial
from xbarsim.devices.faults.kinds import FaultKind, Shape, as_shape
from xbarsim.devices.faults.outside import StuckOutside
from xbarsim.devices.plausible import check_conductance
from xbarsim.devices.programming import round_to_grid
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import (
    InputError,
    as_array,
    check_choice,
    check_instance,
    check_integer,
    check_memory,
)

__all__ = ["FaultDifference", "FaultMap"]


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array


@dataclass(frozen=True)
class FaultDifference:
    """Where two fault maps of one shape differ, as flat positions (int64, sorted).

    Attributes
    ----------
    added
        Broken in the second map only.
    removed
        Broken in the first map only.
    changed
        Broken in both, in another way or at another conductance.
    """

    added: npt.NDArray[np.int64]
    removed: npt.NDArray[np.int64]
    changed: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        check_fields(self)

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.added.size or self.removed.size or self.changed.size)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaultMap:
    """What is broken where, and stuck at which value; cells not listed work.

    Attributes
    ----------
    shape
        (tiles, rows, columns) of the cells.
    index
        Flat C-order positions of the broken cells, int64 (n,), strictly increasing.
    kind
        A :class:`FaultKind` for each, uint8 (n,).
    value
        Conductance of each cell that is STUCK_AT, S, NaN for the others; float64 (n,). May be left
        out where no cell is STUCK_AT.
    note
        Where the map comes from; no part of its hash, nor of a comparison.
    """

    shape: Shape
    index: npt.NDArray[np.int64]
    kind: npt.NDArray[np.uint8]
    value: npt.NDArray[np.float64] = None  # type: ignore[assignment]  # filled in below
    note: str = ""

    def __post_init__(self) -> None:
        shape = as_shape(self.shape)
        cells = shape[0] * shape[1] * shape[2]
        index = as_array("index", self.index)
        kind = as_array("kind", self.kind)
        given = self.value is not None
        value = as_array("value", self.value if given else np.full(index.shape, np.nan))
        for name, array, wanted in (("index", index, np.integer), ("kind", kind, np.integer)):
            if array.ndim != 1 or not (np.issubdtype(array.dtype, wanted) or array.size == 0):
                raise InputError(
                    f"{name} must be a 1-dimensional array of integers, got shape {array.shape} and type {array.dtype}"
                )
        if value.ndim != 1 or not np.issubdtype(value.dtype, np.number) or np.iscomplexobj(value):
            raise InputError(
                f"value must be a 1-dimensional array of numbers, got shape {value.shape} and type {value.dtype}"
            )
        if not index.size == kind.size == value.size:
            raise InputError(
                f"index, kind and value must have one length, got {index.size}, {kind.size} and {value.size}"
            )
        if index.size:
            for extreme in (int(index.min()), int(index.max())):
                if not 0 <= extreme < cells:
                    raise InputError(f"index must be >= 0 and < {cells} (shape {shape}), got {extreme}")
        index = index.astype(np.int64)
        disorder = np.flatnonzero(np.diff(index) <= 0)
        if disorder.size:
            first, second = index[disorder[0]], index[disorder[0] + 1]
            raise InputError(f"index must be strictly increasing, got {first} before {second}")
        unknown = np.flatnonzero((kind < FaultKind.STUCK_OFF) | (kind > FaultKind.STUCK_AT))
        if unknown.size:
            raise InputError(f"kind must be one of 1, 2, 3, got {kind[unknown[0]]} at position {unknown[0]}")
        kind = kind.astype(np.uint8)
        value = value.astype(np.float64) + 0.0  # no negative zeros
        stuck_at = kind == FaultKind.STUCK_AT
        wrong = np.flatnonzero(stuck_at & ~(np.isfinite(value) & (value >= 0)))
        if wrong.size:
            raise InputError(
                f"value must be finite and >= 0 where a cell is STUCK_AT, got {value[wrong[0]]} at position {wrong[0]}"
            )
        wrong = np.flatnonzero(~stuck_at & ~np.isnan(value))
        if wrong.size:
            raise InputError(
                f"value must be NaN where a cell is not STUCK_AT, got {value[wrong[0]]} at position {wrong[0]}"
            )
        value[~stuck_at] = np.nan
        check_instance("note", self.note, str)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "index", _frozen(index))
        object.__setattr__(self, "kind", _frozen(kind))
        object.__setattr__(self, "value", _frozen(value))

    @classmethod
    @entrance
    def empty(cls, shape: Shape, *, note: str = "") -> FaultMap:
        """A map of `shape` (tiles, rows, columns) without faults."""
        return cls(shape=shape, index=np.empty(0, np.int64), kind=np.empty(0, np.uint8), note=note)

    @classmethod
    @entrance
    def from_dense(cls, kind: npt.ArrayLike, value: npt.ArrayLike | None = None, *, note: str = "") -> FaultMap:
        """A map from arrays that hold every cell.

        Parameters
        ----------
        kind
            0 for a working cell, else a :class:`FaultKind`; integers (tiles, rows, columns).
        value
            Conductance where `kind` is STUCK_AT, S, ignored elsewhere; same shape.
        note
            Where the map comes from.

        Raises
        ------
        InputError
            If the arrays have the wrong shape or type, or hold something that is no fault.
        """
        kinds = np.asarray(kind)
        if kinds.ndim != 3 or not np.issubdtype(kinds.dtype, np.integer):
            raise InputError(
                f"kind must be a 3-dimensional array of integers, got shape {kinds.shape} and type {kinds.dtype}"
            )
        shape = as_shape(kinds.shape)
        index = np.flatnonzero(kinds)
        values = None
        if value is not None:
            dense = np.asarray(value)
            if dense.shape != shape or not np.issubdtype(dense.dtype, np.number) or np.iscomplexobj(dense):
                raise InputError(
                    f"value must be numbers of shape {shape}, got shape {dense.shape} and type {dense.dtype}"
                )
            stuck_at = kinds.reshape(-1)[index] == FaultKind.STUCK_AT
            values = np.where(stuck_at, dense.reshape(-1)[index].astype(np.float64), np.nan)
        return cls(shape=shape, index=index, kind=kinds.reshape(-1)[index], value=values, note=note)  # type: ignore[arg-type]

    @classmethod
    @entrance
    def from_resistance(
        cls,
        resistance: npt.ArrayLike,
        *,
        low: float = 0.0,
        high: float = float("inf"),
        stuck: Literal["value", "ends"] = "value",
        note: str = "",
    ) -> FaultMap:
        """The cells of a measured array that missed a window of resistance.

        Parameters
        ----------
        resistance
            What each cell was measured at, ohm, above 0; (rows, columns) or (tiles, rows, columns).
        low, high
            The window, ohm; a cell on its edge is in it.
        stuck
            ``"value"``: each such cell is stuck at its own conductance, ``1 / resistance``. ``"ends"``: on where
            its resistance was below `low`, off where it was above `high`.
        note
            Where the map comes from.

        Raises
        ------
        InputError
            If `resistance` is of the wrong shape or type or not above 0, or the window is empty.
        """
        array = np.asarray(resistance)
        if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.floating):
            raise InputError(
                f"resistance must be floating, of shape (rows, columns) or (tiles, rows, columns), "
                f"got shape {array.shape} and type {array.dtype}"
            )
        measured = array.astype(np.float64).reshape(array.shape if array.ndim == 3 else (1, *array.shape))
        wrong = np.flatnonzero(~(np.isfinite(measured) & (measured > 0)))
        if wrong.size:
            raise InputError(f"resistance must be finite and > 0, got {measured.flat[wrong[0]]} at position {wrong[0]}")
        if not 0 <= low <= high:
            raise InputError(f"low must be >= 0 and <= high, got low = {low!r} and high = {high!r}")
        check_choice("stuck", stuck, ("value", "ends"))
        if stuck == "ends":
            kinds = np.where(
                measured < low, int(FaultKind.STUCK_ON), np.where(measured > high, int(FaultKind.STUCK_OFF), 0)
            )
        else:
            kinds = np.where((measured < low) | (measured > high), int(FaultKind.STUCK_AT), 0)
        return cls.from_dense(kinds, 1.0 / measured, note=note)

    @property
    def cells(self) -> int:
        """The number of cells, broken or not."""
        tiles, rows, columns = self.shape
        return tiles * rows * columns

    def __len__(self) -> int:
        """The number of broken cells."""
        return int(self.index.size)

    def __bool__(self) -> bool:
        """A map is true, also where nothing is broken."""
        return True

    @property
    def counts(self) -> dict[FaultKind, int]:
        """The number of broken cells of each kind."""
        counts = np.bincount(self.kind, minlength=len(FaultKind) + 1).tolist()
        return {kind: counts[kind] for kind in FaultKind}

    def _rate(self, count: int) -> float:
        return count / self.cells if self.cells else 0.0

    @property
    def on_rate(self) -> float:
        """The share of cells stuck on."""
        return self._rate(self.counts[FaultKind.STUCK_ON])

    @property
    def off_rate(self) -> float:
        """The share of cells stuck off."""
        return self._rate(self.counts[FaultKind.STUCK_OFF])

    @property
    def rate(self) -> float:
        """The share of cells that are broken in any way."""
        return self._rate(len(self))

    @property
    def hash(self) -> str:
        """SHA-256 of shape, positions, kinds and values: the same on every machine."""
        digest = hashlib.sha256(np.asarray(self.shape, dtype="<i8").tobytes())
        digest.update(self.index.astype("<i8").tobytes())
        digest.update(self.kind.tobytes())
        # NaNs have many bit patterns: the values of the cells that have one say it all.
        digest.update(self.value[self.kind == FaultKind.STUCK_AT].astype("<f8").tobytes())
        return digest.hexdigest()

    def __hash__(self) -> int:
        return hash(self.hash)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FaultMap):
            return NotImplemented
        return (
            self.shape == other.shape
            and np.array_equal(self.index, other.index)
            and np.array_equal(self.kind, other.kind)
            and np.array_equal(self.value, other.value, equal_nan=True)
        )

    @entrance
    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise `InputError` unless the map is for cells of `shape`."""
        if tuple(shape) != self.shape:
            raise InputError(f"the fault map must be for cells of shape {tuple(shape)}, got one for {self.shape}")

    @entrance
    def difference(self, other: FaultMap) -> FaultDifference:
        """What must change to get from this map to `other`.

        Raises
        ------
        InputError
            If the maps are for different shapes.
        """
        check_instance("other", other, FaultMap)
        other.check_shape(self.shape)
        both, mine, theirs = np.intersect1d(self.index, other.index, assume_unique=True, return_indices=True)
        mine_value, their_value = self.value[mine], other.value[theirs]
        same_value = (mine_value == their_value) | (np.isnan(mine_value) & np.isnan(their_value))
        same = (self.kind[mine] == other.kind[theirs]) & same_value
        return FaultDifference(
            added=np.setdiff1d(other.index, self.index, assume_unique=True),
            removed=np.setdiff1d(self.index, other.index, assume_unique=True),
            changed=both[~same],
        )

    @entrance
    def overlay(self, other: FaultMap) -> FaultMap:
        """The faults of both maps; a cell that is broken in both keeps what this map says.

        Raises
        ------
        InputError
            If the maps are for different shapes.
        """
        check_instance("other", other, FaultMap)
        other.check_shape(self.shape)
        new = ~np.isin(other.index, self.index, assume_unique=True)
        index = np.concatenate([self.index, other.index[new]])
        order = np.argsort(index)
        return FaultMap(
            shape=self.shape,
            index=index[order],
            kind=np.concatenate([self.kind, other.kind[new]])[order],
            value=np.concatenate([self.value, other.value[new]])[order],
            note="; ".join(note for note in (self.note, other.note) if note),
        )

    def complement(self) -> FaultMap:
        """The map with stuck-on and stuck-off exchanged.

        Raises
        ------
        InputError
            If a cell is STUCK_AT: it has no opposite.
        """
        stuck_at = self.counts[FaultKind.STUCK_AT]
        if stuck_at:
            raise InputError(f"a fault map must hold no STUCK_AT cells to have a complement, got {stuck_at}")
        return FaultMap(shape=self.shape, index=self.index, kind=3 - self.kind, note=self.note)

    @entrance
    def tile(self, tile: int) -> FaultMap:
        """The map of one tile alone, of shape (1, rows, columns).

        Raises
        ------
        InputError
            If there is no such tile.
        """
        tiles, rows, columns = self.shape
        tile = check_integer("tile", tile, at_least=0, at_most=tiles - 1)
        size = rows * columns
        start, stop = np.searchsorted(self.index, [tile * size, (tile + 1) * size])
        part = slice(int(start), int(stop))
        return FaultMap(
            shape=(1, rows, columns),
            index=self.index[part] - tile * size,
            kind=self.kind[part],
            value=self.value[part],
            note=self.note,
        )

    @entrance
    def variance_to_mean(self, *, block: tuple[int, int] | None = None) -> float:
        """How unevenly the faults are spread over tiles: the variance of their number over its mean.

        Faults that break on their own with probability p give 1 - p in expectation; faults that come
        together give more.

        Parameters
        ----------
        block
            Count in blocks of (rows, columns) of each tile instead of in whole tiles; what is left over
            at the last rows and columns is not counted.

        Returns
        -------
        float
            Sample variance (over n - 1) divided by the mean; NaN where there are no faults or fewer than
            two counts.

        Raises
        ------
        InputError
            If a block is larger than a tile.
        """
        return spatial.variance_to_mean(self.index, self.shape, block)

    @entrance
    def morans_i(self, *, neighbours: Literal[4, 8] = 4) -> float:
        """Moran's I of the broken cells: whether neighbours of a broken cell are broken more often than others.

        ``I = (n / W) sum_ij w_ij z_i z_j / sum_i z_i^2`` with z = 1 for a broken cell and 0 for a working
        one, less the mean over all cells, and weights w of 1 between neighbours in a tile. Near
        -1 / (n - 1) for faults that know nothing of each other, towards 1 for clusters, towards -1 for a
        chequered pattern.

        Parameters
        ----------
        neighbours
            4: cells that share an edge; 8: or a corner.

        Returns
        -------
        float
            NaN where it is undefined: if no cell is broken, all are, or no cell has a neighbour.

        References
        ----------
        .. [1] P. A. P. Moran, "Notes on continuous stochastic phenomena", Biometrika 37(1/2), 17-23 (1950),
           doi:10.1093/biomet/37.1-2.17.
        """
        return spatial.morans_i(self.index, self.shape, neighbours)

    def dense(self) -> npt.NDArray[np.uint8]:
        """A :class:`FaultKind` for every cell, 0 where it works; uint8 (tiles, rows, columns)."""
        check_memory("shape", f"cells of shape {self.shape}", self.cells)
        kinds = np.zeros(self.cells, dtype=np.uint8)
        kinds[self.index] = self.kind
        return kinds.reshape(self.shape)

    @entrance
    def conductance(self, cell: Cell) -> npt.NDArray[np.float64]:
        """The conductance at which each broken cell is stuck, S; float64 (n,).

        Raises
        ------
        InputError
            If one is stuck beyond what a real cell can have (mostly a value in another unit), unless ``implausible`` is
            set on the cell.
        """
        check_instance("cell", cell, Cell)
        self._check_plausible(cell)
        ends = np.where(self.kind == FaultKind.STUCK_ON, cell.g_max, cell.g_min)
        return np.where(self.kind == FaultKind.STUCK_AT, self.value, ends)

    @entrance
    def apply(self, held: npt.ArrayLike, stuck: npt.ArrayLike) -> npt.NDArray[Any]:
        """Break the cells of a die: what the broken ones are stuck at takes the place of what they would hold.

        Parameters
        ----------
        held
            What every cell would hold if it worked, in any unit; floating, of the map's shape. Not touched.
        stuck
            What each broken cell is stuck at, in the same unit, (n,): :meth:`stuck_levels` for level units,
            :meth:`conductance` for S.

        Returns
        -------
        ndarray
            A new array of the type of `held`.

        Raises
        ------
        InputError
            If `held` is of another shape than the map or not floating, or `stuck` does not have a value for each
            broken cell.
        """
        cells = np.array(held, order="C")
        self.check_shape(cells.shape)
        if not np.issubdtype(cells.dtype, np.floating):
            raise InputError(f"held must be of a floating type, got {cells.dtype}")
        values = np.asarray(stuck)
        if values.shape != self.index.shape:
            raise InputError(f"stuck must have the shape {self.index.shape}, got {values.shape}")
        cells.reshape(-1)[self.index] = values
        return cells

    def _check_plausible(self, cell: Cell) -> None:
        stuck = np.flatnonzero(self.kind == FaultKind.STUCK_AT)
        if stuck.size:
            worst = int(stuck[np.argmax(self.value[stuck])])
            check_conductance(
                f"value at position {worst}",
                float(self.value[worst]),
                implausible=cell.implausible,
                switch="Cell(implausible=True)",
            )

    @entrance
    def stuck_levels(self, cell: Cell, cell_bits: int) -> npt.NDArray[np.float64]:
        """Where each broken cell is stuck, in level units; float64 (n,), multiples of `GRID`.

        Exactly 0 for stuck-off and M for stuck-on; not below zero conductance. Errors as :meth:`conductance`, and where
        float32 does not hold a value in level units.
        """
        check_instance("cell", cell, Cell)
        self._check_plausible(cell)
        highest = cell.maximum_level(cell_bits)
        levels = np.where(self.kind == FaultKind.STUCK_ON, float(highest), 0.0)
        at = self.kind == FaultKind.STUCK_AT
        if not at.any():
            return levels
        with np.errstate(over="ignore"):
            levels[at] = round_to_grid(cell.level_units(self.value[at], cell_bits), cell.offset_levels(cell_bits))
        wrong = np.flatnonzero(~np.isfinite(levels))
        if wrong.size:
            raise InputError(
                f"value must be a conductance that float32 holds in level units, "
                f"got {self.value[wrong[0]]} at position {wrong[0]}"
            )
        return levels

    def outside(self, cell: Cell, cell_bits: int) -> StuckOutside:
        """How many cells are stuck at conductances outside the range of `cell`."""
        levels = self.stuck_levels(cell, cell_bits)[self.kind == FaultKind.STUCK_AT]
        return StuckOutside.of(levels, cell.name, cell.maximum_level(cell_bits))

    @entrance
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map, whole or not at all.

        Parameters
        ----------
        path
            Ends in ``.npz`` (compact) or ``.csv`` (a header comment, then
            ``tile,row,column,kind,conductance_S``).

        Raises
        ------
        InputError
            If `path` has another ending.
        FileWriteError
            If the file cannot be written.
        """
        files.write(self, path)

    @classmethod
    @entrance
    def load(cls, path: str | os.PathLike[str]) -> FaultMap:
        """Read a map that :meth:`save` wrote.

        Raises
        ------
        InputError
            If `path` ends in neither ``.npz`` nor ``.csv``.
        FileFormatError
            If the file cannot be read, is truncated or corrupt, or holds no fault map.
        """
        return files.read(path, cls)

    @classmethod
    @entrance
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        shape: Shape | None = None,
        *,
        layout: Literal["cells", "addresses"] = "cells",
    ) -> FaultMap:
        """Read a fault list from a CSV file.

        Parameters
        ----------
        path
            The file.
        shape
            (tiles, rows, columns) of the cells. May be left out where the file's header comment states it,
            and for `layout` ``"addresses"``, which is then (1, 256, 256). Must agree with the header comment.
        layout
            ``"cells"``: the columns ``tile,row,column,kind,conductance_S`` under that heading, in any order
            of the cells, as :meth:`save` writes them; the kinds are ``stuck_off``, ``stuck_on``
            and ``stuck_at``, and only the last has a conductance. The header comment of :meth:`save` is
            optional.

            ``"addresses"``: the dead-cell lists of a 65,536-cell RRAM chip (R. Radway and A. Wei,
            NI-RRAM-Python and Anjiang-RRAM-Python): ``address,low,high,resistance,False`` in ohm, no heading,
            one line for each cell that missed the resistance window. The address is word line first, most
            significant bit first, so it is the flat position in (rows, columns) = (word lines, source lines).
            Each cell is stuck at ``1 / resistance``.

        Raises
        ------
        InputError
            If `layout` or `shape` is out of bounds.
        FileFormatError
            If the file cannot be read, is truncated or corrupt, is for another shape or states none
            where none is given, or has a cell outside the shape or twice.
        """
        return files.read_csv(path, cls, shape, layout)
