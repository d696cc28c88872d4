"""From activations to input codes, and from maps of codes to vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels
from xbarsim.engine.window import Window
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_integer

__all__ = ["quantise_codes", "unfold"]


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
    quantiser = kernels.Quantiser(float(inverse_scale), float(low), float(high))
    finite = kernels.quantise(values.reshape(-1), quantiser, codes.reshape(-1))
    return codes, bool(finite)


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
