"""Single weights, wherever they are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from xbarsim.compress.targets.base import Target
from xbarsim.compress.targets.selection import check_matrix, choose, kept_count
from xbarsim.foundation.entrances import entrance

__all__ = ["Unstructured", "unstructured_mask"]


@entrance
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
    >>> import torch
    >>> unstructured_mask(torch.tensor([[1.0, -3.0], [2.0, 0.5]]), 0.5).tolist()
    [[False, True], [True, False]]
    """
    check_matrix(matrix, among)
    available = None if among is None else among.flatten()
    return choose(matrix.detach().abs().flatten(), keep, available).reshape(matrix.shape)


@dataclass(frozen=True, kw_only=True)
class Unstructured(Target):
    """Single weights, wherever they are.

    Parameters
    ----------
    keep
        Share of the weights that stays.
    """

    keep: float

    @entrance
    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The largest weights: :func:`unstructured_mask`."""
        return unstructured_mask(matrix, self.keep, among=among)

    @entrance
    def kept_weights(self, shape: tuple[int, int]) -> tuple[int, int]:
        """That share of all weights."""
        count = kept_count(self.keep, shape[0] * shape[1])
        return count, count

    @entrance
    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Magnitudes."""
        return (matrix.abs(),)
