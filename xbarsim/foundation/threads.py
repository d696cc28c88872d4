"""One setting for all the libraries that start threads."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import numba
from threadpoolctl import threadpool_limits

from xbarsim.foundation.validation import check_integer

__all__ = ["fewer_threads", "set_threads"]


def set_threads(threads: int) -> None:
    """Use this many threads for compiled loops, BLAS and torch together; no answer depends on it.

    Parameters
    ----------
    threads
        From 1 to what numba found at its start (all cores, or ``NUMBA_NUM_THREADS``).

    Raises
    ------
    InputError
        If `threads` is not in that range.
    """
    most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    check_integer("threads", threads, at_least=1, at_most=most)
    numba.set_num_threads(threads)
    threadpool_limits(limits=threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


@contextlib.contextmanager
def fewer_threads(threads: int) -> Iterator[None]:
    """Use at most this many threads for a while: where other processes need the cores, threads wait for one another.

    Parameters
    ----------
    threads
        1 or more; more than compiled loops have now change nothing.
    """
    before = numba.get_num_threads()
    if before <= threads:
        yield
        return
    torch = sys.modules.get("torch")
    of_torch = 1 if torch is None else int(torch.get_num_threads())
    numba.set_num_threads(threads)
    if torch is not None:
        torch.set_num_threads(min(threads, of_torch))
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        numba.set_num_threads(before)
        if torch is not None:
            torch.set_num_threads(of_torch)
