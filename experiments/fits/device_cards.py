"""Fit the programming error of two measured RRAM technologies; write their device cards and the picture.

Run as ``python -m xbarsim.experiments.fits.device_cards [--data DIR]``. The measurements are the relaxation
data of A. Levy's RRAM-Relaxation-Master-Model: about 16,000 cells of each of two anonymous technologies, each
programmed into one of 32 equal ranges of conductance, then read several times.

The error of a cell is its conductance 1 s after programming minus the centre of the range that its first read
fell into. It holds the width of the range (standard deviation ``full_scale / 32 / sqrt(12)``) and the
relaxation since. Bias and spread of the error are fitted against the centre of the range by :func:`fit_cell`, as those
of anybody's measurements are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from xbarsim.data import data_folder
from xbarsim.devices import Card, CellFit, ErrorEstimate, Readings, fit_cell
from xbarsim.devices import card as shipped
from xbarsim.experiments.folders import DEVICE_CARDS, FIGURES
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FULL_SCALE", "fit", "measure", "picture", "read"]

FULL_SCALE = {"B": 128e-6, "C": 40e-6}
"""The conductance that the 32 ranges of each technology divide, S, from the settings beside the data."""

_RANGES = 32
_TIME = 1.0  # s after programming: every cell was read then, as few were later
_PICTURE = FIGURES / "device_fits.png"
_SOURCE = (
    "A. Levy, RRAM-Relaxation-Master-Model, github.com/akashlevy/RRAM-Relaxation-Master-Model (2021), commit "
    "ca0cfff655a7392dc8955585f7345303b3cffde8, MIT licence. No publication of these measurements was found, "
    "so there is no DOI (not verified)."
)


def read(folder: Path, technology: str) -> Readings:
    """The readings of one technology 1 s after programming, each with the centre of the range of its first read.

    Parameters
    ----------
    folder
        The data folder.
    technology
        ``"B"`` or ``"C"``.

    Raises
    ------
    FileNotFoundError
        If the folder does not hold the measurements.
    FileFormatError
        If the file does not hold what it should.
    """
    path = folder / "rram" / f"relax_tech{technology}.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            conductance, first, time = (archive[name].astype(float) for name in ("g_S", "gi_S", "timept_s"))
    except (KeyError, ValueError) as error:
        raise FileFormatError(f"{path} does not hold the relaxation data: {error}") from error
    now = time == _TIME
    width = FULL_SCALE[technology] / _RANGES
    which = np.floor(first[now] / width)
    inside = (which >= 0) & (which < _RANGES)
    fewest = int(np.bincount(which[inside].astype(int), minlength=_RANGES).min())
    if fewest < 100:
        raise FileFormatError(f"{path} must hold at least 100 cells in each range, got {fewest}")
    return Readings(
        conductance=conductance[now],
        target=np.where(inside, (which + 0.5) * width, np.nan),
        time=time[now],
        source=f"rram/relax_tech{technology}.npz (data/tech{technology}/relaxdata.min.tsv.gz)",
    )


def measure(folder: Path, technology: str) -> CellFit:
    """The cell fitted to one technology; parameters and errors as of :func:`read`."""
    return fit_cell(read(folder, technology), name=f"levy2021_{technology.lower()}", scale=FULL_SCALE[technology])


def fit(measured: CellFit) -> Card:
    """The device card of a measured technology: as fitted, with notes on what was measured."""
    technology = measured.cell.name[-1].upper()
    card = measured.card(
        source=_SOURCE,
        description=f"RRAM, anonymous technology {technology}, {_TIME:g} s after programming; fitted by us",
    )
    width = FULL_SCALE[technology] / _RANGES
    error, target = card.programming_error, measured.readings.target
    assert error is not None
    assert error.fit is not None
    assert target is not None
    left_out = int(np.isnan(target).sum())
    return replace(
        card,
        g_min=replace(card.g_min, note="Centre of the lowest range programmed."),
        g_max=replace(card.g_max, note="Centre of the highest range programmed."),
        levels=replace(card.levels, note=f"The cells were programmed into {_RANGES} ranges of {width * 1e6:g} uS."),
        programming_error=replace(
            error,
            note=(
                f"Conductance {_TIME:g} s after programming minus the centre of the range of the first read, "
                f"of {error.fit.cells} cells; {left_out} more, first read outside all, are left out. "
                f"Holds the width of the range, a standard deviation of {width * 1e6 / np.sqrt(12):.3g} uS. "
                "The measured error has heavier tails than the normal law, and grows with time. "
                "Order of the polynomials by the Bayesian information criterion."
            ),
        ),
    )


def picture(measurements: list[CellFit], cards: list[Card]) -> Figure:
    """Measured spread and bias with 95 % confidence bands, and the fits over them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes: Any = figure.subplots(2, len(cards), sharex="col", squeeze=False)
    for column, (measured, card) in enumerate(zip(measurements, cards, strict=True)):
        error = card.programming_error
        assert error is not None
        assert error.value.bias is not None
        assert error.fit is not None
        estimate = measured.error
        assert isinstance(estimate, ErrorEstimate)
        target = estimate.spread.conductance * 1e6
        fine = np.linspace(error.value.valid_from, error.value.valid_to, 400)
        rows = (
            ("spread", estimate.spread, error.value.spread, error.fit.spread_residual),
            ("bias", estimate.bias, error.value.bias, error.fit.bias_residual),
        )
        for row, (name, law, polynomial, residual) in enumerate(rows):
            value, uncertainty = law.value, law.error
            ax = axes[row, column]
            low, high = (value - 1.96 * uncertainty) * 1e6, (value + 1.96 * uncertainty) * 1e6
            ax.fill_between(target, low, high, alpha=0.25, linewidth=0, label="95 % confidence")
            ax.plot(target, value * 1e6, "o", markersize=4, label="measured, per level")
            order = len(polynomial.coefficients) - 1
            ax.plot(
                fine * 1e6,
                polynomial(fine) * 1e6,
                color="black",
                label=f"fit of order {order} (residual {residual * 1e6:.2f} µS)",
            )
            if name == "bias":
                ax.axhline(0.0, color="grey", linewidth=0.6)
            ax.set_ylabel(f"{'standard deviation' if name == 'spread' else 'bias'} of the error (µS)")
            ax.legend(frameon=False, fontsize=8)
        axes[0, column].set_title(
            f"Technology {card.name[-1].upper()} ({card.name})\n{error.fit.cells} cells, "
            f"{error.fit.time_s:g} s after programming",
            fontsize=10,
        )
        axes[1, column].set_xlabel("target conductance (µS)")
    return figure


def main(
    data: Annotated[Path | None, typer.Option(help="The data folder; by default XBARSIM_DATA, or shared/data.")] = None,
) -> None:
    """Fit again; rewrite the two cards, bar their drift, and the picture."""
    folder = data_folder() if data is None else data
    measurements = [measure(folder, technology) for technology in FULL_SCALE]
    cards = [fit(measurement) for measurement in measurements]
    for card in cards:
        tomlio.save(replace(card, drift=shipped(card.name).drift), DEVICE_CARDS / f"{card.name}.toml")
        typer.echo(f"wrote {card.name}: {card.values()['programming_error']}")
    _PICTURE.parent.mkdir(exist_ok=True)
    picture(measurements, cards).savefig(_PICTURE, dpi=120)


if __name__ == "__main__":
    typer.run(main)
