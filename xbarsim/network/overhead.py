"""What mitigations add to the cost of a die: bits stored, digital operations, and what is done once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from xbarsim.cost import DigitalUse
from xbarsim.die import DieLayer
from xbarsim.mitigation import Diagnosis, Mitigation, MitigationTable, OutputAdjustment
from xbarsim.network.placed import MappedLayer

__all__ = ["digital_overhead", "once_for_a_die", "stored_bits"]

_ADJUSTMENT_BITS = 16  # of a gain or an offset


def stored_bits(table: MitigationTable, adjustments: Mapping[str, OutputAdjustment]) -> dict[str, int]:
    """What is stored for each layer: tables and switches of tiles, and a gain and an offset for each output.

    Parameters
    ----------
    table
        What mitigations did.
    adjustments
        What is made of the outputs of layers, by name.
    """
    bits: dict[str, int] = {}
    for tile in table.tiles:
        bits[tile.layer] = bits.get(tile.layer, 0) + tile.overhead.configuration_bits
    for name, adjustment in adjustments.items():
        bits[name] = bits.get(name, 0) + 2 * _ADJUSTMENT_BITS * len(adjustment.gain)
    return bits


def digital_overhead(layers: Mapping[str, DieLayer], mapped: Mapping[str, MappedLayer]) -> Iterator[DigitalUse]:
    """What is added digitally, and what it takes to average copies, for one image.

    Parameters
    ----------
    layers, mapped
        The layers of the die and of its network, by name.
    """
    for name, layer in layers.items():
        vectors = mapped[name].vectors_per_image
        outputs = layer.matrix.shape[1] // layer.copies
        corrected = 0 if layer.correction is None else len(layer.correction.values)
        if layer.copies > 1 or corrected:
            yield DigitalUse(
                name=name,
                kind="mitigation",
                multiply_accumulates=corrected * vectors,
                elementwise=(layer.copies - 1) * outputs * vectors,
            )


def once_for_a_die(
    table: MitigationTable,
    mitigations: Sequence[Mitigation],
    diagnosis: Diagnosis | None,
    mapped: Mapping[str, MappedLayer],
) -> list[str]:
    """Remarks on what is done once for a die before it is used, and so is in no number of its cost.

    Parameters
    ----------
    table
        What mitigations did.
    mitigations, diagnosis
        The methods, and the test of the die.
    mapped
        The layers of its network.
    """
    remarks = []
    if diagnosis is not None and any(method.needs == "map" for method in mitigations):
        cells = sum(math.prod(layer.arrays_shape) for layer in mapped.values())
        time, energy = diagnosis.time(cells), diagnosis.energy(cells)
        takes = "a time that is not known" if time is None else f"{time:.3g} s, array after array,"
        draws = "an energy that is not known" if energy is None else f"{energy:.3g} J"
        remarks.append(
            f"once for a die, in no number here: to test its {cells:,} cells takes {takes} and {draws}; "
            f"{table.overhead.reprogrammed_cells:,} cells are written to other levels than those of the mapping"
        )
    if any(method.needs == "images" for method in mitigations):
        remarks.append("once for a die, in no number here: images are run through it to adjust its outputs")
    return remarks
