"""What public functions of the engine ask of codes and cells before a kernel sees them."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from xbarsim.design import Drive
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import MappedMatrix, Reading

__all__ = ["check_cells", "check_codes"]

Array = npt.NDArray[Any]


def check_cells(cells: Array, matrix: MappedMatrix, name: str = "cells") -> None:
    """Raise `InputError` unless there is a number for every cell of the tiles."""
    wanted = matrix.levels.shape
    if cells.shape != wanted:
        raise InputError(f"{name} must have the shape of the tiles, {wanted}, got {cells.shape}")


def check_codes(codes: Array, reading: Reading, drive: Drive) -> None:
    """Raise `InputError` unless `codes` are input codes (vectors, inputs) that the drivers have."""
    inputs = reading.matrix.shape[0]
    if codes.ndim != 2 or codes.shape[1] != inputs or codes.dtype.kind not in "iu":
        raise InputError(
            f"codes must be integers of shape (vectors, {inputs}), got type {codes.dtype} of shape {codes.shape}"
        )
    if codes.size and not drive.min_input <= int(codes.min()) <= int(codes.max()) <= drive.max_input:
        raise InputError(
            f"codes must be >= {drive.min_input} and <= {drive.max_input}, got {int(codes.min())} to {int(codes.max())}"
        )
