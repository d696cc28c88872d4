"""Memory of large arrays that come and go with each layer: kept for the next, because fresh memory costs a page fault.

A system hands out fresh memory in pages that it fills with zeros first, which can take as long as a layer of a small
network computes.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["KEPT_BYTES", "array"]

KEPT_BYTES = 64 * 2**20
"""How much memory that no array uses is kept for the next ones, at most."""

_LEAST = 2**20  # smaller arrays are left to NumPy, whose memory is reused by the system's own library

_lock = threading.Lock()
_free: list[npt.NDArray[np.uint8]] = []
# Memory whose arrays are gone. A lease may end at any line, also in the thread that holds the lock: it waits here.
_returned: deque[npt.NDArray[np.uint8]] = deque()


class _Lease:
    """A piece of memory for as long as an array, or a view of it, stands in it."""

    def __init__(self, size: int) -> None:
        self.memory = _taken(size)
        start = -self.memory.ctypes.data % 64  # 16 float32 must not straddle two cache lines
        self.__array_interface__ = self.memory[start : start + size].__array_interface__

    def __del__(self) -> None:
        _returned.append(self.memory)
        if _lock.acquire(blocking=False):
            try:
                _settle()
            finally:
                _lock.release()


def _settle() -> None:
    """Keep what was returned, the oldest pieces given up where it is too much; the lock is held."""
    while _returned:
        _free.append(_returned.popleft())
    while sum(each.nbytes for each in _free) > KEPT_BYTES:
        del _free[0]


def _taken(size: int) -> npt.NDArray[np.uint8]:
    """The smallest free piece that holds so many bytes and not twice as many, or a new one."""
    needed = size + 64
    with _lock:
        _settle()
        fitting = [index for index, each in enumerate(_free) if needed <= each.nbytes <= 2 * needed]
        if fitting:
            return _free.pop(min(fitting, key=lambda index: _free[index].nbytes))
    return np.empty(needed, np.uint8)


def array(shape: tuple[int, ...], dtype: Any = np.float32) -> npt.NDArray[Any]:
    """An array with anything in it, like :func:`numpy.empty`.

    Parameters
    ----------
    shape, dtype
        Of the array.

    Returns
    -------
    ndarray
        Its memory is reused when neither it nor a view of it is left.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _LEAST:
        return np.empty(shape, dtype)
    made: npt.NDArray[Any] = np.asarray(_Lease(size)).view(dtype).reshape(shape)
    return made
