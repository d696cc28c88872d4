"""Fit the drift of two measured RRAM technologies into their device cards; draw fit against measurement.

Run as ``python -m xbarsim.experiments.fits.drift_cards [--data DIR]``. The measurements are the same cells that
:mod:`xbarsim.experiments.fits.device_cards` fits the programming error of: about 16,000 of each of two anonymous
technologies, read at several times after programming.

The error of a cell is its conductance minus the centre of the range that its first read fell into, as for its
programming error, which is the error 1 s after programming. Later errors have no simple form: most cells hardly move,
some move far, and poorly conducting cells rise while others fall. So the law is the distribution itself, as
``fit_cell(..., drift_law="quantiles")`` makes it of anybody's measurements.

The check is made on cells that the fit has not seen: the law of one half of the cells against the other half.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from scipy import stats

from xbarsim.data import data_folder
from xbarsim.devices import Card, DriftFit, DriftValue, MeasuredDrift, card
from xbarsim.devices.fitting import quantiles
from xbarsim.devices.fitting.quantiles import Trajectories, quantile_drift
from xbarsim.experiments.fits.device_cards import FULL_SCALE
from xbarsim.experiments.folders import DEVICE_CARDS, FIGURES
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Relaxation", "fit", "groups", "measure", "picture"]

Array = npt.NDArray[np.float64]

_REFERENCE = 1.0  # s after programming: every cell was read then
_EDGES = (0, 1, 2, 3, 4, *range(6, 33, 2))  # ranges of conductance that bound the groups; fine where cells differ most
_RANGES = 32
_PICTURE = FIGURES / "drift_fits.png"


@dataclass(frozen=True, kw_only=True, eq=False)
class Relaxation:
    """Every cell of one technology, read 1 s after programming and later.

    Attributes
    ----------
    technology
        ``"B"`` or ``"C"``.
    first
        Conductance at the first read, S, shape ``(cells,)``.
    target
        Centre of the range it fell into, S, shape ``(cells,)``; NaN above the full scale.
    start
        Conductance 1 s after programming, S, shape ``(cells,)``.
    later
        Conductance at each later time, S, shape ``(cells, times)``; NaN where a cell was not read.
    seconds
        Median time of the reads, since the read at 1 s, s, shape ``(times,)``, to 3 digits.
    """

    technology: str
    first: Array
    target: Array
    start: Array
    later: Array
    seconds: Array

    @property
    def trajectories(self) -> Trajectories:
        """The same cells in groups by target; dealt into halves by their first reads, for addresses go with levels."""
        return Trajectories(
            target=self.target, start=self.start, later=self.later, seconds=self.seconds, group=groups(self),
            groups=len(_EDGES) - 1,
            order=self.first,
        )  # fmt: skip


def measure(folder: Path, technology: str) -> Relaxation:
    """The reads of one technology.

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
            names = ("addr", "g_S", "gi_S", "time_s", "timept_s")
            address, conductance, at_first, exact, nominal = (archive[name] for name in names)
    except (KeyError, ValueError) as error:
        raise FileFormatError(f"{path} does not hold the relaxation data: {error}") from error
    first = nominal == _REFERENCE
    cells, where = np.unique(address[first], return_index=True)
    start = conductance[first][where].astype(np.float64)
    initial = at_first[first][where].astype(np.float64)
    later_times = np.unique(nominal[(nominal > _REFERENCE) & np.isin(address, cells)])
    if not len(cells) or not len(later_times):
        raise FileFormatError(f"{path} must hold reads at 1 s and later, got {len(cells)} and {len(later_times)} times")
    later = np.full((len(cells), len(later_times)), np.nan)
    seconds = []
    for index, time in enumerate(later_times):
        now = (nominal == time) & np.isin(address, cells)
        later[np.searchsorted(cells, address[now]), index] = conductance[now]
        since = float(np.median(exact[now]) - np.median(exact[first]))
        seconds.append(float(f"{since:.3g}"))
    width = FULL_SCALE[technology] / _RANGES
    place = np.floor(initial / width)
    target = np.where((place >= 0) & (place < _RANGES), (place + 0.5) * width, np.nan)
    return Relaxation(
        technology=technology, first=initial, target=target, start=start, later=later, seconds=np.array(seconds)
    )


def groups(measured: Relaxation) -> npt.NDArray[np.int64]:
    """The group of each cell by its target, shape ``(cells,)``; -1 without one."""
    width = FULL_SCALE[measured.technology] / _RANGES
    target = np.nan_to_num(measured.target, nan=-1.0)
    return np.asarray(np.searchsorted(np.array(_EDGES) * width, target, side="right") - 1)


def _ends(measured: Relaxation) -> tuple[float, float]:
    """The range that the law holds for, S."""
    shipped = card(f"levy2021_{measured.technology.lower()}")
    return float(shipped.g_min.value), float(shipped.g_max.value)


def law(measured: Relaxation) -> MeasuredDrift:
    """The drift that these cells show.

    Raises
    ------
    FileFormatError
        If a group of cells is too small.
    """
    ends = _ends(measured)
    try:
        return quantile_drift(measured.trajectories, reference_time=_REFERENCE, valid_from=ends[0], valid_to=ends[1])
    except InputError as error:
        raise FileFormatError(str(error)) from error


def held_out(measured: Relaxation) -> tuple[Array, Array]:
    """What one half of the cells show minus what the law of the other half says, and the error that chance alone makes.

    Both of shape (2, groups, times), S: mean and spread.
    """
    low, high = _ends(measured)
    return quantiles.held_out(measured.trajectories, reference_time=_REFERENCE, valid_from=low, valid_to=high)


def _root_mean_square(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.3g}") for value in np.sqrt(np.mean(values**2, axis=0)))


def fit(measured: Relaxation) -> DriftValue:
    """The drift of a measured technology, as its card holds it."""
    value = law(measured)
    residual, chance = held_out(measured)
    used = measured.later[groups(measured) >= 0]
    cells = tuple(int(count) for count in np.isfinite(used).sum(axis=0))
    technology = measured.technology
    return DriftValue(
        value=value,
        unit="S",
        origin="fitted",
        note=(
            f"Conductance minus the centre of the range of the first read: quantiles in {len(_EDGES) - 1} groups of "
            f"cells by that range; {int((groups(measured) < 0).sum())} cells, first read outside all, are left out. "
            "Holds the width of the range and the noise of a read. Room temperature; other temperatures are not here. "
            + (
                "In the first 96 s nothing was measured. At 10000 s about 1 % of the cells are somewhere else "
                "altogether; the data do not say why."
                if technology == "B"
                else "Between 2.44 s and 100000 s later nothing was measured."
            )
        ),
        fit=DriftFit(
            data=f"rram/relax_tech{technology}.npz (data/tech{technology}/relaxdata.min.tsv.gz)",
            cells=cells,
            time_s=tuple(float(seconds) for seconds in measured.seconds),
            mean_residual=_root_mean_square(residual[0]),
            spread_residual=_root_mean_square(residual[1]),
            sampling_error=(
                _root_mean_square(chance[0])[-1],
                _root_mean_square(chance[1])[-1],
            ),
        ),
    )


def picture(measurements: list[Relaxation], cards: list[Card]) -> Figure:
    """Mean and spread of the error against target, fit over measurement; residuals; and whole distributions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 12), layout="constrained")
    axes: Any = figure.subplots(4, len(cards), squeeze=False, height_ratios=(3, 3, 2, 3))
    colours = ("#0072B2", "#D55E00", "#009E73")  # colour-blind safe (Okabe and Ito)
    markers = ("o", "s", "^")
    for column, (measured, cell_card) in enumerate(zip(measurements, cards, strict=True)):
        assert cell_card.drift is not None
        drift, evidence = cell_card.drift.value, cell_card.drift.fit
        assert isinstance(drift, MeasuredDrift)
        assert evidence is not None
        shown, _, chance = quantiles.residuals(drift, measured.trajectories)
        unseen, chance_unseen = held_out(measured)
        target = np.array(drift.target) * 1e6
        fine = np.linspace(drift.valid_from, drift.valid_to, 300)
        mean_ax, spread_ax, rest_ax, quantile_ax = axes[:, column]
        for index, seconds in enumerate(measured.seconds):
            colour, marker = colours[index], markers[index]
            lines = drift.moments(fine, float(seconds))
            for ax, row in ((mean_ax, 0), (spread_ax, 1)):
                value, error = shown[row, :, index] * 1e6, chance[row, :, index] * 1e6
                ax.fill_between(target, value - 1.96 * error, value + 1.96 * error, alpha=0.18, lw=0, color=colour)
                ax.plot(target, value, marker, markersize=4, color=colour)
                ax.plot(fine * 1e6, lines[row] * 1e6, color=colour, lw=1.3, label=f"{seconds:g} s")
        programming = cell_card.cell().programming_error
        assert programming is not None
        assert programming.bias is not None
        for ax, values in ((mean_ax, programming.bias(fine)), (spread_ax, programming.spread(fine))):
            ax.plot(fine * 1e6, values * 1e6, color="grey", lw=1.3, ls="--", label="0 s: programming error")
        last = len(measured.seconds) - 1
        for row, (name, colour, marker) in enumerate((("mean", "black", "o"), ("standard deviation", "#CC79A7", "s"))):
            error = 1.96 * chance_unseen[row, :, last] * 1e6
            rest_ax.fill_between(target, -error, error, alpha=0.2, lw=0, color=colour)
            rest_ax.plot(target, unseen[row, :, last] * 1e6, marker, markersize=4, color=colour, label=name)
        rest_ax.axhline(0.0, color="grey", lw=0.6)
        which, error_of_cells = groups(measured), measured.trajectories.error
        for place, (g, style) in enumerate(((0, "-"), (7, "--"), (len(_EDGES) - 2, ":"))):
            here = (which == g) & np.isfinite(error_of_cells[:, last])
            sample = np.sort(error_of_cells[here, last]) * 1e6
            chances = (np.arange(sample.size) + 0.5) / sample.size
            label = f"{drift.target[g] * 1e6:.3g} µS"
            quantile_ax.plot(stats.norm.ppf(chances), sample, ".", ms=3, color=colours[place], alpha=0.5)
            fine_chances = stats.norm.cdf(np.linspace(-3.2, 3.2, 400))
            fitted = np.interp(fine_chances, drift.probability, np.array(drift.steps[last].error[g]) * 1e6)
            quantile_ax.plot(stats.norm.ppf(fine_chances), fitted, style, color=colours[place], label=label)
        mean_ax.set_title(
            f"Technology {measured.technology} ({cell_card.name})\n"
            + ", ".join(f"{c} cells at {s:g} s" for c, s in zip(evidence.cells, evidence.time_s, strict=True)),
            fontsize=10,
        )
        mean_ax.set_ylabel("mean error (µS)")
        spread_ax.set_ylabel("standard deviation\nof the error (µS)")
        rest_ax.set_ylabel(f"unseen cells minus\nfit, {measured.seconds[last]:g} s (µS)")
        quantile_ax.set_ylabel(f"error after\n{measured.seconds[last]:g} s (µS)")
        mean_ax.axhline(0.0, color="grey", lw=0.6)
        for ax in (mean_ax, spread_ax, rest_ax):
            ax.set_xlabel("target conductance (µS)")
        quantile_ax.set_xlabel("quantile, in standard deviations of a normal law")
        quantile_ax.set_yscale("symlog", linthresh=2.0)
        mean_ax.legend(frameon=False, fontsize=8, title="points, 95 % bands: measured; lines: fit", title_fontsize=8)
        bottom, top = rest_ax.get_ylim()
        rest_ax.set_ylim(bottom, top + 0.4 * (top - bottom))
        rest_ax.legend(
            frameon=False, fontsize=8, ncols=2, loc="upper right", title="bands: chance alone, 95 %", title_fontsize=8
        )
        quantile_ax.legend(frameon=False, fontsize=8, title="points: cells; lines: fit", title_fontsize=8)
    return figure


def main(
    data: Annotated[Path | None, typer.Option(help="The data folder; by default XBARSIM_DATA, or shared/data.")] = None,
) -> None:
    """Fit again; put the drift into the two cards and rewrite the picture."""
    folder = data_folder() if data is None else data
    measurements = [measure(folder, technology) for technology in FULL_SCALE]
    cards = []
    for measured in measurements:
        old = card(f"levy2021_{measured.technology.lower()}")
        cards.append(dataclasses.replace(old, drift=fit(measured)))
        tomlio.save(cards[-1], DEVICE_CARDS / f"{old.name}.toml")
        assert cards[-1].drift is not None
        typer.echo(f"wrote {old.name}: {cards[-1].drift.value}\n{cards[-1].drift.fit}")
    _PICTURE.parent.mkdir(exist_ok=True)
    picture(measurements, cards).savefig(_PICTURE, dpi=120)


if __name__ == "__main__":
    typer.run(main)
