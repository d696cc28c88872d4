"""How to add a type of layer: its adapter and its lowering, in one file like this one. No other file knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from xbarsim.engine import Window
from xbarsim.network import LayerAdapter, Lowering, Product
from xbarsim.network.lowering import float_bias, float_weights
from xbarsim.testing.network import check_layer_adapter, check_lowering


@dataclass(frozen=True, kw_only=True)
class TransposedConv2dAdapter(LayerAdapter):
    """Feature maps with zeros between their values, so that an ordinary window passes over them.

    Parameters
    ----------
    channels
        Input channels.
    stride
        Distance of values in the maps, (height, width): one less of zeros between them.
    """

    kind: ClassVar[str] = "transposed conv2d"

    channels: int
    stride: tuple[int, int]

    @property
    def wanted(self) -> str:
        return f"4 dimensions and {self.channels} channels"

    def fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 4 and shape[1] == self.channels

    def to_maps(self, activations: Tensor) -> Tensor:
        images, channels, height, width = activations.shape
        down, right = self.stride
        maps = activations.new_zeros(images, channels, (height - 1) * down + 1, (width - 1) * right + 1)
        maps[:, :, ::down, ::right] = activations
        return maps

    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return results


class LowerTransposedConv2d(Lowering):
    """Each output gathers what the inputs would scatter: the kernel is turned, channels and outputs change places."""

    handles: ClassVar[type[nn.Module]] = nn.ConvTranspose2d

    def misfit(self, module: Any) -> str | None:
        if module.groups > 1 or any(module.output_padding):
            return "no mapping for groups or output padding of this layer"
        cropped = min(self._edges(module)) < 0
        return "no mapping for more padding than the kernel reaches" if cropped else None

    def lower(self, module: Any) -> Product:
        weight = float_weights(module.weight)[:, :, ::-1, ::-1]  # (channels, outputs, height, width)
        above, beside = self._edges(module)
        return Product(
            weights=np.moveaxis(weight, 1, 3).reshape(-1, module.out_channels),
            bias=float_bias(module.bias, module.out_channels),
            adapter=TransposedConv2dAdapter(channels=module.in_channels, stride=module.stride),
            window=Window(kernel=module.kernel_size, dilation=module.dilation, padding=(beside, beside, above, above)),
        )

    def _edges(self, module: Any) -> tuple[int, ...]:
        """Zeros above and beside the maps: as far as the kernel reaches beyond them, less what the layer takes off."""
        each = zip(module.dilation, module.kernel_size, module.padding, strict=True)
        return tuple(dilation * (size - 1) - padding for dilation, size, padding in each)


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_the_adapter_conforms() -> None:
    for stride in ((1, 1), (2, 3)):
        check_layer_adapter(TransposedConv2dAdapter(channels=3, stride=stride), images(4, 3, 5, 4))


@pytest.mark.parametrize(
    "keywords", [{}, {"stride": 2, "bias": False}, {"stride": (2, 3), "padding": (1, 2), "dilation": 2}]
)
def test_its_lowering_conforms(keywords: dict[str, Any]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.ConvTranspose2d(3, 5, (3, 2), **keywords)
    check_lowering(LowerTransposedConv2d(), module, images(4, 3, 5, 4))


class Mixing(TransposedConv2dAdapter):
    """A mistake: numbers that depend on the other images of the batch."""

    def to_maps(self, activations: Tensor) -> Tensor:
        return super().to_maps(activations.flip(0))


class Losing(TransposedConv2dAdapter):
    """A mistake: one column of the results is left out."""

    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return results[..., 1:]


def test_mistakes_are_named() -> None:
    for kind, message in (
        (Mixing, "the maps of an image must follow one another, and not depend on its batch"),
        (Losing, "from_maps must lay out every result once"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_layer_adapter(kind(channels=3, stride=(1, 1)), images(4, 3, 5, 4))
