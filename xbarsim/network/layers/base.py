"""What a layer adapter is: the only thing that knows how a type of layer lays out its activations."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["LayerAdapter"]


class LayerAdapter(metaclass=ABCMeta):
    """How the activations of one layer become feature maps, and its results activations again.

    Digital networks and crossbars know feature maps alone, ``(maps, channels, height, width)``, and pick the inputs of
    each product from them by a :class:`xbarsim.engine.Window`. A new type of layer is a frozen dataclass with this base
    whose fields are the layer's geometry; :func:`xbarsim.testing.network.check_layer_adapter` tells whether it keeps
    its promises.

    Attributes
    ----------
    kind : str
        Name of the type of layer, for tables.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def wanted(self) -> str:
        """What a batch of activations must have, for messages: ``"20 features"``."""

    @abstractmethod
    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether activations of this shape are inputs of the layer."""

    @abstractmethod
    def to_maps(self, activations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Activations as feature maps.

        Parameters
        ----------
        activations
            float32, of a shape that :meth:`fits`.

        Returns
        -------
        ndarray
            Shape ``(maps, channels, height, width)``, of activations and zeros. Each element of the first dimension
            makes the same number of maps, one after the other, whatever others are in the batch.
        """

    @abstractmethod
    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Results in the layout of the layer's activations.

        Parameters
        ----------
        results
            One value for each output at each position of the window, shape ``(maps, outputs, height, width)``.
        shape
            Of the activations that they come from.
        """
