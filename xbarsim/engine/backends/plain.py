"""Feature maps of plain numbers, without a cell in between: convolutions that multiply no zero of a pruned layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels, memory
from xbarsim.engine.backends.blocked import ends, joined
from xbarsim.engine.maps import BlockedMaps
from xbarsim.engine.window import Window
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_integer

__all__ = ["PlainProgram"]

Array = npt.NDArray[Any]

_KEPT = 3  # shapes of maps before the last, whose indices are kept


class _Indices:
    """Where each position reads and writes, and the offsets of the rows, for maps of one shape."""

    def __init__(
        self,
        rows: Array,
        size: tuple[int, int],
        shape: tuple[int, ...],
        inputs: tuple[int, ...],
        framed: int,
        window: Window,
        margin: int,
    ) -> None:
        blocks, channels, height, width, _ = inputs
        left, _, top, _ = window.padding
        channel, rest = np.divmod(rows, math.prod(window.kernel))
        y, x = np.divmod(rest, window.kernel[1])
        offsets = (channel * height + y * window.dilation[0]) * width + x * window.dilation[1]
        i, j = (each.reshape(-1) for each in np.indices(size))
        first = (framed - top) * width + framed - left
        starts = first + i * window.stride[0] * width + j * window.stride[1]
        block = np.arange(blocks)[:, None]
        self.offsets = offsets * kernels.LANES
        self.bases = ((block * channels * height * width + starts) * kernels.LANES).reshape(-1)
        self.places = (block * math.prod(shape[1:4]) + (i + margin) * shape[3] + j + margin).reshape(-1)


class PlainProgram:
    """Convolutions in float32 whose outputs are sums over inputs of their own: what is zero is not multiplied.

    Each sum begins with the bias and runs in the order of its inputs, one fused multiply-add after the other.

    Parameters
    ----------
    groups
        Inputs (rows of the unfolded kernel), outputs, and their weights (inputs, outputs), of each group. No output is
        in two of them; those in none are their bias.
    inputs, outputs
        How many there are.
    bias
        Of each output.

    Raises
    ------
    InputError
        If a group names an input or output that is not there or an output of another one, or its weights or `bias` have
        another shape.
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
        targets = joined([places for _, places, _ in groups], np.int64)
        often = np.bincount(targets, minlength=outputs)
        if outputs and often.max() > 1:
            raise InputError(f"outputs of groups must be of one group each, got {int(often.argmax())} in two")
        alone = np.flatnonzero(often == 0)
        groups = [*groups, (np.zeros(0, np.int64), alone, np.zeros((0, len(alone))))]
        targets = np.concatenate([targets, alone])
        self._inputs, self._outputs = inputs, outputs
        self._indices: dict[Any, _Indices] = {}
        self._rows = joined([rows for rows, _, _ in groups], np.int64)
        width = kernels.PLAIN_COLUMNS
        panels = [
            values[:, first : first + width].reshape(-1)
            for _, _, values in groups
            for first in range(0, values.shape[1], width)
        ]
        self._groups = kernels.PlainGroups(
            rows=ends([len(rows) for rows, _, _ in groups]),
            offsets=np.zeros(0, np.int64),
            ends=ends([len(places) for _, places, _ in groups]),
            weights=joined(panels, np.float32),
            starts=ends([values.size for _, _, values in groups])[:-1],
            bias=bias[targets].astype(np.float32),
            targets=targets,
        )

    @entrance
    def convolve(self, images: BlockedMaps, window: Window, *, margin: int = 0) -> BlockedMaps:
        """The convolution of feature maps.

        Parameters
        ----------
        images
            The maps; those whose margin is as large as the padding are read where they are.
        window
            Kernel, stride, dilation and padding.
        margin
            Rows and columns of zeros around the maps that are given: the padding of the next layer.

        Raises
        ------
        InputError
            If the images have other channels than the weights, or are smaller than the kernel, or `margin` is negative.
        """
        margin = check_integer("margin", margin, at_least=0)
        count, channels, height, width = images.shape
        wanted = self._inputs / math.prod(window.kernel)
        if channels != wanted:
            raise InputError(f"images must have {wanted:g} channels for a kernel of {window.kernel}, got {channels}")
        size = window.output_size(height, width)
        if min(size) < 1:
            raise InputError(f"images must be at least as large as the kernel, got {images.shape}")
        framed = images.framed(max(window.padding))
        shape = (len(framed.values), self._outputs, size[0] + 2 * margin, size[1] + 2 * margin, kernels.LANES)
        key = framed.values.shape, framed.margin, window, margin
        indices = self._indices.get(key)
        if indices is None:
            indices = _Indices(self._rows, size, shape, *key)
            self._indices = {**dict([*self._indices.items()][-_KEPT:]), key: indices}  # threads see one or the other
        values = memory.array(shape)
        kernels.plain_products(
            framed.values.reshape(-1),
            framed.rectified,
            indices.bases,
            indices.places,
            self._groups._replace(offsets=indices.offsets),
            kernels.Frame(margin, margin),
            shape,
            values.reshape(-1),
        )
        return BlockedMaps(values, count, margin=margin)
