"""From trained weights to cells: quantise, slice, encode, tile and pack.

Examples
--------
>>> import numpy as np
>>> from xbarsim.mapping import Differential, Mapping, map_matrix, quantise
>>> weights = np.array([[0.5, -1.0], [0.25, 0.0], [0.0, 0.0]])  # 3 inputs, 2 outputs
>>> quantised = quantise(weights, bits=4, per="tensor")
>>> quantised.codes.tolist()
[[4, -7], [2, 0], [0, 0]]
>>> mapped = map_matrix(quantised.codes, Mapping(encoding=Differential(), rows=4, columns=8, weight_bits=4))
>>> mapped.tiles, mapped.cells_used  # the row without weights takes no cells
(1, 8)
>>> mapped.codes().tolist()
[[4, -7], [2, 0], [0, 0]]
"""

from __future__ import annotations

if __name__ != "xbarsim.mapping":
    raise ImportError("import xbarsim.mapping, not mapping")

from xbarsim.mapping.arrangement import Arrangement
from xbarsim.mapping.configuration import Mapping
from xbarsim.mapping.encodings import (
    ENCODINGS,
    Balanced,
    Differential,
    DuplicatedDifferential,
    DuplicatedTop,
    Encoding,
    Offset,
    PairEncoding,
    TwoColumn,
    Unary,
)
from xbarsim.mapping.packing import PACKINGS, Packing
from xbarsim.mapping.placement import CellSet, MappedMatrix, TileGroup, WeightCell, map_matrix
from xbarsim.mapping.quantisation import QuantisedMatrix, quantise
from xbarsim.mapping.reading import Reading

__all__ = [
    "ENCODINGS",
    "PACKINGS",
    "Arrangement",
    "Balanced",
    "CellSet",
    "Differential",
    "DuplicatedDifferential",
    "DuplicatedTop",
    "Encoding",
    "MappedMatrix",
    "Mapping",
    "Offset",
    "Packing",
    "PairEncoding",
    "QuantisedMatrix",
    "Reading",
    "TileGroup",
    "TwoColumn",
    "Unary",
    "WeightCell",
    "map_matrix",
    "quantise",
]
