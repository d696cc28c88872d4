"""``Conv2d``."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from xbarsim.engine import Window
from xbarsim.network.layers.conv2d import Conv2dAdapter
from xbarsim.network.lowering.base import Product, float_bias, float_weights
from xbarsim.network.lowering.convolution import LowerConvolution, weight_matrix

__all__ = ["LowerConv2d"]


class LowerConv2d(LowerConvolution):
    """A convolution over feature maps."""

    handles: ClassVar[type[nn.Module]] = nn.Conv2d

    def lower(self, module: nn.Conv2d) -> Product:
        """The product of a convolution, as :meth:`Lowering.lower`."""
        left, right, top, bottom = (int(size) for size in module._reversed_padding_repeated_twice)  # right for "same"
        edges, none = (left, right, top, bottom), (0, 0, 0, 0)
        zeros = module.padding_mode == "zeros"
        return Product(
            weights=weight_matrix(float_weights(module.weight), module.groups),
            bias=float_bias(module.bias, module.out_channels),
            adapter=Conv2dAdapter(
                channels=module.in_channels, padding_mode=module.padding_mode, edges=none if zeros else edges
            ),
            window=Window(
                kernel=(int(module.kernel_size[0]), int(module.kernel_size[1])),
                stride=(int(module.stride[0]), int(module.stride[1])),
                dilation=(int(module.dilation[0]), int(module.dilation[1])),
                padding=edges if zeros else none,
            ),
            groups=module.groups,
        )
