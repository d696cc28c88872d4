"""Checkpoints: what identifies a training, and reading back what belongs to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.models.weights import read_metadata, read_safetensors
from xbarsim.training.callbacks import Callback
from xbarsim.training.settings import Training
from xbarsim.training.training_set import TrainingSet

__all__ = ["check_like", "detached_copy", "identity", "read_checkpoint", "under"]

_FORMAT = "xbarsim training checkpoint 1"


def detached_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in main memory that shares nothing."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): item for name, item in tensors.items() if name.startswith(prefix)}


def identity(model: nn.Module, data: TrainingSet, training: Training, callbacks: Sequence[Callback]) -> dict[str, str]:
    """What must be the same for a training to be resumed, as a checkpoint's metadata says it.

    The model counts as it is before the callbacks start.
    """
    weights = safetensors.torch.save({name: detached_copy(tensor) for name, tensor in model.state_dict().items()})
    digest = hashlib.sha256(weights).hexdigest()[:16]
    return {
        "format": _FORMAT,
        "training": tomlio.dumps(training),
        "model": f"{type(model).__qualname__} with initial weights of sha256 {digest}",
        "data": data.fingerprint(),
        "callbacks": "\n".join(callback.settings() for callback in callbacks),
        # sums are added in another order by another number of them, so that the weights end elsewhere
        "threads": str(torch.get_num_threads()),
    }


def read_checkpoint(path: Path, wanted: Mapping[str, str], epochs: int) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors, if it belongs to the training of this identity, of so many epochs.

    Raises
    ------
    FileFormatError
        If the file is truncated, corrupt or no checkpoint.
    InputError
        If it belongs to another training, saying in what they differ.
    """
    tensors = read_safetensors(path)
    metadata = read_metadata(path)
    if metadata.get("format") != _FORMAT or not {"history", "random/order", "random/cpu", "selected"} <= set(tensors):
        raise FileFormatError(f"{path} is not a checkpoint of a training ({_FORMAT})")
    _check_history(path, tensors["history"], tensors["selected"], epochs)
    for key, here in wanted.items():
        there = metadata.get(key, "")
        if there == here or (key == "threads" and (not there or len(tensors["history"]) >= epochs)):
            continue  # files of before do not say how many threads; of a training that is over nothing is left to do
        if key == "threads":
            raise InputError(
                f"threads must be {there}, with which {path} was begun (another number gives other weights), "
                f"got {here}: see xbarsim.set_threads"
            )
        have, want = set(there.splitlines()), set(here.splitlines())
        raise InputError(
            f"checkpoint must belong to this training, but {path} was written with another {key}: "
            f"{'; '.join(sorted(have - want)) or 'nothing'} instead of {'; '.join(sorted(want - have)) or 'nothing'}"
        )
    return tensors


def _check_history(path: Path, history: torch.Tensor, selected: torch.Tensor, epochs: int) -> None:
    """Refuse rows of epochs (loss, penalty, two accuracies, seconds) that no training of so many epochs writes."""
    done = len(history) if history.ndim else 0
    if history.dtype != torch.float64 or tuple(history.shape) != (done, 5) or not 1 <= done <= epochs:
        raise FileFormatError(
            f"{path} must hold a history of 1 to {epochs} epochs, float64 of 5 columns, got {history.dtype} of shape "
            f"{tuple(history.shape)}"
        )
    accuracies = history[:, 2:4]
    fine = torch.isfinite(history[:, [0, 1, 2, 4]]).all() and (history[:, 4] >= 0).all()
    if not fine or not (accuracies.isnan() | ((accuracies >= 0) & (accuracies <= 1))).all():
        raise FileFormatError(f"{path} must hold a history of finite losses, accuracies from 0 to 1 and times >= 0")
    if selected.ndim or selected.dtype != torch.int64 or not 0 <= int(selected) < done:
        raise FileFormatError(f"{path} must have selected one of its {done} epochs, got {selected.tolist()}")


def check_like(path: Path, what: str, held: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors of a checkpoint that have other names, shapes or types than those they shall replace.

    Raises
    ------
    FileFormatError
        Naming the first that is missing, unknown or different.
    """
    for problem, names in (("lacks", set(wanted) - set(held)), ("has", set(held) - set(wanted))):
        if names:
            raise FileFormatError(f"{path} does not fit the training: it {problem} {what} {min(names)}")
    for name, tensor in wanted.items():
        if held[name].shape != tensor.shape or held[name].dtype != tensor.dtype:
            raise FileFormatError(
                f"{path}: {what} {name} must be {tensor.dtype} of shape {tuple(tensor.shape)}, got {held[name].dtype} "
                f"of shape {tuple(held[name].shape)}"
            )
