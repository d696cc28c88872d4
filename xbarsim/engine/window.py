"""How inputs are picked from feature maps, and how activations become codes and products become activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.design import Drive
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import check_integer

__all__ = ["Scaling", "Window"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Window:
    """How the inputs of each output are picked from feature maps.

    Parameters
    ----------
    kernel, stride, dilation
        As (height, width).
    padding
        Zeros around the maps: left, right, top, bottom.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        check_fields(self)
        for name, least in (("kernel", 1), ("stride", 1), ("dilation", 1), ("padding", 0)):
            for size in getattr(self, name):
                check_integer(name, size, at_least=least, at_most=2**20)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Output height and width for maps of this size, before padding."""
        left, right, top, bottom = self.padding
        return (
            (height + top + bottom - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.stride[0] + 1,
            (width + left + right - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.stride[1] + 1,
        )


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How activations become input codes, and products become activations.

    Parameters
    ----------
    inverse_scale
        Input codes for one unit of activation.
    low, high
        Lowest and highest input code.
    scale, bias
        An output is product times `scale` plus `bias`; shape ``(outputs,)``.
    """

    inverse_scale: float
    low: int
    high: int
    scale: FloatArray
    bias: FloatArray

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @entrance
    def none(cls, drive: Drive, outputs: int) -> Scaling:
        """Codes in, products out."""
        bound = 2**drive.input_bits
        return cls(inverse_scale=1.0, low=-bound, high=bound, scale=np.ones(outputs), bias=np.zeros(outputs))
