"""What a lowering is: how one type of module becomes a product with trained weights."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from xbarsim.engine import Window
from xbarsim.network.layers.base import LayerAdapter

__all__ = ["Lowering", "Product", "float_bias", "float_weights"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """A product with trained weights: what a module computes, in the terms of the crossbars.

    Attributes
    ----------
    weights
        Floating, shape ``(inputs, outputs)``; the inputs are ordered channel, row and column of the window, and groups
        stand on the diagonal.
    bias
        Added to the outputs, shape ``(outputs,)``.
    adapter
        How the module's activations become feature maps, and back.
    window
        How the inputs of each product are picked from feature maps.
    groups
        Groups of a convolution: channels and outputs are cut into as many blocks, and each block of outputs has weights
        for its block of channels alone.
    """

    weights: npt.NDArray[np.floating[Any]]
    bias: npt.NDArray[np.float32]
    adapter: LayerAdapter
    window: Window
    groups: int = 1


class Lowering(metaclass=ABCMeta):
    """How modules of one type become products.

    A new one is a class with this base, entered by :func:`xbarsim.network.lowering.register`;
    :func:`xbarsim.testing.network.check_lowering` tells whether it keeps its promises.

    Attributes
    ----------
    handles : type
        The type of module. One that has no lowering of its own is lowered as the nearest of its bases that has one.
    channels_last : bool
        Whether outputs lie in the last dimension. A batch norm counts the second one, which is the same for vectors
        alone, so behind such a layer norms are folded only where it gives vectors.
    """

    handles: ClassVar[type[nn.Module]]
    channels_last: ClassVar[bool] = False

    @abstractmethod
    def lower(self, module: Any) -> Product:
        """The product that a module in evaluation mode computes.

        Parameters
        ----------
        module
            float32, on the CPU; not to be changed. Of a kind that :meth:`misfit` says nothing against.
        """

    def misfit(self, module: Any) -> str | None:
        """Why this module stays digital though it is of the type, in a few words, or ``None``."""
        return None

    def fold(self, module: Any, norm: Any) -> nn.Module | None:
        """A module, of a type that is handled, that gives what a batch norm makes of this one's outputs.

        Parameters
        ----------
        module
            As for :meth:`lower`; not to be changed.
        norm
            ``BatchNorm1d`` or ``BatchNorm2d`` in evaluation mode, with running statistics, weight and bias.

        Returns
        -------
        Module or None
            ``None`` where norms behind modules of this type stay digital.
        """
        return None


def float_weights(weight: Any) -> npt.NDArray[np.float32]:
    """A parameter as an array."""
    array: npt.NDArray[np.float32] = weight.detach().cpu().float().numpy()
    return array


def float_bias(bias: Any, outputs: int) -> npt.NDArray[np.float32]:
    """A bias as an array, zeros for none."""
    return np.zeros(outputs, np.float32) if bias is None else float_weights(bias).copy()
