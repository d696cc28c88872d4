"""Networks that come with the project, and networks trained by others that it can read.

:data:`MODELS` says what there is; :func:`load_model` builds one with its weights.
"""

from __future__ import annotations

from xbarsim.models.digits import DigitsNet, load_digits_net
from xbarsim.models.registry import MODELS, ModelCard, load_model, load_test_set
from xbarsim.models.resnet import ResNet20, load_resnet20, normalise, resnet20

__all__ = [
    "MODELS",
    "DigitsNet",
    "ModelCard",
    "ResNet20",
    "load_digits_net",
    "load_model",
    "load_resnet20",
    "load_test_set",
    "normalise",
    "resnet20",
]
