"""What networks there are, where they come from and what they reach."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xbarsim.data import load_cifar10, load_digits_split, load_mnist
from xbarsim.foundation.validation import FileFormatError, InputError, check_choice, check_integer
from xbarsim.models.coded import load_coded, read_card
from xbarsim.models.convnet import convnet
from xbarsim.models.digits import DigitsNet, load_digits_net
from xbarsim.models.lenet import lenet5
from xbarsim.models.resnet import load_resnet20, normalise, resnet20
from xbarsim.models.resnet18 import resnet18
from xbarsim.models.vgg import vgg16

__all__ = [
    "ARCHITECTURES",
    "DATA_SETS",
    "MODELS",
    "Architecture",
    "ModelCard",
    "check_trained",
    "load_images",
    "load_model",
    "load_test_set",
    "load_zoo_file",
    "untrained_model",
]

_TestSet = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known about a network before it is loaded.

    Attributes
    ----------
    name
        What :func:`load_model` and the command line call it.
    description
        One line.
    parameters
        Number of trainable parameters, batch norm included.
    input_shape
        (channels, height, width) of one image.
    classes
        Number of outputs.
    data_set
        What it was trained and measured on.
    test_images
        Size of that test set.
    source
        Who trained it, and where that can be read.
    licence
        SPDX identifier.
    accuracy
        Fraction of the test images classified right in float32, measured here.
    needs_data_folder
        Whether the weights or images are in the data folder (see `xbarsim.data.data_folder`).
    architecture
        The name in `ARCHITECTURES`.
    weight_bits
        Bits of the levels its weights stand on, sign included; ``None`` for free weights. Map it with as many.
    details
        What else its file says: recipe, kept weights, accuracy on the simulator, who measured it.
    """

    name: str
    description: str
    parameters: int
    input_shape: tuple[int, int, int]
    classes: int
    data_set: str
    test_images: int
    source: str
    licence: str
    accuracy: float
    needs_data_folder: bool
    architecture: str
    weight_bits: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)
    _load: Callable[[], nn.Module] = field(repr=False, compare=False)
    _test_set: Callable[[int | None], _TestSet] = field(repr=False, compare=False)


def _digits_test_set(count: int | None) -> _TestSet:
    return load_images("digits", "test", count=count)


def _cifar10_test_set(count: int | None) -> _TestSet:
    return load_images("cifar10", "test", count=count)


DATA_SETS = MappingProxyType({"digits": "scikit-learn digits", "cifar10": "CIFAR-10", "mnist": "MNIST"})
"""What :func:`load_images` calls a data set, and what a :class:`ModelCard` does."""


def load_images(data_set: str, split: Literal["train", "test"], *, count: int | None = None) -> _TestSet:
    """Images as the networks of this package want them, and their labels.

    Parameters
    ----------
    data_set
        ``"digits"``, ``"cifar10"`` (see :func:`normalise`) or ``"mnist"`` (scaled to [0, 1]).
    split
        ``"train"`` or ``"test"``.
    count
        How many, from the first; ``None`` for all.

    Returns
    -------
    images
        float32, shape (images, channels, height, width).
    labels
        int64, shape (images,).

    Raises
    ------
    InputError
        If a name is unknown, or there are not so many images.
    ImportError
        If the images come with scikit-learn and it is absent.
    FileNotFoundError
        If the data folder does not have them.
    FileFormatError
        If its files are truncated or corrupt.
    """
    check_choice("data_set", data_set, DATA_SETS)
    check_choice("split", split, ("train", "test"))
    if data_set == "cifar10":
        pixels, classes = load_cifar10(split, count=count)
        return normalise(pixels), classes
    if data_set == "mnist":
        pixels, labels = load_mnist(split)
    else:
        digits = load_digits_split()
        images, labels = (
            (digits.train_images, digits.train_labels) if split == "train" else (digits.test_images, digits.test_labels)
        )
    if count is not None:
        count = check_integer("count", count, at_least=1, at_most=len(labels))
    if data_set == "mnist":
        images = pixels[:count].astype(np.float32) / np.float32(255)
    return images[:count], labels[:count]


_SHIPPED = (
    ModelCard(
        name="digits",
        description="three convolutions and a linear layer for 8 x 8 digits",
        parameters=13_156,
        input_shape=(1, 8, 8),
        classes=10,
        data_set="scikit-learn digits",
        test_images=596,
        source="this project, python -m xbarsim.experiments.fits.train_digits",
        licence="Apache-2.0",
        accuracy=0.9966,
        needs_data_folder=False,
        architecture="digits",
        _load=load_digits_net,
        _test_set=_digits_test_set,
    ),
    ModelCard(
        name="resnet20",
        description="ResNet-20 with option-A shortcuts for CIFAR-10",
        parameters=269_722,
        input_shape=(3, 32, 32),
        classes=10,
        data_set="CIFAR-10",
        test_images=10_000,
        source="https://github.com/akamaster/pytorch_resnet_cifar10 at d5489e89, resnet20-12fca82f.th",
        licence="BSD-2-Clause",
        accuracy=0.9173,
        needs_data_folder=True,
        architecture="resnet20",
        _load=load_resnet20,
        _test_set=_cifar10_test_set,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network's shape, which is all that its cost depends on.

    Attributes
    ----------
    name
        What :func:`untrained_model` and the command line call it.
    description
        One line.
    parameters
        Number of trainable parameters, batch norm included.
    input_shape
        (channels, height, width) of one image.
    classes
        Number of outputs.
    source
        Where it is defined.
    """

    name: str
    description: str
    parameters: int
    input_shape: tuple[int, int, int]
    classes: int
    source: str
    _build: Callable[[], nn.Module] = field(repr=False, compare=False)


ARCHITECTURES = MappingProxyType(
    {
        name: Architecture(
            name=name,
            description=description,
            parameters=parameters,
            input_shape=shape,
            classes=10,
            source=source,
            _build=build,
        )
        for name, description, parameters, shape, source, build in (
            ("digits", _SHIPPED[0].description, 13_156, (1, 8, 8), "this project", DigitsNet),
            ("resnet20", _SHIPPED[1].description, 269_722, (3, 32, 32), "doi:10.1109/CVPR.2016.90", resnet20),
            (
                "resnet18",
                "ResNet-18 for 32 x 32 images",
                11_173_962,
                (3, 32, 32),
                "doi:10.1109/CVPR.2016.90",
                resnet18,
            ),
            ("vgg16", "VGG-16 for 32 x 32 images", 14_724_042, (3, 32, 32), "doi:10.48550/arXiv.1409.1556", vgg16),
            (
                "lenet5",
                "LeNet-5 in the widths of Caffe's example, for 28 x 28 digits",
                431_080,
                (1, 28, 28),
                "doi:10.1109/5.726791",
                lenet5,
            ),
            (
                "convnet",
                "four convolutions and a linear layer for 32 x 32 images",
                246_314,
                (3, 32, 32),
                "this project",
                convnet,
            ),
        )
    }
)
"""The :class:`Architecture` of every network, with stored weights or without, by name."""


def load_zoo_file(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Load a compressed network from a file of :func:`save_coded`, ready to evaluate, and its card.

    Raises
    ------
    FileFormatError
        If the file is truncated or corrupt, or is of no known architecture.
    """
    card = read_card(path)
    if card.get("network") not in ARCHITECTURES:
        raise FileFormatError(f"{path} must hold one of {', '.join(ARCHITECTURES)}, got {card.get('network')!r}")
    with torch.device("meta"):  # no random initial weights: the caller's random state stays as it is
        model = ARCHITECTURES[str(card["network"])]._build()
    load_coded(path, model)
    return model, card


def _zoo_card(path: Path) -> ModelCard:
    card = read_card(path)
    architecture = ARCHITECTURES[str(card["network"])]
    bits: Any = card["bits"]
    return ModelCard(
        name=path.stem,
        description=f"{architecture.name}, {card['compression']}, {bits}-bit weights",
        parameters=architecture.parameters,
        input_shape=architecture.input_shape,
        classes=architecture.classes,
        data_set=DATA_SETS[str(card["data_set"])],
        test_images=10_000,
        source=f"this project, {card['recipe']}",
        licence=str(card["licence"]),
        accuracy=float(str(card["accuracy_float32"])),
        needs_data_folder=True,
        architecture=architecture.name,
        weight_bits=bits,
        details=MappingProxyType(dict(card)),
        _load=lambda: load_zoo_file(path)[0],
        _test_set=lambda count: load_images(str(card["data_set"]), "test", count=count),
    )


ZOO = Path(__file__).with_name("zoo")
"""Where the compressed networks are that come with the project."""

_CARDS = (*_SHIPPED, *(_zoo_card(path) for path in sorted(ZOO.glob("*.safetensors"))))

MODELS = MappingProxyType({card.name: card for card in _CARDS})
"""The :class:`ModelCard` of every network with trained weights, by name."""


def check_trained(name: str, *, called: str = "model") -> str:
    """Return the name of a network with stored weights; refuse one without, and one that there is not.

    Parameters
    ----------
    name
        The network.
    called
        What the message calls it.

    Raises
    ------
    InputError
        If `name` is not in `MODELS`.
    """
    if name in ARCHITECTURES and name not in MODELS:
        raise InputError(
            f"{called} must be one with stored weights ({', '.join(map(repr, MODELS))}) to have an accuracy, "
            f"got {name!r}: of it only the architecture is known, which is enough for its cost"
        )
    return check_choice(called, name, MODELS)


def untrained_model(name: str, *, seed: int = 0) -> tuple[nn.Module, Architecture]:
    """Build a network with random weights, for its cost, and its description.

    Parameters
    ----------
    name
        A name in `ARCHITECTURES`.
    seed
        Of the weights; the caller's random state stays as it is.

    Raises
    ------
    InputError
        If `name` is not in `ARCHITECTURES`, or the seed is negative.
    """
    architecture = ARCHITECTURES[check_choice("model", name, ARCHITECTURES)]
    seed = check_integer("seed", seed, at_least=0)
    with torch.device("meta"):  # no initial weights: the caller's random state stays as it is
        model = architecture._build()
    model.to_empty(device="cpu")
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                spread = (2 / module.weight[0].numel()) ** 0.5  # keeps the size of activations behind a ReLU
                values = rng.standard_normal(tuple(module.weight.shape), dtype=np.float32)
                module.weight.copy_(torch.from_numpy(values * np.float32(spread)))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return model.eval(), architecture


def load_model(name: str) -> tuple[nn.Module, ModelCard]:
    """Load a network with its trained weights, ready to evaluate, and its card.

    Raises
    ------
    InputError
        If `name` is not in `MODELS`.
    FileNotFoundError
        If the weights should be in the data folder and are not.
    FileFormatError
        If the weights are truncated or corrupt.
    """
    card = MODELS[check_trained(name)]
    return card._load(), card


def load_test_set(name: str, *, count: int | None = None) -> _TestSet:
    """The test images of a network, as it wants them, and their labels.

    Parameters
    ----------
    name
        The network, as in `MODELS`.
    count
        How many, from the first; None for all.

    Returns
    -------
    images
        float32, shape (images, channels, height, width).
    labels
        int64, shape (images,).

    Raises
    ------
    InputError
        If `name` is not in `MODELS`, or `count` is out of bounds.
    ImportError
        If the images come with scikit-learn and it is absent.
    FileNotFoundError
        If the images should be in the data folder and are not.
    FileFormatError
        If the data folder's files are truncated or corrupt.
    """
    card = MODELS[check_trained(name)]
    if count is not None:
        count = check_integer("count", count, at_least=1, at_most=card.test_images)
    return card._test_set(count)
