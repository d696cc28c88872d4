"""A torch model with the numbers of one that was saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.network.lowered import Product
from xbarsim.network.lowering.batch_norm import NORMS
from xbarsim.network.lowering.lower import discover, settle
from xbarsim.network.lowering.prepare import copy_model, lower_modules, sharing_copy
from xbarsim.network.lowering.skeleton import TorchSkeleton, as_tensors, model_tensors
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import check_fit

__all__ = ["restore_torch"]

_WANTED = "model must be the network that was saved"


def restore_torch(
    stored: Mapping[str, npt.NDArray[Any]], probe: Samples, model: Any
) -> tuple[TorchSkeleton, dict[str, Product]]:
    """A copy of a model, taken apart as the saved one was and with its numbers, and the products found in it.

    Parameters
    ----------
    stored
        From :meth:`TorchSkeleton.stored`.
    probe
        Samples that reach every product.
    model
        A module of the same architecture; it is not changed.

    Raises
    ------
    InputError
        If `model` is no module, or has other parameters and buffers than the saved one.
    """
    check_instance("model", model, nn.Module)
    prepared, _ = lower_modules(copy_model(model))
    arguments, keywords = as_tensors(probe)
    with torch.no_grad():
        check_fit(lambda: settle(prepared, lambda each: each(*arguments, **keywords)), probe, name="probe")
    for name, module in list(prepared.named_modules()):
        if type(module) in NORMS and not any(key.startswith(f"{name}.") for key in stored):
            parent, _, child = name.rpartition(".")  # it was folded into the layer before it
            setattr(prepared.get_submodule(parent), child, nn.Identity())
    own = model_tensors(prepared)
    for name, array in stored.items():
        _fill(prepared, own, name, array)
    missing = sorted(set(own) - set(stored))
    if missing:
        raise InputError(f"{_WANTED}, got one that has {missing[0]!r} besides ({len(missing)} such)")
    try:
        table, *_ = discover(sharing_copy(prepared), probe, name="probe")
    except InputError as error:
        raise InputError(f"{_WANTED}, got one that its samples do not fit: {error}") from error
    return TorchSkeleton(prepared, table), table.products


def _fill(model: nn.Module, own: Mapping[str, Tensor], name: str, array: npt.NDArray[Any]) -> None:
    values = torch.from_numpy(np.array(array))
    if name not in own:
        owner, _, attribute = name.rpartition(".")
        module = next((module for each, module in model.named_modules() if each == owner), None)
        if module is None or module._parameters.get(attribute, values) is not None:
            raise InputError(f"{_WANTED}, got one without {name!r}")
        module.register_parameter(attribute, nn.Parameter(values))  # a bias that a folded norm gave its layer
        return
    tensor = own[name]
    if tensor.shape != values.shape or tensor.dtype != values.dtype:
        raise InputError(
            f"{_WANTED}, whose {name!r} is {values.dtype} of shape {tuple(values.shape)}, got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}"
        )
    with torch.no_grad():
        tensor.data.copy_(values)
