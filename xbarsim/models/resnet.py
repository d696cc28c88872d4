"""ResNet-20 for CIFAR-10 with option-A (parameter-free) shortcuts."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from xbarsim.data import data_file, load_images
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import FileFormatError, check_integer
from xbarsim.models.cards import Architecture, ModelCard, register_architecture, register_model
from xbarsim.models.weights import fill, read_torch

__all__ = ["ResNet20", "load_resnet20", "resnet20"]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and the input added before the last ReLU.

    Where the block halves the image and widens it, the shortcut takes every other pixel and pads with as many empty
    channels before as behind (one more behind where their number is odd): option A of He et al., section 4.2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.normalisation1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.normalisation2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.padding = (outputs - inputs) // 2, outputs - inputs - (outputs - inputs) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(images, inputs, height, width) to (images, outputs, height / stride, width / stride)."""
        shortcut = x
        if self.stride != 1 or any(self.padding):
            shortcut = x[:, :, :: self.stride, :: self.stride]
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, *self.padding))
        y = self.relu1(self.normalisation1(self.convolution1(x)))
        y = self.normalisation2(self.convolution2(y))
        out: torch.Tensor = self.relu2(y + shortcut)
        return out


class ResNet20(nn.Module):
    """One convolution, three stages of three residual blocks (16, 32 and 64 channels), one linear layer.

    Input float32 (images, 3, height, width), made by :func:`xbarsim.models.normalise`; output (images, classes) logits.

    Parameters
    ----------
    num_classes
        Outputs.
    width
        Channels of the first stage; the others have 2 and 4 times as many.

    References
    ----------
    K. He et al., Deep residual learning for image recognition, CVPR 2016,
    https://doi.org/10.1109/CVPR.2016.90, section 4.2.
    """

    def __init__(self, num_classes: int = 10, *, width: int = 16) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.normalisation = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        stages = []
        for inputs, outputs in ((width, width), (width, 2 * width), (2 * width, 4 * width)):
            first = ResidualBlock(inputs, outputs, outputs // inputs)
            stages.append(nn.Sequential(first, *(ResidualBlock(outputs, outputs, 1) for _ in range(2))))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 3, height, width)."""
        y = self.relu(self.normalisation(self.convolution(images)))
        logits: torch.Tensor = self.classifier(self.flatten(self.pool(self.stages(y))))
        return logits


@entrance
def resnet20(num_classes: int = 10, *, width: int = 16) -> ResNet20:
    """An untrained ResNet-20; its initial weights come from torch's generator.

    Raises
    ------
    InputError
        If `num_classes` or `width` is not a positive integer (or above 4096).
    """
    check_integer("width", width, at_least=1, at_most=4096)
    return ResNet20(check_integer("num_classes", num_classes, at_least=1), width=width)


_THEIR_BLOCK = re.compile(r"layer([123])\.([012])\.(conv|bn)([12])\.(.*)")
_OUR_WORDS = {"conv": "convolution", "bn": "normalisation"}
_OUR_ENDS = {"conv1": "convolution", "bn1": "normalisation", "linear": "classifier"}


def _our_name(theirs: str) -> str:
    """The name in `ResNet20` of a tensor in akamaster's checkpoint; an unknown name stays as it is."""
    name = theirs.removeprefix("module.")
    block = _THEIR_BLOCK.fullmatch(name)
    if block:
        stage, position, word, number, rest = block.groups()
        return f"stages.{int(stage) - 1}.{position}.{_OUR_WORDS[word]}{number}.{rest}"
    layer, _, rest = name.partition(".")
    return f"{_OUR_ENDS[layer]}.{rest}" if layer in _OUR_ENDS else theirs


@entrance
def load_resnet20(path: str | os.PathLike[str] | None = None) -> ResNet20:
    """Load ResNet-20 trained on CIFAR-10, ready to evaluate.

    Parameters
    ----------
    path
        A checkpoint of akamaster/pytorch_resnet_cifar10; None for the data folder's
        ``nets_cifar10/resnet20-12fca82f.th``.

    Raises
    ------
    FileNotFoundError
        If `path` is None and the data folder does not have the file.
    FileFormatError
        If the file cannot be read, is truncated or corrupt, or holds another network.

    References
    ----------
    Y. Idelbayev, Proper ResNet implementation for CIFAR10/CIFAR100 in PyTorch,
    https://github.com/akamaster/pytorch_resnet_cifar10 at d5489e89 (BSD-2-Clause); 91.73 % published.
    """
    source = data_file("nets_cifar10", "resnet20-12fca82f.th") if path is None else Path(path)
    theirs = read_torch(source)
    tensors = {_our_name(name): tensor for name, tensor in theirs.items()}
    if len(tensors) != len(theirs):
        raise FileFormatError(f"{source} names a tensor twice")
    with torch.device("meta"):  # no random initial weights: the caller's random state stays as it is
        network = ResNet20()
    fill(network, tensors, source=source)
    return network


_ARCHITECTURE = register_architecture(
    Architecture(
        name="resnet20",
        description="ResNet-20 with option-A shortcuts for CIFAR-10",
        parameters=269_722,
        input_shape=(3, 32, 32),
        classes=10,
        source="doi:10.1109/CVPR.2016.90",
        build=resnet20,
    )
)
register_model(
    ModelCard(
        name="resnet20",
        description=_ARCHITECTURE.description,
        parameters=_ARCHITECTURE.parameters,
        input_shape=_ARCHITECTURE.input_shape,
        classes=_ARCHITECTURE.classes,
        data_set="CIFAR-10",
        test_images=10_000,
        source="https://github.com/akamaster/pytorch_resnet_cifar10 at d5489e89, resnet20-12fca82f.th",
        licence="BSD-2-Clause",
        accuracy=0.9173,
        needs_data_folder=True,
        architecture=_ARCHITECTURE.name,
        load=load_resnet20,
        test_set=lambda count: load_images("cifar10", "test", count=count),
    )
)
