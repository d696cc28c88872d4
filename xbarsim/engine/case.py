"""One layer of one die, as plans look at it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.design import Converter, ConverterErrors, Drive
from xbarsim.engine.checks import check_cells
from xbarsim.engine.noise import Noise
from xbarsim.engine.reads import largest_read
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.mapping import Reading

__all__ = ["Case"]

Array = npt.NDArray[Any]


_GLANCE = 4096  # cells


def _are_whole(cells: npt.NDArray[Any]) -> bool:
    """Whether all values are whole numbers; programming errors show in the first ones."""
    flat = cells.reshape(-1)
    return all(bool((part == np.rint(part)).all()) for part in (flat[:_GLANCE], flat[_GLANCE:]))


@dataclass(frozen=True, eq=False)
class Case:
    """One layer of one die, as plans look at it to say whether they can compute it.

    Attributes
    ----------
    reading, drive, converter
        How its tiles are driven and read.
    cells
        What reads see of its cells, in level units, shape ``(tiles, rows, columns)``.
    whole
        Whether all cells sit on whole levels.
    noisy
        Whether reads are noisy.
    offsets
        Whether drivers have offsets, or converters offsets or bits of wrong weight.
    noise, errors
        The noise and these errors, where the case is a die's own; ``None`` for one that is only planned.
    precision
        ``"single"`` or ``"double"``, for sums of conductances off the levels.
    """

    reading: Reading
    drive: Drive
    converter: Converter
    cells: Array
    whole: bool
    noisy: bool
    offsets: bool = False
    noise: Noise | None = None
    errors: ConverterErrors | None = None
    precision: str = "single"

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @entrance
    def of(
        cls,
        reading: Reading,
        cells: npt.NDArray[Any],
        drive: Drive,
        converter: Converter,
        noise: Noise | None = None,
        errors: ConverterErrors | None = None,
        *,
        precision: Literal["single", "double"] = "single",
    ) -> Case:
        """The case of a die's own cells; arguments as of :func:`xbarsim.engine.make_plan`."""
        check_cells(cells, reading.matrix)
        cells = np.where(reading.matrix.used, cells, 0)
        errors = errors if errors is not None and errors.any else None
        return cls(
            reading=reading,
            drive=drive,
            converter=converter,
            cells=cells,
            whole=_are_whole(cells),
            noisy=noise is not None,
            offsets=errors is not None,
            noise=noise,
            errors=errors,
            precision=precision,
        )

    @cached_property
    def largest_read(self) -> float:
        """Largest magnitude that any read could give a converter, whatever the inputs; level steps times plane code."""
        return largest_read(self.reading, self.drive, self.cells, offset_levels=self.converter.offset_levels)

    @cached_property
    def within_levels(self) -> bool:
        """Whether all cells are between level 0 and M; a cell stuck at a value of its own need not be."""
        return bool(((self.cells >= 0) & (self.cells <= self.reading.matrix.mapping.max_level)).all())

    def describe(self) -> str:
        """What the cells hold and how they are read, in words."""
        held = "cells on whole levels" if self.whole else "conductances off the levels"
        if self.noisy:
            held += ", read noise"
        if self.drive.values is not None:
            held += ", currents not proportional to voltages"
        if self.offsets:
            held += ", drivers or converters with errors of their own"
        if self.converter.step is None:
            return f"{held}; no converter"
        planes = "one plane" if self.drive.planes == 1 else f"each of {self.drive.planes} planes"
        return f"{held}; {self.converter.bits}-bit converter on {planes}"
