"""Linear layers and matrix products."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from xbarsim.network.geometry import linear_product
from xbarsim.network.lowered import Product
from xbarsim.network.lowering.products.base import Array, Call, ProductFunction, batch_of_one, bind, first, plain, same

__all__ = ["LinearFunction", "MatrixFunction"]


def _transposed(weight: Array, bias: Array) -> Product:
    """A weight (outputs, inputs)."""
    return linear_product(weight.T, bias)


class LinearFunction(ProductFunction):
    """``linear(input, weight, bias)``: one product for each vector in the last dimension."""

    functions: ClassVar[tuple[Callable[..., Any], ...]] = (torch.nn.functional.linear,)

    def read(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Iterable[Call]:
        """As :meth:`ProductFunction.read`."""
        given = bind(("input", "weight", "bias"), {"bias": None}, arguments, keywords)
        inputs, weight, bias = given["input"], given["weight"], given["bias"]
        if not plain(inputs, weight) or weight.ndim != 2 or inputs.ndim < 1:
            return
        alone = inputs.ndim == 1
        yield Call(
            inputs=inputs[None] if alone else inputs,
            origin=inputs,
            weight=weight,
            bias=bias,
            geometry="linear",
            product=_transposed,
            finish=first if alone else same,
            begin=batch_of_one if alone else same,
        )


def _column(weight: Array, bias: Array) -> Product:
    """A weight (inputs,), of one output."""
    return linear_product(weight[:, None], bias)


def _last_dropped(results: Tensor) -> Tensor:
    return results[..., 0]


def _last_added(results: Tensor) -> Tensor:
    return results[..., None]


def _turned(results: Tensor) -> Tensor:
    return results.transpose(-1, -2)


class MatrixFunction(ProductFunction):
    """``x @ weight`` and ``weight @ x``, in all their spellings."""

    functions: ClassVar[tuple[Callable[..., Any], ...]] = (
        torch.matmul,
        torch.mm,
        torch.addmm,
        Tensor.matmul,
        Tensor.mm,
        Tensor.addmm,
        Tensor.__matmul__,
        Tensor.__rmatmul__,
        torch.linalg.matmul,
        torch.mv,
        Tensor.mv,
    )

    def read(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Iterable[Call]:
        """As :meth:`ProductFunction.read`."""
        bias = None
        if keywords.get("out") is not None:
            return
        if function in (torch.addmm, Tensor.addmm):
            given = bind(("input", "mat1", "mat2"), {"beta": 1, "alpha": 1}, arguments, keywords)
            left, right, bias = given["mat1"], given["mat2"], given["input"]
            if given["beta"] != 1 or given["alpha"] != 1 or not plain(bias) or bias.ndim != 1:
                return
        else:
            second = {torch.mm: "mat2", Tensor.mm: "mat2", torch.mv: "vec", Tensor.mv: "vec"}.get(function, "other")
            given = bind(("input", second), {}, arguments, keywords)
            left, right = given.get("input", given.get("self")), given[second]
            if function is Tensor.__rmatmul__:
                left, right = right, left
        if not plain(left, right):
            return
        if right.ndim == 2 and left.ndim >= 1:
            alone = left.ndim == 1
            yield Call(
                inputs=left[None] if alone else left,
                origin=left,
                weight=right,
                bias=bias,
                geometry="matrix",
                product=linear_product,
                finish=first if alone else same,
                begin=batch_of_one if alone else same,
            )
        if right.ndim == 1 and left.ndim >= 2:
            yield Call(
                inputs=left,
                weight=right,
                bias=None,
                geometry="column",
                product=_column,
                finish=_last_dropped,
                begin=_last_added,
            )
        if left.ndim == 2 and right.ndim == 1:
            yield Call(
                inputs=right[None],
                origin=right,
                weight=left,
                bias=None,
                geometry="linear",
                product=_transposed,
                finish=first,
                begin=batch_of_one,
            )
        if left.ndim == 2 and right.ndim >= 2 and bias is None:
            yield Call(
                inputs=right.transpose(-1, -2),
                origin=right,
                weight=left,
                bias=None,
                geometry="linear",
                product=_transposed,
                finish=_turned,
                begin=_turned,
            )
