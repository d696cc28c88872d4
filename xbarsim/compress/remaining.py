"""What masks leave of a network, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xbarsim.compress.layers import gemm_view, mappable_layers
from xbarsim.compress.recipe import Recipe
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.network.storage import csr_bits

__all__ = ["Compression", "LayerCompression", "compression"]


@dataclass(frozen=True, kw_only=True)
class LayerCompression:
    """What is left of a layer.

    Attributes
    ----------
    name
        The layer.
    pruned
        Whether it has a mask.
    weights, kept
        How many weights it has, and how many stay.
    filters, filters_kept
        How many filters (columns of the crossbar) it has, and how many still have a weight.
    columns, columns_kept
        The same of columns (rows of the crossbar).
    bits
        Bits of a weight, sign included; ``None`` where it stands on no levels.
    index_bits
        Bits that say which weights stay, one for each group of the targets that stays or goes together; ``None``
        without a recipe.
    csr_bits
        Bits of the indices of a compressed sparse row: the column of each weight that stays, and where rows begin.
    """

    name: str
    pruned: bool
    weights: int
    kept: int
    filters: int
    filters_kept: int
    columns: int
    columns_kept: int
    bits: int | None
    index_bits: int | None = None
    csr_bits: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Compression:
    """What is left of a network's layers with a matrix of weights (:func:`mappable_layers`); ``print`` it for a table.

    Biases and batch norms count nowhere.

    Attributes
    ----------
    layers
        Every such layer, pruned or not.
    """

    layers: tuple[LayerCompression, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def ratio(self) -> float:
        """Weights over those that stay, of the pruned layers alone; 1 where none is pruned."""
        return self._ratio([layer for layer in self.layers if layer.pruned])

    @property
    def overall_ratio(self) -> float:
        """Weights over those that stay, of all layers."""
        return self._ratio(list(self.layers))

    @staticmethod
    def _ratio(layers: list[LayerCompression]) -> float:
        weights, kept = sum(layer.weights for layer in layers), sum(layer.kept for layer in layers)
        return 1.0 if not weights else weights / kept if kept else math.inf

    def __str__(self) -> str:
        rows = [
            (
                layer.name,
                layer.weights,
                layer.kept,
                f"{100 * layer.kept / layer.weights:.2f}",
                f"{layer.filters_kept} / {layer.filters}",
                f"{layer.columns_kept} / {layer.columns}",
                "-" if layer.bits is None else layer.bits,
                "-" if layer.index_bits is None else f"{layer.index_bits / max(layer.kept, 1):.2f}",
                "-" if layer.csr_bits is None else f"{layer.csr_bits / max(layer.kept, 1):.2f}",
            )
            for layer in self.layers
        ]
        heads = ("layer", "weights", "kept", "kept %", "filters", "columns", "bits", "index bits a weight", "CSR")
        text = format_table(heads, rows)
        return f"{text}\npruned layers {self.ratio:.2f}x, all layers {self.overall_ratio:.2f}x"


@entrance
def compression(model: nn.Module, masks: Mapping[str, Tensor], recipe: Recipe | None = None) -> Compression:
    """Count what masks leave of a network.

    Parameters
    ----------
    model
        The network; only the shapes of its weights matter.
    masks
        Which weights stay, by layer name: bool, of the weight's shape. Layers without a mask keep all of theirs.
    recipe
        Says which layers stand on which levels; ``None`` for none.

    Raises
    ------
    InputError
        If a mask is of no layer or does not fit it, or the recipe does not suit the model.
    """
    modules = mappable_layers(model)
    rules = {} if recipe is None else recipe.layers(model)
    for name, mask in masks.items():
        if name not in modules:
            raise InputError(f"masks must be of the layers {', '.join(modules)}, got {name!r}")
        shape = modules[name].weight.shape
        check_instance(f"masks[{name!r}]", mask, Tensor)
        if mask.dtype != torch.bool or mask.shape != shape:
            raise InputError(
                f"masks[{name!r}] must be of type torch.bool and shape {tuple(shape)}, "
                f"got {mask.dtype} and {tuple(mask.shape)}"
            )
    layers = []
    for name, module in modules.items():
        mask = gemm_view(masks[name] if name in masks else torch.ones_like(module.weight, dtype=torch.bool))
        levels = rules[name].levels if name in rules else None
        targets = rules[name].targets if name in rules else ()
        size = (mask.shape[0], mask.shape[1])
        kept = int(mask.sum())
        layers.append(
            LayerCompression(
                name=name,
                pruned=name in masks,
                weights=mask.numel(),
                kept=kept,
                filters=mask.shape[0],
                filters_kept=int(mask.any(dim=1).sum()),
                columns=mask.shape[1],
                columns_kept=int(mask.any(dim=0).sum()),
                bits=None if levels is None else levels.bits,
                index_bits=sum(target.index_bits(size) for target in targets) if name in masks and targets else None,
                csr_bits=csr_bits(*size, kept) if name in masks else None,
            )
        )
    return Compression(layers=tuple(layers))
