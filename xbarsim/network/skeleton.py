"""A model with places left free for its layers: what the digital network and every die fill with their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

from torch import nn

__all__ = ["Placeholder", "fill", "skeleton_of"]


class Placeholder(nn.Module):
    """Where a mapped layer stands in a model's skeleton; never run.

    Parameters
    ----------
    name
        The layer's.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def skeleton_of(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """A copy of a model with placeholders for some of its modules.

    Parameters
    ----------
    model
        The model.
    names
        Of these modules. One that stands in the model under several names leaves a placeholder under each.
    """
    skeleton: nn.Module = copy.deepcopy(model)
    by_identity = {id(model.get_submodule(name)): name for name in names}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if id(module) in by_identity:
            placeholder = Placeholder(by_identity[id(module)])
            if not name:
                return placeholder
            parent, _, child = name.rpartition(".")
            setattr(skeleton.get_submodule(parent), child, placeholder)
    return skeleton


def fill(skeleton: nn.Module, make: Callable[[str], nn.Module]) -> nn.Module:
    """A copy of a skeleton with a module in the place of each placeholder; those of one name share it.

    Parameters
    ----------
    skeleton
        From :func:`skeleton_of`.
    make
        From the name of a layer to its module.
    """
    if isinstance(skeleton, Placeholder):
        return make(skeleton.name)
    model = copy.deepcopy(skeleton)
    made: dict[str, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, Placeholder):
            if module.name not in made:
                made[module.name] = make(module.name)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, made[module.name])
    return model.eval()
