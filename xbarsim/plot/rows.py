"""Tables that pictures are drawn from, in whatever form they come."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

from xbarsim.foundation.validation import InputError, check_instance, shown
from xbarsim.foundation.words import one_of

if TYPE_CHECKING:
    from xbarsim.sweep.results import Results

__all__ = ["Row", "grouped", "mixed_column", "rows_of", "table_of", "telling_columns"]

Row = Mapping[str, Any]

_TELLING = ("network", "encoding", "cell", "fault_model", "mitigation", "age", "seed")


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


def telling_columns(results: Results, rows: Sequence[Row]) -> list[str]:
    """Columns, tags first, that tell the tasks of one fault rate apart; none that the others already say."""
    tags = list(dict.fromkeys(name for task in results.tasks for name in task.tags))
    kept: list[str] = []
    for name in [*tags, *_TELLING]:
        without = {tuple(row.get(k) for k in kept) for row in rows}
        if len({tuple(row.get(k) for k in [*kept, name]) for row in rows}) > len(without):
            kept.append(name)
    return kept


def mixed_column(rows: Sequence[Row], group: str, fixed: Sequence[str]) -> tuple[str, list[Any]] | None:
    """The first of some columns that has several values in one group, and these values, sorted by their text."""
    for name in fixed:
        for members in grouped(rows, group).values():
            values = {row[name] for row in members}
            if len(values) > 1:
                return name, sorted(values, key=str)
    return None


def table_of(
    name: str,
    data: Any,
    keys: Sequence[str],
    *,
    group: str | None,
    groups: Sequence[str],
    rate: str | None = None,
    rates: Sequence[str] = (),
    what: str = "point",
) -> tuple[list[Row], str, str]:
    """Rows, and the keys of their groups and of their fault rates, from whatever a picture is drawn of.

    Parameters
    ----------
    name
        What messages call `data`.
    data
        What :func:`rows_of` takes; or results of a sweep, a store, or the path of one.
    keys
        What every row must have besides.
    group, rate
        Keys that were asked for; ``None`` for the first of `groups` and `rates` that a table has. Of results, those of
        a sweep: the last column that tells the tasks apart, and ``"fault_rate"``.
    groups, rates
        Keys to choose from. A picture without rates mixes none.
    what
        What there must be at least one of.

    Raises
    ------
    InputError
        If there are no rows, one lacks a key, or results differ in more than group and rate: they would be drawn as
        one.
    """
    results = _results_of(data)
    if results is None:
        rows = rows_of(name, data, (), what)
        group = _chosen(name, rows, "group", group, groups)
        rate = _chosen(name, rows, "rate", rate, rates) if rates else ""
        return rows_of(name, rows, (*([rate] if rates else []), group, *keys), what), group, rate
    counted: list[Row] = list(results.rows())
    if not counted:
        raise InputError(f"{name} must hold at least one die that counts, got none")
    telling = telling_columns(results, counted)
    group = (telling[-1] if telling else "encoding") if group is None else group
    if group not in counted[0]:
        raise InputError(f"group must be {one_of(group, counted[0])}")
    rate = ("fault_rate" if rate is None else rate) if rates else ""
    fixed = [*telling, *([] if rates or group == "fault_rate" else ["fault_rate"])]
    mixed = mixed_column(counted, group, [column for column in fixed if column != rate])
    if mixed is not None:
        column, values = mixed
        raise InputError(
            f"{name} must be of one {column} in each {group}, got {', '.join(map(str, values))}: choose with "
            f"results.to_frame(), or group={column!r}"
        )
    return rows_of(name, counted, (*([rate] if rates else []), group, *keys), what), group, rate


def _chosen(name: str, rows: Sequence[Row], parameter: str, asked: str | None, known: Sequence[str]) -> str:
    if asked is not None:
        return asked
    for key in known:
        if key in rows[0]:
            return key
    raise InputError(
        f"{name}[0] must have a key {' or '.join(map(repr, known))}, got {', '.join(map(str, rows[0]))}; {parameter} "
        "names another"
    )


def _results_of(data: Any) -> Results | None:
    """Results, from a store too; ``None`` for what is none."""
    from xbarsim.sweep.results import Results
    from xbarsim.sweep.store import Store

    if isinstance(data, Results):
        return data
    if isinstance(data, Store):
        return data.results()
    if isinstance(data, str | os.PathLike):
        with Store(data, read_only=True) as kept:
            return kept.results()
    return None
