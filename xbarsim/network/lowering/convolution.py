"""What convolutions of any number of dimensions share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xbarsim.network.lowering.base import Lowering

__all__ = ["LowerConvolution", "weight_matrix"]


def weight_matrix(weight: npt.NDArray[np.floating[Any]], groups: int) -> npt.NDArray[np.floating[Any]]:
    """Kernels ``(outputs, channels of a group, ...)`` as a matrix ``(inputs, outputs)``, groups on the diagonal."""
    outputs = weight.shape[0]
    blocks = weight.reshape(groups, outputs // groups, -1)  # (groups, outputs, inputs) of a group
    matrix = np.zeros((groups, blocks.shape[2], groups, blocks.shape[1]), weight.dtype)
    for group, block in enumerate(blocks):
        matrix[group, :, group] = block.T
    return matrix.reshape(groups * blocks.shape[2], outputs)


class LowerConvolution(Lowering):
    """A convolution: one product for each place of the kernel."""

    def fold(self, module: Any, norm: Any) -> nn.Module:
        """A convolution with the norm folded into it, as :meth:`Lowering.fold`."""
        folded: nn.Module = fuse_conv_bn_eval(module, norm)
        return folded
