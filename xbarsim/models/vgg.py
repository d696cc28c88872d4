"""VGG-16 for images of 32 x 32."""

from __future__ import annotations

import torch
from torch import nn

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer
from xbarsim.models.cards import Architecture, register_architecture

__all__ = ["VGG16", "vgg16"]

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """Thirteen 3 x 3 convolutions with batch norm and ReLU, five 2 x 2 pools, one linear layer.

    The three linear layers of the original, made for 224 x 224, give way to one, as is usual for images of 32 x 32.

    Input float32 (images, 3, 32, 32); output (images, classes) logits.

    References
    ----------
    K. Simonyan, A. Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR 2015,
    https://doi.org/10.48550/arXiv.1409.1556, table 1, column D.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for stage in _STAGES:
            for outputs in stage:
                layers += [
                    nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(),
                ]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(512, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 3, 32, 32)."""
        logits: torch.Tensor = self.classifier(self.features(images).flatten(1))
        return logits


@entrance
def vgg16(num_classes: int = 10) -> VGG16:
    """An untrained VGG-16; its initial weights come from torch's generator.

    Raises
    ------
    InputError
        If `num_classes` is not a positive integer.
    """
    return VGG16(check_integer("num_classes", num_classes, at_least=1))


register_architecture(
    Architecture(
        name="vgg16",
        description="VGG-16 for 32 x 32 images",
        parameters=14_724_042,
        input_shape=(3, 32, 32),
        classes=10,
        source="doi:10.48550/arXiv.1409.1556",
        build=vgg16,
    )
)
