"""Voltages and currents everywhere in one array for one input, with linear or non-linear cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.circuit.cells import CurrentLaw
from xbarsim.circuit.network import Network, build_network
from xbarsim.circuit.reference import active_cells
from xbarsim.circuit.refinement import Branches, Levels, Voltages, settle
from xbarsim.circuit.wires import Wires, check_conductance, check_lines
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_array, check_instance, check_integer, check_real

__all__ = ["ConvergenceError", "LinearisationError", "Solution", "linearisation_error", "solve"]

Floats = npt.NDArray[np.float64]
_SHORTEST_STEP = 2.0**-30
_PLACES = (-1.0, -0.5, 0.0, 0.5, 1.0)  # where a law's slope is looked at, in shares of the largest input


class ConvergenceError(RuntimeError):
    """No voltages were found at which every node's currents sum to zero.

    Attributes
    ----------
    residual
        The largest current that a node still gains or loses, A.
    iterations
        Newton steps taken; 0 for linear cells.
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
        The largest current that any node gains or loses, A: at most the tolerance times the largest cell current. Of
        nodes joined by a conductance so great that no float64 holds the current in it, that of all together.
    error_bound
        What all nodes gain or lose together, A: no cell's current is wrong by more, but for rounding of its own.
    iterations
        Newton steps; 0 for linear cells.
    """

    word_line_voltages: Floats
    bit_line_voltages: Floats
    cell_currents: Floats
    column_currents: Floats
    row_currents: Floats
    residual: float
    error_bound: float
    iterations: int

    def __post_init__(self) -> None:
        check_fields(self)


class _Circuit:
    """One array as branches between nodes: first its resistors, then the cells that conduct."""

    def __init__(self, network: Network, cells: Floats, law: CurrentLaw | None) -> None:
        self.free, self.nodes, self.law = network.free, network.nodes, law
        self.conducting = np.flatnonzero(cells.ravel() > 0.0)
        self.cells = cells.ravel()[self.conducting]
        self.resistors = network.resistor.size
        self.branches = Branches(
            np.concatenate([network.first, network.word.ravel()[self.conducting]]),
            np.concatenate([network.second, network.inner.ravel()[self.conducting]]),
            np.concatenate([network.resistor, self.cells]),
        )

    def currents(self, voltages: Voltages) -> tuple[Floats, Floats]:
        """Through each branch (branches,), A, and its slope against the voltage across, S."""
        across = voltages.across(self.branches.first, self.branches.second)
        current, slope = self.branches.conductance * across, self.branches.conductance.copy()
        if self.law is not None:
            current[self.resistors :], slope[self.resistors :] = self.law.evaluate(self.cells, across[self.resistors :])
        return current, slope

    def levels(self, slopes: Floats) -> Levels:
        """The network of these slopes (branches,), S."""
        cells = float(slopes[self.resistors :].sum())
        return Levels(self.branches._replace(conductance=slopes), self.free, self.nodes, cells)


def _newton(
    circuit: _Circuit, levels: Levels, voltages: Voltages, tolerance: float, maximum_iterations: int
) -> tuple[Voltages, int]:
    """Improve `voltages` until no free node gains or loses current, or they cannot be improved.

    `levels` are those of the cells' small-signal conductances: what is left over is looked at in their groups.
    """

    def state(at: Voltages) -> tuple[Floats, float, float, Floats, Floats]:
        """What is left over, its norm, what is wanted of it; currents and slopes."""
        with np.errstate(invalid="ignore", over="ignore"):
            currents, slopes = circuit.currents(at)
            residual = np.concatenate([np.zeros(0), *levels.left_over(currents)])
            wanted = tolerance * float(np.abs(currents[circuit.resistors :]).max(initial=0.0))
            return residual, float(np.linalg.norm(residual)), wanted, currents, slopes

    residual, norm, wanted, currents, slopes = state(voltages)
    iteration = 0
    while np.abs(residual).max(initial=0.0) > wanted and iteration < maximum_iterations:
        # A flat place of the law would leave nodes untied; its small-signal conductance leads out of it.
        slopes = np.where(slopes > 0.0, slopes, circuit.branches.conductance)
        zero = np.zeros(circuit.nodes)
        step = settle(circuit.levels(slopes), Voltages(zero, zero), currents, reduction=1e-8)
        length = 1.0
        while length >= _SHORTEST_STEP:
            trial = voltages.plus(length * step.high, length * step.low)
            tried = state(trial)
            if tried[1] < (1.0 - 1e-4 * length) * norm:
                break
            length *= 0.5
        else:
            break  # no better voltages: either rounding, or failure
        voltages, (residual, norm, wanted, currents, slopes) = trial, tried
        iteration += 1
    return voltages, iteration


def _negligible_resistance(cells: Floats, law: CurrentLaw | None, voltages: Floats) -> float:
    """The resistance up to which whole lines may be taken for ideal, ohm.

    All current of the array through every segment of a word line and a bit line drops a voltage that changes no
    current by more than 2^-60 of all: the change is at most the cells' slopes times that voltage.
    """
    conductance = cells[cells > 0.0]
    slopes = float(conductance.sum())
    if law is not None:
        reach = float(np.abs(voltages).max())
        with np.errstate(invalid="ignore", over="ignore"):
            total = [law.evaluate(conductance, np.full(conductance.shape, k * reach))[1].sum() for k in _PLACES]
        slopes = float(max(total))
    segments = sum(cells.shape) + 2
    return 0.0 if not np.isfinite(slopes) or slopes == 0.0 else float(2.0**-60 / (segments * slopes))


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
        No node may gain or lose more than this share of the largest cell current.
    maximum_iterations
        Of Newton's method.

    Raises
    ------
    InputError
        For input out of bounds, cells whose law is not rising, or a cell driven beyond its law's range.
    FloatingNodeError
        If a node is connected to no driver and no sense circuit, naming it.
    ConvergenceError
        If a node gains or loses more than the tolerance, with the residual.

    Notes
    -----
    Right for any resistances, from 1e-18 ohm up, whatever their ratio: see :mod:`xbarsim.circuit.refinement`.
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
    negligible = _negligible_resistance(cells, law, inputs)
    network = build_network((height, width), wires, driven, sensed, negligible=negligible)
    network.check_connected(cells)
    circuit = _Circuit(network, cells, law)

    known = np.zeros(network.nodes)
    tied = network.drivers >= 0
    known[network.drivers[tied]] = inputs[tied]
    levels = circuit.levels(circuit.branches.conductance)
    state = settle(levels, levels.start(known))
    iterations = 0
    if law is not None:
        state, iterations = _newton(circuit, levels, state, tolerance, maximum_iterations)

    branch_currents, slopes = circuit.currents(state)
    levels.slopes = float(slopes[circuit.resistors :].sum())
    leaving = np.concatenate([np.zeros(0), *levels.left_over(branch_currents)])
    currents = np.zeros(cells.shape)
    currents.flat[circuit.conducting] = branch_currents[circuit.resistors :]
    residual, allowed = float(leaving.max(initial=0.0)), tolerance * float(np.abs(currents).max())
    if not residual <= allowed:
        raise ConvergenceError(
            f"the circuit's solution did not converge: after {iterations} steps a node's currents miss zero by "
            f"{residual:.3g} A, allowed {allowed:.3g} A",
            residual=residual,
            iterations=iterations,
        )
    if law is not None:
        across = np.where(cells > 0.0, np.abs(state.across(network.word, network.inner)), 0.0)
        if across.max() > law.maximum_voltage:
            row, column = (int(k) for k in np.unravel_index(np.argmax(across), across.shape))
            raise InputError(
                f"voltages must leave every cell at <= {law.maximum_voltage!r} V, where its law holds, "
                f"got {float(across[row, column])!r} V at row {row}, column {column}"
            )
    return Solution(
        word_line_voltages=state.high[network.word],
        bit_line_voltages=state.high[network.bit],
        cell_currents=currents,
        # A line meets nothing but its cells and its terminals, so these sums are the terminals' currents.
        column_currents=np.where(sensed, currents.sum(axis=0), 0.0),
        row_currents=np.where(tied, currents.sum(axis=1), 0.0),
        residual=residual,
        error_bound=float(leaving.sum()),
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
