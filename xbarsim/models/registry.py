"""Networks by name: with their trained weights, with random ones, with their test images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from xbarsim.data.images import Images
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_integer
from xbarsim.models.cards import ARCHITECTURES, TRAINED, Architecture, ModelCard
from xbarsim.models.zoo import zoo_card, zoo_names

__all__ = ["MODELS", "check_trained", "load_model", "load_test_set", "untrained_model"]


class _Models(Mapping[str, ModelCard]):
    """Registered weights, then the zoo; names are known without opening a file, a card is read when it is asked for."""

    def __getitem__(self, name: str) -> ModelCard:
        if name in TRAINED:
            return TRAINED[name]
        if name in zoo_names():
            return zoo_card(name)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in TRAINED or name in zoo_names()

    def __iter__(self) -> Iterator[str]:
        yield from TRAINED
        yield from (name for name in zoo_names() if name not in TRAINED)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<networks with trained weights: {', '.join(self)}>"


MODELS: Mapping[str, ModelCard] = _Models()
"""The :class:`ModelCard` of every network with trained weights, by name."""


@entrance
def check_trained(name: str, *, called: str = "model") -> str:
    """Return the name of a network with stored weights; refuse one without, and one that there is not.

    Parameters
    ----------
    name
        The network.
    called
        What the message calls it.

    Raises
    ------
    InputError
        If `name` is not in `MODELS`.
    """
    if name in ARCHITECTURES and name not in MODELS:
        raise InputError(
            f"{called} must be one with stored weights to have an accuracy ('xbarsim info networks' lists them), got "
            f"{name!r}: of it only the architecture is known, which is enough for its cost ('xbarsim cost {name}')"
        )
    return check_choice(called, name, MODELS, listed="xbarsim info networks")


@entrance
def untrained_model(name: str, *, seed: int = 0) -> tuple[nn.Module, Architecture]:
    """Build a network with random weights, for its cost, and its description.

    Parameters
    ----------
    name
        A name in `ARCHITECTURES`.
    seed
        Of the weights; the caller's random state stays as it is.

    Raises
    ------
    InputError
        If `name` is not in `ARCHITECTURES`, the seed is negative, or weights stand in modules of another type.
    """
    architecture = ARCHITECTURES[check_choice("model", name, ARCHITECTURES, listed="xbarsim info networks")]
    seed = check_integer("seed", seed, at_least=0)
    with torch.device("meta"):  # no initial weights: the caller's random state stays as it is
        model = architecture.build()
    model.to_empty(device="cpu")
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.reset_running_stats()
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                spread = (2 / module.weight[0].numel()) ** 0.5  # keeps the size of activations behind a ReLU
                values = rng.standard_normal(tuple(module.weight.shape), dtype=np.float32)
                module.weight.copy_(torch.from_numpy(values * np.float32(spread)))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif next(module.parameters(recurse=False), None) is not None:
                raise InputError(
                    f"model must have its weights in convolutions, linear layers and batch norms to get random ones, "
                    f"got {type(module).__name__} in {name!r}"
                )
    return model.eval(), architecture


@entrance
def load_model(name: str) -> tuple[nn.Module, ModelCard]:
    """Load a network with its trained weights, ready to evaluate, and its card.

    Raises
    ------
    InputError
        If `name` is not in `MODELS`.
    FileNotFoundError
        If the weights should be in the data folder and are not.
    FileFormatError
        If the weights are truncated or corrupt.
    """
    card = MODELS[check_trained(name)]
    return card.load(), card


@entrance
def load_test_set(name: str, *, count: int | None = None) -> Images:
    """The test images of a network, as it wants them, and their labels.

    Parameters
    ----------
    name
        The network, as in `MODELS`.
    count
        How many, from the first; None for all.

    Returns
    -------
    images
        float32, shape (images, channels, height, width).
    labels
        int64, shape (images,).

    Raises
    ------
    InputError
        If `name` is not in `MODELS`, or `count` is out of bounds.
    ImportError
        If the images come with scikit-learn and it is absent.
    FileNotFoundError
        If the images should be in the data folder and are not.
    FileFormatError
        If the data folder's files are truncated or corrupt.
    """
    card = MODELS[check_trained(name)]
    if count is not None:
        count = check_integer("count", count, at_least=1, at_most=card.test_images)
    return card.test_set(count)
