"""The resistive circuit of a crossbar array, solved exactly."""

from __future__ import annotations

from xbarsim.circuit.cells import CurrentLaw, PolynomialLaw, SinhLaw
from xbarsim.circuit.effective import effective_conductance
from xbarsim.circuit.network import FloatingNodeError
from xbarsim.circuit.reference import reference_effective_conductance
from xbarsim.circuit.solution import (
    ConvergenceError,
    LinearisationError,
    Solution,
    linearisation_error,
    solve,
)
from xbarsim.circuit.wires import Wires

__all__ = [
    "ConvergenceError",
    "CurrentLaw",
    "FloatingNodeError",
    "LinearisationError",
    "PolynomialLaw",
    "SinhLaw",
    "Solution",
    "Wires",
    "effective_conductance",
    "linearisation_error",
    "reference_effective_conductance",
    "solve",
]
