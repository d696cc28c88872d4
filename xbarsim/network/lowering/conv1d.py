"""``Conv1d``."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from xbarsim.engine import Window
from xbarsim.network.layers.conv1d import Conv1dAdapter
from xbarsim.network.lowering.base import Product, float_bias, float_weights
from xbarsim.network.lowering.convolution import LowerConvolution, weight_matrix

__all__ = ["LowerConv1d"]


class LowerConv1d(LowerConvolution):
    """A convolution along one dimension: over maps of one row."""

    handles: ClassVar[type[nn.Module]] = nn.Conv1d

    def lower(self, module: nn.Conv1d) -> Product:
        """The product of a convolution, as :meth:`Lowering.lower`."""
        left, right = (int(size) for size in module._reversed_padding_repeated_twice)  # right for "same" too
        edges, none = (left, right, 0, 0), (0, 0, 0, 0)
        zeros = module.padding_mode == "zeros"
        return Product(
            weights=weight_matrix(float_weights(module.weight), module.groups),
            bias=float_bias(module.bias, module.out_channels),
            adapter=Conv1dAdapter(
                channels=module.in_channels, padding_mode=module.padding_mode, edges=none if zeros else edges
            ),
            window=Window(
                kernel=(1, int(module.kernel_size[0])),
                stride=(1, int(module.stride[0])),
                dilation=(1, int(module.dilation[0])),
                padding=edges if zeros else none,
            ),
            groups=module.groups,
        )
