"""Fit how many lines of a measured array are left out; write the preset of line faults.

Run as ``python -m xbarsim.experiments.fits.line_faults [--data DIR]``. The tables by which W. Wan et al. placed
networks on their NeuRRAM chip skip word lines and bit lines inside a placement: ``neurram/bad_lines.json`` in the data
folder lists them for 87 cores of four chips. The number of skipped lines of a core varies far more than it would if
lines were independent, and is fitted by a beta-binomial law, of maximum likelihood: every core has a rate of its own.
Inside a core the number of neighbours that are both skipped is compared with that of lines in random order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from xbarsim.data import data_folder
from xbarsim.devices import CombinedFaults, FaultPreset, StuckLineFaults
from xbarsim.experiments.folders import DEVICE_CARDS
from xbarsim.foundation import tomlio
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import FileFormatError

__all__ = ["BetaBinomialFit", "Lines", "fit", "preset", "read"]

IntegerArray = npt.NDArray[np.int64]

_NAME = "wan2022_lines"
_SOURCE = (
    "Rates: fitted by us to the placement tables that W. Wan et al. publish beside A compute-in-memory chip based on "
    "resistive random-access memory, Nature 608, 504-512 (2022): github.com/weierwan/Neurram_48core, commit "
    "2ed5f8d8e6b97a0aeda4949e5a22a18f01bb60f4, cifar10_resnet/weight_mapping_table.npy and "
    "weight_mapping_table_finetune.npy. That the cells are stuck, and off, is assumed."
)
_DOI = "10.1038/s41586-022-04992-8"


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """The lines of one kind of some cores; all arrays have one entry a core.

    Attributes
    ----------
    chip
        Number of the chip that a core is on.
    lines
        Lines between the first and the last one that a placement uses.
    skipped
        How many of these no placement uses.
    neighbours
        Pairs of neighbouring lines that are both skipped.
    """

    chip: IntegerArray
    lines: IntegerArray
    skipped: IntegerArray
    neighbours: IntegerArray

    def of_chip(self, chip: int) -> Lines:
        """Those of one chip."""
        own = self.chip == chip
        return Lines(
            chip=self.chip[own], lines=self.lines[own], skipped=self.skipped[own], neighbours=self.neighbours[own]
        )

    @property
    def rate(self) -> float:
        """Share of all lines that are skipped."""
        return float(self.skipped.sum() / self.lines.sum())

    @property
    def dispersion(self) -> float:
        """Variance over that of independent lines of one rate: Pearson's chi-squared over its degrees of freedom."""
        expected = self.lines * self.rate
        return float(((self.skipped - expected) ** 2 / (expected * (1 - self.rate))).sum() / (len(self.lines) - 1))

    @property
    def expected_neighbours(self) -> float:
        """Expected number of `neighbours` where those skipped of each core lie in random order."""
        return float((self.skipped * (self.skipped - 1) / self.lines).sum())


@dataclass(frozen=True, kw_only=True)
class BetaBinomialFit:
    """A beta-binomial law of maximum likelihood.

    Attributes
    ----------
    mean
        Of the rates of cores.
    concentration
        Sum of the two parameters of their beta distribution.
    interval
        Of the concentration: where twice the logarithm of the profile likelihood is less than 3.84 below its maximum
        (95 %).
    """

    mean: float
    concentration: float
    interval: tuple[float, float]

    @property
    def correlation(self) -> float:
        """Of two lines of a core: 1 / (1 + concentration)."""
        return 1 / (1 + self.concentration)


def read(folder: Path) -> tuple[Lines, Lines]:
    """The word lines and the bit lines of the cores.

    Parameters
    ----------
    folder
        The data folder.

    Raises
    ------
    FileNotFoundError
        If the folder does not hold the list.
    FileFormatError
        If the file does not hold what it should.
    """
    path = folder / "neurram" / "bad_lines.json"

    def kind(cores: list[dict[str, Any]], spanned: str, bad: str) -> Lines:
        places = [np.sort(np.array(core[bad], np.int64)) for core in cores]
        return Lines(
            chip=np.array([core["chip"] for core in cores], np.int64),
            lines=np.array([core[spanned] for core in cores], np.int64),
            skipped=np.array([each.size for each in places], np.int64),
            neighbours=np.array([(np.diff(each) == 1).sum() for each in places], np.int64),
        )

    try:
        cores = json.loads(path.read_text(encoding="utf-8"))["cores"]
        word, bit = kind(cores, "rows_spanned", "bad_rows"), kind(cores, "columns_spanned", "bad_columns")
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} does not hold the lists of lines: {error!r}") from error
    for each in (word, bit):
        if not len(each.lines) or (each.skipped > each.lines).any() or each.lines.min() < 1:
            raise FileFormatError(f"{path} must hold at least one core, with no more lines skipped than it has")
    return word, bit


def fit(lines: Lines) -> BetaBinomialFit:
    """The law of the number of lines that are skipped."""
    from scipy.optimize import brentq, minimize, minimize_scalar
    from scipy.stats import betabinom

    def negative(mean: float, logarithm: float) -> float:
        weight = np.exp(logarithm)
        return -float(betabinom.logpmf(lines.skipped, lines.lines, mean * weight, (1 - mean) * weight).sum())

    def profile(logarithm: float) -> float:
        return float(
            minimize_scalar(lambda mean: negative(mean, logarithm), bounds=(1e-6, 0.999), method="bounded").fun
        )

    start = np.log(lines.rate / (1 - lines.rate)), np.log(20.0)
    best = minimize(
        lambda at: negative(1 / (1 + np.exp(-at[0])), at[1]), start, method="Nelder-Mead", options={"xatol": 1e-9}
    )
    peak = float(best.x[1])

    def below(logarithm: float) -> float:
        return profile(logarithm) - float(best.fun) - 3.841 / 2

    low, high = (
        float(np.exp(brentq(below, *sorted((peak, end)), xtol=1e-6))) if below(end) > 0 else float(limit)
        for end, limit in ((-3.0, 0.0), (12.0, np.inf))
    )
    return BetaBinomialFit(
        mean=float(1 / (1 + np.exp(-best.x[0]))), concentration=float(np.exp(peak)), interval=(low, high)
    )


def preset(word: Lines, bit: Lines) -> FaultPreset:
    """The preset of these word lines and bit lines."""

    def digits(number: float) -> float:
        return float(f"{number:.4g}")

    models = []
    for lines, share in ((word, 1.0), (bit, 0.0)):
        law = fit(lines)
        models.append(
            StuckLineFaults(on=0.0, off=digits(law.mean), row_share=share, correlation=digits(law.correlation))
        )
    return FaultPreset(
        name=_NAME,
        description=(
            f"Lines left out of {len(word.lines)} cores of 256 x 256 cells, of {len(set(word.chip.tolist()))} NeuRRAM "
            f"chips. Measured: {word.skipped.sum():,} of {word.lines.sum():,} word lines and {bit.skipped.sum()} of "
            f"{bit.lines.sum():,} bit lines between the first and the last one in use were skipped, which the authors "
            "do with lines of cells that are unformed or leak; an upper bound, as a line may be skipped for another "
            f"reason. Word lines vary over cores {word.dispersion:.1f} times as much as independent ones would; the "
            f"rate of bit lines rests on {bit.skipped.sum()} of them. Fitted: a beta-binomial law of each. Not "
            "measured, assumed: that all cells of such a line are stuck, that they are stuck off, and that the rates "
            "of word lines and bit lines of a core are independent. Faults of single cells come on top."
        ),
        source=_SOURCE,
        doi=_DOI,
        origin="fitted",
        faults=CombinedFaults(models=tuple(models)),
    )


def main(
    data: Annotated[Path | None, typer.Option(help="The data folder; by default XBARSIM_DATA, or shared/data.")] = None,
) -> None:
    """Fit again; rewrite the preset."""
    word, bit = read(data_folder() if data is None else data)
    parts = {"word lines": word, "bit lines": bit}
    for chip in sorted(set(word.chip.tolist())):
        if (word.chip == chip).sum() > 1:
            parts[f"word lines of chip {chip}"] = word.of_chip(chip)
    rows = []
    for name, lines in parts.items():
        law = fit(lines)
        rows.append(
            (
                name,
                len(lines.lines),
                f"{lines.skipped.sum()} of {lines.lines.sum()}",
                f"{100 * lines.rate:.2f} %",
                f"{lines.dispersion:.2f}",
                f"{law.mean:.4f}",
                f"{law.concentration:.1f} ({law.interval[0]:.1f} to {law.interval[1]:.1f})",
                f"{lines.neighbours.sum()} ({lines.expected_neighbours:.1f})",
            )
        )
    head = ("lines", "cores", "skipped", "rate", "dispersion", "mean", "concentration (95 %)", "neighbours (expected)")
    typer.echo(format_table(head, rows, left=1))
    made = preset(word, bit)
    tomlio.save(made, DEVICE_CARDS / f"{made.name}.faults.toml")
    typer.echo(f"wrote {made.name}: {made.faults}")


if __name__ == "__main__":
    typer.run(main)
