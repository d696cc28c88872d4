"""Which rate of stuck cells a network survives, by what is known of the die, and what the repair costs.

``python -m xbarsim.experiments.studies.fault_tolerance`` measures ResNet-20 on CIFAR-10 (with ``--network`` ConvNet and
LeNet-5 too) on arrays of 128 x 128 cells whose inputs have 8 bits in one read and whose converters have 8 bits, and
writes a table and pictures into experiments/figures. What is measured is kept in a store, so that a run that was cut
short goes on where it stopped; ``--part`` names what to measure:

===========  ==========================================================================================================
table        what is tolerated by what is known: nothing, images, a map, an imperfect map
methods      every method on its own and together, both polarities (E1, E2)
diagnosis    coverage and false alarms of the test (E3)
patterns     clusters, lines, measured maps at equal rates (E4, E8)
wires        repaired dies with wires and with programming errors (E6)
training     training with faults, with and without repair (E7)
factors      mapping, full scale, pruning, faulty layers: what "almost 10 x" is made of
===========  ==========================================================================================================

Costs (E5) stand in every row: bits stored, cells rewritten, digital operations, energy and area.

Points lost are those against the network as it was trained, mapped to two columns on dies without faults, on the same
images. Published claims and anchors are listed in docs/repair.md beside what this study measures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import xbarsim as xb
from xbarsim.circuit import Wires
from xbarsim.devices import POLARITIES, Cell, ClusteredFaults, FaultKind, FaultModel, StuckLineFaults, fault_preset
from xbarsim.experiments.folders import FIGURES, WEIGHTS
from xbarsim.experiments.tolerance import rate_text
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import check_choice, write_atomically
from xbarsim.mapping import Balanced, Differential, Encoding, TwoColumn
from xbarsim.mitigation import (
    AssignArrays,
    AverageCopies,
    ChooseCopies,
    ClosestValue,
    CorrectDigitally,
    Diagnosis,
    FlipSigns,
    JointCopies,
    Mitigation,
    OrderSlices,
    PermuteColumns,
    PermuteRows,
    ProtectLayers,
    RecalibrateOutputs,
)
from xbarsim.models import DATA_SETS, load_images, load_model, load_zoo_file
from xbarsim.plot import save_figure
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.critical import crossing
from xbarsim.sweep.measures import Accuracy, Cost, MitigationOverhead
from xbarsim.sweep.results import TaskResult
from xbarsim.sweep.subject import Subject
from xbarsim.sweep.task import Tag, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PARTS", "Arm", "arms", "design", "load_network", "main", "picture", "rows", "tasks", "tolerated"]

_CALIBRATION = 500  # training images: they set ranges, and are those that outputs are recalibrated by
_ON = "mostly stuck on"
_OFF = "mostly stuck off"
_PRESETS = {words: preset for preset, words in POLARITIES.items()}
_PERFECT = Diagnosis()
_GOOD = Diagnosis(coverage=0.99, false_alarm=0.001)
_NETWORKS = {"resnet20": ("resnet20", "cifar10"), "convnet": ("convnet-unpruned-9bit", "cifar10"),
             "lenet5": ("lenet5-unpruned-9bit", "mnist")}  # fmt: skip
_MEASURED = (
    *("worst_noise_to_signal", "stored_bits", "rewritten_cells", "added_operations"),
    *("energy_J", "area_m2"),
)
_MAP = (PermuteRows(),)
_RELATIVE = (RecalibrateOutputs(),)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to meet faults, measured at some rates.

    Attributes
    ----------
    name
        What tables call it.
    known
        What is known of a die.
    rates
        Total probability that a cell is stuck.
    encoding, cell_bits, clip, scale
        The mapping: encoding, bits of a cell, quantile that is full scale, one scale an output or a tensor.
    weights
        ``"as trained"``, or the name of a file of experiments/weights, without its ending.
    mitigations, diagnosis
        What is done about faults, and how good the test is.
    polarity
        Words of :data:`xbarsim.devices.POLARITIES`.
    faults
        Instead of independent cells of that polarity.
    wires, errors
        Whether arrays have wires of 1 ohm a segment, and cells their programming errors.
    cost
        Whether energy and area are measured too.
    """

    name: str
    known: str
    rates: tuple[float, ...]
    encoding: Encoding = field(default_factory=Differential)
    cell_bits: int = 4
    clip: float = 1.0
    scale: str = "output"
    weights: str = "as trained"
    mitigations: tuple[Mitigation, ...] = ()
    diagnosis: Diagnosis | None = None
    polarity: str = _ON
    faults: FaultModel | None = None
    wires: bool = False
    errors: bool = False
    cost: bool = True


def design(arm: Arm, rate: float) -> xb.Design:
    """The accelerator of an arm: 8-bit inputs in one read, 8-bit converters that are calibrated, 128 x 128 cells."""
    cell = Cell.load("wan2022")
    faults = None
    if rate:
        faults = (arm.faults or fault_preset(_PRESETS[arm.polarity]).faults).with_total(rate)
    return xb.Design(
        cell=cell if arm.errors else cell.without_errors(),
        mapping=xb.Mapping(
            encoding=arm.encoding,
            rows=128,
            columns=128,
            weight_bits=8,
            cell_bits=arm.cell_bits,
            weight_scale="output" if arm.scale == "output" else "tensor",
            weight_clip=arm.clip,
        ),
        periphery=xb.Periphery(input_bits=8, dac_bits=8, adc_bits=8, adc_range="calibrated"),
        faults=faults,
        wires=Wires(word_line_resistance=1.0, bit_line_resistance=1.0) if arm.wires else None,
    )


# ------------------------------------------------------------------------------------------------ arms


def _table() -> Iterator[Arm]:
    """The four questions of the study."""
    yield Arm(name="two columns", known="nothing", rates=(0.0, 0.0005, 0.001, 0.002, 0.004), encoding=TwoColumn())
    yield Arm(name="differential", known="nothing", rates=(0.0, 0.002, 0.005, 0.01, 0.02))
    yield Arm(name="differential, clipped", known="nothing", rates=(0.0, 0.005, 0.01, 0.02), clip=0.995)
    yield Arm(
        name="differential, trained with faults", known="rates", rates=(0.0, 0.005, 0.007, 0.01, 0.02, 0.03, 0.05),
        weights="resnet20_raw",
    )  # fmt: skip
    for bits in (4, 2):
        words = f"{bits}-bit cells"
        yield Arm(
            name=f"differential, recalibrated, {words}", known="images", rates=(0.0, 0.02, 0.05), cell_bits=bits,
            mitigations=_RELATIVE,
        )  # fmt: skip
        yield Arm(
            name=f"trained and recalibrated, {words}", known="images", rates=(0.0, 0.02, 0.05), cell_bits=bits,
            weights="resnet20_raw", mitigations=_RELATIVE,
        )  # fmt: skip
        yield Arm(
            name=f"rows permuted, {words}", known="map", rates=(0.0, 0.1, 0.2, 0.3), cell_bits=bits, mitigations=_MAP,
            diagnosis=_PERFECT,
        )  # fmt: skip
        yield Arm(
            name=f"rows permuted, recalibrated, {words}", known="99 % map, images", rates=(0.0, 0.1, 0.2, 0.3),
            cell_bits=bits, mitigations=(*_MAP, *_RELATIVE), diagnosis=_GOOD,
        )  # fmt: skip


_METHODS: tuple[tuple[str, tuple[Mitigation, ...]], ...] = (
    ("nothing", ()),
    ("closest value", (ClosestValue(),)),
    ("signs flipped", (FlipSigns(),)),
    ("slices flipped", (FlipSigns(each="slice"),)),
    ("slices ordered", (OrderSlices(),)),
    ("columns permuted", (PermuteColumns(),)),
    ("rows permuted", (PermuteRows(),)),
    ("rows permuted, greedy", (PermuteRows(search="greedy"),)),
    ("rows left out, 8 spare", (PermuteRows(search="in order", spare=8),)),
    ("rows permuted, 8 spare", (PermuteRows(spare=8),)),
    ("rows permuted, signs flipped", (PermuteRows(), FlipSigns())),
    ("rows and columns permuted", (PermuteRows(), PermuteColumns(), PermuteRows())),
    ("tiles to arrays", (AssignArrays(),)),
    ("two copies averaged", (AverageCopies(), ClosestValue())),
    ("best of two copies", (ChooseCopies(), ClosestValue())),
    ("two copies jointly", (JointCopies(),)),
    ("1 % corrected digitally", (ClosestValue(), CorrectDigitally(share=0.01))),
    ("5 % corrected digitally", (ClosestValue(), CorrectDigitally(share=0.05))),
    ("rows permuted, 1 % corrected", (PermuteRows(), CorrectDigitally(share=0.01))),
    ("recalibrated", (RecalibrateOutputs(),)),
    ("closest value, recalibrated", (ClosestValue(), RecalibrateOutputs())),
    ("rows permuted, recalibrated", (PermuteRows(), RecalibrateOutputs())),
)


def _methods() -> Iterator[Arm]:
    """Every method at 5 and 10 %, in both polarities."""
    for polarity in (_ON, _OFF):
        for name, methods in _METHODS:
            mapped = any(method.needs == "map" for method in methods)
            images = any(method.needs == "images" for method in methods)
            known = " and ".join(word for word, has in (("map", mapped), ("images", images)) if has) or "nothing"
            yield Arm(
                name=name, known=known, rates=(0.05, 0.1), mitigations=methods, polarity=polarity,
                diagnosis=_PERFECT if mapped else None,
            )  # fmt: skip


def _diagnosis() -> Iterator[Arm]:
    """How good the test has to be."""
    for coverage in (1.0, 0.99, 0.98, 0.95, 0.9):
        for false_alarm in (0.0, 0.001, 0.01):
            for name, methods in (("rows permuted", _MAP), ("rows permuted, recalibrated", (*_MAP, *_RELATIVE))):
                yield Arm(
                    name=f"{name}, {coverage:.0%} found, {false_alarm:.1%} false", known="map", rates=(0.1,),
                    mitigations=methods, diagnosis=Diagnosis(coverage=coverage, false_alarm=false_alarm), cost=False,
                )  # fmt: skip


def _patterns() -> Iterator[Arm]:
    """Faults that come together, at the rate of those that do not."""
    on = fault_preset(_PRESETS[_ON]).faults.rates
    stuck_on, stuck_off = (
        0.05 * on[kind] / math.fsum(on.values()) for kind in (FaultKind.STUCK_ON, FaultKind.STUCK_OFF)
    )
    patterns: tuple[tuple[str, FaultModel | None], ...] = (
        ("single cells", None),
        ("clusters", ClusteredFaults(on=stuck_on, off=stuck_off, size=8.0, spread=2.0)),
        ("word lines", StuckLineFaults(on=stuck_on, off=stuck_off, row_share=1.0)),
        ("bit lines", StuckLineFaults(on=stuck_on, off=stuck_off, row_share=0.0)),
    )
    methods: tuple[tuple[str, tuple[Mitigation, ...]], ...] = (
        ("closest value", (ClosestValue(),)),
        ("rows permuted", (PermuteRows(),)),
        ("rows permuted, 16 spare", (PermuteRows(spare=16),)),
        ("columns permuted", (PermuteColumns(),)),
    )
    for pattern, model in patterns:
        for name, chosen in methods:
            yield Arm(
                name=f"{pattern}: {name}", known="map", rates=(0.05,), mitigations=chosen, diagnosis=_PERFECT,
                faults=model, cost=False,
            )  # fmt: skip


def _wires() -> Iterator[Arm]:
    """Repair raises the current of pairs: whether wires and programming errors undo it."""
    for name, wires, errors in (("ideal", False, False), ("wires", True, False), ("programming errors", False, True)):
        for methods in ((), _MAP, (*_MAP, *_RELATIVE)):
            words = "rows permuted, recalibrated" if len(methods) > 1 else "rows permuted" if methods else "nothing"
            yield Arm(
                name=f"{words}, {name}", known="map" if methods else "nothing", rates=(0.0, 0.1), mitigations=methods,
                diagnosis=_PERFECT if methods else None, wires=wires, errors=errors,
            )  # fmt: skip


def _training() -> Iterator[Arm]:
    """Training with faults and repair, each with and without the other."""
    for weights in ("as trained", "resnet20_placebo", "resnet20_raw"):
        for name, methods in (("nothing", ()), ("rows permuted", _MAP), ("recalibrated", _RELATIVE)):
            yield Arm(
                name=f"{weights}: {name}", known="map" if methods == _MAP else "images" if methods else "rates",
                rates=(0.0, 0.01, 0.02, 0.05, 0.1), weights=weights, mitigations=methods,
                diagnosis=_PERFECT if methods == _MAP else None, cost=False,
            )  # fmt: skip


def _factors() -> Iterator[Arm]:
    """What the tolerance of a mapping is made of: full scale, pruning and which layers break."""
    scales = (("scale a layer", "tensor", 1.0), ("scale an output", "output", 1.0), ("clipped", "output", 0.995))
    weights = ("as trained", "resnet20_placebo", "resnet20-pruned-9bit")
    for polarity in (_ON, _OFF):
        for encoding in (TwoColumn(), Differential(), Balanced()):
            for words, scale, clip in scales:
                for which in weights:
                    for inner in (False, True):
                        methods = (ProtectLayers(layers=("convolution", "classifier")),) if inner else ()
                        yield Arm(
                            name=f"{type(encoding).__name__}, {which}, {words}, {'inner' if inner else 'all'} layers",
                            known="nothing", rates=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02), encoding=encoding,
                            scale=scale, clip=clip, weights=which, mitigations=methods, polarity=polarity, cost=False,
                        )  # fmt: skip


_PARTS = {
    "table": _table,
    "methods": _methods,
    "diagnosis": _diagnosis,
    "patterns": _patterns,
    "wires": _wires,
    "training": _training,
    "factors": _factors,
}
PARTS = tuple(_PARTS)
"""What can be measured."""


def arms(part: str) -> list[Arm]:
    """The arms of one part."""
    return list(_PARTS[check_choice("part", part, PARTS)]())


# ------------------------------------------------------------------------------------------- measuring


@cache
def load_network(network: str, weights: str, images: int) -> Subject:
    """A network with its images.

    Parameters
    ----------
    network
        ``"resnet20"``, ``"convnet"`` or ``"lenet5"``.
    weights
        ``"as trained"``, the name of another network of the zoo, or of a file of experiments/weights.
    images
        Test images, from the first.
    """
    name, data_set = _NETWORKS[check_choice("network", network, _NETWORKS)]
    path = WEIGHTS / f"{weights}.safetensors"
    if weights == "as trained":
        model = load_model(name)[0]
    else:
        model = load_zoo_file(path)[0] if path.exists() else load_model(weights)[0]
    pixels, labels = load_images(data_set, "test", count=images)
    calibration = load_images(data_set, "train", count=_CALIBRATION)[0]
    return Subject(
        name=network, data_set=DATA_SETS[data_set], model=model, images=pixels, labels=labels, calibration=calibration
    )


def tasks(network: str, part: str, images: int, *, seed: int = 1) -> list[Task]:
    """Everything to measure of one part.

    Parameters
    ----------
    network
        As :func:`load_network`.
    part
        One of :data:`PARTS`.
    images
        Test images.
    seed
        Root of the dies' seeds: all arms meet dies of the same seeds.
    """
    made = []
    for arm in arms(part):
        if network != "resnet20" and arm.weights.startswith("resnet20"):
            continue
        subject = load_network(network, arm.weights, images)
        for rate in arm.rates:
            methods = arm.mitigations if rate else tuple(m for m in arm.mitigations if not isinstance(m, ProtectLayers))
            tags: dict[str, Tag] = {
                "part": part,
                "arm": arm.name,
                "known": arm.known,
                "polarity": arm.polarity,
                "weights": arm.weights,
                "rate": rate,
            }
            made.append(
                Task(
                    network=subject,
                    design=design(arm, rate),
                    calibration=_CALIBRATION,
                    mitigations=methods,
                    diagnosis=arm.diagnosis,
                    measures=(Accuracy(), MitigationOverhead(), *((Cost(),) if arm.cost else ())),
                    seed=seed,
                    tags=tags,
                )
            )
    return made


def reference(network: str, images: int) -> Task:
    """The network as it was trained, on two columns without faults: what points lost are counted from."""
    arm = Arm(name="two columns", known="nothing", rates=(0.0,), encoding=TwoColumn())
    return Task(
        network=load_network(network, "as trained", images),
        design=design(arm, 0.0),
        calibration=_CALIBRATION,
        measures=(Accuracy(), MitigationOverhead(), Cost()),
        tags={"part": "reference", "arm": arm.name, "known": "nothing", "polarity": _ON, "weights": "as trained",
              "rate": 0.0},
    )  # fmt: skip


def row(result: TaskResult, sound: float) -> dict[str, Any]:
    """What is tabled of one task.

    Parameters
    ----------
    result
        Its dies.
    sound
        Accuracy of the reference, 0 to 1.
    """
    interval = result.mean()
    worst = min(result.accuracies)
    columns = result.columns
    measured = {
        name: math.fsum(float(die.metrics[name]) for die in result.dies) / len(result.dies)
        for name in (
            "worst_noise_to_signal",
            "stored_bits",
            "rewritten_cells",
            "added_operations",
            "energy_J",
            "area_m2",
        )
        if name in result.dies[0].metrics
    }
    alone = len(result.dies) < 2 or math.isnan(interval.low)
    return {
        "network": columns["network"],
        "part": columns["part"],
        "arm": columns["arm"],
        "known": columns["known"],
        "weights": columns["weights"],
        "encoding": columns["encoding"],
        "cell_bits": columns["cell_bits"],
        "polarity": columns["polarity"],
        "rate": columns["rate"],
        "dies": len(result.dies),
        "images": result.dies[0].images,
        "accuracy": round(100 * interval.estimate, 4),
        "low": round(100 * (interval.estimate if alone else interval.low), 4),
        "high": round(100 * (interval.estimate if alone else interval.high), 4),
        "worst_die": round(100 * worst, 4),
        "lost": round(100 * (sound - interval.estimate), 4),
        **{name: float(f"{value:.6g}") for name, value in measured.items()},
    }


def rows(results: Sequence[TaskResult], sound: float) -> list[dict[str, Any]]:
    """What is tabled of all tasks, as :func:`row`."""
    return [row(result, sound) for result in results]


def tolerated(table: Sequence[dict[str, Any]], loss: float = 1.0) -> list[dict[str, Any]]:
    """The rate at which each arm has lost so many points, with its interval; where it was measured at three or more.

    Parameters
    ----------
    table
        From :func:`rows`.
    loss
        In points.
    """
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in table:
        grouped.setdefault((each["network"], each["part"], each["arm"], each["polarity"]), []).append(each)
    found = []
    for (network, part, arm, polarity), points in grouped.items():
        curve = sorted(points, key=lambda each: float(each["rate"]))
        if len(curve) < 3:
            continue
        target = curve[0]["accuracy"] + curve[0]["lost"] - loss
        rates = [each["rate"] for each in curve]
        low, rate, high = (
            crossing(rates, [each[name] for each in curve], target) for name in ("low", "accuracy", "high")
        )
        found.append(
            {"network": network, "part": part, "arm": arm, "polarity": polarity, "known": curve[0]["known"],
             "loss": loss, "rate": rate, "low": low, "high": high, "highest": rates[-1]}
        )  # fmt: skip
    return found


# --------------------------------------------------------------------------------- tables and pictures


def accuracy_table(table: Sequence[dict[str, Any]]) -> str:
    """Accuracy, points lost and cost of every point."""
    return format_table(
        ("part", "arm", "known", "faults", "rate", "dies", "accuracy", "95 % interval", "worst", "lost", "kbit", "NSR"),
        [
            (
                each["part"], each["arm"], each["known"], each["polarity"], f"{each['rate']:g}", each["dies"],
                f"{each['accuracy']:.2f}", f"{each['low']:.2f} to {each['high']:.2f}", f"{each['worst_die']:.1f}",
                f"{each['lost']:.2f}", f"{each['stored_bits'] / 1e3:.1f}", f"{each['worst_noise_to_signal']:.4f}",
            )
            for each in table
        ],
        left=4,
    )  # fmt: skip


def tolerance_table(found: Sequence[dict[str, Any]]) -> str:
    """Tolerated rates, and how many times that of two columns they are."""
    base = {(each["network"], each["polarity"]): each["rate"] for each in found if each["arm"] == "two columns"}
    return format_table(
        ("arm", "known", "faults", "rate tolerated", "95 % interval", "times two columns"),
        [
            (
                each["arm"], each["known"], each["polarity"], rate_text(each["rate"], each["highest"]),
                f"{rate_text(each['low'], each['highest'])} to {rate_text(each['high'], each['highest'])}",
                _times(each, base.get((each["network"], each["polarity"]))),
            )
            for each in found
        ],
        left=3,
    )  # fmt: skip


def _times(each: dict[str, Any], base: float | None) -> str:
    if not base or math.isinf(base):
        return "-"
    bound = ">" if math.isinf(each["rate"]) else ""
    return f"{bound}{min(each['rate'], each['highest']) / base:.1f}"


_COLOURS = {
    "nothing": "#444444",
    "rates": "#D55E00",
    "images": "#0072B2",
    "map": "#009E73",
    "99 % map, images": "#CC79A7",
}


def picture(table: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against rate by what is known of the die, and which rate is tolerated at one point lost."""
    from matplotlib.figure import Figure

    chosen = [each for each in table if each["part"] == "table"]
    figure = Figure(figsize=(11.5, 5.2), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    names = list(dict.fromkeys(each["arm"] for each in chosen))
    styles = ("-", "--", ":", "-.")
    counted: dict[str, int] = {}
    for name in names:
        curve = sorted(
            (each for each in chosen if each["arm"] == name and each["rate"] > 0), key=lambda each: each["rate"]
        )
        if not curve:
            continue
        known = curve[0]["known"]
        number = counted.get(known, 0)
        counted[known] = number + 1
        rates = [100 * each["rate"] for each in curve]
        colour = _COLOURS[known]
        left.plot(
            rates, [each["accuracy"] for each in curve], color=colour, linestyle=styles[number % 4], marker="o",
            markersize=4, label=name,
        )  # fmt: skip
        left.fill_between(
            rates, [each["low"] for each in curve], [each["high"] for each in curve], color=colour, alpha=0.15,
            linewidth=0,
        )  # fmt: skip
    sound = chosen[0]["accuracy"] + chosen[0]["lost"]
    left.axhline(sound, color="black", linewidth=1, linestyle=":")
    left.axhline(sound - 1, color="0.6", linewidth=0.8, linestyle=":")
    left.set_xscale("log")
    left.set_ylim(max(0.0, min(each["accuracy"] for each in chosen) - 3), 95)
    left.set_xlabel("probability that a cell is stuck (%)")
    left.set_ylabel(f"accuracy on {chosen[0]['images']} test images (%)")
    left.legend(fontsize=7, frameon=False, loc="lower left")
    bars = [each for each in found if each["part"] == "table"]
    for place, each in enumerate(reversed(bars)):
        rate = min(each["rate"], each["highest"])
        right.barh(place, 100 * rate, color=_COLOURS[each["known"]], height=0.7)
        low, high = (100 * min(each[end], each["highest"]) for end in ("low", "high"))
        right.plot([low, high], [place, place], color="black", linewidth=1.2)
        beyond = "> " if math.isinf(each["rate"]) else ""
        right.annotate(f" {beyond}{100 * rate:.2g} %", (max(100 * rate, high), place), va="center", fontsize=8)
    right.set_yticks(range(len(bars)), [each["arm"] for each in reversed(bars)], fontsize=8)
    right.set_xscale("log")
    right.set_xlim(right=200)
    right.set_xlabel("rate tolerated at one point lost (%)")
    for axes in (left, right):
        axes.grid(color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [figure.axes[0].plot([], [], color=colour, linewidth=5)[0] for colour in _COLOURS.values()]
    figure.legend(
        handles,
        [f"known: {known}" for known in _COLOURS],
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize=9,
    )
    return figure


def pareto(table: Sequence[dict[str, Any]], part: str = "methods") -> Figure:
    """Accuracy of every method against what it stores, and the energy and area that it takes."""
    from matplotlib.figure import Figure

    chosen = [each for each in table if each["part"] == part and each["polarity"] == _ON and "energy_J" in each]
    highest = max(each["rate"] for each in chosen)
    chosen = [each for each in chosen if each["rate"] == highest]
    figure = Figure(figsize=(12.0, 4.6), layout="constrained", dpi=150)
    panels = figure.subplots(1, 3, sharey=True)
    axes_of = (
        ("stored_bits", 1e-3, "configuration stored (kbit)"),
        ("energy_J", 1e6, "energy an image (µJ)"),
        ("area_m2", 1e6, "area (mm²)"),
    )
    for axes, (column, factor, label) in zip(panels, axes_of, strict=True):
        for number, each in enumerate(chosen):
            axes.errorbar(
                each[column] * factor, each["accuracy"],
                yerr=[[each["accuracy"] - each["low"]], [each["high"] - each["accuracy"]]],
                marker="osD^v<>P*X"[number % 10], color=f"C{number % 10}", markersize=6, linestyle="none", capsize=2,
                label=each["arm"],
            )  # fmt: skip
        axes.set_xlabel(label)
        axes.grid(color="0.92", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"accuracy at {100 * highest:g} % stuck cells (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def main(
    network: Annotated[list[str] | None, typer.Option(help="Only this network; may be repeated.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Only this part; may be repeated.")] = None,
    dies: Annotated[int, typer.Option(help="Dies of each point with faults.", min=2)] = 50,
    images: Annotated[int, typer.Option(help="Test images.", min=1)] = 1000,
    store: Annotated[Path, typer.Option(help="Where dies are kept.")] = Path("fault_tolerance.sqlite"),
    workers: Annotated[int | None, typer.Option(help="Processes; one a core if left out.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = FIGURES,
) -> None:
    """Measure which rate of stuck cells is survived, by what is known of the die."""
    table: list[dict[str, Any]] = []
    for name in network or ("resnet20",):
        (ideal,) = collect([reference(name, images)], stop=1, store=store, workers=workers).tasks
        sound = ideal.mean().estimate
        table += rows([ideal], sound)
        for chosen in part or ("table",):
            listed = tasks(name, chosen, images)
            for some, count in (
                ([task for task in listed if not task.tags["rate"]], 1),
                ([task for task in listed if task.tags["rate"]], dies),
            ):
                if some:
                    table += rows(collect(some, stop=count, store=store, workers=workers).tasks, sound)
    found = tolerated(table)
    typer.echo(accuracy_table(table) + "\n")
    typer.echo(tolerance_table(found) + "\n")
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "fault_tolerance.csv", csv_bytes(table))
    write_atomically(output / "fault_tolerance_rates.csv", csv_bytes(found))
    if any(each["part"] == "table" for each in table):
        save_figure(picture(table, found), output / "fault_tolerance.png")
    if any(each["part"] == "methods" for each in table):
        save_figure(pareto(table), output / "fault_tolerance_methods.png")
    typer.echo(f"wrote fault_tolerance.csv, fault_tolerance_rates.csv and pictures into {output}")


if __name__ == "__main__":
    typer.run(main)
