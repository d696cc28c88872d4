"""What is done about a die's faults, between what is broken and what is programmed: one file a method.

Examples
--------
>>> import numpy as np
>>> from xbarsim.devices import Cell, FaultMap, FaultKind
>>> from xbarsim.mapping import Mapping, map_matrix
>>> from xbarsim.mitigation import ClosestValue, KnownTile
>>> matrix = map_matrix(np.array([[5]]), Mapping(rows=1, columns=2, weight_bits=4, cell_bits=4))
>>> broken = FaultMap.from_dense(np.array([[[0, FaultKind.STUCK_ON]]]))  # level 15 is taken off the 5
>>> tile = KnownTile.of(matrix, 0, cell=Cell(g_min=1e-6, g_max=1.6e-5, levels=16), faults=broken)
>>> levels = ClosestValue().fit(tile, np.random.default_rng(0))
>>> levels.tolist(), tile.deviation(tile.levels).tolist(), tile.deviation(levels).tolist()
([[15, 15]], [[-15.0]], [[-5.0]])
"""

from __future__ import annotations

from xbarsim.mitigation.applying import MitigationTable, TileMitigation, check_mitigations, mitigate
from xbarsim.mitigation.base import KnownTile, Mitigation, Needs, Overhead
from xbarsim.mitigation.checksums import ChecksumReport, Checksums, ChecksumSum, output_sigma
from xbarsim.mitigation.closest_value import ClosestValue
from xbarsim.mitigation.diagnosis import Diagnosis, Granularity, KindCoverage
from xbarsim.mitigation.march import (
    MNSIM_OPERATIONS,
    PUMA_OPERATIONS,
    ArrayOperations,
    ArrayTest,
    CountedTest,
    MarchElement,
    MarchTest,
    array_test,
    array_test_names,
)
from xbarsim.mitigation.protect_layers import ProtectLayers
from xbarsim.mitigation.yields import spare_line_yield, spare_lines_needed

__all__ = [
    "MNSIM_OPERATIONS",
    "PUMA_OPERATIONS",
    "ArrayOperations",
    "ArrayTest",
    "ChecksumReport",
    "ChecksumSum",
    "Checksums",
    "ClosestValue",
    "CountedTest",
    "Diagnosis",
    "Granularity",
    "KindCoverage",
    "KnownTile",
    "MarchElement",
    "MarchTest",
    "Mitigation",
    "MitigationTable",
    "Needs",
    "Overhead",
    "ProtectLayers",
    "TileMitigation",
    "array_test",
    "array_test_names",
    "check_mitigations",
    "mitigate",
    "output_sigma",
    "spare_line_yield",
    "spare_lines_needed",
]
