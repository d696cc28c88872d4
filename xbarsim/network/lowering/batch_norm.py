"""Folding batch normalisation into the layer before it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from xbarsim.network.lowering.prepare import sharing_copy

__all__ = ["NORMS", "fold_batch_norm"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)


def _plain(module: nn.Module, types: tuple[type[nn.Module], ...]) -> bool:
    """Whether a module is exactly of one of these types, and nothing is called around it."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return type(module) in types and not hooked and "forward" not in vars(module)


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names of (layer, batch norm) where the norm is the only user of the layer's output and both run once."""
    graph = fx.Tracer().trace(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    calls: dict[int, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            key = id(modules[node.target])
            calls[key] = calls.get(key, 0) + 1
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not _plain(modules[node.target], NORMS):
            continue
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        layer, norm = modules[before.target], modules[node.target]
        foldable = _plain(layer, (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)) and norm.running_var is not None
        if foldable and calls[id(layer)] == 1 and calls[id(norm)] == 1:
            pairs.append((str(before.target), str(node.target)))
    return pairs


def _giving_vectors(model: nn.Module, names: list[str], run: Callable[[nn.Module], Any]) -> set[str]:
    """Which of these layers only ever give one vector an image: a batch norm counts these as its channels."""
    dimensions: dict[str, set[int]] = {name: set() for name in names}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, arguments, output, name=name: dimensions[name].add(output.ndim)
        )
        for name in names
    ]
    try:
        run(model)
    except Exception:  # samples that do not fit the model: calibration says so
        return set()
    finally:
        for handle in handles:
            handle.remove()
    return {name for name, counts in dimensions.items() if counts == {2}}


def _affine(norm: nn.Module) -> Any:
    """A batch norm as one with scale and shift: torch fuses no other into a linear layer."""
    whole: Any = copy.deepcopy(norm)
    if whole.weight is None:
        whole.weight = nn.Parameter(torch.ones_like(whole.running_var))
        whole.bias = nn.Parameter(torch.zeros_like(whole.running_var))
    return whole


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _fold(layer: Any, norm: Any) -> nn.Module:
    """A layer that gives what the norm makes of this one's outputs."""
    if isinstance(layer, nn.Linear):
        linear: nn.Module = fuse_linear_bn_eval(layer, norm)
        return linear
    folded: nn.Module = fuse_conv_bn_eval(layer, norm, transpose=type(layer) in _TRANSPOSED)
    return folded


def fold_batch_norm(model: nn.Module, run: Callable[[nn.Module], Any]) -> tuple[tuple[str, ...], str]:
    """Fold every batch norm that directly follows a layer into it; folded norms become ``nn.Identity``.

    Parameters
    ----------
    model
        In evaluation mode and float32; changed.
    run
        Runs a model on a few samples: they show which linear layers work on vectors. Behind one that works on
        sequences, a batch norm counts the steps of the sequence as channels and cannot be folded.

    Returns
    -------
    folded
        Names of the folded norms.
    note
        Empty, or why the model's graph could not be read (nothing is folded then).
    """
    if not any(isinstance(module, NORMS) for module in model.modules()):
        return (), ""
    try:
        pairs = _pairs(sharing_copy(model))  # tracing may leave something in a model that remembers
    except Exception as error:  # any model code may fail under tracing, in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return (), f"batch norms stay digital: the model cannot be traced ({reason})"
    doubtful = [layer for layer, _ in pairs if isinstance(model.get_submodule(layer), nn.Linear)]
    if doubtful:
        excluded = set(doubtful) - _giving_vectors(model, doubtful, run)
        pairs = [pair for pair in pairs if pair[0] not in excluded]
    for layer_name, norm_name in pairs:
        with torch.no_grad():
            whole = _fold(model.get_submodule(layer_name), _affine(model.get_submodule(norm_name)))
        _replace(model, layer_name, whole)
        _replace(model, norm_name, nn.Identity())
    return tuple(norm for _, norm in pairs), ""
