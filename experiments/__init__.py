"""Paper reproductions, studies, fits and benchmarks: scripts that run the simulator and write figures and tables."""

from __future__ import annotations

if __name__ != "xbarsim.experiments":
    raise ImportError("import xbarsim.experiments, not experiments")
