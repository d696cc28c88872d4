"""Contractions of named dimensions: ``einsum`` and ``inner``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from xbarsim.network.geometry import linear_product
from xbarsim.network.lowered import Product
from xbarsim.network.lowering.products.base import Array, Call, ProductFunction, bind, plain

__all__ = ["ContractionFunction"]


@dataclass(frozen=True)
class _Geometry:
    """Names of the dimensions of inputs, weights and results: one letter each."""

    inputs: str
    weights: str
    results: str

    @property
    def summed(self) -> str:
        """Dimensions of the weights that are added up."""
        return "".join(letter for letter in self.weights if letter in self.inputs)

    @property
    def outputs(self) -> str:
        """Dimensions of the weights that stay."""
        return "".join(letter for letter in self.weights if letter not in self.inputs)

    @property
    def kept(self) -> str:
        """Dimensions of the inputs that stay."""
        return "".join(letter for letter in self.inputs if letter not in self.weights)

    def is_product(self) -> bool:
        """Whether every vector of inputs is multiplied with the same matrix."""
        single = all(len(set(letters)) == len(letters) for letters in (self.inputs, self.weights, self.results))
        return single and bool(self.summed) and set(self.results) == set(self.kept + self.outputs)

    def vectors(self, inputs: Tensor) -> Tensor:
        """Inputs with all that is added up in the last dimension."""
        order = [self.inputs.index(letter) for letter in self.kept + self.summed]
        turned = inputs.permute(order)
        return turned.reshape(*turned.shape[: len(self.kept)] or (1,), -1)

    def finish(self, results: Tensor, sizes: Mapping[str, int]) -> Tensor:
        """From vectors of outputs to the results of the call."""
        order = self.kept + self.outputs
        return results.reshape([sizes[letter] for letter in order]).permute(
            [order.index(letter) for letter in self.results]
        )

    def begin(self, results: Tensor, sizes: Mapping[str, int]) -> Tensor:
        """From the results of the call to vectors of outputs."""
        turned = results.permute([self.results.index(letter) for letter in self.kept + self.outputs])
        return turned.reshape(*[sizes[letter] for letter in self.kept] or (1,), -1)

    def product(self, weight: Array, bias: Array) -> Product:
        order = [self.weights.index(letter) for letter in self.summed + self.outputs]
        turned = weight.transpose(order)
        inputs = int(np.prod(turned.shape[: len(self.summed)]))
        matrix = np.ascontiguousarray(turned).reshape(inputs, -1)
        return linear_product(matrix, bias)


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SUMMED = "Z"


def _equation(
    function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> tuple[Tensor, Tensor, str, str, str] | None:
    """Both tensors of a call, and letters for their dimensions and those of the results; ``None`` for another call."""
    if function is torch.einsum:
        if len(arguments) == 2 and isinstance(arguments[1], tuple | list):
            arguments = (arguments[0], *arguments[1])
        if len(arguments) != 3 or not isinstance(arguments[0], str) or not plain(*arguments[1:]):
            return None
        before, arrow, results = arguments[0].replace(" ", "").partition("->")
        one, comma, other = before.partition(",")
        if not arrow or not comma or "." in one + other + results:
            return None
        return arguments[1], arguments[2], one, other, results
    given = bind(("input", "other"), {}, arguments, keywords)
    first: Any = given.get("input", given.get("self"))
    second: Any = given["other"]
    if keywords.get("out") is not None or not plain(first, second) or not first.ndim or not second.ndim:
        return None
    one, other = _LETTERS[: first.ndim - 1], _LETTERS[first.ndim : first.ndim + second.ndim - 1]
    return first, second, one + _SUMMED, other + _SUMMED, one + other


class ContractionFunction(ProductFunction):
    """Sums over products of two tensors, of which one is the weights."""

    functions: ClassVar[tuple[Callable[..., Any], ...]] = (torch.einsum, torch.inner, Tensor.inner)

    def read(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Iterable[Call]:
        """As :meth:`ProductFunction.read`."""
        read = _equation(function, arguments, keywords)
        if read is None:
            return
        first, second, one, other, results = read
        for inputs, weight, of_inputs, of_weight in ((first, second, one, other), (second, first, other, one)):
            if len(of_inputs) != inputs.ndim or len(of_weight) != weight.ndim:
                continue
            geometry = _Geometry(of_inputs, of_weight, results)
            if not geometry.is_product():
                continue
            sizes = dict(zip(of_inputs, inputs.shape, strict=True)) | dict(zip(of_weight, weight.shape, strict=True))
            yield Call(
                inputs=geometry.vectors(inputs),
                origin=inputs,
                weight=weight,
                bias=None,
                geometry=geometry,
                product=geometry.product,
                finish=partial(geometry.finish, sizes=sizes),
                begin=partial(geometry.begin, sizes=sizes),
            )
