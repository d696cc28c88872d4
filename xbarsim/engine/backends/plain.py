"""Feature maps and matrices of plain numbers, without a cell in between, on the kernels that dies run on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.design import Converter, Drive
from xbarsim.engine import kernels
from xbarsim.engine.backends.sums import SumProgram
from xbarsim.engine.layout import Columns, Layout
from xbarsim.engine.maps import BlockedMaps
from xbarsim.engine.window import Scaling, Window
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError

__all__ = ["PlainProgram"]

Array = npt.NDArray[Any]


class PlainProgram(SumProgram):
    """Convolutions in float32 whose outputs are sums over inputs of their own: what is zero is not multiplied.

    Each sum runs in the order of its inputs, one fused multiply-add after the other.

    Parameters
    ----------
    groups
        Inputs (rows of the unfolded kernel), outputs, and their weights (inputs, outputs), of each group.
    inputs, outputs
        How many there are.
    bias
        Of each output.

    Raises
    ------
    InputError
        If a group names an input or output that is not there, or its weights or `bias` have another shape.
    """

    @entrance
    def __init__(self, groups: list[tuple[Array, Array, Array]], inputs: int, outputs: int, bias: Array) -> None:
        if bias.shape != (outputs,):
            raise InputError(f"bias must have shape {(outputs,)}, got {bias.shape}")
        for rows, places, values in groups:
            for name, numbers, bound in (("inputs", rows, inputs), ("outputs", places, outputs)):
                if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < bound:
                    raise InputError(
                        f"{name} of groups must be in [0, {bound - 1}], got {numbers.min()} to {numbers.max()}"
                    )
            if values.shape != (len(rows), len(places)):
                raise InputError(f"weights of groups must have shape {(len(rows), len(places))}, got {values.shape}")
        columns = tuple(
            Columns(
                rows=rows.astype(np.int64),
                values=values.astype(np.float64),
                counts=np.ones(len(places)),
                outputs=places.astype(np.int64),
            )
            for rows, places, values in groups
        )
        drive = Drive(signed=True, input_bits=8, dac_bits=8)  # of no consequence: nothing is cut into codes
        super().__init__(
            Layout(
                kind="whole",
                drive=drive,
                converter=Converter(),
                single=False,
                columns=columns,
                inputs=inputs,
                outputs=outputs,
            )
        )
        ones = np.ones(outputs)
        self._scaling = Scaling(inverse_scale=1.0, low=-1, high=1, scale=ones, bias=bias.astype(np.float64))

    def _block(
        self, maps: Any, quantiser: kernels.Quantiser, frame: kernels.Frame, shape: tuple[int, ...], blocked: Array
    ) -> bool:
        rectified = quantiser.low == 0.0  # as codes of rectified maps begin with 0
        kernels.frame_maps(maps, rectified, frame, shape[1:], blocked)
        return True

    @entrance
    def convolve(self, images: BlockedMaps, window: Window) -> BlockedMaps:
        """The convolution of feature maps.

        Raises
        ------
        InputError
            If the images have other channels than the weights, or are smaller than the kernel.
        """
        channels, kernel = images.shape[1], window.kernel
        wanted = self._layout.inputs / math.prod(kernel)
        if channels != wanted:
            raise InputError(f"images must have {wanted:g} channels for a kernel of {kernel}, got {channels}")
        if min(window.output_size(*images.shape[2:])) < 1:
            raise InputError(f"images must be at least as large as the kernel, got {images.shape}")
        return self.run_blocked(images, window, self._scaling, 0)[0]
