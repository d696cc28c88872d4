"""A copy of a model that is safe to run: evaluation mode, float32, on the CPU, weights as it uses them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._pytree import tree_leaves

from xbarsim.foundation.validation import InputError, check_memory
from xbarsim.network.lowering.registry import lowering_of
from xbarsim.network.lowering.transformers import prepare_transformers

__all__ = ["cast_floats", "check_values", "copy_model", "lower_modules", "moved", "sharing_copy"]

_MOST_NESTED = 100  # modules in one another; torch walks through them by recursion


def copy_model(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, float32, on the CPU; weights that torch's own tools compute became plain parameters.

    Parameters
    ----------
    model
        Any model; it is not changed.

    Raises
    ------
    InputError
        As :func:`check_values`; if parameters are too many for the memory, the model is a script, or it cannot be
        copied.
    """
    model = _unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            "model must be a torch.nn.Module whose products can be seen, got a script: give the module it was made from"
        )
    check_values(model)
    # on the way its numbers are kept in float64 at once; a view of few numbers as many is written out by then
    numbers = sum(tensor.numel() for tensor in model.parameters())
    check_memory("model", f"{numbers:,} parameters", 8 * numbers)
    memo = _computed(model)
    try:
        made: nn.Module = copy.deepcopy(model, memo)
    except Exception as error:  # whatever a model holds may refuse, in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"model must be one that can be copied, got {type(model).__name__}: {reason}") from error
    for module in made.modules():
        _rebind(module, memo)
        for name, child in module.named_children():
            setattr(module, name, _unwrapped(child))
    made = cast_floats(made.eval().to("cpu"), torch.float32)
    with torch.no_grad():
        for module in made.modules():
            _materialise(module)
    return made


def check_values(model: nn.Module) -> None:
    """Refuse a model that cannot run as it is.

    Raises
    ------
    InputError
        If its modules nest too deep for the recursion of torch, or a parameter has no values or is sparse.
    """
    level, depth = [model], 0
    while level:
        depth += 1
        if depth > _MOST_NESTED:
            raise InputError(f"model must have modules nested at most {_MOST_NESTED} deep, got more")
        # each once: a module may stand in many places
        level = list({id(child): child for module in level for child in module.children()}.values())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise InputError(f"model must have values in all its parameters, got none in {name!r}")
    for name, parameter in model.named_parameters():
        if parameter.layout not in (torch.strided, torch.jagged):
            raise InputError(f"model must have dense parameters, got one of {parameter.layout} in {name!r}")


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model in what only runs it in another way: `DataParallel` and compiled ones."""
    while True:
        inner = model.module if isinstance(model, nn.DataParallel) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _rebind(module: nn.Module, memo: dict[int, Any]) -> None:
    """Let functions that stand in a copied module or its hooks work on the copy where they hold the original."""
    for name, value in list(vars(module).items()):
        if isinstance(value, FunctionType):
            setattr(module, name, _rebound(value, memo))
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for key, hook in hooks.items():
            hooks[key] = _rebound(hook, memo) if isinstance(hook, FunctionType) else hook


def _rebound(function: FunctionType, memo: dict[int, Any]) -> FunctionType:
    """The same function with copies in its closure and defaults for what was copied."""

    def copied(value: Any) -> Any:
        if isinstance(value, MethodType) and id(value.__self__) in memo:
            return MethodType(value.__func__, memo[id(value.__self__)])
        return memo.get(id(value), value) if isinstance(value, nn.Module | Tensor) else value

    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(CellType(copied(cell.cell_contents)))
        except ValueError:  # an empty cell
            cells.append(cell)
    defaults = None if function.__defaults__ is None else tuple(map(copied, function.__defaults__))
    made = FunctionType(function.__code__, function.__globals__, function.__name__, defaults, tuple(cells) or None)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    return made


def cast_floats(model: nn.Module, precision: torch.dtype) -> nn.Module:
    """Floating parameters, buffers and tensor attributes to a precision; changes the model and gives it back."""
    apply: Any = model._apply  # `to` would make complex ones real
    apply(lambda tensor: tensor.to(precision) if tensor.is_floating_point() else tensor)
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != precision:
                setattr(module, name, value.to(precision))
    return model


def moved(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy whose parameters, buffers and tensor attributes lie on a device."""
    made: nn.Module = copy.deepcopy(model)
    apply: Any = made._apply
    apply(lambda tensor: tensor.to(device))
    for module in made.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                setattr(module, name, value.to(device))
    return made


def _computed(model: nn.Module) -> dict[int, Any]:
    """Copies of tensors that are results of a computation, which torch refuses to copy: hooks compute them anew."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in tree_leaves([*vars(module).values(), *module._buffers.values()]):
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return memo


def _materialise(module: nn.Module) -> None:
    """Make what `weight_norm`, `spectral_norm`, `prune` and parametrisations compute in evaluation mode a parameter."""
    if parametrize.is_parametrized(module):
        for name in list(module.parametrizations):  # type: ignore[arg-type]
            if all(type(each).__module__.startswith("torch.nn.utils") for each in module.parametrizations[name]):  # type: ignore[index]
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
    prepare_transformers(model)
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
    for module in model.modules():
        if not _copy_plain(module, shared):
            # A module has a dozen dictionaries of hooks, most of them empty: they would be most of the work.
            for value in vars(module).values():
                if type(value) in (dict, OrderedDict) and not value:
                    shared[id(value)] = type(value)()
    made: nn.Module = copy.deepcopy(model, shared)
    return made


_UNCHANGING = (type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size)


def _copy_plain(module: nn.Module, memo: dict[int, Any]) -> bool:
    """Copy a module of torch's own that has no modules in it and holds nothing but numbers, words and parameters.

    As :func:`copy.deepcopy` would, which would be a fifth of the time that a die of a small network takes to be made.
    Whether it did: what other modules hold, and how they want to be copied, is left to them.
    """
    kind = type(module)
    if not kind.__module__.startswith("torch.nn.modules.") or hasattr(kind, "__deepcopy__") or module._modules:
        return False
    held: dict[str, Any] = {}
    for name, value in vars(module).items():
        if type(value) in (dict, OrderedDict):
            if value and name != "_parameters":
                return False
            held[name] = type(value)(value)
        elif isinstance(value, _UNCHANGING) or (
            type(value) is tuple and all(type(each) in _UNCHANGING for each in value)
        ):
            held[name] = value
        elif type(value) is set and not value:
            held[name] = set()
        else:
            return False
    made = kind.__new__(kind)
    made.__dict__ = held
    memo[id(module)] = made
    return True
