"""Sweeps, paper reproductions and benchmarks: everything that runs the simulator many times.

A :class:`Task` describes one point of a sweep, :func:`collect` measures dies of many tasks until a stop rule is
satisfied, a :class:`Store` keeps them, and :class:`Results` are what was found. ``xbarsim sweep`` does it from a file.
"""

from __future__ import annotations

if __name__ != "xbarsim.experiments":
    raise ImportError("import xbarsim.experiments, not experiments")

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xbarsim.experiments.collecting import CollectError, Interrupted, collect
    from xbarsim.experiments.critical import CriticalRate, critical_rate
    from xbarsim.experiments.executors import InProcess, LocalProcesses, dask_executor
    from xbarsim.experiments.results import Block, Results, TaskResult
    from xbarsim.experiments.statistics import (
        Dies,
        Interval,
        MeanWithin,
        StopRule,
        YieldWithin,
        mean_interval,
        paired_difference,
        yield_interval,
    )
    from xbarsim.experiments.store import Store
    from xbarsim.experiments.sweep import Sweep
    from xbarsim.experiments.task import COLUMNS, METRICS, Mitigation, ProtectLayers, Task, Workload, die_seed

# Loaded on first use, so that one experiment does not pay for the libraries of another.
_HOMES = {
    "Block": "results",
    "COLUMNS": "task",
    "CollectError": "collecting",
    "CriticalRate": "critical",
    "Dies": "statistics",
    "InProcess": "executors",
    "Interrupted": "collecting",
    "Interval": "statistics",
    "LocalProcesses": "executors",
    "METRICS": "task",
    "MeanWithin": "statistics",
    "Mitigation": "task",
    "ProtectLayers": "task",
    "Results": "results",
    "StopRule": "statistics",
    "Store": "store",
    "Sweep": "sweep",
    "Task": "task",
    "TaskResult": "results",
    "Workload": "task",
    "YieldWithin": "statistics",
    "collect": "collecting",
    "critical_rate": "critical",
    "dask_executor": "executors",
    "die_seed": "task",
    "mean_interval": "statistics",
    "paired_difference": "statistics",
    "yield_interval": "statistics",
}

__all__ = [
    "COLUMNS",
    "METRICS",
    "Block",
    "CollectError",
    "CriticalRate",
    "Dies",
    "InProcess",
    "Interrupted",
    "Interval",
    "LocalProcesses",
    "MeanWithin",
    "Mitigation",
    "ProtectLayers",
    "Results",
    "StopRule",
    "Store",
    "Sweep",
    "Task",
    "TaskResult",
    "Workload",
    "YieldWithin",
    "collect",
    "critical_rate",
    "dask_executor",
    "die_seed",
    "mean_interval",
    "paired_difference",
    "yield_interval",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"xbarsim.experiments.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'xbarsim.experiments' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
