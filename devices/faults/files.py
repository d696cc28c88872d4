"""Files of fault maps: an archive of arrays, lists of cells, and lists of addresses of a test chip.

Nothing here knows the class of a map. What reads is told what builds one, and turns whatever that refuses into a
:class:`FileFormatError` that names the file.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from xbarsim.devices.faults.kinds import FaultKind, Shape, as_shape
from xbarsim.foundation.archives import check_archive
from xbarsim.foundation.jsonio import parse_json
from xbarsim.foundation.validation import (
    FileFormatError,
    InputError,
    check_choice,
    check_integer,
    check_path,
    read_bytes,
    write_atomically,
)

__all__ = ["Recorded", "read", "read_csv", "write"]

_FORMAT = "xbarsim fault map 1"
_COLUMNS = "tile,row,column,kind,conductance_S"
_WORDS = {kind.name.lower(): kind for kind in FaultKind}
_MEMBERS = {"format", "shape", "index", "kind", "value", "note", "hash"}
_ENDINGS = (".npz", ".csv")


class Recorded(Protocol):
    """What of a fault map stands in its file; see :class:`FaultMap`."""

    @property
    def shape(self) -> Shape:
        """(tiles, rows, columns) of the cells."""

    @property
    def index(self) -> npt.NDArray[np.int64]:
        """Flat positions of the broken cells, (n,)."""

    @property
    def kind(self) -> npt.NDArray[np.uint8]:
        """What is wrong with each, (n,)."""

    @property
    def value(self) -> npt.NDArray[np.float64]:
        """Conductance of each that is stuck at one of its own, S, (n,)."""

    @property
    def note(self) -> str:
        """Where the map comes from."""

    @property
    def hash(self) -> str:
        """SHA-256 of all but the note."""


M = TypeVar("M", bound=Recorded)
_Row = tuple[int, int, float]  # flat position, kind, conductance


def write(faults: Recorded, path: str | os.PathLike[str]) -> None:
    """Write a map, whole or not at all; see :meth:`FaultMap.save`."""
    suffix = check_choice("the fault map's file ending", check_path("path", path).suffix, _ENDINGS)
    write_atomically(path, _npz(faults) if suffix == ".npz" else _csv(faults).encode("utf-8"))


def read(path: str | os.PathLike[str], build: Callable[..., M]) -> M:
    """Read a map that :func:`write` wrote; see :meth:`FaultMap.load`.

    Parameters
    ----------
    path
        The file, ending in ``.npz`` or ``.csv``.
    build
        Makes a map from the keywords shape, index, kind, value and note.
    """
    suffix = check_choice("the fault map's file ending", check_path("path", path).suffix, _ENDINGS)
    return _from_npz(path, build) if suffix == ".npz" else read_csv(path, build)


def read_csv(
    path: str | os.PathLike[str],
    build: Callable[..., M],
    shape: Shape | None = None,
    layout: Literal["cells", "addresses"] = "cells",
) -> M:
    """Read a fault list from a CSV file; see :meth:`FaultMap.from_csv`, and `build` of :func:`read`."""
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
            shape, note = shape or (1, 256, 256), f"cells out of window, {Path(path).name}"
            rows = _address_rows(text, shape)
        else:
            rows, shape, note = _cell_rows(text, shape)
        rows.sort(key=lambda row: row[0])
        try:
            return build(
                shape=shape,
                index=np.array([row[0] for row in rows], dtype=np.int64),
                kind=np.array([row[1] for row in rows], dtype=np.uint8),
                value=np.array([row[2] for row in rows], dtype=np.float64),
                note=note,
            )
        except InputError as error:
            raise _LineError(str(error)) from error
    except _LineError as error:
        raise FileFormatError(f"{path} is not a fault list, or is corrupt: {error}") from error


class _LineError(Exception):
    """What is wrong with a CSV file, before its path is known."""


def _npz(faults: Recorded) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        format=np.array(_FORMAT),
        shape=np.asarray(faults.shape, dtype=np.int64),
        index=faults.index,
        kind=faults.kind,
        value=faults.value,
        note=np.frombuffer(faults.note.encode("utf-8"), dtype=np.uint8),
        hash=np.array(faults.hash),
    )
    return stream.getvalue()


def _from_npz(path: str | os.PathLike[str], build: Callable[..., M]) -> M:
    raw = read_bytes(path, "a fault map")
    try:
        check_archive(raw, source="it")
    except FileFormatError as error:
        raise FileFormatError(f"{path} is not a fault map, or is corrupt: {error}") from error
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            members = {name: archive[name] for name in archive.files}
        if set(members) != _MEMBERS or str(members["format"]) != _FORMAT:
            raise FileFormatError(f"{path} is not a fault map (format {_FORMAT!r})")
        types = {name: members[name].dtype for name in ("shape", "index", "kind", "value", "note")}
        if list(types.values()) != [np.int64, np.int64, np.uint8, np.float64, np.uint8]:
            raise FileFormatError(f"{path} is not a fault map: its arrays have the types {types}")
        faults = build(
            shape=tuple(members["shape"].tolist()),
            index=members["index"],
            kind=members["kind"],
            value=members["value"],
            note=members["note"].tobytes().decode("utf-8"),
        )
        if faults.hash != str(members["hash"]):
            raise FileFormatError(f"{path} is corrupt: its content does not have the hash it states")
        return faults
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


def _csv(faults: Recorded) -> str:
    tiles, rows, columns = faults.shape
    count, note = faults.index.size, json.dumps(faults.note)
    lines = [f"# {_FORMAT}; shape = {tiles}, {rows}, {columns}; faults = {count}; note = {note}", _COLUMNS]
    positions = np.stack(np.unravel_index(faults.index, faults.shape), axis=1).tolist() if count else []
    words = {int(kind): word for word, kind in _WORDS.items()}
    for (tile, row, column), kind, value in zip(positions, faults.kind.tolist(), faults.value.tolist(), strict=True):
        conductance = repr(value) if kind == FaultKind.STUCK_AT else ""
        lines.append(f"{tile},{row},{column},{words[kind]},{conductance}")
    return "\n".join(lines) + "\n"


def _cell_rows(text: str, shape: Shape | None) -> tuple[list[_Row], Shape, str]:
    """The rows of a list of cells, with the shape and the note."""
    lines = text.splitlines()
    note, faults, start = "", None, 0
    if lines and lines[0].startswith("#"):
        header = re.fullmatch(rf"# {_FORMAT}; shape = (\d+), (\d+), (\d+); faults = (\d+); note = (\".*\")", lines[0])
        if header is None:
            raise _LineError(f"line 1 must be '# {_FORMAT}; shape = ...', got {lines[0]!r}")
        try:
            stated = as_shape(tuple(int(size) for size in header.group(1, 2, 3)))
            note = parse_json(header[5], source="its note")
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
    rows: list[_Row] = []
    for number, line in enumerate(lines, start=start + 2):
        fields = line.split(",")
        try:
            if len(fields) != 5:
                raise InputError(f"a line must have 5 fields, got {len(fields)}")
            index = 0
            for name, field, size in zip(("tile", "row", "column"), fields, shape, strict=False):
                index = index * size + check_integer(name, int(field), at_least=0, at_most=size - 1)
            kind = _WORDS[check_choice("kind", fields[3], _WORDS)]
            if (kind == FaultKind.STUCK_AT) != bool(fields[4]):
                raise InputError(f"conductance_S must stand exactly where kind is 'stuck_at', got {fields[4]!r}")
            rows.append((index, int(kind), float(fields[4]) if fields[4] else np.nan))
        except ValueError as error:
            raise _LineError(f"line {number}: {error}") from error
    return rows, shape, note


def _address_rows(text: str, shape: Shape) -> list[_Row]:
    """The rows of a list of addresses."""
    cells = shape[0] * shape[1] * shape[2]
    rows: list[_Row] = []
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
            rows.append((address, int(FaultKind.STUCK_AT), 1.0 / resistance))
        except ValueError as error:
            raise _LineError(f"line {number}: {error}") from error
    return rows
