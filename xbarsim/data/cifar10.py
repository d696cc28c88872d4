"""CIFAR-10 from the data folder's packed files."""

from __future__ import annotations

import hashlib
import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from xbarsim.data.folder import data_file
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import FileFormatError, check_choice, check_integer

__all__ = ["CIFAR10_CLASSES", "load_cifar10"]

#: The names of the classes, in the order of the labels.
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_IMAGE_SHAPE = (3, 32, 32)
_BLOCK = 500  # images unpacked at a time

# Whatever a flipped or missing byte can make zipfile, lzma and NumPy raise.
_READ_ERRORS = (
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True, kw_only=True)
class _File:
    """One packed file: its name, how many images it holds, and the sha256 of its labels (uint8)."""

    name: str
    images: int
    labels_sha256: str


@dataclass(frozen=True, kw_only=True)
class _Split:
    """The files of a split, and the sha256 of its first so many decoded images (uint8, CHW)."""

    files: tuple[_File, ...]
    images_sha256: dict[int, str]


_SPLITS = {
    "train": _Split(
        files=(
            _File(
                name="cifar10_train_0.npz",
                images=25_000,
                labels_sha256="9ef1e35b36c36e9b94da8fff1667bcf18bc6460248d263f936d71a6ecbd0e781",
            ),
            _File(
                name="cifar10_train_1.npz",
                images=25_000,
                labels_sha256="d4dcb4c539dfe28fb2bd7915740a71434c22cccc5eb565f2d46aad4f0a43c1da",
            ),
        ),
        images_sha256={
            1_000: "29afc5d98b6b245b6205dadfe60b5574e777abc30e0de91e95a288ef54435f58",
            25_000: "4ffd57be0b0a0afc22b70d69486c9cc85e7b285ba2b2db8e54c589f3603dbec8",
            50_000: "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
        },
    ),
    "test": _Split(
        files=(
            _File(
                name="cifar10_test.npz",
                images=10_000,
                labels_sha256="cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
            ),
        ),
        images_sha256={
            1_000: "f167149948fc8fe0b9a76ba86421e987817f98b63761ba9415c5d42664d51f03",
            10_000: "1fe46ff47f5fb6c1b24f0b5448654cac0e0d3e1e0c16f9cbac842307814b553a",
        },
    ),
}


def _check_header(stream: IO[bytes], shape: tuple[int, ...], what: str) -> None:
    """Read the header of a `.npy` member and refuse anything but C-ordered uint8 of this shape."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise FileFormatError(f"{what} must be in npy format 1.0, got {version[0]}.{version[1]}")
    held, fortran_order, kind = np.lib.format.read_array_header_1_0(stream)
    if held != shape or fortran_order or kind != np.uint8:
        raise FileFormatError(f"{what} must hold uint8 of shape {shape}, got {kind} of shape {held}")


def _read_exactly(stream: IO[bytes], count: int, what: str) -> bytes:
    raw = stream.read(count)
    if len(raw) != count:
        raise FileFormatError(f"{what} must hold {count} more bytes, got {len(raw)}")
    return raw


def _decode(coded: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Undo the differences along rows, columns and colours; sums wrap around at 256."""
    images: npt.NDArray[np.uint8] = coded.cumsum(axis=2, dtype=np.uint8).cumsum(axis=3, dtype=np.uint8)
    images[:, 0] += images[:, 1]
    images[:, 2] += images[:, 1]
    return images


def _read_file(path: Path, file: _File, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Fill `images` with the file's first images, and return the labels of all the images it holds."""
    with zipfile.ZipFile(path) as archive:
        what = f"{path}: coded"
        with archive.open("coded.npy") as stream:
            _check_header(stream, (file.images, *_IMAGE_SHAPE), what)
            for start in range(0, len(images), _BLOCK):
                block = images[start : start + _BLOCK]
                coded = np.frombuffer(_read_exactly(stream, block.size, what), dtype=np.uint8)
                block[:] = _decode(coded.reshape(block.shape))
        what = f"{path}: labels"
        with archive.open("labels.npy") as stream:
            _check_header(stream, (file.images,), what)
            labels = np.frombuffer(_read_exactly(stream, file.images, what), dtype=np.uint8)
    if hashlib.sha256(labels.data).hexdigest() != file.labels_sha256:
        raise FileFormatError(f"{what}: not those of CIFAR-10 (sha256 must begin {file.labels_sha256[:8]})")
    return labels


@entrance
def load_cifar10(split: str, *, count: int | None = None) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Load CIFAR-10 images and labels in their original order.

    Parameters
    ----------
    split
        ``"train"`` (50,000 images) or ``"test"`` (10,000 images).
    count
        How many images, from the first; None for all. A small count is faster: only the shortest beginning
        of the files that a checksum covers is unpacked.

    Returns
    -------
    images
        uint8, shape (images, 3, 32, 32), channels red, green, blue.
    labels
        int64, shape (images,), positions in `CIFAR10_CLASSES`.

    Raises
    ------
    FileNotFoundError
        If the data folder or its ``cifar10`` files are absent.
    FileFormatError
        If a file is truncated or corrupt, or does not decode to CIFAR-10.
    InputError
        If `split` or `count` is out of bounds.

    Notes
    -----
    The files are the data folder's own npz. The python batches of the original site are pickles, which this
    project does not read. Twenty of the test images stem from JPEG copies.

    References
    ----------
    A. Krizhevsky, Learning multiple layers of features from tiny images, University of Toronto, 2009.
    """
    spec = _SPLITS[check_choice("split", split, _SPLITS)]
    available = sum(file.images for file in spec.files)
    wanted = available if count is None else check_integer("count", count, at_least=1, at_most=available)
    covered = min(size for size in spec.images_sha256 if size >= wanted)
    images = np.empty((covered, *_IMAGE_SHAPE), dtype=np.uint8)
    labels: list[npt.NDArray[np.uint8]] = []
    start = 0
    for file in spec.files:
        if start >= covered:
            break
        path = data_file("cifar10", file.name)
        try:
            labels.append(_read_file(path, file, images[start : start + file.images]))
        except FileFormatError:
            raise
        except _READ_ERRORS as error:
            raise FileFormatError(f"cannot read CIFAR-10 from {path}: {error}") from error
        start += file.images
    expected = spec.images_sha256[covered]
    if hashlib.sha256(images.data).hexdigest() != expected:
        folder = data_file("cifar10", spec.files[0].name).parent
        raise FileFormatError(
            f"the first {covered} {split} images in {folder} are not CIFAR-10's: their sha256 must begin {expected[:8]}"
        )
    if wanted < covered:
        images = images[:wanted].copy()  # let the rest go
    return images, np.concatenate(labels)[:wanted].astype(np.int64)
