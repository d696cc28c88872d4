"""What is known about networks before one is loaded, each registered where its architecture stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from torch import nn

from xbarsim.data.images import Images
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_instance

__all__ = ["ARCHITECTURES", "TRAINED", "Architecture", "ModelCard", "register_architecture", "register_model"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network's shape, which is all that its cost depends on.

    Attributes
    ----------
    name
        What :func:`untrained_model` and the command line call it.
    description
        One line.
    parameters
        Number of trainable parameters, batch norm included.
    input_shape
        (channels, height, width) of one image.
    classes
        Number of outputs.
    source
        Where it is defined.
    build
        Builds it, with whatever weights torch gives it.
    """

    name: str
    description: str
    parameters: int
    input_shape: tuple[int, int, int]
    classes: int
    source: str
    build: Callable[[], nn.Module] = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known about a network before it is loaded.

    Attributes
    ----------
    name
        What :func:`load_model` and the command line call it.
    description
        One line.
    parameters
        Number of trainable parameters, batch norm included.
    input_shape
        (channels, height, width) of one image.
    classes
        Number of outputs.
    data_set
        What it was trained and measured on.
    test_images
        Size of that test set.
    source
        Who trained it, and where that can be read.
    licence
        SPDX identifier.
    accuracy
        Fraction of the test images classified right in float32, measured here.
    needs_data_folder
        Whether the weights or images are in the data folder (see `xbarsim.data.data_folder`).
    architecture
        The name in `ARCHITECTURES`.
    weight_bits
        Bits of the levels its weights stand on, sign included; ``None`` for free weights. Map it with as many.
    details
        What else its file says: recipe, kept weights, accuracy on the simulator, who measured it.
    load
        Builds it with its weights, ready to evaluate.
    test_set
        Its test images, as it wants them, and their labels: so many from the first, or all for ``None``.
    """

    name: str
    description: str
    parameters: int
    input_shape: tuple[int, int, int]
    classes: int
    data_set: str
    test_images: int
    source: str
    licence: str
    accuracy: float
    needs_data_folder: bool
    architecture: str
    weight_bits: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)
    load: Callable[[], nn.Module] = field(repr=False, compare=False)
    test_set: Callable[[int | None], Images] = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)


_architectures: dict[str, Architecture] = {}
_trained: dict[str, ModelCard] = {}

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(_architectures)
"""The :class:`Architecture` of every network, with stored weights or without, by name."""

TRAINED: Mapping[str, ModelCard] = MappingProxyType(_trained)
"""Networks whose weights stand in files of their own, by name; :data:`xbarsim.models.MODELS` also has the zoo's."""

T = TypeVar("T", Architecture, ModelCard)


@entrance
def register_architecture(architecture: Architecture) -> Architecture:
    """Make a network known to :func:`xbarsim.models.untrained_model`, to zoo files and to the command line.

    To be called beside the network, in a module that is imported before its name is used.

    Raises
    ------
    InputError
        If another network has the name.
    """
    check_instance("architecture", architecture, Architecture)
    return _register(_architectures, architecture)


@entrance
def register_model(card: ModelCard) -> ModelCard:
    """Make trained weights known to :func:`xbarsim.models.load_model`, to sweeps and to the command line.

    Raises
    ------
    InputError
        If other weights have the name, or the architecture is not registered.
    """
    check_instance("card", card, ModelCard)
    if card.architecture not in _architectures:
        raise InputError(
            f"architecture must be registered before its weights: one of {', '.join(map(repr, _architectures))}, "
            f"got {card.architecture!r}"
        )
    return _register(_trained, card)


def _register(known: dict[str, T], entry: T) -> T:
    if known.get(entry.name, entry) != entry:  # the same again is a module that was loaded again
        raise InputError(f"name must be new, got {entry.name!r}, which is registered: {known[entry.name].description}")
    known[entry.name] = entry
    return entry
