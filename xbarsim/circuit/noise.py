"""What converters see of the cells' noise through the wires: exactly for one array, and fast for all of a network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xbarsim.circuit.effective import Lines, active_branches, each_tile
from xbarsim.circuit.ladders import weigh
from xbarsim.circuit.network import build_network
from xbarsim.circuit.reference import active_cells, factorise
from xbarsim.circuit.wires import Wires, check_conductance, check_effective, check_lines
from xbarsim.devices import NoiseVariance
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_array, check_instance, check_real

__all__ = ["effective_variance", "reference_covariance"]

Floats = npt.NDArray[np.float64]


def _check_variance(variance: NoiseVariance, shape: tuple[int, ...]) -> None:
    check_instance("variance", variance, NoiseVariance)
    for name in ("constant", "linear", "quadratic"):
        term = getattr(variance, name)
        if term.shape != shape:
            raise InputError(f"variance.{name} must have shape {shape}, as the conductances, got {term.shape}")
        if not (term >= 0.0).all():
            where = tuple(int(i) for i in np.argwhere(~(term >= 0.0))[0])
            raise InputError(f"variance.{name} must be >= 0, got {float(term[where])!r} at index {where}")


@entrance
def reference_covariance(
    conductance: npt.ArrayLike,
    variance: NoiseVariance,
    codes: npt.ArrayLike,
    wires: Wires,
    *,
    rows: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Covariance of the sensed currents of one array, every cell's noise led through the whole circuit.

    Each cell is a source of noise beside its conductance, with the variance that belongs to the voltage which really
    stands across it. By reciprocity [1]_ a current source across a cell reaches a sense circuit as that circuit, at 1 V
    with all other terminals at 0 V, reaches the cell: the transfer is the voltage across it. Wires, drivers, sense
    circuits and transistors make no noise of their own.

    Parameters
    ----------
    conductance
        Of the cells, (rows, columns), S; finite and >= 0.
    variance
        Of each cell in one read, S^2, arrays of the same shape; the code that it is a polynomial of is the voltage
        across the cell itself in units of that of code 1, its sign left out.
    codes
        What drives the rows, in the same units, (rows,); 0 in rows not selected.
    wires
        The surroundings of the cells.
    rows
        Mask of the selected rows, as for :func:`effective_conductance`.

    Returns
    -------
    ndarray
        Of conductance times code, S^2, (columns, columns).

    Raises
    ------
    InputError
        For input out of bounds.
    FloatingNodeError
        If a node is connected to no driver and no sense circuit, naming it.

    Notes
    -----
    By a sparse LU and as many solutions as the array has lines: for arrays of up to some 128 x 128 cells.

    References
    ----------
    .. [1] R. Rohrer, L. Nagel, R. Meyer, L. Weber, IEEE J. Solid-State Circuits 6, 204 (1971),
       doi:10.1109/JSSC.1971.1049680 (not verified): noise by one solution of the adjoint network for each output.
    """
    check_instance("wires", wires, Wires)
    given = check_conductance("conductance", conductance, (2,))
    height, width = given.shape
    _check_variance(variance, given.shape)
    driven, sensed = check_lines("rows", rows, height), np.ones(width, np.bool_)
    x = check_array("codes", np.asarray(codes, dtype=np.float64), dimensions=1, kind="floating")
    if x.shape != (height,) or (x[~driven] != 0.0).any():
        raise InputError(f"codes must have shape ({height},) and be 0 in rows not selected, got {x}")
    cells = active_cells(given, wires, driven)
    network = build_network(given.shape, wires, driven, sensed)
    network.check_connected(cells)
    matrix, free = network.laplacian(cells), network.free
    voltages = np.zeros((network.nodes, width + 1))
    voltages[network.senses, np.arange(width)] = 1.0
    tied = network.drivers >= 0
    voltages[network.drivers[tied], width] = x[tied]
    if free:
        voltages[:free] = factorise(matrix[:free, :free]).solve(-(matrix[:free, free:] @ voltages[free:]))
    across = voltages[network.word] - voltages[network.inner]  # (rows, columns, terminals)
    noise = np.where(cells > 0.0, 1.0, driven[:, np.newaxis]) * variance(np.abs(across[:, :, width]))
    weighted = across[:, :, :width] * np.sqrt(noise)[:, :, np.newaxis]
    flat = weighted.reshape(-1, width)
    return np.asarray(flat.T @ flat)


@entrance
def effective_variance(
    conductance: npt.ArrayLike,
    effective: npt.ArrayLike,
    variance: NoiseVariance,
    wires: Wires,
    *,
    rows: npt.ArrayLike | None = None,
    filling: float = 0.3,
) -> NoiseVariance:
    """Variance that each driven row adds to each column's current, as a polynomial of the row's code.

    What :func:`reference_covariance` computes for one input is put into the form of a layer without wires, for all
    inputs at once: the variance of column k is the sum over the rows i of ``constant[i, k] + linear[i, k] * x[i] +
    quadratic[i, k] * x[i]**2``. Noise of other columns that comes over shared word lines is counted; that columns then
    have noise in common is not.

    Parameters
    ----------
    conductance
        Of the cells, S, (rows, columns) or (tiles, rows, columns); finite and >= 0.
    effective
        Their :func:`effective_conductance` with the same wires and rows.
    variance
        Of each cell in one read, S^2 (or in any other unit), arrays of the same shape, for an ideal array.
    wires
        The surroundings of the cells.
    rows
        Mask of the selected rows. Cells of others, where no transistor cuts them off, add what noise they have without
        voltage, in equal parts to the rows that are selected.
    filling
        How much the other rows load the lines when a row is driven: the squared mean of the rows' codes over their mean
        square, 0 to 1. Of bits the share that is 1.

    Returns
    -------
    NoiseVariance
        Shape of `conductance`; zero in rows that are not selected.

    Raises
    ------
    InputError
        For input out of bounds.

    Notes
    -----
    An estimate, in time proportional to the number of cells: see :mod:`xbarsim.circuit.ladders`. How good it is stands
    in the theory of read noise in the documentation. Exact without resistances.
    """
    check_instance("wires", wires, Wires)
    filling = check_real("filling", filling, at_least=0.0, at_most=1.0)
    given, through = check_effective(conductance, effective)
    _check_variance(variance, given.shape)
    height, width = given.shape[-2:]
    tiles, through = given.reshape(-1, height, width), through.reshape(-1, height, width)
    driven, sensed = check_lines("rows", rows, height), np.ones(width, np.bool_)
    cells = active_branches(tiles, wires, driven)
    terms = np.stack([variance.constant, variance.linear, variance.quadratic]).reshape(3, -1, height, width)
    terms = np.ascontiguousarray(terms.swapaxes(0, 1), dtype=np.float64)
    if wires.access_resistance > 0.0:
        # A transistor takes its share of the current of a source beside the cell, and of the cell's voltage.
        share = 1.0 / (1.0 + tiles * wires.access_resistance)
        terms *= np.stack([share**2, share**3, share**4], axis=1)
    if wires.access == "1T1R":
        terms[:, :, ~driven] = 0.0
    lines = Lines.of(wires, driven, sensed)

    def one(tile: int) -> None:
        weigh(
            cells[tile], through[tile], driven, lines.word, lines.drivers, lines.bit, lines.senses, filling, terms[tile]
        )

    each_tile(one, len(tiles))
    constant, linear, quadratic = (terms[:, k].reshape(given.shape) for k in range(3))
    return NoiseVariance(constant=constant, linear=linear, quadratic=quadratic)
