"""Rescaling of input channels with outliers, so that one large channel does not set the range of all.

Channel k of the inputs is divided by s_k before the converters and row k of the weights multiplied by it, which
leaves the product as it is. With ``s_k = max|x_k|^strength / max|w_k|^(1 - strength)`` a large channel hands part of
its range to the weights. Source: SmoothQuant (Xiao et al., ICML 2023, arXiv:2211.10438, equation 4); NORA takes it to
crossbars.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import InputError, check_real
from xbarsim.network.lowered import Product

__all__ = ["Rescale", "channel_scales", "rescaled"]


@dataclass(frozen=True, kw_only=True)
class Rescale:
    """Divide each input channel before the converters, and multiply its weights, by :func:`channel_scales`.

    Parameters
    ----------
    strength
        From 0, the ranges of all channels' weights become equal, to 1, those of all inputs do.
    """

    strength: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        check_real("strength", self.strength, at_least=0.0, at_most=1.0)


def rescaled(product: Product, largest: npt.NDArray[np.floating[Any]], rescale: Rescale) -> Product:
    """A product with its weights multiplied and its inputs to be divided, channel by channel.

    Parameters
    ----------
    product
        A linear layer or a convolution.
    largest
        Largest magnitude of each input channel that was seen, shape ``(channels,)``.
    rescale
        How.

    Returns
    -------
    Product
        With :attr:`Product.divisors`; the same product where inputs are not divided because no channel would change.
    """
    channels = len(largest)
    weights = product.weights.astype(np.float64)
    scales = channel_scales(weights.reshape(channels, -1), largest, strength=rescale.strength).astype(np.float32)
    rows = np.repeat(scales.astype(np.float64), len(weights) // channels)
    return replace(product, weights=(weights * rows[:, None]).astype(np.float32), divisors=scales)


def channel_scales(
    weights: npt.NDArray[np.floating[Any]], largest: npt.NDArray[np.floating[Any]], *, strength: float = 0.5
) -> npt.NDArray[np.float64]:
    """What each input is divided by, and its row of weights multiplied by.

    The factors of the formula are multiplied by one number, which the scale of a whole matrix takes up again, so that
    the largest weight stays as large as it was. The range of the inputs then never grows: over the inputs that the
    formula applies to, it becomes ``max_k(max|x_k| max|w_k|) / max|w|``.

    Parameters
    ----------
    weights
        Shape ``(inputs, outputs)``.
    largest
        Largest absolute value of each input, shape ``(inputs,)``.
    strength
        From 0, the ranges of all rows of weights become equal, to 1, those of all inputs do.

    Returns
    -------
    array
        Positive, float64, shape ``(inputs,)``; 1 for inputs that are always zero or have only zero weights, where the
        formula gives no finite number above zero.

    Raises
    ------
    InputError
        If shapes do not fit, a value is negative or not finite, or `strength` is outside of 0 to 1.
    """
    strength = check_real("strength", strength, at_least=0.0, at_most=1.0)
    if weights.ndim != 2 or largest.shape != weights.shape[:1]:
        raise InputError(
            "largest must hold one value for each row of a matrix of weights, "
            f"got shapes {largest.shape} and {weights.shape}"
        )
    if not np.isfinite(largest).all() or (largest < 0).any():
        raise InputError(f"largest must be finite and at least 0, got {largest.min()} to {largest.max()}")
    if not np.isfinite(weights).all():
        raise InputError("weights must be finite, got some that are not")
    inputs = largest.astype(np.float64)
    rows = np.abs(weights).max(axis=1, initial=0.0).astype(np.float64)
    live = (inputs > 0) & (rows > 0)
    scales = np.ones(len(inputs))
    scales[live] = inputs[live] ** strength / rows[live] ** (1.0 - strength)
    live &= np.isfinite(scales) & (scales > 0)
    if live.any():
        scales[live] *= rows.max() / (rows * scales)[live].max()
    scales[~live] = 1.0
    return scales
