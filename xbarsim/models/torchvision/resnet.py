"""ResNet-18 as the paper has it for images of 224 x 224."""

from __future__ import annotations

import torch
from torch import nn

from xbarsim.foundation.validation import check_integer
from xbarsim.models.torchvision.blocks import initialise

__all__ = ["ResNet", "resnet18"]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which is a 1 x 1 convolution where the shape changes (option B)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(images, inputs, height, width) to (images, outputs, height / stride, width / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: torch.Tensor = self.relu(y + shortcut)
        return out


class ResNet(nn.Module):
    """A 7 x 7 convolution, a pool, four stages of basic blocks of 64 to 512 channels, and a linear layer.

    Parameters
    ----------
    blocks
        Blocks of each of the four stages.
    num_classes
        Outputs.

    References
    ----------
    K. He et al., Deep residual learning for image recognition, CVPR 2016, https://doi.org/10.1109/CVPR.2016.90,
    table 1.
    """

    def __init__(self, blocks: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._stage(64, 64, blocks[0], 1)
        self.layer2 = self._stage(64, 128, blocks[1], 2)
        self.layer3 = self._stage(128, 256, blocks[2], 2)
        self.layer4 = self._stage(256, 512, blocks[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, num_classes)
        initialise(self)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        others = (BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        return nn.Sequential(BasicBlock(inputs, outputs, stride), *others)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 3, height, width)."""
        y = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        y = self.layer4(self.layer3(self.layer2(self.layer1(y))))
        logits: torch.Tensor = self.fc(self.avgpool(y).flatten(1))
        return logits


def resnet18(num_classes: int = 1000) -> ResNet:
    """An untrained ResNet-18; its initial weights come from torch's generator.

    Raises
    ------
    InputError
        If `num_classes` is not a positive integer.
    """
    return ResNet((2, 2, 2, 2), check_integer("num_classes", num_classes, at_least=1))
