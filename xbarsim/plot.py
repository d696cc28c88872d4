"""Pictures: accuracy against fault rate, tiles of a die, errors of its layers.

matplotlib is loaded when a picture is drawn. Every function takes the axes to draw on (``None`` for a new figure of
its own,
outside of pyplot) and returns them; ``axes.figure.savefig("picture.png")`` saves the picture. No global setting is
changed. Colours are those of Okabe and Ito, told apart by readers with any colour vision, and curves also differ in
marker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices import Kind
from xbarsim.validation import InputError, check_choice, check_integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xbarsim.chip import Chip, ErrorReport, TileView

__all__ = ["accuracy", "layer_errors", "tile"]

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


def accuracy(
    rows: Sequence[Mapping[str, Any]],
    *,
    group: str = "mapping",
    chance: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw mean accuracy against the total fault rate, one curve a group, with bands for the intervals.

    The axis of rates is logarithmic down to the smallest rate that is not 0, and linear from there to 0.

    Parameters
    ----------
    rows
        One mapping a point, as the rows of the demo's ``summary.csv``: ``rate``, ``accuracy_mean``, ``accuracy_low``,
        ``accuracy_high`` (from 0 to 1; the last two ``None`` where there is no interval), and the key `group`.
    group
        The key whose values name the curves; they are drawn in the order in which they first appear.
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
    if not rows:
        raise InputError("rows must hold at least one point, got none")
    for index, row in enumerate(rows):
        for key in (group, "rate", "accuracy_mean", "accuracy_low", "accuracy_high"):
            if key not in row:
                raise InputError(f"rows[{index}] must have a key {key!r}, got {', '.join(row)}")
    axes = _new_axes(5.2, 3.8) if ax is None else ax
    positive = [float(row["rate"]) for row in rows if row["rate"] > 0]
    smallest = min(positive, default=1e-3)
    for index, name in enumerate(dict.fromkeys(row[group] for row in rows)):
        points = sorted((row for row in rows if row[group] == name), key=lambda row: float(row["rate"]))
        rates = [float(row["rate"]) for row in points]
        means = np.array([float(row["accuracy_mean"]) for row in points])
        bounds = np.array(
            [
                [mean if row[key] is None else float(row[key]) for key in ("accuracy_low", "accuracy_high")]
                for row, mean in zip(points, means, strict=True)
            ]
        )
        style = index % len(_COLOURS)
        colour = _COLOURS[style]
        axes.fill_between(rates, 100 * bounds[:, 0], 100 * bounds[:, 1], color=colour, alpha=0.18, linewidth=0)
        axes.plot(
            rates, 100 * means, color=colour, marker=_MARKERS[style], linestyle=_DASHES[style],
            markersize=5, linewidth=1.6, label=str(name),
        )  # fmt: skip
    if chance is not None:
        axes.axhline(100 * chance, color="0.45", linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate(
            "chance",
            (0, 100 * chance),
            xytext=(2, 3),
            textcoords="offset points",
            color="0.35",
            fontsize=_SMALL_TEXT,
        )
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.6)
    ticks = sorted({float(row["rate"]) for row in rows})
    axes.set_xticks(ticks, [f"{100 * rate:g}" for rate in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(-0.15 * smallest, 1.25 * max(positive, default=smallest))
    axes.set_ylim(0, 102)
    axes.set_xlabel("stuck cells (%)", fontsize=_TEXT)
    axes.set_ylabel("accuracy (%)", fontsize=_TEXT)
    _plain(axes)
    axes.legend(fontsize=_SMALL_TEXT, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.15))
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

    from xbarsim.chip import TileView  # brings torch, which whoever has a chip or a tile of one has loaded

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
