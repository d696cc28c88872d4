"""What is measured on each die: an interface, and the measures that come with the project.

A measure is a frozen dataclass of plain values that says which columns it adds to a row of results, and gives their
values for a chip. One of your own is one class: a sweep file names it as ``"module:Class"``, and one from a notebook
works as well. Its name and its fields are part of the identity of a task.
"""

from __future__ import annotations

import math
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.named import named_callable
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer

if TYPE_CHECKING:
    from xbarsim.cost import Hardware
    from xbarsim.network.chip import Chip

__all__ = [
    "COUNTS",
    "METRICS",
    "Accuracy",
    "Cost",
    "InputClipping",
    "LayerErrors",
    "Measure",
    "Metric",
    "MitigationOverhead",
    "Value",
]

Value = int | float | str
_KINDS: Mapping[type, type] = {int: Integral, float: Real, str: str}  # numbers of NumPy too

_DEFAULT_CARD = "isaac2016"  # the component card that Chip.cost takes by itself

#: Columns that every table of results has, and that one measure of a task may fill: images classified right, of how
#: many, and seconds of inference. Stop rules and statistics of accuracy look at the first two.
COUNTS = ("correct", "images", "inference_seconds")


class Measure(metaclass=ABCMeta):
    """What a die is measured for; subclasses are frozen dataclasses of plain values.

    A subclass supplies `columns` and `run`. Whatever its values depend on must be the chip, the images and its own
    fields: a die gives one answer wherever and however often it is measured.
    """

    known: ClassVar[dict[str, type[Measure]]] = {}  # by name of the class

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        Measure.known[cls.__name__] = cls

    @classmethod
    @entrance
    def load(cls, name: str) -> Measure:
        """A measure with its default fields, by the name of its class, or as ``"module:Class"``.

        Raises
        ------
        InputError
            If there is none.
        """
        if ":" in name:
            made = named_callable("measures", name)()
            check_instance(f"measures {name!r}", made, Measure)
            assert isinstance(made, Measure)
            return made
        public = {name: kind for name, kind in cls.known.items() if kind is not Metric}
        return public[check_choice("measures", name, public)]()

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, type]:
        """Names of the columns it adds to a row, with the type of their values: int, float or str."""

    @abstractmethod
    def run(self, chip: Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Mapping[str, Value]:
        """Measure one die.

        Parameters
        ----------
        chip
            The die.
        images, labels
            What it is measured on: float32 (images, ...), integers (images,).

        Returns
        -------
        mapping
            A value for each of `columns`.
        """

    @entrance
    def checked(self, chip: Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, Value]:
        """What :meth:`run` gives, if it keeps to `columns`.

        Raises
        ------
        InputError
            If a column is missing or unknown, of another type, or not finite.
        """
        values: dict[str, Any] = dict(self.run(chip, images, labels))
        if values.keys() != self.columns.keys():
            raise InputError(f"{self.name} must give {', '.join(self.columns)}, got {', '.join(values) or 'nothing'}")
        for column, kind in self.columns.items():
            value = values[column]
            if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):
                raise InputError(f"{self.name} must give {kind.__name__} for {column!r}, got {value!r}")
            values[column] = kind(value)
            if kind is not str and not math.isfinite(values[column]):
                raise InputError(f"{self.name} must give finite numbers, got {value} for {column!r}")
        return values


@dataclass(frozen=True, kw_only=True)
class Accuracy(Measure):
    """How many images the die classifies right: what a task measures unless it says otherwise."""

    @property
    def columns(self) -> Mapping[str, type]:
        """Those of `COUNTS`."""
        return {"correct": int, "images": int, "inference_seconds": float}

    @entrance
    def run(self, chip: Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Mapping[str, Value]:
        """Classify all images."""
        from xbarsim.network.evaluation import evaluate
        from xbarsim.network.report import ClippingWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClippingWarning)  # a sweep would say it once a die: see `InputClipping`
            result = evaluate(chip, images, labels, progress=False)
        return {"correct": result.correct, "images": result.images, "inference_seconds": result.seconds}


@dataclass(frozen=True, kw_only=True)
class LayerErrors(Measure):
    """How far the die is from the digital quantised network, and which layer adds most.

    Errors are root mean squares over that of the digital output, as :meth:`xbarsim.Chip.report` gives them, with six
    digits: sums of floating numbers may differ beyond from one machine to another.

    Attributes
    ----------
    images
        How many images they are measured on, from the first; all, where there are fewer.
    layers
        Layers whose own errors get a column each, ``error_NAME``.
    """

    images: int = 32
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_integer("images", self.images, at_least=1)
        check_instance("layers", self.layers, tuple)
        for index, name in enumerate(self.layers):
            check_instance(f"layers[{index}]", name, str)

    @property
    def columns(self) -> Mapping[str, type]:
        """The error of the network's output, the layer that adds most and how much, and those of `layers`."""
        return {
            "output_error": float,
            "worst_layer": str,
            "worst_layer_error": float,
            **{f"error_{name}": float for name in self.layers},
        }

    @entrance
    def run(self, chip: Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Mapping[str, Value]:
        """Compare every layer.

        Raises
        ------
        InputError
            If one of `layers` is no mapped layer.
        """
        from xbarsim.network.report import ClippingWarning

        for name in self.layers:
            check_choice("layers", name, chip.layers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClippingWarning)  # a sweep would say it once a die
            errors = chip.report(images[: self.images]).layers
        own = {error.layer: float(f"{error.own:.6g}") for error in errors}
        worst = max(own, key=lambda name: own[name])
        return {
            "output_error": float(f"{errors[-1].total:.6g}"),
            "worst_layer": worst,
            "worst_layer_error": own[worst],
            **{f"error_{name}": own[name] for name in self.layers},
        }


@dataclass(frozen=True, kw_only=True)
class InputClipping(Measure):
    """How many inputs of layers lie beyond the range of the calibration, and in which layer most.

    Attributes
    ----------
    images
        How many images it is measured on, from the first; all, where there are fewer.
    """

    images: int = 100

    def __post_init__(self) -> None:
        check_integer("images", self.images, at_least=1)

    @property
    def columns(self) -> Mapping[str, type]:
        """The share of all inputs that were clipped, the layer with the largest share, and that."""
        return {"clipped_inputs": float, "most_clipped_layer": str, "most_clipped_inputs": float}

    def run(self, chip: Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Mapping[str, Value]:
        """Run the images and count."""
        from xbarsim.network.report import ClippingWarning

        before = chip.clipped_inputs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClippingWarning)
            chip(images[: self.images], first_image=0)
        new = {
            name: (count.clipped - before[name].clipped, count.inputs - before[name].inputs)
            for name, count in chip.clipped_inputs.items()
        }
        shares = {name: clipped / inputs for name, (clipped, inputs) in new.items() if inputs}
        most = max(shares, key=lambda name: shares[name])
        return {
            "clipped_inputs": sum(clipped for clipped, _ in new.values()) / sum(inputs for _, inputs in new.values()),
            "most_clipped_layer": most,
            "most_clipped_inputs": shares[most],
        }


@dataclass(frozen=True, kw_only=True)
class Cost(Measure):
    """Power, area, energy and time of the die, with the static power of its own cells.

    Attributes
    ----------
    hardware
        Name of a component card, as :meth:`xbarsim.Chip.cost` takes it.
    """

    hardware: str = _DEFAULT_CARD

    def __post_init__(self) -> None:
        check_instance("hardware", self.hardware, str)

    @property
    def columns(self) -> Mapping[str, type]:
        """Peak power, that of the cells in it, and area; energy and latency of one inference."""
        return dict.fromkeys(("power_W", "cells_power_W", "area_m2", "energy_J", "latency_s"), float)

    @entrance
    def run(self, chip: Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Mapping[str, Value]:
        """Add up the die's components."""
        report = chip.cost(_card(self.hardware))
        work = report.workload()
        return {
            "power_W": report.power,
            "cells_power_W": math.fsum(part.power for part in report.components if part.name == "cells"),
            "area_m2": report.area,
            "energy_J": work.energy,
            "latency_s": work.latency,
        }


@dataclass(frozen=True, kw_only=True)
class MitigationOverhead(Measure):
    """What mitigations did to the die, and what they cost beside it; see :class:`xbarsim.mitigation.Overhead`."""

    @property
    def columns(self) -> Mapping[str, type]:
        """What stuck cells still add to the outputs of the worst layer; cells, bits, and operations an image."""
        return {
            "worst_noise_to_signal": float,
            "rewritten_cells": int,
            "stored_bits": int,
            "added_operations": float,
        }

    @entrance
    def run(self, chip: Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Mapping[str, Value]:
        """Add up the die's table."""
        return {
            "worst_noise_to_signal": float(f"{max(chip.mitigations.noise_to_signal().values(), default=0.0):.6g}"),
            "rewritten_cells": chip.mitigations.overhead.reprogrammed_cells,
            "stored_bits": sum(chip.stored_bits().values()),
            "added_operations": float(sum(use.operations for use in chip.digital_overhead())),
        }


@cache
def _card(name: str) -> Hardware:
    """A component card; reading one takes longer than adding up a die."""
    from xbarsim.cost import Hardware

    return Hardware.load(name)


# --------------------------------------------------------------------------------------------- metrics


def _power(chip: Chip) -> float:
    return chip.cost(_card(_DEFAULT_CARD)).power


def _area(chip: Chip) -> float:
    return chip.cost(_card(_DEFAULT_CARD)).area


#: Metrics by name: functions of a chip that give one number. ``power_W`` and ``area_m2`` are those of
#: :meth:`xbarsim.Chip.cost` with its default component card.
METRICS: Mapping[str, Callable[[Chip], float]] = {"power_W": _power, "area_m2": _area}


@dataclass(frozen=True, kw_only=True)
class Metric(Measure):
    """One number by a plain function of a chip: the measure behind each of a task's ``metrics``.

    Attributes
    ----------
    text
        A name in `METRICS`, or ``"module:function"``, which is that of the column too; or ``"column=..."`` of these.

    Raises
    ------
    InputError
        If there is no such function.
    """

    text: str

    def __post_init__(self) -> None:
        check_instance("metrics", self.text, str)
        _ = self.function  # sent along to worker processes, which need not find the module

    @cached_property
    def function(self) -> Callable[[Chip], float]:
        """What the name stands for."""
        place = self.text.partition("=")[2] or self.text
        if ":" in place:
            return named_callable("metrics", place)
        return METRICS[check_choice("metrics", place, METRICS)]

    @property
    def column(self) -> str:
        """What tables and ids call it: so a function can move, and what was measured with it keeps its id."""
        return self.text.partition("=")[0]

    @property
    def name(self) -> str:
        """That of the task's field."""
        return "metrics"

    @property
    def columns(self) -> Mapping[str, type]:
        """One."""
        return {self.column: float}

    def run(self, chip: Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Mapping[str, Value]:
        """Call the function."""
        return {self.column: float(self.function(chip))}


def describe(measures: tuple[Measure, ...]) -> list[dict[str, Any]]:
    """Measures as plain tables, for the identity of a task."""
    return [{"type": type(measure).__name__, **tomlio.to_table(measure)} for measure in measures]
