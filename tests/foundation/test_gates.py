"""The gates of the foundation: paths, sizes, depth, arrays, packed files, kinds of arguments."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch

from xbarsim.foundation.archives import check_archive, gunzip
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.jsonio import parse_json, parse_object
from xbarsim.foundation.tomlio import parse
from xbarsim.foundation.validation import (
    MEMORY_SHARE,
    FileFormatError,
    FileWriteError,
    InputError,
    as_array,
    check_depth,
    check_memory,
    check_path,
    memory,
    read_bytes,
    shown,
    write_atomically,
)


class _NoWords:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_any_value_can_be_shown() -> None:
    assert shown(1.5) == "1.5"
    assert shown(10**5000) == "an integer of 16610 bits"
    assert shown(_NoWords()) == "a _NoWords that cannot be shown"
    assert len(shown("x" * 10**6)) < 250


@pytest.mark.parametrize("value", [None, 3, b"x", "", "a\0b", "\ud800", "x" * 300, "x/" * 3000, Path("a\0b")])
def test_what_is_no_path_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^file must be a path"):
        check_path("file", value)


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, kind in ((pipe, "a pipe"), (Path("/dev/zero"), "a device"), (Path("/dev/full"), "a device")):
        with pytest.raises(FileFormatError, match=f"it is {kind}, not a regular file"):
            read_bytes(path, "a design")
        with pytest.raises(FileWriteError, match=f"it is {kind}, not a regular file"):
            write_atomically(path, b"x")
    large = tmp_path / "large"
    large.write_bytes(b"12345")
    assert read_bytes(large, "a design", at_most=5) == b"12345"
    with pytest.raises(FileFormatError, match="at most 4 B, got 5 B"):
        read_bytes(large, "a design", at_most=4)


def test_a_file_without_a_stated_size_is_read_to_its_end() -> None:
    assert read_bytes("/proc/self/status", "a status").startswith(b"Name:")
    with pytest.raises(FileFormatError, match="at most 10 B"):
        read_bytes("/proc/self/status", "a status", at_most=10)


def test_a_name_as_long_as_can_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_atomically(path, b"1")
    assert path.read_bytes() == b"1"


def test_sizes_are_refused_with_both_numbers() -> None:
    most = int(MEMORY_SHARE * memory())
    assert check_memory("rows", "a tile", most) == most
    with pytest.raises(InputError, match=r"^rows must take at most .*B \(50% of .*\), got a tile, .* 1e\+06 EB"):
        check_memory("rows", "a tile", 10**24)
    with pytest.raises(InputError, match="rows must take at most"):
        check_memory("rows", "a tile", 10**5000)


def test_depth_is_counted_and_bounded() -> None:
    assert [check_depth("v", value) for value in (1, [], [[1]], {"a": {"b": [1]}})] == [0, 1, 2, 3]
    nested: Any = 1
    for _ in range(10_000):
        nested = [nested]
    with pytest.raises(InputError, match="v must nest at most 32 levels deep"):
        check_depth("v", nested)
    nested = []
    nested.append(nested)
    with pytest.raises(InputError, match="v must nest at most 32 levels deep"):
        check_depth("v", nested)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 40 + "]" * 40, "1" * 5000, "{", '{"a": nothing}', b"\xff\xfe\x00"]
)
def test_json_that_is_none_or_too_deep(text: str | bytes) -> None:
    with pytest.raises(FileFormatError, match=r"^card "):
        parse_json(text, source="card")


def test_json_tables() -> None:
    assert parse_object('{"a": [1, 2.5, null]}', source="card") == {"a": [1, 2.5, None]}
    with pytest.raises(FileFormatError, match=r"card must be a table, got \[1\]"):
        parse_object("[1]", source="card")


@pytest.mark.parametrize("text", ["a = " + "[" * 5000 + "]" * 5000, "a = " + "[" * 40 + "]" * 40, "a = " + "1" * 5000])
def test_toml_that_is_too_deep_or_has_endless_integers(text: str) -> None:
    with pytest.raises(FileFormatError, match=r"^design "):
        parse(text, source="design")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(2, dtype=torch.bfloat16), "bfloat16"),
        (torch.ones(2, device="meta"), "meta"),
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), "nested"),
        (torch.ones(2, requires_grad=True), "gradient"),
        (np.ma.masked_array([1.0], [True]), "masked"),
        ([[1], [1, 2]], "array of numbers"),
        ([object()], "type object"),
        (None, "type object"),
        (np.broadcast_to(np.float32(0), (200_000, 200_000)), "320 GB"),
    ],
)
def test_arrays_that_numpy_cannot_take(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^weights must .*{message}"):
        as_array("weights", value)


def test_arrays_come_in_the_byte_order_of_the_machine_and_are_not_copied() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert as_array("a", array) is array
    assert np.shares_memory(as_array("a", array[::-1]), array)
    turned = as_array("a", array.astype(">f8"))
    assert turned.dtype.isnative
    np.testing.assert_array_equal(turned, array)
    np.testing.assert_array_equal(as_array("a", torch.ones(2)), [1, 1])


def test_packed_files_unpack_to_what_is_wanted_of_them_only() -> None:
    assert gunzip(gzip.compress(b"abc"), size=3, source="f") == b"abc"
    for raw, message in (
        (gzip.compress(b"abcd"), "f must unpack to 3 bytes, got more"),
        (gzip.compress(bytes(10**8)), "f must unpack to 3 bytes, got more"),
        (gzip.compress(b"ab"), "f must unpack to 3 bytes, got 2"),
        (gzip.compress(b"abc")[:-4], "its end is missing"),
        (b"no", "cannot unpack f"),
    ):
        with pytest.raises(FileFormatError, match=message):
            gunzip(raw, size=3, source="f")


def test_an_archive_that_unpacks_to_far_more_than_it_takes_is_refused() -> None:
    for size, good in ((10**7, True), (10**8, False)):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("index.npy", bytes(size))
        if good:
            check_archive(stream.getvalue(), source="f")
        else:
            with pytest.raises(FileFormatError, match=f"f must unpack to at most .* got {size}"):
                check_archive(stream.getvalue(), source="f")
    with pytest.raises(FileFormatError, match="f is not an archive"):
        check_archive(b"no", source="f")


# --- kinds of arguments


@entrance
def _take(
    count: int = 1,
    share: float | None = 0.5,
    name: str = "a",
    array: npt.ArrayLike = (1.0,),
    path: str | os.PathLike[str] | None = None,
    how: Literal["fast", 2] = "fast",
    call: Callable[[], int] = int,
    names: Sequence[str] = (),
    table: Mapping[str, int] = {},
    flag: bool = False,
    pair: tuple[int, float] = (1, 2.0),
) -> Any:
    return array


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 1.0}, {"count": True}, {"count": None}, {"share": "x"}, {"share": np.nan}, {"share": 10**400},
        {"name": 3}, {"array": "x"}, {"array": 1j}, {"array": None}, {"path": 3}, {"path": "a\0"}, {"how": "slow"},
        {"how": 2.0}, {"call": 3}, {"names": "x"}, {"names": [1]}, {"table": [1]}, {"table": {"a": "b"}},
        {"table": {1: 1}}, {"flag": 1}, {"pair": (1,)}, {"pair": (1.5, 2.0)},
    ],
)  # fmt: skip
def test_an_entrance_refuses_another_kind_than_its_annotation(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"^{next(iter(wrong))}(\[\d\])? must "):
        _take(**wrong)


def test_an_entrance_lets_the_right_kind_in_and_makes_arrays() -> None:
    take: Any = _take  # types that mypy would not let pass
    assert isinstance(take(array=[1, 2]), np.ndarray)
    take(np.int8(3), None, "b", 1.0, Path("x"), 2, len, ["a"], {"a": np.int64(1)}, np.True_, [1, 2])
    take(share=float("inf"))
    with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        take(nothing=1)


@pytest.mark.parametrize(
    "wrong",
    [{"count": True}, {"share": np.nan}, {"how": "slow"}, {"names": ("a", 1)}, {"pair": (1,)}, {"flag": 1}, {"name": 3},
     {"array": np.array(["a"])}, {"array": np.ma.masked_array([1.0], [True])}],
)  # fmt: skip
def test_an_entrance_that_has_let_the_right_kind_in_still_refuses_the_wrong_one(wrong: dict[str, Any]) -> None:
    class Text(str):
        """Of a kind that is learnt at its first use."""

    take: Any = _take
    for _ in range(2):
        take(np.int64(2), 0.25, Text("b"), np.ones(2), Path("x"), "fast", len, ("a", "b"), {"a": 1}, True, (1, 2.0))
        take(array=np.ones(2, ">f8"), share=None, names=["a"], flag=np.True_, path="y")
        with pytest.raises(InputError, match=rf"^{next(iter(wrong))}(\[\d\])? must "):
            take(**wrong)
    assert take(array=np.ones(2, ">f8")).dtype.isnative


@dataclass(frozen=True)
class _Record:
    count: int
    values: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def test_fields_are_held_against_their_annotations() -> None:
    assert isinstance(_Record(1, [1.0]).values, np.ndarray)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="count must be an integer, got '1' of type str"):
        _Record("1")  # type: ignore[arg-type]


def test_the_json_of_python_is_read() -> None:
    value = {"a": [1, "b", None, True, 0.1]}
    assert parse_json(json.dumps(value), source="x") == value
