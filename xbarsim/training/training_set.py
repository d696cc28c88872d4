"""What a network is trained on: images, labels, and the scale on which the network sees them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from xbarsim.data import load_cifar10, load_mnist, validation_split
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, as_array, check_choice, check_instance, check_real, check_tensor

__all__ = ["TrainingSet", "per_channel", "standardise"]


def per_channel(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """A number for each channel as float32 of shape (channels, 1, 1), on a device."""
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


def standardise(images: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Images on the scale 0 to 255 as (x / 255 - mean) / deviation, float32 of the same shape."""
    return images.float().div(255).sub_(mean).div_(deviation)


def _tensor(name: str, value: object) -> torch.Tensor:
    """An array or tensor as a tensor."""
    if isinstance(value, torch.Tensor):
        return check_tensor(name, value)
    array = as_array(name, value)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be an array of numbers, got type {array.dtype}")
    return torch.from_numpy(np.ascontiguousarray(array))


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingSet:
    """Images to train on, and others to choose settings by. Test images are not part of it.

    Parameters
    ----------
    name
        What the images are.
    images, labels
        To train on: uint8 (images, channels, height, width) and int64 (images,), as NumPy arrays or tensors.
    validation_images, validation_labels
        To choose settings and epochs by, likewise; may be empty.
    mean, standard_deviation
        Of each channel, for images scaled to [0, 1]: a network sees (x / 255 - mean) / standard_deviation.

    Raises
    ------
    InputError
        If types or shapes do not fit each other.
    """

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    validation_images: torch.Tensor
    validation_labels: torch.Tensor
    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        check_instance("name", self.name, str)
        for kind in ("", "validation_"):
            images, labels = (_tensor(kind + part, getattr(self, kind + part)) for part in ("images", "labels"))
            if images.dtype != torch.uint8 or images.ndim != 4:
                raise InputError(
                    f"{kind}images must be uint8 of shape (images, channels, height, width), "
                    f"got {images.dtype} of shape {tuple(images.shape)}"
                )
            if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or (labels < 0).any():
                raise InputError(
                    f"{kind}labels must be int64 >= 0 of shape ({len(images)},), "
                    f"got {labels.dtype} of shape {tuple(labels.shape)}"
                )
            object.__setattr__(self, kind + "images", images.contiguous())
            object.__setattr__(self, kind + "labels", labels.contiguous())
        if not self.images.numel():
            raise InputError(f"images must not be empty, got shape {tuple(self.images.shape)}")
        if self.validation_images.shape[1:] != self.images.shape[1:]:
            raise InputError(
                f"validation_images must have images' shape {tuple(self.images.shape[1:])}, "
                f"got {tuple(self.validation_images.shape[1:])}"
            )
        for name in ("mean", "standard_deviation"):
            check_instance(name, getattr(self, name), (tuple, list))
            values = tuple(getattr(self, name))
            if len(values) != self.images.shape[1]:
                raise InputError(f"{name} must have a number for each of {self.images.shape[1]} channels, got {values}")
            bounds = {} if name == "mean" else {"above": 0.0}
            object.__setattr__(self, name, tuple(check_real(name, value, **bounds) for value in values))

    @classmethod
    @entrance
    def split(
        cls,
        name: str,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        *,
        validation: int,
        seed: int = 0,
        mean: tuple[float, ...],
        standard_deviation: tuple[float, ...],
    ) -> TrainingSet:
        """Hold images back for validation, every class in its share (see `xbarsim.data.validation_split`).

        Raises
        ------
        InputError
            If an argument is out of bounds.
        """
        chosen, held = validation_split(labels, validation, seed=seed)
        return cls(
            name=name,
            images=torch.from_numpy(images[chosen]),
            labels=torch.from_numpy(labels[chosen]),
            validation_images=torch.from_numpy(images[held]),
            validation_labels=torch.from_numpy(labels[held]),
            mean=mean,
            standard_deviation=standard_deviation,
        )

    @classmethod
    @entrance
    def mnist(cls, *, validation: int = 5000, seed: int = 0) -> TrainingSet:
        """MNIST's 60,000 training images, scaled to [0, 1]: a crossbar needs no second pass for signs.

        Raises
        ------
        FileNotFoundError
            If the data folder does not have the files.
        FileFormatError
            If they are truncated or corrupt.
        """
        images, labels = load_mnist("train")
        return cls.split(
            "mnist", images, labels, validation=validation, seed=seed, mean=(0.0,), standard_deviation=(1.0,)
        )

    @classmethod
    @entrance
    def cifar10(
        cls,
        *,
        validation: int = 5000,
        seed: int = 0,
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        standard_deviation: tuple[float, ...] = (0.229, 0.224, 0.225),
    ) -> TrainingSet:
        """CIFAR-10's 50,000 training images, brought to the scale of `xbarsim.models.normalise`.

        Raises
        ------
        FileNotFoundError
            If the data folder does not have the files.
        FileFormatError
            If they are truncated or corrupt.
        """
        images, labels = load_cifar10("train")
        return cls.split(
            "cifar10",
            images,
            labels,
            validation=validation,
            seed=seed,
            mean=mean,
            standard_deviation=standard_deviation,
        )

    @classmethod
    @entrance
    def load(cls, name: str, *, validation: int = 5000, seed: int = 0) -> TrainingSet:
        """A training set by its name, ``"mnist"`` or ``"cifar10"``."""
        builders = {"mnist": cls.mnist, "cifar10": cls.cifar10}
        return builders[check_choice("data_set", name, builders)](validation=validation, seed=seed)

    @entrance
    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Images on the scale 0 to 255 as the network sees them, float32 of the same shape."""
        mean, deviation = (per_channel(values, images.device) for values in (self.mean, self.standard_deviation))
        return standardise(images, mean, deviation)

    def fingerprint(self) -> str:
        """A line that is another for any other images, labels, split or scale."""
        total = hashlib.sha256()
        parts = (self.images, self.labels, self.validation_images, self.validation_labels)
        for part in parts:
            total.update(f"{part.dtype} {tuple(part.shape)} ".encode())
            total.update(part.cpu().numpy().data)
        total.update(f"{self.mean} {self.standard_deviation}".encode())
        return (
            f"{self.name}, {len(self.images)} images and {len(self.validation_images)} for validation, "
            f"sha256 {total.hexdigest()[:16]}"
        )
