"""Dies in files: what is broken as it was drawn, what was programmed, and a sum over what the cells hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.design import Design
from xbarsim.devices import BrokenLines, FaultMap
from xbarsim.die import Converters, DieLayer, Drivers, Silicon, WeightCorrection, check_age
from xbarsim.foundation.validation import FileFormatError, check_integer
from xbarsim.mapping import Arrangement
from xbarsim.mitigation import Diagnosis, Mitigation, OutputAdjustment, TileMitigation, check_mitigations
from xbarsim.network.files.contents import Contents, digest
from xbarsim.network.files.layers import placement_digest
from xbarsim.network.layers import ClippedInputs
from xbarsim.network.placed import MappedLayer

__all__ = ["DieLayerRecord", "DieRecord", "read_adjustments", "read_die", "read_given", "write_die"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class DieLayerRecord:
    """What is said of a layer of a die.

    Attributes
    ----------
    name
        Of the layer.
    placement, cells
        The sha256 of where its weights stand, and of what its cells hold at the age of the die.
    note
        Of its fault map.
    given_note
        Of the fault map that was given for it; ``None`` where none was.
    clipped, inputs
        Inputs so far, and how many of them were clipped.
    moved, corrected, chosen, adjusted
        Whether mitigations moved its lines, correct weights digitally, chose among copies, and adjust its outputs.
    """

    name: str
    placement: str
    cells: str
    note: str
    given_note: str | None = None
    clipped: int = 0
    inputs: int = 0
    moved: bool = False
    corrected: bool = False
    chosen: bool = False
    adjusted: bool = False


@dataclass(frozen=True, kw_only=True)
class DieRecord:
    """What is said of a die; `next_sample` is the number of the next sample that it is given, the rest as there."""

    seed: int
    seconds: float
    precision: Literal["single", "double"]
    mitigations: tuple[Mitigation, ...]
    diagnosis: Diagnosis | None = None
    layers: tuple[DieLayerRecord, ...]
    done: tuple[TileMitigation, ...]
    next_sample: int


def write_die(
    layers: Mapping[str, DieLayer],
    given: Mapping[str, FaultMap],
    *,
    seed: int,
    seconds: float,
    precision: Literal["single", "double"],
    mitigations: Sequence[Mitigation],
    diagnosis: Diagnosis | None,
    done: Sequence[TileMitigation],
    next_sample: int,
    clipped: Mapping[str, ClippedInputs],
    adjustments: Mapping[str, OutputAdjustment] = MappingProxyType({}),
) -> tuple[DieRecord, dict[str, Array]]:
    """A die as its record and arrays.

    Parameters
    ----------
    layers
        By name.
    given
        Fault maps that were given for some of them.
    seed, seconds, precision, mitigations, diagnosis
        Of the die.
    done
        What the mitigations did.
    next_sample
        Number of the next sample.
    clipped
        Inputs of each layer so far.
    adjustments
        What is made of the outputs of layers.
    """
    arrays: dict[str, Array] = {}
    records = []
    for name, layer in layers.items():
        prefix = f"die.{layer.index}."
        arrays |= _write_silicon(layer.silicon, prefix)
        if layer.levels is not None:
            arrays[f"{prefix}levels"] = layer.levels
        arrays |= _write_mitigated(layer, prefix)
        if name in adjustments:
            arrays |= {f"{prefix}adjustment.{part}": getattr(adjustments[name], part) for part in ("gain", "offset")}
        if name in given:
            arrays |= _write_faults(given[name], f"{prefix}given.")
        records.append(
            DieLayerRecord(
                name=name,
                placement=placement_digest(layer.matrix),
                cells=digest(layer.cells()),
                note=layer.faults.note,
                given_note=given[name].note if name in given else None,
                clipped=clipped[name].clipped,
                inputs=clipped[name].inputs,
                moved=layer.arrangement is not None,
                corrected=layer.correction is not None,
                chosen=layer.copy_weights is not None,
                adjusted=name in adjustments,
            )
        )
    record = DieRecord(
        seed=seed,
        seconds=seconds,
        precision=precision,
        mitigations=tuple(mitigations),
        diagnosis=diagnosis,
        layers=tuple(records),
        done=tuple(done),
        next_sample=next_sample,
    )
    return record, arrays


def read_given(record: DieRecord, contents: Contents, layers: Mapping[str, MappedLayer]) -> dict[str, FaultMap]:
    """The fault maps that were given for some layers of a die.

    Parameters
    ----------
    record, contents
        Of the file.
    layers
        Of the network as its mitigations prepared it.

    Raises
    ------
    FileFormatError, InputError
        If a map does not fit its layer.
    """
    return {
        each.name: _read_faults(contents, f"die.{index}.given.", layers[each.name].arrays_shape, each.given_note)
        for index, each in enumerate(record.layers)
        if each.given_note is not None and each.name in layers
    }


def read_adjustments(
    record: DieRecord, contents: Contents, layers: Mapping[str, MappedLayer]
) -> dict[str, OutputAdjustment]:
    """What is made of the outputs of some layers of a die; parameters and errors as :func:`read_given`."""
    result = {}
    for index, each in enumerate(record.layers):
        if each.adjusted and each.name in layers:
            shape = (len(layers[each.name].layer.weight_scale),)
            gain, offset = (
                contents.take(f"die.{index}.adjustment.{part}", np.float64, shape) for part in ("gain", "offset")
            )
            result[each.name] = OutputAdjustment(gain=gain, offset=offset)
    return result


def read_die(
    record: DieRecord, contents: Contents, layers: Mapping[str, MappedLayer], design: Design
) -> dict[str, DieLayer]:
    """The layers of a die.

    Parameters
    ----------
    record, contents
        Of the file.
    layers, design
        Of the network as its mitigations prepared it.

    Raises
    ------
    FileFormatError, InputError
        If something in it is out of its bound or does not fit the network, or if the cells do not hold what they held.
    """
    check_integer("seed", record.seed, at_least=0)
    check_integer("next_sample", record.next_sample, at_least=0)
    check_age(design.cell, record.seconds)
    check_mitigations(record.mitigations, record.diagnosis)
    if [each.name for each in record.layers] != list(layers):
        raise FileFormatError("the layers of the die must be those of the network")
    for tile in record.done:
        if tile.layer not in layers or not 0 <= tile.tile < layers[tile.layer].matrix.tiles:
            raise FileFormatError(f"mitigations must be of tiles of the die, got tile {tile.tile} of {tile.layer!r}")
    return {
        each.name: _read_layer(each, record, index, contents, layers[each.name], design)
        for index, each in enumerate(record.layers)
    }


def _read_layer(
    record: DieLayerRecord, die: DieRecord, index: int, contents: Contents, mapped: MappedLayer, design: Design
) -> DieLayer:
    prefix, where = f"die.{index}.", f"layer {record.name!r} of the die"
    check_integer(f"{where}: inputs", record.inputs, at_least=0)
    check_integer(f"{where}: clipped", record.clipped, at_least=0, at_most=record.inputs)
    if placement_digest(mapped.matrix) != record.placement:
        raise FileFormatError(f"{where} stands in other cells than it did: a mitigation prepares the network otherwise")
    levels = None
    if die.mitigations:
        levels = contents.take(
            f"{prefix}levels", np.uint8, mapped.matrix.levels.shape, at_most=design.mapping.max_level
        )
    layer = DieLayer(
        name=record.name,
        reading=mapped.reading,
        drive=mapped.drive,
        converter=mapped.converter,
        design=design,
        silicon=_read_silicon(contents, prefix, mapped, design, record.note),
        seed=die.seed,
        index=index,
        seconds=die.seconds,
        levels=levels,
        copies=mapped.copies,
        **_read_mitigated(record, contents, prefix, mapped),
    )
    if digest(layer.cells()) != record.cells:
        raise FileFormatError(
            f"{where} does not hold what it held: this machine, or this version of the project, draws or computes its "
            "cells in another way"
        )
    return layer


def _write_mitigated(layer: DieLayer, prefix: str) -> dict[str, Array]:
    """Where mitigations laid a layer's tiles, and what is done digitally."""
    arrays: dict[str, Array] = {}
    if layer.arrangement is not None:
        arrays |= {f"{prefix}arrangement.{name}": getattr(layer.arrangement, name) for name in _PLACES}
    if layer.correction is not None:
        arrays |= {f"{prefix}correction.{name}": getattr(layer.correction, name) for name in _CORRECTION}
    if layer.copy_weights is not None:
        arrays[f"{prefix}copy_weights"] = layer.copy_weights
    return arrays


def _read_mitigated(record: DieLayerRecord, contents: Contents, prefix: str, mapped: MappedLayer) -> dict[str, Any]:
    tiles, rows, columns = mapped.matrix.levels.shape
    inputs, outputs = mapped.matrix.shape
    result: dict[str, Any] = {}
    if record.moved:
        shapes = ((tiles, rows), (tiles, columns), (tiles,))
        places = {
            name: contents.take(f"{prefix}arrangement.{name}", np.int32, shape)
            for name, shape in zip(_PLACES, shapes, strict=True)
        }
        result["arrangement"] = Arrangement(**places, shape=mapped.arrays_shape)
    if record.corrected:
        which = contents.take(f"{prefix}correction.inputs", np.int32, (None,), at_least=0, at_most=inputs - 1)
        count = (len(which),)
        result["correction"] = WeightCorrection(
            inputs=which,
            outputs=contents.take(f"{prefix}correction.outputs", np.int32, count, at_least=0, at_most=outputs - 1),
            values=contents.take(f"{prefix}correction.values", np.float64, count),
        )
    if record.chosen:
        shape = (mapped.copies, outputs // mapped.copies)
        result["copy_weights"] = contents.take(f"{prefix}copy_weights", np.float64, shape)
    return result


def _write_faults(faults: FaultMap, prefix: str) -> dict[str, Array]:
    return {f"{prefix}{name}": getattr(faults, name) for name in ("index", "kind", "value")}


def _read_faults(contents: Contents, prefix: str, shape: tuple[int, ...], note: str | None) -> FaultMap:
    index = contents.take(f"{prefix}index", np.int64, (None,))
    return FaultMap(
        shape=(shape[0], shape[1], shape[2]),
        index=index,
        kind=contents.take(f"{prefix}kind", np.uint8, (len(index),)),
        value=contents.take(f"{prefix}value", np.float64, (len(index),), finite=False),
        note=note or "",
    )


_PLACES = ("rows", "columns", "arrays")
_CORRECTION = ("inputs", "outputs", "values")
_LINES = ("open_word_lines", "open_bit_lines", "shorted_bit_lines")


def _write_silicon(silicon: Silicon, prefix: str) -> dict[str, Array]:
    arrays = _write_faults(silicon.faults, f"{prefix}faults.")
    if silicon.lines is not None:
        arrays |= {f"{prefix}lines.{name}": getattr(silicon.lines, name) for name in _LINES}
    for kind in ("drivers", "converters"):
        part = getattr(silicon, kind)
        if part is not None:
            arrays |= {f"{prefix}{kind}.{name}": getattr(part, name) for name in ("gain", "offset")}
    if silicon.converters is not None and silicon.converters.weights is not None:
        arrays[f"{prefix}converters.weights"] = silicon.converters.weights
    return arrays


def _read_silicon(contents: Contents, prefix: str, mapped: MappedLayer, design: Design, note: str) -> Silicon:
    """What is broken, as much of it as the design can break."""
    shape = mapped.arrays_shape
    tiles, rows, columns = shape
    periphery = design.periphery
    lines = drivers = converters = None
    if design.line_faults is not None:
        sizes = (rows, columns, max(columns - 1, 0))
        lines = BrokenLines(
            *(
                contents.take(f"{prefix}lines.{name}", np.bool_, (tiles, size))
                for name, size in zip(_LINES, sizes, strict=True)
            )
        )
    if periphery.dac_errors is not None:
        drivers = Drivers(
            gain=contents.take(f"{prefix}drivers.gain", np.float64, (tiles, rows), at_least=0.0),
            offset=contents.take(f"{prefix}drivers.offset", np.float64, (tiles, rows)),
        )
    if periphery.adc_errors is not None:
        reads = mapped.reading.reads + mapped.spare_columns // (2 if mapped.reading.paired else 1)
        count = -(-reads // periphery.columns_sharing_errors)
        weights = None
        if periphery.adc_errors.capacitor_mismatch > 0:
            bits = mapped.converter.bits
            weights = contents.take(f"{prefix}converters.weights", np.float64, (tiles, count, bits), at_least=0.0)
        converters = Converters(
            gain=contents.take(f"{prefix}converters.gain", np.float64, (tiles, count), at_least=0.0),
            offset=contents.take(f"{prefix}converters.offset", np.float64, (tiles, count)),
            weights=weights,
        )
    return Silicon(
        faults=_read_faults(contents, f"{prefix}faults.", shape, note),
        lines=lines,
        drivers=drivers,
        converters=converters,
    )
