"""What is done about a die's faults: before it is programmed, and with its outputs; one file a method.

Examples
--------
>>> import numpy as np
>>> from xbarsim.devices import Cell, FaultMap, FaultKind
>>> from xbarsim.mapping import Mapping, map_matrix
>>> from xbarsim.mitigation import ClosestValue, KnownLayer
>>> matrix = map_matrix(np.array([[5]]), Mapping(rows=1, columns=2, weight_bits=4, cell_bits=4))
>>> broken = FaultMap.from_dense(np.array([[[0, FaultKind.STUCK_ON]]]))  # level 15 is taken off the 5
>>> tile = KnownLayer.of(matrix, cell=Cell(g_min=1e-6, g_max=1.6e-5, levels=16), faults=broken).tile(0)
>>> fit = ClosestValue().fit(tile, np.random.default_rng(0))
>>> fit.levels.tolist(), tile.deviation(tile.fit).tolist(), tile.deviation(fit).tolist()
([[15, 15]], [[-15.0]], [[-5.0]])
"""

from __future__ import annotations

from xbarsim.mitigation.applying import MitigatedLayer, MitigationTable, TileMitigation, check_mitigations, mitigate
from xbarsim.mitigation.assign_arrays import AssignArrays
from xbarsim.mitigation.base import Mitigation, Needs, OutputAdjustment, OutputStatistics, Overhead
from xbarsim.mitigation.checksums import ChecksumReport, Checksums, ChecksumSum, output_sigma
from xbarsim.mitigation.closest_value import ClosestValue
from xbarsim.mitigation.copies import AverageCopies, ChooseCopies, JointCopies
from xbarsim.mitigation.correct_digitally import CorrectDigitally
from xbarsim.mitigation.diagnosis import Diagnosis, Granularity, KindCoverage
from xbarsim.mitigation.exchange_columns import FlipSigns, OrderSlices
from xbarsim.mitigation.full_scale import best_clip, fault_power
from xbarsim.mitigation.known import Correction, KnownLayer, KnownTile, TileFit
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
from xbarsim.mitigation.permute_columns import PermuteColumns
from xbarsim.mitigation.permute_rows import PermuteRows
from xbarsim.mitigation.protect_layers import ProtectLayers
from xbarsim.mitigation.recalibrate_outputs import RecalibrateOutputs
from xbarsim.mitigation.yields import spare_line_yield, spare_lines_needed

__all__ = [
    "MNSIM_OPERATIONS",
    "PUMA_OPERATIONS",
    "ArrayOperations",
    "ArrayTest",
    "AssignArrays",
    "AverageCopies",
    "ChecksumReport",
    "ChecksumSum",
    "Checksums",
    "ChooseCopies",
    "ClosestValue",
    "CorrectDigitally",
    "Correction",
    "CountedTest",
    "Diagnosis",
    "FlipSigns",
    "Granularity",
    "JointCopies",
    "KindCoverage",
    "KnownLayer",
    "KnownTile",
    "MarchElement",
    "MarchTest",
    "MitigatedLayer",
    "Mitigation",
    "MitigationTable",
    "Needs",
    "OrderSlices",
    "OutputAdjustment",
    "OutputStatistics",
    "Overhead",
    "PermuteColumns",
    "PermuteRows",
    "ProtectLayers",
    "RecalibrateOutputs",
    "TileFit",
    "TileMitigation",
    "array_test",
    "array_test_names",
    "best_clip",
    "check_mitigations",
    "fault_power",
    "mitigate",
    "output_sigma",
    "spare_line_yield",
    "spare_lines_needed",
]
