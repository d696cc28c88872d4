"""Padding of windows that slide over maps, of any number of dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xbarsim.network.onnx.operations.call import Array, Call, Node, Shape

__all__ = ["Sliding", "same_padding", "same_pads"]


def same_pads(node: Node, sizes: Shape, kernel: Shape, strides: Shape, dilations: Shape) -> list[tuple[int, int]]:
    """Padding before and after each axis that makes ``ceil(size / stride)`` outputs, as `auto_pad` asks for.

    An odd one goes after for ``SAME_UPPER`` and before for ``SAME_LOWER``.
    """
    lower = node.attributes.get("auto_pad") == "SAME_LOWER"
    pads = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        pads.append((large, small) if lower else (small, large))
    return pads


def same_padding(call: Call) -> Array:
    """Maps with zeros around them as `auto_pad` asks for: what stands before a convolution that pads by size."""
    x, node = call[0], call.node
    kernel, strides, dilations = (node.attributes[name] for name in ("kernel_shape", "strides", "dilations"))
    return np.pad(x, [(0, 0), (0, 0), *same_pads(node, x.shape[2:], kernel, strides, dilations)])


@dataclass(frozen=True, kw_only=True)
class Sliding:
    """Windows over the axes of a map behind samples and channels.

    Attributes
    ----------
    kernel, strides, dilations
        For each axis.
    pads
        Before and after each axis, as the node asks for.
    outputs
        Windows along each axis.
    beyond
        More padding after each axis, where the last window does not fit (`ceil_mode`).
    """

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: tuple[tuple[int, int], ...]
    outputs: Shape
    beyond: Shape

    @classmethod
    def of(cls, call: Call) -> Sliding:
        """The windows of a pooling node."""
        node, sizes = call.node, call[0].shape[2:]
        kernel = tuple(call.attribute("kernel_shape") or ())
        axes = len(kernel)
        if axes != len(sizes) or not axes:
            raise call.refuse(f"kernel_shape must have {len(sizes)} numbers", kernel)
        strides = tuple(call.attribute("strides", (1,) * axes))
        dilations = tuple(call.attribute("dilations", (1,) * axes))
        automatic = call.attribute("auto_pad", "NOTSET")
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            pads = same_pads(node, sizes, kernel, strides, dilations)
        elif automatic == "VALID":
            pads = [(0, 0)] * axes
        else:
            given = tuple(call.attribute("pads", (0,) * 2 * axes))
            pads = list(zip(given[:axes], given[axes:], strict=True))
        ceil = bool(call.attribute("ceil_mode", 0)) and automatic == "NOTSET"
        outputs, beyond = [], []
        for size, k, stride, dilation, (before, after) in zip(sizes, kernel, strides, dilations, pads, strict=True):
            reach = (k - 1) * dilation + 1
            room = size + before + after - reach
            count = (math.ceil(room / stride) if ceil else room // stride) + 1
            if ceil and (count - 1) * stride >= size + before:  # a window must begin within the map
                count -= 1
            if room < 0 or count < 1:
                raise call.refuse("maps must be at least as large as the kernel", call[0].shape)
            outputs.append(count)
            beyond.append(max((count - 1) * stride + reach - (size + before + after), 0))
        return cls(
            kernel=kernel,
            strides=strides,
            dilations=dilations,
            pads=tuple(pads),
            outputs=tuple(outputs),
            beyond=tuple(beyond),
        )

    def padded(self, maps: Array, value: float) -> Array:
        """Maps with a value around them."""
        leading = [(0, 0)] * (maps.ndim - len(self.kernel))
        widths = [(before, after + more) for (before, after), more in zip(self.pads, self.beyond, strict=True)]
        return np.pad(maps, [*leading, *widths], constant_values=value)

    def places(self, padded: Array) -> Iterator[Array]:
        """For each place of the kernel, what all windows see there: views of padded maps, one shape."""
        for place in np.ndindex(*self.kernel):
            picked: Any = [
                slice(at * dilation, at * dilation + (count - 1) * stride + 1, stride)
                for at, dilation, count, stride in zip(place, self.dilations, self.outputs, self.strides, strict=True)
            ]
            yield padded[(..., *picked)]
