"""A small convolutional network for 8 x 8 digits, ours."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from xbarsim.data import load_images
from xbarsim.foundation.entrances import entrance
from xbarsim.models.cards import Architecture, ModelCard, register_architecture, register_model
from xbarsim.models.weights import fill, read_safetensors

__all__ = ["DigitsNet", "load_digits_net"]

WEIGHTS = Path(__file__).with_name("digits_net.safetensors")


class DigitsNet(nn.Module):
    """Three 3 x 3 convolutions, each with batch norm and ReLU, two pools, and one linear layer.

    The channel numbers are chosen for the crossbars: the layers have 9, 126, 252 and 128 inputs a column, so that all
    but the first nearly fill tiles of 128 rows, and no more than 32 outputs, which at four cells a weight fit 128
    columns.

    12,998 weights, 195 k multiply-accumulates an image.

    Input float32 (images, 1, 8, 8) in [0, 1]; output (images, 10) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 14, 3, padding=1, bias=False),
            nn.BatchNorm2d(14),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(14, 28, 3, padding=1, bias=False),
            nn.BatchNorm2d(28),
            nn.ReLU(),
            nn.Conv2d(28, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(128, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, 10) of images (images, 1, 8, 8)."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


@entrance
def load_digits_net(path: str | os.PathLike[str] | None = None) -> DigitsNet:
    """Load `DigitsNet` with trained weights, ready to evaluate.

    Parameters
    ----------
    path
        A safetensors file; None for the weights shipped here, trained by
        ``python -m xbarsim.experiments.fits.train_digits``.

    Raises
    ------
    FileFormatError
        If the file is truncated or corrupt, or holds another network.
    """
    source = WEIGHTS if path is None else Path(path)
    with torch.device("meta"):  # no random initial weights: the caller's random state stays as it is
        network = DigitsNet()
    fill(network, read_safetensors(source), source=source)
    return network


_ARCHITECTURE = register_architecture(
    Architecture(
        name="digits",
        description="three convolutions and a linear layer for 8 x 8 digits",
        parameters=13_156,
        input_shape=(1, 8, 8),
        classes=10,
        source="this project",
        build=DigitsNet,
    )
)
register_model(
    ModelCard(
        name="digits",
        description=_ARCHITECTURE.description,
        parameters=_ARCHITECTURE.parameters,
        input_shape=_ARCHITECTURE.input_shape,
        classes=_ARCHITECTURE.classes,
        data_set="scikit-learn digits",
        test_images=596,
        source="this project, python -m xbarsim.experiments.fits.train_digits",
        licence="Apache-2.0",
        accuracy=0.9966,
        needs_data_folder=False,
        architecture=_ARCHITECTURE.name,
        load=load_digits_net,
        test_set=lambda count: load_images("digits", "test", count=count),
    )
)
