"""Sweeps: many dies of many designs, measured until a stop rule is satisfied, and never lost.

A :class:`Task` describes one point of a sweep, a :class:`Measure` says what is measured on each of its dies,
:func:`collect` measures dies of many tasks until a stop rule is satisfied, a :class:`Store` keeps them, and
:class:`Results` hold them with their statistics. ``xbarsim sweep`` does it from a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbarsim.foundation.lazy import attach

if TYPE_CHECKING:
    from xbarsim.sweep.collecting import CollectError, Interrupted, collect
    from xbarsim.sweep.critical import CriticalRate, critical_rate
    from xbarsim.sweep.executors import InProcess, LocalProcesses, dask_executor
    from xbarsim.sweep.file import Sweep
    from xbarsim.sweep.measures import METRICS, Accuracy, Cost, InputClipping, LayerErrors, Measure, MitigationOverhead
    from xbarsim.sweep.results import FailedDie, FailedDiesWarning, MeasuredDie, Results, TaskResult
    from xbarsim.sweep.search import Limit, Range, Search
    from xbarsim.sweep.stopping import Dies, MeanWithin, StopRule, YieldWithin
    from xbarsim.sweep.store import Store
    from xbarsim.sweep.subject import Subject
    from xbarsim.sweep.task import COLUMNS, Task, die_seed
    from xbarsim.sweep.trials import SearchResult, Trial

# Loaded on first use, so that one sweep does not pay for the libraries of another.
_HOMES = {
    "Accuracy": "measures",
    "COLUMNS": "task",
    "CollectError": "collecting",
    "Cost": "measures",
    "CriticalRate": "critical",
    "Dies": "stopping",
    "FailedDie": "results",
    "FailedDiesWarning": "results",
    "InProcess": "executors",
    "InputClipping": "measures",
    "Interrupted": "collecting",
    "LayerErrors": "measures",
    "Limit": "search",
    "LocalProcesses": "executors",
    "METRICS": "measures",
    "MeanWithin": "stopping",
    "Measure": "measures",
    "MeasuredDie": "results",
    "MitigationOverhead": "measures",
    "Range": "search",
    "Results": "results",
    "Search": "search",
    "SearchResult": "trials",
    "StopRule": "stopping",
    "Store": "store",
    "Subject": "subject",
    "Sweep": "file",
    "Task": "task",
    "TaskResult": "results",
    "Trial": "trials",
    "YieldWithin": "stopping",
    "collect": "collecting",
    "critical_rate": "critical",
    "dask_executor": "executors",
    "die_seed": "task",
}

__all__ = [
    "COLUMNS",
    "METRICS",
    "Accuracy",
    "CollectError",
    "Cost",
    "CriticalRate",
    "Dies",
    "FailedDie",
    "FailedDiesWarning",
    "InProcess",
    "InputClipping",
    "Interrupted",
    "LayerErrors",
    "Limit",
    "LocalProcesses",
    "MeanWithin",
    "Measure",
    "MeasuredDie",
    "MitigationOverhead",
    "Range",
    "Results",
    "Search",
    "SearchResult",
    "StopRule",
    "Store",
    "Subject",
    "Sweep",
    "Task",
    "TaskResult",
    "Trial",
    "YieldWithin",
    "collect",
    "critical_rate",
    "dask_executor",
    "die_seed",
]


__getattr__, __dir__ = attach(__name__, _HOMES)
