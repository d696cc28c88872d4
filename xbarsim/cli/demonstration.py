"""The demonstration: digits on crossbars whose cells are stuck, under three mappings, and repaired under one of them.

:func:`run_demo` is a sweep of 64 tasks, and :class:`DemoResult` draws its tables and its picture and saves its files.
What loads torch is imported where it is used: worker processes load it while this process does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from xbarsim import plot
from xbarsim.cli.output import new_table
from xbarsim.design import Design, Periphery
from xbarsim.devices import POLARITIES, Cell, StuckFaults, card
from xbarsim.foundation.intervals import student_half_width
from xbarsim.foundation.tables import csv_bytes
from xbarsim.foundation.validation import InputError, check_integer, check_real, prepare_folder, write_atomically
from xbarsim.mapping import Balanced, Differential, Encoding, TwoColumn
from xbarsim.mapping import Mapping as WeightMapping
from xbarsim.mitigation import Diagnosis, Mitigation, PermuteRows, RecalibrateOutputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DIAGNOSIS", "RATES", "REPAIR", "DemoResult", "demo_design", "run_demo", "summarise"]

#: Total probabilities that a cell is stuck.
RATES = (0.0, 0.0025, 0.01, 0.025, 0.1)

_COVERAGE = 0.99
#: What is done about the faults of the repaired dies, and what is known of them.
REPAIR: tuple[Mitigation, ...] = (PermuteRows(), RecalibrateOutputs())
DIAGNOSIS = Diagnosis(coverage=_COVERAGE, false_alarm=0.001)

# The curves: name, encoding, and what is done about faults.
_CURVES: tuple[tuple[str, Encoding, tuple[Mitigation, ...]], ...] = (
    *((encoding.name, encoding, ()) for encoding in (TwoColumn(), Differential(), Balanced())),
    ("Differential, repaired", Differential(), REPAIR),
)
_HARDWARE = "isaac2016"  # the component card, and where the read voltage is from
_TRAINING_IMAGES, _TEST_IMAGES = 1201, 596  # all there are
_EXACT = ("rate", "on", "off")  # columns that are settings, not measured

# Columns of results.csv, by what a table of results calls them.
_COLUMNS = {
    "mapping": "mapping", "polarity": "polarity", "preset": "preset", "rate": "rate", "fault_rate_on": "on",
    "fault_rate_off": "off", "die_seed": "die_seed", "correct": "correct", "images": "images", "accuracy": "accuracy",
    "cells": "cells", "stuck_on": "cells_stuck_on", "stuck_off": "cells_stuck_off", "power_W": "power_W",
    "area_m2": "area_m2",
}  # fmt: skip

Row = Mapping[str, Any]


def demo_design(encoding: Encoding) -> Design:
    """The accelerator of the demonstration.

    Cells of 1 to 10 MOhm with 4 bits in arrays of 128 x 128, and converters that lose nothing, so that stuck cells are
    the only thing that costs accuracy. Weights have 9 bits: the 8 bits of their magnitudes fill two cells exactly,
    where with 8-bit weights the upper cell would use 7 of its 15 levels and a cell stuck on would err by twice full
    scale.

    Parameters
    ----------
    encoding
        How a weight becomes a pair of columns.
    """
    voltage = card(_HARDWARE).read_voltage
    assert voltage is not None
    return Design(
        cell=dataclasses.replace(Cell.load("islped2019"), read_voltage=float(voltage.value)),
        mapping=WeightMapping(encoding=encoding, rows=128, columns=128, weight_bits=9, cell_bits=4),
        periphery=Periphery(input_bits=8, dac_bits=1, adc_range="lossless"),
    )


def summarise(dies: Sequence[Row]) -> dict[str, Any]:
    """Sum up the rows of all dies of one mapping at one rate: a row of ``summary.csv``.

    The mean accuracy has its 95 % interval by Student's t over the dies, cut at 0 and 1; none at rate 0 where all dies
    are alike, nor for a single die.
    """
    first, count = dies[0], len(dies)
    mean = sum(die["correct"] for die in dies) / (count * first["images"])
    deviation = low = high = None
    if count > 1:
        deviation = statistics.stdev(die["correct"] for die in dies) / first["images"]  # exactly 0 where all are alike
        if first["rate"] > 0 or deviation > 0:
            half = student_half_width(deviation, count, 0.95)
            low, high = max(0.0, mean - half), min(1.0, mean + half)
    return {
        **{name: first[name] for name in ("mapping", "polarity", "preset", "rate", "on", "off")},
        "dies": count,
        "accuracy_mean": mean,
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_deviation": deviation,
        "accuracy_worst": min(die["accuracy"] for die in dies),
        "accuracy_best": max(die["accuracy"] for die in dies),
        "power_W": math.fsum(die["power_W"] for die in dies) / count,
        "area_m2": first["area_m2"],
    }


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Every die of a demonstration.

    Attributes
    ----------
    dies
        The rows of ``results.csv``: one a die, in the order polarity, rate, mapping, die.
    costs
        What the network costs under each mapping without faults: ``mapping``, ``arrays``, ``adc_bits``,
        ``cells_power`` and ``power`` in W, ``area`` in m2, the component card ``hardware`` and its ``notes``.
    """

    dies: tuple[Row, ...]
    costs: tuple[Row, ...]

    @property
    def summary(self) -> list[dict[str, Any]]:
        """The rows of ``summary.csv``: one for each mapping at each rate, in the order of `dies`."""
        grouped: dict[tuple[str, float, str], list[Row]] = {}
        for die in self.dies:
            grouped.setdefault((die["polarity"], die["rate"], die["mapping"]), []).append(die)
        return [summarise(dies) for dies in grouped.values()]

    @property
    def most_dies(self) -> int:
        """Dies at each point with stuck cells."""
        return max(int(row["dies"]) for row in self.summary)

    def tables(self) -> tuple[Table, Table]:
        """Accuracy by rate and mapping, and power and area by mapping."""
        summary = self.summary
        mappings, count = list(dict.fromkeys(row["mapping"] for row in summary)), self.most_dies
        many = f"{count:,} die{'' if count == 1 else 's'}"
        interval = "" if count == 1 else ", mean [95 % interval]"
        accuracy = new_table(f"Accuracy (%) on {self.dies[0]['images']} digits over {many} a point{interval}")
        accuracy.add_column("stuck cells")
        for name in mappings:
            accuracy.add_column(name, justify="right")
        cells = {(row["polarity"], row["rate"], row["mapping"]): _accuracy_cell(row) for row in summary}
        for preset, polarity in POLARITIES.items():
            on, off = _ratio(preset)
            accuracy.add_section()
            accuracy.add_row(f"[bold]{polarity}[/bold]", f"[dim]on:off {on}:{off}[/dim]", *[""] * (len(mappings) - 1))
            for rate in dict.fromkeys(row["rate"] for row in summary):
                accuracy.add_row(f"{100 * rate:g} %", *(cells[polarity, rate, name] for name in mappings))
        cost = new_table(f"Power and area on {self.costs[0]['hardware']}, without faults")
        cost.add_column("mapping")
        for head in ("arrays", "ADC bits", "cells (mW)", "power (mW)", "area (mm2)"):
            cost.add_column(head, justify="right")
        for row in self.costs:
            numbers = f"{1e3 * row['cells_power']:.3f}", f"{1e3 * row['power']:.2f}", f"{1e6 * row['area']:.4f}"
            cost.add_row(row["mapping"], str(row["arrays"]), str(row["adc_bits"]), *numbers)
        return accuracy, cost

    def notes(self) -> list[str]:
        """What a reader of the tables should know, one sentence each."""
        voltage = demo_design(TwoColumn()).cell.read_voltage
        notes = [
            "without stuck cells and repair all dies are alike, so one is made and there is no interval",
            "single dies have no interval"
            if self.most_dies == 1
            else "intervals are Student's t over the dies, for the mean die; results.csv holds every die",
            "every mapping meets the same dies: the same cells broken in the same way",
            f"repaired: {' and '.join(type(method).__name__ for method in REPAIR)}, after a test that finds "
            f"{100 * _COVERAGE:g} % of the stuck cells and takes {100 * DIAGNOSIS.false_alarm:g} % of the "
            "others for stuck ones, and with the training images but no labels; no training",
            "power is the peak of the component card with the cells' own V^2 G; zeros parked at high conductance "
            "(Differential) draw the most",
            f"the cell card islped2019 gives no read voltage; {voltage:g} V is that of card {_HARDWARE}",
        ]
        return notes + list(dict.fromkeys(note for row in self.costs for note in row["notes"]))

    def picture(self) -> Figure:
        """Accuracy against fault rate, a panel for each polarity."""
        from matplotlib.figure import Figure

        summary = self.summary
        figure = Figure(figsize=(4.6 * len(POLARITIES), 3.9), layout="constrained", dpi=150)
        panels = figure.subplots(1, len(POLARITIES), sharey=True)
        for axes, (preset, polarity) in zip(panels, POLARITIES.items(), strict=True):
            plot.accuracy([row for row in summary if row["polarity"] == polarity], chance=0.1, ax=axes)
            on, off = _ratio(preset)
            words = f"off : on = {off} : 1" if on == "1" else f"on : off = {on} : 1"
            axes.set_title(f"{polarity} ({words})", fontsize=10)
            if axes is not panels[0]:
                axes.set_ylabel("")
                axes.get_legend().remove()
        if self.most_dies > 1:
            text = f"bands: 95 % interval\nof the mean of {self.most_dies} dies"
            panels[-1].annotate(text, (0.02, 0.17), xycoords="axes fraction", fontsize=9)
        return figure

    def files(self) -> dict[str, bytes]:
        """The contents of ``results.csv``, ``summary.csv`` and ``accuracy.png``; the same dies give the same bytes."""
        picture = io.BytesIO()
        self.picture().savefig(picture, format="png", metadata={"Software": None})
        return {
            "results.csv": csv_bytes(map(_nine_digits, self.dies)),
            "summary.csv": csv_bytes(map(_nine_digits, self.summary)),
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


def _ratio(preset: str) -> tuple[str, str]:
    """How many cells are stuck on for how many stuck off, one of them 1."""
    parts = StuckFaults.load(preset)
    if parts.on > parts.off:
        return f"{parts.on / parts.off:.2f}", "1"
    return "1", f"{parts.off / parts.on:.2f}"


def _accuracy_cell(row: Row) -> str:
    mean, low, high = (row[f"accuracy_{name}"] for name in ("mean", "low", "high"))
    return f"{100 * mean:.1f}" if low is None else rf"{100 * mean:.1f} \[{100 * low:.1f}, {100 * high:.1f}]"


def _nine_digits(row: Row) -> dict[str, Any]:
    """A row for a file: settings as they read back, measured numbers with 9 digits."""
    return {
        key: f"{value:.9g}" if isinstance(value, float) and key not in _EXACT else value for key, value in row.items()
    }


def run_demo(
    *,
    dies: int = 20,
    seed: int = 1,
    rates: Sequence[float] = RATES,
    images: int | None = None,
    workers: int = 1,
    progress: bool | None = None,
) -> DemoResult:
    """Measure the digits network on many dies: stuck-at rates in both polarities, three mappings, one repaired too.

    Parameters
    ----------
    dies
        Dies at each point with stuck cells or repair; without, all are alike, and one is made.
    seed
        Root of the dies' seeds; the same root gives the same result, whatever `workers`.
    rates
        Total probabilities that a cell is stuck, ascending.
    images
        How many test images, from the first; ``None`` for all 596.
    workers
        Processes to share the dies, of one thread each; 1 for none but this one, with the threads it has.
    progress
        Show a progress bar on standard error; ``None`` for a line now and then where that is no terminal.

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
        check_integer("images", images, at_least=1, at_most=_TEST_IMAGES)
    checked = [check_real(f"rates[{index}]", rate, at_least=0.0, at_most=1.0) for index, rate in enumerate(rates)]
    if not checked or any(second <= first for first, second in pairwise(checked)):
        raise InputError(f"rates must be at least one number, in strictly ascending order, got {tuple(rates)!r}")
    from xbarsim.sweep import Accuracy, Cost, InProcess, LocalProcesses, Results, Task, collect

    seeds = tuple(int(word) for word in np.random.SeedSequence(seed).generate_state(dies, np.uint32))
    tasks = [
        Task(
            network="digits",
            design=demo_design(encoding).replace(faults=StuckFaults.load(preset).with_total(rate)),
            images=images,
            calibration=_TRAINING_IMAGES,
            measures=(Accuracy(), Cost(hardware=_HARDWARE)),
            seed=seed,
            seeds=seeds,
            mitigations=mitigations,
            diagnosis=DIAGNOSIS if mitigations else None,
            tags={"mapping": name, "polarity": polarity, "preset": preset, "rate": rate},
        )
        for preset, polarity in POLARITIES.items()
        for rate in checked
        for name, encoding, mitigations in _CURVES
    ]
    with contextlib.ExitStack() as stack:
        processes = InProcess() if workers == 1 else stack.enter_context(contextlib.closing(LocalProcesses(workers)))
        parts: dict[int, list[Task]] = {}
        for task in tasks:  # without stuck cells and repair all dies are alike, whatever the seed
            parts.setdefault(dies if task.tags["rate"] or task.mitigations else 1, []).append(task)
        found = {
            tuple(result.columns[name] for name in result.tags): result
            for count, some in parts.items()
            for result in collect(some, stop=count, executor=processes, progress=progress).tasks
        }
    rows = Results(tasks=tuple(found[tuple(task.tags.values())] for task in tasks)).rows()
    return DemoResult(
        dies=tuple({name: row[column] for column, name in _COLUMNS.items()} for row in rows),
        costs=tuple(_cost(task) for task in tasks[: len(_CURVES)]),
    )


def _cost(task: Any) -> dict[str, Any]:
    """What the network of a task costs without faults, with what repair adds."""
    network = task.map()
    made = task.fabricate(0, network=network.with_faults(None)) if task.mitigations else network
    report = made.cost(_HARDWARE)
    return {
        "mapping": task.tags["mapping"],
        "arrays": network.tiles,
        "adc_bits": max(layer.use.adc_bits for layer in report.layers),
        "cells_power": math.fsum(cost.power for cost in report.components if cost.name == "cells"),
        "power": report.power,
        "area": report.area,
        "hardware": report.hardware.name,
        "notes": report.notes,
    }
