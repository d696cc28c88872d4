"""Worker processes of this machine: one thread each, deaf to Ctrl-C, gone when their parent is gone.

They are loky's: fresh interpreters that never run the parent's script a second time, and that take functions and
classes of a notebook or of an unguarded script by value (cloudpickle). Messages between processes are the only thing
that is ever pickled.

Each worker is a pool of its own. A pool whose process dies is broken as a whole, and nobody can say which of its jobs
did it; a pool of one says so, and the other workers never notice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from loky.backend.context import LokyContext
from loky.process_executor import ProcessPoolExecutor

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer

__all__ = ["Processes", "WorkerDied", "cores"]

P = ParamSpec("P")
T = TypeVar("T")

_MOST_STARTS = 10  # worker processes in a row that may die before they can do anything
_DEPTH = 2  # jobs that a worker has at a time: one that runs, one that waits behind it

# What libraries read at their start: one thread; and loky, that a process with some GB more than at its start is no
# leak. It holds networks and dies, and another in its place would have to load all of them again.
_ENVIRONMENT = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
) | {"LOKY_MAX_MEMORY_LEAK_SIZE": "4e9"}


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerDied(BrokenExecutor):
    """The worker process that ran a job died, and the job with it.

    Attributes
    ----------
    reason
        How: the signal or the exit code.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(eq=False, kw_only=True)
class _Job:
    """What is to be called, and where its result is waited for."""

    call: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)
    given: bool = False  # to a worker, once: it cannot be cancelled any more


@dataclass(eq=False, kw_only=True)
class _Worker:
    """One process, as a pool of its own, and the jobs that it has, in their order: the first is the one that runs."""

    pool: ProcessPoolExecutor
    started: Future[Any]
    jobs: deque[_Job] = field(default_factory=deque)
    deaths_at_start: int = 0


class Processes(Executor):
    """Processes of this machine, of one thread each, that end with this one however it ends.

    A worker that dies costs the job that it ran, whose future raises :class:`WorkerDied`, and nothing else: a job that
    waited behind it is given to another, and a new process takes its place. One whose job raises
    MemoryError is replaced too: nobody knows what is left of its memory.

    Parameters
    ----------
    workers
        How many; ``None`` for one a core.
    prepare
        What each calls at its start, such as a function that loads libraries while the parent does something else.

    Raises
    ------
    InputError
        If `workers` is not a positive integer.
    """

    @entrance
    def __init__(self, workers: int | None = None, prepare: Callable[[], None] | None = None) -> None:
        self.workers = cores() if workers is None else check_integer("workers", workers, at_least=1)
        self._prepare = prepare
        self._changed = threading.Condition(threading.RLock())  # a job that ended, and the lock of all that follows
        self._waiting: deque[_Job] = deque()
        self._ending = self._closed = False  # takes no more jobs; was told to end at once
        self._team = []
        for _ in range(self.workers):
            pool, started = self._new()
            self._team.append(_Worker(pool=pool, started=started))

    def _new(self) -> tuple[ProcessPoolExecutor, Future[Any]]:
        """A process that starts now, and what is done when it has started."""
        # a context of its own: joblib, where it is loaded, puts another in the place of the one by name
        pool = ProcessPoolExecutor(
            1,
            context=LokyContext(),
            initializer=_begin,
            initargs=(_lifeline(os.getpid()), self._prepare),
            env=_ENVIRONMENT,
        )
        with _without_interrupts():
            return pool, pool.submit(os.getpid)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers there are."""
        return tuple(pid for worker in self._team for pid in list(worker.pool._processes))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in one of the processes."""
        job = _Job(call=partial(fn, *args, **kwargs))
        with self._changed:
            if self._ending:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(job)
            self._feed()
        return job.future

    def _feed(self) -> None:
        """Give jobs to workers: to each that has none first, then one to wait behind each."""
        for depth in range(1, _DEPTH + 1):
            for worker in self._team:
                while self._waiting and len(worker.jobs) < depth:
                    job = self._waiting.popleft()
                    if not job.given and not job.future.set_running_or_notify_cancel():
                        continue
                    job.given = True
                    if not self._give(worker, job):
                        self._waiting.appendleft(job)
                        break

    def _give(self, worker: _Worker, job: _Job) -> bool:
        """Whether a worker took a job; one that is dead and has others does not, and tells of them in a moment."""
        while True:
            try:
                future = worker.pool.submit(job.call)
            except BrokenExecutor as error:
                if worker.jobs:
                    return False
                if not self._renew(worker):  # died while it had nothing to do
                    job.future.set_exception(error)
                    return True
                continue
            worker.jobs.append(job)
            future.add_done_callback(partial(self._take, worker, worker.pool, job))
            return True

    def _take(self, worker: _Worker, pool: ProcessPoolExecutor, job: _Job, done: Future[Any]) -> None:
        """Hand on what came of a job."""
        error = done.exception()
        with self._changed:
            if worker.pool is not pool:  # it waited behind one whose worker died, and was given to another
                return
            if isinstance(error, BrokenExecutor) and not self._closed:
                ended, error = self._bury(worker, error)
            elif isinstance(error, MemoryError) and not self._closed:
                ended = [worker.jobs.popleft()]
                self._waiting.extendleft(reversed(worker.jobs))
                worker.jobs.clear()
                pool.shutdown(wait=False, kill_workers=True)
                self._renew(worker)
            else:
                worker.jobs.remove(job)
                ended = [job]
            self._feed()
            self._changed.notify_all()
        for each in ended:
            if error is None:
                each.future.set_result(done.result())
            else:
                each.future.set_exception(error)

    def _bury(self, worker: _Worker, error: BrokenExecutor) -> tuple[list[_Job], BrokenExecutor]:
        """A new process in place of one that died; which of its jobs end with it, and how."""
        jobs, at_work = list(worker.jobs), _has_started(worker)
        reason = _how(worker.pool, error)
        worker.jobs.clear()
        if self._renew(worker):
            # a process that never got as far as a job says nothing about the job
            ended = jobs[:1] if at_work else []
            self._waiting.extendleft(reversed(jobs[len(ended) :]))
            return ended, WorkerDied(reason)
        return jobs, BrokenExecutor(f"{_MOST_STARTS} worker processes in a row did not start; the last was {reason}")

    def _renew(self, worker: _Worker) -> bool:
        """Whether there is a new process in place of a dead one: not if none of the last ones could start."""
        worker.deaths_at_start = 0 if _has_started(worker) else worker.deaths_at_start + 1
        worker.pool, worker.started = self._new()
        if worker.deaths_at_start >= _MOST_STARTS:
            worker.deaths_at_start = 0
            return False
        return True

    def close(self) -> None:
        """End the processes at once, whatever they are doing."""
        with self._changed:
            self._ending = self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in waiting:
            if not job.future.cancel():
                job.future.set_exception(RuntimeError("the processes were closed before this job could be done"))
        for worker in self._team:
            worker.pool.shutdown(wait=True, kill_workers=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes when they are done; with `cancel_futures` at once."""
        self._ending = True
        if cancel_futures:
            self.close()
        elif wait:
            self._finish()
        else:
            threading.Thread(target=self._finish, name="finish processes", daemon=True).start()

    def _finish(self) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not (self._waiting or any(worker.jobs for worker in self._team))
            )
        self.close()


def _has_started(worker: _Worker) -> bool:
    return worker.started.done() and worker.started.exception() is None


def _how(pool: ProcessPoolExecutor, error: BrokenExecutor) -> str:
    """How the process of a pool ended, in words."""
    code = next((process.exitcode for process in list(pool._processes.values())), None)
    if code is None:  # alive: it sent or was sent what cannot be read
        return f"ended: {' '.join(str(error).partition(chr(10))[0].split())}"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back while children start: they inherit that, and this process gets it later."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache
def _lifeline(parent: int) -> Connection:
    """One end of a pipe for children of a process, which nothing is ever sent through; the process keeps the other."""
    end, kept = Pipe(duplex=False)
    _kept.append(kept)
    return end


_kept: list[Connection] = []  # the other ends, closed by the system when this process ends


def _begin(lifeline: Connection, prepare: Callable[[], None] | None) -> None:
    """What a worker does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, args=(lifeline,), name="end with parent", daemon=True).start()
    if prepare is not None:
        prepare()


def _end_with_parent(lifeline: Connection) -> None:
    """Wait until the other end of the pipe is closed: the parent has ended, however it did.

    A worker that waits for work would otherwise wait for ever after its parent was killed.
    """
    with contextlib.suppress(EOFError, OSError):
        lifeline.poll(None)
    os._exit(1)
