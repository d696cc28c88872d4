"""Sweeps as TOML files: one table of what all points share, and what is varied.

.. code-block:: toml

    network = "digits"          # the fields of a Task: network, data_set, images, calibration, seed, measures, tags
    images = 200
    rates = [0.0, 0.01, 0.05]   # total probability that a cell is stuck; the ratio on : off is that of design.faults

    [[mitigations]]             # what is done about faults, one after another
    type = "PermuteRows"

    [diagnosis]                 # what a test finds out about them
    coverage = 0.99

    [stop]                      # Dies, MeanWithin or YieldWithin, with their fields
    type = "Dies"
    count = 20

    [design]                    # as Design.save writes it; or the path of such a file, or a name of 'info designs'
    cell = "islped2019"
    faults = "chen2015_sa0_hrs"

    [vary.mapping.TwoColumn]    # vary.TAG.VALUE: what this value of the tag changes in the tables above
    design.mapping.encoding.type = "TwoColumn"

    [vary.mapping.Differential]
    design.mapping.encoding.type = "Differential"

Every combination of the values of all tags, and of the rates, is a task. Paths start in the folder of the file. Parts
of your own are named where those of the project are: ``network = "my_networks.py:subject"`` or ``"net.onnx"``,
``design.mapping.encoding.type = "my_parts:Parked"``; modules are found where Python finds them, or beside the file.
What is named so is imported, which runs it; a design in a file of its own names no code.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from xbarsim.design import Design
from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.named import look_in, names_code
from xbarsim.foundation.validation import FileFormatError, InputError, check_real
from xbarsim.sweep.stopping import StopRule
from xbarsim.sweep.subject import absolute_files
from xbarsim.sweep.task import Task

__all__ = ["Sweep", "TaskTables", "as_table", "label", "read_stop", "reading"]

_MOST_TASKS = 100_000  # a task takes some 10 kB
_OWN = ("stop", "rates", "vary", "tags")  # keys of a file that are no fields of a task, or not for values to change
_FIELDS = frozenset(field.name for field in fields(Task))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep file asks for.

    Attributes
    ----------
    tasks
        Every combination, the first axis of the file slowest, the rates fastest.
    stop
        When each has enough dies.
    text
        The file.
    """

    tasks: tuple[Task, ...]
    stop: StopRule
    text: str

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @entrance
    def load(cls, path: str | os.PathLike[str]) -> Sweep:
        """Read a sweep from a TOML file.

        Raises
        ------
        FileFormatError
            If the file cannot be read, is not TOML, or has unknown keys or wrong types.
        InputError
            If a value is out of bounds.
        """
        text = tomlio.read_text(path, "a sweep")
        return cls.loads(text, source=str(path), folder=Path(path).parent)

    @classmethod
    @entrance
    def loads(cls, text: str, *, source: str = "TOML text", folder: str | os.PathLike[str] = ".") -> Sweep:
        """Read a sweep from TOML text; errors as :meth:`load`.

        Parameters
        ----------
        text
            The TOML.
        source
            What messages call it.
        folder
            Where the path of a design starts.
        """
        with reading(text, source, Path(folder)) as (table, at):
            if "search" in table:
                raise FileFormatError("this is a search, for 'xbarsim search'; a sweep has no table 'search'")
            stop = read_stop(table, Path(folder))
            return cls(tasks=tuple(_tasks(TaskTables(table, Path(folder), at))), stop=stop, text=text)


@contextlib.contextmanager
def reading(text: str, source: str, folder: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The tables of a file that may name code, and a list in which whoever reads them notes where; errors say where.

    Parameters
    ----------
    text, source, folder
        As in :meth:`Sweep.loads`.
    """
    table = tomlio.parse(text, source=source)
    if _names_code(table):
        look_in(folder)
    at: list[str] = []  # where the values stand that are being read: in the tables of vary, then in the others
    try:
        yield table, at
    except (FileFormatError, InputError) as error:
        varied = list(reversed(at))
        places = [*(f"{where}.{error.place}" for where in varied), error.place] if error.place else varied
        raise type(error)(f"{tomlio.located(source, text, places)}: {error}") from error


def read_stop(table: dict[str, Any], folder: Path) -> StopRule:
    """Take the stop rule out of a file's table.

    Raises
    ------
    FileFormatError
        If there is none.
    """
    if "stop" not in table:
        raise FileFormatError("stop is missing; it must be a table (StopRule)")
    kind: Any = StopRule
    stop: StopRule = tomlio.from_table(kind, as_table(table.pop("stop"), "stop"), path="stop", code=folder)
    return stop


def _names_code(value: Any, key: str = "") -> bool:
    """Whether something of a sweep is a name of code: a network, a measure or the type of a part."""
    if isinstance(value, dict):
        return any(_names_code(item, name) for name, item in value.items())
    if isinstance(value, list):
        return any(_names_code(item, key) for item in value)
    return isinstance(value, str) and key in ("network", "measures", "metrics", "type") and names_code(value)


def as_table(value: Any, path: str) -> dict[str, Any]:
    """A value that must be a table."""
    if not isinstance(value, dict):
        raise FileFormatError(f"{path} must be a table, got {value!r}")
    return value


class TaskTables:
    """What all tasks of a file share, and what each value of each tag changes in it.

    Parameters
    ----------
    table
        The file, without what is not of tasks.
    folder
        Where paths start, and modules stand beside the file.
    at
        Where to note where the values stand that are being read, for messages.
    what
        What messages call the file.

    Attributes
    ----------
    axes
        Values of each tag, with what they change; the first of the file first.
    rates
        Fault rates, or ``None``.

    Raises
    ------
    FileFormatError
        If a key is unknown, or of the wrong type.
    InputError
        If a rate is out of its bound.
    """

    def __init__(self, table: dict[str, Any], folder: Path, at: list[str], *, what: str = "a sweep") -> None:
        self.folder = folder
        self._at = at
        self.axes: dict[str, dict[str, dict[str, Any]]] = {}
        for tag, values in as_table(table.pop("vary", {}), "vary").items():
            points = as_table(values, f"vary.{tag}")
            if not points:
                raise FileFormatError(f"vary.{tag} must have at least one value, got none")
            self.axes[tag] = {value: as_table(change, f"vary.{tag}.{value}") for value, change in points.items()}
        rates = table.pop("rates", None)
        if rates is not None:
            if not isinstance(rates, list) or not rates:
                raise FileFormatError(f"rates must be an array of at least one number, got {rates!r}")
            rates = [check_real(f"rates[{index}]", rate, at_least=0.0, at_most=1.0) for index, rate in enumerate(rates)]
        self.rates: list[float] | None = rates
        self._tags = as_table(table.pop("tags", {}), "tags")
        known = _FIELDS | set(_OWN)
        unknown = sorted(set(table) - known)
        if unknown:
            names = ", ".join(sorted(known))
            raise FileFormatError(f"{what} has no key {', '.join(map(repr, unknown))}; its keys are {names}")
        _read_design(table, folder)
        self._shared = table

    def tasks(self, chosen: Mapping[str, str], fields_of: Mapping[str, Any] | None = None) -> list[Task]:
        """The tasks of one combination, one for each rate.

        Parameters
        ----------
        chosen
            One value of each tag.
        fields_of
            Values of single fields besides, by their dotted names, such as ``"design.mapping.rows"``; each is a tag.

        Raises
        ------
        FileFormatError
            If a key is unknown, or of the wrong type.
        InputError
            If a value is out of its bound.
        """
        merged = copy.deepcopy(self._shared)
        self._at[:] = [f"vary.{tag}.{value}" for tag, value in chosen.items()]
        for tag, value in chosen.items():
            change = self.axes[tag][value]
            for key in change:
                if key in _OWN or key not in _FIELDS:
                    raise FileFormatError(f"vary.{tag}.{value} cannot change {key!r}")
            merged = _merge(merged, copy.deepcopy(change))
        _read_design(merged, self.folder)
        for name, value in (fields_of or {}).items():
            _put(merged, name, copy.deepcopy(value))
        if isinstance(merged.get("network"), str) and isinstance(merged.get("data_set", ""), str):
            network, images = absolute_files(self.folder, merged["network"], merged.get("data_set"))
            merged |= {"network": network} | ({} if images is None else {"data_set": images})
        task = tomlio.from_table(Task, merged, code=self.folder)
        labels = {**self._tags, **chosen, **{name: label(value) for name, value in (fields_of or {}).items()}}
        made = []
        for rate in [None] if self.rates is None else self.rates:
            design = task.design
            if rate is not None:
                if design.faults is None:
                    raise InputError("rates needs a fault model in design.faults to take the ratio from, got none")
                design = design.replace(faults=design.faults.with_total(rate))
            # all tasks of a combination share one network by name, so a copy costs nothing
            made.append(_copy(task, design, labels))
        return made


def label(value: Any) -> str | int | float | bool:
    """What a tag says of a value: numbers and text as they are, a part by its type, anything else as JSON."""
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dict) and set(value) == {"type"}:
        return str(value["type"])
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _put(table: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        table = as_table(table.setdefault(part, {}), part)
    table[last] = value


def _tasks(tables: TaskTables) -> list[Task]:
    count = math.prod(map(len, tables.axes.values())) * (1 if tables.rates is None else len(tables.rates))
    if count > _MOST_TASKS:
        raise InputError(f"vary and rates must give at most {_MOST_TASKS} tasks, got {count}")
    return [
        task
        for combination in itertools.product(*tables.axes.values())
        for task in tables.tasks(dict(zip(tables.axes, combination, strict=True)))
    ]


def _copy(task: Task, design: Any, tags: dict[str, Any]) -> Task:
    values = {field.name: getattr(task, field.name) for field in fields(Task)}
    return Task(**{**values, "design": design, "tags": tags})


def _read_design(table: dict[str, Any], folder: Path) -> None:
    """Replace the name or the path of a design by its table, so that parts of it can be varied."""
    design = table.get("design")
    if isinstance(design, str) and design.isidentifier():  # a path has a dot or a separator
        table["design"] = tomlio.to_table(Design.load(design))
    elif isinstance(design, str):
        path = folder / design
        read = tomlio.parse(tomlio.read_text(path, "a design"), source=str(path))
        if _names_code(read):
            raise FileFormatError(
                f"design must be a file that names no code, got {path}: name your parts in the sweep itself, under "
                "[design], which then has all that stands in the file"
            )
        table["design"] = read


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables put over tables; a table of another ``type`` takes the place of the old one."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("type", old.get("type")) == old.get("type"):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged
