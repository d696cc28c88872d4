"""LeNet-5 for digits of 28 x 28."""

from __future__ import annotations

import torch
from torch import nn

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer
from xbarsim.models.cards import Architecture, register_architecture

__all__ = ["LeNet5", "lenet5"]


class LeNet5(nn.Module):
    """Two 5 x 5 convolutions, each with a 2 x 2 pool and a ReLU, and two linear layers.

    This is the LeNet-5 of the pruning literature, in the widths of Caffe's example (20 and 50 channels, 500 hidden
    units) and without batch norm: 430,500 weights, 25,500 of them in convolutions, 2.29 M multiply-accumulates an
    image. A ReLU also follows each pool, which Caffe's example leaves out: the input of every layer is then never
    negative, so that a crossbar needs no second pass for signs. (Before the pool it would give the same, but slower.)

    Input float32 (images, 1, 28, 28) in [0, 1]; output (images, classes) logits.

    References
    ----------
    Y. LeCun et al., Gradient-based learning applied to document recognition, Proceedings of the IEEE 86(11), 1998,
    https://doi.org/10.1109/5.726791, for the name and the succession of layers.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 20, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(20, 50, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 1, 28, 28)."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


@entrance
def lenet5(num_classes: int = 10) -> LeNet5:
    """An untrained LeNet-5; its initial weights come from torch's generator.

    Raises
    ------
    InputError
        If `num_classes` is not a positive integer.
    """
    return LeNet5(check_integer("num_classes", num_classes, at_least=1))


register_architecture(
    Architecture(
        name="lenet5",
        description="LeNet-5 in the widths of Caffe's example, for 28 x 28 digits",
        parameters=431_080,
        input_shape=(1, 28, 28),
        classes=10,
        source="doi:10.1109/5.726791",
        build=lenet5,
    )
)
