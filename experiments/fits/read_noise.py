"""Take the read noise of five measured cells apart by the spectra of their reads; print what was found, draw it.

Run as ``python -m xbarsim.experiments.fits.read_noise [--data DIR]``. The reads are those of technology A of A. Levy's
RRAM-Relaxation-Master-Model: five cells, each read 100,000 times at 400 Hz. Each goes through the same door as
anybody's measurements, :func:`xbarsim.devices.fit_cell`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from xbarsim.data import data_folder
from xbarsim.devices import NoiseParts, Readings, fit_cell
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import FileFormatError
from xbarsim.plot import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["measure", "picture", "read"]

_PICTURE = FIGURES / "read_noise.png"
_TWO_SIDED = 1.96


def read(folder: Path, *, reads: int | None = None) -> Readings:
    """The reads of the five cells.

    Parameters
    ----------
    folder
        The data folder.
    reads
        The first so many of each cell; ``None`` for all.

    Raises
    ------
    FileNotFoundError
        If the folder does not hold the measurements.
    FileFormatError
        If the file does not hold what it should.
    """
    path = folder / "rram" / "noise_techA_timeseries.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            conductance, rate = archive["g_S"].astype(float), float(archive["fs_hz"])
    except (KeyError, ValueError) as error:
        raise FileFormatError(f"{path} does not hold reads of cells in time: {error}") from error
    if conductance.ndim != 2 or not rate > 0:
        raise FileFormatError(f"{path} must hold reads of several cells at a rate, got shape {conductance.shape}")
    conductance = conductance[:, :reads]
    cells, count = conductance.shape
    return Readings(
        conductance=conductance.ravel(),
        cell=np.repeat(np.arange(cells), count),
        time=np.tile(np.arange(1, count + 1) / rate, cells),
        source="rram/noise_techA_timeseries.npz (data/techA/tsdata.min.tsv.gz)",
    )


def measure(readings: Readings) -> NoiseParts:
    """The parts of the noise.

    Raises
    ------
    FileFormatError
        If it cannot be taken apart.
    """
    parts = fit_cell(readings, name="levy2021_a", levels=2).noise_parts  # how many levels changes nothing here
    if isinstance(parts, str):
        raise FileFormatError(f"{readings.source}: {parts}")
    return parts


def picture(parts: NoiseParts) -> Figure:
    """Spectral density of each cell, relative to its conductance, times frequency: flat where it is 1/f noise."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * len(parts.series), 3.4), layout="constrained", dpi=90)
    panels: Any = figure.subplots(1, len(parts.series), sharex=True, squeeze=False)[0]
    for axes, one in zip(panels, parts.series, strict=True):
        square = one.conductance**2
        scaled = one.frequency * one.density / square
        number = np.maximum(np.diff(np.append(one.frequency, one.band[1])) * one.reads * one.interval, 1.0)
        # the mean of n exponentially distributed values, n less for a Hann window
        half = _TWO_SIDED * scaled / np.sqrt(np.maximum(number / 1.944, 1.0))
        low = np.maximum(scaled - half, scaled / 20)
        axes.fill_between(one.frequency, low, scaled + half, alpha=0.2, color="C0", linewidth=0, label="95 %")
        axes.plot(one.frequency, scaled, "o", markersize=3, color="C0", label="measured")
        axes.plot(one.frequency, one.frequency * one.law / square, color="black", label="law")
        axes.set_xscale("log")
        axes.set_yscale("log")
        said = ", ".join(f"{name} {100 * np.sqrt(part / square):.2g} %" for name, part in one.variances.items() if part)
        axes.set_title(f"{one.conductance * 1e6:.3g} µS\n{said}", fontsize=8)
        axes.set_xlabel("frequency (Hz)")
        axes.grid(color="0.92", linewidth=0.6)
    panels[0].set_ylabel("density times frequency / g²")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def main(
    data: Annotated[Path | None, typer.Option(help="The data folder; by default XBARSIM_DATA, or shared/data.")] = None,
) -> None:
    """Measure, print, draw."""
    parts = measure(read(data_folder() if data is None else data))
    typer.echo(format_table(("quantity", "value", "unit", "origin", "rests on"), parts.rows(), left=5))
    save_figure(picture(parts), _PICTURE)
    typer.echo(f"wrote {_PICTURE}")


if __name__ == "__main__":
    typer.run(main)
