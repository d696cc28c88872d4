"""Folding batch normalisation into the layer before it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn

from xbarsim.network.lowering.registry import lowering_of

__all__ = ["fold_batch_norm"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


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
        if node.op != "call_module" or not isinstance(modules[node.target], _NORMS):
            continue
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        layer, norm = modules[before.target], modules[node.target]
        foldable = lowering_of(layer) is not None and norm.running_var is not None
        if foldable and calls[id(layer)] == 1 and calls[id(norm)] == 1:
            pairs.append((str(before.target), str(node.target)))
    return pairs


def _giving_vectors(model: nn.Module, names: list[str], images: torch.Tensor) -> set[str]:
    """Which of these layers only ever give one vector an image: a batch norm counts these as its channels."""
    dimensions: dict[str, set[int]] = {name: set() for name in names}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, arguments, output, name=name: dimensions[name].add(output.ndim)
        )
        for name in names
    ]
    try:
        with torch.no_grad():
            model(images)
    except Exception:  # images that do not fit the model: calibration says so
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


def fold_batch_norm(model: nn.Module, images: torch.Tensor) -> tuple[nn.Module, tuple[str, ...], str]:
    """A copy of `model`, in evaluation mode and float32, with every batch norm folded that directly follows a layer.

    Parameters
    ----------
    model
        Any model.
    images
        A few images: they show which linear layers work on vectors. Behind one that works on sequences, a batch norm
        counts the steps of the sequence as channels and cannot be folded.

    Returns
    -------
    model
        The copy; folded norms became ``nn.Identity``.
    folded
        Names of the folded norms.
    note
        Empty, or why the model's graph could not be read (nothing is folded then).
    """
    model = copy.deepcopy(model).eval().to("cpu", torch.float32)
    if not any(isinstance(module, _NORMS) for module in model.modules()):
        return model, (), ""
    try:
        pairs = _pairs(model)
    except Exception as error:  # any model code may fail under tracing, in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return model, (), f"batch norms stay digital: the model cannot be traced ({reason})"
    lowerings = {layer: lowering_of(model.get_submodule(layer)) for layer, _ in pairs}
    doubtful = [name for name, lowering in lowerings.items() if lowering is not None and lowering.channels_last]
    if doubtful:
        excluded = set(doubtful) - _giving_vectors(model, doubtful, images)
        pairs = [pair for pair in pairs if pair[0] not in excluded]
    folded = []
    for layer_name, norm_name in pairs:
        lowering = lowerings[layer_name]
        assert lowering is not None
        with torch.no_grad():
            whole = lowering.fold(model.get_submodule(layer_name), _affine(model.get_submodule(norm_name)))
        if whole is not None:
            _replace(model, layer_name, whole)
            _replace(model, norm_name, nn.Identity())
            folded.append(norm_name)
    return model, tuple(folded), ""
