"""What a training minimises, and its sums over an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from xbarsim.training.callbacks import Callback

__all__ = ["BatchLoss", "EpochSums", "batch_loss"]


class BatchLoss(NamedTuple):
    """The two parts of what a batch's gradients are of.

    Attributes
    ----------
    cross_entropy
        Mean over the images, a float32 scalar.
    penalty
        What the callbacks add; ``None`` where none adds anything.
    """

    cross_entropy: torch.Tensor
    penalty: torch.Tensor | None

    def backward(self) -> None:
        """Add the gradients of both parts to those of the parameters."""
        total = self.cross_entropy if self.penalty is None else self.cross_entropy + self.penalty
        torch.autograd.backward(total)


def batch_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, label_smoothing: float, callbacks: Sequence[Callback]
) -> BatchLoss:
    """The loss of a batch: cross entropy in float32, and the penalties of all callbacks in their order.

    Parameters
    ----------
    logits
        (images, classes), of any precision.
    labels
        int64 (images,).
    label_smoothing
        The share of every target that is spread evenly over all classes.
    callbacks
        Whose penalties are added.
    """
    cross_entropy = functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
    penalty: torch.Tensor | None = None
    for callback in callbacks:
        term = callback.penalty()
        if term is not None:
            penalty = term if penalty is None else penalty + term
    return BatchLoss(cross_entropy, penalty)


class EpochSums:
    """Sums over the batches of an epoch, kept on the device: no batch waits for its numbers."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)  # cross entropy, penalty, correct answers

    @torch.no_grad()
    def add(self, loss: BatchLoss, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch in."""
        self._sums[0] += loss.cross_entropy
        if loss.penalty is not None:
            self._sums[1] += loss.penalty
        self._sums[2] += (logits.argmax(dim=1) == labels).sum()

    def means(self, batches: int, images: int) -> tuple[float, float, float]:
        """Cross entropy and penalty of a batch, and the share of the images classified correctly."""
        cross_entropy, penalty, correct = self._sums.tolist()
        return cross_entropy / batches, penalty / batches, correct / images
