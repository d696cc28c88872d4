"""Pictures: what sweeps found, fault maps, tiles of a die, errors of its layers.

Those of sweeps take a table with one row a die: a pandas frame (``results.to_frame()``), a list of dictionaries
(``results.rows()``) or a dictionary of columns.

matplotlib is loaded when a picture is drawn. Every function takes the axes to draw on (``None`` for a new figure of
its own,
outside of pyplot) and returns them; ``axes.figure.savefig("picture.png")`` saves the picture. No global setting is
changed. Colours are those of Okabe and Ito, told apart by readers with any colour vision, and curves also differ in
marker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices import FaultMap, Kind
from xbarsim.foundation.intervals import share_interval, student_half_width
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xbarsim.circuit import Solution
    from xbarsim.cost import CostReport, Workload
    from xbarsim.network import MappedNetwork
    from xbarsim.network.chip import Chip, ErrorReport, TileView

__all__ = [
    "accuracy",
    "accuracy_power_area",
    "circuit",
    "cost_breakdown",
    "cost_layers",
    "die_violins",
    "fault_map",
    "layer_errors",
    "layer_sensitivity",
    "pareto",
    "pareto_front",
    "tile",
    "tile_occupancy",
    "yield_curve",
]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":", "-", "--", "-.")
_TEXT, _SMALL_TEXT = 10, 9  # points
_STUCK = {  # colour, marker, name
    Kind.STUCK_ON: ("#D55E00", "^", "stuck on"),
    Kind.STUCK_OFF: ("#0072B2", "v", "stuck off"),
    Kind.STUCK_AT: ("#009E73", "o", "stuck between"),
}


def _new_axes(width: float, height: float) -> Axes:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=150).add_subplot()


def _plain(axes: Axes) -> None:
    """The style all curves and bars share."""
    axes.tick_params(labelsize=_SMALL_TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def _rows(name: str, data: Any, keys: Sequence[str]) -> list[Mapping[str, Any]]:
    """A frame, dictionary of columns or list of rows as a list of rows that have `keys`."""
    if hasattr(data, "to_dict"):  # a pandas frame, without loading pandas
        found: Any = data.to_dict("records")
    elif isinstance(data, Mapping):
        lengths = {key: len(column) for key, column in data.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{name} must have columns of one length, got {lengths}")
        found = [dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True)]
    else:
        found = data
    if isinstance(found, str) or len(found) == 0:
        raise InputError(f"{name} must hold at least one point, got {'none' if len(found) == 0 else repr(found)}")
    for index, row in enumerate(found):
        for key in keys:
            if key not in row:
                raise InputError(f"{name}[{index}] must have a key {key!r}, got {', '.join(map(str, row))}")
    return list(found)


def _groups(rows: Sequence[Mapping[str, Any]], key: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Rows by their value of `key`, in the order in which the values first appear."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def _mean_interval(values: npt.NDArray[np.float64], confidence: float) -> tuple[float, float, float]:
    """Mean and Student's t interval, NaN for a single value."""
    mean = math.fsum(values) / values.size
    if values.size < 2:
        return mean, math.nan, math.nan
    half = student_half_width(float(values.std(ddof=1)), values.size, confidence)
    return mean, mean - half, mean + half


def _summary(rows: Sequence[Mapping[str, Any]], group: str, rate: str, confidence: float) -> list[dict[str, Any]]:
    """One row for each group and rate, from one for each die."""
    found = []
    for name, members in _groups(rows, group).items():
        for value, dies in _groups(members, rate).items():
            mean, low, high = _mean_interval(np.array([die["accuracy"] for die in dies], np.float64), confidence)
            found.append({
                group: name, rate: value, "accuracy_mean": mean,
                "accuracy_low": max(0.0, low) if low == low else None,
                "accuracy_high": min(1.0, high) if high == high else None,
            })  # fmt: skip
    return found


def _check_confidence(confidence: float) -> float:
    return check_real("confidence", confidence, above=0.0, below=1.0)


def _legend(axes: Axes, **where: Any) -> None:
    axes.legend(fontsize=_SMALL_TEXT, frameon=False, **where)


def _chance(axes: Axes, chance: float) -> None:
    axes.axhline(100 * chance, color="0.45", linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate(
        "chance", (0.02, 100 * chance), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
        color="0.35", fontsize=_SMALL_TEXT,
    )  # fmt: skip


def _rate_axis(axes: Axes, rates: Sequence[float]) -> None:
    """Fault rates: logarithmic down to the smallest that is not 0, and linear from there to 0."""
    positive = [rate for rate in rates if rate > 0]
    smallest = min(positive, default=1e-3)
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.6)
    ticks = sorted(set(rates))
    axes.set_xticks(ticks, [f"{100 * rate:.3g}" for rate in ticks])
    axes.set_xticks([], minor=True)
    left = -0.15 * smallest if 0 in ticks else smallest / 1.25
    axes.set_xlim(left, 1.25 * max(positive, default=smallest))
    axes.set_xlabel("stuck cells (%)", fontsize=_TEXT)


def accuracy(
    rows: Any,
    *,
    group: str = "mapping",
    rate: str = "rate",
    confidence: float = 0.95,
    chance: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw mean accuracy against the total fault rate, one curve a group, with bands for the intervals.

    The axis of rates is logarithmic down to the smallest rate that is not 0, and linear from there to 0.

    Parameters
    ----------
    rows
        One row a die, with its ``accuracy``; or one a point, as the rows of the demo's ``summary.csv`` and of
        ``Results.summary()``: ``accuracy_mean``, ``accuracy_low``, ``accuracy_high`` (from 0 to 1; the last two
        ``None`` or NaN where there is no interval). Each with the keys `group` and `rate`.
    group
        The key whose values name the curves; they are drawn in the order in which they first appear.
    rate
        The key of the total fault rate, 0 to 1; ``"fault_rate"`` in the tables of sweeps.
    confidence
        Of the bands (Student's t) where there is one row a die.
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
    points = _rows("rows", rows, (group, rate))
    if "accuracy_mean" not in points[0] and "accuracy" in points[0]:
        points = list(_summary(_rows("rows", points, ("accuracy",)), group, rate, _check_confidence(confidence)))
    points = _rows("rows", points, ("accuracy_mean", "accuracy_low", "accuracy_high"))
    axes = _new_axes(5.2, 3.8) if ax is None else ax
    for index, (name, members) in enumerate(_groups(points, group).items()):
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
        _curve(axes, index, str(name), rates, means, bounds)
    if chance is not None:
        _chance(axes, chance)
    _rate_axis(axes, [float(row[rate]) for row in points])
    axes.set_ylim(0, 102)
    axes.set_ylabel("accuracy (%)", fontsize=_TEXT)
    _plain(axes)
    axes.legend(fontsize=_SMALL_TEXT, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.15))
    return axes


def _curve(
    axes: Axes, index: int, name: str, x: Sequence[float], y: npt.NDArray[Any], bounds: npt.NDArray[Any]
) -> None:
    """A curve of shares in percent with its band, (points, 2)."""
    style = index % len(_COLOURS)
    colour = _COLOURS[style]
    axes.fill_between(x, 100 * bounds[:, 0], 100 * bounds[:, 1], color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        x, 100 * y, color=colour, marker=_MARKERS[style], linestyle=_DASHES[style],
        markersize=5, linewidth=1.6, label=name,
    )  # fmt: skip


def yield_curve(
    dies: Any,
    target: float,
    *,
    group: str = "encoding",
    rate: str = "fault_rate",
    confidence: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Draw the yield, the share of dies whose accuracy reaches a target, against the total fault rate.

    The bands are Clopper-Pearson intervals.

    Parameters
    ----------
    dies
        One row a die, with ``accuracy`` (0 to 1) and the keys `group` and `rate`.
    target
        Accuracy from which a die is good, 0 to 1.
    group, rate
        As in :func:`accuracy`.
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
    rows = _rows("dies", dies, (group, rate, "accuracy"))
    target = check_real("target", target, at_least=0.0, at_most=1.0)
    _check_confidence(confidence)
    axes = _new_axes(5.2, 3.8) if ax is None else ax
    for index, (name, members) in enumerate(_groups(rows, group).items()):
        shares, bounds = [], []
        at = sorted(_groups(members, rate).items(), key=lambda item: float(item[0]))
        for _, found in at:
            good = sum(float(die["accuracy"]) >= target - 1e-9 for die in found)  # 9 of 10 reach 0.9
            share = share_interval(good, len(found), confidence=confidence)
            shares.append(share.estimate)
            bounds.append((share.low, share.high))
        _curve(axes, index, str(name), [float(value) for value, _ in at], np.array(shares), np.array(bounds))
    _rate_axis(axes, [float(row[rate]) for row in rows])
    axes.set_ylim(-2, 102)
    axes.set_ylabel(f"dies with accuracy of {100 * target:g} % or more (%)", fontsize=_TEXT)
    _plain(axes)
    _legend(axes, loc="lower left", bbox_to_anchor=(0.0, 0.05))
    return axes


def die_violins(dies: Any, *, group: str = "encoding", chance: float | None = None, ax: Axes | None = None) -> Axes:
    """Draw how the accuracy differs from die to die: one violin a group, with a point for every die.

    Parameters
    ----------
    dies
        One row a die, with ``accuracy`` (0 to 1) and the key `group`. Rows of different fault rates are for you to
        choose from, or to be the groups.
    group
        The key whose values name the violins.
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
    rows = _rows("dies", dies, (group, "accuracy"))
    groups = _groups(rows, group)
    axes = _new_axes(max(3.2, 1.0 + 1.1 * len(groups)), 3.8) if ax is None else ax
    for place, members in enumerate(groups.values()):
        values = 100 * np.sort(np.array([float(die["accuracy"]) for die in members]))
        colour = _COLOURS[place % len(_COLOURS)]
        if np.ptp(values) > 0:  # no density of equal numbers
            shape = axes.violinplot(values, [place], widths=0.8, showextrema=False)
            for body in shape["bodies"]:  # type: ignore[attr-defined]
                body.set(facecolor=colour, alpha=0.25, edgecolor=colour, linewidth=0.8)
        # Neighbours in accuracy are moved apart: three columns, in turn.
        aside = 0.07 * (np.arange(values.size) % 3 - 1) if values.size > 1 else np.zeros(1)
        axes.scatter(place + aside, values, s=9, color=colour, alpha=0.7, linewidths=0, zorder=3)
        axes.hlines(values.mean(), place - 0.28, place + 0.28, color="0.1", linewidth=1.6, zorder=4)
    numbers = all(isinstance(name, float) for name in groups)
    axes.set_xticks(range(len(groups)), [f"{name:g}" if numbers else str(name) for name in groups])
    if numbers:
        axes.set_xlabel(group.replace("_", " "), fontsize=_TEXT)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    if chance is not None:
        _chance(axes, chance)
    axes.set_ylabel("accuracy of a die (%)", fontsize=_TEXT)
    _plain(axes)
    axes.grid(visible=False, axis="x")
    return axes


def layer_sensitivity(
    dies: Any,
    *,
    baseline: float | None = None,
    layer: str = "layer",
    confidence: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Draw what the faults of each layer alone cost: the loss of mean accuracy, with its interval.

    Parameters
    ----------
    dies
        One row a die on which only one layer has faults: ``accuracy`` (0 to 1) and the key `layer`.
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
    rows = _rows("dies", dies, (layer, "accuracy"))
    _check_confidence(confidence)
    if baseline is not None:
        baseline = check_real("baseline", baseline, at_least=0.0, at_most=1.0)
    groups = _groups(rows, layer)
    axes = _new_axes(5.2, 1.1 + 0.34 * len(groups)) if ax is None else ax
    for place, members in enumerate(groups.values()):
        values = np.array([float(die["accuracy"]) for die in members])
        mean, low, high = _mean_interval(values if baseline is None else baseline - values, confidence)
        if low == low:
            axes.hlines(place, 100 * low, 100 * high, color=_COLOURS[0], linewidth=6, alpha=0.3)
        axes.plot([100 * mean], [place], marker="o", color=_COLOURS[0], markersize=6, linestyle="none")
    axes.set_yticks(range(len(groups)), [str(name) for name in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    if baseline is None:
        axes.set_xlabel("accuracy (%)", fontsize=_TEXT)
    else:
        axes.axvline(0, color="0.45", linewidth=1)
        axes.set_xlabel("accuracy lost to the faults of this layer (points)", fontsize=_TEXT)
    _plain(axes)
    return axes


def tile_occupancy(network: MappedNetwork, *, ax: Axes | None = None) -> Axes:
    """Draw how many tiles each layer takes, and how much of them it uses.

    Parameters
    ----------
    network
        A mapped network.
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes
    """
    matrices = {name: mapped.matrix for name, mapped in network.layers.items()}
    axes = _new_axes(5.6, 1.1 + 0.34 * len(matrices)) if ax is None else ax
    places = np.arange(len(matrices))
    tiles = np.array([matrix.tiles for matrix in matrices.values()])
    used = np.array([matrix.tiles * matrix.utilisation for matrix in matrices.values()])
    axes.barh(places, used, height=0.7, color=_COLOURS[0], label="used cells")
    axes.barh(places, tiles - used, left=used, height=0.7, color="0.85", label="idle cells")
    for place, matrix in zip(places.tolist(), matrices.values(), strict=True):
        axes.annotate(
            f"{100 * matrix.utilisation:.0f} %", (matrix.tiles, place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=_SMALL_TEXT, color="0.3",
        )  # fmt: skip
    axes.set_yticks(places, list(matrices))
    axes.set_ylim(len(matrices) - 0.5, -0.5)
    axes.set_xlim(0, 1.12 * max(1, int(tiles.max(initial=0))))
    rows, columns = network.design.mapping.rows, network.design.mapping.columns
    axes.set_xlabel(f"tiles of {rows} x {columns} cells", fontsize=_TEXT)
    axes.locator_params(axis="x", integer=True)
    _plain(axes)
    axes.grid(visible=False, axis="y")
    _legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2)
    return axes


def accuracy_power_area(
    dies: Any,
    *,
    group: str = "encoding",
    power: str = "power_W",
    area: str = "area_m2",
    confidence: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Draw accuracy against power, with the area of a chip as the area of its marker: one marker a group.

    Parameters
    ----------
    dies
        One row a die: ``accuracy`` (0 to 1), power (W), area (m^2) and the key `group`. A group's marker stands at the
        means of its dies; bars are intervals of the mean accuracy (Student's t).
    group
        The key whose values name the markers.
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
        If there are no rows, or one lacks a key.
    """
    rows = _rows("dies", dies, (group, "accuracy", power, area))
    _check_confidence(confidence)
    axes = _new_axes(5.2, 3.8) if ax is None else ax
    groups = _groups(rows, group)
    areas = {name: float(np.mean([float(die[area]) for die in members])) for name, members in groups.items()}
    largest = max(areas.values())
    for index, (name, members) in enumerate(groups.items()):
        values = np.array([float(die["accuracy"]) for die in members])
        mean, low, high = _mean_interval(values, confidence)
        watts = float(np.mean([float(die[power]) for die in members]))
        colour = _COLOURS[index % len(_COLOURS)]
        if low == low:
            low, high = max(0.0, low), min(1.0, high)
            axes.vlines(watts, 100 * low, 100 * high, color=colour, linewidth=1.6, zorder=2)
        axes.scatter(
            [watts], [100 * mean], s=30 + 450 * areas[name] / largest, color=colour, alpha=0.55, edgecolors=colour,
            linewidths=1.2, zorder=3, label=f"{name}, {1e6 * areas[name]:.3g} mm²",
        )  # fmt: skip
        axes.scatter([watts], [100 * mean], s=8, color="0.1", zorder=4)
    axes.margins(y=0.2)
    axes.set_ylim(top=min(104.0, axes.get_ylim()[1]))
    axes.set_xlim(0, 1.15 * max(float(np.mean([float(die[power]) for die in found])) for found in groups.values()))
    axes.set_xlabel("power (W)", fontsize=_TEXT)
    axes.set_ylabel("mean accuracy (%)", fontsize=_TEXT)
    _plain(axes)
    legend = axes.legend(
        fontsize=_SMALL_TEXT, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2,
        title="marker area: area of the chip", title_fontsize=_SMALL_TEXT,
    )  # fmt: skip
    for handle in legend.legend_handles:
        handle.set_sizes([40.0])  # type: ignore[union-attr]
    return axes


def fault_map(faults: FaultMap, tile: int = 0, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the broken cells of one tile of a fault map.

    Parameters
    ----------
    faults
        The map.
    tile
        Which of its tiles.
    title
        Text above; ``None`` for the rate.
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If there is no such tile.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    check_instance("faults", faults, FaultMap)
    shown = faults.tile(tile)
    axes = _new_axes(3.4, 3.6) if ax is None else ax
    colours = ["#f4f1ea", *(_STUCK[kind][0] for kind in Kind)]
    axes.imshow(
        shown.dense()[0], cmap=ListedColormap(colours), vmin=-0.5, vmax=3.5, interpolation="nearest", aspect="equal"
    )
    axes.set_xlabel("column (output line)", fontsize=_TEXT)
    axes.set_ylabel("row (input line)", fontsize=_TEXT)
    axes.tick_params(labelsize=_SMALL_TEXT)
    axes.set_title(f"{100 * shown.rate:.3g} % broken" if title is None else title, fontsize=_TEXT)
    present = [kind for kind in Kind if shown.counts[kind]]
    handles = [Patch(facecolor=_STUCK[kind][0], label=_STUCK[kind][2]) for kind in present]
    if handles:
        axes.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=_SMALL_TEXT,
            frameon=False, borderaxespad=0.0, handlelength=1.0, columnspacing=1.0,
        )  # fmt: skip
    return axes


def tile(
    view: TileView | Chip,
    layer: str | None = None,
    tile: int = 0,
    *,
    unit: Literal["level", "uS"] = "level",
    ax: Sequence[Axes] | None = None,
) -> npt.NDArray[Any]:
    """Draw one tile of a die: target, programmed, and faulty with its broken cells marked.

    Cells that hold no part of a weight are left white; broken ones among them are marked by a small grey cross.

    Parameters
    ----------
    view
        A tile, or the chip it is on.
    layer
        Which layer of the chip; ``None`` for its first.
    tile
        Which tile of that layer.
    unit
        Colours in level units or, on a chip (whose cell is known), in microsiemens.
    ax
        Three axes of one figure to draw on.

    Returns
    -------
    numpy.ndarray
        The three axes, shape ``(3,)``.

    Raises
    ------
    InputError
        If there is no such layer or tile, `ax` are not three axes, or `unit` is ``"uS"`` and `view` no chip.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    from xbarsim.network.chip import TileView  # brings torch, which whoever has a chip or a tile of one has loaded

    check_choice("unit", unit, ("level", "uS"))
    title = ""
    scale, offset = 1.0, 0.0
    if isinstance(view, TileView):
        if unit == "uS":
            raise InputError("unit must be 'level' for a tile without its chip, got 'uS'")
        shown = view
    else:
        layer = next(iter(view.layers)) if layer is None else layer
        shown = view.tile(layer, check_integer("tile", tile, at_least=0))
        title = f"{layer}, tile {tile} of {view.layers[layer].mapped.matrix.tiles}"
        if unit == "uS":
            cell, bits = view.network.design.cell, view.network.design.mapping.cell_bits
            scale, offset = 1e6 * cell.level_step(bits), 1e6 * cell.g_min
    if ax is None:
        figure = Figure(figsize=(10.5, 4.0), layout="constrained", dpi=150)
        panels = list(figure.subplots(1, 3, sharex=True, sharey=True))
        if title:
            figure.suptitle(title, fontsize=_TEXT + 1)
    else:
        panels = list(ax)
        if len(panels) != 3:
            raise InputError(f"ax must be three axes, got {len(panels)}")

    held = [
        np.where(shown.used, np.asarray(values, dtype=np.float64) * scale + offset, np.nan)
        for values in (shown.target, shown.programmed, shown.faulty)
    ]
    known = np.concatenate([values[shown.used] for values in held])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    shades = ["#f1ead9", "#c9bd9c", "#857b68", "#2b2722"]
    colours = LinearSegmentedColormap.from_list("cells", shades).with_extremes(bad="white")
    rows, columns = shown.target.shape
    broken = shown.faults
    row, column = np.divmod(np.asarray(broken.index, dtype=np.int64), columns)
    kinds = np.asarray(broken.kind)
    matters = shown.used[row, column]
    names = ("target", "programmed", "faulty" if len(kinds) else "faulty: nothing is broken")
    for axes, values, name in zip(panels, held, names, strict=True):
        image = axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest", aspect="auto")
        axes.set_title(name, fontsize=_TEXT)
        axes.set_xlabel("column (output line)", fontsize=_TEXT)
        axes.tick_params(labelsize=_SMALL_TEXT)
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
    panels[0].set_ylabel("row (input line)", fontsize=_TEXT)
    size = float(np.clip(1200 / max(rows, columns), 12, 36))
    last = panels[2]
    for kind, (colour, marker, name) in _STUCK.items():
        here = (kinds == kind) & matters
        if here.any():
            last.scatter(
                column[here], row[here], s=size, c=colour, marker=marker, edgecolors="white", linewidths=0.5,
                label=f"{here.sum()} {name}",
            )  # fmt: skip
    idle = ~matters
    if idle.any():
        last.scatter(
            column[idle],
            row[idle],
            s=size / 2,
            c="0.6",
            marker="x",
            linewidths=0.7,
            label=f"{idle.sum()} unused",
        )
    if len(kinds):
        last.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, fontsize=_SMALL_TEXT, frameon=False,
            handletextpad=0.1, handlelength=1.2, columnspacing=0.7, borderaxespad=0.0, borderpad=0.0,
        )  # fmt: skip
    bar = panels[0].figure.colorbar(image, ax=panels, pad=0.015, aspect=28)
    bar.set_label("level" if unit == "level" else "conductance (µS)", fontsize=_TEXT)
    bar.ax.tick_params(labelsize=_SMALL_TEXT)
    axes_array = np.empty(3, dtype=object)
    axes_array[:] = panels
    return axes_array


def circuit(solution: Solution, *, ax: Sequence[Axes] | None = None) -> npt.NDArray[Any]:
    """Draw the state of one array: voltages along word lines and bit lines, and the current of every cell.

    Parameters
    ----------
    solution
        From :meth:`xbarsim.Chip.solve` or :func:`xbarsim.circuit.solve`.
    ax
        Three axes to draw on.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        Shape ``(3,)``.
    """
    if ax is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11.0, 3.7), layout="constrained", dpi=150)
        panels: list[Any] = list(figure.subplots(1, 3))
    else:
        panels = list(ax)
        if len(panels) != 3:
            raise InputError(f"ax must hold 3 axes, got {len(panels)}")
    maps = (
        ("word lines", 1e3 * solution.word_line_voltages, "voltage (mV)", "viridis"),
        ("bit lines", 1e3 * solution.bit_line_voltages, "voltage (mV)", "viridis"),
        ("cells", 1e6 * solution.cell_currents, "current (µA)", "magma"),
    )
    for axes, (name, values, unit, colours) in zip(panels, maps, strict=True):
        image = axes.imshow(values, cmap=colours, interpolation="nearest", aspect="auto")
        axes.set_title(name, fontsize=_TEXT)
        axes.set_xlabel("column (bit line)", fontsize=_TEXT)
        axes.tick_params(labelsize=_SMALL_TEXT)
        bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
        bar.set_label(unit, fontsize=_SMALL_TEXT)
        bar.ax.tick_params(labelsize=_SMALL_TEXT)
    panels[0].set_ylabel("row (word line)", fontsize=_TEXT)
    axes_array = np.empty(3, dtype=object)
    axes_array[:] = panels
    return axes_array


def layer_errors(report: ErrorReport, *, ax: Axes | None = None) -> Axes:
    """Draw where a chip loses accuracy: the error each layer adds, and the error so far.

    Parameters
    ----------
    report
        From :meth:`xbarsim.Chip.report`.
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes
    """
    layers = report.layers
    axes = _new_axes(5.2, 1.2 + 0.42 * len(layers)) if ax is None else ax
    places = np.arange(len(layers))
    for index, (values, name) in enumerate(
        (
            ([error.own for error in layers], "added by the layer"),
            ([error.total for error in layers], "so far"),
        )
    ):
        axes.barh(places + (index - 0.5) * 0.38, values, height=0.36, color=_COLOURS[index], label=name)
    axes.set_yticks(places, [error.layer for error in layers])
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("root mean square error / digital output", fontsize=_TEXT)
    _plain(axes)
    axes.grid(visible=False, axis="y")
    axes.legend(
        fontsize=_SMALL_TEXT,
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        borderaxespad=0.2,
    )
    return axes


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
    axes = _new_axes(5.6, 1.3 + (0.22 + 0.14 * len(bars)) * (len(kept) + 1)) if ax is None else ax
    places = np.arange(len(kept) + 1)
    height = 0.76 / len(bars)
    for index, (title, part, whole, unit, symbol) in enumerate(bars):
        shares = [100 * part[key] / whole if whole else 0.0 for key in kept]
        shares.append(max(100 - sum(shares), 0.0) if whole else 0.0)
        total = f"{title} ({whole / unit:.4g} {symbol})"
        offset = (index - (len(bars) - 1) / 2) * height
        drawn = axes.barh(places + offset, shares, height=0.92 * height, color=_COLOURS[index], label=total)
        axes.bar_label(drawn, [f"{value:.1f}" for value in shares], padding=2, fontsize=_SMALL_TEXT - 1)
    axes.set_yticks(places, [f"{name} ({level})" for level, name in kept] + ["all others"])
    axes.set_ylim(len(kept) + 0.5, -0.5)
    axes.set_xlim(0, 1.12 * max(axes.get_xlim()[1], 1e-9))
    axes.set_xlabel("share (%)", fontsize=_TEXT)
    _plain(axes)
    axes.grid(visible=False, axis="y")
    axes.legend(
        fontsize=_SMALL_TEXT, frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, borderaxespad=0.2
    )
    return axes


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
        panels = list(ax)
        if len(panels) != 2:
            raise InputError(f"ax must be two axes, got {len(panels)}")
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
        colour = _COLOURS[index] if name in most else "0.75"
        panels[0].barh(places, 1e6 * energies, left=1e6 * left, height=0.8, color=colour, label=name)
        left += energies
    panels[0].set_yticks(places, [layer.use.name for layer in layers])
    panels[0].set_ylim(len(layers) - 0.4, -0.6)
    panels[0].set_xlabel("energy for one image (µJ)", fontsize=_TEXT)
    panels[1].barh(places, [1e6 * layer.time for layer in layers], height=0.8, color=_COLOURS[0])
    panels[1].axvline(1e6 * work.interval, color="0.35", linewidth=1, linestyle="--", label="interval between images")
    panels[1].set_xlabel("time for one image (µs)", fontsize=_TEXT)
    for panel in panels:
        _plain(panel)
        panel.grid(visible=False, axis="y")
        panel.set_xlim(left=0)
        panel.legend(
            fontsize=_SMALL_TEXT,
            frameon=False,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=3 if panel is panels[0] else 1,
            borderaxespad=0.2,
        )
    both = np.empty(2, dtype=object)
    both[:] = panels
    return both


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


def pareto(rows: Sequence[Mapping[str, Any]], *, name: str = "name", ax: Axes | None = None) -> Axes:
    """Draw power against area of several designs, coloured by accuracy; those that no other beats are ringed and named.

    Parameters
    ----------
    rows
        One mapping a design: ``power_W``, ``area_m2``, ``accuracy`` (0 to 1) and the key `name`.
    name
        The key of the designs' names.
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
    if not rows:
        raise InputError("rows must hold at least one design, got none")
    front = pareto_front(rows)
    for index, row in enumerate(rows):
        if name not in row:
            raise InputError(f"rows[{index}] must have a key {name!r}, got {', '.join(row)}")
    axes = _new_axes(5.6, 4.0) if ax is None else ax
    area = np.array([1e6 * float(row["area_m2"]) for row in rows])
    power = np.array([1e3 * float(row["power_W"]) for row in rows])
    accuracies = [100 * float(row["accuracy"]) for row in rows]
    drawn = axes.scatter(area, power, c=accuracies, cmap="cividis", s=46, edgecolors="0.4", linewidths=0.5, zorder=3)
    axes.scatter(
        area[front], power[front], s=130, facecolors="none", edgecolors=_COLOURS[1], linewidths=1.6, zorder=4,
        label="no design beats it",
    )  # fmt: skip
    middle = (area.min() + area.max()) / 2
    for index in front:
        left = area[index] > middle  # names grow towards the middle, so that they stay inside
        axes.annotate(
            str(rows[index][name]),
            (area[index], power[index]),
            xytext=(-9 if left else 9, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=_SMALL_TEXT - 1,
        )
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel("area (mm²)", fontsize=_TEXT)
    axes.set_ylabel("peak power (mW)", fontsize=_TEXT)
    _plain(axes)
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.02)
    bar.set_label("accuracy (%)", fontsize=_TEXT)
    bar.ax.tick_params(labelsize=_SMALL_TEXT)
    axes.legend(fontsize=_SMALL_TEXT, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), borderaxespad=0.2)
    return axes
