"""Compressed networks as small files: packed integer codes of the filters and positions that are left, and scales."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.jsonio import parse_object
from xbarsim.foundation.validation import FileFormatError, InputError, check_instance, check_integer, shown
from xbarsim.mapping import quantise
from xbarsim.models.weights import Weights, fill, read_metadata, read_weights, write_safetensors

__all__ = ["card_of", "fill_coded", "load_coded", "read_card", "save_coded"]

_PARTS = ("codes", "filters", "positions", "scale")


def _pack(codes: npt.NDArray[np.int32], bits: int) -> npt.NDArray[np.uint8]:
    """Codes in [-Q, Q] as unsigned numbers of so many bits, most significant first, one after the other."""
    unsigned = (codes.reshape(-1, 1) + (2 ** (bits - 1) - 1)).astype(np.uint16)
    return np.packbits((unsigned >> np.arange(bits - 1, -1, -1, dtype=np.uint16)) & 1)


def _unpack(packed: npt.NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    count = int(np.prod(shape))
    if packed.dtype != np.uint8 or packed.shape != (-(-count * bits // 8),):  # missing bits would count as 0
        raise ValueError(f"codes must be {-(-count * bits // 8)} bytes, got {packed.dtype} of shape {packed.shape}")
    digits = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    unsigned = digits.astype(np.int32) @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int32))
    return np.asarray(unsigned - (2 ** (bits - 1) - 1), dtype=np.int32).reshape(shape)


def _coded_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    }


@entrance
def save_coded(
    path: str | os.PathLike[str], model: nn.Module, *, bits: int | Mapping[str, int], about: Mapping[str, object]
) -> int:
    """Write a network whose weights stand on levels: whole, or not at all.

    Weights of linear and convolution layers are written as codes, one scale for each output; filters and positions
    without any weight take no room. Everything else (biases, batch norms) is written as it is.

    Parameters
    ----------
    path
        The file.
    model
        The network.
    bits
        Bits of a weight, sign included, 2 to 16; for all layers or by layer name.
    about
        What is known about the network: its card, of anything that JSON can hold.

    Returns
    -------
    int
        Weights that are not 0.

    Raises
    ------
    InputError
        If a layer has no entry in `bits`, or its weights do not stand on that many levels: then they would be changed.
    FileWriteError
        If the file cannot be written.
    """
    check_instance("model", model, nn.Module)
    layers = _coded_layers(model)
    tensors = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.removesuffix(".weight") not in layers and not name.endswith(".num_batches_tracked")
    }
    shapes: dict[str, list[int]] = {}
    layers_bits: dict[str, int] = {}
    count = 0
    for name, module in layers.items():
        if isinstance(bits, Mapping) and name not in bits:
            raise InputError(f"bits must name every layer, got none for {name!r}")
        width = check_integer("bits", bits[name] if isinstance(bits, Mapping) else bits, at_least=2, at_most=16)
        weight = module.weight.detach().cpu()  # type: ignore[operator]
        matrix = weight.flatten(1).numpy()
        quantised = quantise(matrix.T, bits=width, per="output")
        codes, scale = quantised.codes.T, quantised.scale.astype(np.float32)
        if not np.allclose(codes * scale[:, None], matrix, rtol=1e-5, atol=0.0):
            raise InputError(
                f"bits of layer {name!r} must be those its weights stand on, got {width}, which changes them"
            )
        filters, positions = np.flatnonzero(codes.any(axis=1)), np.flatnonzero(codes.any(axis=0))
        tensors[f"{name}.codes"] = torch.from_numpy(_pack(codes[np.ix_(filters, positions)], width))
        tensors[f"{name}.filters"] = torch.from_numpy(filters.astype(np.int32))
        tensors[f"{name}.positions"] = torch.from_numpy(positions.astype(np.int32))
        tensors[f"{name}.scale"] = torch.from_numpy(scale[filters])
        layers_bits[name] = width
        shapes[name] = list(weight.shape)
        count += int(np.count_nonzero(codes))
    write_safetensors(
        path,
        tensors,
        about={
            "card": json.dumps(about, sort_keys=True),
            "shapes": json.dumps(shapes),
            "bits": json.dumps(layers_bits),
        },
    )
    return count


@entrance
def load_coded(path: str | os.PathLike[str], model: nn.Module) -> None:
    """Put a file of :func:`save_coded` into a network and set it to evaluation.

    Parameters
    ----------
    path
        The file.
    model
        A network of the same architecture, on the meta device or not.

    Raises
    ------
    FileFormatError
        If the file is truncated or corrupt, or holds another network.
    """
    fill_coded(model, read_weights(path), source=path)


def fill_coded(model: nn.Module, weights: Weights, *, source: str | os.PathLike[str]) -> None:
    """Put what a file of :func:`save_coded` holds, read already, into a network and set it to evaluation.

    Raises
    ------
    FileFormatError
        If it holds another network, or none.
    """
    tensors, metadata = dict(weights.tensors), weights.metadata
    try:
        shapes, bits = (parse_object(metadata[key], source=f"{source}: {key}") for key in ("shapes", "bits"))
        full: dict[str, torch.Tensor] = {}
        wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        for name, shape in shapes.items():
            if shape != wanted.get(f"{name}.weight"):  # before room is made for it
                raise FileFormatError(
                    f"{source} does not fit {type(model).__name__}: {name} must have a weight of shape "
                    f"{wanted.get(f'{name}.weight')}, got {shown(shape)}"
                )
            check_integer(f"bits of {name}", bits[name], at_least=2, at_most=16)
            packed, filters, positions, scale = (tensors.pop(f"{name}.{part}") for part in _PARTS)
            for which, size in ((filters, shape[0]), (positions, math.prod(shape[1:]))):
                ascending = bool((which.diff() > 0).all()) and which.ndim == 1
                if not ascending or (len(which) and not 0 <= int(which[0]) <= int(which[-1]) < size):
                    raise ValueError(f"filters and positions of {name} must ascend from 0 to {size - 1}")
            if scale.shape != filters.shape or not bool((torch.isfinite(scale) & (scale > 0)).all()):
                raise ValueError(f"scale of {name} must be finite and > 0, one for each filter")
            codes = torch.from_numpy(_unpack(packed.numpy(), bits[name], (len(filters), len(positions))))
            weight = torch.zeros(shape, dtype=torch.float32).flatten(1)
            weight[filters.long()[:, None], positions.long()] = codes.float() * scale[:, None]
            full[f"{name}.weight"] = weight.reshape(shape)
    except FileFormatError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError, AttributeError) as error:
        raise FileFormatError(f"{source} does not hold a network in codes: {error}") from error
    fill(model, {**tensors, **full}, source=source)


@entrance
def read_card(path: str | os.PathLike[str]) -> dict[str, object]:
    """What a file of :func:`save_coded` says about its network.

    Raises
    ------
    FileFormatError
        If the file is truncated or corrupt, or has no card.
    """
    return card_of(read_metadata(path), source=path)


def card_of(metadata: Mapping[str, str], *, source: str | os.PathLike[str]) -> dict[str, object]:
    """The card in the header of a file of :func:`save_coded`.

    Raises
    ------
    FileFormatError
        If there is none.
    """
    if "card" not in metadata:
        raise FileFormatError(f"{source} has no card of a network")
    return parse_object(metadata["card"], source=f"{source}: the card")
