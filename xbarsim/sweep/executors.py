"""Where dies are measured: processes of this machine, the workers of a Dask cluster, or this process.

Any :class:`concurrent.futures.Executor` will do; those here also say how many workers they have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, ParamSpec, TypeVar

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.processes import Processes, WorkerDied, cores
from xbarsim.foundation.validation import InputError
from xbarsim.sweep.worker import load_libraries

__all__ = ["InProcess", "LocalProcesses", "dask_executor", "deaths", "workers_of"]

P = ParamSpec("P")
T = TypeVar("T")


class LocalProcesses(Processes):
    """Processes of this machine, of one thread each, that end with this one however it ends.

    They take networks and measures that are defined in a notebook, or in a script without a guard.

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
        super().__init__(workers, prepare=load_libraries)


class InProcess(Executor):
    """No other process, one die after the other: for few dies, and for debugging."""

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
    """The workers of a Dask cluster; a worker that dies costs only the time of the dies it had.

    A scheduler that cannot be reached any more is a :class:`concurrent.futures.BrokenExecutor`.
    """

    def __init__(self, client: Any, *, close: bool) -> None:
        self._client = client
        self._close = close
        self._executor = client.get_executor(pure=False, retries=2)

    @property
    def workers(self) -> int:
        """Threads of all workers there are now; more may join while a sweep runs."""
        with self._reaching():
            return max(1, sum(int(threads) for threads in self._client.ncores().values()))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with self._reaching():
            future: Future[T] = self._executor.submit(fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with contextlib.suppress(BrokenExecutor), self._reaching():  # nobody is left to say good-bye to
            self._executor.shutdown(wait=wait and not cancel_futures)
        if self._close:
            with contextlib.suppress(BrokenExecutor), self._reaching():
                self._client.close()

    @staticmethod
    @contextlib.contextmanager
    def _reaching() -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # what is raised depends on what the client is doing when it notices: no connection or a timeout (both
            # OSError), an executor that is shut down, or errors of Dask's own, such as that of a client that has closed
            own = type(error).__module__.startswith("distributed")
            if own or isinstance(error, OSError | RuntimeError | ValueError):
                raise BrokenExecutor(f"the Dask scheduler cannot be reached: {error}") from error
            raise


@entrance
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


def deaths(error: BaseException, *, alone: bool) -> int | None:
    """How many workers a job has ended, or left without memory, by its error; ``None`` for any other error.

    Parameters
    ----------
    error
        The error.
    alone
        Whether no other job was out meanwhile: Dask blames a worker's end on every job that the worker had.
    """
    if isinstance(error, WorkerDied | MemoryError):
        return 1
    if type(error).__name__ == "KilledWorker" and type(error).__module__.startswith("distributed"):
        return 1 + int(error.allowed_failures) if alone else 0  # type: ignore[attr-defined]
    return None


def workers_of(executor: Executor) -> int:
    """How many dies an executor measures at a time, as far as it says."""
    for name in ("workers", "_max_workers"):
        workers = getattr(executor, name, None)
        if isinstance(workers, int) and workers > 0:
            return workers
    return cores()
