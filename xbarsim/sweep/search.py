"""A search over designs: which of very many is best in accuracy, area, energy or whatever a task measures.

.. code-block:: toml

    # what all designs share, as in a sweep: network, images, seed, [design], [stop], one rate, [vary.TAG.VALUE]
    network = "digits"
    images = 200
    rates = [0.01]

    [search]
    maximise = ["accuracy"]                      # columns of the results; of those of `Cost`: power_W, area_m2, ...
    minimise = ["area_m2", "energy_J"]
    trials = 40                                  # designs that are tried
    seed = 1                                     # of the proposals; dies have the seed of the task

    [limits]                                     # what a design must keep to
    accuracy = { at_least = 0.9 }

    [fields]                                     # single fields, and what they may be
    design.mapping.rows = [32, 64, 128]
    design.periphery.adc_bits = { from = 4, to = 10 }

    [vary.mapping.Differential]                 # or several fields at once
    design.mapping.encoding.type = "Differential"

    [vary.mapping.TwoColumn]
    design.mapping.encoding.type = "TwoColumn"

Proposals come from Optuna; designs are tasks like any others, and their dies are kept in a store like any others. With
the same seed the same designs are proposed, so that a search that was interrupted finds in the store what it measured
before, and goes on: there is no other state.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.intervals import FewDiesWarning, Interval, mean_interval
from xbarsim.foundation.validation import (
    FileFormatError,
    InputError,
    check_choice,
    check_instance,
    check_integer,
    check_real,
)
from xbarsim.sweep.collecting import CollectError, collect
from xbarsim.sweep.executors import LocalProcesses
from xbarsim.sweep.file import TaskTables, as_table, label, read_stop, reading
from xbarsim.sweep.measures import COUNTS, Cost
from xbarsim.sweep.results import FailedDiesWarning, TaskResult
from xbarsim.sweep.stopping import StopRule
from xbarsim.sweep.store import Store
from xbarsim.sweep.task import Task
from xbarsim.sweep.trials import SearchResult, Trial
from xbarsim.sweep.worker import SharedBench

__all__ = ["Limit", "Range", "Search"]

_REPEATS = 20  # proposals a trial: a sampler proposes some designs again
_LOOKED_AT = 100  # combinations, at most, before a search begins
_FIRST = 10  # designs drawn at random before the sampler learns from them, at least

Sampler = Literal["tpe", "random"]


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers between two ends, both included.

    Attributes
    ----------
    low, high
        The ends, low < high. Two integers are a range of integers.
    log
        Whether ratios count instead of differences; low > 0 then.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        check_real("low", self.low)
        check_real("high", self.high, above=self.low)
        check_instance("log", self.log, bool)
        if self.log:
            check_real("low", self.low, above=0.0)

    @property
    def whole(self) -> bool:
        """Whether it is of integers."""
        ends: tuple[Any, Any] = (self.low, self.high)
        return all(isinstance(end, Integral) for end in ends)  # NumPy's too


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a column of the results must keep to.

    Attributes
    ----------
    at_least, at_most
        Bounds of the mean over dies; ``None`` for none.
    """

    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        for name in ("at_least", "at_most"):
            if getattr(self, name) is not None:
                check_real(name, getattr(self, name))
        if self.at_least is None and self.at_most is None:
            raise InputError("at_least or at_most must be given for a limit, got neither")

    def excess(self, value: float) -> float:
        """How far a value is beyond, relative to the bound; 0 or less within."""
        over = [
            (sign * (value - bound)) / (abs(bound) or 1.0)
            for sign, bound in ((-1.0, self.at_least), (1.0, self.at_most))
            if bound is not None
        ]
        return max(over)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to search: how a task is made of chosen values, what they may be, and what is good.

    Attributes
    ----------
    make_task
        The task of some values, by the names of `space`. What it raises as an `InputError` is the reason why these
        values make no design; any other error ends the search. All tasks should have one root
        seed, so that designs are compared on the same dies.
    space
        For each name a :class:`Range` or a sequence of values.
    maximise, minimise
        Objectives: ``"accuracy"`` or other columns that the measures of the tasks add. Several give a front.
    stop
        Dies of each design, as in :func:`collect`.
    trials
        Designs to try. Where there are no more, all are tried, in order.
    limits
        For columns of the results. A design beyond is not on the front, and proposals keep away.
    sampler
        ``"tpe"``: proposals learn from what was found (multivariate tree-structured Parzen estimator,
        doi:10.48550/arXiv.2304.11127); ``"random"``: they do not.
    batch
        Designs that are proposed together, before any of them is known: what workers can measure at one time. Like the
        seed it is part of the answer; how many workers there are is not.
    seed
        Of the proposals.
    text
        The file, if it is from one.

    Raises
    ------
    InputError
        If a parameter is out of its bound.
    """

    make_task: Callable[[Mapping[str, Any]], Task]
    space: Mapping[str, Range | Sequence[Any]]
    stop: StopRule
    maximise: tuple[str, ...] = ()
    minimise: tuple[str, ...] = ()
    trials: int = 50
    limits: Mapping[str, Limit] = field(default_factory=dict)
    sampler: Sampler = "tpe"
    batch: int = 4
    seed: int = 1
    text: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.space:
            raise InputError("space must have at least one name, got none")
        for name, values in self.space.items():
            if not isinstance(values, Range):
                if not isinstance(values, list | tuple) or not values:
                    raise InputError(f"space[{name!r}] must be a Range, or at least one value, got {values!r}")
                labels = [repr(label(value)) for value in values]
                if len(set(labels)) < len(labels):
                    raise InputError(f"space[{name!r}] must have different values, got {', '.join(labels)}")
        objectives = (*self.maximise, *self.minimise)
        if not objectives:
            raise InputError("maximise or minimise must name at least one column of the results, got none")
        if len(set(objectives)) < len(objectives):
            raise InputError(f"maximise and minimise must name a column once, got {', '.join(objectives)}")
        for name, limit in self.limits.items():
            check_instance(f"limits[{name!r}]", limit, Limit)
        check_integer("trials", self.trials, at_least=1, at_most=100_000)
        check_choice("sampler", self.sampler, ("tpe", "random"))
        check_integer("batch", self.batch, at_least=1, at_most=1000)
        check_integer("seed", self.seed, at_least=0, at_most=2**32 - 1)

    @classmethod
    @entrance
    def load(cls, path: str | os.PathLike[str]) -> Search:
        """Read a search from a TOML file; see the head of this module.

        Raises
        ------
        FileFormatError
            If the file cannot be read, is not TOML, or has unknown keys or wrong types.
        InputError
            If a value is out of bounds.
        """
        text = tomlio.read_text(path, "a search")
        return cls.loads(text, source=str(path), folder=Path(path).parent)

    @classmethod
    @entrance
    def loads(cls, text: str, *, source: str = "TOML text", folder: str | os.PathLike[str] = ".") -> Search:
        """Read a search from TOML text; errors as :meth:`load`.

        Parameters
        ----------
        text
            The TOML.
        source
            What messages call it.
        folder
            Where the path of a design starts.
        """
        home = Path(folder)
        with reading(text, source, home) as (table, at):
            if "search" not in table:
                raise FileFormatError("search is missing; it must be a table with 'maximise' or 'minimise'")
            asked = as_table(table.pop("search"), "search")
            known = ("maximise", "minimise", "trials", "sampler", "batch", "seed")
            for key in asked:
                check_choice("a key of search", key, known)
            ways = {way: _names(asked.pop(way, []), f"search.{way}") for way in ("maximise", "minimise")}
            limits = {
                name: tomlio.from_table(Limit, as_table(limit, f"limits.{name}"), path=f"limits.{name}")
                for name, limit in as_table(table.pop("limits", {}), "limits").items()
            }
            single = dict(_spaces(as_table(table.pop("fields", {}), "fields")))
            stop = read_stop(table, home)
            columns = {*ways["maximise"], *ways["minimise"], *limits}
            if columns & {*Cost().columns}:
                table.setdefault("measures", ["Accuracy", "Cost"])
            tables = TaskTables(table, home, at, what="a search")
            if tables.rates is not None and len(tables.rates) != 1:
                raise InputError(f"rates must be one rate in a search, got {len(tables.rates)}")
            for name in single:
                if name in tables.axes:
                    raise FileFormatError(f"fields and vary must not both have {name!r}")
            space: dict[str, Any] = {tag: tuple(points) for tag, points in tables.axes.items()} | single

            def make_task(values: Mapping[str, Any]) -> Task:
                chosen = {tag: values[tag] for tag in tables.axes}
                (task,) = tables.tasks(chosen, {name: values[name] for name in single})
                return task

            given: dict[str, Any] = {**ways, **asked}
            search = cls(make_task=make_task, space=space, limits=limits, stop=stop, text=text, **given)
            search._check_first()
            return search

    def _check_first(self) -> None:
        """Look at the first combination that is a design, before anything is measured.

        Raises
        ------
        InputError, FileFormatError
            If a column is not measured, a key is unknown, or none of a small space is a design.
        """
        error: InputError | None = None
        for values in itertools.islice(self._every(), _LOOKED_AT):
            try:
                task = self.make_task(values)
            except InputError as refused:  # of these values; others may do
                error = error or refused
                continue
            self._check(task)
            return
        if error is not None and self.size <= _LOOKED_AT:
            raise error

    def _check(self, task: Task) -> None:
        """Whether a task measures what is asked for."""
        check_instance("make_task(values)", task, Task)
        numbers = [
            name
            for measure in task.every_measure
            for name, kind in measure.columns.items()
            if kind is not str and name not in COUNTS
        ]
        for name in (*self.maximise, *self.minimise, *self.limits):
            known = ["accuracy", *numbers] if task.counts else numbers
            check_choice("a column of maximise, minimise or limits", name, known)

    def _every(self) -> Iterator[dict[str, Any]]:
        """All combinations, ranges by their two ends where they are not of integers."""
        values = [
            (range(int(each.low), int(each.high) + 1) if each.whole else (each.low, each.high))
            if isinstance(each, Range)
            else each
            for each in self.space.values()
        ]
        for combination in itertools.product(*values):
            yield dict(zip(self.space, combination, strict=True))

    @property
    def size(self) -> float:
        """How many designs there are; infinite where a range is not of integers."""
        counts = [
            (int(each.high) - int(each.low) + 1 if each.whole else math.inf) if isinstance(each, Range) else len(each)
            for each in self.space.values()
        ]
        return math.prod(counts)

    @entrance
    def run(
        self,
        *,
        store: Store | str | Path | None = None,
        report: Callable[[Trial], None] | None = None,
        workers: int | None = None,
        **options: Any,
    ) -> SearchResult:
        """Try designs.

        Parameters
        ----------
        store
            Where every die is kept, as in :func:`collect`. The same search on the same store goes on where it was.
        report
            Called with each trial.
        workers
            How many processes; changes no answer.
        **options
            Handed on to :func:`collect`: executor, progress and so on.

        Raises
        ------
        ImportError
            If proposals are needed and Optuna is absent.
        InputError, FileFormatError, Interrupted
            As in :func:`collect`.

        Warns
        -----
        FewDiesWarning
            If designs have fewer than 20 dies.
        """
        self._check_first()
        with contextlib.ExitStack() as stack:
            kept = stack.enter_context(Store(store)) if store is not None and not isinstance(store, Store) else store
            if options.get("executor") is None:
                options["executor"] = stack.enter_context(contextlib.closing(LocalProcesses(workers)))
            benches: dict[str, SharedBench] = {}
            trials: list[Trial] = []

            def let_go() -> None:
                for bench in benches.values():
                    bench.close()
                benches.clear()

            stack.callback(let_go)

            def measure(batch: list[dict[str, Any]]) -> list[Trial]:
                made = self._measure(batch, len(trials), dict(options, store=kept, benches=benches))
                let_go()  # hardly any two designs share a mapped network
                for trial in made:
                    trials.append(trial)
                    if report is not None:
                        report(trial)
                return made

            if self.size <= self.trials:
                combinations = self._every()
                while batch := list(itertools.islice(combinations, self.batch)):
                    measure(batch)
            else:
                self._propose(measure)
        ways: dict[str, Literal["maximise", "minimise"]] = dict.fromkeys(self.maximise, "maximise")
        return SearchResult(trials=tuple(trials), directions=ways | dict.fromkeys(self.minimise, "minimise"))

    def _measure(self, batch: list[dict[str, Any]], first: int, options: dict[str, Any]) -> list[Trial]:
        """Make and measure some designs."""
        made: list[Task | str] = []
        for values in batch:
            try:
                task = self.make_task(values)
            except InputError as error:
                made.append(str(error))
                continue
            self._check(task)
            made.append(task)
        tasks = [task for task in made if isinstance(task, Task)]
        found: dict[str, TaskResult] = {}
        reasons: dict[str, str] = {}
        if tasks:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FailedDiesWarning)  # the results say so
                try:
                    results = collect(tasks, stop=self.stop, configuration=self.text, **options)
                except CollectError as error:
                    results = error.results
                    reasons = {failed.task: failed.reason for failed in error.failures}
            found = {result.id: result for result in results.tasks if result.complete and result.dies}
        return [
            self._trial(first + index, values, task, found, reasons)
            for index, (values, task) in enumerate(zip(batch, made, strict=True))
        ]

    def _trial(
        self,
        number: int,
        values: dict[str, Any],
        task: Task | str,
        found: Mapping[str, TaskResult],
        reasons: Mapping[str, str],
    ) -> Trial:
        if isinstance(task, str):
            return Trial(number=number, values=values, reason=task)
        result = found.get(task.id)
        if result is None:
            return Trial(
                number=number, values=values, task=task, reason=reasons.get(task.id, "too few dies were measured")
            )
        columns = dict.fromkeys((*self.maximise, *self.minimise, *self.limits))
        objectives = {name: _mean(result, name) for name in columns}
        within = all(limit.excess(objectives[name].estimate) <= 0 for name, limit in self.limits.items())
        return Trial(number=number, values=values, task=task, result=result, objectives=objectives, within=within)

    def _propose(self, measure: Callable[[list[dict[str, Any]]], list[Trial]]) -> None:
        """Ask for designs, batch by batch, and tell what they gave.

        A design that is proposed again is told again, and is no trial.
        """
        optuna = _optuna()
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study = optuna.create_study(
                    directions=["maximize"] * len(self.maximise) + ["minimize"] * len(self.minimise),
                    sampler=self._sampler(optuna),
                )
                self._ask_and_tell(optuna, study, measure)
        finally:
            optuna.logging.set_verbosity(before)

    def _ask_and_tell(self, optuna: Any, study: Any, measure: Callable[[list[dict[str, Any]]], list[Trial]]) -> None:
        distributions = {name: _distribution(optuna, each) for name, each in self.space.items()}
        known: dict[tuple[Any, ...], Trial] = {}
        proposals = 0
        while len(known) < self.trials and proposals < _REPEATS * self.trials:
            asked = [study.ask(distributions) for _ in range(min(self.batch, self.trials - len(known)))]
            proposals += len(asked)
            keys = [tuple(each.params[name] for name in self.space) for each in asked]
            new = list(dict.fromkeys(key for key in keys if key not in known))
            if new:
                known |= zip(new, measure([self._values(key) for key in new]), strict=True)
            for each, key in zip(asked, keys, strict=True):
                trial = known[key]
                if trial.result is None:
                    study.tell(each, state=optuna.trial.TrialState.FAIL)
                    continue
                for name, limit in self.limits.items():
                    each.set_constraint(name, limit.excess(trial.objectives[name].estimate))
                study.tell(each, [trial.objectives[name].estimate for name in (*self.maximise, *self.minimise)])

    def _values(self, key: tuple[Any, ...]) -> dict[str, Any]:
        """What was chosen: of a sequence, the place is proposed, because values may be tables."""
        return {
            name: value if isinstance(each, Range) else each[value]
            for (name, each), value in zip(self.space.items(), key, strict=True)
        }

    def _sampler(self, optuna: Any) -> Any:
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=self.seed)
        return optuna.samplers.TPESampler(
            seed=self.seed,
            n_startup_trials=max(_FIRST, 2 * self.batch),
            multivariate=True,
            constant_liar=True,  # designs of one batch keep apart
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "proposals come from Optuna, which is not installed: pip install 'xbarsim[search]'"
        ) from error
    return optuna


def _distribution(optuna: Any, each: Range | Sequence[Any]) -> Any:
    if not isinstance(each, Range):
        return optuna.distributions.CategoricalDistribution(tuple(range(len(each))))
    if each.whole:
        return optuna.distributions.IntDistribution(int(each.low), int(each.high), log=each.log)
    return optuna.distributions.FloatDistribution(float(each.low), float(each.high), log=each.log)


def _mean(result: TaskResult, name: str) -> Interval:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewDiesWarning)  # said once, by whoever draws them
        if name == "accuracy":
            return result.mean()
        return mean_interval([float(die.metrics[name]) for die in result.dies])


def _names(value: Any, path: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise FileFormatError(f"{path} must be an array of names of columns, got {value!r}")
    return tuple(value)


def _spaces(table: Mapping[str, Any], home: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a file, by their dotted names, each with its values or its range."""
    for key, value in table.items():
        name = f"{home}.{key}".lstrip(".")
        if isinstance(value, list):
            if not value:
                raise FileFormatError(f"fields.{name} must have at least one value, got none")
            yield name, tuple(value)
        elif isinstance(value, dict) and "from" in value:
            for part in value:
                check_choice(f"a key of fields.{name}", part, ("from", "to", "log"))
            ends = {"low": value["from"], "high": value.get("to"), "log": value.get("log", False)}
            try:
                yield name, Range(**ends)
            except InputError as error:
                raise InputError(f"fields.{name}: {error}") from error
        elif isinstance(value, dict):
            yield from _spaces(value, name)
        else:
            raise FileFormatError(
                f"fields.{name} must be an array of values, or a range {{ from = .., to = .. }}, got {value!r}"
            )
