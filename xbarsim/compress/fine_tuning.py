"""Training a network for one die whose faults are known."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping as MappingType
from dataclasses import dataclass

import torch
from torch import nn

from xbarsim.compress.disturbances import Injection
from xbarsim.compress.hardening import Hardening
from xbarsim.compress.layers import mappable_layers
from xbarsim.design import Design
from xbarsim.devices import FaultMap
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.network.lowering import fold_batch_norm
from xbarsim.training import History, Training, TrainingSet, train

__all__ = ["FineTuned", "fine_tune"]

_SAMPLES = 4  # images that show which layers work on vectors


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuned:
    """A network trained for one die.

    Attributes
    ----------
    model
        The network, in evaluation mode, its batch norms folded: what to write, not what the die computes with.
    history
        What happened in training; validation met the faults too.
    """

    model: nn.Module
    history: History

    def __post_init__(self) -> None:
        check_fields(self)


@entrance
def fine_tune(
    model: nn.Module,
    data: TrainingSet,
    training: Training,
    *,
    design: Design,
    faults: MappingType[str, FaultMap],
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> FineTuned:
    """Train a network around the stuck cells of one die.

    Batch norms are folded, as mapping does. Weights with stuck cells begin at the code that the die reads as the
    nearest to theirs; all are then trained with the faults in place, those that the die reads alike whatever is written
    without a gradient. Mapping the result with the same design and fabricating the same die gives the tuned one::

        network = map_model(model, design, calibration=images)
        tuned = fine_tune(model, data, training, design=design, faults=network.fabricate(seed=1).faults)
        chip = map_model(tuned.model, design, calibration=images).fabricate(seed=1)

    Faults that the map lacks act in full. Converters, wires and read noise take no part.

    Parameters
    ----------
    model
        A trained network; not changed.
    data, training
        What to train on, and how: a few epochs at a low rate.
    design
        Mapping and cell of the die.
    faults
        The die's fault maps by layer name, ``chip.faults`` or what a diagnosis says of them.
    checkpoint
        File from which a run that was cut short goes on.
    progress
        Show progress; ``None`` for only on a terminal.

    Raises
    ------
    InputError
        If a map names no layer or has another shape than its tiles, or the design's cells err in programming or share a
        reference column.

    References
    ----------
    L. Xia et al., Fault-tolerant training with on-line fault detection for RRAM-based neural computing systems, DAC
    2017, doi:10.1145/3061639.3062248; C. Liu et al., Rescuing memristor-based neuromorphic design with high defects,
    DAC 2017, doi:10.1145/3061639.3062310.
    """
    check_instance("data", data, TrainingSet)
    changed = copy.deepcopy(model).eval()
    samples = data.normalise(data.images[:_SAMPLES])

    def run(network: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = network(samples)
        return result

    _, note = fold_batch_norm(changed, run)
    if note:
        raise InputError(f"model must be one whose batch norms can be folded to be trained for a die, but {note}")
    layers = mappable_layers(changed)
    for name in faults:
        if name not in layers:
            raise InputError(f"faults must name layers of model ({', '.join(layers)}), got {name!r}")
    injection = Injection(design=design, faults=faults)
    with torch.no_grad():
        for name in faults:
            layers[name].weight.copy_(injection.nearest(layers[name].weight, layer=name))
    hardening = Hardening(injection=injection, validate_injected=True, layers=tuple(faults))
    history = train(changed, data, training, callbacks=(hardening,), checkpoint=checkpoint, progress=progress)
    hardening.bake()
    return FineTuned(model=changed.eval(), history=history)
