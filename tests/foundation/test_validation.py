from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import relaxed
from xbarsim.foundation.validation import (
    FileFormatError,
    FileWriteError,
    InputError,
    check_array,
    check_choice,
    check_instance,
    check_integer,
    check_real,
    read_bytes,
    write_atomically,
)


def test_errors_are_of_kinds_that_callers_know() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(FileFormatError, ValueError)
    assert issubclass(FileWriteError, OSError)


@relaxed
@given(value=st.floats(allow_nan=True, allow_infinity=True), low=st.floats(-5, 5), high=st.floats(-5, 5))
def test_reals_pass_exactly_where_the_bounds_hold(value: float, low: float, high: float) -> None:
    for bounds, holds in (
        ({"at_least": low, "at_most": high}, low <= value <= high),
        ({"above": low, "below": high}, low < value < high),
        ({}, True),
    ):
        if math.isfinite(value) and holds:
            assert check_real("p", value, **bounds) == value
        else:
            with pytest.raises(InputError, match=r"^p must be a finite number"):
                check_real("p", value, **bounds)


@pytest.mark.parametrize(
    "value", [True, np.True_, "1", None, 1j, [1.0], np.array([1.0]), 10**400], ids=lambda value: str(value)[:9]
)
def test_what_is_no_real_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=r"^rate must be a finite number >= 0.0 and <= 1.0, got "):
        check_real("rate", value, at_least=0.0, at_most=1.0)


@pytest.mark.parametrize("value", [1, np.int8(1), np.float32(1.0), 1.0])
def test_every_real_becomes_a_float(value: Any) -> None:
    answer = check_real("rate", value)
    assert type(answer) is float
    assert answer == 1.0


@relaxed
@given(value=st.integers(), low=st.integers(-9, 9), high=st.integers(-9, 9))
def test_integers_pass_exactly_where_the_bounds_hold(value: int, low: int, high: int) -> None:
    if low <= value <= high:
        assert check_integer("n", value, at_least=low, at_most=high) == value
    else:
        with pytest.raises(InputError, match=rf"^n must be an integer >= {low} and <= {high}, got {value}$"):
            check_integer("n", value, at_least=low, at_most=high)


@pytest.mark.parametrize("value", [True, np.False_, 1.0, "1", None, np.float64(2.0)])
def test_what_is_no_integer_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=r"^rows must be an integer >= 1, got "):
        check_integer("rows", value, at_least=1)
    assert type(check_integer("rows", np.uint8(3))) is int


def test_choices_are_listed() -> None:
    assert check_choice("pack", "b", ("a", "b")) == "b"
    for value in ("c", 1, None, ["a"]):
        with pytest.raises(InputError, match=r"^pack must be one of 'a', 'b', got "):
            check_choice("pack", value, ("a", "b"))


def test_instances_name_both_types() -> None:
    check_instance("cell", 1, int)
    with pytest.raises(InputError, match=r"cell must be of type int or str, got 1.5 of type float"):
        check_instance("cell", 1.5, (int, str))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((0, 3)), r"non-empty 2-dimensional .* got shape \(0, 3\)"),
        (np.float64(3.0), r"got shape \(\)"),
        (np.zeros(3), r"got shape \(3,\)"),
        (np.zeros((2, 2), int), "floating numbers, got type int64"),
        (np.zeros((2, 2), bool), "got type bool"),
        (np.array([["a", "b"]]), "got type <U1"),
        (np.array([[0.0, 1.0], [np.nan, 2.0]]), r"must be finite, got nan at index \(1, 0\)"),
        (np.array([[0.0, np.inf]]), r"must be finite, got inf at index \(0, 1\)"),
        (np.array([[0.0, -np.inf]], np.float32), r"must be finite, got -inf at index \(0, 1\)"),
    ],
)
def test_arrays_that_are_no_weights(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^weights must be .*{message}" if "finite" not in message else message):
        check_array("weights", value, dimensions=2, kind="floating")


def test_arrays_that_are() -> None:
    for value, kind in ((np.ones((1, 2), np.float16), "floating"), ([[1, 2]], "integer")):
        np.testing.assert_array_equal(check_array("a", value, dimensions=2, kind=kind), value)
    with pytest.raises(InputError, match="integer numbers, got type float64"):
        check_array("codes", np.ones((1, 1)), dimensions=2, kind="integer")


# --- files


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(FileFormatError, match=f"cannot read Design from {path}: ") as caught:
            read_bytes(path, "Design")
        assert isinstance(caught.value.__cause__, OSError)


def test_a_write_replaces_whole_files_only(tmp_path: Path) -> None:
    target = tmp_path / "result.csv"
    write_atomically(target, b"one")
    write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [target]
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    target = tmp_path / "absent" / "result.csv"
    with pytest.raises(FileWriteError, match=r"cannot write .*absent.*result.csv: No such file") as caught:
        write_atomically(target, b"x")
    assert caught.value.errno == errno.ENOENT
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    target = tmp_path / "result.csv"
    target.write_bytes(b"old")

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(FileWriteError, match="No space left") as caught:
        write_atomically(target, b"new and longer")
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
