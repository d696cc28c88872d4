"""A copy of a model that is safe to run: evaluation mode, float32, on the CPU, weights as it uses them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm

from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.registry import lowering_of

__all__ = ["copy_model", "lower_modules", "sharing_copy"]


def copy_model(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, float32, on the CPU; weights that torch's own tools compute became plain parameters.

    Parameters
    ----------
    model
        Any model; it is not changed.

    Raises
    ------
    InputError
        If parameters have no values yet, the model is a script, or it cannot be copied.
    """
    if isinstance(model, nn.DataParallel):
        model = model.module
    inner = getattr(model, "_orig_mod", None)  # of torch.compile
    model = inner if isinstance(inner, nn.Module) else model
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            "model must be a torch.nn.Module whose products can be seen, got a script: give the module it was made from"
        )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise InputError(f"model must have values in all its parameters, got none in {name!r}")
    try:
        made: nn.Module = copy.deepcopy(model, _computed(model))
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise InputError(f"model must be one that can be copied: {str(error).splitlines()[0]}") from error
    made = made.eval().to("cpu")
    _to_single(made)
    with torch.no_grad():
        for module in made.modules():
            _materialise(module)
    return made


def _to_single(model: nn.Module) -> None:
    """Floating parameters, buffers and tensor attributes to float32."""
    model.float()
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float32:
                setattr(module, name, value.float())


def _computed(model: nn.Module) -> dict[int, Any]:
    """Copies of tensors that are results of a computation, which torch refuses to copy: hooks compute them anew."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return memo


def _materialise(module: nn.Module) -> None:
    """Make what `weight_norm`, `spectral_norm`, `prune` and parametrisations compute in evaluation mode a parameter."""
    if parametrize.is_parametrized(module):
        for name in list(module.parametrizations):  # type: ignore[arg-type]
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            nn.utils.remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]


def lower_modules(model: nn.Module) -> tuple[nn.Module, dict[str, str]]:
    """Replace modules that torch computes as a whole by modules whose products can be seen.

    Parameters
    ----------
    model
        From :func:`copy_model`; changed.

    Returns
    -------
    Module
        The model, or what replaces it.
    dict
        Why a module of a type that is lowered stays as it is, by its name.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # no fused path: it passes the layers by
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = module.enable_nested_tensor = False
    reasons: dict[str, str] = {}
    made: dict[int, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        lowering = lowering_of(module)
        if lowering is None:
            continue
        reason = lowering.misfit(module)
        if reason is not None:
            reasons[name] = reason
            continue
        if id(module) not in made:
            made[id(module)] = _with_hooks_of(module, lowering.lower(module).eval())
        replacement = made[id(module)]
        if not name:
            return replacement, reasons
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, replacement)
    return model, reasons


def _with_hooks_of(module: nn.Module, replacement: nn.Module) -> nn.Module:
    """What is called around a module is called around its replacement."""
    for attribute in ("_forward_hooks", "_forward_pre_hooks"):
        getattr(replacement, attribute).update(getattr(module, attribute))
        for kind in ("_with_kwargs", "_always_called"):
            if hasattr(module, attribute + kind):
                getattr(replacement, attribute + kind).update(getattr(module, attribute + kind))
    return replacement


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy that shares all parameters, so that what a model remembers between calls stays its own."""
    shared: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    made: nn.Module = copy.deepcopy(model, shared)
    return made
