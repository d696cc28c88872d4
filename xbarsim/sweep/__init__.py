"""Sweeps: many dies of many designs, measured until a stop rule is satisfied, and never lost.

A :class:`Task` describes one point of a sweep, :func:`collect` measures dies of many tasks until a stop rule is
satisfied, a :class:`Store` keeps them, and :class:`Results` are what was found. ``xbarsim sweep`` does it from a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbarsim.foundation.lazy import attach

if TYPE_CHECKING:
    from xbarsim.sweep.collecting import CollectError, Interrupted, collect
    from xbarsim.sweep.critical import CriticalRate, critical_rate
    from xbarsim.sweep.executors import InProcess, LocalProcesses, dask_executor
    from xbarsim.sweep.results import Block, Results, TaskResult
    from xbarsim.sweep.statistics import (
        Dies,
        Interval,
        MeanWithin,
        StopRule,
        YieldWithin,
        mean_interval,
        paired_difference,
        yield_interval,
    )
    from xbarsim.sweep.store import Store
    from xbarsim.sweep.sweep import Sweep
    from xbarsim.sweep.task import COLUMNS, METRICS, Mitigation, ProtectLayers, Task, Workload, die_seed

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


__getattr__, __dir__ = attach(__name__, _HOMES)
