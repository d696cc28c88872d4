"""Layers of a quantised network: what the digital network computes, and the same on crossbars.

A layer turns activations into integer codes, multiplies them with integer weights, and scales the result back. Both
modules here share the first and last step; they differ in who multiplies: torch in float64 on the weight codes
(:class:`DigitalLayer`, independent of the mapping and of the engine), or the tiles of a die (:class:`CrossbarLayer`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.engine import kernels
from xbarsim.engine.plans import Plan, Scaling, Window
from xbarsim.foundation.validation import InputError

__all__ = ["CrossbarLayer", "DigitalLayer", "ImageCounter", "QuantisedLayer", "describe"]

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
    window
        How inputs are picked from feature maps; the whole row for a linear layer.
    padding_mode
        As torch's; the padding of other modes than ``"zeros"`` stands in `edges`, not in the window.
    edges
        Left, right, top, bottom padding that `padding_mode` fills.
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
    window: Window
    padding_mode: str = "zeros"
    edges: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    @cached_property
    def scaling(self) -> Scaling:
        """Codes of activations, and activations of products."""
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

    @property
    def channels(self) -> int:
        """Channels of the feature maps (1 for a linear layer, whose features lie along the width)."""
        return int(self.codes.shape[0]) // (self.window.kernel[0] * self.window.kernel[1])

    def as_maps(self, activations: Tensor) -> npt.NDArray[np.float32]:
        """Activations as feature maps ``(images, channels, height, width)``, float32.

        Raises
        ------
        InputError
            If they do not have the layer's shape.
        """
        dimensions = {"linear": activations.ndim, "conv1d": 3, "conv2d": 4}[self.kind]
        shape = tuple(activations.shape)
        if self.kind == "linear":
            wanted, fits = (
                f"{self.codes.shape[0]} features",
                len(shape) >= 2 and shape[-1] == self.codes.shape[0],
            )
        else:
            wanted = f"{dimensions} dimensions and {self.channels} channels"
            fits = len(shape) == dimensions and shape[1] == self.channels
        if not fits or 0 in shape:
            raise InputError(f"inputs of layer {self.name!r} must be a batch with {wanted}, got shape {shape}")
        values = activations.detach().to("cpu", torch.float32)
        if self.kind == "linear":
            values = values.reshape(shape[0], 1, -1, shape[-1])
        elif self.kind == "conv1d":
            values = values[:, :, None, :]
        if any(self.edges):
            values = torch.nn.functional.pad(values, self.edges, mode=self.padding_mode)
        window = self.window
        if min(window.output_size(*values.shape[2:])) < 1:
            raise InputError(
                f"inputs of layer {self.name!r} must be at least as large as its kernel, got shape {shape}"
            )
        return np.ascontiguousarray(values.numpy())

    def quantise(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """Feature maps as input codes, same shape: nearest, halves up, clipped.

        Raises
        ------
        InputError
            If an activation is NaN or infinite.
        """
        codes = np.empty(maps.shape, np.int32)
        scaling = self.scaling
        finite = kernels.quantise(maps.reshape(-1), scaling.inverse_scale, scaling.low, scaling.high, codes.reshape(-1))
        if not finite:
            raise InputError(f"inputs of layer {self.name!r} must be finite, got NaN or infinity")
        return codes

    def unfold(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Input codes as one row for each output position, shape ``(images, positions, inputs)``."""
        left, right, top, bottom = self.window.padding
        padded = np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))
        height, width = self.window.output_size(*codes.shape[2:])
        columns = np.empty((len(codes), height, width, codes.shape[1], *self.window.kernel), np.int32)
        kernels.im2col(padded, *self.window.kernel, self.window.stride, self.window.dilation, columns)
        return columns.reshape(len(codes), height * width, -1)

    def weight_codes(self) -> Tensor:
        """Weight codes in the layout of torch's two-dimensional convolution, float64."""
        codes = torch.from_numpy(self.codes.astype(np.float64))
        inputs, outputs = codes.shape
        blocks = codes.reshape(self.groups, inputs // self.groups, self.groups, outputs // self.groups)
        diagonal = torch.stack([blocks[g, :, g] for g in range(self.groups)])  # (groups, inputs, outputs of a group)
        return diagonal.transpose(1, 2).reshape(outputs, -1, *self.window.kernel)


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
        return {
            "kind": "linear",
            "matrix": weight.T,
            "bias": bias,
            "window": Window(kernel=(1, weight.shape[1])),
        }
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
        "window": Window(
            kernel=kernel,
            stride=pair(layer.stride, 1),
            dilation=pair(layer.dilation, 1),
            padding=padding if layer.padding_mode == "zeros" else (0, 0, 0, 0),
        ),
        "padding_mode": layer.padding_mode,
        "edges": (0, 0, 0, 0) if layer.padding_mode == "zeros" else padding,
        "groups": groups,
    }


class _Layer(nn.Module):
    """What both kinds of layer share: activations as feature maps, and their shapes."""

    def __init__(self, layer: QuantisedLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, activations: Tensor) -> Tensor:
        """Run the layer on float activations of torch's shape for it.

        Raises
        ------
        InputError
            If they have another shape, or are not finite.
        """
        layer = self.layer
        result = self._run(layer.as_maps(activations))
        if layer.kind == "linear":
            shaped = result.transpose(0, 2, 3, 1).reshape(*activations.shape[:-1], -1)
        elif layer.kind == "conv1d":
            shaped = result[:, :, 0]
        else:
            shaped = result
        return torch.from_numpy(np.ascontiguousarray(shaped)).to(activations.device)

    def _run(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
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
        Called with the layer and its input codes (images, channels, height, width) at each forward pass, or ``None``.
    """

    def __init__(
        self,
        layer: QuantisedLayer,
        record: Callable[[QuantisedLayer, npt.NDArray[np.int32]], None] | None = None,
    ) -> None:
        super().__init__(layer)
        self.record = record
        self._weight = layer.weight_codes()  # not a buffer: a copy to float32 or to another device would not be exact

    def _run(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        layer = self.layer
        codes = layer.quantise(maps)
        if self.record is not None:
            self.record(layer, codes)
        left, right, top, bottom = layer.window.padding
        product = torch.nn.functional.conv2d(
            torch.nn.functional.pad(torch.from_numpy(codes).double(), (left, right, top, bottom)),
            self._weight,
            stride=layer.window.stride,
            dilation=layer.window.dilation,
            groups=layer.groups,
        ).numpy()
        scaling = layer.scaling
        scaled = product * scaling.scale[:, None, None] + scaling.bias[:, None, None]
        return np.asarray(scaled, dtype=np.float32)


@dataclass
class ImageCounter:
    """Which images a chip is running, and how often each layer has been used on them: what read noise is drawn by."""

    first_image: int = 0
    images: int = 1
    uses: dict[str, int] = field(default_factory=dict)

    def start(self, first_image: int, images: int) -> None:
        """Begin a batch."""
        self.first_image, self.images = first_image, images
        self.uses.clear()

    def first_of(self, layer: str, inputs: int) -> int:
        """Number of the first of a layer's inputs: another for each use, the same for an image in any batch."""
        use = self.uses.get(layer, 0)
        self.uses[layer] = use + 1
        # A model may fold a second dimension into that of the images: each image then has as many neighbours.
        each = inputs // self.images if inputs % self.images == 0 else 1
        return self.first_image * each + (use << 48)


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

    def _run(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        layer = self.layer
        result, finite = self.plan.run(
            maps, layer.window, layer.scaling, first_image=self._counter.first_of(layer.name, len(maps))
        )
        if not finite:
            raise InputError(f"inputs of layer {layer.name!r} must be finite, got NaN or infinity")
        return result


class ReferenceLayer(_Layer):
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

    def _run(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        layer = self.layer
        codes = layer.quantise(maps)
        height, width = layer.window.output_size(*codes.shape[2:])
        vectors = layer.unfold(codes)
        product = self._multiply(vectors.reshape(-1, vectors.shape[2]))
        scaled = product * layer.scaling.scale + layer.scaling.bias
        found = scaled.reshape(len(codes), height, width, -1).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(found, dtype=np.float32)
