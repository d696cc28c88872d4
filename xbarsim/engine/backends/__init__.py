"""How a plan's layout is computed: a backend makes a program of it."""

from __future__ import annotations

from xbarsim.engine.backends.base import Backend, BlockingProgram, Program
from xbarsim.engine.backends.compiled import CompiledBackend

__all__ = [
    "Backend",
    "BlockingProgram",
    "CompiledBackend",
    "Program",
]  # and, in a file of its own that loads torch, TorchBackend
