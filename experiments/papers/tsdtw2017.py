"""Identity from short sequences that were cut, by time-shift dynamic time warping, and on faulty crossbars.

``python -m xbarsim.experiments.papers.tsdtw2017`` takes about ten minutes on one core. It repeats known figures of
the archives; cuts 0 to 50 % off probes at random at both ends, or puts noise there, and compares warping (DTW), warping
per step of the alignment, and time-shift warping (TS-DTW); and puts the gallery on crossbars: with few bits, and with
1 to 20 % of the cells stuck. It prints what a match costs beside a digital machine, and writes tables and a picture
into experiments/figures.

The videos of the paper (PRID2011, iLIDS-VID) cannot be had. What stands in for persons before two cameras keeps the
problem, an identity from a short sequence of frames of several numbers: speakers, by a vowel pair (JapaneseVowels: 9
speakers, 270 sequences in the gallery, 370 probes, 12 cepstral coefficients, 7 to 29 frames) and by spoken digits (6
speakers; probes of the same words or of other words than the gallery). Published figures can therefore be compared in
what a shift gains, not in their size. Limits of shift and overlap of the paper are not published; here shifts are up to
8 frames with an overlap of 5 (16 and 10 for digits).

X. Ma et al., Person re-identification by unsupervised video matching, Pattern Recognition 65, 197 (2017),
arXiv:1611.08512. Figures of the archives: A. Bagnall et al. and H. A. Dau et al.,
https://www.timeseriesclassification.com (1-NN, DTW over the whole window).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

import xbarsim as xb
from xbarsim.data import SequenceSet, load_sequences, load_spoken_digits, log_mel
from xbarsim.devices import POLARITIES, fault_preset
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.intervals import share_interval, student_half_width
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import write_atomically
from xbarsim.plot import save_figure
from xbarsim.sequences import Gallery, Sequences, TimeShift, Warping, nearest, pair_distances, rank_curve
from xbarsim.sequences.matching import Rules, warp_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ARCHIVE", "BITS", "RULES", "SHARES", "STUCK", "archive", "bits", "costs", "design", "main", "picture", "speakers",
    "stuck", "truncated", "truncation",
]  # fmt: skip

ARCHIVE = {"GunPoint": 90.67, "ArrowHead": 70.29, "ItalyPowerDemand": 95.04, "JapaneseVowels": 95.95}
"""Known accuracies of the nearest neighbour by DTW, %; the last with channels standardised by the gallery."""

RULES: dict[str, Rules] = {
    "DTW": Warping(),
    "DTW per step": Warping(per_step=True),
    "TS-DTW": TimeShift(most=8, overlap=5),
}

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of a probe's frames that are gone, or noise."""

BITS = ((8, 8), (5, 8), (4, 4), (3, 4), (3, 3), (2, 4))
"""Bits of gallery and probes, signs included."""

STUCK = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of the cells that are stuck."""

_MOSTLY_OFF = next(name for name, what in POLARITIES.items() if what == "mostly stuck off")
_MOSTLY_ON = next(name for name, what in POLARITIES.items() if what == "mostly stuck on")
_CUT = 0.4  # share of cut probes on faulty dies
_COEFFICIENTS = 12  # cepstral ones of spoken digits, without the first, which is loudness
_CONTEXT = 4  # frames to either side: 9 x 12 numbers fill an array of 128 rows

Row = dict[str, Any]


def design(gallery_bits: int, probe_bits: int, *, faults: str | None = None, rate: float = 0.0) -> xb.Design:
    """The accelerator: 128 x 128 arrays, a column for each sign, magnitudes in cells of at most 4 bits.

    One bit of the inputs at a time, converters that lose nothing.

    Parameters
    ----------
    gallery_bits, probe_bits
        Bits of weights and of inputs, signs included.
    faults, rate
        A preset of faults with this share of stuck cells, or ``None``.
    """
    return xb.Design(
        cell=xb.Cell.load("islped2019").without_errors(),
        mapping=xb.Mapping(weight_bits=gallery_bits, cell_bits=min(gallery_bits - 1, 4)),
        periphery=xb.Periphery(input_bits=probe_bits, dac_bits=1, adc_range="lossless"),
        faults=None if faults is None else fault_preset(faults).faults.with_total(rate),
    )


def _ranked(distances: Any, data: SequenceSet, **about: Any) -> Row:
    """A row with the shares of rank 1 and 2 in %, and the interval of the first over probes."""
    found = rank_curve(distances, data.probe_labels, data.gallery_labels)
    return _shares(found.matches(1), found.matches(min(2, found.identities)), len(found.ranks), about)


def _shares(first: float, second: float, probes: int, about: Row) -> Row:
    interval = share_interval(round(first), probes)
    return about | {
        "rank1": 100 * first / probes, "low": 100 * interval.low, "high": 100 * interval.high,
        "rank2": 100 * second / probes, "probes": probes,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------- what is measured


def archive(load: Callable[..., SequenceSet], names: Iterable[str] = ARCHIVE) -> list[Row]:
    """Nearest neighbours by DTW beside known figures of the archives."""
    rows = []
    for name in names:
        data = load(name, standardise=name == "JapaneseVowels")
        found = nearest(data.probes, data.gallery)
        right = int((data.gallery_labels[found.index] == data.probe_labels).sum())
        rows.append(
            {
                "set": name, "published": ARCHIVE[name], "ours": 100 * right / len(data.probes),
                "probes": len(data.probes), "aligned": found.warped.mean() / len(data.gallery),
            }
        )  # fmt: skip
    return rows


def truncated(sequences: Sequences, share: float, *, noise: bool, rng: np.random.Generator) -> Sequences:
    """Take a share of the frames off every sequence, at a random split between its ends.

    Parameters
    ----------
    sequences
        Standardised ones.
    share
        Of the frames of each, rounded to whole ones; one frame at least stays.
    noise
        Whether normal frames of deviation 1 stand in the place of those that are gone.
    rng
        Of the splits and of the noise.
    """
    cut = []
    for each in sequences:
        gone = min(round(share * len(each)), len(each) - 1)
        first = int(rng.integers(0, gone + 1))
        kept = each[first : len(each) - (gone - first)]
        if noise:
            others = rng.normal(size=(gone, each.shape[1]))
            kept = np.concatenate([others[:first], kept, others[first:]])
        cut.append(kept)
    return Sequences.of(cut)


def truncation(data: SequenceSet, *, cuts: int = 3, shares: Sequence[float] = SHARES) -> list[Row]:
    """Rank curves of probes that were cut, or have noise at their ends: means over random cuts.

    Intervals are those of a share of the probes alone, as if all cuts were one.
    """
    rows = []
    for noise in (False, True):
        for share in shares:
            matches = np.zeros((len(RULES), 2))
            times = cuts if share else 1
            for seed in range(times):
                rng = np.random.default_rng([int(noise), round(100 * share), seed])
                probes = truncated(data.probes, share, noise=noise, rng=rng)
                for number, rules in enumerate(RULES.values()):
                    found = rank_curve(
                        pair_distances(probes, data.gallery, rules), data.probe_labels, data.gallery_labels
                    )
                    matches[number] += np.array([found.matches(1), found.matches(2)]) / times
            about = {"frames": "noise" if noise else "cut", "share": share}
            rows += [
                _shares(first, second, len(data.probes), about | {"rules": name})
                for name, (first, second) in zip(RULES, matches.tolist(), strict=True)
            ]
    return rows


def _on_crossbar(gallery: Gallery, probes: Sequences, rules: Iterable[Rules]) -> list[npt.NDArray[np.float64]]:
    """Distances by several rules from local distances that are read once."""
    local = list(gallery.local_distances(probes, first_vector=0))
    return [warp_all(local, len(probes), gallery.sequences.offsets, each)[0] for each in rules]


def bits(data: SequenceSet, *, pairs: Sequence[tuple[int, int]] = BITS) -> list[Row]:
    """Ideal crossbars with few bits beside floating numbers."""
    rows = [
        _ranked(pair_distances(data.probes, data.gallery, rules), data, gallery_bits="", probe_bits="", rules=name)
        for name, rules in RULES.items()
    ]
    for weight, inputs in pairs:
        gallery = Gallery(data.gallery, design(weight, inputs), seed=0)
        found = _on_crossbar(gallery, data.probes, RULES.values())
        rows += [
            _ranked(each, data, gallery_bits=weight, probe_bits=inputs, rules=name)
            for name, each in zip(RULES, found, strict=True)
        ]
    return rows


def stuck(data: SequenceSet, *, dies: int = 10, rates: Sequence[float] = STUCK) -> list[Row]:
    """Crossbars with stuck cells, 5 bits of gallery and 8 of probes: one row a die.

    Mostly stuck-off cells with whole and with cut probes on all dies; the other polarity and other ways to get the
    norms of frames, on whole probes, on half of them.
    """
    cut = truncated(data.probes, _CUT, noise=False, rng=np.random.default_rng(0))
    probes = {"whole": data.probes, f"{_CUT:.0%} cut": cut}
    rows = []
    for rate in rates:
        for faults, norms, count in (
            (_MOSTLY_OFF, "cells", dies),
            (_MOSTLY_ON, "cells", -(-dies // 2)),
            (_MOSTLY_OFF, "codes", -(-dies // 2)),
            (_MOSTLY_OFF, "own", -(-dies // 2)),
        ):
            for die in range(1, count + 1):
                gallery = Gallery(data.gallery, design(5, 8, faults=faults, rate=rate), seed=die, norms=norms)  # type: ignore[arg-type]
                for name, each in probes.items():
                    if name != "whole" and (faults, norms) != (_MOSTLY_OFF, "cells"):
                        continue
                    about = {"stuck": rate, "cells": POLARITIES[faults], "norms": norms, "frames": name}
                    rows += [
                        _ranked(found, data, **about, rules=rule, die=die)
                        for rule, found in zip(RULES, _on_crossbar(gallery, each, RULES.values()), strict=True)
                    ]
    return rows


def _cepstra(split: str, *, words: Callable[[Any], Any], count: int) -> tuple[Sequences, npt.NDArray[np.int64]]:
    """Cepstral coefficients of the first recordings of a split, of some words, with their speakers."""
    from scipy.fft import dct

    recordings = load_spoken_digits(split)
    chosen = np.flatnonzero(words(recordings.labels[:count]))
    frames = [
        dct(log_mel(recordings.audio[number], recordings.rate).astype(np.float64), norm="ortho", axis=1)
        for number in chosen
    ]
    return Sequences.of([each[:, 1 : _COEFFICIENTS + 1] for each in frames]), recordings.speakers[chosen]


def speaker_sets() -> dict[str, SequenceSet]:
    """Spoken digits by six speakers: probes of the words of the gallery, and of other words."""
    sets = {}
    for name, first, second in (
        ("the same words", lambda word: word >= 0, lambda word: word >= 0),
        ("other words", lambda word: word < 5, lambda word: word >= 5),
    ):
        gallery, owners = _cepstra("test", words=first, count=180 if name == "the same words" else 300)
        probes, labels = _cepstra("train", words=second, count=600 if name == "the same words" else 1200)
        sets[name] = SequenceSet(
            gallery=gallery.standardised(gallery), gallery_labels=owners,
            probes=probes.standardised(gallery), probe_labels=labels, classes=tuple(map(str, range(6))),
        )  # fmt: skip
    return sets


def speakers(sets: dict[str, SequenceSet], *, dies: int = 3) -> list[Row]:
    """Speakers by spoken digits: floating numbers, ideal crossbars, and crossbars with a tenth of the cells stuck."""
    rules = RULES | {"TS-DTW": TimeShift(most=16, overlap=10)}
    rows = []
    for name, data in sets.items():
        found = [(-1, "floating", [pair_distances(data.probes, data.gallery, each) for each in rules.values()])]
        for die in range(dies + 1):
            chosen = design(5, 8, faults=_MOSTLY_OFF, rate=0.1) if die else design(5, 8)
            gallery = Gallery(data.gallery, chosen, seed=die)
            kept = [each for rule, each in rules.items() if die == 0 or rule != "TS-DTW"]
            found.append((die, "10 % stuck" if die else "5 and 8 bits", _on_crossbar(gallery, data.probes, kept)))
        rows += [
            _ranked(distances, data, probes_are=name, gallery=what, rules=rule, die=max(die, 0))
            for die, what, each in found
            for rule, distances in zip(rules, each, strict=False)
        ]
    return rows


def costs(data: SequenceSet) -> list[Row]:
    """What a match costs on crossbars and on a digital machine, on ISAAC's hardware with prices of Horowitz."""
    fast = design(4, 4)
    fast = fast.replace(periphery=replace(fast.periphery, dac_bits=3))
    rows = []
    for name, chosen, context, rules in (
        ("5 and 8 bits", design(5, 8), 0, "DTW"),
        ("5 and 8 bits", design(5, 8), 0, "TS-DTW"),
        ("4 and 4 bits", design(4, 4), 0, "DTW"),
        ("4 and 4 bits, 3 at a time", fast, 0, "DTW"),
        ("4 and 4 bits, 9 frames", design(4, 4), _CONTEXT, "DTW"),
        ("4 and 4 bits, 9 frames, 3 at a time", fast, _CONTEXT, "DTW"),
    ):
        gallery = Gallery(data.gallery, chosen, seed=0, context=context)
        found = gallery.cost(data.probes, RULES[rules])
        rank = _ranked(_on_crossbar(gallery, data.probes, [RULES[rules]])[0], data)["rank1"]
        rows.append(
            {
                "design": name, "rules": rules, "rank1": rank, "arrays": found.report.layers[0].use.arrays,
                "reads": found.reads, "conversions": found.conversions, "adc_bits": found.report.layers[0].use.adc_bits,
                "arrays_J": found.array_energy, "local_J": found.local_energy, "warping_J": found.warping_energy,
                "energy_J": found.energy, "digital_J": found.digital_energy, "reads_s": found.latency,
                "keeping_up_per_s": found.keeping_up, "calibration_reads": gallery.calibration_reads,
            }
        )  # fmt: skip
    return rows


# ------------------------------------------------------------------------------------------- what is shown


def over_dies(rows: Sequence[Row], **which: Any) -> tuple[list[float], list[float], list[float]]:
    """Rates, means of rank 1 over dies, and half-widths of their 95 % intervals (Student's t; 0 for one die)."""
    chosen = [row for row in rows if all(row[key] == value for key, value in which.items())]
    rates = sorted({row["stuck"] for row in chosen})
    means, halves = [], []
    for rate in rates:
        values = [row["rank1"] for row in chosen if row["stuck"] == rate]
        means.append(math.fsum(values) / len(values))
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        halves.append(student_half_width(deviation, len(values), 0.95) if len(values) > 1 else 0.0)
    return rates, means, halves


_STYLES = dict(zip(RULES, (("#0072B2", "o"), ("#009E73", "^"), ("#D55E00", "s")), strict=True))


def picture(cut: Sequence[Row], few: Sequence[Row], faulty: Sequence[Row]) -> Figure:
    """Rank 1 against what is cut, what is noise, bits, and stuck cells."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 7.6), layout="constrained", dpi=150)
    panels = figure.subplots(2, 2)
    for axes, frames, title in (
        (panels[0, 0], "cut", "frames cut off at both ends"), (panels[0, 1], "noise", "noise in the place of frames"),
    ):  # fmt: skip
        for name, (colour, marker) in _STYLES.items():
            rows = [row for row in cut if row["frames"] == frames and row["rules"] == name]
            places = [100 * row["share"] for row in rows]
            axes.plot(places, [row["rank1"] for row in rows], color=colour, marker=marker, label=name)
            axes.fill_between(
                places, [row["low"] for row in rows], [row["high"] for row in rows],
                color=colour, alpha=0.15, linewidth=0,
            )  # fmt: skip
        axes.set_xlabel("frames of a probe that are gone (%)")
        axes.set_ylim(40, 100)
        axes.set_title(title, fontsize=10)
    _bits_panel(panels[1, 0], few)
    _stuck_panel(panels[1, 1], faulty)
    for axes in panels.flat:
        axes.set_ylabel("rank 1: right speaker first (%)")
        axes.grid(color="0.92", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(frameon=False, fontsize=9, title="bands: 95 % over probes", title_fontsize=9)
    return figure


def _bits_panel(axes: Axes, rows: Sequence[Row]) -> None:
    names = list(dict.fromkeys((row["gallery_bits"], row["probe_bits"]) for row in rows))
    for shift, (name, (colour, marker)) in enumerate(_STYLES.items()):
        chosen = [row for row in rows if row["rules"] == name]
        places = [names.index((row["gallery_bits"], row["probe_bits"])) + 0.14 * (shift - 1) for row in chosen]
        values = np.array([row["rank1"] for row in chosen])
        errors = np.array([[row["rank1"] - row["low"], row["high"] - row["rank1"]] for row in chosen]).T
        axes.errorbar(places, values, errors, color=colour, marker=marker, linestyle="none", capsize=2, label=name)
    axes.set_xticks(range(len(names)), ["float" if not weight else f"{weight}/{inputs}" for weight, inputs in names])
    axes.set_xlabel("bits of gallery / probe, sign included")
    axes.set_title("ideal crossbars (bars: 95 % over probes)", fontsize=10)


def _stuck_panel(axes: Axes, rows: Sequence[Row]) -> None:
    same = {"norms": "cells", "cells": POLARITIES[_MOSTLY_OFF]}
    lines = [
        (f"{name}, {frames}", same | {"frames": frames, "rules": name}, dash)
        for frames, dash in (("whole", "-"), (f"{_CUT:.0%} cut", "--"))
        for name in ("DTW", "TS-DTW")
    ]
    for label, which, dash in lines:
        rates, means, halves = over_dies(rows, **which)
        colour, marker = _STYLES[which["rules"]]
        places = [100 * rate for rate in rates]
        axes.plot(places, means, color=colour, marker=marker, linestyle=dash, label=label)
        axes.fill_between(
            places, np.subtract(means, halves), np.add(means, halves), color=colour, alpha=0.15, linewidth=0
        )
    rates, means, halves = over_dies(rows, norms="own", cells=same["cells"], frames="whole", rules="DTW")
    places = [100 * rate for rate in rates]
    axes.plot(places, means, color="0.45", marker="x", linestyle=":", label="DTW, whole, norms own")
    axes.fill_between(places, np.subtract(means, halves), np.add(means, halves), color="0.45", alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()
    axes.set_xlabel("cells stuck (%), mostly off; gallery of 5 bits, probes of 8")
    axes.set_title("faulty crossbars (bands: 95 % over dies)", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower left", handlelength=4)


def _print(title: str, rows: Sequence[Row], left: int = 1) -> None:
    def text(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    typer.echo(f"\n{title}")
    typer.echo(format_table(list(rows[0]), [[text(value) for value in row.values()] for row in rows], left=left))


def main(
    dies: Annotated[int, typer.Option(help="Faulty dies a point.", min=1)] = 10,
    cuts: Annotated[int, typer.Option(help="Random cuts of all probes.", min=1)] = 3,
    output: Annotated[Path, typer.Option(help="Folder for tables and the picture.")] = FIGURES,
) -> None:
    """Match sequences that were cut, on crossbars that are faulty; write tables and a picture."""
    known = archive(load_sequences)
    _print("nearest neighbour by DTW, accuracy (%); aligned: share of the gallery that no bound excluded", known)
    data = load_sequences("JapaneseVowels", standardise=True)
    cut = truncation(data, cuts=cuts, shares=SHARES)
    _print("probes that were cut, rank 1 and 2 (%)", cut, left=3)
    few = bits(data, pairs=BITS)
    _print("ideal crossbars, rank 1 and 2 (%)", few, left=3)
    faulty = stuck(data, dies=dies, rates=STUCK)
    groups = list(dict.fromkeys((row["cells"], row["norms"], row["frames"], row["rules"]) for row in faulty))
    means = []
    for group in groups:
        which = dict(zip(("cells", "norms", "frames", "rules"), group, strict=True))
        rates, values, halves = over_dies(faulty, **which)
        means.append(
            which | {f"{100 * r:g} %": f"{v:.1f}±{h:.1f}" for r, v, h in zip(rates, values, halves, strict=True)}
        )
    _print("stuck cells, rank 1 (%): mean over dies and half-width of its 95 % interval", means, left=4)
    spoken = speakers(speaker_sets(), dies=min(dies, 3))
    _print("speakers by spoken digits, rank 1 and 2 (%)", spoken, left=3)
    cost = costs(data)
    _print("one match (a probe against the gallery), joules and seconds", cost, left=2)
    typer.echo(
        "only local distances are read from crossbars; published fabrics of memristors (12 to 43 x as fast, 51 to "
        "287 x less energy, Xu et al., TCAD 37(4), 2018) compute the whole recurrence. Warping has no time here, the "
        "digital machine no memories but for the rows of the warping, which both machines keep."
    )
    output.mkdir(parents=True, exist_ok=True)
    for name, rows in (
        ("archive", known), ("truncation", cut), ("bits", few), ("stuck", faulty), ("speakers", spoken), ("cost", cost),
    ):  # fmt: skip
        write_atomically(output / f"tsdtw2017_{name}.csv", csv_bytes(rows))
    save_figure(picture(cut, few, faulty), output / "tsdtw2017.png")


if __name__ == "__main__":
    typer.run(main)
