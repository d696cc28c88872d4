"""What a mapped layer uses: the arrays, reads, conversions and bytes that its place and its design mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarsim.cost.estimate import LayerUse
from xbarsim.mapping import MappedMatrix

if TYPE_CHECKING:
    from xbarsim.design import Design
    from xbarsim.network import MappedLayer

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


def layer_use(mapped: MappedLayer, design: Design, cells: npt.NDArray[Any] | None) -> LayerUse:
    """What one layer of a mapped network uses.

    Parameters
    ----------
    mapped
        The layer and where it was placed.
    design
        The accelerator.
    cells
        What the cells hold, in level units, shape ``(tiles, rows, columns)``: their static power is that of a die.
        ``None`` for the card's published array power.

    Notes
    -----
    An ideal read-out is charged as the lossless converter that could replace it. Pairs that are subtracted before the
    converter take one conversion a pair; a reference column takes one of its own.
    """
    layer, matrix, readout, mapping = mapped.layer, mapped.matrix, mapped.readout, design.mapping
    bits = readout.converter_bits
    driven = (matrix.tile_rows >= 0).sum(axis=1)
    if bits is None:
        lossless = design.largest_sum(int(driven.max(initial=1)))
        bits = int(np.ceil(np.log2(np.ceil(lossless) + 1))) + (readout.subtraction == "analog")
    held = matrix.tile_outputs >= 0
    pairs = int(held.sum()) * mapping.slices
    references = int(held.any(axis=1).sum()) if mapping.has_reference else 0
    columns = pairs * mapping.sides + references
    return LayerUse(
        name=layer.name,
        arrays=matrix.tiles,
        rows=mapping.rows,
        columns=mapping.columns,
        adc_bits=bits,
        dac_bits=readout.dac_bits,
        reads_per_vector=readout.planes * readout.passes * mapped.activations,
        activations=mapped.activations,
        macs_per_vector=layer.codes.size // layer.groups,
        vectors_per_image=mapped.vectors_per_image,
        cells_power=None if cells is None else mapped.cells_power(cells, design),
        driven_rows=int(driven.sum()),
        used_columns=columns,
        cells_used=matrix.cells_used,
        conversions=pairs + references if readout.subtraction == "analog" else columns,
        inputs=layer.codes.shape[0],
        outputs=layer.codes.shape[1],
        input_bits=layer.input_bits,
        index_bits=index_bits(matrix),
    )
