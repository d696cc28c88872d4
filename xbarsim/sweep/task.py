"""What a sweep measures: a frozen description of one point, and the identity that its results are kept under."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarsim.design import Design
from xbarsim.devices import FaultKind, FaultMap
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

if TYPE_CHECKING:
    from xbarsim.network import Chip, MappedNetwork

__all__ = ["COLUMNS", "METRICS", "Mitigation", "ProtectLayers", "Tag", "Task", "Workload", "die_seed"]

#: Number of the answers that the simulator gives: raised when one description gives other results than before, so that
#: old results are measured again instead of mixed with new ones.
ANSWERS = 1

#: Columns of a table of results; a task's tags stand behind ``task``, its metrics at the end.
COLUMNS = (
    "task",
    "network",
    "data_set",
    "encoding",
    "rows",
    "columns",
    "weight_bits",
    "cell_bits",
    "input_bits",
    "dac_bits",
    "adc_bits",
    "cell",
    "mitigation",
    "fault_model",
    "fault_rate_on",
    "fault_rate_off",
    "fault_rate",
    "age",
    "seed",
    "die",
    "die_seed",
    "correct",
    "images",
    "accuracy",
    "seconds",
    "inference_seconds",
    "fault_hash",
    "cells",
    "stuck_on",
    "stuck_off",
    "stuck_at",
)

Tag = str | int | float | bool


def die_seed(root: int, die: int) -> int:
    """The seed of one die of a sweep; it depends on nothing but the root seed and the number of the die.

    Tasks of one root therefore share their dies: two mappings that place a network on tiles of the same shape find the
    same cells broken in the same way, and can be compared die by die.

    Parameters
    ----------
    root
        Root seed of the sweep, >= 0.
    die
        Number of the die, >= 0.

    Examples
    --------
    >>> die_seed(1, 0) == die_seed(1, 0) != die_seed(1, 1)
    True
    """
    check_integer("root", root, at_least=0)
    check_integer("die", die, at_least=0)
    return int(np.random.SeedSequence(root, spawn_key=(die,)).generate_state(1, np.uint64)[0])


# ------------------------------------------------------------------------------------------- workloads


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """A network with the images that calibrate it and those that measure it.

    Attributes
    ----------
    name
        What tables call the network.
    data_set
        What tables call the images.
    model
        The torch network in float32, in evaluation mode.
    images, labels
        What accuracy is measured on: float32 (images, ...) as the network takes them, integers (images,).
    calibration
        Images that set the ranges of activations and converters, as :func:`xbarsim.map_model` takes them.

    Raises
    ------
    InputError
        If the arrays are of the wrong type, or there are not as many labels as images.
    """

    name: str
    data_set: str
    model: Any
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    calibration: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        check_instance("name", self.name, str)
        check_instance("data_set", self.data_set, str)
        for name in ("images", "calibration"):
            array = np.asarray(getattr(self, name))
            if array.dtype.kind != "f" or array.ndim < 2 or array.size == 0:
                raise InputError(f"{name} must be floating numbers, images first, got {array.dtype} of {array.shape}")
            object.__setattr__(self, name, np.ascontiguousarray(array, np.float32))
        labels = np.asarray(self.labels)
        if labels.dtype.kind not in "iu" or labels.shape != self.images.shape[:1]:
            raise InputError(
                f"labels must be integers, one for each of {len(self.images)} images, got {labels.dtype} of "
                f"{labels.shape}"
            )
        object.__setattr__(self, "labels", np.ascontiguousarray(labels, np.int64))

    @cached_property
    def identity(self) -> dict[str, str]:
        """SHA-256 of the network and of each set of images, by what they are: what a task's id is made of."""
        digest = hashlib.sha256()
        for name, module in self.model.named_modules():
            digest.update(f"{name} {type(module).__name__} {module.extra_repr()}\n".encode())
        state = self.model.state_dict()
        for name in sorted(state):
            tensor = state[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.numpy().tobytes())
        found = {"name": self.name, "data_set": self.data_set, "network": digest.hexdigest()}
        for name in ("images", "labels", "calibration"):
            array = getattr(self, name)
            digest = hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode())
            digest.update(array.data)
            found[name] = digest.hexdigest()
        return found

    def part(self, images: int | None, calibration: int | None) -> Workload:
        """The same with only the first images of each kind; ``None`` for all.

        Raises
        ------
        InputError
            If there are not as many.
        """
        if images is not None:
            check_integer("images", images, at_least=1, at_most=len(self.images))
        if calibration is not None:
            check_integer("calibration", calibration, at_least=1, at_most=len(self.calibration))
        return dataclasses.replace(
            self, images=self.images[:images], labels=self.labels[:images], calibration=self.calibration[:calibration]
        )


@lru_cache(maxsize=16)
def _workload(network: str, data_set: str | None, images: int | None, calibration: int) -> Workload:
    """The workload that a task names."""
    if ":" in network:
        made = imported("network", network)()
        check_instance(f"network {network!r}", made, Workload)
        if data_set is not None and data_set != made.data_set:
            raise InputError(f"data_set must be {made.data_set!r} for network {network!r}, got {data_set!r}")
        result: Workload = made.part(images, calibration)
        return result
    from xbarsim.models import DATA_SETS, MODELS, load_images, load_model, load_test_set

    if network not in MODELS:
        names = ", ".join(map(repr, MODELS))
        raise InputError(f"network must be one of {names}, or 'module:function', got {network!r}")
    trained_on = MODELS[network].data_set
    if data_set is not None:
        check_choice("data_set", data_set, DATA_SETS)
    own = next((name for name, title in DATA_SETS.items() if title == trained_on), None)
    if own is None:
        raise InputError(
            f"network must be one trained on {' or '.join(DATA_SETS.values())}, got {network!r} ({trained_on})"
        )
    if data_set not in (None, own):
        raise InputError(f"data_set must be {own!r} for network {network!r}, got {data_set!r}")
    pictures, labels = load_test_set(network, count=images)
    model, _ = load_model(network)
    return Workload(
        name=network,
        data_set=own,
        model=model,
        images=pictures,
        labels=labels,
        calibration=load_images(own, "train", count=calibration)[0],
    )


def imported(parameter: str, name: str) -> Callable[..., Any]:
    """What ``"module:function"`` names.

    Raises
    ------
    InputError
        If there is no such module, or nothing in it that can be called by that name.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{parameter} must name a function as 'module:function', got {name!r}: {error}") from error
    if not callable(found):
        raise InputError(f"{parameter} must name a function as 'module:function', got {name!r}: it cannot be called")
    result: Callable[..., Any] = found
    return result


# ------------------------------------------------------------------------------------------ mitigation


class Mitigation(metaclass=ABCMeta):
    """What is done about a die's faults; subclasses are frozen dataclasses of plain values.

    A subclass of your own must stand in a module that the worker processes can import. Its name and its fields are
    part of the task's identity.
    """

    @abstractmethod
    def fabricate(self, network: MappedNetwork, seed: int) -> Chip:
        """Make one die.

        Parameters
        ----------
        network
            The mapped network, whose design holds the fault model.
        seed
            The die's seed, for :meth:`xbarsim.network.MappedNetwork.fabricate`.
        """


@dataclass(frozen=True, kw_only=True)
class ProtectLayers(Mitigation):
    """Cells of some layers never break, as if they were built with redundancy enough; the others break as ever.

    With `rest`, all layers but the named are protected: the loss that is left is what the named ones cost, which is how
    the sensitivity of a layer is measured.

    Attributes
    ----------
    layers
        Names of layers, as in ``network.layers``.
    rest
        Protect all others instead.
    """

    layers: tuple[str, ...]
    rest: bool = False

    def __post_init__(self) -> None:
        check_instance("layers", self.layers, tuple)
        for index, name in enumerate(self.layers):
            check_instance(f"layers[{index}]", name, str)
        check_instance("rest", self.rest, bool)

    def fabricate(self, network: MappedNetwork, seed: int) -> Chip:
        """Make one die whose protected layers have no faults.

        Raises
        ------
        InputError
            If a name is no mapped layer.
        """
        for name in self.layers:
            check_choice("layers", name, network.layers)
        whole = [name for name in network.layers if (name in self.layers) != self.rest]
        return network.fabricate(
            seed, faults={name: FaultMap.empty(network.layers[name].matrix.levels.shape) for name in whole}
        )


# --------------------------------------------------------------------------------------------- metrics


def _power(chip: Chip) -> float:
    return chip.cost().power


def _area(chip: Chip) -> float:
    return chip.cost().area


#: What can be measured on a die besides its accuracy: a function of the chip that gives a number. ``power_W`` and
#: ``area_m2`` are those of :meth:`xbarsim.Chip.cost` with its default component card.
METRICS: Mapping[str, Callable[[Chip], float]] = {"power_W": _power, "area_m2": _area}


def metric(name: str) -> Callable[[Chip], float]:
    """A metric by its name in `METRICS`, as ``"module:function"`` or as ``"column=module:function"``.

    Raises
    ------
    InputError
        If there is none.
    """
    place = name.partition("=")[2] or name
    if ":" in place:
        return imported("metrics", place)
    return METRICS[check_choice("metrics", place, METRICS)]


def metric_column(name: str) -> str:
    """What tables and ids call a metric: the part before ``=``, or all of it.

    So a function can move to another module, and what was measured with it keeps its id.
    """
    return name.partition("=")[0]


# ------------------------------------------------------------------------------------------------ task


def _canonical(value: Any) -> Any:
    """A value such that equal ones give equal JSON: 1.0 is 1, keys are strings."""
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _encode(value: Any) -> str:
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One point of a sweep: what to measure on each of its dies.

    Parameters
    ----------
    network
        A name in :data:`xbarsim.models.MODELS`, ``"module:function"`` for a function that returns a
        :class:`Workload`, or a :class:`Workload`.
    design
        The accelerator, with its fault model.
    data_set
        ``"digits"`` or ``"cifar10"``, to be sure; ``None`` for the network's own.
    images
        How many test images, from the first; ``None`` for all.
    calibration
        How many training images set the ranges, from the first.
    mitigation
        What is done about faults, or ``None``.
    age
        How old the dies are, s: how long their cells have drifted, see :meth:`xbarsim.Chip.at`.
    metrics
        What to measure besides accuracy: names in `METRICS`, or ``"module:function"`` for a function of a chip that
        returns a number, or ``"column=module:function"`` for one that tables and the id call otherwise.
    seed
        Root of the dies' seeds, see :func:`die_seed`. Tasks of one root share their dies.
    tags
        Free columns of the table, by name; no part of the id.

    Raises
    ------
    InputError
        If a value is of the wrong type or out of its bound, or a tag is called like a column of results.
    """

    network: str | Workload
    design: Design
    data_set: str | None = None
    images: int | None = None
    calibration: int = 128
    mitigation: Mitigation | None = None
    age: float = 0.0
    metrics: tuple[str, ...] = ()
    seed: int = 1
    tags: Mapping[str, Tag] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_instance("network", self.network, (str, Workload))
        check_instance("design", self.design, Design)
        check_instance("data_set", self.data_set, (str, type(None)))
        if self.images is not None:
            check_integer("images", self.images, at_least=1)
        check_integer("calibration", self.calibration, at_least=1)
        check_instance("mitigation", self.mitigation, (Mitigation, type(None)))
        object.__setattr__(self, "age", check_real("age", self.age, at_least=0.0))
        check_instance("metrics", self.metrics, tuple)
        for name in self.metrics:
            check_instance("metrics", name, str)
            if metric_column(name) in COLUMNS:
                raise InputError(f"metrics must not be called like a column of results, got {name!r}")
            metric(name)
        object.__setattr__(self, "metrics", tuple(sorted(set(self.metrics))))
        columns = [metric_column(name) for name in self.metrics]
        if len(set(columns)) < len(columns):
            raise InputError(f"metrics must have columns of their own, got {', '.join(self.metrics)}")
        check_integer("seed", self.seed, at_least=0)
        check_instance("tags", self.tags, Mapping)
        for name, value in self.tags.items():
            if not isinstance(name, str) or not name or name in COLUMNS or name in columns:
                raise InputError(f"tags must not be called like a column of results, got {name!r}")
            check_instance(f"tags[{name!r}]", value, (str, int, float, bool))
        object.__setattr__(self, "tags", dict(self.tags))

    @property
    def workload(self) -> Workload:
        """The network and its images, loaded."""
        if isinstance(self.network, Workload):
            return self._own
        return _workload(self.network, self.data_set, self.images, self.calibration)

    @cached_property
    def _own(self) -> Workload:
        assert isinstance(self.network, Workload)
        if self.data_set not in (None, self.network.data_set):
            raise InputError(f"data_set must be {self.network.data_set!r} for this network, got {self.data_set!r}")
        return self.network.part(self.images, min(self.calibration, len(self.network.calibration)))

    @cached_property
    def description(self) -> str:
        """Everything that changes the answer, as canonical JSON: what the id is the hash of.

        The network and the images stand in it by their SHA-256; names of device cards, which change no answer, do not
        stand in it, nor do tags.
        """
        design = tomlio.to_table(self.design)
        for name in ("name", "source"):
            design["cell"].pop(name, None)
        return _encode(
            {
                "answers": ANSWERS,
                "workload": self.workload.identity,
                "design": design,
                "mitigation": None if self.mitigation is None else tomlio.to_table(self.mitigation),
                "age": self.age,
                "metrics": sorted(map(metric_column, self.metrics)),
                "seed": self.seed,
            }
        )

    @cached_property
    def id(self) -> str:
        """SHA-256 of `description`, as hexadecimal digits."""
        return hashlib.sha256(self.description.encode()).hexdigest()

    @cached_property
    def mapping_key(self) -> str:
        """The same for all tasks that share a mapped network: they differ in faults, mitigation, seed or metrics."""
        content = {"workload": self.workload.identity, "design": tomlio.to_table(self.design.replace(faults=None))}
        return hashlib.sha256(_encode(content).encode()).hexdigest()

    def columns(self) -> dict[str, Any]:
        """Its columns in a table of results, but for those of each die."""
        design, faults = self.design, self.design.faults
        rates = {} if faults is None else faults.rates
        return {
            "task": self.id,
            **self.tags,
            "network": self.workload.name,
            "data_set": self.workload.data_set,
            "encoding": type(design.mapping.encoding).__name__,
            "rows": design.mapping.rows,
            "columns": design.mapping.columns,
            "weight_bits": design.mapping.weight_bits,
            "cell_bits": design.mapping.cell_bits,
            "input_bits": design.periphery.input_bits,
            "dac_bits": design.periphery.dac_bits,
            "adc_bits": design.periphery.adc_bits,
            "cell": design.cell.name,
            "mitigation": "" if self.mitigation is None else _short(self.mitigation),
            "fault_model": "" if faults is None else type(faults).__name__,
            "fault_rate_on": float(rates.get(FaultKind.STUCK_ON, 0.0)),
            "fault_rate_off": float(rates.get(FaultKind.STUCK_OFF, 0.0)),
            # rounded, so that both polarities of one rate stand under one number
            "fault_rate": float(f"{math.fsum(rates.values()):.12g}"),
            "age": self.age,
            "seed": self.seed,
        }

    def map(self) -> MappedNetwork:
        """The network placed on crossbars: what all its dies are made of."""
        from xbarsim.network import map_model

        network = map_model(
            self.workload.model, self.design.replace(faults=None), calibration=self.workload.calibration
        )
        return network.with_faults(self.design.faults)

    def fabricate(self, die: int, *, network: MappedNetwork | None = None) -> Chip:
        """Make one die of the sweep, to look at.

        Parameters
        ----------
        die
            Its number.
        network
            What :meth:`map` gave, where it is at hand.
        """
        return make_die(self.map() if network is None else network, die_seed(self.seed, die), self.mitigation, self.age)

    def __str__(self) -> str:
        columns = self.columns()
        parts = [f"{name}={value}" for name, value in self.tags.items()]
        if not parts:
            parts = [str(columns["network"]), str(columns["encoding"])]
        return " ".join([*parts, f"rate={columns['fault_rate']:g}"])


def make_die(network: MappedNetwork, seed: int, mitigation: Mitigation | None, age: float) -> Chip:
    """One die of a network, with what is done about its faults, at its age."""
    chip = network.fabricate(seed) if mitigation is None else mitigation.fabricate(network, seed)
    return chip.at(age) if age else chip


def _short(mitigation: Mitigation) -> str:
    table = tomlio.to_table(mitigation)
    kind = table.pop("type", type(mitigation).__name__)
    return f"{kind}({', '.join(f'{name}={value}' for name, value in table.items())})"
