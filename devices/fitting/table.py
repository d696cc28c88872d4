"""Tables of text that other programs wrote: separators, quotes, decimal signs, byte order marks.

Nothing here knows what a table means. Whatever it cannot take is refused with the file, the line, the column and the
value; whatever it had to decide by itself is written down in :attr:`TextTable.notes`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import FileFormatError, InputError, check_choice, check_memory, read_bytes, shown

__all__ = ["MISSING", "OVERFLOW", "TextTable", "check_rename", "file_note", "read_table"]

FloatArray = npt.NDArray[np.float64]

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "--"})
"""What stands where nothing was read, in lower case."""

OVERFLOW = 1e30
"""Numbers of at least this size are no values: instruments send 9.9e37 (SCPI) where a reading leaves their range."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?")
_NUMBERS = {  # one a line, by decimal sign: whole columns at once
    sign: re.compile(rf"(?:[+-]?(?:[0-9]+(?:[{sign}][0-9]*+)?+|[{sign}][0-9]++)(?:[eE][+-]?[0-9]++)?+\n)*+")
    for sign in (".", ",")
}
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_INFINITE = frozenset({"inf", "+inf", "infinity", "ovf", "overflow", "over", "ol"})
_BYTES_A_BYTE = 20  # of memory that the fields of a file take, as measured
_SEPARATORS = ("\t", ";", ",")  # in this order: a comma may also be a decimal sign
_WORDS = {"\t": "tab", ";": "semicolon", ",": "comma"}


@dataclass(eq=False)
class TextTable:
    """Rows of text under a header, each with the line of the file that it stands in.

    Attributes
    ----------
    path
        The file, for messages.
    header
        Names of the columns; ``"1"``, ``"2"`` and so on where the file has no header.
    rows
        Fields without the spaces around them; every row is as long as the header.
    lines
        Line of each row in the file, from 1.
    decimal
        ``"."`` or ``","``.
    digest
        SHA-256 of the file.
    notes
        What was found out about the form of the file.
    """

    path: str
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    decimal: Literal[".", ","]
    digest: str
    notes: tuple[str, ...]

    def refuse(self, row: int, column: int, wanted: str) -> FileFormatError:
        """The error for a field, naming file, line, column and value; to be raised."""
        return FileFormatError(
            f"{self.path}, line {self.lines[row]}, column {self.header[column]!r}: {wanted}, "
            f"got {shown(self.rows[row][column])}"
        )

    def refuse_column(self, column: int, wanted: str) -> FileFormatError:
        """The error for a whole column; to be raised."""
        return FileFormatError(f"{self.path}, column {self.header[column]!r}: {wanted}")

    def texts(self, column: int) -> list[str]:
        """The fields of a column."""
        return [row[column] for row in self.rows]

    def numbers(self, column: int) -> FloatArray:
        """A column as numbers: NaN where nothing was read, infinite where an instrument left its range.

        Raises
        ------
        FileFormatError
            For a field that is no number, naming line, column and value.
        """
        texts = self.texts(column)
        joined = "\n".join([*texts, ""])
        if _NUMBERS[self.decimal].fullmatch(joined) and joined.count("\n") == len(texts):  # none within a field
            plain = np.array([text.replace(",", ".") for text in texts] if self.decimal == "," else texts, np.float64)
            return np.where(np.abs(plain) < OVERFLOW, plain, np.copysign(np.inf, plain))
        values = np.empty(len(self.rows))
        other = "," if self.decimal == "." else "."
        for index, row in enumerate(self.rows):
            text = row[column]
            if _NUMBER.fullmatch(text):
                if other in text:
                    sign = "point" if self.decimal == "." else "comma"
                    raise self.refuse(index, column, f"a number must have a decimal {sign}, as others in the file")
                value = float(text.replace(",", "."))
                values[index] = value if abs(value) < OVERFLOW else np.copysign(np.inf, value)
            elif text.lower() in MISSING:
                values[index] = np.nan
            elif text.lower().lstrip("-") in _INFINITE:
                values[index] = -np.inf if text.startswith("-") else np.inf
            else:
                raise self.refuse(index, column, "it must be a number, without a unit or separators of thousands")
        return values


def read_table(
    path: str | os.PathLike[str],
    what: str,
    *,
    header: bool = True,
    decimal: Literal[".", ","] | None = None,
) -> TextTable:
    """Read a table of text.

    Lines that begin with ``#`` and empty lines are skipped. The separator is the first of tab, semicolon and comma that
    stands in the header outside of quotes, or what a line ``sep=;`` says, as spreadsheets write it.

    Parameters
    ----------
    path
        The file: UTF-8 or UTF-16, with or without a byte order mark, or Windows-1252.
    what
        What it should be, for messages.
    header
        Whether the first line names the columns.
    decimal
        The decimal sign; ``None`` to find it out.

    Raises
    ------
    InputError
        If `path` is no path, or `decimal` is another sign.
    FileFormatError
        If the file cannot be read, is no text, has no rows or rows of different lengths, names a column twice, or has
        numbers that can be read in two ways.
    """
    if decimal is not None:
        check_choice("decimal", decimal, (".", ","))
    name = os.fspath(path)
    raw = read_bytes(path, what)
    check_memory("path", f"a table of {len(raw)} bytes", _BYTES_A_BYTE * len(raw))
    text, notes = _text(name, raw)
    text, separator = _separator(text)
    rows: list[list[str]] = []
    lines: list[int] = []
    comments = 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if not any(stripped) and (len(stripped) <= 1 or not lines):
                continue
            if stripped[0].startswith("#"):
                comments += 1
                continue
            rows.append(stripped)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise FileFormatError(f"{name}, line {reader.line_num}: it must be {what}: {error}") from error
    names, first = _header(name, what, rows, lines, header=header)
    rows, lines = rows[first:], lines[first:]
    if not rows:
        raise FileFormatError(f"{name} must hold {what}, got no line of values")
    for index, row in enumerate(rows):
        while len(row) > len(names) and not row[-1]:  # separators at the end of a line
            row.pop()
        if len(row) != len(names):
            hint = " (a decimal comma must stand in quotes)" if separator == "," and len(row) > len(names) else ""
            raise FileFormatError(
                f"{name}, line {lines[index]}: a line must have {len(names)} fields, got {len(row)}: "
                f"{shown(separator.join(row))}{hint}"
            )
    notes.append(f"columns are separated by a {_WORDS[separator]}")
    if comments:
        notes.append(f"{comments} lines of comment are skipped")
    table = TextTable(name, names, rows, lines, decimal or ".", hashlib.sha256(raw).hexdigest(), ())
    if decimal is None:
        table.decimal = _decimal(table)
    if table.decimal == ",":
        notes.append("the comma is the decimal sign")
    table.notes = tuple(notes)
    return table


def _text(name: str, raw: bytes) -> tuple[str, list[str]]:
    notes: list[str] = []
    try:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = raw.decode("utf-16")
            notes.append("the file is in UTF-16")
        else:
            text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            raise FileFormatError(f"{name} is no text: {error}") from error
        notes.append("the file is no UTF-8 and is read as Windows-1252")
    odd = re.search(r"[\x00-\x08\x0e-\x1f]", text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        raise FileFormatError(f"{name}, line {line}: it must be text, got the control character {odd[0]!r}")
    return text, notes


def _separator(text: str) -> tuple[str, str]:
    """The text, a line that states the separator taken out of it, and the separator."""
    stated = re.match(r"sep=([;,\t])[^\S\n]*\r?(?:\n|$)", text)
    if stated:
        return "\n" + text[stated.end() :], stated[1]  # lines keep their numbers
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            outside = re.sub(r'"[^"]*"?', "", line)
            return text, next((separator for separator in _SEPARATORS if separator in outside), ",")
    return text, ","


def _header(
    name: str, what: str, rows: list[list[str]], lines: list[int], *, header: bool
) -> tuple[tuple[str, ...], int]:
    """Names of the columns, and the number of rows they take."""
    if not rows:
        raise FileFormatError(f"{name} must hold {what}, got an empty file")
    if not header:
        return tuple(str(number) for number in range(1, len(rows[0]) + 1)), 0
    names = rows[0]
    while len(names) > 1 and not names[-1]:
        names = names[:-1]
    if all(_NUMBER.fullmatch(field) or field.lower() in MISSING for field in names):
        raise FileFormatError(
            f"{name}, line {lines[0]}: the first line must name the columns, with units such as 'conductance (uS)', "
            f"got {shown(', '.join(names))}"
        )
    for index, field in enumerate(names):
        if not field:
            raise FileFormatError(f"{name}, line {lines[0]}, column {index + 1}: a column must have a name, got ''")
        if field in names[:index]:
            raise FileFormatError(f"{name}, line {lines[0]}, column {field!r}: no two columns may have one name")
    return tuple(names), 1


def _decimal(table: TextTable) -> Literal[".", ","]:
    """The decimal sign, from all that looks like a number."""
    first: tuple[int, int] | None = None
    point = certain = False
    for index, row in enumerate(table.rows):
        for column, field in enumerate(row):
            if "," in field and _NUMBER.fullmatch(field):
                first = first or (index, column)
                certain = certain or not _THOUSANDS.fullmatch(field)
            elif not point and "." in field and _NUMBER.fullmatch(field):
                point = True
    if first is None:
        return "."
    if point:
        raise table.refuse(*first, "a number must have a decimal point, as others in the file")
    if not certain:
        raise table.refuse(
            *first, "a comma may divide decimals or thousands: say decimal=',' or write the number without"
        )
    return ","


def file_note(path: str | os.PathLike[str], digest: str) -> str:
    """What a card calls the file: its name, without folders, and the start of its SHA-256."""
    name = Path(path).name.encode("utf-8", "replace").decode("utf-8")  # names of files may hold any byte
    return f"{name} (SHA-256 {digest[:16]})"


def check_rename(names: tuple[str, ...], rename: Mapping[str, str] | None, path: str) -> tuple[str, ...]:
    """Headers with those of `rename` in place of the file's.

    Raises
    ------
    InputError
        If the file has no such column.
    """
    changed = rename or {}
    for old in changed:
        if old not in names:
            raise InputError(f"rename must name columns of {path}, {', '.join(map(repr, names))}, got {old!r}")
    return tuple(changed.get(name, name) for name in names)
