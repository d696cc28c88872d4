"""Images as the networks of the project want them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from xbarsim.data.cifar10 import load_cifar10
from xbarsim.data.digits import load_digits_split
from xbarsim.data.mnist import load_mnist
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_integer

__all__ = ["DATA_SETS", "Images", "load_images", "normalise"]

Images: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Images, float32 (images, channels, height, width), and their labels, int64 (images,)."""

# Of the red, green and blue channels, for images scaled to [0, 1]: what ResNet-20 was trained with by its author
# (ImageNet's numbers, not CIFAR-10's), and so every network of ours.
_MEAN = (0.485, 0.456, 0.406)
_STANDARD_DEVIATION = (0.229, 0.224, 0.225)

DATA_SETS = MappingProxyType({"digits": "scikit-learn digits", "cifar10": "CIFAR-10", "mnist": "MNIST"})
"""What :func:`load_images` calls a data set, and what a :class:`xbarsim.models.ModelCard` does."""


@entrance
def load_images(data_set: str, split: Literal["train", "test"], *, count: int | None = None) -> Images:
    """Images as the networks of the project want them, and their labels.

    Parameters
    ----------
    data_set
        ``"digits"``, ``"cifar10"`` (see :func:`normalise`) or ``"mnist"`` (scaled to [0, 1]).
    split
        ``"train"`` or ``"test"``.
    count
        How many, from the first; ``None`` for all.

    Returns
    -------
    images
        float32, shape (images, channels, height, width).
    labels
        int64, shape (images,).

    Raises
    ------
    InputError
        If a name is unknown, or there are not so many images.
    ImportError
        If the images come with scikit-learn and it is absent.
    FileNotFoundError
        If the data folder does not have them.
    FileFormatError
        If its files are truncated or corrupt.
    """
    check_choice("data_set", data_set, DATA_SETS)
    check_choice("split", split, ("train", "test"))
    if data_set == "cifar10":
        pixels, classes = load_cifar10(split, count=count)
        return normalise(pixels), classes
    if data_set == "mnist":
        pixels, labels = load_mnist(split)
    else:
        digits = load_digits_split()
        images, labels = (
            (digits.train_images, digits.train_labels) if split == "train" else (digits.test_images, digits.test_labels)
        )
    if count is not None:
        count = check_integer("count", count, at_least=1, at_most=len(labels))
    if data_set == "mnist":
        images = pixels[:count].astype(np.float32) / np.float32(255)
    return images[:count], labels[:count]


@entrance
def normalise(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Bring images of CIFAR-10 to the scale that stored networks want: (x / 255 - mean) / standard deviation.

    Parameters
    ----------
    images
        uint8, shape (images, 3, height, width), as from `load_cifar10`.

    Returns
    -------
    numpy.ndarray
        float32, same shape.

    Raises
    ------
    InputError
        If `images` has another type or shape.
    """
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] != 3:
        raise InputError(
            f"images must be uint8 of shape (images, 3, height, width), got {array.dtype} of shape {array.shape}"
        )
    mean = np.array(_MEAN, dtype=np.float32)[:, None, None]
    deviation = np.array(_STANDARD_DEVIATION, dtype=np.float32)[:, None, None]
    scaled = array.astype(np.float32)
    scaled /= 255
    scaled -= mean
    scaled /= deviation
    return scaled
