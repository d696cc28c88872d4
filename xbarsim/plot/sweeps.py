"""Pictures of sweeps: how accuracy and yield fall with faults, how dies differ, which layer hurts.

They take the results of a sweep, a store or its path; or a table with one row a die: a pandas frame
(``results.to_frame()``), a list of dictionaries (``results.rows()``) or a dictionary of columns. Results that differ in
more than what is drawn are refused, and never drawn as one; of a table that is the caller's to choose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.intervals import FEW_DIES, check_confidence, mean_interval, share_interval, with_test_images
from xbarsim.foundation.validation import InputError, check_real
from xbarsim.plot.rows import grouped, rows_of, table_of
from xbarsim.plot.style import COLOURS, TEXT, chance_line, curve, describe, legend, literal, new_axes, plain, rate_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracy", "die_violins", "layer_sensitivity", "yield_curve"]

_SINGLE = "\0single"  # key of the dies of a point that are too few for their band alone; no column is called so


@entrance
def accuracy(
    rows: Any,
    *,
    group: str | None = None,
    rate: str | None = None,
    confidence: float = 0.95,
    chance: float | None = None,
    other_images: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw mean accuracy against the total fault rate, one curve a group, with bands for the intervals.

    The axis of rates is logarithmic down to the smallest rate that is not 0, and linear from there to 0. Where there is
    one row a die and fewer than 20 of them at a point, each die is a dot: bands of so few promise more than they keep.

    Parameters
    ----------
    rows
        Results, a store or its path; or a table of one row a die, with its ``accuracy``; or one a point, as the rows
        of the demo's ``summary.csv`` and of ``Results.summary()``: ``accuracy_mean``, ``accuracy_low``,
        ``accuracy_high`` (from 0 to 1; the last two ``None`` or NaN where there is no interval). Each with the keys
        `group` and `rate`.
    group
        The key whose values name the curves; they are drawn in the order in which they first appear. ``None`` for the
        last that tells the tasks of results apart, or ``"mapping"`` or ``"encoding"`` of a table.
    rate
        The key of the total fault rate, 0 to 1; ``None`` for ``"rate"`` or ``"fault_rate"``.
    confidence
        Of the bands (Student's t) where there is one row a die.
    chance
        Accuracy of guessing, drawn as a line, from 0 to 1.
    other_images
        Whether bands also cover what other test images would give, for which rows need the key ``"images"``; without,
        they speak of other dies on these images.
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If there are no rows, or one lacks a key.
    """
    points, group, rate = table_of(
        "rows", rows, (), group=group, groups=("mapping", "encoding"), rate=rate, rates=("rate", "fault_rate")
    )
    if "accuracy_mean" not in points[0] and "accuracy" in points[0]:
        keys = ("accuracy", "images") if other_images else ("accuracy",)
        points = _summary(rows_of("rows", points, keys), group, rate, check_confidence(confidence), other_images)
    elif other_images:
        raise InputError("rows must be one a die for bands of other images, got one a point")
    points = rows_of("rows", points, ("accuracy_mean", "accuracy_low", "accuracy_high"))
    axes = new_axes(5.2, 3.8) if ax is None else ax
    for index, (name, members) in enumerate(grouped(points, group).items()):
        ordered = sorted(members, key=lambda row: float(row[rate]))
        rates = [float(row[rate]) for row in ordered]
        means = np.array([float(row["accuracy_mean"]) for row in ordered])
        bounds = np.array(
            [
                [mean if row[key] is None or row[key] != row[key] else float(row[key])
                 for key in ("accuracy_low", "accuracy_high")]
                for row, mean in zip(ordered, means, strict=True)
            ]
        )  # fmt: skip
        curve(axes, index, str(name), rates, means, bounds)
        places = [float(row[rate]) for row in ordered for _ in row.get(_SINGLE, ())]
        if places:
            values = [100 * value for row in ordered for value in row.get(_SINGLE, ())]
            axes.scatter(places, values, s=7, color=COLOURS[index % len(COLOURS)], alpha=0.6, linewidths=0)
    if chance is not None:
        chance_line(axes, chance)
    rate_axis(axes, [float(row[rate]) for row in points])
    axes.set_ylim(0, 102)
    axes.set_ylabel("accuracy (%)", fontsize=TEXT)
    plain(axes)
    legend(axes, loc="lower left", bbox_to_anchor=(0.0, 0.15))
    bands = "dies and test images" if other_images else "dies on the same test images"
    few = any(row.get(_SINGLE) for row in points)
    describe(
        axes,
        f"Mean accuracy against the share of stuck cells, by {group.replace('_', ' ')}; bands are {100 * confidence:g} "
        f"% intervals of the mean over {bands}" + (", dots are single dies where they are few." if few else "."),
    )
    return axes


def _summary(
    rows: Sequence[Mapping[str, Any]], group: str, rate: str, confidence: float, other_images: bool
) -> list[Mapping[str, Any]]:
    """One row for each group and rate, from one for each die."""
    summary: list[Mapping[str, Any]] = []
    for name, members in grouped(rows, group).items():
        for value, dies in grouped(members, rate).items():
            values = [float(die["accuracy"]) for die in dies]
            mean = mean_interval(values, confidence=confidence)
            if other_images:
                mean = with_test_images(mean, int(dies[0]["images"]))
            summary.append({
                group: name, rate: value, "accuracy_mean": mean.estimate,
                _SINGLE: values if 1 < len(values) < FEW_DIES else (),
                "accuracy_low": max(0.0, mean.low) if mean.low == mean.low else None,
                "accuracy_high": min(1.0, mean.high) if mean.high == mean.high else None,
            })  # fmt: skip
    return summary


@entrance
def yield_curve(
    dies: Any,
    target: float,
    *,
    group: str | None = None,
    rate: str | None = None,
    confidence: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Draw the yield, the share of dies whose accuracy reaches a target, against the total fault rate.

    The bands are Clopper-Pearson intervals.

    Parameters
    ----------
    dies
        Results, a store or its path; or a table of one row a die, with ``accuracy`` (0 to 1) and the keys `group` and
        `rate`.
    target
        Accuracy from which a die is good, 0 to 1.
    group, rate
        As in :func:`accuracy`; of a table, ``"encoding"`` comes before ``"mapping"``.
    confidence
        Of the bands.
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If there are no rows, one lacks a key, or `target` or `confidence` is out of bounds.
    """
    rows, group, rate = table_of(
        "dies",
        dies,
        ("accuracy",),
        group=group,
        groups=("encoding", "mapping"),
        rate=rate,
        rates=("fault_rate", "rate"),
    )
    target = check_real("target", target, at_least=0.0, at_most=1.0)
    check_confidence(confidence)
    axes = new_axes(5.2, 3.8) if ax is None else ax
    for index, (name, members) in enumerate(grouped(rows, group).items()):
        shares, bounds = [], []
        at = sorted(grouped(members, rate).items(), key=lambda item: float(item[0]))
        for _, here in at:
            good = sum(float(die["accuracy"]) >= target - 1e-9 for die in here)  # 9 of 10 reach 0.9
            share = share_interval(good, len(here), confidence=confidence)
            shares.append(share.estimate)
            bounds.append((share.low, share.high))
        curve(axes, index, str(name), [float(value) for value, _ in at], np.array(shares), np.array(bounds))
    rate_axis(axes, [float(row[rate]) for row in rows])
    axes.set_ylim(-2, 102)
    axes.set_ylabel(f"dies with accuracy of {100 * target:g} % or more (%)", fontsize=TEXT)
    plain(axes)
    legend(axes, loc="lower left", bbox_to_anchor=(0.0, 0.05))
    describe(
        axes,
        f"Yield, the share of dies with an accuracy of {100 * target:g} % or more, against the share of stuck cells; "
        f"bands are {100 * confidence:g} % Clopper-Pearson intervals.",
    )
    return axes


@entrance
def die_violins(dies: Any, *, group: str | None = None, chance: float | None = None, ax: Axes | None = None) -> Axes:
    """Draw how the accuracy differs from die to die: one violin a group, with a point for every die.

    Parameters
    ----------
    dies
        Results of one fault rate, a store of such or its path; or a table of one row a die, with ``accuracy`` (0 to 1)
        and the key `group`. Rows of different fault rates are for you to choose from, or to be the groups.
    group
        The key whose values name the violins; ``None`` as in :func:`yield_curve`.
    chance
        Accuracy of guessing, drawn as a line, from 0 to 1.
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If there are no rows, or one lacks a key.
    """
    rows, group, _ = table_of("dies", dies, ("accuracy",), group=group, groups=("encoding", "mapping"))
    groups = grouped(rows, group)
    axes = new_axes(max(3.2, 1.0 + 1.1 * len(groups)), 3.8) if ax is None else ax
    for place, members in enumerate(groups.values()):
        values = 100 * np.sort(np.array([float(die["accuracy"]) for die in members]))
        colour = COLOURS[place % len(COLOURS)]
        if np.ptp(values) > 0:  # no density of equal numbers
            shape = axes.violinplot(values, [place], widths=0.8, showextrema=False)
            for body in shape["bodies"]:  # type: ignore[attr-defined]
                body.set(facecolor=colour, alpha=0.25, edgecolor=colour, linewidth=0.8)
        # Neighbours in accuracy are moved apart: three columns, in turn.
        aside = 0.07 * (np.arange(values.size) % 3 - 1) if values.size > 1 else np.zeros(1)
        axes.scatter(place + aside, values, s=9, color=colour, alpha=0.7, linewidths=0, zorder=3)
        axes.hlines(values.mean(), place - 0.28, place + 0.28, color="0.1", linewidth=1.6, zorder=4)
    numbers = all(isinstance(name, float) for name in groups)
    axes.set_xticks(range(len(groups)), [f"{name:g}" if numbers else literal(name) for name in groups])
    if numbers:
        axes.set_xlabel(group.replace("_", " "), fontsize=TEXT)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    if chance is not None:
        chance_line(axes, chance)
    axes.set_ylabel("accuracy of a die (%)", fontsize=TEXT)
    plain(axes)
    axes.grid(visible=False, axis="x")
    describe(axes, "Accuracy of every die (dots), its density and its mean (bars), by " + group.replace("_", " ") + ".")
    return axes


@entrance
def layer_sensitivity(
    dies: Any,
    *,
    baseline: float | None = None,
    layer: str = "layer",
    confidence: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Draw what the faults of each layer alone cost: the loss of mean accuracy, with its interval.

    Where a layer has fewer than 20 dies, each is a dot.

    Parameters
    ----------
    dies
        Results, a store or its path; or a table of one row a die, on which only one layer has faults: ``accuracy`` (0
        to 1) and the key `layer`.
    baseline
        Accuracy without faults, 0 to 1. ``None``: the accuracies themselves are drawn instead of the loss.
    layer
        The key of the layer's name; layers are drawn in the order in which they first appear.
    confidence
        Of the intervals (Student's t).
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If there are no rows, one lacks a key, or `baseline` or `confidence` is out of bounds.
    """
    rows, layer, _ = table_of("dies", dies, ("accuracy",), group=layer, groups=())
    check_confidence(confidence)
    if baseline is not None:
        baseline = check_real("baseline", baseline, at_least=0.0, at_most=1.0)
    groups = grouped(rows, layer)
    axes = new_axes(5.2, 1.1 + 0.34 * len(groups)) if ax is None else ax
    for place, members in enumerate(groups.values()):
        values = np.array([float(die["accuracy"]) for die in members])
        mean = mean_interval(values if baseline is None else baseline - values, confidence=confidence)
        if mean.low == mean.low:
            axes.hlines(place, 100 * mean.low, 100 * mean.high, color=COLOURS[0], linewidth=6, alpha=0.3)
        if 1 < values.size < FEW_DIES:
            shown = 100 * (values if baseline is None else baseline - values)
            axes.scatter(shown, np.full(values.size, place), s=7, color="0.2", alpha=0.6, linewidths=0, zorder=3)
        axes.plot([100 * mean.estimate], [place], marker="o", color=COLOURS[0], markersize=6, linestyle="none")
    axes.set_yticks(range(len(groups)), [literal(name) for name in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    if baseline is None:
        axes.set_xlabel("accuracy (%)", fontsize=TEXT)
    else:
        axes.axvline(0, color="0.45", linewidth=1)
        axes.set_xlabel("accuracy lost to the faults of this layer (points)", fontsize=TEXT)
    plain(axes)
    describe(
        axes,
        "Mean accuracy" + (" lost" if baseline is not None else "") + " where the cells of one layer alone are stuck; "
        f"bars are {100 * confidence:g} % intervals of the mean over dies.",
    )
    return axes
