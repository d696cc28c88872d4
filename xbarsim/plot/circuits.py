"""Pictures of the circuit of one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.plot.style import SMALL_TEXT, TEXT, as_array, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xbarsim.circuit import Solution

__all__ = ["circuit"]


@entrance
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
    from xbarsim.circuit import Solution

    check_instance("solution", solution, Solution)
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
        axes.set_title(name, fontsize=TEXT)
        axes.set_xlabel("column (bit line)", fontsize=TEXT)
        axes.tick_params(labelsize=SMALL_TEXT)
        bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
        bar.set_label(unit, fontsize=SMALL_TEXT)
        bar.ax.tick_params(labelsize=SMALL_TEXT)
    panels[0].set_ylabel("row (word line)", fontsize=TEXT)
    describe(
        panels[0],
        "One array: voltages along its word and bit lines, and the current of every cell.",
    )
    return as_array(panels)
