"""Public names of a package that are loaded on first use, so that importing it costs nothing heavy.

The only place of the project that imports its own modules by name; ``tests/test_house.py`` reads the tables given to
:func:`attach` and counts them as imports.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from xbarsim.foundation.extras import torch_is_missing

__all__ = ["attach"]


def attach(
    package: str, homes: Mapping[str, str], rooms: tuple[str, ...] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    package
        Its ``__name__``.
    homes
        The module, relative to the package, that each public name stands in.
    rooms
        Modules of the package that are public themselves.

    Returns
    -------
    tuple
        ``__getattr__`` and ``__dir__``.

    Examples
    --------
    >>> load, names = attach("xbarsim.foundation", {"InputError": "validation"})
    >>> load("InputError").__name__, names()
    ('InputError', ['InputError'])
    """

    def load(name: str) -> Any:
        if name not in homes and name not in rooms:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(f"{package}.{homes.get(name, name)}")
        except ModuleNotFoundError as error:
            if error.name == "torch":
                raise torch_is_missing(f"{package}.{name}") from error
            raise
        return getattr(module, name) if name in homes else module

    return load, lambda: sorted([*homes, *rooms])
