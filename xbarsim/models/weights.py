"""Weight files in and out: read whole, checked against the network, never by unrestricted pickle."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import nn

from xbarsim.foundation.jsonio import parse_object
from xbarsim.foundation.validation import FileFormatError, read_bytes, write_atomically

__all__ = [
    "Weights",
    "fill",
    "read_metadata",
    "read_safetensors",
    "read_torch",
    "read_weights",
    "write_safetensors",
]


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """The sha256 of all names, types, shapes and values, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def write_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], *, about: Mapping[str, str]
) -> None:
    """Write tensors as safetensors, whole or not at all, with their sha256 in the file's metadata.

    Parameters
    ----------
    path
        The file.
    tensors
        Tensors by name.
    about
        What else the metadata should say, such as where the weights come from.

    Raises
    ------
    FileWriteError
        If the file cannot be written.
    """
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(plain, {**about, "sha256": _digest(plain)})
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])  # its metadata comes in random order: sort it
    ordered = json.dumps(header, sort_keys=True, separators=(",", ":")).encode().ljust(length)
    write_atomically(path, content[:8] + ordered + content[8 + length :])


class Weights(NamedTuple):
    """A safetensors file: its tensors by name, and what its header says besides."""

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read a safetensors file, once; a sha256 in its metadata is verified.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is truncated, or is not what its sha256 says.
    """
    raw = read_bytes(path, "network weights")
    try:
        tensors = safetensors.torch.load(raw)
        metadata = _metadata(raw)
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise FileFormatError(f"{path} is not a valid safetensors file: {error}") from error
    expected = metadata.get("sha256")
    if expected is not None and _digest(tensors) != expected:
        raise FileFormatError(f"{path} is corrupt: its tensors do not have the sha256 {expected[:8]}... it states")
    return Weights(tensors, metadata)


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, as :func:`read_weights` reads it.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is truncated, or is not what its sha256 says.
    """
    return read_weights(path).tensors


def _metadata(raw: bytes) -> dict[str, str]:
    length = int.from_bytes(raw[:8], "little")
    about = parse_object(raw[8 : 8 + length], source="its header").get("__metadata__") or {}
    if not isinstance(about, dict) or not all(isinstance(item, str) for item in about.values()):
        raise FileFormatError("its metadata must be text by name")
    return about


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """What the header of a safetensors file says besides its tensors, which are not read.

    Raises
    ------
    FileFormatError
        If the file cannot be read, or has no valid header.
    """
    raw = read_bytes(path, "network weights")
    try:
        return _metadata(raw)
    except ValueError as error:
        raise FileFormatError(f"{path} is not a valid safetensors file: {error}") from error


def read_torch(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read a checkpoint saved by torch, with its restricted unpickler, into main memory.

    By torch hub's convention a file name may end in the beginning of the file's sha256, as in
    ``resnet20-12fca82f.th``; where it does, it is verified.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is truncated or corrupt, or holds anything but tensors under ``state_dict``.
    """
    raw = read_bytes(path, "network weights")
    suffix = Path(path).stem.rpartition("-")[2]
    if len(suffix) >= 8 and all(letter in "0123456789abcdef" for letter in suffix):
        digest = hashlib.sha256(raw).hexdigest()
        if not digest.startswith(suffix):
            raise FileFormatError(
                f"{path} is truncated or corrupt: its sha256 must begin {suffix}, got {digest[: len(suffix)]}"
            )
    try:
        content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle can raise anything
        reason = str(error).split(". ")[0].split("\n")[0] or type(error).__name__
        raise FileFormatError(f"{path} is not a valid torch checkpoint: {reason}") from error
    tensors = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in tensors.items()
    ):
        raise FileFormatError(f"{path} must hold tensors by name under 'state_dict'")
    return dict(tensors)


def fill(network: nn.Module, tensors: Mapping[str, torch.Tensor], *, source: str | os.PathLike[str]) -> None:
    """Put tensors into a network (built on the meta device or not) and set it to evaluation.

    Raises
    ------
    FileFormatError
        If a tensor is missing, unknown, of the wrong shape or type, or not finite.
    """
    wanted = network.state_dict()
    counters = {name for name in wanted if name.endswith(".num_batches_tracked")}  # old files lack them
    tensors = {**{name: torch.tensor(0) for name in counters}, **tensors}
    for problem, names in (("lacks", set(wanted) - set(tensors)), ("has", set(tensors) - set(wanted))):
        if names:
            others = "" if len(names) == 1 else f" and {len(names) - 1} more"
            raise FileFormatError(f"{source} does not fit {type(network).__name__}: it {problem} {min(names)}{others}")
    for name, tensor in tensors.items():
        shape, kind = tuple(wanted[name].shape), wanted[name].dtype
        if tuple(tensor.shape) != shape or tensor.dtype != kind:
            raise FileFormatError(
                f"{source}: {name} must be {kind} of shape {shape}, got {tensor.dtype} of shape {tuple(tensor.shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise FileFormatError(f"{source}: {name} must be finite")
    network.load_state_dict(dict(tensors), assign=True)
    network.eval()
