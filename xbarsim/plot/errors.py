"""Pictures of the errors that a die's layers make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.plot.style import COLOURS, SMALL_TEXT, TEXT, describe, literal, new_axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xbarsim.network import ErrorReport

__all__ = ["layer_errors"]


@entrance
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
    axes = new_axes(5.2, 1.2 + 0.42 * len(layers)) if ax is None else ax
    places = np.arange(len(layers))
    for index, (values, name) in enumerate(
        (
            ([error.own for error in layers], "added by the layer"),
            ([error.total for error in layers], "so far"),
        )
    ):
        axes.barh(places + (index - 0.5) * 0.38, values, height=0.36, color=COLOURS[index], label=name)
    axes.set_yticks(places, [literal(error.layer) for error in layers])
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("root mean square error / digital output", fontsize=TEXT)
    plain(axes)
    axes.grid(visible=False, axis="y")
    axes.legend(
        fontsize=SMALL_TEXT,
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        borderaxespad=0.2,
    )
    describe(axes, "The error that each layer of a chip adds, and the error so far.")
    return axes
