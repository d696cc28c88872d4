"""Frozen dataclasses to TOML and back, exactly, with unknown keys and wrong types refused.

The only module of the project that reads or writes TOML, so that all its files are in one dialect.

Fields may be numbers, strings, bools, tuples of numbers, literals, unions of these, ``None`` (the key is left out),
other dataclasses (a table), or a base class with dataclass subclasses: a table with the subclass's name under ``type``.
Every subclass whose module is imported will do, also one of your own: by its name, or as ``"module:Class"``. Such a
module is imported only where whoever reads says so (``code``), because that runs it. A dataclass with a ``load`` class
method may also be given by name: ``cell = "milo2021"``.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import tomli_w

from xbarsim.foundation.named import named_class, names_code
from xbarsim.foundation.validation import (
    LARGEST_TEXT,
    FileFormatError,
    InputError,
    check_depth,
    check_instance,
    read_bytes,
    shown,
    write_atomically,
)
from xbarsim.foundation.words import one_of

__all__ = ["dumps", "from_table", "load", "loads", "located", "parse", "read_text", "save", "to_table"]

T = TypeVar("T")


def _concrete(kind: type) -> dict[str, type]:
    """The dataclass subclasses of `kind` by name: what a ``type`` key may say.

    Of classes that were defined one after the other in the same module, as a cell of a notebook does that is run again,
    the last. One that shares its name with a class from elsewhere is called ``"module:Class"``, unless it is ours: what
    files of the project mean does not change with what a user defines.
    """
    places: dict[str, dict[str, type]] = {}
    for subclass in _every_concrete(kind):
        places.setdefault(subclass.__name__, {})[subclass.__module__] = subclass
    named: dict[str, type] = {}
    for name, found in places.items():
        ours = [module for module in found if module.split(".")[0] == __name__.split(".")[0]]
        plain = ours if len(ours) == 1 else list(found) if len(found) == 1 else []
        for module, subclass in found.items():
            named[name if module in plain else f"{module}:{name}"] = subclass
    return named


def _type_key(value: type) -> str | None:
    """What a ``type`` key says for a class: its name, with its module where that is not enough; ``None`` for no key."""
    named = [names for base in value.__mro__[1:-1] if (names := _concrete(base))]
    qualified = f"{value.__module__}:{value.__name__}"
    return (qualified if any(qualified in names for names in named) else value.__name__) if named else None


def to_table(value: Any, *, declared: type | None = None) -> Any:
    """Turn a dataclass (and all it holds) into plain tables, leaving out fields that are ``None``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        table: dict[str, Any] = {}
        kind = _type_key(type(value))
        if kind is not None:
            table["type"] = kind
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if item is not None:
                table[field.name] = to_table(item)
        return table
    if isinstance(value, tuple):
        return [to_table(item) for item in value]
    return value


def _describe(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if annotation is types.NoneType:
        return "nothing"
    if origin is Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(annotation))
    if origin in (Union, types.UnionType):
        kinds = [a for a in typing.get_args(annotation) if a is not types.NoneType]
        return " or ".join(_describe(a) for a in kinds)
    if origin is tuple:
        return "an array of " + _describe(typing.get_args(annotation)[0])
    if isinstance(annotation, type) and (_concrete(annotation) or dataclasses.is_dataclass(annotation)):
        return f"a table ({annotation.__name__})"
    return str(getattr(annotation, "__name__", annotation))


_MISMATCH = object()


def _convert(annotation: Any, value: Any, path: str, code: Path | None) -> Any:
    """`value` as `annotation` wants it, or `_MISMATCH`."""
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        for member in typing.get_args(annotation):
            converted = _convert(member, value, path, code)
            if converted is not _MISMATCH:
                return converted
        return _MISMATCH
    if origin is Literal:
        return value if value in typing.get_args(annotation) else _MISMATCH
    if origin is tuple:
        if not isinstance(value, list):
            return _MISMATCH
        members = typing.get_args(annotation)
        variable = len(members) == 2 and members[1] is Ellipsis
        if not variable and len(members) != len(value):
            return _MISMATCH
        wanted = [members[0]] * len(value) if variable else list(members)
        items = [
            _convert(kind, item, f"{path}[{index}]", code)
            for index, (kind, item) in enumerate(zip(wanted, value, strict=True))
        ]
        return _MISMATCH if any(item is _MISMATCH for item in items) else tuple(items)
    if annotation is bool:
        return value if isinstance(value, bool) else _MISMATCH
    if annotation is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else _MISMATCH
    if annotation is float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return _MISMATCH
        try:
            return float(value)
        except OverflowError:  # an integer beyond what a float holds
            return _MISMATCH
    if annotation is str:
        return value if isinstance(value, str) else _MISMATCH
    if isinstance(annotation, type):
        if isinstance(value, str) and hasattr(annotation, "load"):
            return annotation.load(value)
        if isinstance(value, dict) and (_concrete(annotation) or dataclasses.is_dataclass(annotation)):
            return from_table(annotation, value, path=path, code=code)
    return _MISMATCH


def from_table(cls: type[T], table: dict[str, Any], *, path: str = "", code: Path | None = None) -> T:
    """Build a `cls` from plain tables.

    Parameters
    ----------
    cls
        A dataclass, or a base class whose subclasses are dataclasses.
    table
        What a TOML reader returns.
    path
        Where the table stands in its file, for messages.
    code
        Import the modules that ``type = "module:Class"`` names, also those in this folder, which runs them; ``None``
        for files that may be a stranger's: then only classes will do whose module is imported already.

    Raises
    ------
    FileFormatError
        For an unknown or missing key or a value of the wrong type.
    InputError
        From the dataclass's own validation.
    """
    here = path or cls.__name__
    subclasses = _concrete(cls)
    if subclasses:
        table = dict(table)
        name = table.pop("type", None)
        if name is None and dataclasses.is_dataclass(cls):
            name, subclasses = cls.__name__, {**subclasses, cls.__name__: cls}
        if isinstance(name, str) and names_code(name):
            subclasses = {name: _named(cls, name, f"{here}.type", code)}
        if not isinstance(name, str) or name not in subclasses:
            raise _wrong(f"{here}.type must be {one_of(name, sorted(subclasses), got=shown(name))}", f"{path}.type")
        cls = subclasses[name]
    elif any(_concrete(base) for base in cls.__mro__[1:-1]):
        table = {key: item for key, item in table.items() if key != "type"}
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(fields))
    if unknown:
        near = difflib.get_close_matches(unknown[0], fields, n=1)
        raise _wrong(
            f"{here} has no key {', '.join(map(repr, unknown))}; its keys are {', '.join(sorted(fields))}"
            + (f"; did you mean {near[0]!r}?" if near else ""),
            f"{path}.{unknown[0]}",
        )
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        where = f"{path}.{name}" if path else name
        if name in table:
            value = _convert(hints[name], table[name], where, code)
            if value is _MISMATCH:
                raise _wrong(f"{where} must be {_describe(hints[name])}, got {shown(table[name])}", where)
            arguments[name] = value
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _wrong(f"{where} is missing; it must be {_describe(hints[name])}", where)
    try:
        return cls(**arguments)
    except (InputError, FileFormatError) as error:
        if not error.place:  # a message begins with the parameter
            parameter = re.split(r"[ .\[]", str(error), maxsplit=1)[0]
            error.place = ".".join(filter(None, (path, parameter if parameter in table else "")))
        raise


def _named(cls: type, name: str, where: str, code: Path | None) -> type:
    """The class ``"module:Class"``, imported if it may be."""
    module, _, attribute = name.rpartition(":")
    if module.endswith(".py"):
        module = Path(module).stem
    known = [kind for kind in _every_concrete(cls) if (kind.__module__, kind.__name__) == (module, attribute)]
    if not known:
        if code is None:
            raise _wrong(
                f"{where} must name a class whose module is imported, got {name!r}: a file of this kind runs no code, "
                f"so import {module} before it is read (--parts on the command line)",
                where,
            )
        kind = named_class(where, name, cls, folder=code)
        if not dataclasses.is_dataclass(kind):
            raise _wrong(f"{where} must name a dataclass, got {name!r}, which is none", where)
        known = [kind]
    return known[-1]


def _every_concrete(kind: type) -> Iterator[type]:
    """The dataclass subclasses of `kind`, in the order in which they were defined beside each other."""
    subclass: type
    for subclass in kind.__subclasses__():
        yield from _every_concrete(subclass)
        if dataclasses.is_dataclass(subclass):
            yield subclass


def _wrong(message: str, place: str) -> FileFormatError:
    error = FileFormatError(message)
    error.place = place.lstrip(".")
    return error


def _lines(text: str) -> dict[str, int]:
    """The line of each key and table of TOML text, from 1, by its path: ``"mapping.rows"``, ``"rules[1].levels"``."""
    rows = text.splitlines()
    found: dict[str, int] = {}
    counts: dict[str, int] = {}  # of the tables of an array so far
    home = ""
    number = 0
    while number < len(rows):
        row = rows[number].strip()
        if row.startswith("["):
            home = ""
            for key, inside in _keys(tomllib.loads(row)):
                home = f"{home}.{key}".lstrip(".")
                if inside and row.startswith("[["):
                    counts[home] = counts.get(home, -1) + 1
                home += f"[{counts[home]}]" if home in counts else ""
            found.setdefault(home, number + 1)
        elif row and not row.startswith("#"):
            last = number
            while (table := _parsed("\n".join(rows[number : last + 1]))) is None:
                last += 1
                if last == len(rows):
                    return found
            for path in _paths(table):
                found.setdefault(f"{home}.{path}".lstrip("."), number + 1)
            number = last
        number += 1
    return found


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:
        return None


def _keys(header: Any) -> Iterator[tuple[str, bool]]:
    """The keys of a table's header, from outside to inside, and whether each is the last."""
    while isinstance(header, dict) and header:
        ((key, header),) = header.items()
        if isinstance(header, list):
            header = header[0]
        yield key, not header


def _paths(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{path}.{key}".lstrip(".")
            yield from _paths(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _paths(item, f"{path}[{index}]")


def located(source: str, text: str, places: str | Iterable[str]) -> str:
    """What a message calls a place in TOML text: the source, and the line where it is known, ``"my.toml:12"``.

    Parameters
    ----------
    source
        What messages call the text.
    text
        The TOML.
    places
        Paths of keys, the likeliest first: the line is that of the first one that stands there, or of the innermost
        table around one.
    """
    lines = _lines(text)
    wanted = [places] if isinstance(places, str) else list(places)
    while any(wanted):
        for place in wanted:
            if place in lines:
                return f"{source}:{lines[place]}"
        wanted = [place.rpartition("[" if place.endswith("]") else ".")[0] for place in wanted]
    return source


def dumps(value: Any) -> str:
    """The TOML text of a dataclass."""
    return tomli_w.dumps(to_table(value))


def parse(text: str, *, source: str = "TOML text") -> dict[str, Any]:
    """The plain tables of TOML text; `source` is what messages call it.

    Raises
    ------
    FileFormatError
        If the text is not TOML, nests more than 32 levels deep, or has an integer of thousands of digits.
    """
    check_instance("text", text, str)
    try:
        table = tomllib.loads(text)
        check_depth(source, table)
    except InputError as error:
        raise FileFormatError(str(error)) from error
    except RecursionError:
        raise FileFormatError(f"{source} is not valid TOML: it nests too deep") from None
    except ValueError as error:  # also an integer of thousands of digits
        raise FileFormatError(f"{source} is not valid TOML: {error}") from error
    return table


def loads(cls: type[T], text: str, *, source: str = "TOML text") -> T:
    """Read a `cls` from TOML text.

    Messages name the source and, where it is known, the line.

    Raises
    ------
    FileFormatError
        If the text is not TOML, or does not describe a `cls`.
    InputError
        If a value is out of bounds.
    """
    table = parse(text, source=source)
    try:
        return from_table(cls, table)
    except (InputError, FileFormatError) as error:
        raise type(error)(f"{located(source, text, error.place)}: {error}") from error


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """The text of a TOML file.

    Raises
    ------
    FileFormatError
        If it cannot be read, naming `what` it should have been, or is not UTF-8.
    """
    try:
        return read_bytes(path, what, at_most=LARGEST_TEXT).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not valid TOML: {error}") from error


def load(cls: type[T], path: str | os.PathLike[str]) -> T:
    """Read a `cls` from a TOML file; errors as :func:`loads`."""
    return loads(cls, read_text(path, cls.__name__), source=str(path))


def save(value: Any, path: str | os.PathLike[str]) -> None:
    """Write a dataclass as a TOML file, whole or not at all.

    Raises
    ------
    FileWriteError
        If the file cannot be written.
    """
    write_atomically(path, dumps(value).encode("utf-8"))
