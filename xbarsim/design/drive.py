"""How inputs are applied to the word lines."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import InputError, check_integer, check_real, shown

__all__ = ["DacErrors", "Drive"]

IntegerArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Drive:
    """How the inputs of one layer are applied to the word lines of its tiles.

    Parameters
    ----------
    signed
        Whether input codes may be negative: in [-(2^(b-1) - 1), 2^(b-1) - 1] with b = `input_bits`, else in [0, 2^b -
        1].
    input_bits, dac_bits, signed_inputs
        As in :class:`Periphery`.
    active_rows
        Word lines of a tile that are driven at a time, or ``None`` for all.
    values
        What cells carry for each plane code, from 0 to the largest, over what they carry for one step of it at the
        read voltage; ``None`` for the codes themselves, as cells that are straight lines do.

    Raises
    ------
    InputError
        For a value out of its bound; `values` that are not one for each plane code, do not begin with 0 and end with
        the largest code, or fall.
    """

    signed: bool
    input_bits: int
    dac_bits: int
    signed_inputs: Literal["two_pass", "offset"] = "two_pass"
    active_rows: int | None = None
    values: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("input_bits", self.input_bits, at_least=1, at_most=16)
        check_integer("dac_bits", self.dac_bits, at_least=1, at_most=16)
        if self.active_rows is not None:
            check_integer("active_rows", self.active_rows, at_least=1)
        if self.values is not None:
            self._check_values(self.values)

    def _check_values(self, values: tuple[float, ...]) -> None:
        if len(values) != self.max_plane + 1:
            raise InputError(
                f"values must be {self.max_plane + 1}, one for each code of {self.dac_bits} bits, got {len(values)}"
            )
        if values[0] != 0 or values[-1] != self.max_plane or any(b < a for a, b in itertools.pairwise(values)):
            raise InputError(
                f"values must rise from 0 to {self.max_plane}, the largest plane code, got {shown(values)}"
            )

    @property
    def max_input(self) -> int:
        """Largest input code."""
        return int(2 ** (self.input_bits - 1) - 1) if self.signed else int(2**self.input_bits - 1)

    @property
    def min_input(self) -> int:
        """Lowest input code."""
        return -self.max_input if self.signed else 0

    @property
    def max_plane(self) -> int:
        """Largest plane code, 2^dac_bits - 1."""
        return int(2**self.dac_bits - 1)

    @property
    def planes(self) -> int:
        """Reads per pass: the planes that one input code is cut into."""
        bits = self.input_bits - (1 if self.signed and self.signed_inputs == "two_pass" else 0)
        return max(1, math.ceil(bits / self.dac_bits))

    @property
    def signs(self) -> tuple[int, ...]:
        """The sign that the result of each pass is added with: two for signed inputs in two passes, else one."""
        return (1, -1) if self.signed and self.signed_inputs == "two_pass" else (1,)

    @property
    def passes(self) -> int:
        """How often the planes are applied: 2 for signed inputs in two passes, else 1."""
        return len(self.signs)

    @property
    def input_offset(self) -> int:
        """Added to every input code before it is driven; its known product is taken off digitally."""
        return int(2 ** (self.input_bits - 1)) if self.signed and self.signed_inputs == "offset" else 0

    def row_group_count(self, rows: int) -> int:
        """How many reads an array of that many word lines takes for one plane."""
        return 1 if self.active_rows is None else max(1, math.ceil(rows / self.active_rows))

    def row_groups(self, used: npt.NDArray[np.bool_]) -> list[tuple[int, IntegerArray]]:
        """The word lines of an array that are driven together: the number of each group, and its rows.

        Parameters
        ----------
        used
            Which rows of the array hold weights, shape ``(rows,)``. Groups without any are not read.
        """
        chosen = np.flatnonzero(used)
        if self.active_rows is None:
            return [(0, chosen)] if len(chosen) else []
        size = self.active_rows
        return [(int(number), chosen[chosen // size == number]) for number in np.unique(chosen // size)]

    def driven(self, codes: npt.NDArray[Any]) -> list[tuple[int, IntegerArray]]:
        """The non-negative codes that are driven, pass by pass, each with the sign its result is added with.

        Parameters
        ----------
        codes
            Integer input codes, any shape.
        """
        codes = np.asarray(codes, dtype=np.int64)
        if self.passes == 2:
            return [(1, np.maximum(codes, 0)), (-1, np.maximum(-codes, 0))]
        return [(1, codes + self.input_offset)]

    def plane(self, driven: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
        """One plane of the codes of a pass: `dac_bits` of their bits, lowest plane first."""
        return (driven >> (number * self.dac_bits)) & self.max_plane

    def carried(self, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What cells carry for plane codes: the codes themselves, or their `values` in float64."""
        return plane if self.values is None else np.array(self.values)[plane]


@dataclass(frozen=True, kw_only=True)
class DacErrors:
    """How the drivers of the word lines differ from ideal ones and from each other; drawn once for a die.

    Attributes
    ----------
    offset
        Standard deviation of the voltage offset of a driver, in steps of its plane code. A driver adds it to every
        code, also to 0, in every read of its row.
    gain
        Standard deviation of the relative gain error.
    dead
        Probability that a driver is dead: it always gives 0 V.

    Raises
    ------
    InputError
        For a negative deviation, or a probability outside [0, 1].
    """

    offset: float = 0.0
    gain: float = 0.0
    dead: float = 0.0

    def __post_init__(self) -> None:
        for name in ("offset", "gain"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), at_least=0.0))
        object.__setattr__(self, "dead", check_real("dead", self.dead, at_least=0.0, at_most=1.0))
