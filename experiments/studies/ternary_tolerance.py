"""How many stuck cells ternary weights bear, beside the same network with weights of 8 bits.

``python -m xbarsim.experiments.studies.ternary_tolerance`` measures the stored MNIST networks of
:mod:`xbarsim.experiments.papers.gxnor2018` on dies with stuck cells, mostly on and mostly off: ternary weights in two
one-bit cells, weights of 8 bits in one 7-bit cell or four 2-bit cells a side; with nothing done, with the healthy cells
of every weight brought as close as they can be (for ternary weights that is zero repair: a zero with a cell stuck on
becomes two cells that are on), and with a sign bit an output and tile besides; both know where the faults are. Arrays
are of 128 x 128 cells in two columns; converters, wires and programming are ideal. It writes table and picture into
experiments/figures; what is measured is kept in a store, so that a run that was cut short goes on.

Beside the tolerated rates stand those that a first-order account predicts: what one stuck cell adds to the mean square
of a weight's error, over the mean square of the weights. Without repair and with one cell a side that is kappa, full
scale squared over the mean square of the weights, times what docs/repair.md derives; with it, kappa drops out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer

import xbarsim as xb
from xbarsim.devices import POLARITIES, Cell, FaultKind, fault_preset
from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.papers.gxnor2018 import STORED, full_scale_ratio
from xbarsim.experiments.studies.fault_tolerance.measuring import row, tolerated
from xbarsim.experiments.tolerance import rate_text
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import check_choice, write_atomically
from xbarsim.mapping import Mapping
from xbarsim.mitigation import ClosestValue, Diagnosis, FlipSigns, Mitigation
from xbarsim.models import DATA_SETS, load_images, load_zoo_file
from xbarsim.plot import save_figure
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.executors import InProcess
from xbarsim.sweep.measures import Accuracy
from xbarsim.sweep.subject import Subject
from xbarsim.sweep.task import Task
from xbarsim.sweep.worker import SharedBench

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMS", "RATES", "REPAIRS", "Form", "design", "main", "measure", "noise_to_signal", "picture", "task"]

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of the cells that are stuck; an arm ends at the first that loses more than :data:`ENOUGH` points."""

LEAST_REPAIRED = 0.02
"""Of these, where arms with repair begin."""

ENOUGH = 5.0

_CALIBRATION = 256


@dataclass(frozen=True, kw_only=True)
class Form:
    """A network, and the cells that hold its weights.

    Attributes
    ----------
    name
        What tables call it.
    weights
        Name of the stored network.
    weight_bits, cell_bits
        Of the mapping.
    """

    name: str
    weights: str
    weight_bits: int
    cell_bits: int

    @property
    def mapping(self) -> Mapping:
        """Two columns of arrays of 128 x 128 cells."""
        return Mapping(rows=128, columns=128, weight_bits=self.weight_bits, cell_bits=self.cell_bits)


FORMS = (
    Form(name="ternary, 1-bit cells", weights="mnist-transitions", weight_bits=2, cell_bits=1),
    Form(name="8 bits, four 2-bit cells", weights="mnist-full-precision", weight_bits=8, cell_bits=2),
    Form(name="8 bits, one 7-bit cell", weights="mnist-full-precision", weight_bits=8, cell_bits=7),
)
"""What is compared."""

REPAIRS: dict[str, tuple[Mitigation, ...]] = {
    "nothing": (),
    "closest value": (ClosestValue(),),
    "closest value, signs": (FlipSigns(),),
}
"""What is done about faults, which all but the first know."""


def design(form: Form, polarity: str = "", rate: float = 0.0) -> xb.Design:
    """The accelerator of a form, with independent faults of a polarity.

    The cell is that of Wan 2022 without errors; where a form needs more levels than its 16, it is given them: no such
    cell is published.
    """
    cell = Cell.load("wan2022").without_errors()
    presets = {words: preset for preset, words in POLARITIES.items()}
    return xb.Design(
        cell=replace(cell, levels=max(cell.levels, 2**form.cell_bits)),
        mapping=form.mapping,
        periphery=xb.Periphery(input_bits=8, dac_bits=8),
        faults=fault_preset(presets[polarity]).faults.with_total(rate) if rate else None,
    )


@cache
def load_network(weights: str, images: int, folder: Path = STORED) -> Subject:
    """A stored network with its test images, from the first."""
    model, _ = load_zoo_file(folder / f"{weights}.safetensors")
    pixels, labels = load_images("mnist", "test", count=images)
    return Subject(
        name=weights,
        data_set=DATA_SETS["mnist"],
        model=model,
        images=pixels,
        labels=labels,
        calibration=load_images("mnist", "train", count=_CALIBRATION)[0],
    )


def task(form: Form, repair: str, polarity: str, rate: float, subject: Subject, *, seed: int = 1) -> Task:
    """One point. Forms that take as many tiles share their dies."""
    methods = REPAIRS[repair] if rate else ()
    return Task(
        network=subject,
        design=design(form, polarity, rate),
        calibration=min(_CALIBRATION, len(subject.calibration)),
        mitigations=methods,
        diagnosis=Diagnosis() if methods else None,
        measures=(Accuracy(),),
        seed=seed,
        tags={
            "part": form.name, "arm": repair, "known": "map" if methods else "nothing", "polarity": polarity,
            "weights": form.weights, "rate": rate,
        },
    )  # fmt: skip


def noise_to_signal(codes: npt.NDArray[Any], mapping: Mapping, stuck_on: float, stuck_off: float) -> float:
    """Mean square of the errors of weights by stuck cells, to first order, over the mean square of the weights.

    For two columns, without repair: a cell at level l of M errs by its place value times M - l where it is stuck on,
    and times l where it is stuck off.

    Parameters
    ----------
    codes
        Weights as integers.
    mapping
        How they are cut into cells.
    stuck_on, stuck_off
        Probabilities of a cell.
    """
    magnitude = np.abs(np.asarray(codes, dtype=np.int64)).ravel()
    base, largest = mapping.max_level + 1, mapping.max_level
    error = np.zeros(len(magnitude))
    for number in range(mapping.slices):
        level = (magnitude // base**number) % base
        place = float(base ** (2 * number))
        error += place * (stuck_on * ((largest - level) ** 2 + largest**2) + stuck_off * level**2)
    return float(error.mean() / np.mean(magnitude.astype(np.float64) ** 2))


def predicted(network: xb.MappedNetwork, polarity: str) -> float:
    """:func:`noise_to_signal` of a share of 1 of stuck cells, the mean over the layers of a network."""
    presets = {words: preset for preset, words in POLARITIES.items()}
    rates = fault_preset(presets[polarity]).faults.with_total(1.0).rates
    each = [
        noise_to_signal(
            layer.layer.codes, network.design.mapping, rates[FaultKind.STUCK_ON], rates[FaultKind.STUCK_OFF]
        )
        for layer in network.layers.values()
    ]
    return math.fsum(each) / len(each)


def measure(
    forms: Sequence[Form],
    *,
    rates: Sequence[float],
    dies: int,
    images: int,
    store: Path | None,
    folder: Path = STORED,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All points, and the rates that are tolerated with those that are predicted.

    Parameters
    ----------
    forms, rates
        What is measured.
    dies
        Of each point with faults, 2 or more.
    images
        Test images.
    store
        Where dies are kept; ``None`` for nowhere.
    folder
        Where the networks are.

    Returns
    -------
    points, tolerances
        Rows of the two tables.
    """
    points: list[dict[str, Any]] = []
    first_order: dict[tuple[str, str], tuple[float, float]] = {}
    benches: dict[str, SharedBench] = {}
    executor = InProcess()

    def collected(one: Task, count: int) -> Any:
        (result,) = collect(
            [one], stop=count, store=store, executor=executor, benches=benches, progress=False
        ).tasks  # fmt: skip
        return result

    try:
        for form in forms:
            subject = load_network(form.weights, images, folder)
            network = subject.map(design(form))
            for polarity in POLARITIES.values():
                first_order[form.name, polarity] = full_scale_ratio(network), predicted(network, polarity)
                for repair in REPAIRS:
                    ideal = collected(task(form, repair, polarity, 0.0, subject), 1)
                    sound = ideal.mean().estimate
                    points.append(row(ideal, sound))
                    for rate in rates if repair == "nothing" else [each for each in rates if each >= LEAST_REPAIRED]:
                        points.append(row(collected(task(form, repair, polarity, rate, subject), dies), sound))
                        typer.echo(
                            f"{form.name}, {repair}, {polarity}, {rate:g}: {points[-1]['accuracy']:.2f} %", err=True
                        )
                        if points[-1]["lost"] > ENOUGH:
                            break
    finally:
        for bench in benches.values():
            bench.close()
    return points, _tolerances(points, first_order)


def _tolerances(
    points: Sequence[dict[str, Any]], first_order: dict[tuple[str, str], tuple[float, float]]
) -> list[dict[str, Any]]:
    """Rates tolerated at a point lost, each beside how many times that of one 7-bit cell a side, and as predicted."""
    found = tolerated(points)
    last = FORMS[-1].name
    base = {(each["arm"], each["polarity"]): each for each in found if each["part"] == last}
    rows = []
    for each in found:
        kappa, _ = first_order[each["part"], each["polarity"]]
        beside = base.get((each["arm"], each["polarity"]))
        rows.append(
            {
                "form": each["part"], "repair": each["arm"], "polarity": each["polarity"], "kappa": round(kappa, 3),
                "rate": each["rate"], "low": each["low"], "high": each["high"], "highest": each["highest"],
                "times": "" if beside is None else _ratio(each, beside),
                "predicted_times": _predicted_times(each, first_order),
            }
        )  # fmt: skip
    return rows


def _predicted_times(each: dict[str, Any], first_order: dict[tuple[str, str], tuple[float, float]]) -> float | str:
    """What the first order says; with repair it says so for one cell a side alone: a weight is lost or not."""
    form = next(one for one in FORMS if one.name == each["part"])
    if each["arm"] != "nothing":
        return 1.0 if form.mapping.slices == 1 else ""
    base = first_order.get((FORMS[-1].name, each["polarity"]))
    return "" if base is None else round(base[1] / first_order[form.name, each["polarity"]][1], 2)


def _ratio(one: dict[str, Any], base: dict[str, Any]) -> str:
    """How many times a rate another is; a bound where one of them lies beyond what was measured."""
    if math.isinf(base["rate"]) or not base["rate"]:
        return ""
    bound = "> " if math.isinf(one["rate"]) else ""
    return f"{bound}{min(one['rate'], one['highest']) / base['rate']:.2f}"


def table(tolerances: Sequence[dict[str, Any]]) -> str:
    """Tolerated rates of all forms."""
    return format_table(
        ("weights", "done about faults", "faults", "kappa", "rate at 1 point", "95 % interval", "times", "predicted"),
        [
            (
                each["form"], each["repair"], each["polarity"], f"{each['kappa']:.2f}",
                rate_text(each["rate"], each["highest"]),
                f"{rate_text(each['low'], each['highest'])} to {rate_text(each['high'], each['highest'])}",
                each["times"], each["predicted_times"],
            )
            for each in tolerances
        ],
        left=3,
    )  # fmt: skip


_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#444444")


def picture(points: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against the share of stuck cells: a row of panels a polarity, a column a repair, a colour a form."""
    from matplotlib.figure import Figure

    polarities = list(dict.fromkeys(each["polarity"] for each in points))
    repairs = list(dict.fromkeys(each["arm"] for each in points))
    forms = list(dict.fromkeys(each["part"] for each in points))
    figure = Figure(figsize=(1.2 + 3.9 * len(repairs), 0.8 + 3.1 * len(polarities)), layout="constrained", dpi=150)
    panels = figure.subplots(len(polarities), len(repairs), squeeze=False, sharex=True, sharey=True)
    for line, polarity in zip(panels, polarities, strict=True):
        for axes, repair in zip(line, repairs, strict=True):
            for colour, marker, form in zip(_COLOURS, "osD^", forms, strict=False):
                curve = [
                    each
                    for each in points
                    if (each["polarity"], each["arm"], each["part"]) == (polarity, repair, form) and each["rate"]
                ]
                rates = [100 * each["rate"] for each in curve]
                axes.plot(
                    rates, [each["lost"] for each in curve], marker=marker, markersize=4, color=colour, label=form
                )
                axes.fill_between(
                    rates, [each["lost"] - (each["high"] - each["accuracy"]) for each in curve],
                    [each["lost"] + (each["accuracy"] - each["low"]) for each in curve],
                    color=colour, alpha=0.18, linewidth=0,
                )  # fmt: skip
            axes.axhline(1.0, color="black", linewidth=0.9, linestyle=":")
            axes.set_xscale("log")
            axes.set_ylim(8, -0.5)
            axes.grid(color="0.92", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(f"{polarity}; done: {repair}", fontsize=9.5)
    for axes in panels[-1]:
        axes.set_xlabel("cells that are stuck (%)")
    for line in panels:
        line[0].set_ylabel("accuracy lost (points)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def main(
    form: Annotated[list[str] | None, typer.Option(help="Only weights in this form; may be repeated.")] = None,
    dies: Annotated[int, typer.Option(help="Dies of each point with faults.", min=2)] = 3,
    images: Annotated[int, typer.Option(help="Test images.", min=1)] = 1000,
    store: Annotated[Path, typer.Option(help="Where dies are kept.")] = Path("ternary_tolerance.sqlite"),
    output: Annotated[Path, typer.Option(help="Folder for tables and picture.")] = FIGURES,
) -> None:
    """Measure the tolerated rates of ternary and of 8-bit weights."""
    torch.set_num_threads(1)  # dies are measured one by one in this process
    names = [each.name for each in FORMS]
    forms = [FORMS[names.index(check_choice("form", name, names))] for name in form or names]
    points, tolerances = measure(forms, rates=RATES, dies=dies, images=images, store=store)
    typer.echo(table(tolerances))
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "ternary_tolerance.csv", csv_bytes(points))
    write_atomically(output / "ternary_tolerance_rates.csv", csv_bytes(tolerances))
    save_figure(picture(points), output / "ternary_tolerance.png")
    typer.echo(f"wrote ternary_tolerance.csv, ternary_tolerance_rates.csv and ternary_tolerance.png into {output}")


if __name__ == "__main__":
    typer.run(main)
