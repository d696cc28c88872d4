"""Convolutions over volumes: the depth of the kernel becomes channels of maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields
from xbarsim.network.layers.base import LayerAdapter

__all__ = ["Conv3dAdapter"]


@dataclass(frozen=True, kw_only=True)
class Conv3dAdapter(LayerAdapter):
    """Volumes ``(batch, channels, depth, height, width)``: one map for each output depth.

    A map holds the planes that the kernel covers at one depth, as channels in the order channel, plane.

    Parameters
    ----------
    channels
        Input channels.
    kernel, stride, dilation
        Along the depth.
    padding
        Planes of zeros before and behind.
    """

    kind: ClassVar[str] = "conv3d"

    channels: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def wanted(self) -> str:
        """What a batch of activations must have, for messages."""
        return f"5 dimensions, {self.channels} channels and a depth of {self._reach - sum(self.padding)} or more"

    @property
    def _reach(self) -> int:
        """Planes from the first to the last of the kernel."""
        return self.dilation * (self.kernel - 1) + 1

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether activations of this shape are inputs of the layer."""
        return len(shape) == 5 and shape[1] == self.channels and self._depths(shape[2]) >= 1

    def _depths(self, depth: int) -> int:
        return (depth + sum(self.padding) - self._reach) // self.stride + 1

    def to_maps(self, activations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Covered planes as channels, as :meth:`LayerAdapter.to_maps`."""
        batch, channels, depth, height, width = activations.shape
        padded = np.pad(activations, ((0, 0), (0, 0), self.padding, (0, 0), (0, 0)))
        first = np.arange(self._depths(depth)) * self.stride
        planes = first[:, None] + np.arange(self.kernel) * self.dilation  # (output depths, kernel)
        covered = padded[:, :, planes].transpose(0, 2, 1, 3, 4, 5)  # (batch, depths, channels, kernel, height, width)
        return np.ascontiguousarray(covered).reshape(batch * len(first), channels * self.kernel, height, width)

    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The maps of an element as its volume, as :meth:`LayerAdapter.from_maps`."""
        volume = results.reshape(shape[0], -1, *results.shape[1:])
        return np.ascontiguousarray(volume.transpose(0, 2, 1, 3, 4))
