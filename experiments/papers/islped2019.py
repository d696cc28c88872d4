"""Table I of the ISLPED 2019 paper (ADMM pruning and quantisation for crossbars), beside ours.

``python -m xbarsim.experiments.papers.islped2019`` measures the stored networks, in about 12 minutes on two cores:
accuracy by running each one, mapped onto 32 x 32 arrays of 4-bit cells, through the simulator, 2 % of the test set also
through the reference engine; area and power from the arrays that are occupied. It prints the table beside the published
one and writes a table and a picture into experiments/figures.

``--train FOLDER`` repeats everything from nothing: dense network, pruning, retraining, quantisation. A training that is
cut short goes on where it stopped. All settings are in experiments/recipes; 5,000 training images are held back to
judge them by, and the test set is used once for each row of the table. The weights of LeNet-5 and ConvNet are stored,
and those of VGG-16 and ResNet-18 that are pruned (``--network vgg16 --network resnet18``, tables and a picture of their
own); the unpruned ones of these, 13 and 17 MB, ``--train FOLDER`` makes, on a GPU in some ten minutes.

Published figures: G. Yuan et al., An Ultra-Efficient Memristor-Based DNN Framework with Structured Weight Pruning and
Quantization Using ADMM, ISLPED 2019, doi:10.1109/ISLPED.2019.8824944, table I.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import typer
from torch import nn

import xbarsim as xb
from xbarsim.compress import (
    Compressed,
    LayerRule,
    Levels,
    MappableLayer,
    Method,
    Recipe,
    mappable_layers,
    prune,
    retrain,
)
from xbarsim.devices import Cell
from xbarsim.experiments.folders import FIGURES, RECIPES, WEIGHTS
from xbarsim.foundation import tomlio
from xbarsim.foundation.intervals import share_interval
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import check_choice, write_atomically
from xbarsim.models import ZOO, load_images, load_zoo_file, save_coded, untrained_model
from xbarsim.plot import save_figure
from xbarsim.training import Training, TrainingSet, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "BITS",
    "Measured",
    "Row",
    "Study",
    "count_weights",
    "design",
    "load_study",
    "main",
    "measure",
    "picture",
    "table",
    "train_dense",
    "train_study",
    "without_loss",
]

BITS = (9, 7, 6, 5)
"""Weight bits, sign included: 9 is the precision of the unpruned and pruned networks of the paper."""

STUDIES = ("lenet5", "convnet")
LARGE = ("vgg16", "resnet18")
"""Networks of the table whose unpruned weights are not stored here."""

_CALIBRATION = 256  # training images that set the ranges of activations
_CHECKED = 0.02  # share of the test images that the reference engine classifies too
_CHECKED_OF_LARGE = 2  # images, each some seconds to a quarter of a minute


@dataclass(frozen=True, kw_only=True)
class Row:
    """One compression, of the paper or beyond it, and how ours is pruned.

    Attributes
    ----------
    name
        Of the stored networks.
    recipe
        What is pruned.
    ratio
        Published compression of the convolutions; ``None`` where the paper has no such row.
    published
        Accuracy (%) at 9, 7, 6 and 5 bits, likewise.
    """

    name: str
    recipe: Recipe
    ratio: float | None = None
    published: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    """One network of the table, and all settings of its trainings.

    Attributes
    ----------
    network, data_set
        What is trained on what.
    original
        Published accuracy of the unpruned network (%).
    dense, pruning, retraining, quantising
        Settings of the four trainings; the last is repeated for 7, 6 and 5 bits, each from the one before.
    method
        How the weights that stay are chosen.
    rows
        The compressions.
    free
        Whether what is left is retrained with weights of any value, and brought onto the levels of 9 bits in a training
        of its own as onto the others; otherwise it is retrained on those.
    progressive
        Whether each row begins with the network of the row before it, with 9 bits, instead of the dense one; each
        training is then a stage of its own, see :meth:`Training.stage`.
    """

    network: str
    data_set: str
    original: float
    dense: Training
    method: Method
    pruning: Training
    retraining: Training
    quantising: Training
    rows: tuple[Row, ...]
    free: bool = False
    progressive: bool = False


def load_study(network: str) -> Study:
    """Read the settings of a network's rows.

    Raises
    ------
    InputError
        If the table has no such network.
    """
    return tomlio.load(Study, RECIPES / f"islped2019_{check_choice('network', network, (*STUDIES, *LARGE))}.toml")


def design(bits: int, network: str = "convnet") -> xb.Design:
    """The accelerator: 32 x 32 arrays, or 128 x 64 for large networks, of 4-bit cells, 1 to 10 Mohm, a column a sign.

    Converters are lossless: the paper states none.
    """
    rows, columns = (128, 64) if network in LARGE else (32, 32)
    return xb.Design(
        cell=Cell.load("islped2019").without_errors(),
        mapping=xb.Mapping(rows=rows, columns=columns, weight_bits=bits, cell_bits=4),
        periphery=xb.Periphery(input_bits=8, dac_bits=1, adc_range="lossless"),
    )


def zoo_name(network: str, row: Row | None, bits: int) -> str:
    """What a stored network is called; ``None`` for the unpruned one."""
    return f"{network}-{'unpruned' if row is None else row.name}-{bits}bit"


def stored_folder(network: str) -> Path:
    """Where the weights of a network of the table are that come with the project."""
    return WEIGHTS / "islped2019" if network in LARGE else ZOO


def _lacking(study: Study, folder: Path, *, unpruned: bool) -> list[str]:
    """Networks of a study that a folder does not hold; whether the unpruned one is asked for."""
    names = [zoo_name(study.network, None, BITS[0])] if unpruned else []
    names += [zoo_name(study.network, row, bits) for row in study.rows for bits in BITS]
    return [name for name in names if not (folder / f"{name}.safetensors").exists()]


def _levels(bits: int) -> Recipe:
    """Every weight that is left on a level other than zero, as in the paper."""
    return Recipe(rules=(LayerRule(layers=("*",), levels=Levels(bits=bits, zero=False)),))


# --------------------------------------------------------------------------------------------- training


def train_dense(study: Study, data: TrainingSet, folder: Path, *, progress: bool | None = None) -> nn.Module:
    """Train the unpruned network, store it on the levels of 9 bits, and return it as it was before that.

    Parameters
    ----------
    study, folder, progress
        As in :func:`train_study`.
    data
        The study's data set, loaded.
    """
    work = folder / "checkpoints"
    work.mkdir(parents=True, exist_ok=True)
    dense, _ = untrained_model(study.network, seed=study.dense.seed)
    train(dense, data, study.dense, checkpoint=work / f"{study.network}.safetensors", progress=progress)
    unpruned = retrain(
        dense.eval(), data, study.quantising, masks={}, recipe=_levels(BITS[0]),
        checkpoint=work / f"{study.network}.{BITS[0]}bit.safetensors", progress=progress,
    )  # fmt: skip
    _save(folder, unpruned, study, BITS[0], None)
    return dense


def train_study(study: Study, folder: Path, *, progress: bool | None = None) -> None:
    """Train all networks of a study into a folder; what is there already is not trained again.

    Parameters
    ----------
    study
        The settings.
    folder
        For checkpoints and for the finished networks, which are called as in the zoo.
    progress
        Show progress.
    """
    data = TrainingSet.load(study.data_set)
    start = train_dense(study, data, folder, progress=progress)
    work = folder / "checkpoints"
    for number, row in enumerate(study.rows):
        first = f"{study.network}-{row.name}"
        stage = number if study.progressive else 0
        pruned = prune(
            start, row.recipe, data, study.pruning.stage(stage),
            method=study.method, checkpoint=work / f"{first}.pruning.safetensors", progress=progress,
        )  # fmt: skip
        current = pruned.model
        if study.free:
            current = retrain(
                current, data, study.retraining.stage(stage),
                masks=pruned.masks, checkpoint=work / f"{first}.free.safetensors", progress=progress,
            ).model  # fmt: skip
        for index, bits in enumerate(BITS):
            if study.free:
                training = study.quantising.stage(stage * len(BITS) + index)
            elif index == 0:
                training = study.retraining.stage(stage)
            else:
                training = study.quantising.stage(stage * len(BITS) + index - 1 if study.progressive else 0)
            retrained = retrain(
                current, data, training,
                masks=pruned.masks, recipe=_levels(bits),
                checkpoint=work / f"{first}.{bits}bit.safetensors", progress=progress,
            )  # fmt: skip
            current = retrained.model
            if study.progressive and index == 0:
                start = current
            _save(folder, retrained, study, bits, row)


def _save(folder: Path, compressed: Compressed, study: Study, bits: int, row: Row | None) -> None:
    """Write a network with its card; what it reaches on the test set is for :func:`complete_cards` to add."""
    assert compressed.retraining is not None
    name, (ratio, whole) = zoo_name(study.network, row, bits), _ratios(compressed.model)
    validation = compressed.retraining.validation_accuracy[-1]
    about = {
        "network": study.network,
        "data_set": study.data_set,
        "bits": bits,
        "compression": "unpruned"
        if row is None
        else f"{ratio:.2f} x fewer weights in convolutions, {whole:.2f} x in all",
        "recipe": f"experiments/recipes/islped2019_{study.network}.toml" + ("" if row is None else f", row {row.name}"),
        "validation_accuracy": round(validation, 4),
        "licence": "Apache-2.0",
    }
    save_coded(folder / f"{name}.safetensors", compressed.model, bits=bits, about=about)
    typer.echo(f"{name}: validation accuracy {validation:.2%}", err=True)


def complete_cards(folder: Path, measured: Sequence[Measured], study: Study) -> None:
    """Add to the networks' cards what they reach on the test set."""
    rows = {row.name: row for row in study.rows}
    for one in measured:
        path = folder / f"{zoo_name(one.network, rows.get(one.row), one.bits)}.safetensors"
        model, card = load_zoo_file(path)
        card |= {
            "accuracy_float32": one.float_accuracy / 100,
            "accuracy_simulator": one.accuracy / 100,
            "test_images": one.images,
            "weights_kept": count_weights(mappable_layers(model).values())[0],
            "measured_by": "python -m xbarsim.experiments.papers.islped2019, the mapped network with 8-bit inputs",
        }
        save_coded(path, model, bits=one.bits, about=card)


# -------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One cell of the table, measured.

    Attributes
    ----------
    network, row, bits
        Which; `row` is empty for the unpruned network.
    published_ratio, published
        Compression of the convolutions, and accuracy (%), as published; ``None`` where the paper has none.
    ratio, whole_ratio
        Compression of the convolutions, and of all layers, here.
    accuracy
        Of the mapped network on the simulator, %.
    float_accuracy
        Of the same weights in float32, with activations that are not quantised, %.
    images, checked
        Test images; and how many of them went through the reference engine too, with the same logits.
    area, power, tiles
        Of the occupied arrays of all layers: mm2, W, and their number.
    area_saved, convolution_area_saved, power_saved
        Against the unpruned network with 9 bits, %.
    """

    network: str
    row: str
    bits: int
    published_ratio: float | None
    published: float | None
    ratio: float
    whole_ratio: float
    accuracy: float
    float_accuracy: float
    images: int
    checked: int
    area: float
    power: float
    tiles: int
    area_saved: float = 0.0
    convolution_area_saved: float = 0.0
    power_saved: float = 0.0


def count_weights(layers: Iterable[MappableLayer]) -> tuple[int, int]:
    """How many weights of these layers are not zero, and how many there are; biases are not counted."""
    weights = [layer.weight for layer in layers]
    return sum(int(torch.count_nonzero(weight)) for weight in weights), sum(weight.numel() for weight in weights)


def _ratios(model: nn.Module) -> tuple[float, float]:
    """Compression of the convolutions, and of all layers."""
    layers = list(mappable_layers(model).values())
    kept, total = count_weights(layer for layer in layers if isinstance(layer.module, nn.Conv2d))
    all_kept, all_total = count_weights(layers)
    return total / kept, all_total / all_kept


def _areas(network: xb.MappedNetwork, cost: xb.CostReport) -> tuple[float, float, float]:
    """Area of all layers, of the convolutions alone, and power."""
    convolutions = [layer for layer in cost.layers if network.layers[layer.use.name].layer.kind == "conv2d"]
    return cost.area, sum(layer.area for layer in convolutions), cost.power


def measure(study: Study, *, folder: Path | None = None, images: int | None = None) -> list[Measured]:
    """Measure all networks of a study on the simulator.

    Parameters
    ----------
    study
        Which.
    folder
        Where the networks are; ``None`` for those that come with the project. A large network that is not there
        unpruned has no row for that: what the others save is counted against the arrays of its shape.
    images
        Test images, from the first; ``None`` for all.

    Raises
    ------
    RuntimeError
        If the reference engine gives another answer.
    """
    folder = stored_folder(study.network) if folder is None else folder
    pixels, labels = load_images(study.data_set, "test", count=images)
    calibration = load_images(study.data_set, "train", count=_CALIBRATION)[0]
    rows: list[Measured] = []
    first_areas = (0.0, 0.0, 0.0)
    for row in (None, *study.rows):
        for bits in BITS[:1] if row is None else BITS:
            path = folder / f"{zoo_name(study.network, row, bits)}.safetensors"
            there = row is not None or study.network not in LARGE or path.exists()
            model = load_zoo_file(path)[0] if there else untrained_model(study.network, seed=0)[0]
            network = xb.map_model(model, design(bits, study.network), calibration=calibration)
            cost = network.cost("islped2019")
            areas = _areas(network, cost)
            if row is None:
                first_areas = areas
            if not there:
                continue
            chip = network.fabricate(seed=0)
            result = xb.evaluate(chip, pixels, labels)
            few = _CHECKED_OF_LARGE if study.network in LARGE else max(1, round(_CHECKED * len(pixels)))
            _check(chip, pixels[:few])
            saved = [100 * (1 - value / first) for value, first in zip(areas, first_areas, strict=True)]
            ratio, whole = _ratios(model)
            rows.append(
                Measured(
                    network=study.network,
                    row="" if row is None else row.name,
                    bits=bits,
                    published_ratio=None if row is None else row.ratio,
                    published=_published(study, row, bits),
                    ratio=ratio,
                    whole_ratio=whole,
                    accuracy=100 * result.accuracy,
                    float_accuracy=100 * xb.evaluate(model, pixels, labels).accuracy,
                    images=len(pixels),
                    checked=few,
                    area=1e6 * cost.area,
                    power=cost.power,
                    tiles=network.tiles,
                    area_saved=saved[0],
                    convolution_area_saved=saved[1],
                    power_saved=saved[2],
                )
            )
            typer.echo(f"{path.stem}: {100 * result.accuracy:.2f} %", err=True)
    return rows


def _published(study: Study, row: Row | None, bits: int) -> float | None:
    if row is None:
        return study.original
    return None if row.published is None else row.published[BITS.index(bits)]


def _check(chip: xb.Chip, images: np.ndarray) -> None:
    reference = chip.reference()
    for start in range(0, len(images), 20):
        part = torch.from_numpy(images[start : start + 20])
        with torch.no_grad():
            if not torch.equal(chip(part), reference(part)):
                raise RuntimeError(f"images {start} to {start + 19} differ from the reference engine")


# --------------------------------------------------------------------------------------------- pictures


def table(measured: Sequence[Measured]) -> str:
    """The table, ours beside the published figures."""
    header = (
        "network", "conv compression", "published", "all layers", "bits", "accuracy (%)", "published",
        "area saved (%)", "conv area saved (%)", "power saved (%)", "arrays",
    )  # fmt: skip
    rows = [
        (
            one.network,
            f"{one.ratio:.2f}",
            "-" if one.published_ratio is None else f"{one.published_ratio:.2f}",
            f"{one.whole_ratio:.2f}",
            one.bits,
            f"{one.accuracy:.2f}",
            "-" if one.published is None else f"{one.published:.2f}",
            f"{one.area_saved:.2f}",
            f"{one.convolution_area_saved:.2f}",
            f"{one.power_saved:.2f}",
            one.tiles,
        )
        for one in measured
    ]
    return format_table(header, rows)


def without_loss(measured: Sequence[Measured]) -> str:
    """The highest compression of each network that is no worse than the unpruned one, the paper's and ours."""
    lines = []
    for dense in (one for one in measured if not one.row):
        for limit, words in ((dense.published, "the published unpruned network"), (dense.accuracy, "ours")):
            if limit is None:
                continue
            fit = [one for one in measured if one.network == dense.network and one.row and one.accuracy >= limit]
            best = max(fit, key=lambda one: (one.ratio, -one.bits), default=None)
            reach = "at no compression" if best is None else f"up to {best.ratio:.2f} x at {best.bits} bits"
            lines.append(f"{dense.network}: no worse than {words} ({limit:.2f} %) {reach}")
    return "\n".join(lines)


def _reach(one: Measured) -> tuple[float, float]:
    """How far the 95 % interval of the accuracy on other images of the kind reaches down and up, %."""
    interval = share_interval(round(one.accuracy * one.images / 100), one.images)  # Clopper-Pearson
    return one.accuracy - 100 * interval.low, 100 * interval.high - one.accuracy


def picture(measured: Sequence[Measured]) -> Figure:
    """Accuracy against bits, ours filled, with 95 % intervals, and the published ones hollow; a panel a network."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(one.network for one in measured))
    figure = Figure(figsize=(0.6 + 5.2 * len(networks), 4.4), layout="constrained", dpi=200)
    colours = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
    for ax, network in zip(figure.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
        mine = [one for one in measured if one.network == network]
        dense = next((one for one in mine if not one.row), None)
        if dense is not None:
            ax.axhline(dense.accuracy, color="black", linewidth=1.2, label=f"unpruned: {dense.accuracy:.2f} %")
        if dense is not None and dense.published is not None:
            ax.axhline(
                dense.published, color="black", linewidth=1, linestyle=":", label=f"published: {dense.published:.2f} %"
            )
        rows = list(dict.fromkeys(one.row for one in mine if one.row))
        for number, (colour, row) in enumerate(zip(colours, rows, strict=False)):
            part = [one for one in mine if one.row == row]
            beside = 0.05 * (number - (len(rows) - 1) / 2)  # so that no interval hides another
            x = [BITS.index(one.bits) + beside for one in part]
            ax.errorbar(
                x, [one.accuracy for one in part], yerr=np.transpose([_reach(one) for one in part]), fmt="o-",
                color=colour, capsize=3, linewidth=1.3, elinewidth=0.9, label=f"{part[0].ratio:.1f} x",
            )  # fmt: skip
            published = [one.published for one in part if one.published is not None]
            if len(published) < len(part):
                continue  # beyond the paper
            ax.plot(
                x, published, "s:", color=colour, markerfacecolor="white",
                label=f"published: {part[0].published_ratio:.1f} x",
            )  # fmt: skip
        ax.set_xticks(range(len(BITS)), [str(bits) for bits in BITS])
        ax.set_xlabel("bits of a weight, sign included")
        ax.set_ylabel("accuracy on the test set (%)")
        ax.set_title(network)
        ax.grid(color="#e6e6e6")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize="x-small", ncols=4, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure


def main(
    network: Annotated[list[str] | None, typer.Option(help="Only this network; may be repeated.")] = None,
    images: Annotated[int | None, typer.Option(help="Test images, from the first; all if left out.")] = None,
    train_in: Annotated[
        Path | None, typer.Option("--train", help="Train what is not in this folder yet, and measure what is there.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for table and picture.")] = FIGURES,
) -> None:
    """Measure the networks of table I, and print them beside the published figures."""
    measured: list[Measured] = []
    for study in [load_study(name) for name in network or STUDIES]:
        start = time.perf_counter()
        folder = train_in or stored_folder(study.network)
        missing = _lacking(study, folder, unpruned=train_in is not None or study.network not in LARGE)
        if train_in is not None and missing:
            train_study(study, train_in)
            missing = []
        if missing:
            typer.echo(f"{study.network}: {len(missing)} networks are not stored; --train FOLDER makes them", err=True)
            continue
        rows = measure(study, folder=folder, images=images)
        if train_in is not None:
            complete_cards(train_in, rows, study)
        measured += rows
        typer.echo(f"{study.network}: {time.perf_counter() - start:.0f} s", err=True)
    if not measured:
        raise typer.Exit(1)
    typer.echo(table(measured) + "\n\n" + without_loss(measured))
    output.mkdir(parents=True, exist_ok=True)
    for name, networks in (("islped2019", STUDIES), ("islped2019_large", LARGE)):
        part = [one for one in measured if one.network in networks]
        if part:
            write_atomically(output / f"{name}.csv", csv_bytes(asdict(one) for one in part))
            save_figure(picture(part), output / f"{name}.png")
            typer.echo(f"wrote {output / f'{name}.csv'} and {output / f'{name}.png'}")


if __name__ == "__main__":
    typer.run(main)
