"""Dies that cannot be measured: recorded with their reason, shown, counted out, and no other die is harmed."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import run
from tests.sweep.subjects import DESIGN, block, task
from tests.sweep.test_store import change_rows, make_old
from xbarsim import FileFormatError, InputError
from xbarsim.devices import StuckFaults
from xbarsim.plot.page import report_html
from xbarsim.sweep import (
    CollectError,
    Dies,
    FailedDie,
    FailedDiesWarning,
    InProcess,
    MeanWithin,
    MeasuredDie,
    Results,
    Store,
    TaskResult,
    collect,
)
from xbarsim.sweep.collecting import missing
from xbarsim.sweep.stopping import answer

KILLER = "tests.sweep.subjects:some_kill_their_process"
RAISER = "tests.sweep.subjects:some_raise"
WORSE = DESIGN.replace(faults=StuckFaults(on=0.1, off=0.1))


def answers(results: Results) -> list[list[tuple[Any, ...]]]:
    return [[measured.answer for measured in found.dies] for found in results.tasks]


def failed(results: Results) -> list[tuple[int, int, str]]:
    return [(die.die, die.tries, die.reason) for die in results.failed]


class Nobody(Executor):
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        raise AssertionError("nothing is tried again unless asked")


@pytest.fixture
def dies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Which dies misbehave."""
    monkeypatch.setenv("XBARSIM_TEST_DIES", "3 5")
    return monkeypatch


def test_a_die_that_kills_its_worker_fails_and_no_other_does(dies: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Killers among innocent dies of the same workers: each is tried twice, recorded once, and tried again if asked."""
    path = tmp_path / "s.sqlite"
    tasks = [task(metrics=(KILLER,), tags={"name": "killer"}), task(design=WORSE, tags={"name": "other"})]
    with pytest.warns(FailedDiesWarning, match=r"2 of 16 dies could not be .* name=killer rate=0.1: die 3: its worker"):
        found = collect(tasks, stop=8, workers=2, tries=2, store=path)
    assert failed(found) == [(die, 2, "its worker process ended by SIGKILL") for die in (3, 5)]
    assert found.complete
    assert [measured.die for measured in found.tasks[0].dies] == [0, 1, 2, 4, 6, 7]
    (first, _) = found.summary()
    assert (first["dies"], first["failed"], first["complete"]) == (6, 2, True)
    assert first["accuracy_mean"] == pytest.approx(sum(each.correct for each in found.tasks[0].dies) / 240)
    dies.setenv("XBARSIM_TEST_DIES", "")
    expected = collect(tasks, stop=8, executor=InProcess())
    assert answers(found)[1] == answers(expected)[1]
    assert answers(found)[0] == [each for each in answers(expected)[0] if each[1] not in (3, 5)]
    with pytest.warns(FailedDiesWarning):
        again = collect(tasks, stop=8, executor=Nobody(), store=path)
    assert (answers(again), failed(again)) == (answers(found), failed(found))
    with Store(path, read_only=True) as store:
        assert (answers(store.results()), failed(store.results())) == (answers(found), failed(found))
        assert [need for _, _, need in missing(tasks, Dies(count=8), store=store)] == [0, 0]
        assert [need for _, _, need in missing(tasks, Dies(count=8), store=store, retry_failed=True)] == [2, 0]
    assert answers(collect(tasks, stop=8, executor=InProcess(), store=path, retry_failed=True)) == answers(expected)
    with Store(path, read_only=True) as store:
        assert not store.results().failed
        assert answers(store.results()) == answers(expected)


def test_tries_of_a_die_that_fails_again_are_counted_on(dies: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dies.setenv("XBARSIM_TEST_DIES", "1")
    for retry, tries in ((False, 1), (False, 1), (True, 2)):
        with pytest.warns(FailedDiesWarning):
            found = collect(
                [task(metrics=(KILLER,))],
                stop=2,
                workers=1,
                tries=1,
                store=tmp_path / "s.sqlite",
                retry_failed=retry,
            )
        assert failed(found) == [(1, tries, "its worker process ended by SIGKILL")]


def test_a_die_that_raises_is_tried_once_and_its_traceback_kept(dies: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with pytest.warns(FailedDiesWarning, match="2 of 8 dies"):
        found = collect([task(metrics=(RAISER,))], stop=8, executor=InProcess(), store=path)
    reason = "ValueError: this die?[2J knows no answer"  # nothing that a terminal obeys
    assert failed(found) == [(3, 1, reason), (5, 1, reason)]
    with Store(path, read_only=True) as store:
        assert all("in some_raise" in die.traceback for die in store.results().failed)


def test_a_die_without_memory_is_tried_again(dies: pytest.MonkeyPatch) -> None:
    hungry = task(metrics=("tests.sweep.subjects:some_need_memory",))
    with pytest.warns(FailedDiesWarning):
        found = collect([hungry], stop=8, executor=InProcess(), tries=4)
    assert [(die.die, die.tries) for die in found.failed] == [(3, 4), (5, 4)]
    assert "MemoryError: Unable to allocate 512. TiB" in found.failed[0].reason


def test_a_task_of_which_the_first_dies_fail_is_given_up(dies: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It costs three dies, not twenty, and the other task nothing; a second time nothing is measured."""
    dies.setenv("XBARSIM_TEST_DIES", " ".join(map(str, range(20))))
    tasks = [task(metrics=(RAISER,)), task(design=WORSE)]
    for executor in (InProcess(), Nobody()):
        with pytest.raises(CollectError, match=r"1 of 2 tasks failed, the first at die 0 of .* no answer; ") as caught:
            collect(tasks, stop=20, executor=executor, store=tmp_path / "s.sqlite")
        first, second = caught.value.results.tasks
        assert [die.die for die in first.failed][:3] == [0, 1, 2]
        assert len(first.failed) <= 4  # and the one that was out meanwhile
        assert (first.complete, len(second.dies)) == (False, 20)
        assert [row["dies"] for row in caught.value.results.summary()] == [0, 20]


class KilledWorker(Exception):
    """As Dask's."""

    allowed_failures = 3


KilledWorker.__module__ = "distributed.scheduler"


class Suspicious(InProcess):
    """Blames a worker's end on every die that was out, as Dask does."""

    workers = 3

    def __init__(self, killers: set[int]) -> None:
        self.killers = killers
        self.out: list[tuple[Future[Any], Any, Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.out.append((future, fn, args[0]))
        if len(self.out) == 1:
            threading.Timer(0.05, self.give).start()
        return future

    def give(self) -> None:
        out, self.out = self.out, []
        killed = any(job.die in self.killers for _, _, job in out)
        for future, fn, job in out:
            if killed:
                future.set_exception(KilledWorker())
            else:
                future.set_result(fn(job))


def test_where_several_dies_are_blamed_each_is_tried_alone() -> None:
    with pytest.warns(FailedDiesWarning):
        found = collect([task()], stop=12, executor=Suspicious({4}))
    assert [(die.die, die.tries) for die in found.failed] == [(4, 4)]
    assert [measured.die for measured in found.tasks[0].dies] == [0, 1, 2, 3, *range(5, 12)]


def test_a_failed_die_takes_its_place_in_every_rule() -> None:
    rule = MeanWithin(half_width=0.2, at_least=3, at_most=6)
    assert answer(Dies(count=3), [1, None, 2], 4) == 3
    assert answer(Dies(count=3), [1, None], 4) is None
    assert answer(Dies(count=3), [1, None, 2, 3, 4], 4) == 3  # no later die is taken instead
    assert answer(rule, [4, None, 4, 4], 4) == 4  # three that were measured
    assert answer(rule, [4, None, 4], 4) is None
    assert answer(rule, [0, None, 4, 0, 4, None], 4) == 6
    assert answer(rule, [None] * 6, 0) == 6


def test_an_adaptive_sweep_with_failed_dies_ends(dies: pytest.MonkeyPatch) -> None:
    rule = MeanWithin(half_width=1e-6, at_least=4, at_most=9)
    with pytest.warns(FailedDiesWarning):
        found = collect([task(metrics=(RAISER,))], stop=rule, executor=InProcess())
    assert found.complete
    assert [measured.die for measured in found.tasks[0].dies] == [0, 1, 2, 4, 6, 7, 8]


def result(name: str, correct: list[int | None]) -> TaskResult:
    every = task(tags={"name": name}, images=39 if name == "a" else 38)
    outcomes = list(enumerate(correct))
    return TaskResult(
        columns=every.columns(),
        tags=("name",),
        stop=Dies(count=len(correct)),
        collected=tuple(block(every.id, die, value) for die, value in outcomes if value is not None),
        failed=tuple(
            FailedDie(task=every.id, die=die, tries=1, reason="<script>alert(1)</script>")
            for die, value in outcomes
            if value is None
        ),
    )


def test_dies_are_compared_with_themselves() -> None:
    """A die that failed in one task leaves the pairs of the others as they are."""
    results = Results(tasks=(result("a", [10, None, 20, 30]), result("b", [8, 40, 18, None])))
    (row,) = results.compare("name", "a", "b")
    assert (row["dies"], row["difference"]) == (2, pytest.approx(2 / 40))


def test_nothing_that_a_reason_says_becomes_a_part_of_the_page() -> None:
    page = report_html(Results(tasks=(result("a", [10, None, 20]),)))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>" not in page


def test_every_report_shows_what_failed(dies: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, file = tmp_path / "s.sqlite", tmp_path / "sweep.toml"
    file.write_text(
        f'network = "tests.sweep.subjects:tiny"\ncalibration = 20\nmetrics = ["{RAISER}"]\n'
        '[stop]\ntype = "Dies"\ncount = 6\n[design]\ncell = "islped2019"\n'
        'faults = { type = "StuckFaults", on = 0.05, off = 0.05 }\n'
    )
    asked = ["sweep", str(file), "--store", str(path)]
    done = run(*asked, "--workers", "1")
    assert done.exit_code == 5
    text, line = "2 dies failed, and are in no statistic:", "die 3: ValueError: this die?[2J knows no answer (1 try)"
    assert text in done.output
    assert line in done.output
    assert "over 4 dies, 2 failed" in done.output
    for command in (
        ["show", str(path)],
        ["export", str(path), str(tmp_path / "out.csv")],
        ["plot", str(path), str(tmp_path / "out.svg"), "--kind", "dies"],
    ):
        done = run(*command)
        assert done.exit_code == 0, done.output
        assert text in done.output
        assert line in done.output
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 5
    dry = run(*asked, "--dry-run").output
    assert "1 tasks, 0 dies needed" in dry
    assert "2 dies failed before; --retry-failed tries them again" in dry
    page = tmp_path / "page.html"
    assert run("report", str(path), str(page)).exit_code == 0
    assert "2 dies failed: they are in no picture and no statistic" in page.read_text()
    assert "ValueError: this die?[2J knows no answer" in page.read_text()
    dies.setenv("XBARSIM_TEST_DIES", "")
    done = run(*asked, "--workers", "1", "--retry-failed")
    assert (done.exit_code, "failed" in done.output) == (0, False)


# --- in the store


def fill(path: Path, kept: list[MeasuredDie | FailedDie]) -> None:
    with Store(path) as store:
        store.begin([task()], Dies(count=3))
        for die in kept:
            if isinstance(die, FailedDie):
                store.add_failed(die)
            else:
                store.add(die)


def no(die: int, tries: int = 1, reason: str = "no") -> FailedDie:
    return FailedDie(task=task().id, die=die, tries=tries, reason=reason)


def state(path: Path) -> tuple[list[int], list[FailedDie]]:
    with Store(path, read_only=True) as store:
        (found,) = store.results().tasks
        return [die.die for die in found.collected], list(found.failed)


def test_a_die_that_was_measured_has_not_failed(tmp_path: Path) -> None:
    path, measured = tmp_path / "s.sqlite", block(task().id, 0, 30)
    fill(path, [no(0), no(1)])
    assert state(path) == ([], [no(0), no(1)])
    fill(path, [measured])
    assert state(path) == ([0], [no(1)])
    fill(path, [no(0)])
    assert state(path) == ([0], [no(1)])


def test_merging_stores_with_failed_dies_does_not_depend_on_the_order(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{number}.sqlite" for number in range(3))
    fill(first, [block(task().id, 0, 30), no(1, 2, "a"), no(2, 3)])
    fill(second, [no(0), no(1, 2, "b"), no(2, 1)])
    fill(third, [block(task().id, 2, 30)])
    for number, order in enumerate(([first, second, third], [third, second, first], [second, first, third])):
        with Store(tmp_path / f"merged{number}.sqlite") as store:
            store.merge(order)
            store.merge(order)
        assert state(tmp_path / f"merged{number}.sqlite") == ([0, 2], [no(1, 2, "b")])


def test_a_store_of_schema_1_is_read_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path, [block(task().id, 0, 30)])
    make_old(path, 1)
    before = path.read_bytes()
    assert state(path) == ([0], [])
    assert path.read_bytes() == before
    fill(path, [no(1)])
    assert state(path) == ([0], [no(1)])


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE failed SET tries = 0",
        "UPDATE failed SET die = -1",
        "UPDATE failed SET reason = 'a' || char(27) || '[2J'",
        "UPDATE failed SET reason = x'00'",
        "DROP TABLE failed",
        "UPDATE schema SET version = 1",
    ],
)
def test_failed_dies_that_lie_are_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "s.sqlite"
    fill(path, [no(1)])
    change_rows(path, change)
    with pytest.raises(FileFormatError):
        state(path)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="tries must be an integer >= 1, got 0"):
        collect([task()], stop=1, executor=InProcess(), tries=0)
    with pytest.raises(InputError, match="retry_failed must be True or False"):
        collect([task()], stop=1, executor=InProcess(), retry_failed=1)  # type: ignore[arg-type]
