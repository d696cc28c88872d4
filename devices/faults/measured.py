"""Faults as a measured chip has them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices.cell import Cell
from xbarsim.devices.faults.base import FaultModel
from xbarsim.devices.faults.kinds import FaultKind, Shape, dense_shape
from xbarsim.devices.faults.map import FaultMap
from xbarsim.devices.faults.outside import StuckOutside
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_real

__all__ = ["MeasuredFaults"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MeasuredFaults(FaultModel):
    """Faults cut from a measured map, so that they lie as they lay on the chip.

    Every tile of a die gets a window of the map at a random place in a random one of its tiles. A window goes on at the
    first row or column where the map ends, so that it can be larger than the map, and every cell of the map is met as
    often: the rate is exactly the map's.

    Attributes
    ----------
    path
        File of the map, as :meth:`FaultMap.load` and :meth:`FaultMap.from_csv` read it; relative to the working folder.
    layout
        Of a CSV file, as :meth:`FaultMap.from_csv` takes it; ``"addresses"`` for the lists of dead cells.
    keep
        Probability that a fault of the map is kept, 0 to 1, each for itself: for the same pattern at a lower rate.
    content
        The map's :attr:`FaultMap.hash`: part of the model, so that two maps at one path are not taken for the same.
        Filled in from the file; given, it is compared with the file.

    Raises
    ------
    InputError
        If a value is out of bounds, or the file holds another map than `content` says.
    FileFormatError
        If the file cannot be read or holds no fault map.
    """

    path: str
    layout: Literal["cells", "addresses"] = "cells"
    keep: float = 1.0
    content: str | None = None

    def __post_init__(self) -> None:
        check_instance("path", self.path, (str, os.PathLike))
        object.__setattr__(self, "path", os.fspath(self.path))
        check_choice("layout", self.layout, ("cells", "addresses"))
        object.__setattr__(self, "keep", check_real("keep", self.keep, at_least=0.0, at_most=1.0))
        content = self.source.hash
        if self.content is not None and self.content != content:
            raise InputError(f"content must be the hash of the map in {self.path}, {content!r}, got {self.content!r}")
        if self.source.cells == 0:
            raise InputError(f"path must name a map with at least 1 tile, got {self.path!r} with none")
        object.__setattr__(self, "content", content)

    @cached_property
    def source(self) -> FaultMap:
        """The map that was measured."""
        if self.path.endswith(".csv"):
            return FaultMap.from_csv(self.path, layout=self.layout)
        return FaultMap.load(self.path)

    @cached_property
    def _dense(self) -> tuple[npt.NDArray[np.uint8], Array]:
        value = np.full(self.source.cells, np.nan)
        value[self.source.index] = self.source.value
        return self.source.dense(), value.reshape(self.source.shape)

    @property
    def rates(self) -> dict[FaultKind, float]:
        """The expected share of cells broken in each way."""
        return {kind: self.keep * count / self.source.cells for kind, count in self.source.counts.items()}

    @property
    def total(self) -> float:
        """The expected share of broken cells."""
        return self.keep * self.source.rate

    def outside(self, cell: Cell, cell_bits: int, *, seed: int = 0) -> StuckOutside:
        """How many stuck cells of the whole map lie outside the range of `cell`."""
        return self.source.outside(cell, cell_bits)

    @entrance
    def with_total(self, rate: float) -> MeasuredFaults:
        """The same map with so many of its faults kept that the expected share of broken cells is `rate`.

        Raises
        ------
        InputError
            If `rate` is below 0 or above that of the map.
        """
        rate = check_real("rate", rate, at_least=0.0, at_most=self.source.rate)
        return replace(self, keep=rate / self.source.rate if rate else 0.0)

    @entrance
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        """Draw one die's faults.

        Raises
        ------
        InputError
            If `shape` is not (tiles, rows, columns).
        """
        tiles, rows, columns = shape = dense_shape(shape)
        check_instance("rng", rng, np.random.Generator)
        kinds, values = self._dense
        starts = [rng.integers(0, size, tiles).tolist() for size in kinds.shape]
        index, kind, value = [np.empty(0, np.int64)], [np.empty(0, np.uint8)], [np.empty(0)]
        for tile, (source, row, column) in enumerate(zip(*starts, strict=True)):
            window = np.ix_((row + np.arange(rows)) % kinds.shape[1], (column + np.arange(columns)) % kinds.shape[2])
            cut = kinds[source][window].reshape(-1)
            broken = np.flatnonzero(cut)
            broken = broken[rng.random(broken.size) < self.keep]
            index.append(broken + tile * rows * columns)
            kind.append(cut[broken])
            value.append(values[source][window].reshape(-1)[broken])
        return FaultMap(
            shape=shape,
            index=np.concatenate(index),
            kind=np.concatenate(kind),
            value=np.concatenate(value),
            note=self.source.note,
        )
