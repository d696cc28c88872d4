"""From the cells of a die to what its reads see of them: wires, broken lines, drivers and converters.

All of it that is linear and frozen folds into one matrix for each tile, in level units like the cells themselves; the
rest is :class:`xbarsim.design.ConverterErrors`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.circuit import effective_conductance, effective_variance, working_conductance
from xbarsim.design import ConverterErrors, Design, Drive
from xbarsim.devices import GRID, BrokenLines, NoiseVariance, round_to_grid
from xbarsim.die.silicon import Silicon
from xbarsim.engine.checks import check_cells
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.mapping import Arrangement, MappedMatrix, Reading

__all__ = ["TileLoss", "current_losses", "fold_errors", "seen_cells", "seen_variance", "through_wires"]

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: The squared mean of what the rows of a read are driven with over its mean square, where zero stands for zero: in
#: ResNet-20 it is 0.32 for pulses of 8 bits and 0.23 for single bits, the mean over its layers.
_FILLING = 0.3


def _reads(
    matrix: MappedMatrix,
    drive: Drive,
    shape: tuple[int, ...],
    lines: BrokenLines | None,
    arrangement: Arrangement | None,
) -> Iterator[tuple[Mask, Mask, npt.NDArray[np.int64]]]:
    """The rows that reads drive and those they select, and the arrays of cells of `shape` where they do so."""
    # An open word line has no cells left: its potential matters to nobody, and must only not be undetermined.
    cut = np.zeros(shape[:2], bool) if lines is None else lines.open_word_lines
    alike: dict[bytes, tuple[Mask, Mask, list[int]]] = {}
    for tile, in_use in enumerate(matrix.tile_rows >= 0):
        array = tile if arrangement is None else int(arrangement.arrays[tile])
        for _, rows in drive.row_groups(in_use):
            driven = np.zeros(shape[1], bool)
            driven[rows if arrangement is None else arrangement.rows[tile, rows]] = True
            selected = driven | cut[array]
            alike.setdefault(driven.tobytes() + selected.tobytes(), (driven, selected, []))[2].append(array)
    for driven, selected, arrays in alike.values():
        yield driven, selected, np.array(arrays)


def _through_wires(
    conductance: FloatArray,
    matrix: MappedMatrix,
    design: Design,
    drive: Drive,
    lines: BrokenLines | None,
    arrangement: Arrangement | None,
) -> FloatArray:
    """Effective conductances, S, of every read: only the rows of one group are selected in it."""
    if design.wires is None:
        return conductance
    result = np.zeros_like(conductance)
    for driven, selected, arrays in _reads(matrix, drive, conductance.shape, lines, arrangement):
        seen = effective_conductance(conductance[arrays], design.wires, rows=selected)
        if (law := design.current_law) is not None:
            assert design.cell.read_voltage is not None
            straight = working_conductance(
                conductance[arrays],
                seen,
                law,
                design.cell.read_voltage,
                design.wires,
                codes=drive.max_plane,
                rows=selected,
                filling=_filling(drive),
            )
            seen = effective_conductance(straight, design.wires, rows=selected)
        result[np.ix_(arrays, np.flatnonzero(driven))] = seen[:, driven]
    return result


def _cell_conductance(cells: npt.NDArray[Any], design: Design, lines: BrokenLines | None) -> FloatArray:
    conductance = design.cell.conductance(cells, design.mapping.cell_bits)
    np.maximum(conductance, 0.0, out=conductance)  # on the grid a cell without conductance may be a rounding below 0
    if lines is not None:
        lines.open(conductance)
    return conductance


@entrance
def through_wires(
    cells: npt.NDArray[Any],
    matrix: MappedMatrix,
    design: Design,
    drive: Drive,
    lines: BrokenLines | None = None,
    arrangement: Arrangement | None = None,
) -> FloatArray:
    """What reads see of a layer's cells through wires, as it comes out of the circuit.

    Parameters
    ----------
    cells, matrix, design, drive, lines, arrangement
        As of :func:`seen_cells`.

    Returns
    -------
    ndarray
        Effective conductances, S, shape of `cells`. Bit lines that touch are left apart.
    """
    if arrangement is None:
        check_cells(cells, matrix)
    return _through_wires(_cell_conductance(cells, design, lines), matrix, design, drive, lines, arrangement)


@entrance
def seen_cells(
    cells: npt.NDArray[Any],
    matrix: MappedMatrix,
    design: Design,
    drive: Drive,
    lines: BrokenLines | None = None,
    arrangement: Arrangement | None = None,
    *,
    through: FloatArray | None = None,
) -> npt.NDArray[np.float32]:
    """What reads see of a layer's cells through wires and broken lines.

    Parameters
    ----------
    cells
        What the cells hold, in level units, shape ``(tiles, rows, columns)``, or that of the arrays. Cells that no
        weight uses matter too: they load the lines.
    matrix, drive
        Which rows are in use, and which are driven together.
    design
        Gives cell and wires.
    lines
        Which lines are broken, or ``None``.
    arrangement
        Where the tiles lie in the arrays; ``None`` where every line is in its own place.
    through
        From :func:`through_wires`, to save solving the circuits again.

    Returns
    -------
    ndarray
        Effective conductances in level units, float32 multiples of :data:`xbarsim.devices.GRID`, shape of `cells`: a
        read's column current is exactly the sum over its rows of input times these, on that grid.
    """
    if arrangement is None:
        check_cells(cells, matrix)
    if design.wires is None and lines is None:
        return np.asarray(cells, dtype=np.float32)
    if through is None:
        through = _through_wires(_cell_conductance(cells, design, lines), matrix, design, drive, lines, arrangement)
    conductance = through
    if lines is not None:
        conductance = through.copy()
        lines.share(conductance)
    bits = design.mapping.cell_bits
    return round_to_grid(design.cell.level_units(conductance, bits), design.offset_levels).astype(np.float32)


def _filling(drive: Drive) -> float:
    """How much the rows of a read load the lines together; see :func:`xbarsim.circuit.effective_variance`."""
    if drive.input_offset:  # a zero is half of the largest code: as if all codes were equally likely
        return 1.5 * drive.max_plane / (2.0 * drive.max_plane + 1.0)
    return _FILLING


@entrance
def seen_variance(
    cells: npt.NDArray[Any],
    variance: NoiseVariance,
    matrix: MappedMatrix,
    design: Design,
    drive: Drive,
    lines: BrokenLines | None = None,
    arrangement: Arrangement | None = None,
    *,
    through: FloatArray | None = None,
) -> NoiseVariance:
    """What converters see of the read noise of a layer's cells through wires and open lines.

    Parameters
    ----------
    cells, matrix, design, drive, lines, arrangement, through
        As of :func:`seen_cells`.
    variance
        Of each cell in one read, arrays of the shape of `cells`.

    Returns
    -------
    NoiseVariance
        What each cell adds to its column for its row's code, see :func:`xbarsim.circuit.effective_variance`; without
        wires that of the cells themselves. Cells on open lines add none.
    """
    if arrangement is None:
        check_cells(cells, matrix)
    terms = {name: np.array(getattr(variance, name), np.float64) for name in ("constant", "linear", "quadratic")}
    if lines is not None:
        for term in terms.values():
            lines.open(term)
    variance = NoiseVariance(**terms)
    if design.wires is None:
        return variance
    conductance = _cell_conductance(cells, design, lines)
    if through is None:
        through = _through_wires(conductance, matrix, design, drive, lines, arrangement)
    result = NoiseVariance.of(conductance.shape)
    for driven, _, arrays in _reads(matrix, drive, conductance.shape, lines, arrangement):
        held = NoiseVariance(**{name: term[arrays] for name, term in terms.items()})
        place = np.ix_(arrays, np.flatnonzero(driven))
        effective = np.where(driven[:, np.newaxis], through[arrays], 0.0)
        seen = effective_variance(
            conductance[arrays], effective, held, design.wires, rows=driven, filling=_filling(drive)
        )
        for name in terms:
            getattr(result, name)[place] = getattr(seen, name)[:, driven]
    return result


@entrance
def fold_errors(
    cells: npt.NDArray[np.float32],
    reading: Reading,
    design: Design,
    drive: Drive,
    silicon: Silicon,
    arrangement: Arrangement | None = None,
) -> tuple[npt.NDArray[np.float32], ConverterErrors]:
    """Fold into a layer's cells what is linear in its drivers and converters.

    Parameters
    ----------
    cells
        From :func:`seen_cells`, in the order of the tiles.
    reading
        How the columns are read.
    design, drive, arrangement
        As there.
    silicon
        The drivers and converters.

    Returns
    -------
    ndarray
        The cells with the gains of drivers and converters; those of dead ones carry no current. On the grid, as
        `cells`.
    ConverterErrors
        The rest.
    """
    check_cells(cells, reading.matrix)
    drivers, converters = silicon.drivers, silicon.converters
    if drivers is None and converters is None:
        return cells, ConverterErrors()
    tiles, rows, _ = cells.shape
    carried = cells.astype(np.float64) + design.offset_levels  # in level steps above zero conductance
    offset = np.zeros((tiles, drive.row_group_count(rows), reading.reads))
    weights = driver_gain = converter_gain = None
    if drivers is not None:
        driver_gain, driver_offset = drivers.gain, drivers.offset
        if arrangement is not None:
            driver_gain, driver_offset = (
                arrangement.rows_of_tiles(driver_gain), arrangement.rows_of_tiles(driver_offset)
            )  # fmt: skip
        carried *= driver_gain[:, :, np.newaxis]
        if driver_offset.any():
            values = np.ascontiguousarray(reading.differences(carried))
            for tile in range(tiles):
                for number, driven in drive.row_groups(reading.matrix.tile_rows[tile] >= 0):
                    offset[tile, number] = driver_offset[tile, driven] @ values[tile, driven]
    if converters is not None:
        arrays, serves = _converters_of_reads(reading, design, arrangement)
        gain = converters.gain[arrays, serves]
        converter_gain = np.where(reading.read_of >= 0, gain[:, reading.read_of], 0.0)
        carried *= converter_gain[:, np.newaxis, :]
        offset = offset * gain[:, np.newaxis] + converters.offset[arrays, serves][:, np.newaxis]
        if converters.weights is not None:
            weights = converters.weights[arrays, serves]
    folded = round_to_grid(carried - design.offset_levels, design.offset_levels).astype(np.float32)
    offset = np.rint(offset / GRID) * GRID
    return folded, ConverterErrors(
        offset=offset.reshape(tiles, -1) if offset.any() else None,
        weights=weights,
        driver_gain=driver_gain,
        converter_gain=converter_gain,
    )


def _converters_of_reads(
    reading: Reading, design: Design, arrangement: Arrangement | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The array and the number of the converter of each read, both of shape (tiles, reads) or one that broadcasts."""
    reads: npt.NDArray[Any] = np.arange(reading.reads)[np.newaxis]
    arrays: npt.NDArray[Any] = np.arange(reading.matrix.tiles)[:, np.newaxis]
    if arrangement is not None:
        arrays = arrangement.arrays[:, np.newaxis]
        reads = arrangement.columns[:, reading.plus] // (2 if reading.paired else 1)
    return arrays, reads // design.periphery.columns_sharing_errors


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

    def __post_init__(self) -> None:
        check_fields(self)


@entrance
def current_losses(
    layer: str,
    cells: npt.NDArray[Any],
    matrix: MappedMatrix,
    design: Design,
    drive: Drive,
    lines: BrokenLines | None,
    arrangement: Arrangement | None = None,
) -> tuple[TileLoss, ...]:
    """Current lost in each tile of a layer: sensed against that of the same cells without wires and broken lines.

    Parameters
    ----------
    layer
        Its name.
    cells, matrix, design, drive, lines, arrangement
        As :func:`seen_cells`.
    """
    if arrangement is None:
        check_cells(cells, matrix)
    ideal = _cell_conductance(cells, design, None)
    real = _through_wires(_cell_conductance(cells, design, lines), matrix, design, drive, lines, arrangement)
    if lines is not None:
        lines.share(real)
    if arrangement is not None:
        ideal, real = arrangement.cells_of_tiles(ideal), arrangement.cells_of_tiles(real)
    losses = []
    for tile, used in enumerate(matrix.used):
        wanted = np.where(used, ideal[tile], 0.0).sum(axis=0)
        got = np.where(used, real[tile], 0.0).sum(axis=0)
        columns = wanted > 0
        if not columns.any():
            continue
        lost = 1.0 - got[columns] / wanted[columns]
        losses.append(
            TileLoss(
                layer=layer,
                tile=tile,
                mean=float(1.0 - got[columns].sum() / wanted[columns].sum()),
                worst=float(lost.max()),
            )
        )
    return tuple(losses)
