"""Checks of user input, and file writes that leave nothing half-written.

The ground floor of the project: every package may use it.
Each check returns the accepted value or raises :class:`InputError` with one sentence that names the
parameter, the bound it must respect and the value it had. What is large is estimated before it is allocated, and what
is read is a regular file of a bounded size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.words import one_of

__all__ = [
    "LARGEST_TEXT",
    "MEMORY_SHARE",
    "FileFormatError",
    "FileWriteError",
    "InputError",
    "as_array",
    "check_array",
    "check_callable",
    "check_choice",
    "check_count",
    "check_depth",
    "check_instance",
    "check_integer",
    "check_memory",
    "check_path",
    "check_plausible",
    "check_real",
    "check_tensor",
    "check_writable",
    "memory",
    "prepare_folder",
    "read_bytes",
    "shown",
    "write_atomically",
]

MEMORY_SHARE = 0.5
"""No single array or file may take more than this share of the memory that the process can have."""

LARGEST_TEXT = 64 * 2**20
"""The most bytes of a file of text: a design, a card, a sweep."""

MOST_LEVELS = 32
"""How deep tables, lists and parts may stand in one another."""

_BLOCK = 2**20  # bytes
_LONGEST_VALUE = 200  # characters of a value in a message
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, of Linux and of most file systems

A = TypeVar("A")


class InputError(ValueError):
    """A parameter is outside its bound; the message names the parameter, the bound and the value."""

    place = ""  # the key of a table of TOML that it is about, where it is known: "mapping.rows"


class FileFormatError(ValueError):
    """A file is truncated, corrupt, or holds keys and types that its format does not have."""

    place = ""  # as of an InputError


class FileWriteError(OSError):
    """A file could not be written; whatever stood at its path before is still there."""


def shown(value: Any) -> str:
    """A value for a message: its ``repr``, cut where it is long, or its type where it has none.

    A ``repr`` is code of others: it may fail (that of an integer of more than 4,300 digits does).
    """
    try:
        text = repr(value)
    except Exception:
        if isinstance(value, int):
            return f"an integer of {value.bit_length()} bits"
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def check_real(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    below: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return `value` as a float if it is a finite real number within the bounds.

    Raises
    ------
    InputError
        If `value` is not a real number, is NaN or infinite, or breaks a bound.
    """
    bounds = []
    if above is not None:
        bounds.append(f"> {above!r}")
    if at_least is not None:
        bounds.append(f">= {at_least!r}")
    if below is not None:
        bounds.append(f"< {below!r}")
    if at_most is not None:
        bounds.append(f"<= {at_most!r}")
    wanted = "a finite number" + (" " + " and ".join(bounds) if bounds else "")
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise InputError(f"{name} must be {wanted}, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond what a float holds
        raise InputError(f"{name} must be {wanted}, got {shown(value)}") from None
    if (
        not np.isfinite(number)
        or (above is not None and not number > above)
        or (at_least is not None and not number >= at_least)
        or (below is not None and not number < below)
        or (at_most is not None and not number <= at_most)
    ):
        raise InputError(f"{name} must be {wanted}, got {number!r}")
    return number


def check_integer(name: str, value: Any, *, at_least: int | None = None, at_most: int | None = None) -> int:
    """Return `value` as an int if it is an integer within the bounds.

    Raises
    ------
    InputError
        If `value` is not an integer (a bool is not one) or breaks a bound.
    """
    bounds = []
    if at_least is not None:
        bounds.append(f">= {shown(at_least)}")
    if at_most is not None:
        bounds.append(f"<= {shown(at_most)}")
    wanted = "an integer" + (" " + " and ".join(bounds) if bounds else "")
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise InputError(f"{name} must be {wanted}, got {shown(value)}")
    number = int(value)
    if (at_least is not None and number < at_least) or (at_most is not None and number > at_most):
        raise InputError(f"{name} must be {wanted}, got {shown(number)}")
    return number


def check_count(name: str, value: Any) -> float:
    """Return `value` as a count of things, or as a mean of such counts: an int where it is whole, else a float.

    Raises
    ------
    InputError
        If `value` is not a finite real number of 0 or more.
    """
    if isinstance(value, Integral):
        return check_integer(name, value, at_least=0)
    number = check_real(name, value, at_least=0.0)
    return int(number) if number.is_integer() else number


_PREFIXES = {"m": 1e-3, "u": 1e-6, "n": 1e-9}


def check_plausible(
    name: str,
    value: Any,
    unit: str,
    prefix: str,
    *,
    most: float,
    least: float | None = None,
    allowed: bool | None = None,
    switch: str = "implausible=True",
) -> float:
    """Return `value` as a float if a real device can have it: what is beyond was mostly given in another unit.

    Parameters
    ----------
    name
        The parameter's name, for the message.
    value
        A finite number of 0 or more.
    unit
        The SI unit that it is in.
    prefix
        The prefix that such values are mostly given with: ``"m"``, ``"u"`` or ``"n"``.
    most, least
        The bounds of what is plausible.
    allowed
        Whether any value is allowed.
    switch
        What allows it, for the message.

    Raises
    ------
    InputError
        Naming the value that was likely meant.
    """
    number = check_real(name, value, at_least=0.0)
    if allowed or ((least is None or number >= least) and number <= most):
        return number
    bounds = f"<= {most:g} {unit}" if least is None else f">= {least:g} and <= {most:g} {unit}"
    meant = number * _PREFIXES[prefix]
    hint = f"; did you mean {number:g} {prefix}{unit} ({meant:g})?" if number > most and meant <= most else ""
    raise InputError(
        f"{name} must be {bounds} to be plausible, got {number!r} {unit}{hint} "
        f"({switch} allows what no real device has)"
    )


def check_choice(name: str, value: Any, choices: Iterable[str], *, listed: str = "") -> str:
    """Return `value` if it is one of `choices`; `listed` is a command that lists them, for the message.

    Raises
    ------
    InputError
        Naming every choice where they are few, else those that are close to the value.
    """
    names = list(choices)
    if not isinstance(value, str) or value not in names:
        raise InputError(f"{name} must be {one_of(value, names, listed=listed, got=shown(value))}")
    return value


def check_instance(name: str, value: Any, kinds: type | tuple[type, ...]) -> None:
    """Raise `InputError` unless `value` is an instance of `kinds`."""
    if not isinstance(value, kinds):
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        raise InputError(
            f"{name} must be of type {' or '.join(k.__name__ for k in wanted)}, "
            f"got {shown(value)} of type {type(value).__name__}"
        )


def check_callable(name: str, value: A) -> A:
    """Return `value` if it can be called.

    Raises
    ------
    InputError
        If it cannot.
    """
    if not callable(value):
        raise InputError(f"{name} must be callable, got {shown(value)} of type {type(value).__name__}")
    return value


def check_depth(name: str, value: Any, *, at_most: int = MOST_LEVELS) -> int:
    """How deep tables, lists and dataclasses stand in one another in `value`; 0 for a plain value.

    Whatever walks through such a value by recursion may rely on the bound.

    Raises
    ------
    InputError
        If they stand deeper than `at_most`.
    """
    level, depth = [value], 0
    while True:
        inside: list[Any] = []
        found = False
        for item in level:
            if isinstance(item, dict):
                inside.extend(item.values())
            elif isinstance(item, list | tuple):
                inside.extend(item)
            elif dataclasses.is_dataclass(item) and not isinstance(item, type):
                inside.extend(getattr(item, field.name, None) for field in dataclasses.fields(item))
            else:
                continue
            found = True
        if not found:
            return depth
        depth += 1
        if depth > at_most:
            raise InputError(f"{name} must nest at most {at_most} levels deep, got more")
        level = inside


@cache
def memory() -> int:
    """Bytes of memory that this process can have: of the machine, or of its control group where that is less."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" for no limit
            sizes.append(int(Path(path).read_text()))
    return min(sizes)


def _size(count: int) -> str:
    if count >= 10**30:
        return f"{shown(count)} B"
    number, units = float(count), ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.3g} {units[0]}"


def check_memory(name: str, what: str, count: int) -> int:
    """Refuse what would not fit into memory, before it is allocated.

    Parameters
    ----------
    name
        The parameter that asks for it.
    what
        What would be allocated, such as ``"10 tiles of 128 x 128 cells"``.
    count
        Its bytes, an estimate: what is certainly needed at once.

    Returns
    -------
    int
        `count`.

    Raises
    ------
    InputError
        If it is more than `MEMORY_SHARE` of :func:`memory`; the message has both numbers.
    """
    most = int(MEMORY_SHARE * memory())
    if count > most:
        raise InputError(
            f"{name} must take at most {_size(most)} ({MEMORY_SHARE:.0%} of this machine's memory), "
            f"got {what}, which takes {_size(count)}"
        )
    return count


def as_array(name: str, value: Any) -> npt.NDArray[Any]:
    """`value` as a NumPy array, in the byte order of this machine; not copied where it is one.

    Parameters
    ----------
    name
        The parameter's name, for the message.
    value
        An array, numbers in sequences, or a torch tensor in main memory that NumPy has the type of.

    Raises
    ------
    InputError
        For what is no array of plain values (objects, rows of different lengths, tensors that NumPy cannot take, masked
        arrays), and for what would take more than its share of memory as float64.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if value.requires_grad:
            raise InputError(f"{name} must not require a gradient, which would be lost: pass its detach()")
        odd = value.layout is not torch.strided or value.is_nested or value.is_quantized
        if odd or value.device.type != "cpu" or value.dtype in (torch.bfloat16, torch.complex32):
            kind = "that is nested" if value.is_nested else f"of {value.layout}, {value.dtype}, on {value.device}"
            raise InputError(f"{name} must be a dense tensor in main memory of a type that NumPy has, got one {kind}")
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{name} must not be masked (the mask would be lost), got a masked array")
    try:
        array = np.asarray(value)
    except Exception as error:  # __array__ is code of others
        raise InputError(f"{name} must be an array of numbers, got {shown(value)}: {first_line(error)}") from error
    # text goes on to the checks of what the array is for, which name its type; objects could hold anything
    if array.dtype.kind in "OVMm":
        raise InputError(f"{name} must be an array of numbers, got type {array.dtype} of {shown(value)}")
    check_memory(name, f"an array of shape {array.shape}", 8 * array.size)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_tensor(name: str, value: A) -> A:
    """Return a torch tensor if it is dense and holds numbers, on whatever device.

    Raises
    ------
    InputError
        For a sparse, nested or quantised one, or one without values (on the meta device).
    """
    tensor: Any = value
    if (
        tensor.is_nested
        or tensor.is_sparse
        or tensor.is_quantized
        or tensor.is_meta
        or "strided" not in str(tensor.layout)
    ):
        kind = "that is nested" if tensor.is_nested else f"of {tensor.layout}, {tensor.dtype}, on {tensor.device}"
        raise InputError(f"{name} must be a dense tensor with values, got one {kind}")
    return value


def first_line(error: BaseException) -> str:
    """What an error says, without paragraphs of advice."""
    return str(error).partition("\n")[0]


def check_array(name: str, value: Any, *, dimensions: int, kind: str) -> npt.NDArray[Any]:
    """Return `value` as an array that is non-empty, finite, and of the wanted kind.

    Parameters
    ----------
    name
        The parameter's name, for the message.
    value
        Anything NumPy can read.
    dimensions
        The number of dimensions the array must have.
    kind
        ``"floating"`` (integers are refused: they are codes, not weights) or ``"integer"``.

    Raises
    ------
    InputError
        Naming what is wrong and the shape, type or position it was found at.
    """
    array = as_array(name, value)
    wanted = f"a non-empty {dimensions}-dimensional array of {kind} numbers"
    if array.ndim != dimensions or array.size == 0:
        raise InputError(f"{name} must be {wanted}, got shape {array.shape}")
    numpy_kind = np.floating if kind == "floating" else np.integer
    if not np.issubdtype(array.dtype, numpy_kind):
        raise InputError(f"{name} must be {wanted}, got type {array.dtype}")
    if kind == "floating" and not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{name} must be finite, got {array[where]} at index {where}")
    return array


def check_path(name: str, value: Any) -> Path:
    """`value` as a path that a file can have; whether there is one is not looked at.

    Raises
    ------
    InputError
        If it is no text or path, is empty, has a null character or one that the file system cannot write, or is longer
        than file systems take.
    """
    text = value
    if isinstance(value, os.PathLike):
        try:
            text = os.fspath(value)
        except Exception as error:  # code of others
            raise InputError(f"{name} must be a path, got {shown(value)}: {first_line(error)}") from error
    if not isinstance(text, str):
        raise InputError(f"{name} must be a path, as text or os.PathLike, got {shown(value)}")
    if not text or "\0" in text:
        raise InputError(f"{name} must be a path, not empty and without null characters, got {shown(text)}")
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError:
        raise InputError(f"{name} must be a path that the file system can write, got {shown(text)}") from None
    if len(raw) > _LONGEST_PATH or max(map(len, raw.split(os.fsencode(os.sep)))) > _LONGEST_NAME:
        raise InputError(
            f"{name} must be a path of at most {_LONGEST_PATH} bytes and {_LONGEST_NAME} a name, got {shown(text)}"
        )
    return Path(text)


def _kind(mode: int) -> str:
    for test, kind in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return kind
    return "something else"


def read_bytes(path: str | os.PathLike[str], what: str, *, at_most: int | None = None) -> bytes:
    """Read a whole file: a regular one, of a bounded size. A pipe without a writer or a device is refused, not read.

    Parameters
    ----------
    path
        The file.
    what
        What it should be, for messages.
    at_most
        The most bytes it may have; ``None`` for `MEMORY_SHARE` of the memory.

    Raises
    ------
    InputError
        If `path` is none.
    FileFormatError
        If it cannot be read, naming `what` it should have been, or is larger.
    """
    target = check_path("path", path)
    most = int(MEMORY_SHARE * memory()) if at_most is None else at_most
    try:
        # without waiting: a pipe would wait for its writer, and between a look and a read another file may come
        with open(os.open(target, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            about = os.fstat(stream.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise OSError(errno.EINVAL, f"it is {_kind(about.st_mode)}, not a regular file")
            if about.st_size > most:
                raise OSError(errno.EFBIG, f"it must have at most {_size(most)}, got {_size(about.st_size)}")
            raw = stream.read(about.st_size + 1)
            while len(raw) > about.st_size and len(raw) <= most:  # some files say that they are empty and are not
                more = stream.read(_BLOCK)
                if not more:
                    break
                raw += more
    except OSError as error:
        raise FileFormatError(f"cannot read {what} from {target}: {error.strerror}") from error
    if len(raw) > most:
        raise FileFormatError(f"cannot read {what} from {target}: it must have at most {_size(most)}, got more")
    return raw


def check_writable(path: str | os.PathLike[str]) -> Path:
    """`path` as one that can be written: nothing, or a regular file, is there.

    Raises
    ------
    InputError
        If `path` is none.
    FileWriteError
        If a folder, pipe or device is there, which a write would wait for or replace.
    """
    target = check_path("path", path)
    try:
        mode = target.stat().st_mode
    except OSError:  # not there, or not to be looked at: writing says why
        return target
    if not stat.S_ISREG(mode):
        raise FileWriteError(errno.EINVAL, f"cannot write {target}: it is {_kind(mode)}, not a regular file")
    return target


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` so that the file is either complete or untouched.

    Raises
    ------
    InputError
        If `path` is none.
    FileWriteError
        If the folder does not exist, is read-only, or is full, or something else than a file is at `path`; no partial
        file is left.
    """
    target = check_writable(path)
    temporary: str | None = None
    try:
        # a name as long as can be has no room for what makes the temporary one its own
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes the file private; a result is not
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise FileWriteError(error.errno, f"cannot write {target}: {error.strerror}") from error


def prepare_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder, with those above it, and try that files can be written into it.

    Raises
    ------
    InputError
        If `folder` is no path.
    FileWriteError
        If they cannot.
    """
    path = check_path("folder", folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        raise FileWriteError(error.errno, f"cannot write into folder {path}: {error.strerror}") from error
    return path
