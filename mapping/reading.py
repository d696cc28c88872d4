"""How the columns of a placed matrix are read: all that the engine, its reference and the cost know of an encoding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance
from xbarsim.mapping.placement import IndexArray, MappedMatrix

__all__ = ["Reading"]


@dataclass(frozen=True, eq=False)
class Reading:
    """For every physical column: the output it serves, what its code counts, and what is taken off.

    One *read* is what one converter input is given: a column, or two neighbouring ones that are subtracted before the
    converter. All tiles are read alike; they differ in the outputs that their reads serve. With code_r what read r
    gives for the driven rows of a tile, the tile adds to each output n that it holds::

        sum(counts[r] * code_r  for r with  outputs[tile, r] == n  or  shared[r])  -  shift * (sum of the inputs)

    Attributes
    ----------
    matrix
        The placed matrix.
    plus, minus
        Physical columns of each read: what it gives is the current of `plus` less that of `minus` (-1 for none); int64
        of shape (reads,).
    counts
        What the code of each read counts, sign included; float64 of shape (reads,).
    outputs
        The output that each read serves, -1 for none; int32 of shape (tiles, reads).
    shared
        Which reads serve every output of their tile (a reference column); bool of shape (reads,).
    shift
        Taken off every output for each unit of the sum of its tile's inputs, digitally.

    Examples
    --------
    >>> from xbarsim.mapping import Mapping, Offset, map_matrix
    >>> matrix = map_matrix([[5, -3]], Mapping(rows=1, columns=4, weight_bits=4, cell_bits=4))
    >>> pairs = Reading.of(matrix, "analog")
    >>> pairs.plus.tolist(), pairs.minus.tolist(), pairs.counts.tolist(), pairs.outputs.tolist()
    ([0, 2], [1, 3], [1.0, 1.0], [[0, 1]])
    >>> Reading.of(matrix, "digital").counts.tolist()
    [1.0, -1.0, 1.0, -1.0]
    """

    matrix: MappedMatrix
    plus: npt.NDArray[np.int64]
    minus: npt.NDArray[np.int64]
    counts: npt.NDArray[np.float64]
    outputs: IndexArray
    shared: npt.NDArray[np.bool_]
    shift: float

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @entrance
    def of(cls, matrix: MappedMatrix, subtraction: Literal["analog", "digital"]) -> Reading:
        """How the columns of a placed matrix are read.

        Parameters
        ----------
        matrix
            The placed matrix.
        subtraction
            Where the two columns of a pair are subtracted: before the converter or after it.

        Raises
        ------
        InputError
            If analog subtraction is asked of an encoding without pairs.
        """
        check_instance("matrix", matrix, MappedMatrix)
        check_choice("subtraction", subtraction, ("analog", "digital"))
        mapping = matrix.mapping
        bits, sides = (mapping.weight_bits, mapping.cell_bits), mapping.sides
        analog = subtraction == "analog"
        if analog and sides == 1:
            raise InputError(
                "subtraction must be 'digital' for an encoding without column pairs, got 'analog' with "
                f"{type(mapping.encoding).__name__}"
            )
        weights = np.asarray(mapping.encoding.slice_weights(*bits), dtype=np.float64)
        together = 2 if analog else 1
        plus = np.arange(mapping.columns // together, dtype=np.int64) * together
        minus = plus + 1 if analog else np.full_like(plus, -1)
        signs = [1.0] if sides == 1 or analog else [1.0, -1.0]
        one_output = np.repeat(weights, len(signs)) * np.tile(signs, len(weights))  # slice by slice, side by side
        counts = np.zeros(len(plus))
        own = len(one_output) * mapping.outputs_per_tile
        counts[:own] = np.tile(one_output, mapping.outputs_per_tile)
        outputs = np.full((matrix.tiles, len(plus)), -1, dtype=np.int32)
        outputs[:, :own] = np.repeat(matrix.tile_outputs, len(one_output), axis=1)
        shared = np.zeros(len(plus), dtype=bool)
        if mapping.has_reference:
            shared[-1] = True
            counts[-1] = -weights[-1]
        return cls(
            matrix=matrix,
            plus=plus,
            minus=minus,
            counts=counts,
            outputs=outputs,
            shared=shared,
            shift=float(mapping.encoding.shift(*bits)),
        )

    @property
    def paired(self) -> bool:
        """Whether pairs of columns are subtracted before the converter: its codes then have a sign."""
        return bool((self.minus >= 0).any())

    @property
    def reads(self) -> int:
        """Converter inputs of a tile: reads for one plane of one row group."""
        return len(self.plus)

    @cached_property
    def used(self) -> npt.NDArray[np.bool_]:
        """Which reads serve an output; bool of shape (tiles, reads)."""
        own = self.outputs >= 0
        return np.asarray(own | (self.shared & own.any(axis=1, keepdims=True)))

    @cached_property
    def read_of(self) -> npt.NDArray[np.int64]:
        """The read that each physical column goes to, -1 for none; int64 of shape (columns,)."""
        read_of = np.full(self.matrix.mapping.columns, -1, dtype=np.int64)
        paired = self.minus >= 0
        read_of[self.minus[paired]] = np.flatnonzero(paired)
        read_of[self.plus] = np.arange(self.reads)
        return read_of

    @cached_property
    def ordered(self) -> tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], ...]:
        """The reads in use of each group of tiles, as tile of the group and read: two int64 arrays for each.

        Sorted by what they count, positive ones first, and those that serve a whole tile last, so that neighbours
        belong to different outputs.
        """
        found = []
        for group in self.matrix.tile_groups:
            owners, reads = np.nonzero(self.used[group.tiles])
            counts = self.counts[reads]
            order = np.lexsort((reads, owners, np.abs(counts), counts < 0, self.shared[reads]))
            found.append((owners[order], reads[order]))
        return tuple(found)

    def differences(self, columns: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What each read is given, from what each physical column gives: the subtraction of pairs.

        Parameters
        ----------
        columns
            Sums or conductances of columns, shape (..., columns).

        Returns
        -------
        ndarray
            Shape (..., reads).
        """
        first = columns[..., self.plus]
        return first - columns[..., self.minus] if self.paired else first

    def totals(self, columns: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """As :meth:`differences`, with the two columns of a pair added: variances add where currents are subtracted."""
        first = columns[..., self.plus]
        return first + columns[..., self.minus] if self.paired else first
