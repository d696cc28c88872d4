"""The definition of an analog matrix-vector product, slow and readable: the truth every kernel is tested against.

One *read* applies one plane of the input codes to one tile. Each physical column sums plane times conductance over
the tile's driven rows, a converter turns each column (or each subtracted pair) into a code, and the codes of planes,
slices and tiles are shifted and added as integers. Conductances are in *level units*: (g - g_min) / level step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.design import ConverterErrors, Readout, successive_approximation
from xbarsim.mapping import MappedMatrix

__all__ = ["activations", "convert", "held_variances", "hold", "input_passes", "multiply", "read_tile"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def input_passes(codes: npt.NDArray[Any], readout: Readout) -> list[tuple[int, IntArray]]:
    """The non-negative codes that are driven, pass by pass, each with the sign its result is added with."""
    codes = np.asarray(codes, dtype=np.int64)
    if not readout.signed:
        return [(1, codes)]
    if readout.signed_inputs == "two_pass":
        return [(1, np.maximum(codes, 0)), (-1, np.maximum(-codes, 0))]
    return [(1, codes + 2 ** (readout.input_bits - 1))]


def activations(used: npt.NDArray[np.bool_], readout: Readout) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """The word lines of an array that are driven together: the number of each activation, and its rows.

    Parameters
    ----------
    used
        Which rows of the array hold weights, shape ``(rows,)``. Activations without any are not read.
    readout
        How many rows are driven at a time.
    """
    size = readout.active_rows or len(used)
    chosen = np.flatnonzero(used)
    return [(int(number), chosen[chosen // size == number]) for number in np.unique(chosen // size)]


def convert(value: FloatArray, readout: Readout, weights: FloatArray | None = None) -> FloatArray:
    """The converter: nearest step, halves up, clipped to its codes; the value itself where there is none.

    Parameters
    ----------
    value
        In level steps times plane code, last axis reads.
    readout
        Its step and codes.
    weights
        Weights of the bits of each read's converter, shape ``(reads, bits)``; ``None`` for an ideal one.
    """
    if readout.step is None:
        return value
    inverse_step = 1.0 / readout.step
    if weights is not None:
        codes = successive_approximation(value * inverse_step + 0.5, weights, readout.low)
        return np.clip(codes, readout.low, readout.high)
    return np.clip(np.floor(value * inverse_step + 0.5), readout.low, readout.high)


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
    readout: Readout,
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
    readout
        Converters and subtraction.
    noise
        Added to every converter's input, in level steps times plane code, shape ``(vectors, reads)``.
    weights
        As for :func:`convert`.

    Returns
    -------
    ndarray
        Shape ``(vectors, reads)``: a code for each pair of neighbouring columns (analog subtraction), or for each
        column, the known sum of the g_min currents taken off (digital).
    """
    sums = x @ cells
    if readout.subtraction == "analog":
        pairs = sums.shape[1] // 2
        return convert(sums[:, 0 : 2 * pairs : 2] - sums[:, 1 : 2 * pairs : 2] + noise, readout, weights)
    if readout.step is None:
        return np.asarray(sums + noise)  # an ideal read-out takes the g_min currents off exactly
    baseline: FloatArray = readout.offset_levels * x.sum(axis=1, keepdims=True)
    known = np.floor(baseline * (1.0 / readout.step) + 0.5)
    return np.asarray(convert(sums + noise + baseline, readout, weights) - known)


def multiply(
    codes: npt.NDArray[Any],
    mapped: MappedMatrix,
    cells: npt.NDArray[Any],
    readout: Readout,
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
    mapped
        Where every slice of every weight sits.
    cells
        What the cells really hold, or what a read sees of them through the wires, in level units, shape ``(tiles, rows,
        columns)``.
    readout
        Converters, planes and signs.
    noise_spread
        Standard deviation of each cell's conductance at one read, in level units, shape of `cells`.
    noise_linear, noise_constant
        Variance that each cell of the driven rows adds for each unit of its plane code, and whatever its code (also at
        0), in level units squared, shape of `cells`; ``None`` for none. Used where `noise_spread` is given.
    normals
        Standard normal draws, one for each converter input, shape ``(vectors, passes, planes, tiles, activations x
        reads)``, reads as in :func:`read_tile`.
    errors
        Offsets and bit weights of the converters.

    Returns
    -------
    ndarray
        ``codes @ weight codes`` as the hardware gives it, shape ``(vectors, outputs)``, in units of input code times
        weight code.
    """
    mapping = mapped.mapping
    slice_weights = mapping.encoding.slice_weights(mapping.weight_bits, mapping.cell_bits)
    added = np.zeros((len(codes), mapped.shape[1]))  # shifted and added codes, in converter steps
    taken_off = np.zeros_like(added)  # known digitally, in units of input code times weight code
    count = mapping.columns // 2 if readout.subtraction == "analog" else mapping.columns  # reads of one activation

    for pass_index, (sign, driven) in enumerate(input_passes(codes, readout)):
        for plane in range(readout.planes):
            plane_codes = (driven >> (plane * readout.dac_bits)) & readout.max_plane
            plane_weight = sign * 2 ** (plane * readout.dac_bits)
            for tile in range(mapped.tiles):
                for activation, rows in activations(mapped.tile_rows[tile] >= 0, readout):
                    x = plane_codes[:, mapped.tile_rows[tile][rows]].astype(np.float64)
                    reads_here = slice(activation * count, (activation + 1) * count)
                    noise: FloatArray | float = 0.0
                    if noise_spread is not None and normals is not None:
                        variance = x**2 @ held_variances(noise_spread)[tile, rows]
                        if noise_linear is not None:
                            variance = variance + x @ hold(noise_linear)[tile, rows]
                        if noise_constant is not None:
                            variance = variance + hold(noise_constant)[tile, rows].sum(axis=0)
                        if readout.subtraction == "analog":
                            variance = variance[:, 0 : 2 * count : 2] + variance[:, 1 : 2 * count : 2]
                        noise = np.sqrt(variance) * normals[:, pass_index, plane, tile, reads_here]
                    if errors is not None and errors.offset is not None:
                        noise = noise + errors.offset[tile, reads_here]
                    weights = None if errors is None or errors.weights is None else errors.weights[tile]
                    reads = read_tile(x, cells[tile, rows].astype(np.float64), readout, noise, weights)

                    for position, output in enumerate(mapped.tile_outputs[tile]):
                        if output < 0:
                            continue
                        for s, slice_weight in enumerate(slice_weights):
                            place = position * mapping.slices + s
                            if mapping.sides == 1 or readout.subtraction == "analog":
                                code = reads[:, place]
                            else:
                                code = reads[:, 2 * place] - reads[:, 2 * place + 1]
                            added[:, output] += plane_weight * slice_weight * code
                        if mapping.has_reference:
                            added[:, output] -= plane_weight * slice_weights[-1] * reads[:, mapping.columns - 1]
                        elif mapping.sides == 1:
                            taken_off[:, output] += plane_weight * 2 ** (mapping.weight_bits - 1) * x.sum(axis=1)

    result = (1.0 if readout.step is None else readout.step) * added - taken_off
    if readout.signed and readout.signed_inputs == "offset":
        result -= 2 ** (readout.input_bits - 1) * mapped.codes().astype(np.int64).sum(axis=0)
    return result
