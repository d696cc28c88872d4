"""Pictures of a search: designs by two or three objectives, and the front that none of them beats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance
from xbarsim.plot.style import COLOURS, SMALL_TEXT, TEXT, describe, legend, new_axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xbarsim.sweep.trials import SearchResult, Trial

__all__ = ["search"]

_LOGARITHMIC = 5.0  # from which ratio of the largest to the smallest on

_WORDS = {  # how a column is called on an axis, and what its values are multiplied by
    "accuracy": ("accuracy (%)", 100.0),
    "area_m2": ("area (mm²)", 1e6),
    "power_W": ("peak power (mW)", 1e3),
    "cells_power_W": ("power of the cells (mW)", 1e3),
    "energy_J": ("energy an image (µJ)", 1e6),
    "latency_s": ("latency (µs)", 1e6),
}


@entrance
def search(
    found: SearchResult, *, x: str | None = None, y: str | None = None, names: bool = True, ax: Axes | None = None
) -> Axes:
    """Draw what a search found: every design by two objectives, coloured by a third, the front ringed.

    Bars are intervals of 95 % over dies (Student's t). A step line joins what no design beats in the two objectives
    alone; with three objectives, ringed designs away from it are good in the third. Designs beyond a limit may lie out
    of view: the legend counts them.

    Parameters
    ----------
    found
        From :meth:`xbarsim.sweep.Search.run`.
    x, y
        Objectives or limited columns; ``None`` for the first objective upwards, and that of the others across which
        tells the designs on the front apart most.
    names
        Whether designs on the front are named by their numbers.
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If nothing was measured, or there is no such column.
    """
    from xbarsim.sweep.trials import SearchResult

    check_instance("found", found, SearchResult)
    trials = found.measured
    if not trials:
        raise InputError("found must hold at least one measured design, got none")
    columns = list(trials[0].objectives)
    y = columns[0] if y is None else check_choice("y", y, columns)
    x = _widest(found, [name for name in found.directions if name != y] or [n for n in columns if n != y], x, columns)
    third = next((name for name in found.directions if name not in (x, y)), None)
    axes = new_axes(6.2, 4.4) if ax is None else ax

    within = [trial for trial in trials if trial.within]
    beyond = [trial for trial in trials if not trial.within]
    shown = within or beyond
    if within:
        shade: dict[str, Any] = {"color": COLOURS[0]} if third is None else {"c": _values(within, third)}
        drawn = axes.scatter(
            _values(within, x), _values(within, y), s=42, edgecolors="0.35", linewidths=0.5, zorder=3,
            cmap=None if third is None else "cividis", **shade,
        )  # fmt: skip
        if third is not None:
            bar = axes.figure.colorbar(drawn, ax=axes, pad=0.02)
            bar.set_label(_words(third), fontsize=TEXT)
            bar.ax.tick_params(labelsize=SMALL_TEXT)
    if found.front:
        _draw_front(axes, found, found.front, x, y)
    if min(_values(shown, x)) > 0 and max(_values(shown, x)) > _LOGARITHMIC * min(_values(shown, x)):
        from matplotlib.ticker import LogLocator, StrMethodFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xticks([], minor=True)
    axes.margins(x=0.1, y=0.12)
    axes.autoscale_view()
    if beyond:  # they may be anywhere: what is within decides what is in view
        across, up = _values(beyond, x), _values(beyond, y)
        left, right, low, high = *axes.get_xlim(), *axes.get_ylim()
        outside = int((~((across >= left) & (across <= right) & (up >= low) & (up <= high))).sum()) if within else 0
        words = "beyond a limit" + (f" ({outside} of {len(beyond)} out of view)" if outside else "")
        axes.scatter(across, up, marker="x", s=26, color="0.6", linewidths=1.0, label=words)
        if within:
            axes.set_xlim(left, right)
            axes.set_ylim(low, high)
    if names:
        _name(axes, found.front, x, y)
    axes.set_xlabel(_words(x), fontsize=TEXT)
    axes.set_ylabel(_words(y), fontsize=TEXT)
    plain(axes)
    legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2)
    said = [_words(name).partition(" (")[0] for name in (x, y, third) if name]
    coloured = f", coloured by {said[2]}" if third else ""
    describe(
        axes,
        f"Designs by {said[0]} and {said[1]}{coloured}; ringed and numbered: no other beats it; bars are 95 % "
        "intervals of the mean over dies.",
    )
    return axes


def _widest(found: SearchResult, candidates: list[str], asked: str | None, columns: list[str]) -> str:
    """The column that was asked for, or of some that which tells the designs on the front apart most, by ratio."""
    if asked is not None:
        return check_choice("x", asked, columns)
    if not candidates:
        raise InputError(f"found must have two objectives for a picture, got {', '.join(columns)}")
    trials = found.front or found.measured

    def spread(name: str) -> float:
        values = np.abs(_values(trials, name))
        return float(values.max() / values.min()) if values.min() > 0 else np.inf

    return max(candidates, key=spread)


def _name(axes: Axes, trials: tuple[Trial, ...], x: str, y: str) -> None:
    """Numbers beside the rings, above and below in turn from left to right."""
    ordered = sorted(trials, key=lambda trial: trial.objectives[x].estimate)
    for index, trial in enumerate(ordered):
        axes.annotate(
            str(trial.number), (_values([trial], x)[0], _values([trial], y)[0]),
            xytext=(0, 10 if index % 2 else -10), textcoords="offset points", ha="center",
            va="bottom" if index % 2 else "top", fontsize=SMALL_TEXT - 1,
        )  # fmt: skip


def _draw_front(axes: Axes, found: SearchResult, front: tuple[Trial, ...], x: str, y: str) -> None:
    across, up = _values(front, x), _values(front, y)
    for column, other, line in ((y, across, axes.vlines), (x, up, axes.hlines)):
        scale = _WORDS.get(column, ("", 1.0))[1]
        for trial, place in zip(front, other, strict=True):
            mean = trial.objectives[column]
            if mean.has_ends and mean.high > mean.low:
                line(place, scale * mean.low, scale * mean.high, color="0.35", linewidth=1.0, zorder=2)
    axes.scatter(
        across, up, s=120, facecolors="none", edgecolors=COLOURS[1], linewidths=1.6, zorder=4,
        label="no design beats it",
    )  # fmt: skip
    ways = [found.directions.get(name) for name in (x, y)]
    if None in ways:
        return
    signs = [1.0 if way == "minimise" else -1.0 for way in ways]
    points = np.stack([signs[0] * across, signs[1] * up], axis=1)
    order = np.lexsort((points[:, 1], points[:, 0]))
    best, steps = np.inf, []
    for index in order:
        if points[index, 1] < best:
            best = points[index, 1]
            steps.append(index)
    axes.step(across[steps], up[steps], where="post", color=COLOURS[1], linewidth=1.0, alpha=0.7, zorder=1)


def _values(trials: tuple[Trial, ...] | list[Trial], column: str) -> np.ndarray:
    scale = _WORDS.get(column, ("", 1.0))[1]
    return np.array([scale * trial.objectives[column].estimate for trial in trials])


def _words(column: str) -> str:
    return _WORDS.get(column, (column.replace("_", " "), 1.0))[0]
