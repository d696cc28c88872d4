"""What the study measures: ways to meet faults, part by part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import xbarsim as xb
from xbarsim.circuit import Wires
from xbarsim.devices import POLARITIES, Cell, ClusteredFaults, FaultKind, FaultModel, StuckLineFaults, fault_preset
from xbarsim.foundation.validation import check_choice
from xbarsim.mapping import Balanced, Differential, DuplicatedDifferential, Encoding, TwoColumn
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
    RecalibrateOutputs,
)

__all__ = ["MOSTLY_ON", "MOST_IMAGES", "PARTS", "TRAINED", "Arm", "arms", "design"]

TRAINED = "trained with faults"
MOSTLY_ON = "mostly stuck on"
MOSTLY_OFF = "mostly stuck off"
_PRESETS = {words: preset for preset, words in POLARITIES.items()}
_PERFECT = Diagnosis()
_GOOD = Diagnosis(coverage=0.99, false_alarm=0.001)
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
    encoding, cell_bits, clip, scale, weight_bits
        The mapping: encoding, bits of a cell, quantile that is full scale, one scale an output or a tensor, bits of a
        weight.
    weights
        ``"as trained"``, ``"trained with faults"`` for what each network has of these, or the name of a network of the
        zoo or of a file of experiments/weights/fault_tolerant.
    mitigations, diagnosis
        What is done about faults, and how good the test is.
    polarity
        Words of :data:`xbarsim.devices.POLARITIES`.
    faults
        Instead of independent cells of that polarity.
    wires, errors
        Whether arrays have wires of 1 ohm a segment, and cells their programming errors.
    inner
        Whether the first and the last layer never break.
    cost
        Whether energy and area are measured too.
    settings
        The level of each factor of a factorial design, by the name of the factor.
    """

    name: str
    known: str
    rates: tuple[float, ...]
    encoding: Encoding = field(default_factory=Differential)
    cell_bits: int = 4
    clip: float | None = None
    scale: str = "output"
    weight_bits: int = 9
    weights: str = "as trained"
    mitigations: tuple[Mitigation, ...] = ()
    diagnosis: Diagnosis | None = None
    polarity: str = MOSTLY_ON
    faults: FaultModel | None = None
    wires: bool = False
    errors: bool = False
    inner: bool = False
    cost: bool = True
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)


def design(arm: Arm, rate: float) -> xb.Design:
    """The accelerator of an arm: 128 x 128 cells, 8-bit inputs in one read, calibrated converters.

    Converters have 9 bits for 4-bit cells and 8 for 2-bit cells: without faults either loses nothing that 1,000 images
    show.
    """
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
            weight_bits=arm.weight_bits,
            cell_bits=arm.cell_bits,
            weight_scale="output" if arm.scale == "output" else "tensor",
            weight_clip=arm.clip,
        ),
        periphery=xb.Periphery(
            input_bits=8, dac_bits=8, adc_bits=9 if arm.cell_bits == 4 else 8, adc_range="calibrated"
        ),
        faults=faults,
        wires=Wires(word_line_resistance=1.0, bit_line_resistance=1.0) if arm.wires else None,
    )


def _twice(*rates: float, trained: bool) -> Arm:
    """As many cells as 9 bits once: two slices that count alike, so that a stuck cell errs by half of full scale."""
    return Arm(
        name=f"5 bits twice{', trained with faults' if trained else ''}", known="rates" if trained else "nothing",
        rates=rates, encoding=DuplicatedDifferential(), weight_bits=5,
        clip=None if trained else 0.995,
        weights=TRAINED if trained else "as trained",
    )  # fmt: skip


def _recalibrated(bits: int, *rates: float, trained: bool) -> Arm:
    name = "trained and recalibrated" if trained else "differential, recalibrated"
    return Arm(
        name=f"{name}, {bits}-bit cells", known="images", rates=rates, cell_bits=bits,
        weights=TRAINED if trained else "as trained", mitigations=_RELATIVE,
    )  # fmt: skip


def _mapped(bits: int, *rates: float) -> Arm:
    return Arm(
        name=f"rows permuted, {bits}-bit cells", known="map", rates=rates, cell_bits=bits, mitigations=_MAP,
        diagnosis=_PERFECT,
    )  # fmt: skip


def _mapped_and_recalibrated(bits: int, *rates: float) -> Arm:
    return Arm(
        name=f"rows permuted, recalibrated, {bits}-bit cells", known="99 % map, images", rates=rates, cell_bits=bits,
        mitigations=(*_MAP, *_RELATIVE), diagnosis=_GOOD,
    )  # fmt: skip


def _table() -> Iterator[Arm]:
    """The four questions of the study, each answered by the best arm that there is."""
    yield Arm(name="two columns", known="nothing", rates=(0.0, 0.0005, 0.001), encoding=TwoColumn())
    yield _twice(0.0, 0.007, 0.01, 0.02, trained=True)
    yield _recalibrated(2, 0.0, 0.02, 0.05, trained=True)
    yield _mapped(2, 0.0, 0.1, 0.2)
    yield _mapped_and_recalibrated(2, 0.0, 0.2, 0.3)


def _curves() -> Iterator[Arm]:
    """What these are better than, and more rates of them."""
    yield Arm(name="two columns", known="nothing", rates=(0.002, 0.004), encoding=TwoColumn())
    yield Arm(name="differential", known="nothing", rates=(0.0, 0.002, 0.005, 0.01, 0.02))
    yield Arm(name="differential, clipped", known="nothing", rates=(0.0, 0.005, 0.01, 0.02), clip=0.995)
    yield Arm(
        name="differential, trained with faults", known="rates", rates=(0.0, 0.005, 0.007, 0.01, 0.02),
        weights=TRAINED,
    )  # fmt: skip
    yield _twice(0.0, 0.005, 0.01, 0.02, trained=False)
    yield _twice(0.005, 0.03, trained=True)
    yield _recalibrated(2, 0.0, 0.02, 0.05, trained=False)
    yield _mapped(2, 0.3)
    yield _mapped_and_recalibrated(2, 0.1)
    yield _recalibrated(4, 0.0, 0.02, 0.05, trained=False)
    yield _recalibrated(4, 0.0, 0.02, 0.05, trained=True)
    yield _mapped(4, 0.0, 0.1, 0.2, 0.3)
    yield _mapped_and_recalibrated(4, 0.0, 0.1, 0.2, 0.3)


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
    ("best of two copies", (ClosestValue(), ChooseCopies())),
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
    for polarity in (MOSTLY_ON, MOSTLY_OFF):
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
    on = fault_preset(_PRESETS[MOSTLY_ON]).faults.rates
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
    for words, weights in (("as trained", "as trained"), ("trained on", "resnet20_retrained"), (TRAINED, TRAINED)):
        for name, methods in (("nothing", ()), ("rows permuted", _MAP), ("recalibrated", _RELATIVE)):
            yield Arm(
                name=f"{words}: {name}", known="map" if methods == _MAP else "images" if methods else "rates",
                rates=(0.0, 0.01, 0.02, 0.05, 0.1), weights=weights, mitigations=methods,
                diagnosis=_PERFECT if methods == _MAP else None, cost=False,
            )  # fmt: skip


_FACTOR_MAPPINGS: tuple[tuple[str, Encoding, tuple[float, ...]], ...] = (  # rates around that which loses a point
    ("two columns", TwoColumn(), (0.0002, 0.0005, 0.001, 0.002, 0.005)),
    ("differential", Differential(), (0.001, 0.0025, 0.005, 0.01, 0.02)),
    ("balanced", Balanced(), (0.0005, 0.001, 0.0025, 0.005, 0.01)),
)
_FACTOR_SCALES = (("a layer", "tensor", None), ("an output", "output", None), ("clipped", "output", 0.995))
_FACTOR_WEIGHTS = (
    *(("dense", "as trained"), ("trained on", "resnet20_retrained")),
    *((f"pruned by {share} %", f"resnet20_pruned_{share}") for share in (30, 60, 80)),
)


def _factors() -> Iterator[Arm]:
    """What the tolerance of a mapping is made of: full scale, further training, pruning and which layers break.

    All combinations: "almost 10x" of ISQED 2021 compares two corners, {dense, two columns} and {pruned, differential}.
    """
    for mapping, encoding, rates in _FACTOR_MAPPINGS:
        for scale_words, scale, clip in _FACTOR_SCALES:
            for weight_words, weights in _FACTOR_WEIGHTS:
                for inner in (False, True):
                    settings = {
                        "mapping": mapping,
                        "full scale": scale_words,
                        "weights": weight_words,
                        "faulty layers": "all but first and last" if inner else "all",
                    }
                    yield Arm(
                        name=", ".join(settings.values()), known="nothing", rates=rates, encoding=encoding, scale=scale,
                        clip=clip, weights=weights, inner=inner, cost=False, settings=settings,
                    )  # fmt: skip


_PARTS = {
    "table": _table,
    "curves": _curves,
    "methods": _methods,
    "diagnosis": _diagnosis,
    "patterns": _patterns,
    "wires": _wires,
    "training": _training,
    "factors": _factors,
}
PARTS = tuple(_PARTS)
"""What can be measured."""

MOST_IMAGES = dict.fromkeys(("methods", "diagnosis", "patterns", "wires", "training", "factors"), 300)
"""Test images, at most, of parts that have very many points."""


_OTHER_RATES: Mapping[str, Mapping[str, tuple[float, ...]]] = {  # of the table: around those that lose a point
    "convnet": {
        "two columns": (0.0, 0.0005, 0.001, 0.002),
        "5 bits twice, trained with faults": (0.0, 0.002, 0.005, 0.01),
        "trained and recalibrated, 2-bit cells": (0.0, 0.005, 0.01, 0.02),
        "rows permuted, 2-bit cells": (0.0, 0.2, 0.3, 0.4),
        "rows permuted, recalibrated, 2-bit cells": (0.0, 0.2, 0.3, 0.4),
    },
    "lenet5": {
        "two columns": (0.0, 0.005, 0.01, 0.02, 0.04),
        "5 bits twice, trained with faults": (0.0, 0.05, 0.1, 0.2),
        "trained and recalibrated, 2-bit cells": (0.0, 0.1, 0.2, 0.3),
        "rows permuted, 2-bit cells": (0.0, 0.5, 0.65),
        "rows permuted, recalibrated, 2-bit cells": (0.0, 0.5, 0.65),
    },
}


def arms(part: str, network: str = "resnet20") -> list[Arm]:
    """The arms of one part; the table's at rates that suit the network."""
    rates = _OTHER_RATES.get(network, {}) if part == "table" else {}
    listed = _PARTS[check_choice("part", part, PARTS)]()
    return [replace(arm, rates=rates.get(arm.name, arm.rates)) for arm in listed]
