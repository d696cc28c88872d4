"""Transposed convolutions of one and two dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from xbarsim.engine import Window
from xbarsim.network.layers.transposed import TransposedAdapter
from xbarsim.network.lowered import Product
from xbarsim.network.lowering.products.base import Array, Call, ProductFunction, batch_of_one, bind, first, plain, same
from xbarsim.network.lowering.products.convolution import sizes, weight_matrix

__all__ = ["TransposedFunction"]


@dataclass(frozen=True)
class _Geometry:
    """What a call says besides inputs and weights, as (height, width)."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    output_padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    dimensions: int

    def product(self, weight: Array, bias: Array) -> Product:
        """The ordinary convolution over the spread map: the kernel turned round, inputs and outputs exchanged."""
        kernels = weight[:, :, None, :] if self.dimensions == 1 else weight
        channels, outputs, height, width = kernels.shape
        blocks = kernels.reshape(self.groups, channels // self.groups, outputs, height, width)
        turned = blocks[:, :, :, ::-1, ::-1].transpose(0, 2, 1, 3, 4)
        ordinary = np.ascontiguousarray(turned).reshape(self.groups * outputs, channels // self.groups, height, width)
        reach = [self.dilation[0] * (height - 1), self.dilation[1] * (width - 1)]
        before = [reach[axis] - self.padding[axis] for axis in (0, 1)]
        after = [before[axis] + self.output_padding[axis] for axis in (0, 1)]
        return Product(
            weights=weight_matrix(ordinary, self.groups),
            bias=bias,
            adapter=TransposedAdapter(
                channels=channels,
                stride=self.stride,
                edges=(before[1], after[1], before[0], after[0]),
                dimensions=self.dimensions,
            ),
            window=Window(kernel=(height, width), dilation=self.dilation),
            groups=self.groups,
        )


class TransposedFunction(ProductFunction):
    """``conv_transpose1d`` and ``conv_transpose2d``."""

    functions: ClassVar[tuple[Callable[..., Any], ...]] = (torch.conv_transpose1d, torch.conv_transpose2d)

    def read(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Iterable[Call]:
        """As :meth:`ProductFunction.read`."""
        names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
        defaults = {"bias": None, "stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
        given = bind(names, defaults, arguments, keywords)
        inputs, weight = given["input"], given["weight"]
        if not plain(inputs, weight):
            return
        dimensions = weight.ndim - 2

        def pair(name: str, row: int) -> tuple[int, int]:
            values = sizes(given[name], dimensions)
            return (row, values[0]) if dimensions == 1 else (values[0], values[1])

        geometry = _Geometry(
            stride=pair("stride", 1),
            padding=pair("padding", 0),
            output_padding=pair("output_padding", 0),
            dilation=pair("dilation", 1),
            groups=int(given["groups"]),
            dimensions=dimensions,
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
