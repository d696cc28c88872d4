"""What a mapping is: encoding, tile size, bits and packing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real
from xbarsim.mapping.encodings import Encoding, TwoColumn
from xbarsim.mapping.packing import packing
from xbarsim.mapping.quantisation import QuantisedMatrix, quantise

__all__ = ["Mapping"]


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """How weight matrices are put on crossbar tiles.

    Parameters
    ----------
    encoding
        How a signed weight becomes cell levels.
    rows
        Physical rows (inputs) of a tile.
    columns
        Physical columns of a tile, the reference column of `Offset` included.
    weight_bits
        Bits of a weight, sign included, 2 to 16.
    cell_bits
        Bits of a cell, 1 to 8.
    weight_scale
        One quantisation scale per ``"tensor"`` or per ``"output"`` channel.
    weight_clip
        Quantile of the magnitudes of the weights, of a tensor or output, that is full scale; ``None`` for the largest.
        A lower full scale makes the largest errors of stuck cells smaller; weights beyond it are clipped.
    pack
        What pruning saves: the name of a :class:`~xbarsim.mapping.Packing`. ``"none"``: nothing, every block of the
        matrix takes a tile. ``"matrix"``: rows and outputs without any weight take no cells, and tiles without any
        weight do not exist. ``"block"``: besides, each block of outputs keeps only the rows with a weight in that
        block. ``"joined"``: blocks of disjoint outputs, or of disjoint rows, stand in one tile, whichever takes fewer.

    Raises
    ------
    InputError
        If a value is out of its bound, or the cells of one output do not fit the columns of a tile.

    Examples
    --------
    >>> mapping = Mapping(rows=128, columns=128, weight_bits=8, cell_bits=4)
    >>> mapping.slices, mapping.sides, mapping.outputs_per_tile
    (2, 2, 32)
    """

    encoding: Encoding = TwoColumn()  # noqa: RUF009  a frozen value
    rows: int = 128
    columns: int = 128
    weight_bits: int = 8
    cell_bits: int = 4
    weight_scale: Literal["tensor", "output"] = "output"
    weight_clip: float | None = None
    pack: str = "matrix"

    def __post_init__(self) -> None:
        check_instance("encoding", self.encoding, Encoding)
        check_integer("rows", self.rows, at_least=1)
        check_integer("columns", self.columns, at_least=1)
        check_integer("weight_bits", self.weight_bits, at_least=2, at_most=16)
        check_integer("cell_bits", self.cell_bits, at_least=1, at_most=8)
        check_choice("weight_scale", self.weight_scale, ("tensor", "output"))
        if self.weight_clip is not None:
            clip = check_real("weight_clip", self.weight_clip, above=0.0, at_most=1.0)
            object.__setattr__(self, "weight_clip", clip)
        packing(self.pack)
        needed = self.slices * self.sides + self.has_reference
        if needed > self.columns:
            raise InputError(
                f"columns must be an integer >= {needed} to hold one output of {self.weight_bits} bits in "
                f"{self.cell_bits}-bit cells with {type(self.encoding).__name__}, got {self.columns}"
            )

    @entrance
    def quantise(self, weights: npt.ArrayLike) -> QuantisedMatrix:
        """Codes and scales of a matrix of weights, with this mapping's bits, scales and full scale.

        Parameters
        ----------
        weights
            Floating, shape ``(inputs, outputs)``.

        Raises
        ------
        InputError
            As :func:`xbarsim.mapping.quantise`.
        """
        clip = 1.0 if self.weight_clip is None else self.weight_clip
        return quantise(weights, bits=self.weight_bits, per=self.weight_scale, clip=clip)

    @property
    def max_weight(self) -> int:
        """Q = 2**(weight_bits - 1) - 1, the largest weight code."""
        return int(2 ** (self.weight_bits - 1) - 1)

    @property
    def most_weight_bits(self) -> int:
        """Most bits of a weight that as many slices hold: with fewer, the top slice never reaches its highest level.

        Conductance is lost then, and a cell of that slice that is stuck errs by more than the largest weight.

        Examples
        --------
        >>> Mapping(weight_bits=8, cell_bits=4).most_weight_bits
        9
        """
        slices = self.encoding.slice_count(self.weight_bits, self.cell_bits)
        wider = self.weight_bits
        while wider < 16 and self.encoding.slice_count(wider + 1, self.cell_bits) == slices:
            wider += 1
        return wider

    @property
    def max_level(self) -> int:
        """M = 2**cell_bits - 1, the highest cell level."""
        return int(2**self.cell_bits - 1)

    @property
    def slices(self) -> int:
        """S, the slices a weight is cut into."""
        return self.encoding.slice_count(self.weight_bits, self.cell_bits)

    @property
    def sides(self) -> int:
        """Cells a slice takes: 2 for a pair, 1 for `Offset`."""
        return self.encoding.sides

    @property
    def has_reference(self) -> bool:
        """Whether the last physical column of every tile is a reference column."""
        return self.encoding.has_reference

    @property
    def reference_level(self) -> int:
        """z, the level of the reference cells (0 without a reference column)."""
        return self.encoding.reference_level(self.weight_bits, self.cell_bits)

    @property
    def outputs_per_tile(self) -> int:
        """Outputs that fit the columns of one tile."""
        return (self.columns - self.has_reference) // (self.slices * self.sides)
