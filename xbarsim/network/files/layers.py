"""Mapped layers in files."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.cost import Activity
from xbarsim.design import Converter, Design, Drive
from xbarsim.engine import Window
from xbarsim.foundation.validation import FileFormatError, check_integer, check_real
from xbarsim.mapping import MappedMatrix, map_matrix
from xbarsim.network.files.contents import Contents, digest
from xbarsim.network.layers import LayerAdapter, QuantisedLayer
from xbarsim.network.placed import MappedLayer, fullest_tile, layer_drive

__all__ = ["LayerRecord", "placement_digest", "read_layer", "write_layer"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """What is said of a mapped layer; `placement` is the sha256 of what its cells hold and where, the rest as there."""

    name: str
    adapter: LayerAdapter
    window: Window
    groups: int
    output_names: tuple[str, ...]
    divided: bool
    input_scale: float
    input_bits: int
    signed: bool
    drive: Drive
    converter: Converter
    vectors_per_image: int | float
    placement: str
    activity: Activity | None = None


def placement_digest(matrix: MappedMatrix) -> str:
    """The sha256 of where the weights of a matrix stand and what its cells hold."""
    return digest(np.asarray(matrix.shape, np.int64), matrix.tile_rows, matrix.tile_outputs, matrix.levels)


def _blocks(codes: Array, groups: int) -> Array:
    """Weight codes without the zeros between groups, shape ``(groups, inputs, outputs)`` of a group."""
    inputs, outputs = codes.shape
    blocks = codes.reshape(groups, inputs // groups, groups, outputs // groups)
    return np.stack([blocks[group, :, group] for group in range(groups)])


def _whole(blocks: Array) -> Array:
    """Codes of all groups as a matrix, groups on the diagonal."""
    groups, inputs, outputs = blocks.shape
    codes = np.zeros((groups, inputs, groups, outputs), blocks.dtype)
    for group, block in enumerate(blocks):
        codes[group, :, group] = block
    return codes.reshape(groups * inputs, groups * outputs)


def write_layer(mapped: MappedLayer, prefix: str) -> tuple[LayerRecord, dict[str, Array]]:
    """A layer as its record and arrays, whose names begin with `prefix`."""
    layer = mapped.layer
    record = LayerRecord(
        name=layer.name,
        adapter=layer.adapter,
        window=layer.window,
        groups=layer.groups,
        output_names=layer.output_names,
        divided=layer.divisors is not None,
        input_scale=float(layer.input_scale),
        input_bits=layer.input_bits,
        signed=layer.signed,
        drive=mapped.drive,
        converter=mapped.converter,
        vectors_per_image=mapped.vectors_per_image,
        placement=placement_digest(mapped.matrix),
        activity=mapped.activity,
    )
    arrays = {
        "codes": _blocks(layer.codes, layer.groups),
        "weight_scale": layer.weight_scale,
        "bias": layer.bias,
        "mean_square_input": mapped.mean_square_input,
    }
    if layer.divisors is not None:
        arrays["divisors"] = layer.divisors
    return record, {prefix + name: array for name, array in arrays.items()}


def read_layer(record: LayerRecord, contents: Contents, prefix: str, design: Design) -> MappedLayer:
    """A layer from its record and arrays: placed anew, and compared with what was saved.

    Raises
    ------
    FileFormatError, InputError
        If something in it is out of its bound, or the weights are placed in another way than they were.
    """
    where = f"layer {record.name!r}"
    check_integer(f"{where}: groups", record.groups, at_least=1)
    check_integer(f"{where}: input_bits", record.input_bits, at_least=2 if record.signed else 1, at_most=16)
    check_real(f"{where}: input_scale", record.input_scale, above=0.0)
    check_real(f"{where}: vectors_per_image", record.vectors_per_image, above=0.0)
    _check_window(where, record.window)
    blocks = contents.take(f"{prefix}codes", shape=(record.groups, None, None))
    if blocks.dtype.kind not in "iu":
        raise FileFormatError(f"{where}: codes must be integers, got {blocks.dtype}")
    codes = _whole(blocks)
    inputs, outputs = codes.shape
    if record.output_names and outputs % len(record.output_names):
        raise FileFormatError(
            f"{where}: output_names must be of equal blocks of {outputs} outputs, got {len(record.output_names)}"
        )
    divisors = None
    if record.divided:
        divisors = contents.take(f"{prefix}divisors", np.float32, (None,), at_least=float(np.finfo(np.float32).tiny))
        if inputs % len(divisors):
            raise FileFormatError(f"{where}: divisors must be one a channel of {inputs} inputs, got {len(divisors)}")
    layer = QuantisedLayer(
        name=record.name,
        adapter=record.adapter,
        codes=codes,
        weight_scale=contents.take(f"{prefix}weight_scale", np.float64, (outputs,), at_least=0.0),
        bias=contents.take(f"{prefix}bias", np.float32, (outputs,)),
        input_scale=record.input_scale,
        input_bits=record.input_bits,
        signed=record.signed,
        window=record.window,
        groups=record.groups,
        output_names=record.output_names,
        divisors=divisors,
    )
    reading = design.reading(map_matrix(codes, design.mapping))
    if placement_digest(reading.matrix) != record.placement:
        raise FileFormatError(
            f"{where} is placed in other cells than it was: its encoding, packing or codes are not those of the file"
        )
    if record.drive != layer_drive(design, signed=record.signed, input_bits=record.input_bits):
        raise FileFormatError(f"{where}: drive must be that of the design, got {record.drive}")
    _check_converter(where, record.converter, design, fullest_tile(reading.matrix))
    return MappedLayer(
        layer=layer,
        reading=reading,
        drive=record.drive,
        converter=record.converter,
        mean_square_input=contents.take(f"{prefix}mean_square_input", np.float64, (inputs,), at_least=0.0, at_most=1.0),
        vectors_per_image=record.vectors_per_image,
        activity=record.activity,
    )


def _check_window(where: str, window: Window) -> None:
    for name in ("kernel", "stride", "dilation"):
        for size in getattr(window, name):
            check_integer(f"{where}: window.{name}", size, at_least=1)
    for size in window.padding:
        check_integer(f"{where}: window.padding", size, at_least=0)


def _check_converter(where: str, converter: Converter, design: Design, rows: int) -> None:
    """Converters are those of the design; calibrated ones but for their step, which the calibration set."""
    calibrated = design.periphery.adc_range == "calibrated"
    wanted = design.converter(rows=rows, calibrated_range=1.0 if calibrated else None)
    if calibrated and converter.step is not None and 1.0 <= converter.step < math.inf:
        wanted = replace(wanted, step=converter.step)
    if converter != wanted:
        raise FileFormatError(f"{where}: converter must be that of the design, got {converter}")
