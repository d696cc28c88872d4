"""What a user names that is not of the project: ``"module:name"``, or ``"file.py:name"``.

Naming code runs it. Nothing here is called for a file that can be a stranger's: only for names from the command line, a
sweep file, or a call in Python.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from xbarsim.foundation.validation import InputError, first_line

__all__ = ["import_code", "look_in", "named_callable", "named_class", "named_value", "names_code"]


def names_code(text: str) -> bool:
    """Whether a text is ``"module:name"`` or ``"file.py:name"``."""
    module, _, name = text.rpartition(":")
    return bool(module) and name.isidentifier()


def look_in(folder: str | os.PathLike[str]) -> None:
    """Look for modules in a folder too, after all others: nothing in it hides a module that there is already.

    Worker processes of this machine look there as well.
    """
    place = str(Path(folder).resolve())
    if place not in sys.path:
        sys.path.append(place)
        importlib.invalidate_caches()


def import_code(parameter: str, module: str, *, folder: str | os.PathLike[str] | None = None) -> ModuleType:
    """Import a module that a user named, or a file.

    Parameters
    ----------
    parameter
        What messages call the parameter that names it.
    module
        The name of a module, or the path of a file that ends in ``.py``, whose module is called like the file.
    folder
        Where the path of a file starts, and where modules are looked for besides; ``None`` for the working folder and
        nowhere else; see :func:`look_in`.

    Raises
    ------
    InputError
        If there is no such module or file, it cannot be imported, or a file is called like another module.
    """
    path: Path | None = None
    name = module
    if module.endswith(".py"):
        path = (Path(folder or ".") / module).resolve()
        if not path.is_file():
            raise InputError(f"{parameter} must name a file that there is, got {str(path)!r}")
        name = path.stem
    if path is not None:
        look_in(path.parent)
    elif folder is not None:
        look_in(folder)
    try:
        found = importlib.import_module(name)
    except Exception as error:  # whatever the module does as it is imported
        raise InputError(
            f"{parameter} must name a module that can be imported, got {module!r}: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error
    if path is not None and Path(getattr(found, "__file__", None) or "").resolve() != path:
        where = getattr(found, "__file__", None) or "a part of Python"
        raise InputError(
            f"{parameter} must name a file that is called unlike any other module, got {module!r}: "
            f"{name!r} is {where}; give the file another name"
        )
    return found


def _named(parameter: str, text: str, folder: str | os.PathLike[str] | None) -> Any:
    module, _, name = text.rpartition(":")
    if not names_code(text):
        raise InputError(f"{parameter} must name a function as 'module:function', got {text!r}")
    found = import_code(parameter, module, folder=folder)
    if not hasattr(found, name):
        near = difflib.get_close_matches(name, [known for known in vars(found) if not known.startswith("_")], n=1)
        raise InputError(
            f"{parameter} must name a function as 'module:function', got {text!r}: there is no such name in it"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )
    return getattr(found, name)


def named_callable(parameter: str, text: str, *, folder: str | os.PathLike[str] | None = None) -> Callable[..., Any]:
    """What ``"module:name"`` or ``"file.py:name"`` names.

    Parameters
    ----------
    parameter
        What messages call the parameter.
    text
        The name.
    folder
        As in :func:`import_code`.

    Raises
    ------
    InputError
        If there is no such module, or nothing in it that can be called by that name.
    """
    found = _named(parameter, text, folder)
    if not callable(found):
        raise InputError(f"{parameter} must name a function as 'module:function', got {text!r}: it cannot be called")
    result: Callable[..., Any] = found
    return result


def named_class(parameter: str, text: str, base: type, *, folder: str | os.PathLike[str] | None = None) -> type:
    """The class that ``"module:Class"`` or ``"file.py:Class"`` names, which is a kind of `base`.

    Parameters
    ----------
    parameter, text, folder
        As in :func:`named_callable`.
    base
        What the class must be derived from.

    Raises
    ------
    InputError
        If there is none, or it is of another kind.
    """
    found: Any = named_callable(parameter, text, folder=folder)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InputError(f"{parameter} must name a class derived from {base.__name__}, got {text!r}, which is none")
    kind: type = found
    return kind


def named_value(parameter: str, text: str, base: type, *, folder: str | os.PathLike[str] | None = None) -> Any:
    """What ``"module:name"`` or ``"file.py:name"`` names: a `base`, or a class of such that needs nothing to be made.

    Parameters
    ----------
    parameter, text, folder
        As in :func:`named_callable`.
    base
        What it must be.

    Raises
    ------
    InputError
        If it is something else, or a class whose fields do not all have a default.
    """
    found = _named(parameter, text, folder)
    if isinstance(found, type) and issubclass(found, base):
        if inspect.isabstract(found):
            raise InputError(f"{parameter} must name a {base.__name__} that is complete, got {text!r}, an abstract one")
        needed = [field.name for field in fields(found) if _needs(field)] if is_dataclass(found) else []
        if needed:
            raise InputError(
                f"{parameter} must name a {base.__name__} that needs no settings, got {text!r}, which needs "
                f"{', '.join(needed)}: name one that is made, such as NAME = {found.__name__}(...) in the module"
            )
        found = found()
    if not isinstance(found, base):
        raise InputError(f"{parameter} must name a {base.__name__}, got {text!r}, which is none")
    return found


def _needs(field: Field[Any]) -> bool:
    return field.init and field.default is MISSING and field.default_factory is MISSING
