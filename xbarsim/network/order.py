"""How the samples of a batch stand in the activations of each layer: what read noise must know to follow a sample."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError
from xbarsim.network.layers.base import LayerAdapter
from xbarsim.network.layers.running import SampleOrder
from xbarsim.network.placed import MappedLayer
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Skeleton, check_fit

__all__ = ["sample_orders"]

_SIZE = 3  # samples run together
_CHANGED = 1  # the one that is exchanged for another


def sample_orders(
    skeleton: Skeleton, layers: dict[str, MappedLayer], samples: Samples
) -> dict[str, SampleOrder] | None:
    """Whether each layer has its samples first or last, found by exchanging one sample of a batch for another.

    A network may put time first, or fold dimensions into that of the samples; which vectors of a layer come from which
    sample is seen by what changes with it.

    Parameters
    ----------
    skeleton
        The network.
    layers
        Its layers by name.
    samples
        Calibration samples.

    Returns
    -------
    dict or None
        By name; ``None`` where samples stand in no such order in some layer, or it cannot be told: then a network has
        to run sample by sample.
    """
    if len(samples) < 2 or _alike(samples.part(0, 1), samples.part(len(samples) - 1, len(samples))):
        return None
    last = len(samples) - 1
    before = _inputs(skeleton, samples.take(np.array([0] * _SIZE)))
    after = _inputs(skeleton, samples.take(np.array([last if index == _CHANGED else 0 for index in range(_SIZE)])))
    if before is None or after is None or before.keys() != after.keys():
        return None
    orders: dict[str, SampleOrder] = {}
    for name, mapped in layers.items():
        if name not in before or [a.shape for a in before[name]] != [a.shape for a in after[name]]:
            return None
        found = {
            _order(_vectors(one, mapped.layer.adapter), _vectors(other, mapped.layer.adapter))
            for one, other in zip(before[name], after[name], strict=True)
        }
        if len(found) != 1:
            return None
        order = found.pop()
        if order is None:
            return None
        orders[name] = order
    return orders


def _alike(one: Samples, other: Samples) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.arrays, other.arrays, strict=True))


def _inputs(skeleton: Skeleton, samples: Samples) -> dict[str, list[npt.NDArray[Any]]] | None:
    kept: dict[str, list[npt.NDArray[Any]]] = {}

    def watch(name: str, inputs: npt.NDArray[Any], outputs: npt.NDArray[Any]) -> None:
        kept.setdefault(name, []).append(inputs.copy())

    try:
        check_fit(partial(skeleton.run, samples, watch=watch), samples, name="calibration")
    except InputError:
        return None  # a network that takes no batch of three
    return kept


def _vectors(inputs: npt.NDArray[Any], adapter: LayerAdapter) -> npt.NDArray[Any]:
    """One row for each part of the activations that belongs to one sample: a vector, or a map."""
    if adapter.kind == "linear":
        return inputs.reshape(-1, inputs.shape[-1])
    return inputs.reshape(len(inputs), -1)


def _order(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> SampleOrder | None:
    if len(before) % _SIZE:
        return None
    changed = (before != after).any(axis=1)
    number = np.arange(len(before))
    if not changed[number // (len(before) // _SIZE) != _CHANGED].any():
        return "first"  # also where nothing changed
    return "last" if not changed[number % _SIZE != _CHANGED].any() else None
