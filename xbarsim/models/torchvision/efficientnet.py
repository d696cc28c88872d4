"""EfficientNet-B0: inverted residual blocks with squeeze and excitation."""

from __future__ import annotations

import torch
from torch import nn

from xbarsim.foundation.validation import check_integer
from xbarsim.models.torchvision.blocks import convolution_block, initialise

__all__ = ["EfficientNet", "efficientnet_b0"]

# Expansion, kernel, stride of the first block, output channels and blocks: table 1 of the paper.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_FIRST, _LAST = 32, 1280
_DROPOUT = 0.2
_SQUEEZE = 4  # a block's inputs over the channels between squeeze and excitation


def _activation() -> nn.Module:
    return nn.SiLU(inplace=True)


class SqueezeExcitation(nn.Module):
    """Each channel times a number in (0, 1) that depends on the means of all of them."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = _activation()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale_activation = nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(images, channels, height, width) to the same shape."""
        scaled: torch.Tensor = x * self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return scaled


class MBConv(nn.Module):
    """A 1 x 1 convolution that widens, a depthwise one, squeeze and excitation, a 1 x 1 one that narrows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widen = [] if expansion == 1 else [convolution_block(inputs, hidden, 1, activation=_activation)]
        self.block = nn.Sequential(
            *widen,
            convolution_block(hidden, hidden, kernel, stride=stride, groups=hidden, activation=_activation),
            SqueezeExcitation(hidden, inputs // _SQUEEZE),
            convolution_block(hidden, outputs, 1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(images, inputs, height, width) to (images, outputs, height / stride, width / stride)."""
        y: torch.Tensor = self.block(x)
        return x + y if self.residual else y


class EfficientNet(nn.Module):
    """A 3 x 3 convolution, sixteen blocks with squeeze and excitation, a 1 x 1 convolution and a linear layer.

    Parameters
    ----------
    num_classes
        Outputs.

    References
    ----------
    M. Tan and Q. V. Le, EfficientNet: Rethinking model scaling for convolutional neural networks, ICML 2019,
    https://arxiv.org/abs/1905.11946, table 1.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        stages: list[nn.Module] = [convolution_block(3, _FIRST, stride=2, activation=_activation)]
        inputs = _FIRST
        for expansion, kernel, stride, outputs, blocks in _STAGES:
            first = MBConv(inputs, outputs, kernel, stride, expansion)
            others = (MBConv(outputs, outputs, kernel, 1, expansion) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *others))
            inputs = outputs
        stages.append(convolution_block(inputs, _LAST, 1, activation=_activation))
        self.features = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(_LAST, num_classes))
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 3, height, width)."""
        logits: torch.Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits


def efficientnet_b0(num_classes: int = 1000) -> EfficientNet:
    """An untrained EfficientNet-B0; its initial weights come from torch's generator.

    Raises
    ------
    InputError
        If `num_classes` is not a positive integer.
    """
    return EfficientNet(check_integer("num_classes", num_classes, at_least=1))
