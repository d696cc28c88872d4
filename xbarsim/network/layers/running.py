"""Layers that run: the digital network's, a die's, and the reference engine's.

A layer turns activations into integer codes, multiplies them with integer weights, and scales the result back. All
layers here share the first and the last step; they differ in who multiplies: NumPy in float64 on the weight codes
(:class:`DigitalLayer`, independent of the mapping and of the engine), the tiles of a die (:class:`CrossbarLayer`), or
the reference engine (:class:`ReferenceLayer`).
"""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.die import DieLayer
from xbarsim.engine import BlockedMaps, Plan, Scaling, reference_multiply
from xbarsim.foundation.validation import InputError
from xbarsim.network.layers.conv2d import Conv2dAdapter
from xbarsim.network.layers.quantised import QuantisedLayer

__all__ = [
    "MOST_SAMPLES",
    "ClippedInputs",
    "CrossbarLayer",
    "DigitalLayer",
    "NetworkLayer",
    "ReferenceLayer",
    "SampleCounter",
]

MOST_SAMPLES = 2**40
"""The highest number of a sample: 256 of its maps fit below the bits that tell uses of a layer apart in read noise."""

_FEW_PLACES = 16  # outputs of a map
_WINDOW_BYTES = 2**26  # of input windows that the digital network unfolds at a time

Maps = npt.NDArray[np.float32]


class NetworkLayer(metaclass=ABCMeta):
    """What all layers that run share: activations become feature maps, and results activations.

    Parameters
    ----------
    layer
        The quantised layer.
    """

    def __init__(self, layer: QuantisedLayer) -> None:
        self.layer = layer

    def __call__(self, activations: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run the layer on float activations of its layout.

        Raises
        ------
        InputError
            If they have another shape, or are not finite.
        """
        layer = self.layer
        results = layer.adapter.from_maps(self.run(layer.as_maps(activations)), tuple(activations.shape))
        return np.ascontiguousarray(results)

    @abstractmethod
    def run(self, maps: Maps) -> Maps:
        """From feature maps ``(maps, channels, height, width)`` to results ``(maps, outputs, height, width)``."""

    def __repr__(self) -> str:
        inputs, outputs = self.layer.codes.shape
        return f"<{type(self).__name__} {self.layer.name}, {self.layer.kind}, {inputs} x {outputs}>"


class DigitalLayer(NetworkLayer):
    """The quantised digital network's layer: float64 on the codes, exact.

    Parameters
    ----------
    layer
        The quantised layer.
    record
        Called with the layer and its input codes (maps, channels, height, width) at each use, or ``None``.
    """

    def __init__(
        self,
        layer: QuantisedLayer,
        record: Callable[[QuantisedLayer, npt.NDArray[np.int32]], None] | None = None,
    ) -> None:
        super().__init__(layer)
        self.record = record

    @cached_property
    def _weight(self) -> npt.NDArray[Any]:
        """Codes of the weights, made when they are first multiplied: a network that is only mapped needs none."""
        weight, scaling = self.layer.group_codes(), self.layer.scaling
        largest = max(abs(scaling.low), abs(scaling.high)) * np.abs(weight).sum(axis=1).max(initial=0.0)
        # float32 holds every sum of whole numbers exactly that stays below 2^24
        return weight.astype(np.float32) if largest < 2.0**24 else weight

    def run(self, maps: Maps) -> Maps:
        """From feature maps to results, as :meth:`NetworkLayer.run`."""
        layer = self.layer
        codes = layer.quantise(maps)
        if self.record is not None:
            self.record(layer, codes)
        height, width = layer.window.output_size(*codes.shape[2:])
        results = np.empty((len(codes), layer.codes.shape[1], height, width), np.float32)
        each = 8 * height * width * layer.codes.shape[0]
        step = max(1, _WINDOW_BYTES // each)
        for start in range(0, len(codes), step):
            results[start : start + step] = self._multiply(codes[start : start + step], height, width)
        return results

    def _multiply(self, codes: npt.NDArray[np.int32], height: int, width: int) -> npt.NDArray[np.float64]:
        """Products of every window: sums of integers, so that no order of them matters."""
        # A product for each place of a kernel must be one of many numbers: not of a vector, one place a feature.
        few = self.layer.kind == "linear" or height * width < _FEW_PLACES
        product = self._by_windows(codes) if few else self._by_places(codes, height, width)
        product = product.reshape(len(codes), -1, height, width)
        scaling = self.layer.scaling
        scaled: npt.NDArray[np.float64] = product * scaling.scale[:, None, None] + scaling.bias[:, None, None]
        return scaled

    def _by_windows(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
        """One product of all windows of the kernel, unfolded; (maps, groups, outputs of a group, positions)."""
        vectors = self.layer.unfold(codes).astype(self._weight.dtype)
        maps, positions, _ = vectors.shape
        groups, inputs, outputs = self._weight.shape
        grouped = vectors.reshape(maps * positions, groups, inputs).transpose(1, 0, 2)
        product: npt.NDArray[Any] = grouped @ self._weight
        return product.reshape(groups, maps, positions, outputs).transpose(1, 0, 3, 2)

    def _by_places(self, codes: npt.NDArray[np.int32], height: int, width: int) -> npt.NDArray[Any]:
        """The sum over the places of a kernel, of what each takes of the maps: rows stay as they lie."""
        window, groups = self.layer.window, self.layer.groups
        left, right, top, bottom = window.padding
        padded = np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right))).astype(self._weight.dtype)
        rows, columns = window.kernel
        maps, channels = padded.shape[:2]
        outputs = self._weight.shape[2]
        weight = self._weight.reshape(groups, channels // groups, rows, columns, outputs)
        total = np.zeros((maps, groups, outputs, height * width), padded.dtype)
        for row, column in np.ndindex(rows, columns):
            down, across = row * window.dilation[0], column * window.dilation[1]
            seen = padded[
                :,
                :,
                down : down + (height - 1) * window.stride[0] + 1 : window.stride[0],
                across : across + (width - 1) * window.stride[1] + 1 : window.stride[1],
            ]
            part = np.ascontiguousarray(seen).reshape(maps, groups, channels // groups, height * width)
            total += weight[:, :, row, column].transpose(0, 2, 1) @ part
        return total


@dataclass(frozen=True, kw_only=True)
class ClippedInputs:
    """Inputs beyond the calibrated range: they are driven as its end.

    Attributes
    ----------
    clipped, inputs
        How many were clipped, of how many.
    """

    clipped: int
    inputs: int

    @property
    def share(self) -> float:
        """The share that was clipped; 0 where there were no inputs."""
        return self.clipped / self.inputs if self.inputs else 0.0


@dataclass
class SampleCounter:
    """Which samples a chip is running, and how often each layer has been used on them: what read noise is drawn by."""

    first_sample: int = 0
    samples: int = 1
    uses: dict[str, int] = field(default_factory=dict)

    def start(self, first_sample: int, samples: int) -> None:
        """Begin a batch."""
        self.first_sample, self.samples = first_sample, samples
        self.uses.clear()

    def first_of(self, layer: str, maps: int) -> int:
        """Number of the first of a layer's feature maps: another for each use, the same for a sample in any batch."""
        use = self.uses.get(layer, 0)
        self.uses[layer] = use + 1
        # A model may fold a second dimension into that of the samples: each sample then makes as many maps.
        each = maps // self.samples if maps % self.samples == 0 else 1
        return self.first_sample * each + (use << 48)


SampleOrder = Literal["first", "last"]
"""Whether all vectors of one sample stand together in a layer's activations (first), or one of each sample (last)."""


class CrossbarLayer(NetworkLayer):
    """A layer on the tiles of one die.

    Parameters
    ----------
    layer
        The quantised layer.
    plan
        The die's tiles, ready to multiply.
    counter
        Shared by all layers of a chip.
    order
        How the samples of a batch stand in the layer's activations; it matters to read noise alone.
    die
        Where something becomes of the sums of the tiles digitally, the layer of the die that says what.

    Attributes
    ----------
    clipped : ClippedInputs
        Inputs so far, and how many of them lay beyond the calibrated range.
    """

    def __init__(
        self,
        layer: QuantisedLayer,
        plan: Plan,
        counter: SampleCounter,
        *,
        order: SampleOrder = "first",
        die: DieLayer | None = None,
    ) -> None:
        super().__init__(layer)
        self.plan = plan
        self._die = die
        self.clipped = ClippedInputs(clipped=0, inputs=0)
        self._counter = counter
        self._order = order

    def run(self, maps: Maps) -> Maps:
        """From feature maps to results, as :meth:`NetworkLayer.run`."""
        if self._order == "last":
            return self._run_turned(maps)
        return self._run(maps)

    def _run(self, maps: Maps) -> Maps:
        layer = self.layer
        first_image = self._counter.first_of(layer.name, len(maps))
        scaling = layer.scaling if self._die is None else self._plain_scaling(self._die)
        results, finite = self.plan.run(maps, layer.window, scaling, first_image=first_image)
        self._check_and_count(maps, finite)
        return results if self._die is None else self._completed(self._die, maps, results)

    @property
    def blocks(self) -> bool:
        """Whether it takes and gives feature maps with 16 images side by side (:meth:`run_blocked`)."""
        plain = self.layer.divisors is None and self._die is None and self._order == "first"
        return plain and isinstance(self.layer.adapter, Conv2dAdapter) and self.plan.blocks

    def run_blocked(self, maps: Maps | BlockedMaps) -> BlockedMaps:
        """As calling it, with the answer in blocks; the same numbers. Only where it :attr:`blocks`.

        Raises
        ------
        InputError
            If the maps have another shape than those of the layer, or are not finite.
        """
        layer = self.layer
        if isinstance(maps, BlockedMaps):
            layer.check_shape(maps.shape, maps.shape)
        else:
            maps = layer.as_maps(maps)
        first_image = self._counter.first_of(layer.name, maps.shape[0])
        results, finite = self.plan.run_blocked(maps, layer.window, layer.scaling, first_image=first_image)
        self._check_and_count(maps, finite)
        return results

    def _check_and_count(self, maps: Maps | BlockedMaps, finite: bool) -> None:
        """Refuse inputs that are not finite, and count those that were clipped."""
        layer = self.layer
        if not finite:
            raise InputError(f"inputs of layer {layer.name!r} must be finite, got NaN or infinity")
        if isinstance(maps, BlockedMaps):
            clipped = maps.count_outside(*layer.clipping_bounds)
        else:
            clipped = layer.count_clipped(maps)
        self.clipped = ClippedInputs(
            clipped=self.clipped.clipped + clipped, inputs=self.clipped.inputs + math.prod(maps.shape)
        )

    def _plain_scaling(self, die: DieLayer) -> Scaling:
        """That of the inputs alone: results are products of codes, of all copies of the layer."""
        outputs = die.matrix.shape[1]
        return replace(self.layer.scaling, scale=np.ones(outputs), bias=np.zeros(outputs))

    def _completed(self, die: DieLayer, maps: Maps, results: Maps) -> Maps:
        """What the digital part makes of the sums of the tiles."""
        layer, (_, held, height, width) = self.layer, results.shape
        completed = np.empty((len(maps), len(layer.weight_scale), height, width), np.float32)
        step = max(1, _WINDOW_BYTES // (8 * height * width * layer.codes.shape[0]))
        for start in range(0, len(maps), step):
            part = slice(start, start + step)
            codes = layer.unfold(layer.quantise(maps[part]))
            sums = results[part].transpose(0, 2, 3, 1).reshape(-1, held).astype(np.float64)
            products = die.complete(sums, codes.reshape(len(sums), -1))
            scaled = products * layer.scaling.scale + layer.scaling.bias
            completed[part] = scaled.reshape(-1, height, width, scaled.shape[1]).transpose(0, 3, 1, 2)
        return completed

    def _run_turned(self, maps: Maps) -> Maps:
        """Put the samples first, run, and turn the results back."""
        rows, samples = maps.shape[2], self._counter.samples
        vectors = self.layer.kind == "linear"  # a map's rows are vectors of their own
        flat = maps.reshape(-1, 1, 1, maps.shape[3]) if vectors else maps
        turned = flat.reshape(-1, samples, *flat.shape[1:]).swapaxes(0, 1).reshape(flat.shape)
        results = self._run(np.ascontiguousarray(turned))
        back = results.reshape(samples, -1, *results.shape[1:]).swapaxes(0, 1).reshape(results.shape)
        if vectors:
            back = back.reshape(len(maps), rows, -1).swapaxes(1, 2)[..., None]
        return np.ascontiguousarray(back)


class ReferenceLayer(NetworkLayer):
    """A layer on the tiles of one die, by the reference engine: slow, and what every plan must equal.

    Parameters
    ----------
    layer
        The quantised layer.
    multiply
        From input codes (vectors, inputs) to products (vectors, outputs).
    """

    def __init__(
        self, layer: QuantisedLayer, multiply: Callable[[npt.NDArray[np.int32]], npt.NDArray[np.float64]]
    ) -> None:
        super().__init__(layer)
        self._multiply = multiply

    @classmethod
    def of(cls, layer: QuantisedLayer, die: DieLayer) -> ReferenceLayer:
        """A layer of a die, read by read."""
        cells, errors = die.seen()

        def product(codes: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
            products = reference_multiply(codes, die.reading, cells, die.drive, die.converter, errors=errors)
            return die.complete(products, codes)

        return cls(layer, product)

    def run(self, maps: Maps) -> Maps:
        """From feature maps to results, as :meth:`NetworkLayer.run`."""
        layer = self.layer
        codes = layer.quantise(maps)
        height, width = layer.window.output_size(*codes.shape[2:])
        vectors = layer.unfold(codes)
        product = self._multiply(vectors.reshape(-1, vectors.shape[2]))
        scaled = product * layer.scaling.scale + layer.scaling.bias
        results = scaled.reshape(len(codes), height, width, -1).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(results, dtype=np.float32)
