"""One SQLite file that keeps every die of a sweep, with where each came from.

The parent process of a sweep is the only one that writes; commits are batched, and what is committed survives a kill at
any moment. Others may read at the same time. A die is identified by its task's id and its number, and gives the same
answer wherever it was measured, so that bringing two stores together is the union of two sets. A die that could not be
measured is kept too, with the reason, until it is measured after all.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.jsonio import parse_object
from xbarsim.foundation.validation import (
    FileFormatError,
    FileWriteError,
    InputError,
    check_instance,
    check_integer,
    check_path,
    check_real,
    check_writable,
    shown,
)
from xbarsim.sweep.results import FailedDie, MeasuredDie, Results, TaskResult
from xbarsim.sweep.schema import (
    APPLICATION,
    ASKED_COLUMNS,
    COLUMNS,
    EVERY_TASK,
    FAILED_COLUMNS,
    RUN_COLUMNS,
    SCHEMA,
    as_json,
    checksum,
    failed_die,
    insertion,
    measured_die,
    provenance,
    selection,
    tables,
    upgrade,
)
from xbarsim.sweep.stopping import StopRule, describe
from xbarsim.sweep.task import Task

__all__ = ["Store"]

_SECONDS = 1.0  # between commits
_PATIENCE = 30.0  # seconds to wait for another process that reads or writes


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _no_earlier(now: str, latest: object) -> str:
    """Now, or a microsecond after the latest moment there is: the clock may have been set back."""
    if latest is None:
        return now
    try:
        later = datetime.datetime.fromisoformat(str(latest)) + datetime.timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise FileFormatError(f"asked must be a time, got {shown(latest)}") from error
    return max(now, later.isoformat(timespec="microseconds"))


def _check_description(task: object, description: object, path: Path) -> str:
    """A description, refused where it is not the one that the id is the hash of."""
    if not isinstance(description, str) or hashlib.sha256(description.encode()).hexdigest() != task:
        raise FileFormatError(f"{path} is corrupt: task {shown(task)} is not what its description says")
    return description


class Store:
    """The results of sweeps in one file.

    Parameters
    ----------
    path
        An SQLite file; made where it does not exist, unless `read_only`.
    read_only
        Only look: for watching a sweep while it runs.

    Raises
    ------
    FileFormatError
        If the file is no store, is corrupt, is of a newer schema, cannot be read, or stays locked by another process
        for 30 s.
    FileWriteError
        If it cannot be written.
    """

    @entrance
    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = check_path("store", path)
        self.read_only = read_only
        self._run: str | None = None
        self._pending: list[MeasuredDie] = []
        self._version = SCHEMA
        self._committed = time.monotonic()
        if read_only and not self.path.is_file():
            raise FileFormatError(f"cannot read store {self.path}: there is no such file")
        if not self.path.is_dir():  # SQLite says that of a folder
            check_writable(self.path)  # a pipe or device would be waited for
        if not read_only and not self.path.parent.is_dir():
            raise FileWriteError(None, f"cannot write store {self.path}: there is no folder {self.path.parent}")
        if read_only:
            self._finish_cut_off_write()
        with self._errors():
            self._connection = self._connect("ro" if read_only else "rwc")
        try:
            with self._errors():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def _connect(self, mode: str) -> sqlite3.Connection:
        address = f"{self.path.resolve().as_uri()}?mode={mode}"
        connection = sqlite3.connect(address, uri=True, timeout=_PATIENCE, isolation_level=None)
        connection.create_function("checksum", -1, checksum, deterministic=True)
        return connection

    def _finish_cut_off_write(self) -> None:
        """Let SQLite roll back what a killed process left half-written, which it does not on a read-only connection."""
        if self.path.with_name(self.path.name + "-journal").exists():
            with contextlib.suppress(sqlite3.Error), contextlib.closing(self._connect("rw")) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def _open(self) -> None:
        """Make the tables of a new file; see that an old one is a whole store that this version understands."""
        empty = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty and not self.read_only:
            with self._writing():
                # asked again inside the transaction: another process may have made them meanwhile
                if self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    for statement in tables(SCHEMA):
                        self._connection.execute(statement)
                    self._connection.execute("INSERT INTO schema VALUES (?)", (SCHEMA,))
                    self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
        application = self._connection.execute("PRAGMA application_id").fetchone()[0]
        if application != APPLICATION:
            raise FileFormatError(f"{self.path} is not a store of sweeps")
        version = self._check_tables()
        state = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if state != "ok":
            raise FileFormatError(f"{self.path} is corrupt: {' '.join(state.split())}")
        if not self.read_only:
            self._connection.execute("PRAGMA foreign_keys = ON")
            with self._writing():  # is it really writable?
                self._connection.execute("UPDATE schema SET version = version")
                # another process may have brought it up to date meanwhile
                (version,) = self._connection.execute("SELECT max(version) FROM schema").fetchone()
                if version != SCHEMA:
                    upgrade(self._connection, version)
            version = SCHEMA
        self._version = version

    def _check_tables(self) -> int:
        """Refuse other tables, and whatever else a database can hold: triggers and views run what their maker wants.

        The version of the schema is returned.
        """
        found = self._connection.execute(
            "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        ).fetchall()
        if ("table", "schema") not in found:
            raise FileFormatError(f"{self.path} is not a store of sweeps: it has no table 'schema'")
        (version,) = self._connection.execute("SELECT max(version) FROM schema").fetchone()
        if version not in range(1, SCHEMA + 1):
            raise FileFormatError(
                f"{self.path} is a store of schema {version}, this version of xbarsim reads and writes schema {SCHEMA}"
            )
        with contextlib.closing(sqlite3.connect(":memory:")) as model:
            for statement in tables(version):
                model.execute(statement)
            wanted = [name for (name,) in model.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for kind, name in found:
                if kind != "table" or name not in wanted:
                    raise FileFormatError(f"{self.path} is not a store of sweeps: it has a {kind} {name!r}")
            for name in wanted:
                question = f"SELECT name, type, pk FROM pragma_table_info('{name}')"
                if self._connection.execute(question).fetchall() != model.execute(question).fetchall():
                    raise FileFormatError(f"{self.path} is not a store of sweeps: its table {name!r} is another")
        return int(version)

    def _rows(
        self, table: str, columns: Sequence[str], rest: str = "", values: Sequence[Any] = ()
    ) -> Iterator[list[Any]]:
        """Values of rows of a table, one after another, refused where one is not as it was written."""
        question = f"{selection(table, columns, self._version)} {rest}"
        for whole, *row in self._connection.execute(question, values):
            if not whole:
                raise FileFormatError(
                    f"{self.path} is corrupt: a row of table {table!r} has changed since it was written: "
                    f"{', '.join(shown(value) for value in row[:2])}, ..."
                )
            yield row

    # ------------------------------------------------------------------------------------- housekeeping

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What SQLite says, in the words of this project."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "") or ""
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                message = f"store {self.path} is locked by another process"
                raise FileWriteError(None, message) from error
            if name.startswith("SQLITE_FULL"):
                raise FileWriteError(None, f"cannot write store {self.path}: the disk is full") from error
            if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
                raise FileWriteError(None, f"cannot write store {self.path}: it is read-only") from error
            if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_FORMAT", "SQLITE_ERROR")):
                raise FileFormatError(f"{self.path} is not a store of sweeps, or is corrupt: {error}") from error
            if self.read_only:
                raise FileFormatError(f"cannot read store {self.path}: {error}") from error
            raise FileWriteError(None, f"cannot write store {self.path}: {error}") from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that is kept whole or not at all."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk may have ended it already
                self._connection.execute("ROLLBACK")
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is waiting, and close the file; a second time does nothing.

        Raises
        ------
        FileWriteError
            If it cannot be written; see :meth:`flush`.
        """
        try:
            self.flush()
        finally:
            self._pending = []
            self._connection.close()

    # --------------------------------------------------------------------------------------------- write

    @entrance
    def begin(self, tasks: Sequence[Task], stop: StopRule, *, configuration: str = "") -> None:
        """Note that a run starts, and what it was asked for.

        Parameters
        ----------
        tasks, stop
            What is asked for. A task that was asked before with the same tags now has this stop rule.
        configuration
            The sweep, as it was resolved.
        """
        origin = provenance()
        run, now = uuid.uuid4().hex, _now()
        with self._errors(), self._writing():
            (latest,) = self._connection.execute("SELECT max(asked) FROM asked").fetchone()
            asked = _no_earlier(now, latest)
            self._connection.execute(
                insertion("runs"),
                (run, now, origin["host"], origin["git_commit"], origin["versions"], configuration),
            )
            for position, task in enumerate(tasks):
                self._connection.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?)", (task.id, task.description))
                tags, columns = as_json(dict(task.tags)), json.dumps(task.columns())
                self._ask(task.id, tags, columns, as_json(describe(stop)), asked, position)
        self._run = run

    def _ask(self, task: str, tags: str, columns: str, stop: str, asked: str, position: int) -> None:
        # the latest rule holds, whichever of two stores it is in
        self._connection.execute(
            f"{insertion('asked')} ON CONFLICT (task, tags) DO UPDATE SET columns = excluded.columns, "
            "stop = excluded.stop, asked = excluded.asked, position = excluded.position, checksum = excluded.checksum "
            "WHERE (excluded.asked, excluded.stop) > (asked.asked, asked.stop)",
            (task, tags, columns, stop, asked, position),
        )

    @entrance
    def add(self, measured: MeasuredDie) -> None:
        """Keep one die. It is on the disk a second later, or after :meth:`flush`.

        Raises
        ------
        InputError
            If the store holds another answer for the same die, or no run was begun.
        FileWriteError
            If the store cannot be written; see :meth:`flush`.
        """
        if self._run is None:
            raise InputError("begin must be called before a store takes dies")
        with self._errors():
            self._check_same(measured)
        self._pending.append(measured)
        if time.monotonic() - self._committed >= _SECONDS:
            self.flush()

    @entrance
    def add_failed(self, failed: FailedDie) -> None:
        """Keep that a die could not be measured, at once; nothing is kept where it was measured after all.

        Raises
        ------
        InputError
            If no run was begun.
        FileWriteError
            If the store cannot be written.
        """
        if self._run is None:
            raise InputError("begin must be called before a store takes dies")
        self.flush()
        with self._errors(), self._writing():
            self._insert_failed(failed, self._run)

    def _insert_failed(self, failed: FailedDie, run: str) -> None:
        # of two records of one die the one of more tries is kept, whichever of two stores it is in
        self._connection.execute(
            f"{insertion('failed')} AND NOT EXISTS (SELECT 1 FROM blocks WHERE task = ?1 AND die = ?2) "
            "ON CONFLICT (task, die) DO UPDATE SET tries = excluded.tries, reason = excluded.reason, "
            "traceback = excluded.traceback, run = excluded.run, checksum = excluded.checksum "
            "WHERE (excluded.tries, excluded.reason, excluded.run) > (failed.tries, failed.reason, failed.run)",
            (*(getattr(failed, name) for name in FAILED_COLUMNS), run),
        )

    def flush(self) -> None:
        """Write all dies that wait.

        Raises
        ------
        FileWriteError
            If that fails. What is in the file stays; the dies that could not be written are saved in another store,
            in the folder for temporary files, which the message names where that was possible.
        """
        self._committed = time.monotonic()
        if not self._pending:
            return
        waiting = list(self._pending)
        try:
            with self._errors(), self._writing():
                assert self._run is not None
                self._insert(waiting, self._run)
        except FileWriteError as error:
            self._pending = []
            raise FileWriteError(None, f"{error.strerror}; {self._rescue(waiting)}") from error
        self._pending = []  # only now: an interrupt before leaves them waiting, and twice does no harm

    def _insert(self, dies: Iterable[MeasuredDie], run: str) -> None:
        for measured in dies:
            values = {name: getattr(measured, name) for name in COLUMNS}
            values["metrics"] = as_json(dict(measured.metrics))
            for name in ("seconds", "inference_seconds"):
                values[name] = float(values[name])  # as the table will have it, for the checksum
            changed = self._connection.execute(
                f"{insertion('blocks')} ON CONFLICT DO NOTHING", (*values.values(), run)
            ).rowcount
            if not changed:
                self._check_same(measured)
            self._connection.execute("DELETE FROM failed WHERE task = ? AND die = ?", (measured.task, measured.die))

    def _check_same(self, measured: MeasuredDie) -> None:
        for row in self._rows("blocks", COLUMNS, "WHERE task = ? AND die = ?", (measured.task, measured.die)):
            held = measured_die(row, self.path)
            if held.answer != measured.answer:
                raise InputError(
                    f"die {measured.die} of task {measured.task[:12]} must give one answer wherever it is measured, "
                    f"got {measured.correct} of {measured.images} images right where store {self.path} holds "
                    f"{held.correct} of {held.images} (or another fault map or metric)"
                )

    def _rescue(self, dies: Sequence[MeasuredDie]) -> str:
        """Save dies that the store does not take, and say where."""
        many = f"{len(dies)} di{'e' if len(dies) == 1 else 'es'}"
        target: Path | None = None
        try:
            with tempfile.NamedTemporaryFile(prefix="xbarsim-rescued-", suffix=".sqlite", delete=False) as file:
                target = Path(file.name)
            with Store(target) as other, other._errors(), other._writing():
                ids = {measured.task for measured in dies}
                for row in self._connection.execute("SELECT task, description FROM tasks").fetchall():
                    if row[0] in ids:
                        other._connection.execute("INSERT INTO tasks VALUES (?, ?)", row)
                for table, columns in (("runs", RUN_COLUMNS), ("asked", ASKED_COLUMNS)):
                    for values in self._rows(table, columns):
                        if table == "runs" or values[0] in ids:
                            other._connection.execute(insertion(table), values)
                assert self._run is not None
                other._insert(dies, self._run)
            return f"{many} that it did not take are in {target}: bring them in with xbarsim merge"
        except (OSError, ValueError, sqlite3.Error):
            if target is not None:
                target.unlink(missing_ok=True)
            return f"{many} that it did not take are lost and will be measured again"

    @entrance
    def merge(self, others: Sequence[str | os.PathLike[str]]) -> int:
        """Take over all that other stores hold: the union of the sets of dies.

        A die that failed in one store and was measured in another is measured.

        Parameters
        ----------
        others
            Paths of stores, which are not changed.

        Returns
        -------
        int
            How many dies were new. All others are in this store already.

        Raises
        ------
        InputError
            If two stores hold different answers for one die.
        FileFormatError, FileWriteError
            As when a store is opened. Nothing is taken over then.
        """
        before = self.count()
        with contextlib.ExitStack() as stack:
            stores = [stack.enter_context(Store(path, read_only=True)) for path in others]
            with self._errors(), self._writing():
                for other in stores:
                    with other._errors():
                        for row in other._rows("runs", RUN_COLUMNS):
                            self._connection.execute(f"{insertion('runs')} ON CONFLICT DO NOTHING", row)
                        for task, description in other._connection.execute("SELECT task, description FROM tasks"):
                            _check_description(task, description, other.path)
                            self._connection.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?)", (task, description))
                        for row in other._rows("asked", ASKED_COLUMNS):
                            self._ask(*row)
                        for *row, run in other._rows("blocks", (*COLUMNS, "run")):
                            self._insert([measured_die(row, other.path)], run)
                        for failed, run in other._failed_rows():
                            self._insert_failed(failed, run)
        return self.count() - before

    # ---------------------------------------------------------------------------------------------- read

    def count(self) -> int:
        """How many dies there are on the disk."""
        with self._errors():
            return int(self._connection.execute("SELECT count(*) FROM blocks").fetchone()[0])

    @entrance
    def dies(self, task: str) -> list[MeasuredDie]:
        """All dies of one task on the disk, in the order of their numbers."""
        with self._errors():
            rows = self._rows("blocks", COLUMNS, "WHERE task = ? ORDER BY die", (task,))
            return [measured_die(row, self.path) for row in rows]

    def _failed_rows(self, task: str | None = None) -> list[tuple[FailedDie, str]]:
        """Dies that failed, with the run of each: of one task, or all."""
        if self._version < 2:
            return []
        rows = self._rows("failed", (*FAILED_COLUMNS, "run"), "WHERE ? IN (task, '') ORDER BY task, die", (task or "",))
        return [(failed_die(row, self.path), run) for *row, run in rows]

    @entrance
    def failed(self, task: str) -> list[FailedDie]:
        """All dies of one task that could not be measured, in the order of their numbers."""
        with self._errors():
            return [failed for failed, _ in self._failed_rows(task)]

    def results(self) -> Results:
        """Everything that was asked for and what is known of it, in the order of asking."""
        with self._errors():
            descriptions = dict(self._connection.execute("SELECT task, description FROM tasks").fetchall())
            rows = list(
                self._rows("asked", ("task", "tags", "columns", "stop"), "ORDER BY asked, position, task, tags")
            )
            # every row is read, not looked for: where a key has changed in the file, others are not found by theirs
            dies: dict[str, list[MeasuredDie]] = {}
            for row in self._rows("blocks", COLUMNS, "ORDER BY task, die"):
                measured = measured_die(row, self.path)
                dies.setdefault(measured.task, []).append(measured)
            failures: dict[str, list[FailedDie]] = {}
            for failed, _ in self._failed_rows():
                failures.setdefault(failed.task, []).append(failed)
        tasks = []
        for task, tags, columns, stop in rows:
            try:
                description = _check_description(task, descriptions.get(task), self.path)
                rule = tomlio.from_table(StopRule, parse_object(stop, source="stop"))  # type: ignore[type-abstract]
                named, labels = parse_object(columns, source="columns"), parse_object(tags, source="tags")
                seeds = parse_object(description, source="description").get("seeds")
                missing = {name for name in (*EVERY_TASK, *labels) if name not in named}
                if missing or any(isinstance(value, dict | list) for value in named.values()):
                    raise FileFormatError(
                        f"columns must be plain values, every one of them, got none of {sorted(missing)}"
                    )
                if named["task"] != task:
                    raise FileFormatError(f"columns must be those of the task, got those of {shown(named['task'])}")
                check_integer("seed", named["seed"], at_least=0)
                for name in ("fault_rate", "fault_rate_on", "fault_rate_off"):
                    check_real(name, named[name], at_least=0.0, at_most=1.0)
                if seeds is not None:
                    check_instance("seeds", seeds, list)
                    seeds = tuple(check_integer("seeds", seed, at_least=0) for seed in seeds)
                tasks.append(
                    TaskResult(
                        columns=named,
                        tags=tuple(name for name in named if name in labels),
                        stop=rule,
                        collected=tuple(dies.get(task, ())),
                        seeds=seeds,
                        failed=tuple(failures.get(task, ())),
                    )
                )
            except ValueError as error:
                raise FileFormatError(f"{self.path} is corrupt: task {task[:12]}: {error}") from error
        return Results(tasks=tuple(tasks))

    def runs(self) -> list[dict[str, Any]]:
        """Where the dies came from: start, host, commit, versions and configuration of each run, and its dies."""
        with self._errors():
            rows = list(self._rows("runs", RUN_COLUMNS, "ORDER BY started, run"))
            dies = dict(self._connection.execute("SELECT run, count(*) FROM blocks GROUP BY run").fetchall())
        return [dict(zip((*RUN_COLUMNS, "dies"), (*row, dies.get(row[0], 0)), strict=True)) for row in rows]
