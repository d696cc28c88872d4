"""Packed files that others may have made: unpacked no further than to the size that is wanted of them."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import FileFormatError, read_bytes

__all__ = ["check_archive", "gunzip", "read_npz"]

_SMALL = 64 * 2**20  # bytes: an archive that unpacks to no more is taken whatever its ratio
# Whatever a flipped or missing byte can make zipfile, lzma and NumPy raise.
_READ_ERRORS = (
    FileFormatError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, struct.error, EOFError, KeyError, MemoryError,
    NotImplementedError, OSError, OverflowError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
_MOST_TIMES = 100  # lists of positions do not pack better; deflate reaches 1,032


def gunzip(raw: bytes, *, size: int, source: str) -> bytes:
    """The content of a gzip file that must hold so many bytes; not more than these are ever unpacked.

    Raises
    ------
    FileFormatError
        If it is truncated or corrupt, or holds fewer or more bytes.
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(raw, size + 1)
    except zlib.error as error:
        raise FileFormatError(f"cannot unpack {source}: {error}") from error
    if len(content) != size:
        got = "more" if len(content) > size else f"{len(content)}"
        raise FileFormatError(f"{source} must unpack to {size} bytes, got {got}")
    if not unpacker.eof:
        raise FileFormatError(f"cannot unpack {source}: its end is missing")
    return content


def check_archive(raw: bytes, *, source: str) -> None:
    """Refuse a zip archive, such as an npz file, that unpacks to far more than it takes.

    Raises
    ------
    FileFormatError
        If it is no archive, or says that it unpacks to more than 64 MiB and more than 100 times its size.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError) as error:
        raise FileFormatError(f"{source} is not an archive, or is corrupt: {error}") from error
    most = max(_SMALL, _MOST_TIMES * len(raw))
    if unpacked > most:
        raise FileFormatError(
            f"{source} must unpack to at most {most} bytes ({_MOST_TIMES} times its size, or 64 MiB), got {unpacked}"
        )


def read_npz(
    path: str | os.PathLike[str], what: str, *, digests: Mapping[str, str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an npz file, by name; nothing is unpickled.

    Parameters
    ----------
    path
        The file.
    what
        What it holds, in words, for messages.
    digests
        The arrays that are read, each with how the sha256 of its bytes begins; ``None`` for all that there are.

    Raises
    ------
    FileFormatError
        If it cannot be read, is no npz file, is truncated or corrupt, unpacks to too much, holds objects, or lacks an
        array or holds another in its place.
    """
    raw = read_bytes(path, what)
    try:
        check_archive(raw, source=str(path))
        with np.load(io.BytesIO(raw), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], order="C") for name in digests or file.files}
    except _READ_ERRORS as error:
        name = os.path.basename(path)
        raise FileFormatError(f"cannot read {what} from {path}: {name} is not a valid npz file: {error}") from error
    for name, expected in (digests or {}).items():
        if not hashlib.sha256(arrays[name].tobytes()).hexdigest().startswith(expected):
            raise FileFormatError(f"{path}: {name} is not that of {what}: its sha256 must begin {expected[:8]}")
    return arrays
