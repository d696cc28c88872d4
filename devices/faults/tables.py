"""Fault maps out of tables that other programs wrote: lists of cells, grids of kinds, maps of resistance."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faults.kinds import FaultKind, Shape, as_shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.devices.fitting.table import MISSING, TextTable, check_rename, read_table
from xbarsim.devices.fitting.units import Unit, parse_unit, split_header
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.guide import see
from xbarsim.foundation.validation import FileFormatError, InputError, check_choice, check_integer, check_real

__all__ = ["read_fault_map"]

Layout = Literal["list", "kinds", "resistance"]

_KINDS: dict[str, FaultKind] = {
    **dict.fromkeys(("stuckon", "on", "lrs", "lowresistance", "short", "shorted", "2"), FaultKind.STUCK_ON),
    **dict.fromkeys(("stuckoff", "off", "hrs", "highresistance", "open", "1"), FaultKind.STUCK_OFF),
    **dict.fromkeys(("stuckat", "3"), FaultKind.STUCK_AT),
}
_AMBIGUOUS = ("sa0", "sa1", "stuckat0", "stuckat1", "saf0", "saf1")
_PLACES = {
    "tile": ("tile", "array"),
    "row": ("row", "wl", "wordline"),
    "column": ("column", "col", "bl", "bitline"),
    "kind": ("kind", "fault", "type", "state"),
    "value": ("conductance", "g", "resistance", "r", "value"),
}
_WHAT = "a table of faults"


@entrance
def read_fault_map(
    path: str | os.PathLike[str],
    layout: Layout,
    *,
    shape: Shape | None = None,
    first: int = 0,
    unit: str | None = None,
    low: float | None = None,
    high: float | None = None,
    stuck: Literal["value", "ends"] = "ends",
    kinds: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    decimal: Literal[".", ","] | None = None,
) -> FaultMap:
    """Read a fault map out of a table.

    :meth:`FaultMap.save` then writes it for :class:`MeasuredFaults`, which draws the faults of dies from it.

    Parameters
    ----------
    path
        The file; separators, quotes and decimals as for :meth:`Readings.from_csv`.
    layout
        ``"list"``: a broken cell a row, with the columns ``row``, ``column`` and ``kind``, a ``tile`` if there are
        several, and for cells of the kind ``stuck_at`` a conductance or resistance with its unit in the header.

        ``"kinds"``: a grid without headers, a line a row of the array: 0 for a working cell, 1 stuck off (high
        resistance), 2 stuck on (low resistance). Several tiles stand below each other, and `shape` says how many.

        ``"resistance"``: a grid without headers of what each cell was measured at, in `unit`. A cell below `low` is
        stuck on, one above `high` stuck off; what an instrument marks as out of its range (``inf``, 9.9e37) is above.
    shape
        (tiles, rows, columns) of the cells. Needed for a list; for a grid, one tile by default.
    first
        What the file calls the first row, column and tile of a list: 0 or 1.
    unit
        Of a grid of resistances (or conductances), such as ``"kOhm"``.
    low, high
        Resistance, ohm, at and between which a cell works; at least one of them. Only for ``"resistance"``.
    stuck
        For ``"resistance"``: ``"ends"`` or ``"value"``, as :meth:`FaultMap.from_resistance` takes it.
    kinds
        What words or numbers of the file mean: each ``"stuck_on"``, ``"stuck_off"``, ``"stuck_at"`` or ``"works"``.
        Without it, the names of states are known (``on``, ``off``, ``LRS``, ``HRS``), but not SA0 and SA1, which the
        literature uses for either.
    rename
        Headers of a list, and what they mean.
    decimal
        The decimal sign, where the file can be read in two ways.

    Raises
    ------
    InputError
        If a parameter is out of its bound, missing for the layout, or means nothing to it.
    FileFormatError
        If the file cannot be read or understood, or has a cell outside the shape or twice; the message has file, line,
        column and value.
    """
    check_choice("layout", layout, ("list", "kinds", "resistance"))
    check_integer("first", first, at_least=0, at_most=1)
    given = {"unit": unit, "low": low, "high": high, "kinds": kinds, "rename": rename}
    means = {"list": ("kinds", "rename"), "kinds": ("kinds",), "resistance": ("unit", "low", "high")}[layout]
    for name, value in given.items():
        if value is not None and name not in means:
            raise InputError(f"{name} must be None for layout {layout!r}, got {value!r}")
    if shape is not None:
        shape = as_shape(shape)
    words = _words(kinds)
    table = read_table(path, _WHAT, header=layout == "list", decimal=decimal)
    note = f"{Path(path).name}, layout {layout!r}"
    if layout == "list":
        if shape is None:
            raise InputError("shape must be given for a list of cells, got None")
        return _from_list(table, shape, first, words, rename, note)
    tiles = _grid_shape(table, shape)
    if layout == "kinds":
        codes = [[_kind(table, row, column, words) for column in range(tiles[2])] for row in range(len(table.rows))]
        for row, line in enumerate(codes):
            if FaultKind.STUCK_AT in line:
                raise table.refuse(
                    row, line.index(FaultKind.STUCK_AT), "a grid of kinds has no conductances to be stuck at"
                )
        return FaultMap.from_dense(np.array(codes, dtype=np.uint8).reshape(tiles), note=note)
    return _from_resistance(table, tiles, unit, low, high, stuck, note)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9.+-]|(?<=[a-z])[-.](?=[a-z0-9])", "", text.lower())


def _words(kinds: Mapping[str, str] | None) -> dict[str, int]:
    """What each word means, as a :class:`FaultKind` or 0."""
    if kinds is None:
        return {**{word: int(kind) for word, kind in _KINDS.items()}, "0": 0}
    names = {"works": 0, **{kind.name.lower(): int(kind) for kind in FaultKind}}
    return {str(word): names[check_choice(f"kinds[{word!r}]", meaning, names)] for word, meaning in kinds.items()}


def _kind(table: TextTable, row: int, column: int, words: dict[str, int]) -> int:
    text = table.rows[row][column]
    for word in (text, _plain(text)):
        if word in words:
            return words[word]
    known = ", ".join(map(repr, words))
    if _plain(text) in _AMBIGUOUS:
        raise table.refuse(row, column, "the literature uses this for cells stuck on and for cells stuck off: say with "
                           f"kinds={{'SA0': 'stuck_off', ...}} which it is{see('cells')}")  # fmt: skip
    raise table.refuse(row, column, f"a cell must be one of {known}")


def _grid_shape(table: TextTable, shape: Shape | None) -> Shape:
    rows, columns = len(table.rows), len(table.header)
    if shape is None:
        return 1, rows, columns
    if (shape[0] * shape[1], shape[2]) != (rows, columns):
        raise FileFormatError(
            f"{table.path} must have {shape[0] * shape[1]} lines of {shape[2]} fields for cells of shape {shape}, "
            f"got {rows} of {columns}"
        )
    return shape


def _from_list(
    table: TextTable, shape: Shape, first: int, words: dict[str, int], rename: Mapping[str, str] | None, note: str
) -> FaultMap:
    header = check_rename(table.header, rename, table.path)
    places: dict[str, int] = {}
    unit: Unit | None = None
    for index, text in enumerate(header):
        name, unit_text, _ = split_header(text)
        role = next((role for role, names in _PLACES.items() if _plain(name) in names), None)
        if role is None:
            raise table.refuse_column(
                index, "it must be one of row, column, tile, kind, conductance or resistance; rename says what it is"
            )
        if role in places:
            raise table.refuse_column(index, f"only one column may hold the {role}")
        places[role] = index
        if role == "value":
            unit = parse_unit(unit_text or "")
            if unit is None or unit.dimension not in ("conductance", "resistance"):
                raise table.refuse_column(
                    index, f"it must state a unit of conductance or resistance, got {unit_text!r}"
                )
    for role in ("row", "column", "kind"):
        if role not in places:
            raise FileFormatError(f"{table.path} must have a column {role!r}, got {', '.join(map(repr, header))}")
    position = np.zeros(len(table.rows), dtype=np.int64)
    for role, size in zip(("tile", "row", "column"), shape, strict=True):
        position *= size
        if role not in places:
            if size != 1:
                raise FileFormatError(f"{table.path} must have a column 'tile' for {size} tiles")
            continue
        numbers = table.numbers(places[role]) - first
        for row in np.flatnonzero(~((numbers >= 0) & (numbers < size) & (numbers == np.floor(numbers)))).tolist():
            raise table.refuse(row, places[role], f"a {role} must be a whole number from {first} to {size - 1 + first}")
        position += numbers.astype(np.int64)
    kind = np.array([_kind(table, row, places["kind"], words) for row in range(len(table.rows))], dtype=np.uint8)
    value = np.full(len(table.rows), np.nan)
    at = kind == FaultKind.STUCK_AT
    if "value" in places:
        assert unit is not None
        numbers = table.numbers(places["value"]) * unit.factor
        for row in np.flatnonzero(at & ~(numbers > 0)).tolist():
            raise table.refuse(row, places["value"], "a cell that is stuck_at must have a value > 0")
        with np.errstate(divide="ignore"):
            value[at] = (1.0 / numbers if unit.dimension == "resistance" else numbers)[at]
    elif at.any():
        raise table.refuse(int(np.flatnonzero(at)[0]), places["kind"], "a cell that is stuck_at needs a conductance")
    order = np.argsort(position, kind="stable")
    twice = np.flatnonzero(np.diff(position[order]) == 0)
    if twice.size:
        row, before = int(order[twice[0] + 1]), int(order[twice[0]])
        raise table.refuse(row, places["column"], f"no cell may be listed twice, and line {table.lines[before]} does")
    order = order[kind[order] > 0]
    return FaultMap(shape=shape, index=position[order], kind=kind[order], value=value[order], note=note)


def _from_resistance(
    table: TextTable, shape: Shape, unit: str | None, low: float | None, high: float | None, stuck: str, note: str
) -> FaultMap:
    if unit is None:
        raise InputError("unit must be given for a map of resistance, such as 'Ohm' or 'kOhm', got None")
    known = parse_unit(unit)
    if known is None or known.dimension not in ("resistance", "conductance"):
        raise InputError(f"unit must be one of resistance or conductance, such as 'kOhm', got {unit!r}")
    if low is None and high is None:
        raise InputError("low or high must be given for a map of resistance, ohm, got None")
    low = 0.0 if low is None else check_real("low", low, above=0.0)
    high = float("inf") if high is None else check_real("high", high, at_least=low)
    check_choice("stuck", stuck, ("value", "ends"))
    numbers = np.stack([table.numbers(column) for column in range(len(table.header))], axis=1)
    conducts = known.dimension == "conductance"
    allowed = np.isfinite(numbers) if conducts else numbers > 0
    for row, column in np.argwhere(~allowed).tolist():
        empty = table.rows[row][column].lower() in MISSING
        wanted = "every cell must have been measured" if empty else f"it must be {'finite' if conducts else '> 0'}"
        raise table.refuse(row, column, f"{wanted}, in {unit}")
    ohms, siemens = _both(numbers * known.factor, conducts)
    if stuck == "ends":
        kinds = np.where(ohms < low, int(FaultKind.STUCK_ON), np.where(ohms > high, int(FaultKind.STUCK_OFF), 0))
    else:
        kinds = np.where((ohms < low) | (ohms > high), int(FaultKind.STUCK_AT), 0)
    return FaultMap.from_dense(kinds.reshape(shape), siemens.reshape(shape), note=note)


def _both(values: npt.NDArray[np.float64], conducts: bool) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Resistance and conductance; a conductance that noise brought to 0 or below is an open cell."""
    if conducts:
        siemens = np.maximum(values, 0.0)
        with np.errstate(divide="ignore"):
            return 1.0 / siemens, siemens
    return values, 1.0 / values
