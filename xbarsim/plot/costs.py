"""Pictures of what a design costs: shares of components and layers, and designs against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.intervals import check_confidence, mean_interval
from xbarsim.foundation.validation import InputError, check_choice
from xbarsim.plot.rows import grouped, table_of
from xbarsim.plot.style import (
    COLOURS,
    MARKERS,
    SMALL_TEXT,
    TEXT,
    as_array,
    describe,
    legend,
    literal,
    new_axes,
    plain,
    these_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xbarsim.cost import CostReport, Workload

__all__ = ["cost_breakdown", "cost_layers", "pareto", "pareto_front"]


@entrance
def cost_breakdown(report: CostReport | Workload, *, ax: Axes | None = None) -> Axes:
    """Draw what each component takes: of peak power and area, or of the energy of an inference.

    Parameters
    ----------
    report
        From :meth:`xbarsim.Chip.cost` or, for energy, :meth:`xbarsim.cost.CostReport.workload`.
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes
        Components that take less than half a percent of every bar are drawn together.
    """
    from xbarsim.cost import CostReport

    if isinstance(report, CostReport):
        bars = [("peak power", {(c.level, c.name): c.power for c in report.components}, report.power, 1e-3, "mW")]
        bars += [("area", {(c.level, c.name): c.area for c in report.components}, report.area, 1e-6, "mm²")]
    else:
        parts = {(c.level, c.name): c.energy for c in report.components}
        bars = [("energy of an inference", parts, report.energy, 1e-6, "µJ")]
    names = list(bars[0][1])
    share = {key: max(part[key] / whole if whole else 0.0 for _, part, whole, _, _ in bars) for key in names}
    kept = [key for key in names if share[key] >= 0.005]
    axes = new_axes(5.6, 1.3 + (0.22 + 0.14 * len(bars)) * (len(kept) + 1)) if ax is None else ax
    places = np.arange(len(kept) + 1)
    height = 0.76 / len(bars)
    for index, (title, part, whole, unit, symbol) in enumerate(bars):
        shares = [100 * part[key] / whole if whole else 0.0 for key in kept]
        shares.append(max(100 - sum(shares), 0.0) if whole else 0.0)
        total = f"{title} ({whole / unit:.4g} {symbol})"
        offset = (index - (len(bars) - 1) / 2) * height
        drawn = axes.barh(places + offset, shares, height=0.92 * height, color=COLOURS[index], label=total)
        axes.bar_label(drawn, [f"{value:.1f}" for value in shares], padding=2, fontsize=SMALL_TEXT - 1)
    axes.set_yticks(places, [literal(f"{name} ({level})") for level, name in kept] + ["all others"])
    axes.set_ylim(len(kept) + 0.5, -0.5)
    axes.set_xlim(0, 1.12 * max(axes.get_xlim()[1], 1e-9))
    axes.set_xlabel("share (%)", fontsize=TEXT)
    plain(axes)
    axes.grid(visible=False, axis="y")
    axes.legend(
        fontsize=SMALL_TEXT, frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, borderaxespad=0.2
    )
    describe(axes, "What each component takes, as a share of the whole; components below half a percent are added up.")
    return axes


@entrance
def cost_layers(work: Workload, *, ax: Sequence[Axes] | None = None) -> npt.NDArray[Any]:
    """Draw the energy of each layer for one inference, by component, beside the time it takes.

    Parameters
    ----------
    work
        From :meth:`xbarsim.cost.CostReport.workload`.
    ax
        Two axes of one figure to draw on.

    Returns
    -------
    numpy.ndarray
        The two axes, shape ``(2,)``. The five components that take most are told apart.

    Raises
    ------
    InputError
        If `ax` are not two axes.
    """
    from matplotlib.figure import Figure

    layers = work.layers
    if ax is None:
        figure = Figure(figsize=(8.4, 1.5 + 0.24 * len(layers)), layout="constrained", dpi=150)
        panels = list(figure.subplots(1, 2, sharey=True, width_ratios=(3, 2)))
    else:
        panels = these_axes(ax, "two")
    totals: dict[str, float] = {}
    for layer in layers:
        for cost in layer.components:
            totals[cost.name] = totals.get(cost.name, 0.0) + cost.energy
    most = sorted(totals, key=lambda name: -totals[name])[:5]
    places = np.arange(len(layers))
    left = np.zeros(len(layers))
    for index, name in enumerate([*most, "all others"]):
        energies = np.array(
            [
                sum(
                    cost.energy
                    for cost in layer.components
                    if (cost.name == name if name in most else cost.name not in most)
                )
                for layer in layers
            ]
        )
        colour = COLOURS[index] if name in most else "0.75"
        panels[0].barh(places, 1e6 * energies, left=1e6 * left, height=0.8, color=colour, label=name)
        left += energies
    panels[0].set_yticks(places, [literal(layer.use.name) for layer in layers])
    panels[0].set_ylim(len(layers) - 0.4, -0.6)
    panels[0].set_xlabel("energy for one image (µJ)", fontsize=TEXT)
    panels[1].barh(places, [1e6 * layer.time for layer in layers], height=0.8, color=COLOURS[0])
    panels[1].axvline(1e6 * work.interval, color="0.35", linewidth=1, linestyle="--", label="interval between images")
    panels[1].set_xlabel("time for one image (µs)", fontsize=TEXT)
    for panel in panels:
        plain(panel)
        panel.grid(visible=False, axis="y")
        panel.set_xlim(left=0)
        panel.legend(
            fontsize=SMALL_TEXT,
            frameon=False,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=3 if panel is panels[0] else 1,
            borderaxespad=0.2,
        )
    describe(panels[0], "Energy of each layer for one image by component, and the time it takes.")
    return as_array(panels)


@entrance
def pareto_front(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Places of the rows that no other row beats.

    One beats another with no more power, no more area and no less accuracy, if it is better in one of them.

    Parameters
    ----------
    rows
        Mappings with ``power_W``, ``area_m2`` and ``accuracy``.

    Raises
    ------
    InputError
        If a row lacks one of them.
    """
    points = []
    for index, row in enumerate(rows):
        for key in ("power_W", "area_m2", "accuracy"):
            if key not in row:
                raise InputError(f"rows[{index}] must have a key {key!r}, got {', '.join(row)}")
        points.append((float(row["power_W"]), float(row["area_m2"]), -float(row["accuracy"])))
    values = np.array(points).reshape(-1, 3)
    return [
        index
        for index, point in enumerate(values)
        if not ((values <= point).all(axis=1) & (values < point).any(axis=1)).any()
    ]


@entrance
def pareto(
    rows: Any,
    *,
    group: str | None = None,
    against: Literal["area", "accuracy"] = "area",
    power: str = "power_W",
    area: str = "area_m2",
    confidence: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Draw designs by power, area and accuracy, each at the means of its rows.

    Against area, points are coloured by accuracy, and designs that no other beats are ringed and named. Against
    accuracy, area is the area of the marker, and bars are intervals of the mean accuracy (Student's t).

    Parameters
    ----------
    rows
        Results of one fault rate, a store of such or its path; or a table of one row a die, or one a design:
        ``accuracy`` (0 to 1), power (W), area (m^2) and the key `group`.
    group
        The key whose values name the designs; ``None`` for the last that tells the tasks of results apart, or
        ``"name"`` or ``"encoding"`` of a table.
    against
        What power is drawn against.
    power, area
        Keys of power and area, those of a sweep's metrics.
    confidence
        Of the intervals.
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If there are no rows, one lacks a key, or `against` or `confidence` is out of bounds.
    """
    listed, group, _ = table_of(
        "rows", rows, (power, area, "accuracy"), group=group, groups=("name", "encoding"), what="design"
    )
    check_choice("against", against, ("area", "accuracy"))
    check_confidence(confidence)
    designs = []
    for name, members in grouped(listed, group).items():
        values = np.array([float(row["accuracy"]) for row in members])
        mean = mean_interval(values, confidence=confidence)
        designs.append({
            "name": name, "accuracy": mean.estimate, "low": mean.low, "high": mean.high,
            "power_W": float(np.mean([float(row[power]) for row in members])),
            "area_m2": float(np.mean([float(row[area]) for row in members])),
        })  # fmt: skip
    if against == "area":
        return _power_against_area(designs, new_axes(5.6, 4.0) if ax is None else ax)
    return _accuracy_against_power(designs, new_axes(5.2, 3.8) if ax is None else ax)


def _power_against_area(designs: Sequence[Mapping[str, Any]], axes: Axes) -> Axes:
    front = pareto_front(designs)
    area = np.array([1e6 * design["area_m2"] for design in designs])
    power = np.array([1e3 * design["power_W"] for design in designs])
    accuracies = [100 * design["accuracy"] for design in designs]
    drawn = axes.scatter(area, power, c=accuracies, cmap="cividis", s=46, edgecolors="0.4", linewidths=0.5, zorder=3)
    axes.scatter(
        area[front], power[front], s=130, facecolors="none", edgecolors=COLOURS[1], linewidths=1.6, zorder=4,
        label="no design beats it",
    )  # fmt: skip
    middle = (area.min() + area.max()) / 2
    for index in front:
        left = area[index] > middle  # names grow towards the middle, so that they stay inside
        axes.annotate(
            str(designs[index]["name"]), (area[index], power[index]), xytext=(-9 if left else 9, 0),
            textcoords="offset points", ha="right" if left else "left", va="center", fontsize=SMALL_TEXT - 1,
        )  # fmt: skip
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel("area (mm²)", fontsize=TEXT)
    axes.set_ylabel("peak power (mW)", fontsize=TEXT)
    plain(axes)
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.02)
    bar.set_label("accuracy (%)", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL_TEXT)
    legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), borderaxespad=0.2)
    describe(axes, "Designs by area and peak power, coloured by mean accuracy; ringed: no other beats it.")
    return axes


def _accuracy_against_power(designs: Sequence[Mapping[str, Any]], axes: Axes) -> Axes:
    from matplotlib.colors import to_rgb

    largest = max(design["area_m2"] for design in designs)
    for index, design in enumerate(designs):
        watts, mean, low, high = (design[key] for key in ("power_W", "accuracy", "low", "high"))
        colour = COLOURS[index % len(COLOURS)]
        if low == low:
            axes.vlines(watts, 100 * max(0.0, low), 100 * min(1.0, high), color=colour, linewidth=1.6, zorder=2)
        share = design["area_m2"] / largest
        axes.scatter(  # the smaller above the larger, and each seen through: discs that overlap hide nothing
            [watts], [100 * mean], s=30 + 450 * share, facecolors=[(*to_rgb(colour), 0.18)], edgecolors=[colour],
            linewidths=1.4, zorder=4 - share, label=f"{design['name']}, {1e6 * design['area_m2']:.3g} mm²",
        )  # fmt: skip
        axes.scatter([watts], [100 * mean], s=16, marker=MARKERS[index % len(MARKERS)], color=colour, zorder=5)
    axes.margins(y=0.2)
    axes.set_ylim(top=min(104.0, axes.get_ylim()[1]))
    axes.set_xlim(0, 1.15 * max(design["power_W"] for design in designs))
    axes.set_xlabel("power (W)", fontsize=TEXT)
    axes.set_ylabel("mean accuracy (%)", fontsize=TEXT)
    plain(axes)
    key = axes.legend(
        fontsize=SMALL_TEXT, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2,
        title="marker area: area of the chip", title_fontsize=SMALL_TEXT,
    )  # fmt: skip
    for handle in key.legend_handles:
        handle.set_sizes([40.0])  # type: ignore[union-attr]
    describe(axes, "Designs by power and mean accuracy over dies with its interval; markers grow with the area.")
    return axes
