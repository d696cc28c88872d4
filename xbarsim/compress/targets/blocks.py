"""Filters and columns within blocks, where they cross; each block chooses its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from xbarsim.compress.targets.base import Resource, Target
from xbarsim.compress.targets.selection import block_norms, check_matrix, energies_of, kept_count, largest
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer

__all__ = ["BlockColumnRow", "block_mask"]

_MOST_SUBSETS = 1024  # of a block's rows or columns that are tried one by one
_SINGLE_STARTS = 8  # filters whose own largest columns are where choosing in turn starts from
_CHUNK = 1 << 21  # numbers held at once while they are
_FAINT = 1e-300  # what a weight that may stay is worth at least, where the largest is worth 1/4 to 1


@entrance
def block_mask(
    matrix: Tensor,
    *,
    block_filters: int,
    block_columns: int,
    keep_filters: float,
    keep_columns: float,
    among: Tensor | None = None,
) -> Tensor:
    """In every block, keep some of its filters and some of its columns: the weights where they cross.

    Each block chooses on its own (block-column-row pruning, as in GRIM, 2021, doi:10.48550/arXiv.2108.11033). Choosing
    filters and columns together so that the largest squared norm stays is a hard problem (it contains that of the
    largest biclique: R. Peeters, Discrete Applied Mathematics 131, 2003, doi:10.1016/S0166-218X(03)00333-0), but for
    given filters the best columns are simply the largest:

    - where a block has at most 1024 choices of filters, or of columns, all of them are tried, and the mask is the
      nearest of its structure;
    - otherwise filters and columns are chosen in turn until nothing is gained, from twelve fixed starts (the largest
      filters, by all their weights or by as many of their largest as columns stay; the largest columns likewise; the
      largest columns of a single filter, for eight filters), and the best result is taken. It cannot be improved by
      another choice of only filters or only columns, but need not be the nearest.

    Parameters
    ----------
    matrix, among
        As in :func:`~xbarsim.compress.unstructured_mask`.
    block_filters, block_columns
        Filters and columns of a block. Blocks at the edges are smaller.
    keep_filters, keep_columns
        Shares of a block's filters and of its columns that stay, in (0, 1]; of a smaller block, the same shares.

    Returns
    -------
    torch.Tensor
        Bool of the same shape.

    Raises
    ------
    InputError
        As :func:`~xbarsim.compress.unstructured_mask`, or if a size is below 1.
    """
    check_matrix(matrix, among)
    check_integer("block_filters", block_filters, at_least=1)
    check_integer("block_columns", block_columns, at_least=1)
    energies = energies_of(matrix, among)
    if among is not None:  # a weight of zero that may stay is chosen before one that may not
        energies = energies + _FAINT * among.to(energies.dtype)
    mask = torch.empty_like(energies, dtype=torch.bool)
    for top, bottom, height in _spans(matrix.shape[0], block_filters):
        for left, right, width in _spans(matrix.shape[1], block_columns):
            part = energies[top:bottom, left:right]
            across = part.shape[0] // height, height, part.shape[1] // width, width
            blocks = part.reshape(across).permute(0, 2, 1, 3).reshape(-1, height, width)
            chosen = _best_crossings(blocks, kept_count(keep_filters, height), kept_count(keep_columns, width))
            chosen = chosen.reshape(across[0], across[2], height, width).permute(0, 2, 1, 3)
            mask[top:bottom, left:right] = chosen.reshape(part.shape)
    return mask if among is None else mask & among


def _spans(length: int, block: int) -> Iterator[tuple[int, int, int]]:
    """Where whole blocks begin and end, with their length, and the same of the smaller one at the edge."""
    whole = length // block * block
    if whole:
        yield 0, whole, block
    if whole < length:
        yield whole, length, length - whole


def _best_crossings(blocks: Tensor, rows: int, columns: int) -> Tensor:
    """Masks of `rows` rows and `columns` columns of each block that hold the most; blocks (blocks, rows, columns)."""
    by_rows, by_columns = math.comb(blocks.shape[1], rows), math.comb(blocks.shape[2], columns)
    if min(by_rows, by_columns) > _MOST_SUBSETS:
        return _alternate(blocks, rows, columns)
    if by_columns < by_rows:
        return _try_all(blocks.transpose(1, 2), columns, rows).transpose(1, 2)
    return _try_all(blocks, rows, columns)


def _try_all(blocks: Tensor, rows: int, columns: int) -> Tensor:
    """The best crossings, by trying every choice of rows."""
    _, height, width = blocks.shape
    index = torch.tensor(list(itertools.combinations(range(height), rows)), device=blocks.device)
    subsets = torch.zeros(len(index), height, dtype=blocks.dtype, device=blocks.device).scatter_(1, index, 1.0)
    masks = []
    for part in torch.split(blocks, max(1, _CHUNK // (len(index) * width))):
        held = (subsets @ part).topk(columns, dim=2).values.sum(dim=2)  # (blocks, subsets)
        best = subsets[held.argmax(dim=1)]  # (blocks, height)
        kept = largest((best.unsqueeze(2) * part).sum(dim=1), columns)
        masks.append(best.bool().unsqueeze(2) & kept.unsqueeze(1))
    return torch.cat(masks)


def _alternate(blocks: Tensor, rows: int, columns: int) -> Tensor:
    """Good crossings, by choosing rows and columns in turn."""
    best_mask, best_held = torch.zeros_like(blocks, dtype=torch.bool), torch.full_like(blocks[:, 0, 0], -1.0)
    peaks = blocks.topk(columns, dim=2).values.sum(dim=2)
    by_columns = largest(blocks.sum(dim=1), columns), largest(blocks.topk(rows, dim=1).values.sum(dim=1), columns)
    starts = [
        largest(blocks.sum(dim=2), rows),
        largest(peaks, rows),
        *(largest((blocks * chosen.unsqueeze(1)).sum(dim=2), rows) for chosen in by_columns),
    ]
    order = peaks.sort(dim=1, descending=True, stable=True).indices
    for number in range(min(_SINGLE_STARTS, blocks.shape[1])):
        alone = torch.zeros_like(starts[0]).scatter_(1, order[:, number : number + 1], True)
        kept = largest((blocks * alone.unsqueeze(2)).sum(dim=1), columns)
        starts.append(largest((blocks * kept.unsqueeze(1)).sum(dim=2), rows))
    for start in starts:
        chosen, last = start, torch.full_like(best_held, -1.0)
        while True:
            kept = largest((blocks * chosen.unsqueeze(2)).sum(dim=1), columns)
            mask = chosen.unsqueeze(2) & kept.unsqueeze(1)
            held = torch.where(mask, blocks, 0.0).sum(dim=(1, 2))
            better = held > best_held
            best_mask = torch.where(better[:, None, None], mask, best_mask)
            best_held = torch.where(better, held, best_held)
            if not (held > last).any():  # what is held only grows, and there are finitely many choices
                break
            last = torch.maximum(last, held)
            chosen = largest((blocks * kept.unsqueeze(1)).sum(dim=2), rows)
    return best_mask


@dataclass(frozen=True, kw_only=True)
class BlockColumnRow(Target):
    """Filters and columns within blocks; each block chooses its own.

    Parameters
    ----------
    block_filters, block_columns
        Filters and columns of a block. Blocks at the edges are smaller.
    keep_filters, keep_columns
        Shares of a block's filters and of its columns that stay; the product of both of its weights does.
    """

    block_filters: int
    block_columns: int
    keep_filters: float = 1.0
    keep_columns: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("block_filters", self.block_filters, at_least=1)
        check_integer("block_columns", self.block_columns, at_least=1)

    @entrance
    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The weights where they cross: :func:`block_mask`."""
        return block_mask(matrix, **dict(self._fields()), among=among)

    @entrance
    def kept_weights(self, shape: tuple[int, int]) -> tuple[int, int]:
        """The crossings of all blocks."""
        count = sum(
            (bottom - top) // height * kept_count(self.keep_filters, height)
            * ((right - left) // width * kept_count(self.keep_columns, width))
            for top, bottom, height in _spans(shape[0], self.block_filters)
            for left, right, width in _spans(shape[1], self.block_columns)
        )  # fmt: skip
        return count, count

    @entrance
    def index_bits(self, shape: tuple[int, int]) -> int:
        """One for each filter of each block, and one for each column of each, of those that may go."""
        across, down = math.ceil(shape[1] / self.block_columns), math.ceil(shape[0] / self.block_filters)
        return (across * shape[0] if self.keep_filters < 1 else 0) + (down * shape[1] if self.keep_columns < 1 else 0)

    @entrance
    def frees(self, kind: int) -> tuple[Resource, ...]:
        """Cells; filters free converters of their columns besides, columns drivers of their rows."""
        check_integer("kind", kind, at_least=0)
        return ("cells", "converters" if kind == 0 and self.keep_filters < 1 else "drivers")

    @entrance
    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the filters within each block, and of the columns within each, of those that lose any."""
        _, rows, columns = block_norms(matrix, filters=self.block_filters, columns=self.block_columns)
        return (*((rows,) if self.keep_filters < 1 else ()), *((columns,) if self.keep_columns < 1 else ()))
