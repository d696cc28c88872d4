"""Sweeps, paper reproductions and benchmarks: everything that runs the simulator many times."""

from __future__ import annotations

if __name__ != "xbarsim.experiments":
    raise ImportError("import xbarsim.experiments, not experiments")

__all__: list[str] = []
