"""The fault tolerance that the ISQED 2021 paper gains by pruning and differential mapping, with its ablation.

``python -m xbarsim.experiments.papers.isqed2021`` measures ResNet-20 and ConvNet on CIFAR-10, dense and pruned, in
three mappings, with both ratios of stuck-on to stuck-off, on 50 dies a point. It prints how much accuracy is lost,
which failure rate is tolerated at a loss of 1 and of 2 points, and how much of that the mapping and the pruning each
buy, and writes tables and a picture into experiments/figures. What is measured is kept in a store, so that a run that
was cut short goes on where it stopped; on two cores it takes about 50 minutes.

``--train FOLDER`` prunes again: algorithm 1 of the paper, by the accuracy of faulty dies on training images that were
held back; ConvNet is trained from nothing before. Settings are in experiments/recipes. Test images are used for the
final curves alone.

The paper compares {pruned, differential} with {dense, two columns}, for stuck-on faults 5.2 times as frequent as
stuck-off ones; what each half buys, and what happens where stuck-off dominates, it does not say. Its networks are
ResNet-18 (here ``--network resnet18 --train FOLDER``, with tables and a picture of its own) and larger, its faults act
on float weights with one full scale a layer. Here weights have 9 bits in two 4-bit cells a sign and one scale an
output, every layer is faulty, inputs have 8 bits, converters lose nothing.

Published figures: G. Yuan et al., Improving DNN Fault Tolerance using Weight Pruning and Differential Crossbar Mapping
for ReRAM-based Edge AI, ISQED 2021, doi:10.48550/arXiv.2106.09166, section V and figure 6.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from torch import nn

import xbarsim as xb
from xbarsim.compress import (
    LayerRule,
    Levels,
    Method,
    ProgressivePruning,
    PruningStep,
    Recipe,
    Unstructured,
    faulty_accuracy,
    mappable_layers,
    prune,
    prune_progressively,
    retrain,
)
from xbarsim.devices import POLARITIES, fault_preset
from xbarsim.experiments.folders import FIGURES, RECIPES
from xbarsim.experiments.papers import islped2019
from xbarsim.experiments.tolerance import Point, Tolerance, curves, factor, tolerance_table, tolerances
from xbarsim.foundation import tomlio
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import InputError, check_choice, write_atomically
from xbarsim.mapping import Balanced, Differential, Encoding, TwoColumn
from xbarsim.models import DATA_SETS, ZOO, load_images, load_model, load_zoo_file, read_card, save_coded
from xbarsim.plot import save_figure
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.results import Results, TaskResult
from xbarsim.sweep.subject import Subject
from xbarsim.sweep.task import Task
from xbarsim.training import Training, TrainingSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ENCODINGS",
    "LOSSES",
    "RATES",
    "Study",
    "design",
    "load_study",
    "main",
    "picture",
    "points",
    "tasks",
    "train_study",
]

RATES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
"""Probability that a cell is stuck, one way or the other."""

ENCODINGS: tuple[Encoding, ...] = (TwoColumn(), Differential(), Balanced())

LOSSES = (1.0, 2.0)
"""Percentage points of accuracy against the dense network without faults."""

WEIGHTS = ("dense", "pruned")
STUDIES = ("resnet20", "convnet")
LARGE = ("resnet18",)
"""The paper's network, whose weights are not stored here: ``--network resnet18 --train FOLDER`` makes them."""

_PAPERS_PRESET, _PAPERS_POLARITY = next(iter(POLARITIES.items()))  # of both readings of one ratio, 5.2 to 1
_BITS = 9
_CALIBRATION = 256  # training images that set the ranges of activations
_PAPER = {("dense", "TwoColumn"): 1.2, ("pruned", "Differential"): 0.2}  # points lost by ResNet-18 at a rate of 0.001
_COLOURS = {"TwoColumn": "#0072B2", "Differential": "#D55E00", "Balanced": "#009E73"}
_MARKERS = {"TwoColumn": "o", "Differential": "s", "Balanced": "^"}


@dataclass(frozen=True, kw_only=True)
class Study:
    """One network, and all settings of its pruning.

    Attributes
    ----------
    network, data_set
        What is pruned on what.
    dense
        The stored network that it begins with.
    layers
        Patterns of the names of layers that are pruned.
    ratios
        Shares of a layer's weights to take away, rising: R of the paper.
    threshold
        Largest loss of faulty accuracy in one step, as a fraction: th of the paper.
    failure_rate, dies, images
        The faulty dies that steps are judged by (differential mapping, mostly stuck on), and the images held back from
        training that they classify.
    method, pruning
        How the weights that stay are chosen, and the training that goes with it; ``None`` for the largest, at once.
    retraining
        Training of what is left, on levels of 9 bits, in each step. Steps are stages, see :meth:`Training.stage`.
    """

    network: str
    data_set: str
    dense: str
    layers: tuple[str, ...]
    ratios: tuple[float, ...]
    threshold: float
    failure_rate: float
    dies: int
    images: int
    method: Method | None = None
    pruning: Training | None = None
    retraining: Training


def load_study(network: str) -> Study:
    """Read a network's settings.

    Raises
    ------
    InputError
        If there are none for it.
    """
    return tomlio.load(Study, RECIPES / f"isqed2021_{check_choice('network', network, (*STUDIES, *LARGE))}.toml")


def design(encoding: Encoding, polarity: str, rate: float) -> xb.Design:
    """The accelerator: that of :func:`.islped2019.design` with 9 bits in 128 x 128 arrays, another mapping and faults.

    Parameters
    ----------
    encoding
        The mapping.
    polarity
        A fault preset, whose ratio of stuck-on to stuck-off is used.
    rate
        Total probability that a cell is stuck; without any, polarity plays no part.
    """
    base = islped2019.design(_BITS)
    return base.replace(
        mapping=replace(base.mapping, encoding=encoding, rows=128, columns=128),
        faults=fault_preset(polarity).faults.with_total(rate) if rate else None,
    )


def pruned_name(study: Study) -> str:
    """What the pruned network is called in the zoo."""
    return f"{study.network}-pruned-{_BITS}bit"


# --------------------------------------------------------------------------------------------- training


def _load(name: str, folder: Path) -> nn.Module:
    """A network from a folder, or else one that comes with the project or the data folder."""
    path = folder / f"{name}.safetensors"
    return load_zoo_file(path)[0] if path.exists() else load_model(name)[0]


def _stays(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: module.weight.detach() != 0 for name, module in mappable_layers(model).items()}


def train_study(study: Study, folder: Path, *, progress: bool | None = None) -> ProgressivePruning:
    """Prune a network as far as faulty dies gain by it (algorithm 1), and store it.

    The network of the step whose faulty dies are the most accurate is stored, also where the algorithm would rather
    keep the dense one; the card gives both accuracies.

    Parameters
    ----------
    study
        The settings.
    folder
        For checkpoints and for the finished network. A dense network that this project trains is trained here first.
    progress
        Show progress.
    """
    work = folder / "checkpoints"
    work.mkdir(parents=True, exist_ok=True)
    data = TrainingSet.load(study.data_set)
    if study.network in (*islped2019.STUDIES, *islped2019.LARGE):
        islped2019.train_dense(islped2019.load_study(study.network), data, folder, progress=progress)
    dense = _load(study.dense, folder)
    layers = [name for name in mappable_layers(dense) if any(fnmatch.fnmatchcase(name, p) for p in study.layers)]
    numbers = itertools.count()
    pruned: list[nn.Module] = []

    def further(model: nn.Module, names: tuple[str, ...], ratio: float) -> nn.Module:
        number = next(numbers)
        first = f"{pruned_name(study)}.{number}"
        keep = Unstructured(keep=1 - ratio)
        recipe = Recipe(rules=tuple(LayerRule(layers=(name,), targets=(keep,)) for name in names))
        masks = {name: mask for name, mask in _stays(model).items() if name not in names}  # these stay as they are
        if study.pruning is None or study.method is None:
            masks |= recipe.masks(model)
        else:
            pruning = prune(
                model, recipe, data, study.pruning.stage(number),
                method=study.method, checkpoint=work / f"{first}.pruning.safetensors", progress=progress,
            )  # fmt: skip
            model, masks = pruning.model, masks | pruning.masks
        after = retrain(
            model, data, study.retraining.stage(number),
            masks=masks, recipe=Recipe(rules=(LayerRule(layers=("*",), levels=Levels(bits=_BITS)),)),
            checkpoint=work / f"{first}.retraining.safetensors", progress=progress,
        ).model  # fmt: skip
        pruned.append(after)
        return after

    def report(step: PruningStep) -> None:
        typer.echo(
            f"{study.network}: {step.ratio:.0%} of {len(step.layers)} layers away, "
            f"{step.accuracy:.2%} on faulty dies{', the best' if step.best else '' if step.kept else ', dropped'}",
            err=True,
        )

    judge = faulty_accuracy(
        design(Differential(), _PAPERS_PRESET, study.failure_rate),
        data.normalise(data.validation_images[: study.images]).numpy(),
        data.validation_labels[: study.images].numpy(),
        calibration=load_images(study.data_set, "train", count=_CALIBRATION)[0],
        dies=study.dies,
    )
    outcome = prune_progressively(
        dense,
        layers=layers, ratios=study.ratios, prune=further, accuracy=judge,
        threshold=study.threshold, repeat=False, report=report,
    )  # fmt: skip
    step, chosen = max(zip(outcome.steps, pruned, strict=True), key=lambda pair: pair[0].accuracy)
    kept, total = islped2019.count_weights(mappable_layers(chosen).values())
    about = {
        "network": study.network,
        "data_set": study.data_set,
        "bits": _BITS,
        "compression": f"{1 - kept / total:.1%} of all weights pruned one by one for fault tolerance",
        "recipe": f"experiments/recipes/isqed2021_{study.network}.toml",
        "weights_kept": kept,
        "faulty_validation_accuracy": round(step.accuracy, 4),
        "faulty_validation_accuracy_before": round(outcome.before, 4),
        "licence": "Apache-2.0",
    }
    save_coded(folder / f"{pruned_name(study)}.safetensors", chosen, bits=_BITS, about=about)
    return outcome


def complete_card(study: Study, folder: Path) -> None:
    """Add to the pruned network's card what it reaches on the test set, in float32 and on a chip without faults."""
    path = folder / f"{pruned_name(study)}.safetensors"
    model, card = load_zoo_file(path)
    images, labels = load_images(study.data_set, "test")
    calibration = load_images(study.data_set, "train", count=_CALIBRATION)[0]
    chip = xb.map_model(model, design(TwoColumn(), "", 0.0), calibration=calibration).fabricate(seed=0)
    card |= {
        "accuracy_float32": xb.evaluate(model, images, labels).accuracy,
        "accuracy_simulator": xb.evaluate(chip, images, labels).accuracy,
        "test_images": len(labels),
        "measured_by": "python -m xbarsim.experiments.papers.isqed2021 --train, the mapped network with 8-bit inputs",
    }
    save_coded(path, model, bits=_BITS, about=card)


# -------------------------------------------------------------------------------------------- measuring


def tasks(
    study: Study, images: int, *, folder: Path = ZOO, rates: Sequence[float] = RATES, seed: int = 1
) -> tuple[list[Task], list[Task], list[Task]]:
    """Everything to measure of a dense network and of its pruned one.

    Parameters
    ----------
    study
        Which networks.
    images
        Test images of the curves, from the first.
    folder
        Where the networks are; what is not there comes with the project or from the data folder.
    rates
        Failure rates.
    seed
        Root of the dies' seeds: all curves meet dies of the same seeds.

    Returns
    -------
    tuple of three lists of Task
        Both networks without faults on all test images, where all mappings give the same answers; without faults on
        `images`, in every mapping; the same at every rate and polarity. Without faults one die is enough.

    Raises
    ------
    InputError
        If there are not as many images.
    """
    pixels, labels = load_images(study.data_set, "test")
    calibration = load_images(study.data_set, "train", count=_CALIBRATION)[0]
    whole: list[Task] = []
    sound: list[Task] = []
    faulty: list[Task] = []
    for weights, name in zip(WEIGHTS, (study.dense, pruned_name(study)), strict=True):
        every = Subject(
            name=name,
            data_set=DATA_SETS[study.data_set],
            model=_load(name, folder),
            images=pixels,
            labels=labels,
            calibration=calibration,
        )
        some = every.part(images, None)

        def task(subject: Subject, encoding: Encoding, preset: str, rate: float, weights: str = weights) -> Task:
            return Task(
                network=subject,
                design=design(encoding, preset, rate),
                calibration=_CALIBRATION,
                seed=seed,
                tags={"study": study.network, "weights": weights, "polarity": POLARITIES[preset]},
            )

        whole.append(task(every, ENCODINGS[0], _PAPERS_PRESET, 0.0))
        for encoding, preset in itertools.product(ENCODINGS, POLARITIES):
            sound.append(task(some, encoding, preset, 0.0))
            faulty += [task(some, encoding, preset, rate) for rate in rates]
    return whole, sound, faulty


def points(results: Results, whole: Results) -> list[Point]:
    """The points of the curves, in the order of the tasks.

    Parameters
    ----------
    results
        Every curve, without faults and with.
    whole
        The networks without faults on all test images.
    """
    every = {_network(result): 100 * result.mean().estimate for result in whole.tasks}
    sound = {_network(result): 100 * result.mean().estimate for result in results.tasks if not _fault_rate(result)}
    listed = []
    for result in results.tasks:
        interval = result.mean()
        accuracy = 100 * interval.estimate
        network, weights = _network(result)
        listed.append(
            Point(
                network=network,
                weights=weights,
                encoding=result.columns["encoding"],
                polarity=result.columns["polarity"],
                rate=_fault_rate(result),
                dies=len(result.dies),
                images=result.dies[0].images,
                accuracy=accuracy,
                # one die has no interval; without faults it needs none, for all are alike
                low=accuracy if math.isnan(interval.low) else 100 * interval.low,
                high=accuracy if math.isnan(interval.high) else 100 * interval.high,
                lost=every[network, "dense"] - every[network, weights] + sound[network, weights] - accuracy,
            )
        )
    return listed


def _network(result: TaskResult) -> tuple[str, str]:
    return result.columns["study"], result.columns["weights"]


def _fault_rate(result: TaskResult) -> float:
    return float(result.columns["fault_rate"])


# ----------------------------------------------------------------------------------------------- tables


def accuracy_table(measured: Sequence[Point]) -> str:
    """Mean accuracy of every curve, a column for each rate."""
    rates = sorted({point.rate for point in measured})
    return format_table(
        ("network", "faults", "weights", "mapping", *(f"{rate:g}" for rate in rates)),
        [
            (network, polarity, weights, encoding, *(f"{point.accuracy:.1f}" for point in curve))
            for (network, weights, encoding, polarity), curve in sorted(
                curves(measured).items(), key=lambda item: (item[0][0], item[0][3] != _PAPERS_POLARITY)
            )
        ],
        left=4,
    )


def ablation_table(tolerated: Sequence[Tolerance], highest: float = RATES[-1]) -> str:
    """By what factor the tolerated rate grows: by the mapping, by pruning, by both; `highest` was the last measured."""

    def ratio(above: float, below: float) -> str:
        return factor(above, below, highest)

    rates = {(one.network, one.polarity, one.loss, one.weights, one.encoding): one.rate for one in tolerated}
    rows = []
    for network, polarity, loss in dict.fromkeys(key[:3] for key in rates):

        def rate(weights: str, encoding: str, key: tuple[str, str, float] = (network, polarity, loss)) -> float:
            return rates[(*key, weights, encoding)]

        base = rate("dense", "TwoColumn")
        rows.append(
            (
                network, polarity, f"{loss:g}",
                ratio(rate("dense", "Differential"), base), ratio(rate("dense", "Balanced"), base),
                ratio(rate("pruned", "TwoColumn"), base),
                ratio(rate("pruned", "Differential"), rate("dense", "Differential")),
                ratio(rate("pruned", "Differential"), base),
            )
        )  # fmt: skip
    return format_table(
        (
            "network", "faults", "points lost", "differential", "balanced", "pruning, two columns",
            "pruning, differential", "both",
        ),
        sorted(rows, key=lambda row: (row[0], row[1] != _PAPERS_POLARITY)),
        left=2,
    )  # fmt: skip


def paper_table(measured: Sequence[Point], rate: float = 0.001) -> str:
    """Points lost at the rate that the paper gives numbers for, beside them."""
    lost = {
        (point.network, point.weights, point.encoding): point.lost
        for point in measured
        if point.polarity == _PAPERS_POLARITY and math.isclose(point.rate, rate)
    }
    networks = list(dict.fromkeys(key[0] for key in lost))
    return format_table(
        (f"points lost at {rate:g}, {_PAPERS_POLARITY}", "published, ResNet-18", *networks),
        [
            (f"{weights}, {encoding}", f"{value:.1f}", *(f"{lost[name, weights, encoding]:.1f}" for name in networks))
            for (weights, encoding), value in _PAPER.items()
        ],
    )


# --------------------------------------------------------------------------------------------- pictures


def picture(measured: Sequence[Point]) -> Figure:
    """Accuracy against failure rate with 95 % bands: a row for each network, a column for each polarity."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(point.network for point in measured))
    figure = Figure(figsize=(10.4, 0.7 + 3.5 * len(networks)), layout="constrained", dpi=150)
    panels = figure.subplots(len(networks), len(POLARITIES), squeeze=False, sharex=True, sharey="row")
    for row, network in zip(panels, networks, strict=True):
        for axes, polarity in zip(row, POLARITIES.values(), strict=True):
            for (name, weights, encoding, words), curve in curves(measured).items():
                if (name, words) != (network, polarity):
                    continue
                shown = [point for point in curve if point.rate > 0]
                rates = [point.rate for point in shown]
                dense = weights == "dense"
                style: dict[str, Any] = {"color": _COLOURS[encoding], "linestyle": "--" if dense else "-"}
                axes.plot(
                    rates, [point.accuracy for point in shown], marker=_MARKERS[encoding], markersize=5, linewidth=1.5,
                    markerfacecolor="white" if dense else style["color"], label=f"{encoding}, {weights}", **style,
                )  # fmt: skip
                axes.fill_between(
                    rates, [point.low for point in shown], [point.high for point in shown],
                    color=style["color"], alpha=0.15, linewidth=0,
                )  # fmt: skip
            reference = next(p for p in measured if p.network == network and p.weights == "dense" and p.rate == 0)
            axes.axhline(reference.accuracy, color="black", linewidth=1, linestyle=":", label="dense, no faults")
            axes.set_xscale("log")
            axes.set_ylim(10 * math.floor(min(point.low for point in measured) / 10), 100)
            axes.grid(color="0.9", linewidth=0.8)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(f"{network}, {polarity}", fontsize=11)
            if network == networks[-1]:
                axes.set_xlabel("probability that a cell is stuck")
        row[0].set_ylabel(f"accuracy on {reference.images} CIFAR-10 images (%)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def main(
    network: Annotated[list[str] | None, typer.Option(help="Only this network; may be repeated.")] = None,
    rate: Annotated[list[float] | None, typer.Option(help="Failure rate; may be repeated.")] = None,
    dies: Annotated[int, typer.Option(help="Dies of each point with faults.", min=2)] = 50,
    resnet20_images: Annotated[int, typer.Option(help="Test images for ResNet-20.", min=1)] = 128,
    convnet_images: Annotated[int, typer.Option(help="Test images for ConvNet.", min=1)] = 300,
    resnet18_images: Annotated[int, typer.Option(help="Test images for ResNet-18.", min=1)] = 200,
    train_in: Annotated[
        Path | None, typer.Option("--train", help="Train and prune what is not in this folder yet, and measure it.")
    ] = None,
    store: Annotated[Path, typer.Option(help="Where dies are kept.")] = Path("isqed2021.sqlite"),
    workers: Annotated[int | None, typer.Option(help="Processes; one a core if left out.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and picture.")] = FIGURES,
) -> None:
    """Measure accuracy against failure rate, and print what is tolerated and what buys it."""
    folder = train_in or ZOO
    rates = tuple(sorted(set(rate))) if rate else RATES  # curves are read from low rates to high
    images = {"resnet20": resnet20_images, "convnet": convnet_images, "resnet18": resnet18_images}
    measured: list[Point] = []
    for study in [load_study(name) for name in network or STUDIES]:
        path = folder / f"{pruned_name(study)}.safetensors"
        if train_in is None and not path.exists():
            raise InputError(f"train must be a folder for {study.network}, whose weights are not stored, got None")
        if train_in is not None:
            if not path.exists():
                train_study(study, folder)
            if "accuracy_simulator" not in read_card(path):
                complete_card(study, folder)
        whole, sound, faulty = (
            collect(part, stop=count, store=store, workers=workers)
            for part, count in zip(
                tasks(study, images[study.network], folder=folder, rates=rates), (1, 1, dies), strict=True
            )
        )
        measured += points(Results(tasks=(*sound.tasks, *faulty.tasks)), whole)
    tolerated = tolerances(measured, LOSSES)
    for text in (
        accuracy_table(measured),
        tolerance_table(tolerated, rates[-1], first=_PAPERS_POLARITY),
        ablation_table(tolerated, rates[-1]),
        paper_table(measured),
    ):
        typer.echo(text + "\n")
    output.mkdir(parents=True, exist_ok=True)
    for name, networks in (("isqed2021", STUDIES), ("isqed2021_large", LARGE)):
        part = [point for point in measured if point.network in networks]
        if part:
            write_atomically(output / f"{name}.csv", csv_bytes(asdict(point) for point in part))
            write_atomically(
                output / f"{name}_tolerance.csv", csv_bytes(asdict(one) for one in tolerated if one.network in networks)
            )
            save_figure(picture(part), output / f"{name}.png")
            typer.echo(f"wrote {name}.csv, {name}_tolerance.csv and {name}.png into {output}")


if __name__ == "__main__":
    typer.run(main)
