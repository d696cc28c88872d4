"""MNIST from its four original files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xbarsim.data.folder import data_file
from xbarsim.foundation.archives import gunzip
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import FileFormatError, check_choice, read_bytes

__all__ = ["load_mnist"]

_SPLITS = {"train": ("train", 60_000), "test": ("t10k", 10_000)}  # beginning of the file names, images


def _read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Read a gzipped idx file of uint8 (type code 8) that must have this shape."""
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    expected = int(np.prod(shape))
    raw = gunzip(read_bytes(path, "MNIST"), size=len(header) + expected, source=str(path))
    if raw[: len(header)] != header:
        raise FileFormatError(
            f"{path} must begin with the idx header {header.hex()} (uint8 of shape {shape}), "
            f"got {raw[: len(header)].hex()}"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=len(header)).reshape(shape)


@entrance
def load_mnist(split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Load MNIST images and labels in their original order.

    Parameters
    ----------
    split
        ``"train"`` (60,000 images) or ``"test"`` (10,000 images).

    Returns
    -------
    images
        uint8, shape (images, 1, 28, 28), 0 for paper.
    labels
        int64, shape (images,), the digit.

    Raises
    ------
    FileNotFoundError
        If the data folder or its ``mnist`` files are absent.
    FileFormatError
        If a file is truncated or corrupt.
    InputError
        If `split` is neither.

    References
    ----------
    Y. LeCun et al., Gradient-based learning applied to document recognition, Proceedings of the IEEE
    86(11), 1998, https://doi.org/10.1109/5.726791.
    """
    prefix, count = _SPLITS[check_choice("split", split, _SPLITS)]
    images = _read_idx(data_file("mnist", f"{prefix}-images-idx3-ubyte.gz"), (count, 28, 28))
    path = data_file("mnist", f"{prefix}-labels-idx1-ubyte.gz")
    labels = _read_idx(path, (count,))
    if labels.max() > 9:
        raise FileFormatError(f"{path} must hold labels 0 to 9, got {labels.max()}")
    return images[:, None].copy(), labels.astype(np.int64)
