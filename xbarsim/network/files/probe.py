"""A few samples and the digital network's answer: how a network that is loaded is known to be the one saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Network, Skeleton, check_fit

__all__ = ["answers", "are_alike", "choose_probe"]

Array = npt.NDArray[Any]

_FEW = 2  # samples that nearly always reach every layer
_BATCH = 64  # samples run at a time
_TOLERANCE = 1e-5  # relative to the largest of an answer; what another order of float32 sums may change


def choose_probe(skeleton: Skeleton, names: Collection[str], samples: Samples) -> Samples:
    """The first two samples, or as many as it takes to reach every layer.

    Parameters
    ----------
    skeleton
        The network.
    names
        Of the layers.
    samples
        Calibration samples, which reach them all.
    """
    for count in (_FEW, _BATCH):
        part = samples.part(0, count)
        try:
            if set(names) <= _reached(skeleton, part):
                return part
        except InputError:  # a network that takes no batch of this size
            continue
    return samples


def _reached(skeleton: Skeleton, samples: Samples) -> set[str]:
    names: set[str] = set()
    check_fit(
        lambda: skeleton.own().run(samples, watch=lambda name, inputs, outputs: names.add(name)),
        samples,
        name="calibration",
    )
    return names


def answers(network: Network, probe: Samples) -> list[Array]:
    """What a network gives for a probe, as arrays in the order in which they stand in its answer."""
    arrays: list[Array] = []
    for start in range(0, len(probe), _BATCH):
        arrays += _arrays(network.run(probe.part(start, start + _BATCH)))
    return arrays


def _arrays(answer: Any) -> list[Array]:
    """All arrays in the answer of a network."""
    if isinstance(answer, Mapping):
        return [array for value in answer.values() for array in _arrays(value)]
    if isinstance(answer, tuple | list):
        return [array for value in answer for array in _arrays(value)]
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return [array for value in vars(answer).values() for array in _arrays(value)]
    if hasattr(answer, "detach"):
        tensor = answer.detach().cpu()
        return [np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())]
    if isinstance(answer, np.ndarray | np.generic | bool | int | float):
        return [np.asarray(answer)]
    return []


def are_alike(one: list[Array], other: list[Array]) -> bool:
    """Whether answers are the same: integers exactly, floating numbers to the rounding of their sums."""
    if [(each.shape, each.dtype.kind) for each in one] != [(each.shape, each.dtype.kind) for each in other]:
        return False
    for wanted, given in zip(one, other, strict=True):
        if wanted.dtype.kind != "f":
            if not np.array_equal(wanted, given):
                return False
            continue
        finite = wanted[np.isfinite(wanted)]
        scale = float(np.abs(finite).max()) if finite.size else 0.0
        if not np.allclose(given, wanted, rtol=0.0, atol=_TOLERANCE * scale, equal_nan=True):
            return False
    return True
