"""What mapping costs networks of many kinds: convolutional, depthwise, recurrent, and transformers.

``python -m xbarsim.experiments.studies.networks`` maps each of them onto arrays of 128 x 128 cells with 8-bit weights
and inputs, and measures it in floating point, on an ideal chip, with an 8-bit converter, and with 0.1 % of the cells
stuck: one imperfection at a time. Each figure stands beside what it is worth: how many inputs were clipped, what share
of the multiply-accumulates stays digital, and which parts with weights are not mapped. Dies are kept in a store, so
that a run that was cut short goes on where it stopped.

The accuracies in floating point are no records: most of these networks were trained for minutes
(``python -m xbarsim.experiments.fits.train_networks``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
import typer

import xbarsim as xb
from xbarsim.data import load_babi, load_keywords, spoken_digit_features
from xbarsim.devices import Cell, StuckFaults
from xbarsim.experiments.folders import FIGURES, WEIGHTS
from xbarsim.foundation.intervals import FewDiesWarning, Interval, share_interval
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import check_choice, write_atomically
from xbarsim.models import (
    RecurrentCell,
    load_coded,
    load_images,
    load_keyword_net,
    load_spoken_digits_net,
    load_story_transformer,
    torchvision,
)
from xbarsim.network import ClippingWarning, NotMappedWarning
from xbarsim.plot import save_figure
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.measures import Measure, Value
from xbarsim.sweep.results import TaskResult
from xbarsim.sweep.subject import Subject
from xbarsim.sweep.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

    from xbarsim.network import Chip

__all__ = [
    "CHIPS",
    "SUBJECTS",
    "ClassifiedAndClipped",
    "Row",
    "main",
    "measure",
    "picture",
    "table",
    "tasks",
]

_CALIBRATION = 128
_KEYWORD_CALIBRATION = 100  # of the test set, for want of a training set; measured on the others

_STUCK = 0.001
_ADC_BITS = 8


def _design(*, adc_bits: int | None = None, stuck: float = 0.0) -> xb.Design:
    """Half of the stuck cells are stuck on, half of them off."""
    return xb.Design(
        cell=Cell.load("wan2022").without_errors(),
        mapping=xb.Mapping(rows=128, columns=128, weight_bits=8, cell_bits=4),
        periphery=xb.Periphery(input_bits=8, dac_bits=8, adc_bits=adc_bits),
        faults=StuckFaults(on=stuck / 2, off=stuck / 2) if stuck else None,
    )


CHIPS: Mapping[str, xb.Design] = {
    "ideal": _design(),
    "8-bit ADC": _design(adc_bits=_ADC_BITS),
    "0.1 % stuck": _design(stuck=_STUCK),
}
"""What each network is mapped for; the ideal chip quantises weights and inputs, and nothing else."""

_FLOAT = "float"


# --- the networks


def _cifar10(name: str, build: Callable[[int], nn.Module]) -> Subject:
    network = build(10)
    load_coded(WEIGHTS / f"{name}.safetensors", network)
    images, labels = load_images("cifar10", "test")
    calibration, _ = load_images("cifar10", "train", count=_CALIBRATION)
    return Subject(name=name, data_set="cifar10", model=network, images=images, labels=labels, calibration=calibration)


def _spoken_digits(cell: RecurrentCell) -> Subject:
    test = spoken_digit_features("test")
    return Subject(
        name=f"spoken_digits_{cell}",
        data_set="fsdd",
        model=load_spoken_digits_net(cell),
        images=test.features,
        labels=test.labels,
        calibration=spoken_digit_features("train", count=_CALIBRATION).features,
    )


def _stories() -> Subject:
    test = load_babi("test")
    return Subject(
        name="story_transformer",
        data_set="babi task 1",
        model=load_story_transformer(),
        images=test.tokens.astype(np.float32),  # small whole numbers: exact
        labels=test.labels,
        calibration=load_babi("train").tokens[:_CALIBRATION].astype(np.float32),
    )


def _keywords() -> Subject:
    features, labels = load_keywords()
    first = _KEYWORD_CALIBRATION
    return Subject(
        name="keywords",
        data_set="kws01",
        model=load_keyword_net(),
        images=features[first:],
        labels=labels[first:],
        calibration=features[:first],
    )


SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "resnet18": lambda: _cifar10("resnet18", torchvision.resnet18),
    "mobilenet_v2": lambda: _cifar10("mobilenet_v2", torchvision.mobilenet_v2),
    "shufflenet_v2_x1_0": lambda: _cifar10("shufflenet_v2_x1_0", torchvision.shufflenet_v2_x1_0),
    "efficientnet_b0": lambda: _cifar10("efficientnet_b0", torchvision.efficientnet_b0),
    "vision_transformer": lambda: _cifar10("vision_transformer", torchvision.vision_transformer),
    "keywords": _keywords,
    "spoken_digits_lstm": lambda: _spoken_digits("lstm"),
    "spoken_digits_gru": lambda: _spoken_digits("gru"),
    "story_transformer": _stories,
}
"""Networks with their test samples, by name."""


# --- measuring


@dataclass(frozen=True, kw_only=True)
class ClassifiedAndClipped(Measure):
    """How many samples the die classifies right, and how many inputs of its layers are clipped on the way."""

    @property
    def columns(self) -> Mapping[str, type]:
        """Those of an accuracy, inputs, and how many of them lay beyond the calibrated range."""
        return {"correct": int, "images": int, "inference_seconds": float, "inputs": int, "clipped_inputs": int}

    def run(self, chip: Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Mapping[str, Value]:
        """Classify all samples."""
        before = chip.clipped_inputs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClippingWarning)  # it is counted
            result = xb.evaluate(chip, images, labels, progress=False)
        counts = [(count, before[name]) for name, count in chip.clipped_inputs.items()]
        return {
            "correct": result.correct,
            "images": result.images,
            "inference_seconds": result.seconds,
            "inputs": sum(now.inputs - then.inputs for now, then in counts),
            "clipped_inputs": sum(now.clipped - then.clipped for now, then in counts),
        }


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of the table, with what it is worth.

    Attributes
    ----------
    network, data_set, chip
        What was measured on what; the chip is a name in `CHIPS`, or ``"float"``.
    samples
        Test samples.
    dies
        How many were measured; 0 in floating point, 1 where all dies are alike.
    accuracy, low, high
        Share classified right, with its 95 % interval: of the mean die on these samples where there are several dies
        (Student's t, which few dies make too narrow), otherwise on samples like these (Clopper-Pearson).
    each_die
        Accuracy of each die where there are several, in the order of their numbers.
    inputs, clipped_inputs
        Inputs of mapped layers, and how many lay beyond the calibrated range: all dies together.
    digital_share
        Share of a sample's multiply-accumulates that stays digital.
    not_mapped
        What holds weights and stays digital, by name and reason.
    """

    network: str
    data_set: str
    chip: str
    samples: int
    dies: int
    accuracy: float
    low: float
    high: float
    each_die: str
    inputs: int
    clipped_inputs: int
    digital_share: float
    not_mapped: str


def tasks(subject: Subject, samples: int) -> dict[str, Task]:
    """One task for each of `CHIPS`, on the first so many samples, or all where there are fewer."""
    return {
        chip: Task(
            network=subject,
            design=design,
            images=min(samples, len(subject.labels)),
            calibration=_CALIBRATION,
            measures=(ClassifiedAndClipped(),),
            tags={"chip": chip},
        )
        for chip, design in CHIPS.items()
    }


def _interval(result: TaskResult) -> Interval:
    if len(result.dies) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewDiesWarning)  # the dies stand beside it one by one
            return result.mean()
    die = result.dies[0]
    return share_interval(die.correct, die.images)


def measure(
    subject: Subject, *, samples: int, dies: int, store: Path | None = None, workers: int | None = None
) -> list[Row]:
    """Measure a network in floating point and on every chip.

    Parameters
    ----------
    subject
        The network and its samples.
    samples
        Test samples, from the first; all where there are fewer.
    dies
        Dies with stuck cells, 2 or more.
    store
        Where dies are kept; ``None`` for nowhere.
    workers
        Processes; ``None`` for one a core.
    """
    made = tasks(subject, samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotMappedWarning)  # it is in every row
        mapped = made["ideal"].map()
        whole = collect([made["ideal"], made["8-bit ADC"]], stop=1, store=store, workers=workers)  # all dies are alike
        stuck = collect([made["0.1 % stuck"]], stop=dies, store=store, workers=workers)
    count = min(samples, len(subject.labels))
    floating = xb.evaluate(subject.model, subject.images[:count], subject.labels[:count], progress=False)
    share = mapped.cost(data=False).digital_share
    left = "; ".join(f"{item.name} ({item.kind}): {item.reason}" for item in mapped.not_mapped)
    known = partial(
        Row,
        network=subject.name,
        data_set=subject.data_set,
        samples=count,
        digital_share=share,
        not_mapped=left,
    )
    interval = share_interval(floating.correct, floating.images)
    rows = [
        known(
            chip=_FLOAT,
            dies=0,
            accuracy=interval.estimate,
            low=interval.low,
            high=interval.high,
            each_die="",
            inputs=0,
            clipped_inputs=0,
        )
    ]
    for result in (*whole.tasks, *stuck.tasks):
        interval = _interval(result)
        rows.append(
            known(
                chip=str(result.columns["chip"]),
                dies=len(result.dies),
                accuracy=interval.estimate,
                low=interval.low,
                high=interval.high,
                each_die=" ".join(f"{each:.4f}" for each in result.accuracies) if len(result.dies) > 1 else "",
                inputs=sum(int(die.metrics["inputs"]) for die in result.dies),
                clipped_inputs=sum(int(die.metrics["clipped_inputs"]) for die in result.dies),
            )
        )
    return rows


# --- showing

_COLOURS = {_FLOAT: "#000000", "ideal": "#0072B2", "8-bit ADC": "#009E73", "0.1 % stuck": "#D55E00"}
_MARKERS = {_FLOAT: "|", "ideal": "o", "8-bit ADC": "s", "0.1 % stuck": "D"}


def _share(value: float) -> str:
    """A share in percent, with the digits that tell it from nothing."""
    return "0 %" if value == 0 else f"{100 * value:.2g} %"


def _clipped(rows: Iterable[Row]) -> float:
    """The largest share of inputs clipped on any of the chips."""
    return max((row.clipped_inputs / row.inputs for row in rows if row.inputs), default=0.0)


def picture(rows: Sequence[Row]) -> Figure:
    """Accuracy of each network on each chip, with its interval, beside what the figures are worth."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.network for row in rows))
    chips = list(dict.fromkeys(row.chip for row in rows))
    figure = Figure(figsize=(9.6, 1.3 + 0.62 * len(names)), layout="constrained", dpi=150)
    axes = figure.subplots()
    for index, chip in enumerate(chips):
        shown = [row for row in rows if row.chip == chip]
        heights = [names.index(row.network) + 0.17 * (index - (len(chips) - 1) / 2) for row in shown]
        errors = [[100 * (row.accuracy - row.low) for row in shown], [100 * (row.high - row.accuracy) for row in shown]]
        axes.errorbar(
            [100 * row.accuracy for row in shown], heights, xerr=errors, fmt=_MARKERS[chip], color=_COLOURS[chip],
            label="floating point" if chip == _FLOAT else chip, markersize=6, elinewidth=1.2,
        )  # fmt: skip
        for row, height in zip(shown, heights, strict=True):
            each = [100 * float(die) for die in row.each_die.split()]
            axes.plot(each, [height] * len(each), ".", color=_COLOURS[chip], alpha=0.5, markersize=4)
    labels = []
    for name in names:
        here = [row for row in rows if row.network == name]
        parts = len(here[0].not_mapped.split("; ")) if here[0].not_mapped else 0
        labels.append(
            f"{name} ({here[0].samples})\ndigital {_share(here[0].digital_share)}, clipped {_share(_clipped(here))}, "
            f"not mapped: {parts}"
        )
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy (%), 95 % interval; in brackets: test samples")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=len(chips))
    return figure


def table(rows: Sequence[Row]) -> str:
    """The rows as text, and below what is not mapped."""
    text = format_table(
        (
            "network",
            "chip",
            "samples",
            "dies",
            "accuracy (%)",
            "95 % interval",
            "clipped inputs",
            "digital",
            "not mapped",
        ),
        [
            (
                row.network,
                row.chip,
                row.samples,
                row.dies or "-",
                f"{100 * row.accuracy:.1f}",
                f"{100 * row.low:.1f} to {100 * row.high:.1f}",
                f"{row.clipped_inputs} of {row.inputs}" if row.inputs else "-",
                _share(row.digital_share),
                len(row.not_mapped.split("; ")) if row.not_mapped else 0,
            )
            for row in rows
        ],
        left=2,
    )
    for row in rows:
        if row.each_die:
            text += f"\n{row.network}, {row.chip}, die by die: {row.each_die}"
    for name, listed in dict.fromkeys((row.network, row.not_mapped) for row in rows):
        if listed:
            text += f"\n{name}, not mapped: {listed}"
    return text


def main(
    networks: Annotated[list[str] | None, typer.Option(help="Networks; all by default.")] = None,
    images: Annotated[int, typer.Option(help="Test samples, or all where there are fewer.", min=1)] = 1000,
    dies: Annotated[int, typer.Option(help="Dies with stuck cells.", min=2)] = 5,
    store: Annotated[Path, typer.Option(help="Where dies are kept.")] = Path("networks.sqlite"),
    output: Annotated[Path, typer.Option(help="Folder of the table and the picture.")] = FIGURES,
    workers: Annotated[int | None, typer.Option(help="Processes; one a core by default.", min=1)] = None,
) -> None:
    """Measure, print, and write networks.csv and networks.png."""
    chosen = [check_choice("networks", name, SUBJECTS) for name in networks or SUBJECTS]
    rows: list[Row] = []
    for number, name in enumerate(chosen, start=1):
        typer.echo(f"{name} ({number} of {len(chosen)})", err=True)
        rows += measure(SUBJECTS[name](), samples=images, dies=dies, store=store, workers=workers)
    typer.echo(table(rows))
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "networks.csv", csv_bytes([asdict(row) for row in rows]))
    save_figure(picture(rows), output / "networks.png")
    typer.echo(f"wrote {output / 'networks.csv'} and {output / 'networks.png'}")


if __name__ == "__main__":
    typer.run(main)
