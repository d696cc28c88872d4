"""Linear layers: features in the last dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields
from xbarsim.network.layers.base import LayerAdapter

__all__ = ["LinearAdapter"]


@dataclass(frozen=True, kw_only=True)
class LinearAdapter(LayerAdapter):
    """Vectors in the last dimension of activations ``(batch, ..., features)``: the rows of one map an element.

    Parameters
    ----------
    features
        Inputs of the layer.
    """

    kind: ClassVar[str] = "linear"

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def wanted(self) -> str:
        """What a batch of activations must have, for messages."""
        return f"{self.features} features"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether activations of this shape are inputs of the layer."""
        return len(shape) >= 2 and shape[-1] == self.features

    def to_maps(self, activations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """One channel whose rows are the vectors of an element, as :meth:`LayerAdapter.to_maps`."""
        return activations.reshape(activations.shape[0], 1, -1, self.features)

    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The outputs in the last dimension, as :meth:`LayerAdapter.from_maps`."""
        return results.transpose(0, 2, 3, 1).reshape(*shape[:-1], -1)
