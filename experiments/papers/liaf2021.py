"""Leaky integrate and analog fire (LIAF) against spikes (LIF) and gates: accuracy, and what each costs on crossbars.

``python -m xbarsim.experiments.papers.liaf2021`` measures the stored networks and prints three tables:

- N-MNIST, 10 bins of 30 ms: convolutions 2-16-32 and a linear layer, of LIF neurons, of LIAF neurons (with 10 bins and
  with 3 of 100 ms), and of rectifiers on the sum of the bins. 1,100 recordings in 5 parts: each is judged by the
  network that was trained on the other four;
- spoken digits (FSDD), 32 frames of 32 ms: one recurrent layer of LIF or LIAF neurons against GRU and LSTM, with as
  many parameters each;
- questions about stories (bAbI, five tasks), read sentence by sentence: the same four kinds of layer;
- the same networks of events on crossbars: spikes as one-bit inputs, analog values with 1 to 4 bits; activity, reads,
  conversions and energy of an inference, and accuracy on dies with stuck cells.

It writes tables and a picture into experiments/figures. ``--train FOLDER`` repeats everything from nothing; a run that
is cut short goes on.

The published figures are of data sets that are not at hand, so that they stand for context: no table here has a line of
the paper's. Settings were chosen on parts of the training data.

Z. Wu et al., LIAF-Net: Leaky Integrate and Analog Fire Network for Lightweight and Efficient Spatiotemporal Information
Processing, IEEE Trans. Neural Networks and Learning Systems 33, 6249 (2022), doi:10.1109/TNNLS.2021.3073016 (arXiv
2011.06176); accuracies as later comparisons quote them: DVS128 Gesture 97.56 %, CIFAR10-DVS 70.40 %, MNIST-DVS 99.1 %;
on bAbI "comparable to GRU and LSTM", a table that was not to be had.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from torch import Tensor

import xbarsim as xb
from xbarsim.cost import Hardware
from xbarsim.devices import Cell, fault_preset
from xbarsim.experiments.fits.train_liaf import (
    ARMS,
    BITS,
    FOLDER,
    as_inputs,
    judges,
    load_run,
    parts_of,
    train_run,
)
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.intervals import FewDiesWarning, mean_interval, share_interval
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import write_atomically
from xbarsim.mapping import Mapping, TwoColumn
from xbarsim.network import MappedNetwork
from xbarsim.network.layers import DigitalLayer, QuantisedLayer
from xbarsim.network.samples import Samples
from xbarsim.plot import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Accuracy", "Faulty", "OnCrossbars", "accuracies", "main", "on_crossbars", "on_faulty_crossbars", "picture"]

PUBLISHED = {"DVS128 Gesture": 97.56, "CIFAR10-DVS": 70.40, "MNIST-DVS": 99.1}
_CALIBRATION = 100


def _right(model: Any, images: Tensor, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which samples a network, digital or on a die, puts in the right class."""
    with torch.no_grad():
        answers = [
            torch.as_tensor(model(images[start : start + 110])).argmax(dim=1).numpy()
            for start in range(0, len(images), 110)
        ]
    return np.asarray(np.concatenate(answers) == labels)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """What networks of one kind are right in, in floating point.

    Attributes
    ----------
    task, arm
        Data set, and kind of network.
    parameters
        Of one network.
    runs, samples
        Networks, and samples that judge each, on the mean.
    accuracy, low, high
        %, and its 95 % interval: of parts, that of the share of all recordings (Clopper-Pearson); of seeds, that of the
        mean (Student), cut at 0 and 100, which does not hold the chance by which these recordings, or questions, are
        easier or harder than others.
    least, most
        Of the networks, %.
    """

    task: str
    arm: str
    parameters: int
    runs: int
    samples: int
    accuracy: float
    low: float
    high: float
    least: float
    most: float


def accuracies(name: str, folder: Path = FOLDER) -> Accuracy:
    """Judge the networks of one arm in floating point."""
    arm = ARMS[name]
    networks = [load_run(name, run, folder) for run in range(arm.runs)]
    right = [_right(network, *judges(arm, run)) for run, network in enumerate(networks)]
    shares = [float(each.mean()) for each in right]
    if arm.bins:
        interval = share_interval(sum(int(each.sum()) for each in right), sum(map(len, right)))
    else:
        with warnings.catch_warnings():  # that these are few, the table says
            warnings.simplefilter("ignore", FewDiesWarning)
            interval = mean_interval(shares)
    return Accuracy(
        task=arm.data, arm=arm.title,
        parameters=sum(parameter.numel() for parameter in networks[0].parameters()),
        runs=arm.runs, samples=round(sum(map(len, right)) / arm.runs), accuracy=round(100 * interval.estimate, 3),
        low=round(100 * max(interval.low, 0.0), 3), high=round(100 * min(interval.high, 1.0), 3),
        least=round(100 * min(shares), 3),
        most=round(100 * max(shares), 3),
    )  # fmt: skip


# --- on crossbars


def design(bits: int) -> xb.Design:
    """16-level cells in arrays of 128 x 128, 9-bit weights, inputs bit by bit, converters that lose nothing."""
    return xb.Design(
        cell=Cell.load("wan2022").without_errors(),
        mapping=Mapping(encoding=TwoColumn(), rows=128, columns=128, weight_bits=BITS, cell_bits=4),
        periphery=xb.Periphery(input_bits=bits, adc_range="lossless"),
    )


def mapped(name: str, run: int, bits: int, folder: Path = FOLDER) -> MappedNetwork:
    """A trained network on crossbars; calibrated on a hundred samples that it was trained on."""
    arm = ARMS[name]
    (levels, labels), _ = parts_of(arm, run)
    images, _ = as_inputs(arm, levels[:_CALIBRATION], labels)
    return xb.map_model(load_run(name, run, folder), design(bits), calibration=images)


def activity(network: MappedNetwork, images: Tensor) -> dict[str, tuple[float, float]]:
    """Share of the inputs of each layer that are not 0, and share of the bits of its inputs that are 1."""
    found: dict[str, list[float]] = {}

    def record(layer: QuantisedLayer, codes: npt.NDArray[np.int32]) -> None:
        total = found.setdefault(layer.name, [0.0, 0.0, 0.0])
        total[0] += int(np.count_nonzero(codes))
        total[1] += sum(int(np.count_nonzero(codes >> bit & 1)) for bit in range(layer.input_bits))
        total[2] += codes.size

    layers = {name: DigitalLayer(each.layer, record) for name, each in network.layers.items()}
    network.skeleton.run(Samples.of(images), layers)
    return {
        name: (nonzero / size, ones / size / network.layers[name].layer.input_bits)
        for name, (nonzero, ones, size) in found.items()
    }


@dataclass(frozen=True, kw_only=True)
class OnCrossbars:
    """One kind of network on ideal crossbars; counts and energies are of one inference of the first network.

    Attributes
    ----------
    arm, bits
        Kind of network, and bits that the design drives inputs with (spikes and events take one of them).
    accuracy, low, high
        %, of all recordings, and its 95 % interval (Clopper-Pearson).
    gain, gain_low, gain_high
        Points more than LIF on the same recordings, and the 95 % interval of the paired difference.
    steps
        Time steps.
    activity, ones
        Share of the inputs that are not 0, and of their bits that are 1; means over layers, by the bits that word lines
        get.
    reads, conversions
        Of arrays, and of converters.
    membranes, accesses
        Neurons with a state, and reads and writes of states, which are priced in the digital energy.
    energy, digital_energy
        nJ: of everything, and what part of it is priced digital operations.
    """

    arm: str
    bits: int
    accuracy: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    steps: int
    activity: float
    ones: float
    reads: int
    conversions: int
    membranes: int
    accesses: int
    energy: float
    digital_energy: float


POINTS: tuple[tuple[str, int], ...] = (
    ("lif", 1), ("liaf", 1), ("liaf", 2), ("liaf", 3), ("liaf", 4), ("liaf3", 1), ("liaf3", 2), ("liaf3", 3),
    ("liaf3", 4), ("cnn", 4), ("cnn", 8),
)  # fmt: skip
"""Kinds of network and bits that are put on crossbars."""


def right_on_crossbars(
    name: str, run: int, bits: int, folder: Path = FOLDER, *, check: int = 4
) -> npt.NDArray[np.bool_]:
    """Which samples one network puts in the right class on ideal crossbars.

    Raises
    ------
    AssertionError
        If an ideal die does not give the quantised network's answer to the first `check` of them bit for bit.
    """
    network = mapped(name, run, bits, folder)
    images, labels = judges(ARMS[name], run)
    if not torch.equal(network.fabricate(seed=run)(images[:check]), network.digital(images[:check])):
        raise AssertionError(f"an ideal die of {ARMS[name].title} with {bits} bits is not the quantised network")
    return _right(network.digital, images, labels)


def on_crossbars(points: Sequence[tuple[str, int]], folder: Path = FOLDER, *, check: int = 4) -> list[OnCrossbars]:
    """Accuracy and cost of networks of events on ideal crossbars.

    Parameters
    ----------
    points
        Kinds of network and bits; the first is what others are compared with.
    folder
        Of the networks.
    check
        Recordings of every part that are run on an ideal die as well, which must answer bit for bit the same.
    """
    rows: list[OnCrossbars] = []
    reference: npt.NDArray[np.float64] | None = None
    hardware = Hardware.load("isaac2016").with_digital("horowitz2014")
    for name, bits in points:
        arm = ARMS[name]
        right = [right_on_crossbars(name, run, bits, folder, check=check) for run in range(arm.runs)]
        joined = np.concatenate(right).astype(np.float64)
        reference = joined if reference is None else reference
        share = share_interval(int(joined.sum()), len(joined))
        gain = mean_interval(joined - reference)
        first = mapped(name, 0, bits, folder)
        seen = activity(first, judges(arm, 0)[0])
        work = first.cost(hardware).workload()
        driven = {layer.use.name: layer.actions.input_bit for layer in work.layers}
        active, ones = (
            math.fsum(driven[layer] * shares[place] for layer, shares in seen.items()) / math.fsum(driven.values())
            for place in (0, 1)
        )
        accesses = sum(int(use.state_accesses) for use in work.peak.digital)
        rows.append(
            OnCrossbars(
                arm=arm.title, bits=bits, accuracy=round(100 * share.estimate, 3), low=round(100 * share.low, 3),
                high=round(100 * share.high, 3), gain=round(100 * gain.estimate, 3), gain_low=round(100 * gain.low, 3),
                gain_high=round(100 * gain.high, 3), steps=arm.bins, activity=round(active, 5), ones=round(ones, 5),
                reads=round(sum(layer.actions.read for layer in work.layers)),
                conversions=round(sum(layer.actions.conversion for layer in work.layers)),
                membranes=accesses // (2 * arm.bins), accesses=accesses, energy=float(f"{1e9 * work.energy:.6g}"),
                digital_energy=float(f"{1e9 * work.digital_energy:.6g}"),
            )
        )  # fmt: skip
    return rows


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """What stuck cells cost one kind of network.

    Attributes
    ----------
    arm, bits, rate
        Kind of network, bits of its inputs, and share of the cells that are stuck.
    dies
        That were measured, equally many of each network, each on the recordings that its network was not trained on.
    accuracy, low, high
        Mean of the dies and its 95 % interval (Student), %.
    lost, lost_low, lost_high
        Points against the same network on sound cells, and the interval of its mean.
    """

    arm: str
    bits: int
    rate: float
    dies: int
    accuracy: float
    low: float
    high: float
    lost: float
    lost_low: float
    lost_high: float


FAULTY: tuple[tuple[str, int], ...] = (("lif", 1), ("liaf", 4), ("liaf3", 4), ("cnn", 8))
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)


def on_dies(name: str, run: int, bits: int, *, dies: int, folder: Path = FOLDER) -> dict[float, list[float]]:
    """Accuracy of one network on sound cells (rate 0) and on dies with stuck ones, %, by rate.

    Most of the cells are stuck off.
    """
    images, labels = judges(ARMS[name], run)
    network = mapped(name, run, bits, folder)
    found = {0.0: [100 * float(_right(network.digital, images, labels).mean())]}
    for rate in RATES:
        broken = network.with_faults(fault_preset("chen2015_sa0_lrs").faults.with_total(rate))
        found[rate] = [
            100 * float(_right(broken.fabricate(seed=1000 * run + die), images, labels).mean()) for die in range(dies)
        ]
    return found


def on_faulty_crossbars(name: str, bits: int, runs: Sequence[dict[float, list[float]]]) -> list[Faulty]:
    """What :func:`on_dies` gave for every network of one kind, as one row a rate."""
    rows = []
    for rate in RATES:
        shares = [share for run in runs for share in run[rate]]
        accuracy = mean_interval(shares)
        lost = mean_interval([run[0.0][0] - share for run in runs for share in run[rate]])
        numbers = [round(x, 3) for each in (accuracy, lost) for x in (each.estimate, each.low, each.high)]
        rows.append(
            Faulty(
                arm=ARMS[name].title, bits=bits, rate=rate, dies=len(shares), accuracy=numbers[0], low=numbers[1],
                high=numbers[2], lost=numbers[3], lost_low=numbers[4], lost_high=numbers[5],
            )
        )  # fmt: skip
    return rows


# --- tables, picture, command


def accuracy_table(rows: Sequence[Accuracy]) -> str:
    """Accuracies, floating point."""
    return format_table(
        ("data", "network", "parameters", "networks", "accuracy (%)", "95 % interval", "networks from .. to"),
        [
            (
                row.task, row.arm, f"{row.parameters:,}", row.runs, f"{row.accuracy:.2f}",
                f"{row.low:.2f} to {row.high:.2f}", f"{row.least:.2f} .. {row.most:.2f}",
            )
            for row in rows
        ],
        left=2,
    )  # fmt: skip


def crossbar_table(rows: Sequence[OnCrossbars]) -> str:
    """Networks of events on ideal crossbars."""
    header = (
        "network", "bits", "steps", "accuracy (%)", "more than LIF", "95 % interval", "activity", "reads",
        "conversions", "states", "energy (nJ)", "digital (nJ)",
    )  # fmt: skip
    return format_table(
        header,
        [
            (
                row.arm, row.bits, row.steps, f"{row.accuracy:.2f}", f"{row.gain:+.2f}",
                f"{row.gain_low:+.2f} to {row.gain_high:+.2f}", f"{row.activity:.3f}", f"{row.reads:,.0f}",
                f"{row.conversions:,.0f}", f"{row.membranes:,}", f"{row.energy:,.0f}", f"{row.digital_energy:,.0f}",
            )
            for row in rows
        ],
        left=1,
    )  # fmt: skip


def per_joule(rows: Sequence[OnCrossbars]) -> str:
    """At which width analog values take no more energy than spikes, and what they are worth then."""
    spikes, *others = rows
    lines = []
    for row in others:
        if row.gain_low > 0:
            verdict = "more accurate"
        elif row.gain_high < 0:
            verdict = "less accurate"
        else:
            verdict = "not to be told apart in accuracy"
        bits = "1 bit" if row.bits == 1 else f"{row.bits} bits"
        ratio = row.energy / spikes.energy
        lines.append(f"{row.arm}, {bits}: {ratio:.2f} x the energy of LIF, {verdict} ({row.gain:+.2f} points)")
    return "\n".join(lines)


def faulty_table(rows: Sequence[Faulty]) -> str:
    """What stuck cells cost."""
    return format_table(
        ("network", "bits", "stuck", "dies", "accuracy (%)", "points lost", "95 % interval"),
        [
            (
                row.arm, row.bits, f"{row.rate:.1%}", row.dies, f"{row.accuracy:.2f}", f"{row.lost:.2f}",
                f"{row.lost_low:.2f} to {row.lost_high:.2f}",
            )
            for row in rows
        ],
        left=1,
    )  # fmt: skip


def _draw_stories(axes: Axes, rows: Sequence[Accuracy]) -> None:
    """Tasks, and side by side the kinds of network."""
    tasks, names = (list(dict.fromkeys(values)) for values in ((row.task for row in rows), (row.arm for row in rows)))
    for number, (name, colour) in enumerate(zip(names, ("#D55E00", "#0072B2", "#009E73", "#CC79A7"), strict=False)):
        part = [row for row in rows if row.arm == name]
        axes.errorbar(
            [tasks.index(row.task) + 0.16 * (number - (len(names) - 1) / 2) for row in part],
            [row.accuracy for row in part],
            yerr=np.array([(row.accuracy - row.low, row.high - row.accuracy) for row in part]).T,
            fmt="o", color=colour, capsize=3, markersize=5, label=name,
        )  # fmt: skip
    axes.set_xticks(range(len(tasks)), [task.removeprefix("bAbI ").replace(", ", ",\n") for task in tasks])
    axes.set_ylabel("accuracy, questions about stories (%)")
    axes.set_title("bAbI, as many parameters, floating point", fontsize=10)


def picture(judged: Sequence[Accuracy], crossbars: Sequence[OnCrossbars], faulty: Sequence[Faulty]) -> Figure:
    """Accuracy against energy, accuracy against stuck cells, spoken digits, and stories."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 8.6), layout="constrained", dpi=150)
    (energy, stuck), (words, stories) = figure.subplots(2, 2, width_ratios=(1.15, 1.0))
    names = list(dict.fromkeys(row.arm for row in crossbars))
    colours = dict(zip(names, ("#D55E00", "#0072B2", "#56B4E9", "#777777"), strict=False))
    for name in names:
        part = [row for row in crossbars if row.arm == name]
        reach = np.array([(row.accuracy - row.low, row.high - row.accuracy) for row in part]).T
        energy.errorbar(
            [row.energy for row in part], [row.accuracy for row in part], yerr=reach, fmt="o-", color=colours[name],
            capsize=3, elinewidth=0.9, linewidth=1.3, markersize=5, label=name,
        )  # fmt: skip
        for row in part:
            energy.annotate(
                f"{row.bits} b", (row.energy, row.accuracy), xytext=(5, 5), textcoords="offset points", fontsize=8,
                color=colours[name],
            )  # fmt: skip
    energy.set_xscale("log")
    cheapest, dearest = (limit(row.energy for row in crossbars) for limit in (min, max))
    marks = [mark for mark in (100, 200, 500, 1000, 2000, 5000, 10_000) if cheapest / 2 <= mark <= 2 * dearest]
    energy.set_xticks(marks, [f"{mark:,}" for mark in marks])
    energy.minorticks_off()
    energy.set_xlabel("energy of an inference (nJ)")
    energy.set_ylabel("accuracy, N-MNIST (%)")
    energy.set_title("spikes and analog values on ideal crossbars", fontsize=10)
    for name in dict.fromkeys(each.arm for each in faulty):
        curve = [each for each in faulty if each.arm == name]
        rates = [100 * each.rate for each in curve]
        low, high = [each.lost_low for each in curve], [each.lost_high for each in curve]
        stuck.plot(rates, [each.lost for each in curve], "o-", color=colours[name], label=f"{name}, {curve[0].bits} b")
        stuck.fill_between(rates, low, high, color=colours[name], alpha=0.15, linewidth=0)
    stuck.set_xscale("log")
    stuck.set_xticks([100 * rate for rate in RATES], [f"{100 * rate:g}" for rate in RATES])
    stuck.minorticks_off()
    stuck.set_xlabel("stuck cells (%)")
    stuck.set_ylabel("points lost")
    stuck.invert_yaxis()
    stuck.set_title("dies with stuck cells, N-MNIST", fontsize=10)
    spoken = [each for each in judged if each.task == "FSDD"]
    for place, one in enumerate(spoken):
        words.errorbar(
            [place], [one.accuracy], yerr=[[one.accuracy - one.low], [one.high - one.accuracy]], fmt="o",
            color="#0072B2", capsize=4,
        )  # fmt: skip
    words.set_xticks(range(len(spoken)), [each.arm for each in spoken])
    words.set_xlim(-0.5, max(0.5, len(spoken) - 0.5))
    words.set_ylabel("accuracy, spoken digits (%)")
    words.set_title("as many parameters, floating point", fontsize=10)
    _draw_stories(stories, [each for each in judged if each.task.startswith("bAbI")])
    for axes in (energy, stuck, words, stories):
        axes.grid(color="0.92", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in (energy, stuck, stories):
        axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def main(
    dies: Annotated[int, typer.Option(help="Faulty dies of every network at each rate; 0 for none.", min=0)] = 4,
    train_in: Annotated[
        Path | None, typer.Option("--train", help="Train everything from nothing in this folder, and measure that.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and the picture.")] = FIGURES,
) -> None:
    """Measure the networks, print tables, and write them with a picture."""
    torch.set_num_threads(1)  # sums in one order
    folder = FOLDER if train_in is None else train_in
    if train_in is not None:
        for name, arm in ARMS.items():
            for run in range(arm.runs):
                train_run(name, run, folder)
    judged = [accuracies(name, folder) for name in ARMS]
    typer.echo(accuracy_table(judged))
    said = ", ".join(f"{name} {value} %" for name, value in PUBLISHED.items())
    typer.echo(f"published, LIAF, other data: {said}; bAbI comparable to GRU and LSTM\n")
    crossbars = on_crossbars(POINTS, folder)
    typer.echo(crossbar_table(crossbars) + "\n\n" + per_joule(crossbars) + "\n")
    faulty: list[Faulty] = []
    for name, bits in FAULTY if dies else ():
        runs = [on_dies(name, run, bits, dies=dies, folder=folder) for run in range(ARMS[name].runs)]
        faulty += on_faulty_crossbars(name, bits, runs)
    if faulty:
        typer.echo(faulty_table(faulty))
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "liaf2021.csv", csv_bytes(asdict(row) for row in judged))
    write_atomically(output / "liaf2021_crossbars.csv", csv_bytes(asdict(row) for row in crossbars))
    if faulty:
        write_atomically(output / "liaf2021_faults.csv", csv_bytes(asdict(row) for row in faulty))
    save_figure(picture(judged, crossbars, faulty), output / "liaf2021.png")


if __name__ == "__main__":
    typer.run(main)
