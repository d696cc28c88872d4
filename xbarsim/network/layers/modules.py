"""Layers that run: the digital network's, a die's, and the reference engine's.

A layer turns activations into integer codes, multiplies them with integer weights, and scales the result back. All
modules here share the first and the last step; they differ in who multiplies: torch in float64 on the weight codes
(:class:`DigitalLayer`, independent of the mapping and of the engine), the tiles of a die (:class:`CrossbarLayer`), or
the reference engine (:class:`ReferenceLayer`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.engine import Plan
from xbarsim.foundation.validation import InputError
from xbarsim.network.layers.quantised import QuantisedLayer

__all__ = ["CrossbarLayer", "DigitalLayer", "ImageCounter", "NetworkLayer", "ReferenceLayer"]


class NetworkLayer(nn.Module):
    """What all layers that run share: activations become feature maps, and results activations.

    Parameters
    ----------
    layer
        The quantised layer.
    """

    def __init__(self, layer: QuantisedLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, activations: Tensor) -> Tensor:
        """Run the layer on float activations of torch's shape for it.

        Raises
        ------
        InputError
            If they have another shape, or are not finite.
        """
        layer = self.layer
        results = layer.adapter.from_maps(self.run(layer.as_maps(activations)), tuple(activations.shape))
        return torch.from_numpy(np.ascontiguousarray(results)).to(activations.device)

    def run(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """From feature maps ``(maps, channels, height, width)`` to results ``(maps, outputs, height, width)``."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The layer's name and size, for ``print(model)``."""
        inputs, outputs = self.layer.codes.shape
        return f"{self.layer.name}, {self.layer.kind}, {inputs} x {outputs}"


class DigitalLayer(NetworkLayer):
    """The quantised digital network's layer: torch in float64 on the codes, exact.

    Parameters
    ----------
    layer
        The quantised layer.
    record
        Called with the layer and its input codes (maps, channels, height, width) at each forward pass, or ``None``.
    """

    def __init__(
        self,
        layer: QuantisedLayer,
        record: Callable[[QuantisedLayer, npt.NDArray[np.int32]], None] | None = None,
    ) -> None:
        super().__init__(layer)
        self.record = record
        self._weight = layer.weight_codes()  # not a buffer: a copy to float32 or to another device would not be exact

    def run(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """From feature maps to results, as :meth:`NetworkLayer.run`."""
        layer = self.layer
        codes = layer.quantise(maps)
        if self.record is not None:
            self.record(layer, codes)
        left, right, top, bottom = layer.window.padding
        product = torch.nn.functional.conv2d(
            torch.nn.functional.pad(torch.from_numpy(codes).double(), (left, right, top, bottom)),
            self._weight,
            stride=layer.window.stride,
            dilation=layer.window.dilation,
            groups=layer.groups,
        ).numpy()
        scaling = layer.scaling
        scaled = product * scaling.scale[:, None, None] + scaling.bias[:, None, None]
        return np.asarray(scaled, dtype=np.float32)


@dataclass
class ImageCounter:
    """Which images a chip is running, and how often each layer has been used on them: what read noise is drawn by."""

    first_image: int = 0
    images: int = 1
    uses: dict[str, int] = field(default_factory=dict)

    def start(self, first_image: int, images: int) -> None:
        """Begin a batch."""
        self.first_image, self.images = first_image, images
        self.uses.clear()

    def first_of(self, layer: str, maps: int) -> int:
        """Number of the first of a layer's feature maps: another for each use, the same for an image in any batch."""
        use = self.uses.get(layer, 0)
        self.uses[layer] = use + 1
        # A model may fold a second dimension into that of the images: each image then makes as many maps.
        each = maps // self.images if maps % self.images == 0 else 1
        return self.first_image * each + (use << 48)


class CrossbarLayer(NetworkLayer):
    """A layer on the tiles of one die.

    Parameters
    ----------
    layer
        The quantised layer.
    plan
        The die's tiles, ready to multiply.
    counter
        Shared by all layers of a chip.
    """

    def __init__(self, layer: QuantisedLayer, plan: Plan, counter: ImageCounter) -> None:
        super().__init__(layer)
        self.plan = plan
        self._counter = counter

    def run(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """From feature maps to results, as :meth:`NetworkLayer.run`."""
        layer = self.layer
        results, finite = self.plan.run(
            maps, layer.window, layer.scaling, first_image=self._counter.first_of(layer.name, len(maps))
        )
        if not finite:
            raise InputError(f"inputs of layer {layer.name!r} must be finite, got NaN or infinity")
        return results


class ReferenceLayer(NetworkLayer):
    """A layer on the tiles of one die, by the reference engine: slow, and what every plan must equal.

    Parameters
    ----------
    layer
        The quantised layer.
    multiply
        From input codes (vectors, inputs) to products (vectors, outputs).
    """

    def __init__(
        self, layer: QuantisedLayer, multiply: Callable[[npt.NDArray[np.int32]], npt.NDArray[np.float64]]
    ) -> None:
        super().__init__(layer)
        self._multiply = multiply

    def run(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """From feature maps to results, as :meth:`NetworkLayer.run`."""
        layer = self.layer
        codes = layer.quantise(maps)
        height, width = layer.window.output_size(*codes.shape[2:])
        vectors = layer.unfold(codes)
        product = self._multiply(vectors.reshape(-1, vectors.shape[2]))
        scaled = product * layer.scaling.scale + layer.scaling.bias
        results = scaled.reshape(len(codes), height, width, -1).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(results, dtype=np.float32)
