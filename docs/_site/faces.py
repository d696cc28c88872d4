"""The public names of the project, each with the page of the reference that it stands on.

A name is public where the face of a room lists it (``__all__``), and stands on that room's page. The face of the whole
project names some of them again: those stand on the page of their room.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.pycode import ModuleAnalyzer

NOT_HERE = ("xbarsim.cli", "xbarsim.experiments")  # commands have a page of their own; scripts are run
ALSO = (
    "xbarsim.devices.faults",
    "xbarsim.foundation.intervals",
    "xbarsim.foundation.threads",
    "xbarsim.foundation.validation",
    "xbarsim.models.torchvision",
)
"""Faces below a room that parts of a user's own need: what their rooms do not name already."""


def rooms() -> list[str]:
    """The modules whose public names are documented, each on a page of its own."""
    import xbarsim

    found = [f"xbarsim.{module.name}" for module in pkgutil.iter_modules(xbarsim.__path__) if module.ispkg]
    faces = [name for name in found if name not in NOT_HERE and hasattr(importlib.import_module(name), "__all__")]
    return [*faces, *ALSO]


def names_of(room: str) -> list[str]:
    """The names that stand on a room's page: all that its face lists, but those of a room above it."""
    face = importlib.import_module(room)
    above = room.rsplit(".", 1)[0]
    known = getattr(importlib.import_module(above), "__all__", ()) if above.count(".") else ()
    return [name for name in face.__all__ if name not in known]


@functools.cache
def imports_of(module: str) -> dict[str, tuple[str, str]]:
    """What a module imports by ``from ... import``: of each name here, the module and the name there."""
    text = Path(str(importlib.import_module(module).__file__)).read_text()
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def home_of(room: str, name: str) -> str:
    """The module that defines a name, by what the face's own text imports."""
    while name in imports_of(room):
        room, name = imports_of(room)[name]
    return room


def kind_of(value: Any) -> str:
    """What to call it: class, exception, function or data."""
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if inspect.isroutine(value) else "data"


def comment_of(room: str, name: str) -> str:
    """What the source says of a value that is no class or function: the comment before it, or the text behind."""
    docs = ModuleAnalyzer.for_module(home_of(room, name)).find_attr_docs()
    return "\n".join(docs.get(("", name), ())).strip()


def value_of(value: Any) -> str:
    """A value as it is written, in one line; nothing where it is long or an address."""
    text = repr(value)
    return (
        ""
        if len(text) > 300 or " at 0x" in text or "Path(" in text or text.startswith(("<", "mappingproxy("))
        else text
    )


@functools.cache
def addresses() -> dict[str, str]:
    """Of every dotted name that a public class or function goes by, the one that the reference has it under."""
    found: dict[str, str] = {}
    for room in rooms():
        face: ModuleType = importlib.import_module(room)
        for name in names_of(room):
            value = getattr(face, name)
            if hasattr(value, "__module__") and hasattr(value, "__qualname__"):
                found[f"{value.__module__}.{value.__qualname__}"] = f"{room}.{name}"
            found[f"{home_of(room, name)}.{name}"] = f"{room}.{name}"
    top = importlib.import_module("xbarsim")
    for name in top.__all__:
        value = getattr(top, name)
        found[f"xbarsim.{name}"] = found[f"{value.__module__}.{value.__qualname__}"]
    return found


def summary_of(text: str) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join(text.partition("\n\n")[0].split())


def page(room: str) -> str:
    """The page of a room, in reStructuredText: what it is for, a table of its names, and each with its text."""
    face = importlib.import_module(room)
    names = names_of(room)
    lines = [
        room,
        "=" * len(room),
        "",
        f".. automodule:: {room}",
        "   :no-members:",
        "",
        f".. currentmodule:: {room}",
        "",
    ]
    kinds = {name: kind_of(getattr(face, name)) for name in names}
    lines += [".. list-table::", "   :widths: 30 70", "   :class: names", ""]
    for name in names:  # not by autosummary, which reads every docstring a second time
        role = "func" if kinds[name] == "function" else "obj"
        said = inspect.getdoc(getattr(face, name)) or "" if kinds[name] != "data" else comment_of(room, name)
        lines += [f"   * - :py:{role}:`{name}`", f"     - {summary_of(said)}"]
    lines.append("")
    for title, kind in (("Classes", "class"), ("Functions", "function"), ("Exceptions and warnings", "exception")):
        chosen = [name for name in names if kinds[name] == kind]
        lines += ["", title, "-" * len(title), ""] if chosen else []
        for name in chosen:
            lines += [f".. auto{kind}:: {name}", *([] if kind == "function" else ["   :members:"]), ""]
    chosen = [name for name in names if kinds[name] == "data"]
    lines += ["", "Values", "------", ""] if chosen else []
    for name in chosen:
        said, value = comment_of(room, name), value_of(getattr(face, name))
        if not said:
            raise ValueError(
                f"{room}.{name} is public, but no comment or text in {home_of(room, name)} says what it is"
            )
        lines += [f".. py:data:: {name}", *([f"   :value: {value}"] if value else []), ""]
        lines += [f"   {line}" for line in said.splitlines()] + [""]
    return "\n".join(lines) + "\n"


def index() -> str:
    """The first page of the reference: every room, and the names that the face of the project has besides."""
    top = importlib.import_module("xbarsim")
    known = addresses()
    lines = [
        "API reference",
        "=============",
        "",
        "Every public name, room by room. Those used most are also in ``xbarsim`` itself:",
        "",
    ]
    for name in top.__all__:
        role = "func" if kind_of(getattr(top, name)) == "function" else "class"
        lines.append(f"- ``xbarsim.{name}``: :py:{role}:`{known[f'xbarsim.{name}']}`")
    lines += ["", ".. toctree::", "   :maxdepth: 1", ""]
    lines += [f"   {file_of(room)}" for room in rooms()]
    lines += ["   commands", ""]
    return "\n".join(lines)


def file_of(room: str) -> str:
    """The name of a room's page, without its ending."""
    return room.removeprefix("xbarsim.").replace(".", "_")


def write(folder: Path) -> None:
    """Write the pages of the reference, and remove those of rooms that are no more."""
    folder.mkdir(exist_ok=True)
    texts = {f"{file_of(room)}.rst": page(room) for room in rooms()} | {"index.rst": index()}
    texts["commands.rst"] = (
        "Commands\n========\n\n"
        "What ``xbarsim`` can be told; ``xbarsim COMMAND --help`` says the same.\n\n.. commands::\n"
    )
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:  # what did not change is not read again
            path.write_text(text)
    for path in folder.iterdir():
        if path.name not in texts:
            path.unlink()
