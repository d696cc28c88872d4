"""Faults of whole lines of an array: opens and shorts, as against faults of single cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real

__all__ = ["BrokenLines", "LineFaults"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BrokenLines:
    """Which lines of some arrays are broken.

    Attributes
    ----------
    open_word_lines
        Cut off from their drivers, shape ``(tiles, rows)``.
    open_bit_lines
        Cut off from their sense circuits, shape ``(tiles, columns)``.
    shorted_bit_lines
        Whether bit line c touches bit line c + 1, shape ``(tiles, columns - 1)``.
    """

    open_word_lines: Mask
    open_bit_lines: Mask
    shorted_bit_lines: Mask

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @entrance
    def none(cls, tiles: int, rows: int, columns: int) -> BrokenLines:
        """Nothing broken."""
        return cls(
            np.zeros((tiles, rows), np.bool_),
            np.zeros((tiles, columns), np.bool_),
            np.zeros((tiles, max(columns - 1, 0)), np.bool_),
        )

    def open(self, conductance: npt.NDArray[np.float64]) -> None:
        """Take the cells of open lines out of their arrays, in place.

        Parameters
        ----------
        conductance
            S, shape ``(tiles, rows, columns)``. A cell on an open line carries no current, so its conductance becomes
            0. In a 1T1R array an open word line leaves its transistors off, which is the same; in a 0T1R array this
            leaves out what the floating line carries from one cell to another.
        """
        conductance[self.open_word_lines] = 0.0
        conductance.swapaxes(1, 2)[self.open_bit_lines] = 0.0

    def share(self, currents: npt.NDArray[np.float64]) -> None:
        """Share the currents of bit lines that touch among their sense circuits, in place.

        Parameters
        ----------
        currents
            Or effective conductances, shape ``(tiles, rows, columns)``. Sense circuits hold their lines at one voltage
            and are alike, so that touching lines, however many in a row, divide their sum equally.
        """
        for tile in np.flatnonzero(self.shorted_bit_lines.any(axis=1)):
            joined = np.concatenate([[0], np.cumsum(~self.shorted_bit_lines[tile])])  # the same number if they touch
            for group in np.flatnonzero(np.bincount(joined) > 1):
                members = joined == group
                currents[tile][:, members] = currents[tile][:, members].mean(axis=1, keepdims=True)


@dataclass(frozen=True, kw_only=True)
class LineFaults:
    """Lines that break, each on its own with the same probability.

    Short defects between bit lines are what made the failure patterns that Chen et al. found beside stuck cells: IEEE
    Transactions on Computers 64(1), 180 (2015), doi:10.1109/TC.2014.12.

    Attributes
    ----------
    open_word_line
        Probability that a word line is cut off from its driver.
    open_bit_line
        Probability that a bit line is cut off from its sense circuit.
    shorted_bit_lines
        Probability that a bit line touches its right neighbour.

    Raises
    ------
    InputError
        If a probability is outside [0, 1].
    """

    open_word_line: float = 0.0
    open_bit_line: float = 0.0
    shorted_bit_lines: float = 0.0

    def __post_init__(self) -> None:
        for name in ("open_word_line", "open_bit_line", "shorted_bit_lines"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), at_least=0.0, at_most=1.0))

    @entrance
    def sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> BrokenLines:
        """Break some lines.

        Parameters
        ----------
        shape
            Of the arrays, ``(tiles, rows, columns)``.
        rng
            Source of the draws.
        """
        if len(shape) != 3:
            raise InputError(f"shape must be (tiles, rows, columns), got {shape}")
        tiles, rows, columns = (check_integer(f"shape[{k}]", size, at_least=0) for k, size in enumerate(shape))
        check_instance("rng", rng, np.random.Generator)
        return BrokenLines(
            rng.random((tiles, rows)) < self.open_word_line,
            rng.random((tiles, columns)) < self.open_bit_line,
            rng.random((tiles, max(columns - 1, 0))) < self.shorted_bit_lines,
        )
