"""The decorator of compiled functions that call one another from file to file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["kernel"]


@functools.cache
def _sources(folder: Path) -> str:
    """A digest of all sources in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kernel(*, parallel: bool = False, fastmath: set[str] | bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function with numba, and keep the compiled code until any source in its folder changes.

    numba's own cache looks at the file of the function alone: a kernel that was compiled with the old text of a
    function in another file would go on giving the old numbers.

    Parameters
    ----------
    parallel
        Whether its loops over ``prange`` use several threads.
    fastmath
        What of its floating-point arithmetic may be rearranged, by LLVM's names.
    """

    def compile_it(function: Callable[..., Any]) -> Any:
        compiled: Any = njit(cache=True, nogil=True, parallel=parallel, fastmath=fastmath)(function)
        files = compiled._cache._cache_file
        files._source_stamp = (files._source_stamp, _sources(Path(function.__code__.co_filename).parent))
        return compiled

    return compile_it
