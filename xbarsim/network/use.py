"""What a mapped layer uses of a chip: its place and its design as the plain numbers that :mod:`xbarsim.cost` takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xbarsim.cost import Activity, LayerUse
from xbarsim.design import Converter, Design, Drive
from xbarsim.mapping import MappedMatrix, Reading

__all__ = ["index_bits", "layer_use"]


def index_bits(matrix: MappedMatrix) -> int:
    """Bits that say which rows and outputs of a packed matrix its cells hold; 0 where all are in their place.

    Every list of rows that tiles share is stored once, ``ceil(log2 K)`` bits a row, and so is every list of outputs,
    ``ceil(log2 N)`` bits an output, for a matrix of K inputs and N outputs. A list of all indices needs no storage.

    Parameters
    ----------
    matrix
        The placed matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from xbarsim.mapping import Mapping, map_matrix
    >>> codes = np.ones((200, 8), dtype=int)
    >>> codes[50:] = 0
    >>> index_bits(map_matrix(codes, Mapping())), index_bits(map_matrix(codes, Mapping(pack="none")))
    (400, 0)
    """
    bits = 0
    for size, indices in ((matrix.shape[0], matrix.tile_rows), (matrix.shape[1], matrix.tile_outputs)):
        lists = {each.tobytes(): each[each >= 0] for each in indices}
        stored = sum(len(each) for each in lists.values())
        held = np.concatenate(list(lists.values())) if lists else np.zeros(0, np.int32)
        if np.array_equal(held, np.arange(size)):
            continue
        bits += stored * max(1, math.ceil(math.log2(size)))
    return bits


@dataclass(frozen=True, kw_only=True)
class _ColumnUse:
    """What one read of every tile of a matrix does with its columns, over all tiles; fields as in `LayerUse`."""

    used_columns: int
    conversions: int
    subtractions: int
    input_sums: int


def _column_use(reading: Reading) -> _ColumnUse:
    """Every read that serves an output takes one conversion.

    What a shared column gives, or the sum of a tile's inputs, is taken off every output of the tile.
    """
    held = reading.matrix.tile_outputs >= 0
    outputs, tiles = int(held.sum()), int(held.any(axis=1).sum())
    conversions = int(reading.used.sum())
    shared, shifted = bool(reading.shared.any()), reading.shift != 0
    return _ColumnUse(
        used_columns=conversions + int(reading.used[:, reading.minus >= 0].sum()),
        conversions=conversions,
        subtractions=outputs if shared or shifted else 0,
        input_sums=tiles if shifted else 0,
    )


def layer_use(
    name: str,
    reading: Reading,
    drive: Drive,
    converter: Converter,
    design: Design,
    *,
    macs_per_vector: int,
    vectors_per_image: float,
    cells_power: float | None = None,
    spare_rows: int = 0,
    spare_columns: int = 0,
    stored_bits: int = 0,
    activity: Activity | None = None,
) -> LayerUse:
    """What one layer of a mapped network uses.

    Parameters
    ----------
    name
        Its name.
    reading
        Where it was placed, and what its columns count.
    drive, converter
        How its tiles are driven and read.
    design
        The accelerator.
    macs_per_vector
        Useful multiply-accumulates for one input vector.
    vectors_per_image
        Input vectors for one image; a mean over images need not be whole.
    cells_power
        Mean static power of the cells while all tiles are read, W; ``None`` for the card's published array power.
    spare_rows, spare_columns
        Lines that every array has beside those of the mapping.
    stored_bits
        What it stores beside its indices, such as the order of its rows.
    activity
        How much of it its inputs drive and read, or ``None``.

    Notes
    -----
    An ideal read-out is charged as the lossless converter that could replace it.
    """
    matrix = reading.matrix
    driven = (matrix.tile_rows >= 0).sum(axis=1)
    fullest = int(driven.max(initial=1))
    bits = converter.bits
    if bits is None:
        bits = math.ceil(math.log2(math.ceil(design.largest_sum(fullest)) + 1)) + reading.paired  # a sign
    row_groups = drive.row_group_count(fullest)
    columns = _column_use(reading)
    return LayerUse(
        name=name,
        arrays=matrix.tiles,
        rows=matrix.mapping.rows + spare_rows,
        columns=matrix.mapping.columns,
        adc_bits=bits,
        dac_bits=drive.dac_bits,
        reads_per_vector=drive.planes * drive.passes * row_groups,
        row_groups=row_groups,
        macs_per_vector=macs_per_vector,
        vectors_per_image=vectors_per_image,
        cells_power=cells_power,
        driven_rows=int(driven.sum()),
        used_columns=columns.used_columns,
        conversions=columns.conversions,
        subtractions=columns.subtractions,
        input_sums=columns.input_sums,
        cells_used=matrix.cells_used,
        inputs=matrix.shape[0],
        outputs=matrix.shape[1],
        input_bits=drive.input_bits,
        index_bits=index_bits(matrix) + stored_bits,
        spare_columns=spare_columns,
        columns_per_adc=design.periphery.columns_per_adc,
        converter_inputs=reading.reads,
        activity=activity,
        skip_idle=design.periphery.skip_idle,
    )
