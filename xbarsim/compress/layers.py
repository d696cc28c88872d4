"""The layers of a network that have a matrix of weights, and how that matrix is seen.

All masks and targets see the *GEMM view* of a weight, ``weight.flatten(1)`` of shape (filters, positions): a row is a
filter, that is a column of the crossbar; a column is one position across all filters, that is a row of the crossbar.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrize

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_tensor

__all__ = ["free_weight", "gemm_view", "mappable_layers"]


@entrance
def gemm_view(weight: Tensor) -> Tensor:
    """The weight of a layer, or its mask, as a matrix (filters, positions); a view where torch can make one.

    A row is a filter, that is a column of the crossbar; a column is one position across all filters, a row of the
    crossbar.

    Raises
    ------
    InputError
        If the weight has fewer than two dimensions.
    """
    check_tensor("weight", weight)
    if weight.ndim < 2:
        raise InputError(f"weight must have at least 2 dimensions, got shape {tuple(weight.shape)}")
    return weight.flatten(1)


@entrance
def mappable_layers(model: nn.Module) -> dict[str, nn.Linear | nn.Conv1d | nn.Conv2d]:
    """Layers with a matrix of weights, by name, in the order of the model.

    Raises
    ------
    InputError
        If two of them share one weight: it would stand in two places of the hardware with two fates.
    """
    check_instance("model", model, nn.Module)
    layers = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    }
    owners: dict[int, str] = {}
    for name, module in layers.items():
        other = owners.setdefault(id(free_weight(module)), name)
        if other != name:
            raise InputError(f"layers {other!r} and {name!r} of model must not share one weight")
    return layers


def free_weight(layer: nn.Module) -> nn.Parameter:
    """The weight that an optimiser moves, also where the layer computes with one that is made of it."""
    if parametrize.is_parametrized(layer, "weight"):
        original = layer.get_submodule("parametrizations.weight").original
    else:
        original = layer.weight
    assert isinstance(original, nn.Parameter)
    return original
