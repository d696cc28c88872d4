"""What is put under test: a network with the images that calibrate it and those that measure it."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer

__all__ = ["Subject", "imported", "load_subject"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A network with the images that calibrate it and those that measure it.

    Attributes
    ----------
    name
        What tables call the network.
    data_set
        What tables call the images.
    model
        The torch network in float32, in evaluation mode.
    images, labels
        What accuracy is measured on: float32 (images, ...) as the network takes them, integers (images,).
    calibration
        Images that set the ranges of activations and converters, as :func:`xbarsim.map_model` takes them.

    Raises
    ------
    InputError
        If the arrays are of the wrong type, or there are not as many labels as images.
    """

    name: str
    data_set: str
    model: Any
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    calibration: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        check_fields(self)
        check_instance("name", self.name, str)
        check_instance("data_set", self.data_set, str)
        for name in ("images", "calibration"):
            array = np.asarray(getattr(self, name))
            if array.dtype.kind != "f" or array.ndim < 2 or array.size == 0:
                raise InputError(f"{name} must be floating numbers, images first, got {array.dtype} of {array.shape}")
            object.__setattr__(self, name, np.ascontiguousarray(array, np.float32))
        labels = np.asarray(self.labels)
        if labels.dtype.kind not in "iu" or labels.shape != self.images.shape[:1]:
            raise InputError(
                f"labels must be integers, one for each of {len(self.images)} images, got {labels.dtype} of "
                f"{labels.shape}"
            )
        object.__setattr__(self, "labels", np.ascontiguousarray(labels, np.int64))

    @cached_property
    def identity(self) -> dict[str, str]:
        """SHA-256 of the network and of each set of images, by what they are: what a task's id is made of."""
        digest = hashlib.sha256()
        for name, module in self.model.named_modules():
            digest.update(f"{name} {type(module).__name__} {module.extra_repr()}\n".encode())
        state = self.model.state_dict()
        for name in sorted(state):
            tensor = state[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.numpy().tobytes())
        hashes = {"name": self.name, "data_set": self.data_set, "network": digest.hexdigest()}
        for name in ("images", "labels", "calibration"):
            array = getattr(self, name)
            digest = hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode())
            digest.update(array.data)
            hashes[name] = digest.hexdigest()
        return hashes

    @entrance
    def part(self, images: int | None, calibration: int | None) -> Subject:
        """The same with only the first images of each kind; ``None`` for all.

        Raises
        ------
        InputError
            If there are not as many.
        """
        if images is not None:
            check_integer("images", images, at_least=1, at_most=len(self.images))
        if calibration is not None:
            check_integer("calibration", calibration, at_least=1, at_most=len(self.calibration))
        return dataclasses.replace(
            self, images=self.images[:images], labels=self.labels[:images], calibration=self.calibration[:calibration]
        )


@lru_cache(maxsize=16)
def load_subject(network: str, data_set: str | None, images: int | None, calibration: int) -> Subject:
    """The subject that a task names; parameters as those of :class:`~xbarsim.sweep.Task`.

    Raises
    ------
    InputError
        If there is no such network, or it goes with another data set, or there are not as many images.
    """
    if ":" in network:
        made = imported("network", network)()
        check_instance(f"network {network!r}", made, Subject)
        if data_set is not None and data_set != made.data_set:
            raise InputError(f"data_set must be {made.data_set!r} for network {network!r}, got {data_set!r}")
        result: Subject = made.part(images, calibration)
        return result
    from xbarsim.models import DATA_SETS, MODELS, load_images, load_model, load_test_set

    if network not in MODELS:
        names = ", ".join(map(repr, MODELS))
        raise InputError(f"network must be one of {names}, or 'module:function', got {network!r}")
    trained_on = MODELS[network].data_set
    if data_set is not None:
        check_choice("data_set", data_set, DATA_SETS)
    own = next((name for name, title in DATA_SETS.items() if title == trained_on), None)
    if own is None:
        raise InputError(
            f"network must be one trained on {' or '.join(DATA_SETS.values())}, got {network!r} ({trained_on})"
        )
    if data_set not in (None, own):
        raise InputError(f"data_set must be {own!r} for network {network!r}, got {data_set!r}")
    pictures, labels = load_test_set(network, count=images)
    model, _ = load_model(network)
    return Subject(
        name=network,
        data_set=own,
        model=model,
        images=pictures,
        labels=labels,
        calibration=load_images(own, "train", count=calibration)[0],
    )


def imported(parameter: str, name: str) -> Callable[..., Any]:
    """What ``"module:function"`` names.

    Raises
    ------
    InputError
        If there is no such module, or nothing in it that can be called by that name.
    """
    module, _, attribute = name.partition(":")
    try:
        named = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{parameter} must name a function as 'module:function', got {name!r}: {error}") from error
    if not callable(named):
        raise InputError(f"{parameter} must name a function as 'module:function', got {name!r}: it cannot be called")
    result: Callable[..., Any] = named
    return result
