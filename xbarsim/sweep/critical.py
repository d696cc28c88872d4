"""The critical fault rate: where accuracy, or yield, crosses a target."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.intervals import Interval
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.executors import LocalProcesses
from xbarsim.sweep.results import Results, TaskResult
from xbarsim.sweep.stopping import StopRule
from xbarsim.sweep.store import Store
from xbarsim.sweep.task import Task
from xbarsim.sweep.worker import SharedBench

__all__ = ["CriticalRate", "critical_rate", "crossing"]


@dataclass(frozen=True, kw_only=True)
class CriticalRate:
    """Where a curve that falls with the fault rate crosses a target.

    Attributes
    ----------
    rate
        The critical rate: the crossing, between the two closest rates that were measured, on a logarithmic axis.
    low, high
        The interval: rates at which the target is within the confidence interval of what was measured there, widened
        to the next rate that was measured.
    target
        The accuracy or yield that is crossed.
    confidence
        Of the interval.
    measured
        Every rate that was measured, ascending, with its interval.
    results
        The tasks behind them.
    """

    rate: float
    low: float
    high: float
    target: float
    confidence: float
    measured: tuple[tuple[float, Interval], ...]
    results: Results

    def __post_init__(self) -> None:
        check_fields(self)

    def __str__(self) -> str:
        return f"{self.rate:.3g} [{self.low:.3g}, {self.high:.3g}]"


@entrance
def critical_rate(
    make_task: Callable[[float], Task],
    *,
    target: float,
    stop: StopRule | int,
    low: float = 1e-4,
    high: float = 0.2,
    steps: int = 7,
    good: float | None = None,
    confidence: float = 0.95,
    store: Store | str | Path | None = None,
    **options: Any,
) -> CriticalRate:
    """Find the fault rate at which mean accuracy, or yield, falls below a target.

    Bisection on a logarithmic axis of rates, three times: for the estimate, and for the lower and the upper end of the
    confidence interval at each rate. A rate is measured once. All rates lie on one grid, of
    ``(high / low) ** (2 ** -steps)`` between neighbours, so that searches for other targets find most of their rates in
    the store.

    The interval inverts that of the accuracy: it holds the critical rate as often as the interval at that rate holds
    the accuracy there, provided that accuracy falls with the rate.

    Parameters
    ----------
    make_task
        The task of a fault rate; all with the same root seed, so that rates are compared on the same dies.
    target
        Mean accuracy, or yield where `good` is given, in (0, 1).
    stop
        Dies at each rate, as in :func:`collect`.
    low, high
        The rates between which to search, 0 < low < high <= 1.
    steps
        Halvings of the range, 1 to 30.
    good
        Accuracy from which a die is good: then the yield is compared with `target`.
    confidence
        Of the interval, in (0, 1).
    store
        As in :func:`collect`.
    **options
        Handed on to :func:`collect`: executor, workers, progress and so on.

    Raises
    ------
    InputError
        If a parameter is out of its bound, or the target is not crossed between `low` and `high`.
    """
    check_real("target", target, above=0.0, below=1.0)
    low = check_real("low", low, above=0.0, below=1.0)
    high = check_real("high", high, above=low, at_most=1.0)
    check_integer("steps", steps, at_least=1, at_most=30)
    check_real("confidence", confidence, above=0.0, below=1.0)
    if good is not None:
        check_real("good", good, at_least=0.0, at_most=1.0)
    by_rate: dict[float, TaskResult] = {}
    benches: dict[str, SharedBench] = {}  # all rates share one mapped network
    own = LocalProcesses(options.pop("workers", None)) if options.get("executor") is None else None
    if own is not None:
        options["executor"] = own

    def measure(rate: float) -> Interval:
        task = make_task(rate)
        check_instance("make_task(rate)", task, Task)
        result = collect([task], stop=stop, store=store, benches=benches, **options).tasks[0]
        by_rate[rate] = result
        if good is None:
            return result.mean(confidence=confidence)
        return result.yield_(good, confidence=confidence)

    try:
        rate, left, right, measured = cross(measure, target=target, low=low, high=high, steps=steps)
    finally:
        for bench in benches.values():
            bench.close()
        if own is not None:
            own.close()
    return CriticalRate(
        rate=rate,
        low=left,
        high=right,
        target=target,
        confidence=confidence,
        measured=tuple(sorted(measured.items())),
        results=Results(tasks=tuple(by_rate[rate] for rate in sorted(by_rate))),
    )


def crossing(rates: Sequence[float], values: Sequence[float], target: float) -> float:
    """Where a measured curve first falls below a target.

    Parameters
    ----------
    rates
        Where it was measured, ascending, >= 0.
    values
        What was measured there, as many.
    target
        What to fall below.

    Returns
    -------
    float
        Between the last rate before and the first after, interpolated on a logarithmic axis of rates, linearly next to
        a rate of 0. The first rate if the curve begins below the target; infinity if it never falls below.

    Raises
    ------
    InputError
        If rates do not ascend, or there is not one value for each.

    Examples
    --------
    >>> round(crossing([0.0, 0.01, 0.1], [0.9, 0.8, 0.6], 0.7), 6)
    0.031623
    """
    if not rates or len(values) != len(rates):
        raise InputError(f"values must be one for each of {len(rates)} rates, got {len(values)}")
    if rates[0] < 0 or any(second <= first for first, second in itertools.pairwise(rates)):
        raise InputError(f"rates must ascend from 0 or more, got {list(rates)}")
    index = next((index for index, value in enumerate(values) if value < target), None)
    if index is None:
        return math.inf
    if index == 0:
        return rates[0]
    share = (values[index - 1] - target) / (values[index - 1] - values[index])
    before, after = rates[index - 1], rates[index]
    return share * after if before == 0 else before * (after / before) ** share


def cross(
    measure: Callable[[float], Interval], *, target: float, low: float, high: float, steps: int
) -> tuple[float, float, float, dict[float, Interval]]:
    """Where a falling curve crosses a target: estimate, lower and upper end, and what was measured.

    Parameters
    ----------
    measure
        The curve at a rate, with its interval.
    target, low, high, steps
        As in :func:`critical_rate`.

    Raises
    ------
    InputError
        If the curve starts below the target or ends above it.
    """
    nodes = 2**steps
    known: dict[float, Interval] = {}

    def rate_of(node: int) -> float:
        return low if node == 0 else high if node == nodes else low * (high / low) ** (node / nodes)

    def at(node: int) -> Interval:
        rate = rate_of(node)
        if rate not in known:
            known[rate] = measure(rate)
        return known[rate]

    if at(0).estimate < target:
        raise InputError(
            f"low must be a rate at which the target of {target:g} is reached, got {low:g}, where {at(0)} was measured"
        )
    if at(nodes).estimate >= target:
        raise InputError(
            f"high must be a rate at which the target of {target:g} is not reached, got {high:g}, where {at(nodes)} "
            "was measured"
        )

    def bisect(value: Callable[[Interval], float]) -> tuple[int, int]:
        """Neighbouring nodes between which a value falls below the target; an end of the range where it does not."""
        above, below = 0, nodes
        if value(at(0)) < target:
            return 0, 0
        if value(at(nodes)) >= target:
            return nodes, nodes
        while below - above > 1:
            middle = (above + below) // 2
            if value(at(middle)) >= target:
                above = middle
            else:
                below = middle
        return above, below

    def end(interval: Interval, value: float) -> float:
        return interval.estimate if math.isnan(value) else value  # one die has no interval

    above, below = bisect(lambda interval: interval.estimate)
    left, _ = bisect(lambda interval: end(interval, interval.low))
    _, right = bisect(lambda interval: end(interval, interval.high))
    ends = (above, below)
    estimate = crossing([rate_of(node) for node in ends], [at(node).estimate for node in ends], target)
    # the three searches can part where dies are few: the interval never excludes the estimate
    return estimate, min(rate_of(left), estimate), max(rate_of(right), estimate), known
