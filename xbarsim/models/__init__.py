"""Networks that come with the project, and networks trained by others that it can read.

:data:`MODELS` says what there is; :func:`load_model` builds one with its weights. :data:`ARCHITECTURES` also holds
those without stored weights; :func:`untrained_model` builds one for its cost.
"""

from __future__ import annotations

from xbarsim.models.digits import DigitsNet, load_digits_net
from xbarsim.models.registry import (
    ARCHITECTURES,
    MODELS,
    Architecture,
    ModelCard,
    check_trained,
    load_model,
    load_test_set,
    untrained_model,
)
from xbarsim.models.resnet import ResNet20, load_resnet20, normalise, resnet20
from xbarsim.models.resnet18 import ResNet18, resnet18
from xbarsim.models.vgg import VGG16, vgg16

__all__ = [
    "ARCHITECTURES",
    "MODELS",
    "VGG16",
    "Architecture",
    "DigitsNet",
    "ModelCard",
    "ResNet18",
    "ResNet20",
    "check_trained",
    "load_digits_net",
    "load_model",
    "load_resnet20",
    "load_test_set",
    "normalise",
    "resnet18",
    "resnet20",
    "untrained_model",
    "vgg16",
]
