"""Convolutions of one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from xbarsim.engine import Window
from xbarsim.network.layers.base import LayerAdapter
from xbarsim.network.layers.conv1d import Conv1dAdapter
from xbarsim.network.layers.conv2d import Conv2dAdapter
from xbarsim.network.layers.conv3d import Conv3dAdapter
from xbarsim.network.lowered import Product
from xbarsim.network.lowering.products.base import Array, Call, ProductFunction, batch_of_one, bind, first, plain, same

__all__ = ["ConvolutionFunction", "sizes", "weight_matrix"]


def sizes(value: Any, dimensions: int) -> tuple[int, ...]:
    """A number for each dimension, from one number or several."""
    several = tuple(int(each) for each in value) if isinstance(value, tuple | list | torch.Size) else (int(value),)
    return several * dimensions if len(several) == 1 else several


def weight_matrix(weight: Array, groups: int) -> Array:
    """Kernels ``(outputs, channels of a group, ...)`` as a matrix ``(inputs, outputs)``, groups on the diagonal."""
    outputs = weight.shape[0]
    blocks = weight.reshape(groups, outputs // groups, -1)  # (groups, outputs, inputs) of a group
    matrix = np.zeros((groups, blocks.shape[2], groups, blocks.shape[1]), weight.dtype)
    for group, block in enumerate(blocks):
        matrix[group, :, group] = block.T
    return matrix.reshape(groups * blocks.shape[2], outputs)


@dataclass(frozen=True)
class _Geometry:
    """What a call says besides inputs and weights; padding as (before, after) of each dimension."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    def product(self, weight: Array, bias: Array) -> Product:
        kernel, channels = weight.shape[2:], weight.shape[1] * self.groups
        adapter: LayerAdapter
        if len(kernel) == 3:
            adapter = Conv3dAdapter(
                channels=channels,
                kernel=kernel[0],
                stride=self.stride[0],
                dilation=self.dilation[0],
                padding=self.padding[0],
            )
        else:
            adapter = Conv2dAdapter(channels=channels) if len(kernel) == 2 else Conv1dAdapter(channels=channels)
        flat = len(kernel) == 1  # a row
        rows = (0, 0) if flat else self.padding[-2]
        return Product(
            weights=weight_matrix(weight, self.groups),
            bias=bias,
            adapter=adapter,
            window=Window(
                kernel=(1 if flat else kernel[-2], kernel[-1]),
                stride=(1 if flat else self.stride[-2], self.stride[-1]),
                dilation=(1 if flat else self.dilation[-2], self.dilation[-1]),
                padding=(*self.padding[-1], *rows),
            ),
            groups=self.groups,
        )


def _paddings(padding: Any, kernel: torch.Size, dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Zeros before and after each dimension."""
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":  # the odd one goes behind
        total = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
        return tuple((each // 2, each - each // 2) for each in total)
    return tuple((each, each) for each in sizes(padding, len(kernel)))


class ConvolutionFunction(ProductFunction):
    """``conv1d``, ``conv2d`` and ``conv3d``."""

    functions: ClassVar[tuple[Callable[..., Any], ...]] = (torch.conv1d, torch.conv2d, torch.conv3d)

    def read(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Iterable[Call]:
        """As :meth:`ProductFunction.read`."""
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        defaults = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        given = bind(names, defaults, arguments, keywords)
        inputs, weight = given["input"], given["weight"]
        if not plain(inputs, weight):
            return
        dimensions = weight.ndim - 2
        dilation = sizes(given["dilation"], dimensions)
        geometry = _Geometry(
            stride=sizes(given["stride"], dimensions),
            padding=_paddings(given["padding"], weight.shape[2:], dilation),
            dilation=dilation,
            groups=int(given["groups"]),
        )
        alone = inputs.ndim == dimensions + 1
        yield Call(
            inputs=inputs[None] if alone else inputs,
            origin=inputs,
            weight=weight,
            bias=given["bias"],
            geometry=geometry,
            product=geometry.product,
            finish=first if alone else same,
            begin=batch_of_one if alone else same,
        )
