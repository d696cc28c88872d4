"""The NeuRRAM chip predicted: weight noise beside its authors' table, and measured accuracies by their named causes.

``python -m xbarsim.experiments.papers.neurram2022`` reads the published networks of the chip in place (the data folder
must hold them) and measures two things.

*Weight noise.* ResNet-20 trained with noise on its weights of 0, 5, 10 and 15 % of the largest weight of a layer,
tested with as much; the noise is Gaussian, new for every run, on the kernels of convolutions and of the linear layer,
not on biases. Beside it the authors' table.

*The chip.* The networks that ran on it, on 256 x 256 arrays of the cells and the converters as far as they are known:
first in floating point, then with one cause of error after another, on several dies; and what the chip was measured to
give. A prediction is for one chip: its interval is that of one more die. What is assumed: analog weights are codes of 8
bits and a sign, on a scale for each layer; converters of 8 bits span the largest sum of the calibration; inputs, of 3
and 4 bits, are read whole. What the source does not give is tried one thing at a time: coarser converters, wires, cells
that missed their target, lines that its authors left out. What no design here can say is left out: the voltage-mode
read (a column's signal over its summed conductance), offsets of neurons, and the fine-tuning of later layers to the
chip's own outputs.

``--part noise`` or ``--part chip`` measures one of them and keeps the other's table.

W. Wan et al., A compute-in-memory chip based on resistive random-access memory, Nature 608, 504-512 (2022),
doi:10.1038/s41586-022-04992-8; networks and tables: github.com/weierwan/Neurram_48core, commit 2ed5f8d8.
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from torch import nn

import xbarsim as xb
from xbarsim.circuit import Wires
from xbarsim.data import data_file, load_cifar10, load_mnist
from xbarsim.devices import Cell, FaultModel, StuckFaults, fault_preset
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.intervals import student_half_width, student_quantile
from xbarsim.foundation.progress import progress_bar
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import InputError, check_choice, write_atomically
from xbarsim.mapping import Mapping, TwoColumn
from xbarsim.models import load_neurram_network
from xbarsim.plot import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CAUSES", "NETWORKS", "main", "measure_chip", "measure_noise", "picture", "published_noise"]

PARTS = ("noise", "chip")
LEVELS = (0.0, 0.05, 0.10, 0.15)
"""Weight noise in training and in the test, of the largest weight of a layer."""

NETWORKS = {
    "ResNet-20, CIFAR-10": ("resnet20_fine_tuned", "cifar10", 83.67),
    "7 layers, MNIST": ("mnist_0.15", "mnist", 99.02),
}
"""Network, data set, and what was measured on the chip, %; ResNet-20 gave 84.72 up to the end of its last stage."""

CAUSES = (
    "floating point",
    "weights and inputs in codes",
    "converters of 8 bits",
    "programming and 1 s of relaxation",
    "if 0.77 % of the cells were stuck off",
    "if converters had 5 bits",
    "if a cell's wires had 0.5 ohm each",
    "if broken lines were in use",
)
"""One on top of the other; those with *if* each on top of the four before them: what the source does not say."""

_NEAR = 15.0  # points below the best that a picture reaches
_WIRE = 0.5  # ohm from cell to cell, assumed
_MISSED = 10 / 1300  # share of the cells that were not within 1 uS of their target after 50 pulses
_BATCH = 250  # images; changes no answer
_CALIBRATION = 256  # training images

Images = tuple[torch.Tensor, npt.NDArray[np.int64]]


def _images(data_set: str, split: str, count: int | None) -> Images:
    load: Callable[[str], Any] = {"cifar10": load_cifar10, "mnist": load_mnist}[data_set]
    pixels, labels = load(split)
    pixels = pixels[:count].reshape(-1, *((3, 32, 32) if data_set == "cifar10" else (1, 28, 28)))
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(255)), labels[:count]


def _accuracy(model: nn.Module, images: torch.Tensor, labels: npt.NDArray[np.int64]) -> float:
    with torch.no_grad():
        answers = [model(images[start : start + _BATCH]).argmax(dim=1) for start in range(0, len(images), _BATCH)]
    return float((torch.cat(answers).numpy() == labels).mean())


# --- weight noise


def published_noise() -> dict[tuple[float, float], float]:
    """The authors' accuracy by noise in training and in the test, both of the largest weight, as shares."""
    with data_file("neurram", "authors_tables.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == "cifar10_resnet20"]
    return {(float(row["train_noise"]), float(row["test_noise"])): float(row["value"]) for row in rows}


def _noisy(model: nn.Module, noise: float, generator: torch.Generator) -> nn.Module:
    """A copy whose kernels have Gaussian noise, of so much of the largest weight of each."""
    model = copy.deepcopy(model)
    for part in model.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            weight = part.weight.detach()
            draw = torch.randn(weight.shape, generator=generator)
            part.weight = nn.Parameter(weight + noise * float(weight.abs().max()) * draw)
    return model


def measure_noise(*, images: int | None, draws: int, parts: int = 4, seed: int = 1) -> list[dict[str, Any]]:
    """Accuracy of ResNet-20 with noise on its weights.

    Parameters
    ----------
    images
        Test images; ``None`` for all.
    draws
        Of the noise. Each is tested on one of `parts` parts of the images, in turn; a network without noise on all.
    parts
        Into how many the images are cut.
    seed
        Of the noise.

    Returns
    -------
    list of dict
        For each noise in training and in the test: accuracy, its standard error over draws, and the published one, %.
    """
    if draws % parts:
        raise InputError(f"draws must be a multiple of the {parts} parts of the images, got {draws}")
    pixels, labels = _images("cifar10", "test", images)
    published = published_noise()
    rows = []
    with progress_bar("networks") as bar:
        task = bar.add_task("weight noise", total=len(LEVELS) * (1 + draws * (len(LEVELS) - 1)))
        for trained in LEVELS:
            model = load_neurram_network(f"resnet20_{trained:.2f}")
            for level, tested in enumerate(LEVELS):
                found = []
                for draw in range(draws if tested else 1):
                    key = np.random.SeedSequence([seed, level, draw]).generate_state(1)[0]
                    generator = torch.Generator().manual_seed(int(key))
                    part = slice(draw % parts, None, parts) if tested else slice(None)
                    found.append(_accuracy(_noisy(model, tested, generator), pixels[part], labels[part]))
                    bar.advance(task)
                spread = float(np.std(found, ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else 0.0
                rows.append(
                    {
                        "trained with": trained, "tested with": tested, "draws": len(found),
                        "accuracy": round(100 * float(np.mean(found)), 2), "standard error": round(100 * spread, 2),
                        "published": round(100 * published[trained, tested], 2),
                    }
                )  # fmt: skip
    return rows


# --- the chip


def design(*, bits: int | None = 8, errors: bool = True, input_bits: int = 8) -> xb.Design:
    """The arrays of the chip: pairs of cells, 128 inputs and 256 outputs of a core, every input read whole.

    A core has 256 x 256 cells, and a pair stands in two word lines of one bit line; here it stands in two bit lines of
    one word line, which holds the same weights and sums the same inputs.

    Parameters
    ----------
    bits
        Of the converters; ``None`` for sums that are read exactly.
    errors
        Whether cells are off their targets.
    input_bits
        Of the codes that inputs are given in.
    """
    cell = dataclasses.replace(Cell.load("wan2022"), levels=256)  # analog: as fine as the codes of weights
    return xb.Design(
        cell=cell if errors else cell.without_errors(),
        mapping=Mapping(
            encoding=TwoColumn(), rows=128, columns=512, weight_bits=9, cell_bits=8, weight_scale="tensor", pack="none"
        ),
        periphery=xb.Periphery(input_bits=input_bits, dac_bits=input_bits, adc_bits=bits),
    )


@dataclass(frozen=True)
class _Stage:
    """One bar of the picture: a design, how cells break, and on how many dies it is looked at."""

    cause: str
    design: xb.Design
    faults: FaultModel | None = None
    varies: bool = True


def _stages() -> Iterator[_Stage]:
    yield _Stage(CAUSES[1], design(bits=None, errors=False), varies=False)
    yield _Stage(CAUSES[2], design(errors=False), varies=False)
    yield _Stage(CAUSES[3], design())
    yield _Stage(CAUSES[4], design(), StuckFaults(on=0.0, off=_MISSED))
    yield _Stage(CAUSES[5], design(bits=5))
    wires = Wires(word_line_resistance=_WIRE, bit_line_resistance=_WIRE)
    yield _Stage(CAUSES[6], design().replace(wires=wires))
    yield _Stage(CAUSES[7], design(), fault_preset("wan2022_lines").faults)


def measure_chip(*, images: int | None, dies: int, networks: Sequence[str] = tuple(NETWORKS)) -> list[dict[str, Any]]:
    """Accuracy of the networks that ran on the chip, cause by cause.

    Parameters
    ----------
    images
        Test images that dies are run on; ``None`` for all. What a cause takes off is measured on these, and taken off
        the accuracy of the network in floating point on all.
    dies
        Of each stage whose dies differ.
    networks
        Of :data:`NETWORKS`.

    Returns
    -------
    list of dict
        For each network and cause: number of dies, mean accuracy, and the ends of the interval in which one more die
        lies with 95 % (Student's, for normal accuracies of dies), %.
    """
    rows = []
    stages = list(_stages())
    with progress_bar("dies") as bar:
        each = sum(dies if stage.varies else 1 for stage in stages)
        task = bar.add_task("the chip", total=len(networks) * each)
        for network in networks:
            name, data_set, measured = NETWORKS[check_choice("networks", network, NETWORKS)]
            model = load_neurram_network(name)
            pixels, labels = _images(data_set, "test", None)
            whole = _accuracy(model, pixels, labels)
            pixels, labels = pixels[:images], labels[:images]
            beside = whole - _accuracy(model, pixels, labels)  # what these images are harder or easier than all
            calibration, _ = _images(data_set, "train", _CALIBRATION)
            rows.append(_row(network, CAUSES[0], [whole], measured))
            for stage in stages:
                mapped = xb.map_model(model, stage.design, calibration=calibration).with_faults(stage.faults)
                found = []
                for seed in range(dies if stage.varies else 1):
                    chip = mapped.fabricate(seed=seed)
                    right = xb.evaluate(chip, pixels.numpy(), labels, batch_size=_BATCH, progress=False).accuracy
                    found.append(min(max(right + beside, 0.0), 1.0))
                    bar.advance(task)
                rows.append(_row(network, stage.cause, found, measured))
    return rows


def _row(network: str, cause: str, found: Sequence[float], measured: float) -> dict[str, Any]:
    mean, count = 100 * float(np.mean(found)), len(found)
    half = 0.0
    if count > 1:  # of one more die: its own spread, and that of the mean
        half = 100 * float(np.std(found, ddof=1)) * math.sqrt(1 + 1 / count) * float(student_quantile(count, 0.95))
    return {
        "network": network, "cause": cause, "dies": count, "accuracy": round(mean, 2),
        "low": round(mean - half, 2), "high": round(mean + half, 2), "measured": measured,
    }  # fmt: skip


# --- pictures


def picture(noise: Sequence[dict[str, Any]], chip: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against weight noise beside the authors', and each network on the chip, cause by cause."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(row["network"] for row in chip))
    panels = bool(noise) + len(networks)
    figure = Figure(figsize=(5.4 * panels, 4.6), layout="constrained", dpi=150)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if noise:
        _noise_panel(axes.pop(0), noise)
    for panel, network in zip(axes, networks, strict=True):
        _chip_panel(panel, network, [row for row in chip if row["network"] == network])
    return figure


def _noise_panel(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    for index, trained in enumerate(dict.fromkeys(row["trained with"] for row in rows)):
        here = [row for row in rows if row["trained with"] == trained]
        places = [100 * row["tested with"] for row in here]
        bounds = [
            student_half_width(row["standard error"] * math.sqrt(row["draws"]), row["draws"], 0.95)
            if row["draws"] > 1
            else 0.0
            for row in here
        ]
        values = np.array([row["accuracy"] for row in here])
        axes.plot(places, values, color=f"C{index}", marker="osD^"[index], markersize=4, label=f"{trained:.0%}")
        axes.fill_between(places, values - bounds, values + bounds, color=f"C{index}", alpha=0.2, linewidth=0)
        theirs = [row["published"] for row in here]
        axes.plot(places, theirs, "x", color=f"C{index}", markersize=8)
    axes.set_xlabel("noise in the test (% of the largest weight of a layer)")
    axes.set_ylabel("accuracy (%)")
    axes.set_title("ResNet-20, by noise in training (crosses: authors)", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    axes.grid(color="0.92", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def _chip_panel(axes: Axes, network: str, rows: Sequence[dict[str, Any]]) -> None:
    places = np.arange(len(rows))[::-1]
    best = max(row["accuracy"] for row in rows)
    near = [row for row in rows if row["accuracy"] > best - _NEAR]  # what is further off is written, not drawn
    edge = min(min(row["low"] for row in near), rows[0]["measured"])
    edge -= 0.1 * (best - edge)
    for place, row in zip(places, rows, strict=True):
        if row not in near:
            text = f"{row['accuracy']:.1f} ({row['low']:.0f} to {min(row['high'], 100):.0f})"
            axes.annotate(f"\u2190 {text}", (edge, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
            continue
        beside = row["cause"].startswith("if ")
        color = "C7" if beside else "C0"
        error = [[row["accuracy"] - row["low"]], [min(row["high"], 100.0) - row["accuracy"]]]
        axes.errorbar(row["accuracy"], place, xerr=error, fmt="s" if beside else "o", color=color, capsize=3)
        axes.annotate(
            f"{row['accuracy']:.1f}",
            (row["accuracy"], place),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    measured = rows[0]["measured"]
    axes.axvline(measured, color="C3", linewidth=1.2, label=f"measured on the chip: {measured:.2f}")
    axes.set_yticks(places, [row["cause"] for row in rows], fontsize=9)
    axes.set_xlim(left=edge)
    axes.set_ylim(-1.2, len(rows) - 0.3)
    axes.set_xlabel("accuracy (%), with the interval of one more die")
    axes.set_title(network, fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    axes.grid(color="0.92", linewidth=0.8, axis="x")
    axes.spines[["top", "right"]].set_visible(False)


# --- the command


def _stored(path: Path) -> list[dict[str, Any]]:
    """The rows of a table that was written before, its numbers as such; none where there is no file."""
    if not path.is_file():
        return []

    def number(text: str) -> Any:
        try:
            return float(text) if "." in text else int(text)
        except ValueError:
            return text

    with path.open(encoding="utf-8", newline="") as file:
        return [{key: number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def main(
    images: Annotated[int, typer.Option(help="Test images of every die.", min=1)] = 2000,
    draws: Annotated[int, typer.Option(help="Draws of weight noise, a multiple of 4; each on a quarter.", min=4)] = 8,
    dies: Annotated[int, typer.Option(help="Dies of each stage.", min=2)] = 6,
    part: Annotated[list[str] | None, typer.Option(help="noise or chip; both if not given.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and the picture.")] = FIGURES,
) -> None:
    """Measure what is asked for, print it beside the published figures, and write tables and a picture."""
    chosen = [check_choice("part", each, PARTS) for each in part or PARTS]
    torch.set_num_threads(1)  # sums in one order
    tables = {each: _stored(output / f"neurram2022_{each}.csv") for each in PARTS}
    if "noise" in chosen:
        tables["noise"] = measure_noise(images=None, draws=draws)
    if "chip" in chosen:
        tables["chip"] = measure_chip(images=images, dies=dies)
    output.mkdir(parents=True, exist_ok=True)
    for each in chosen:
        rows = tables[each]
        typer.echo(format_table(list(rows[0]), [list(row.values()) for row in rows], left=2))
        write_atomically(output / f"neurram2022_{each}.csv", csv_bytes(rows))
    if tables["noise"]:
        outside = [
            row
            for row in tables["noise"]
            if abs(row["accuracy"] - row["published"]) > max(1.0, 2 * row["standard error"])
        ]
        within = len(tables["noise"]) - len(outside)
        typer.echo(f"weight noise: {within} of {len(tables['noise'])} within 1 point or two standard errors")
    save_figure(picture(tables["noise"], tables["chip"]), output / "neurram2022.png")


if __name__ == "__main__":
    typer.run(main)
