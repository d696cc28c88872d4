"""Transposed convolutions: convolutions over maps with zeros between their elements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields
from xbarsim.network.layers.base import LayerAdapter

__all__ = ["TransposedAdapter"]


@dataclass(frozen=True, kw_only=True)
class TransposedAdapter(LayerAdapter):
    """Sequences or feature maps, spread: ``stride - 1`` zeros between neighbours, and edges added or cut off.

    A transposed convolution is an ordinary one with the kernel turned round over the spread map, with
    ``dilation (kernel - 1) - padding`` zeros on each side (Dumoulin and Visin, arXiv:1603.07285).

    Parameters
    ----------
    channels
        Input channels.
    stride
        Along height and width.
    edges
        Zeros added on the left, right, top and bottom; negative where elements are cut off.
    dimensions
        1 for sequences ``(batch, channels, length)``, 2 for maps ``(batch, channels, height, width)``.
    """

    kind: ClassVar[str] = "transposed convolution"

    channels: int
    stride: tuple[int, int]
    edges: tuple[int, int, int, int]
    dimensions: int = 2

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def wanted(self) -> str:
        """What a batch of activations must have, for messages."""
        return f"{self.dimensions + 2} dimensions and {self.channels} channels"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether activations of this shape are inputs of the layer."""
        return len(shape) == self.dimensions + 2 and shape[1] == self.channels

    def to_maps(self, activations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The spread maps, as :meth:`LayerAdapter.to_maps`."""
        maps = activations[:, :, None, :] if self.dimensions == 1 else activations
        batch, channels, height, width = maps.shape
        left, right, top, bottom = self.edges
        size = ((height - 1) * self.stride[0] + 1, (width - 1) * self.stride[1] + 1)
        outer = [max(edge, 0) for edge in self.edges]
        spread = np.zeros((batch, channels, size[0] + outer[2] + outer[3], size[1] + outer[0] + outer[1]), np.float32)
        inner = spread[:, :, outer[2] : outer[2] + size[0], outer[0] : outer[0] + size[1]]
        inner[:, :, :: self.stride[0], :: self.stride[1]] = maps
        cut = [max(-edge, 0) for edge in (left, right, top, bottom)]
        return np.ascontiguousarray(spread[:, :, cut[2] : spread.shape[2] - cut[3], cut[0] : spread.shape[3] - cut[1]])

    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The results, as :meth:`LayerAdapter.from_maps`."""
        return results[:, :, 0] if self.dimensions == 1 else results
