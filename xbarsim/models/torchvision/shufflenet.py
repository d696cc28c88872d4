"""ShuffleNet-V2: half of the channels pass by each block, and channels are shuffled after it."""

from __future__ import annotations

import torch
from torch import nn

from xbarsim.foundation.validation import check_integer
from xbarsim.models.torchvision.blocks import initialise

__all__ = ["ShuffleNetV2", "shufflenet_v2_x1_0"]

_BLOCKS = (4, 8, 4)
_CHANNELS = (24, 116, 232, 464, 1024)  # of width 1: table 5 of the paper


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class InvertedResidual(nn.Module):
    """Two branches side by side, whose channels are then shuffled: figure 3 (c) and (d) of the paper.

    At stride 1 the first branch is half of the channels as they are; at stride 2 each branch sees all of them.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1 = nn.Sequential(_depthwise(inputs, stride), nn.BatchNorm2d(inputs), *_pointwise(inputs, half))
        self.branch2 = nn.Sequential(
            *_pointwise(inputs if stride > 1 else half, half),
            _depthwise(half, stride),
            nn.BatchNorm2d(half),
            *_pointwise(half, half),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(images, inputs, height, width) to (images, outputs, height / stride, width / stride)."""
        first, second = x.chunk(2, dim=1) if self.stride == 1 else (x, x)
        y = torch.cat((self.branch1(first), self.branch2(second)), dim=1)
        count, channels, height, width = y.shape
        turns = y.view(count, 2, channels // 2, height, width).transpose(1, 2)  # channels of the two branches in turn
        return turns.reshape(count, channels, height, width)


class ShuffleNetV2(nn.Module):
    """A 3 x 3 convolution, a pool, three stages of shuffled blocks, a 1 x 1 convolution and a linear layer.

    Parameters
    ----------
    num_classes
        Outputs.

    References
    ----------
    N. Ma et al., ShuffleNet V2: Practical guidelines for efficient CNN architecture design, ECCV 2018,
    https://doi.org/10.1007/978-3-030-01264-9_8, table 5.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        first, *stages, last = _CHANNELS
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True)
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        made = []
        inputs = first
        for blocks, outputs in zip(_BLOCKS, stages, strict=True):
            others = (InvertedResidual(outputs, outputs, 1) for _ in range(blocks - 1))
            made.append(nn.Sequential(InvertedResidual(inputs, outputs, 2), *others))
            inputs = outputs
        self.stage2, self.stage3, self.stage4 = made
        self.conv5 = nn.Sequential(*_pointwise(inputs, last))
        self.fc = nn.Linear(last, num_classes)
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 3, height, width)."""
        y = self.conv5(self.stage4(self.stage3(self.stage2(self.maxpool(self.conv1(images))))))
        logits: torch.Tensor = self.fc(y.mean(dim=(2, 3)))
        return logits


def shufflenet_v2_x1_0(num_classes: int = 1000) -> ShuffleNetV2:
    """An untrained ShuffleNet-V2 of width 1; its initial weights come from torch's generator.

    Raises
    ------
    InputError
        If `num_classes` is not a positive integer.
    """
    return ShuffleNetV2(check_integer("num_classes", num_classes, at_least=1))
