"""Fit write and verify to the timed writes of a measured chip; write its card and the picture.

Run as ``python -m xbarsim.experiments.fits.write_verify [--data DIR]``. The measurements are the 2,800 writes of chip
C14 of A. Wei's Anjiang-RRAM-Python: 100 cells, each written into 28 narrow windows of resistance, with the time before
and after, and what was read last.

If a pulse leaves a cell somewhere by a law that knows nothing of where it was, the number of pulses is geometric: the
times of a window have a standard deviation as large as their mean (here 0.95 of it, in the median over windows), and
what is left is uniform in the window. Both are so to 4 % and 3 % (the largest difference of the distributions, hits of
all windows together); one write in 900 takes longer than a geometric law says. Then the mean time of a window says how
likely one pulse was to hit it, and its width says how far pulses spread. Writes that missed were given up after some
time; they count as waits that did not end.

The time of one pulse with its read is not in the data: it is taken to be that of the read that follows a write, so that
the number of pulses is a guess of that unit, while times and missed writes do not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from scipy.special import ndtri

from xbarsim.data import data_folder
from xbarsim.devices import Law, WriteCard, WriteVerify
from xbarsim.devices.fitting.laws import fit_law, rounded
from xbarsim.experiments.folders import DEVICE_CARDS, FIGURES
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["NAME", "Writes", "fit", "measure", "picture", "pulse_law"]

Array = npt.NDArray[np.float64]

NAME = "nirram_c14"
"""Of the card."""

_BEFORE = 1.0  # s: the shortest of 2,800 writes took 1.0008 s, whatever its window, so that much comes before
_PICTURE = FIGURES / "write_verify_fit.png"
_WRITE, _READ = 1, 2  # kinds of records


@dataclass(frozen=True, kw_only=True, eq=False)
class Writes:
    """The writes of a chip, by window; arrays are ``(windows,)``.

    Attributes
    ----------
    target, half
        Centre and half the width of each window of conductance, S.
    hits, missed
        How many writes ended in the window, and how many were given up.
    waited
        Time of all of them together, of the given up too, s.
    times
        Of the hits of each window, s.
    place
        Where in its window each hit was read last, 0 to 1, ``(hits,)``.
    given_up_after
        Times of those that were given up, s.
    read_seconds
        Median time from a write to the read that follows it, s.
    """

    target: Array
    half: Array
    hits: Array
    missed: Array
    waited: Array
    times: tuple[Array, ...]
    place: Array
    given_up_after: Array
    read_seconds: float


def measure(folder: Path) -> Writes:
    """The writes of chip C14.

    Raises
    ------
    FileNotFoundError
        If the folder does not hold the measurements.
    FileFormatError
        If the file does not hold what it should.
    """
    path = folder / "rram" / "nirram_C14_mlc_write_read_traces.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            kind, low, high, time, resistance = (archive[name] for name in ("kind", "lo_ohm", "hi_ohm", "t_s", "r_ohm"))
    except (KeyError, ValueError) as error:
        raise FileFormatError(f"{path} does not hold timed writes: {error}") from error
    write = np.flatnonzero(kind == _WRITE)
    if not (write.size and write[0] > 0 and write[-1] + 1 < kind.size and (kind[write + 1] == _READ).all()):
        raise FileFormatError(f"{path} must hold writes between other records, each with a read after it")
    duration = (time[write] - time[write - 1]).astype(np.float64) - _BEFORE
    if duration.min() <= 0:
        raise FileFormatError(f"{path} must hold writes of more than {_BEFORE} s, got {duration.min() + _BEFORE}")
    ends = np.stack([1.0 / high[write].astype(np.float64), 1.0 / low[write].astype(np.float64)])
    left = 1.0 / resistance[write].astype(np.float64)
    hit = (left >= ends[0]) & (left <= ends[1])
    target, which = np.unique(ends.mean(axis=0), return_inverse=True)
    count = len(target)
    return Writes(
        target=target,
        half=np.array([float(np.ptp(ends[:, which == k][:, 0])) / 2 for k in range(count)]),
        hits=np.bincount(which[hit], minlength=count).astype(np.float64),
        missed=np.bincount(which[~hit], minlength=count).astype(np.float64),
        waited=np.bincount(which, duration).astype(np.float64),
        times=tuple(duration[hit & (which == k)] for k in range(count)),
        place=((left - ends[0]) / (ends[1] - ends[0]))[hit],
        given_up_after=np.sort(duration[~hit]),
        read_seconds=float(np.median(time[write + 1] - time[write])),
    )


def pulse_law(writes: Writes) -> Law:
    """Spread of the conductance after a pulse against the target.

    The rate of hits of a window is their number over the time waited for them: the most likely one of a geometric
    number of pulses, of which some were given up. It has the relative error of a count.
    """
    chance = writes.hits * writes.read_seconds / writes.waited
    spread = writes.half / ndtri((1 + chance) / 2)
    error = spread / np.sqrt(writes.hits)
    return fit_law(
        writes.target, spread, error, 1 / error, count=writes.hits, scale=rounded(float(writes.target[-1]), 4),
        positive=True,
    )  # fmt: skip


def fit(writes: Writes) -> WriteCard:
    """The card of the chip's writing."""
    law = pulse_law(writes)
    unit = rounded(writes.read_seconds, 3)
    most = round(float(np.median(writes.given_up_after)) / unit)
    tolerance = rounded(float(np.median(writes.half)), 3)
    count = int(writes.hits.sum() + writes.missed.sum())
    return WriteCard(
        name=NAME,
        description="RRAM chip C14, 100 cells written into 28 windows each; fitted by us",
        source="A. Wei, Anjiang-RRAM-Python, github.com/Anjiang-Wei/Anjiang-RRAM-Python, commit "
        "d2c625c73683a700f32d509f78d30220eb163301, MIT licence. No publication of these measurements was found, so "
        "there is no DOI (not verified).",
        origin="fitted",
        note=(
            f"Spread of a pulse from the mean time of {count} writes, by window: {law.goodness()}. Measured are times: "
            f"the number of pulses rests on the assumption that one takes the {unit:g} s of a read; most_pulses is the "
            f"median time of the {int(writes.missed.sum())} writes that were given up "
            f"({writes.given_up_after[0]:.2g} to {writes.given_up_after[-1]:.3g} s). tolerance is the median over "
            f"windows, of {1e6 * writes.half.min():.2g} to {1e6 * writes.half.max():.2g} uS. The noise of a read is in "
            "the spread of a pulse; energies were not measured."
        ),
        value=WriteVerify(
            tolerance=tolerance, most_pulses=most, pulse_spread=law.polynomial,
            valid_from=rounded(float(writes.target[0])), valid_to=rounded(float(writes.target[-1])), pulse_seconds=unit,
        ),
    )  # fmt: skip


def picture(writes: Writes, card: WriteCard) -> Figure:
    """Spread of a pulse, times, misses and places in the window: measured, and by the law."""
    from dataclasses import replace

    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7.5), layout="constrained")
    axes: Any = figure.subplots(2, 2)
    law = pulse_law(writes)
    target = writes.target * 1e6
    fine = np.linspace(card.value.valid_from, card.value.valid_to, 300)
    spread_ax, mean_ax, tail_ax, place_ax = axes.reshape(-1)
    spread_ax.errorbar(
        target, law.value * 1e6, 1.96 * law.error * 1e6, fmt="o", ms=4, capsize=2, label="measured, 95 %"
    )
    spread_ax.plot(fine * 1e6, law.polynomial(fine) * 1e6, color="black", label=f"fit of order {law.order}")
    spread_ax.set_ylabel("spread of a pulse (µS)")
    said = [replace(card.value, tolerance=float(half)).law(float(np.clip(aim, fine[0], fine[-1])))
            for aim, half in zip(writes.target, writes.half, strict=True)]  # fmt: skip
    total = writes.hits + writes.missed
    mean_ax.errorbar(target, writes.waited / total, 1.96 * writes.waited / total / np.sqrt(writes.hits), fmt="o", ms=4,
                     capsize=2, label="measured, 95 %")  # fmt: skip
    mean_ax.plot(target, [float(each.seconds) for each in said if each.seconds is not None], "x", color="black",
                 label="law, with each window's width")  # fmt: skip
    mean_ax.set_ylabel("mean time of a write (s)")
    waits = np.sort(np.concatenate([times / times.mean() for times in writes.times]))
    tail_ax.semilogy(waits, 1 - (np.arange(waits.size) + 0.5) / waits.size, label="measured, hits of all windows")
    tail_ax.semilogy(waits, np.exp(-waits), color="black", ls="--", label="geometric number of pulses")
    tail_ax.set_xlabel("time of a write / mean of its window")
    tail_ax.set_ylabel("share that took longer")
    place_ax.hist(writes.place, bins=20, range=(0, 1), density=True, alpha=0.6, label="measured")
    place_ax.axhline(1.0, color="black", ls="--", label="uniform")
    place_ax.set_xlabel("last read: place in the window, 0 to 1")
    place_ax.set_ylabel("density")
    place_ax.set_ylim(0.0, 1.6)  # room for the legend
    for axis in (spread_ax, mean_ax):
        axis.set_xlabel("target conductance (µS)")
        axis.set_ylim(bottom=0)
    for axis in axes.reshape(-1):
        axis.legend(frameon=False, fontsize=8)
    missed, predicted = writes.missed.sum(), sum(float(each.given_up) * n for each, n in zip(said, total, strict=True))
    figure.suptitle(f"{card.name}: {int(total.sum())} writes, {int(missed)} given up (by the law {predicted:.0f})")
    return figure


def main(
    data: Annotated[Path | None, typer.Option(help="The data folder; by default XBARSIM_DATA, or shared/data.")] = None,
) -> None:
    """Fit again; rewrite the card and the picture."""
    writes = measure(data_folder() if data is None else data)
    card = fit(writes)
    tomlio.save(card, DEVICE_CARDS / f"{card.name}.write.toml")
    typer.echo(f"wrote {card.name}: {card.note}")
    _PICTURE.parent.mkdir(exist_ok=True)
    picture(writes, card).savefig(_PICTURE, dpi=120)


if __name__ == "__main__":
    typer.run(main)
