"""ResNet-18 for images of 32 x 32."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer
from xbarsim.models.cards import Architecture, register_architecture

__all__ = ["ResNet18", "resnet18"]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and the input added before the last ReLU.

    Where the block halves the image or widens it, the shortcut is a 1 x 1 convolution with batch norm: option B of He
    et al., section 4.1.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.normalisation1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.normalisation2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(images, inputs, height, width) to (images, outputs, height / stride, width / stride)."""
        y = self.relu1(self.normalisation1(self.convolution1(x)))
        y = self.normalisation2(self.convolution2(y))
        out: torch.Tensor = self.relu2(y + self.shortcut(x))
        return out


class ResNet18(nn.Module):
    """One convolution, four stages of two residual blocks (64, 128, 256 and 512 channels), one linear layer.

    The first convolution is 3 x 3 with stride 1 and no pooling follows it, as is usual for images of 32 x 32.

    Input float32 (images, 3, height, width); output (images, classes) logits.

    References
    ----------
    K. He et al., Deep residual learning for image recognition, CVPR 2016,
    https://doi.org/10.1109/CVPR.2016.90, table 1.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.normalisation = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        stages = []
        for inputs, outputs in ((64, 64), (64, 128), (128, 256), (256, 512)):
            stages.append(
                nn.Sequential(BasicBlock(inputs, outputs, outputs // inputs), BasicBlock(outputs, outputs, 1))
            )
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(512, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 3, height, width)."""
        y = self.stages(self.relu(self.normalisation(self.convolution(images))))
        logits: torch.Tensor = self.classifier(functional.adaptive_avg_pool2d(y, 1).flatten(1))
        return logits


@entrance
def resnet18(num_classes: int = 10) -> ResNet18:
    """An untrained ResNet-18; its initial weights come from torch's generator.

    Raises
    ------
    InputError
        If `num_classes` is not a positive integer.
    """
    return ResNet18(check_integer("num_classes", num_classes, at_least=1))


register_architecture(
    Architecture(
        name="resnet18",
        description="ResNet-18 for 32 x 32 images",
        parameters=11_173_962,
        input_shape=(3, 32, 32),
        classes=10,
        source="doi:10.1109/CVPR.2016.90",
        build=resnet18,
    )
)
