"""A walk over everything public: each parameter of each call is given each bad value, all others stay good.

A call ends within 5 s, either well or with an error of the project; what is of no kind that the parameter has must be
refused. A ``TypeError`` is what Python says of a call with wrong or missing names; the walk makes no such call, so that
it lets none pass.
"""

from __future__ import annotations

import collections.abc
import contextlib
import importlib
import inspect
import os
import resource
import signal
import types
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.calls import ALSO, EXCLUDED, MIGHT_DO, NOT_TRIED, World, bad_values, good_calls
from xbarsim.circuit import ConvergenceError, FloatingNodeError
from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError
from xbarsim.sweep import CollectError

ROOMS = (
    "devices", "mapping", "design", "circuit", "engine", "die", "mitigation", "data", "models", "training", "compress",
    "sweep", "plot", "cli", "network", "network.onnx", "cost", "sequences",
)  # fmt: skip
OURS = (InputError, FileFormatError, FileWriteError, FloatingNodeError, ConvergenceError, CollectError)
SECONDS = 5


def kinds_of(annotation: Any) -> set[str]:
    """What a parameter takes, by its annotation; nothing where the annotation says nothing."""
    origin = typing.get_origin(annotation)
    if annotation is types.NoneType or annotation is None:
        return {"none"}
    if annotation == npt.ArrayLike:
        return {"array"}
    if origin in (typing.Union, types.UnionType):
        parts = set(typing.get_args(annotation))
        like = set(typing.get_args(npt.ArrayLike))
        found = {"array"} if parts >= like else set()
        for part in parts - like if found else parts:
            more = kinds_of(part)
            if not more:
                return set()
            found |= more
        return found - {"str"} if "path" in found else found
    if origin is Literal:
        return {"literal"}
    if annotation is np.ndarray or origin is np.ndarray:
        return {"array"}
    if annotation is torch.Tensor:
        return {"tensor"}
    if origin is collections.abc.Callable:
        return {"callable"}
    if origin is tuple or origin in (list, collections.abc.Sequence):
        return {"sequence"}
    if origin in (dict, collections.abc.Mapping):
        return {"mapping"}
    for kind in (bool, int, float, str):
        if annotation is kind:
            return {kind.__name__}
    if annotation is Path or origin is os.PathLike:
        return {"path"}
    return {"class"} if isinstance(annotation, type) and annotation not in (object, Any) else set()


def annotations_of(called: Any) -> dict[str, Any]:
    """Of the parameters of a function, method or class; those that cannot be read are left out."""
    owner = called if isinstance(called, type) else inspect.unwrap(getattr(called, "__func__", called))
    parts = reversed(owner.__mro__) if isinstance(owner, type) else (owner,)
    if isinstance(owner, type) and not hasattr(owner, "__dataclass_fields__"):
        parts = (owner.__init__,)  # type: ignore[misc]
    found: dict[str, Any] = {}
    for part in parts:
        names = vars(importlib.import_module(part.__module__))
        own = vars(part) if isinstance(part, type) else {"__annotations__": part.__annotations__}
        for name, text in own.get("__annotations__", {}).items():
            with contextlib.suppress(NameError, TypeError):
                found.update(typing.get_type_hints(types.SimpleNamespace(__annotations__={name: text}), names))
    return found


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """An alarm after 5 s, and no room for an array that should have been refused."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def little_memory(more: int = 6 * 2**30) -> Iterator[None]:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def attempt(name: str, called: Any, arguments: dict[str, Any], must_refuse: bool) -> str | None:
    """What is wrong with how a call ends, or ``None``."""
    try:
        with bounded():
            called(**arguments)
    except OURS as error:
        return None if str(error) else f"{name}: an empty message"
    except TimeoutError:
        return f"{name}: not done after {SECONDS} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, FileNotFoundError) and name.startswith(("data.", "models.")):
            return None  # the data folder: documented
        return f"{name}: {type(error).__name__}: {str(error)[:150]}"
    return f"{name}: taken in silence" if must_refuse else None


def test_every_public_name_is_called_or_excluded_with_a_reason(tmp_path: Path) -> None:
    named = {name.split(".")[1] for name in good_calls(World(tmp_path))}
    missing = []
    for room in ROOMS:
        face = importlib.import_module(f"xbarsim.{room}")
        public = [name for name in face.__all__ if callable(getattr(face, name))]
        missing += [f"{room}.{name}" for name in public if name not in named and name not in EXCLUDED]
    assert not missing, missing
    twice = sorted(named & set(EXCLUDED))
    assert not twice, twice


@pytest.mark.filterwarnings("ignore")
def test_bad_values_are_refused_in_words_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path)
    values = bad_values(world)
    calls = good_calls(world)
    wrong: list[str] = []
    count = 0
    for name, (called, make) in calls.items():
        try:
            called(**make())
        except FileNotFoundError:
            pass
        except Exception as error:
            wrong.append(f"{name}: the good call fails: {type(error).__name__}: {error}")
    with little_memory(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (called, make) in calls.items():
            known = annotations_of(called)
            for parameter in make():
                kinds = kinds_of(known.get(parameter)) if parameter in known else set()
                might = {value for kind in kinds for value in MIGHT_DO[kind].split("|")}
                might |= set(ALSO.get(f"{name}({parameter})", "").split("|"))
                for title, value in values.items():
                    if (f"{name}({parameter})", title) in NOT_TRIED:
                        continue
                    must = bool(kinds) and title not in might
                    found = attempt(f"{name}({parameter}={title})", called, {**make(), parameter: value}, must)
                    count += 1
                    if found:
                        wrong.append(found)
    assert not wrong, f"{len(wrong)} of {count} calls:\n" + "\n".join(wrong)
