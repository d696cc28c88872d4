"""Convolutions of one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch

from xbarsim.network.geometry import Convolution
from xbarsim.network.lowering.products.base import Call, ProductFunction, batch_of_one, bind, first, plain, same

__all__ = ["ConvolutionFunction", "sizes"]


def sizes(value: Any, dimensions: int) -> tuple[int, ...]:
    """A number for each dimension, from one number or several."""
    several = tuple(int(each) for each in value) if isinstance(value, tuple | list | torch.Size) else (int(value),)
    return several * dimensions if len(several) == 1 else several


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
        geometry = Convolution(
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
