"""What a module that takes another's place has in common: its attributes, its hooks, and weights as they are used."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

__all__ = ["Replacement", "current_weight", "linear", "own_forward"]

# What every module has of its own; everything else in its __dict__ describes what it computes.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
# Lists of weights that torch keeps beside the parameters.
_LISTS_OF_WEIGHTS = frozenset({"_flat_weights", "_flat_weight_refs"})
_NOTHING = object()


class Replacement(nn.Module):
    """A module in another's place: what a model reads from that one, it reads from this one.

    Plain attributes (``hidden_size``, ``batch_first``, what a user has set) are taken over, weights are answered by
    their names there (:meth:`weight`), methods and properties are found in the type of the original, and hooks stay,
    except those that compute weights, since the weights are taken as they compute them. None of it is a second
    parameter.

    Parameters
    ----------
    module
        The module whose place this one takes. It is neither changed nor kept.
    weights
        The names of its weights.
    """

    def __init__(self, module: nn.Module, weights: Iterable[str]) -> None:
        super().__init__()
        self._weight_names = tuple(weights)
        kept_out = _OF_EVERY_MODULE | _LISTS_OF_WEIGHTS | set(self._weight_names)
        self.__dict__.update({name: value for name, value in vars(module).items() if name not in kept_out})
        self._original_type = type(module)
        for kind in ("_forward_hooks", "_forward_pre_hooks"):
            for key, hook in getattr(module, kind).items():
                if _hooked_weight(hook) is None:
                    getattr(self, kind)[key] = hook
                    for options in (f"{kind}_with_kwargs", "_forward_hooks_always_called"):
                        if key in getattr(module, options):
                            getattr(self, options)[key] = getattr(module, options)[key]
        self.train(False)

    def weight(self, name: str) -> torch.Tensor | None:
        """A weight by its name in the original, or ``None`` where it has none of that name."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__
        held = any(name in state.get(kind, ()) for kind in ("_parameters", "_buffers", "_modules"))
        if not held and not name.startswith("__") and "_original_type" in state:
            if name in state["_weight_names"]:
                return self.weight(name)
            found = inspect.getattr_static(state["_original_type"], name, _NOTHING)
            if found is not _NOTHING:
                return found.__get__(self, type(self)) if hasattr(found, "__get__") else found
        return super().__getattr__(name)


def own_forward(module: nn.Module, kind: type[nn.Module]) -> str | None:
    """Why a module of a type derived from `kind` does not compute what `kind` does, or ``None`` where it does."""
    if type(module).forward is not kind.forward or "forward" in vars(module):
        return f"has a forward of its own, not that of {kind.__name__}"
    return None


def _hooked_weight(hook: Any) -> str | None:
    """The name of the weight that a hook computes before each call, or ``None``."""
    if isinstance(hook, WeightNorm | SpectralNorm):
        return str(hook.name)
    return hook._tensor_name if isinstance(hook, BasePruningMethod) else None


def current_weight(module: nn.Module, name: str) -> torch.Tensor | None:
    """A copy of a weight as the module would use it in its next call in evaluation mode.

    What ``torch.nn.utils`` computes by a hook before each call (``weight_norm``, ``spectral_norm``, pruning) may be
    stale in the attribute; it is computed here, and the module not changed. Parametrisations compute when read.
    """
    value = getattr(module, name, None)
    for hook in module._forward_pre_hooks.values():
        if _hooked_weight(hook) != name:
            continue
        if isinstance(hook, SpectralNorm):
            value = hook.compute_weight(module, do_power_iteration=False)
        elif isinstance(hook, WeightNorm):
            value = hook.compute_weight(module)
        elif isinstance(hook, BasePruningMethod):
            value = hook.apply_mask(module)  # type: ignore[no-untyped-call]
    return None if value is None else value.detach().clone()


def linear(weight: torch.Tensor, bias: torch.Tensor | None, output_names: tuple[str, ...]) -> nn.Linear:
    """A linear layer with given weights, without drawing any first.

    Parameters
    ----------
    weight
        Shape ``(outputs, inputs)``.
    bias
        Shape ``(outputs,)``, or ``None``.
    output_names
        Names of equal blocks of outputs, in their order; the attribute ``output_names`` of the layer.
    """
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta", dtype=weight.dtype)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    layer.__dict__["output_names"] = output_names
    return layer.eval()
