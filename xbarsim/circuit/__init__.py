"""The resistive circuit of a crossbar array, solved exactly."""

from __future__ import annotations

from xbarsim.circuit.cells import CurrentLaw, PolynomialLaw, SinhLaw
from xbarsim.circuit.effective import effective_conductance
from xbarsim.circuit.network import FloatingNodeError
from xbarsim.circuit.noise import effective_variance, reference_covariance
from xbarsim.circuit.reference import reference_effective_conductance
from xbarsim.circuit.solution import (
    ConvergenceError,
    LinearisationError,
    Solution,
    linearisation_error,
    solve,
)
from xbarsim.circuit.wires import Wires
from xbarsim.circuit.working_point import working_conductance

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
    "effective_variance",
    "linearisation_error",
    "reference_covariance",
    "reference_effective_conductance",
    "solve",
    "working_conductance",
]
