"""Worker processes of this machine: one thread each, deaf to Ctrl-C, gone when their parent is gone.

They are loky's: fresh interpreters that never run the parent's script a second time, and that take functions and
classes of a notebook or of an unguarded script by value (cloudpickle). Messages between processes are the only thing
that is ever pickled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

from loky.process_executor import ProcessPoolExecutor

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer

__all__ = ["Processes", "cores"]

P = ParamSpec("P")
T = TypeVar("T")

# What libraries read at their start.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Processes(Executor):
    """Processes of this machine, of one thread each, that end with this one however it ends.

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
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            self.workers, initializer=_begin, initargs=(_lifeline(os.getpid()), self._prepare), env=_ONE_THREAD
        )
        with _without_interrupts():
            pool.submit(os.getpid)  # all of them start now
        return pool

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers there are."""
        return tuple(self._pool._processes)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in one of the processes."""
        future: Future[T] = self._pool.submit(fn, *args, **kwargs)
        return future

    def restart(self) -> None:
        """Begin with new processes, after one has died."""
        self._pool.shutdown(wait=True, kill_workers=True)
        self._pool = self._new()

    def close(self) -> None:
        """End the processes at once, whatever they are doing."""
        self._pool.shutdown(wait=True, kill_workers=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes when they are done; with `cancel_futures` at once."""
        self._pool.shutdown(wait=wait, kill_workers=cancel_futures)


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
