"""What a measure of a sweep promises."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell, StuckFaults
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_integer
from xbarsim.mapping import Mapping
from xbarsim.network import map_model
from xbarsim.sweep import COLUMNS, Accuracy, Measure, Subject, Task
from xbarsim.sweep.measures import COUNTS
from xbarsim.testing.promises import call, check_value, promise

__all__ = ["check_measure"]

_DESIGN = Design(
    cell=Cell(g_min=1e-6, g_max=1e-5, levels=16, read_voltage=0.2),
    mapping=Mapping(rows=32, columns=32),
    periphery=Periphery(adc_bits=6),
    faults=StuckFaults(on=0.05, off=0.05),
)


def _subject(seed: int) -> Subject:
    """Two linear layers with random weights, and images that they classify as they like."""
    rng = np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(0, 0.5, tuple(parameter.shape)).astype(np.float32)))
    images = rng.random((40, 16)).astype(np.float32)
    labels = rng.integers(0, 5, 40)
    return Subject(name="check", data_set="noise", model=model, images=images, labels=labels, calibration=images)


@entrance
def check_measure(measure: Measure, *, seed: int = 0) -> None:
    """Check that a measure keeps the promises of :class:`xbarsim.sweep.Measure`.

    It must be a frozen dataclass with an exact TOML round trip; name its columns and their types, none of which is one
    of every table; give values of these types, the same for the same die however often and in whatever order it is
    measured; and be part of the identity of a task.

    Parameters
    ----------
    measure
        The measure, with the fields it shall be tested with; tried on a network of two layers named 0 and 2.
    seed
        Of the network and its dies, >= 0.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    """
    check_instance("measure", measure, Measure)
    check_integer("seed", seed, at_least=0)
    check_value(measure, Measure)
    columns = dict(call("naming the columns", lambda: measure.columns))
    promise(columns, "a measure must add a column", "it adds none")
    for name, kind in columns.items():
        promise(isinstance(name, str) and name, "a column must have a name", repr(name))
        promise(kind in (int, float, str), "values must be int, float or str", f"{kind!r} for {name!r}")
        promise(name not in COLUMNS or name in COUNTS, "a column must not be one of every table", repr(name))
    subject = _subject(seed)
    network = map_model(subject.model, _DESIGN, calibration=subject.calibration)

    def values(die: int) -> dict[str, object]:
        chip = network.fabricate(seed=die)
        measured = call("measuring a die", measure.checked, chip, subject.images, subject.labels)
        return {name: value for name, value in measured.items() if "seconds" not in name}

    first, other, again = values(seed), values(seed + 1), values(seed)
    promise(again == first, "a die must give one answer however often it is measured", f"{first}, then {again}")
    promise(other.keys() == first.keys(), "every die must give the same columns", f"{first}, but {other}")
    task, plain = (Task(network=subject, design=_DESIGN, measures=measures) for measures in ((measure,), (Accuracy(),)))
    promise(
        (task.id == plain.id) == (measure == Accuracy()),
        "a measure must be part of the identity of a task",
        f"the id is {task.id} with it and without",
    )
