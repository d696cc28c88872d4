"""Code that a user names: found where it should be, run only when it is named, and refused in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xbarsim.foundation.named import import_code, named_callable, named_class, named_value, names_code
from xbarsim.foundation.validation import InputError

MODULE = """
from dataclasses import dataclass
from pathlib import Path

with Path(__file__).with_suffix(".ran").open("a") as log:
    log.write("x")

def five():
    return 5

NUMBER = 7

class Base:
    pass

@dataclass(frozen=True)
class Kind(Base):
    size: int = 3

@dataclass(frozen=True)
class Needing(Base):
    size: int

MADE = Needing(size=4)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of modules; the path of Python and what was imported is as before afterwards."""
    path, modules = list(sys.path), set(sys.modules)
    (tmp_path / "own_code.py").write_text(MODULE)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_what_is_a_name_of_code() -> None:
    assert all(map(names_code, ("module:name", "a.b:c", "file.py:name", "/x/file.py:name")))
    assert not any(map(names_code, ("name", "file.toml", ":name", "module:", "doi:10.1109/x y", "net.onnx")))


def test_a_module_is_found_beside_and_runs_once(folder: Path) -> None:
    with pytest.raises(InputError, match="part must name a module that can be imported, got 'own_code': Mod"):
        named_callable("part", "own_code:five")
    assert not (folder / "own_code.ran").exists()
    assert named_callable("part", "own_code:five", folder=folder)() == 5
    assert named_callable("part", "own_code.py:five", folder=folder)() == 5
    assert named_callable("part", f"{folder}/own_code.py:five")() == 5
    assert (folder / "own_code.ran").read_text() == "x"
    assert sys.path[-1] == str(folder)  # behind everything: it hides nothing


def test_nothing_beside_hides_a_module_that_there_is(folder: Path) -> None:
    (folder / "json.py").write_text("raise AssertionError('run')")
    assert import_code("part", "json", folder=folder).__file__ != str(folder / "json.py")
    with pytest.raises(
        InputError, match=r"called unlike any other module, got 'json\.py': 'json' is .*; give the file"
    ):
        import_code("part", "json.py", folder=folder)
    assert not (folder / "json.ran").exists()


def test_a_module_that_fails_is_one_sentence(folder: Path) -> None:
    (folder / "broken_code.py").write_text("def f(:\n")
    (folder / "raising_code.py").write_text("raise KeyError('x')")
    for name, kind in (("broken_code", "SyntaxError"), ("raising_code", "KeyError")):
        with pytest.raises(InputError, match=f"got '{name}': {kind}") as caught:
            named_callable("part", f"{name}:f", folder=folder)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"part must name a file that there is, got '.*absent\.py'"):
        named_callable("part", "absent.py:f", folder=folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("five", "as 'module:function', got 'five'"),
        ("own_code:fife", "there is no such name in it; did you mean 'five'"),
        ("own_code:NUMBER", "it cannot be called"),
    ],
)
def test_what_cannot_be_called_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        named_callable("part", text, folder=folder)


def test_classes_and_values_are_of_their_kind(folder: Path) -> None:
    own = import_code("part", "own_code", folder=folder)
    assert named_class("part", "own_code:Kind", own.Base) is own.Kind
    assert named_value("part", "own_code:Kind", own.Base) == own.Kind(size=3)
    assert named_value("part", "own_code:MADE", own.Base) == own.Needing(size=4)
    with pytest.raises(InputError, match="part must name a class derived from Base, got 'own_code:five'"):
        named_class("part", "own_code:five", own.Base)
    with pytest.raises(InputError, match="part must name a Base, got 'own_code:NUMBER', which is none"):
        named_value("part", "own_code:NUMBER", own.Base)
    with pytest.raises(InputError, match="which needs size: name one that is made"):
        named_value("part", "own_code:Needing", own.Base)
