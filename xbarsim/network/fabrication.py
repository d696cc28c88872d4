"""The arrays of one die, before anything runs on them: drawn, repaired, and ready to be programmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from xbarsim.devices import FaultMap
from xbarsim.die import DieLayer, Silicon
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.mitigation import Diagnosis, Mitigation, MitigationTable, OutputAdjustment, mitigate
from xbarsim.network.placed import MappedLayer, PlacedNetwork

__all__ = ["Fabricated", "check_fault_maps", "fabricate_layer"]


class Fabricated(NamedTuple):
    """What was made of a die already.

    Attributes
    ----------
    layers
        By name; of any age.
    mitigations
        What mitigations did to them.
    adjustments
        What is made of the outputs of each layer.
    """

    layers: Mapping[str, DieLayer]
    mitigations: MitigationTable
    adjustments: Mapping[str, OutputAdjustment]


def fabricate_layer(
    network: PlacedNetwork,
    name: str,
    *,
    seed: int,
    seconds: float = 0.0,
    faults: FaultMap | None = None,
    mitigations: Sequence[Mitigation] = (),
    diagnosis: Diagnosis | None = None,
) -> tuple[DieLayer, MitigationTable]:
    """One layer of one die: draw what is broken, let mitigations work on it, and say what is programmed.

    Parameters
    ----------
    network
        Gives the layer, its number and the accelerator.
    name
        Of the layer.
    seed
        Root of every random draw of the die.
    seconds
        Age of the die, s.
    faults
        A fault map, used instead of the design's fault model.
    mitigations, diagnosis
        What is done about its faults, and what is known of them.
    """
    mapped: MappedLayer = network.layers[name]
    design, index = network.design, list(network.layers).index(name)
    silicon = Silicon.draw(
        design,
        mapped.reading,
        mapped.converter,
        seed=seed,
        index=index,
        faults=faults,
        spare_rows=mapped.spare_rows,
        spare_columns=mapped.spare_columns,
    )
    done = mitigate(
        name,
        mapped.matrix,
        silicon,
        design,
        mitigations,
        diagnosis,
        seed=seed,
        index=index,
        input_power=mapped.mean_square_input,
        weight_scale=np.tile(mapped.layer.weight_scale, mapped.copies),
        copies=mapped.copies,
    )
    die_layer = DieLayer(
        name=name,
        reading=mapped.reading,
        drive=mapped.drive,
        converter=mapped.converter,
        design=design,
        silicon=done.silicon,
        seed=seed,
        index=index,
        seconds=seconds,
        levels=done.levels,
        arrangement=done.arrangement,
        copies=mapped.copies,
        copy_weights=done.copy_weights,
        correction=done.correction,
    )
    return die_layer, MitigationTable(done.done)


def check_fault_maps(layers: Mapping[str, MappedLayer], faults: Mapping[str, FaultMap] | None) -> dict[str, FaultMap]:
    """Fault maps by layer name, refused unless they fit the network."""
    check_instance("faults", faults, (Mapping, type(None)))
    given = dict(faults or {})
    for name, fault_map in given.items():
        if name not in layers:
            raise InputError(f"faults must name mapped layers ({', '.join(layers)}), got {name!r}")
        check_instance(f"faults[{name!r}]", fault_map, FaultMap)
        wanted = layers[name].arrays_shape
        if fault_map.shape != wanted:
            raise InputError(f"faults[{name!r}] must have shape {wanted}, got {fault_map.shape}")
    return given
