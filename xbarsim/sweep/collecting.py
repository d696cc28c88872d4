"""Measure dies of many tasks until each has enough, wherever there are workers, and keep every one of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from pathlib import Path
from typing import Any

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.progress import progress_bar
from xbarsim.foundation.validation import InputError, check_instance, check_integer
from xbarsim.sweep.executors import LocalProcesses, workers_of
from xbarsim.sweep.results import MeasuredDie, Results, TaskResult
from xbarsim.sweep.stopping import Dies, StopRule
from xbarsim.sweep.store import Store
from xbarsim.sweep.task import Task
from xbarsim.sweep.worker import Failure, Job, SharedBench, make_bench, measure

__all__ = ["CollectError", "Interrupted", "collect", "missing"]

_TICK = 1.0  # seconds: how long dies may wait to be written while none arrives
_MOST_DEATHS = 3  # worker processes that may die while one die is out, before its task is given up
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

    def __init__(self, message: str, results: Results, failures: Sequence[Failure] = ()) -> None:
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


class _State:
    """One task on its way."""

    def __init__(self, task: Task, stop: StopRule, dies: Sequence[MeasuredDie], share: Callable[[int], bool]) -> None:
        self.tasks = [task]  # all that share the id: they differ in tags alone
        self.stop = stop
        self.dies = {measured.die: measured for measured in dies}
        self.share = share
        self.out: set[int] = set()
        self.failure: Failure | None = None
        self.prefix: list[int] = []
        self.enough: int | None = None
        self._update()

    @property
    def task(self) -> Task:
        return self.tasks[0]

    def _update(self) -> None:
        grown = False
        while len(self.prefix) in self.dies:
            self.prefix.append(self.dies[len(self.prefix)].correct)
            grown = True
        if grown and self.enough is None:
            self.enough = self.stop.enough(self.prefix, self.dies[0].images)

    def add(self, measured: MeasuredDie) -> None:
        self.dies[measured.die] = measured
        self._update()

    @property
    def certain(self) -> int:
        """Dies that are needed whatever those that are still out give."""
        if self.enough is not None:
            return self.enough
        return min(max(self.stop.least, len(self.prefix) + 1), self.stop.most)

    def missing(self, limit: int) -> Iterator[int]:
        """Numbers of the dies below a limit that nobody has measured or is measuring, and that are ours."""
        return (die for die in range(limit) if die not in self.dies and die not in self.out and self.share(die))

    def next(self, *, speculate: bool) -> int | None:
        if self.failure is not None or self.enough is not None:
            return None
        limit = min(self.certain + len(self.out) + 1, self.stop.most) if speculate else self.certain
        return next(self.missing(limit), None)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.failure is not None or self.enough is not None or next(self.missing(self.stop.most), None) is None

    @property
    def expected(self) -> int:
        """Dies that it will probably take, those of others included."""
        if self.enough is not None:
            return self.enough
        if not self.prefix:
            return self.stop.least
        return self.stop.expected(self.prefix, self.dies[0].images)

    def results(self) -> list[TaskResult]:
        dies = tuple(self.dies[die] for die in sorted(self.dies))
        return [
            TaskResult(columns=task.columns(), tags=tuple(task.tags), stop=self.stop, collected=dies, seeds=task.seeds)
            for task in self.tasks
        ]


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


def _states(
    tasks: Sequence[Task], stop: StopRule, store: Store | None, shard: tuple[int, int] | None
) -> dict[str, _State]:
    states: dict[str, _State] = {}
    for task in tasks:
        if task.id in states:
            if all(other.tags != task.tags for other in states[task.id].tasks):
                states[task.id].tasks.append(task)
            continue
        dies = [] if store is None else store.dies(task.id)
        states[task.id] = _State(task, stop, dies, _share(stop, shard, len(states)))
    return states


def _share(stop: StopRule, shard: tuple[int, int] | None, position: int) -> Callable[[int], bool]:
    """Which dies of a task belong to a shard: every n-th; all or none where their number is not known before."""
    if shard is None:
        return lambda die: True
    index, count = shard
    if stop.least == stop.most:
        return lambda die: die % count == index
    return lambda die: position % count == index


def missing(
    tasks: Sequence[Task],
    stop: StopRule,
    *,
    store: Store | None = None,
    shard: tuple[int, int] | None = None,
) -> list[tuple[Task, int, int]]:
    """What a sweep would do: each task with how many dies it has, and how many it needs at least besides.

    Parameters
    ----------
    tasks, stop, store, shard
        As in :func:`collect`.
    """
    _check(tasks, stop, shard)
    return [
        (task, len(state.dies), 0 if state.enough is not None else sum(1 for _ in state.missing(state.certain)))
        for state in _states(tasks, stop, store, shard).values()
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
    progress: bool | None = None,
    report: Callable[[TaskResult], None] | None = None,
    configuration: str = "",
    benches: dict[str, SharedBench] | None = None,
) -> Results:
    """Measure dies of each task until its stop rule is satisfied.

    The result depends on tasks and stop rule alone: not on workers, speed or restarts, nor on what a store held before.

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
    progress
        Show progress and the time left, on standard error; ``None`` for only where that is a terminal.
    report
        Called with each task when it is complete.
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
        If dies of some tasks could not be measured. All other tasks were, and everything is in the store.
    Interrupted
        At Ctrl-C, a KeyboardInterrupt. Everything measured so far is in the store.
    """
    rule = stop if isinstance(stop, StopRule) else Dies(count=check_integer("stop", stop, at_least=1))
    if executor is not None and workers is not None:
        raise InputError(f"workers must be None where an executor is given, got {workers!r}")
    _check(tasks, rule, shard)
    with contextlib.ExitStack() as stack:
        own_store = store is not None and not isinstance(store, Store)
        kept = stack.enter_context(Store(store)) if own_store else store  # type: ignore[arg-type]
        assert kept is None or isinstance(kept, Store)
        if executor is None:
            # they load while this process finds out what there is to do, and end with this call, however it ends
            executor = stack.enter_context(contextlib.closing(LocalProcesses(workers)))
        states = _states(tasks, rule, kept, shard)
        if kept is not None:
            kept.begin(list(tasks), rule, configuration=configuration)

        def results() -> Results:
            return _in_order(tasks, states)

        if all(state.done for state in states.values()):
            return results()
        shown = stack.enter_context(_Display(list(states.values()), progress))
        run = _Run(list(states.values()), kept, executor, report, benches)
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
        failures = [state.failure for state in states.values() if state.failure is not None]
        if failures:
            first = failures[0]
            names = next(str(state.task) for state in states.values() if state.failure is first)
            many = f"{len(failures)} of {len(states)} task{'' if len(states) == 1 else 's'} failed"
            dies = sum(len(state.dies) for state in states.values())
            raise CollectError(
                f"{many}, the first at die {first.die} of {names}: {first.message}; all other tasks are measured, "
                f"{dies} dies are kept",
                results(),
                failures,
            )
        return results()


def _in_order(tasks: Sequence[Task], states: dict[str, _State]) -> Results:
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


class _Run:
    """The traffic between tasks, store and executor."""

    def __init__(
        self,
        states: list[_State],
        store: Store | None,
        executor: Executor,
        report: Callable[[TaskResult], None] | None,
        benches: dict[str, SharedBench] | None,
    ) -> None:
        self.states = states
        self.store = store
        self.report = report
        self.executor = executor
        self.lent = benches is not None
        self.shared: dict[str, SharedBench] = {} if benches is None else benches
        self.out: dict[Future[Any], tuple[_State, int]] = {}
        self.deaths: dict[tuple[str, int], int] = {}
        self.reported: set[str] = {state.task.id for state in states if state.enough is not None}

    def work(self, shown: _Display) -> None:
        while True:
            self.fill()
            shown.update()
            if not self.out:
                return
            finished, _ = wait(self.out, timeout=_TICK, return_when=FIRST_COMPLETED)
            # in the order in which they were asked for: of those that are ready, none is passed over if writing fails
            broken = [future for future in list(self.out) if future in finished and not self.take(future)]
            if broken:
                self.recover()
            if self.store is not None and not finished:
                self.store.flush()

    def fill(self) -> None:
        """Keep every worker busy: with dies that are needed anyhow, then with those that may be."""
        workers = workers_of(self.executor)
        for speculate, most in ((False, 2 * workers), (True, workers)):
            for state in self.states:
                while len(self.out) < most:
                    die = state.next(speculate=speculate)
                    if die is None:
                        break
                    self.submit(state, die)
                if state.done and not state.out:
                    self.release(state)

    def submit(self, state: _State, die: int) -> None:
        task = state.task
        if task.mapping_key not in self.shared:
            try:
                self.shared[task.mapping_key] = SharedBench(make_bench(task))
            except InputError as error:  # a design that does not suit the network, for example
                state.failure = Failure(task=task.id, die=die, message=str(error), traceback="")
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
        except BrokenExecutor:  # noticed only now
            self.recover()
            future = self.executor.submit(measure, job)
        state.out.add(die)
        self.out[future] = state, die

    def take(self, future: Future[Any]) -> bool:
        """Keep what a worker gave; whether the worker lived to give anything."""
        state, die = self.out.pop(future)
        state.out.discard(die)
        try:
            answer = future.result()
        except BrokenExecutor as error:
            self.count_death(state, die, error)
            return False
        except Exception as error:  # lost on its way: a cluster that gave up, an object that cannot be sent
            answer = Failure(task=state.task.id, die=die, message=_one_line(error), traceback="")
        if isinstance(answer, Failure):
            if state.failure is None or answer.die < state.failure.die:  # whichever came first
                state.failure = answer
            return True
        assert isinstance(answer, MeasuredDie)
        if self.store is not None:
            self.store.add(answer)
        state.add(answer)
        if state.enough is not None and self.report is not None and answer.task not in self.reported:
            self.reported.add(answer.task)
            for result in state.results():
                self.report(result)
        return True

    def count_death(self, state: _State, die: int, error: BaseException) -> None:
        key = (state.task.id, die)
        self.deaths[key] = self.deaths.get(key, 0) + 1
        if self.deaths[key] > _MOST_DEATHS and state.failure is None:
            state.failure = Failure(
                task=state.task.id,
                die=die,
                message=f"its worker process died {self.deaths[key]} times (out of memory, or something that cannot be "
                f"read in another process?): {_one_line(error)}",
                traceback="",
            )

    def recover(self) -> None:
        """New processes in place of those that died; what they had is measured again."""
        if not isinstance(self.executor, LocalProcesses):
            results = Results(tasks=tuple(result for state in self.states for result in state.results()))
            raise CollectError("the executor's worker processes died; what was measured before is kept", results)
        for future in list(self.out):
            if future.done() and not future.cancelled():
                self.take(future)
        for state, die in self.out.values():
            state.out.discard(die)
        self.out.clear()
        self.executor.restart()

    def release(self, state: _State) -> None:
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


def _one_line(error: BaseException) -> str:
    """An error without the paragraphs of advice that some libraries add."""
    return f"{type(error).__name__}: {' '.join(str(error).partition(chr(10))[0].split())}"


class _Display:
    """Progress on standard error: one line for each task that is being measured, and one for all."""

    def __init__(self, states: list[_State], progress: bool | None) -> None:
        self.states = states
        self.bar = progress_bar("dies", progress)
        self.every = self.bar.add_task("all tasks", total=None, start=True)
        self.lines = {
            state.task.id: self.bar.add_task(str(state.task), total=None, visible=False, start=False)
            for state in states
        }
        self.before = sum(len(state.dies) for state in states)

    def __enter__(self) -> _Display:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self) -> None:
        if self.bar.disable:
            return
        visible = 0
        total = count = 0
        for state in self.states:
            line = self.lines[state.task.id]
            have = len(state.dies)
            expected = max(have, state.expected)
            total, count = total + expected, count + have
            if not state.out:
                self.bar.update(line, completed=have, total=expected, visible=False)
                continue
            visible += 1
            self.bar.start_task(line)
            self.bar.update(line, completed=have, total=expected, visible=visible <= _MOST_LINES)
        self.bar.update(self.every, completed=count, total=total)
