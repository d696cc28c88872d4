"""The rules of the house: imports run one way, packages are what pyproject says, and libraries keep quiet."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("devices", "mapping", "experiments")  # folders at the top that are packages of xbarsim
HEAVY = ("torch", "matplotlib", "pandas", "sklearn")


def sources(folder: str) -> Iterator[Path]:
    """Python files of a folder at the top, not through links."""
    for place, folders, files in os.walk(ROOT / folder, followlinks=False):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(place) / name for name in sorted(files) if name.endswith(".py"))


LIBRARY = sorted(path for folder in ("xbarsim", *ROOMS) for path in sources(folder))


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] in ROOMS:
        parts = ["xbarsim", *parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module_name(path).split(".")
                if path.name != "__init__.py":
                    package = package[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            yield base, node.lineno
            # `from xbarsim import devices` imports a room too
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def room_of(module: str) -> str | None:
    """The room a module of ours belongs to; ``"floor"`` for what every room may use."""
    parts = module.split(".")
    if parts[0] != "xbarsim":
        return None
    if len(parts) > 1 and parts[1] in ROOMS:
        return parts[1]
    if len(parts) > 1 and parts[1] == "foundation":
        return "floor"
    return "xbarsim"


# What each room may import of ours: devices <- mapping <- xbarsim.* <- experiments.
ALLOWED = {
    "floor": {"floor"},
    "devices": {"floor", "devices"},
    "mapping": {"floor", "devices", "mapping"},
    "xbarsim": {"floor", "devices", "mapping", "xbarsim"},
    "experiments": {"floor", "devices", "mapping", "xbarsim", "experiments"},
}


def test_imports_run_one_way() -> None:
    wrong = []
    seen = set()
    for path in LIBRARY:
        own = room_of(module_name(path))
        assert own is not None
        for module, line in imports(path):
            # a bare `from xbarsim import x` only asks the package for what it names: judged by x
            if module == "xbarsim" or (other := room_of(module)) is None:
                continue
            if other == "xbarsim" and module.count(".") == 1 and module.split(".")[1] in ("__version__",):
                continue
            seen.add((own, other))
            if other not in ALLOWED[own]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {own} imports {module}")
    assert not wrong, "\n".join(wrong)
    assert {("mapping", "floor"), ("xbarsim", "mapping"), ("xbarsim", "devices")} <= seen  # it did look


def test_nobody_imports_a_room_by_its_bare_name() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in [*LIBRARY, *sources("tests")]
        for module, line in imports(path)
        if module.split(".")[0] in ROOMS
    ]
    assert not wrong, "\n".join(wrong)


def run_python(code: str, **environment: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.parametrize(
    "module", ["xbarsim", "xbarsim.devices", "xbarsim.mapping", "xbarsim.design", "xbarsim.cost", "xbarsim.data"]
)
def test_imports_are_light(module: str, record_property: Callable[[str, object], None]) -> None:
    code = (
        "import sys, time; start = time.perf_counter(); "
        f"import {module}; seconds = time.perf_counter() - start; "
        f"print(seconds, *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    seconds, *loaded = run_python(code).split()
    assert loaded == []
    record_property("seconds", float(seconds))  # reported (junit), never asserted


def test_everything_public_can_be_reached() -> None:
    code = (
        "import xbarsim as xb\n"
        "for name in dir(xb): getattr(xb, name)\n"
        "assert set(xb.__all__) <= set(dir(xb))\n"
        "assert not hasattr(xb, 'nonsense')\n"
        "print('reached')\n"
    )
    assert run_python(code).strip() == "reached"


# --- packaging


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_packages_are_those_on_the_disk() -> None:
    listed = pyproject()["tool"]["setuptools"]["packages"]
    found = {module_name(path) for path in LIBRARY if path.name == "__init__.py"}
    assert sorted(listed) == sorted(found)
    assert len(set(listed)) == len(listed)
    folders = pyproject()["tool"]["setuptools"]["package-dir"]
    assert folders == {f"xbarsim.{room}": room for room in ROOMS}


def test_every_module_is_in_a_package() -> None:
    orphans = [path for path in LIBRARY if not (path.parent / "__init__.py").is_file()]
    assert not orphans


def test_data_files_are_packaged() -> None:
    """Everything that is not Python and stands in a package matches a pattern of package-data."""
    patterns = pyproject()["tool"]["setuptools"]["package-data"]
    wrong = []
    for path in LIBRARY:
        if path.name != "__init__.py":
            continue
        name = module_name(path)
        allowed = {found for pattern in patterns.get(name, ()) for found in path.parent.glob(pattern)}
        for other in path.parent.rglob("*"):
            inside = next(p for p in other.parents if (p / "__init__.py").is_file() or p == ROOT)
            if inside != path.parent or not other.is_file() or other.suffix in (".py", ".pyc", ".nbi", ".nbc"):
                continue
            shipped = other.suffix in (".toml", ".safetensors", ".html", ".css", ".js") or other.name == "py.typed"
            if shipped and other not in allowed and "weights" not in other.parts:  # those are too large for a wheel
                wrong.append(str(other.relative_to(ROOT)))
    assert not wrong


def test_every_library_that_is_imported_is_required() -> None:
    project = pyproject()["project"]
    required = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in project["dependencies"]}
    required |= {"llvmlite"}  # numba's own, of the version that numba asks for
    # extras; imported in functions, with a message
    optional = {
        "aihwkit",
        "badcrossbar",
        "cosmic_ray",
        "distributed",
        "dtaidistance",
        "hypothesis",
        "onnx",
        "optuna",
        "pandas",
        "pyarrow",
        "sklearn",
        "torch",
    }
    wrong = []
    for path in LIBRARY:
        for module, line in imports(path):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names or top in ("xbarsim", "__future__") or top in required | optional:
                continue
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {top}")
    assert not wrong, "\n".join(wrong)


def test_numbers_of_the_version_agree() -> None:
    assert run_python("import xbarsim; print(xbarsim.__version__)").strip() == pyproject()["project"]["version"]


# --- links and guards


@pytest.mark.parametrize("room", ROOMS)
def test_links_for_tools_that_read_files(room: str) -> None:
    link = ROOT / "xbarsim" / room
    if not link.exists() and not link.is_symlink():
        pytest.skip("a checkout without links: tools that read files do without")
    assert link.is_symlink()
    assert os.readlink(link) == f"../{room}"
    assert link.resolve() == ROOT / room


@pytest.mark.parametrize("room", ROOMS)
def test_guards_refuse_the_bare_name(room: str) -> None:
    specification = importlib.util.spec_from_file_location(room, ROOT / room / "__init__.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with pytest.raises(ImportError, match=f"^import xbarsim.{room}, not {room}$"):
        specification.loader.exec_module(module)
    # and so does the interpreter, from the top of the repository
    answer = run_python(
        f"try:\n    import {room}\nexcept ImportError as error:\n    print(error)\nelse:\n    print('imported')"
    )
    assert answer.strip() == f"import xbarsim.{room}, not {room}"


def test_rooms_are_what_stands_in_the_checkout() -> None:
    code = "import importlib; print(*[importlib.import_module(f'xbarsim.{r}').__file__ for r in %r])" % (ROOMS,)  # noqa: UP031
    assert [Path(found).resolve() for found in run_python(code).split()] == [
        ROOT / room / "__init__.py" for room in ROOMS
    ]


def test_a_checkout_without_links_runs(tmp_path: Path) -> None:
    """The mapping of packages to folders alone, as on systems without links."""
    code = """
import importlib.util, sys
from importlib.machinery import PathFinder
class Rooms:
    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        if parts[0] == "xbarsim" and len(parts) == 2 and parts[1] in ROOMS:
            place = f"{ROOT}/{parts[1]}"
            return importlib.util.spec_from_file_location(
                name, f"{place}/__init__.py", submodule_search_locations=[place]
            )
sys.meta_path.insert(0, Rooms())
sys.path.insert(0, ROOT)
import xbarsim, xbarsim.devices, xbarsim.mapping
assert xbarsim.__file__.startswith(ROOT), xbarsim.__file__
print(xbarsim.Design(cell=xbarsim.devices.Cell.load("islped2019")).cell.name)
"""
    for folder in ("xbarsim", *ROOMS):
        for path in sources(folder):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    for card in (ROOT / "devices" / "cards").glob("*.toml"):
        (tmp_path / "devices" / "cards").mkdir(exist_ok=True)
        (tmp_path / "devices" / "cards" / card.name).write_bytes(card.read_bytes())
    assert not (tmp_path / "xbarsim" / "devices").exists()
    answer = subprocess.run(
        [sys.executable, "-c", f"ROOT = {str(tmp_path)!r}\nROOMS = {ROOMS!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "islped2019"


# --- what library code does not do


def strings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node.lineno


ABSOLUTE = re.compile(r"(?<![\w.:/])(/(home|root|work|usr|tmp|opt|mnt|data|Users|var|etc)/\w|[A-Z]:\\\\?\w)")


def test_no_absolute_paths() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text[:60]!r}"
        for path in [*LIBRARY, *sources("tests")]
        if path != Path(__file__).resolve()
        for text, line in strings(ast.parse(path.read_text()))
        if ABSOLUTE.search(text)
    ]
    assert not wrong, "\n".join(wrong)
    others = [ROOT / "pyproject.toml", *(ROOT / "devices" / "cards").glob("*.toml")]
    assert not [path for path in others if ABSOLUTE.search(path.read_text())]
    assert ABSOLUTE.search("see /home/someone/file")  # it can find one
    assert ABSOLUTE.search("C:\\data")
    assert not ABSOLUTE.search("https://doi.org/10.1109/data/x and V/I, ../shared/data/x")


def prints(tree: ast.Module) -> Iterator[int]:
    """Lines that print, outside the ``main`` of a script."""
    for top in tree.body:
        if isinstance(top, ast.FunctionDef) and top.name == "main":
            continue
        for node in ast.walk(top):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield node.lineno


def test_library_code_does_not_print() -> None:
    wrong = [f"{path.relative_to(ROOT)}:{line}" for path in LIBRARY for line in prints(ast.parse(path.read_text()))]
    assert not wrong, "\n".join(wrong)
    assert list(prints(ast.parse("def f():\n    print(1)\ndef main():\n    print(2)\n"))) == [2]


# Modules that send messages between processes of one run; nothing else may be pickled.
MESSAGES = ("xbarsim.foundation.processes", "xbarsim.sweep.worker")


def test_nothing_is_pickled_and_no_generator_is_global() -> None:
    forbidden = {"pickle", "shelve", "marshal", "dill", "joblib"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in LIBRARY
        for module, line in imports(path)
        if module.split(".")[0] in forbidden
        or module == "random"
        or (module.split(".")[0] == "cloudpickle" and module_name(path) not in MESSAGES)
    ]
    allowed = {"default_rng", "Generator", "SeedSequence", "Philox", "PCG64", "BitGenerator", "get_state"}
    for path in LIBRARY:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            owner = ast.unparse(node.value)
            if owner in ("np.random", "numpy.random") and node.attr not in allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {owner}.{node.attr}")
            if (
                owner in ("torch", "torch.random")
                and node.attr == "manual_seed"
                and module_name(path).split(".")[1] != "experiments"
            ):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {owner}.{node.attr}")
    assert not wrong, "\n".join(wrong)


def test_no_seed_is_hidden_inside() -> None:
    """``default_rng()`` and ``default_rng(7)`` in a library: a seed that nobody gave."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in LIBRARY
        if module_name(path).split(".")[1:2] != ["experiments"]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("default_rng")
        and all(isinstance(argument, ast.Constant) for argument in node.args)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_source_distribution_has_tests_documents_notebooks_and_figures(tmp_path: Path) -> None:
    """What is listed for it, in a copy, without building it."""
    listed = run_python(
        "from setuptools.command.sdist import sdist\n"
        "from setuptools.dist import Distribution\n"
        "distribution = Distribution({'script_name': 'setup.py'})\n"
        "distribution.parse_config_files()\n"
        f"distribution.get_option_dict('egg_info')['egg_base'] = ('here', {str(tmp_path)!r})\n"
        "command = sdist(distribution)\n"
        "command.ensure_finalized()\n"
        "command.get_finalized_command('egg_info').run()\n"
        "print('\\n'.join(sorted(command.get_finalized_command('egg_info').filelist.files)))"
    ).split("\n")
    files = {line.strip() for line in listed}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in tracked or ["README.md"]:
        path = Path(name)
        wanted = (
            path.parts[0] in ("tests", "docs", "notebooks", "devices", "mapping", "xbarsim") or path.suffix == ".md"
        )
        if wanted and not (ROOT / path).is_symlink():
            assert name in files, name
    assert any(name.startswith("experiments/figures/") for name in files)
    assert not any(name.startswith(("experiments/weights/", "build/", ".venv/")) for name in files)
