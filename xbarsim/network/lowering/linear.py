"""``Linear``."""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from xbarsim.engine import Window
from xbarsim.network.layers.linear import LinearAdapter
from xbarsim.network.lowering.base import Lowering, Product, float_bias, float_weights

__all__ = ["LowerLinear"]


class LowerLinear(Lowering):
    """A linear layer: its transposed weight, one product for each vector in the last dimension."""

    handles: ClassVar[type[nn.Module]] = nn.Linear
    channels_last: ClassVar[bool] = True

    def lower(self, module: nn.Linear) -> Product:
        """The product of a layer, as :meth:`Lowering.lower`."""
        weight = float_weights(module.weight)
        outputs, inputs = weight.shape
        return Product(
            weights=weight.T,
            bias=float_bias(module.bias, outputs),
            adapter=LinearAdapter(features=inputs),
            window=Window(kernel=(1, inputs)),
        )

    def fold(self, module: nn.Linear, norm: nn.BatchNorm1d) -> nn.Module:
        """A layer with the norm folded into it, as :meth:`Lowering.fold`."""
        return fuse_linear_bn_eval(module, norm)
