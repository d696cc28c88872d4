"""Training for crossbars: pruning, quantisation and the trainer they share.

A :class:`Training` says how, a :class:`TrainingSet` on what, and :func:`train` does it; a method of compression takes
part as a :class:`Callback`.

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

from xbarsim.compress.compressing import Compressed, compress, prune, retrain
from xbarsim.compress.hardening import Hardening, Injection
from xbarsim.compress.methods import Admm, AdmmCallback, Magnitude, Method, MethodCallback, Residual, Reweighted
from xbarsim.compress.progressive import ProgressivePruning, PruningStep, faulty_accuracy, prune_progressively
from xbarsim.compress.projections import (
    block_mask,
    column_mask,
    filter_mask,
    kept_count,
    nearest_codes,
    nearest_levels,
    tile_mask,
    unstructured_mask,
)
from xbarsim.compress.recipe import (
    BlockColumnRow,
    Columns,
    Compression,
    Filters,
    LayerCompression,
    LayerRule,
    Levels,
    Recipe,
    Target,
    Tiles,
    Unstructured,
    compression,
    gemm_view,
)
from xbarsim.compress.training import Callback, History, Training, TrainingSet, augment, train

__all__ = [
    "Admm",
    "AdmmCallback",
    "BlockColumnRow",
    "Callback",
    "Columns",
    "Compressed",
    "Compression",
    "Filters",
    "Hardening",
    "History",
    "Injection",
    "LayerCompression",
    "LayerRule",
    "Levels",
    "Magnitude",
    "Method",
    "MethodCallback",
    "ProgressivePruning",
    "PruningStep",
    "Recipe",
    "Residual",
    "Reweighted",
    "Target",
    "Tiles",
    "Training",
    "TrainingSet",
    "Unstructured",
    "augment",
    "block_mask",
    "column_mask",
    "compress",
    "compression",
    "faulty_accuracy",
    "filter_mask",
    "gemm_view",
    "kept_count",
    "nearest_codes",
    "nearest_levels",
    "prune",
    "prune_progressively",
    "retrain",
    "tile_mask",
    "train",
    "unstructured_mask",
]
