"""Pictures of what was fitted to measured cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarsim.devices import CellFit, ErrorEstimate, Law, QuantileEstimate
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance
from xbarsim.plot.style import COLOURS, SMALL_TEXT, TEXT, as_array, legend, plain, these_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cell_fit"]

_TWO_SIDED = 1.96  # standard errors that hold 95 % of a normal law
_WIDTH = 40  # characters of a line that says why there is nothing


@entrance
def cell_fit(fit: CellFit, *, ax: Sequence[Axes] | None = None) -> npt.NDArray[Any]:
    """Draw what a fit found beside what was measured: levels, programming error, read noise, drift.

    Points are measured, with 95 % intervals; lines are the laws of the cell. A panel of which the data say nothing says
    why.

    Parameters
    ----------
    fit
        From :func:`xbarsim.devices.fit_cell`.
    ax
        Four axes to draw on.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        Shape ``(4,)``.
    """
    check_instance("fit", fit, CellFit)
    if ax is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 7.2), layout="constrained", dpi=150)
        panels: list[Any] = list(figure.subplots(2, 2).reshape(-1))
        figure.suptitle(f"{fit.cell.name}: points measured, with 95 % intervals; lines fitted", fontsize=TEXT)
    else:
        panels = these_axes(ax, "four")
    for panel in panels:
        plain(panel)
    _levels(panels[0], fit)
    _error(panels[1], fit)
    _noise(panels[2], fit)
    _drift(panels[3], fit)
    return as_array(panels)


def _nothing(axes: Axes, why: str) -> None:
    import textwrap

    axes.text(0.5, 0.5, "\n".join(textwrap.wrap(f"not fitted: {why}", _WIDTH)), transform=axes.transAxes,
              ha="center", va="center", fontsize=SMALL_TEXT, color="0.35")  # fmt: skip


def _levels(axes: Axes, fit: CellFit) -> None:
    axes.set_title("levels", fontsize=TEXT)
    axes.set_xlabel("target conductance (µS)", fontsize=TEXT)
    axes.set_ylabel("conductance (µS)", fontsize=TEXT)
    if not fit.target.size:
        low, high = fit.cell.g_min * 1e6, fit.cell.g_max * 1e6
        _nothing(axes, f"no targets; the readings reach from {low:.4g} to {high:.4g} µS")
        return
    ends = [fit.cell.g_min * 1e6, fit.cell.g_max * 1e6]
    axes.plot(ends, ends, color="0.45", linewidth=1, label="as programmed")
    axes.errorbar(fit.target * 1e6, fit.measured * 1e6, np.nan_to_num(fit.spread) * 1e6, fmt="o", markersize=4,
                  capsize=2, color=COLOURS[0], label="mean, one standard deviation")  # fmt: skip
    legend(axes, loc="upper left")


def _law(axes: Axes, law: Law, fit: CellFit, index: int, name: str) -> None:
    """Measured points with their intervals, and the law over the cell's range."""
    axes.errorbar(law.conductance * 1e6, law.value * 1e6, _TWO_SIDED * law.error * 1e6, fmt="os^"[index], markersize=4,
                  capsize=2, linestyle="none", color=COLOURS[index])  # fmt: skip
    fine = np.linspace(fit.cell.g_min, fit.cell.g_max, 300)
    axes.plot(fine * 1e6, law.polynomial(fine) * 1e6, color=COLOURS[index], linestyle=("-", "--", "-.")[index],
              label=f"{name}, order {law.order}")  # fmt: skip


def _error(axes: Axes, fit: CellFit) -> None:
    when = "" if fit.reference_time is None else f", {fit.reference_time:g} s after programming"
    axes.set_title(f"programming error{when}", fontsize=TEXT)
    axes.set_xlabel("target conductance (µS)", fontsize=TEXT)
    axes.set_ylabel("conductance minus target (µS)", fontsize=TEXT)
    if not isinstance(fit.error, ErrorEstimate):
        _nothing(axes, fit.error)
        return
    _law(axes, fit.error.spread, fit, 0, "standard deviation")
    _law(axes, fit.error.bias, fit, 1, "mean")
    axes.axhline(0.0, color="0.45", linewidth=0.8)
    legend(axes)


def _noise(axes: Axes, fit: CellFit) -> None:
    axes.set_title("noise of one read", fontsize=TEXT)
    axes.set_xlabel("conductance (µS)", fontsize=TEXT)
    axes.set_ylabel("standard deviation (µS)", fontsize=TEXT)
    if not isinstance(fit.noise, Law):
        _nothing(axes, fit.noise)
        return
    _law(axes, fit.noise, fit, 0, "standard deviation")
    axes.set_ylim(bottom=0)
    legend(axes)


def _drift(axes: Axes, fit: CellFit) -> None:
    axes.set_xlabel("time after programming (s)", fontsize=TEXT)
    drift = fit.drift
    what = "conductance minus target" if isinstance(drift, QuantileEstimate) else "change"
    axes.set_ylabel(f"{what}, all cells (µS)", fontsize=TEXT)
    if isinstance(drift, str):
        axes.set_title("drift", fontsize=TEXT)
        _nothing(axes, drift)
        return
    axes.set_title(f"drift since {drift.reference_time:.3g} s", fontsize=TEXT)
    for index, (name, value, error, law) in enumerate((
        ("standard deviation", drift.deviation, drift.deviation_error, drift.deviation_law),
        ("mean", drift.mean, drift.mean_error, drift.mean_law),
    )):  # fmt: skip
        axes.errorbar(drift.seconds, value * 1e6, _TWO_SIDED * error * 1e6, fmt="os"[index], markersize=4, capsize=2,
                      linestyle="none", color=COLOURS[index])  # fmt: skip
        axes.plot(drift.seconds, law * 1e6, color=COLOURS[index], linestyle=("-", "--")[index], label=name)
    axes.set_xscale("log")
    axes.axhline(0.0, color="0.45", linewidth=0.8)
    legend(axes)
