"""MobileNet-V2: inverted residual blocks around depthwise convolutions."""

from __future__ import annotations

import torch
from torch import nn

from xbarsim.foundation.validation import check_integer
from xbarsim.models.torchvision.blocks import convolution_block, initialise

__all__ = ["MobileNetV2", "mobilenet_v2"]

# Expansion, output channels, blocks and the stride of the first of them: table 2 of the paper.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_FIRST, _LAST = 32, 1280
_DROPOUT = 0.2


class InvertedResidual(nn.Module):
    """A 1 x 1 convolution that widens, a depthwise 3 x 3 one, a 1 x 1 one that narrows, and the input if it fits."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widen = [] if expansion == 1 else [convolution_block(inputs, hidden, 1, activation=_activation)]
        self.conv = nn.Sequential(
            *widen,
            convolution_block(hidden, hidden, stride=stride, groups=hidden, activation=_activation),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(images, inputs, height, width) to (images, outputs, height / stride, width / stride)."""
        y: torch.Tensor = self.conv(x)
        return x + y if self.residual else y


def _activation() -> nn.Module:
    return nn.ReLU6(inplace=True)


class MobileNetV2(nn.Module):
    """A 3 x 3 convolution, seventeen inverted residual blocks, a 1 x 1 convolution and a linear layer.

    Parameters
    ----------
    num_classes
        Outputs.

    References
    ----------
    M. Sandler et al., MobileNetV2: Inverted residuals and linear bottlenecks, CVPR 2018,
    https://doi.org/10.1109/CVPR.2018.00474, table 2.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution_block(3, _FIRST, stride=2, activation=_activation)]
        inputs = _FIRST
        for expansion, outputs, blocks, stride in _STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, stride if block == 0 else 1, expansion))
                inputs = outputs
        layers.append(convolution_block(inputs, _LAST, 1, activation=_activation))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(_LAST, num_classes))
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 3, height, width)."""
        pooled = nn.functional.adaptive_avg_pool2d(self.features(images), 1)
        logits: torch.Tensor = self.classifier(pooled.flatten(1))
        return logits


def mobilenet_v2(num_classes: int = 1000) -> MobileNetV2:
    """An untrained MobileNet-V2 of width 1; its initial weights come from torch's generator.

    Raises
    ------
    InputError
        If `num_classes` is not a positive integer.
    """
    return MobileNetV2(check_integer("num_classes", num_classes, at_least=1))
