"""What makes torch's numbers those of the other backends: unshortened products, and codes by comparison."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Steps", "plain_products", "thresholds"]

Array = npt.NDArray[Any]

_MOST_THRESHOLDS = 2**12  # of a table; for more codes the formula is cheaper


_lock = threading.Lock()
_within = 0  # how many are within `plain_products` just now, in all threads: torch's settings are those of the process
_after = ExitStack()  # gives the settings back when the last of them leaves


@contextmanager
def plain_products() -> Iterator[None]:
    """Let torch multiply float32 numbers as float32 numbers, whatever a user has allowed it to shorten them to.

    Threads may be within at the same time: what was set before the first came is set again when the last has left.
    """
    global _within
    with _lock:
        if not _within:
            _after.enter_context(_unshortened())
        _within += 1
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if not _within:
                _after.close()


@contextmanager
def _unshortened() -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn
    try:
        kept = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    except RuntimeError:  # they were set by their newer names alone, and torch refuses to mix the two
        places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul, cudnn.conv)  # type: ignore[attr-defined]
        before = [place.fp32_precision for place in places]
        for place in places:
            place.fp32_precision = "ieee"
        try:
            yield
        finally:
            for place, precision in zip(places, before, strict=True):
                place.fp32_precision = precision
        return
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(kept[0])
        cudnn.allow_tf32 = kept[1]


def thresholds(inverse_step: float, low: int, high: int, dtype: Any) -> Array:
    """Where each code from ``low + 1`` to `high` begins.

    Parameters
    ----------
    inverse_step
        Codes for one unit of a value.
    low, high
        Lowest and highest code.
    dtype
        ``np.float32`` or ``np.float64``, in which the values are.

    Returns
    -------
    ndarray
        Ascending, of `dtype`: the least numbers of that type whose code ``floor(value * inverse_step + 1/2)``, product
        and sum rounded to float64 one after the other, is the one meant or higher. The code never falls as the value
        rises, because neither operation does; so counting the thresholds that are not above a value gives its code.
    """
    codes = np.arange(low + 1, high + 1, dtype=np.float64)

    def reaches(values: Array) -> npt.NDArray[np.bool_]:
        return np.asarray(np.floor(values.astype(np.float64) * inverse_step + 0.5) >= codes)

    up, down = np.asarray(np.inf, dtype), np.asarray(-np.inf, dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        limits = np.finfo(dtype)
        found = np.clip((codes - 0.5) / inverse_step, limits.min, limits.max).astype(dtype)
        while (lower := reaches(np.nextafter(found, down)) & np.isfinite(found)).any():
            found = np.where(lower, np.nextafter(found, down), found)
        while (higher := ~reaches(found)).any():
            found = np.where(higher, np.nextafter(found, up), found)
    return np.asarray(found, dtype)


class Steps:
    """Nearest codes, halves up, clipped, of values of one type: a quantiser or an ideal converter.

    Parameters
    ----------
    inverse_step, low, high
        As for :func:`thresholds`.
    dtype, device
        Of the values.
    """

    def __init__(self, inverse_step: float, low: int, high: int, dtype: torch.dtype, device: torch.device) -> None:
        self._inverse, self._low, self._high = inverse_step, low, high
        self._table: Tensor | None = None
        if high - low <= _MOST_THRESHOLDS:
            kind = np.float32 if dtype == torch.float32 else np.float64
            self._table = torch.from_numpy(thresholds(inverse_step, low, high, kind)).to(device)

    @property
    def counts(self) -> bool:
        """Whether codes are counted in a table of thresholds, and come as integers."""
        return self._table is not None

    def __call__(self, values: Tensor) -> Tensor:
        """Codes: int32, or float64 where there are many."""
        if self._table is None:
            exact = values.to(torch.float64, copy=True)
            return exact.mul_(self._inverse).add_(0.5).floor_().clamp_(self._low, self._high)
        counted = torch.bucketize(values, self._table, right=True, out_int32=True)
        return counted.add_(self._low) if self._low else counted
