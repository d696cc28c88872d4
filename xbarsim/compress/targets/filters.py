"""Whole filters: rows of the matrix, columns of the crossbar."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xbarsim.compress.targets.base import Resource, Target
from xbarsim.compress.targets.selection import check_matrix, choose, energies_of, kept_count
from xbarsim.foundation.entrances import entrance

__all__ = ["Filters", "filter_mask"]


@entrance
def filter_mask(matrix: Tensor, keep: float, *, among: Tensor | None = None) -> Tensor:
    """Keep whole filters: rows of the matrix, columns of the crossbar.

    Parameters
    ----------
    matrix, among
        As in :func:`~xbarsim.compress.unstructured_mask`.
    keep
        Share of the matrix's filters that stays, in (0, 1].

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
    rows = choose(energies_of(matrix, among).sum(dim=1), keep, None if among is None else among.any(dim=1))
    mask = rows.unsqueeze(1).expand(matrix.shape)
    return mask.clone() if among is None else mask & among


@dataclass(frozen=True, kw_only=True)
class Filters(Target):
    """Whole filters: rows of the matrix, columns of the crossbar.

    Parameters
    ----------
    keep
        Share of the filters that stays.
    """

    keep: float

    @entrance
    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The filters of the largest norm: :func:`filter_mask`."""
        return filter_mask(matrix, self.keep, among=among)

    @entrance
    def kept_weights(self, shape: tuple[int, int]) -> tuple[int, int]:
        """All weights of that share of the filters."""
        count = kept_count(self.keep, shape[0]) * shape[1]
        return count, count

    @entrance
    def index_bits(self, shape: tuple[int, int]) -> int:
        """One for each filter."""
        return shape[0]

    @entrance
    def frees(self, kind: int) -> tuple[Resource, ...]:
        """Cells, and converters of their columns."""
        return ("cells", "converters")

    @entrance
    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the filters."""
        return (torch.linalg.vector_norm(matrix, dim=1),)
