"""Measured conductances of cells, as arrays or out of a table that other programs wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices.fitting.columns import Column, Layout, Role, Wide, read_layout
from xbarsim.devices.fitting.table import TextTable, check_rename, file_note, read_table
from xbarsim.devices.fitting.units import Unit
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import FileFormatError, InputError, check_instance, check_real

__all__ = ["Readings", "TimeOrigin"]

FloatArray = npt.NDArray[np.float64]
IntegerArray = npt.NDArray[np.int64]

TimeOrigin = Literal["programming", "first read"]

_WHAT = "a table of measured conductances"
_SAME = 1e-6  # relative: read voltages that are one


@dataclass(frozen=True, kw_only=True, eq=False)
class Readings:
    """Readings of cells, one an entry; every array has the shape ``(readings,)``.

    Attributes
    ----------
    conductance
        What was read, S; NaN where nothing was.
    target
        What the cell was programmed to, S, NaN where that is not known; ``None`` if it never is.
    level
        Index of the level that it was programmed to, from 0; ``None`` where the levels are not numbered. A level and a
        target exclude each other.
    time
        Since the cell was programmed, s; ``None`` if it is not known.
    cell
        Number of the cell, from 0; ``None`` if every reading is of another cell.
    cycle
        Number of the programming, from 0, where cells are programmed more than once; ``None`` if they are not.
    read_voltage
        V, or ``None`` if it is not known.
    source
        What was read: the file and what identifies it.
    form
        How the file is written, as far as that had to be found out, a sentence each.
    assumed
        What the reader had to assume, a sentence each.
    counted
        What was left out or kept apart, and how often.

    Raises
    ------
    InputError
        For arrays of different lengths, values out of bounds, or no reading at all.
    """

    conductance: FloatArray
    target: FloatArray | None = None
    level: IntegerArray | None = None
    time: FloatArray | None = None
    cell: IntegerArray | None = None
    cycle: IntegerArray | None = None
    read_voltage: float | None = None
    source: str = ""
    form: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    counted: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        size = self.conductance.size
        for name in ("conductance", "target", "level", "time", "cell", "cycle"):
            array = getattr(self, name)
            if array is None:
                continue
            if array.shape != (size,):
                raise InputError(f"{name} must have the shape {(size,)} of a list of readings, got {array.shape}")
            whole = name in ("level", "cell", "cycle")
            if whole and not np.issubdtype(array.dtype, np.integer):
                raise InputError(f"{name} must be integers, got type {array.dtype}")
            made = array.astype(np.int64 if whole else np.float64)
            wrong = np.flatnonzero(np.isinf(made) if not whole else made < 0)
            if wrong.size:
                raise InputError(
                    f"{name} must be {'>= 0' if whole else 'finite or NaN'}, got {made[wrong[0]]} at {wrong[0]}"
                )
            made.flags.writeable = False
            object.__setattr__(self, name, made)
        if not np.isfinite(self.conductance).any():
            raise InputError(f"conductance must hold at least one reading, got {size} without a value")
        if self.target is not None and self.level is not None:
            raise InputError("target and level must not both be given: levels get targets by the fit")
        if self.target is not None and (self.target <= 0).any():
            worst = int(np.flatnonzero(self.target <= 0)[0])
            raise InputError(f"target must be > 0 S, got {self.target[worst]} at {worst}")
        if self.time is not None and not (self.time >= 0).all():
            worst = int(np.flatnonzero(~(self.time >= 0))[0])
            raise InputError(f"time must be >= 0 s, got {self.time[worst]} at {worst}")
        if self.read_voltage is not None:
            object.__setattr__(self, "read_voltage", check_real("read_voltage", self.read_voltage, above=0.0))

    def __len__(self) -> int:
        """The number of readings, those without a value too."""
        return int(self.conductance.size)

    @property
    def cells(self) -> int:
        """The number of cells."""
        return len(self) if self.cell is None else len(np.unique(self.cell))

    @property
    def dead(self) -> int:
        """The number of cells of which no reading has a value."""
        if self.cell is None:
            return int(np.isnan(self.conductance).sum())
        alive = np.unique(self.cell[np.isfinite(self.conductance)])
        return self.cells - len(alive)

    @classmethod
    @entrance
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        unit: str | None = None,
        read_voltage: float | None = None,
        time_from: TimeOrigin = "programming",
        decimal: Literal[".", ","] | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> Readings:
        """Read a table of measured conductances, resistances or currents.

        *Long*, a reading a row, with the columns (in any order; one of the first, the others where they are known)
        ``conductance``, ``resistance`` or ``current``; ``target`` (in the same kinds of units) or ``level`` (0, 1,
        ...); ``time`` since programming; ``device`` or ``row`` and ``column``; ``cycle`` of programming; ``voltage``.
        *Wide*, a column a level (``level 3 (uS)``), a target (``10 uS``), a device (``device 7 (kOhm)``), a cycle
        (``cycle 2 (uS)``), a repeated read (``read 2 (uS)``) or a time (``100 s (uS)``), beside any of the other
        columns of a long one.

        Units stand in the headers, ``conductance (uS)``, ``R / kOhm``, ``t_ms``. Separators may be tabs, semicolons or
        commas; decimals may have a comma; fields may be in quotes.

        Parameters
        ----------
        path
            The file.
        unit
            Of readings and targets whose header states none, such as ``"uS"``.
        read_voltage
            Of currents, V; where the table has a column of voltages, that which is taken.
        time_from
            What times count from: ``"first read"`` where they are those of a clock. Each cell's first read after
            each programming is then at 0 s.
        decimal
            The decimal sign, where the file can be read in two ways.
        rename
            Headers of the file, and what they mean: ``{"Ist": "conductance (uS)"}``.

        Raises
        ------
        InputError
            If a parameter is out of its bound, or the read voltage is needed and not given.
        FileFormatError
            If the file cannot be read or understood; the message has file, line, column and value.
        """
        for old, new in (rename or {}).items():
            check_instance("rename", old, str)
            check_instance(f"rename[{old!r}]", new, str)
        if read_voltage is not None:
            check_real("read_voltage", read_voltage, above=0.0)
        table = read_table(path, _WHAT, decimal=decimal)
        header = check_rename(table.header, rename, table.path)
        layout = read_layout(table, header, unit)
        reader = _Reader(table, layout, read_voltage)
        return reader.readings(file_note(path, table.digest), time_from)


class _Reader:
    """Turns a table whose columns are known into readings."""

    def __init__(self, table: TextTable, layout: Layout, read_voltage: float | None) -> None:
        self.table, self.layout = table, layout
        self.roles = layout.roles
        if not layout.wide:  # a row of separators says nothing; in a wide table it is a cell without a reading
            self._keep([row for row, fields in enumerate(table.rows) if any(fields)])
        self.rows = len(table.rows)
        self.assumed = list(layout.notes)
        self.counted: list[tuple[str, int]] = []
        self.sign: FloatArray | float = 1.0  # of the voltage of each reading
        self.voltage = self._voltage(read_voltage)

    def _keep(self, rows: list[int]) -> None:
        """Leave other rows of the table out."""
        self.table.rows = [self.table.rows[row] for row in rows]
        self.table.lines = [self.table.lines[row] for row in rows]

    def _voltage(self, given: float | None) -> float | None:
        """The read voltage; rows read at another are taken out of the table."""
        column = self.roles.get("voltage")
        if column is None:
            return given
        values = self.table.numbers(column.index)
        assert column.unit is not None
        for row in np.flatnonzero(~np.isfinite(values)).tolist():
            raise self.table.refuse(row, column.index, "a reading must have its voltage")
        volts = np.abs(values * column.unit.factor)
        wanted = float(volts[0]) if given is None else given
        same = np.abs(volts - wanted) <= _SAME * wanted
        if given is None and not same.all():
            other = int(np.flatnonzero(~same)[0])
            raise self.table.refuse(
                other, column.index, f"all readings must be at one voltage, {wanted:g} V, or read_voltage given"
            )
        if wanted == 0:
            raise self.table.refuse(0, column.index, "the read voltage must not be 0")
        if not same.any():
            raise InputError(f"read_voltage must be one of those in {self.table.path}, got {wanted!r} V")
        keep = np.flatnonzero(same).tolist()
        if len(keep) < self.rows:
            self.counted.append((f"readings at other voltages than {wanted:g} V, left out", self.rows - len(keep)))
            self._keep(keep)
            self.rows = len(keep)
        self.sign = np.sign(values[keep])
        return wanted

    def readings(self, source: str, time_from: TimeOrigin) -> Readings:
        """The readings of the whole table."""
        columns: Sequence[Column | Wide] = self.layout.wide or (self.roles["reading"],)
        blocks = [self._siemens(column.index, column.unit, reading=True) for column in columns]
        conductance = np.concatenate(blocks)
        count, long = len(columns), self.layout.wide_role is None
        cell = self._cells(count)
        target = self._keys("target", count)
        level = self._keys("level", count)
        time = self._keys("time", count)
        cycle = self._keys("cycle", count)
        if target is not None and level is not None:
            self.assumed.append("levels are told by their targets; the column of levels is not used")
            level = None
        empty = np.isnan(conductance)
        levels = None if level is None else self._whole(level, "level", count)
        cycles = None if cycle is None else self._whole(cycle, "cycle", count)
        if time is not None:
            self._check_times(time, count)
            if time_from == "first read":
                time = _since_first(time, [key for key in (cell, cycles, target, levels) if key is not None])
                self.assumed.append("times count from each cell's first read after programming")
            else:
                self.assumed.append("times count from programming")
        elif time_from == "first read":
            raise InputError("time_from must be 'programming' where no column holds times, got 'first read'")
        if cell is None and not long and self.layout.wide_role != "cell":
            cell = np.tile(np.arange(self.rows), count)
            self.assumed.append("every row is of another cell, for no column names the cell")
        elif cell is None:
            self.assumed.append(
                "every reading is of another cell, for no column names the cell: no repeated reads, no drift"
            )
        self.counted.append(("readings", int((~empty).sum())))
        self.counted.append(("readings without a value", int(empty.sum())))
        if self.layout.ignored:
            names = ", ".join(map(repr, self.layout.ignored))
            self.counted.append((f"columns not used: {names}", len(self.layout.ignored)))
        try:
            return Readings(
                conductance=conductance,
                target=target,
                level=levels,
                time=time,
                cell=cell,
                cycle=cycles,
                read_voltage=self.voltage,
                source=source,
                form=self.table.notes,
                assumed=tuple(self.assumed),
                counted=tuple((what, number) for what, number in self.counted if number),
            )
        except InputError as error:
            raise FileFormatError(f"{self.table.path} must be {_WHAT}: {error}") from error

    def _siemens(self, index: int, unit: Unit | None, *, reading: bool) -> FloatArray:
        """A column in siemens; NaN where nothing was read, or (counted) the instrument left its range."""
        assert unit is not None
        table, values = self.table, self.table.numbers(index)
        over = np.isinf(values)
        if over.any():
            if not reading:
                raise table.refuse(int(np.flatnonzero(over)[0]), index, "a target must be finite")
            self.counted.append((f"readings of {table.header[index]!r} out of the instrument's range", int(over.sum())))
            values = np.where(over, np.nan, values)
        values = values * unit.factor
        if unit.dimension == "resistance":
            for row in np.flatnonzero(values <= 0).tolist():
                raise table.refuse(row, index, f"a resistance must be > 0 {unit.text}")
            return np.asarray(1.0 / values)
        if unit.dimension == "current":
            if self.voltage is None:
                raise InputError(
                    f"read_voltage must be given for currents such as those in column {table.header[index]!r} of "
                    f"{table.path}, got None"
                )
            return np.asarray(values / self.voltage * (self.sign if reading else 1.0))
        if not reading:
            for row in np.flatnonzero(values <= 0).tolist():
                raise table.refuse(row, index, f"a target must be > 0 {unit.text}")
        return values

    def _keys(self, role: Role, count: int) -> FloatArray | None:
        """Numbers of a role for every reading, from a column or from the headers."""
        if self.layout.wide_role == role:
            return np.repeat([float(column.key) for column in self.layout.wide], self.rows)
        column = self.roles.get(role)
        if column is None:
            return None
        if role == "target":
            return np.tile(self._siemens(column.index, column.unit, reading=False), count)
        values = self.table.numbers(column.index)
        return np.tile(values * (1.0 if column.unit is None else column.unit.factor), count)

    def _whole(self, values: FloatArray, role: Role, count: int) -> IntegerArray:
        """Numbers that must be whole and are counted from their least one."""
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0) & (values == np.floor(values)) & (values < 2**53)))
        if wrong.size:
            column = self.roles.get(role)
            assert column is not None
            raise self.table.refuse(int(wrong[0]) % self.rows, column.index, f"a {role} must be a whole number >= 0")
        least = int(values.min())
        if role == "level" and least:
            self.assumed.append(f"levels count from {least} in the file")
        return values.astype(np.int64) - (least if role == "level" else 0)

    def _check_times(self, values: FloatArray, count: int) -> None:
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if wrong.size:
            column = self.roles.get("time")
            if column is None:
                raise FileFormatError(f"{self.table.path}: a time must be >= 0 s, got {values[wrong[0]]!r} in a header")
            raise self.table.refuse(int(wrong[0]) % self.rows, column.index, "a time must be a finite number >= 0")

    def _cells(self, count: int) -> IntegerArray | None:
        """Numbers of the cells, from one column, from several (row, column, tile), or from the headers."""
        names: list[Sequence[str]] = []
        parts: tuple[Role, ...] = ("tile", "row", "column", "cell")
        for role in parts:
            column = self.roles.get(role)
            if column is None:
                continue
            texts = self.table.texts(column.index)
            for row, text in enumerate(texts):
                if not text:
                    raise self.table.refuse(row, column.index, "a reading must say which cell it is of")
            names.append(texts * count)
        if self.layout.wide_role == "cell":
            names.append([str(column.key) for column in self.layout.wide for _ in range(self.rows)])
        if not names:
            return None
        codes = np.unique(np.array(list(map("\0".join, zip(*names, strict=True)))), return_inverse=True)[1]
        return np.asarray(codes, dtype=np.int64).reshape(-1)


def _since_first(time: FloatArray, keys: Sequence[npt.NDArray[np.generic]]) -> FloatArray:
    """Times since the first of each state, one that agrees in all keys."""
    if not keys:
        return np.asarray(time - time.min())
    codes = np.unique(np.stack([np.unique(key, return_inverse=True)[1] for key in keys]), axis=1, return_inverse=True)
    which = np.asarray(codes[1]).reshape(-1)
    first = np.full(which.max() + 1, np.inf)
    np.minimum.at(first, which, time)
    return np.asarray(time - first[which])
