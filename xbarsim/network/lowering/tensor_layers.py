"""Layers whose activations stay where they are: tensors in, tensors out, on the device of a torch backend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xbarsim.engine import Plan, TorchProgram
from xbarsim.foundation.validation import InputError
from xbarsim.network.layers import ClippedInputs, QuantisedLayer

__all__ = ["TensorLayer", "settle"]

_MOST_PLACES = 2**24  # of one sample's activations: places are found by float32 numbers


class _Rearrangement:
    """What an adapter does to the activations of one sample, as places in them: to be repeated on a device.

    Parameters
    ----------
    places
        For each number of the result, the place of that of the source; -1 for a zero.
    shape
        Of the result, without the dimension of the samples.
    source
        How many numbers the source has.
    device
        Where it is repeated.
    """

    def __init__(self, places: npt.NDArray[Any], shape: tuple[int, ...], source: int, device: torch.device) -> None:
        flat = np.rint(places.reshape(-1)).astype(np.int64)
        self._shape, self._zeros = shape, bool((flat < 0).any())
        self._places: Tensor | None = None
        if len(flat) != source or not np.array_equal(flat, np.arange(source)):
            self._places = torch.from_numpy(np.where(flat < 0, source, flat)).to(device)

    def __call__(self, values: Tensor, samples: int) -> Tensor:
        flat = values.reshape(samples, -1)
        if self._places is not None:
            if self._zeros:
                flat = torch.cat([flat, flat.new_zeros(samples, 1)], dim=1)
            flat = flat.index_select(1, self._places)
        return flat.reshape(-1, *self._shape)


class TensorLayer:
    """A layer on the tiles of one die, or of several dies of one network, whose activations are tensors.

    Parameters
    ----------
    layer
        The quantised layer.
    program
        Its tiles, ready to run on a device.
    plan
        That the program was made by; for several dies the plan of the first.

    Attributes
    ----------
    clipped : ClippedInputs
        Inputs so far, and how many of them lay beyond the calibrated range; those of all dies together.
    """

    def __init__(self, layer: QuantisedLayer, program: TorchProgram, plan: Plan | None = None) -> None:
        self.layer, self.program, self.plan = layer, program, plan
        self.clipped = ClippedInputs(clipped=0, inputs=0)
        self._waiting: list[tuple[int, Tensor]] = []
        self._ways: dict[tuple[int, ...], tuple[_Rearrangement, _Rearrangement]] = {}
        self._divisors: Tensor | None = None
        if layer.divisors is not None:
            divisors = layer.divisors if layer.kind == "linear" else layer.divisors[:, None, None]
            self._divisors = torch.from_numpy(np.ascontiguousarray(divisors)).to(program.device)

    def __call__(self, activations: Tensor) -> Tensor:
        """Run the layer on activations of its layout; what is wrong with their numbers is said by :func:`settle`.

        Raises
        ------
        InputError
            If they have another shape, or lie on another device.
        """
        layer, shape = self.layer, tuple(activations.shape)
        if activations.device != self.program.device:
            raise InputError(
                f"inputs of layer {layer.name!r} must be on {self.program.device}, as the die is, got some on "
                f"{activations.device}: the model may make tensors without saying where"
            )
        if shape not in self._ways:
            self._ways[shape] = self._find(shape)
        to_maps, from_maps = self._ways[shape]
        maps = to_maps(activations.to(torch.float32), shape[0])
        if self._divisors is not None:
            maps = maps / self._divisors
        self._count(maps)
        return from_maps(self.program.run_tensors(maps, layer.window, layer.scaling), shape[0])

    def _find(self, shape: tuple[int, ...]) -> tuple[_Rearrangement, _Rearrangement]:
        """What the adapter does to activations of this shape and to their results, sample by sample."""
        layer, device = self.layer, self.program.device
        one = (1, *shape[1:])
        each = math.prod(one)
        if each >= _MOST_PLACES:
            raise InputError(
                f"inputs of layer {layer.name!r} must have less than {_MOST_PLACES} numbers a sample on a device, "
                f"got {each}"
            )
        plain = np.arange(1, each + 1, dtype=np.float32).reshape(one)  # 0 is what the adapter fills up with
        checked = layer.as_maps(np.zeros(shape[:1] and one, np.float32))  # refuses what does not fit
        maps = layer.adapter.to_maps(plain)
        assert maps.shape == checked.shape
        held, (height, width) = layer.codes.shape[1], layer.window.output_size(*maps.shape[2:])
        results = np.arange(len(maps) * held * height * width, dtype=np.float32)
        turned = layer.adapter.from_maps(results.reshape(len(maps), held, height, width), one)
        return (
            _Rearrangement(maps - 1, tuple(maps.shape[1:]), each, device),
            _Rearrangement(turned, tuple(turned.shape[1:]), results.size, device),
        )

    def _count(self, maps: Tensor) -> None:
        below, above = self.layer.clipping_bounds
        outside = torch.count_nonzero((maps < float(below)) | (maps >= float(above)))
        self._waiting.append((maps.numel(), torch.stack([outside, torch.count_nonzero(~torch.isfinite(maps))])))

    def __repr__(self) -> str:
        inputs, outputs = self.layer.codes.shape
        return f"<TensorLayer {self.layer.name}, {self.layer.kind}, {inputs} x {outputs}, on {self.program.device}>"


def settle(layers: Mapping[str, Any]) -> None:
    """Count what layers on a device have seen; asked once a run, because each question waits for the device.

    Raises
    ------
    InputError
        If some inputs were not finite.
    """
    on_device: Iterable[TensorLayer] = [layer for layer in layers.values() if isinstance(layer, TensorLayer)]
    waiting = [(layer, *entry) for layer in on_device for entry in layer._waiting]
    if not waiting:
        return
    counted = torch.stack([numbers for _, _, numbers in waiting]).cpu().tolist()
    for layer in on_device:
        layer._waiting.clear()
    for (layer, _, _), (_, bad) in zip(waiting, counted, strict=True):
        if bad:
            raise InputError(f"inputs of layer {layer.layer.name!r} must be finite, got NaN or infinity")
    for (layer, inputs, _), (outside, _) in zip(waiting, counted, strict=True):
        before = layer.clipped
        layer.clipped = ClippedInputs(clipped=before.clipped + outside, inputs=before.inputs + inputs)
