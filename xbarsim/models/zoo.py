"""The zoo: compressed networks, each in one small file that says what it holds."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from xbarsim.data import DATA_SETS, load_images
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import FileFormatError, shown
from xbarsim.models.cards import ARCHITECTURES, ModelCard
from xbarsim.models.coded import card_of, fill_coded, read_card
from xbarsim.models.weights import read_weights

__all__ = ["ZOO", "load_zoo_file", "zoo_card", "zoo_names"]

ZOO = Path(__file__).with_name("zoo")
"""Where the compressed networks are that come with the project."""


@cache
def zoo_names() -> tuple[str, ...]:
    """What the zoo holds, by the names of its files, none of which is opened."""
    return tuple(path.stem for path in sorted(ZOO.glob("*.safetensors")))


@entrance
def load_zoo_file(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Load a compressed network from a file of :func:`save_coded`, ready to evaluate, and its card.

    Raises
    ------
    FileFormatError
        If the file is truncated or corrupt, or is of no known architecture.
    """
    weights = read_weights(path)
    card = card_of(weights.metadata, source=path)
    if not isinstance(card.get("network"), str) or card["network"] not in ARCHITECTURES:
        raise FileFormatError(f"{path} must hold one of {', '.join(ARCHITECTURES)}, got {shown(card.get('network'))}")
    with torch.device("meta"):  # no random initial weights: the caller's random state stays as it is
        model = ARCHITECTURES[str(card["network"])].build()
    fill_coded(model, weights, source=path)
    return model, card


@cache
def zoo_card(name: str) -> ModelCard:
    """What the file of a name in :func:`zoo_names` says about its network; read once.

    Raises
    ------
    FileFormatError
        If the file is truncated or corrupt.
    """
    path = ZOO / f"{name}.safetensors"
    card = read_card(path)
    architecture = ARCHITECTURES[str(card["network"])]
    bits: Any = card["bits"]
    return ModelCard(
        name=name,
        description=f"{architecture.name}, {card['compression']}, {bits}-bit weights",
        parameters=architecture.parameters,
        input_shape=architecture.input_shape,
        classes=architecture.classes,
        data_set=DATA_SETS[str(card["data_set"])],
        test_images=10_000,
        source=f"this project, {card['recipe']}",
        licence=str(card["licence"]),
        accuracy=float(str(card["accuracy_float32"])),
        needs_data_folder=True,
        architecture=architecture.name,
        weight_bits=bits,
        details=MappingProxyType(dict(card)),
        load=lambda: load_zoo_file(path)[0],
        test_set=lambda count: load_images(str(card["data_set"]), "test", count=count),
    )
