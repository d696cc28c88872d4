"""Fit the programming error of two measured RRAM technologies; write their device cards and the picture.

Run as ``python -m xbarsim.experiments.fits.device_cards [--data DIR]``. The measurements are the relaxation
data of A. Levy's RRAM-Relaxation-Master-Model: about 16,000 cells of each of two anonymous technologies, each
programmed into one of 32 equal ranges of conductance, then read several times.

The error of a cell is its conductance 1 s after programming minus the centre of the range that its first read
fell into. It holds the width of the range (standard deviation ``full_scale / 32 / sqrt(12)``) and the
relaxation since. Bias and spread of the error are fitted against the centre of the range by polynomials.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from xbarsim.data import data_folder
from xbarsim.devices import Card, CardValue, Fit, Polynomial, ProgrammingError, ProgrammingErrorValue
from xbarsim.devices import card as shipped
from xbarsim.experiments.folders import DEVICE_CARDS, FIGURES
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FULL_SCALE", "Measurement", "fit", "measure", "picture"]

FULL_SCALE = {"B": 128e-6, "C": 40e-6}
"""The conductance that the 32 ranges of each technology divide, S, from the settings beside the data."""

_RANGES = 32
_TIME = 1.0  # s after programming: every cell was read then, as few were later
_HIGHEST_ORDER = 8
_PICTURE = FIGURES / "device_fits.png"
_SOURCE = (
    "A. Levy, RRAM-Relaxation-Master-Model, github.com/akashlevy/RRAM-Relaxation-Master-Model (2021), commit "
    "ca0cfff655a7392dc8955585f7345303b3cffde8, MIT licence. No publication of these measurements was found, "
    "so there is no DOI (not verified)."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """The programming error of one technology, range by range; every array is float64 (32,).

    Attributes
    ----------
    technology
        ``"B"`` or ``"C"``.
    target
        Centre of each range of conductance, S.
    cells
        Number of cells whose first read fell into it.
    left_out
        Number of cells whose first read fell into none.
    bias, bias_error
        Mean error and its standard error, S.
    spread, spread_error
        Standard deviation of the error and its standard error (from the fourth moment), S.
    """

    technology: str
    target: npt.NDArray[np.float64]
    cells: npt.NDArray[np.float64]
    left_out: int
    bias: npt.NDArray[np.float64]
    bias_error: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    spread_error: npt.NDArray[np.float64]


def measure(folder: Path, technology: str) -> Measurement:
    """Bias and spread of one technology, 1 s after programming.

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
    which = np.floor(first[now] / width).astype(int)
    target = (np.arange(_RANGES, dtype=np.float64) + 0.5) * width
    groups = [conductance[now][which == index] - target[index] for index in range(_RANGES)]
    cells = np.array([group.size for group in groups], dtype=float)
    if cells.min() < 100:
        raise FileFormatError(f"{path} must hold at least 100 cells in each range, got {int(cells.min())}")
    spread = np.array([group.std(ddof=1) for group in groups])
    fourth = np.array([np.mean((group - group.mean()) ** 4) for group in groups])
    return Measurement(
        technology=technology,
        target=target,
        cells=cells,
        left_out=int(now.sum() - cells.sum()),
        bias=np.array([group.mean() for group in groups]),
        bias_error=spread / np.sqrt(cells),
        spread=spread,
        spread_error=np.sqrt((fourth / spread**4 - 1) / cells) * spread / 2,
    )


def _polynomial(measurement: Measurement, values: npt.NDArray[np.float64], minimum: float) -> tuple[Polynomial, float]:
    """The polynomial through `values` that has the lowest Bayesian information criterion, and its residual.

    Each range weighs by its number of cells over its variance: what the standard error of mean and
    standard deviation go by. Its own fourth moment would let chance weigh.
    """
    scale = FULL_SCALE[measurement.technology]
    x = measurement.target / scale
    weight = np.sqrt(measurement.cells) / measurement.spread
    best: tuple[float, list[float]] = (np.inf, [])
    for order in range(1, _HIGHEST_ORDER + 1):
        coefficients = np.polynomial.polynomial.polyfit(x, values, order, w=weight)
        rest = weight * (values - np.polynomial.polynomial.polyval(x, coefficients))
        criterion = float(x.size * np.log(np.mean(rest**2)) + (order + 1) * np.log(x.size))
        if criterion < best[0]:
            best = (criterion, coefficients.tolist())
    polynomial = Polynomial(
        coefficients=tuple(float(f"{coefficient:.6g}") for coefficient in best[1]),
        scale=scale,
        minimum=minimum,
    )
    residual = float(np.sqrt(np.mean((values - polynomial(measurement.target)) ** 2)))
    return polynomial, float(f"{residual:.3g}")


def fit(measurement: Measurement) -> Card:
    """The device card of a measured technology."""
    technology = measurement.technology
    spread, spread_residual = _polynomial(measurement, measurement.spread, 0.0)
    bias, bias_residual = _polynomial(measurement, measurement.bias, -np.inf)
    lowest, highest = (float(f"{g:.6g}") for g in (measurement.target[0], measurement.target[-1]))
    full_scale = FULL_SCALE[technology]
    width = full_scale / _RANGES
    cells = int(measurement.cells.sum())
    return Card(
        name=f"levy2021_{technology.lower()}",
        description=f"RRAM, anonymous technology {technology}, {_TIME:g} s after programming; fitted by us",
        source=_SOURCE,
        g_min=CardValue(value=lowest, unit="S", origin="measured", note="Centre of the lowest range programmed."),
        g_max=CardValue(value=highest, unit="S", origin="measured", note="Centre of the highest range programmed."),
        levels=CardValue(
            value=_RANGES,
            unit="1",
            origin="measured",
            note=f"The cells were programmed into {_RANGES} ranges of {width * 1e6:g} uS.",
        ),
        programming_error=ProgrammingErrorValue(
            value=ProgrammingError(spread=spread, bias=bias, valid_from=lowest, valid_to=highest),
            unit="S",
            origin="fitted",
            note=(
                f"Conductance {_TIME:g} s after programming minus the centre of the range of the first read, "
                f"of {cells} cells; {measurement.left_out} more, first read outside all, are left out. "
                f"Holds the width of the range, a standard deviation of {width * 1e6 / np.sqrt(12):.3g} uS. "
                "The measured error has heavier tails than the normal law, and grows with time. "
                "Order of the polynomials by the Bayesian information criterion."
            ),
            fit=Fit(
                data=f"rram/relax_tech{technology}.npz (data/tech{technology}/relaxdata.min.tsv.gz)",
                cells=cells,
                time_s=_TIME,
                spread_residual=spread_residual,
                bias_residual=bias_residual,
            ),
        ),
    )


def picture(measurements: list[Measurement], cards: list[Card]) -> Figure:
    """Measured spread and bias with 95 % confidence bands, and the fits over them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes: Any = figure.subplots(2, len(cards), sharex="col", squeeze=False)
    for column, (measured, card) in enumerate(zip(measurements, cards, strict=True)):
        error = card.programming_error
        assert error is not None
        assert error.value.bias is not None
        assert error.fit is not None
        target = measured.target * 1e6
        fine = np.linspace(error.value.valid_from, error.value.valid_to, 400)
        rows = (
            ("spread", measured.spread, measured.spread_error, error.value.spread, error.fit.spread_residual),
            ("bias", measured.bias, measured.bias_error, error.value.bias, error.fit.bias_residual),
        )
        for row, (name, value, uncertainty, polynomial, residual) in enumerate(rows):
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
            f"Technology {measured.technology} ({card.name})\n{error.fit.cells} cells, "
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
