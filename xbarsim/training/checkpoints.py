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

__all__ = ["detached_copy", "identity", "read_checkpoint", "under"]

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
    }


def read_checkpoint(path: Path, wanted: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors, if it belongs to the training of this identity.

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
    for key, here in wanted.items():
        there = metadata.get(key, "")
        if there == here:
            continue
        have, want = set(there.splitlines()), set(here.splitlines())
        raise InputError(
            f"checkpoint must belong to this training, but {path} was written with another {key}: "
            f"{'; '.join(sorted(have - want)) or 'nothing'} instead of {'; '.join(sorted(want - have)) or 'nothing'}"
        )
    return tensors
