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


class _Piece:
    """Memory for so many bytes, from an address on that 64 divides: 16 float32 must not straddle two cache lines."""

    __slots__ = ("_memory", "address", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self._memory = np.empty(nbytes + 64, np.uint8)
        self.address = -(-self._memory.ctypes.data // 64) * 64
        self.nbytes = nbytes


_free: list[_Piece] = []
# Memory whose arrays are gone. A lease may end at any line, also in the thread that holds the lock: it waits here.
_returned: deque[_Piece] = deque()


class _Lease:
    """A piece of memory for as long as an array, or a view of it, stands in it."""

    def __init__(self, size: int) -> None:
        self.piece = _taken(size)
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (size,),
            "data": (self.piece.address, False),
        }

    def __del__(self) -> None:
        _returned.append(self.piece)
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


def _taken(size: int) -> _Piece:
    """The smallest free piece that holds so many bytes and not twice as many, or a new one."""
    with _lock:
        _settle()
        fitting = [index for index, each in enumerate(_free) if size <= each.nbytes <= 2 * size]
        if fitting:
            return _free.pop(min(fitting, key=lambda index: _free[index].nbytes))
    return _Piece(size)


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
