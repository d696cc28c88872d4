"""The definition of an analog matrix-vector product, slow and readable: the truth every kernel is tested against.

One *read* applies one plane of the input codes to one tile. Each physical column sums plane times conductance over
the tile's driven rows, a converter turns each column (or each subtracted pair) into a code, and the codes of planes,
slices and tiles are shifted and added as integers. Conductances are in *level units*: (g - g_min) / level step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.design import Converter, ConverterErrors, Drive, successive_approximation
from xbarsim.engine.checks import check_cells, check_codes
from xbarsim.foundation.entrances import entrance
from xbarsim.mapping import Reading

__all__ = ["convert", "held_variances", "hold", "multiply", "nearest_step", "read_tile"]

FloatArray = npt.NDArray[np.float64]


def nearest_step(value: FloatArray, step: float) -> FloatArray:
    """The converter step nearest to each value, halves up; not clipped."""
    return np.asarray(np.floor(value * (1.0 / step) + 0.5))


def convert(value: FloatArray, converter: Converter, weights: FloatArray | None = None) -> FloatArray:
    """The converter: nearest step, halves up, clipped to its codes; the value itself where there is none.

    Parameters
    ----------
    value
        In level steps times plane code, last axis reads.
    converter
        Its step and codes.
    weights
        Weights of the bits of each read's converter, shape ``(reads, bits)``; ``None`` for an ideal one.
    """
    if converter.step is None:
        return value
    if weights is not None:
        codes = successive_approximation(value * (1.0 / converter.step) + 0.5, weights, converter.low)
        return np.asarray(np.clip(codes, converter.low, converter.high))
    return np.clip(nearest_step(value, converter.step), converter.low, converter.high)


def held_variances(noise_spread: npt.NDArray[Any]) -> FloatArray:
    """Variances of read noise as the simulator holds them; see :func:`hold`.

    Parameters
    ----------
    noise_spread
        Standard deviation of each cell of a layer, in level units.
    """
    return hold(np.asarray(noise_spread, dtype=np.float64) ** 2)


def hold(variances: npt.NDArray[Any]) -> FloatArray:
    """Keep the variances of a layer's cells to 25 bits of the largest, so that their sums are exact."""
    variances = np.asarray(variances, dtype=np.float64)
    largest = float(variances.max(initial=0.0))
    if largest == 0.0:
        return variances
    grid = 2.0 ** (np.floor(np.log2(largest)) - 24)
    return np.asarray(np.rint(variances / grid) * grid)


def read_tile(
    x: FloatArray,
    cells: FloatArray,
    reading: Reading,
    converter: Converter,
    noise: FloatArray | float = 0.0,
    weights: FloatArray | None = None,
) -> FloatArray:
    """One plane applied to one tile: a code for every converter.

    Parameters
    ----------
    x
        Plane codes of the driven rows, shape ``(vectors, driven)``.
    cells
        Their cells in level units, shape ``(driven, columns)``.
    reading
        Which columns each read subtracts.
    converter
        How the sums are read.
    noise
        Added to every converter's input, in level steps times plane code, shape ``(vectors, reads)``.
    weights
        As for :func:`convert`.

    Returns
    -------
    ndarray
        Shape ``(vectors, reads)``: a code for each pair of columns (subtracted before the converter), or for each
        column, the known sum of the g_min currents taken off.
    """
    sums = reading.differences(x @ cells) + noise
    if reading.paired or converter.step is None:  # an ideal read-out takes the g_min currents off exactly
        return convert(sums, converter, weights)
    baseline: FloatArray = converter.offset_levels * x.sum(axis=1, keepdims=True)
    return np.asarray(convert(sums + baseline, converter, weights) - nearest_step(baseline, converter.step))


@entrance
def multiply(
    codes: npt.NDArray[Any],
    reading: Reading,
    cells: npt.NDArray[Any],
    drive: Drive,
    converter: Converter,
    *,
    noise_spread: npt.NDArray[Any] | None = None,
    noise_linear: npt.NDArray[Any] | None = None,
    noise_constant: npt.NDArray[Any] | None = None,
    normals: npt.NDArray[Any] | None = None,
    errors: ConverterErrors | None = None,
) -> FloatArray:
    """Multiply input codes with a mapped matrix, read by read.

    Parameters
    ----------
    codes
        Integer input codes, shape ``(vectors, inputs)``.
    reading
        The placed matrix, and what each of its columns counts for which output.
    cells
        What the cells really hold, or what a read sees of them through the wires, in level units, shape ``(tiles, rows,
        columns)``.
    drive
        Passes, planes and the rows that are driven together.
    converter
        How the sums are read.
    noise_spread
        Standard deviation of each cell's conductance at one read, in level units, shape of `cells`.
    noise_linear, noise_constant
        Variance that each cell of the driven rows adds for each unit of its plane code, and whatever its code (also at
        0), in level units squared, shape of `cells`; ``None`` for none. Used where `noise_spread` is given.
    normals
        Standard normal draws, one for each converter input, shape ``(vectors, passes, planes, tiles, row groups x
        reads)``, reads as in :class:`xbarsim.mapping.Reading`.
    errors
        Offsets and bit weights of the converters.

    Returns
    -------
    ndarray
        ``codes @ weight codes`` as the hardware gives it, shape ``(vectors, outputs)``, in units of input code times
        weight code.
    """
    matrix = reading.matrix
    check_codes(codes, reading, drive)
    given = {"noise_spread": noise_spread, "noise_linear": noise_linear, "noise_constant": noise_constant}
    for name, array in {"cells": cells, **given}.items():
        if array is not None:
            check_cells(array, matrix, name)
    added = np.zeros((len(codes), matrix.shape[1]))  # shifted and added codes, in converter steps
    taken_off = np.zeros_like(added)  # known digitally, in units of input code times weight code

    for pass_index, (sign, driven) in enumerate(drive.driven(codes)):
        for plane in range(drive.planes):
            carried = drive.carried(drive.plane(driven, plane))
            plane_count = sign * 2 ** (plane * drive.dac_bits)
            for tile in range(matrix.tiles):
                for group, rows in drive.row_groups(matrix.tile_rows[tile] >= 0):
                    x = carried[:, matrix.tile_rows[tile][rows]].astype(np.float64)
                    reads_here = slice(group * reading.reads, (group + 1) * reading.reads)
                    noise: FloatArray | float = 0.0
                    if noise_spread is not None and normals is not None:
                        variance = x**2 @ held_variances(noise_spread)[tile, rows]
                        if noise_linear is not None:
                            variance = variance + x @ hold(noise_linear)[tile, rows]
                        if noise_constant is not None:
                            variance = variance + hold(noise_constant)[tile, rows].sum(axis=0)
                        noise = np.sqrt(reading.totals(variance)) * normals[:, pass_index, plane, tile, reads_here]
                    if errors is not None and errors.offset is not None:
                        noise = noise + errors.offset[tile, reads_here]
                    weights = None if errors is None or errors.weights is None else errors.weights[tile]
                    read = read_tile(x, cells[tile, rows].astype(np.float64), reading, converter, noise, weights)

                    outputs = matrix.tile_outputs[tile][matrix.tile_outputs[tile] >= 0]
                    for number in np.flatnonzero(reading.used[tile]):
                        served = outputs if reading.shared[number] else reading.outputs[tile, number : number + 1]
                        added[:, served] += (plane_count * reading.counts[number] * read[:, number])[:, np.newaxis]
                    taken_off[:, outputs] += plane_count * reading.shift * x.sum(axis=1, keepdims=True)

    result = converter.unit * added - taken_off
    if drive.input_offset:
        result -= drive.input_offset * matrix.codes().astype(np.int64).sum(axis=0)
    return result
