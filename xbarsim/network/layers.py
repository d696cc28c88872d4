"""Layers of a quantised network: what the digital network computes, and the same on crossbars.

A layer turns activations into integer codes, multiplies them with integer weights, and scales the result back. Both
modules here share the first and last step; they differ in who multiplies: torch in float64 on the weight codes
(:class:`DigitalLayer`, independent of the mapping and of the engine), or the tiles of a die (:class:`CrossbarLayer`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.engine import kernels
from xbarsim.engine.plans import Plan
from xbarsim.validation import InputError

__all__ = ["CrossbarLayer", "DigitalLayer", "ImageCounter", "QuantisedLayer", "describe"]

_UNFOLDED_BYTES = 64 * 2**20  # unfolded feature maps held at a time; bounds memory, changes no result

Mappable = nn.Linear | nn.Conv1d | nn.Conv2d


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantisedLayer:
    """One linear or convolutional layer in integers.

    Parameters
    ----------
    name
        Its name in the model.
    kind
        ``"linear"``, ``"conv1d"`` or ``"conv2d"``.
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
    kernel, stride, dilation
        Of a convolution, as (height, width); (1, 1) for a linear layer.
    padding
        Left, right, top, bottom.
    padding_mode
        As torch's.
    groups
        Groups of a convolution.
    """

    name: str
    kind: str
    codes: npt.NDArray[np.integer[Any]]
    weight_scale: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float32]
    input_scale: float
    input_bits: int
    signed: bool
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    padding_mode: str = "zeros"
    groups: int = 1

    @property
    def code_range(self) -> tuple[int, int]:
        """Lowest and highest input code."""
        if self.signed:
            return -(2 ** (self.input_bits - 1) - 1), 2 ** (self.input_bits - 1) - 1
        return 0, 2**self.input_bits - 1

    def quantise_input(self, activations: Tensor) -> npt.NDArray[np.int32]:
        """Activations as input codes, same shape: nearest, halves up, clipped.

        Raises
        ------
        InputError
            If an activation is NaN or infinite.
        """
        values = np.ascontiguousarray(activations.detach().to("cpu", torch.float32).numpy())
        codes = np.empty(values.shape, np.int32)
        low, high = self.code_range
        finite = kernels.quantise(values.reshape(-1), 1.0 / self.input_scale, low, high, codes.reshape(-1))
        if not finite:
            raise InputError(f"inputs of layer {self.name!r} must be finite, got NaN or infinity")
        return codes

    def scale_output(self, product: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Integer products, outputs last, as activations."""
        return (product * (self.input_scale * self.weight_scale) + self.bias).astype(np.float32)

    def pad(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Input codes ``(images, channels, height, width)`` with the layer's padding around them."""
        left, right, top, bottom = self.padding
        if not any(self.padding):
            return codes
        if self.padding_mode == "zeros":
            return np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))
        mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[self.padding_mode]
        return np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)), mode=mode)  # type: ignore[call-overload,no-any-return]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Output height and width for padded feature maps of `height` by `width`."""
        return (
            (height - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.stride[0] + 1,
            (width - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.stride[1] + 1,
        )

    def unfold(self, padded: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Padded input codes as one row for each output position, shape ``(images, positions, inputs)``."""
        images, channels, height, width = padded.shape
        out_height, out_width = self.output_size(height, width)
        columns = np.empty((images, out_height, out_width, channels, *self.kernel), np.int32)
        kernels.im2col(padded, *self.kernel, self.stride, self.dilation, columns)
        return columns.reshape(images, out_height * out_width, -1)

    def weight_codes(self) -> Tensor:
        """Weight codes in torch's layout, float64."""
        codes = torch.from_numpy(self.codes.astype(np.float64))
        inputs, outputs = codes.shape
        if self.kind == "linear":
            return codes.T
        channels = inputs // (self.kernel[0] * self.kernel[1]) // self.groups
        blocks = codes.reshape(self.groups, -1, self.groups, outputs // self.groups)
        diagonal = torch.stack([blocks[g, :, g] for g in range(self.groups)])  # (groups, inputs, outputs of a group)
        return diagonal.transpose(1, 2).reshape(outputs, channels, *self.kernel)


def describe(name: str, layer: Mappable) -> dict[str, Any]:
    """Geometry of a torch layer and its weights as a matrix, ready for :class:`QuantisedLayer`.

    Returns
    -------
    dict
        ``matrix`` (inputs, outputs) float64, ``bias``, ``kind`` and the geometry.
    """
    weight = layer.weight.detach().to("cpu", torch.float64).numpy()
    outputs = weight.shape[0]
    bias = np.zeros(outputs, np.float32)
    if layer.bias is not None:
        bias = layer.bias.detach().to("cpu", torch.float32).numpy().copy()
    if not np.isfinite(bias).all():
        raise InputError(f"bias of layer {name!r} must be finite, got NaN or infinity")
    if isinstance(layer, nn.Linear):
        return {"kind": "linear", "matrix": weight.T, "bias": bias}
    one_dimensional = isinstance(layer, nn.Conv1d)

    def pair(value: tuple[int, ...], fill: int) -> tuple[int, int]:
        return (fill, int(value[0])) if one_dimensional else (int(value[0]), int(value[1]))

    kernel = pair(layer.kernel_size, 1)
    both = [int(p) for p in layer._reversed_padding_repeated_twice]  # right for padding="same" too
    padding = (both[0], both[1], 0, 0) if one_dimensional else (both[0], both[1], both[2], both[3])
    groups = layer.groups
    block = weight.reshape(groups, outputs // groups, -1)  # (groups, outputs, inputs) of a group
    matrix = np.zeros((groups, block.shape[2], groups, block.shape[1]))
    for g in range(groups):
        matrix[g, :, g] = block[g].T
    return {
        "kind": "conv1d" if one_dimensional else "conv2d",
        "matrix": matrix.reshape(groups * block.shape[2], outputs),
        "bias": bias,
        "kernel": kernel,
        "stride": pair(layer.stride, 1),
        "dilation": pair(layer.dilation, 1),
        "padding": padding,
        "padding_mode": layer.padding_mode,
        "groups": groups,
    }


class _Layer(nn.Module):
    """What both kinds of layer share: codes in, activations out."""

    def __init__(self, layer: QuantisedLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, activations: Tensor) -> Tensor:
        """Run the layer on float activations of torch's shape for it."""
        layer = self.layer
        channels_or_features = activations.shape[-1] if layer.kind == "linear" else activations.shape[1:2]
        codes = layer.quantise_input(activations)
        if layer.kind == "linear":
            if channels_or_features != layer.codes.shape[0]:
                raise InputError(
                    f"inputs of layer {layer.name!r} must have {layer.codes.shape[0]} features, got shape "
                    f"{tuple(activations.shape)}"
                )
            images = codes.reshape(codes.shape[0], -1, codes.shape[-1])
            product = self._multiply_linear(images)
            result = layer.scale_output(product).reshape(*activations.shape[:-1], -1)
            return torch.from_numpy(result).to(activations.device)
        dimensions = 3 if layer.kind == "conv1d" else 4
        channels = layer.codes.shape[0] // (layer.kernel[0] * layer.kernel[1])
        if activations.ndim != dimensions or activations.shape[1] != channels:
            raise InputError(
                f"inputs of layer {layer.name!r} must have {dimensions} dimensions with {channels} channels, got shape "
                f"{tuple(activations.shape)}"
            )
        maps = codes[:, :, None, :] if layer.kind == "conv1d" else codes
        padded = layer.pad(maps)
        height, width = layer.output_size(*padded.shape[2:])
        product = self._multiply_maps(padded, height, width)
        result = np.ascontiguousarray(layer.scale_output(product).transpose(0, 2, 1))
        shape = (len(codes), -1, width) if layer.kind == "conv1d" else (len(codes), -1, height, width)
        return torch.from_numpy(result.reshape(shape)).to(activations.device)

    def _multiply_linear(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        raise NotImplementedError

    def _multiply_maps(self, padded: npt.NDArray[np.int32], height: int, width: int) -> npt.NDArray[np.float64]:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The layer's name and size, for ``print(model)``."""
        inputs, outputs = self.layer.codes.shape
        return f"{self.layer.name}, {self.layer.kind}, {inputs} x {outputs}"


class DigitalLayer(_Layer):
    """The quantised digital network's layer: torch in float64 on the codes, exact.

    Parameters
    ----------
    layer
        The quantised layer.
    record
        Called with the layer and its (padded) input codes at each forward pass, or ``None``.
    """

    def __init__(
        self, layer: QuantisedLayer, record: Callable[[QuantisedLayer, npt.NDArray[np.int32]], None] | None = None
    ) -> None:
        super().__init__(layer)
        self.record = record
        self._weight = layer.weight_codes()  # not a buffer: a copy to float32 or to another device would not be exact

    def _multiply_linear(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        if self.record is not None:
            self.record(self.layer, codes)
        product = torch.nn.functional.linear(torch.from_numpy(codes).double(), self._weight)
        return product.numpy()

    def _multiply_maps(self, padded: npt.NDArray[np.int32], height: int, width: int) -> npt.NDArray[np.float64]:
        layer = self.layer
        if self.record is not None:
            self.record(layer, padded)
        product = torch.nn.functional.conv2d(
            torch.from_numpy(padded).double(), self._weight, stride=layer.stride, dilation=layer.dilation,
            groups=layer.groups,
        )
        return product.flatten(2).transpose(1, 2).numpy()


@dataclass
class ImageCounter:
    """Number of the first image of the batch a chip is running: what read noise is drawn by."""

    first_image: int = 0


class CrossbarLayer(_Layer):
    """A layer on the tiles of one die.

    Parameters
    ----------
    layer
        The quantised layer.
    plan
        The die's tiles, ready to multiply.
    counter
        Shared by all layers of a chip.
    """

    def __init__(self, layer: QuantisedLayer, plan: Plan, counter: ImageCounter) -> None:
        super().__init__(layer)
        self.plan = plan
        self._counter = counter

    def _multiply_linear(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        return self.plan.multiply(codes, first_image=self._counter.first_image)

    def _multiply_maps(self, padded: npt.NDArray[np.int32], height: int, width: int) -> npt.NDArray[np.float64]:
        inputs, outputs = self.layer.codes.shape
        product = np.empty((len(padded), height * width, outputs))
        images = max(1, _UNFOLDED_BYTES // (4 * inputs * height * width))
        for start in range(0, len(padded), images):
            codes = self.layer.unfold(padded[start : start + images])
            product[start : start + images] = self.plan.multiply(
                codes, first_image=self._counter.first_image + start
            )
        return product
