"""Write the tables of ``docs/devices.md`` from the cards, and draw one picture a card.

Run as ``python -m xbarsim.experiments.fits.card_support [--data DIR]``. The tables stand between markers of the page;
what is around them is written by hand. Where the measurements that a card was fitted to are in the data folder, they
are drawn into its picture as points, with 95 % intervals; the other cards hold laws that their sources state, of data
that are not at hand, and their pictures show these laws alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from xbarsim.data import data_folder
from xbarsim.design import design_card, design_names
from xbarsim.devices import ErrorEstimate, MeasuredDrift, card, card_support, cell_names, fault_preset, preset_names
from xbarsim.devices.faults import StuckFaults
from xbarsim.experiments.fits import device_cards, drift_cards
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.validation import InputError, write_atomically
from xbarsim.plot import cell_card, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "page", "picture", "tables"]

PICTURES = FIGURES / "cards"
"""One picture a card."""

_DPI = 70
_COLOURS = ("#0072B2", "#D55E00", "#009E73")  # those of the lines of the picture
_TWO_SIDED = 1.96  # standard errors that hold 95 % of a normal law
_BEGIN, _END = "<!-- {} begin: written by experiments/fits/card_support.py -->", "<!-- {} end -->"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(field).replace("|", "/") for field in line) + " |" for line in lines)


def _cells() -> str:
    rows = []
    for each in card_support():
        low, high = (f"{1e6 * g:.4g}" for g in (each.g_min, each.g_max))
        beside = [*(f"faults `{name}`" for name in each.faults), *(f"write `{name}`" for name in each.writes)]
        shown = f"[{each.name}](../experiments/figures/cards/{each.name}.png)"
        rows.append((shown, f"{low} to {high}", each.levels, each.programming_error or "-", each.read_noise or "-",
                     each.drift or "-", ", ".join(beside) or "-", "; ".join(each.origins)))  # fmt: skip
    header = ("card", "range (uS)", "levels", "programming error", "read noise", "drift", "of the same source",
              "what is from where")  # fmt: skip
    return _table(header, rows)


def _sources() -> str:
    return "\n".join(f"- **{each.name}**: {each.source}" for each in card_support())


def _faults() -> str:
    rows = []
    for name in preset_names():
        found = fault_preset(name)
        model = found.faults
        shares = (f"{100 * model.on:.4g}", f"{100 * model.off:.4g}") if isinstance(model, StuckFaults) else ("", "")
        rows.append((name, type(model).__name__, *shares, found.origin))
    return _table(("statistics", "model", "stuck on (%)", "stuck off (%)", "origin"), rows)


def _designs() -> str:
    rows = []
    for name in design_names():
        found = design_card(name)
        mapping, periphery = found.design.mapping, found.design.periphery
        bits = "lossless" if periphery.adc_bits is None else periphery.adc_bits
        assumed = sorted({p for value in found.values if value.origin == "assumed" for p in value.parameters})
        array = f"{mapping.rows} x {mapping.columns}"
        inputs = f"{periphery.input_bits}, {periphery.dac_bits} a read"
        weights = f"{mapping.weight_bits} in {mapping.cell_bits}"
        encoding, costed = type(mapping.encoding).__name__, found.hardware or "-"
        rows.append((name, found.design.cell.name, encoding, array, weights, inputs, bits, costed, ", ".join(assumed)))
    header = ("design", "cell", "encoding", "array", "bits of weight in cell", "bits of input", "bits of converter",
              "component card", "assumed by us")  # fmt: skip
    return _table(header, rows)


def tables() -> dict[str, str]:
    """The tables of the page, by the names of their markers."""
    return {"cells": _cells(), "sources": _sources(), "faults": _faults(), "designs": _designs()}


def page(text: str) -> str:
    """The page with its tables made anew.

    Raises
    ------
    InputError
        If a marker is missing.
    """
    for name, table in tables().items():
        begin, end = _BEGIN.format(name), _END.format(name)
        if text.count(begin) != 1 or text.count(end) != 1:
            raise InputError(f"text must hold the markers of {name!r} once each, got {text.count(begin)} and "
                             f"{text.count(end)}")  # fmt: skip
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return text


def picture(name: str, data: Path | None) -> Figure:
    """The picture of a card, with the measurements it was fitted to where they are in the data folder.

    Parameters
    ----------
    name
        Of the card.
    data
        The data folder, or ``None`` to draw the card's laws alone.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 7.2), layout="constrained", dpi=_DPI)
    axes = cell_card(card(name), ax=list(figure.subplots(2, 2).reshape(-1)))
    technology = name.partition("levy2021_")[2].upper()
    measured = bool(technology) and data is not None
    if measured:
        assert data is not None
        _points_of_error(axes, device_cards.measure(data, technology))
        _points_of_drift(axes, drift_cards.measure(data, technology))
    says = "lines: the card; points: measured, 95 % intervals" if measured else "the laws that the card holds"
    figure.suptitle(f"{name}: {says}", fontsize=10)
    return figure


def _points_of_error(axes: Any, fit: Any) -> None:
    assert isinstance(fit.error, ErrorEstimate)
    for index, law in enumerate((fit.error.spread, fit.error.bias)):
        axes[1].errorbar(law.conductance * 1e6, law.value * 1e6, _TWO_SIDED * law.error * 1e6, fmt="os"[index],
                         markersize=3, capsize=2, linestyle="none", color=_COLOURS[index], alpha=0.7)  # fmt: skip


def _points_of_drift(axes: Any, relaxation: drift_cards.Relaxation) -> None:
    """Mean errors of the groups of cells next to the three conductances that the picture has laws of."""
    which, trajectories = drift_cards.groups(relaxation), relaxation.trajectories
    found = card(f"levy2021_{relaxation.technology.lower()}")
    assert found.drift is not None
    assert isinstance(found.drift.value, MeasuredDrift)
    nodes, cell = np.asarray(found.drift.value.target), found.cell()
    for index, g in enumerate((cell.g_min, (cell.g_min + cell.g_max) / 2, cell.g_max)):
        near = which == int(np.abs(nodes - g).argmin())  # targets of the law are those of the groups
        error = trajectories.error[near] * 1e6
        count = np.isfinite(error).sum(axis=0)
        mean, spread = np.nanmean(error, axis=0), np.nanstd(error, axis=0, ddof=1)
        axes[3].errorbar(relaxation.seconds + 1.0, mean, _TWO_SIDED * spread / np.sqrt(count), fmt="os^"[index],
                         markersize=5, capsize=3, linestyle="none",
                         color=_COLOURS[index])  # fmt: skip


def main(
    data: Annotated[Path | None, typer.Option(help="The data folder; by default XBARSIM_DATA, or shared/data.")] = None,
    document: Annotated[Path, typer.Option(help="The page.")] = FIGURES.parents[1] / "docs" / "devices.md",
) -> None:
    """Write the tables and the pictures."""
    write_atomically(document, page(document.read_text(encoding="utf-8")).encode("utf-8"))
    typer.echo(f"wrote {document}")
    try:
        folder: Path | None = data_folder() if data is None else data
    except FileNotFoundError as error:
        typer.echo(f"measurements are not drawn: {error}")
        folder = None
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in cell_names():
        save_figure(picture(name, folder), PICTURES / f"{name}.png")
    typer.echo(f"wrote {len(cell_names())} pictures to {PICTURES}")


if __name__ == "__main__":
    typer.run(main)
