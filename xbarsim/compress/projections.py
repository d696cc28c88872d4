"""Nearest matrices of a structure: which weights of a layer stay, and on which level.

All functions see the *GEMM view* of a weight, ``weight.flatten(1)`` of shape (filters, positions): a row is a filter,
that is a column of the crossbar; a column is one position across all filters, that is a row of the crossbar. They
change nothing in place, and run on any device, in float32 or float64.

A mask that keeps a given number of weights, filters, columns or tiles leaves the nearest matrix (in the Frobenius
norm) when it keeps the largest squared norm. Groups are compared by their squared norms in float64; of equal ones the
first stay. *keep* is the share that stays: exactly the nearest whole number of groups, halves up, at least one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

__all__ = [
    "block_mask",
    "block_norms",
    "column_mask",
    "filter_mask",
    "kept_count",
    "nearest_codes",
    "nearest_levels",
    "tile_mask",
    "unstructured_mask",
]

_MOST_SUBSETS = 1024  # of a block's rows or columns that are tried one by one
_SINGLE_STARTS = 8  # filters whose own largest columns are where choosing in turn starts from
_CHUNK = 1 << 21  # numbers held at once while they are
_LEVELS_CHUNK = 1 << 17  # weights put on levels at once: float64 copies that stay in the cache
_FAINT = 1e-300  # what a weight that may stay is worth at least, where the largest is worth 1/4 to 1


def kept_count(keep: float, total: int) -> int:
    """How many of `total` groups a share stands for: the nearest whole number, halves up, at least one.

    Parameters
    ----------
    keep
        Share that stays, in (0, 1]; meant as the decimal number that is printed, so that 0.145 of 100 is 15.
    total
        Number of groups, >= 1.

    Raises
    ------
    InputError
        If a value is out of its bound.

    Examples
    --------
    >>> kept_count(0.5, 5), kept_count(0.145, 100), kept_count(0.001, 10)
    (3, 15, 1)
    """
    share = check_real("keep", keep, above=0.0, at_most=1.0)
    total = check_integer("total", total, at_least=1)
    return max(1, math.floor(Fraction(repr(share)) * total + Fraction(1, 2)))


# ------------------------------------------------------------------------------------------------ masks


def _check(matrix: Tensor) -> None:
    check_instance("matrix", matrix, Tensor)
    wanted = "matrix must be a non-empty matrix of float32 or float64 numbers"
    if matrix.ndim != 2 or matrix.numel() == 0:
        raise InputError(f"{wanted}, got shape {tuple(matrix.shape)}")
    if matrix.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{wanted}, got type {matrix.dtype}")


def _check_choice(matrix: Tensor, among: Tensor | None) -> None:
    """What every mask is chosen from."""
    _check(matrix)
    if not torch.isfinite(matrix).all():
        where = tuple(int(i) for i in (~torch.isfinite(matrix)).nonzero()[0])
        raise InputError(f"matrix must be finite, got {float(matrix[where])} at index {where}")
    if among is not None:
        _check_mask("among", among, matrix)


def _check_mask(name: str, mask: Tensor, matrix: Tensor) -> None:
    check_instance(name, mask, Tensor)
    if mask.dtype != torch.bool or mask.shape != matrix.shape:
        raise InputError(
            f"{name} must be of type torch.bool and shape {tuple(matrix.shape)}, "
            f"got {mask.dtype} and {tuple(mask.shape)}"
        )


def _energies(matrix: Tensor, among: Tensor | None) -> Tensor:
    """Squares in float64 up to a common factor, so that none overflows; those that may not stay are zero."""
    values = matrix.detach().to(torch.float64)
    exponent = math.frexp(float(values.abs().amax()))[1]
    # A power of two changes no digit. Two steps, because one factor may itself be too large for a float.
    values = values * 2.0 ** (-exponent // 2) * 2.0 ** (-exponent - -exponent // 2)
    energies = values.square_()
    return energies if among is None else torch.where(among, energies, 0.0)


def _largest(scores: Tensor, count: int) -> Tensor:
    """Mask of the `count` largest along the last dimension; of equal ones the first."""
    total = scores.shape[-1]
    if count >= total:
        return torch.ones_like(scores, dtype=torch.bool)
    border = scores.kthvalue(total - count + 1, dim=-1, keepdim=True).values
    above, equal = scores > border, scores == border
    missing = count - above.sum(dim=-1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=-1) <= missing))


def _choose(scores: Tensor, keep: float, available: Tensor | None) -> Tensor:
    """Mask of the share of groups with the largest scores, among the available ones."""
    count = kept_count(keep, scores.numel())
    if available is None:
        return _largest(scores, count)
    return _largest(torch.where(available, scores, -1.0), count) & available


def unstructured_mask(matrix: Tensor, keep: float, *, among: Tensor | None = None) -> Tensor:
    """Keep the largest weights, wherever they are.

    Parameters
    ----------
    matrix
        Weights, (filters, positions).
    keep
        Share of the matrix's weights that stays, in (0, 1].
    among
        Which weights may stay, bool of the same shape; ``None`` for all. Where fewer may stay than should, all of them
        do.

    Returns
    -------
    torch.Tensor
        Bool of the same shape. Of all masks of its structure it is the nearest: it keeps the largest squared norm.

    Raises
    ------
    InputError
        If `matrix` is not a finite matrix, `keep` is out of bounds, or `among` does not fit.

    Examples
    --------
    >>> unstructured_mask(torch.tensor([[1.0, -3.0], [2.0, 0.5]]), 0.5).tolist()
    [[False, True], [True, False]]
    """
    _check_choice(matrix, among)
    available = None if among is None else among.flatten()
    return _choose(matrix.detach().abs().flatten(), keep, available).reshape(matrix.shape)


def filter_mask(matrix: Tensor, keep: float, *, among: Tensor | None = None) -> Tensor:
    """Keep whole filters: rows of the matrix, columns of the crossbar.

    Parameters
    ----------
    matrix, among
        As in :func:`unstructured_mask`.
    keep
        Share of the matrix's filters that stays, in (0, 1].

    Returns
    -------
    torch.Tensor
        Bool of the same shape; the nearest of its structure.

    Raises
    ------
    InputError
        As :func:`unstructured_mask`.
    """
    _check_choice(matrix, among)
    rows = _choose(_energies(matrix, among).sum(dim=1), keep, None if among is None else among.any(dim=1))
    mask = rows.unsqueeze(1).expand(matrix.shape)
    return mask.clone() if among is None else mask & among


def column_mask(matrix: Tensor, keep: float, *, among: Tensor | None = None) -> Tensor:
    """Keep whole columns of the matrix: positions across all filters, rows of the crossbar.

    Parameters
    ----------
    matrix, among
        As in :func:`unstructured_mask`.
    keep
        Share of the matrix's columns that stays, in (0, 1].

    Returns
    -------
    torch.Tensor
        Bool of the same shape; the nearest of its structure.

    Raises
    ------
    InputError
        As :func:`unstructured_mask`.
    """
    _check_choice(matrix, among)
    columns = _choose(_energies(matrix, among).sum(dim=0), keep, None if among is None else among.any(dim=0))
    mask = columns.unsqueeze(0).expand(matrix.shape)
    return mask.clone() if among is None else mask & among


def _blocks(matrix: Tensor, filters: int, columns: int) -> Tensor:
    """Blocks of a matrix as (rows of blocks, filters, columns of blocks, columns); edges are filled up with zeros."""
    rows, width = matrix.shape
    padded = F.pad(matrix, (0, -width % columns, 0, -rows % filters))
    return padded.reshape(-(-rows // filters), filters, -(-width // columns), columns)


def block_norms(matrix: Tensor, *, filters: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Norms of blocks and of their rows and columns, with gradients.

    Parameters
    ----------
    matrix
        Weights, (filters, positions).
    filters, columns
        Size of a block; blocks at the edges are smaller. What they lack has norm 0.

    Returns
    -------
    whole
        Frobenius norms of the blocks, (rows of blocks, columns of blocks).
    rows
        Norms of the rows of each block, (rows of blocks, `filters`, columns of blocks).
    columns
        Norms of the columns of each block, (rows of blocks, columns of blocks, `columns`).
    """
    check_integer("filters", filters, at_least=1)
    check_integer("columns", columns, at_least=1)
    blocks = _blocks(matrix, min(filters, matrix.shape[0]), min(columns, matrix.shape[1]))
    return (
        torch.linalg.vector_norm(blocks, dim=(1, 3)),
        torch.linalg.vector_norm(blocks, dim=3),
        torch.linalg.vector_norm(blocks, dim=1),
    )


def tile_mask(
    matrix: Tensor, keep: float, *, tile_filters: int, tile_columns: int, among: Tensor | None = None
) -> Tensor:
    """Keep whole tiles.

    Parameters
    ----------
    matrix, among
        As in :func:`unstructured_mask`.
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
        As :func:`unstructured_mask`, or if a size is below 1.
    """
    _check_choice(matrix, among)
    check_integer("tile_filters", tile_filters, at_least=1)
    check_integer("tile_columns", tile_columns, at_least=1)
    # No tile needs to be larger than the matrix: the filling would only take memory.
    size = min(tile_filters, matrix.shape[0]), min(tile_columns, matrix.shape[1])
    energies = _blocks(_energies(matrix, among), *size).sum(dim=(1, 3))
    available = None if among is None else _blocks(among.to(torch.float64), *size).sum(dim=(1, 3)).flatten() > 0
    tiles = _choose(energies.flatten(), keep, available).reshape(energies.shape)
    mask = tiles.repeat_interleave(size[0], dim=0)[: matrix.shape[0]]
    mask = mask.repeat_interleave(size[1], dim=1)[:, : matrix.shape[1]]
    return mask if among is None else mask & among


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
        As in :func:`unstructured_mask`.
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
        As :func:`unstructured_mask`, or if a size is below 1.
    """
    _check_choice(matrix, among)
    check_integer("block_filters", block_filters, at_least=1)
    check_integer("block_columns", block_columns, at_least=1)
    energies = _energies(matrix, among)
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
        kept = _largest((best.unsqueeze(2) * part).sum(dim=1), columns)
        masks.append(best.bool().unsqueeze(2) & kept.unsqueeze(1))
    return torch.cat(masks)


def _alternate(blocks: Tensor, rows: int, columns: int) -> Tensor:
    """Good crossings, by choosing rows and columns in turn."""
    best_mask, best_held = torch.zeros_like(blocks, dtype=torch.bool), torch.full_like(blocks[:, 0, 0], -1.0)
    peaks = blocks.topk(columns, dim=2).values.sum(dim=2)
    by_columns = _largest(blocks.sum(dim=1), columns), _largest(blocks.topk(rows, dim=1).values.sum(dim=1), columns)
    starts = [
        _largest(blocks.sum(dim=2), rows),
        _largest(peaks, rows),
        *(_largest((blocks * chosen.unsqueeze(1)).sum(dim=2), rows) for chosen in by_columns),
    ]
    order = peaks.sort(dim=1, descending=True, stable=True).indices
    for number in range(min(_SINGLE_STARTS, blocks.shape[1])):
        alone = torch.zeros_like(starts[0]).scatter_(1, order[:, number : number + 1], True)
        kept = _largest((blocks * alone.unsqueeze(2)).sum(dim=1), columns)
        starts.append(_largest((blocks * kept.unsqueeze(1)).sum(dim=2), rows))
    for start in starts:
        chosen, last = start, torch.full_like(best_held, -1.0)
        while True:
            kept = _largest((blocks * chosen.unsqueeze(2)).sum(dim=1), columns)
            mask = chosen.unsqueeze(2) & kept.unsqueeze(1)
            held = torch.where(mask, blocks, 0.0).sum(dim=(1, 2))
            better = held > best_held
            best_mask = torch.where(better[:, None, None], mask, best_mask)
            best_held = torch.where(better, held, best_held)
            if not (held > last).any():  # what is held only grows, and there are finitely many choices
                break
            last = torch.maximum(last, held)
            chosen = _largest((blocks * kept.unsqueeze(1)).sum(dim=2), rows)
    return best_mask


# ----------------------------------------------------------------------------------------------- levels


def _check_levels(matrix: Tensor, bits: int, per: str, mask: Tensor | None) -> None:
    _check(matrix)
    check_integer("bits", bits, at_least=2, at_most=16)
    check_choice("per", per, ("tensor", "output"))
    if mask is not None:
        _check_mask("mask", mask, matrix)


def _magnitudes(matrix: Tensor, per: str, mask: Tensor | None) -> Tensor:
    """The largest magnitude that each filter's levels must reach, float64 (filters, 1); not finite is refused."""
    weights = matrix.detach() if mask is None else torch.where(mask, matrix.detach(), 0.0)
    magnitude = weights.abs().amax(dim=1, keepdim=True).to(torch.float64)
    if not torch.isfinite(magnitude).all():
        row = int((~torch.isfinite(magnitude)).nonzero()[0, 0])
        raise InputError(f"matrix must be finite, got {float(magnitude[row, 0])} in filter {row}")
    return magnitude.amax().expand_as(magnitude) if per == "tensor" else magnitude


def _scales(magnitude: Tensor, largest: int) -> Tensor:
    # As quantise has it: below the smallest normal number a quotient loses its digits.
    scale = (magnitude / largest).clamp(min=torch.finfo(torch.float64).tiny)
    return torch.where(magnitude > 0, scale, 1.0)


def _codes(weights: Tensor, magnitude: Tensor, scale: Tensor, largest: int, zero: bool, mask: Tensor | None) -> Tensor:
    """Codes as float64 numbers."""
    values = weights.to(torch.float64)
    codes = (values / scale).round_().clamp_(-largest, largest)
    if not zero:
        least = torch.where(values < 0, -1.0, 1.0)
        codes = torch.where((codes == 0) & (magnitude > 0), least, codes)
    return codes if mask is None else torch.where(mask, codes, 0.0)


def nearest_codes(
    matrix: Tensor,
    bits: int,
    *,
    zero: bool = True,
    per: Literal["tensor", "output"] = "output",
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Integer codes of the nearest levels, as :func:`xbarsim.mapping.quantise` has them.

    Parameters
    ----------
    matrix, bits, zero, per, mask
        As in :func:`nearest_levels`.

    Returns
    -------
    codes
        int32 (filters, positions), in [-Q, Q] with Q = 2**(bits - 1) - 1; 0 for pruned weights.
    scale
        Weight per code, float64 (filters,).

    Raises
    ------
    InputError
        As :func:`nearest_levels`.
    """
    _check_levels(matrix, bits, per, mask)
    largest = 2 ** (bits - 1) - 1
    magnitude = _magnitudes(matrix, per, mask)
    scale = _scales(magnitude, largest)
    codes = _codes(matrix.detach(), magnitude, scale, largest, zero, mask)
    return codes.to(torch.int32), scale.squeeze(1)


def nearest_levels(
    matrix: Tensor,
    bits: int,
    *,
    zero: bool = True,
    per: Literal["tensor", "output"] = "output",
    mask: Tensor | None = None,
) -> Tensor:
    """Put every weight on the nearest level, scale x code.

    Codes are the integers in [-Q, Q], Q = 2**(bits - 1) - 1, and the scale is the largest magnitude over Q, as in
    :func:`xbarsim.mapping.quantise` with the same `bits` and `per`: it finds the same codes for `matrix` (where zero is
    a level) and for the result. Per output this stays so when each filter is multiplied by a number, as the folding of
    a batch norm does.

    Parameters
    ----------
    matrix
        Weights, (filters, positions).
    bits
        Bits of a code, sign included, 2 to 16.
    zero
        Whether zero is a level. If not, weights that are not pruned get at least the code 1 or -1, by their sign; a
        weight of exactly zero gets 1. Only a filter (per tensor: a matrix) of zeros has no scale, and stays zero.
    per
        One scale for the ``"tensor"``, or one for each ``"output"`` (filter).
    mask
        Which weights are not pruned, bool of the same shape; ``None`` for all. Pruned weights become zero and take no
        part in the scale.

    Returns
    -------
    torch.Tensor
        Of the same shape, type and device; no weight could be nearer to its own on the levels of this scale.

    Raises
    ------
    InputError
        If `matrix` is not a finite matrix, `bits` or `per` is out of bounds, or `mask` does not fit.

    Notes
    -----
    Codes are computed in float64. Levels of float32 weights are rounded to float32, which no code notices as long as
    the scale is a normal number, above 1.2e-38.

    Examples
    --------
    >>> nearest_levels(torch.tensor([[7.0, -2.4, 0.4], [0.3, -3.5, 0.0]]), 4).tolist()
    [[7.0, -2.0, 0.0], [0.5, -3.5, 0.0]]
    """
    _check_levels(matrix, bits, per, mask)
    largest = 2 ** (bits - 1) - 1
    magnitude = _magnitudes(matrix, per, mask)
    scale = _scales(magnitude, largest)
    levels = torch.empty_like(matrix, requires_grad=False)
    step = max(1, _LEVELS_CHUNK // matrix.shape[1]) if matrix.device.type == "cpu" else matrix.shape[0]
    for start in range(0, matrix.shape[0], step):
        part = slice(start, start + step)
        codes = _codes(
            matrix.detach()[part], magnitude[part], scale[part], largest, zero, None if mask is None else mask[part]
        )
        # The largest weight itself, not Q times its rounded share: projecting again then changes no bit.
        found = torch.where(codes.abs() == largest, codes.sign() * magnitude[part], codes * scale[part])
        levels[part] = found.to(matrix.dtype)
    return levels
