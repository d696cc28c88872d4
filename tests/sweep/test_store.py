"""The store: union of sets, provenance, and everything that can be wrong with a file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xbarsim
from tests.sweep.subjects import block, task
from xbarsim import FileFormatError, FileWriteError, InputError
from xbarsim.sweep import Dies, FailedDie, MeanWithin, MeasuredDie, Store
from xbarsim.sweep.schema import SCHEMA, checksum, seal

FIRST, SECOND = task(tags={"which": "first"}), task(seed=2, tags={"which": "second"})
ROOT = Path(__file__).resolve().parents[2]


def fill(path: Path, blocks: list[MeasuredDie], *, count: int = 3) -> None:
    with Store(path) as store:
        store.begin([FIRST, SECOND], Dies(count=count), configuration="the sweep")
        for found in blocks:
            store.add(found)


def content(path: Path) -> list[tuple[object, ...]]:
    with Store(path, read_only=True) as store:
        return [found.answer for result in store.results().tasks for found in result.collected]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    blocks = [block(FIRST.id, die, 30 + die, metrics={"x": 0.1 + die}) for die in (0, 1, 2, 5)]
    fill(tmp_path / "s.sqlite", [*blocks, block(SECOND.id, 0, 9)])
    with Store(tmp_path / "s.sqlite", read_only=True) as store:
        first, second = store.results().tasks
        assert first.collected == tuple(blocks)
        assert first.columns == FIRST.columns()
        assert first.tags == ("which",)
        assert first.stop == Dies(count=3)
        assert first.complete
        assert first.dies == tuple(blocks[:3])  # the die behind the gap does not count
        assert not second.complete
        assert store.count() == 5
        (run,) = store.runs()
    assert run["configuration"] == "the sweep"
    assert run["dies"] == 5
    assert json.loads(run["versions"])["xbarsim"] == xbarsim.__version__
    assert os.uname().nodename in run["host"]


def test_the_same_block_twice_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path, [block(FIRST.id, 0, 30), block(FIRST.id, 0, 30)])
    fill(path, [block(FIRST.id, 0, 30)])
    assert len(content(path)) == 1


def test_another_answer_for_a_die_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path, [block(FIRST.id, 0, 30)])
    with Store(path) as store:
        store.begin([FIRST], Dies(count=1))
        with pytest.raises(InputError, match=r"die 0 of task .* must give one answer .* got 31 of 40 .* holds 30"):
            store.add(block(FIRST.id, 0, 31))
    fill(tmp_path / "other.sqlite", [block(SECOND.id, 0, 1), block(FIRST.id, 0, 31)])
    with Store(path) as store, pytest.raises(InputError, match="must give one answer"):
        store.merge([tmp_path / "other.sqlite"])
    assert len(content(path)) == 1  # nothing of it was taken over


def test_blocks_need_a_run(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store, pytest.raises(InputError, match="begin must be called before"):
        store.add(block(FIRST.id, 0, 30))


def test_the_latest_rule_holds(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path, [block(FIRST.id, die, 30) for die in range(4)], count=2)
    with Store(path) as store:
        assert len(store.results().tasks[0].dies) == 2
        store.begin([FIRST], MeanWithin(half_width=0.5, at_least=3))
        assert len(store.results().tasks[-1].dies) == 3
        assert store.results().tasks[-1].tags == ("which",)


def test_the_latest_rule_holds_although_the_clock_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.sqlite"
    for now, count in (("2031-01-01T00:00:00.000000+00:00", 3), ("2020-01-01T00:00:00.000000+00:00", 2)):
        monkeypatch.setattr("xbarsim.sweep.store._now", lambda now=now: now)
        fill(path, [block(FIRST.id, die, 30) for die in range(4)], count=count)
        with Store(path, read_only=True) as store:
            assert store.results().tasks[0].stop == Dies(count=count)


@settings(max_examples=12)
@given(
    parts=st.lists(
        st.sets(st.tuples(st.sampled_from([FIRST.id, SECOND.id]), st.integers(0, 6))), min_size=1, max_size=3
    )
)
def test_merging_is_the_union(parts: list[set[tuple[str, int]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{index}.sqlite" for index in range(len(parts))]
        for path, part in zip(paths, parts, strict=True):
            fill(path, [block(key, die, (7 * die + len(key)) % 40) for key, die in part])
        tables = []
        for number, order in enumerate((paths, paths[::-1], paths + paths)):
            with Store(folder / f"merged{number}.sqlite") as store:
                assert store.merge(order) == len(set().union(*parts))
                assert store.merge(order) == 0
                tables.append([result.collected for result in store.results().tasks])
        assert tables[0] == tables[1] == tables[2]
        assert {(b.task, b.die) for blocks in tables[0] for b in blocks} == set().union(*parts)


def test_watching_while_a_sweep_writes(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.begin([FIRST], Dies(count=2))
        with Store(path, read_only=True) as watcher:
            assert watcher.count() == 0
            store.add(block(FIRST.id, 0, 30))
            store.flush()
            assert watcher.count() == 1
            assert watcher.results().tasks[0].dies == (block(FIRST.id, 0, 30),)


# --- files that are not as they should be


def change_rows(path: Path, change: str, *, seal_again: bool = True) -> None:
    """What somebody does on purpose, who gives the rows new checksums, or what befalls a file."""
    with sqlite3.connect(path) as connection:
        connection.create_function("checksum", -1, checksum)
        connection.execute(change)
        if seal_again:
            with contextlib.suppress(sqlite3.OperationalError):  # of tables that are gone
                seal(connection)
    connection.close()


def make_old(path: Path, version: int) -> None:
    """Make a store one of an older schema."""
    with sqlite3.connect(path) as connection:
        for table in ("runs", "asked", "blocks", "failed"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        if version < 2:
            connection.execute("DROP TABLE failed")
        connection.execute("UPDATE schema SET version = ?", (version,))
    connection.close()


def not_sqlite(path: Path) -> None:
    path.write_bytes(b"task,die,correct\n" * 100)


def another_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE schema SET version = ?", (SCHEMA + 1,))
    connection.close()


def cut(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def garbled(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[4096:12288] = b"\xa5" * 8192
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (not_sqlite, "is not a store of sweeps, or is corrupt: file is not a database"),
        (another_database, "is not a store of sweeps"),
        (newer, f"is a store of schema {SCHEMA + 1}, this version of xbarsim reads and writes schema {SCHEMA}"),
        (cut, "corrupt"),
        (garbled, "corrupt"),
    ],
)
def test_bad_files_are_refused_and_left_alone(
    tmp_path: Path, spoil: Callable[[Path], None], message: str, read_only: bool
) -> None:
    path = tmp_path / "s.sqlite"
    if spoil is not another_database:
        fill(path, [block(FIRST.id, die, 30) for die in range(300)])
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(FileFormatError, match=message) as caught:
        Store(path, read_only=read_only)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"cannot read store .* there is no such file"):
        Store(tmp_path / "none.sqlite", read_only=True)
    with pytest.raises(FileWriteError, match="there is no folder"):
        Store(tmp_path / "none" / "s.sqlite")
    with pytest.raises(FileWriteError, match="cannot write store"):
        Store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def as_nobody(action: Callable[[], object]) -> str:
    """What an action raises where this process may not write everywhere: root becomes another user for it."""
    if os.geteuid() != 0:
        try:
            action()
        except FileWriteError as error:
            return str(error.strerror)
        return ""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            action()
            os.write(sender, b"nothing was raised")
        except FileWriteError as error:
            os.write(sender, str(error.strerror).encode())
        finally:
            os._exit(0)
    os.close(sender)
    os.waitpid(child, 0)
    with os.fdopen(receiver) as stream:
        return stream.read()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_read_only_store() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "s.sqlite"
        fill(path, [block(FIRST.id, 0, 30)])
        before = path.read_bytes()
        path.chmod(0o444)
        folder.chmod(0o555)
        try:
            message = as_nobody(lambda: Store(path))
            assert message.startswith(f"cannot write store {path}: ")
            assert as_nobody(lambda: Store(folder / "new.sqlite")).startswith("cannot write store")
            assert content(path) == [block(FIRST.id, 0, 30).answer]  # but it can be looked at
        finally:
            folder.chmod(0o755)
        assert path.read_bytes() == before


def test_a_locked_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xbarsim.sweep.store._PATIENCE", 0.1)
    path = tmp_path / "s.sqlite"
    fill(path, [block(FIRST.id, 0, 30)])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    for read_only in (True, False):
        with pytest.raises(FileWriteError, match=r"store .*s\.sqlite is locked by another process"):
            Store(path, read_only=read_only)
    holder.execute("COMMIT")
    holder.close()
    assert len(content(path)) == 1


def test_a_full_disk_keeps_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own limit of pages gives the error that a full disk gives, at the same place."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "s.sqlite"
    fill(path, [block(FIRST.id, die, 30) for die in range(20)])
    store = Store(path)
    store.begin([FIRST, SECOND], Dies(count=3))
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    for die in range(20, 2000):
        store._pending.append(block(FIRST.id, die, 31))
    with pytest.raises(FileWriteError, match="the disk is full; 1980 dies that it did not take are in ") as caught:
        store.close()
    store.close()
    assert len(content(path)) == 20  # what was there is there
    (rescued,) = tmp_path.glob("xbarsim-rescued-*.sqlite")
    assert str(rescued) in str(caught.value.strerror)
    with Store(path) as store:
        assert store.merge([rescued]) == 1980
        assert store.count() == 2000


def test_a_full_disk_without_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    store = Store(tmp_path / "s.sqlite")
    store.begin([FIRST], Dies(count=3))
    store._connection.execute("PRAGMA max_page_count = 1")  # never fewer than there are
    for die in range(2000):
        store._pending.append(block(FIRST.id, die, 31))
    with pytest.raises(FileWriteError, match="2000 dies that it did not take are lost and will be measured again"):
        store.flush()
    store.close()
    assert content(tmp_path / "s.sqlite") == []


KILLED_WHILE_WRITING = """
import os, sys, time
from tests.sweep.subjects import block
from tests.sweep.test_store import FIRST, SECOND
from xbarsim.sweep import Dies, Store
store = Store(sys.argv[1])
store.begin([FIRST, SECOND], Dies(count=3))
size = os.path.getsize(sys.argv[1])
store._connection.execute("PRAGMA cache_size = 2")  # pages go to the file before the commit
store._connection.execute("BEGIN IMMEDIATE")
store._insert([block(FIRST.id, die, 31) for die in range(100, 2000)], store._run)
print(size, flush=True)
time.sleep(60)
"""


def test_killed_in_the_middle_of_a_write(tmp_path: Path) -> None:
    """The half-written part is taken back by whoever opens the store next, also for reading."""
    path = tmp_path / "s.sqlite"
    fill(path, [block(FIRST.id, die, 30) for die in range(100)])
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    before = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    journal = path.with_name("s.sqlite-journal")
    assert journal.stat().st_size > 0
    assert path.stat().st_size > before  # the kill did hit a write
    assert len(content(path)) == 100
    assert path.stat().st_size == before
    with Store(path) as store:
        assert store.count() == 100


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE blocks SET correct = 'many'",
        "UPDATE blocks SET correct = -1",
        "UPDATE blocks SET correct = 41",
        "UPDATE blocks SET images = 2.5",
        "UPDATE blocks SET seconds = -1",
        "UPDATE blocks SET seconds = 'long'",
        "UPDATE blocks SET fault_hash = x'00'",
        "UPDATE blocks SET stuck_on = 1000000",
        "UPDATE blocks SET cells = x'00'",
        "UPDATE blocks SET metrics = '[1]'",
        "UPDATE blocks SET metrics = '{\"x\": [1]}'",
        "UPDATE blocks SET metrics = 'nothing'",
        "UPDATE asked SET columns = '[]'",
        "UPDATE asked SET columns = '{}'",
        'UPDATE asked SET columns = replace(columns, \'"seed": 1\', \'"seed": "1"\')',
        "UPDATE asked SET tags = '[\"which\"]'",
        "UPDATE asked SET stop = '3'",
        'UPDATE asked SET stop = \'{"type": "Dies", "count": -1}\'',
        "UPDATE tasks SET description = '[]'",
        "UPDATE tasks SET description = '{\"seeds\": [-1]}'",
        "UPDATE tasks SET description = '" + "[" * 10_000 + "'",
        "CREATE TRIGGER t AFTER INSERT ON blocks BEGIN DELETE FROM blocks; END",
        "CREATE VIEW v AS SELECT * FROM blocks",
        "CREATE TABLE other (x)",
        "ALTER TABLE blocks ADD COLUMN other TEXT",
    ],
)
def test_a_store_that_lies_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "s.sqlite"
    fill(path, [block(FIRST.id, 0, 9), block(FIRST.id, 1, 10)])
    change_rows(path, change)
    with pytest.raises(FileFormatError, match=r"s\.sqlite"), Store(path, read_only=True) as store:
        store.results()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE blocks SET correct = correct + 1 WHERE die = 1",
        "UPDATE blocks SET seconds = seconds + 1e-9 WHERE die = 1",
        "UPDATE blocks SET die = 7 WHERE die = 1",
        "UPDATE blocks SET fault_hash = 'a' WHERE die = 1",
        "UPDATE blocks SET checksum = checksum + 1 WHERE die = 1",
        "UPDATE asked SET columns = replace(columns, '\"seed\": 1', '\"seed\": 2')",
        "UPDATE asked SET position = 3",
        "UPDATE failed SET tries = 2",
        "UPDATE runs SET host = 'b'",
        "UPDATE tasks SET description = replace(description, '1', '2')",
    ],
)
def test_a_value_that_has_changed_in_a_file_is_noticed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "s.sqlite"
    fill(path, [block(FIRST.id, 0, 9), block(FIRST.id, 1, 10)])
    with Store(path) as store:
        store.begin([FIRST], Dies(count=3))
        store.add_failed(FailedDie(task=FIRST.id, die=2, tries=1, reason="no"))
    change_rows(path, change, seal_again=False)
    with pytest.raises(FileFormatError, match=r"s\.sqlite is corrupt"), Store(path, read_only=True) as store:
        _ = store.results(), store.runs()
    with pytest.raises(FileFormatError, match=r"s\.sqlite is corrupt"), Store(tmp_path / "other.sqlite") as other:
        other.merge([path])


def test_a_bit_that_flips_in_a_store_gives_the_same_dies_or_an_error(tmp_path: Path) -> None:
    path, spoilt = tmp_path / "s.sqlite", tmp_path / "t.sqlite"
    fill(path, [block(FIRST.id, die, die) for die in range(40)])
    whole, wanted, refused = path.read_bytes(), content(path), 0
    rng = np.random.default_rng(5)
    for place in rng.integers(len(whole), size=400):
        raw = bytearray(whole)
        raw[place] ^= 1 << int(rng.integers(8))
        spoilt.write_bytes(raw)
        try:
            with Store(spoilt, read_only=True) as store:
                found = [die.answer for result in store.results().tasks for die in result.collected]
        except FileFormatError:
            refused += 1
        else:
            assert found == wanted, place
    assert refused > 100


@pytest.mark.parametrize("version", [1, 2])
def test_an_old_store_is_read_as_it_is_and_sealed_when_it_is_written_to(tmp_path: Path, version: int) -> None:
    path = tmp_path / "s.sqlite"
    fill(path, [block(FIRST.id, die, 30) for die in range(3)])
    wanted = content(path)
    make_old(path, version)
    before = path.read_bytes()
    assert content(path) == wanted
    assert path.read_bytes() == before
    with Store(path) as store:
        assert store.dies(FIRST.id) == [block(FIRST.id, die, 30) for die in range(3)]
    assert content(path) == wanted
    change_rows(path, "UPDATE blocks SET correct = 29 WHERE die = 1", seal_again=False)
    with pytest.raises(FileFormatError, match="has changed since it was written"):
        content(path)


@pytest.mark.parametrize("path", ["/dev/full", "/dev/zero", "a\0b", None])
def test_no_store_is_opened_on_a_device(path: str) -> None:
    with pytest.raises((InputError, FileWriteError), match=r"path must be a path|a device, not a regular file"):
        Store(path)
