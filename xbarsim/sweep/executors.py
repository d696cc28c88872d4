"""Where dies are measured: processes of this machine, the workers of a Dask cluster, or this process.

Any :class:`concurrent.futures.Executor` will do; those here also say how many workers they have.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any, ParamSpec, TypeVar

from xbarsim.foundation.validation import InputError, check_integer
from xbarsim.sweep.worker import start_process

__all__ = ["InProcess", "LocalProcesses", "dask_executor", "workers_of"]

P = ParamSpec("P")
T = TypeVar("T")

# What libraries read at their start: each worker has one thread.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _for_children() -> Iterator[None]:
    """While children start: one thread each, and Ctrl-C held back: they inherit that, this process gets it later."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    masked = hasattr(signal, "pthread_sigmask")
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masked else set()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if masked:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)


class LocalProcesses(Executor):
    """Spawned processes of this machine, of one thread each, that end with this one however it ends.

    Parameters
    ----------
    workers
        How many; ``None`` for one a core.

    Raises
    ------
    InputError
        If `workers` is not a positive integer.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = cores() if workers is None else check_integer("workers", workers, at_least=1)
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            self.workers, mp_context=multiprocessing.get_context("spawn"), initializer=start_process
        )
        with _for_children():
            for _ in range(self.workers):  # all of them start now, and load while the parent prepares
                pool.submit(os.getpid)
        return pool

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in one of the processes."""
        if len(self._pool._processes or {}) < self.workers:  # it may start one now
            with _for_children():
                return self._pool.submit(fn, *args, **kwargs)
        return self._pool.submit(fn, *args, **kwargs)

    def restart(self) -> None:
        """Begin with new processes, after one has died."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._new()

    def close(self) -> None:
        """End the processes at once, whatever they are doing."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes when they are done."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)


class InProcess(Executor):
    """No other process, one die after the other: for what is defined in a notebook, and for debugging."""

    workers = 1

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function now."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _DaskExecutor(Executor):
    """The workers of a Dask cluster; a worker that dies costs only the time of the dies it had."""

    def __init__(self, client: Any, *, close: bool) -> None:
        self._client = client
        self._close = close
        self._executor = client.get_executor(pure=False, retries=2)

    @property
    def workers(self) -> int:
        """Threads of all workers there are now; more may join while a sweep runs."""
        return max(1, sum(int(threads) for threads in self._client.ncores().values()))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = self._executor.submit(fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=wait and not cancel_futures)
        if self._close:
            self._client.close()


def dask_executor(cluster: Any) -> Executor:
    """The workers of a Dask cluster, on this machine or others.

    Parameters
    ----------
    cluster
        Address of a scheduler such as ``"tcp://host:8786"``, or a ``dask.distributed.Client``. Workers should have one
        thread each (``dask worker --nthreads 1``), xbarsim installed in the same version, and the same data folder.

    Raises
    ------
    ImportError
        If Dask is absent.
    InputError
        If no scheduler answers at the address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("clusters need Dask, which is not installed: pip install 'xbarsim[cluster]'") from error
    if isinstance(cluster, Client):
        return _DaskExecutor(cluster, close=False)
    try:
        return _DaskExecutor(Client(cluster, timeout=20), close=True)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"dask must be the address of a running scheduler, got {cluster!r}: {error}") from error


def workers_of(executor: Executor) -> int:
    """How many dies an executor measures at a time, as far as it says."""
    for name in ("workers", "_max_workers"):
        found = getattr(executor, name, None)
        if isinstance(found, int) and found > 0:
            return found
    return cores()
