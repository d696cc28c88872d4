"""Pictures of a store, and all that it holds as one page of HTML.

A page is a single file: style and pictures (SVG) stand in it, and it loads nothing. Two pages of one store are the same
byte for byte.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xbarsim.foundation.intervals import FEW_DIES
from xbarsim.foundation.validation import (
    InputError,
    check_choice,
    check_instance,
    check_integer,
    check_real,
    write_atomically,
)
from xbarsim.foundation.version import VERSION
from xbarsim.foundation.words import one_of
from xbarsim.plot.costs import pareto
from xbarsim.plot.explorer import MOST_BYTES, Tiles, die_of, tiles_of
from xbarsim.plot.files import figure_bytes, take_literally
from xbarsim.plot.rows import Row, mixed_column, telling_columns
from xbarsim.plot.sweeps import accuracy, die_violins, layer_sensitivity, yield_curve
from xbarsim.plot.template import template
from xbarsim.sweep.results import Results
from xbarsim.sweep.store import Store
from xbarsim.sweep.task import Task, fault_hash

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KINDS", "ChoiceNeeded", "chosen_task", "draw", "report_html", "tiles_of_die", "write_report"]

#: What can be drawn of a store.
KINDS = ("accuracy", "yield", "dies", "layers", "cost")
_CURVES = 7  # that colours, markers and dashes tell apart in one picture
_PANELS = 4  # side by side in one picture


class ChoiceNeeded(InputError):
    """Dies that differ would be drawn as one: a value of a column must be chosen.

    Attributes
    ----------
    column, values
        The column and what is in it.
    """

    def __init__(self, message: str, column: str, values: Sequence[Any]) -> None:
        super().__init__(message)
        self.column = column
        self.values = tuple(values)


def _spread_rate(rows: Sequence[Row]) -> float:
    """The fault rate at which dies differ most: where their violins say most."""

    def spread(rate: float) -> float:
        return float(np.std([row["accuracy"] for row in rows if row["fault_rate"] == rate]))

    rates: list[float] = sorted({row["fault_rate"] for row in rows})
    return max(rates, key=spread)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=200)


def _value(name: str, text: str, rows: Sequence[Row]) -> list[Row]:
    """Rows in which a column has a value that was given as text."""
    if name not in rows[0]:
        raise InputError(f"where must name a column, {one_of(name, rows[0])}")
    values = list(dict.fromkeys(row[name] for row in rows))
    chosen = [value for value in values if str(value) == text]
    if not chosen:
        try:
            chosen = [value for value in values if isinstance(value, int | float) and float(text) == value]
        except ValueError:
            chosen = []
    if not chosen:
        raise InputError(f"{name} must be one of {', '.join(map(repr, map(str, values)))}, got {text!r}")
    return [row for row in rows if row[name] == chosen[0]]


def _values(rows: Sequence[Row], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in rows))


def _panels(
    panels: Mapping[Any, Sequence[Row]],
    name: str,
    *,
    group: str,
    target: float | None,
    chance: float | None,
    other_images: bool,
) -> Figure:
    """Accuracy or, with a target, yield: a panel for each value of a column, all with one scale."""
    figure = _figure(0.8 + 4.2 * len(panels), 3.8)
    axes = figure.subplots(1, len(panels), sharey=True)
    for index, (ax, (value, rows)) in enumerate(zip(axes, panels.items(), strict=True)):
        if target is None:
            accuracy(rows, group=group, rate="fault_rate", chance=chance, other_images=other_images, ax=ax)
        else:
            yield_curve(rows, target, group=group, ax=ax)
        ax.set_title(f"{name.replace('_', ' ')}: {_text(value)}", fontsize="medium")
        if index:
            ax.set_ylabel("")
    take_literally(figure)
    return figure


def draw(
    results: Results,
    kind: Literal["accuracy", "yield", "dies", "layers", "cost"] = "accuracy",
    *,
    group: str | None = None,
    where: Mapping[str, str] | None = None,
    target: float | None = None,
    baseline: float | None = None,
    chance: float | None = None,
    other_images: bool = False,
) -> Figure:
    """Draw one picture of the results of a sweep.

    Parameters
    ----------
    results
        Of :func:`xbarsim.sweep.collect` or :meth:`xbarsim.sweep.Store.results`.
    kind
        ``"accuracy"`` or ``"yield"`` against the fault rate, in up to four panels where tasks differ in one more
        column than `group`; ``"dies"``, one violin a group; ``"layers"``, what the faults of each layer cost;
        ``"cost"``, accuracy against power and area, which must be among the metrics.
    group
        The column that names the curves, violins, layers or markers; ``None`` for the last one that tells tasks apart.
    where
        Only the dies with these values of these columns, such as ``{"fault_rate": "0.01"}``.
    target
        Accuracy from which a die is good, for ``"yield"``.
    baseline
        Accuracy without faults, for ``"layers"``.
    chance
        Accuracy of guessing, drawn as a line.
    other_images
        Whether bands of ``"accuracy"`` also cover what other test images would give.

    Raises
    ------
    InputError
        If a column or value does not exist, no die is left, `target` is missing, or dies that differ in more than
        group, fault rate and panel would be drawn as one.
    """
    check_instance("results", results, Results)
    check_choice("kind", kind, KINDS)
    rows: list[Row] = list(results.rows())
    if not rows:
        raise InputError("results must hold at least one die that counts, got none")
    for name, text in (where or {}).items():
        rows = _value(name, text, rows)
    telling = telling_columns(results, rows)
    group = (telling[-1] if telling else "encoding") if group is None else group
    if group not in rows[0]:
        raise InputError(f"group must be a column, {one_of(group, rows[0])}")
    over_rates = kind in ("accuracy", "yield")
    if kind == "yield" and target is None:
        raise InputError("target must be an accuracy for a picture of the yield, got None")
    others = [name for name in telling if name != group]
    if over_rates and len(others) == 1:
        panels = {value: [row for row in rows if row[others[0]] == value] for value in _values(rows, others[0])}
        if 1 < len(panels) <= _PANELS and all(len(_values(part, group)) <= _CURVES for part in panels.values()):
            wanted = target if kind == "yield" else None
            return _panels(panels, others[0], group=group, target=wanted, chance=chance, other_images=other_images)
    fixed = [*telling, *(() if over_rates or group == "fault_rate" else ("fault_rate",))]
    mixed = mixed_column(rows, group, fixed)
    if mixed is not None:
        name, values = mixed
        listed = ", ".join(map(str, values))
        raise ChoiceNeeded(
            f"where must choose one {name} ({listed}), or group must be {name!r}, got group {group!r}", name, values
        )
    groups = len(_values(rows, group))
    if over_rates and groups > _CURVES:
        raise InputError(f"group must have at most {_CURVES} values to be told apart, got {groups} of {group!r}")

    if kind == "accuracy":
        figure = _figure(5.2, 3.8)
        accuracy(
            rows, group=group, rate="fault_rate", chance=chance, other_images=other_images, ax=figure.add_subplot()
        )
    elif kind == "yield":
        assert target is not None
        figure = _figure(5.2, 3.8)
        yield_curve(rows, target, group=group, ax=figure.add_subplot())
    elif kind == "dies":
        figure = _figure(max(3.6, 1.2 + 1.1 * groups), 3.8)
        die_violins(rows, group=group, chance=chance, ax=figure.add_subplot())
    elif kind == "layers":
        figure = _figure(5.2, 1.1 + 0.34 * groups)
        layer_sensitivity(rows, baseline=baseline, layer=group, ax=figure.add_subplot())
    else:
        figure = _figure(5.2, 4.2)
        pareto(rows, group=group, against="accuracy", ax=figure.add_subplot())
    return figure


# ------------------------------------------------------------------------------------------------ page


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A picture as an element of a page, ``<svg ...>``, and what it shows."""

    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class _Table:
    """A table of a page: which columns are numbers says how they are set."""

    header: Sequence[str]
    numbers: Sequence[bool]
    rows: Sequence[Sequence[str]]


def _picture(figure: Figure, caption: str) -> _Picture:
    take_literally(figure)
    text = figure_bytes(figure, "svg").decode("utf-8")
    return _Picture(svg=text[text.index("<svg") :], caption=caption)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_percent(low)} to {_percent(high)}"


def _summary_table(summary: Sequence[Row], telling: Sequence[str], target: float | None) -> _Table:
    failed = any(row["failed"] for row in summary)
    header = [
        *(name.replace("_", " ") for name in telling),
        "stuck on (%)",
        "stuck off (%)",
        "dies",
        *(["failed"] if failed else []),
        "images",
    ]
    header += ["mean accuracy (%)", "95 % interval"]
    if target is not None:
        header += [f"yield at {100 * target:g} % (%)", "95 % interval"]
    rows = []
    for row in summary:
        cells = [
            *(_text(row.get(name)) for name in telling),
            f"{100 * row['fault_rate_on']:.4g}", f"{100 * row['fault_rate_off']:.4g}",
            f"{row['dies']}{'' if row['complete'] else ' so far'}", *([str(row["failed"])] if failed else []),
            _text(row["images"]), _percent(row["accuracy_mean"]),
            _ends(row["accuracy_low"], row["accuracy_high"]),
        ]  # fmt: skip
        if target is not None:
            cells += [_percent(row["yield"]), _ends(row["yield_low"], row["yield_high"])]
        rows.append(cells)
    return _Table(header=header, numbers=[index >= len(telling) for index in range(len(header))], rows=rows)


def _failed_table(results: Results) -> _Table:
    """Every die that could not be measured, and why."""
    names = {task.id: str(task) for task in results.tasks}
    return _Table(
        header=("task", "die", "tries", "reason"),
        numbers=(False, True, True, False),
        rows=[(names[die.task], str(die.die), str(die.tries), die.reason) for die in results.failed],
    )


def _facet(rows: Sequence[Row], curve: str, target: float | None, chance: float | None) -> list[_Picture]:
    """The pictures of dies that differ in `curve` and the fault rate alone."""
    rates = sorted({row["fault_rate"] for row in rows})
    values = list(dict.fromkeys(row[curve] for row in rows))
    pictures = []
    for start in range(0, len(values), _CURVES):
        part = [row for row in rows if row[curve] in values[start : start + _CURVES]]
        groups = len({row[curve] for row in part})
        if len(rates) > 1:
            figure = _figure(5.2, 3.8)
            accuracy(part, group=curve, rate="fault_rate", chance=chance, ax=figure.add_subplot())
            caption = "Mean accuracy against the share of stuck cells; bands are 95 % intervals (Student's t)."
            points = Counter((row[curve], row["fault_rate"]) for row in part)
            if any(1 < count < FEW_DIES for count in points.values()):
                caption += f" Dots are the dies of points with fewer than {FEW_DIES}, where bands cover too seldom."
            pictures.append(_picture(figure, caption))
        if target is not None and len(rates) > 1:
            figure = _figure(5.2, 3.8)
            yield_curve(part, target, group=curve, ax=figure.add_subplot())
            pictures.append(_picture(figure, "Yield; bands are 95 % intervals (Clopper-Pearson)."))
        at = _spread_rate(part)
        dies = [row for row in part if row["fault_rate"] == at]
        figure = _figure(max(5.2, 1.2 + 1.1 * groups), 3.8)
        die_violins(dies, group=curve, chance=chance, ax=figure.add_subplot())
        chosen = ", where dies differ most" if len(rates) > 1 else ""
        pictures.append(_picture(figure, f"Every die at {100 * at:.3g} % of stuck cells{chosen}; bars are means."))
        if all(row.get("power_W") is not None and row.get("area_m2") is not None for row in dies):
            figure = _figure(5.2, 4.2)
            pareto(dies, group=curve, against="accuracy", ax=figure.add_subplot())
            pictures.append(_picture(figure, f"Mean accuracy against peak power at {100 * at:.3g} % of stuck cells."))
    return pictures


def report_html(
    results: Results,
    *,
    runs: Sequence[Row] = (),
    title: str = "Fault-rate sweep",
    target: float | None = None,
    chance: float | None = None,
    tiles: Tiles | None = None,
) -> str:
    """All the results of a sweep as one page of HTML that loads nothing.

    Parameters
    ----------
    results
        Of :func:`xbarsim.sweep.collect` or :meth:`xbarsim.sweep.Store.results`.
    runs
        Where the dies came from, as :meth:`xbarsim.sweep.Store.runs` gives it.
    title
        Heading of the page.
    target
        Accuracy from which a die is good: adds the yield.
    chance
        Accuracy of guessing, drawn as a line.
    tiles
        Of one die, to look around in: what :func:`tiles_of_die` gives.

    Raises
    ------
    InputError
        If no die counts yet, or `target` or `chance` is outside [0, 1].
    """
    check_instance("results", results, Results)
    for name, value in (("target", target), ("chance", chance)):
        if value is not None:
            check_real(name, value, at_least=0.0, at_most=1.0)
    rows: list[Row] = list(results.rows())
    if not rows:
        raise InputError("results must hold at least one die that counts, got none")
    telling = telling_columns(results, rows)
    curve, facets = (telling[-1], telling[:-1]) if telling else ("encoding", [])
    counted = [row for row in rows if row["accuracy"] is not None]  # what can be drawn
    sections = []
    for key in dict.fromkeys(tuple(row.get(name) for name in facets) for row in counted):
        part = [row for row in counted if tuple(row.get(name) for name in facets) == key]
        heading = ", ".join(f"{name.replace('_', ' ')}: {_text(v)}" for name, v in zip(facets, key, strict=True))
        sections.append((heading or "Pictures", _facet(part, curve, target, chance)))
    origin = _Table(
        header=("started", "host", "commit", "dies"),
        numbers=(False, False, False, True),
        rows=[
            (str(run["started"])[:19], str(run["host"]), str(run["git_commit"])[:12], str(run["dies"])) for run in runs
        ],
    )
    return template("page.html").render(
        title=title,
        version=VERSION,
        dies=len(rows),
        tasks=len(results.tasks),
        waiting=[str(task) for task in results.tasks if not task.complete],
        sections=sections,
        tiles=tiles,
        failed=_failed_table(results),
        summary=_summary_table(results.summary(target=target), telling or ["network", "encoding"], target),
        origin=origin,
        versions=list(dict.fromkeys(str(run["versions"]) for run in runs)),
        configurations=list(dict.fromkeys(str(run["configuration"]) for run in runs if run["configuration"])),
    )


def chosen_task(tasks: Sequence[Task], where: Mapping[str, str] | None = None) -> Task:
    """The one task that has some values of some columns.

    Parameters
    ----------
    tasks
        To choose from.
    where
        Values by column, as text, such as ``{"fault_rate": "0.01"}``.

    Raises
    ------
    ChoiceNeeded
        If several tasks that differ are left.
    InputError
        If a column or value does not exist.
    """
    if not tasks:
        raise InputError("tasks must be at least one task, got none")
    kept: list[tuple[Row, Task]] = [(task.columns(), task) for task in tasks]
    rows: Sequence[Row] = [row for row, _ in kept]
    for name, text in (where or {}).items():
        rows = _value(name, text, rows)
    left = [(row, task) for row, task in kept if any(row is other for other in rows)]
    for name in dict.fromkeys(name for row, task in left for name in (*task.tags, *row)):
        values = list(dict.fromkeys(row.get(name) for row, _ in left))
        if len(values) > 1 and name != "task":
            listed = ", ".join(map(str, values))
            raise ChoiceNeeded(f"where must choose one {name} ({listed}), got {len(left)} tasks", name, values)
    return left[0][1]


def tiles_of_die(results: Results, task: Task, die: int, *, most_bytes: int = MOST_BYTES) -> Tiles:
    """Make one die of a sweep again, and what a page shows of its tiles.

    Parameters
    ----------
    results
        That the page is about.
    task
        One of its tasks.
    die
        Number of the die.
    most_bytes
        The most that tiles may add to the page.

    Raises
    ------
    InputError
        If the task is not one of the results, the die was measured and has other faults now, or nothing of it fits.
    """
    known = next((known for known in results.tasks if known.id == task.id), None)
    if known is None:
        raise InputError(f"task must be one that the store has, got {task}, which differs from each of them")
    chip = task.fabricate(die)
    measured = next((found for found in known.collected if found.die == die), None)
    if measured is not None and fault_hash(chip) != measured.fault_hash:
        raise InputError(f"die {die} of {task} must have the faults that it was measured with, got others")
    if measured is None:
        outcome = "It was not measured in this sweep."
    elif measured.accuracy is None:
        outcome = "It was measured, without counting images."
    else:
        outcome = f"{measured.correct} of {measured.images} images were classified right on it."
    layers, design, notes = die_of(chip)
    heading = f"Tiles of die {die} of {task}"
    return tiles_of(layers, design, heading=heading, notes=(*notes, outcome), most_bytes=most_bytes)


def write_report(
    store: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    title: str | None = None,
    target: float | None = None,
    chance: float | None = None,
    task: Task | None = None,
    die: int = 0,
) -> None:
    """Write what a store holds as one page of HTML, whole or not at all; the store is only read.

    Parameters
    ----------
    store
        File that a sweep wrote, or is writing.
    output
        The page.
    title
        Heading; ``None`` for the store's name.
    target, chance
        As in :func:`report_html`.
    task, die
        A task of the store and the number of one of its dies, which is made again, so that its tiles can be looked at
        in the page; ``None`` for a page without.

    Raises
    ------
    InputError
        As :func:`report_html` and :func:`tiles_of_die`.
    FileFormatError
        If the store cannot be read.
    FileWriteError
        If the page cannot be written.
    """
    with Store(store, read_only=True) as kept:
        results = kept.results()
        page = report_html(
            results,
            runs=kept.runs(),
            title=Path(store).stem.replace("_", " ") if title is None else title,
            target=target,
            chance=chance,
            tiles=None if task is None else tiles_of_die(results, task, check_integer("die", die, at_least=0)),
        )
    write_atomically(output, page.encode("utf-8", "xmlcharrefreplace"))
