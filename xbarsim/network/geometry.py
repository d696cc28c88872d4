"""Linear layers and convolutions as products: their kernels as one matrix, their geometry as an adapter and a window.

Both doors read it from here: torch from the arguments of a call, ONNX from the attributes of a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.engine import Window
from xbarsim.network.layers.base import LayerAdapter
from xbarsim.network.layers.conv1d import Conv1dAdapter
from xbarsim.network.layers.conv2d import Conv2dAdapter
from xbarsim.network.layers.conv3d import Conv3dAdapter
from xbarsim.network.layers.linear import LinearAdapter
from xbarsim.network.layers.transposed import TransposedAdapter
from xbarsim.network.lowered import Product

__all__ = ["Convolution", "TransposedConvolution", "linear_product"]

Array = npt.NDArray[Any]


def linear_product(weights: Array, bias: Array) -> Product:
    """A product of vectors.

    Parameters
    ----------
    weights
        Shape ``(inputs, outputs)``.
    bias
        Shape ``(outputs,)``.
    """
    inputs = weights.shape[0]
    return Product(
        weights=weights, bias=bias, adapter=LinearAdapter(features=inputs), window=Window(kernel=(1, inputs))
    )


def _block_diagonal(kernels: Array, groups: int) -> Array:
    """Kernels ``(outputs, channels of a group, ...)`` as a matrix ``(inputs, outputs)``, groups on the diagonal."""
    outputs = kernels.shape[0]
    blocks = kernels.reshape(groups, outputs // groups, -1)  # (groups, outputs, inputs) of a group
    matrix = np.zeros((groups, blocks.shape[2], groups, blocks.shape[1]), kernels.dtype)
    for group, block in enumerate(blocks):
        matrix[group, :, group] = block.T
    return matrix.reshape(groups * blocks.shape[2], outputs)


def _pair(values: tuple[int, ...], row: int) -> tuple[int, int]:
    """Along height and width; a sequence is a row, whose height has `row`."""
    return (row, values[0]) if len(values) == 1 else (values[-2], values[-1])


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """Geometry of a convolution over sequences, maps or volumes, one entry for each dimension.

    Attributes
    ----------
    stride, dilation
        Of the kernel.
    padding
        Zeros before and after.
    groups
        Groups of channels and outputs.
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def matrix(self, kernels: Array) -> Array:
        """Kernels ``(outputs, channels of a group, ...)`` of any type of number as ``(inputs, outputs)``."""
        return _block_diagonal(kernels, self.groups)

    def product(self, kernels: Array, bias: Array) -> Product:
        """The product.

        Parameters
        ----------
        kernels
            Shape ``(outputs, channels of a group, ...)``, behind them the kernel.
        bias
            Shape ``(outputs,)``.
        """
        kernel, channels = kernels.shape[2:], kernels.shape[1] * self.groups
        adapter: LayerAdapter
        if len(kernel) == 3:
            adapter = Conv3dAdapter(
                channels=channels,
                kernel=kernel[0],
                stride=self.stride[0],
                dilation=self.dilation[0],
                padding=self.padding[0],
            )
        else:
            adapter = Conv2dAdapter(channels=channels) if len(kernel) == 2 else Conv1dAdapter(channels=channels)
        rows = (0, 0) if len(kernel) == 1 else self.padding[-2]
        return Product(
            weights=self.matrix(kernels),
            bias=bias,
            adapter=adapter,
            window=Window(
                kernel=_pair(kernel, 1),
                stride=_pair(self.stride, 1),
                dilation=_pair(self.dilation, 1),
                padding=(*self.padding[-1], *rows),
            ),
            groups=self.groups,
        )


@dataclass(frozen=True, kw_only=True)
class TransposedConvolution:
    """Geometry of a transposed convolution over sequences or maps, one entry for each dimension.

    It is an ordinary convolution over the spread map with the kernel turned round; see
    :class:`xbarsim.network.layers.TransposedAdapter`.

    Attributes
    ----------
    stride, dilation
        Of the convolution that it is the transpose of.
    padding
        Cut off before and after.
    output_padding
        Added behind.
    groups
        Groups of channels and outputs.
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def matrix(self, kernels: Array) -> Array:
        """Kernels ``(channels, outputs of a group, ...)`` of any type of number as ``(inputs, outputs)``."""
        maps = kernels[:, :, None, :] if kernels.ndim == 3 else kernels
        channels, outputs, *kernel = maps.shape
        blocks = maps.reshape(self.groups, channels // self.groups, outputs, *kernel)
        turned = np.ascontiguousarray(blocks[..., ::-1, ::-1].swapaxes(1, 2))  # inputs and outputs exchanged
        return _block_diagonal(turned.reshape(self.groups * outputs, channels // self.groups, *kernel), self.groups)

    def product(self, kernels: Array, bias: Array) -> Product:
        """The product.

        Parameters
        ----------
        kernels
            Shape ``(channels, outputs of a group, ...)``, behind them the kernel of one or two dimensions.
        bias
            Shape ``(outputs,)``.
        """
        kernel, dilation = _pair(kernels.shape[2:], 1), _pair(self.dilation, 1)
        more = _pair(self.output_padding, 0)
        reach = [dilation[axis] * (kernel[axis] - 1) for axis in (0, 1)]
        columns, rows = self.padding[-1], (0, 0) if kernels.ndim == 3 else self.padding[-2]
        return Product(
            weights=self.matrix(kernels),
            bias=bias,
            adapter=TransposedAdapter(
                channels=kernels.shape[0],
                stride=_pair(self.stride, 1),
                edges=(
                    reach[1] - columns[0],
                    reach[1] - columns[1] + more[1],
                    reach[0] - rows[0],
                    reach[0] - rows[1] + more[0],
                ),
                dimensions=kernels.ndim - 2,
            ),
            window=Window(kernel=kernel, dilation=dilation),
            groups=self.groups,
        )
