"""The tables of a store, what a row of them may hold, and where dies come from."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from xbarsim.foundation.jsonio import parse_object
from xbarsim.foundation.validation import FileFormatError, InputError, check_instance, check_integer, check_real, shown
from xbarsim.foundation.version import VERSION
from xbarsim.sweep.results import FailedDie, MeasuredDie

__all__ = [
    "APPLICATION", "ASKED_COLUMNS", "COLUMNS", "EVERY_TASK", "FAILED_COLUMNS", "RUN_COLUMNS", "SCHEMA", "as_json",
    "checksum", "failed_die", "insertion", "measured_die", "provenance", "seal", "selection", "tables", "upgrade",
]  # fmt: skip

SCHEMA = 3
"""Version of the tables; a store of a newer version is refused, one of an older version is read, and brought up to date
when it is written to: 2 added the table of failed dies, 3 the checksums."""

APPLICATION = 0x78627331  # "xbs1": what kind of SQLite file it is

_TABLES = """
CREATE TABLE schema (version INTEGER NOT NULL);
CREATE TABLE runs (
    run TEXT PRIMARY KEY,           -- a random id
    started TEXT NOT NULL,          -- UTC
    host TEXT NOT NULL,
    git_commit TEXT NOT NULL,       -- of the simulator, '' where unknown, with '+' where files had been changed
    versions TEXT NOT NULL,         -- JSON: python and packages
    configuration TEXT NOT NULL     -- the resolved sweep
    {checksum}
);
CREATE TABLE tasks (
    task TEXT PRIMARY KEY,          -- SHA-256 of the description
    description TEXT NOT NULL       -- canonical JSON of everything that changes the answer
);
CREATE TABLE asked (
    task TEXT NOT NULL REFERENCES tasks,
    tags TEXT NOT NULL,             -- JSON
    columns TEXT NOT NULL,          -- JSON: the task's columns in a table
    stop TEXT NOT NULL,             -- JSON: the stop rule
    asked TEXT NOT NULL,            -- UTC
    position INTEGER NOT NULL       -- in its sweep
    {checksum},
    PRIMARY KEY (task, tags)
);
CREATE TABLE blocks (
    task TEXT NOT NULL REFERENCES tasks,
    die INTEGER NOT NULL,
    correct INTEGER NOT NULL,
    images INTEGER NOT NULL,
    seconds REAL NOT NULL,
    inference_seconds REAL NOT NULL,
    fault_hash TEXT NOT NULL,
    cells INTEGER NOT NULL,
    stuck_on INTEGER NOT NULL,
    stuck_off INTEGER NOT NULL,
    stuck_at INTEGER NOT NULL,
    metrics TEXT NOT NULL,          -- JSON
    run TEXT NOT NULL REFERENCES runs
    {checksum},
    PRIMARY KEY (task, die)
) WITHOUT ROWID;
"""

_FAILED = """
CREATE TABLE failed (
    task TEXT NOT NULL REFERENCES tasks,
    die INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    reason TEXT NOT NULL,           -- in one line
    traceback TEXT NOT NULL,        -- '' where the worker process ended
    run TEXT NOT NULL REFERENCES runs
    {checksum},
    PRIMARY KEY (task, die)
) WITHOUT ROWID;
"""

_CHECKSUM = "checksum INTEGER NOT NULL DEFAULT 0"  # of the other columns

RUN_COLUMNS = ("run", "started", "host", "git_commit", "versions", "configuration")
ASKED_COLUMNS = ("task", "tags", "columns", "stop", "asked", "position")
COLUMNS = (
    "task", "die", "correct", "images", "seconds", "inference_seconds", "fault_hash", "cells", "stuck_on", "stuck_off",
    "stuck_at", "metrics",
)  # fmt: skip


_STUCK = ("stuck_on", "stuck_off", "stuck_at")
# What every table of a task has; columns that were added later are not in old stores.
EVERY_TASK = ("task", "network", "encoding", "fault_model", "fault_rate", "fault_rate_on", "fault_rate_off", "seed")

FAILED_COLUMNS = ("task", "die", "tries", "reason", "traceback")

_SUMMED = {
    "runs": RUN_COLUMNS,
    "asked": ASKED_COLUMNS,
    "blocks": (*COLUMNS, "run"),
    "failed": (*FAILED_COLUMNS, "run"),
}


def tables(version: int) -> list[str]:
    """The statements that make the tables of a version of the schema."""
    text = _with_checksums(_TABLES + (_FAILED if version >= 2 else ""), version)
    return [statement for statement in text.split(";\n") if statement.strip()]


def _with_checksums(text: str, version: int) -> str:
    return text.replace("    {checksum}", f"    , {_CHECKSUM}" if version >= 3 else "")


def checksum(*values: object) -> int:
    """64 bits of BLAKE2 of the values of a row: disks and cables change bytes, and no number may change with them.

    It is no signature: who changes a store on purpose can write its checksums too.
    """
    text = repr(values).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), signed=True)


def insertion(table: str) -> str:
    """The statement that inserts a row, whose values are numbered, with its checksum."""
    values = ", ".join(f"?{number + 1}" for number in range(len(_SUMMED[table])))
    return f"INSERT INTO {table} SELECT {values}, checksum({values}) WHERE true"


def selection(table: str, columns: Sequence[str], version: int) -> str:
    """The statement that reads rows, before the first value of each whether it is as it was written."""
    whole = "1" if version < 3 else f"checksum = {_checksum_of(table)}"
    return f"SELECT {whole}, {', '.join(columns)} FROM {table}"


def _checksum_of(table: str) -> str:
    return f"checksum({', '.join(_SUMMED[table])})"


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables of an older version up to date, in the transaction that is open."""
    if version < 2:
        connection.execute(_with_checksums(_FAILED, 2))
    if version < 3:
        for table in _SUMMED:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {_CHECKSUM}")
        seal(connection)
    connection.execute("UPDATE schema SET version = ?", (SCHEMA,))


def seal(connection: sqlite3.Connection) -> None:
    """Give all rows the checksums of what they hold."""
    for table in _SUMMED:
        connection.execute(f"UPDATE {table} SET checksum = {_checksum_of(table)}")


def as_json(value: Any) -> str:
    """A value as JSON, the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@cache
def provenance() -> Mapping[str, str]:
    """Host, git commit and versions of what is installed here, as of when this process first asked."""
    versions = {"python": platform.python_version(), "xbarsim": VERSION}
    for name in ("numpy", "scipy", "numba", "llvmlite", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    folder = Path(__file__).resolve().parents[1]
    return {
        "host": f"{platform.node()} ({platform.machine()})",
        "git_commit": _git(folder),
        "versions": as_json(versions),
    }


def _git(folder: Path) -> str:
    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(ask("rev-parse", "--show-toplevel")).resolve() != folder.parent:
            return ""  # installed inside the checkout of another project
        return ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def measured_die(row: Sequence[Any], path: Path) -> MeasuredDie:
    """A die of a file, if it can be one.

    Raises
    ------
    FileFormatError
        If a value is of another type than it must be, or out of bounds.
    """
    values: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    try:
        check_instance("task", values["task"], str)
        check_instance("fault_hash", values["fault_hash"], str)
        for name in ("die", "images", "cells", "stuck_on", "stuck_off", "stuck_at"):
            check_integer(name, values[name], at_least=0)
        check_integer("correct", values["correct"], at_least=0, at_most=values["images"])
        check_integer("stuck cells", sum(values[name] for name in _STUCK), at_most=values["cells"])
        for name in ("seconds", "inference_seconds"):
            check_real(name, values[name], at_least=0.0)
        values["metrics"] = parse_object(values["metrics"], source="metrics")
        for name, value in values["metrics"].items():
            check_instance(f"metric {name!r}", value, (int, float, str))
    except ValueError as error:
        raise FileFormatError(f"{path} is corrupt: die {shown(values['die'])}: {error}") from error
    return MeasuredDie(**values)


def failed_die(row: Sequence[Any], path: Path) -> FailedDie:
    """A failed die of a file, if it can be one; errors as :func:`measured_die`."""
    values: dict[str, Any] = dict(zip(FAILED_COLUMNS, row, strict=True))
    try:
        for name in ("task", "reason", "traceback"):
            check_instance(name, values[name], str)
        check_integer("die", values["die"], at_least=0)
        check_integer("tries", values["tries"], at_least=1)
        if not values["reason"].isprintable():
            raise InputError(f"reason must be printable, in one line, got {shown(values['reason'])}")
    except ValueError as error:
        raise FileFormatError(f"{path} is corrupt: failed die {shown(values['die'])}: {error}") from error
    return FailedDie(**values)
