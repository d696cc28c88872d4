"""Training: the trainer that every method of compression takes part in.

A :class:`Training` says how, a :class:`TrainingSet` on what, and :func:`train` does it; whatever takes part is a
:class:`Callback`.

Examples
--------
A network that tells bright images from dark ones, trained on 90 images and judged by 10 that were held back:

>>> import numpy as np
>>> from torch import nn
>>> labels = np.arange(100) % 2
>>> pixels = np.random.default_rng(1).integers(0, 100, (100, 1, 4, 4)) + 100 * labels[:, None, None, None]
>>> data = TrainingSet.split(
...     "brightness", pixels.astype(np.uint8), labels, validation=10, mean=(0.4,), standard_deviation=(0.2,)
... )
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
>>> history = train(model, data, Training(epochs=4, batch=10, learning_rate=0.1, device="cpu"))
>>> history.validation_accuracy[-1]
1.0
"""

from __future__ import annotations

from xbarsim.foundation.extras import need_torch

need_torch("xbarsim.training")  # said before what follows loads it

from xbarsim.training.augmentation import augment
from xbarsim.training.callbacks import Callback, ParameterGroup, Proposal, UpdateRule
from xbarsim.training.history import History
from xbarsim.training.settings import Training
from xbarsim.training.trainer import train
from xbarsim.training.training_set import TrainingSet

__all__ = [
    "Callback",
    "History",
    "ParameterGroup",
    "Proposal",
    "Training",
    "TrainingSet",
    "UpdateRule",
    "augment",
    "train",
]
