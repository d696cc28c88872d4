"""Collecting: the same table whoever measures, whatever goes wrong underway."""

from __future__ import annotations

import csv
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xbarsim as xb
from tests.sweep.subjects import DESIGN, task, tiny
from xbarsim import FileWriteError, InputError
from xbarsim.devices import StuckFaults
from xbarsim.foundation.intervals import FewDiesWarning
from xbarsim.mapping import Differential, Mapping
from xbarsim.sweep import (
    COLUMNS,
    CollectError,
    Dies,
    InProcess,
    Interrupted,
    LocalProcesses,
    MeanWithin,
    Results,
    Store,
    Task,
    collect,
)
from xbarsim.sweep.collecting import missing

TASKS = [
    task(
        design=DESIGN.replace(
            mapping=Mapping(encoding=encoding, rows=32, columns=32), faults=StuckFaults(on=rate / 2, off=rate / 2)
        ),
        metrics=("tests.sweep.subjects:broken_cells",),
        tags={"mapping": encoding.name},
    )
    for encoding in (DESIGN.mapping.encoding, Differential())
    for rate in (0.02, 0.1)
]


def answers(results: Results) -> list[list[tuple[Any, ...]]]:
    return [[block.answer for block in found.dies] for found in results.tasks]


@pytest.fixture(scope="module")
def expected() -> Results:
    return collect(TASKS, stop=6, executor=InProcess())


@pytest.fixture(scope="module")
def processes() -> Iterator[LocalProcesses]:
    pool = LocalProcesses(2)
    yield pool
    pool.close()


def test_the_table(expected: Results) -> None:
    rows = expected.rows()
    assert len(rows) == 24
    assert [name for name in rows[0] if name not in ("mapping", "tests.sweep.subjects:broken_cells")] == list(COLUMNS)
    assert [row["die"] for row in rows[:6]] == list(range(6))
    for row in rows:
        assert row["accuracy"] == row["correct"] / row["images"]
        assert row["tests.sweep.subjects:broken_cells"] == row["stuck_on"] + row["stuck_off"]
        assert row["seconds"] >= row["inference_seconds"] > 0
    assert [task.columns()["fault_rate"] for task in TASKS] == [0.02, 0.1, 0.02, 0.1]


def test_frame_and_csv(expected: Results, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = expected.to_frame()
    expected.to_csv(tmp_path / "dies.csv")
    read = pandas.read_csv(tmp_path / "dies.csv", dtype={"die_seed": "uint64"}, keep_default_na=False)
    assert list(read.columns) == list(frame.columns)
    for name in ("task", "die_seed", "accuracy", "fault_rate_on", "seconds", "fault_hash"):
        assert read[name].tolist() == frame[name].tolist()
    assert list(Results(tasks=()).to_frame().columns) == list(COLUMNS)


def test_no_tag_is_a_formula_in_a_csv(tmp_path: Path) -> None:
    tags = {"=1+1": "@SUM(A1)", "dBm": "-5", "note": "+cmd|' /C calc'!A0", "offset": -5}
    result = collect([task(tags=tags)], stop=1, executor=InProcess(), progress=False)
    result.to_csv(tmp_path / "dies.csv")
    with open(tmp_path / "dies.csv", newline="") as stream:
        row = next(csv.DictReader(stream))
    assert {name: row[name] for name in ("'=1+1", "dBm", "note", "offset")} == {
        "'=1+1": "'@SUM(A1)", "dBm": "-5", "note": "'+cmd|' /C calc'!A0", "offset": "-5",
    }  # fmt: skip
    assert result.rows()[0]["=1+1"] == "@SUM(A1)"


def test_summary_of_few_dies_has_median_and_worst_die(expected: Results) -> None:
    for row, task_result in zip(expected.summary(median=True), expected.tasks, strict=True):
        accuracies = np.sort(task_result.accuracies)
        assert row["accuracy_median"] == pytest.approx((accuracies[2] + accuracies[3]) / 2)
        assert (row["accuracy_median_low"], row["accuracy_median_high"]) == (accuracies[0], accuracies[5])
        assert row["accuracy_worst"] == accuracies[0]
    assert "accuracy_median" not in expected.summary()[0]
    with pytest.warns(FewDiesWarning, match="the mean of 6 dies"):
        expected.tasks[0].mean()


def test_summary_and_comparison(expected: Results) -> None:
    rows = expected.summary(target=0.5)
    assert [row["dies"] for row in rows] == [6] * 4
    assert all(row["accuracy_low"] <= row["accuracy_mean"] <= row["accuracy_high"] for row in rows)
    assert all(row["complete"] for row in rows)
    assert all(row["yield_low"] <= row["yield"] <= row["yield_high"] for row in rows)
    first, second = expected.compare("mapping", "Differential", "TwoColumn")
    assert first["fault_rate_on"] == 0.01
    assert first["difference"] == pytest.approx(rows[2]["accuracy_mean"] - rows[0]["accuracy_mean"])
    assert second["dies"] == 6
    for arguments, message in (
        (("nonsense", 1, 2), "by must be one of"),
        (("mapping", "TwoColumn", "nonsense"), "second must be one of 'TwoColumn', 'Differential', got 'nonsense'"),
        (("fault_rate", 0.02, 0.1), "must have tasks that agree in"),
    ):
        with pytest.raises(InputError, match=message):
            expected.compare(*arguments)


def test_processes_give_the_same(expected: Results, processes: LocalProcesses, tmp_path: Path) -> None:
    found = collect(TASKS, stop=6, executor=processes, store=tmp_path / "s.sqlite")
    assert answers(found) == answers(expected)
    with Store(tmp_path / "s.sqlite", read_only=True) as store:
        assert answers(store.results()) == answers(expected)


def test_threads_give_the_same(expected: Results) -> None:
    with ThreadPoolExecutor(3) as threads:
        assert answers(collect(TASKS, stop=6, executor=threads)) == answers(expected)


def test_batch_and_threads_of_the_engine_give_the_same(expected: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {"batch_size": 7, "progress": None, "metric": "accuracy", "first_image": 0}
    monkeypatch.setattr("xbarsim.network.evaluation.evaluate.__wrapped__.__kwdefaults__", defaults)
    assert answers(collect(TASKS[:1], stop=6, executor=InProcess())) == answers(expected)[:1]


def test_systems_without_files_in_memory_give_the_same(
    expected: Results, processes: LocalProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and Windows: benches lie in the folder for temporary files, and are gone when they are done with."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked: list[int] = []
    monkeypatch.setattr("xbarsim.foundation.threads.set_threads", asked.append)
    assert answers(collect(TASKS, stop=6, executor=processes)) == answers(expected)
    assert answers(collect(TASKS, stop=6, executor=InProcess())) == answers(expected)
    assert asked == []  # this process measures with the threads that it has
    assert not list(tmp_path.iterdir())


def test_a_subject_of_ones_own(expected: Results, processes: LocalProcesses) -> None:
    own = Task(network=tiny(), design=TASKS[0].design, calibration=20, metrics=TASKS[0].metrics)
    found = collect([own], stop=6, executor=processes)
    assert answers(found) == answers(expected)[:1]


def test_what_a_store_holds_is_not_measured_again(expected: Results, tmp_path: Path) -> None:
    class Nobody(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            raise AssertionError("nothing is left to measure")

    path = tmp_path / "s.sqlite"
    collect(TASKS, stop=4, executor=InProcess(), store=path)
    assert [have for _, have, _ in missing(TASKS, Dies(count=6), store=Store(path, read_only=True))] == [4] * 4
    assert [need for _, _, need in missing(TASKS, Dies(count=6), store=Store(path, read_only=True))] == [2] * 4
    found = collect(TASKS, stop=6, executor=InProcess(), store=path)
    assert answers(found) == answers(expected)
    assert answers(collect(TASKS, stop=6, executor=Nobody(), store=path)) == answers(expected)
    fewer = collect(TASKS, stop=5, executor=Nobody(), store=path)  # dies beyond the answer do not count
    assert answers(fewer) == [blocks[:5] for blocks in answers(expected)]


class Shuffled(Executor):
    """Gives answers late and in another order: what many uneven workers do."""

    def __init__(self, workers: int, late: int) -> None:
        self.workers = workers
        self.late = late
        self.waiting: list[tuple[Future[Any], Any]] = []
        self.count = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, fn(*args, **kwargs)))
        self.count += 1
        threading.Timer(0.002 * (self.count * self.late % 7), self.give).start()
        return future

    def give(self) -> None:
        future, value = self.waiting.pop((self.count * self.late) % len(self.waiting))
        future.set_result(value)


@pytest.mark.parametrize(("workers", "late"), [(1, 1), (4, 3), (9, 5)])
def test_adaptive_rules_do_not_depend_on_who_is_fast(workers: int, late: int, tmp_path: Path) -> None:
    rule = MeanWithin(half_width=0.12, at_least=4, at_most=60)
    wanted = collect(TASKS[1:2], stop=rule, executor=InProcess())
    assert 4 < len(wanted.tasks[0].dies) < 60
    assert wanted.complete
    found = collect(TASKS[1:2], stop=rule, executor=Shuffled(workers, late), store=tmp_path / "s.sqlite")
    assert answers(found) == answers(wanted)
    with Store(tmp_path / "s.sqlite", read_only=True) as store:
        assert answers(store.results()) == answers(wanted)


def test_tasks_that_differ_in_tags_are_measured_once() -> None:
    twins = [task(tags={"name": "a"}), task(tags={"name": "b"}), task(tags={"name": "a"})]
    counted = Shuffled(2, 1)
    found = collect(twins, stop=2, executor=counted)
    assert counted.count == 2
    assert [result.columns["name"] for result in found.tasks] == ["a", "b"]
    assert answers(found)[0] == answers(found)[1]
    assert len(found.rows()) == 4


def test_shards_cover_everything_once(expected: Results, tmp_path: Path) -> None:
    parts = [tmp_path / f"{index}.sqlite" for index in range(3)]
    for index, path in enumerate(parts):
        collect(TASKS, stop=6, executor=InProcess(), shard=(index, 3), store=path)
        with Store(path, read_only=True) as store:
            assert store.count() == 8
    with Store(tmp_path / "all.sqlite") as store:
        assert store.merge(parts) == 24
        assert answers(store.results()) == answers(expected)
    with Store(tmp_path / "overlap.sqlite") as store:
        collect(TASKS, stop=6, executor=InProcess(), shard=(0, 2), store=store)
        assert store.merge(parts[1:]) == 8  # dies 1, 2, 4 and 5 of each task, of which 2 and 4 are there
        collect(TASKS, stop=6, executor=InProcess(), store=store)
        assert answers(store.results()) == answers(expected)
        assert store.count() == 24
    rule = MeanWithin(half_width=0.12, at_least=4, at_most=60)
    counts = [
        len(collect(TASKS, stop=rule, executor=InProcess(), shard=(index, 3)).rows(every=True)) for index in range(3)
    ]
    assert sum(counts) >= len(collect(TASKS, stop=rule, executor=InProcess()).rows())
    assert all(counts)


def test_every_task_of_an_adaptive_sweep_is_of_exactly_one_shard() -> None:
    """Where the number of dies is not known before, shards take whole tasks: each once."""
    rule = MeanWithin(half_width=0.12, at_least=4, at_most=60)
    for count in (1, 2, 3):
        shares = [[needed for _, _, needed in missing(TASKS, rule, shard=(index, count))] for index in range(count)]
        for of_task in zip(*shares, strict=True):
            assert sorted(of_task) == [0] * (count - 1) + [4]


# --- what goes wrong


def test_a_worker_that_raises(processes: LocalProcesses, tmp_path: Path) -> None:
    bad = task(metrics=("tests.sweep.subjects:raises",), tags={"name": "bad"})
    worse = task(metrics=("tests.sweep.subjects:not_finite",))
    with pytest.raises(CollectError) as caught:
        collect([bad, *TASKS[:1], worse], stop=3, executor=processes, store=tmp_path / "s.sqlite")
    assert str(caught.value) == (
        "2 of 3 tasks failed, the first at die 0 of name=bad rate=0.1: ValueError: this metric knows no answer; all "
        "other tasks are measured, 3 dies are kept"
    )
    assert "metrics must give finite numbers, got nan" in caught.value.failures[1].reason
    assert "in raises" in caught.value.failures[0].traceback
    assert [len(found.dies) for found in caught.value.results.tasks] == [0, 3, 0]
    with Store(tmp_path / "s.sqlite", read_only=True) as store:
        assert store.count() == 3


def test_a_worker_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: Results) -> None:
    monkeypatch.setenv("XBARSIM_TEST_FLAG", str(tmp_path / "flag"))
    once = task(metrics=("tests.sweep.subjects:kills_its_process",))
    found = collect([once, *TASKS[:1]], stop=6, workers=1)
    assert (tmp_path / "flag").exists()
    assert answers(found)[1] == answers(expected)[0]
    assert len(found.tasks[0].dies) == 6


def test_an_executor_that_breaks(tmp_path: Path) -> None:
    from concurrent.futures.process import BrokenProcessPool

    class Breaks(InProcess):
        count = 0

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.count += 1
            if self.count < 4:
                return super().submit(fn, *args, **kwargs)
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool("a process died"))
            return future

    with pytest.raises(CollectError, match="the executor cannot go on; what was measured before is kept") as caught:
        collect(TASKS, stop=6, executor=Breaks(), store=tmp_path / "s.sqlite")
    assert len(caught.value.results.rows(every=True)) == 3
    with Store(tmp_path / "s.sqlite", read_only=True) as store:
        assert store.count() == 3


def test_a_scheduler_that_is_gone_ends_a_sweep_in_words(tmp_path: Path) -> None:
    """What Dask's client raises when its scheduler dies: asked for workers, given a job, and when it is closed."""
    from xbarsim.sweep.executors import _DaskExecutor

    class Client:
        def __init__(self, error: Exception, last: int) -> None:
            self.error, self.left = error, last

        def _one_more(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise self.error

        def ncores(self) -> dict[str, int]:
            self._one_more()
            return {"a": 1}

        def get_executor(self, **options: Any) -> Any:
            client = self

            class Jobs(InProcess):
                def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
                    client._one_more()
                    return super().submit(fn, *args, **kwargs)

            return Jobs()

        def close(self) -> None:
            raise self.error

    own = type("ClosedClientError", (Exception,), {"__module__": "distributed.client"})
    errors = OSError("timed out"), RuntimeError("closed"), ValueError("no client"), own("no more")
    for number, error in enumerate(errors):
        for last in (4, 5):
            path = tmp_path / f"{number}-{last}.sqlite"
            executor = _DaskExecutor(Client(error, last), close=True)
            with pytest.raises(CollectError, match=f"the Dask scheduler cannot be reached: {error}") as caught:
                collect(TASKS, stop=6, executor=executor, store=path)
            executor.shutdown()
            done = len(caught.value.results.rows(every=True))
            assert 0 < done < 6 * len(TASKS)
            with Store(path, read_only=True) as store:
                assert store.count() == done


def test_an_interrupt_keeps_what_there_is(tmp_path: Path) -> None:
    class Interrupts(InProcess):
        count = 0

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.count += 1
            if self.count == 6:
                signal.raise_signal(signal.SIGINT)
            return super().submit(fn, *args, **kwargs)

    with pytest.raises(Interrupted) as caught:
        collect(TASKS, stop=6, executor=Interrupts(), store=tmp_path / "s.sqlite")
    assert isinstance(caught.value, KeyboardInterrupt)
    kept = caught.value.results.rows(every=True)
    assert len(kept) == 5
    with Store(tmp_path / "s.sqlite", read_only=True) as store:
        assert len(store.results().rows(every=True)) == 5


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("xbarsim.sweep.store._SECONDS", 0.0)
    with Store(tmp_path / "s.sqlite") as store:
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages + 7}")
        with pytest.raises(FileWriteError, match="the disk is full; 1 die that it did not take are in") as caught:
            collect(TASKS, stop=200, executor=InProcess(), store=store)
    (rescued,) = tmp_path.glob("xbarsim-rescued-*.sqlite")
    assert str(rescued) in str(caught.value.strerror)
    with Store(tmp_path / "s.sqlite") as store:
        before = store.count()
        assert before > 0
        assert store.merge([rescued]) == 1
        assert [block.die for block in store.dies(TASKS[0].id)] == list(range(before + 1))


def test_a_design_that_does_not_suit_its_network() -> None:
    dark = tiny()
    bad = Task(network=xb.sweep.Subject(
        name="dark", data_set="noise", model=dark.model, images=dark.images, labels=dark.labels,
        calibration=0 * dark.calibration), design=DESIGN)  # fmt: skip
    with pytest.raises(CollectError, match="calibration must hold images with more than one value"):
        collect([bad], stop=2, executor=InProcess())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": []}, "tasks must be at least one task, got none"),
        ({"tasks": [3]}, r"tasks\[0\] must be of type Task"),
        ({"stop": 0}, "stop must be an integer >= 1, got 0"),
        ({"stop": "x"}, "stop must be of type StopRule"),
        ({"shard": (3, 3)}, r"shard\[0\] must be an integer >= 0 and <= 2, got 3"),
        ({"workers": 2}, "workers must be None where an executor is given, got 2"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"tasks": TASKS, "stop": 2, "executor": InProcess(), **arguments}
    with pytest.raises(InputError, match=message):
        collect(given.pop("tasks"), **given)
    with pytest.raises(InputError, match="workers must be an integer >= 1, got 0"):
        LocalProcesses(0)


def test_workers_do_not_load_what_is_theirs_twice(processes: LocalProcesses) -> None:
    """The arrays of a network stand in memory that the workers share: no private copy is made by reading them."""
    if not os.path.exists("/proc/self/smaps_rollup"):
        pytest.skip("needs Linux")
    collect(TASKS, stop=6, executor=processes)
    assert processes.submit(shared_maps).result() >= 1


def shared_maps() -> int:
    from xbarsim.sweep import worker

    benches = list(worker._benches.values())
    return sum(not found.matrix.levels.flags.owndata for bench in benches for found in bench.network.layers.values())
