"""The convolutional network for MNIST of the literature on binary and ternary networks."""

from __future__ import annotations

import torch
from torch import nn

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_integer
from xbarsim.models.cards import Architecture, register_architecture
from xbarsim.models.discrete import DiscreteActivation

__all__ = ["MnistNet", "mnist_net"]


class MnistNet(nn.Module):
    """32C5-MP2-64C5-MP2-512FC-10, a batch norm behind every layer: 581,408 weights, 4.3 M multiply-accumulates.

    Each convolution (5 x 5, not padded, no bias) is followed by a 2 x 2 pool, a batch norm and the activation, as in
    the code of the paper; the batch norm of the pooled values stays digital on a crossbar, where those behind linear
    layers are folded into the scales of their outputs. The last batch norm brings the sums of discrete weights to the
    size of logits.

    Input float32 (images, 1, 28, 28) in [0, 1]; output (images, classes) logits.

    Parameters
    ----------
    num_classes
        Outputs.
    ternary
        Whether activations are :class:`DiscreteActivation` with its defaults, {-1, 0, 1}, or ReLUs. What weights are is
        decided by how they are trained.

    References
    ----------
    L. Deng et al., GXNOR-Net, Neural Networks 100, 2018, doi:10.1016/j.neunet.2018.01.010.
    """

    def __init__(self, num_classes: int = 10, *, ternary: bool = False) -> None:
        super().__init__()
        activation = DiscreteActivation if ternary else nn.ReLU
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 32), (32, 64)):
            layers += [
                nn.Conv2d(inputs, outputs, 5, bias=False),
                nn.MaxPool2d(2),
                nn.BatchNorm2d(outputs),
                activation(),
            ]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(1024, 512, bias=False),
            nn.BatchNorm1d(512),
            activation(),
            nn.Linear(512, num_classes, bias=False),
            nn.BatchNorm1d(num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 1, 28, 28)."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


@entrance
def mnist_net(num_classes: int = 10, *, ternary: bool = False) -> MnistNet:
    """An untrained MnistNet; its initial weights come from torch's generator.

    Raises
    ------
    InputError
        If `num_classes` is no integer from 1 to 1,000,000, or `ternary` no truth value.
    """
    check_instance("ternary", ternary, bool)
    return MnistNet(check_integer("num_classes", num_classes, at_least=1, at_most=10**6), ternary=ternary)


for _name, _ternary in (("mnistnet", False), ("mnistnet-ternary", True)):
    register_architecture(
        Architecture(
            name=_name,
            description="two convolutions and two linear layers for MNIST"
            + (", ternary activations" if _ternary else ""),
            parameters=582_644,
            input_shape=(1, 28, 28),
            classes=10,
            source="doi:10.1016/j.neunet.2018.01.010",
            build=lambda ternary=_ternary: MnistNet(ternary=ternary),  # type: ignore[misc]
        )
    )
