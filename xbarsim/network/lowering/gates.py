"""The gates' nonlinear functions as a look-up table, as a digital block behind the converters holds it.

Both ends are uniform grids. The input is rounded to the nearest of ``2^bits - 1`` points of ``[-limit, limit]``, zero
among them; what lies outside is taken as the end. The entry is the function's value there, rounded to the nearest of
``2^bits`` points of ``[0, 1]`` for the sigmoid and of ``2^bits - 1`` points of ``[-1, 1]`` for tanh.

The error is at most half a step of the input times the function's largest slope (1/4 for the sigmoid, 1 for tanh), plus
half a step of the output, and outside of the range ``1 - f(limit)`` plus half a step of the output:
:attr:`GateTable.error_bound`. At 8 bits that is .010 for the sigmoid and .020 for tanh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit

from xbarsim.foundation.validation import check_choice, check_integer

__all__ = ["GateTable", "Gates", "gate_table"]

SIGMOID_LIMIT = 8.0  # sigmoid(8) is 1 - 3.4e-4
TANH_LIMIT = 4.0  # tanh(4) is 1 - 6.7e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class GateTable:
    """A function as a table.

    Attributes
    ----------
    function
        ``sigmoid`` or ``tanh``.
    bits
        Of the input's and of the output's codes.
    limit
        The largest input; larger ones are taken as this one, and the same below zero.
    entries
        The outputs, float64, shape ``(2^bits - 1,)``, from ``-limit`` up.
    """

    function: str
    bits: int
    limit: float
    entries: npt.NDArray[np.float64]

    @property
    def input_step(self) -> float:
        """Distance of two inputs."""
        return 2 * self.limit / (len(self.entries) - 1)

    @property
    def output_step(self) -> float:
        """Distance of two outputs."""
        return _output_step(self.function, self.bits)

    @property
    def error_bound(self) -> float:
        """Largest distance of the table from the function, at any input."""
        slope, largest = (0.25, expit(self.limit)) if self.function == "sigmoid" else (1.0, np.tanh(self.limit))
        return float(max(slope * self.input_step / 2, 1.0 - largest) + self.output_step / 2)

    def __call__(self, inputs: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        """The entries of inputs of any shape, in their type; not a number stays not a number."""
        last = (len(self.entries) - 1) // 2
        # In float64, so that float32 inputs are rounded as exactly as others.
        codes = np.rint(np.clip(inputs.astype(np.float64), -self.limit, self.limit) / self.input_step)
        missing = np.isnan(codes)
        found = self.entries[np.where(missing, 0, codes).astype(np.int64) + last]
        return np.where(missing, np.nan, found).astype(inputs.dtype)


def _output_step(function: str, bits: int) -> float:
    return 1.0 / ((1 << bits) - 1) if function == "sigmoid" else 1.0 / ((1 << (bits - 1)) - 1)


def gate_table(function: str, bits: int) -> GateTable:
    """The table of a function.

    Parameters
    ----------
    function
        ``sigmoid`` or ``tanh``.
    bits
        2 to 16.

    Raises
    ------
    InputError
        If either is not one of these.
    """
    check_choice("function", function, ("sigmoid", "tanh"))
    bits = check_integer("gate_bits", bits, at_least=2, at_most=16)
    limit = SIGMOID_LIMIT if function == "sigmoid" else TANH_LIMIT
    last = 2 ** (bits - 1) - 1
    points = np.arange(-last, last + 1) * (limit / last)
    values = expit(points) if function == "sigmoid" else np.tanh(points)
    step = _output_step(function, bits)
    return GateTable(function=function, bits=bits, limit=limit, entries=np.rint(values / step) * step)


class Gates:
    """The sigmoid and the tanh of a recurrent layer, exact or through tables.

    Parameters
    ----------
    bits
        Of the tables, 2 to 16; ``None`` for the exact functions.

    Raises
    ------
    InputError
        If `bits` is outside of its bounds.
    """

    def __init__(self, bits: int | None = None) -> None:
        self._tables = {} if bits is None else {name: gate_table(name, bits) for name in ("sigmoid", "tanh")}
        self._entries = {name: torch.from_numpy(table.entries) for name, table in self._tables.items()}

    def sigmoid(self, values: torch.Tensor) -> torch.Tensor:
        """Sigmoid of each value."""
        return self._look_up("sigmoid", values) if self._tables else torch.sigmoid(values)

    def tanh(self, values: torch.Tensor) -> torch.Tensor:
        """Hyperbolic tangent of each value."""
        return self._look_up("tanh", values) if self._tables else torch.tanh(values)

    def _look_up(self, function: str, values: torch.Tensor) -> torch.Tensor:
        """What :class:`GateTable` gives, in torch's operations alone, so that they are seen as a model's are."""
        table = self._tables[function]
        last = (len(table.entries) - 1) // 2
        codes = torch.round(torch.clamp(values.double(), -table.limit, table.limit) / table.input_step)
        missing = torch.isnan(codes)
        found = self._entries[function][codes.masked_fill(missing, 0).long() + last]
        return found.masked_fill(missing, torch.nan).to(values.dtype)
