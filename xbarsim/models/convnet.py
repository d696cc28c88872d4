"""A small convolutional network for images of 32 x 32: four convolutions and one linear layer."""

from __future__ import annotations

import torch
from torch import nn

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_integer
from xbarsim.models.cards import Architecture, register_architecture
from xbarsim.models.discrete import DiscreteActivation

__all__ = ["ConvNet", "convnet"]

_WIDTHS = (1, 2, 4, 4)  # channels, in those of the first convolution


class ConvNet(nn.Module):
    """Four 3 x 3 convolutions, each with batch norm, a 2 x 2 pool and a ReLU, and one linear layer.

    32, 64, 128 and 128 channels: 245,600 weights, 12.7 M multiply-accumulates an image. "Four convolutional layers and
    one fully connected layer" is all that is known of the ConvNet in the papers reproduced here; these widths are ours,
    chosen so that it trains on a processor and fills whole tiles: its columns have 27, 288, 576, 1152 and 512 inputs.
    (The ReLU before the pool would give the same, but slower.)

    Input float32 (images, 3, 32, 32); output (images, classes) logits.

    Parameters
    ----------
    num_classes
        Outputs.
    ternary
        Whether ReLUs are :class:`DiscreteActivation` with its defaults, {-1, 0, 1}, instead, and a batch norm brings
        the last layer's sums, of discrete weights, to the size of logits. What weights are is decided by how they are
        trained.
    width
        Channels of the first convolution; the others have 2, 4 and 4 times as many.
    """

    def __init__(self, num_classes: int = 10, *, ternary: bool = False, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for factor in _WIDTHS:
            outputs = factor * width
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.MaxPool2d(2),
                DiscreteActivation() if ternary else nn.ReLU(),
            ]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        last: list[nn.Module] = [nn.Linear(4 * inputs, num_classes, bias=not ternary)]
        self.classifier = nn.Sequential(nn.Flatten(), *last, *([nn.BatchNorm1d(num_classes)] if ternary else []))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 3, 32, 32)."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


@entrance
def convnet(num_classes: int = 10, *, ternary: bool = False, width: int = 32) -> ConvNet:
    """An untrained ConvNet; its initial weights come from torch's generator.

    Raises
    ------
    InputError
        If `num_classes` or `width` is not a positive integer (or above 4096), or `ternary` no truth value.
    """
    check_instance("ternary", ternary, bool)
    check_integer("width", width, at_least=1, at_most=4096)
    return ConvNet(check_integer("num_classes", num_classes, at_least=1), ternary=ternary, width=width)


register_architecture(
    Architecture(
        name="convnet",
        description="four convolutions and a linear layer for 32 x 32 images",
        parameters=246_314,
        input_shape=(3, 32, 32),
        classes=10,
        source="this project",
        build=convnet,
    )
)
register_architecture(
    Architecture(
        name="convnet-ternary",
        description="the same with ternary activations",
        parameters=246_324,
        input_shape=(3, 32, 32),
        classes=10,
        source="this project",
        build=lambda: ConvNet(ternary=True),
    )
)
