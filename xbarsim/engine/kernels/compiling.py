"""The decorator of every kernel."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["kernel"]


@functools.cache
def _sources() -> str:
    """A digest of the sources of all kernels."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kernel(*, parallel: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function with numba, and keep the compiled code until any kernel's source changes.

    numba's own cache looks at the file of the function alone: a kernel that was compiled with the old text of a
    function in another file would go on giving the old numbers.

    Parameters
    ----------
    parallel
        Whether its loops over ``prange`` use several threads.
    """

    def compile_it(function: Callable[..., Any]) -> Any:
        compiled = njit(cache=True, nogil=True, parallel=parallel)(function)
        files = compiled._cache._cache_file
        files._source_stamp = (files._source_stamp, _sources())
        return compiled

    return compile_it
