"""Convolutions over feature maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt
from torch import Tensor

from xbarsim.network.layers.padded import PaddedAdapter

__all__ = ["Conv2dAdapter"]


@dataclass(frozen=True, kw_only=True)
class Conv2dAdapter(PaddedAdapter):
    """Feature maps ``(images, channels, height, width)``, as they are."""

    kind: ClassVar[str] = "conv2d"

    @property
    def wanted(self) -> str:
        """What a batch of activations must have, for messages."""
        return f"4 dimensions and {self.channels} channels"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether activations of this shape are inputs of the layer."""
        return len(shape) == 4 and shape[1] == self.channels

    def to_maps(self, activations: Tensor) -> Tensor:
        """The maps, with their edges filled, as :meth:`LayerAdapter.to_maps`."""
        return self.padded(activations)

    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The results as they are, as :meth:`LayerAdapter.from_maps`."""
        return results
