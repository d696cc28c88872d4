"""How much of a layer its inputs drive and read: counted, vector by vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.cost import Activity
from xbarsim.design import Drive
from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.html import html_table
from xbarsim.foundation.tables import format_table
from xbarsim.mapping import Reading
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Watch

__all__ = ["ActivityCounts", "ActivityTable", "count_activity"]

_HEADER = ("layer", "inputs not 0", "word lines driven", "reads made", "conversions made", "steps taken")
_VECTORS = 4096  # looked at in one go; changes no result


@dataclass
class ActivityCounts:
    """What the inputs of one layer drove and read so far; whole numbers, so that no order of adding matters.

    Attributes
    ----------
    reading, drive
        How its tiles are read and driven.
    vectors
        Input vectors that were looked at.
    """

    reading: Reading
    drive: Drive
    vectors: int = 0
    _done: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(5, np.int64))

    def add(self, codes: npt.NDArray[Any]) -> None:
        """Look at input codes, shape ``(vectors, inputs)``."""
        for start in range(0, len(codes), _VECTORS):
            self._add(codes[start : start + _VECTORS])
        self.vectors += len(codes)

    def _add(self, codes: npt.NDArray[Any]) -> None:
        matrix, drive = self.reading.matrix, self.drive
        conversions = self.reading.used.sum(axis=1)  # of a read of each tile
        inputs = matrix.tile_rows[matrix.tile_rows >= 0]
        held = np.bincount(inputs, minlength=matrix.shape[0])  # word lines of each input
        self._done[0] += np.count_nonzero(codes)
        for _, driven in drive.driven(codes):
            every = np.arange(int(driven.max(initial=0)) + 1)
            planes = sum(drive.plane(every, number) != 0 for number in range(drive.planes))  # that drive, of each code
            self._done[1] += int((np.asarray(planes)[driven].sum(axis=0) * held).sum())
            steps: dict[int, npt.NDArray[np.bool_]] = {}  # by row group: in which planes of which vectors one is taken
            for group in matrix.tile_groups:
                tiles = np.asarray(group.tiles)
                for number, rows in drive.row_groups(matrix.tile_rows[tiles[0]] >= 0):
                    together = np.bitwise_or.reduce(driven[:, matrix.tile_rows[tiles[0]][rows]], axis=1)
                    read = np.stack([drive.plane(together, plane) != 0 for plane in range(drive.planes)])
                    steps[number] = steps.get(number, np.zeros_like(read)) | read
                    here = int(read.sum())
                    self._done[2:4] += (len(tiles) * here, int(conversions[tiles].sum()) * here)
            self._done[4] += sum(int(taken.sum()) for taken in steps.values())

    def shares(self) -> Activity | None:
        """The shares of all that could have been done; ``None`` while nothing was looked at, or nothing is held."""
        matrix, drive = self.reading.matrix, self.drive
        rows = (matrix.tile_rows >= 0).sum(axis=1)
        planes = self.vectors * drive.passes * drive.planes
        reads = planes * drive.row_group_count(int(rows.max(initial=1)))
        possible = (
            self.vectors * matrix.shape[0],
            planes * int(rows.sum()),
            reads * matrix.tiles,
            reads * int(self.reading.used.sum()),
            reads,
        )
        if not all(possible):
            return None
        inputs, drives, read, conversions, steps = (int(d) / p for d, p in zip(self._done, possible, strict=True))
        return Activity(inputs=inputs, drives=drives, reads=read, conversions=conversions, steps=steps)


@dataclass(frozen=True)
class ActivityTable:
    """How active the inputs of each layer are.

    Attributes
    ----------
    layers
        By name; ``None`` where a layer was not reached, or holds nothing.
    samples
        How many samples were run.
    """

    layers: dict[str, Activity | None]
    samples: int

    def __post_init__(self) -> None:
        check_fields(self)

    def __getitem__(self, layer: str) -> Activity | None:
        return self.layers[layer]

    def _cells(self) -> list[tuple[str, ...]]:
        names = ("inputs", "drives", "reads", "conversions", "steps")
        return [
            (name or "(model)", *("-" if each is None else f"{getattr(each, share):.1%}" for share in names))
            for name, each in self.layers.items()
        ]

    def __str__(self) -> str:
        return "\n".join([format_table(_HEADER, self._cells()), f"({self.samples} samples)"])

    def _repr_html_(self) -> str:
        return html_table("Activity of inputs", _HEADER, self._cells(), notes=[f"{self.samples} samples"])


def count_activity(
    layers: Mapping[str, Any], samples: Samples, *, run: Callable[[Samples, int, Watch], Any], batch_size: int
) -> ActivityTable:
    """Count what samples drive and read in each layer of a die.

    Parameters
    ----------
    layers
        The mapped layers by name.
    samples
        What to run.
    run
        Runs the die on a batch, given the number of its first sample and what to tell of its layers.
    batch_size
        Samples run at a time.
    """
    counts = {name: ActivityCounts(mapped.reading, mapped.drive) for name, mapped in layers.items()}

    def watch(name: str, inputs: Any, outputs: Any) -> None:
        if name in counts:
            layer = layers[name].layer
            for each in layer.quantise(layer.as_maps(inputs))[:, np.newaxis]:  # the windows of one map at a time
                counts[name].add(layer.unfold(each)[0])

    for start in range(0, len(samples), batch_size):
        run(samples.part(start, start + batch_size), start, watch)
    return ActivityTable({name: each.shares() for name, each in counts.items()}, len(samples))
