"""One point of a sweep: a frozen description, and the identity that its results are kept under."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from xbarsim.design import Design
from xbarsim.devices import FaultKind
from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real
from xbarsim.mitigation import Diagnosis, Mitigation, check_mitigations
from xbarsim.sweep.identity import remembered
from xbarsim.sweep.measures import COUNTS, Accuracy, Measure, Metric, describe
from xbarsim.sweep.subject import Subject, load_subject

if TYPE_CHECKING:
    from xbarsim.network import Chip, MappedNetwork

__all__ = ["COLUMNS", "Tag", "Task", "die_seed"]

#: Number of the answers that the simulator gives: raised when one description gives other results than before, so that
#: old results are measured again instead of mixed with new ones.
ANSWERS = 1

#: Columns of a table of results; a task's tags stand behind ``task``, what else its measures add at the end.
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


@entrance
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
        A name in :data:`xbarsim.models.MODELS`; ``"module:function"`` or ``"file.py:function"`` for a function that
        returns a :class:`Subject`; the path of an ONNX file, ``"net.onnx"``; or a :class:`Subject`.
    design
        The accelerator, with its fault model.
    data_set
        ``"digits"``, ``"cifar10"`` or ``"mnist"``, to be sure; ``None`` for the network's own. For an ONNX file what it
        is measured on: one of these, or the path of an ``.npz`` file with the arrays ``images``, ``labels`` and
        ``calibration``.
    images
        How many test images, from the first; ``None`` for all.
    calibration
        How many training images set the ranges, from the first.
    mitigations
        What is done about faults, one after another; see :mod:`xbarsim.mitigation`. Those that need images get those of
        the calibration.
    diagnosis
        What a test finds out about the faults of each die; needed by mitigations that need a map of them.
    age
        How old the dies are, s: how long their cells have drifted, see :meth:`xbarsim.Chip.at`.
    measures
        What to measure on each die, see :class:`Measure`. At most one may count images, as :class:`Accuracy` does;
        without one, no accuracy is known, and only a number of dies can be the stop rule.
    metrics
        Numbers to measure besides: names in `METRICS`, or ``"module:function"`` for a function of a chip that returns
        a number, or ``"column=module:function"`` for one that tables and the id call otherwise.
    seed
        Root of the dies' seeds, see :func:`die_seed`. Tasks of one root share their dies.
    seeds
        Seeds of the dies themselves, to measure dies that are known by them; ``None`` for those of the root.
    tags
        Free columns of the table, by name; no part of the id.

    Raises
    ------
    InputError
        If a value is of the wrong type or out of its bound, a tag is called like a column of results, or two measures
        add the same column.
    """

    network: str | Subject
    design: Design
    data_set: str | None = None
    images: int | None = None
    calibration: int = 128
    mitigations: tuple[Mitigation, ...] = ()
    diagnosis: Diagnosis | None = None
    age: float = 0.0
    measures: tuple[Measure, ...] = (Accuracy(),)
    metrics: tuple[str, ...] = ()
    seed: int = 1
    seeds: tuple[int, ...] | None = None
    tags: Mapping[str, Tag] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_instance("network", self.network, (str, Subject))
        check_instance("design", self.design, Design)
        check_instance("data_set", self.data_set, (str, type(None)))
        if self.images is not None:
            check_integer("images", self.images, at_least=1)
        check_integer("calibration", self.calibration, at_least=1)
        check_instance("mitigations", self.mitigations, tuple)
        check_mitigations(self.mitigations, self.diagnosis)
        object.__setattr__(self, "age", check_real("age", self.age, at_least=0.0))
        check_instance("measures", self.measures, tuple)
        for index, measure in enumerate(self.measures):
            check_instance(f"measures[{index}]", measure, Measure)
        check_instance("metrics", self.metrics, tuple)
        for name in self.metrics:
            check_instance("metrics", name, str)
            if Metric(text=name).column in COLUMNS:
                raise InputError(f"metrics must not be called like a column of results, got {name!r}")
        object.__setattr__(self, "metrics", tuple(sorted(set(self.metrics))))
        columns = [Metric(text=name).column for name in self.metrics]
        if len(set(columns)) < len(columns):
            raise InputError(f"metrics must have columns of their own, got {', '.join(self.metrics)}")
        added = self._check_columns()
        check_integer("seed", self.seed, at_least=0)
        check_instance("seeds", self.seeds, (tuple, type(None)))
        for index, seed in enumerate(self.seeds or ()):
            check_integer(f"seeds[{index}]", seed, at_least=0)
        check_instance("tags", self.tags, Mapping)
        for name, value in self.tags.items():
            if not isinstance(name, str) or not name or name in COLUMNS or name in added:
                raise InputError(f"tags must not be called like a column of results, got {name!r}")
            check_instance(f"tags[{name!r}]", value, (str, int, float, bool))
        object.__setattr__(self, "tags", dict(self.tags))

    def _check_columns(self) -> set[str]:
        """Names of the columns that its measures add; no two may add the same."""
        if not self.every_measure:
            raise InputError("measures must be at least one measure, got none")
        added: set[str] = set()
        for measure in self.every_measure:
            for name in measure.columns:
                if name in added:
                    raise InputError(f"measures must not add column {name!r} twice, got {measure.name} besides another")
                if name in COLUMNS and name not in COUNTS:
                    raise InputError(f"measures must not add a column of every task, got {name!r} of {measure.name}")
                added.add(name)
        return added

    @cached_property
    def every_measure(self) -> tuple[Measure, ...]:
        """Its measures, and one for each of its metrics."""
        return (*self.measures, *(Metric(text=name) for name in self.metrics))

    @property
    def counts(self) -> bool:
        """Whether one of its measures counts images, so that there is an accuracy."""
        return any("correct" in measure.columns for measure in self.measures)

    @property
    def subject(self) -> Subject:
        """The network and its images, loaded."""
        if isinstance(self.network, Subject):
            return self._own
        return load_subject(self.network, self.data_set, self.images, self.calibration)

    @cached_property
    def identity(self) -> dict[str, str]:
        """Of the network and its images, as :attr:`Subject.identity`; loaded only where it is not known."""
        if isinstance(self.network, Subject):
            return self._own.identity
        return remembered(self.network, self.data_set, self.images, self.calibration, lambda: self.subject.identity)

    @cached_property
    def _own(self) -> Subject:
        assert isinstance(self.network, Subject)
        if self.data_set not in (None, self.network.data_set):
            raise InputError(f"data_set must be {self.network.data_set!r} for this network, got {self.data_set!r}")
        return self.network.part(self.images, min(self.calibration, len(self.network.calibration)))

    @cached_property
    def description(self) -> str:
        """Everything that changes the answer, as canonical JSON: what the id is the hash of.

        The network and the images stand in it by their SHA-256; names of device cards and what allows implausible
        ones, which change no answer, do not stand in it, nor do tags.
        """
        design = tomlio.to_table(self.design)
        for name in ("name", "source", "implausible"):
            design["cell"].pop(name, None)
        content: dict[str, Any] = {
            "answers": ANSWERS,
            "workload": self.identity,  # the name of the key is part of every id there is
            "design": design,
            "mitigation": tomlio.to_table(self.mitigations[0]) if self.mitigations else None,
            "age": self.age,
            "metrics": sorted(Metric(text=name).column for name in self.metrics),
            "seed": self.seed,
        }
        # said only where they differ from what they were before they could be chosen
        if len(self.mitigations) > 1 or self.diagnosis is not None:
            content["mitigation"] = [
                {"type": type(method).__name__, **tomlio.to_table(method)} for method in self.mitigations
            ]
            content["diagnosis"] = None if self.diagnosis is None else tomlio.to_table(self.diagnosis)
        if self.design.periphery.columns_per_adc is None:
            design["periphery"]["columns_per_adc"] = 1
        else:
            content["converters"] = "as designed"
        if not self.design.periphery.skip_idle:
            del design["periphery"]["skip_idle"]
        if self.design.wires is not None and self.design.cell.noisy:
            content["noise"] = "through wires"
        if self.measures != (Accuracy(),):
            content["measures"] = sorted(describe(self.measures), key=_encode)
        if self.seeds is not None:
            content["seeds"] = list(self.seeds)
        return _encode(content)

    @cached_property
    def id(self) -> str:
        """SHA-256 of `description`, as hexadecimal digits."""
        return hashlib.sha256(self.description.encode()).hexdigest()

    @cached_property
    def mapping_key(self) -> str:
        """The same for all tasks that share a mapped network: they differ in faults, mitigation, seed or metrics."""
        content = {"workload": self.identity, "design": tomlio.to_table(self.design.replace(faults=None))}
        return hashlib.sha256(_encode(content).encode()).hexdigest()

    def columns(self) -> dict[str, Any]:
        """Its columns in a table of results, but for those of each die."""
        design, faults = self.design, self.design.faults
        rates = {} if faults is None else faults.rates
        return {
            "task": self.id,
            **self.tags,
            "network": self.identity["name"],
            "data_set": self.identity["data_set"],
            "encoding": type(design.mapping.encoding).__name__,
            "rows": design.mapping.rows,
            "columns": design.mapping.columns,
            "weight_bits": design.mapping.weight_bits,
            "cell_bits": design.mapping.cell_bits,
            "input_bits": design.periphery.input_bits,
            "dac_bits": design.periphery.dac_bits,
            "adc_bits": design.periphery.adc_bits,
            "cell": design.cell.name,
            "mitigation": " + ".join(_short(method) for method in self.mitigations),
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
        return self.subject.map(self.design.replace(faults=None)).with_faults(self.design.faults)

    @entrance
    def fabricate(self, die: int, *, network: MappedNetwork | None = None) -> Chip:
        """Make one die of the sweep, to look at.

        Parameters
        ----------
        die
            Its number.
        network
            What :meth:`map` gave, where it is at hand.
        """
        network = self.map() if network is None else network
        return make_die(
            network, self.die_seed(die), self.mitigations, self.diagnosis, self.age, images=self.subject.calibration
        )

    @entrance
    def die_seed(self, die: int) -> int:
        """The seed of one of its dies.

        Raises
        ------
        InputError
            If it has `seeds`, and not as many.
        """
        return seed_of(die, self.seed, self.seeds)

    def __str__(self) -> str:
        columns = self.columns()
        parts = [f"{name}={value}" for name, value in self.tags.items()]
        if not parts:
            parts = [str(columns["network"]), str(columns["encoding"])]
        return " ".join([*parts, f"rate={columns['fault_rate']:g}"])


def seed_of(die: int, root: int, seeds: tuple[int, ...] | None) -> int:
    """The seed of a die, by its number, of a root or from a list."""
    if seeds is None:
        return die_seed(root, die)
    return seeds[check_integer("die", die, at_least=0, at_most=len(seeds) - 1)]


def make_die(
    network: MappedNetwork,
    seed: int,
    mitigations: tuple[Mitigation, ...],
    diagnosis: Diagnosis | None,
    age: float,
    *,
    images: Any,
) -> Chip:
    """One die of a network, with what is done about its faults, at its age; `images` for mitigations that need some."""
    chip = network.fabricate(seed, mitigations=mitigations, diagnosis=diagnosis, images=images)
    return chip.at(age) if age else chip


def fault_hash(chip: Chip) -> str:
    """SHA-256 over the fault maps and the broken lines of all layers of a die, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name, faults in chip.faults.items():
        digest.update(f"{name} {faults.hash}\n".encode())
        lines = chip.layers[name].silicon.lines
        if lines is not None:
            for broken in (lines.open_word_lines, lines.open_bit_lines, lines.shorted_bit_lines):
                digest.update(np.packbits(broken).tobytes())
    return digest.hexdigest()


def _short(mitigation: Mitigation) -> str:
    table = tomlio.to_table(mitigation)
    kind = table.pop("type", type(mitigation).__name__)
    return f"{kind}({', '.join(f'{name}={value}' for name, value in table.items())})"
