"""Pictures of cells: what was fitted to measurements, and what a device card says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarsim.devices import Card, CellFit, ErrorEstimate, Law, MeasuredDrift, QuantileEstimate
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance
from xbarsim.plot.style import COLOURS, SMALL_TEXT, TEXT, as_array, describe, legend, literal, plain, these_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cell_card", "cell_fit"]

_TWO_SIDED = 1.96  # standard errors that hold 95 % of a normal law
_MOST_LEVELS = 16  # drawn with their errors; of more, some
_TIMES = 60
_WIDTH = 40  # characters of a line that says why there is nothing


def _four_panels(ax: Any, title: str) -> list[Any]:
    """The four axes that were given, or those of a new figure with a title."""
    if ax is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 7.2), layout="constrained", dpi=150)
        panels: list[Any] = list(figure.subplots(2, 2).reshape(-1))
        figure.suptitle(title, fontsize=TEXT)
    else:
        panels = these_axes(ax, "four")
    for panel in panels:
        plain(panel)
    return panels


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
    panels = _four_panels(ax, f"{fit.cell.name}: points measured, with 95 % intervals; lines fitted")
    _levels(panels[0], fit)
    _error(panels[1], fit)
    _noise(panels[2], fit)
    _drift(panels[3], fit)
    describe(panels[0], "Measurements (points, with 95 % intervals) and the laws of the cell that was fitted to them.")
    return as_array(panels)


def _nothing(axes: Axes, why: str, *, said: str = "not fitted: ") -> None:
    import textwrap

    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, "\n".join(textwrap.wrap(said + why, _WIDTH)), transform=axes.transAxes,
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


@entrance
def cell_card(card: Card, *, ax: Sequence[Axes] | None = None) -> npt.NDArray[Any]:
    """Draw what a device card says: levels, programming error, read noise by mechanism, drift.

    Lines and bands are the card's laws, with one standard deviation. A panel of which the card says nothing says so.

    Parameters
    ----------
    card
        From :func:`xbarsim.devices.card`.
    ax
        Four axes to draw on.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        Shape ``(4,)``.
    """
    check_instance("card", card, Card)
    panels = _four_panels(ax, literal(card.name))
    _card_levels(panels[0], card)
    _card_error(panels[1], card)
    _card_noise(panels[2], card)
    _card_drift(panels[3], card)
    describe(
        panels[0],
        "Levels, programming error, read noise and drift of a cell, with bands of one standard deviation.",
    )
    return as_array(panels)


def _unit(card: Card) -> tuple[float, str]:
    """What conductances of a card are shown in."""
    return (1e6, "µS") if card.cell().g_max >= 1e-6 else (1e9, "nS")


def _card_levels(axes: Axes, card: Card) -> None:
    from matplotlib.ticker import MaxNLocator

    cell, (factor, unit) = card.cell(), _unit(card)
    shown = np.unique(np.linspace(0, cell.levels - 1, min(cell.levels, _MOST_LEVELS)).round()).astype(int)
    target = cell.g_min + shown * (cell.g_max - cell.g_min) / (cell.levels - 1)
    some = "" if len(shown) == cell.levels else f", {len(shown)} drawn"
    axes.set_title(f"range and levels ({cell.levels}, {card.levels.origin}{some})", fontsize=TEXT)
    axes.set_xlabel("level", fontsize=TEXT)
    axes.set_ylabel(f"conductance ({unit})", fontsize=TEXT)
    if cell.programming_error is None:
        axes.plot(shown, target * factor, "o", markersize=4, color=COLOURS[0], label="programmed exactly")
    else:
        law = cell.programming_error
        mean = target if law.bias is None else target + law.bias(target)
        axes.errorbar(shown, mean * factor, law.spread(target) * factor, fmt="o", markersize=4, capsize=2,
                      color=COLOURS[0], label="mean, one standard deviation")  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    legend(axes, loc="upper left")


def _card_error(axes: Axes, card: Card) -> None:
    factor, unit = _unit(card)
    axes.set_xlabel(f"target conductance ({unit})", fontsize=TEXT)
    axes.set_ylabel(f"conductance minus target ({unit})", fontsize=TEXT)
    if card.programming_error is None:
        axes.set_title("programming error", fontsize=TEXT)
        _nothing(axes, "none: the card's cells are exact", said="")
        return
    value = card.programming_error
    axes.set_title(f"programming error ({value.origin})", fontsize=TEXT)
    g = np.linspace(float(card.g_min.value), float(card.g_max.value), 300)
    axes.plot(g * factor, value.value.spread(g) * factor, color=COLOURS[0], label="standard deviation")
    if value.value.bias is not None:
        axes.plot(g * factor, value.value.bias(g) * factor, "--", color=COLOURS[1], label="mean")
        axes.axhline(0.0, color="0.45", linewidth=0.8)
    else:
        axes.set_ylim(bottom=0)
    legend(axes)


def _card_noise(axes: Axes, card: Card) -> None:
    factor, unit = _unit(card)
    axes.set_xlabel(f"conductance ({unit})", fontsize=TEXT)
    axes.set_ylabel(f"standard deviation ({unit})", fontsize=TEXT)
    if card.read_noise is None:
        axes.set_title("noise of one read", fontsize=TEXT)
        _nothing(axes, "none: every read of a cell is the same", said="")
        return
    axes.set_title(f"noise of one read ({card.read_noise.origin})", fontsize=TEXT)
    cell, noise = card.cell(), card.read_noise.value
    g = np.linspace(cell.g_min, cell.g_max, 300)
    for index, term in enumerate(noise.terms):
        spread = np.sqrt(term.variance(g, cell.read_voltage)(1))
        axes.plot(g * factor, spread * factor, color=COLOURS[index], linestyle=("-", "--", "-.", ":")[index % 4],
                  label=_MECHANISMS.get(type(term).__name__, type(term).__name__))  # fmt: skip
    if len(noise.terms) > 1:
        whole = np.sqrt(noise.variance(g, cell.read_voltage)(1))
        axes.plot(g * factor, whole * factor, color="0.2", linewidth=2, label="sum")
    axes.set_ylim(bottom=0)
    legend(axes)


_MECHANISMS = {
    "FlickerNoise": "1/f", "ReadNoise": "all together", "ShotNoise": "shot", "TelegraphNoise": "telegraph",
    "ThermalNoise": "thermal",
}  # fmt: skip


def _card_drift(axes: Axes, card: Card) -> None:
    factor, unit = _unit(card)
    axes.set_xlabel("time after programming (s)", fontsize=TEXT)
    if card.drift is None:
        axes.set_title("drift", fontsize=TEXT)
        axes.set_ylabel(f"change ({unit})", fontsize=TEXT)
        _nothing(axes, "none: a die of it has no age", said="")
        return
    cell, law = card.cell(), card.drift.value
    axes.set_title(f"drift ({card.drift.origin})", fontsize=TEXT)
    what = "conductance minus target" if law.needs_programming else "change"
    axes.set_ylabel(f"{what} ({unit})", fontsize=TEXT)
    some = np.array([cell.g_min, (cell.g_min + cell.g_max) / 2, cell.g_max])
    first = law.reference_time / 10
    if isinstance(law, MeasuredDrift):  # where it was measured: its own targets, from its first step on
        nodes = np.asarray(law.target)
        some = nodes[np.unique(np.abs(nodes[:, np.newaxis] - some).argmin(axis=0))]
        first = law.steps[0].seconds
    seconds = np.clip(np.geomspace(first, law.longest, _TIMES), first, law.longest)
    moments = np.array([law.moments(some, float(second)) for second in seconds])
    if isinstance(law, MeasuredDrift) and cell.programming_error is not None:  # and the error it starts from
        error = cell.programming_error
        bias = np.zeros(some.shape) if error.bias is None else error.bias(some)
        moments = np.concatenate([[[bias, error.spread(some)]], moments])
        seconds = np.append(0.0, seconds)
    for index, g in enumerate(some):
        mean, spread = moments[:, 0, index] * factor, moments[:, 1, index] * factor
        colour = COLOURS[index]
        axes.fill_between(seconds + law.reference_time, mean - spread, mean + spread, color=colour, alpha=0.18, lw=0)
        axes.plot(seconds + law.reference_time, mean, color=colour, linestyle=("-", "--", "-.")[index],
                  label=f"{g * factor:.3g} {unit}")  # fmt: skip
    axes.set_xscale("log")
    axes.axhline(0.0, color="0.45", linewidth=0.8)
    legend(axes, title="mean, one standard deviation", title_fontsize=SMALL_TEXT)
