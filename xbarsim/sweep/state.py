"""Tasks on their way: which dies are known, which are out, which are needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from xbarsim.sweep.results import FailedDie, MeasuredDie, TaskResult
from xbarsim.sweep.stopping import StopRule, answer
from xbarsim.sweep.store import Store
from xbarsim.sweep.task import Task

__all__ = ["State", "states_of"]

_HOPELESS = 3  # first dies of a task that may fail, before the task is given up


class State:
    """One task on its way."""

    def __init__(
        self,
        task: Task,
        stop: StopRule,
        dies: Sequence[MeasuredDie],
        failed: Sequence[FailedDie],
        share: Callable[[int], bool],
        retry_failed: bool,
    ) -> None:
        self.tasks = [task]  # all that share the id: they differ in tags alone
        self.stop = stop
        self.dies = {measured.die: measured for measured in dies}
        self.share = share
        self.out: set[int] = set()
        self.failure: FailedDie | None = None  # of the whole task: it is given up
        self.failed = {known.die: known for known in failed if not (retry_failed and share(known.die))}
        # tries of dies that failed before are counted on
        self.tries = {known.die: known.tries for known in failed if known.die not in self.failed}
        self.outcomes: list[int | None] = []
        self.enough: int | None = None
        self._first = list(itertools.islice(filter(share, range(stop.most)), _HOPELESS))
        self._update()

    @property
    def task(self) -> Task:
        """The first of its tasks."""
        return self.tasks[0]

    @property
    def images(self) -> int:
        """Images of each die, where one is measured."""
        return next(iter(self.dies.values())).images if self.dies else 0

    def _update(self) -> None:
        grown = False
        while (die := len(self.outcomes)) in self.dies or die in self.failed:
            self.outcomes.append(self.dies[die].correct if die in self.dies else None)
            grown = True
        if grown and self.enough is None:
            self.enough = answer(self.stop, self.outcomes, self.images)
        if self._first and self.failure is None and all(die in self.failed for die in self._first):
            # nothing that comes after is any better
            self.failure = self.failed[self._first[0]]

    def add(self, measured: MeasuredDie) -> None:
        """Take a die that was measured."""
        self.dies[measured.die] = measured
        self._update()

    def fail(self, failed: FailedDie) -> None:
        """Take a die that could not be measured."""
        self.failed[failed.die] = failed
        self._update()

    @property
    def _counted_out(self) -> int:
        return self.outcomes.count(None)

    @property
    def certain(self) -> int:
        """Dies that are needed whatever those that are still out give."""
        if self.enough is not None:
            return self.enough
        return min(max(self.stop.least + self._counted_out, len(self.outcomes) + 1), self.stop.most)

    def missing(self, limit: int) -> Iterator[int]:
        """Numbers of the dies below a limit that are ours, and that nobody has measured, is measuring or has failed."""
        return (
            die
            for die in range(limit)
            if die not in self.dies and die not in self.out and die not in self.failed and self.share(die)
        )

    def next(self, *, speculate: bool) -> int | None:
        """The next die to measure: one that is needed anyhow, or with `speculate` one that may be."""
        if self.settled:
            return None
        limit = min(self.certain + len(self.out) + 1, self.stop.most) if speculate else self.certain
        return next(self.missing(limit), None)

    @property
    def settled(self) -> bool:
        """Whether it has its answer, or is given up."""
        return self.failure is not None or self.enough is not None

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.settled or next(self.missing(self.stop.most), None) is None

    @property
    def expected(self) -> int:
        """Dies that it will probably take, those of others included."""
        if self.enough is not None:
            return self.enough
        correct = [outcome for outcome in self.outcomes if outcome is not None]
        if not correct:
            return self.stop.least
        return min(self.stop.expected(correct, self.images) + self._counted_out, self.stop.most)

    def results(self) -> list[TaskResult]:
        """What is known, for each of its tasks."""
        dies = tuple(self.dies[die] for die in sorted(self.dies))
        failed = tuple(self.failed[die] for die in sorted(self.failed))
        return [
            TaskResult(
                columns=task.columns(),
                tags=tuple(task.tags),
                stop=self.stop,
                collected=dies,
                seeds=task.seeds,
                failed=failed,
            )
            for task in self.tasks
        ]


def states_of(
    tasks: Sequence[Task],
    stop: StopRule,
    store: Store | None,
    shard: tuple[int, int] | None,
    retry_failed: bool,
) -> dict[str, State]:
    """The state of each task, by its id; arguments as in :func:`xbarsim.sweep.collect`."""
    states: dict[str, State] = {}
    for task in tasks:
        if task.id in states:
            if all(other.tags != task.tags for other in states[task.id].tasks):
                states[task.id].tasks.append(task)
            continue
        dies = [] if store is None else store.dies(task.id)
        failed = [] if store is None else store.failed(task.id)
        states[task.id] = State(task, stop, dies, failed, _share(stop, shard, len(states)), retry_failed)
    return states


def _share(stop: StopRule, shard: tuple[int, int] | None, position: int) -> Callable[[int], bool]:
    """Which dies of a task belong to a shard: every n-th; all or none where their number is not known before."""
    if shard is None:
        return lambda die: True
    index, count = shard
    if stop.least == stop.most:
        return lambda die: die % count == index
    return lambda die: position % count == index
