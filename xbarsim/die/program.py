"""From target levels to what the cells of a die hold: the only place where these steps are written down."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xbarsim.devices import Cell, FaultMap, FaultModel
from xbarsim.foundation.entrances import entrance

__all__ = ["program"]


@entrance
def program(
    levels: npt.ArrayLike,
    cell: Cell,
    cell_bits: int,
    rng: np.random.Generator,
    *,
    faults: FaultMap | FaultModel | None = None,
    seconds: float = 0.0,
    drift: np.random.Generator | None = None,
    states: np.random.Generator | None = None,
) -> npt.NDArray[np.float32]:
    """What cells hold: programmed to their targets, drifted, settled, and then the stuck ones where they are stuck.

    Parameters
    ----------
    levels
        Target levels, integers, shape ``(tiles, rows, columns)``.
    cell
        The memory cell.
    cell_bits
        Bits per cell.
    rng
        Source of the programming errors.
    faults
        Which cells are stuck; a fault model breaks cells drawn from `rng`, after the programming errors; ``None`` for
        none.
    seconds
        Time of drift, s.
    drift
        Source of the cells' trajectories; needed where `seconds` are not 0.
    states
        Source of what read noise fixes in the cells of a die for good; ``None`` to leave that out.

    Returns
    -------
    ndarray
        Level units, float32 multiples of :data:`xbarsim.devices.GRID`, shape of `levels`.

    Raises
    ------
    InputError
        If a level is out of the cell's range, the fault map has another shape, or the cell's drift does not hold for
        `seconds`.
    """
    targets = np.asarray(levels)
    # Drift starts from what was drawn: of cells that stopped at zero conductance that says how far they missed.
    cells = cell.program(targets, cell_bits, rng, stopped=not seconds)
    if seconds:
        assert drift is not None
        cells = cell.relax(cells, targets, cell_bits, seconds, drift)
    if states is not None and cell.read_noise is not None and cell.read_noise.per_die:
        cells = cell.settle(cells, cell_bits, states)
    if isinstance(faults, FaultModel):
        faults = faults.sample(targets.shape, rng)
    return cells if faults is None else faults.apply(cells, faults.stuck_levels(cell, cell_bits))
