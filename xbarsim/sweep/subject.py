"""What is put under test: a network with the images that calibrate it and those that measure it.

A network is named by what comes with the project, as a function of a user's own that gives a :class:`Subject`, or as an
ONNX file beside a file of images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.archives import check_archive
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.named import named_callable, names_code
from xbarsim.foundation.validation import (
    FileFormatError,
    InputError,
    check_choice,
    check_instance,
    check_integer,
    read_bytes,
    shown,
)
from xbarsim.foundation.words import one_of

if TYPE_CHECKING:
    from xbarsim.design import Design
    from xbarsim.network import MappedNetwork

__all__ = ["Subject", "absolute_files", "load_subject"]

_ARRAYS = ("images", "labels", "calibration")  # of a file of images


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
        The torch network in float32, in evaluation mode; or the path of an ONNX file, as a :class:`pathlib.Path`.
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
        network = _hash_of_file(self.model) if isinstance(self.model, Path) else _hash_of_module(self.model)
        hashes = {"name": self.name, "data_set": self.data_set, "network": network}
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

    @entrance
    def map(self, design: Design) -> MappedNetwork:
        """The network placed on crossbars, as :func:`xbarsim.map_model` or :func:`xbarsim.map_onnx` does it."""
        from xbarsim.network import map_model, map_onnx

        if isinstance(self.model, Path):
            return map_onnx(self.model, design, calibration=self.calibration)
        return map_model(self.model, design, calibration=self.calibration)


def _settings(module: Any) -> str:
    """What a module says of itself; of batch norms in the same words whatever torch's version (2.13 added `bias`)."""
    text = str(module.extra_repr())
    if type(module).__module__ == "torch.nn.modules.batchnorm" and ", bias=" not in text:
        bias = getattr(module, "bias", None) is not None
        text = text.replace(", track_running_stats=", f", bias={bias}, track_running_stats=")
    return text


def _hash_of_module(model: Any) -> str:
    digest = hashlib.sha256()
    for name, module in model.named_modules():
        digest.update(f"{name} {type(module).__name__} {_settings(module)}\n".encode())
    state = model.state_dict()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _hash_of_file(path: Path) -> str:
    """Of an ONNX file, with the weights that lie beside it."""
    from xbarsim.network.onnx.file import read_model, read_tensor

    digest = hashlib.sha256(read_bytes(path, "an ONNX network"))
    for tensor in read_model(path).graph.initializer:
        if tensor.external_data:
            digest.update(f"{tensor.name}\n".encode())
            digest.update(np.ascontiguousarray(read_tensor(tensor, path.parent)).data)
    return digest.hexdigest()


def absolute_files(folder: str | os.PathLike[str], network: str, data_set: str | None) -> tuple[str, str | None]:
    """Names of a network and of its images with the whole paths of files, so that they mean the same in any folder.

    Parameters
    ----------
    folder
        Where paths start.
    network, data_set
        As those of a :class:`~xbarsim.sweep.Task`.
    """
    home = Path(folder)
    module, colon, name = network.rpartition(":")
    if module.endswith(".py"):
        network = f"{(home / module).resolve()}{colon}{name}"
    elif network.endswith(".onnx"):
        network = str((home / network).resolve())
    if data_set is not None and data_set.endswith(".npz"):
        data_set = str((home / data_set).resolve())
    return network, data_set


@lru_cache(maxsize=16)
def load_subject(network: str, data_set: str | None, images: int | None, calibration: int | None) -> Subject:
    """The subject that a task names.

    Parameters
    ----------
    network, data_set, images, calibration
        As those of :class:`~xbarsim.sweep.Task`; ``None`` for all images of a kind that there are.

    Raises
    ------
    InputError
        If there is no such network, or it goes with another data set, or there are not as many images.
    FileFormatError
        If a file of images is corrupt, or holds something else.
    """
    if network.endswith(".onnx"):
        return _from_file(Path(network), data_set, images, calibration)
    if names_code(network):
        made = named_callable("network", network)()
        check_instance(f"network {network!r}", made, Subject)
        if data_set is not None and data_set != made.data_set:
            raise InputError(f"data_set must be {made.data_set!r} for network {network!r}, got {data_set!r}")
        result: Subject = made.part(images, calibration)
        return result
    from xbarsim.models import DATA_SETS, MODELS, load_images, load_model, load_test_set

    if network not in MODELS:
        fitting = one_of(
            network, MODELS, listed="xbarsim info networks", other="or 'module:function', or a path ending in '.onnx'"
        )
        raise InputError(f"network must be {fitting}")
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
    if images is not None:
        check_integer("images", images, at_least=1, at_most=MODELS[network].test_images)
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


def _from_file(path: Path, data_set: str | None, images: int | None, calibration: int | None) -> Subject:
    """An ONNX file with the images that are named beside it."""
    from xbarsim.data import DATA_SETS, load_images

    if data_set is None:
        raise InputError(
            f"data_set must be given for a network from a file, one of {', '.join(map(repr, DATA_SETS))} or the path "
            f"of an .npz file with {', '.join(_ARRAYS)}, got none for {path.name}"
        )
    if not path.is_file():
        raise InputError(f"network must name a file that there is, got {str(path)!r}")
    if data_set.endswith(".npz"):
        arrays = _read_images(Path(data_set))
        known = Path(data_set).stem
        if images is not None:
            check_integer("images", images, at_least=1, at_most=len(arrays["images"]))
        return Subject(
            name=path.stem,
            data_set=known,
            model=path,
            images=arrays["images"][:images],
            labels=arrays["labels"][:images],
            calibration=arrays["calibration"][:calibration],
        )
    pictures, labels = load_images(check_choice("data_set", data_set, DATA_SETS), "test", count=images)
    return Subject(
        name=path.stem,
        data_set=data_set,
        model=path,
        images=pictures,
        labels=labels,
        calibration=load_images(data_set, "train", count=calibration)[0],
    )


def _read_images(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file of images: read as data, never unpickled."""
    raw = read_bytes(path, "images")
    check_archive(raw, source=str(path))
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _ARRAYS if name in archive}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise FileFormatError(f"{path} must hold plain arrays of numbers, got {shown(error)}") from error
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise FileFormatError(f"{path} must hold {', '.join(_ARRAYS)}, got none called {', '.join(missing)}")
    return arrays
