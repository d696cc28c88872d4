"""Voltages and currents everywhere in one array for one input, with linear or non-linear cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from xbarsim.circuit.cells import CurrentLaw
from xbarsim.circuit.network import Network, build_network
from xbarsim.circuit.reference import active_cells, factorise
from xbarsim.circuit.wires import Wires, check_conductance, check_lines
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_array, check_instance, check_integer, check_real

__all__ = ["ConvergenceError", "LinearisationError", "Solution", "linearisation_error", "solve"]

Floats = npt.NDArray[np.float64]
_SHORTEST_STEP = 2.0**-30


class ConvergenceError(RuntimeError):
    """Newton's method did not converge.

    Attributes
    ----------
    residual
        The largest current that a node still gains or loses, A.
    iterations
        Steps taken.
    """

    def __init__(self, message: str, *, residual: float, iterations: int) -> None:
        super().__init__(message)
        self.residual = residual
        self.iterations = iterations


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """The state of one array under one input.

    Attributes
    ----------
    word_line_voltages, bit_line_voltages
        At each cell, (rows, columns), V.
    cell_currents
        From word line to bit line, (rows, columns), A.
    column_currents
        Sensed, (columns,), A; zero in columns not selected.
    row_currents
        Given by the drivers, (rows,), A; zero where a line floats.
    residual
        The largest current that any node gains or loses, A: zero but for rounding and tolerance.
    iterations
        Newton steps; 0 for linear cells.
    """

    word_line_voltages: Floats
    bit_line_voltages: Floats
    cell_currents: Floats
    column_currents: Floats
    row_currents: Floats
    residual: float
    iterations: int

    def __post_init__(self) -> None:
        check_fields(self)


def _cell_currents(network: Network, cells: Floats, law: CurrentLaw | None, voltages: Floats) -> tuple[Floats, Floats]:
    across = voltages[network.word] - voltages[network.inner]
    if law is None:
        return cells * across, cells
    current, slope = law.evaluate(cells, across)
    # A cell behind a transistor that is off carries nothing, whatever its law says of zero conductance.
    return np.where(cells > 0.0, current, 0.0), np.where(cells > 0.0, slope, 0.0)


def _leaving(network: Network, wiring: sparse.csr_array, currents: Floats, voltages: Floats) -> Floats:
    """Net current leaving each node through wires and cells, (nodes,), A."""
    leaving = np.asarray(wiring @ voltages)
    np.add.at(leaving, network.word, currents)
    np.subtract.at(leaving, network.inner, currents)
    return leaving


def _newton(
    network: Network,
    cells: Floats,
    law: CurrentLaw,
    voltages: Floats,
    tolerance: float,
    maximum_iterations: int,
) -> tuple[Floats, int]:
    """Improve `voltages` (nodes,) until no free node gains or loses current."""
    free = network.free
    wiring = network.laplacian()
    diagonal = wiring.diagonal()[:free]

    def state(at: Floats) -> tuple[Floats, float, float, float, Floats]:
        """Residual of each free node, its norm, what is wanted of it, what rounding may leave, and the slopes."""
        with np.errstate(invalid="ignore", over="ignore"):
            currents, slopes = _cell_currents(network, cells, law, at)
            residual = _leaving(network, wiring, currents, at)[:free]
            rounding = 16.0 * np.finfo(np.float64).eps * float((diagonal * np.abs(at[:free])).max(initial=0.0))
            wanted = tolerance * float(np.abs(currents).max())
            return residual, float(np.linalg.norm(residual)), wanted, rounding, slopes

    residual, norm, wanted, rounding, slopes = state(voltages)
    iteration = 0
    while free and np.abs(residual).max() > wanted and iteration < maximum_iterations:
        step = np.zeros(network.nodes)
        step[:free] = factorise(network.laplacian(slopes)[:free, :free]).solve(-residual)
        length = 1.0
        while length >= _SHORTEST_STEP:
            trial = voltages + length * step
            tried = state(trial)
            if tried[1] < (1.0 - 1e-4 * length) * norm:
                break
            length *= 0.5
        else:
            break  # no better voltages: either rounding, or failure
        voltages, (residual, norm, wanted, rounding, slopes) = trial, tried
        iteration += 1
    if not free or np.abs(residual).max() <= max(wanted, rounding):
        return voltages, iteration
    worst = float(np.abs(residual).max())
    raise ConvergenceError(
        f"Newton's method did not converge: after {iteration} steps a node's currents miss zero by {worst:.3g} A, "
        f"allowed {max(wanted, rounding):.3g} A",
        residual=worst,
        iterations=iteration,
    )


@entrance
def solve(
    conductance: npt.ArrayLike,
    voltages: npt.ArrayLike,
    wires: Wires,
    *,
    law: CurrentLaw | None = None,
    rows: npt.ArrayLike | None = None,
    columns: npt.ArrayLike | None = None,
    tolerance: float = 1e-10,
    maximum_iterations: int = 50,
) -> Solution:
    """Solve one array for one input: every node voltage and every current.

    Parameters
    ----------
    conductance
        Of the cells (at small voltages, if a law is given), (rows, columns), S; finite and >= 0. A cell of zero
        conductance carries nothing under any law.
    voltages
        Of the drivers, (rows,), V; must be zero in rows not selected.
    wires
        The surroundings of the cells.
    law
        Current against voltage of the cells; ``None`` for a straight line.
    rows, columns
        Masks of the selected lines, as for :func:`effective_conductance`.
    tolerance
        With a law: Newton stops once no node gains or loses more than this share of the largest cell current, or
        cannot be improved and misses that by no more than rounding explains (wires of little resistance).
    maximum_iterations
        Of Newton's method.

    Raises
    ------
    InputError
        For input out of bounds, cells whose law is not rising, or a cell driven beyond its law's range.
    FloatingNodeError
        If a node is connected to no driver and no sense circuit, naming it.
    ConvergenceError
        If Newton's method does not converge, with the residual.
    """
    check_instance("wires", wires, Wires)
    check_instance("law", law, (CurrentLaw, type(None)))
    check_real("tolerance", tolerance, above=0.0)
    check_integer("maximum_iterations", maximum_iterations, at_least=1)
    given = check_conductance("conductance", conductance, (2,))
    height, width = given.shape
    driven, sensed = check_lines("rows", rows, height), check_lines("columns", columns, width)
    inputs = check_array("voltages", np.asarray(voltages, dtype=np.float64), dimensions=1, kind="floating")
    if inputs.shape != (height,):
        raise InputError(f"voltages must have shape ({height},), got {inputs.shape}")
    if (inputs[~driven] != 0.0).any():
        where = int(np.flatnonzero(~driven & (inputs != 0.0))[0])
        raise InputError(f"voltages must be 0 V in rows not selected, got {float(inputs[where])!r} at index {where}")
    cells = active_cells(given, wires, driven)
    if law is not None:
        law.check(cells[cells > 0.0])
    network = build_network((height, width), wires, driven, sensed)
    network.check_connected(cells)

    matrix, free = network.laplacian(cells), network.free
    known = np.zeros(network.nodes)
    tied = network.drivers >= 0
    known[network.drivers[tied]] = inputs[tied]
    if free:
        known[:free] = factorise(matrix[:free, :free]).solve(-(matrix[:free, free:] @ known[free:]))
    iterations = 0
    if law is not None:
        known, iterations = _newton(network, cells, law, known, tolerance, maximum_iterations)

    currents, _ = _cell_currents(network, cells, law, known)
    if law is not None:
        across = np.where(cells > 0.0, np.abs(known[network.word] - known[network.inner]), 0.0)
        if across.max() > law.maximum_voltage:
            row, column = (int(k) for k in np.unravel_index(np.argmax(across), across.shape))
            raise InputError(
                f"voltages must leave every cell at <= {law.maximum_voltage!r} V, where its law holds, "
                f"got {float(across[row, column])!r} V at row {row}, column {column}"
            )
    leaving = _leaving(network, network.laplacian(), currents, known)
    return Solution(
        word_line_voltages=known[network.word],
        bit_line_voltages=known[network.bit],
        cell_currents=currents,
        # A line meets nothing but its cells and its terminals, so these sums are the terminals' currents; the
        # voltage across a driver or a sense circuit of little resistance would give them with fewer digits.
        column_currents=np.where(sensed, currents.sum(axis=0), 0.0),
        row_currents=np.where(tied, currents.sum(axis=1), 0.0),
        residual=float(np.abs(leaving[:free]).max(initial=0.0)),
        iterations=iterations,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearisationError:
    """What taking the cells for straight lines does to the column currents of one array and input.

    Attributes
    ----------
    exact, linear
        Column currents with the law and with straight lines, (columns,), A.
    error
        ``linear - exact``, (columns,), A.
    relative
        The error over the largest exact current of any column, (columns,).
    worst_column
        Where it is largest.
    """

    exact: Floats
    linear: Floats
    error: Floats
    relative: Floats
    worst_column: int

    def __post_init__(self) -> None:
        check_fields(self)

    def __str__(self) -> str:
        """One line for a report."""
        worst = self.worst_column
        root_mean_square = float(np.sqrt(np.mean(self.relative**2)))
        return (
            f"linearising the cells errs by {self.relative[worst]:+.3%} of the largest column current at worst "
            f"(column {worst}: {self.linear[worst]:.6g} A for {self.exact[worst]:.6g} A), {root_mean_square:.3%} rms"
        )


@entrance
def linearisation_error(
    conductance: npt.ArrayLike,
    voltages: npt.ArrayLike,
    wires: Wires,
    law: CurrentLaw,
    *,
    rows: npt.ArrayLike | None = None,
    columns: npt.ArrayLike | None = None,
) -> LinearisationError:
    """The error of the linear model (``law=None``) for one array and input; parameters and errors as :func:`solve`."""
    check_instance("law", law, CurrentLaw)
    exact = solve(conductance, voltages, wires, law=law, rows=rows, columns=columns).column_currents
    linear = solve(conductance, voltages, wires, rows=rows, columns=columns).column_currents
    error = linear - exact
    largest = float(np.abs(exact).max())
    relative = error / largest if largest > 0.0 else np.zeros_like(error)
    return LinearisationError(
        exact=exact,
        linear=linear,
        error=error,
        relative=relative,
        worst_column=int(np.argmax(np.abs(relative))),
    )
