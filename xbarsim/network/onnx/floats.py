"""Products with trained weights in floating point: the network as the file has it, and the oracle of its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xbarsim.foundation.validation import InputError
from xbarsim.network.onnx.operations.call import Array, Node, Shape
from xbarsim.network.onnx.operations.windows import Sliding

__all__ = ["Geometry", "float_product"]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How the windows of a convolution lie.

    Attributes
    ----------
    kernel, strides, dilations
        For each axis.
    pads
        Before and after each axis.
    more
        Added behind each axis of a transposed convolution's output.
    groups
        Groups of channels.
    """

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: tuple[tuple[int, int], ...]
    more: Shape
    groups: int

    @classmethod
    def of(cls, node: Node, weights: Array) -> Geometry:
        """The geometry that a node's attributes and kernels give.

        Raises
        ------
        InputError
            If they contradict each other.
        """
        kernel = tuple(weights.shape[2:])
        axes, given = len(kernel), node.attributes
        pads = tuple(given.get("pads", (0,) * 2 * axes))
        geometry = cls(
            kernel=kernel,
            strides=tuple(given.get("strides", (1,) * axes)),
            dilations=tuple(given.get("dilations", (1,) * axes)),
            pads=tuple(zip(pads[:axes], pads[axes:], strict=False)),
            more=tuple(given.get("output_padding", (0,) * axes)),
            groups=int(given.get("group", 1)),
        )
        fits = all(len(each) == axes for each in (geometry.strides, geometry.dilations, geometry.pads, geometry.more))
        shape = tuple(given.get("kernel_shape", kernel))
        if not fits or shape != kernel or axes not in (1, 2, 3) or min(*kernel, *geometry.strides, 1) < 1:
            raise InputError(f"{node} must have attributes that fit kernels of shape {kernel}, got {given}")
        if geometry.groups < 1 or weights.shape[0] % geometry.groups:
            raise InputError(f"{node} must have groups that divide {weights.shape[0]}, got {geometry.groups}")
        return geometry


def float_product(node: Node, x: Array, weights: Array, bias: Array | None) -> Array:
    """The product of a node in the type of its activations.

    Parameters
    ----------
    node
        ``Linear``, ``Convolution`` or ``TransposedConvolution``.
    x
        Activations.
    weights, bias
        As the node's inputs.
    """
    if node.op == "Linear":
        result = np.asarray(x @ weights)
        return result if bias is None else result + bias
    geometry = Geometry.of(node, weights)
    channels = geometry.groups * weights.shape[1] if node.op == "Convolution" else weights.shape[0]
    if x.ndim != weights.ndim or x.shape[1] != channels:
        raise InputError(f"{node} must have inputs of {weights.ndim} dimensions and {channels} channels, got {x.shape}")
    multiply = _convolution if node.op == "Convolution" else _transposed
    result = multiply(x, weights, geometry)
    return result if bias is None else result + bias.reshape(1, -1, *(1,) * len(geometry.kernel))


def _convolution(x: Array, weights: Array, geometry: Geometry) -> Array:
    outputs = tuple(
        (size + before + after - dilation * (k - 1) - 1) // stride + 1
        for size, (before, after), dilation, k, stride in zip(
            x.shape[2:], geometry.pads, geometry.dilations, geometry.kernel, geometry.strides, strict=True
        )
    )
    if min(outputs) < 1:
        raise InputError(f"maps must be at least as large as the kernel {geometry.kernel}, got shape {x.shape}")
    sliding = Sliding(
        kernel=geometry.kernel,
        strides=geometry.strides,
        dilations=geometry.dilations,
        pads=geometry.pads,
        outputs=outputs,
        beyond=(0,) * len(outputs),
    )
    groups = geometry.groups
    kernels = weights.reshape(groups, -1, *weights.shape[1:])  # (groups, outputs, channels of a group, ...)
    result = np.zeros((len(x), groups, kernels.shape[1], int(np.prod(outputs))), x.dtype)
    places = np.ndindex(*geometry.kernel)
    for place, seen in zip(places, sliding.places(sliding.padded(x, 0)), strict=True):
        part = seen.reshape(len(x), groups, weights.shape[1], -1)
        result += kernels[(slice(None), slice(None), slice(None), *place)] @ part
    return result.reshape(len(x), -1, *outputs)


def _transposed(x: Array, weights: Array, geometry: Geometry) -> Array:
    whole = tuple(
        (size - 1) * stride + dilation * (k - 1) + 1 + more
        for size, stride, dilation, k, more in zip(
            x.shape[2:], geometry.strides, geometry.dilations, geometry.kernel, geometry.more, strict=True
        )
    )
    groups = geometry.groups
    kernels = weights.reshape(groups, -1, *weights.shape[1:])  # (groups, channels of a group, outputs, ...)
    result = np.zeros((len(x), groups * weights.shape[1], *whole), x.dtype)
    flat = x.reshape(len(x), groups, -1, int(np.prod(x.shape[2:])))
    for place in np.ndindex(*geometry.kernel):
        part = np.swapaxes(kernels[(slice(None), slice(None), slice(None), *place)], 1, 2) @ flat
        target: Any = [slice(None), slice(None)]
        for at, dilation, size, stride in zip(place, geometry.dilations, x.shape[2:], geometry.strides, strict=True):
            target.append(slice(at * dilation, at * dilation + (size - 1) * stride + 1, stride))
        result[tuple(target)] += part.reshape(len(x), -1, *x.shape[2:])
    cut: Any = [slice(before, size - after) for size, (before, after) in zip(whole, geometry.pads, strict=True)]
    return result[(..., *cut)]
