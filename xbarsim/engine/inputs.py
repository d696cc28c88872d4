"""From activations to input codes, and from maps of codes to vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels
from xbarsim.engine.window import Window
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_integer, check_real

__all__ = ["clipping_bounds", "count_clipped", "quantise_codes", "unfold"]


@entrance
def quantise_codes(
    values: npt.NDArray[np.float32], inverse_scale: float, low: int, high: int
) -> tuple[npt.NDArray[np.int32], bool]:
    """Nearest codes of activations, halves up, clipped.

    Parameters
    ----------
    values
        Activations, any shape.
    inverse_scale
        Codes for one unit of activation.
    low, high
        Lowest and highest code.

    Returns
    -------
    codes : ndarray
        Of the same shape.
    finite : bool
        Whether all activations were finite.
    """
    check_integer("low", low, at_least=-(2**31), at_most=0)
    check_integer("high", high, at_least=0, at_most=2**31 - 1)
    values = values.astype(np.float32, copy=False)
    codes = np.empty(values.shape, np.int32)
    quantiser = kernels.Quantiser.of(inverse_scale, low, high)
    finite = kernels.quantise(values.reshape(-1), quantiser, codes.reshape(-1))
    return codes, bool(finite)


@entrance
def clipping_bounds(inverse_scale: float, low: int, high: int) -> tuple[np.float32, np.float32]:
    """Where float32 activations begin to lie beyond the codes.

    Parameters
    ----------
    inverse_scale, low, high
        As for :func:`quantise_codes`.

    Returns
    -------
    below, above : float32
        Activations less than `below`, and from `above` on, have a nearest code beyond `low` and `high`: exactly, as
        codes are computed.
    """
    check_real("inverse_scale", inverse_scale, above=0.0)
    check_integer("low", low, at_least=-(2**31), at_most=0)
    check_integer("high", high, at_least=0, at_most=2**31 - 1)

    def is_above(value: np.float32) -> bool:
        return bool(np.floor(np.float64(value) * inverse_scale + 0.5) > high)

    def is_below(value: np.float32) -> bool:
        return bool(np.floor(np.float64(value) * inverse_scale + 0.5) < low)

    with np.errstate(over="ignore"):
        above, below = np.float32((high + 0.5) / inverse_scale), np.float32((low - 0.5) / inverse_scale)
    up, down = np.float32(np.inf), np.float32(-np.inf)
    while is_above(np.nextafter(above, down)):
        above = np.nextafter(above, down)
    while np.isfinite(above) and not is_above(above):
        above = np.nextafter(above, up)
    while np.isfinite(below) and is_below(below):
        below = np.nextafter(below, up)
    while np.isfinite(below) and not is_below(np.nextafter(below, down)):
        below = np.nextafter(below, down)
    return below, above


def count_clipped(values: npt.NDArray[np.float32], below: np.float32, above: np.float32) -> int:
    """How many activations are less than `below`, or `above` or more; as :func:`clipping_bounds` gives them."""
    return int(kernels.count_outside(values.reshape(-1), below, above))


@entrance
def unfold(codes: npt.NDArray[Any], window: Window) -> npt.NDArray[np.int32]:
    """Input codes as one row for each output position.

    Parameters
    ----------
    codes
        Maps, shape ``(images, channels, height, width)``.
    window
        Kernel, stride, dilation and zero padding.

    Returns
    -------
    ndarray
        Shape ``(images, positions, inputs)``; inputs are ordered channel, row, column.
    """
    if codes.ndim != 4 or codes.dtype.kind not in "iu":
        raise InputError(
            f"codes must be integers of shape (images, channels, height, width), got type {codes.dtype} of shape "
            f"{codes.shape}"
        )
    if min(window.output_size(*codes.shape[2:])) < 1:
        raise InputError(f"window must fit into the padded maps of {codes.shape[2]} x {codes.shape[3]}, got {window}")
    left, right, top, bottom = window.padding
    padded = np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))
    height, width = window.output_size(*codes.shape[2:])
    columns = np.empty((len(codes), height, width, codes.shape[1], *window.kernel), np.int32)
    kernels.im2col(padded, *window.kernel, window.stride, window.dilation, columns)
    return columns.reshape(len(codes), height * width, -1)
