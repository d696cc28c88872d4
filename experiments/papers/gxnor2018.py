"""GXNOR-Net: ternary weights and activations trained without hidden weights, beside the published figures and on chips.

``python -m xbarsim.experiments.papers.gxnor2018`` measures the stored networks: accuracy of each on all test images,
in float and mapped onto a chip (ternary weights in two one-bit cells, ternary activations as signed codes), part of
them also through the reference engine; share of weights that are not 0, and kappa, full scale squared over the mean
square of the weights, which is what stuck cells hurt by. It prints the table and writes table and picture into
experiments/figures.

``--train FOLDER`` repeats the trainings; one that is cut short goes on where it stopped. All settings are in
experiments/recipes/gxnor2018.toml: ternary weights by discrete state transitions, as the paper trains them, and by the
straight-through estimator over hidden weights, and a network with weights and activations of full precision. 5,000
training images are held back, and choose the epoch that is kept; the test set is used once for
each row. The published figures are the best of all epochs on the test set, so that they are a little higher than what
such a choice gives.

Published figures: L. Deng, P. Jiao, J. Pei, Z. Wu, G. Li, GXNOR-Net: Training deep neural networks with ternary weights
and activations without full-precision memory under a unified discretization framework, Neural Networks 100, 2018,
doi:10.1016/j.neunet.2018.01.010, arXiv:1705.09283: MNIST 99.32 % after 4,000 epochs, CIFAR-10 92.50 % after 2,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import typer
from torch import nn

import xbarsim as xb
from xbarsim.compress import DiscreteStates, DiscreteTransitions, Hardening, Levels, mappable_layers, nearest_levels
from xbarsim.devices import Cell
from xbarsim.experiments.folders import FIGURES, RECIPES, WEIGHTS
from xbarsim.foundation import tomlio
from xbarsim.foundation.intervals import share_interval
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import InputError, write_atomically
from xbarsim.models import load_images, load_zoo_file, save_coded, untrained_model
from xbarsim.plot import save_figure
from xbarsim.training import Callback, Training, TrainingSet, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "STORED",
    "Measured",
    "Row",
    "Study",
    "design",
    "full_scale_ratio",
    "load_study",
    "main",
    "measure",
    "picture",
    "table",
    "train_row",
]

STORED = WEIGHTS / "gxnor2018"
"""Where the trained networks are."""

_CALIBRATION = 256  # training images that set the ranges of activations
_CHECKED = 100  # test images that the reference engine classifies too


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network, and how it is trained.

    Attributes
    ----------
    name
        Of the stored network.
    network, data_set
        What is trained on what.
    bits
        Of a weight as it is stored and mapped, sign included.
    training
        Settings.
    states
        The values of weights that move between them; with `rate_factor` on their learning rate.
    rate_factor
        Likewise.
    levels
        Levels of weights that are trained by the straight-through estimator.
    published
        Accuracy, %, where the paper has one.
    """

    name: str
    network: str
    data_set: str
    bits: int
    training: Training
    states: DiscreteStates | None = None
    rate_factor: float = 1.0
    levels: Levels | None = None
    published: float | None = None

    def __post_init__(self) -> None:
        if self.states is not None and self.levels is not None:
            raise InputError(f"levels must be None for weights that move between states, got {self.levels!r}")


@dataclass(frozen=True, kw_only=True)
class Study:
    """All networks.

    Attributes
    ----------
    rows
        In the order of the table.
    """

    rows: tuple[Row, ...]


def load_study() -> Study:
    """Read the settings."""
    return tomlio.load(Study, RECIPES / "gxnor2018.toml")


# --------------------------------------------------------------------------------------------- training


def train_row(row: Row, folder: Path, *, data: TrainingSet | None = None, progress: bool | None = None) -> nn.Module:
    """Train one network and store it; a training that was cut short goes on.

    Parameters
    ----------
    row
        Which.
    folder
        For the checkpoint and the finished network.
    data
        Images; ``None`` for those of the row's data set.
    progress
        Show progress.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = TrainingSet.load(row.data_set) if data is None else data
    model, _ = untrained_model(row.network, seed=row.training.seed)
    callbacks: list[Callback] = []
    hardening = Hardening(levels={name: row.levels for name in mappable_layers(model)} if row.levels else {})
    if row.states is not None:
        callbacks.append(DiscreteTransitions(row.states, rate_factor=row.rate_factor))
    elif row.levels is not None:
        callbacks.append(hardening)
    path = folder / f"{row.name}.checkpoint.safetensors"
    history = train(model, data, row.training, callbacks=callbacks, checkpoint=path, progress=progress)
    hardening.bake()
    if row.states is None and row.levels is None:
        with torch.no_grad():
            for layer in mappable_layers(model).values():
                layer.weight.copy_(nearest_levels(layer.weight.flatten(1), row.bits).reshape(layer.weight.shape))
    about = {
        "network": row.network,
        "data_set": row.data_set,
        "bits": row.bits,
        "recipe": f"experiments/recipes/gxnor2018.toml, row {row.name}",
        "epochs": row.training.epochs,
        "epoch": history.selected + 1,
        "validation_accuracy": round(history.validation_accuracy[history.selected], 4),
        "licence": "Apache-2.0",
    }
    save_coded(folder / f"{row.name}.safetensors", model, bits=row.bits, about=about)
    typer.echo(f"{row.name}: {history}", err=True)
    return model


# -------------------------------------------------------------------------------------------- measuring


def design(bits: int, *, input_bits: int = 8) -> xb.Design:
    """Arrays of 128 x 128 cells, two columns a weight: one one-bit cell a side for 2 bits, else 4-bit cells.

    Converters and inputs lose nothing; all inputs of all layers have `input_bits`.
    """
    return xb.Design(
        cell=Cell.load("wan2022").without_errors(),
        mapping=xb.Mapping(rows=128, columns=128, weight_bits=bits, cell_bits=1 if bits == 2 else 4),
        periphery=xb.Periphery(input_bits=input_bits, dac_bits=1),
    )


def full_scale_ratio(network: xb.MappedNetwork) -> float:
    """Kappa: full scale squared over the mean square of the weights, of all mapped weights of a network.

    In units of full scale a stuck cell moves a weight by up to 1, so that errors of stuck cells are as many times
    larger beside the weights themselves. For ternary weights it is one over the share that is not 0.
    """
    codes = np.concatenate([layer.layer.codes.ravel() for layer in network.layers.values()]).astype(np.float64)
    largest = 2 ** (network.design.mapping.weight_bits - 1) - 1
    return float(largest**2 / np.mean(codes**2))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row of the table, measured.

    Attributes
    ----------
    name, network, data_set, bits, epochs, kept
        Which; weights have so many bits, and were trained for so many epochs, of which the one of this number was kept.
    published
        Accuracy of the paper, %, chosen on the test set; ``None`` where there is none.
    validation
        Accuracy on the images held back, which chose the epoch, %.
    accuracy
        Of the stored weights in float32 on the test images, %.
    low, high
        Its 95 % interval (Clopper-Pearson), for other images of the kind.
    chip, chip_narrow
        Of the mapped network with 8 bits for every input, and with 2: ternary activations are exact in both, the image
        has 255 or 4 grey levels. Only for ternary networks; %.
    images, checked
        Test images; and how many of them went through the reference engine too, with the same logits.
    weights, density, kappa
        Weights, the share that is not 0, and full scale squared over their mean square.
    """

    name: str
    network: str
    data_set: str
    bits: int
    epochs: int
    kept: int
    published: float | None
    validation: float
    accuracy: float
    low: float
    high: float
    chip: float
    chip_narrow: float | None
    images: int
    checked: int
    weights: int
    density: float
    kappa: float


def measure(row: Row, *, folder: Path = STORED, images: int | None = None) -> Measured:
    """Measure a stored network.

    Parameters
    ----------
    row
        Which.
    folder
        Where it is.
    images
        Test images, from the first; ``None`` for all.

    Raises
    ------
    RuntimeError
        If the ideal chip gives other logits than the digital integers, or the reference engine other ones than either.
    """
    model, card = load_zoo_file(folder / f"{row.name}.safetensors")
    pixels, labels = load_images(row.data_set, "test", count=images)
    calibration = load_images(row.data_set, "train", count=_CALIBRATION)[0]
    weights = [layer.weight.detach() for layer in mappable_layers(model).values()]
    alone = xb.evaluate(model, pixels, labels, progress=False).accuracy
    interval = share_interval(round(alone * len(labels)), len(labels))
    few = pixels[:_CHECKED]
    accuracies: dict[int, float] = {}
    kappa = 0.0
    for width in (8, 2) if row.bits == 2 else (8,):
        network = xb.map_model(model, design(row.bits, input_bits=width), calibration=calibration)
        chip = network.fabricate(seed=0)
        _check(chip, network, few)
        accuracies[width] = round(100 * xb.evaluate(chip, pixels, labels, progress=False).accuracy, 3)
        kappa = full_scale_ratio(network)
    return Measured(
        name=row.name,
        network=row.network,
        data_set=row.data_set,
        bits=row.bits,
        epochs=int(str(card["epochs"])),
        kept=int(str(card["epoch"])),
        published=row.published,
        validation=round(100 * float(str(card["validation_accuracy"])), 3),
        accuracy=round(100 * alone, 3),
        low=round(100 * interval.low, 3),
        high=round(100 * interval.high, 3),
        chip=accuracies[8],
        chip_narrow=accuracies.get(2),
        images=len(pixels),
        checked=len(few),
        weights=sum(weight.numel() for weight in weights),
        density=round(sum(int(weight.count_nonzero()) for weight in weights) / sum(map(torch.numel, weights)), 4),
        kappa=round(kappa, 3),
    )


def _check(chip: xb.Chip, network: xb.MappedNetwork, images: np.ndarray) -> None:
    """An ideal chip, the digital integers and the reference engine must agree bit for bit."""
    reference, digital = chip.reference(), network.digital
    for start in range(0, len(images), 20):
        part = torch.from_numpy(images[start : start + 20])
        with torch.no_grad():
            read = chip(part)
            if not (torch.equal(read, digital(part)) and torch.equal(read, reference(part))):
                raise RuntimeError(f"images {start} to {start + len(part) - 1} differ from the integer reference")


# --------------------------------------------------------------------------------------------- pictures


def table(measured: Sequence[Measured]) -> str:
    """The table, ours beside the published figures."""
    header = (
        "network", "bits", "epoch kept", "held back (%)", "test (%)", "95 % interval", "published (%)", "chip (%)",
        "2-bit inputs (%)", "not 0", "kappa",
    )  # fmt: skip
    return format_table(
        header,
        [
            (
                one.name, one.bits, f"{one.kept} of {one.epochs}", f"{one.validation:.2f}", f"{one.accuracy:.2f}",
                f"{one.low:.2f} to {one.high:.2f}", "-" if one.published is None else f"{one.published:.2f}",
                f"{one.chip:.2f}", "-" if one.chip_narrow is None else f"{one.chip_narrow:.2f}", f"{one.density:.3f}",
                f"{one.kappa:.2f}",
            )
            for one in measured
        ],
    )  # fmt: skip


def picture(measured: Sequence[Measured]) -> Figure:
    """Accuracy of every network with its interval, beside what is published; a panel a data set."""
    from matplotlib.figure import Figure

    sets = list(dict.fromkeys(one.data_set for one in measured))
    figure = Figure(figsize=(0.8 + 5.4 * len(sets), 4.4), layout="constrained", dpi=150)
    for axes, data_set in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        mine = [one for one in measured if one.data_set == data_set]
        for place, one in enumerate(mine):
            reach = [[one.accuracy - one.low], [one.high - one.accuracy]]
            axes.errorbar(place, one.accuracy, yerr=reach, fmt="o", color="#0072B2", capsize=4,
                          label="test images, 95 % interval" if not place else None)  # fmt: skip
            if one.published is not None:
                axes.plot(place, one.published, "s", color="#D55E00", markerfacecolor="white",
                          label="" if place else "published, chosen on the test images")  # fmt: skip
        names = [one.name.removeprefix(f"{data_set}-").replace("-", "\n") for one in mine]
        axes.set_xticks(
            range(len(mine)),
            [f"{name}\n{one.bits} bits\nepoch {one.kept}" for name, one in zip(names, mine, strict=True)],
        )
        axes.margins(x=0.2)
        axes.set_title(data_set)
        axes.grid(axis="y", color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize="small", frameon=False)
        axes.set_ylabel("accuracy (%)")
    return figure


def main(
    row: Annotated[list[str] | None, typer.Option(help="Only this network; may be repeated.")] = None,
    images: Annotated[int | None, typer.Option(help="Test images, from the first; all if left out.")] = None,
    train_in: Annotated[
        Path | None, typer.Option("--train", help="Train everything from nothing in this folder, and measure that.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for table and picture.")] = FIGURES,
) -> None:
    """Measure the ternary networks, and print them beside the published figures."""
    folder = train_in or STORED
    chosen = [each for each in load_study().rows if not row or each.name in row]
    if not chosen:
        raise InputError(f"row must be one of {', '.join(each.name for each in load_study().rows)}, got {row}")
    if train_in is not None:
        torch.set_num_threads(1)  # sums in one order
        for each in chosen:
            train_row(each, train_in, progress=True)
    missing = [each.name for each in chosen if not (folder / f"{each.name}.safetensors").exists()]
    if missing:
        typer.echo(f"not stored: {', '.join(missing)}; --train FOLDER makes them", err=True)
    measured = [measure(each, folder=folder, images=images) for each in chosen if each.name not in missing]
    if not measured:
        raise typer.Exit(1)
    typer.echo(table(measured))
    typer.echo("published figures are the best epochs on the test images; ours were chosen on images held back")
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "gxnor2018.csv", csv_bytes(asdict(one) for one in measured))
    save_figure(picture(measured), output / "gxnor2018.png")
    typer.echo(f"wrote {output / 'gxnor2018.csv'} and {output / 'gxnor2018.png'}")


if __name__ == "__main__":
    typer.run(main)
