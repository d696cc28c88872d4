"""How to add the lowering of a type of module: one file like this one. No other file knows of it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xbarsim import Design, Mapping, Periphery
from xbarsim.devices import Cell
from xbarsim.foundation.validation import InputError
from xbarsim.network import Lowering, NotMappedWarning, Product, map_model, register
from xbarsim.network.lowering import LowerConv2d
from xbarsim.testing.network import check_lowering


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weights are standardised in every forward pass, output by output.

    S. Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization",
    arXiv:1903.10520 (2019).
    """

    def standardised(self) -> Tensor:
        weight = self.weight
        spread, mean = torch.std_mean(weight, dim=(1, 2, 3), keepdim=True, correction=0)
        result: Tensor = (weight - mean) / (spread + 1e-5)
        return result

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self._conv_forward(x, self.standardised(), self.bias)
        return result


class LowerStandardisedConv2d(Lowering):
    """What the crossbars hold is the standardised weight: an ordinary convolution with it."""

    handles: ClassVar[type[nn.Module]] = StandardisedConv2d

    def lower(self, module: StandardisedConv2d) -> Product:
        return LowerConv2d().lower(self._plain(module))

    def misfit(self, module: StandardisedConv2d) -> str | None:
        return "standardised kernels of one weight are 0" if module.weight[0].numel() == 1 else None

    # `fold` stays as it is: a norm cannot be folded into weights that are standardised anew

    def _plain(self, module: StandardisedConv2d) -> nn.Conv2d:
        plain = nn.Conv2d(
            module.in_channels,
            module.out_channels,
            module.kernel_size,  # type: ignore[arg-type]
            stride=module.stride,  # type: ignore[arg-type]
            padding=module.padding,  # type: ignore[arg-type]
            dilation=module.dilation,  # type: ignore[arg-type]
            groups=module.groups,
            bias=module.bias is not None,
            padding_mode=module.padding_mode,
        )
        with torch.no_grad():
            plain.weight.copy_(module.standardised())
            if plain.bias is not None and module.bias is not None:
                plain.bias.copy_(module.bias)
        return plain


def convolution(*arguments: Any, **keywords: Any) -> StandardisedConv2d:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return StandardisedConv2d(*arguments, **keywords)


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


DESIGN = Design(
    cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16), mapping=Mapping(rows=32, columns=32), periphery=Periphery()
)


@pytest.mark.parametrize(
    "keywords",
    [{}, {"padding": 1, "stride": 2}, {"groups": 2, "bias": False}, {"padding": 1, "padding_mode": "reflect"}],
)
def test_it_conforms(keywords: dict[str, Any]) -> None:
    check_lowering(LowerStandardisedConv2d(), convolution(4, 6, 3, **keywords), images(3, 4, 7, 6))


def test_networks_with_it_are_mapped_and_norms_behind_it_stay_digital() -> None:
    model = nn.Sequential(convolution(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    batch = images(5, 2, 6, 6)
    with register(LowerStandardisedConv2d()), pytest.warns(NotMappedWarning, match=r"1 \(BatchNorm2d"):
        network = map_model(model, DESIGN, calibration=batch)
    assert list(network.layers) == ["0", "4"]
    with torch.no_grad():
        wanted, digital = model(batch), network.digital(batch)
    assert torch.equal(network.fabricate(seed=1)(batch), digital)
    assert float((digital - wanted).norm() / wanted.norm()) < 0.03


def test_kernels_of_one_weight_stay_digital_and_are_named() -> None:
    model = nn.Sequential(convolution(1, 4, 1), nn.Flatten(), nn.Linear(16, 3)).eval()
    with register(LowerStandardisedConv2d()), pytest.warns(NotMappedWarning, match="of one weight are 0"):
        network = map_model(model, DESIGN, calibration=images(5, 1, 2, 2))
    assert [(item.name, item.reason) for item in network.not_mapped] == [
        ("0", "standardised kernels of one weight are 0")
    ]


class RawWeights(LowerConv2d):
    """A mistake: the weights before they are standardised."""

    handles: ClassVar[type[nn.Module]] = StandardisedConv2d


class NoBias(LowerStandardisedConv2d):
    """A mistake: as many biases as inputs."""

    def lower(self, module: StandardisedConv2d) -> Product:
        product = super().lower(module)
        return Product(
            weights=product.weights,
            bias=np.zeros(len(product.weights), np.float32),
            adapter=product.adapter,
            window=product.window,
        )


def test_mistakes_are_named() -> None:
    for lowering, message in (
        (RawWeights(), "the digital network must equal the module within the steps of its quantisation"),
        (NoBias(), "bias must have one number an output"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_lowering(lowering, convolution(4, 6, 3), images(3, 4, 7, 6))
    with pytest.raises(InputError, match="lowering must be of type Lowering"):
        register(StandardisedConv2d)  # type: ignore[arg-type]
