"""Tables that pictures are drawn from, in whatever form they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any

from xbarsim.foundation.validation import InputError, check_instance, shown

__all__ = ["grouped", "rows_of"]


def rows_of(name: str, data: Any, keys: Sequence[str], what: str = "point") -> list[Mapping[str, Any]]:
    """A pandas frame, a dictionary of columns or a list of rows as a list of rows that have `keys`.

    Raises
    ------
    InputError
        If there are none, naming the argument and `what` it should hold, or one lacks a key.
    """
    if hasattr(data, "to_dict"):  # a pandas frame, without loading pandas
        rows: Any = data.to_dict("records")
    elif isinstance(data, Mapping):
        for key, column in data.items():
            check_instance(f"{name}[{key!r}]", column, Sized)
        lengths = {key: len(column) for key, column in data.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{name} must have columns of one length, got {lengths}")
        rows = [dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True)]
    else:
        rows = data
    if not isinstance(rows, list | tuple) or not rows:
        raise InputError(
            f"{name} must hold at least one {what}, got {'none' if isinstance(rows, list | tuple) else shown(rows)}"
        )
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"{name}[{index}] must be a row, its values by key, got {shown(row)}")
        for key in keys:
            if key not in row:
                raise InputError(f"{name}[{index}] must have a key {key!r}, got {', '.join(map(str, row))}")
    return list(rows)


def grouped(rows: Sequence[Mapping[str, Any]], key: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Rows by their value of `key`, in the order in which the values first appear."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups
