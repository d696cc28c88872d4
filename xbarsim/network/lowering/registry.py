"""Which type of module is lowered by what: those that come with the project, and those of users."""

from __future__ import annotations

from types import TracebackType

from torch import nn

from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.network.lowering.base import Lowering

__all__ = ["Registration", "handled_types", "lowering_of", "register"]

_LOWERINGS: dict[type[nn.Module], Lowering] = {}


class Registration:
    """A registered lowering; :meth:`remove` it, or leave its ``with`` block, to have the type as it was before.

    Parameters
    ----------
    handles
        The type of module.
    before
        What lowered it until now, or ``None``.
    """

    def __init__(self, handles: type[nn.Module], before: Lowering | None) -> None:
        self._handles = handles
        self._before = before

    def remove(self) -> None:
        """Lower the type again as it was before."""
        if self._before is None:
            _LOWERINGS.pop(self._handles, None)
        else:
            _LOWERINGS[self._handles] = self._before

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


def register(lowering: Lowering) -> Registration:
    """Lower a type of module by this from now on, in this process.

    Parameters
    ----------
    lowering
        Yours. It takes the place of what lowered its type before.

    Returns
    -------
    Registration
        To undo it with.

    Raises
    ------
    InputError
        If `lowering` is none, or handles no type of module.
    """
    check_instance("lowering", lowering, Lowering)
    handles = getattr(lowering, "handles", None)
    if not (isinstance(handles, type) and issubclass(handles, nn.Module)):
        raise InputError(f"handles must be a type of module, got {handles!r}")
    registration = Registration(handles, _LOWERINGS.get(handles))
    _LOWERINGS[handles] = lowering
    return registration


def lowering_of(module: nn.Module) -> Lowering | None:
    """What lowers this module: exactly its type, and computing what the type computes; or ``None``."""
    return None if "forward" in vars(module) else _LOWERINGS.get(type(module))


def handled_types() -> tuple[str, ...]:
    """Names of the types of module that are taken apart."""
    return tuple(kind.__name__ for kind in _LOWERINGS)
