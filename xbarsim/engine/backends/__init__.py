"""How a plan's layout is computed: a backend makes a program of it."""

from __future__ import annotations

from xbarsim.engine.backends.base import Backend, BlockingProgram, Program
from xbarsim.engine.backends.compiled import CompiledBackend
from xbarsim.engine.backends.plain import PlainProgram

# And TorchBackend, in a file of its own that loads torch.
__all__ = ["Backend", "BlockingProgram", "CompiledBackend", "PlainProgram", "Program"]
