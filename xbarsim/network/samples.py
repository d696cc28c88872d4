"""What a network is called with: a batch of samples, whatever it was given as."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError, as_array, check_memory, check_tensor, shown

__all__ = ["Samples", "joined", "labelled_samples", "per_sample", "plain_array"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """A batch of samples as arrays.

    Attributes
    ----------
    arguments
        Positional inputs of the network, samples in the first dimension: float32, int64 or boolean.
    keywords
        Inputs that it takes by name.
    """

    arguments: tuple[Array, ...] = ()
    keywords: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any, *, name: str = "images") -> Samples:
        """The samples in what a user gives.

        Parameters
        ----------
        value
            An array or tensor; a tuple of these (several inputs) or a dictionary (inputs by name); or a data set or
            data loader, whose labels are left out.
        name
            For messages.

        Raises
        ------
        InputError
            If there is no sample; if an input is neither floating nor an integer, not finite, or has another number of
            samples than the others.
        """
        if isinstance(value, Samples):
            return value
        if _is_array(value):
            return cls.call((value,), {}, name=name)
        if isinstance(value, tuple):
            return cls.call(value, {}, name=name)
        if isinstance(value, Mapping):
            return cls.call((), value, name=name)
        if isinstance(value, str | bytes) or value is None:
            raise InputError(f"{name} must be an array, tensor, data set or data loader, got {shown(value)}")
        if isinstance(value, list) and not (value and isinstance(value[0], tuple | Mapping)):
            return cls.call((value,), {}, name=name)
        samples, _ = labelled_samples(value, name=name)
        return samples

    @classmethod
    def call(cls, arguments: tuple[Any, ...], keywords: Mapping[str, Any], *, name: str = "images") -> Samples:
        """The samples that a network is called with; as :meth:`of`."""
        if not arguments and not keywords:
            raise InputError(f"{name} must hold at least one input, got none")
        given = {str(index) if index else "": value for index, value in enumerate(arguments)} | dict(keywords)
        alone = len(given) == 1
        arrays = {key: _as_array(f"{name}[{key}]" if key else name, value, alone=alone) for key, value in given.items()}
        counts = {len(array) for array in arrays.values()}
        if len(counts) > 1:
            sizes = ", ".join(str(array.shape) for array in arrays.values())
            raise InputError(f"{name} must have as many samples in every input, got shapes {sizes}")
        kept = list(arrays.values())
        return cls(
            arguments=tuple(kept[: len(arguments)]), keywords=dict(zip(keywords, kept[len(arguments) :], strict=True))
        )

    @property
    def arrays(self) -> tuple[Array, ...]:
        """All inputs."""
        return (*self.arguments, *self.keywords.values())

    def __len__(self) -> int:
        return len(self.arrays[0])

    def part(self, start: int, stop: int) -> Samples:
        """Samples `start` to `stop`."""
        return Samples(
            arguments=tuple(array[start:stop] for array in self.arguments),
            keywords={key: array[start:stop] for key, array in self.keywords.items()},
        )

    def take(self, indices: Any) -> Samples:
        """The samples of these numbers."""
        return Samples(
            arguments=tuple(array[indices] for array in self.arguments),
            keywords={key: array[indices] for key, array in self.keywords.items()},
        )

    @property
    def digest(self) -> str:
        """SHA-256 of all inputs."""
        digest = hashlib.sha256()
        for name, array in (*(("", array) for array in self.arguments), *self.keywords.items()):
            digest.update(repr((name, array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample's first input."""
        return tuple(int(size) for size in self.arrays[0].shape[1:])

    @property
    def shapes(self) -> str:
        """Shapes of one sample, for messages."""
        return ", ".join(str(tuple(array.shape[1:])) for array in self.arrays)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (hasattr(value, "detach") and hasattr(value, "numpy"))


def _as_array(name: str, value: Any, *, alone: bool) -> Array:
    """An input as a float32, int64 or boolean array, samples first; one number a sample only beside other inputs."""
    array = plain_array(name, value)
    floating = array.dtype.kind == "f"
    if array.ndim < (2 if floating and alone else 1) or 0 in array.shape:
        raise InputError(f"{name} must be a non-empty batch, images first, got shape {tuple(array.shape)}")
    if array.dtype.kind == "i" and array.dtype.itemsize >= 4:
        return array.astype(np.int64, copy=False)
    if array.dtype.kind == "b" and not alone:  # a mask
        return array
    if not floating:
        raise InputError(
            f"{name} must be floating numbers, scaled as the model was trained, or int32 or int64 indices, "
            f"got {array.dtype}"
        )
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{name} must be finite, got NaN or infinity")
    return array


def plain_array(name: str, value: Any) -> Array:
    """An array or a tensor of real numbers as an array of this machine's byte order.

    A tensor may lie on any device, require a gradient, or be of a type shorter than float16, which becomes float32.

    Parameters
    ----------
    name
        For messages.
    value
        An array, numbers in sequences, or a tensor.

    Raises
    ------
    InputError
        As :func:`xbarsim.foundation.validation.as_array`, for complex numbers, and for a tensor that is not dense.
    """
    if hasattr(value, "detach") and hasattr(value, "is_floating_point"):  # a tensor, without importing torch
        check_tensor(name, value)
        # before any conversion, which would write out what one number stands for many times
        check_memory(name, f"a tensor of shape {tuple(value.shape)}", 8 * value.numel())
        kept = value.detach().cpu().resolve_neg()
        short = kept.is_floating_point() and kept.dtype.itemsize <= 2 and str(kept.dtype) != "torch.float16"
        value = kept.float() if short else kept
    array = as_array(name, value)
    if array.dtype.kind == "c":
        raise InputError(f"{name} must be real numbers, got type {array.dtype}")
    return array


_LABELS = ("labels", "label")  # names of labels among inputs by name


def _sample_and_label(item: Any) -> tuple[Any, Any]:
    """What a data set or loader gives: (sample, label), inputs and label by name, or a sample alone."""
    if isinstance(item, Mapping):
        label = next((item[key] for key in _LABELS if key in item), None)
        return {key: value for key, value in item.items() if key not in _LABELS}, label
    if isinstance(item, tuple | list):
        if len(item) == 1:
            return item[0], None
        if len(item) == 2:
            return item[0], item[1]
        return tuple(item[:-1]), item[-1]
    return item, None


def labelled_samples(source: Any, *, name: str = "images") -> tuple[Samples, Array | None]:
    """All samples of a data set or data loader, and their labels.

    Parameters
    ----------
    source
        A data set (``len`` and ``[index]``, or a torch ``IterableDataset``; one sample an item) or an iterable of
        batches, such as a torch ``DataLoader``. Items are ``(input, label)``, ``(first input, second input, ...,
        label)``, the input alone, or a dictionary of inputs by name, in which ``"labels"`` or ``"label"`` is the label;
        the input of a pair may be a tuple or a dictionary.
    name
        For messages.

    Returns
    -------
    Samples
        All of them.
    ndarray or None
        Labels, samples first; ``None`` where there are none.

    Raises
    ------
    InputError
        As :meth:`Samples.of`, or if it is none of these.
    """
    single = any(base.__name__ == "IterableDataset" for base in type(source).__mro__)  # without importing torch
    indexed = hasattr(source, "__getitem__") and hasattr(source, "__len__") and not single
    if not indexed and not isinstance(source, Iterable):
        raise InputError(f"{name} must be an array, tensor, data set or data loader, got {type(source).__name__}")
    items: Iterable[Any] = (source[index] for index in range(len(source))) if indexed else source
    inputs: list[Any] = []
    labels: list[Any] = []
    held = 0
    for item in items:
        sample, label = _sample_and_label(item)
        if not inputs and indexed:  # before all of them are read
            check_memory(name, f"{len(source)} samples", len(source) * _bytes(name, sample))
        held = check_memory(name, f"{len(inputs) + 1} items so far", held + _bytes(name, sample))
        inputs.append(sample)
        labels.append(label)
    if not inputs:
        raise InputError(f"{name} must hold at least one sample, got none")
    join = _stack if indexed or single else _concatenate
    first = inputs[0]
    if isinstance(first, Mapping):
        joined: Any = {key: join([each[key] for each in inputs], name) for key in first}
    elif isinstance(first, tuple):
        joined = tuple(join([each[index] for each in inputs], name) for index in range(len(first)))
    else:
        joined = join(inputs, name)
    known = [label for label in labels if label is not None]
    return Samples.of(joined, name=name), join(known, "labels") if len(known) == len(labels) else None


def _bytes(name: str, sample: Any) -> int:
    """Bytes of the arrays of a sample or a batch."""
    parts = sample.values() if isinstance(sample, Mapping) else sample if isinstance(sample, tuple) else (sample,)
    return sum(plain_array(name, part).nbytes for part in parts)


def _stack(values: list[Any], name: str) -> Array:
    return _join(np.stack, values, name)


def _concatenate(values: list[Any], name: str) -> Array:
    return _join(np.concatenate, values, name)


def _join(join: Any, values: list[Any], name: str) -> Array:
    try:
        array: Array = join([plain_array(name, value) for value in values])
    except ValueError as error:
        raise InputError(f"{name} must be alike in shape, got {error}") from error
    return array


def per_sample(count: float, samples: int) -> float:
    """A count of several samples for one of them; an integer where it is one."""
    return count / samples if count % samples else count // samples


def joined(parts: list[Any]) -> Any:
    """Outputs of single samples as those of a batch."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple | list):
        return type(first)(joined([part[index] for part in parts]) for index in range(len(first)))
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    import torch

    return torch.cat(parts)
