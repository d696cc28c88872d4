"""What a mapped layer uses of a chip: its place and its design as the plain numbers that :mod:`xbarsim.cost` takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xbarsim.cost import LayerUse
from xbarsim.design import Design, Readout
from xbarsim.mapping import MappedMatrix

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


def _column_use(matrix: MappedMatrix, subtraction: Literal["analog", "digital"]) -> _ColumnUse:
    """The one place where a cost depends on the encoding.

    Pairs that are subtracted before the converter take one conversion a pair; a reference column takes one of its own,
    and is taken off every output of its tile. An offset without a reference column is taken off with a sum of inputs.
    """
    mapping = matrix.mapping
    held = matrix.tile_outputs >= 0
    outputs, tiles = int(held.sum()), int(held.any(axis=1).sum())
    slices = outputs * mapping.slices
    references = tiles if mapping.has_reference else 0
    columns = slices * mapping.sides + references
    shifted = mapping.sides == 1
    return _ColumnUse(
        used_columns=columns,
        conversions=slices + references if subtraction == "analog" else columns,
        subtractions=outputs if shifted else 0,
        input_sums=tiles if shifted and not mapping.has_reference else 0,
    )


def layer_use(
    name: str,
    matrix: MappedMatrix,
    readout: Readout,
    design: Design,
    *,
    macs_per_vector: int,
    vectors_per_image: int,
    cells_power: float | None = None,
) -> LayerUse:
    """What one layer of a mapped network uses.

    Parameters
    ----------
    name
        Its name.
    matrix
        Where it was placed.
    readout
        How its tiles are read.
    design
        The accelerator.
    macs_per_vector
        Useful multiply-accumulates for one input vector.
    vectors_per_image
        Input vectors for one image.
    cells_power
        Mean static power of the cells while all tiles are read, W; ``None`` for the card's published array power.

    Notes
    -----
    An ideal read-out is charged as the lossless converter that could replace it.
    """
    driven = (matrix.tile_rows >= 0).sum(axis=1)
    fullest = int(driven.max(initial=1))
    bits = readout.converter_bits
    if bits is None:
        signed = readout.subtraction == "analog"  # a difference of columns
        bits = math.ceil(math.log2(math.ceil(design.largest_sum(fullest)) + 1)) + signed
    row_groups = readout.activations(fullest)
    columns = _column_use(matrix, readout.subtraction)
    return LayerUse(
        name=name,
        arrays=matrix.tiles,
        rows=matrix.mapping.rows,
        columns=matrix.mapping.columns,
        adc_bits=bits,
        dac_bits=readout.dac_bits,
        reads_per_vector=readout.planes * readout.passes * row_groups,
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
        input_bits=readout.input_bits,
        index_bits=index_bits(matrix),
    )
