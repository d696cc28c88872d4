"""What the processor has that kernels are compiled for."""

from __future__ import annotations

from functools import cache

import numba
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

__all__ = ["compiled_for", "has_feature"]

# By LLVM's names, in the order in which they came.
_SETS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512vnni": "AVX-512 VNNI",
    "avxvnni": "AVX-VNNI",
    "avx512vbmi": "AVX-512 VBMI",
    "avx512vpopcntdq": "AVX-512 VPOPCNTDQ",
    "neon": "NEON",
    "sve": "SVE",
}


@cache
def has_feature(name: str) -> bool:
    """Whether numba compiles for an instruction set, by LLVM's name of it.

    The processor's own, or what numba's settings (``NUMBA_CPU_FEATURES``) name in its place.
    """
    named: str | None = numba.config.CPU_FEATURES  # type: ignore[attr-defined]
    if named is not None:
        return f"+{name}" in named.split(",")
    return bool(get_host_cpu_features().get(name, False))


def compiled_for() -> str:
    """The processor and the vector instructions that kernels are compiled for, such as ``"znver3 (AVX2)"``.

    LLVM may use any of them that it finds; none is chosen at run time, for kernels are compiled where they run.
    """
    processor: str = numba.config.CPU_NAME or get_host_cpu_name()  # type: ignore[attr-defined]
    sets = [title for name, title in _SETS.items() if has_feature(name)]
    return f"{processor} ({', '.join(sets) or 'no vector instructions of more than 128 bits'})"
