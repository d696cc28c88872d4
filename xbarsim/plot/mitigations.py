"""Pictures of what was done about a die's faults: one tile before and after, and what is left in each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer
from xbarsim.plot.style import (
    COLOURS,
    SMALL_TEXT,
    STUCK,
    TEXT,
    as_array,
    describe,
    literal,
    new_axes,
    plain,
    these_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xbarsim.die import DieLayer
    from xbarsim.mitigation import MitigationTable
    from xbarsim.network import Chip

__all__ = ["mitigation", "noise_to_signal"]


@entrance
def mitigation(
    chip: Chip, layer: str | None = None, tile: int = 0, *, ax: Sequence[Axes] | None = None
) -> npt.NDArray[Any]:
    """Draw one tile of a die before and after mitigations: cells with their faults, and how far its weights are off.

    Before is the same die, its faults included, with every line in its own place and every cell at the level of the
    mapping. Lines are in the order of the tile, so that what is permuted is the faults. Deviations of the weights are
    those that stuck cells and open lines cause, in percent of full scale: copies averaged, digital corrections added,
    without programming errors, drift and wires.

    Parameters
    ----------
    chip
        A die made with mitigations.
    layer
        Which of its layers; ``None`` for the first.
    tile
        Which tile of that layer; of copies, the first one's cells are drawn.
    ax
        Four axes of one figure to draw on: cells before and after, deviations before and after.

    Returns
    -------
    numpy.ndarray
        The four axes, shape ``(4,)``.

    Raises
    ------
    InputError
        If the die was made without mitigations, there is no such layer or tile, or `ax` are not four axes.
    """
    from matplotlib.figure import Figure

    from xbarsim.mapping import Arrangement
    from xbarsim.network.chip import Chip  # brings the engine, which whoever has a chip has loaded

    check_instance("chip", chip, Chip)
    done = chip.mitigations.tiles
    if not done:
        raise InputError("chip must be made with mitigations to be drawn before and after them, got none")
    layer = check_choice("layer", next(iter(chip.layers)) if layer is None else layer, chip.layers)
    after = chip.layers[layer]
    tiles = after.matrix.tiles // after.copies
    check_integer("tile", tile, at_least=0, at_most=tiles - 1)
    spare = [have - use for have, use in zip(after.faults.shape, after.matrix.levels.shape, strict=True)]
    plain_lines = Arrangement.identity(after.matrix.levels.shape, spare_rows=spare[1], spare_columns=spare[2])
    before = replace(after, levels=None, arrangement=plain_lines, copy_weights=None, correction=None)
    own = [row for row in done if (row.layer, row.tile) == (layer, tile)]
    noise = [error / own[0].signal if own[0].signal else 0.0 for error in (own[0].before, own[-1].after)]
    if ax is None:
        figure = Figure(figsize=(9.6, 8.2), layout="constrained", dpi=150)
        panels = list(figure.subplots(2, 2, sharey=True).reshape(-1))
        methods = ", ".join(dict.fromkeys(row.method for row in own))
        figure.suptitle(literal(f"{layer}, tile {tile} of {tiles}: {methods}"), fontsize=TEXT + 1)
    else:
        panels = these_axes(ax, "four")
    _draw_cells(panels[:2], (before, after), tile)
    full_scale = after.matrix.mapping.max_weight
    deviations = [100 * _deviations(each, tile) / full_scale for each in (before, after)]
    largest = max(float(np.abs(each).max(initial=0.0)) for each in deviations) or 1.0
    for axes, values, name, share in zip(panels[2:], deviations, ("before", "after"), noise, strict=True):
        image = axes.imshow(values, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="nearest", aspect="auto")
        axes.set_title(f"{name}: noise to signal {share:.2g}", fontsize=TEXT)
        axes.set_xlabel("output of the tile", fontsize=TEXT)
        axes.tick_params(labelsize=SMALL_TEXT)
    for axes in (panels[0], panels[2]):
        axes.set_ylabel("row of the tile (input)", fontsize=TEXT)
    bar = panels[2].figure.colorbar(image, ax=panels[2:], pad=0.015, aspect=28)
    bar.set_label("deviation of a weight (% of full scale)", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL_TEXT)
    describe(
        panels[0],
        "A tile of one die before and after repair: its cells with their faults, and how far its weights are off.",
    )
    return as_array(panels)


def _draw_cells(panels: Sequence[Axes], layers: Sequence[DieLayer], tile: int) -> None:
    """What the cells of a tile hold, those that are stuck marked, before and after."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("cells", ["#f7f2e6", "#cfc5a9", "#8f8674"]).with_extremes(bad="white")
    views = [layer.tile(tile) for layer in layers]
    top = layers[0].matrix.mapping.max_level
    for axes, view, name in zip(panels, views, ("before", "after"), strict=True):
        held = np.where(view.used, np.asarray(view.faulty, dtype=np.float64), np.nan)
        image = axes.imshow(held, cmap=shades, vmin=0, vmax=top, interpolation="nearest", aspect="auto")
        rows, columns = held.shape
        row, column = np.divmod(np.asarray(view.faults.index, dtype=np.int64), columns)
        matters = view.used[row, column]
        for kind, (colour, marker, label) in STUCK.items():
            here = (np.asarray(view.faults.kind) == kind) & matters
            if here.any():
                axes.scatter(
                    column[here], row[here], s=float(np.clip(900 / max(rows, columns), 5, 30)), c=colour,
                    marker=marker, linewidths=0, label=f"{here.sum()} {label}",
                )  # fmt: skip
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_title(f"{name}: {matters.sum()} of {view.used.sum():,} used cells stuck", fontsize=TEXT)
        axes.set_xlabel("column (output line)", fontsize=TEXT)
        axes.tick_params(labelsize=SMALL_TEXT)
        if matters.any():
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=SMALL_TEXT, frameon=False,
                handletextpad=0.1, handlelength=1.2, columnspacing=0.9, borderaxespad=0.0, borderpad=0.0,
            )  # fmt: skip
    bar = panels[0].figure.colorbar(image, ax=panels, pad=0.015, aspect=28)
    bar.set_label("level of a cell", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL_TEXT)


def _deviations(layer: DieLayer, tile: int) -> npt.NDArray[np.float64]:
    """How far the weights of a tile are off because of stuck cells and open lines, in codes; (rows, outputs)."""
    from xbarsim.mitigation import KnownLayer
    from xbarsim.mitigation.known import combine_copies

    matrix, faults = layer.matrix, layer.silicon.broken_cells
    known = KnownLayer.of(
        matrix,
        cell=layer.design.cell,
        faults=faults,
        spare_rows=faults.shape[1] - matrix.levels.shape[1],
        spare_columns=faults.shape[2] - matrix.levels.shape[2],
    )
    placed = layer.arrangement
    fits = [replace(fit, levels=levels) for fit, levels in zip(known.fits, layer.targets, strict=True)]
    if placed is not None:
        fits = [
            replace(fit, rows=placed.rows[number], columns=placed.columns[number], array=int(placed.arrays[number]))
            for number, fit in enumerate(fits)
        ]
    deviations = known.with_fits(tuple(fits)).deviations()
    if layer.correction is not None:
        added = np.zeros(matrix.shape)
        np.add.at(added, (layer.correction.inputs, layer.correction.outputs), layer.correction.values)
        by_tile = added[matrix.tile_rows[:, :, np.newaxis], matrix.tile_outputs[:, np.newaxis, :]]
        deviations = deviations + np.where(known.used_weights, by_tile, 0.0)
    return np.asarray(combine_copies(deviations, matrix, layer.copies, layer.copy_weights)[tile])


@entrance
def noise_to_signal(table: MitigationTable, *, ax: Axes | None = None) -> Axes:
    """Draw what stuck cells add to the outputs of each layer, as power over that of the outputs, before and after.

    Parameters
    ----------
    table
        From a die made with mitigations, :attr:`xbarsim.Chip.mitigations`.
    ax
        Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If the table is empty.
    """
    from xbarsim.mitigation import MitigationTable

    check_instance("table", table, MitigationTable)
    if not table.tiles:
        raise InputError("table must be of a die made with mitigations, got an empty one")
    first = {(row.layer, row.tile): row for row in reversed(table.tiles)}
    after = table.noise_to_signal()
    layers = list(after)
    before = []
    for layer in layers:
        rows = [row for (name, _), row in first.items() if name == layer]
        signal = sum(row.signal for row in rows)
        before.append(sum(row.before for row in rows) / signal if signal else 0.0)
    axes = new_axes(5.6, 1.3 + 0.42 * len(layers)) if ax is None else ax
    places = np.arange(len(layers))
    for index, (values, name) in enumerate(((before, "before"), ([after[layer] for layer in layers], "after"))):
        drawn = axes.barh(places + (index - 0.5) * 0.38, values, height=0.36, color=COLOURS[1 - index], label=name)
        axes.bar_label(drawn, [f"{value:.2g}" for value in values], padding=2, fontsize=SMALL_TEXT - 1)
    axes.set_yticks(places, [literal(layer) for layer in layers])
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_xlim(0, 1.15 * max(*before, *after.values(), 1e-9))
    axes.set_xlabel("noise to signal (power of the outputs)", fontsize=TEXT)
    plain(axes)
    axes.grid(visible=False, axis="y")
    axes.legend(
        fontsize=SMALL_TEXT, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2
    )
    describe(
        axes,
        "What stuck cells add to the outputs of each layer, as power over theirs, before and after repair.",
    )
    return axes
