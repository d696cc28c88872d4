"""Transposed convolutions of one and two dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch

from xbarsim.network.geometry import TransposedConvolution
from xbarsim.network.lowering.products.base import Call, ProductFunction, batch_of_one, bind, first, plain, same
from xbarsim.network.lowering.products.convolution import sizes

__all__ = ["TransposedFunction"]


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
        geometry = TransposedConvolution(
            stride=sizes(given["stride"], dimensions),
            padding=tuple((each, each) for each in sizes(given["padding"], dimensions)),
            output_padding=sizes(given["output_padding"], dimensions),
            dilation=sizes(given["dilation"], dimensions),
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
