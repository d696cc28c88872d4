"""The matrices of weights of a network, and how they are seen.

All masks and targets see the *GEMM view* of a weight, ``weight.flatten(1)`` of shape (filters, positions): a row is a
filter, that is a column of the crossbar; a column is one position across all filters, that is a row of the crossbar. Of
a recurrent weight a row is one output of one gate, a column one input or one unit of the hidden state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils import parametrize

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_instance, check_tensor

__all__ = ["KINDS", "MappableLayer", "find_layer", "gemm_view", "mappable_layers"]

KINDS = "Linear, Conv1d or Conv2d layer, or weight of an RNN, LSTM or GRU"
"""What recipes can name, for messages."""


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


@dataclass(frozen=True, kw_only=True, eq=False)
class MappableLayer:
    """One matrix of weights of a network: all of a layer, or one of several that a recurrent module has.

    Attributes
    ----------
    module
        What computes with it.
    attribute
        Its name there: ``"weight"``, or ``"weight_hh_l0"`` and the like.
    key
        Its name in the network's ``state_dict``.
    number
        Which one it is, as draws of errors count: of a layer with one weight, its place among all modules; those of
        recurrent modules come after all of these.
    """

    module: nn.Module
    attribute: str
    key: str
    number: int

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def weight(self) -> Tensor:
        """What the module computes with now."""
        weight = getattr(self.module, self.attribute)
        assert isinstance(weight, Tensor)
        return weight

    @property
    def free(self) -> nn.Parameter:
        """The weight that an optimiser moves, also where the module computes with one that is made of it."""
        if parametrize.is_parametrized(self.module, self.attribute):
            original = self.module.get_submodule(f"parametrizations.{self.attribute}").original
        else:
            original = getattr(self.module, self.attribute)
        assert isinstance(original, nn.Parameter)
        return original

    def attach(self, maker: nn.Module) -> None:
        """Let the module compute with another weight, which `maker` makes of the free one."""
        parametrize.register_parametrization(self.module, self.attribute, maker)

    def detach(self) -> None:
        """Take out all that was attached: the free weight becomes what the module computed with last."""
        parametrize.remove_parametrizations(self.module, self.attribute, leave_parametrized=True)


def _recurrent(module: nn.Module) -> list[str]:
    """Names of the matrices of a recurrent module, in its order; none of another."""
    if isinstance(module, nn.RNNBase):
        return [name for name in module._flat_weights_names if name.startswith("weight_")]
    return ["weight_ih", "weight_hh"] if isinstance(module, nn.RNNCellBase) else []


def _all_layers(model: nn.Module) -> Iterator[tuple[str, MappableLayer]]:
    """Everything with a weight, in the order of the model."""
    modules = dict(model.named_modules())
    after = len(modules)
    for number, (name, module) in enumerate(modules.items()):
        if isinstance(getattr(module, "weight", None), Tensor):
            key = f"{name}.weight" if name else "weight"
            yield name, MappableLayer(module=module, attribute="weight", key=key, number=number)
        for attribute in _recurrent(module):
            key = f"{name}.{attribute}" if name else attribute
            yield key, MappableLayer(module=module, attribute=attribute, key=key, number=after)
            after += 1


@entrance
def mappable_layers(model: nn.Module) -> dict[str, MappableLayer]:
    """All matrices of weights that crossbars can hold, by name, in the order of the model.

    A ``Linear``, ``Conv1d`` or ``Conv2d`` has the name of the module. An ``RNN``, ``LSTM`` or ``GRU`` (or the cell of
    one) has several: each has the module's name and its own, as ``"recurrent.weight_hh_l0"``, with the rows of all
    gates.

    Raises
    ------
    InputError
        If two of them share one weight: it would stand in two places of the hardware with two fates.
    """
    check_instance("model", model, nn.Module)
    layers = {
        name: layer
        for name, layer in _all_layers(model)
        if layer.attribute != "weight" or isinstance(layer.module, nn.Linear | nn.Conv1d | nn.Conv2d)
    }
    owners: dict[int, str] = {}
    for name, layer in layers.items():
        other = owners.setdefault(id(layer.free), name)
        if other != name:
            raise InputError(f"layers {other!r} and {name!r} of model must not share one weight")
    return layers


def find_layer(model: nn.Module, name: str) -> MappableLayer:
    """A layer by its name: any with a weight, also one that :func:`mappable_layers` leaves out.

    Raises
    ------
    InputError
        If there is none.
    """
    layer = dict(_all_layers(model)).get(name)
    if layer is None:
        raise InputError(f"layers must be names of layers with a weight, got {name!r}")
    return layer
