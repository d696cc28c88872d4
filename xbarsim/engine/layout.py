"""A layer of a die laid out for computing: what every backend is given, whatever the encoding and the plan.

A layout is groups of columns that are driven by the same rows. Each column's sum over its rows becomes a code, counts
so much, and is added to the output that it serves, or to all outputs of its tile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.design import Converter, Drive
from xbarsim.engine.noise import Noise
from xbarsim.foundation.entrances import check_fields
from xbarsim.mapping import Reading

__all__ = ["Columns", "Layout", "merged", "read_columns"]

FloatArray = npt.NDArray[np.float64]
IntegerArray = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


def _no_places() -> IntegerArray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Columns:
    """Columns of one group of tiles that are driven by the same rows.

    Attributes
    ----------
    rows
        The logical input of each driven row, shape ``(driven,)``.
    values
        What a unit of input on each row adds to each column, in level units, pairs subtracted; ``(driven, columns)``.
    counts
        What the code of each column counts, shape ``(columns,)``.
    outputs
        The output that each column serves; -1 for all outputs of its tile; shape ``(columns,)``.
    tiles, reads
        Where each column is read: its tile, and the number of its read among those of all row groups of the tile;
        shape ``(columns,)``, or empty where columns are no physical ones.
    held
        The outputs of the tiles that have a column for all of them, by tile.
    """

    rows: IntegerArray
    values: Array
    counts: FloatArray
    outputs: IntegerArray
    tiles: IntegerArray = field(default_factory=_no_places)
    reads: IntegerArray = field(default_factory=_no_places)
    held: dict[int, IntegerArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)

    def inputs(self, driven: Array) -> Array:
        """The driven rows' codes, of codes (vectors, inputs); a view where the rows are neighbours."""
        first, last = int(self.rows[0]), int(self.rows[-1])
        if last - first + 1 == len(self.rows):
            return driven[:, first : last + 1]
        return driven[:, self.rows]

    @property
    def served(self) -> IntegerArray:
        """All outputs that the group adds to, ascending."""
        own = self.outputs[self.outputs >= 0]
        return np.unique(np.concatenate([own, *self.held.values()]))


def read_columns(reading: Reading, drive: Drive, cells: Array, *, added: bool = False) -> list[Columns]:
    """The columns of a layer, group by group: one for each read in use.

    In the order of :attr:`xbarsim.mapping.Reading.ordered`.

    Parameters
    ----------
    reading, drive
        How the tiles are read and driven.
    cells
        In level units, shape ``(tiles, rows, columns)``.
    added
        Whether the columns of a pair add up, as variances do, instead of being subtracted.
    """
    combine = reading.totals if added else reading.differences
    matrix = reading.matrix
    groups = []
    for group, (owners, reads) in zip(matrix.tile_groups, reading.ordered, strict=True):
        tiles = np.asarray(group.tiles)
        counts, shared = reading.counts[reads], reading.shared[reads]
        held = {}
        for tile in tiles[owners[shared]]:
            outputs = matrix.tile_outputs[tile]
            held[int(tile)] = outputs[outputs >= 0].astype(np.int64)
        for number, rows in drive.row_groups(matrix.tile_rows[tiles[0]] >= 0):
            here = cells[tiles[0] : tiles[-1] + 1] if len(tiles) == tiles[-1] - tiles[0] + 1 else cells[tiles]
            here = here if len(rows) == here.shape[1] else here[:, rows]
            given = combine(here.astype(np.float64, copy=False))  # (tiles here, driven, reads)
            groups.append(
                Columns(
                    rows=matrix.tile_rows[tiles[0]][rows].astype(np.int64),
                    values=np.ascontiguousarray(given[owners, :, reads].T),
                    counts=counts,
                    outputs=np.where(shared, -1, reading.outputs[tiles[owners], reads]).astype(np.int64),
                    tiles=tiles[owners].astype(np.int64),
                    reads=reads + number * reading.reads,
                    held=held,
                )
            )
    return groups


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """All that has to be computed for a layer of a die.

    Attributes
    ----------
    kind
        ``"whole"``: codes are driven whole, signs and all, and the sums are the answer. ``"planes"``: every plane of
        every pass is driven on its own, and each column's sum passes its converter (or an ideal read-out). ``"bits"``:
        the same, where all values are whole and within the levels of a cell.
    drive, converter
        How inputs are applied and sums are read.
    single
        Whether each column is read alone, so that its converter gets the g_min currents too.
    columns
        The groups of columns.
    inputs, outputs
        How many inputs and outputs the layer has.
    shift
        Taken off every output for each unit of the sum of the inputs of each group that serves it.
    constant
        Added to the outputs, shape ``(outputs,)``, or ``None``.
    precision
        ``"single"`` or ``"double"``, for values that are not whole.
    offsets
        For each group, what its converters are given besides in every read, shape ``(columns,)``; or ``None``.
    bits
        For each group, the weights of the bits of its converters, in codes, lowest first, shape ``(columns, bits)``; or
        ``None`` for ideal ones.
    noise, variances
        Read noise, or ``None``; and, by power of the plane code, what each cell adds to the variance of its column, for
        each group as its values; where `kind` is ``"whole"``, one matrix ``(inputs, outputs)``.
    draws
        Shape of the normal draws of one vector.
    """

    kind: Literal["whole", "planes", "bits"]
    drive: Drive
    converter: Converter
    single: bool
    columns: tuple[Columns, ...]
    inputs: int
    outputs: int
    shift: float = 0.0
    constant: FloatArray | None = None
    precision: str = "single"
    offsets: tuple[FloatArray, ...] | None = None
    bits: tuple[FloatArray, ...] | None = None
    noise: Noise | None = None
    variances: tuple[tuple[int, tuple[FloatArray, ...]], ...] = ()
    draws: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


def merged(layout: Layout) -> Layout:
    """One product instead of several, where all values are whole and each is added to its output as it is."""
    groups = layout.columns
    plain = all(
        bool((group.values == np.rint(group.values)).all() and (group.counts == 1.0).all())
        and bool((group.outputs >= 0).all()) and len(np.unique(group.outputs)) == len(group.outputs)
        for group in groups
    )  # fmt: skip
    if len(groups) < 2 or not plain:
        return layout
    values = np.zeros((layout.inputs, layout.outputs))
    for group in groups:
        values[np.ix_(group.rows, group.outputs)] += group.values
    outputs = np.arange(layout.outputs)
    one = Columns(rows=np.arange(layout.inputs), values=values, counts=np.ones(layout.outputs), outputs=outputs)
    return Layout(
        kind=layout.kind,
        drive=layout.drive,
        converter=layout.converter,
        single=layout.single,
        columns=(one,),
        inputs=layout.inputs,
        outputs=layout.outputs,
        shift=layout.shift,
        constant=layout.constant,
        precision=layout.precision,
    )
