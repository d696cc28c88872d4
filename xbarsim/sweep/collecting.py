"""Measure dies of many tasks until each has enough, wherever there are workers, and keep every one of them."""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from pathlib import Path
from typing import Any

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.processes import WorkerDied, cores
from xbarsim.foundation.progress import progress_bar
from xbarsim.foundation.validation import InputError, check_instance, check_integer
from xbarsim.sweep.executors import LocalProcesses, deaths, workers_of
from xbarsim.sweep.results import FailedDie, FailedDiesWarning, MeasuredDie, Results, TaskResult
from xbarsim.sweep.state import State, states_of
from xbarsim.sweep.stopping import Dies, StopRule
from xbarsim.sweep.store import Store
from xbarsim.sweep.task import Task
from xbarsim.sweep.worker import Failure, Job, SharedBench, make_bench, measure

__all__ = ["CollectError", "Interrupted", "collect", "missing"]

_TICK = 1.0  # seconds: how long dies may wait to be written while none arrives
_TRIES = 3  # of a die whose worker process ends
_LONGEST = 2000  # characters of a reason that are kept; of a traceback ten times as many
_MOST_LINES = 12  # tasks shown at a time


class CollectError(RuntimeError):
    """Some tasks could not be measured; all others were.

    Attributes
    ----------
    results
        Everything that was measured.
    failures
        The first failure of each task, with its traceback.
    """

    def __init__(self, message: str, results: Results, failures: Sequence[FailedDie] = ()) -> None:
        super().__init__(message)
        self.results = results
        self.failures = tuple(failures)


class Interrupted(KeyboardInterrupt):
    """The sweep was interrupted.

    Attributes
    ----------
    results
        Everything that was measured.
    """

    def __init__(self, results: Results) -> None:
        super().__init__("interrupted")
        self.results = results


def _check(tasks: Sequence[Task], stop: StopRule, shard: tuple[int, int] | None) -> None:
    for index, task in enumerate(tasks):
        check_instance(f"tasks[{index}]", task, Task)
    if not tasks:
        raise InputError("tasks must be at least one task, got none")
    check_instance("stop", stop, StopRule)
    for task in tasks:
        if not task.counts and stop.least != stop.most:
            raise InputError(f"stop must be a number of dies for a task that counts no images ({task}), got {stop}")
        if task.seeds is not None and stop.most > len(task.seeds):
            raise InputError(
                f"stop must ask for at most {len(task.seeds)} dies, as many as there are seeds of {task}, got "
                f"{stop.most}"
            )
    if shard is not None:
        check_integer("shard[1]", shard[1], at_least=1)
        check_integer("shard[0]", shard[0], at_least=0, at_most=shard[1] - 1)


def missing(
    tasks: Sequence[Task],
    stop: StopRule,
    *,
    store: Store | None = None,
    shard: tuple[int, int] | None = None,
    retry_failed: bool = False,
) -> list[tuple[Task, int, int]]:
    """What a sweep would do: each task with how many dies it has, and how many it needs at least besides.

    Parameters
    ----------
    tasks, stop, store, shard, retry_failed
        As in :func:`collect`.
    """
    _check(tasks, stop, shard)
    return [
        (task, len(state.dies), 0 if state.settled else sum(1 for _ in state.missing(state.certain)))
        for state in states_of(tasks, stop, store, shard, retry_failed).values()
        for task in state.tasks
    ]


@entrance
def collect(
    tasks: Sequence[Task],
    *,
    stop: StopRule | int,
    store: Store | str | Path | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
    tries: int = _TRIES,
    retry_failed: bool = False,
    progress: bool | None = None,
    report: Callable[[TaskResult], None] | None = None,
    configuration: str = "",
    benches: dict[str, SharedBench] | None = None,
) -> Results:
    """Measure dies of each task until its stop rule is satisfied.

    The result depends on tasks and stop rule alone: not on workers, speed or restarts, nor on what a store held before.

    A die that raises an error, or whose worker process ends (out of memory, or a crash) in each of `tries` tries, has
    failed. It is kept with its reason, takes its place among the dies, is in no statistic, and is not tried again by
    later sweeps. A task of which the first three dies fail is given up. A die whose worker ended is tried again while
    no other is being measured, so that it has the machine for itself and none is blamed for another.

    Parameters
    ----------
    tasks
        What to measure. Tasks that differ in tags alone are measured once.
    stop
        When a task has enough dies; a number means :class:`Dies`.
    store
        Where every die is kept, and what need not be measured again: a store, or the path of one.
    executor
        Who measures; ``None`` for `workers` processes of this machine. It is not shut down.
    workers
        How many processes; ``None`` for one a core. Not with `executor`.
    shard
        ``(i, n)``: only the i-th of n parts of the work, i from 0; the stores of all parts are then merged. Every n-th
        die of each task where the rule is a number of dies, every n-th task otherwise.
    tries
        How often a die is tried whose worker process ends or has no memory left, 1 or more. One that raises another
        error would raise it again, and is tried once.
    retry_failed
        Try again the dies that the store holds as failed.
    progress
        Show progress and the time left, on standard error; ``None`` for a line now and then where that is no terminal.
    report
        Called with each task when it is complete, or given up because its dies failed.
    configuration
        What the store should note as the origin of `tasks`, such as the text of a sweep.
    benches
        Mapped networks of earlier calls, which are not mapped again; those of this call are added, and the caller
        closes them. ``None`` to let go of each as soon as no task needs it.

    Returns
    -------
    Results
        In the order of `tasks`.

    Raises
    ------
    InputError
        If a parameter is out of its bound, or the store holds another answer for a die.
    FileFormatError, FileWriteError
        If the store cannot be read or written; what it holds stays.
    CollectError
        If some tasks could not be measured. All other tasks were, and everything is in the store.
    Interrupted
        At Ctrl-C, a KeyboardInterrupt. Everything measured so far is in the store.

    Warns
    -----
    FailedDiesWarning
        If some dies of other tasks failed.
    """
    rule = stop if isinstance(stop, StopRule) else Dies(count=check_integer("stop", stop, at_least=1))
    if executor is not None and workers is not None:
        raise InputError(f"workers must be None where an executor is given, got {workers!r}")
    _check(tasks, rule, shard)
    check_integer("tries", tries, at_least=1)
    if workers is not None:
        check_integer("workers", workers, at_least=1)
    with contextlib.ExitStack() as stack:
        own_store = store is not None and not isinstance(store, Store)
        kept = stack.enter_context(Store(store)) if own_store else store  # type: ignore[arg-type]
        assert kept is None or isinstance(kept, Store)

        def processes() -> Executor:
            # they end with this call, however it ends
            return stack.enter_context(contextlib.closing(LocalProcesses(workers)))

        if executor is None and (kept is None or kept.count() == 0):
            executor = processes()  # they load while this process finds out what there is to do
        states = states_of(tasks, rule, kept, shard, retry_failed)
        if kept is not None:
            kept.begin(list(tasks), rule, configuration=configuration)

        def results() -> Results:
            return _in_order(tasks, states)

        if not all(state.done for state in states.values()):
            executor = processes() if executor is None else executor
            shown = stack.enter_context(_Display(list(states.values()), progress))
            run = _Run(list(states.values()), kept, executor, report, benches, tries)
            try:
                run.work(shown)
            except KeyboardInterrupt:
                run.stop(keep=True)
                if kept is not None:
                    kept.flush()
                raise Interrupted(results()) from None
            except BaseException:
                run.stop(keep=False)
                raise
            run.close()
            if kept is not None:
                kept.flush()
        _tell_failures(list(states.values()), results())
        return results()


def _tell_failures(states: list[State], results: Results) -> None:
    """Raise for tasks that could not be measured, warn of single dies."""
    given_up = [state for state in states if state.failure is not None]
    if given_up:
        first, failures = given_up[0], [state.failure for state in given_up if state.failure is not None]
        many = f"{len(given_up)} of {len(states)} task{'' if len(states) == 1 else 's'} failed"
        dies = sum(len(state.dies) for state in states)
        tries = f" in each of {failures[0].tries} tries" if failures[0].tries > 1 else ""
        raise CollectError(
            f"{many}, the first at die {failures[0].die} of {first.task}: {failures[0].reason}{tries}; all other tasks "
            f"are measured, {dies} dies are kept",
            results,
            failures,
        )
    failed = results.failed
    if failed:
        of = next(state.task for state in states if state.task.id == failed[0].task)
        count = sum(len(state.dies) for state in states) + len(failed)
        warnings.warn(
            f"{len(failed)} of {count} dies could not be measured and are in no statistic, the first of {of}: "
            f"{failed[0]}; retry_failed tries them again",
            FailedDiesWarning,
            stacklevel=4,
        )


def _in_order(tasks: Sequence[Task], states: dict[str, State]) -> Results:
    """Results in the order in which tasks were asked for; a task that was asked for twice stands there once."""
    ordered: list[TaskResult] = []
    made = {key: state.results() for key, state in states.items()}
    seen: set[tuple[str, str]] = set()
    for task in tasks:
        tags = repr(sorted(task.tags.items()))
        if (task.id, tags) in seen:
            continue
        seen.add((task.id, tags))
        index = next(i for i, other in enumerate(states[task.id].tasks) if other.tags == task.tags)
        ordered.append(made[task.id][index])
    return Results(tasks=tuple(ordered))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Out:
    """A die that is being measured, and whether it is the only one."""

    state: State
    die: int
    alone: bool


class _Run:
    """The traffic between tasks, store and executor."""

    def __init__(
        self,
        states: list[State],
        store: Store | None,
        executor: Executor,
        report: Callable[[TaskResult], None] | None,
        benches: dict[str, SharedBench] | None,
        tries: int,
    ) -> None:
        self.states = states
        self.store = store
        self.report = report
        self.executor = executor
        self.lent = benches is not None
        self.shared: dict[str, SharedBench] = {} if benches is None else benches
        self.out: dict[Future[Any], _Out] = {}
        self.suspects: deque[tuple[State, int]] = deque()  # to be tried again, each alone
        self.most_tries = tries
        self.tries: dict[tuple[str, int], int] = {}  # of this run
        self.reported: set[str] = {state.task.id for state in states if state.enough is not None}

    def work(self, shown: _Display) -> None:
        while True:
            self.fill()
            shown.update()
            if not self.out:
                return
            finished, _ = wait(self.out, timeout=_TICK, return_when=FIRST_COMPLETED)
            # in the order in which they were asked for: of those that are ready, none is passed over if writing fails
            for future in [future for future in self.out if future in finished]:
                self.take(future)
            if self.store is not None and not finished:
                self.store.flush()

    def fill(self) -> None:
        """Keep every worker busy: with dies that are needed anyhow, then with those that may be."""
        if any(out.alone for out in self.out.values()):
            return
        while self.suspects:
            if self.out:
                return  # until the others have ended
            state, die = self.suspects.popleft()
            if not state.settled:
                self.submit(state, die, alone=True)
                return
            state.out.discard(die)
        try:
            workers = workers_of(self.executor)
        except BrokenExecutor as error:
            raise self.broken(error) from error
        for speculate, most in ((False, 2 * workers), (True, workers)):
            for state in self.states:
                while len(self.out) < most:
                    die_or_none = state.next(speculate=speculate)
                    if die_or_none is None:
                        break
                    self.submit(state, die_or_none, alone=False)
                if state.done and not state.out:
                    self.release(state)

    def submit(self, state: State, die: int, *, alone: bool) -> None:
        task = state.task
        if task.mapping_key not in self.shared:
            try:
                self.shared[task.mapping_key] = SharedBench(make_bench(task, threads=self.cores_left()))
            except InputError as error:  # a design that does not suit the network, for example
                state.failure = FailedDie(task=task.id, die=die, tries=1, reason=str(error))
                return
        job = Job(
            task=task.id,
            die=die,
            seed=task.die_seed(die),
            design=task.design,
            mitigations=task.mitigations,
            diagnosis=task.diagnosis,
            age=task.age,
            measures=task.every_measure,
            mapping_key=task.mapping_key,
            place=self.shared[task.mapping_key].place,
            rebuild=dataclasses.replace(task, tags={}) if isinstance(task.network, str) else None,
        )
        try:
            future = self.executor.submit(measure, job)
        except BrokenExecutor as error:
            raise self.broken(error) from error
        state.out.add(die)
        self.out[future] = _Out(state=state, die=die, alone=alone)

    def cores_left(self) -> int | None:
        """Cores that the workers of this machine, which load libraries or run, leave; one at least."""
        return max(1, cores() - self.executor.workers) if isinstance(self.executor, LocalProcesses) else None

    def take(self, future: Future[Any]) -> None:
        """Keep what a worker gave."""
        out = self.out.pop(future)
        state, die = out.state, out.die
        state.out.discard(die)
        try:
            answer = future.result()
        except Exception as error:
            ended = deaths(error, alone=out.alone)
            if ended is not None:  # 0 where others were out too, and the die may be innocent
                self.try_again(_killed(state.task.id, die, ended, error), state)
                return
            if isinstance(error, BrokenExecutor):
                raise self.broken(error) from error
            # lost on its way: a cluster that gave up, an object that cannot be sent
            state.failure = state.failure or FailedDie(task=state.task.id, die=die, tries=1, reason=_one_line(error))
            return
        if isinstance(answer, Failure):
            if answer.of == "network":
                state.failure = state.failure or _failed(answer, 1)
            else:
                self.fail(state, _failed(answer, 1 + state.tries.get(die, 0)))
            return
        assert isinstance(answer, MeasuredDie)
        if self.store is not None:
            self.store.add(answer)
        state.add(answer)
        self.tell(state)

    def try_again(self, failed: FailedDie, state: State) -> None:
        """Try a die again, with no other at the same time, or give it up; the record says how many tries more."""
        key = failed.task, failed.die
        self.tries[key] = self.tries.get(key, 0) + failed.tries
        if self.tries[key] < self.most_tries:
            state.out.add(failed.die)
            self.suspects.append((state, failed.die))
            return
        every = self.tries[key] + state.tries.get(failed.die, 0)
        self.fail(state, dataclasses.replace(failed, tries=every))

    def fail(self, state: State, failed: FailedDie) -> None:
        if self.store is not None:
            self.store.add_failed(failed)
        state.fail(failed)
        self.tell(state)

    def tell(self, state: State) -> None:
        given_up = state.failure is not None and not state.out
        ended = state.enough is not None or given_up
        if ended and self.report is not None and state.task.id not in self.reported:
            self.reported.add(state.task.id)
            for result in state.results():
                self.report(result)

    def broken(self, error: BrokenExecutor) -> CollectError:
        results = Results(tasks=tuple(result for state in self.states for result in state.results()))
        message = f"the executor cannot go on; what was measured before is kept ({_one_line(error)})"
        return CollectError(message, results)

    def release(self, state: State) -> None:
        """Let go of a network that no task needs any more."""
        if self.lent:
            return
        key = state.task.mapping_key if state.task.mapping_key in self.shared else None
        if key and all(other.done and not other.out for other in self.states if other.task.mapping_key == key):
            self.shared.pop(key).close()

    def stop(self, *, keep: bool) -> None:
        """End at once, with or without what has arrived and was not taken yet."""
        for future in list(self.out):
            if keep and future.done() and not future.cancelled():
                with contextlib.suppress(Exception):
                    self.take(future)
            else:
                future.cancel()
        self.close()

    def close(self) -> None:
        if self.lent:
            return
        for shared in self.shared.values():
            shared.close()
        self.shared.clear()


def _killed(task: str, die: int, tries: int, error: BaseException) -> FailedDie:
    """The record of a die that ended its worker, or left it without memory."""
    trace = ""
    if isinstance(error, WorkerDied):
        reason = f"its worker process {error.reason}"
    else:
        reason = _plain(str(error)) if isinstance(error, MemoryError) else _one_line(error)
        trace = "".join(traceback.format_exception(error))
    return FailedDie(task=task, die=die, tries=tries, reason=reason[:_LONGEST], traceback=trace[-10 * _LONGEST :])


def _failed(failure: Failure, tries: int) -> FailedDie:
    return FailedDie(
        task=failure.task,
        die=failure.die,
        tries=tries,
        reason=_plain(failure.message)[:_LONGEST],
        traceback=failure.traceback[-10 * _LONGEST :],
    )


def _one_line(error: BaseException) -> str:
    """An error without the paragraphs of advice that some libraries add."""
    return f"{type(error).__name__}: {_plain(str(error).partition(chr(10))[0])}"


def _plain(text: str) -> str:
    """Text in one line, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


class _Display:
    """Progress on standard error: one line for each task that is being measured, and one for all."""

    def __init__(self, states: list[State], progress: bool | None) -> None:
        self.states = states
        self.bar = progress_bar("dies", progress)
        self.every = self.bar.add_task("all tasks", total=None, start=True)
        self.lines = {
            state.task.id: self.bar.add_task(str(state.task), total=None, visible=False, start=False)
            for state in states
        }

    def __enter__(self) -> _Display:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self) -> None:
        if self.bar.hidden:
            return
        visible = 0
        total = count = 0
        for state in self.states:
            line = self.lines[state.task.id]
            have = len(state.dies) + len(state.failed)
            expected = max(have, state.expected)
            total, count = total + expected, count + have
            if not state.out:
                self.bar.update(line, completed=have, total=expected, visible=False)
                continue
            visible += 1
            self.bar.start_task(line)
            self.bar.update(line, completed=have, total=expected, visible=visible <= _MOST_LINES)
        self.bar.update(self.every, completed=count, total=total)
