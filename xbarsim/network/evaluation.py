"""Accuracy of a chip, a digital network or any torch model on labelled images."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from xbarsim.foundation.intervals import share_interval
from xbarsim.foundation.progress import progress_bar
from xbarsim.foundation.validation import InputError, check_integer
from xbarsim.network.chip import Chip
from xbarsim.network.images import as_images

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy on a set of images.

    Attributes
    ----------
    correct, images
        How many images were classified right, of how many.
    predictions
        The class given to each image.
    seconds
        Wall time.
    """

    correct: int
    images: int
    predictions: tuple[int, ...]
    seconds: float

    @property
    def accuracy(self) -> float:
        """The share classified right, 0 to 1."""
        return self.correct / self.images

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Clopper-Pearson interval of the accuracy on images like these."""
        interval = share_interval(self.correct, self.images, confidence=confidence)
        return interval.low, interval.high

    def __str__(self) -> str:
        low, high = self.interval()
        return (
            f"accuracy {self.accuracy:.2%} ({self.correct} of {self.images} images; "
            f"95 % interval {low:.2%} to {high:.2%}; {self.seconds:.1f} s)"
        )


def evaluate(
    model: nn.Module, images: Any, labels: Any, *, batch_size: int = 100, progress: bool | None = None
) -> Evaluation:
    """Classify images and count what is right.

    Parameters
    ----------
    model
        A chip, a digital network, or any torch model in evaluation mode.
    images
        As the model takes them, shape ``(images, ...)``.
    labels
        Class of each image, integers, shape ``(images,)``.
    batch_size
        Images run at a time; changes no answer.
    progress
        Show a progress bar on standard error; ``None`` for only where that is a terminal.

    Raises
    ------
    InputError
        If images or labels are empty, of the wrong shape or type, or of different lengths.
    """
    shape = model.network.image_shape if isinstance(model, Chip) else None
    batch = as_images(images, shape=shape)
    truth = np.asarray(labels)
    if truth.ndim != 1 or not np.issubdtype(truth.dtype, np.integer):
        raise InputError(f"labels must be integers in one dimension, got {truth.dtype} of shape {truth.shape}")
    if len(truth) != len(batch):
        raise InputError(f"labels must be as many as images ({len(batch)}), got {len(truth)}")
    check_integer("batch_size", batch_size, at_least=1)
    predictions = np.empty(len(batch), np.int64)
    start_time = time.perf_counter()
    with progress_bar("images", progress) as bar, torch.no_grad():
        task = bar.add_task("evaluation", total=len(batch))
        for start in range(0, len(batch), batch_size):
            part = batch[start : start + batch_size]
            logits = model(part, first_image=start) if isinstance(model, Chip) else model(part)
            predictions[start : start + len(part)] = logits.argmax(dim=1).cpu().numpy()
            bar.advance(task, len(part))
    return Evaluation(
        correct=int((predictions == truth).sum()),
        images=len(batch),
        predictions=tuple(int(p) for p in predictions),
        seconds=time.perf_counter() - start_time,
    )
