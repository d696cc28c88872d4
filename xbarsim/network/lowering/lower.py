"""The first step of mapping: every product with trained weights is lowered or named."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import nn

from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.base import Product
from xbarsim.network.lowering.batch_norm import fold_batch_norm
from xbarsim.network.lowering.registry import OPAQUE, handled_types, lowering_of

__all__ = ["Lowered", "NotMapped", "lower"]

_FEW_IMAGES = 64  # enough to show the shapes of activations


@dataclass(frozen=True, kw_only=True)
class NotMapped:
    """A module with weights that stays digital.

    Attributes
    ----------
    name
        Its name in the model.
    kind
        Its type.
    parameters
        How many weights it holds.
    reason
        Why, in a few words.
    """

    name: str
    kind: str
    parameters: int
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Lowered:
    """A model whose products are known.

    Attributes
    ----------
    model
        A copy of it that computes the same, in float32 and evaluation mode, batch norms folded.
    products
        By the name of the module that computes each, in the order of the model.
    not_mapped
        Modules with weights that are no products.
    notes
        What a user should know.
    """

    model: nn.Module
    products: dict[str, Product]
    not_mapped: tuple[NotMapped, ...]
    notes: tuple[str, ...]

    def unused(self, used: Collection[str]) -> tuple[NotMapped, ...]:
        """The modules with products that are not among those that are used."""
        return tuple(
            _stays_digital(name, self.model.get_submodule(name), "not used by the model's forward pass")
            for name in self.products
            if name not in used
        )


def _stays_digital(name: str, module: nn.Module, reason: str, *, recurse: bool = True) -> NotMapped:
    count = sum(parameter.numel() for parameter in module.parameters(recurse=recurse))
    return NotMapped(name=name, kind=type(module).__name__, parameters=count, reason=reason)


def _sort_modules(model: nn.Module) -> tuple[dict[str, Product], list[NotMapped]]:
    """Products by the name of their module, and modules with weights that are none."""
    products: dict[str, Product] = {}
    digital: list[NotMapped] = []
    seen: set[int] = set()

    def visit(name: str, module: nn.Module) -> None:
        if id(module) in seen:
            return
        seen.add(id(module))
        lowering = lowering_of(module)
        if lowering is not None:
            reason = lowering.misfit(module)
            if reason is None:
                products[name] = lowering.lower(module)
            else:
                digital.append(_stays_digital(name, module, reason))
            return
        if isinstance(module, OPAQUE):
            digital.append(_stays_digital(name, module, "no mapping for this layer"))
            return
        norm = "Norm" in type(module).__name__
        reason = "not directly behind a layer it could be folded into" if norm else "no mapping for this layer"
        own = _stays_digital(name or "(model)", module, reason, recurse=False)
        if own.parameters:
            digital.append(own)
        for child_name, child in module.named_children():
            visit(f"{name}.{child_name}" if name else child_name, child)

    visit("", model)
    return products, digital


def lower(model: nn.Module, images: torch.Tensor) -> Lowered:
    """Read the products with trained weights out of a model, and name the weights that are not in one.

    Parameters
    ----------
    model
        Any model; it is not changed.
    images
        A few images that the model takes, float32.

    Raises
    ------
    InputError
        If there is no product.
    """
    folded, norms, note = fold_batch_norm(model, images[:_FEW_IMAGES])
    for module in folded.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # no fused path: it reads weights and passes the layers by
    products, digital = _sort_modules(folded)
    if not products:
        *most, last = handled_types()
        raise InputError(
            f"model must have a {', '.join(most)} or {last} layer to map, got {type(model).__name__} without one"
        )
    notes = [f"{len(norms)} batch norms folded into the layers before them"] if norms else []
    if note:
        notes.append(note)
    return Lowered(model=folded, products=products, not_mapped=tuple(digital), notes=tuple(notes))
