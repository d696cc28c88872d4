"""Checks of user input, and file writes that leave nothing half-written.

The ground floor of the project: it imports nothing of ours, and every package may use it.
Each check returns the accepted value or raises :class:`InputError` with one sentence that names the
parameter, the bound it must respect and the value it had.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "FileFormatError",
    "FileWriteError",
    "InputError",
    "check_array",
    "check_choice",
    "check_count",
    "check_instance",
    "check_integer",
    "check_plausible",
    "check_real",
    "prepare_folder",
    "read_bytes",
    "write_atomically",
]


class InputError(ValueError):
    """A parameter is outside its bound; the message names the parameter, the bound and the value."""


class FileFormatError(ValueError):
    """A file is truncated, corrupt, or holds keys and types that its format does not have."""


class FileWriteError(OSError):
    """A file could not be written; whatever stood at its path before is still there."""


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
        raise InputError(f"{name} must be {wanted}, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond what a float holds
        raise InputError(f"{name} must be {wanted}, got {value!r}") from None
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
        bounds.append(f">= {at_least}")
    if at_most is not None:
        bounds.append(f"<= {at_most}")
    wanted = "an integer" + (" " + " and ".join(bounds) if bounds else "")
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise InputError(f"{name} must be {wanted}, got {value!r}")
    number = int(value)
    if (at_least is not None and number < at_least) or (at_most is not None and number > at_most):
        raise InputError(f"{name} must be {wanted}, got {number}")
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


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises
    ------
    InputError
        Naming every choice.
    """
    names = list(choices)
    if not isinstance(value, str) or value not in names:
        raise InputError(f"{name} must be one of {', '.join(map(repr, names))}, got {value!r}")
    return value


def check_instance(name: str, value: Any, kinds: type | tuple[type, ...]) -> None:
    """Raise `InputError` unless `value` is an instance of `kinds`."""
    if not isinstance(value, kinds):
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        raise InputError(
            f"{name} must be of type {' or '.join(k.__name__ for k in wanted)}, "
            f"got {value!r} of type {type(value).__name__}"
        )


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
    array = np.asarray(value)
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


def read_bytes(path: str | os.PathLike[str], what: str) -> bytes:
    """Read a whole file.

    Raises
    ------
    FileFormatError
        If it cannot be read, naming `what` it should have been.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileFormatError(f"cannot read {what} from {path}: {error.strerror}") from error


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` so that the file is either complete or untouched.

    Raises
    ------
    FileWriteError
        If the folder does not exist, is read-only, or is full; no partial file is left.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
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
    FileWriteError
        If they cannot.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        raise FileWriteError(error.errno, f"cannot write into folder {path}: {error.strerror}") from error
    return path
