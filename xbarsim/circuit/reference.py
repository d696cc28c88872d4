"""The circuit solved as it stands: every node an unknown, sparse LU in float64. Slow and readable.

The truth the compiled kernels are tested against, and the solver for the voltages and currents inside one array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu

from xbarsim.circuit.network import Network, build_network
from xbarsim.circuit.wires import Wires, check_conductance, check_lines
from xbarsim.foundation.entrances import entrance

__all__ = ["active_cells", "factorise", "reference_effective_conductance"]


def active_cells(
    conductance: npt.NDArray[np.float64], wires: Wires, rows: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """The cells' own conductances (rows, columns), S, with those behind a transistor that is off at zero."""
    if wires.access == "0T1R":
        return conductance
    return np.where(rows[:, np.newaxis], conductance, 0.0)


def factorise(matrix: sparse.csr_array) -> Any:
    """Sparse LU of a symmetric positive definite matrix, without pivoting."""
    return splu(
        sparse.csc_array(matrix), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )


def _between(network: Network, matrix: sparse.csr_array) -> npt.NDArray[np.float64]:
    """Conductances between the fixed nodes once the free ones are removed, (fixed, fixed), S; diagonal meaningless."""
    free = network.free
    result = -matrix[free:, free:].toarray()
    if free:
        response = factorise(matrix[:free, :free]).solve(-matrix[:free, free:].toarray())
        result -= matrix[free:, :free] @ response
    return np.asarray(result)


@entrance
def reference_effective_conductance(
    conductance: npt.ArrayLike,
    wires: Wires,
    *,
    rows: npt.ArrayLike | None = None,
    columns: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """What :func:`xbarsim.circuit.effective_conductance` computes, for one array (rows, columns), by sparse LU.

    Its relative accuracy falls with the resistance of a wire segment over that of a cell: about 1e-16 times that
    ratio's inverse.
    """
    cells = check_conductance("conductance", conductance, (2,))
    height, width = cells.shape
    driven, sensed = check_lines("rows", rows, height), check_lines("columns", columns, width)
    cells = active_cells(cells, wires, driven)
    network = build_network((height, width), wires, driven, sensed)
    network.check_connected(cells)
    between = _between(network, network.laplacian(cells))
    result = np.zeros(cells.shape)
    kept = np.ix_(driven, sensed)
    result[kept] = between[np.ix_(network.drivers[driven] - network.free, network.senses[sensed] - network.free)]
    return result
