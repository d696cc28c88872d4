"""The order of the house: an import goes down the list of floors, never up, and never in a circle.

Checked file by file: imports inside functions and under ``TYPE_CHECKING`` count like any other, and so do the tables
of names that packages load on first use.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.test_repository import LIBRARY, ROOT, module_name

# From the ground up.
FLOORS = (
    "foundation",
    "devices",
    "mapping",
    "circuit",
    "design",
    "engine",
    "die",
    "mitigation",
    "cost",
    "network",
    "sequences",
    "data",
    "models",
    "training",
    "compress",
    "sweep",
    "plot",
    "testing",
    "experiments",
    "cli",
)
LEVEL = {room: level for level, room in enumerate(FLOORS)}
# The face of the project loads everything on first use, and so is above all; `python -m xbarsim` calls cli.
FACES = ("xbarsim", "xbarsim.__main__")
MAX_LINES = 600

MODULES = {module_name(path): path for path in LIBRARY}


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "xbarsim"


def resolve(name: str, modules: Iterable[str]) -> str | None:
    """The module of ours that a dotted name stands in: itself, or what it is a name of."""
    known = set(modules)
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def imported(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    """Dotted names that a file imports, with the line; those of lazy tables too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Dict):
            for value in node.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield f"{package}.{value.value}?", node.lineno  # "?": only if there is such a module


def edges(sources: Mapping[str, str], packages: set[str]) -> dict[str, dict[str, int]]:
    """For each module, the modules of ours that it imports and the line where; from the text of each."""
    found: dict[str, dict[str, int]] = {}
    for module, text in sources.items():
        package = module if module in packages else module.rpartition(".")[0]
        tree = ast.parse(text)
        lazy = "attach(__name__" in text
        here: dict[str, int] = {}
        for name, line in imported(tree, package):
            if name.endswith("?"):
                name = name[:-1]
                if not lazy or name not in sources:
                    continue
            if not is_ours(name):
                continue
            target = resolve(name, sources)
            if target is not None and target != module:
                here.setdefault(target, line)
        found[module] = here
    return found


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def upward(graph: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Imports that go up the house."""
    wrong = []
    for module, targets in graph.items():
        if module in FACES:
            continue
        for target, line in targets.items():
            own, other = room(module), room(target)
            if target in FACES and own not in ("experiments", "cli"):
                wrong.append(f"{module}:{line} imports the face of the project, {target}")
            elif own is not None and other is not None and LEVEL[other] > LEVEL[own]:
                wrong.append(f"{module}:{line} imports {target}, which stands above it")
    return wrong


def circles(graph: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """Groups of files that import each other, directly or in a circle (strongly connected components, Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in graph.get(module, ()):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            members = []
            while True:
                members.append(stack.pop())
                if members[-1] == module:
                    break
            if len(members) > 1:
                found.append(sorted(members))

    for module in graph:
        if module not in index:
            visit(module)
    return found


PACKAGES = {module_name(path) for path in LIBRARY if path.name == "__init__.py"}
GRAPH = edges({module: path.read_text() for module, path in MODULES.items()}, PACKAGES)


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in MODULES if module not in FACES} == set(LEVEL)


def test_no_import_goes_up() -> None:
    wrong = upward(GRAPH)
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    found = circles(GRAPH)
    assert not found, "\n".join(" <-> ".join(members) for members in found)


def test_the_guard_sees_what_it_must() -> None:
    sources = {
        "xbarsim": "",
        "xbarsim.cost": "from xbarsim.cost.report import Report",
        "xbarsim.cost.report": "def f():\n    from xbarsim.cost import totals",
        "xbarsim.cost.totals": "import xbarsim.cost.report",
        "xbarsim.engine": "from xbarsim.foundation.lazy import attach\nattach(__name__, {'Plan': 'plans'})",
        "xbarsim.engine.plans": "if TYPE_CHECKING:\n    from xbarsim.network import Chip",
        "xbarsim.network": "Chip = 1",
        "xbarsim.foundation.lazy": "",
    }
    graph = edges(sources, {"xbarsim", "xbarsim.cost", "xbarsim.engine", "xbarsim.network"})
    assert graph["xbarsim.engine"] == {"xbarsim.foundation.lazy": 1, "xbarsim.engine.plans": 2}
    assert upward(graph) == ["xbarsim.engine.plans:2 imports xbarsim.network, which stands above it"]
    assert circles(graph) == [["xbarsim.cost.report", "xbarsim.cost.totals"]]


def dynamic_imports(tree: ast.AST) -> Iterator[int]:
    """Lines that import a module by a name that may be ours."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called not in ("importlib.import_module", "import_module", "__import__", "importlib.__import__"):
            continue
        name = node.args[0] if node.args else None
        if isinstance(name, ast.Constant) and isinstance(name.value, str) and not is_ours(name.value):
            continue
        yield node.lineno


# Modules that may import by a name: the one that makes lazy faces (its tables are read above), and the one that loads
# what a user names.
MAY_IMPORT_BY_NAME = {"xbarsim.foundation.lazy", "xbarsim.foundation.named"}


def test_nothing_of_ours_is_imported_by_name() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for module, path in MODULES.items()
        if module not in MAY_IMPORT_BY_NAME
        for line in dynamic_imports(ast.parse(path.read_text()))
    ]
    assert not wrong, "\n".join(wrong)
    assert list(dynamic_imports(ast.parse("importlib.import_module('xbarsim.cost')"))) == [1]
    assert list(dynamic_imports(ast.parse("__import__(name)"))) == [1]
    assert not list(dynamic_imports(ast.parse("importlib.import_module('pandas')")))


def test_names_loaded_by_what_a_user_names_are_never_ours() -> None:
    """Strings of the library that name a function of ours as a user would, ``"module:function"``, are imports too."""
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("xbarsim."):
                name, colon, _ = node.value.partition(":")
                if colon and name in MODULES:
                    assert LEVEL[room(name) or ""] <= LEVEL[room(module) or ""], (module, node.value)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_or_say_why(path: Path) -> None:
    """At most 600 lines, or a sentence "One long file because ..." at the head of the file."""
    text = path.read_text()
    count = text.count("\n") + 1
    if count > MAX_LINES:
        head = ast.get_docstring(ast.parse(text)) or ""
        assert "One long file because" in head, f"{count} lines"
