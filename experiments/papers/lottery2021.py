"""Sanity checks for lottery tickets: whether subnetworks found by pruning win, and whether they survive stuck cells.

``python -m xbarsim.experiments.papers.lottery2021`` trains a network at several learning rates and from several seeds,
prunes it round by round (IMP) and at once (OMP), and trains what is left: from the weights it began with (the ticket),
from other weights, and a small dense network with as many weights. It judges every sparsity by the five conditions of
the paper, and asks what the paper does not: what is left of each on dies with stuck cells, and whether a die is as good
a mask as magnitude is, where the weights that have a stuck cell are left out. A run that is cut short goes on with
``--folder``.

``--network mlp`` is a perceptron of 64-48-32-10 on the 8 x 8 digits, in minutes; ``lenet300`` one of 784-300-100-10 on
MNIST, in hours; ``convnet`` has four convolutions, and ``resnet20`` is the network of the paper, both on CIFAR-10 and
for a GPU. Judged by images held back from the training data. ``--once`` prunes at once alone, without the trainings of
the rounds.

X. Ma et al., Sanity Checks for Lottery Tickets: Does Your Winning Ticket Really Win the Jackpot?, NeurIPS 2021,
doi:10.48550/arXiv.2107.00166. ResNet-20 on CIFAR-10 there, at a sparsity of 0.914 and a rate of 0.005: dense 88.0 %,
ticket 87.1 %, other weights 80.3 %, after 78 epochs.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.compress import TicketArms, find_tickets, magnitude_masks, mappable_layers, retrain, ticket
from xbarsim.data import load_digits_split
from xbarsim.devices import Cell, fault_preset
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.intervals import student_half_width
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import check_choice, write_atomically
from xbarsim.mapping import Differential, Mapping
from xbarsim.models import convnet, resnet20
from xbarsim.plot import save_figure
from xbarsim.training import Training, TrainingSet, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ARMS", "NETWORKS", "Network", "fault_masks", "main", "measure", "picture", "verdicts"]

ARMS = ("dense", "IMP", "IMP, other weights", "OMP", "OMP, other weights", "small", "fault map")
"""The dense network; its subnetworks, each begun with the weights of old and with others; a small dense network; and
the weights that a die with so many stuck cells leaves whole, begun with those of old.
"""

PUBLISHED = {0.914: {"dense": 88.0, "ticket": 87.1, "random": 80.3}}  # ResNet-20, rate 0.005, 78 epochs
_CALIBRATION = 100
_STUCK = 0.01  # share of the cells of a faulty die
_SHARE = 0.2  # of the weights that are left, that a round takes


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is trained.

    Attributes
    ----------
    build
        The network with weights of a seed.
    small
        A dense one of the kind with about so many weights, likewise.
    data
        What it is trained on, with images held back.
    training
        How, at each of the learning rates.
    """

    build: Callable[[int], nn.Module]
    small: Callable[[int, int], nn.Module]
    data: Callable[[], TrainingSet]
    training: Training


def _digits() -> TrainingSet:
    split = load_digits_split()
    pixels = np.rint(split.train_images * 255).astype(np.uint8)
    return TrainingSet.split(
        "digits", pixels, split.train_labels, validation=400, mean=(0.3,), standard_deviation=(0.37,)
    )


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def small_widths(widths: Sequence[int], weights: int) -> tuple[int, ...]:
    """Widths of a perceptron with about as many weights, its hidden layers all narrower by one factor."""

    def scaled(factor: float) -> tuple[int, ...]:
        return (widths[0], *(max(1, round(factor * width)) for width in widths[1:-1]), widths[-1])

    def count(chosen: Sequence[int]) -> int:
        return sum(inputs * outputs for inputs, outputs in itertools.pairwise(chosen))

    return min((scaled(step / 400) for step in range(1, 401)), key=lambda chosen: abs(count(chosen) - weights))


def _of_seed(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _perceptrons(widths: tuple[int, ...], *, data: Callable[[], TrainingSet], training: Training) -> Network:
    return Network(
        build=lambda seed: _of_seed(lambda: _perceptron(widths), seed),
        small=lambda weights, seed: _of_seed(lambda: _perceptron(small_widths(widths, weights)), seed),
        data=data,
        training=training,
    )


def _count(model: nn.Module) -> int:
    """Weights of the layers that may be pruned."""
    return sum(layer.weight.numel() for layer in mappable_layers(model).values())


def _of_width(build: Callable[[int], nn.Module], width: int, training: Training) -> Network:
    """A network of convolutions, and narrower ones of its kind."""

    def narrow(weights: int) -> nn.Module:
        with torch.device("meta"):  # no weights are drawn: only to count them
            best = min(range(1, width + 1), key=lambda each: abs(_count(build(each)) - weights))
        return build(best)

    return Network(
        build=lambda seed: _of_seed(lambda: build(width), seed),
        small=lambda weights, seed: _of_seed(lambda: narrow(weights), seed),
        data=TrainingSet.cifar10,
        training=training,
    )


_IMAGES = Training(epochs=20, batch=256, weight_decay=5e-4, augmentation="crop-flip", channels_last=True)

NETWORKS = {
    "mlp": _perceptrons(
        (64, 48, 32, 10), data=_digits, training=Training(epochs=40, batch=32, weight_decay=5e-4, device="cpu")
    ),
    "lenet300": _perceptrons(
        (784, 300, 100, 10), data=TrainingSet.mnist, training=Training(epochs=15, batch=64, weight_decay=5e-4)
    ),
    "convnet": _of_width(lambda width: convnet(width=width), 32, replace(_IMAGES, precision="bfloat16")),
    # 78 epochs at one rate, as in the paper; batches of 256 for its 64, so that its rate of .005 is .02 here
    "resnet20": _of_width(
        lambda width: resnet20(width=width), 16, replace(_IMAGES, epochs=78, schedule="constant", precision="bfloat16")
    ),
}


def measure(
    network: Network,
    *,
    rates: Sequence[float],
    seeds: Sequence[int],
    rounds: Sequence[int],
    dies: int,
    once: bool = False,
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Train every arm, and measure it without and with stuck cells.

    Parameters
    ----------
    network
        What is trained.
    rates
        Learning rates.
    seeds
        Of weights and of the order of images.
    rounds
        After how many rounds of IMP there are arms, ascending.
    dies
        Faulty dies of every trained network.
    once
        Whether there is only what is pruned at once, with the sparsities that the rounds would have had.
    folder
        Where checkpoints are kept.

    Returns
    -------
    list of dict
        One row for each arm, sparsity, rate and seed: accuracies on the held-back images, 0 to 1.
    """
    data = network.data()
    images, labels = data.normalise(data.validation_images), data.validation_labels
    arms = ARMS[3:5] if once else ARMS[1:5]
    rows: list[dict[str, Any]] = []

    def note(arm: str, model: nn.Module, sparsity: float, rate: float, seed: int) -> None:
        model = copy.deepcopy(model).cpu()
        with torch.no_grad():
            found = torch.cat([model(part).argmax(dim=1) for part in torch.split(images, 500)])
        clean = float((found == labels).float().mean())
        faulty = _on_dies(model, data, dies, seed) if dies else []
        rows.append(
            {
                "arm": arm, "sparsity": round(sparsity, 4), "rate": rate, "seed": seed, "accuracy": round(clean, 5),
                "faulty": round(math.fsum(faulty) / len(faulty), 5) if faulty else "",
            }
        )  # fmt: skip

    for rate in rates:
        for seed in seeds:
            settings = replace(network.training, learning_rate=rate, seed=seed)
            place = None if folder is None else folder / f"{rate:g}-{seed}"
            if place is not None:
                place.mkdir(parents=True, exist_ok=True)
            begun, other = network.build(seed), network.build(seed + 1000)
            if once:
                found, dense = None, copy.deepcopy(begun)
                file = None if place is None else place / "dense.safetensors"
                train(dense, data, settings, checkpoint=file, progress=False)
            else:
                found = find_tickets(
                    begun, data, settings, rounds=max(rounds), share=_SHARE, folder=place, progress=False
                )
                dense = found.dense
            note("dense", dense.eval(), 0.0, rate, seed)
            for count in rounds:
                sparsity = 1.0 - (1.0 - _SHARE) ** count if found is None else found.sparsities[count - 1]
                at_once = magnitude_masks(dense, 1.0 - sparsity)
                for arm in arms:
                    masks = at_once if found is None or arm.startswith("OMP") else found.masks[count - 1]
                    # tickets of all rounds but the last have been trained already: they found the next round's masks
                    name = f"round{count}" if arm == "IMP" else f"{arm}-{count}"
                    file = None if place is None else place / f"{name}.safetensors"
                    trained = _retrain(other if arm.endswith("weights") else begun, data, settings, masks, file)
                    note(arm, trained, sparsity, rate, seed)
                file = None if place is None else place / f"fault map-{count}.safetensors"
                whole = fault_masks(begun, images[:_CALIBRATION], 1.0 - sparsity, seed=seed)
                note("fault map", _retrain(begun, data, settings, whole, file), sparsity, rate, seed)
                small = network.small(sum(int(mask.sum()) for mask in at_once.values()), seed)
                file = None if place is None else place / f"small-{count}.safetensors"
                train(small, data, settings, checkpoint=file, progress=False)
                note("small", small.eval(), sparsity, rate, seed)
    return rows


def _retrain(
    model: nn.Module, data: TrainingSet, training: Training, masks: dict[str, Tensor], file: Path | None
) -> nn.Module:
    return retrain(model, data, training, masks=masks, checkpoint=file, progress=False).model


def _design(rate: float) -> xb.Design:
    """Arrays of 16-level cells, a pair for each of two slices of a weight; most stuck cells are stuck on."""
    return xb.Design(
        cell=Cell.load("wan2022").without_errors(),
        mapping=Mapping(encoding=Differential(), rows=128, columns=128, weight_bits=9, cell_bits=4),
        faults=fault_preset("chen2015_sa0_hrs").faults.with_total(rate),
    )


def fault_masks(model: nn.Module, images: Tensor, keep: float, *, seed: int) -> dict[str, Tensor]:
    """The weights of a network of which a die stores every cell, by layer: bool, of the weight's shape.

    Parameters
    ----------
    model
        The network; weights of 0 are taken for whole.
    images
        For the calibration of the mapping.
    keep
        Share of the weights that is whole on average: so many cells are stuck.
    seed
        Of the die.
    """
    mapping = _design(0.0).mapping
    stuck = 1.0 - keep ** (1.0 / (mapping.slices * mapping.encoding.sides))
    network = xb.map_model(copy.deepcopy(model).cpu().eval(), _design(stuck), calibration=images)
    rng = np.random.default_rng(seed)
    masks = {}
    for name, layer in network.fabricate(seed=seed).layers.items():
        faults = layer.tile_faults
        hit = np.zeros(faults.shape)
        hit.flat[faults.index] = rng.uniform(1.0, 2.0, len(faults))  # no two of a pair cancel
        whole = layer.matrix.decode(hit) == 0.0  # (inputs, outputs)
        weight = mappable_layers(model)[name].weight
        masks[name] = torch.from_numpy(np.ascontiguousarray(whole.T)).reshape(weight.shape)
    return masks


def _on_dies(model: nn.Module, data: TrainingSet, dies: int, seed: int) -> list[float]:
    """Accuracy on dies of the differential mapping, whose pruned weights take cells that are stuck as others are."""
    inputs = data.normalise(data.validation_images)
    network = xb.map_model(model, _design(_STUCK), calibration=inputs[:_CALIBRATION])
    labels = data.validation_labels.numpy()
    return [
        xb.evaluate(network.fabricate(seed=100 * seed + die), inputs.numpy(), labels, progress=False).accuracy
        for die in range(dies)
    ]


def verdicts(rows: Sequence[dict[str, Any]], *, enough_epochs: bool = True) -> list[dict[str, Any]]:
    """What the subnetwork of each sparsity is, by IMP and by OMP, on sound dies and on faulty ones.

    Parameters
    ----------
    rows
        From :func:`measure`.
    enough_epochs
        Whether the dense network could be trained no further, as the first condition asks.
    """
    found = []
    for column in ("accuracy", "faulty"):
        if any(row[column] == "" for row in rows):
            continue
        for arm in [arm for arm in ("IMP", "OMP") if any(row["arm"] == arm for row in rows)]:
            for sparsity in sorted({row["sparsity"] for row in rows if row["arm"] == arm}):
                verdict = ticket(
                    TicketArms(
                        sparsity=sparsity,
                        dense=_by_rate(rows, "dense", 0.0, column),
                        ticket=_by_rate(rows, arm, sparsity, column),
                        random=_by_rate(rows, f"{arm}, other weights", sparsity, column),
                        small=_by_rate(rows, "small", sparsity, column),
                        enough_epochs=enough_epochs,
                    )
                )
                differences = {
                    f"condition {number}": "yes" if each.holds else "no"
                    for number, each in enumerate(verdict.conditions, start=1)
                }
                found.append(
                    {
                        "dies": "sound" if column == "accuracy" else f"{_STUCK:.0%} stuck", "found by": arm,
                        "sparsity": sparsity, **differences,
                        "ticket": verdict.kind, "certain": "yes" if verdict.certain else "no",
                    }
                )  # fmt: skip
    return found


def _by_rate(rows: Sequence[dict[str, Any]], arm: str, sparsity: float, column: str) -> dict[float, tuple[float, ...]]:
    chosen = [row for row in rows if row["arm"] == arm and row["sparsity"] == sparsity]
    return {
        rate: tuple(row[column] for row in chosen if row["rate"] == rate)
        for rate in sorted({row["rate"] for row in chosen})
    }


def picture(rows: Sequence[dict[str, Any]]) -> Figure:
    """Errors of every arm, at its best learning rate, against sparsity: on sound dies and on faulty ones.

    A band whose interval reaches nearer to 0 than a third of the mean ends there: the axis is logarithmic.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    columns = [column for column in ("accuracy", "faulty") if all(row[column] != "" for row in rows)]
    figure = Figure(figsize=(5.2 * len(columns) + 1.6, 4.2), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for axes, column in zip(panels, columns, strict=True):
        best = max(_by_rate(rows, "dense", 0.0, column).values(), key=lambda values: math.fsum(values) / len(values))
        axes.axhline(100 - 100 * math.fsum(best) / len(best), color="black", linewidth=1, linestyle=":", label="dense")
        for number, arm in enumerate(ARMS[1:]):
            if not any(row["arm"] == arm for row in rows):
                continue
            places, means, halves = [], [], []
            for sparsity in sorted({row["sparsity"] for row in rows if row["arm"] == arm}):
                arms = _by_rate(rows, arm, sparsity, column)
                values = max(arms.values(), key=lambda each: math.fsum(each) / len(each))
                places.append(100 * sparsity)
                means.append(100 - 100 * math.fsum(values) / len(values))
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                halves.append(100 * student_half_width(spread, len(values), 0.95) if len(values) > 1 else 0.0)
            low, high = np.maximum(np.subtract(means, halves), np.divide(means, 3)), np.add(means, halves)
            axes.plot(places, means, color=f"C{number}", marker="osD^vP"[number], markersize=4, label=arm)
            axes.fill_between(places, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_xlabel("weights that are gone (%)")
        axes.set_title("no cell stuck" if column == "accuracy" else f"{_STUCK:.0%} of the cells stuck", fontsize=10)
        axes.grid(color="0.92", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("errors at the best learning rate (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    return figure


def main(
    network: Annotated[str, typer.Option(help=", ".join(NETWORKS))] = "mlp",
    rates: Annotated[list[float] | None, typer.Option(help="Learning rates; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each arm.", min=1)] = 5,
    rounds: Annotated[list[int] | None, typer.Option(help="Rounds of pruning after which there are arms.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of every training.", min=1)] = None,
    few_epochs: Annotated[
        bool, typer.Option("--few-epochs", help="More epochs would train the dense network further: no ticket wins.")
    ] = False,
    dies: Annotated[int, typer.Option(help="Faulty dies of every network; 0 for none.", min=0)] = 5,
    once: Annotated[bool, typer.Option("--once", help="Prune at once alone, not in rounds.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where checkpoints are kept.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and the picture.")] = FIGURES,
) -> None:
    """Find tickets, judge them by the five conditions, and write tables and a picture."""
    chosen = NETWORKS[check_choice("network", network, NETWORKS)]
    if epochs is not None:
        chosen = replace(chosen, training=replace(chosen.training, epochs=epochs))
    torch.set_num_threads(1)  # sums in one order
    rows = measure(
        chosen,
        rates=rates or (0.02, 0.1),
        seeds=range(1, seeds + 1),
        rounds=sorted(set(rounds or (4, 8, 11, 14))),
        dies=dies,
        once=once,
        folder=folder,
    )
    judged = verdicts(rows, enough_epochs=not few_epochs)
    typer.echo(format_table(list(judged[0]), [list(each.values()) for each in judged], left=2))
    typer.echo(f"published, ResNet-20: {PUBLISHED}")
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / f"lottery2021_{network}.csv", csv_bytes(rows))
    write_atomically(output / f"lottery2021_{network}_verdicts.csv", csv_bytes(judged))
    save_figure(picture(rows), output / f"lottery2021_{network}.png")


if __name__ == "__main__":
    typer.run(main)
