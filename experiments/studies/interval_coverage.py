"""How often intervals from a few dies hold what they should, by simulation: three laws of dies, four intervals.

``python -m xbarsim.experiments.studies.interval_coverage`` draws samples of dies with a fixed seed, asks each interval
of :mod:`xbarsim.foundation.intervals` whether it covers the true mean, median or yield, and writes a table and a
picture into experiments/figures. It takes less than a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.intervals import clopper_pearson, median_interval, share_interval, student_quantile
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import write_atomically
from xbarsim.plot import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COUNTS", "INTERVALS", "LAWS", "THRESHOLD", "coverage", "main", "picture"]

Floats = npt.NDArray[np.float64]

COUNTS = (5, 10, 20, 50, 100, 200)
"""Dies of a sample."""

THRESHOLD = 0.85
"""Accuracy from which a die is good."""

CONFIDENCE = 0.95
_RESAMPLES = (
    999  # of the bootstrap; xbarsim.foundation.intervals takes 9,999, which changes the coverage by less than 1 %
)
_MANY = 1_000_000  # dies that give the true median and yield
_COLOURS = {
    "mean, t": "#D55E00",
    "mean, bootstrap": "#E69F00",
    "median, order statistics": "#0072B2",
    "yield": "#009E73",
}
_MARKERS = ("o", "s", "^", "D")


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return np.asarray(0.86 + 0.02 * rng.standard_normal(shape))


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return np.asarray(0.92 - rng.exponential(0.05, shape))


def _dead(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return np.where(rng.random(shape) < 0.1, 0.1, 0.86 + 0.01 * rng.standard_normal(shape))


LAWS: dict[str, tuple[Callable[[np.random.Generator, tuple[int, ...]], Floats], float]] = {
    "normal": (_normal, 0.86),
    "exponential tail": (_skewed, 0.87),
    "one die in ten dead": (_dead, 0.9 * 0.86 + 0.1 * 0.1),
}
"""How each law draws accuracies, and its mean."""


def _by_student(samples: Floats) -> tuple[Floats, Floats]:
    count = samples.shape[1]
    half = student_quantile(count, CONFIDENCE) * samples.std(axis=1, ddof=1) / np.sqrt(count)
    return samples.mean(axis=1) - half, samples.mean(axis=1) + half


def _by_bootstrap(samples: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    from scipy import stats

    low, high = samples.mean(axis=1), samples.mean(axis=1)
    several = np.flatnonzero(samples.min(axis=1) < samples.max(axis=1))
    for part in np.array_split(several, max(1, several.size * samples.shape[1] // 10_000)):
        with np.errstate(invalid="ignore", divide="ignore"):
            ends = stats.bootstrap(
                (samples[part],), np.mean, axis=1, confidence_level=CONFIDENCE, n_resamples=_RESAMPLES,
                method="BCa", vectorized=True, rng=rng,
            ).confidence_interval  # fmt: skip
        low[part], high[part] = ends.low, ends.high
    return low, high


def _by_order(samples: Floats) -> tuple[Floats, Floats]:
    place = median_interval(np.arange(float(samples.shape[1])), confidence=CONFIDENCE)
    if not place.has_ends:
        nothing = np.full(len(samples), np.nan)
        return nothing, nothing
    ordered = np.sort(samples, axis=1)
    return ordered[:, int(place.low)], ordered[:, int(place.high)]


def _by_shares(samples: Floats) -> tuple[Floats, Floats]:
    good = np.count_nonzero(samples >= THRESHOLD, axis=1)
    return clopper_pearson(good, samples.shape[1], CONFIDENCE)


INTERVALS = tuple(_COLOURS)
"""What is estimated, and how."""


def coverage(law: str, count: int, runs: int, resampled: int, seed: int = 0) -> list[dict[str, Any]]:
    """Of samples of `count` dies, the share whose interval covers the truth: one row an interval.

    Parameters
    ----------
    law
        Of :data:`LAWS`.
    count
        Dies of a sample.
    runs, resampled
        Number of samples, and of those that are bootstrapped.
    seed
        Of all draws.
    """
    draw, mean = LAWS[law]
    rng = np.random.default_rng((seed, list(LAWS).index(law), count))
    samples, many = draw(rng, (runs, count)), draw(np.random.default_rng(seed), (_MANY,))
    right = (mean, mean, float(np.median(many)), float(np.mean(many >= THRESHOLD)))
    truths = dict(zip(INTERVALS, right, strict=True))
    found = dict(
        zip(
            INTERVALS,
            (_by_student(samples), _by_bootstrap(samples[:resampled], rng), _by_order(samples), _by_shares(samples)),
            strict=True,
        )
    )
    rows = []
    for name, (low, high) in found.items():
        covered = int(np.count_nonzero((low <= truths[name]) & (truths[name] <= high)))
        given = not np.isnan(low).all()
        sure = share_interval(covered, low.size)
        rows.append(
            {
                "law": law,
                "dies": count,
                "interval": name,
                "samples": low.size,
                "covered": sure.estimate if given else None,
                "low": sure.low if given else None,
                "high": sure.high if given else None,
                "median_width": float(np.median(high - low)) if given else None,
            }
        )
    return rows


def picture(rows: list[dict[str, Any]]) -> Figure:
    """Coverage against the number of dies: a panel a law, a curve an interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.8, 3.7), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(LAWS), sharey=True)
    for axes, law in zip(panels, LAWS, strict=True):
        axes.axhline(100 * CONFIDENCE, color="0.45", linewidth=1, linestyle=(0, (1, 2)))
        for marker, name in zip(_MARKERS, INTERVALS, strict=True):
            points = [
                row for row in rows if row["law"] == law and row["interval"] == name and row["covered"] is not None
            ]
            dies = [row["dies"] for row in points]
            axes.fill_between(
                dies, [100 * row["low"] for row in points], [100 * row["high"] for row in points],
                color=_COLOURS[name], alpha=0.18, linewidth=0,
            )  # fmt: skip
            covered = [100 * row["covered"] for row in points]
            axes.plot(dies, covered, color=_COLOURS[name], marker=marker, markersize=5, label=name)
        axes.set_xscale("log")
        axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("dies")
        axes.set_title(law, fontsize=10)
        axes.set_ylim(35, 101)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("95 % intervals that cover the truth (%)")
    panels[1].legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def main(
    runs: Annotated[int, typer.Option(help="Samples of each law and size.", min=100)] = 20_000,
    resampled: Annotated[int, typer.Option(help="Of these, samples that are bootstrapped.", min=100)] = 1_000,
    output: Annotated[Path, typer.Option(help="Folder of the table and the picture.")] = FIGURES,
) -> None:
    """Simulate, print, and write interval_coverage.csv and interval_coverage.png."""
    rows = [row for law in LAWS for count in COUNTS for row in coverage(law, count, runs, resampled)]
    typer.echo(
        format_table(
            ("law", "dies", *INTERVALS),
            [
                (
                    law,
                    str(count),
                    *(
                        "-" if row["covered"] is None else f"{row['covered']:.1%}"
                        for row in rows
                        if (row["law"], row["dies"]) == (law, count)
                    ),
                )
                for law in LAWS
                for count in COUNTS
            ],
        )
    )
    write_atomically(output / "interval_coverage.csv", csv_bytes(rows))
    save_figure(picture(rows), output / "interval_coverage.png")


if __name__ == "__main__":
    typer.run(main)
