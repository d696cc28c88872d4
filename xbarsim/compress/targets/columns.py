"""Whole columns of the matrix: positions across all filters, rows of the crossbar."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xbarsim.compress.targets.base import Resource, Target
from xbarsim.compress.targets.selection import check_matrix, choose, energies_of, kept_count
from xbarsim.foundation.entrances import entrance

__all__ = ["Columns", "column_mask"]


@entrance
def column_mask(matrix: Tensor, keep: float, *, among: Tensor | None = None) -> Tensor:
    """Keep whole columns of the matrix: positions across all filters, rows of the crossbar.

    Parameters
    ----------
    matrix, among
        As in :func:`~xbarsim.compress.unstructured_mask`.
    keep
        Share of the matrix's columns that stays, in (0, 1].

    Returns
    -------
    torch.Tensor
        Bool of the same shape; the nearest of its structure.

    Raises
    ------
    InputError
        As :func:`~xbarsim.compress.unstructured_mask`.
    """
    check_matrix(matrix, among)
    columns = choose(energies_of(matrix, among).sum(dim=0), keep, None if among is None else among.any(dim=0))
    mask = columns.unsqueeze(0).expand(matrix.shape)
    return mask.clone() if among is None else mask & among


@dataclass(frozen=True, kw_only=True)
class Columns(Target):
    """Whole columns of the matrix: positions across all filters, rows of the crossbar.

    Parameters
    ----------
    keep
        Share of the columns that stays.
    """

    keep: float

    @entrance
    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The columns of the largest norm: :func:`column_mask`."""
        return column_mask(matrix, self.keep, among=among)

    @entrance
    def kept_weights(self, shape: tuple[int, int]) -> tuple[int, int]:
        """All weights of that share of the columns."""
        count = shape[0] * kept_count(self.keep, shape[1])
        return count, count

    @entrance
    def index_bits(self, shape: tuple[int, int]) -> int:
        """One for each column."""
        return shape[1]

    @entrance
    def frees(self, kind: int) -> tuple[Resource, ...]:
        """Cells, and drivers of their rows."""
        return ("cells", "drivers")

    @entrance
    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the columns."""
        return (torch.linalg.vector_norm(matrix, dim=0),)
