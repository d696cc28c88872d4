"""Convolutions over feature maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields
from xbarsim.network.layers.base import LayerAdapter

__all__ = ["Conv2dAdapter"]


@dataclass(frozen=True, kw_only=True)
class Conv2dAdapter(LayerAdapter):
    """Feature maps ``(batch, channels, height, width)``, as they are.

    Parameters
    ----------
    channels
        Input channels.
    """

    kind: ClassVar[str] = "conv2d"

    channels: int

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def wanted(self) -> str:
        """What a batch of activations must have, for messages."""
        return f"4 dimensions and {self.channels} channels"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether activations of this shape are inputs of the layer."""
        return len(shape) == 4 and shape[1] == self.channels

    def to_maps(self, activations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The maps, as :meth:`LayerAdapter.to_maps`."""
        return activations

    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The results as they are, as :meth:`LayerAdapter.from_maps`."""
        return results
