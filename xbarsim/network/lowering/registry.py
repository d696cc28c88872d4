"""Which type of module is lowered by what, and which function is read by what: the project's own, and users'."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, cast

from torch import nn

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.network.lowering.attention import LOWERINGS as ATTENTION
from xbarsim.network.lowering.base import Lowering
from xbarsim.network.lowering.cells import LOWERINGS as CELLS
from xbarsim.network.lowering.products import READERS, ProductFunction
from xbarsim.network.lowering.recurrent import LOWERINGS as RECURRENT

__all__ = ["Registration", "handled_types", "lowering_of", "register"]

_LOWERINGS: dict[type[nn.Module], Lowering] = {
    lowering.handles: lowering for lowering in (*RECURRENT, *CELLS, *ATTENTION)
}


class Registration:
    """What was registered; :meth:`remove` it, or leave its ``with`` block, to have everything as it was before.

    Parameters
    ----------
    table
        Where it was entered.
    before
        What stood there until now, ``None`` for nothing.
    """

    def __init__(self, table: dict[Any, Any], before: Mapping[Any, Any]) -> None:
        self._table = table
        self._before = before

    def remove(self) -> None:
        """Have everything as it was before."""
        for key, entry in self._before.items():
            if entry is None:
                self._table.pop(key, None)
            else:
                self._table[key] = entry

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


@entrance
def register(entry: Lowering | ProductFunction) -> Registration:
    """Lower a type of module, or read calls of a function, by this from now on, in this process.

    Parameters
    ----------
    entry
        Yours. It takes the place of what handled its type or functions before.

    Returns
    -------
    Registration
        To undo it with.

    Raises
    ------
    InputError
        If `entry` is neither, or handles no type of module or no function.
    """
    check_instance("entry", entry, (Lowering, ProductFunction))
    table: dict[Any, Any]
    keys: tuple[Any, ...]
    if isinstance(entry, Lowering):
        handles = getattr(entry, "handles", None)
        if not (isinstance(handles, type) and issubclass(handles, nn.Module)):
            raise InputError(f"handles must be a type of module, got {handles!r}")
        table, keys = cast(dict[Any, Any], _LOWERINGS), (handles,)
    else:
        functions = getattr(entry, "functions", None)
        if not (isinstance(functions, tuple) and functions and all(map(callable, functions))):
            raise InputError(f"functions must be a tuple of functions, got {functions!r}")
        table, keys = cast(dict[Any, Any], READERS), functions
    registration = Registration(table, {key: table.get(key) for key in keys})
    for key in keys:
        table[key] = entry
    return registration


def lowering_of(module: nn.Module) -> Lowering | None:
    """What lowers this module: exactly its type, and computing what the type computes; or ``None``."""
    return None if "forward" in vars(module) else _LOWERINGS.get(type(module))


def handled_types() -> tuple[str, ...]:
    """Names of the types of module that are taken apart."""
    return tuple(kind.__name__ for kind in _LOWERINGS)
