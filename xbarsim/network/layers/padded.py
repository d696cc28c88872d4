"""What convolutions of any number of dimensions share: channels, and padding that is not zeros."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xbarsim.network.layers.base import LayerAdapter

__all__ = ["PaddedAdapter"]


@dataclass(frozen=True, kw_only=True)
class PaddedAdapter(LayerAdapter):
    """Channels in the second dimension.

    Parameters
    ----------
    channels
        Input channels.
    padding_mode
        As torch's. Zeros are the window's to add, and every other mode the adapter's.
    edges
        Left, right, top and bottom padding that `padding_mode` fills; none for zeros.
    """

    channels: int
    padding_mode: str = "zeros"
    edges: tuple[int, int, int, int] = (0, 0, 0, 0)

    def padded(self, maps: Tensor) -> Tensor:
        """Maps ``(images, channels, height, width)`` with the edges filled."""
        return torch.nn.functional.pad(maps, self.edges, mode=self.padding_mode) if any(self.edges) else maps
