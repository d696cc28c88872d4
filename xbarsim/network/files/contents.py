"""The file itself: arrays as safetensors, a record as TOML in its metadata, and one sum over all of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError, read_bytes, write_atomically

__all__ = ["Contents", "digest", "read_contents", "reading", "write_contents"]

Array = npt.NDArray[Any]
T = TypeVar("T")

_VERSION = "1"  # of the format; a file of another is refused
_KEYS = {"format", "version", "record", "sha256"}


def digest(*arrays: Array) -> str:
    """The sha256 of types, shapes and values of some arrays."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _sum(kind: str, record: str, arrays: Mapping[str, Array]) -> str:
    """The sha256 of all that a file says."""
    total = hashlib.sha256(f"{kind}\n{_VERSION}\n{record}\n".encode())
    for name in sorted(arrays):
        total.update(f"{name} {digest(arrays[name])}\n".encode())
    return total.hexdigest()


class Contents:
    """What a file holds. Every array has to be taken: one that nobody asks for is unknown, and refused.

    Parameters
    ----------
    record
        TOML text of what is no array.
    arrays
        By name.
    """

    def __init__(self, record: str, arrays: Mapping[str, Array]) -> None:
        self._record = record
        self._arrays = dict(arrays)

    def record(self, cls: type[T]) -> T:
        """The record as the dataclass that it was written from.

        Raises
        ------
        FileFormatError, InputError
            As :func:`xbarsim.foundation.tomlio.loads`.
        """
        return tomlio.loads(cls, self._record, source="its record")

    def names(self, prefix: str) -> list[str]:
        """The arrays whose names begin so, without the beginning."""
        return sorted(name.removeprefix(prefix) for name in self._arrays if name.startswith(prefix))

    def take(
        self,
        name: str,
        kind: npt.DTypeLike | None = None,
        shape: tuple[int | None, ...] | None = None,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        finite: bool = True,
    ) -> Array:
        """One array, checked.

        Parameters
        ----------
        name
            Its name.
        kind
            Its type; ``None`` for any.
        shape
            Its shape, ``None`` for a dimension of any size; ``None`` for any.
        at_least, at_most
            Bounds of its values.
        finite
            Whether NaN and infinity are refused.

        Raises
        ------
        FileFormatError
            If there is none, or it is not so.
        """
        if name not in self._arrays:
            raise FileFormatError(f"array {name!r} is missing")
        array = self._arrays.pop(name)
        if kind is not None and array.dtype != np.dtype(kind):
            raise FileFormatError(f"array {name!r} must be of type {np.dtype(kind)}, got {array.dtype}")
        if shape is not None and (
            array.ndim != len(shape) or any(w not in (None, s) for w, s in zip(shape, array.shape, strict=True))
        ):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise FileFormatError(f"array {name!r} must have shape ({wanted}), got {array.shape}")
        if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FileFormatError(f"array {name!r} must be finite, got NaN or infinity")
        if array.size and at_least is not None and array.min() < at_least:
            raise FileFormatError(f"array {name!r} must be >= {at_least}, got {array.min()}")
        if array.size and at_most is not None and array.max() > at_most:
            raise FileFormatError(f"array {name!r} must be <= {at_most}, got {array.max()}")
        return array

    def finish(self) -> None:
        """Say that all has been taken.

        Raises
        ------
        FileFormatError
            If an array is left.
        """
        if self._arrays:
            raise FileFormatError(f"it has unknown arrays: {', '.join(map(repr, sorted(self._arrays)))}")


def write_contents(path: str | os.PathLike[str], kind: str, record: Any, arrays: Mapping[str, Array]) -> None:
    """Write a file, whole or not at all.

    Parameters
    ----------
    path
        The file; its folder must exist.
    kind
        What it holds: ``"chip"``, ``"mapped network"`` or ``"crossbar"``.
    record
        A dataclass with what is no array.
    arrays
        By name.

    Raises
    ------
    InputError
        If something in the record cannot be read again, such as a fault model with fields that TOML does not have.
    FileWriteError
        If the file cannot be written.
    """
    try:
        text = tomlio.dumps(record)
        again = tomlio.dumps(tomlio.loads(type(record), text))
    except (FileFormatError, InputError, TypeError, ValueError) as error:
        raise InputError(f"{kind} must have a design and methods that TOML can hold to be saved: {error}") from error
    if again != text:
        raise InputError(f"{kind} must have a design and methods that TOML can hold to be saved: they read differently")
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    about = {"format": f"xbarsim {kind}", "version": _VERSION, "record": text}
    content = safetensors.numpy.save(plain, {**about, "sha256": _sum(kind, text, plain)})
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])  # its metadata comes in random order: sort it
    ordered = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    ordered = ordered.ljust(-(-len(ordered) // 8) * 8)
    write_atomically(path, len(ordered).to_bytes(8, "little") + ordered + content[8 + length :])


@contextmanager
def reading(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Name the file in whatever is wrong with it.

    Raises
    ------
    FileFormatError
        For every error of what it holds.
    """
    try:
        yield
    except (FileFormatError, InputError) as error:
        raise FileFormatError(f"{path} is no valid {kind}: {error}") from error


def read_contents(path: str | os.PathLike[str], kind: str) -> Contents:
    """Read a file.

    Parameters
    ----------
    path
        The file.
    kind
        What it must hold.

    Raises
    ------
    FileFormatError
        If it cannot be read, is cut short, changed or of another kind or version.
    """
    raw = read_bytes(path, kind)
    with reading(path, kind):
        try:
            arrays = safetensors.numpy.load(raw)
            length = int.from_bytes(raw[:8], "little")
            metadata = json.loads(raw[8 : 8 + length]).get("__metadata__") or {}
        except (safetensors.SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise FileFormatError(f"it is cut short, or no safetensors file: {error}") from error
        found = str(metadata.get("format", "")).removeprefix("xbarsim ")
        if found != kind:
            raise FileFormatError(f"it must hold a {kind}, got {f'a {found}' if found else 'something else'}")
        if metadata.get("version") != _VERSION:
            raise FileFormatError(f"its format must have version {_VERSION}, got {metadata.get('version')!r}")
        if set(metadata) != _KEYS:
            raise FileFormatError(f"its metadata must be {', '.join(sorted(_KEYS))}, got {', '.join(sorted(metadata))}")
        if metadata["sha256"] != _sum(kind, metadata["record"], arrays):
            raise FileFormatError("it was changed: it does not have the sha256 that it states")
    return Contents(metadata["record"], arrays)
