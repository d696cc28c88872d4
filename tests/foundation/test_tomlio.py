from __future__ import annotations

import contextlib
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import relaxed
from tests.test_repository import LIBRARY, imports, module_name
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A table."""

    number: float = 1.5
    many: tuple[float, ...] = ()
    pair: tuple[int, str] | None = None


class Shape:
    """A base class."""


@dataclass(frozen=True, kw_only=True)
class Circle(Shape):
    """One shape."""

    radius: float


@dataclass(frozen=True, kw_only=True)
class Point(Shape):
    """Another, without fields."""


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Every kind of field."""

    count: int
    flag: bool = False
    text: str = ""
    choice: Literal["a", "b"] | float | None = None
    inner: Inner = Inner()
    shape: Shape | None = None


numbers = st.floats(allow_nan=False)
inners = st.builds(
    Inner,
    number=numbers,
    many=st.lists(numbers, max_size=4).map(tuple),
    pair=st.none() | st.tuples(st.integers(-(2**63), 2**63 - 1), st.text()),
)
outers = st.builds(
    Outer,
    count=st.integers(-(2**63), 2**63 - 1),
    flag=st.booleans(),
    text=st.text(st.characters(codec="utf-8")),
    choice=st.none() | st.sampled_from(["a", "b"]) | numbers,
    inner=inners,
    shape=st.none() | st.builds(Circle, radius=numbers) | st.just(Point()),
)


@relaxed
@given(value=outers)
def test_round_trip_is_exact(value: Outer) -> None:
    again = tomlio.loads(Outer, tomlio.dumps(value))
    assert again == value
    assert math.copysign(1.0, again.inner.number) == math.copysign(1.0, value.inner.number)
    assert type(again.shape) is type(value.shape)
    assert tomlio.dumps(again) == tomlio.dumps(value)


@given(value=st.builds(Circle, radius=numbers))
def test_a_subclass_can_be_read_as_itself_or_as_its_base(value: Circle) -> None:
    assert tomlio.loads(Circle, tomlio.dumps(value)) == value
    assert tomlio.loads(Shape, tomlio.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count = 1\ncolour = 'red'", r"Outer has no key 'colour'; its keys are choice, count, flag"),
        ("count = 1\n[inner]\nmumber = 2", r"inner has no key 'mumber'; its keys are many, number, pair"),
        ("flag = true", "count is missing; it must be int"),
        ("count = 1.0", "count must be int, got 1.0"),
        ("count = true", "count must be int, got True"),
        ("count = '1'", "count must be int, got '1'"),
        ("count = 1\nflag = 1", "flag must be bool, got 1"),
        ("count = 1\ntext = 1", "text must be str, got 1"),
        ("count = 1\nchoice = 'c'", "choice must be 'a' or 'b' or float, got 'c'"),
        ("count = 1\nchoice = []", r"choice must be .*, got \[\]"),
        ("count = 1\ninner = 3", r"inner must be a table \(Inner\), got 3"),
        ("count = 1\ninner.number = '1'", "inner.number must be float, got '1'"),
        ("count = 1\ninner.number = true", "inner.number must be float, got True"),
        (f"count = 1\ninner.number = {10**400}", "inner.number must be float, got 1000"),
        ("count = 1\ninner.many = [1.0, 'x']", "inner.many must be an array of float"),
        ("count = 1\ninner.many = 1.0", "inner.many must be an array of float"),
        ("count = 1\ninner.pair = [1]", "inner.pair must be an array"),
        ("count = 1\ninner.number = 2020-01-01", "inner.number must be float"),
        ("count = 1\nshape = {radius = 1.0}", "shape.type must be one of 'Circle', 'Point', got None"),
        ("count = 1\nshape = {type = 'Square'}", "shape.type must be one of 'Circle', 'Point', got 'Square'"),
        ("count = 1\nshape = {type = ['Circle']}", "shape.type must be one of 'Circle', 'Point'"),
        ("count = 1\nshape = {type = 'Circle'}", "shape.radius is missing"),
        ("count = 1\nshape = {type = 'Point', radius = 1.0}", "shape has no key 'radius'"),
        ("count = ", "not valid TOML"),
        ("count = 1\ncount = 2", "not valid TOML"),
        ("count = 1\ntext = 'cut", "not valid TOML"),
        ("\x00", "not valid TOML"),
    ],
)
def test_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        tomlio.loads(Outer, text)


def test_integers_will_do_for_floats() -> None:
    value = tomlio.loads(Outer, "count = 1\nchoice = 2\ninner = {number = 3, many = [1, 2]}")
    assert value == Outer(count=1, choice=2.0, inner=Inner(number=3.0, many=(1.0, 2.0)))
    assert type(value.choice) is float
    assert type(value.inner.number) is float


@relaxed
@given(value=outers, share=st.floats(0, 1))
def test_a_truncated_text_never_raises_anything_else(value: Outer, share: float) -> None:
    text = tomlio.dumps(value)
    with contextlib.suppress(FileFormatError):
        tomlio.loads(Outer, text[: int(share * len(text))])


def test_files(tmp_path: Path) -> None:
    value: Any = Outer(count=3, text="µ", shape=Circle(radius=0.1))
    path = tmp_path / "value.toml"
    tomlio.save(value, path)
    assert tomlio.load(Outer, path) == value
    path.write_bytes(path.read_bytes()[:-4])  # in the middle of the last table
    with pytest.raises(FileFormatError, match=r"value\.toml is not valid TOML|radius"):
        tomlio.load(Outer, path)
    path.write_bytes(b"count = \xff")
    with pytest.raises(FileFormatError, match=r"value\.toml is not valid TOML: .*utf-8"):
        tomlio.load(Outer, path)
    with pytest.raises(FileFormatError, match=r"cannot read Outer from .*absent"):
        tomlio.load(Outer, tmp_path / "absent.toml")
    with pytest.raises(FileWriteError, match="cannot write"):
        tomlio.save(value, tmp_path / "absent" / "value.toml")


def test_no_other_module_reads_or_writes_toml() -> None:
    """One dialect: who has a file that is no dataclass asks :func:`tomlio.parse`."""
    users = {
        module_name(path)
        for path in LIBRARY
        for name, _ in imports(path)
        if name.partition(".")[0] in ("tomllib", "tomli", "tomli_w", "toml", "tomlkit")
    }
    assert users == {"xbarsim.foundation.tomlio"}


def test_text_that_is_no_toml_is_named(tmp_path: Path) -> None:
    assert tomlio.parse("a.b = 1") == {"a": {"b": 1}}
    with pytest.raises(FileFormatError, match="the sweep is not valid TOML"):
        tomlio.parse("a = ", source="the sweep")
    path = tmp_path / "latin.toml"
    path.write_bytes(b'a = "\xe9"')
    with pytest.raises(FileFormatError, match=r"latin\.toml is not valid TOML"):
        tomlio.read_text(path, "a sweep")
    with pytest.raises(FileFormatError, match="cannot read a sweep from"):
        tomlio.read_text(tmp_path / "absent.toml", "a sweep")


class TestPlaces:
    """Where in a file a message points to."""

    TEXT = """
# a comment
count = 1
choice = 2

[inner]
number = 3
many = [
  1,
  2,
]
text = '''
[no.table]
'''

[[rules]]
a.b = 1

[[rules]]
a = { c = [1, { d = 2 }] }

[rules.deep]
e = 1
"""

    @pytest.mark.parametrize(
        ("place", "line"),
        [
            ("count", 3),
            ("inner", 6),
            ("inner.many", 8),
            ("inner.many[1]", 8),
            ("inner.text", 12),
            ("no.table", None),
            ("rules[0].a.b", 17),
            ("rules[1].a.c[1].d", 20),
            ("rules[1].deep.e", 23),
            ("inner.absent", 6),  # what is missing: the table it should be in
            ("rules[1].deep.absent.more", 22),
            ("absent", None),
            ("", None),
        ],
    )
    def test_the_line_of_a_key(self, place: str, line: int | None) -> None:
        assert tomlio.located("x.toml", self.TEXT, place) == ("x.toml" if line is None else f"x.toml:{line}")

    def test_a_message_names_the_file_and_the_line(self, tmp_path: Path) -> None:
        path = tmp_path / "my.toml"
        for text, message in (
            ("count = 1\nchoice = 2\n\n[inner]\nnumber = 'x'\nmany = [1, 2]\n", r"my\.toml:5: inner\.number must be"),
            ("count = 1\n\n[shape]\ntype = 'Circle'\n", r"my\.toml:3: shape\.radius is missing"),
            ("count = 1\nchoice = 2\ncuont = 3\n", r"my\.toml:3: Outer has no key 'cuont'.*did you mean 'count'"),
        ):
            path.write_text(text)
            with pytest.raises(FileFormatError, match=message):
                tomlio.load(Outer, path)


class Solid:
    """A base class of parts of a user's own."""


@dataclass(frozen=True, kw_only=True)
class Ball(Solid):
    """One of them."""

    radius: float


class TestClassesByModule:
    """``type = "module:Class"``: data for whoever may be a stranger, code only where the reader says so."""

    def test_a_class_that_is_imported_is_found(self) -> None:
        text = f'type = "{Ball.__module__}:Ball"\nradius = 1.5'
        assert tomlio.loads(Solid, text) == Ball(radius=1.5)

    def test_a_module_is_imported_only_where_code_may_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.path", list(sys.path))
        (tmp_path / "own_solids_of_a_test.py").write_text(
            f"import sys\nfrom dataclasses import dataclass\nSolid = sys.modules[{Solid.__module__!r}].Solid\n"
            "@dataclass(frozen=True)\nclass Cube(Solid):\n    side: float = 1.0\n"
            "class Plain(Solid):\n    pass\n"
            "@dataclass(frozen=True)\nclass Ball(Solid):\n    other: float = 1.0\n"
        )
        table = {"type": "own_solids_of_a_test:Cube", "side": 2.0}
        for path in ("", "part"):
            with pytest.raises(FileFormatError, match=r"a file of this kind runs no code, so import own_solids_of"):
                tomlio.from_table(Solid, table, path=path)
        assert "own_solids_of_a_test" not in sys.modules
        made: Any = tomlio.from_table(Solid, table, code=tmp_path)
        assert (type(made).__name__, made.side) == ("Cube", 2.0)
        assert tomlio.from_table(Solid, table) == made
        assert tomlio.to_table(made)["type"] == "Cube"  # files stay as they are
        with pytest.raises(FileFormatError, match="must name a dataclass"):
            tomlio.from_table(Solid, {"type": "own_solids_of_a_test:Plain"}, code=tmp_path)
        with pytest.raises(InputError, match="a class derived from Solid, got 'json:loads'"):
            tomlio.from_table(Solid, {"type": "json:loads"}, code=tmp_path)

    def test_classes_of_one_name_are_told_apart_by_their_modules(self) -> None:
        @dataclass(frozen=True)
        class Shape:
            pass

        def define(module: str, kind: str = "Ball") -> type[Shape]:
            made: Any = dataclass(frozen=True)(
                type(kind, (Shape,), {"__annotations__": {"radius": float}, "radius": 1.0})
            )
            made.__module__ = module
            return made  # type: ignore[no-any-return]

        first = define("one")
        assert tomlio.to_table(first()) == {"type": "Ball", "radius": 1.0}
        again = define("one")  # a cell of a notebook that is run once more
        assert type(tomlio.from_table(Shape, {"type": "Ball"})) is again
        other = define("two")
        for kind, name in ((again, "one:Ball"), (other, "two:Ball")):
            assert tomlio.to_table(kind(), declared=Shape) == {"type": name, "radius": 1.0}
            assert type(tomlio.from_table(Shape, {"type": name})) is kind
        with pytest.raises(FileFormatError, match=r"^Shape\.type must be .*'one:Ball'.*'two:Ball'.*, got 'Ball'"):
            tomlio.from_table(Shape, {"type": "Ball"})
        ours = define("xbarsim.solids")  # what files of the project say goes on to mean what it meant
        assert type(tomlio.from_table(Shape, {"type": "Ball"})) is ours
        assert tomlio.to_table(ours()) == {"type": "Ball", "radius": 1.0}
        assert type(tomlio.from_table(Shape, {"type": "two:Ball"})) is other
