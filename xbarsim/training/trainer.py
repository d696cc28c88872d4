"""Training: one loop in plain torch, whose settings are one table and whose result is a function of them.

What a method of compression adds to a training it adds as a :class:`Callback`. Everything random comes from the seed
of :class:`Training`; the caller's random state stays as it is. A training that was killed goes on from its last
checkpoint and ends with the same bits as one that was not, on the same machine with the same number of threads.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import FileFormatError, InputError, check_instance, check_path
from xbarsim.models.weights import write_safetensors
from xbarsim.training.augmentation import augment
from xbarsim.training.callbacks import Callback
from xbarsim.training.checkpoints import check_like, detached_copy, identity, read_checkpoint, under
from xbarsim.training.history import Display, History
from xbarsim.training.loss import EpochSums, batch_loss
from xbarsim.training.optimiser import ParameterOptimiser
from xbarsim.training.settings import Device, Training
from xbarsim.training.training_set import TrainingSet, per_channel, standardise

__all__ = ["Run", "train"]

_VALIDATION_BATCH = 500  # images at a time; changes no answer beyond rounding


class Run:
    """A training under way: the loop, and everything that a checkpoint holds.

    Parameters
    ----------
    model, data, training, callbacks
        As in :func:`train`.
    device
        Where it takes place.
    order_seed
        Of the order and the augmentation of the images.
    rules_seed
        Of what update rules draw.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingSet,
        training: Training,
        callbacks: Sequence[Callback],
        device: torch.device,
        order_seed: int,
        rules_seed: int,
    ) -> None:
        self.model, self.data, self.training, self.callbacks, self.device = model, data, training, callbacks, device
        self.memory_format = torch.channels_last if training.channels_last else torch.contiguous_format
        self.generator = torch.Generator().manual_seed(order_seed)
        self.rows: list[list[float]] = []  # loss, penalty, training accuracy, validation accuracy or NaN, seconds
        self.selected = 0
        self.best: dict[str, torch.Tensor] = {}
        _place(model, device, self.memory_format)
        for callback in callbacks:
            callback.start(model, training.epochs)
        self.optimiser = ParameterOptimiser(
            {name: item for name, item in model.named_parameters() if item.requires_grad},
            [group for callback in callbacks for group in callback.groups()],
            training,
            rules_seed,
        )
        self.images, self.labels = data.images.to(device), data.labels.to(device)
        self.largest_label = int(torch.cat([data.labels, data.validation_labels]).max())
        self.batch_size = min(training.batch, len(self.images))
        self.batches = len(self.images) // self.batch_size  # of an epoch
        self.mean, self.deviation = (per_channel(item, device) for item in (data.mean, data.standard_deviation))

    # --- the loop

    def epoch(self, display: Display) -> None:
        """Train for one epoch and validate."""
        start, epoch = time.perf_counter(), len(self.rows)
        for callback in self.callbacks:
            callback.begin_epoch(epoch)
        self.model.train()
        order = torch.randperm(len(self.images), generator=self.generator).to(self.device)
        sums = EpochSums(self.device)
        for batch in range(self.batches):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            self.step(epoch, batch, chosen, sums)
            display.advance()
        for callback in self.callbacks:
            callback.end_epoch(epoch)
        self._forget()
        loss, penalty, training_accuracy = sums.means(self.batches, self.batches * self.batch_size)
        if not math.isfinite(loss + penalty):
            raise FloatingPointError(
                f"the loss was not finite in epoch {epoch + 1} of {self.training.epochs}: "
                f"learning_rate {self.training.learning_rate!r} may be too high, or a callback's penalty too large"
            )
        self.rows.append([loss, penalty, training_accuracy, self.validate(), time.perf_counter() - start])
        self._select()

    def step(self, epoch: int, batch: int, chosen: torch.Tensor, sums: EpochSums) -> None:
        """One step, on the images of these indices."""
        training = self.training
        for callback in self.callbacks:
            callback.begin_step(epoch * self.batches + batch)
        labels = self.labels[chosen]
        images = self.prepare(augment(self.images[chosen], training.augmentation, self.generator))
        self.optimiser.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
            logits = self._logits(images)
        loss = batch_loss(logits, labels, label_smoothing=training.label_smoothing, callbacks=self.callbacks)
        loss.backward()
        for callback in self.callbacks:
            callback.before_step()
        self._forget()
        self.optimiser.step(training.rate(epoch + (batch + 0.5) / self.batches))
        for callback in self.callbacks:
            callback.after_step()
        sums.add(loss, logits, labels)

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        """What the model gives, refused if these are no logits of the labels there are."""
        try:
            logits = self.model(images)
        except ValueError as error:
            if "more than 1 value per channel" in str(error):  # of torch's batch norms
                raise InputError(
                    f"batch must be >= 2 for a batch norm that sees one value an image, got {len(images)}"
                ) from error
            raise
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(images):
            what = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise InputError(f"model must give logits of shape ({len(images)}, classes), got {what}")
        if logits.shape[1] <= self.largest_label:
            raise InputError(f"labels must be < {logits.shape[1]}, the classes of the model, got {self.largest_label}")
        return logits

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Images on the scale 0 to 255 as the network sees them."""
        return standardise(images, self.mean, self.deviation).contiguous(memory_format=self.memory_format)

    def _forget(self) -> None:
        """Let the optimiser forget the weights that begin anew."""
        for callback in self.callbacks:
            self.optimiser.forget(callback.renewed())

    def validate(self) -> float:
        """Share of the validation images classified correctly, in evaluation mode and float32; NaN without any."""
        images, labels = self.data.validation_images, self.data.validation_labels
        if not len(labels):
            return math.nan
        self.model.eval()
        correct = 0
        with torch.no_grad():
            for start in range(0, len(labels), _VALIDATION_BATCH):
                part = slice(start, start + _VALIDATION_BATCH)
                logits = self.model(self.prepare(images[part].to(self.device)))
                correct += int((logits.argmax(dim=1).cpu() == labels[part].cpu()).sum())
        return correct / len(labels)

    def _select(self) -> None:
        """Note the epoch whose weights shall remain, and keep them."""
        last = len(self.rows) - 1
        if self.training.select == "last":
            self.selected = last
        elif last == 0 or self.rows[last][3] > self.rows[self.selected][3]:
            self.selected = last
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    # --- before, between and after

    def history(self, selected: int) -> History:
        """What happened so far."""
        columns = list(zip(*self.rows, strict=True))
        return History(
            loss=columns[0],
            penalty=columns[1],
            training_accuracy=columns[2],
            validation_accuracy=columns[3] if len(self.data.validation_labels) else (),
            seconds=columns[4],
            selected=selected,
        )

    def finish(self) -> History:
        """Leave the model with the weights that were selected, and without what callbacks put into it."""
        if self.best:
            self.model.load_state_dict(self.best)
        for callback in self.callbacks:
            callback.finish()
        return self.history(self.selected)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything to go on from here."""
        everything = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        everything |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        everything |= self.optimiser.tensors()
        for number, callback in enumerate(self.callbacks):
            everything |= {f"callback/{number}/{name}": tensor for name, tensor in callback.state().items()}
        everything["random/order"] = self.generator.get_state()
        everything["random/cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            everything["random/cuda"] = torch.cuda.get_rng_state()
        everything["history"] = torch.tensor(self.rows, dtype=torch.float64)
        everything["selected"] = torch.tensor(self.selected)
        return {name: detached_copy(tensor) for name, tensor in everything.items()}

    def restore(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take back what :meth:`tensors` gave, from a file of this path.

        Raises
        ------
        FileFormatError
            If it is not what a training like this one gives.
        """
        own = self.model.state_dict()
        check_like(path, "weight", under("model/", tensors), own)
        self.best = under("best/", tensors)
        check_like(path, "best weight", self.best, own if self.training.select == "best" else {})
        rows, selected = tensors["history"].tolist(), int(tensors["selected"])
        if any(math.isnan(row[3]) == bool(len(self.data.validation_labels)) for row in rows):
            raise FileFormatError(
                f"{path} must hold a validation accuracy for every epoch, where there are images for it"
            )
        accuracies = [row[3] for row in rows]
        best = accuracies.index(max(accuracies)) if self.training.select == "best" else len(rows) - 1
        if selected != best:
            raise FileFormatError(f"{path} must have selected epoch {best + 1}, got {selected + 1}")
        self.model.load_state_dict(under("model/", tensors))
        try:
            self.optimiser.restore(tensors)
            self._restore_random(tensors)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise FileFormatError(f"{path} does not fit the training: {error}") from error
        for number, callback in enumerate(self.callbacks):
            state = under(f"callback/{number}/", tensors)
            lacking = set(callback.state()) - set(state)
            if lacking:
                raise FileFormatError(f"{path} does not fit the training: it lacks {min(lacking)} of callback {number}")
            try:
                callback.load_state(state)
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                raise FileFormatError(f"{path} does not fit callback {number} of the training: {error}") from error
        self.rows, self.selected = rows, selected

    def _restore_random(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on drawing where a checkpoint was; a state says which seed it began with."""
        seeds = self.generator.initial_seed(), torch.initial_seed()
        self.generator.set_state(tensors["random/order"])
        torch.set_rng_state(tensors["random/cpu"])
        if (self.generator.initial_seed(), torch.initial_seed()) != seeds:
            raise ValueError("its random states began with other seeds")
        if self.device.type == "cuda" and "random/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random/cuda"])


def _check_parameters(model: nn.Module) -> None:
    """Refuse a model that holds no numbers yet, or none that can be trained in float32."""
    for name, item in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(item) or item.is_meta:
            raise InputError(f"model must hold its weights, got {name} without any (lazy, or on the meta device)")
        if item.requires_grad and item.dtype != torch.float32:
            raise InputError(f"model must be float32, got {name} of {item.dtype}")


def _device(name: Device) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device must be 'cpu' or 'auto' where torch finds no CUDA, got 'cuda'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _place(model: Any, device: torch.device, memory_format: torch.memory_format) -> None:
    model.to(device=device, memory_format=memory_format)  # which torch's own annotations do not know


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's generators seeded for what draws from them, and as they were afterwards; CUDA's choices repeatable."""
    cuda = device.type == "cuda"
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        if cuda:
            torch.cuda.manual_seed(seed)
            cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = True, False, False
        try:
            yield
        finally:
            if cuda:
                cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = before


@entrance
def train(
    model: nn.Module,
    data: TrainingSet,
    training: Training,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> History:
    """Train a model in place.

    Parameters
    ----------
    model
        Float32, with logits (images, classes) as its output. Afterwards it is in evaluation mode and on the device that
        it came from.
    data
        Images to train on and to validate with.
    training
        Settings.
    callbacks
        What takes part, called in this order.
    checkpoint
        A safetensors file, written whole after every epoch. If it exists, the training goes on from it, or returns what
        it ended with; one that belongs to other settings, data, callbacks or initial weights is refused.
    progress
        Show progress on standard error: a bar on a terminal, else a line an epoch; ``None`` for a bar on a terminal
        only.

    Returns
    -------
    History
        Losses and accuracies of every epoch, those before a resumption included.

    Raises
    ------
    InputError
        If the model has nothing to train, the checkpoint belongs to another training or its folder does not exist,
        there is no CUDA where it is asked for, or the best epoch is asked for without validation images.
    FileFormatError
        If the checkpoint is truncated or corrupt.
    FileWriteError
        If a checkpoint cannot be written; the one before is still there.
    FloatingPointError
        If the loss became infinite or NaN; the last checkpoint is still there.
    """
    check_instance("model", model, nn.Module)
    check_instance("data", data, TrainingSet)
    check_instance("training", training, Training)
    _check_parameters(model)
    if training.select == "best" and not len(data.validation_labels):
        raise InputError("select must be 'last' without validation images, got 'best'")
    path = None if checkpoint is None else check_path("checkpoint", checkpoint)
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"checkpoint must be in a folder that exists, got {os.fspath(path)!r}")
    device = _device(training.device)
    about = {} if path is None else identity(model, data, training, callbacks)
    saved = read_checkpoint(path, about, training.epochs) if path is not None and path.exists() else None
    home = next((item.device for item in model.parameters()), torch.device("cpu"))
    # three seeds from one, none beyond what torch takes
    order_seed, global_seed, rules_seed = np.random.SeedSequence(training.seed).generate_state(3, np.uint32).tolist()
    with _own_randomness(global_seed, device):
        try:
            run = Run(model, data, training, callbacks, device, order_seed, rules_seed)
            if saved is not None:
                assert path is not None
                run.restore(path, saved)
            display = Display(progress, training.epochs, run.batches)
            with display.bar:
                if run.rows:
                    display.show(run.history(len(run.rows) - 1), training.epochs)
                while len(run.rows) < training.epochs:
                    run.epoch(display)
                    if path is not None:
                        write_safetensors(path, run.tensors(), about=about)
                    display.show(run.history(len(run.rows) - 1), training.epochs)
            return run.finish()
        finally:
            _place(model, home, torch.contiguous_format)
            model.eval()
