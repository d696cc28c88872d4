"""Convolutions along one dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields
from xbarsim.network.layers.base import LayerAdapter

__all__ = ["Conv1dAdapter"]


@dataclass(frozen=True, kw_only=True)
class Conv1dAdapter(LayerAdapter):
    """Sequences ``(batch, channels, length)``: maps of one row.

    Parameters
    ----------
    channels
        Input channels.
    """

    kind: ClassVar[str] = "conv1d"

    channels: int

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def wanted(self) -> str:
        """What a batch of activations must have, for messages."""
        return f"3 dimensions and {self.channels} channels"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether activations of this shape are inputs of the layer."""
        return len(shape) == 3 and shape[1] == self.channels

    def to_maps(self, activations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Each sequence as a row, as :meth:`LayerAdapter.to_maps`."""
        return activations[:, :, None, :]

    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The rows as sequences, as :meth:`LayerAdapter.from_maps`."""
        return results[:, :, 0]
