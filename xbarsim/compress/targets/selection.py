"""Choosing what stays: shares as whole numbers of groups, and the largest of a set of groups.

A mask that keeps a given number of weights, filters, columns or tiles leaves the nearest matrix (in the Frobenius norm)
when it keeps the largest squared norm. Groups are compared by their squared norms in float64; of equal ones the first
stay.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real, check_tensor

__all__ = [
    "block_norms",
    "blocks_of",
    "check_mask",
    "check_matrix",
    "check_numbers",
    "choose",
    "energies_of",
    "kept_count",
    "largest",
]


@entrance
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


def check_numbers(matrix: Tensor) -> None:
    """Refuse what is not a non-empty matrix of float32 or float64 numbers."""
    check_instance("matrix", matrix, Tensor)
    check_tensor("matrix", matrix)
    wanted = "matrix must be a non-empty matrix of float32 or float64 numbers"
    if matrix.ndim != 2 or matrix.numel() == 0:
        raise InputError(f"{wanted}, got shape {tuple(matrix.shape)}")
    if matrix.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{wanted}, got type {matrix.dtype}")


def check_matrix(matrix: Tensor, among: Tensor | None) -> None:
    """Refuse what no mask can be chosen from: matrices that are not finite, and masks that do not fit."""
    check_numbers(matrix)
    if not torch.isfinite(matrix).all():
        where = tuple(int(i) for i in (~torch.isfinite(matrix)).nonzero()[0])
        raise InputError(f"matrix must be finite, got {float(matrix[where])} at index {where}")
    if among is not None:
        check_mask("among", among, matrix)


def check_mask(name: str, mask: Tensor, matrix: Tensor) -> None:
    """Refuse a mask that is not of bools, or not of a matrix's shape."""
    check_instance(name, mask, Tensor)
    check_tensor(name, mask)
    if mask.dtype != torch.bool or mask.shape != matrix.shape:
        raise InputError(
            f"{name} must be of type torch.bool and shape {tuple(matrix.shape)}, "
            f"got {mask.dtype} and {tuple(mask.shape)}"
        )


def energies_of(matrix: Tensor, among: Tensor | None) -> Tensor:
    """Squares in float64 up to a common factor, so that none overflows; those that may not stay are zero."""
    values = matrix.detach().to(torch.float64)
    exponent = math.frexp(float(values.abs().amax()))[1]
    # A power of two changes no digit. Two steps, because one factor may itself be too large for a float.
    values = values * 2.0 ** (-exponent // 2) * 2.0 ** (-exponent - -exponent // 2)
    energies = values.square_()
    return energies if among is None else torch.where(among, energies, 0.0)


def largest(scores: Tensor, count: int) -> Tensor:
    """Mask of the `count` largest along the last dimension; of equal ones the first."""
    total = scores.shape[-1]
    if count >= total:
        return torch.ones_like(scores, dtype=torch.bool)
    border = scores.kthvalue(total - count + 1, dim=-1, keepdim=True).values
    above, equal = scores > border, scores == border
    missing = count - above.sum(dim=-1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=-1) <= missing))


def choose(scores: Tensor, keep: float, available: Tensor | None) -> Tensor:
    """Mask of the share of groups with the largest scores, among the available ones."""
    count = kept_count(keep, scores.numel())
    if available is None:
        return largest(scores, count)
    return largest(torch.where(available, scores, -1.0), count) & available


def blocks_of(matrix: Tensor, filters: int, columns: int) -> Tensor:
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
    blocks = blocks_of(matrix, min(filters, matrix.shape[0]), min(columns, matrix.shape[1]))
    return (
        torch.linalg.vector_norm(blocks, dim=(1, 3)),
        torch.linalg.vector_norm(blocks, dim=3),
        torch.linalg.vector_norm(blocks, dim=1),
    )
