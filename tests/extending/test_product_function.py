"""How to add a function that multiplies and a type of layer: both in one file like this one. No other knows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from xbarsim import Design
from xbarsim.devices import Cell
from xbarsim.engine import Window
from xbarsim.foundation.validation import InputError
from xbarsim.network import Call, LayerAdapter, NotMappedWarning, Product, ProductFunction, map_model, register
from xbarsim.network.lowering import bind
from xbarsim.testing.network import check_layer_adapter


@dataclass(frozen=True, kw_only=True)
class ChannelsAdapter(LayerAdapter):
    """Sequences ``(batch, channels, length)``: one vector of channels for each place, and channels last behind.

    Parameters
    ----------
    channels
        Inputs of the layer.
    """

    kind: ClassVar[str] = "channels"

    channels: int

    @property
    def wanted(self) -> str:
        return f"3 dimensions and {self.channels} channels"

    def fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 3 and shape[1] == self.channels

    def to_maps(self, activations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(activations.transpose(0, 2, 1)[:, None])

    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return results.transpose(0, 2, 3, 1).reshape(shape[0], -1, results.shape[1])


def mix_channels(x: Tensor, weight: Tensor) -> Tensor:
    """A function of one's own: channels ``(batch, channels, length)`` mixed by ``(channels, outputs)``, channels last.

    It stands for one in C++ or CUDA, whose inside nobody sees; the first line is what such functions do to be seen.
    """
    if has_torch_function((x, weight)):
        result: Tensor = handle_torch_function(mix_channels, (x, weight), x, weight)
        return result
    return (x.transpose(1, 2)[..., None] * weight).sum(2)


class MixChannels(ProductFunction):
    """How calls of it are read."""

    functions: ClassVar[tuple[Callable[..., Any], ...]] = (mix_channels,)

    def read(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Iterable[Call]:
        given = bind(("x", "weight"), {}, arguments, keywords)
        yield Call(inputs=given["x"], weight=given["weight"], bias=None, geometry="channels", product=self._product)

    def _product(self, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> Product:
        channels = len(weight)
        return Product(
            weights=weight, bias=bias, adapter=ChannelsAdapter(channels=channels), window=Window(kernel=(1, channels))
        )


class Mixes(nn.Module):
    """A model that mixes channels in its own words."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.last(mix_channels(x, self.mixing).relu())
        return answer


DESIGN = Design(cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16))


def samples(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_the_adapter_conforms() -> None:
    check_layer_adapter(ChannelsAdapter(channels=3), samples(4, 3, 5))


def test_the_function_is_mapped_once_it_is_registered() -> None:
    model, batch = Mixes().eval(), samples(5, 4, 7)
    with pytest.warns(NotMappedWarning, match=r"\(model\) \(Mixes: no product with a matrix \(mix_channels\)\)"):
        assert list(map_model(model, DESIGN, calibration=batch).layers) == ["last"]
    with register(MixChannels()):
        network = map_model(model, DESIGN, calibration=batch)
        assert list(network.layers) == ["mixing", "last"]
        assert network.layers["mixing"].vectors_per_image == 7
        with torch.no_grad():
            digital, expected = network.digital(batch), model(batch)
        assert torch.equal(network.fabricate(seed=1)(batch), digital)
        assert float((digital - expected).norm() / expected.norm()) < 0.03


class Mixing(ChannelsAdapter):
    """A mistake: numbers that depend on the others of the batch."""

    def to_maps(self, activations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return super().to_maps(activations[::-1])


class Losing(ChannelsAdapter):
    """A mistake: one place of the results is left out."""

    def from_maps(self, results: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return super().from_maps(results, shape)[:, 1:]


class Nothing(MixChannels):
    """A mistake: of no function."""

    functions = ()


def test_mistakes_are_named() -> None:
    for kind, message in (
        (Mixing, "the maps of an element must follow one another, and not depend on its batch"),
        (Losing, "from_maps must lay out every result once"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_layer_adapter(kind(channels=3), samples(4, 3, 5))
    with pytest.raises(InputError, match=r"functions must be a tuple of functions, got \(\)"):
        register(Nothing())
