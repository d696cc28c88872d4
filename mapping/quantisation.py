"""From floating-point weights to symmetric integer codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import check_array, check_choice, check_integer, check_real

__all__ = ["QuantisedMatrix", "quantise"]


@dataclass(frozen=True, eq=False)
class QuantisedMatrix:
    """A weight matrix as integers and scales: weights are close to ``codes * scale``.

    Attributes
    ----------
    codes : numpy.ndarray
        Integers in [-Q, Q], Q = 2**(bits - 1) - 1; int32 of shape (inputs, outputs).
    scale : numpy.ndarray
        Weight per code, positive; float64 of shape (outputs,), all alike when quantised per tensor.
    bits : int
        Bits of a code, sign included.
    """

    codes: npt.NDArray[np.int32]
    scale: npt.NDArray[np.float64]
    bits: int

    def __post_init__(self) -> None:
        check_fields(self)

    def dequantise(self) -> npt.NDArray[np.float64]:
        """Return the weights the codes stand for, float64 of shape (inputs, outputs)."""
        return self.codes * self.scale


@entrance
def quantise(
    weights: npt.ArrayLike | Any, bits: int, per: Literal["tensor", "output"] = "output", clip: float = 1.0
) -> QuantisedMatrix:
    """Quantise a weight matrix symmetrically around zero.

    The scale is ``max |w| / Q``, Q = 2**(bits - 1) - 1, over the tensor or over each output, or a quantile of ``|w|``
    in the place of its maximum, and the codes are the nearest integers to w / scale (halves to even), clipped at Q. A
    tensor or output of zeros has the scale 1.

    Parameters
    ----------
    weights
        Floating-point weights of shape (inputs, outputs): for a torch ``Linear``, the transpose of its
        ``weight``.
    bits
        Bits of a code, sign included, 2 to 16.
    per
        One scale for the ``"tensor"``, or one for each ``"output"``.
    clip
        Quantile of the magnitudes that is full scale, over 0; 1 for the largest. What lies beyond is clipped.

    Returns
    -------
    QuantisedMatrix
        Codes and scales; no weight that is not clipped is off by more than half its scale.

    Raises
    ------
    InputError
        If the weights are not a non-empty, finite, floating-point matrix, or `bits`, `per` or `clip` is out of bounds.

    Examples
    --------
    >>> import numpy as np
    >>> quantised = quantise(np.array([[1.0, -0.2], [-0.3, 0.1]]), bits=8, per="tensor")
    >>> quantised.codes.tolist()
    [[127, -25], [-38, 13]]
    """
    array = check_array("weights", weights, dimensions=2, kind="floating").astype(np.float64)
    check_integer("bits", bits, at_least=2, at_most=16)
    check_choice("per", per, ("tensor", "output"))
    clip = check_real("clip", clip, above=0.0, at_most=1.0)
    largest = 2 ** (bits - 1) - 1
    magnitude = np.abs(array).max(axis=0)
    if per == "tensor":
        magnitude = np.full_like(magnitude, magnitude.max())
    if clip < 1.0:
        lower = np.quantile(np.abs(array), clip, axis=0 if per == "output" else None)
        magnitude = np.where(lower > 0, lower, magnitude)  # where most weights are zero, none is clipped
    # Below the smallest normal number a quotient loses its digits, so the scale never goes there.
    scale = np.where(magnitude > 0, np.maximum(magnitude / largest, np.finfo(np.float64).tiny), 1.0)
    codes = np.clip(np.rint(array / scale), -largest, largest).astype(np.int32)
    return QuantisedMatrix(codes=codes, scale=scale, bits=bits)
