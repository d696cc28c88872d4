from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import relaxed
from tests.test_repository import LIBRARY, imports, module_name
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, FileWriteError


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
