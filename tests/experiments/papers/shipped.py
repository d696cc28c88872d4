"""Tables that ship with the project, read back."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from xbarsim.experiments.folders import FIGURES

T = TypeVar("T")


def shipped(kind: type[T], name: str) -> list[T]:
    """The rows of a shipped table, as what they were written from."""
    convert: dict[str, Callable[[str], Any]] = {
        "str": str, "int": int, "float": float, "float | None": lambda text: float(text) if text else None
    }  # fmt: skip
    kinds = {field.name: convert[str(field.type)] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    with (FIGURES / name).open(newline="") as file:
        return [kind(**{key: kinds[key](value) for key, value in row.items()}) for row in csv.DictReader(file)]
