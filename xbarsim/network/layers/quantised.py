"""One layer of a network in integers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.engine import Scaling, Window, clipping_bounds, count_clipped, quantise_codes, unfold
from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import InputError, check_integer, check_real
from xbarsim.network.layers.base import LayerAdapter

__all__ = ["QuantisedLayer"]


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantisedLayer:
    """One layer in integers: from activations to input codes, and from integer products to activations.

    Parameters
    ----------
    name
        Its name in the model.
    adapter
        How its activations become feature maps, and back.
    codes
        Weight codes, shape ``(inputs, outputs)``; the inputs of a convolution are ordered channel, row, column, and
        groups stand on the diagonal.
    weight_scale
        Weight of one code, shape ``(outputs,)``.
    bias
        Added digitally, shape ``(outputs,)``.
    input_scale
        Activation of one input code.
    input_bits, signed
        Input codes lie in [-(2^(input_bits-1) - 1), 2^(input_bits-1) - 1] if signed, else in [0, 2^input_bits - 1].
    window
        How the inputs of each product are picked from feature maps.
    groups
        Groups of a convolution.
    output_names
        Names of equal blocks of outputs, in order; empty for none.
    divisors
        What each input channel (of a linear layer: each feature) is divided by before it becomes a code, its weights
        being as many times larger; shape ``(channels,)``, ``None`` for nothing.
    """

    name: str
    adapter: LayerAdapter
    codes: npt.NDArray[np.integer[Any]]
    weight_scale: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float32]
    input_scale: float
    input_bits: int
    signed: bool
    window: Window
    groups: int = 1
    output_names: tuple[str, ...] = ()
    divisors: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_real("input_scale", self.input_scale, above=0.0)
        check_integer("input_bits", self.input_bits, at_least=1, at_most=31)
        check_integer("groups", self.groups, at_least=1)

    @property
    def kind(self) -> str:
        """Name of its type of layer: ``"linear"``, ``"conv1d"``, ``"conv2d"`` or that of another adapter."""
        return self.adapter.kind

    @cached_property
    def scaling(self) -> Scaling:
        """How activations become codes, and products activations."""
        if self.signed:
            high = 2 ** (self.input_bits - 1) - 1
            low = -high
        else:
            low, high = 0, 2**self.input_bits - 1
        return Scaling(
            inverse_scale=1.0 / self.input_scale,
            low=low,
            high=high,
            scale=self.input_scale * self.weight_scale,
            bias=self.bias.astype(np.float64),
        )

    def as_maps(self, activations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Activations as feature maps ``(maps, channels, height, width)``, float32.

        Raises
        ------
        InputError
            If they do not have the layer's shape.
        """
        shape = tuple(activations.shape)
        self._check_fit(shape)
        maps = self.adapter.to_maps(np.asarray(activations, dtype=np.float32))
        self.check_shape(shape, maps.shape)
        if self.divisors is not None:
            maps = maps / (self.divisors if self.kind == "linear" else self.divisors[:, None, None])
        return np.ascontiguousarray(maps)

    def _check_fit(self, shape: tuple[int, ...]) -> None:
        if not self.adapter.fits(shape) or 0 in shape:
            raise InputError(
                f"inputs of layer {self.name!r} must be a batch with {self.adapter.wanted}, got shape {shape}"
            )

    def check_shape(self, shape: tuple[int, ...], maps: tuple[int, ...]) -> None:
        """Refuse activations of a shape that is not the layer's, or whose maps have one smaller than its kernel.

        Raises
        ------
        InputError
            If it is so.
        """
        self._check_fit(shape)
        if min(self.window.output_size(*maps[2:])) < 1:
            raise InputError(
                f"inputs of layer {self.name!r} must be at least as large as its kernel, got shape {shape}"
            )

    def quantise(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """Feature maps as input codes, same shape: nearest, halves up, clipped.

        Raises
        ------
        InputError
            If an activation is NaN or infinite.
        """
        scaling = self.scaling
        codes, finite = quantise_codes(maps, scaling.inverse_scale, scaling.low, scaling.high)
        if not finite:
            raise InputError(f"inputs of layer {self.name!r} must be finite, got NaN or infinity")
        return codes

    def unfold(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Input codes as one row for each output position, shape ``(maps, positions, inputs)``."""
        return unfold(codes, self.window)

    def group_codes(self) -> npt.NDArray[np.float64]:
        """Weight codes group by group, shape ``(groups, inputs of a group, outputs of a group)``."""
        inputs, outputs = self.codes.shape
        blocks = self.codes.astype(np.float64)
        blocks = blocks.reshape(self.groups, inputs // self.groups, self.groups, outputs // self.groups)
        return np.stack([np.ascontiguousarray(blocks[group, :, group]) for group in range(self.groups)])

    @cached_property
    def clipping_bounds(self) -> tuple[np.float32, np.float32]:
        """Where activations begin to lie beyond the codes, as :func:`xbarsim.engine.clipping_bounds`."""
        scaling = self.scaling
        return clipping_bounds(scaling.inverse_scale, scaling.low, scaling.high)

    def count_clipped(self, maps: npt.NDArray[np.float32]) -> int:
        """How many activations lie beyond the range of the codes: their nearest code is the end of it."""
        return count_clipped(maps, *self.clipping_bounds)
