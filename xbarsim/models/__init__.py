"""Networks that come with the project, and networks trained by others that it can read.

:data:`MODELS` says what there is; :func:`load_model` builds one with its weights. :data:`ARCHITECTURES` also holds
those without stored weights; :func:`untrained_model` builds one for its cost.
"""

from __future__ import annotations

from xbarsim.models.coded import load_coded, read_card, save_coded
from xbarsim.models.convnet import ConvNet, convnet
from xbarsim.models.digits import DigitsNet, load_digits_net
from xbarsim.models.lenet import LeNet5, lenet5
from xbarsim.models.registry import (
    ARCHITECTURES,
    DATA_SETS,
    MODELS,
    Architecture,
    ModelCard,
    check_trained,
    load_images,
    load_model,
    load_test_set,
    load_zoo_file,
    untrained_model,
)
from xbarsim.models.resnet import ResNet20, load_resnet20, normalise, resnet20
from xbarsim.models.resnet18 import ResNet18, resnet18
from xbarsim.models.vgg import VGG16, vgg16

__all__ = [
    "ARCHITECTURES",
    "DATA_SETS",
    "MODELS",
    "VGG16",
    "Architecture",
    "ConvNet",
    "DigitsNet",
    "LeNet5",
    "ModelCard",
    "ResNet18",
    "ResNet20",
    "check_trained",
    "convnet",
    "lenet5",
    "load_coded",
    "load_digits_net",
    "load_images",
    "load_model",
    "load_resnet20",
    "load_test_set",
    "load_zoo_file",
    "normalise",
    "read_card",
    "resnet18",
    "resnet20",
    "save_coded",
    "untrained_model",
    "vgg16",
]
