"""What a product function is: how calls of one torch function are read as products with a matrix."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xbarsim.network.lowered import Product

__all__ = ["Call", "ProductFunction", "batch_of_one", "bind", "first", "is_vectorised", "plain", "same"]

Array = npt.NDArray[np.float32]


def same(results: Tensor) -> Tensor:
    """Results as they are."""
    return results


def first(results: Tensor) -> Tensor:
    """The only element of a batch."""
    return results[0]


def batch_of_one(results: Tensor) -> Tensor:
    """One element as a batch."""
    return results[None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One way of reading a call as a product of inputs that vary with weights that do not.

    Attributes
    ----------
    inputs
        Activations, in the layout of the product's adapter.
    weight
        The tensor that would be the weights.
    bias
        What is added to the outputs, or ``None``.
    geometry
        What tells uses of one weight apart that are different products, such as a stride.
    product
        Makes the product of weight and bias as float32 arrays, bias zero where there is none.
    finish, begin
        From results in the layout of the adapter to those of the call, and back.
    origin
        The tensor of the call that the inputs lie in otherwise; ``None`` where they are it.
    """

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: Hashable
    product: Callable[[Array, Array], Product]
    finish: Callable[[Tensor], Tensor] = same
    begin: Callable[[Tensor], Tensor] = same
    origin: Tensor | None = None

    @property
    def given(self) -> Tensor:
        """The inputs as they stand in the call."""
        return self.inputs if self.origin is None else self.origin


class ProductFunction(metaclass=ABCMeta):
    """How calls of some torch functions are read as products.

    Attributes
    ----------
    functions : tuple
        The functions, as a torch function mode sees them.
    """

    functions: ClassVar[tuple[Callable[..., Any], ...]]

    @abstractmethod
    def read(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Iterable[Call]:
        """The ways in which a call is a product; none where it is not one, such as with nested or integer tensors."""


def bind(
    names: tuple[str, ...], defaults: Mapping[str, Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of a call by name."""
    return dict(defaults) | dict(zip(names, arguments, strict=False)) | dict(keywords)


def plain(*tensors: Any) -> bool:
    """Whether all are tensors of real floating numbers that lie densely in memory."""
    return all(
        isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_nested
        and not is_vectorised(tensor)
        and tensor.is_floating_point()
        for tensor in tensors
    )


def is_vectorised(tensor: Tensor) -> bool:
    """Whether it stands for many, as in a function under `torch.vmap`: its numbers cannot be seen."""
    vectorised: bool = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return vectorised
