"""Fault maps: which cells are broken, and how."""

from __future__ import annotations

import enum
import hashlib
import io
import json
import os
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices.cell import Cell, round_to_grid
from xbarsim.foundation.validation import (
    FileFormatError,
    InputError,
    check_choice,
    check_instance,
    check_integer,
    read_bytes,
    write_atomically,
)

__all__ = ["FaultDifference", "FaultMap", "Kind"]


class Kind(enum.IntEnum):
    """What is wrong with a cell."""

    STUCK_OFF = 1
    """At g_min, high resistance."""
    STUCK_ON = 2
    """At g_max, low resistance."""
    STUCK_AT = 3
    """At a conductance of its own."""


_FORMAT = "xbarsim fault map 1"
_COLUMNS = "tile,row,column,kind,conductance_S"
_WORDS = {kind.name.lower(): kind for kind in Kind}
_MEMBERS = {"format", "shape", "index", "kind", "value", "note", "hash"}
_MOST_CELLS = 2**62

Shape = tuple[int, int, int]


def as_shape(shape: object) -> Shape:
    if not isinstance(shape, tuple | list | np.ndarray) or len(shape) != 3:
        raise InputError(f"shape must be (tiles, rows, columns), got {shape!r}")
    tiles = check_integer("shape[0] (tiles)", shape[0], at_least=0)
    rows = check_integer("shape[1] (rows)", shape[1], at_least=1)
    columns = check_integer("shape[2] (columns)", shape[2], at_least=1)
    if tiles * rows * columns > _MOST_CELLS:
        raise InputError(f"shape must hold <= {_MOST_CELLS} cells, got {(tiles, rows, columns)}")
    return tiles, rows, columns


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
        A :class:`Kind` for each, uint8 (n,).
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
        index = np.asarray(self.index)
        kind = np.asarray(self.kind)
        given = self.value is not None
        value = np.asarray(self.value if given else np.full(index.shape, np.nan))
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
        unknown = np.flatnonzero((kind < Kind.STUCK_OFF) | (kind > Kind.STUCK_AT))
        if unknown.size:
            raise InputError(f"kind must be one of 1, 2, 3, got {kind[unknown[0]]} at position {unknown[0]}")
        kind = kind.astype(np.uint8)
        value = value.astype(np.float64) + 0.0  # no negative zeros
        stuck_at = kind == Kind.STUCK_AT
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
    def empty(cls, shape: Shape, *, note: str = "") -> FaultMap:
        """A map of `shape` (tiles, rows, columns) without faults."""
        return cls(shape=shape, index=np.empty(0, np.int64), kind=np.empty(0, np.uint8), note=note)

    @classmethod
    def from_dense(cls, kind: npt.ArrayLike, value: npt.ArrayLike | None = None, *, note: str = "") -> FaultMap:
        """A map from arrays that hold every cell.

        Parameters
        ----------
        kind
            0 for a working cell, else a :class:`Kind`; integers (tiles, rows, columns).
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
            stuck_at = kinds.reshape(-1)[index] == Kind.STUCK_AT
            values = np.where(stuck_at, dense.reshape(-1)[index].astype(np.float64), np.nan)
        return cls(shape=shape, index=index, kind=kinds.reshape(-1)[index], value=values, note=note)  # type: ignore[arg-type]

    @classmethod
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
            kinds = np.where(measured < low, int(Kind.STUCK_ON), np.where(measured > high, int(Kind.STUCK_OFF), 0))
        else:
            kinds = np.where((measured < low) | (measured > high), int(Kind.STUCK_AT), 0)
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
    def counts(self) -> dict[Kind, int]:
        """The number of broken cells of each kind."""
        found = np.bincount(self.kind, minlength=len(Kind) + 1).tolist()
        return {kind: found[kind] for kind in Kind}

    def _rate(self, count: int) -> float:
        return count / self.cells if self.cells else 0.0

    @property
    def on_rate(self) -> float:
        """The share of cells stuck on."""
        return self._rate(self.counts[Kind.STUCK_ON])

    @property
    def off_rate(self) -> float:
        """The share of cells stuck off."""
        return self._rate(self.counts[Kind.STUCK_OFF])

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
        digest.update(self.value[self.kind == Kind.STUCK_AT].astype("<f8").tobytes())
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

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise `InputError` unless the map is for cells of `shape`."""
        if tuple(shape) != self.shape:
            raise InputError(f"the fault map must be for cells of shape {tuple(shape)}, got one for {self.shape}")

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
        stuck_at = self.counts[Kind.STUCK_AT]
        if stuck_at:
            raise InputError(f"a fault map must hold no STUCK_AT cells to have a complement, got {stuck_at}")
        return FaultMap(shape=self.shape, index=self.index, kind=3 - self.kind, note=self.note)

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
        tiles, rows, columns = self.shape
        high, wide = (rows, columns) if block is None else block
        high = check_integer("block[0] (rows)", high, at_least=1, at_most=rows)
        wide = check_integer("block[1] (columns)", wide, at_least=1, at_most=columns)
        down, across = rows // high, columns // wide
        tile, row, column = np.unravel_index(self.index, self.shape) if len(self) else (self.index,) * 3
        inside = (row < down * high) & (column < across * wide)
        place = (tile * down + row // high) * across + column // wide
        counts = np.bincount(place[inside], minlength=tiles * down * across)
        if counts.size < 2 or not counts.any():
            return float("nan")
        return float(counts.var(ddof=1) / counts.mean())

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
        if isinstance(neighbours, bool) or neighbours not in (4, 8):
            raise InputError(f"neighbours must be 4 or 8, got {neighbours!r}")
        tiles, rows, columns = self.shape
        steps = [(0, 1), (1, 0)] + ([(1, 1), (1, -1)] if neighbours == 8 else [])
        pairs = tiles * sum((rows - down) * (columns - abs(across)) for down, across in steps)
        if pairs == 0 or len(self) in (0, self.cells):
            return float("nan")
        tile, row, column = np.unravel_index(self.index, self.shape)
        both = 0  # pairs of neighbours that are both broken
        of_broken = 0  # for every broken cell, the pairs it is in
        for down, across in steps:
            for sign in (1, -1):
                to_row, to_column = row + sign * down, column + sign * across
                inside = (to_row >= 0) & (to_row < rows) & (to_column >= 0) & (to_column < columns)
                of_broken += int(np.count_nonzero(inside))
                if sign == 1:
                    there = np.ravel_multi_index((tile[inside], to_row[inside], to_column[inside]), self.shape)
                    both += int(np.count_nonzero(np.isin(there, self.index, assume_unique=True)))
        mean = self.rate
        covariance = both - mean * of_broken + mean**2 * pairs
        return float(covariance / pairs / (mean * (1 - mean)))

    def dense(self) -> npt.NDArray[np.uint8]:
        """A :class:`Kind` for every cell, 0 where it works; uint8 (tiles, rows, columns)."""
        kinds = np.zeros(self.cells, dtype=np.uint8)
        kinds[self.index] = self.kind
        return kinds.reshape(self.shape)

    def conductance(self, cell: Cell) -> npt.NDArray[np.float64]:
        """The conductance at which each broken cell is stuck, S; float64 (n,)."""
        check_instance("cell", cell, Cell)
        ends = np.where(self.kind == Kind.STUCK_ON, cell.g_max, cell.g_min)
        return np.where(self.kind == Kind.STUCK_AT, self.value, ends)

    def apply(self, conductance: npt.ArrayLike, cell: Cell) -> npt.NDArray[Any]:
        """Break the cells of a die.

        Parameters
        ----------
        conductance
            Conductance of every cell, S; floating, of the map's shape. Not touched.
        cell
            The cell, for the conductances of stuck-on and stuck-off.

        Returns
        -------
        ndarray
            A new array of the same type.

        Raises
        ------
        InputError
            If `conductance` is of another shape than the map, or not floating.
        """
        array = np.asarray(conductance)
        self.check_shape(array.shape)
        if not np.issubdtype(array.dtype, np.floating):
            raise InputError(f"conductance must be of a floating type, got {array.dtype}")
        broken = np.array(array, order="C")
        broken.reshape(-1)[self.index] = self.conductance(cell)
        return broken

    def stuck_levels(self, cell: Cell, cell_bits: int) -> npt.NDArray[np.float64]:
        """Where each broken cell is stuck, in level units; float64 (n,), multiples of `GRID`.

        Exactly 0 for stuck-off and M for stuck-on; not below zero conductance.
        """
        check_instance("cell", cell, Cell)
        highest = cell.maximum_level(cell_bits)
        levels = np.where(self.kind == Kind.STUCK_ON, float(highest), 0.0)
        at = self.kind == Kind.STUCK_AT
        with np.errstate(over="ignore"):
            levels[at] = round_to_grid(cell.level_units(self.value[at], cell_bits), cell.offset_levels(cell_bits))
        wrong = np.flatnonzero(~np.isfinite(levels))
        if wrong.size:
            raise InputError(
                f"value must be a conductance that float32 holds in level units, "
                f"got {self.value[wrong[0]]} at position {wrong[0]}"
            )
        return levels

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
        suffix = check_choice("the fault map's file ending", Path(path).suffix, (".npz", ".csv"))
        write_atomically(path, self._npz() if suffix == ".npz" else self._csv().encode("utf-8"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FaultMap:
        """Read a map that :meth:`save` wrote.

        Raises
        ------
        InputError
            If `path` ends in neither ``.npz`` nor ``.csv``.
        FileFormatError
            If the file cannot be read, is truncated or corrupt, or holds no fault map.
        """
        suffix = check_choice("the fault map's file ending", Path(path).suffix, (".npz", ".csv"))
        return cls._from_npz(path) if suffix == ".npz" else cls.from_csv(path)

    def _npz(self) -> bytes:
        stream = io.BytesIO()
        np.savez_compressed(
            stream,
            format=np.array(_FORMAT),
            shape=np.asarray(self.shape, dtype=np.int64),
            index=self.index,
            kind=self.kind,
            value=self.value,
            note=np.frombuffer(self.note.encode("utf-8"), dtype=np.uint8),
            hash=np.array(self.hash),
        )
        return stream.getvalue()

    @classmethod
    def _from_npz(cls, path: str | os.PathLike[str]) -> FaultMap:
        raw = read_bytes(path, "a fault map")
        try:
            with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
                members = {name: archive[name] for name in archive.files}
            if set(members) != _MEMBERS or str(members["format"]) != _FORMAT:
                raise FileFormatError(f"{path} is not a fault map (format {_FORMAT!r})")
            types = {name: members[name].dtype for name in ("shape", "index", "kind", "value", "note")}
            if list(types.values()) != [np.int64, np.int64, np.uint8, np.float64, np.uint8]:
                raise FileFormatError(f"{path} is not a fault map: its arrays have the types {types}")
            found = cls(
                shape=tuple(members["shape"].tolist()),
                index=members["index"],
                kind=members["kind"],
                value=members["value"],
                note=members["note"].tobytes().decode("utf-8"),
            )
            if found.hash != str(members["hash"]):
                raise FileFormatError(f"{path} is corrupt: its content does not have the hash it states")
            return found
        except FileFormatError:
            raise
        except (
            ValueError,  # also InputError: well-formed arrays that are no fault map; bad text; no zip at all
            AttributeError,  # a bare array, not an archive
            EOFError,
            KeyError,
            MemoryError,  # a corrupt header that asks for a huge array
            NotImplementedError,
            OSError,
            RuntimeError,
            SyntaxError,
            TypeError,
            struct.error,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise FileFormatError(f"{path} is not a fault map, or is corrupt: {error}") from error

    def _csv(self) -> str:
        tiles, rows, columns = self.shape
        lines = [
            f"# {_FORMAT}; shape = {tiles}, {rows}, {columns}; faults = {len(self)}; note = {json.dumps(self.note)}",
            _COLUMNS,
        ]
        positions = np.stack(np.unravel_index(self.index, self.shape), axis=1).tolist() if len(self) else []
        words = {int(kind): word for word, kind in _WORDS.items()}
        for (tile, row, column), kind, value in zip(positions, self.kind.tolist(), self.value.tolist(), strict=True):
            conductance = repr(value) if kind == Kind.STUCK_AT else ""
            lines.append(f"{tile},{row},{column},{words[kind]},{conductance}")
        return "\n".join(lines) + "\n"

    @classmethod
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
        check_choice("layout", layout, ("cells", "addresses"))
        if shape is not None:
            shape = as_shape(shape)
        try:
            text = read_bytes(path, "a fault list").decode("utf-8")
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{path} is not a fault list: {error}") from error
        if text and not text.endswith("\n"):
            raise FileFormatError(f"{path} is truncated: its last line does not end")
        try:
            if layout == "addresses":
                return cls._from_addresses(text, shape or (1, 256, 256), f"cells out of window, {Path(path).name}")
            return cls._from_cells(text, shape)
        except _LineError as error:
            raise FileFormatError(f"{path} is not a fault list, or is corrupt: {error}") from error

    @classmethod
    def _from_cells(cls, text: str, shape: Shape | None) -> FaultMap:
        lines = text.splitlines()
        note, faults, start = "", None, 0
        if lines and lines[0].startswith("#"):
            header = re.fullmatch(
                rf"# {_FORMAT}; shape = (\d+), (\d+), (\d+); faults = (\d+); note = (\".*\")", lines[0]
            )
            if header is None:
                raise _LineError(f"line 1 must be '# {_FORMAT}; shape = ...', got {lines[0]!r}")
            try:
                stated = as_shape(tuple(int(size) for size in header.group(1, 2, 3)))
                note = json.loads(header[5])
            except ValueError as error:
                raise _LineError(f"line 1: {error}") from error
            if shape is not None and shape != stated:
                raise _LineError(f"it must be for cells of shape {shape}, got {stated}")
            shape, faults, start = stated, int(header[4]), 1
        if shape is None:
            raise _LineError(f"line 1 must be '# {_FORMAT}; shape = ...' where no shape is given")
        if len(lines) <= start or lines[start] != _COLUMNS:
            raise _LineError(f"line {start + 1} must be {_COLUMNS!r}, got {lines[start : start + 1]}")
        lines = lines[start + 1 :]
        if faults is not None and faults != len(lines):
            raise _LineError(f"it must list {faults} faults, got {len(lines)}")
        rows: list[tuple[int, int, float]] = []
        for number, line in enumerate(lines, start=start + 2):
            fields = line.split(",")
            try:
                if len(fields) != 5:
                    raise InputError(f"a line must have 5 fields, got {len(fields)}")
                index = 0
                for name, field, size in zip(("tile", "row", "column"), fields, shape, strict=False):
                    index = index * size + check_integer(name, int(field), at_least=0, at_most=size - 1)
                kind = _WORDS[check_choice("kind", fields[3], _WORDS)]
                if (kind == Kind.STUCK_AT) != bool(fields[4]):
                    raise InputError(f"conductance_S must stand exactly where kind is 'stuck_at', got {fields[4]!r}")
                rows.append((index, int(kind), float(fields[4]) if fields[4] else np.nan))
            except ValueError as error:
                raise _LineError(f"line {number}: {error}") from error
        return cls._from_rows(rows, shape, note)

    @classmethod
    def _from_addresses(cls, text: str, shape: Shape, note: str) -> FaultMap:
        cells = shape[0] * shape[1] * shape[2]
        rows: list[tuple[int, int, float]] = []
        for number, line in enumerate(text.splitlines(), start=1):
            fields = line.split(",")
            try:
                if len(fields) != 5 or fields[4] != "False":
                    raise InputError(f"a line must be 'address,low,high,resistance,False', got {line!r}")
                address = check_integer("address", int(fields[0]), at_least=0, at_most=cells - 1)
                low, high, resistance = (float(field) for field in fields[1:4])
                if not (0 < low < high < np.inf and 0 < resistance < np.inf):
                    raise InputError(f"0 < low < high and 0 < resistance must hold, got {line!r}")
                if low <= resistance <= high:
                    raise InputError(f"resistance must miss its window, got {line!r}")
                rows.append((address, int(Kind.STUCK_AT), 1.0 / resistance))
            except ValueError as error:
                raise _LineError(f"line {number}: {error}") from error
        return cls._from_rows(rows, shape, note)

    @classmethod
    def _from_rows(cls, rows: list[tuple[int, int, float]], shape: Shape, note: str) -> FaultMap:
        rows = sorted(rows, key=lambda row: row[0])
        try:
            return cls(
                shape=shape,
                index=np.array([row[0] for row in rows], dtype=np.int64),
                kind=np.array([row[1] for row in rows], dtype=np.uint8),
                value=np.array([row[2] for row in rows], dtype=np.float64),
                note=note,
            )
        except InputError as error:
            raise _LineError(str(error)) from error


class _LineError(Exception):
    """What is wrong with a CSV file, before its path is known."""
