"""What stored networks and images are, remembered from sweep to sweep: to know it anew, all of them must be loaded.

A task's id is made of the SHA-256 of its network and images (:attr:`xbarsim.sweep.Subject.identity`). For what comes
with the project or lies in the data folder they are remembered in a file of the user's cache folder, with a fingerprint
of everything that they could have been loaded from: path, size, times and number of each file of the data folder, of
the stored networks and of the code that loads them, and the versions of the libraries. If one of these differs, or the
file is not there, or not whole, everything is loaded as if nothing had been remembered. Code and files of a user's
own are never remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from xbarsim.data import data_folder
from xbarsim.foundation.jsonio import parse_object
from xbarsim.foundation.named import names_code
from xbarsim.foundation.validation import FileWriteError, write_atomically

__all__ = ["remembered"]

_KEYS = ("name", "data_set", "network", "images", "labels", "calibration")
_MOST = 500  # entries kept
_PACKAGE = Path(__file__).resolve().parents[1]
_CODE = ("data", "models", "foundation", "sweep")  # rooms whose code is run when a subject is loaded


def remembered(
    network: str,
    data_set: str | None,
    images: int | None,
    calibration: int | None,
    load: Callable[[], dict[str, str]],
) -> dict[str, str]:
    """The identity of a subject that is named, without loading it where it is known.

    Parameters
    ----------
    network, data_set, images, calibration
        As those of :class:`xbarsim.sweep.Task`.
    load
        Loads it.
    """
    if network.endswith(".onnx") or names_code(network):
        return load()
    named = json.dumps([_fingerprint(), network, data_set, images, calibration])
    key = hashlib.sha256(named.encode()).hexdigest()
    known = _read()
    if key in known:
        return known[key]
    made = load()
    if _is_of_the_project(network):
        known = {**_read(), key: made}
        _write({each: known[each] for each in list(known)[-_MOST:]})
    return made


def _is_of_the_project(network: str) -> bool:
    """Whether a name is not one that a user's code has given to a network of its own."""
    from xbarsim.models import MODELS

    if network not in MODELS:
        return False
    card = MODELS[network]
    return all(function.__module__.startswith("xbarsim.") for function in (card.load, card.test_set))


def _place() -> Path:
    """The file, by the rule of the XDG base directory specification."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "xbarsim" / "identities.json"


def _read() -> dict[str, dict[str, str]]:
    place = _place()
    try:
        content = parse_object(place.read_text(encoding="utf-8"), source=str(place))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in content.items() if _whole(key, value)}


def _whole(key: object, value: object) -> bool:
    """Whether an entry is one: a text for each key, and no other key."""
    if not isinstance(key, str) or not isinstance(value, dict) or set(value) != set(_KEYS):
        return False
    return all(isinstance(text, str) for text in value.values())


def _write(known: dict[str, dict[str, str]]) -> None:
    place = _place()
    with contextlib.suppress(OSError, FileWriteError):  # a folder that cannot be written to costs time alone
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, json.dumps(known, indent=1).encode())


@cache
def _fingerprint() -> str:
    """Everything that stored networks and images could be loaded from, as it is when this process first asks."""
    digest = hashlib.sha256(f"{sys.version} {platform.machine()}\n".encode())
    for name in ("numpy", "torch", "scikit-learn", "safetensors"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    folders = [_PACKAGE / name for name in _CODE]
    with contextlib.suppress(FileNotFoundError):
        folders.append(data_folder())
    for folder in folders:
        for path in _files(folder):
            with contextlib.suppress(OSError):
                of = os.stat(path)
                digest.update(f"{path} {of.st_size} {of.st_mtime_ns} {of.st_ctime_ns} {of.st_ino}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (os.path.join(place, name) for name in sorted(files))
