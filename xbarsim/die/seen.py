"""From the cells of a die to what its reads see of them: wires, broken lines, drivers and converters.

All of it that is linear and frozen folds into one matrix for each tile, in level units like the cells themselves; the
rest is :class:`xbarsim.design.converters.ConverterErrors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.circuit import effective_conductance
from xbarsim.design import ConverterErrors, Design, Readout
from xbarsim.devices import GRID, BrokenLines, round_to_grid
from xbarsim.engine.reference import activations
from xbarsim.mapping import MappedMatrix

__all__ = ["TileLoss", "draw_errors", "losses", "seen_cells"]

FloatArray = npt.NDArray[np.float64]


def _through_wires(
    conductance: FloatArray, mapped: MappedMatrix, design: Design, readout: Readout, lines: BrokenLines | None
) -> FloatArray:
    """Effective conductances, S, of every read: only the rows of one activation are selected in it."""
    if design.wires is None:
        return conductance
    result = np.zeros_like(conductance)
    in_use = mapped.tile_rows >= 0
    # An open word line has no cells left: its potential matters to nobody, and must only not be undetermined.
    cut = np.zeros_like(in_use) if lines is None else lines.open_word_lines
    patterns, which = np.unique(np.concatenate([in_use, cut], axis=1), axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        used, tied = np.split(pattern, 2)
        tiles = np.flatnonzero(which.reshape(-1) == number)
        for _, rows in activations(used, readout):
            selected = tied.copy()
            selected[rows] = True
            seen = effective_conductance(conductance[tiles], design.wires, rows=selected)
            result[np.ix_(tiles, rows)] = seen[:, rows]
    return result


def _cell_conductance(cells: npt.NDArray[Any], design: Design, lines: BrokenLines | None) -> FloatArray:
    conductance = design.cell.conductance(cells, design.mapping.cell_bits)
    np.maximum(conductance, 0.0, out=conductance)  # on the grid a cell without conductance may be a rounding below 0
    if lines is not None:
        lines.open(conductance)
    return conductance


def seen_cells(
    cells: npt.NDArray[Any],
    mapped: MappedMatrix,
    design: Design,
    readout: Readout,
    lines: BrokenLines | None = None,
) -> npt.NDArray[np.float32]:
    """What reads see of a layer's cells through wires and broken lines.

    Parameters
    ----------
    cells
        What the cells hold, in level units, shape ``(tiles, rows, columns)``. Cells that no weight uses matter too:
        they load the lines.
    mapped, readout
        Which rows are driven together.
    design
        Gives cell and wires.
    lines
        Which lines are broken, or ``None``.

    Returns
    -------
    ndarray
        Effective conductances in level units, float32 multiples of :data:`xbarsim.devices.GRID`, shape of `cells`: a
        read's column current is exactly the sum over its rows of input times these, on that grid.
    """
    if design.wires is None and lines is None:
        return np.asarray(cells, dtype=np.float32)
    conductance = _through_wires(_cell_conductance(cells, design, lines), mapped, design, readout, lines)
    if lines is not None:
        lines.share(conductance)
    bits = design.mapping.cell_bits
    return round_to_grid(design.cell.level_units(conductance, bits), design.offset_levels).astype(np.float32)


def draw_errors(
    cells: npt.NDArray[np.float32],
    mapped: MappedMatrix,
    design: Design,
    readout: Readout,
    drivers: np.random.Generator,
    converters: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], ConverterErrors]:
    """Draw the drivers and converters of a layer's arrays, and fold into its cells what is linear.

    Parameters
    ----------
    cells
        From :func:`seen_cells`.
    mapped, design, readout
        As there.
    drivers, converters
        Sources of the draws.

    Returns
    -------
    ndarray
        The cells with the gains of drivers and converters; those of dead ones carry no current. On the grid, as
        `cells`.
    ConverterErrors
        The rest.
    """
    dac, adc = design.periphery.dac_errors, design.periphery.adc_errors
    if dac is None and adc is None:
        return cells, ConverterErrors()
    tiles, rows, columns = cells.shape
    analog = readout.subtraction == "analog"
    reads = columns // 2 if analog else columns
    carried = cells.astype(np.float64) + design.offset_levels  # in level steps above zero conductance
    offset = np.zeros((tiles, readout.activations(rows), reads))
    weights = driver_gain = converter_gain = None
    if dac is not None:
        gain = 1.0 + dac.gain * drivers.standard_normal((tiles, rows))
        stray = dac.offset * drivers.standard_normal((tiles, rows))
        alive = drivers.random((tiles, rows)) >= dac.dead
        driver_gain = np.maximum(gain, 0.0) * alive
        carried *= driver_gain[:, :, np.newaxis]
        if dac.offset > 0:
            values = carried[:, :, 0 : 2 * reads : 2] - carried[:, :, 1 : 2 * reads : 2] if analog else carried
            for tile in range(tiles):
                for activation, driven in activations(mapped.tile_rows[tile] >= 0, readout):
                    offset[tile, activation] = stray[tile, driven] @ values[tile, driven]
    if adc is not None:
        assert readout.step is not None
        bits = readout.converter_bits
        assert bits is not None
        count = -(-reads // design.periphery.columns_per_adc)
        serves = np.arange(reads) // design.periphery.columns_per_adc  # the converter of each read
        gain = np.maximum(1.0 + adc.gain * converters.standard_normal((tiles, count)), 0.0)
        own = adc.offset * readout.step * converters.standard_normal((tiles, count))
        alive = converters.random((tiles, count)) >= adc.dead
        gain, own = (gain * alive)[:, serves], (own * alive)[:, serves]
        converter_gain = np.zeros((tiles, columns))
        for side in range(2 if analog else 1):
            converter_gain[:, side : side + (2 * reads if analog else reads) : 2 if analog else 1] = gain
        carried *= converter_gain[:, np.newaxis, :]
        offset = offset * gain[:, np.newaxis] + own[:, np.newaxis]
        if adc.capacitor_mismatch > 0:
            weights = adc.weights(bits, (tiles, count), converters)
            weights[~alive] = 2.0 ** np.arange(bits)  # a dead converter gives 0 by its gain
            weights = weights[:, serves]
    folded = round_to_grid(carried - design.offset_levels, design.offset_levels).astype(np.float32)
    offset = np.rint(offset / GRID) * GRID
    return folded, ConverterErrors(
        offset=offset.reshape(tiles, -1) if offset.any() else None,
        weights=weights,
        driver_gain=driver_gain,
        converter_gain=converter_gain,
    )


@dataclass(frozen=True, kw_only=True)
class TileLoss:
    """How much current wires and broken lines cost one tile, all its rows driven with one voltage.

    Attributes
    ----------
    layer, tile
        Which tile.
    mean
        Share of the current of all used columns that is lost.
    worst
        The same for the column that loses most.
    """

    layer: str
    tile: int
    mean: float
    worst: float


def losses(
    layer: str,
    cells: npt.NDArray[Any],
    mapped: MappedMatrix,
    design: Design,
    readout: Readout,
    lines: BrokenLines | None,
) -> tuple[TileLoss, ...]:
    """Current lost in each tile of a layer: sensed against that of the same cells without wires and broken lines.

    Parameters
    ----------
    layer
        Its name.
    cells, mapped, design, readout, lines
        As :func:`seen_cells`.
    """
    ideal = _cell_conductance(cells, design, None)
    real = _through_wires(_cell_conductance(cells, design, lines), mapped, design, readout, lines)
    if lines is not None:
        lines.share(real)
    found = []
    for tile in range(len(ideal)):
        used = np.asarray(mapped.used[tile])
        wanted = np.where(used, ideal[tile], 0.0).sum(axis=0)
        got = np.where(used, real[tile], 0.0).sum(axis=0)
        columns = wanted > 0
        if not columns.any():
            continue
        lost = 1.0 - got[columns] / wanted[columns]
        found.append(
            TileLoss(
                layer=layer,
                tile=tile,
                mean=float(1.0 - got[columns].sum() / wanted[columns].sum()),
                worst=float(lost.max()),
            )
        )
    return tuple(found)
