"""The backend of the project's own kernels."""

from __future__ import annotations

from typing import ClassVar

from xbarsim.engine.backends.base import Program
from xbarsim.engine.backends.counting import CountingProgram
from xbarsim.engine.backends.look_up import LookUpProgram, look_up_misfit
from xbarsim.engine.backends.noisy import NoisyProgram, NoisySumProgram
from xbarsim.engine.backends.sums import SumProgram
from xbarsim.engine.backends.words import WordProgram, word_misfit
from xbarsim.engine.kernels.processor import compiled_for
from xbarsim.engine.layout import Layout

__all__ = ["CompiledBackend"]


class CompiledBackend:
    """Kernels compiled by numba for this processor; runs every layout."""

    name: ClassVar[str] = "numba"

    def __str__(self) -> str:
        return f"compiled kernels for {compiled_for()}"

    def prepare(self, layout: Layout) -> Program:
        """As :meth:`xbarsim.engine.backends.Backend.prepare`."""
        if word_misfit(layout) is None:
            return WordProgram(layout)
        if layout.kind == "whole":
            return SumProgram(layout) if layout.noise is None else NoisySumProgram(layout)
        if layout.noise is not None:
            return NoisyProgram(layout)
        if layout.kind == "bits":
            return LookUpProgram(layout) if look_up_misfit(layout) is None else CountingProgram(layout)
        return SumProgram(layout)
