"""Whole tiles of the matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from xbarsim.compress.targets.base import Resource, Target
from xbarsim.compress.targets.selection import block_norms, blocks_of, check_matrix, choose, energies_of, kept_count
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer

__all__ = ["Tiles", "tile_mask"]


@entrance
def tile_mask(
    matrix: Tensor, keep: float, *, tile_filters: int, tile_columns: int, among: Tensor | None = None
) -> Tensor:
    """Keep whole tiles.

    Parameters
    ----------
    matrix, among
        As in :func:`~xbarsim.compress.unstructured_mask`.
    keep
        Share of the *tiles* that stays, in (0, 1]. A tile at an edge counts as one although it holds fewer weights.
    tile_filters, tile_columns
        Filters and columns of a tile. A crossbar holds ``Mapping.outputs_per_tile`` filters and ``Mapping.rows``
        columns.

    Returns
    -------
    torch.Tensor
        Bool of the same shape; the nearest of its structure.

    Raises
    ------
    InputError
        As :func:`~xbarsim.compress.unstructured_mask`, or if a size is below 1.
    """
    check_matrix(matrix, among)
    check_integer("tile_filters", tile_filters, at_least=1)
    check_integer("tile_columns", tile_columns, at_least=1)
    # No tile needs to be larger than the matrix: the filling would only take memory.
    size = min(tile_filters, matrix.shape[0]), min(tile_columns, matrix.shape[1])
    energies = blocks_of(energies_of(matrix, among), *size).sum(dim=(1, 3))
    available = None if among is None else blocks_of(among.to(torch.float64), *size).sum(dim=(1, 3)).flatten() > 0
    tiles = choose(energies.flatten(), keep, available).reshape(energies.shape)
    mask = tiles.repeat_interleave(size[0], dim=0)[: matrix.shape[0]]
    mask = mask.repeat_interleave(size[1], dim=1)[:, : matrix.shape[1]]
    return mask if among is None else mask & among


@dataclass(frozen=True, kw_only=True)
class Tiles(Target):
    """Whole tiles.

    Parameters
    ----------
    tile_filters, tile_columns
        Filters and columns of a tile. A crossbar holds ``Mapping.outputs_per_tile`` filters and ``Mapping.rows``
        columns.
    keep
        Share of the tiles that stays; one at an edge counts as one although it holds fewer weights.
    """

    tile_filters: int
    tile_columns: int
    keep: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("tile_filters", self.tile_filters, at_least=1)
        check_integer("tile_columns", self.tile_columns, at_least=1)

    @entrance
    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The tiles of the largest norm: :func:`tile_mask`."""
        return tile_mask(matrix, **dict(self._fields()), among=among)

    @entrance
    def kept_weights(self, shape: tuple[int, int]) -> tuple[int, int]:
        """All weights of that share of the tiles, if the smallest stay, and if the largest do."""
        heights, widths = (
            [size] * (length // size) + [length % size] * (length % size > 0)
            for length, size in zip(shape, (self.tile_filters, self.tile_columns), strict=True)
        )
        sizes = sorted(height * width for height in heights for width in widths)
        count = kept_count(self.keep, len(sizes))
        return sum(sizes[:count]), sum(sizes[-count:])

    @entrance
    def index_bits(self, shape: tuple[int, int]) -> int:
        """One for each tile."""
        return math.ceil(shape[0] / self.tile_filters) * math.ceil(shape[1] / self.tile_columns)

    @entrance
    def frees(self, kind: int) -> tuple[Resource, ...]:
        """Cells, drivers and converters."""
        return ("cells", "drivers", "converters")

    @entrance
    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the tiles."""
        return (block_norms(matrix, filters=self.tile_filters, columns=self.tile_columns)[0],)
