"""Nearest levels: the codes that the weights of a layer stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xbarsim.compress.targets.selection import check_mask, check_numbers
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

__all__ = ["Levels", "nearest_codes", "nearest_levels"]

_CHUNK = 1 << 17  # weights put on levels at once: float64 copies that stay in the cache


def _check_levels(matrix: Tensor, bits: int, per: str, mask: Tensor | None) -> None:
    check_numbers(matrix)
    check_integer("bits", bits, at_least=2, at_most=16)
    check_choice("per", per, ("tensor", "output"))
    if mask is not None:
        check_mask("mask", mask, matrix)


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


@entrance
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


@entrance
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
    step = max(1, _CHUNK // matrix.shape[1]) if matrix.device.type == "cpu" else matrix.shape[0]
    for start in range(0, matrix.shape[0], step):
        part = slice(start, start + step)
        codes = _codes(
            matrix.detach()[part], magnitude[part], scale[part], largest, zero, None if mask is None else mask[part]
        )
        # The largest weight itself, not Q times its rounded share: projecting again then changes no bit.
        exact = torch.where(codes.abs() == largest, codes.sign() * magnitude[part], codes * scale[part])
        levels[part] = exact.to(matrix.dtype)
    return levels


def _ternary(matrix: Tensor, threshold: float, per: str, mask: Tensor | None) -> Tensor:
    """Weights beyond a multiple of their mean magnitude as plus or minus the mean magnitude of those, else 0."""
    _check_levels(matrix, 2, per, mask)
    weights = matrix.detach().to(torch.float64)
    weights = weights if mask is None else torch.where(mask, weights, 0.0)
    magnitude = weights.abs()
    if not torch.isfinite(magnitude).all():
        raise InputError("matrix must be finite, got NaN or infinity")
    counted = torch.ones_like(matrix, dtype=torch.bool) if mask is None else mask
    dimensions = (0, 1) if per == "tensor" else (1,)

    def mean(chosen: Tensor) -> Tensor:
        count = chosen.sum(dim=dimensions, keepdim=True).clamp(min=1)
        return torch.where(chosen, magnitude, 0.0).sum(dim=dimensions, keepdim=True) / count

    beyond = magnitude > threshold * mean(counted)
    return torch.where(beyond, weights.sign() * mean(beyond), 0.0).to(matrix.dtype)


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The levels that the weights of a layer stand on.

    Parameters
    ----------
    bits
        Bits of a code, sign included, 2 to 16: the levels are scale x code, codes from -Q to Q = 2**(bits - 1) - 1.
    zero
        Whether a weight that is not pruned may be zero.
    per
        One scale for the ``"tensor"`` or one for each ``"output"``. Only those of outputs are still levels after a
        batch norm is folded into the layer.
    threshold
        Of ternary levels, > 0 and < 1: weights of at most this times the mean magnitude become 0, and the scale is the
        mean magnitude of the others, instead of the largest. Goes with 2 bits. With 0.7 it comes near the least squared
        error of all ternary levels (F. Li, B. Zhang, B. Liu, Ternary weight networks, 2016,
        doi:10.48550/arXiv.1605.04711). ``None`` for the nearest levels of the largest magnitude.

    Raises
    ------
    InputError
        If a value is out of its bound, or a threshold comes with other levels than three.
    """

    bits: int
    zero: bool = True
    per: Literal["tensor", "output"] = "output"
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_integer("bits", self.bits, at_least=2, at_most=16)
        check_instance("zero", self.zero, bool)
        check_choice("per", self.per, ("tensor", "output"))
        if self.threshold is not None:
            object.__setattr__(self, "threshold", check_real("threshold", self.threshold, above=0.0, below=1.0))
            if self.bits != 2 or not self.zero:
                raise InputError(
                    f"threshold must be None but for 2 bits with zero, got {self.threshold:g} with {self.bits} bits"
                    + ("" if self.zero else " without zero")
                )

    def __repr__(self) -> str:
        """Without a threshold where there is none: checkpoints hold this text."""
        threshold = "" if self.threshold is None else f", threshold={self.threshold!r}"
        return f"Levels(bits={self.bits!r}, zero={self.zero!r}, per={self.per!r}{threshold})"

    @entrance
    def project(self, matrix: Tensor, mask: Tensor | None = None) -> Tensor:
        """The nearest levels, :func:`nearest_levels`; with a threshold those that it gives.

        Parameters
        ----------
        matrix
            Weights, (filters, positions).
        mask
            Which of them are not pruned; ``None`` for all.
        """
        if self.threshold is not None:
            return _ternary(matrix, self.threshold, self.per, mask)
        return nearest_levels(matrix, self.bits, zero=self.zero, per=self.per, mask=mask)
