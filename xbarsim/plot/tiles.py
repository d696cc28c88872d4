"""Pictures of arrays: which cells are broken, what they hold, how full the tiles are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices import FaultKind, FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer
from xbarsim.plot.style import (
    COLOURS,
    SHADES,
    SMALL_TEXT,
    STUCK,
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

    from xbarsim.die import TileView
    from xbarsim.network import Chip, PlacedNetwork

__all__ = ["fault_map", "tile", "tile_occupancy"]


@entrance
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
    axes = new_axes(3.4, 3.6) if ax is None else ax
    colours = ["#f4f1ea", *(STUCK[kind][0] for kind in FaultKind)]
    axes.imshow(
        shown.dense()[0], cmap=ListedColormap(colours), vmin=-0.5, vmax=3.5, interpolation="nearest", aspect="equal"
    )
    axes.set_xlabel("column (output line)", fontsize=TEXT)
    axes.set_ylabel("row (input line)", fontsize=TEXT)
    axes.tick_params(labelsize=SMALL_TEXT)
    axes.set_title(f"{100 * shown.rate:.3g} % broken" if title is None else title, fontsize=TEXT)
    present = [kind for kind in FaultKind if shown.counts[kind]]
    handles = [Patch(facecolor=STUCK[kind][0], label=STUCK[kind][2]) for kind in present]
    if handles:
        axes.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=SMALL_TEXT,
            frameon=False, borderaxespad=0.0, handlelength=1.0, columnspacing=1.0,
        )  # fmt: skip
    describe(axes, "Stuck cells of one array, by kind.")
    return axes


@entrance
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

    from xbarsim.die import TileView  # brings the engine, which whoever has a chip or a tile of one has loaded

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
        title = f"{layer}, tile {tile} of {view.layers[layer].matrix.tiles}"
        if unit == "uS":
            cell, bits = view.network.design.cell, view.network.design.mapping.cell_bits
            scale, offset = 1e6 * cell.level_step(bits), 1e6 * cell.g_min
    if ax is None:
        figure = Figure(figsize=(10.5, 4.0), layout="constrained", dpi=150)
        panels = list(figure.subplots(1, 3, sharex=True, sharey=True))
        if title:
            figure.suptitle(title, fontsize=TEXT + 1)
    else:
        panels = these_axes(ax, "three")

    held = [
        np.where(shown.used, np.asarray(values, dtype=np.float64) * scale + offset, np.nan)
        for values in (shown.target, shown.programmed, shown.faulty)
    ]
    known = np.concatenate([values[shown.used] for values in held])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    colours = LinearSegmentedColormap.from_list("cells", SHADES).with_extremes(bad="white")
    rows, columns = shown.target.shape
    broken = shown.faults
    row, column = np.divmod(np.asarray(broken.index, dtype=np.int64), columns)
    kinds = np.asarray(broken.kind)
    matters = shown.used[row, column]
    names = ("target", "programmed", "faulty" if len(kinds) else "faulty: nothing is broken")
    for axes, values, name in zip(panels, held, names, strict=True):
        image = axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest", aspect="auto")
        axes.set_title(name, fontsize=TEXT)
        axes.set_xlabel("column (output line)", fontsize=TEXT)
        axes.tick_params(labelsize=SMALL_TEXT)
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
    panels[0].set_ylabel("row (input line)", fontsize=TEXT)
    size = float(np.clip(1200 / max(rows, columns), 12, 36))
    last = panels[2]
    for kind, (colour, marker, name) in STUCK.items():
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
            loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, fontsize=SMALL_TEXT, frameon=False,
            handletextpad=0.1, handlelength=1.2, columnspacing=0.7, borderaxespad=0.0, borderpad=0.0,
        )  # fmt: skip
    bar = panels[0].figure.colorbar(image, ax=panels, pad=0.015, aspect=28)
    bar.set_label("level" if unit == "level" else "conductance (µS)", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL_TEXT)
    describe(panels[0], "One tile of a die: target, programmed, and faulty with its broken cells marked.")
    return as_array(panels)


@entrance
def tile_occupancy(network: PlacedNetwork, *, ax: Axes | None = None) -> Axes:
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
    axes = new_axes(5.6, 1.1 + 0.34 * len(matrices)) if ax is None else ax
    places = np.arange(len(matrices))
    tiles = np.array([matrix.tiles for matrix in matrices.values()])
    used = np.array([matrix.tiles * matrix.utilisation for matrix in matrices.values()])
    axes.barh(places, used, height=0.7, color=COLOURS[0], label="used cells")
    axes.barh(places, tiles - used, left=used, height=0.7, color="0.85", label="idle cells")
    for place, matrix in zip(places.tolist(), matrices.values(), strict=True):
        axes.annotate(
            f"{100 * matrix.utilisation:.0f} %", (matrix.tiles, place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=SMALL_TEXT, color="0.3",
        )  # fmt: skip
    axes.set_yticks(places, [literal(name) for name in matrices])
    axes.set_ylim(len(matrices) - 0.5, -0.5)
    axes.set_xlim(0, 1.12 * max(1, int(tiles.max(initial=0))))
    rows, columns = network.design.mapping.rows, network.design.mapping.columns
    axes.set_xlabel(f"tiles of {rows} x {columns} cells", fontsize=TEXT)
    axes.locator_params(axis="x", integer=True)
    plain(axes)
    axes.grid(visible=False, axis="y")
    legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2)
    describe(axes, "How many tiles each layer takes, and how much of them it uses.")
    return axes
