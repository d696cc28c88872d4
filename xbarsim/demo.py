"""The demonstration: digits on crossbars whose cells are stuck, under three mappings.

:func:`run_demo` makes dies at each fault rate, measures their accuracy, and returns a :class:`DemoResult` that draws
its tables and its picture and saves its files. What loads torch is imported where it is used: the command line starts
worker processes from here before it needs it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from scipy.special import stdtrit

from xbarsim import plot
from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell, FaultKind, StuckFaults, card
from xbarsim.foundation.processes import follow_parent
from xbarsim.foundation.validation import FileWriteError, InputError, check_integer, check_real, write_atomically
from xbarsim.mapping import Balanced, Differential, Encoding, Mapping, TwoColumn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "POLARITIES",
    "RATES",
    "DemoResult",
    "Die",
    "MappingCost",
    "Point",
    "demo_design",
    "prepare_folder",
    "run_demo",
]

#: Total probabilities that a cell is stuck.
RATES = (0.0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

#: Both readings of the rates of Chen 2015, by the fault preset that holds each.
POLARITIES = {"chen2015_sa0_hrs": "mostly stuck on", "chen2015_sa0_lrs": "mostly stuck off"}

_ENCODINGS: tuple[Encoding, ...] = (TwoColumn(), Differential(), Balanced())
_VOLTAGE_CARD = "isaac2016"
_CONFIDENCE = 0.95


def demo_design(encoding: Encoding) -> Design:
    """The accelerator of the demonstration.

    Cells of 1 to 10 MOhm with 4 bits in arrays of 128 x 128, and converters that lose nothing, so that stuck cells are
    the only thing that costs accuracy. Weights have 9 bits: the 8 bits of their magnitudes fill two cells exactly,
    where
    with 8-bit weights the upper cell would use 7 of its 15 levels and a cell stuck on would err by twice full scale.

    Parameters
    ----------
    encoding
        How a weight becomes a pair of columns.
    """
    voltage = card(_VOLTAGE_CARD).read_voltage
    assert voltage is not None
    return Design(
        cell=dataclasses.replace(Cell.load("islped2019"), read_voltage=float(voltage.value)),
        mapping=Mapping(encoding=encoding, rows=128, columns=128, weight_bits=9, cell_bits=4),
        periphery=Periphery(input_bits=8, dac_bits=1, adc_range="lossless"),
    )


@dataclass(frozen=True, kw_only=True)
class Die:
    """One die and what it got right.

    Attributes
    ----------
    mapping
        Name of its encoding.
    polarity
        Which fault dominates, in words.
    preset
        The fault preset that the ratio is from.
    rate
        Total probability that a cell is stuck.
    on, off
        Its two parts: stuck on, and stuck off.
    seed
        The die's seed; dies of all mappings and rates share the same seeds.
    correct, images
        How many images were classified right, of how many.
    cells, stuck_on, stuck_off
        Cells of its arrays, and how many of them really are stuck.
    power
        Peak power, W.
    area
        Area, m2.
    """

    mapping: str
    polarity: str
    preset: str
    rate: float
    on: float
    off: float
    seed: int
    correct: int
    images: int
    cells: int
    stuck_on: int
    stuck_off: int
    power: float
    area: float

    @property
    def accuracy(self) -> float:
        """The share classified right, 0 to 1."""
        return self.correct / self.images

    def to_row(self) -> dict[str, Any]:
        """A row of ``results.csv``."""
        return {
            "mapping": self.mapping,
            "polarity": self.polarity,
            "preset": self.preset,
            "rate": self.rate,
            "on": self.on,
            "off": self.off,
            "die_seed": self.seed,
            "correct": self.correct,
            "images": self.images,
            "accuracy": self.accuracy,
            "cells": self.cells,
            "cells_stuck_on": self.stuck_on,
            "cells_stuck_off": self.stuck_off,
            "power_W": self.power,
            "area_m2": self.area,
        }


@dataclass(frozen=True, kw_only=True)
class Point:
    """The dies of one mapping at one fault rate, summed up.

    Attributes
    ----------
    mapping, polarity, preset, rate, on, off
        As in :class:`Die`.
    dies
        How many.
    mean
        Mean accuracy, 0 to 1.
    low, high
        Its 95 % interval by Student's t over the dies, cut at 0 and 1; ``None`` at rate 0, where all dies are alike,
        and for a single die.
    deviation
        Standard deviation over the dies; ``None`` for a single die.
    worst, best
        Accuracy of the extreme dies.
    power
        Mean peak power, W.
    area
        Area, m2.
    """

    mapping: str
    polarity: str
    preset: str
    rate: float
    on: float
    off: float
    dies: int
    mean: float
    low: float | None
    high: float | None
    deviation: float | None
    worst: float
    best: float
    power: float
    area: float

    @classmethod
    def of(cls, dies: Sequence[Die]) -> Point:
        """Sum up dies of one mapping at one rate."""
        first, count = dies[0], len(dies)
        accuracies = [die.accuracy for die in dies]
        mean = sum(die.correct for die in dies) / (count * first.images)
        deviation = low = high = None
        if count > 1:
            deviation = statistics.stdev(die.correct for die in dies) / first.images  # exactly 0 where all are alike
            if first.rate > 0:
                half = float(stdtrit(count - 1, (1 + _CONFIDENCE) / 2)) * deviation / math.sqrt(count)
                low, high = max(0.0, mean - half), min(1.0, mean + half)
        return cls(
            mapping=first.mapping,
            polarity=first.polarity,
            preset=first.preset,
            rate=first.rate,
            on=first.on,
            off=first.off,
            dies=count,
            mean=mean,
            low=low,
            high=high,
            deviation=deviation,
            worst=min(accuracies),
            best=max(accuracies),
            power=math.fsum(die.power for die in dies) / count,
            area=first.area,
        )

    def to_row(self) -> dict[str, Any]:
        """A row of ``summary.csv``; what :func:`xbarsim.plot.accuracy` draws."""
        return {
            "mapping": self.mapping,
            "polarity": self.polarity,
            "preset": self.preset,
            "rate": self.rate,
            "on": self.on,
            "off": self.off,
            "dies": self.dies,
            "accuracy_mean": self.mean,
            "accuracy_low": self.low,
            "accuracy_high": self.high,
            "accuracy_deviation": self.deviation,
            "accuracy_worst": self.worst,
            "accuracy_best": self.best,
            "power_W": self.power,
            "area_m2": self.area,
        }

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True, kw_only=True)
class MappingCost:
    """What the network costs under one mapping, without faults.

    Attributes
    ----------
    mapping
        Name of the encoding.
    arrays
        Crossbar arrays.
    adc_bits
        Bits of the largest converter.
    cells_power
        Static power of all cells while they are read, W.
    power
        Peak power, W.
    area
        Area, m2.
    hardware
        The component card.
    notes
        What a reader should know of these numbers.
    """

    mapping: str
    arrays: int
    adc_bits: int
    cells_power: float
    power: float
    area: float
    hardware: str
    notes: tuple[str, ...]


class _Bench:
    """The three mapped networks and the test images: what makes and measures a die."""

    def __init__(self, images: int | None) -> None:
        from xbarsim.cost import Hardware
        from xbarsim.data import load_digits_split
        from xbarsim.models import load_model, load_test_set
        from xbarsim.network import map_model

        model, _ = load_model("digits")
        calibration = load_digits_split().train_images
        self.images, self.labels = load_test_set("digits", count=images)
        self.hardware = Hardware.load("isaac2016")
        self.networks = {
            encoding.name: map_model(model, demo_design(encoding), calibration=calibration) for encoding in _ENCODINGS
        }

    def costs(self) -> list[MappingCost]:
        costs = []
        for name, network in self.networks.items():
            report = network.cost(self.hardware)
            costs.append(
                MappingCost(
                    mapping=name,
                    arrays=network.tiles,
                    adc_bits=max(layer.use.adc_bits for layer in report.layers),
                    cells_power=math.fsum(cost.power for cost in report.components if cost.name == "cells"),
                    power=report.power,
                    area=report.area,
                    hardware=report.hardware.name,
                    notes=report.notes,
                )
            )
        return costs

    def dies(self, mapping: str, preset: str, rate: float, seeds: Iterable[int]) -> list[Die]:
        from xbarsim.network.evaluation import evaluate

        faults = StuckFaults.load(preset).with_total(rate)
        network = self.networks[mapping].with_faults(faults)
        dies = []
        for seed in seeds:
            chip = network.fabricate(seed)
            result = evaluate(chip, self.images, self.labels, progress=False)
            cost = chip.cost(self.hardware)
            counts = [fault_map.counts for fault_map in chip.faults.values()]
            dies.append(
                Die(
                    mapping=mapping,
                    polarity=POLARITIES[preset],
                    preset=preset,
                    rate=rate,
                    on=faults.on,
                    off=faults.off,
                    seed=seed,
                    correct=result.correct,
                    images=result.images,
                    cells=sum(fault_map.cells for fault_map in chip.faults.values()),
                    stuck_on=sum(count[FaultKind.STUCK_ON] for count in counts),
                    stuck_off=sum(count[FaultKind.STUCK_OFF] for count in counts),
                    power=cost.power,
                    area=cost.area,
                )
            )
        return dies


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Every die of a demonstration.

    Attributes
    ----------
    dies
        In the order polarity, rate, mapping, die.
    costs
        One for each mapping.
    seed
        Root of the dies' seeds.
    """

    dies: tuple[Die, ...]
    costs: tuple[MappingCost, ...]
    seed: int

    @property
    def points(self) -> tuple[Point, ...]:
        """The dies of each mapping at each rate, summed up, in the order of `dies`."""
        grouped: dict[tuple[str, float, str], list[Die]] = {}
        for die in self.dies:
            grouped.setdefault((die.polarity, die.rate, die.mapping), []).append(die)
        return tuple(Point.of(dies) for dies in grouped.values())

    def tables(self) -> tuple[Table, Table]:
        """Accuracy by rate and mapping, and power and area by mapping."""
        points = self.points
        mappings = list(dict.fromkeys(point.mapping for point in points))
        count, images = points[0].dies, self.dies[0].images
        interval = "" if count == 1 else ", mean [95 % interval]"
        accuracy = Table(title=f"Accuracy (%) on {images} digits over {_many(count, 'die')} a point{interval}")
        accuracy.add_column("stuck cells")
        for name in mappings:
            accuracy.add_column(name, justify="right")
        found = {(point.polarity, point.rate, point.mapping): point for point in points}
        for polarity in dict.fromkeys(point.polarity for point in points):
            here = [point for point in points if point.polarity == polarity]
            parts = StuckFaults.load(here[0].preset)
            ratio = max(parts.on, parts.off) / min(parts.on, parts.off)
            words = f"{ratio:.2f}:1" if parts.on > parts.off else f"1:{ratio:.2f}"
            accuracy.add_section()
            accuracy.add_row(f"[bold]{polarity}[/bold]", f"[dim]on:off {words}[/dim]", *[""] * (len(mappings) - 1))
            for rate in dict.fromkeys(point.rate for point in here):
                row = (found[polarity, rate, name] for name in mappings)
                accuracy.add_row(f"{100 * rate:g} %", *(str(point).replace("[", r"\[") for point in row))
        cost = Table(title=f"Power and area on {self.costs[0].hardware}, without faults")
        cost.add_column("mapping")
        for head in ("arrays", "ADC bits", "cells (mW)", "power (mW)", "area (mm2)"):
            cost.add_column(head, justify="right")
        for each in self.costs:
            cost.add_row(
                each.mapping,
                str(each.arrays),
                str(each.adc_bits),
                f"{1e3 * each.cells_power:.3f}",
                f"{1e3 * each.power:.2f}",
                f"{1e6 * each.area:.4f}",
            )
        return accuracy, cost

    def notes(self) -> list[str]:
        """What a reader of the tables should know, one sentence each."""
        voltage = demo_design(TwoColumn()).cell.read_voltage
        count = self.points[0].dies
        notes = [
            "without stuck cells all dies are alike, so there is no interval",
            "single dies have no interval"
            if count == 1
            else "intervals are Student's t over the dies, for the mean die; results.csv holds every die",
            "every mapping meets the same dies: the same cells broken in the same way",
            "power is the peak of the component card with the cells' own V^2 G; zeros parked at high conductance "
            "(Differential) draw the most",
            f"the cell card islped2019 gives no read voltage; {voltage:g} V is that of card {_VOLTAGE_CARD}",
        ]
        return notes + list(dict.fromkeys(note for cost in self.costs for note in cost.notes))

    def picture(self) -> Figure:
        """Accuracy against fault rate, a panel for each polarity."""
        from matplotlib.figure import Figure

        points = self.points
        polarities = list(dict.fromkeys(point.polarity for point in points))
        figure = Figure(figsize=(4.6 * len(polarities), 3.9), layout="constrained", dpi=150)
        panels = figure.subplots(1, len(polarities), sharey=True, squeeze=False)[0]
        for axes, polarity in zip(panels, polarities, strict=True):
            here = [point for point in points if point.polarity == polarity]
            parts = StuckFaults.load(here[0].preset)
            plot.accuracy([point.to_row() for point in here], chance=0.1, ax=axes)
            more, less = ("on", "off") if parts.on > parts.off else ("off", "on")
            ratio = max(parts.on, parts.off) / min(parts.on, parts.off)
            axes.set_title(f"{polarity} ({more} : {less} = {ratio:.2f} : 1)", fontsize=10)
            if axes is not panels[0]:
                axes.set_ylabel("")
                axes.get_legend().remove()
        if points[0].dies > 1:
            panels[-1].annotate(
                f"bands: 95 % interval\nof the mean of {points[0].dies} dies",
                (0.02, 0.17),
                xycoords="axes fraction",
                fontsize=9,
            )
        return figure

    def files(self) -> dict[str, bytes]:
        """The contents of ``results.csv``, ``summary.csv`` and ``accuracy.png``; the same dies give the same bytes."""
        picture = io.BytesIO()
        self.picture().savefig(picture, format="png", metadata={"Software": None})
        return {
            "results.csv": _csv([die.to_row() for die in self.dies]),
            "summary.csv": _csv([point.to_row() for point in self.points]),
            "accuracy.png": picture.getvalue(),
        }

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the files into a folder, which is made where it does not exist.

        Raises
        ------
        FileWriteError
            If the folder or a file cannot be written; a file is whole or untouched.
        """
        contents = self.files()
        target = prepare_folder(folder)
        for name, content in contents.items():
            write_atomically(target / name, content)
        return [target / name for name in contents]


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as CSV; numbers as they read back, except that measured floats keep 9 digits, empty for ``None``."""
    exact = ("rate", "on", "off")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                key: f"{value:.9g}" if isinstance(value, float) and key not in exact else value
                for key, value in row.items()
            }
        )
    return text.getvalue().encode("utf-8")


def prepare_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder, with those above it, and try that files can be written into it.

    Raises
    ------
    FileWriteError
        If they cannot.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        raise FileWriteError(error.errno, f"cannot write into folder {path}: {error.strerror}") from error
    return path


_worker_bench: _Bench | None = None  # of a worker process, made once when it starts


def _start_worker(images: int | None) -> None:
    follow_parent()
    global _worker_bench
    from xbarsim.foundation.threads import set_threads

    set_threads(1)
    _worker_bench = _Bench(images)


def _worker_dies(mapping: str, preset: str, rate: float, seeds: tuple[int, ...]) -> list[Die]:
    assert _worker_bench is not None
    return _worker_bench.dies(mapping, preset, rate, seeds)


def _worker_costs() -> list[MappingCost]:
    assert _worker_bench is not None
    return _worker_bench.costs()


_Task = tuple[str, str, float, tuple[int, ...]]


def _in_processes(
    tasks: Sequence[_Task], workers: int, images: int | None, costs: list[MappingCost]
) -> Iterator[tuple[int, list[Die]]]:
    """Number and dies of each task, in the order in which they finish."""
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(images,),
    )
    try:
        waiting_costs = pool.submit(_worker_costs)
        futures: dict[Future[list[Die]], int] = {
            pool.submit(_worker_dies, *task): number for number, task in enumerate(tasks)
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
        costs += waiting_costs.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_this_process(
    tasks: Sequence[_Task], images: int | None, costs: list[MappingCost]
) -> Iterator[tuple[int, list[Die]]]:
    bench = _Bench(images)
    costs += bench.costs()
    for number, (mapping, preset, rate, seeds) in enumerate(tasks):
        yield number, bench.dies(mapping, preset, rate, seeds)


def run_demo(
    *,
    dies: int = 20,
    seed: int = 1,
    rates: Sequence[float] = RATES,
    images: int | None = None,
    workers: int = 1,
    progress: bool | None = None,
) -> DemoResult:
    """Measure the digits network on many dies: stuck-at rates, in both polarities, under three mappings.

    Parameters
    ----------
    dies
        Dies at each point.
    seed
        Root of the dies' seeds; the same root gives the same result, whatever `workers`.
    rates
        Total probabilities that a cell is stuck, ascending.
    images
        How many test images, from the first; ``None`` for all 596.
    workers
        Processes to share the dies, of one thread each; 1 for none but this one, with the threads it has.
    progress
        Show a progress bar on standard error; ``None`` for only where that is a terminal.

    Raises
    ------
    InputError
        If a parameter is out of its bound.
    ImportError
        If scikit-learn, which brings the digits, is absent.
    """
    check_integer("dies", dies, at_least=1)
    check_integer("seed", seed, at_least=0)
    check_integer("workers", workers, at_least=1)
    if images is not None:
        check_integer("images", images, at_least=1, at_most=596)
    checked = [check_real(f"rates[{index}]", rate, at_least=0.0, at_most=1.0) for index, rate in enumerate(rates)]
    if not checked or any(second <= first for first, second in pairwise(checked)):
        raise InputError(f"rates must be at least one number, in strictly ascending order, got {tuple(rates)!r}")

    seeds = tuple(int(word) for word in np.random.SeedSequence(seed).generate_state(dies, np.uint32))
    tasks: list[_Task] = [
        (encoding.name, preset, rate, seeds) for preset in POLARITIES for rate in checked for encoding in _ENCODINGS
    ]
    costs: list[MappingCost] = []
    running = (
        _in_this_process(tasks, images, costs)
        if workers == 1
        else _in_processes(tasks, min(workers, len(tasks)), images, costs)
    )
    console = Console(stderr=True)
    shown = console.is_terminal if progress is None else progress
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console, disable=not shown, transient=True,
    )  # fmt: skip
    done: dict[int, list[Die]] = {}
    with bar:
        shown_task = bar.add_task("dies", total=len(tasks) * dies)
        for number, measured in running:
            done[number] = measured
            bar.advance(shown_task, len(measured))
    every = tuple(die for number in range(len(tasks)) for die in done[number])
    return DemoResult(dies=every, costs=tuple(costs), seed=seed)
