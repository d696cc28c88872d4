"""One setting for all the libraries that start threads."""

from __future__ import annotations

import sys

import numba
from threadpoolctl import threadpool_limits

from xbarsim.foundation.validation import check_integer

__all__ = ["set_threads"]


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
