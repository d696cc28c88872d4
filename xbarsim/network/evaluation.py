"""Accuracy of a chip, a digital network or any torch model on labelled samples, by any measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.extras import need_torch
from xbarsim.foundation.html import html_table
from xbarsim.foundation.intervals import share_interval
from xbarsim.foundation.progress import progress_bar
from xbarsim.foundation.validation import InputError, check_choice, check_integer, shown
from xbarsim.network.chip import Chip
from xbarsim.network.layers import MOST_SAMPLES
from xbarsim.network.samples import Samples, labelled_samples, plain_array
from xbarsim.network.skeleton import Network, check_fit

__all__ = ["Evaluation", "Metric", "evaluate"]

Array = npt.NDArray[Any]
Metric = Literal["accuracy", "error", "top-5", "f1", "perplexity"] | Callable[[Array, Array], float]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good answers are on a set of samples.

    Attributes
    ----------
    correct, images
        How many answers were right, of how many: one a sample, or one a position where labels are given for each.
    predictions
        The class given to each.
    seconds
        Wall time.
    metric
        Name of what `score` is.
    score
        The measure that was asked for: the accuracy unless another was.
    """

    correct: int
    images: int
    predictions: tuple[int, ...]
    seconds: float
    metric: str = "accuracy"
    score: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def accuracy(self) -> float:
        """The share classified right, 0 to 1."""
        return self.correct / self.images

    @entrance
    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Clopper-Pearson interval of the accuracy on samples like these."""
        interval = share_interval(self.correct, self.images, confidence=confidence)
        return interval.low, interval.high

    def __str__(self) -> str:
        low, high = self.interval()
        text = (
            f"accuracy {self.accuracy:.2%} ({self.correct} of {self.images} images; "
            f"95 % interval {low:.2%} to {high:.2%}; {self.seconds:.1f} s)"
        )
        return text if self.metric == "accuracy" else f"{self.metric} {self.score:.6g}; {text}"

    def _repr_html_(self) -> str:
        low, high = self.interval()
        rows = [
            ("accuracy", f"{self.accuracy:.2%}"),
            ("95 % interval (Clopper-Pearson)", f"{low:.2%} to {high:.2%}"),
            ("right", f"{self.correct:,} of {self.images:,}"),
            ("time", f"{self.seconds:.1f} s"),
        ]
        if self.metric != "accuracy":
            rows.insert(0, (self.metric, f"{self.score:.6g}"))
        return html_table("Evaluation", (), rows, left=1)


@entrance
def evaluate(
    model: Any,
    images: Any,
    labels: Any = None,
    *,
    metric: Metric = "accuracy",
    batch_size: int = 100,
    first_image: int = 0,
    progress: bool | None = None,
) -> Evaluation:
    """Classify samples and say how many answers are right.

    Answers are logits ``(samples, classes)``, or ``(samples, classes, positions...)`` with labels of shape ``(samples,
    positions...)``, or ``(samples, positions..., classes)`` where the labels tell these apart; dimensions of size 1
    behind the classes are left out. One logit a sample, ``(samples,)`` or ``(samples, 1)``, says class 1 where it is
    positive, else class 0. Of an answer with an entry or attribute ``logits`` that is taken, of another tuple the first
    entry, of another dictionary the only one.

    Parameters
    ----------
    model
        A chip, a digital network, or any torch model, which is run in evaluation mode and has its own again behind.
    images
        Samples as :func:`map_model` takes them; or a data set or data loader that gives samples and labels.
    labels
        Class of each sample, integers, shape ``(samples,)`` or one for each position; ``None`` where `images` hold
        them.
    metric
        What :attr:`Evaluation.score` is: ``"accuracy"``; ``"error"``, the share classified wrong; ``"top-5"``, the
        share whose class is among the five largest logits; ``"f1"``, the mean over classes of the harmonic mean of
        precision and recall; ``"perplexity"``, the exponential of the mean cross-entropy in nats; or a function of all
        logits and labels, as arrays with classes in the second dimension.
    batch_size
        Samples run at a time; changes no answer.
    first_image
        Number of the first sample for the read noise of a chip: the same number, the same answers.
    progress
        Show a progress bar on standard error; ``None`` for a line now and then where that is no terminal.

    Raises
    ------
    InputError
        If samples or labels are empty, of the wrong shape or type, or of different lengths; if a label is beyond the
        classes; or if the answers are no logits.
    """
    if not callable(metric):
        check_choice("metric", metric, ("accuracy", "error", "top-5", "f1", "perplexity"))
    check_integer("batch_size", batch_size, at_least=1)
    check_integer("first_image", first_image, at_least=0, at_most=MOST_SAMPLES)
    samples, truth = _samples_and_labels(images, labels)
    run = _runner(model)
    start_time = time.perf_counter()
    parts: list[Array] = []
    with progress_bar("images", progress) as bar:
        task = bar.add_task("evaluation", total=len(samples))
        for start in range(0, len(samples), batch_size):
            part = samples.part(start, start + batch_size)
            parts.append(_logits(run(part, first_image + start), truth[start : start + batch_size]))
            bar.advance(task, len(part))
    logits = np.concatenate(parts)
    if truth.shape != (len(logits), *logits.shape[2:]):
        raise InputError(
            f"labels must have shape {(len(logits), *logits.shape[2:])}, one for each answer, got {truth.shape}"
        )
    classes = logits.shape[1]
    if truth.min() < 0 or truth.max() >= classes:
        raise InputError(f"labels must be classes in [0, {classes - 1}], got {truth.min()} to {truth.max()}")
    predictions = logits.argmax(axis=1)
    correct = int((predictions == truth).sum())
    return Evaluation(
        correct=correct,
        images=int(truth.size),
        predictions=tuple(int(p) for p in predictions.reshape(-1)),
        seconds=time.perf_counter() - start_time,
        metric=metric if isinstance(metric, str) else getattr(metric, "__name__", "metric"),
        score=_score(metric, logits, truth, predictions),
    )


def _samples_and_labels(images: Any, labels: Any) -> tuple[Samples, Array]:
    if labels is None:
        samples, known = labelled_samples(images)
        if known is None:
            raise InputError("labels must be given, got None and samples without labels")
        labels = known
    else:
        samples = Samples.of(images)
    truth = plain_array("labels", labels)
    if truth.ndim < 1 or not np.issubdtype(truth.dtype, np.integer):
        raise InputError(f"labels must be integers, one for each answer, got {truth.dtype} of shape {truth.shape}")
    if len(truth) != len(samples):
        raise InputError(f"labels must be as many as images ({len(samples)}), got {len(truth)}")
    return samples, truth


def _runner(model: Any) -> Callable[[Samples, int], Any]:
    """Runs a model on a batch, given the number of its first sample."""
    if isinstance(model, Chip):
        return lambda part, first: model.run(part, first_image=first)
    if isinstance(model, Network):
        return lambda part, first: model.run(part)
    if not callable(model):
        raise InputError(f"model must be a chip, a digital network or a torch model, got {type(model).__name__}")
    need_torch(f"a model of type {type(model).__name__}")
    import torch

    from xbarsim.network.lowering.prepare import check_values
    from xbarsim.network.lowering.skeleton import as_tensors

    if isinstance(model, torch.nn.Module):
        check_values(model)
    floating = [p.dtype for p in getattr(model, "parameters", tuple)() if p.is_floating_point()]
    precision = floating[0] if floating else torch.float32

    def run(part: Samples, first: int) -> Any:
        arguments, keywords = as_tensors(part, precision=precision)
        with torch.no_grad(), _evaluating(model):
            return check_fit(lambda: model(*arguments, **keywords), part, name="images")

    return run


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """A torch model's modules in evaluation mode, and behind in the mode that each was in."""
    modules = list(model.modules()) if hasattr(model, "modules") else []
    before = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, mode in zip(modules, before, strict=True):
            module.training = mode


def _logits(answer: Any, labels: Array) -> Array:
    """What a model gives for some samples as logits ``(samples, classes, positions...)``."""
    samples = len(labels)
    if hasattr(answer, "logits"):
        answer = answer.logits
    elif isinstance(answer, Mapping):
        if "logits" not in answer and len(answer) != 1:
            raise InputError(f"model must give an entry 'logits', or one entry alone, got {', '.join(answer)}")
        answer = answer["logits"] if "logits" in answer else next(iter(answer.values()))
    elif isinstance(answer, tuple | list) and answer:
        answer = answer[0]
    array = plain_array("answers of model", answer)
    if hasattr(answer, "detach"):
        array = array.astype(np.float32)
    if array.dtype.kind != "f" or array.ndim < 1 or len(array) != samples:
        raise InputError(
            f"model must give logits of shape ({samples}, classes), got {array.dtype} of shape {array.shape}"
        )
    if np.isnan(array).any():
        raise InputError("model must give logits that are numbers, got NaN")
    while array.ndim > max(2, labels.ndim) and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim > 2 and labels.shape[1:] == array.shape[1:-1]:
        if labels.shape[1:] == array.shape[2:]:
            raise InputError(
                "model must give logits whose classes can be told from its positions, got as many of both in shape "
                f"{array.shape}: let it give (samples * positions, classes)"
            )
        array = np.moveaxis(array, -1, 1)
    if array.ndim == 1:
        array = array[:, None]
    if array.shape[1] == 1:  # one logit: that of class 1 against class 0
        array = np.concatenate([np.zeros_like(array), array], axis=1)
    return array


def _score(metric: Metric, logits: Array, truth: Array, predictions: Array) -> float:
    if callable(metric):
        value = metric(logits, truth)
        try:
            score = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"metric must give a number, got {shown(value)}") from error
        if np.isnan(score):
            raise InputError("metric must give a number, got nan")
        return score
    if metric == "accuracy":
        return float((predictions == truth).mean())
    if metric == "error":
        return float((predictions != truth).mean())
    if metric == "top-5" and logits.shape[1] <= 5:
        raise InputError(f"metric 'top-5' must be of more than 5 classes, got {logits.shape[1]}")
    if metric == "top-5":
        best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        return float((best == truth[:, None]).any(axis=1).mean())
    if metric == "f1":
        scores = []
        for each in range(logits.shape[1]):
            given, right = predictions == each, truth == each
            if given.any() or right.any():
                scores.append(2 * (given & right).sum() / (given.sum() + right.sum()))
        return float(np.mean(scores))
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(shifted, truth[:, None], axis=1)[:, 0]
    return float(np.exp(np.mean(np.log(np.exp(shifted).sum(axis=1)) - chosen)))
